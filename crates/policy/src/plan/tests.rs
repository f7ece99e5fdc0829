use std::sync::LazyLock;

use super::*;
use crate::contract::{Contract, EXAMPLE_CONTRACT};
use crate::cost::CostFacts;

mod pieces;

static CREATE: LazyLock<String> =
    LazyLock::new(|| recorded(include_str!("../../tests/data/plans/plan-create.json")));
static CHANGE: LazyLock<String> =
    LazyLock::new(|| recorded(include_str!("../../tests/data/plans/plan-change.json")));
static DESTROY: LazyLock<String> =
    LazyLock::new(|| recorded(include_str!("../../tests/data/plans/plan-destroy.json")));
static TARGETED: LazyLock<String> =
    LazyLock::new(|| recorded(include_str!("../../tests/data/plans/plan-targeted.json")));

/// The plans were recorded with a stand-in for the vendor, whose address no contract allows.
fn recorded(plan: &str) -> String {
    plan.replace("\"endpoints\":", "\"recorded\":")
}

fn contract(permissions: &str) -> Contract {
    let text = EXAMPLE_CONTRACT.replace(
        "\"state_read\": false",
        &format!("\"state_read\": false{permissions}"),
    );
    Contract::parse(text.as_bytes()).unwrap()
}

fn codes(permissions: &str, plan: &str) -> Vec<ReasonCode> {
    let facts = inspect(plan.as_bytes()).unwrap();
    let mut codes: Vec<_> = judge(&contract(permissions), &facts, None)
        .into_iter()
        .map(|v| v.code)
        .collect();
    codes.dedup();
    codes
}

/// A small plan with one member replaced.
fn plan(member: &str, value: &str) -> String {
    let mut members: Vec<(&str, &str)> = vec![
        ("format_version", "\"1.2\""),
        ("terraform_version", "\"1.11.4\""),
        ("resource_changes", "[]"),
        ("configuration", "{}"),
        ("timestamp", "\"2026-11-22T07:38:29Z\""),
        ("applyable", "true"),
        ("complete", "true"),
        ("errored", "false"),
    ];
    members.retain(|(name, _)| *name != member);
    if !value.is_empty() {
        members.push((member, value));
    }
    let members: Vec<_> = members
        .iter()
        .map(|(n, v)| format!("\"{n}\":{v}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn change(kind: &str, provider: &str, change: &str) -> String {
    plan(
        "resource_changes",
        &format!(
            r#"[{{"address":"{kind}.x","mode":"managed","type":"{kind}","name":"x",
                "provider_name":"{provider}","change":{change}}}]"#
        ),
    )
}

#[test]
fn recorded_plans_are_counted_as_terraform_counts_them() {
    let counts = |plan: &str| inspect(plan.as_bytes()).unwrap().changes;
    assert_eq!(
        counts(&CREATE),
        Changes {
            create: 11,
            ..Changes::default()
        }
    );
    assert_eq!(
        counts(&CHANGE),
        Changes {
            create: 1,
            update: 4,
            delete: 1,
            replace: 3,
            forget: 1,
            import: 0,
            moved: 1
        }
    );
    assert_eq!(
        counts(&DESTROY),
        Changes {
            delete: 11,
            ..Changes::default()
        }
    );
    let facts = inspect(CHANGE.as_bytes()).unwrap();
    assert_eq!(facts.providers, ["registry.terraform.io/hashicorp/aws"]);
    assert_eq!(facts.modules[0].source, "./mod");
    assert_eq!(facts.drifted, 8);
    assert_eq!(facts.terraform_version, "1.11.4");
    assert!(facts.complete);
    let moved = facts
        .resources
        .iter()
        .find(|r| r.previous_address.is_some())
        .unwrap();
    assert_eq!(moved.address, "aws_s3_bucket.audit");
    assert!(moved.actions.is_empty());
}

#[test]
fn a_plan_of_the_runbook_contract_is_clean() {
    for plan in [&*CREATE, &*CHANGE, &*DESTROY] {
        assert_eq!(codes("", plan), []);
    }
    assert_eq!(codes("", &TARGETED), [ReasonCode::PlanIncomplete]);
    assert_eq!(codes(r#","run":{"targets":true}"#, &TARGETED), []);
}

#[test]
fn secrets_do_not_reach_the_facts() {
    let facts = inspect(CHANGE.as_bytes()).unwrap();
    let secret = facts
        .resources
        .iter()
        .find(|r| r.kind == "aws_secretsmanager_secret_version")
        .unwrap()
        .diff
        .iter()
        .find(|d| d.name == "secret_string")
        .unwrap();
    assert_eq!(
        (&secret.before, &secret.after),
        (&Shown::Sensitive, &Shown::Sensitive)
    );
    // Every value that the plan itself marks as sensitive is absent from the serialised facts.
    let value: serde_json::Value = serde_json::from_str(&CHANGE).unwrap();
    let written = serde_json::to_string(&facts).unwrap();
    let mut secrets = 0;
    for resource in value["resource_changes"].as_array().unwrap() {
        for side in ["before", "after"] {
            let mask = &resource["change"][format!("{side}_sensitive")];
            for (name, mark) in mask.as_object().into_iter().flatten() {
                if let (Some(true), Some(text)) = (
                    mark.as_bool(),
                    resource["change"][side][name]
                        .as_str()
                        .filter(|t| !t.is_empty()),
                ) {
                    assert!(!written.contains(text), "{name}");
                    secrets += 1;
                }
            }
        }
    }
    assert!(secrets > 0);
    assert_eq!(serde_json::from_str::<PlanFacts>(&written).unwrap(), facts);
}

#[test]
fn the_digest_ignores_time_and_layout_and_nothing_else() {
    let digest = |plan: &str| inspect(plan.as_bytes()).unwrap().plan_sha256_b64u;
    let later = CHANGE.replace("2026-11-22T07:38:29Z", "2026-11-23T00:00:00Z");
    assert_ne!(later, *CHANGE);
    assert_eq!(digest(&later), digest(&CHANGE));
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&CHANGE).unwrap())
            .unwrap();
    assert_eq!(digest(&pretty), digest(&CHANGE));
    let raw = |plan: &str| inspect(plan.as_bytes()).unwrap().raw_sha256_b64u;
    assert_ne!(raw(&pretty), raw(&CHANGE));
    let other = CHANGE.replacen("sessions-v2", "sessions-v3", 1);
    assert_ne!(digest(&other), digest(&CHANGE));
}

#[test]
fn what_cannot_be_judged_is_refused() {
    use ReasonCode::*;
    let aws = "registry.terraform.io/hashicorp/aws";
    let cases = [
        ("not json".to_owned(), PlanMalformed),
        ("[]".to_owned(), PlanMalformed),
        (plan("format_version", "\"2.0\""), PlanFormat),
        (plan("format_version", ""), PlanMalformed),
        (plan("format_version", "1.2"), PlanMalformed),
        (plan("errored", "true"), PlanErrored),
        (plan("errored", ""), PlanMalformed),
        (plan("applyable", "false"), PlanNotApplyable),
        (plan("applyable", "\"true\""), PlanMalformed),
        (plan("complete", ""), PlanMalformed),
        (plan("configuration", ""), PlanMalformed),
        (
            plan("deferred_changes", r#"[{"reason":"x"}]"#),
            PlanDeferred,
        ),
        (plan("action_invocations", "[{}]"), PlanActionInvocation),
        (
            plan("deferred_action_invocations", "[{}]"),
            PlanActionInvocation,
        ),
        (plan("resource_changes", "{}"), PlanMalformed),
        (plan("resource_changes", "[{}]"), PlanMalformed),
        (
            plan("output_changes", r#"{"o":{"actions":["explode"]}}"#),
            PlanUnknownAction,
        ),
        (
            change("aws_x", aws, r#"{"actions":["explode"]}"#),
            PlanUnknownAction,
        ),
        (change("aws_x", aws, r#"{"actions":[]}"#), PlanUnknownAction),
        (
            change("aws_x", aws, r#"{"actions":["update","delete"]}"#),
            PlanUnknownAction,
        ),
        (
            change("aws_x", aws, r#"{"actions":["create",1]}"#),
            PlanUnknownAction,
        ),
        (
            change("aws_x", aws, r#"{"actions":"create"}"#),
            PlanUnknownAction,
        ),
        (change("aws_x", aws, r#"{}"#), PlanUnknownAction),
        (
            change("aws_x", aws, r#"{"actions":["read"]}"#),
            PlanUnknownAction,
        ),
        (
            change(
                "aws_x",
                aws,
                r#"{"actions":["create"],"actions":["no-op"]}"#,
            ),
            PlanMalformed,
        ),
    ];
    for (plan, expected) in cases {
        let error = inspect(plan.as_bytes()).unwrap_err();
        assert_eq!(error.code(), expected, "{plan}\n{error}");
    }
    let deep = (0..40).fold("{}".to_owned(), |inner, _| {
        format!(r#"{{"module_calls":{{"m":{{"source":"./m","module":{inner}}}}}}}"#)
    });
    assert!(
        inspect(plan("configuration", &format!(r#"{{"root_module":{deep}}}"#)).as_bytes()).is_err()
    );
}

#[test]
fn each_rule_of_the_contract_is_kept() {
    use ReasonCode::*;
    for (permissions, expected) in [
        (r#","resources":{"allow_types":["aws_*"]}"#, vec![]),
        (
            r#","resources":{"allow_types":["aws_s3_*"]}"#,
            vec![PlanResourceType],
        ),
        (
            r#","resources":{"deny_types":["aws_iam_*"]}"#,
            vec![PlanResourceType],
        ),
        (r#","resources":{"deny_actions":["import"]}"#, vec![]),
        (
            r#","resources":{"deny_actions":["forget"]}"#,
            vec![PlanActionDenied],
        ),
        (
            r#","resources":{"deny_actions":["delete"]}"#,
            vec![PlanActionDenied],
        ),
        (
            r#","resources":{"max_changes":{"create":4,"update":4,"delete":4}}"#,
            vec![],
        ),
        (
            r#","resources":{"max_changes":{"create":3}}"#,
            vec![PlanTooManyChanges],
        ),
        (
            r#","resources":{"max_changes":{"update":3}}"#,
            vec![PlanTooManyChanges],
        ),
        (
            r#","resources":{"max_changes":{"delete":3}}"#,
            vec![PlanTooManyChanges],
        ),
        (
            r#","configuration":{"providers":["hashicorp/aws"]}"#,
            vec![],
        ),
        (
            r#","configuration":{"providers":["hashicorp/google"]}"#,
            vec![PlanProvider],
        ),
        (
            r#","cost":{"max_monthly_delta_usd":"1"}"#,
            vec![CostUnknown],
        ),
        (
            r#","cost":{"max_monthly_delta_usd":"1","unpriced":"approve"}"#,
            vec![],
        ),
    ] {
        assert_eq!(codes(permissions, &CHANGE), expected, "{permissions}");
    }
    let facts = inspect(CHANGE.as_bytes()).unwrap();
    let deletes = judge(
        &contract(r#","resources":{"deny_actions":["delete"]}"#),
        &facts,
        None,
    );
    assert_eq!(
        deletes.len(),
        4,
        "three replacements and one delete: {deletes:?}"
    );
}

#[test]
fn types_and_sources_of_small_plans() {
    use ReasonCode::*;
    let builtin = "terraform.io/builtin/terraform";
    let create = r#"{"actions":["create"]}"#;
    assert_eq!(codes("", &change("terraform_data", builtin, create)), []);
    let only_aws = r#","resources":{"allow_types":["aws_*"]}"#;
    assert_eq!(
        codes(only_aws, &change("terraform_data", builtin, create)),
        [PlanResourceType]
    );
    let tfe = "registry.terraform.io/hashicorp/tfe";
    assert_eq!(
        codes("", &change("tfe_team_token", tfe, create)),
        [PlanResourceType]
    );
    assert_eq!(
        codes("", &change("aws_x", "evil.example/hashicorp/aws", create)),
        [PlanProvider]
    );
    let imported = change(
        "aws_x",
        "registry.terraform.io/hashicorp/aws",
        r#"{"actions":["no-op"],"importing":{"id":"i-1"}}"#,
    );
    assert_eq!(inspect(imported.as_bytes()).unwrap().changes.import, 1);
    assert_eq!(
        codes(r#","resources":{"deny_actions":["import"]}"#, &imported),
        [PlanActionDenied]
    );
    let configuration = |root: &str| plan("configuration", &format!(r#"{{"root_module":{root}}}"#));
    let nested = |resource: &str| {
        configuration(&format!(
            r#"{{"module_calls":{{"m":{{"source":"./m","module":{{"resources":[{resource}]}}}}}}}}"#
        ))
    };
    let remote = r#"{"address":"data.terraform_remote_state.x","mode":"data","type":"terraform_remote_state"}"#;
    assert_eq!(codes("", &nested(remote)), [PlanDataSource]);
    // Written out in the upload, where it was judged; a module from elsewhere was not in it.
    let reading = r#","configuration":{"remote_state_workspaces":["ws-1"]}"#;
    assert_eq!(codes(reading, &nested(remote)), []);
    let fetched = nested(remote).replace(
        r#""source":"./m""#,
        r#""source":"a/b/c","version_constraint":"1.0.0""#,
    );
    assert_eq!(codes(reading, &fetched), [PlanDataSource]);
    let local_exec = r#"{"address":"null_resource.x","mode":"managed","type":"null_resource","provisioners":[{"type":"local-exec"}]}"#;
    assert_eq!(codes("", &nested(local_exec)), [PlanProvisioner]);
    assert_eq!(
        codes(
            r#","configuration":{"provisioners":true}"#,
            &nested(local_exec)
        ),
        []
    );
    let module = configuration(r#"{"module_calls":{"m":{"source":"git::https://x.y/z.git"}}}"#);
    assert_eq!(codes("", &module), [PlanModule]);
    let created_and_forgotten = change(
        "aws_x",
        "hashicorp/aws",
        r#"{"actions":["create","forget"]}"#,
    );
    assert_eq!(
        codes(
            r#","resources":{"deny_actions":["forget"]}"#,
            &created_and_forgotten
        ),
        [PlanActionDenied]
    );
}

#[test]
fn budgets_compare_decimals() {
    use ReasonCode::*;
    let facts = inspect(CREATE.as_bytes()).unwrap();
    let cost = |delta: &str, total: &str, unmatched| CostFacts {
        prior_monthly_usd: "0".parse().unwrap(),
        proposed_monthly_usd: total.parse().unwrap(),
        delta_monthly_usd: delta.parse().unwrap(),
        unmatched_resources: unmatched,
    };
    let strict = r#","cost":{"max_monthly_delta_usd":"100","max_monthly_total_usd":"500.50"}"#;
    let lenient = r#","cost":{"max_monthly_delta_usd":"100","unpriced":"approve"}"#;
    for (permissions, cost, expected) in [
        (strict, cost("100.00", "500.5", 0), vec![]),
        (strict, cost("100.0001", "500.5", 0), vec![CostDelta]),
        (strict, cost("9", "500.51", 0), vec![CostTotal]),
        (strict, cost("-700", "0", 1), vec![CostUnpriced]),
        (lenient, cost("9", "9", 1), vec![]),
    ] {
        let codes: Vec<_> = judge(&contract(permissions), &facts, Some(&cost))
            .into_iter()
            .map(|v| v.code)
            .collect();
        assert_eq!(codes, expected, "{cost:?}");
    }
    // Nobody is asked, so nothing can be left to people.
    let nobody = EXAMPLE_CONTRACT
        .replace(
            "\"state_read\": false",
            &format!("\"state_read\": false{lenient}"),
        )
        .replace(
            "\"requires_approval\": true",
            "\"requires_approval\": false",
        );
    let nobody = Contract::parse(nobody.as_bytes()).unwrap();
    for (cost, expected) in [(Some(cost("9", "9", 1)), CostUnpriced), (None, CostUnknown)] {
        let found = judge(&nobody, &facts, cost.as_ref());
        assert_eq!(found.iter().map(|v| v.code).collect::<Vec<_>>(), [expected]);
    }
    // Before there is a price, everything else counts already, and only that.
    assert_eq!(judge(&contract(strict), &facts, None).len(), 1);
    assert_eq!(judge_unpriced(&contract(strict), &facts), []);
    let denied = format!(r#"{strict},"resources":{{"deny_actions":["create"]}}"#);
    assert_eq!(
        judge_unpriced(&contract(&denied), &facts)[0].code,
        PlanActionDenied
    );
}

#[test]
fn a_provider_that_is_sent_elsewhere_is_seen_in_the_plan_too() {
    use ReasonCode::*;
    // As in a module from elsewhere, which was in no upload.
    let plan = include_str!("../../tests/data/plans/plan-create.json");
    assert_eq!(codes("", plan), [PlanProvider]);
    let named = r#","configuration":{"providers":["hashicorp/aws"]}"#;
    assert_eq!(codes(named, plan), [PlanProvider]);
    let provider = |source: &str, expressions: &str| {
        plan_with_provider(&format!(
            r#"{{"full_name":"registry.terraform.io/{source}","expressions":{expressions}}}"#
        ))
    };
    let vault = provider(
        "hashicorp/vault",
        r#"{"address":{"constant_value":"https://x"}}"#,
    );
    assert_eq!(codes("", &vault), [PlanProvider]);
    let named = r#","configuration":{"providers":["hashicorp/vault"]}"#;
    assert_eq!(codes(named, &vault), []);
    let helm = provider(
        "hashicorp/helm",
        r#"{"kubernetes":[{"exec":[{"command":{}}]}]}"#,
    );
    assert_eq!(codes("", &helm), [PlanProvider]);
    let tags = r#"{"default_tags":[{"tags":{"constant_value":{"endpoint":"x"}}}]}"#;
    assert_eq!(codes("", &provider("hashicorp/aws", tags)), []);
}

fn plan_with_provider(provider: &str) -> String {
    plan(
        "configuration",
        &format!(r#"{{"provider_config":{{"x":{provider}}}}}"#),
    )
}

#[test]
fn data_sources_are_seen_wherever_they_are_read() {
    let read = |member: &str, value: &str| {
        let facts = inspect(plan(member, value).as_bytes()).unwrap();
        facts
            .data_sources
            .into_iter()
            .map(|data| data.address)
            .collect::<Vec<_>>()
    };
    let state = r#"{"values":{"root_module":{"resources":[
            {"address":"data.http.a","mode":"data","type":"http","values":{}},
            {"address":"aws_x.b","mode":"managed","type":"aws_x"}],
        "child_modules":[{"address":"module.m","resources":[
            {"address":"module.m.data.http.c","mode":"data","type":"http"}]}]}}}"#;
    assert_eq!(
        read("prior_state", state),
        ["data.http.a", "module.m.data.http.c"]
    );
    assert_eq!(
        codes("", &plan("prior_state", state)),
        [ReasonCode::PlanDataSource]
    );
    let resources = |mode: &str| {
        format!(
            r#"{{"root_module":{{"resources":[{{"address":"x.y","mode":"{mode}","type":"x"}}]}}}}"#
        )
    };
    assert_eq!(read("configuration", &resources("data")), ["x.y"]);
    assert_eq!(read("configuration", &resources("ephemeral")), ["x.y"]);
    assert!(read("configuration", &resources("managed")).is_empty());
    let list = plan("configuration", &resources("list"));
    assert_eq!(
        inspect(list.as_bytes()).unwrap_err().code(),
        ReasonCode::PlanMalformed
    );
}

/// What a person reads of a recorded plan is what `terraform show` says of it.
#[test]
fn a_recorded_plan_is_shown_place_by_place() {
    let facts = inspect(CHANGE.as_bytes()).unwrap();
    let shown = |address: &str| {
        let mut resources = facts.resources.iter();
        let resource = resources.find(|r| r.address == address).unwrap();
        let text = |side: &Shown| match side {
            Shown::Value(text) => text.clone(),
            other => format!("{other:?}"),
        };
        let lines = resource.diff.iter();
        lines
            .map(|d| format!("{}: {} -> {}", d.name, text(&d.before), text(&d.after)))
            .collect::<Vec<_>>()
    };
    let policy = "jsondecode(assume_role_policy).Statement[0].Principal";
    assert_eq!(
        shown("aws_iam_role.app"),
        [
            format!("{policy}.AWS: Absent -> \"*\""),
            format!("{policy}.Service: \"ec2.amazonaws.com\" -> Absent"),
        ]
    );
    assert_eq!(
        shown("aws_security_group.web"),
        [
            "ingress[0].cidr_blocks[0]: \"10.0.0.0/8\" -> Absent",
            "ingress[0].cidr_blocks[0]: Absent -> \"0.0.0.0/0\"",
        ]
    );
    assert_eq!(
        shown("aws_vpc.main"),
        [
            "tags.Owner: Absent -> \"platform\"",
            "tags_all.Owner: Absent -> \"platform\"",
        ]
    );
}
