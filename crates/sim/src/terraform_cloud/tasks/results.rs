//! Task stages and results as they are read, and the answers of the tasks.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::super::cloud::Cloud;
use super::super::guard::bearer;
use super::super::jsonapi::{Answer, ApiError, Resource, one, one_with, page};
use super::super::lifecycle;
use super::super::organizations::{Parameters, query};
use super::super::views::time;
use super::super::world::{Run, World};
use super::{Outcome, TaskResult, TaskStage, TaskStatus};
use crate::ids;

/// The most outcomes of one result.
const MOST_OUTCOMES: usize = 100;

/// The largest body of an outcome, as the vendor documents it.
const LARGEST_OUTCOME: usize = 5 << 20;

pub(crate) async fn of_run(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = cloud.world();
    let run = world.runs.get(&id).ok_or_else(ApiError::not_found)?;
    let stages = run.task_stages.iter().map(|stage| view_stage(run, stage));
    Ok(page(stages.collect(), &query(parameters)))
}

pub(crate) async fn stage(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = cloud.world();
    let run = run_of(&world, &id)?;
    let stage = run.task_stages.iter().find(|stage| stage.id == id);
    let stage = stage.ok_or_else(ApiError::not_found)?;
    let included = if query(parameters).includes("task_results") {
        let results = stage.results.iter();
        results.map(|result| view_result(stage, result)).collect()
    } else {
        Vec::new()
    };
    Ok(one_with(view_stage(run, stage), included))
}

pub(crate) async fn result(State(cloud): State<Arc<Cloud>>, Path(id): Path<String>) -> Answer {
    let world = cloud.world();
    let (stage, result) = found(run_of(&world, &id)?, |result| result.id == id)?;
    Ok(one(view_result(stage, result)))
}

pub(crate) async fn outcomes(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = cloud.world();
    let (_, result) = found(run_of(&world, &id)?, |result| result.id == id)?;
    let outcomes = result.outcomes.iter().map(|outcome| {
        json!({
            "id": outcome.id,
            "type": "task-result-outcomes",
            "attributes": outcome.attributes,
        })
    });
    Ok(page(outcomes.collect(), &query(parameters)))
}

/// A task's answer: with the token of its own call, while it lives, until the answer is final.
pub(crate) async fn callback(
    State(cloud): State<Arc<Cloud>>,
    headers: HeaderMap,
    Path(guid): Path<String>,
    body: Bytes,
) -> Answer {
    let request = Resource::read(&body, "task-results")?;
    let attributes = request.raw_attributes();
    let status = match attributes["status"].as_str() {
        Some("running") => TaskStatus::Running,
        Some("passed") => TaskStatus::Passed,
        Some("failed") => TaskStatus::Failed,
        _ => return Err(ApiError::invalid("Status is not included in the list")),
    };
    let mut world = cloud.world();
    let run = run_of(&world, &guid)?;
    let (run_id, result_id) = {
        let (_, result) = found(run, |result| result.guid == guid)?;
        (run.id.clone(), result.id.clone())
    };
    let token = bearer(&headers).and_then(|token| world.stage_tokens.get(token));
    if token.is_none_or(|token| token.result_id != result_id) {
        return Err(ApiError::unauthorized());
    }
    let outcomes = read_outcomes(&body)?;
    let run = world
        .runs
        .get_mut(&run_id)
        .ok_or_else(ApiError::not_found)?;
    let result = run
        .task_stages
        .iter_mut()
        .flat_map(|stage| &mut stage.results)
        .find(|result| result.id == result_id)
        .ok_or_else(ApiError::not_found)?;
    if result.status != TaskStatus::Running {
        return Err(ApiError::invalid("The task result is final"));
    }
    let message = attributes["message"].as_str().unwrap_or_default();
    message.clone_into(&mut result.message);
    result.url = attributes["url"].as_str().map(str::to_owned);
    result.outcomes.extend(outcomes);
    let shown = result.id.clone();
    if status != TaskStatus::Running {
        lifecycle::task_answered(&cloud, &mut world, &run_id, &result_id, status, "");
    }
    let (stage, result) = found(run_of(&world, &shown)?, |result| result.id == shown)?;
    Ok(one(view_result(stage, result)))
}

fn read_outcomes(body: &Bytes) -> Result<Vec<Outcome>, ApiError> {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let list = &document["data"]["relationships"]["outcomes"]["data"];
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.len() > MOST_OUTCOMES {
        return Err(ApiError::invalid("Too many outcomes"));
    }
    let read = |outcome: &Value| {
        let attributes = &outcome["attributes"];
        let body = attributes["body"].as_str().unwrap_or_default();
        let named = attributes["outcome-id"].is_string() && attributes["description"].is_string();
        if outcome["type"] != "task-result-outcomes" || !named || body.len() > LARGEST_OUTCOME {
            return Err(ApiError::invalid("Outcome is invalid"));
        }
        Ok(Outcome {
            id: ids::id("taskrso"),
            attributes: attributes.clone(),
        })
    };
    list.iter().map(read).collect()
}

fn run_of<'w>(world: &'w World, id: &str) -> Result<&'w Run, ApiError> {
    let run = world.run_of.get(id).and_then(|run| world.runs.get(run));
    run.ok_or_else(ApiError::not_found)
}

fn found(
    run: &Run,
    fits: impl Fn(&TaskResult) -> bool,
) -> Result<(&TaskStage, &TaskResult), ApiError> {
    let found = run.task_stages.iter().find_map(|stage| {
        let result = stage.results.iter().find(|result| fits(result))?;
        Some((stage, result))
    });
    found.ok_or_else(ApiError::not_found)
}

fn reached(reached: &[(TaskStatus, jiff::Timestamp)]) -> Map<String, Value> {
    reached
        .iter()
        .map(|(status, at)| (format!("{}-at", status.name()), time(*at).into()))
        .collect()
}

pub(crate) fn view_stage(run: &Run, stage: &TaskStage) -> Value {
    let results: Vec<Value> = stage
        .results
        .iter()
        .map(|result| json!({"id": result.id, "type": "task-results"}))
        .collect();
    let last = stage.reached.last().map_or(stage.created_at, |(_, at)| *at);
    json!({
        "id": stage.id,
        "type": "task-stages",
        "attributes": {
            "actions": {"is-overridable": false},
            "created-at": time(stage.created_at),
            "permissions": {
                "can-override": false,
                "can-override-policy": false,
                "can-override-tasks": false,
            },
            "stage": stage.name,
            "status": stage.status.name(),
            "status-timestamps": reached(&stage.reached),
            "updated-at": time(last),
        },
        "relationships": {
            "policy-evaluations": {"data": []},
            "run": {"data": {"id": run.id, "type": "runs"}},
            "task-results": {"data": results},
        },
        "links": {"self": format!("/api/v2/task-stages/{}", stage.id)},
    })
}

fn view_result(stage: &TaskStage, result: &TaskResult) -> Value {
    let last = result
        .reached
        .last()
        .map_or(stage.created_at, |(_, at)| *at);
    json!({
        "id": result.id,
        "type": "task-results",
        "attributes": {
            "created-at": time(stage.created_at),
            "message": result.message,
            "stage": stage.name,
            "status": result.status.name(),
            "status-timestamps": reached(&result.reached),
            "task-id": result.task.id,
            "task-name": result.task.name,
            "task-url": result.task.url,
            "updated-at": time(last),
            "url": result.url,
            "workspace-task-enforcement-level": result.enforcement,
            "workspace-task-id": result.workspace_task_id,
        },
        "relationships": {
            "task-stage": {"data": {"id": stage.id, "type": "task-stages"}},
        },
        "links": {"self": format!("/api/v2/task-results/{}", result.id)},
    })
}
