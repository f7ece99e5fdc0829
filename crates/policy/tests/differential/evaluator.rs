//! What a contract says about a call, straight from the text of the formats.
//!
//! Order of the reasons: the token's scope, whose object it is, then what the contract says about
//! the call, in the order of the contract's members.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::at;
use crate::generator::{ModelFacts, RunAsked, TerraformFacts};

#[derive(Debug)]
pub enum Expected {
    Allowed,
    Approval,
    /// Refused for all of these, the first one first.
    Against(Vec<&'static str>),
    /// Refused for one of these faults of form.
    Unreadable(BTreeSet<&'static str>),
}

impl Expected {
    pub fn refused(code: &'static str) -> Self {
        Self::Against(vec![code])
    }
}

fn flag(contract: &Value, path: &str, default: bool) -> bool {
    at(contract, path).map_or(default, |value| value.as_bool().expect("a boolean"))
}

fn lists(contract: &Value, path: &str, wanted: &str) -> bool {
    at(contract, path)
        .and_then(Value::as_array)
        .is_some_and(|listed| listed.iter().any(|element| element == wanted))
}

/// Whether a call needs a workspace, an object that the job made, and so on.
fn concerns(operation: &str) -> &'static str {
    match operation {
        "discovery" | "ping" | "account-details" => "nothing",
        "entitlement-set" | "capacity" | "runs-queue" | "list-workspaces" => "organization",
        "workspace-by-name"
        | "workspace-by-id"
        | "workspace-tag-bindings"
        | "workspace-runs"
        | "current-state-version"
        | "current-state-version-outputs"
        | "create-configuration-version"
        | "create-run" => "workspace",
        "state-version-output" => "object",
        "read-configuration-version"
        | "read-run"
        | "run-events"
        | "run-task-stages"
        | "run-policy-checks"
        | "read-task-stage"
        | "read-policy-check"
        | "policy-check-output"
        | "run-comments"
        | "read-plan"
        | "plan-json-redacted"
        | "read-apply"
        | "read-cost-estimate"
        | "apply-run"
        | "discard-run"
        | "cancel-run" => "own object",
        other => panic!("{other} is new: say here what it concerns"),
    }
}

pub fn terraform(contract: &Value, facts: &TerraformFacts) -> Expected {
    let mut against = Vec::new();
    let operation = facts.operation;
    let concerns = concerns(operation);

    let has = |scope: &str| facts.scope.iter().any(|own| own == scope);
    let covered = match operation {
        "apply-run" => {
            // A scope without a run names no run.
            let named = facts.run_id.as_ref().filter(|run| !run.is_empty());
            let elevated = named.map(|run| format!("tfc:apply:{run}"));
            has("tfc:apply") || elevated.is_some_and(|scope| has(&scope))
        }
        _ => concerns == "nothing" || has("tfc:plan"),
    };
    if !covered {
        against.push("TOKEN_SCOPE");
    }

    let named = at(contract, "permissions.organization").and_then(Value::as_str);
    match concerns {
        "nothing" => {}
        "organization" => match (&facts.organization, named) {
            (None, _) => against.push("INPUT_INCONSISTENT"),
            (Some(asked), Some(named)) if asked == named => {}
            (Some(_), None) if facts.organization_known => {}
            (Some(_), _) => against.push("ORGANIZATION_NOT_ALLOWED"),
        },
        "own object" if facts.workspace.is_none() => against.push("OBJECT_UNKNOWN"),
        _ => {
            match &facts.workspace {
                None if concerns == "object" => against.push("OBJECT_UNKNOWN"),
                None => against.push("WORKSPACE_NOT_ALLOWED"),
                Some(id) if lists(contract, "permissions.workspaces", id) => {}
                Some(_) => against.push("WORKSPACE_NOT_ALLOWED"),
            }
            // When an organization is given, every workspace must belong to it.
            match (named, &facts.organization) {
                (None, _) => {}
                (Some(_), None) => against.push("INPUT_INCONSISTENT"),
                (Some(named), Some(owner)) if owner == named => {}
                (Some(_), Some(_)) => against.push("ORGANIZATION_NOT_ALLOWED"),
            }
            if concerns == "own object" && !facts.owned {
                against.push("OBJECT_NOT_OWNED");
            }
        }
    }

    let may_plan = lists(contract, "permissions.operations", "plan");
    let mut approval = false;
    match operation {
        "current-state-version" if !flag(contract, "permissions.state_read", false) => {
            against.push("STATE_READ_DENIED");
        }
        "current-state-version-outputs" | "state-version-output"
            if !flag(contract, "permissions.outputs_read", false) =>
        {
            against.push("OUTPUTS_READ_DENIED");
        }
        "create-configuration-version" | "discard-run" | "cancel-run" if !may_plan => {
            against.push("OPERATION_NOT_ALLOWED");
        }
        "create-run" => {
            if !may_plan {
                against.push("OPERATION_NOT_ALLOWED");
            }
            match &facts.run {
                Some(run) => new_run(contract, run, &mut against),
                None => against.push("INPUT_INCONSISTENT"),
            }
        }
        "apply-run" => {
            if !flag(contract, "permissions.apply.allowed", false) {
                against.push("APPLY_NOT_ALLOWED");
            }
            approval =
                flag(contract, "permissions.apply.requires_approval", true) && !facts.approved;
        }
        _ => {}
    }
    conclude(against, approval)
}

fn conclude(against: Vec<&'static str>, approval: bool) -> Expected {
    match (against.is_empty(), approval) {
        (false, _) => Expected::Against(against),
        (true, true) => Expected::Approval,
        (true, false) => Expected::Allowed,
    }
}

fn new_run(contract: &Value, run: &RunAsked, against: &mut Vec<&'static str>) {
    let run_allows = |member: &str| flag(contract, &format!("permissions.run.{member}"), false);
    // A targeted plan has no cost estimate, and so no budget can hold it.
    let budget = at(contract, "permissions.cost").is_some();
    let asks = |name: &str| run.wishes.contains(name);
    let rules = [
        (
            asks("is-destroy") && !run_allows("destroy"),
            "DESTROY_NOT_ALLOWED",
        ),
        (
            asks("refresh-only") && !run_allows("refresh_only"),
            "REFRESH_ONLY_NOT_ALLOWED",
        ),
        (
            run.targets > 0 && (budget || !run_allows("targets")),
            "TARGETS_NOT_ALLOWED",
        ),
        (
            run.replace > 0 && !run_allows("replace"),
            "REPLACE_NOT_ALLOWED",
        ),
    ];
    against.extend(
        rules
            .iter()
            .filter(|(broken, _)| *broken)
            .map(|(_, code)| *code),
    );
    for variable in &run.variables {
        if !lists(contract, "permissions.run.variables", variable) {
            against.push("RUN_VARIABLES_NOT_ALLOWED");
        }
    }
    // No contract has a member for these.
    let never = [
        ("allow-empty-apply", "EMPTY_APPLY_NOT_ALLOWED"),
        ("debugging-mode", "DEBUGGING_NOT_ALLOWED"),
        ("allow-config-generation", "CONFIG_GENERATION_NOT_ALLOWED"),
        ("invoke-action-addrs", "ACTION_INVOCATION_NOT_ALLOWED"),
        ("terraform-version", "TERRAFORM_VERSION_NOT_ALLOWED"),
        ("policy-paths", "POLICY_PATHS_NOT_ALLOWED"),
    ];
    against.extend(
        never
            .iter()
            .filter(|(name, _)| asks(name))
            .map(|(_, code)| *code),
    );
    match run.configuration {
        "inspected" | "pinned" => {}
        "absent" => against.push("CONFIGURATION_VERSION_REQUIRED"),
        "unknown" => against.push("OBJECT_UNKNOWN"),
        "not-inspected" => against.push("CONFIGURATION_VERSION_NOT_INSPECTED"),
        "other-workspace" => against.push("CONFIGURATION_VERSION_FOREIGN"),
        "not-owned" => against.push("OBJECT_NOT_OWNED"),
        other => panic!("{other}"),
    }
}

pub fn model(contract: &Value, facts: &ModelFacts) -> Expected {
    let mut against = Vec::new();
    if !facts.scope.iter().any(|scope| scope == "model:call") {
        against.push("TOKEN_SCOPE");
    }
    let list_of_models = facts.surface == "models";
    if !list_of_models && facts.model.unwrap_or("").is_empty() {
        against.push("MODEL_MISSING");
    }
    // Absent: every model that the operator has configured, no budget.
    if contract.get("models").is_some() {
        if !lists(contract, "models.providers", facts.provider) {
            against.push("MODEL_PROVIDER_NOT_ALLOWED");
        }
        let listed = |model: &str| {
            at(contract, "models.allowed")
                .and_then(Value::as_array)
                .is_some_and(|globs| {
                    globs.iter().any(|glob| {
                        let glob: Vec<char> = glob.as_str().expect("a text").chars().collect();
                        matches(&glob, &model.chars().collect::<Vec<_>>())
                    })
                })
        };
        if facts.model.is_some_and(|model| !listed(model)) {
            against.push("MODEL_NOT_ALLOWED");
        }
        // Listing models and counting tokens cost nothing.
        if !matches!(facts.surface, "models" | "count-tokens") {
            let limit =
                |name: &str| at(contract, &format!("models.{name}")).and_then(Value::as_u64);
            if limit("max_calls").is_some_and(|max| facts.calls >= max) {
                against.push("MODEL_BUDGET_CALLS");
            }
            let after = u128::from(facts.tokens) + u128::from(facts.wanted.unwrap_or(0));
            if limit("max_tokens").is_some_and(|max| facts.tokens >= max || after > max.into()) {
                against.push("MODEL_BUDGET_TOKENS");
            }
        }
    }
    conclude(against, false)
}

/// `*` is any text, `?` one character.
fn matches(glob: &[char], text: &[char]) -> bool {
    match glob.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|from| matches(rest, &text[from..])),
        Some((wanted, rest)) => text
            .split_first()
            .is_some_and(|(c, text)| (*wanted == '?' || wanted == c) && matches(rest, text)),
    }
}
