//! Policy checks of runs: read, and overridden.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::guard::Caller;
use super::jsonapi::{Answer, ApiError, one, page};
use super::lifecycle;
use super::organizations::{Parameters, query};
use super::world::{Run, RunStatus, World};
use crate::ids;

/// What a policy check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyOutcome {
    /// Every policy passed.
    Passed,
    /// One failed that may be overridden.
    SoftFailed,
    /// One failed that nobody may override.
    HardFailed,
    /// Somebody overrode it.
    Overridden,
}

impl PolicyOutcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::SoftFailed => "soft_failed",
            Self::HardFailed => "hard_failed",
            Self::Overridden => "overridden",
        }
    }
}

/// The policy of a workspace: what each check of it comes to, and prints.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) outcome: PolicyOutcome,
    pub(crate) output: String,
}

/// A policy check of a run.
#[derive(Debug, Clone)]
pub(crate) struct PolicyCheck {
    pub(crate) id: String,
    pub(crate) outcome: PolicyOutcome,
    pub(crate) output: String,
}

/// Adds a policy check to a run; answers its id.
pub(crate) fn add(
    world: &mut World,
    run_id: &str,
    outcome: PolicyOutcome,
    output: &str,
) -> Option<String> {
    let run = world.runs.get_mut(run_id)?;
    let id = ids::id("polchk");
    run.policy_checks.push(PolicyCheck {
        id: id.clone(),
        outcome,
        output: output.to_owned(),
    });
    world.run_of.insert(id.clone(), run_id.to_owned());
    Some(id)
}

/// Lets the workspace's policy look at a plan, when it has one.
pub(crate) fn check(cloud: &Arc<Cloud>, world: &mut World, id: &str) {
    let workspace = world.workspaces.get(&lifecycle::workspace_of(world, id));
    let Some(policy) = workspace.and_then(|workspace| workspace.policy.clone()) else {
        return lifecycle::go_on(cloud, world, id);
    };
    lifecycle::move_to(cloud, world, id, RunStatus::PolicyChecking);
    add(world, id, policy.outcome, &policy.output);
    let plan_only = world.runs.get(id).is_some_and(|run| run.wishes.plan_only);
    match policy.outcome {
        PolicyOutcome::Passed | PolicyOutcome::Overridden => {
            lifecycle::move_to(cloud, world, id, RunStatus::PolicyChecked);
            lifecycle::go_on(cloud, world, id);
        }
        PolicyOutcome::SoftFailed if plan_only => {
            lifecycle::end(cloud, world, id, RunStatus::PolicySoftFailed);
        }
        PolicyOutcome::SoftFailed => {
            lifecycle::move_to(cloud, world, id, RunStatus::PolicyOverride)
        }
        PolicyOutcome::HardFailed => lifecycle::end(cloud, world, id, RunStatus::Errored),
    }
}

/// Somebody has overridden the policy that a run waits at.
fn overridden(cloud: &Arc<Cloud>, world: &mut World, id: &str) {
    let waits = |run: &Run| run.status == RunStatus::PolicyOverride;
    if world.runs.get(id).is_some_and(waits) {
        lifecycle::move_to(cloud, world, id, RunStatus::PolicyChecked);
        lifecycle::go_on(cloud, world, id);
    }
}

fn view(caller: &Caller, run: &Run, check: &PolicyCheck) -> Value {
    let failed = u8::from(check.outcome != PolicyOutcome::Passed);
    let hard = u8::from(check.outcome == PolicyOutcome::HardFailed);
    let overridable = check.outcome == PolicyOutcome::SoftFailed;
    json!({
        "id": check.id,
        "type": "policy-checks",
        "attributes": {
            "actions": {"is-overridable": overridable},
            "permissions": {"can-override": caller.rights().apply},
            "result": {
                "passed": 1 - failed, "soft-failed": failed - hard, "total-failed": failed,
                "hard-failed": hard, "advisory-failed": 0, "duration-ms": 1,
                "result": failed == 0, "sentinel": {"schema-version": 1},
            },
            "scope": "organization",
            "status": check.outcome.name(),
            "status-timestamps": {},
        },
        "relationships": {"run": {"data": {"id": run.id, "type": "runs"}}},
        "links": {"output": format!("/api/v2/policy-checks/{}/output", check.id)},
    })
}

fn find<'a>(world: &'a World, id: &str) -> Result<(&'a Run, &'a PolicyCheck), ApiError> {
    let run = world.run_of.get(id).and_then(|run| world.runs.get(run));
    let run = run.ok_or_else(ApiError::not_found)?;
    let check = run.policy_checks.iter().find(|check| check.id == id);
    Ok((run, check.ok_or_else(ApiError::not_found)?))
}

pub(crate) async fn of_run(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = cloud.world();
    let run = world.runs.get(&id).ok_or_else(ApiError::not_found)?;
    let checks = run
        .policy_checks
        .iter()
        .map(|check| view(&caller, run, check));
    Ok(page(checks.collect(), &query(parameters)))
}

pub(crate) async fn read(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let world = cloud.world();
    let (run, check) = find(&world, &id)?;
    Ok(one(view(&caller, run, check)))
}

pub(crate) async fn output(State(cloud): State<Arc<Cloud>>, Path(id): Path<String>) -> Answer {
    let world = cloud.world();
    let (_, check) = find(&world, &id)?;
    let plain = HeaderValue::from_static("text/plain");
    Ok(([(header::CONTENT_TYPE, plain)], check.output.clone()).into_response())
}

pub(crate) async fn overrule(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().apply)?;
    let mut world = cloud.world();
    let run_id = find(&world, &id)?.0.id.clone();
    let run = world
        .runs
        .get_mut(&run_id)
        .ok_or_else(ApiError::not_found)?;
    let check = run.policy_checks.iter_mut().find(|check| check.id == id);
    let check = check.ok_or_else(ApiError::not_found)?;
    if check.outcome != PolicyOutcome::SoftFailed {
        return Err(ApiError::conflict(
            "transition not allowed",
            "only a policy that failed softly can be overridden",
        ));
    }
    check.outcome = PolicyOutcome::Overridden;
    overridden(&cloud, &mut world, &run_id);
    let run = &world.runs[&run_id];
    let (_, check) = find(&world, &id)?;
    Ok(one(view(&caller, run, check)))
}
