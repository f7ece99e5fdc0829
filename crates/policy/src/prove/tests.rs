use serde_json::{Value, json};

use super::*;
use crate::contract::EXAMPLE_CONTRACT;

mod world;

/// The example contract with other members, by their path; `null` takes one away.
fn contract(changes: &[(&str, Value)]) -> Contract {
    let mut document: Value = serde_json::from_str(EXAMPLE_CONTRACT).unwrap();
    for (path, value) in changes {
        let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
        let mut at = &mut document;
        for name in parents.split('.').filter(|name| !name.is_empty()) {
            at = &mut at[name];
        }
        match value {
            Value::Null => drop(at.as_object_mut().unwrap().remove(last)),
            value => at[last] = value.clone(),
        }
    }
    let text = document.to_string();
    Contract::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}: {text}"))
}

type Changes<'a> = &'a [(&'a str, Value)];

fn compare(old: Changes<'_>, new: Changes<'_>) -> Proof {
    let proof = prove(&contract(old), &contract(new));
    // What is a call for one command is the same call for the other.
    for witness in proof.newly_allowed.iter().chain(&proof.no_longer_allowed) {
        assert!(!witness.question.in_words().is_empty());
    }
    proof
}

fn dimensions(found: &[Witness]) -> Vec<Dimension> {
    let mut found: Vec<Dimension> = found.iter().map(|one| one.dimension).collect();
    found.sort_unstable();
    found
}

#[test]
fn what_is_wider_and_what_only_looks_so() {
    use Dimension::*;
    let types = "permissions.resources";
    let run = "permissions.run";
    let configuration = "permissions.configuration";
    let apply = "permissions.apply";
    for (old, new, more, less) in [
        (
            &[][..],
            &[("description", json!("another"))][..],
            &[][..],
            &[][..],
        ),
        // Workspaces and their organization.
        (
            &[],
            &[(
                "permissions.workspaces",
                json!(["ws-staging-app", "ws-production"]),
            )],
            &[Workspaces],
            &[Workspaces],
        ),
        (
            &[],
            &[("permissions.organization", json!("acme"))],
            &[],
            &[Organization],
        ),
        (
            &[("permissions.organization", json!("acme"))],
            &[("permissions.organization", json!("other"))],
            &[Organization],
            &[Organization],
        ),
        // Globs are compared by what they match.
        (
            &[(types, json!({"allow_types": ["aws_*"]}))],
            &[(types, json!({"allow_types": ["aws_s3_*", "aws_instance"]}))],
            &[],
            &[ResourceTypes],
        ),
        (
            &[(types, json!({"allow_types": ["aws_*"]}))],
            &[(
                types,
                json!({"allow_types": ["aws_*", "gcp_*"], "deny_types": ["gcp*"]}),
            )],
            &[],
            &[],
        ),
        (
            &[(
                types,
                json!({"allow_types": ["aws_*"], "deny_types": ["aws_iam_*"]}),
            )],
            &[(
                types,
                json!({"allow_types": ["aws_*"], "deny_types": ["aws_iam_role"]}),
            )],
            &[ResourceTypes],
            &[],
        ),
        // No wildcard covers these, so that the star adds nothing of them.
        (
            &[(types, json!({}))],
            &[(types, json!({"allow_types": ["*"]}))],
            &[],
            &[],
        ),
        (
            &[(types, json!({"allow_types": ["*"]}))],
            &[(types, json!({"allow_types": ["*", "tfe_team"]}))],
            &[ResourceTypes],
            &[],
        ),
        // Who denies creating denies replacing.
        (
            &[(types, json!({"deny_actions": ["create"]}))],
            &[(types, json!({"deny_actions": ["create", "replace"]}))],
            &[],
            &[],
        ),
        (
            &[(types, json!({"max_changes": {"create": 5}}))],
            &[(
                types,
                json!({"max_changes": {"create": 6}, "deny_actions": ["create"]}),
            )],
            &[],
            &[ResourceActions],
        ),
        (
            &[(types, json!({"max_changes": {"create": 5}}))],
            &[(types, json!({"max_changes": {"create": 6}}))],
            &[ResourceCounts],
            &[],
        ),
        // More than is ever judged.
        (
            &[(types, json!({"max_changes": {"create": 20_000}}))],
            &[(types, json!({}))],
            &[],
            &[],
        ),
        // Rules about applies where nothing is applied.
        (
            &[
                (apply, json!({"allowed": false})),
                (types, json!({"allow_types": []})),
            ],
            &[(apply, json!({"allowed": false, "min_approvals": 2}))],
            &[],
            &[],
        ),
        (&[(apply, json!({"allowed": false}))], &[], &[Apply], &[]),
        (
            &[(
                apply,
                json!({"allowed": true, "approvers": ["a@x.test", "b@x.test"], "min_approvals": 2}),
            )],
            &[(
                apply,
                json!({"allowed": true, "approvers": ["a@x.test", "b@x.test"]}),
            )],
            &[Approvals],
            &[],
        ),
        (
            &[(
                apply,
                json!({"allowed": true, "approvers": ["a@x.test", "b@x.test"]}),
            )],
            &[(
                apply,
                json!({"allowed": true, "approvers": ["a@x.test", "b@x.test"], "approval_ttl_seconds": 60, "opener_may_approve": true}),
            )],
            &[Approvals],
            &[Approvals],
        ),
        // One person with two addresses, who may now approve what that person opened.
        (
            &[(
                apply,
                json!({"allowed": true, "approvers": ["a@x.test", "b@x.test", "a+2@x.test"]}),
            )],
            &[(
                apply,
                json!({"allowed": true, "approvers": ["a@x.test", "b@x.test", "a+2@x.test"], "min_approvals": 2, "opener_may_approve": true}),
            )],
            &[Approvals],
            &[Approvals],
        ),
        (
            &[],
            &[(apply, json!({"allowed": true, "requires_approval": false}))],
            &[Apply],
            &[],
        ),
        // Targets beside a budget are refused whatever else is said; the plan of a part is not.
        (
            &[("permissions.cost", json!({}))],
            &[
                ("permissions.cost", json!({})),
                (run, json!({"targets": true})),
            ],
            &[RunOptions],
            &[],
        ),
        (
            &[],
            &[
                ("permissions.operations", json!([])),
                (run, json!({"destroy": true})),
            ],
            &[],
            &[Operations],
        ),
        (
            &[],
            &[(run, json!({"variables": ["size"]}))],
            &[RunVariables],
            &[],
        ),
        // The list is shorter, and its members may say where they go.
        (
            &[],
            &[(configuration, json!({"providers": ["hashicorp/aws"]}))],
            &[Providers],
            &[Providers],
        ),
        (
            &[],
            &[(configuration, json!({"data_sources": ["*"]}))],
            &[],
            &[],
        ),
        (
            &[],
            &[(configuration, json!({"data_sources": ["*", "http"]}))],
            &[DataSources],
            &[],
        ),
        (
            &[],
            &[(configuration, json!({"remote_state_workspaces": ["ws-x"]}))],
            &[RemoteState],
            &[],
        ),
        (
            &[],
            &[(
                configuration,
                json!({"remote_state_workspaces": ["ws-x"], "data_sources": ["*"]}),
            )],
            &[],
            &[],
        ),
        // The total holds the rise.
        (
            &[(
                "permissions.cost",
                json!({"max_monthly_delta_usd": "100", "max_monthly_total_usd": "50"}),
            )],
            &[(
                "permissions.cost",
                json!({"max_monthly_delta_usd": "200", "max_monthly_total_usd": "50"}),
            )],
            &[],
            &[],
        ),
        (
            &[("permissions.cost", json!({"unpriced": "approve"}))],
            &[("permissions.cost", json!({"unpriced": "refuse"}))],
            &[],
            &[Cost],
        ),
        // Without `models` everything is allowed that the operator has.
        (
            &[],
            &[("models", json!({"providers": ["openai"], "allowed": ["*"]}))],
            &[],
            &[ModelProviders],
        ),
        (
            &[(
                "models",
                json!({"providers": ["openai"], "allowed": ["gpt-*"], "tools": {}}),
            )],
            &[(
                "models",
                json!({"providers": ["openai"], "allowed": ["gpt-*"]}),
            )],
            &[ModelTools],
            &[],
        ),
        (
            &[(
                "models",
                json!({"providers": ["openai"], "allowed": ["gpt-*"], "max_tokens": 5}),
            )],
            &[(
                "models",
                json!({"providers": ["openai"], "allowed": ["gpt-5", "gpt-5-mini"], "max_tokens": 6}),
            )],
            &[ModelBudgets],
            &[Models],
        ),
        (
            &[(
                "models",
                json!({"providers": ["openai"], "allowed": ["*"], "redact": [{"path": "user", "action": "remove"}]}),
            )],
            &[(
                "models",
                json!({"providers": ["openai"], "allowed": ["*"], "redact": [{"path": "user", "action": "mask"}]}),
            )],
            &[Redaction],
            &[],
        ),
        (
            &[],
            &[("cst_constraints.max_ttl_seconds", json!(3600))],
            &[Tokens],
            &[],
        ),
        (
            &[("audit", json!({"witnesses": {"required": 2}}))],
            &[("audit", json!({"witnesses": {"required": 1}}))],
            &[Evidence],
            &[],
        ),
        (
            &[(
                "audit",
                json!({"witnesses": {"required": 1, "names": ["a", "b"]}}),
            )],
            &[(
                "audit",
                json!({"witnesses": {"required": 1, "names": ["b", "c"]}}),
            )],
            &[Evidence],
            &[Evidence],
        ),
        (
            &[("audit", json!({"witnesses": {"required": 1}}))],
            &[(
                "audit",
                json!({"witnesses": {"required": 2, "names": ["a", "b", "c"]}}),
            )],
            &[],
            &[Evidence],
        ),
        (
            &[("audit", json!({"timestamps": true}))],
            &[("audit", json!({"witnesses": {"required": 1}}))],
            &[Evidence],
            &[Evidence],
        ),
        (
            &[("egress", json!({"allow_hosts": ["*.example.com"]}))],
            &[(
                "egress",
                json!({"allow_hosts": ["*.api.example.com", "example.com"]}),
            )],
            &[Egress],
            &[Egress],
        ),
        (
            &[("egress", json!({"allow_hosts": ["*.example.com"]}))],
            &[(
                "egress",
                json!({"allow_hosts": ["*.api.example.com", "a.example.com"]}),
            )],
            &[],
            &[Egress],
        ),
    ] {
        let proof = compare(old, new);
        assert_eq!(
            dimensions(&proof.newly_allowed),
            more,
            "{old:?} to {new:?}: {proof:#?}"
        );
        assert_eq!(
            dimensions(&proof.no_longer_allowed),
            less,
            "{old:?} to {new:?}: {proof:#?}"
        );
        assert!(proof.undecided.is_empty());
        let relation = match (more.is_empty(), less.is_empty()) {
            (true, true) => Relation::Equal,
            (true, false) => Relation::Narrower,
            (false, true) => Relation::Wider,
            (false, false) => Relation::Changed,
        };
        assert_eq!(
            (proof.relation(), proof.is_no_wider()),
            (relation, more.is_empty())
        );
    }
}

/// Each operation's path is the one that leads to it.
#[test]
fn calls_are_calls_of_their_operation() {
    use crate::terraform::{Operation, ParsedTarget};
    for operation in Operation::ALL {
        let mut input = crate::decide::TerraformInput::new(*operation, &[]);
        input.workspace_id = Some("ws-a".into());
        input.organization = Some("acme".into());
        let question = Question::Terraform(Box::new(input));
        let call = question.call().unwrap();
        let parsed = ParsedTarget::parse(call.method, &call.path).unwrap();
        assert_eq!(parsed.call.operation(), *operation, "{call:?}");
    }
}

/// Rules whose names differ in letter case only would make millions of bodies.
#[test]
fn what_is_too_much_to_be_decided_counts_as_wider() {
    let name = |n: usize| -> String {
        let letters = ('a'..='j').enumerate();
        let cased = letters.map(|(bit, c)| match n & (1 << bit) {
            0 => c,
            _ => c.to_ascii_uppercase(),
        });
        cased.collect()
    };
    let rules: Vec<Value> = (0..64)
        .map(|rule| {
            let steps: Vec<String> = (0..16).map(|step| name(16 * rule + step)).collect();
            json!({ "path": steps.join("."), "action": "mask" })
        })
        .collect();
    let models = |redact: Value| {
        let models = json!({ "providers": ["openai"], "allowed": ["*"], "redact": redact });
        vec![("models", models)]
    };
    let proof = compare(&models(json!(rules)), &models(json!([])));
    assert_eq!(proof.undecided, [Dimension::Redaction]);
    assert_eq!(
        (proof.relation(), proof.is_no_wider()),
        (Relation::Undecided, false)
    );
}
