//! Request bodies.

use policy::ReasonCode;
use policy::contract::Contract;
use policy::decide::{ConfigurationFact, RunFacts};
use policy::terraform::rewrite::{ConfigurationVersionRequest, RunAction, RunRequest};
use proof::Json;

use crate::{PLAN_ONLY, RUNBOOK, choice};

/// What is understood is rebuilt, the rebuilt body says the same, and what no contract allows is
/// not in it.
pub fn body(data: &[u8]) {
    let (kind, data) = choice(data);
    for contract in [&*RUNBOOK, &*PLAN_ONLY] {
        match kind % 3 {
            0 => run(data, contract),
            1 => upload(data, contract),
            _ => action(data),
        }
    }
}

fn run(data: &[u8], contract: &Contract) {
    let Ok(asked) = RunRequest::parse(data) else {
        return;
    };
    let rebuilt = asked.upstream_body(contract);
    let text = rebuilt.to_jcs();
    let again = RunRequest::parse(&text).expect("what we write can be read");
    assert_eq!(again.upstream_body(contract), rebuilt);
    assert_eq!(again.workspace, asked.workspace);
    assert_eq!(again.configuration_version, asked.configuration_version);
    assert_eq!(flag(&rebuilt, "auto-apply"), Some(false));
    if !contract.allows_apply() {
        assert_eq!(flag(&rebuilt, "plan-only"), Some(true));
        assert_eq!(flag(&rebuilt, "save-plan"), Some(false));
    }
    // Everything that decides is written as it was asked; what is never written is refused.
    let before = asked.facts(ConfigurationFact::Inspected);
    let after = again.facts(ConfigurationFact::Inspected);
    let written = RunFacts {
        auto_apply: false,
        plan_only: after.plan_only,
        save_plan: after.save_plan,
        allow_empty_apply: false,
        debugging_mode: false,
        allow_config_generation: false,
        invoke_actions: false,
        terraform_version: false,
        policy_paths: false,
        ..before
    };
    assert_eq!(after, written);
}

fn upload(data: &[u8], contract: &Contract) {
    let Ok(asked) = ConfigurationVersionRequest::parse(data) else {
        return;
    };
    let rebuilt = asked.upstream_body(contract);
    let again = ConfigurationVersionRequest::parse(&rebuilt.to_jcs()).expect("ours can be read");
    assert_eq!(again.upstream_body(contract), rebuilt);
    assert_eq!(flag(&rebuilt, "auto-queue-runs"), Some(false));
    assert!(contract.allows_apply() || flag(&rebuilt, "speculative") == Some(true));
}

fn action(data: &[u8]) {
    match RunAction::parse(data) {
        Ok(asked) => {
            let rebuilt = asked.upstream_body();
            let again = RunAction::parse(&rebuilt.to_jcs()).expect("ours can be read");
            assert_eq!(again, asked);
        }
        Err(refusal) => assert_ne!(refusal.code, ReasonCode::Internal),
    }
}

fn flag(body: &Json, name: &str) -> Option<bool> {
    body.at(&["data", "attributes", name])?.as_bool()
}
