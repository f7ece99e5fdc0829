//! Run triggers: an apply in one workspace starts a run in another. And the sharing of state.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::guard::Caller;
use super::jsonapi::{Answer, ApiError, created, empty, one, page};
use super::lifecycle::{self, NewRun};
use super::organizations::{Parameters, query};
use super::views::{View, time};
use super::world::{Wishes, World};
use crate::ids;

/// The most workspaces whose applies start runs in one: the vendor's limit.
const MOST_SOURCES: usize = 20;

/// Source of the runs that a trigger starts.
const SOURCE: &str = "tfe-run-trigger";

/// A run trigger.
#[derive(Debug, Clone)]
pub(crate) struct RunTrigger {
    pub(crate) id: String,
    /// Where the run starts.
    pub(crate) workspace_id: String,
    /// Where the apply happens.
    pub(crate) source_id: String,
    pub(crate) created_at: Timestamp,
}

pub(crate) async fn list(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let query = query(parameters);
    let world = cloud.world();
    world.workspaces.get(&id).ok_or_else(ApiError::not_found)?;
    let side: fn(&RunTrigger) -> &String = match query.text("filter[run-trigger][type]") {
        Some("inbound") => |trigger| &trigger.workspace_id,
        Some("outbound") => |trigger| &trigger.source_id,
        _ => {
            let detail = "filter[run-trigger][type] must be inbound or outbound";
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "invalid filter",
                Some(detail.to_owned()),
            ));
        }
    };
    let triggers = world.run_triggers.values();
    let triggers = triggers.filter(|trigger| *side(trigger) == id);
    let views = triggers.map(|trigger| view(&world, trigger)).collect();
    Ok(page(views, &query))
}

pub(crate) async fn create(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    // The vendor's documents send no type here.
    let document: Value = serde_json::from_slice(&body).unwrap_or_default();
    let source = document["data"]["relationships"]["sourceable"]["data"]["id"]
        .as_str()
        .unwrap_or_default();
    let mut world = cloud.world();
    for id in [id.as_str(), source] {
        world.workspaces.get(id).ok_or_else(ApiError::not_found)?;
    }
    if id == source {
        return Err(ApiError::invalid("Sourceable cannot be the workspace"));
    }
    let mut inbound = world
        .run_triggers
        .values()
        .filter(|trigger| trigger.workspace_id == id);
    if inbound.any(|trigger| trigger.source_id == source) {
        return Err(ApiError::invalid("Sourceable has already been taken"));
    }
    let inbound = world
        .run_triggers
        .values()
        .filter(|trigger| trigger.workspace_id == id);
    if inbound.count() >= MOST_SOURCES {
        return Err(ApiError::invalid("The workspace has too many sources"));
    }
    let trigger = RunTrigger {
        id: ids::id("rt"),
        workspace_id: id,
        source_id: source.to_owned(),
        created_at: Timestamp::now(),
    };
    let resource = view(&world, &trigger);
    world.run_triggers.insert(trigger.id.clone(), trigger);
    Ok(created(resource))
}

pub(crate) async fn read(State(cloud): State<Arc<Cloud>>, Path(id): Path<String>) -> Answer {
    let world = cloud.world();
    let trigger = world
        .run_triggers
        .get(&id)
        .ok_or_else(ApiError::not_found)?;
    Ok(one(view(&world, trigger)))
}

pub(crate) async fn delete(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let removed = cloud.world().run_triggers.remove(&id);
    removed.ok_or_else(ApiError::not_found)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn view(world: &World, trigger: &RunTrigger) -> Value {
    let name = |id: &str| {
        let workspace = world.workspaces.get(id);
        workspace.map(|workspace| workspace.name.clone())
    };
    json!({
        "id": trigger.id,
        "type": "run-triggers",
        "attributes": {
            "created-at": time(trigger.created_at),
            "workspace-name": name(&trigger.workspace_id),
            "sourceable-name": name(&trigger.source_id),
        },
        "relationships": {
            "workspace": {"data": {"id": trigger.workspace_id, "type": "workspaces"}},
            "sourceable": {"data": {"id": trigger.source_id, "type": "workspaces"}},
        },
        "links": {"self": format!("/api/v2/run-triggers/{}", trigger.id)},
    })
}

/// A run was applied: the workspaces behind it get runs of their latest configuration, which
/// apply by themselves when they are set so.
pub(crate) fn applied(cloud: &Arc<Cloud>, world: &mut World, run_id: &str) {
    let Some(run) = world.runs.get(run_id) else {
        return;
    };
    let (source, by) = (run.workspace_id.clone(), run.created_by.clone());
    let name = world
        .workspaces
        .get(&source)
        .map_or(source.clone(), |workspace| workspace.name.clone());
    let downstream: Vec<String> = world
        .run_triggers
        .values()
        .filter(|trigger| trigger.source_id == source)
        .map(|trigger| trigger.workspace_id.clone())
        .collect();
    for workspace_id in downstream {
        let Some(workspace) = world.workspaces.get(&workspace_id) else {
            continue;
        };
        let Some(configuration_id) = workspace.latest_configuration.clone() else {
            continue;
        };
        let wishes = Wishes {
            message: format!("Triggered by run {run_id} in workspace {name}"),
            auto_apply: workspace.settings.auto_apply_run_trigger,
            refresh: true,
            ..Wishes::default()
        };
        let new = NewRun {
            workspace_id,
            configuration_id,
            created_by: by.clone(),
            source: SOURCE,
            wishes,
        };
        // A stand-in that is full of runs starts no more.
        let _ = lifecycle::create(cloud, world, new);
    }
}

/// The workspaces that may read a workspace's state.
pub(crate) async fn consumers(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = cloud.world();
    let workspace = world.workspaces.get(&id).ok_or_else(ApiError::not_found)?;
    let view = View {
        cloud: &cloud,
        rights: caller.rights(),
    };
    let consumers = workspace
        .consumers
        .iter()
        .filter_map(|id| world.workspaces.get(id));
    let consumers = consumers.map(|workspace| view.workspace(workspace));
    Ok(page(consumers.collect(), &query(parameters)))
}

/// Lets more workspaces read a workspace's state.
pub(crate) async fn add_consumers(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let document: Value = serde_json::from_slice(&body).unwrap_or_default();
    let ids = document["data"].as_array().into_iter().flatten();
    let ids: Vec<String> = ids
        .filter_map(|entry| entry["id"].as_str().map(str::to_owned))
        .collect();
    let mut world = cloud.world();
    if ids.iter().any(|id| !world.workspaces.contains_key(id)) {
        return Err(ApiError::not_found());
    }
    let workspace = world
        .workspaces
        .get_mut(&id)
        .ok_or_else(ApiError::not_found)?;
    workspace.consumers.extend(ids);
    Ok(empty(StatusCode::NO_CONTENT))
}
