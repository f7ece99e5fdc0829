//! Operations in words, and which of them matter.

use policy::terraform::{Effect, Operation};
use proof::record::{Intent, Lane};

/// Whether a call asks a model something, rather than about models.
pub(super) fn is_model_call(intent: &Intent) -> bool {
    intent.lane == Lane::Model && !is_listing(&intent.operation)
}

/// Whether a call can change something here; the agent's model calls cannot, and what its
/// connections to other hosts change is not seen.
pub(crate) fn is_change(intent: &Intent) -> bool {
    if intent.lane == Lane::Egress {
        return false;
    }
    match intent.operation.parse::<Operation>() {
        Ok(operation) => operation.effect() == Effect::Mutate,
        // Names outside the route table: uploads and rollbacks change, logs and models read.
        Err(_) => intent.lane != Lane::Model && !is_log(&intent.operation),
    }
}

fn is_listing(operation: &str) -> bool {
    matches!(operation, "list-models" | "read-model" | "count-tokens")
}

fn is_log(operation: &str) -> bool {
    matches!(operation, "read-plan-log" | "read-apply-log")
}

/// Begins with a capital.
pub(super) fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

/// An operation in words.
pub(super) fn in_words(operation: &str) -> &'static str {
    match operation {
        "discovery" => "looked up the API's address",
        "ping" => "asked whether the API answers",
        "account-details" => "asked who it is",
        "entitlement-set" => "read the organization's entitlements",
        "capacity" => "read the organization's capacity",
        "runs-queue" => "read the run queue",
        "list-workspaces" => "listed its workspaces",
        "workspace-by-name" | "workspace-by-id" => "read a workspace",
        "workspace-tag-bindings" => "read a workspace's tags",
        "current-state-version" => "read the state",
        "current-state-version-outputs" | "state-version-output" => "read outputs",
        "workspace-runs" => "listed a workspace's runs",
        "create-configuration-version" => "opened an upload of configuration",
        "read-configuration-version" => "read an upload's state",
        "upload-configuration" => "uploaded configuration",
        "create-run" => "started a run",
        "read-run" => "read a run",
        "run-events" => "read a run's history",
        "run-task-stages" => "read a run's tasks",
        "run-policy-checks" => "read a run's policy checks",
        "read-task-stage" => "read a task stage",
        "read-policy-check" | "policy-check-output" => "read a policy check",
        "run-comments" => "read a run's comments",
        "read-plan" => "read a plan",
        "plan-json-redacted" => "read a plan's details, redacted",
        "read-plan-log" => "read a plan's log",
        "read-apply" => "read an apply",
        "read-apply-log" => "read an apply's log",
        "read-cost-estimate" => "read a cost estimate",
        "apply-run" => "asked for the apply",
        "discard-run" => "discarded a run",
        "cancel-run" => "canceled a run",
        "rollback-state" => "returned a workspace to an earlier state version",
        "list-models" | "read-model" => "listed models",
        "count-tokens" => "counted tokens",
        "connect" => "connected to other hosts",
        "request" => "asked other hosts in plain HTTP",
        _ => "made another call",
    }
}
