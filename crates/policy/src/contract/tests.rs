use super::*;

const FIXED_HASH: &str = "_SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc";

fn parse(text: &str) -> Result<Contract, ContractErrors> {
    Contract::parse(text.as_bytes())
}

/// The example with one piece of text replaced.
fn changed(from: &str, to: &str) -> String {
    assert!(EXAMPLE_CONTRACT.contains(from), "{from}");
    EXAMPLE_CONTRACT.replacen(from, to, 1)
}

/// The example with more permissions.
fn with(permissions: &str) -> String {
    changed(
        "\"state_read\": false",
        &format!("\"state_read\": false, {permissions}"),
    )
}

#[test]
fn the_runbook_example_loads_and_has_its_hash() {
    let contract = parse(EXAMPLE_CONTRACT).unwrap();
    assert_eq!(contract.hash().to_string(), FIXED_HASH);
    assert_eq!(contract.name, "terraform-cloud-staging-only");
    assert!(contract.allows_plan() && contract.allows_apply());
    assert!(!contract.permissions.state_read && !contract.permissions.outputs_read);
    assert_eq!(contract.max_ttl_seconds, 1800);
    assert_eq!(contract.permissions.apply.approval_ttl_seconds, 3600);
    assert!(contract.models.is_none());
    assert_eq!(
        contract.publication_issues(&PublicationRules::default()),
        []
    );
    // Layout does not matter, content does.
    let value: serde_json::Value = serde_json::from_str(EXAMPLE_CONTRACT).unwrap();
    assert_eq!(parse(&value.to_string()).unwrap().hash(), contract.hash());
    let other = parse(&changed("1800", "1801")).unwrap();
    assert_ne!(other.hash(), contract.hash());
}

#[test]
fn absent_members_take_the_most_restrictive_meaning() {
    let contract = parse(
        r#"{"wpc_version":"1.0","name":"a","tool":"terraform-cloud","connection":"official-api",
            "permissions":{"workspaces":["ws-1"],"operations":["plan"]}}"#,
    )
    .unwrap();
    let permissions = &contract.permissions;
    assert_eq!(permissions.apply, Apply::default());
    assert!(!permissions.apply.allowed && permissions.apply.requires_approval);
    assert_eq!(permissions.run, Run::default());
    assert_eq!(permissions.resources, Resources::default());
    assert!(permissions.configuration.is_none() && permissions.cost.is_none());
    assert_eq!(contract.max_ttl_seconds, 900);
    assert_eq!(
        contract.scopes(),
        ["proxy:call", "tfc:plan", "model:call", "mcp:call"]
    );
}

#[test]
fn every_member_is_understood() {
    let text = with(
        r#""outputs_read": true, "organization": "acme",
        "run": {"destroy":true,"refresh_only":true,"targets":true,"replace":true,"variables":["region"]},
        "resources": {"allow_types":["aws_*"],"deny_types":["aws_iam_*"],"deny_actions":["forget"],
            "max_changes":{"create":1,"update":2,"delete":0}},
        "configuration": {"providers":["hashicorp/aws"],"modules":["a/b/c"],"data_sources":["aws_*"],
            "provisioners":true,"remote_state_workspaces":["ws-2"]},
        "cost": {"max_monthly_delta_usd":"12.50","max_monthly_total_usd":"100","unpriced":"approve"}"#,
    );
    let text = text.replacen(
        "\"audit\"",
        r#""description": "for staging", "models": {"providers":["openai"],"allowed":["gpt-*"],
            "tools":{"allow":["*"],"deny":[]},"max_calls":10,"max_tokens":1000,"max_cost_usd":"5",
            "redact":[{"path":"messages","action":"mask"}],"count_exactly":true,"show_prompts_days":7},
        "egress": {"allow_hosts":["*.example.com"]}, "audit""#,
        1,
    );
    let contract = parse(&text).unwrap();
    assert_eq!(contract.permissions.resources.max_changes.delete, Some(0));
    assert_eq!(contract.models.as_ref().unwrap().max_calls, Some(10));
    assert_eq!(contract.egress_allow_hosts[0].as_str(), "*.example.com");
    // What is read but not enforced stands in the way of publishing, member by member.
    let issues = contract.publication_issues(&PublicationRules::default());
    let blocking: Vec<_> = issues
        .iter()
        .filter(|issue| issue.severity == Severity::Blocks)
        .map(|issue| issue.path)
        .collect();
    assert_eq!(blocking, NOT_ENFORCED);
    assert!(contract.summary().len() > 10);
}

#[test]
fn every_error_is_found_with_its_path() {
    let long = "x".repeat(1025);
    let cases: Vec<(String, &str, &str)> = vec![
        (
            changed("\"state_read\"", "\"state_reed\""),
            "permissions.state_reed",
            "did you mean `state_read`?",
        ),
        (
            changed("\"audit\"", "\"audits\""),
            "audits",
            "did you mean `audit`?",
        ),
        (
            changed("\"approvers\"", "\"aprovers\""),
            "permissions.apply.aprovers",
            "did you mean `approvers`?",
        ),
        (
            changed("\"audit\"", "\"zzz\": 1, \"audit\""),
            "zzz",
            "unknown member",
        ),
        (
            changed("\"wpc_version\": \"1.0\",", ""),
            "wpc_version",
            "required, but missing",
        ),
        (
            changed("\"name\": \"terraform-cloud-staging-only\",", ""),
            "name",
            "required, but missing",
        ),
        (
            changed("\"tool\": \"terraform-cloud\",", ""),
            "tool",
            "required, but missing",
        ),
        (
            changed("\"connection\": \"official-api\",", ""),
            "connection",
            "required, but missing",
        ),
        (
            changed("\"operations\": [\"plan\"],", ""),
            "permissions.operations",
            "required, but missing",
        ),
        (
            changed(
                "\"workspaces\": [\"ws-staging-app\", \"ws-staging-db\"],",
                "",
            ),
            "permissions.workspaces",
            "required, but missing",
        ),
        (
            changed("\"1.0\"", "\"2.0\""),
            "wpc_version",
            "`2.0` is not accepted; must be \"1.0\"",
        ),
        (changed("\"1.0\"", "1"), "wpc_version", "must be a string"),
        (
            changed("terraform-cloud-staging-only", "Staging"),
            "name",
            "must be 1 to 63 of a-z 0-9 and -",
        ),
        (
            changed("terraform-cloud-staging-only", "-a"),
            "name",
            "must be 1 to 63",
        ),
        (
            changed(
                "\"audit\"",
                &format!("\"description\": \"{long}\", \"audit\""),
            ),
            "description",
            "at most 1024",
        ),
        (
            changed("\"ws-staging-app\"", "\"ws-*\""),
            "permissions.workspaces[0]",
            "is a pattern",
        ),
        (
            changed("\"ws-staging-db\"", "\"staging-db\""),
            "permissions.workspaces[1]",
            "not a workspace id",
        ),
        (
            changed("\"ws-staging-db\"", "\"ws-staging-app\""),
            "permissions.workspaces[1]",
            "listed twice",
        ),
        (
            changed("\"ws-staging-db\"", "7"),
            "permissions.workspaces[1]",
            "must be a string",
        ),
        (
            changed("[\"ws-staging-app\", \"ws-staging-db\"]", "[]"),
            "permissions.workspaces",
            "at least one",
        ),
        (
            changed("[\"plan\"]", "[\"plan\", \"destroy\"]"),
            "permissions.operations[1]",
            "must be \"plan\" or \"apply\"",
        ),
        (
            changed("[\"plan\"]", "\"plan\""),
            "permissions.operations",
            "must be an array",
        ),
        (
            changed("[\"plan\"]", "[\"apply\"]"),
            "permissions.operations",
            "without \"plan\"",
        ),
        (
            changed("\"allowed\": true", "\"allowed\": \"true\""),
            "permissions.apply.allowed",
            "true or false",
        ),
        (
            changed("infra-lead@example.com", "infra lead"),
            "permissions.apply.approvers[0]",
            "not an e-mail address",
        ),
        (
            changed(
                "\"requires_approval\": true,",
                "\"requires_approval\": true, \"min_approvals\": 2,",
            ),
            "permissions.apply.approvers",
            "fewer addresses",
        ),
        (
            changed("\"requires_approval\": true,", "\"min_approvals\": 6,"),
            "permissions.apply.min_approvals",
            "must be 1 to 5",
        ),
        (
            changed(
                "\"requires_approval\": true,",
                "\"approval_ttl_seconds\": 59,",
            ),
            "permissions.apply.approval_ttl_seconds",
            "must be 60 to 86400",
        ),
        (
            changed(
                "\"requires_approval\": true,",
                "\"on_missing_approval\": \"ask\",",
            ),
            "permissions.apply.on_missing_approval",
            "must be \"hold\" or \"reject\"",
        ),
        (
            changed("1800", "3601"),
            "cst_constraints.max_ttl_seconds",
            "must be 60 to 3600",
        ),
        (
            changed("1800", "59"),
            "cst_constraints.max_ttl_seconds",
            "must be 60 to 3600",
        ),
        (
            changed("1800", "\"1800\""),
            "cst_constraints.max_ttl_seconds",
            "must be an integer",
        ),
        (
            changed("\"policy_hash_pin\": true", "\"policy_hash_pin\": false"),
            "cst_constraints.policy_hash_pin",
            "false is refused",
        ),
        (
            changed("\"job_scoped\": true", "\"job_scoped\": false"),
            "cst_constraints.job_scoped",
            "false is refused",
        ),
        (
            changed(
                "\"gateway_receipts\": \"required\"",
                "\"gateway_receipts\": \"optional\"",
            ),
            "audit.gateway_receipts",
            "must be \"required\"",
        ),
        (
            changed("\"proof_bundle\": \"required\"", "\"proof_bundle\": true"),
            "audit.proof_bundle",
            "must be a string",
        ),
        (with("\"run\": []"), "permissions.run", "must be an object"),
        (
            with("\"run\": {\"variables\": [\"1x\"]}"),
            "permissions.run.variables[0]",
            "not the name of an input variable",
        ),
        (
            with("\"resources\": {\"allow_types\": [\"aws_[ab]\"]}"),
            "permissions.resources.allow_types[0]",
            "not a pattern",
        ),
        (
            with("\"resources\": {\"deny_actions\": [\"read\"]}"),
            "permissions.resources.deny_actions[0]",
            "is not one of",
        ),
        (
            with("\"resources\": {\"max_changes\": {\"create\": -1}}"),
            "permissions.resources.max_changes.create",
            "must be 0 to",
        ),
        (
            with("\"resources\": {\"max_changes\": {\"forget\": 1}}"),
            "permissions.resources.max_changes.forget",
            "unknown member",
        ),
        (
            with("\"configuration\": {\"providers\": [\"a/b/c/d\"]}"),
            "permissions.configuration.providers[0]",
            "not a provider source",
        ),
        (
            with("\"configuration\": {\"modules\": [\"a/*/c\"]}"),
            "permissions.configuration.modules[0]",
            "not an exact module source",
        ),
        (
            with("\"cost\": {\"max_monthly_delta_usd\": 5}"),
            "permissions.cost.max_monthly_delta_usd",
            "must be a string",
        ),
        (
            with("\"cost\": {\"max_monthly_delta_usd\": \"-5\"}"),
            "permissions.cost.max_monthly_delta_usd",
            "not a decimal amount",
        ),
        (
            with("\"cost\": {\"unpriced\": \"ignore\"}"),
            "permissions.cost.unpriced",
            "must be \"refuse\" or \"approve\"",
        ),
        (
            with("\"organization\": \"a/b\""),
            "permissions.organization",
            "not a valid organization name",
        ),
        (
            changed(
                "\"audit\"",
                "\"models\": {\"redact\": [{\"path\": \"a\"}]}, \"audit\"",
            ),
            "models.redact[0].action",
            "required, but missing",
        ),
        (
            changed("\"audit\"", "\"models\": {\"redact\": [1]}, \"audit\""),
            "models.redact[0]",
            "must be an object",
        ),
        (
            changed("\"audit\"", "\"models\": null, \"audit\""),
            "models",
            "must be an object",
        ),
        ("[]".to_owned(), "", "must be an object"),
        ("{".to_owned(), "", "JSON not accepted"),
        (String::new(), "", "JSON not accepted"),
        (changed("1800", "1800.5"), "", "not an integer"),
        (
            changed("\"plan\"", "\"plan\\ud800\""),
            "",
            "JSON not accepted",
        ),
        (
            changed(
                "\"job_scoped\": true",
                "\"job_scoped\": true, \"job_scoped\": true",
            ),
            "",
            "duplicate member `job_scoped`",
        ),
        (format!("{EXAMPLE_CONTRACT}{{}}"), "", "JSON not accepted"),
        (
            format!("\u{feff}{EXAMPLE_CONTRACT}"),
            "",
            "JSON not accepted",
        ),
    ];
    for (text, path, message) in cases {
        let errors = parse(&text).expect_err(&text);
        let found = errors
            .0
            .iter()
            .any(|error| error.path == path && error.to_string().contains(message));
        assert!(found, "wanted {path}: {message}\nfound {errors}");
    }
}

#[test]
fn errors_are_collected() {
    let text = changed("\"state_read\"", "\"stat_read\"")
        .replacen("1800", "1", 1)
        .replacen("\"ws-staging-db\"", "\"*\"", 1)
        .replacen("\"tool\": \"terraform-cloud\",", "", 1);
    let errors = parse(&text).unwrap_err();
    assert_eq!(errors.0.len(), 4, "{errors}");
    assert_eq!(errors.to_string().lines().count(), 4);
}

#[test]
fn apply_must_be_allowed_where_it_is_listed() {
    let text = changed("[\"plan\"]", "[\"plan\", \"apply\"]");
    assert!(parse(&text).unwrap().permissions.operations.apply);
    let text = text.replacen("\"allowed\": true", "\"allowed\": false", 1);
    let errors = parse(&text).unwrap_err();
    assert_eq!(errors.0[0].path, "permissions.operations");
    let text = changed(
        "\"approvers\": [\"infra-lead@example.com\"]",
        "\"min_approvals\": 1",
    );
    assert_eq!(
        parse(&text).unwrap_err().0[0].path,
        "permissions.apply.approvers"
    );
}

#[test]
fn autonomous_apply_needs_the_operator() {
    let contract = parse(&changed(
        "\"requires_approval\": true",
        "\"requires_approval\": false",
    ))
    .unwrap();
    let blocks = |allow_autonomous_apply| {
        contract
            .publication_issues(&PublicationRules {
                allow_autonomous_apply,
                ..PublicationRules::default()
            })
            .into_iter()
            .filter(|issue| issue.severity == Severity::Blocks)
            .map(|issue| (issue.path, issue.code))
            .collect::<Vec<_>>()
    };
    let code = crate::ReasonCode::ContractAutonomousApply;
    assert_eq!(
        blocks(false),
        [("permissions.apply.requires_approval", Some(code))]
    );
    assert_eq!(blocks(true), []);
}

#[test]
fn a_way_around_the_gateway_is_not_published() {
    let issues = |hosts: &str| {
        let egress = format!("\"egress\": {{\"allow_hosts\": {hosts}}}, \"audit\"");
        let rules = PublicationRules {
            reserved_hosts: vec![(
                "tfe.corp.example".to_owned(),
                crate::egress::Reserved::TerraformCloud,
            )],
            ..PublicationRules::default()
        };
        let contract = parse(&EXAMPLE_CONTRACT.replacen("\"audit\"", &egress, 1)).unwrap();
        let issues = contract.publication_issues(&rules).into_iter();
        issues
            .map(|issue| (issue.path, issue.severity, issue.code))
            .collect::<Vec<_>>()
    };
    let path = "egress.allow_hosts";
    let code = Some(crate::ReasonCode::ContractEgressReserved);
    assert_eq!(issues(r#"["registry.npmjs.org", "*.pypi.org:8443"]"#), []);
    assert_eq!(
        issues(r#"["*.terraform.io", "a.example", "tfe.corp.example"]"#),
        [
            (path, Severity::Blocks, code),
            (path, Severity::Blocks, code)
        ]
    );
    assert_eq!(issues(r#"["10.0.0.1"]"#), [(path, Severity::Warns, None)]);
}

#[test]
fn evidence_that_nobody_can_give_is_not_asked_for() {
    let audit = |members: &str| {
        let whole = format!("\"audit\": {{{members}}}");
        let at = EXAMPLE_CONTRACT.find("\"audit\"").unwrap();
        parse(&format!("{}{whole}}}", &EXAMPLE_CONTRACT[..at]))
    };
    let two = r#""witnesses": {"required": 2, "names": ["w/1", "w/2", "w/3"]}, "timestamps": true"#;
    let contract = audit(two).unwrap();
    let blocks = |witnesses: Option<&[&str]>, timestamps| {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let rules = PublicationRules {
            witnesses: witnesses.map(names),
            timestamps,
            ..PublicationRules::default()
        };
        let issues = contract.publication_issues(&rules).into_iter();
        let blocking = issues.filter(|issue| issue.severity == Severity::Blocks);
        blocking.map(|issue| issue.path).collect::<Vec<_>>()
    };
    assert_eq!(blocks(None, None), [""; 0]);
    assert_eq!(blocks(Some(&["w/1", "w/3"]), Some(true)), [""; 0]);
    let both = ["audit.witnesses", "audit.timestamps"];
    assert_eq!(blocks(Some(&["w/1", "w/4"]), Some(false)), both);
    let audit_of = |members: &str| audit(members).unwrap().audit;
    let any = audit_of(r#""witnesses": {"required": 1}"#);
    for (rules, by, stamped, sealed) in [
        (&contract.audit, &["w/1", "w/2"][..], true, true),
        (&contract.audit, &["w/1", "w/2"], false, false),
        (&contract.audit, &["w/1", "w/4"], true, false),
        (&any, &["w/4"], false, true),
        (&any, &[], true, false),
        (&Audit::default(), &[], false, true),
    ] {
        assert_eq!(rules.is_satisfied(by.iter().copied(), stamped), sealed);
    }
    for (members, path) in [
        (r#""witnesses": {}"#, "audit.witnesses.required"),
        (
            r#""witnesses": {"required": 0}"#,
            "audit.witnesses.required",
        ),
        (
            r#""witnesses": {"required": 17}"#,
            "audit.witnesses.required",
        ),
        (
            r#""witnesses": {"required": 2, "names": ["a"]}"#,
            "audit.witnesses.names",
        ),
        (
            r#""witnesses": {"required": 1, "names": ["a", "a"]}"#,
            "audit.witnesses.names[1]",
        ),
        (
            r#""witnesses": {"required": 1, "names": ["a b"]}"#,
            "audit.witnesses.names[0]",
        ),
        (r#""witnesses": 1"#, "audit.witnesses"),
        (r#""witness": {"required": 1}"#, "audit.witness"),
        (r#""timestamps": "yes""#, "audit.timestamps"),
    ] {
        assert_eq!(audit(members).unwrap_err().0[0].path, path, "{members}");
    }
}

#[test]
fn the_summary_is_in_words() {
    let lines = parse(EXAMPLE_CONTRACT).unwrap().summary();
    assert_eq!(
        lines[0],
        "Plans may run in ws-staging-app and ws-staging-db."
    );
    assert_eq!(
        lines[1],
        "An apply needs one approval of the exact plan by infra-lead@example.com, valid for 1 hour; \
         whoever opened the job cannot approve; until then the run is held."
    );
    let open = changed(
        "\"allowed\": true,",
        "\"allowed\": true, \"opener_may_approve\": true,",
    );
    let lines = parse(&open).unwrap().summary();
    assert!(lines[1].contains("whoever opened the job may be one of them"));
    assert_eq!(lines.last().unwrap(), "A token lives 30 minutes at most.");
    let plan_only = parse(&changed("\"allowed\": true", "\"allowed\": false"))
        .unwrap()
        .summary();
    assert_eq!(
        plan_only[1],
        "Nothing can be applied: every plan is speculative."
    );
}
