use super::*;
use crate::contract::EXAMPLE_CONTRACT;
use crate::terraform::{Operation, Target};

fn compiled(changes: &[(&str, &str)]) -> CompiledContract {
    let text = changes
        .iter()
        .fold(EXAMPLE_CONTRACT.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
    CompiledContract::compile(&Contract::parse(text.as_bytes()).unwrap())
}

const PLAN_ONLY: &[(&str, &str)] = &[("\"allowed\": true", "\"allowed\": false")];

fn scopes() -> Vec<String> {
    ["proxy:call", "tfc:plan", "tfc:apply", "model:call"]
        .map(str::to_owned)
        .to_vec()
}

/// A call about which everything is as good as it can be, but not approved.
fn best(operation: Operation, scope: &[String]) -> TerraformInput<'_> {
    let mut input = TerraformInput::new(operation, scope);
    match operation.target() {
        Target::Service => {}
        Target::Organization => {
            input.organization = Some("acme".into());
            input.organization_known = true;
        }
        Target::Workspace | Target::WorkspaceObject => {
            input.workspace_id = Some("ws-staging-app".into());
        }
        Target::OwnObject => {
            input.workspace_id = Some("ws-staging-app".into());
            input.owned = true;
        }
    }
    if operation == Operation::CreateRun {
        let facts = RunFacts {
            configuration: ConfigurationFact::Inspected,
            ..RunFacts::default()
        };
        input.run = Some(Cow::Owned(facts));
    }
    if operation == Operation::ApplyRun {
        input.run_id = Some("run-1".into());
    }
    input
}

fn code(contract: &CompiledContract, input: TerraformInput<'_>) -> ReasonCode {
    decide(contract, &DecisionInput::Terraform(input)).code
}

/// The whole admitted set, written out: every other route is refused.
#[test]
fn the_admitted_set_of_each_contract() {
    let reads = [
        "discovery",
        "ping",
        "account-details",
        "entitlement-set",
        "capacity",
        "runs-queue",
        "list-workspaces",
        "workspace-by-name",
        "workspace-by-id",
        "workspace-tag-bindings",
        "workspace-runs",
        "read-configuration-version",
        "read-run",
        "run-events",
        "run-task-stages",
        "run-policy-checks",
        "read-task-stage",
        "read-policy-check",
        "policy-check-output",
        "run-comments",
        "read-plan",
        "plan-json-redacted",
        "read-apply",
        "read-cost-estimate",
    ];
    let plans = [
        "create-configuration-version",
        "create-run",
        "discard-run",
        "cancel-run",
    ];
    let all = [(
        "\"state_read\": false",
        "\"state_read\": true, \"outputs_read\": true",
    )];
    let state = [
        "current-state-version",
        "current-state-version-outputs",
        "state-version-output",
    ];
    let nothing = [("[\"plan\"]", "[]"), PLAN_ONLY[0]];
    for (changes, allowed, approved) in [
        (&[][..], [&reads[..], &plans].concat(), vec!["apply-run"]),
        (PLAN_ONLY, [&reads[..], &plans].concat(), vec![]),
        (
            &all,
            [&reads[..], &plans, &state].concat(),
            vec!["apply-run"],
        ),
        (&nothing, reads.to_vec(), vec![]),
    ] {
        let contract = compiled(changes);
        let scope = scopes();
        for route in crate::terraform::routes() {
            let Some(operation) = route.operation else {
                continue;
            };
            let decision = decide(
                &contract,
                &DecisionInput::Terraform(best(operation, &scope)),
            );
            let expected = if allowed.contains(&operation.name()) {
                Verdict::Allow
            } else if approved.contains(&operation.name()) {
                Verdict::Approve
            } else {
                Verdict::Deny
            };
            assert_eq!(
                decision.verdict, expected,
                "{operation} {changes:?} {decision:?}"
            );
        }
    }
}

/// Each fact that makes a call good, taken away.
#[test]
fn each_missing_fact_refuses() {
    let contract = compiled(&[]);
    let scope = scopes();
    let none: Vec<String> = vec!["proxy:call".to_owned()];
    for operation in Operation::ALL.iter().copied() {
        let refused = |change: &dyn Fn(&mut TerraformInput<'_>)| {
            let mut input = best(operation, &scope);
            change(&mut input);
            let decision = decide(&contract, &DecisionInput::Terraform(input));
            assert_eq!(decision.verdict, Verdict::Deny, "{operation}");
            decision.code
        };
        match operation.target() {
            Target::Service => continue,
            Target::Organization => {
                assert_eq!(
                    refused(&|i| i.organization_known = false),
                    ReasonCode::OrganizationNotAllowed
                );
                assert_eq!(
                    refused(&|i| i.organization = None),
                    ReasonCode::InputInconsistent
                );
            }
            Target::Workspace | Target::WorkspaceObject => {
                refused(&|i| i.workspace_id = None);
                let elsewhere = refused(&|i| i.workspace_id = Some("ws-production-app".into()));
                assert_eq!(elsewhere, ReasonCode::WorkspaceNotAllowed);
                refused(&|i| i.workspace_id = Some("ws-staging-appx".into()));
                refused(&|i| i.workspace_id = Some("".into()));
            }
            Target::OwnObject => {
                assert_eq!(
                    refused(&|i| i.workspace_id = None),
                    ReasonCode::ObjectUnknown
                );
                assert_eq!(refused(&|i| i.owned = false), ReasonCode::ObjectNotOwned);
                let elsewhere = refused(&|i| i.workspace_id = Some("ws-production-app".into()));
                assert_eq!(elsewhere, ReasonCode::WorkspaceNotAllowed);
            }
        }
        assert_eq!(
            refused(&|i| i.scope = Cow::Owned(none.clone())),
            ReasonCode::TokenScope
        );
    }
}

#[test]
fn runs_are_judged_by_what_they_ask_for() {
    use ReasonCode::*;
    let strict = compiled(&[]);
    let all = compiled(&[(
        "\"state_read\": false",
        r#""state_read": false, "run": {"destroy":true,"refresh_only":true,"targets":true,"replace":true,"variables":["a"]}"#,
    )]);
    let budget = compiled(&[(
        "\"state_read\": false",
        r#""state_read": false, "run": {"targets":true}, "cost": {"max_monthly_total_usd":"1"}"#,
    )]);
    let good = RunFacts {
        configuration: ConfigurationFact::Inspected,
        ..RunFacts::default()
    };
    let scope = scopes();
    let decided = |contract: &CompiledContract, facts: RunFacts| {
        let mut input = best(Operation::CreateRun, &scope);
        input.run = Some(Cow::Owned(facts));
        code(contract, input)
    };
    let with = |change: &dyn Fn(&mut RunFacts)| {
        let mut facts = good.clone();
        change(&mut facts);
        facts
    };
    for (facts, by_strict, by_all) in [
        (good.clone(), Allowed, Allowed),
        (with(&|f| f.auto_apply = true), Allowed, Allowed),
        (with(&|f| f.save_plan = true), Allowed, Allowed),
        (with(&|f| f.plan_only = true), Allowed, Allowed),
        (with(&|f| f.is_destroy = true), DestroyNotAllowed, Allowed),
        (
            with(&|f| f.refresh_only = true),
            RefreshOnlyNotAllowed,
            Allowed,
        ),
        (with(&|f| f.targets = 1), TargetsNotAllowed, Allowed),
        (with(&|f| f.replace = 1), ReplaceNotAllowed, Allowed),
        (
            with(&|f| f.variables = vec!["a".into()]),
            RunVariablesNotAllowed,
            Allowed,
        ),
        (
            with(&|f| f.variables = vec!["a".into(), "b".into()]),
            RunVariablesNotAllowed,
            RunVariablesNotAllowed,
        ),
        (
            with(&|f| f.allow_empty_apply = true),
            EmptyApplyNotAllowed,
            EmptyApplyNotAllowed,
        ),
        (
            with(&|f| f.debugging_mode = true),
            DebuggingNotAllowed,
            DebuggingNotAllowed,
        ),
        (
            with(&|f| f.allow_config_generation = true),
            ConfigGenerationNotAllowed,
            ConfigGenerationNotAllowed,
        ),
        (
            with(&|f| f.invoke_actions = true),
            ActionInvocationNotAllowed,
            ActionInvocationNotAllowed,
        ),
        (
            with(&|f| f.terraform_version = true),
            TerraformVersionNotAllowed,
            TerraformVersionNotAllowed,
        ),
        (
            with(&|f| f.policy_paths = true),
            PolicyPathsNotAllowed,
            PolicyPathsNotAllowed,
        ),
        (
            with(&|f| f.configuration = ConfigurationFact::Absent),
            ConfigurationVersionRequired,
            ConfigurationVersionRequired,
        ),
        (
            with(&|f| f.configuration = ConfigurationFact::Pinned),
            Allowed,
            Allowed,
        ),
        (
            with(&|f| f.configuration = ConfigurationFact::Unknown),
            ObjectUnknown,
            ObjectUnknown,
        ),
        (
            with(&|f| f.configuration = ConfigurationFact::NotInspected),
            ConfigurationVersionNotInspected,
            ConfigurationVersionNotInspected,
        ),
        (
            with(&|f| f.configuration = ConfigurationFact::OtherWorkspace),
            ConfigurationVersionForeign,
            ConfigurationVersionForeign,
        ),
        (
            with(&|f| f.configuration = ConfigurationFact::NotOwned),
            ObjectNotOwned,
            ObjectNotOwned,
        ),
    ] {
        assert_eq!(decided(&strict, facts.clone()), by_strict, "{facts:?}");
        assert_eq!(decided(&all, facts.clone()), by_all, "{facts:?}");
    }
    assert_eq!(
        decided(&budget, with(&|f| f.targets = 1)),
        TargetsNotAllowed
    );
    let mut unknown = best(Operation::CreateRun, &scope);
    unknown.run = None;
    assert_eq!(code(&strict, unknown), InputInconsistent);
    // Every reason is told, the first one is the code.
    let facts = with(&|f| {
        f.is_destroy = true;
        f.targets = 2;
    });
    let mut input = best(Operation::CreateRun, &scope);
    input.run = Some(Cow::Owned(facts));
    let decision = decide(&strict, &DecisionInput::Terraform(input));
    assert_eq!(
        (decision.code, decision.reasons.len()),
        (DestroyNotAllowed, 2)
    );
}

#[test]
fn applies_need_contract_scope_and_approval() {
    use ReasonCode::*;
    let autonomous = compiled(&[(
        "\"requires_approval\": true",
        "\"requires_approval\": false",
    )]);
    let scope = scopes();
    let elevated = vec!["tfc:apply:run-1".to_owned()];
    let other = vec![
        "tfc:plan".to_owned(),
        "tfc:apply:run-2".to_owned(),
        "tfc:apply:".to_owned(),
    ];
    let apply = |contract: &CompiledContract, scope: &[String], approval| {
        let mut input = best(Operation::ApplyRun, scope);
        input.approval = approval;
        code(contract, input)
    };
    let (runbook, plan_only) = (compiled(&[]), compiled(PLAN_ONLY));
    assert_eq!(
        apply(&runbook, &scope, ApprovalFact::None),
        ApprovalRequired
    );
    assert_eq!(apply(&runbook, &scope, ApprovalFact::Valid), Allowed);
    assert_eq!(apply(&runbook, &elevated, ApprovalFact::Valid), Allowed);
    assert_eq!(
        apply(&runbook, &elevated, ApprovalFact::None),
        ApprovalRequired
    );
    assert_eq!(apply(&runbook, &other, ApprovalFact::Valid), TokenScope);
    assert_eq!(
        apply(&plan_only, &scope, ApprovalFact::Valid),
        ApplyNotAllowed
    );
    assert_eq!(apply(&autonomous, &scope, ApprovalFact::None), Allowed);
}

#[test]
fn models_are_judged_by_name_and_budget() {
    use ReasonCode::*;
    let open = compiled(&[]);
    let limited = compiled(&[(
        "\"cst_constraints\"",
        r#""models": {"providers":["openai"],"allowed":["gpt-5*"],"max_calls":2,"max_tokens":100}, "cst_constraints""#,
    )]);
    let closed = compiled(&[("\"cst_constraints\"", r#""models": {}, "cst_constraints""#)]);
    let scope = scopes();
    let call =
        |provider: &'static str, model: Option<&'static str>, surface, calls, tokens, max| {
            ModelInput {
                scope: Cow::Borrowed(&scope),
                provider: provider.into(),
                surface,
                model: model.map(Into::into),
                calls_so_far: calls,
                tokens_so_far: tokens,
                max_tokens_requested: max,
            }
        };
    use ModelSurface::*;
    for (input, by_open, by_limited) in [
        (
            call("openai", Some("gpt-5"), ChatCompletions, 0, 0, None),
            Allowed,
            Allowed,
        ),
        (
            call("openai", Some("gpt-5-mini"), Responses, 1, 50, Some(50)),
            Allowed,
            Allowed,
        ),
        (
            call("openai", Some("gpt-4"), ChatCompletions, 0, 0, None),
            Allowed,
            ModelNotAllowed,
        ),
        (
            call("anthropic", Some("gpt-5"), Messages, 0, 0, None),
            Allowed,
            ModelProviderNotAllowed,
        ),
        (
            call("openai", Some("gpt-5"), ChatCompletions, 2, 0, None),
            Allowed,
            ModelBudgetCalls,
        ),
        (
            call("openai", Some("gpt-5"), ChatCompletions, 0, 100, None),
            Allowed,
            ModelBudgetTokens,
        ),
        (
            call("openai", Some("gpt-5"), ChatCompletions, 0, 60, Some(41)),
            Allowed,
            ModelBudgetTokens,
        ),
        (
            call(
                "openai",
                Some("gpt-5"),
                ChatCompletions,
                0,
                1,
                Some(u64::MAX),
            ),
            Allowed,
            ModelBudgetTokens,
        ),
        (call("openai", None, Models, 9, 999, None), Allowed, Allowed),
        (
            call("openai", Some("gpt-5"), CountTokens, 9, 999, None),
            Allowed,
            Allowed,
        ),
        (
            call("openai", None, ChatCompletions, 0, 0, None),
            ModelMissing,
            ModelMissing,
        ),
        (
            call("openai", Some(""), ChatCompletions, 0, 0, None),
            ModelMissing,
            ModelMissing,
        ),
    ] {
        let code = |contract: &CompiledContract| {
            decide(contract, &DecisionInput::Model(input.clone())).code
        };
        assert_eq!(code(&open), by_open, "{input:?}");
        assert_eq!(code(&limited), by_limited, "{input:?}");
        assert_ne!(code(&closed), Allowed, "{input:?}");
    }
    let none = Vec::new();
    let mut input = call("openai", Some("gpt-5"), ChatCompletions, 0, 0, None);
    input.scope = Cow::Borrowed(&none);
    assert_eq!(decide(&open, &DecisionInput::Model(input)).code, TokenScope);
}

/// A verifier decides again from what was recorded.
#[test]
fn inputs_and_decisions_survive_being_recorded() {
    let contract = compiled(&[]);
    let scope = scopes();
    for operation in Operation::ALL.iter().copied() {
        let input = DecisionInput::Terraform(best(operation, &scope));
        let decision = decide(&contract, &input);
        let recorded = proof::jcs::to_bytes(&input).unwrap();
        let read: DecisionInput<'static> = proof::json::from_slice(&recorded).unwrap();
        assert_eq!(read, input);
        assert_eq!(decide(&contract, &read), decision);
        let text = serde_json::to_vec(&decision).unwrap();
        assert_eq!(serde_json::from_slice::<Decision>(&text).unwrap(), decision);
    }
    let unknown =
        br#"{"lane":"terraform","operation":"ping","scope":[],"approval":"none","hint":1}"#;
    assert!(proof::json::from_slice::<DecisionInput<'static>>(unknown).is_err());
    let made_up = br#"{"lane":"terraform","operation":"delete-everything","scope":[]}"#;
    assert!(proof::json::from_slice::<DecisionInput<'static>>(made_up).is_err());
}
