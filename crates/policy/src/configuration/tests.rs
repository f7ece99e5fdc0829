use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::contract::EXAMPLE_CONTRACT;
use crate::terraform::ids::WorkspaceId;

mod catalogue;
mod hostile_archives;

fn contract(permissions: &str) -> Contract {
    let text = EXAMPLE_CONTRACT.replace(
        "\"state_read\": false",
        &format!("\"state_read\": false{permissions}"),
    );
    Contract::parse(text.as_bytes()).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An entry with any name that a header can hold.
fn entry(kind: tar::EntryType, name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(1_700_000_000);
    header.set_uid(1000);
    header.set_gid(1000);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend_from_slice(&[0; 1024]);
    gzip(&bytes)
}

fn files(files: &[(&str, &str)]) -> Vec<u8> {
    let entries: Vec<_> = files
        .iter()
        .map(|(name, text)| entry(tar::EntryType::Regular, name, text.as_bytes()))
        .collect();
    archive(&entries)
}

fn refusal(gz: &[u8]) -> ReasonCode {
    inspect_upload(gz, &Limits::default()).unwrap_err().code
}

fn judge(contract: &Contract, uploaded: &[(&str, &str)]) -> Vec<UploadRefusal> {
    let upload = inspect_upload(&files(uploaded), &Limits::default()).unwrap();
    judge_configuration(contract, &upload, &ReadableStates::none())
}

/// `source` may put nested blocks on one line, which HCL itself does not allow.
fn codes(source: &str) -> Vec<ReasonCode> {
    let source = &source.replace("{ ", "{\n").replace(" }", "\n}");
    judge(
        &contract(""),
        &[
            ("main.tf", source),
            ("mod/main.tf", ""),
            ("mod/a.tpl", "${x}"),
        ],
    )
    .into_iter()
    .map(|refusal| refusal.code)
    .collect()
}

#[test]
fn an_upload_of_the_cli_passes_and_is_packed_anew() {
    use tar::EntryType::{Directory, Regular};
    let main = b"terraform {\n  cloud {\n    organization = \"acme\"\n    workspaces {\n      name = \"staging-app\"\n    }\n  }\n}\nresource \"terraform_data\" \"x\" {\n  input = file(\"${path.module}/a.txt\")\n}\n";
    let first = archive(&[
        entry(Directory, "mod/", b""),
        entry(Regular, "mod/main.tf", b"output \"x\" { value = 1 }\n"),
        entry(Regular, "main.tf", main),
        entry(Regular, "a.txt", b"text"),
        entry(Regular, ".terraform.lock.hcl", b""),
        entry(Regular, ".terraformignore", b"*.log\n"),
        entry(
            Regular,
            "tfplan",
            b"{\"remote_plan_format\":1,\"run_id\":\"run-1\"}",
        ),
        entry(Directory, ".terraform/modules/", b""),
        entry(Regular, ".terraform/modules/modules.json", b"{}"),
    ]);
    let upload = inspect_upload(&first, &Limits::default()).unwrap();
    assert_eq!(
        judge_configuration(&contract(""), &upload, &ReadableStates::none()),
        []
    );
    let names: Vec<_> = upload.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        names,
        [
            ".terraform.lock.hcl",
            ".terraformignore",
            "a.txt",
            "main.tf",
            "mod/main.tf",
            "tfplan"
        ]
    );
    // Another order, other times and owners, the same archive for upstream.
    let again = inspect_in_place(&upload.repacked_tar_gz, &Limits::default()).unwrap();
    assert_eq!((&again.files, again.sha256), (&upload.files, upload.sha256));
    assert_eq!(again.repacked_tar_gz, upload.repacked_tar_gz);
    assert_eq!(Hash::of(&upload.repacked_tar_gz), upload.sha256);
}

#[test]
fn what_is_planned_as_it_came_holds_nothing_unjudged() {
    use tar::EntryType::{Directory, Regular, XGlobalHeader};
    let main = entry(Regular, "main.tf", b"output \"x\" {\n  value = 1\n}\n");
    let comment = b"30 comment=0123456789abcdef01\n";
    for (more, judged) in [
        (entry(Regular, "a.txt", b"text"), true),
        (entry(Directory, ".terraform/", b""), true),
        (entry(Directory, ".terraform/modules/m/", b""), true),
        (
            entry(Regular, ".terraform/modules/modules.json", b"{}"),
            false,
        ),
        (entry(Regular, ".terraform/modules/m/main.tf", b""), false),
        (entry(Regular, ".terraform", b""), false),
        (entry(Regular, "a.tftest.hcl", b""), false),
        (entry(Regular, "tests/a.tftest.json", b"{}"), false),
        (entry(Regular, "a.tofutest.hcl", b""), false),
        (entry(Regular, "mocks/a.tfmock.hcl", b""), false),
        (entry(XGlobalHeader, "pax_global_header", comment), false),
    ] {
        let packed = archive(&[main.clone(), more]);
        let limits = Limits::default();
        assert!(inspect_upload(&packed, &limits).is_ok(), "{packed:?}");
        let found = inspect_in_place(&packed, &limits).map_err(|refused| refused.code);
        let code = ReasonCode::ConfigurationVersionNotInspected;
        assert_eq!(found.err(), (!judged).then_some(code), "{packed:?}");
    }
}

#[test]
fn the_recorded_configuration_passes() {
    const MODULE: &str = include_str!("../../tests/data/configurations/aws-staging/mod/main.tf");
    const PROVIDER: &str = include_str!("../../tests/data/configurations/aws-staging/provider.tf");
    for main in [
        include_str!("../../tests/data/configurations/aws-staging/v1.tf.txt"),
        include_str!("../../tests/data/configurations/aws-staging/v2.tf.txt"),
    ] {
        let uploaded = [
            ("main.tf", main),
            ("provider.tf", PROVIDER),
            ("mod/main.tf", MODULE),
        ];
        let found = judge(&contract(""), &uploaded);
        // Nothing but the address of the stand-in with which the plans were recorded.
        let rules: Vec<_> = found
            .iter()
            .map(|refusal| (refusal.code, refusal.line))
            .collect();
        assert_eq!(rules, [(ReasonCode::ConfigurationProvider, Some(17))]);
        let google = contract(r#","configuration":{"providers":["hashicorp/google"]}"#);
        assert!(
            judge(&google, &uploaded)
                .iter()
                .all(|r| r.code == ReasonCode::ConfigurationProvider)
        );
        assert!(!judge(&google, &uploaded).is_empty());
    }
}

#[test]
fn allowed_configuration_is_not_disturbed() {
    for source in [
        "terraform {\n  required_version = \">= 1.5\"\n  backend \"remote\" {\n    organization = \"acme\"\n    workspaces { name = \"x\" }\n  }\n}",
        "terraform {\n  required_providers {\n    aws = { source = \"hashicorp/aws\", version = \"~> 5.0\" }\n    random = \"~> 3.0\"\n  }\n}",
        "provider \"aws\" {\n  alias = \"b\"\n  region = var.r\n}",
        "resource \"aws_instance\" \"x\" {\n  provider = aws.b\n  dynamic \"ebs\" {\n    for_each = [1]\n    content { size = ebs.value }\n  }\n  lifecycle { prevent_destroy = true }\n}",
        "data \"aws_ami\" \"x\" { most_recent = true }",
        "module \"a\" { source = \"./mod\" }",
        "module \"a\" {\n  source = \"terraform-aws-modules/vpc/aws\"\n  version = \"5.1.2\"\n}",
        "variable \"a\" { validation {\n  condition = length(var.a) > 1\n  error_message = \"no\"\n} }\nlocals { a = 1 }\noutput \"b\" { value = local.a }",
        "moved {\n  from = a.b\n  to = a.c\n}\nimport {\n  to = aws_s3_bucket.b\n  id = \"x\"\n}\nremoved {\n  from = a.d\n  lifecycle { destroy = false }\n}",
        "check \"c\" { assert {\n  condition = true\n  error_message = \"x\"\n} }",
        "locals { a = file(\"mod/a.tpl\") }",
        "locals { a = templatefile(\"${path.module}/mod/a.tpl\", { x = 1 }) }",
        "locals { a = fileset(path.module, \"*.json\") }",
        "locals { a = filebase64sha256(\"${path.root}/lambda.zip\") }",
        "locals { a = <<EOT\nhello ${upper(\"x\")}\nEOT\n}",
        "locals { a = provider::terraform::encode_tfvars({}) }",
    ] {
        assert_eq!(codes(source), [], "{source}");
    }
}

#[test]
fn each_rule_refuses_what_it_is_there_for() {
    use ReasonCode::*;
    for (source, expected) in [
        ("x = 1", ConfigurationSyntax),
        ("action \"a\" \"b\" {}", ConfigurationBlock),
        ("list \"a\" \"b\" {}", ConfigurationBlock),
        ("made_up {}", ConfigurationBlock),
        ("resource \"a\" {}", ConfigurationBlock),
        ("terraform { provider_meta \"x\" {} }", ConfigurationBlock),
        ("terraform { backend \"http\" {} }", ConfigurationBackend),
        ("terraform { backend \"local\" {} }", ConfigurationBackend),
        (
            "terraform { cloud { token = \"x\" } }",
            ConfigurationBackend,
        ),
        (
            "terraform { required_providers { a = { source = \"evil.example/a/b\" } } }",
            ConfigurationProvider,
        ),
        (
            "terraform { required_providers { a = { source = var.x } } }",
            ConfigurationProvider,
        ),
        (
            "provider \"kubernetes\" { exec { command = \"sh\" } }",
            ConfigurationProvider,
        ),
        (
            "provider \"helm\" { kubernetes { exec { command = \"sh\" } } }",
            ConfigurationProvider,
        ),
        (
            "provider \"helm\" {\n  kubernetes = { x = 1 }\n  exec = { command = \"sh\" }\n}",
            ConfigurationProvider,
        ),
        (
            "resource \"tfe_workspace\" \"x\" {}",
            ConfigurationResourceType,
        ),
        (
            "resource \"null_resource\" \"x\" { provisioner \"local-exec\" { command = \"id\" } }",
            ConfigurationProvisioner,
        ),
        (
            "resource \"null_resource\" \"x\" { connection { host = \"x\" } }",
            ConfigurationProvisioner,
        ),
        (
            "removed {\n  from = a.b\n  provisioner \"local-exec\" { command = \"id\" }\n}",
            ConfigurationProvisioner,
        ),
        (
            "data \"http\" \"x\" { url = \"https://x\" }",
            ConfigurationDataSource,
        ),
        (
            "data \"external\" \"x\" { program = [\"id\"] }",
            ConfigurationDataSource,
        ),
        (
            "data \"terraform_remote_state\" \"x\" { backend = \"http\" }",
            ConfigurationDataSource,
        ),
        (
            "data \"local_file\" \"x\" { filename = \"/proc/self/environ\" }",
            ConfigurationDataSource,
        ),
        ("ephemeral \"external\" \"x\" {}", ConfigurationDataSource),
        (
            "check \"c\" { data \"http\" \"x\" { url = \"https://x\" } }",
            ConfigurationDataSource,
        ),
        (
            "module \"a\" { source = \"../other\" }",
            ConfigurationModuleSource,
        ),
        (
            "module \"a\" { source = \"./missing\" }",
            ConfigurationModuleSource,
        ),
        (
            "module \"a\" { source = \"github.com/acme/x\" }",
            ConfigurationModuleSource,
        ),
        (
            "module \"a\" { source = \"git::https://x.y/z?ref=1\" }",
            ConfigurationModuleSource,
        ),
        (
            "module \"a\" { source = \"a/b/c\" }",
            ConfigurationModuleSource,
        ),
        (
            "module \"a\" {\n  source = \"a/b/c\"\n  version = \"~> 1.0\"\n}",
            ConfigurationModuleSource,
        ),
        ("module \"a\" { source = var.x }", ConfigurationModuleSource),
        ("module \"a\" {}", ConfigurationModuleSource),
        (
            "locals { a = file(\"/proc/self/environ\") }",
            ConfigurationFunction,
        ),
        (
            "locals { a = file(\"\\u002fproc/self/environ\") }",
            ConfigurationFunction,
        ),
        ("locals { a = file(\"../secret\") }", ConfigurationFunction),
        (
            "locals { a = file(\"${path.module}/../../secret\") }",
            ConfigurationFunction,
        ),
        (
            "locals { a = file(\"${path.cwd}/x\") }",
            ConfigurationFunction,
        ),
        ("locals { a = file(var.x) }", ConfigurationFunction),
        ("locals { a = file(\"${var.x}/y\") }", ConfigurationFunction),
        ("locals { a = file(\"~/x\") }", ConfigurationFunction),
        (
            "locals { a = file(pathexpand(\"~\")) }",
            ConfigurationFunction,
        ),
        (
            "locals { a = core::file(\"/etc/passwd\") }",
            ConfigurationFunction,
        ),
        (
            "locals { a = fileset(\"/\", \"**\") }",
            ConfigurationFunction,
        ),
        (
            "locals { a = fileset(path.module, \"../**\") }",
            ConfigurationFunction,
        ),
        (
            "locals { a = templatefile(\"missing.tpl\", {}) }",
            ConfigurationFunction,
        ),
        (
            "locals { a = templatestring(local.b, {}) }",
            ConfigurationFunction,
        ),
        ("locals { a = nonsensitive(var.x) }", ConfigurationFunction),
        (
            "locals { a = provider::local::direxists(\"/\") }",
            ConfigurationFunction,
        ),
        (
            "locals { a = [for x in [1] : { y = [file(\"/x\")] }] }",
            ConfigurationFunction,
        ),
        (
            "locals { a = \"%{if true}${upper(file(\"/x\"))}%{endif}\" }",
            ConfigurationFunction,
        ),
        (
            "locals { a = <<EOT\n${file(\"/x\")}\nEOT\n}",
            ConfigurationFunction,
        ),
        ("locals { a = var.x[file(\"/x\")] }", ConfigurationFunction),
        (
            "output \"x\" {\n  value = 1\n  precondition {\n    condition = fileexists(\"/x\")\n    error_message = \"\"\n  }\n}",
            ConfigurationFunction,
        ),
    ] {
        let found = codes(source);
        assert!(found.contains(&expected), "{source}: {found:?}");
    }
    assert_eq!(
        judge(
            &contract(""),
            &[
                ("main.tf", "locals { a = templatefile(\"a.tpl\", {}) }"),
                ("a.tpl", "${file(\"/proc/self/environ\")}")
            ]
        )[0]
        .code,
        ConfigurationFunction
    );
    let provisioners = contract(r#","configuration":{"provisioners":true}"#);
    let exec =
        "resource \"null_resource\" \"x\" {\n  provisioner \"local-exec\" { command = \"id\" }\n}";
    assert_eq!(judge(&provisioners, &[("main.tf", exec)]), []);
}

#[test]
fn json_syntax_is_judged_alike() {
    use ReasonCode::*;
    let good = r#"{"//":"comment","terraform":{"required_providers":{"aws":{"source":"hashicorp/aws"}},
        "cloud":{"organization":"acme","workspaces":{"name":"x"}}},
        "resource":{"aws_instance":{"x":{"ami":"${data.aws_ami.a.id}","tags":{"a":"b"},"count":1.5}}},
        "data":[{"aws_ami":{"a":[{"owners":["self"]}]}}],"module":{"m":{"source":"./mod"}},
        "locals":{"a":"${file(\"a.txt\")}"},"variable":{"v":{"type":"string"}}}"#;
    let uploaded = |json: &str| {
        judge(
            &contract(""),
            &[("main.tf.json", json), ("mod/main.tf", "")],
        )
    };
    assert_eq!(uploaded(good), []);
    for (source, expected) in [
        (r#"{"made_up":{}}"#, ConfigurationSyntax),
        (r#"{"locals":{"a":"${file("}}"#, ConfigurationSyntax),
        (r#"[]x"#, ConfigurationSyntax),
        (
            r#"{"terraform":{"backend":{"http":{}}}}"#,
            ConfigurationBackend,
        ),
        (
            r#"{"terraform":{"required_providers":{"a":{"source":"evil.example/a/b"}}}}"#,
            ConfigurationProvider,
        ),
        (
            r#"{"resource":{"null_resource":{"x":{"provisioner":{"local-exec":{"command":"id"}}}}}}"#,
            ConfigurationProvisioner,
        ),
        (
            r#"{"resource":[{"null_resource":[{"x":[{"provisioner":[{"local-exec":{"command":"id"}}]}]}]}]}"#,
            ConfigurationProvisioner,
        ),
        (
            r#"{"data":{"http":{"x":{"url":"https://x"}}}}"#,
            ConfigurationDataSource,
        ),
        (
            r#"{"check":{"c":{"data":{"http":{"x":{"url":"https://x"}}}}}}"#,
            ConfigurationDataSource,
        ),
        (
            r#"{"module":{"m":{"source":"github.com/a/b"}}}"#,
            ConfigurationModuleSource,
        ),
        (
            r#"{"resource":{"tfe_team":{"x":{}}}}"#,
            ConfigurationResourceType,
        ),
        (
            r#"{"locals":{"a":"${file(\"/x\")}"}}"#,
            ConfigurationFunction,
        ),
        (
            r#"{"locals":{"a":{"b":["x${upper(file(\"/x\"))}"]}}}"#,
            ConfigurationFunction,
        ),
        (
            r#"{"locals":{"a":{"${file(\"/x\")}":1}}}"#,
            ConfigurationFunction,
        ),
        (
            r#"{"resource":{"aws_x":{"x":{"dynamic":{"y":{"content":{"z":"${file(\"/x\")}"}}}}}}}"#,
            ConfigurationFunction,
        ),
    ] {
        let found: Vec<_> = uploaded(source).into_iter().map(|r| r.code).collect();
        assert!(found.contains(&expected), "{source}: {found:?}");
    }
}

#[test]
fn findings_say_where() {
    let source = "locals {\n  a = 1\n  b = file(\"/etc/passwd\")\n}\n\ndata \"http\" \"x\" {\n}\n";
    let found = judge(&contract(""), &[("sub/main.tf", source)]);
    assert_eq!(found.len(), 2);
    let places: Vec<_> = found
        .iter()
        .map(|r| (r.line, r.source_line.as_deref()))
        .collect();
    assert_eq!(
        places,
        [
            (Some(6), Some("data \"http\" \"x\" {")),
            (Some(3), Some("  b = file(\"/etc/passwd\")"))
        ]
    );
    assert!(
        found[0]
            .to_string()
            .starts_with("sub/main.tf:6: data source `http` is not allowed")
    );
}

#[test]
fn configuration_is_bounded_as_a_whole() {
    let text: String = (0..300_000u32)
        .map(|n| format!("# {}\n", n.wrapping_mul(0x9e37_79b9)))
        .collect();
    let uploaded = [
        ("a.tf", text.as_str()),
        ("b.tf", text.as_str()),
        ("c.txt", text.as_str()),
    ];
    assert_eq!(judge(&contract(""), &uploaded), []);
    let more = [&uploaded[..], &[("d.tf", text.as_str())]].concat();
    assert_eq!(
        judge(&contract(""), &more)[0].code,
        ReasonCode::UploadTooLarge
    );
}
