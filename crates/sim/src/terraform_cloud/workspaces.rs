//! Workspaces: settings, locks, tags and variables.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::config::Settings;
use super::guard::Caller;
use super::jsonapi::{Answer, ApiError, Query, Resource, answer, created, one, one_with, page};
use super::lifecycle;
use super::organizations::{Parameters, known, query};
use super::views::View;
use super::world::{Lock, Workspace, World};
use crate::ids;

/// The most workspaces, and the most variables or tags of one.
const MOST: usize = 1_000;

pub(crate) async fn list(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
    parameters: Parameters,
) -> Answer {
    known(&cloud, &organization)?;
    let query = query(parameters);
    let view = View {
        cloud: &cloud,
        rights: caller.rights(),
    };
    let world = cloud.world();
    let fits = |workspace: &&Workspace| {
        let name = query
            .text("search[name]")
            .is_none_or(|part| workspace.name.contains(part));
        let tags = query.text("search[tags]").is_none_or(|wanted| {
            wanted
                .split(',')
                .all(|tag| workspace.tags.iter().any(|(key, _)| key == tag))
        });
        name && tags
    };
    let workspaces = world
        .workspaces
        .values()
        .filter(fits)
        .map(|w| view.workspace(w))
        .collect();
    Ok(page(workspaces, &query))
}

pub(crate) async fn read_by_name(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path((organization, name)): Path<(String, String)>,
    parameters: Parameters,
) -> Answer {
    known(&cloud, &organization)?;
    let world = cloud.world();
    let workspace = named(&world, &name)?;
    Ok(shown(
        &cloud,
        &caller,
        &world,
        workspace,
        &query(parameters),
    ))
}

pub(crate) async fn read(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = cloud.world();
    let workspace = world.workspaces.get(&id).ok_or_else(ApiError::not_found)?;
    Ok(shown(
        &cloud,
        &caller,
        &world,
        workspace,
        &query(parameters),
    ))
}

fn shown(
    cloud: &Cloud,
    caller: &Caller,
    world: &World,
    workspace: &Workspace,
    query: &Query,
) -> axum::response::Response {
    let view = View {
        cloud,
        rights: caller.rights(),
    };
    let mut included = Vec::new();
    if query.includes("current_run") {
        let run = workspace
            .current_run
            .as_ref()
            .and_then(|id| world.runs.get(id));
        included.extend(run.map(|run| view.run(run)));
    }
    if query.includes("outputs") && caller.rights().read_state {
        let outputs = world
            .current_state(&workspace.id)
            .map(|state| state.outputs.iter());
        included.extend(
            outputs
                .into_iter()
                .flatten()
                .map(|output| view.output(output, true)),
        );
    }
    one_with(view.workspace(workspace), included)
}

/// Makes a workspace, as `terraform init` does when there is none of the name.
pub(crate) async fn create(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
    body: Bytes,
) -> Answer {
    known(&cloud, &organization)?;
    caller.needs(caller.rights().administer)?;
    let request = Resource::read(&body, "workspaces")?;
    let name = request.raw_attributes()["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 90 || !name.chars().all(legal) {
        return Err(ApiError::invalid("Name is invalid"));
    }
    let mut world = cloud.world();
    if named(&world, &name).is_ok() {
        return Err(ApiError::invalid("Name has already been taken"));
    }
    if world.workspaces.len() >= MOST {
        return Err(ApiError::invalid("The stand-in keeps no more workspaces"));
    }
    let mut settings = Settings::default();
    merge_settings(&mut settings, request.raw_attributes(), false)?;
    let now = Timestamp::now();
    let workspace = Workspace {
        id: ids::id("ws"),
        name,
        settings,
        created_at: now,
        updated_at: now,
        lock: Lock::Free,
        current_state: None,
        current_run: None,
        latest_configuration: None,
        queue: std::collections::VecDeque::new(),
        variables: Vec::new(),
        tags: Vec::new(),
        consumers: Default::default(),
        tasks: Vec::new(),
        policy: None,
        secret: None,
    };
    let resource = View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .workspace(&workspace);
    world.workspaces.insert(workspace.id.clone(), workspace);
    Ok(created(resource))
}

pub(crate) async fn update(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    updated(&cloud, &caller, &id, &body)
}

pub(crate) async fn update_by_name(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path((organization, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    known(&cloud, &organization)?;
    let id = named(&cloud.world(), &name)?.id.clone();
    updated(&cloud, &caller, &id, &body)
}

fn updated(cloud: &Cloud, caller: &Caller, id: &str, body: &Bytes) -> Answer {
    caller.needs(caller.rights().administer)?;
    let request = Resource::read(body, "workspaces")?;
    let mut world = cloud.world();
    let renamed = request.raw_attributes()["name"].as_str();
    if renamed.is_some_and(|name| named(&world, name).is_ok_and(|other| other.id != id)) {
        return Err(ApiError::invalid("Name has already been taken"));
    }
    let workspace = world
        .workspaces
        .get_mut(id)
        .ok_or_else(ApiError::not_found)?;
    if let Some(name) = renamed {
        workspace.name = name.to_owned();
    }
    merge_settings(&mut workspace.settings, request.raw_attributes(), false)?;
    workspace.updated_at = Timestamp::now();
    Ok(one(View {
        cloud,
        rights: caller.rights(),
    }
    .workspace(workspace)))
}

/// Changes those settings that are named; when `strict`, a name that is no setting is an error.
pub(crate) fn merge_settings(
    settings: &mut Settings,
    change: &Value,
    strict: bool,
) -> Result<(), ApiError> {
    let mut merged =
        serde_json::to_value(&*settings).map_err(|error| ApiError::invalid(error.to_string()))?;
    for (name, value) in change.as_object().into_iter().flatten() {
        if strict || merged.get(name).is_some() {
            merged[name] = value.clone();
        }
    }
    *settings =
        serde_json::from_value(merged).map_err(|error| ApiError::invalid(error.to_string()))?;
    Ok(())
}

fn named<'a>(world: &'a World, name: &str) -> Result<&'a Workspace, ApiError> {
    let mut workspaces = world.workspaces.values();
    workspaces
        .find(|workspace| workspace.name == name)
        .ok_or_else(ApiError::not_found)
}

pub(crate) async fn lock(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().apply)?;
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut world = cloud.world();
    let workspace = world
        .workspaces
        .get_mut(&id)
        .ok_or_else(ApiError::not_found)?;
    if workspace.lock != Lock::Free {
        return Err(ApiError::conflict(
            "conflict",
            "Unable to lock workspace. The workspace is already locked.",
        ));
    }
    let reason = request["reason"].as_str().unwrap_or_default().to_owned();
    workspace.lock = Lock::User {
        credential: caller.name(),
        reason,
    };
    Ok(one(View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .workspace(workspace)))
}

pub(crate) async fn unlock(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().apply)?;
    let by_caller =
        |lock: &Lock| matches!(lock, Lock::User { credential, .. } if *credential == caller.name());
    released(&cloud, &caller, &id, by_caller)
}

pub(crate) async fn force_unlock(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    released(&cloud, &caller, &id, |lock| {
        matches!(lock, Lock::User { .. })
    })
}

fn released(cloud: &Arc<Cloud>, caller: &Caller, id: &str, may: impl Fn(&Lock) -> bool) -> Answer {
    let mut world = cloud.world();
    let workspace = world
        .workspaces
        .get_mut(id)
        .ok_or_else(ApiError::not_found)?;
    let detail = match &workspace.lock {
        lock if may(lock) => None,
        Lock::Free => Some("Unable to unlock workspace. The workspace is already unlocked."),
        Lock::Run(_) => Some("Unable to unlock workspace. The workspace is locked by Run."),
        Lock::User { .. } => Some("Unable to unlock workspace. The workspace is locked by User."),
    };
    if let Some(detail) = detail {
        return Err(ApiError::conflict("conflict", detail));
    }
    workspace.lock = Lock::Free;
    let resource = View {
        cloud,
        rights: caller.rights(),
    }
    .workspace(workspace);
    lifecycle::schedule(cloud, &mut world, id);
    Ok(one(resource))
}

pub(crate) async fn tag_bindings(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
) -> Answer {
    let world = cloud.world();
    let workspace = world.workspaces.get(&id).ok_or_else(ApiError::not_found)?;
    Ok(answer(
        StatusCode::OK,
        &json!({"data": bindings(workspace)}),
    ))
}

pub(crate) async fn add_tag_bindings(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut world = cloud.world();
    let workspace = world
        .workspaces
        .get_mut(&id)
        .ok_or_else(ApiError::not_found)?;
    for binding in request["data"].as_array().into_iter().flatten() {
        let Some(key) = binding["attributes"]["key"].as_str() else {
            return Err(ApiError::invalid("Key is missing"));
        };
        let value = binding["attributes"]["value"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        workspace.tags.retain(|(other, _)| other != key);
        if workspace.tags.len() >= MOST {
            return Err(ApiError::invalid("The stand-in keeps no more tags"));
        }
        workspace.tags.push((key.to_owned(), value));
    }
    Ok(answer(
        StatusCode::OK,
        &json!({"data": bindings(workspace)}),
    ))
}

fn bindings(workspace: &Workspace) -> Vec<Value> {
    let binding = |(key, value): &(String, String)| {
        json!({
            "id": format!("tag-{key}"),
            "type": "tag-bindings",
            "attributes": {"key": key, "value": value},
        })
    };
    workspace.tags.iter().map(binding).collect()
}
