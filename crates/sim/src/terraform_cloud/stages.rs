//! Plans, applies and cost estimates: the parts of a run that are read on their own.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::archivist::Object;
use super::cloud::Cloud;
use super::config::Rights;
use super::configurations::redirect;
use super::guard::Caller;
use super::jsonapi::{Answer, ApiError, empty, one};
use super::views::View;

fn view(cloud: &Cloud) -> View<'_> {
    View {
        cloud,
        rights: Rights::NONE,
    }
}

pub(crate) async fn plan(State(cloud): State<Arc<Cloud>>, Path(id): Path<String>) -> Answer {
    let world = cloud.world();
    Ok(one(view(&cloud).plan(
        world.run_with_plan(&id).ok_or_else(ApiError::not_found)?,
    )))
}

pub(crate) async fn plan_of_run(State(cloud): State<Arc<Cloud>>, Path(id): Path<String>) -> Answer {
    let world = cloud.world();
    Ok(one(view(&cloud).plan(
        world.runs.get(&id).ok_or_else(ApiError::not_found)?,
    )))
}

pub(crate) async fn apply(State(cloud): State<Arc<Cloud>>, Path(id): Path<String>) -> Answer {
    let world = cloud.world();
    Ok(one(view(&cloud).apply(
        world.run_with_apply(&id).ok_or_else(ApiError::not_found)?,
    )))
}

pub(crate) async fn apply_of_run(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
) -> Answer {
    let world = cloud.world();
    Ok(one(view(&cloud).apply(
        world.runs.get(&id).ok_or_else(ApiError::not_found)?,
    )))
}

pub(crate) async fn json_output(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().read_plan_json)?;
    plan_json(&cloud, &id, Object::PlanJson)
}

pub(crate) async fn redacted_json_output(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
) -> Answer {
    plan_json(&cloud, &id, Object::RedactedPlanJson)
}

/// Answers 204 while there is no plan, then with a short-lived address.
fn plan_json(cloud: &Cloud, id: &str, object: Object) -> Answer {
    let world = cloud.world();
    let run = world.run_with_plan(id).ok_or_else(ApiError::not_found)?;
    if run.plan_json.is_none() {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    Ok(redirect(
        StatusCode::TEMPORARY_REDIRECT,
        &cloud.signer.url(object, id),
    ))
}

pub(crate) async fn cost_estimate(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
) -> Answer {
    let world = cloud.world();
    let run = world
        .run_of
        .get(&id)
        .and_then(|run_id| world.runs.get(run_id));
    let run = run.filter(|run| run.cost.as_ref().is_some_and(|cost| cost.id == id));
    let estimate = run.and_then(|run| view(&cloud).cost_estimate(run));
    Ok(one(estimate.ok_or_else(ApiError::not_found)?))
}
