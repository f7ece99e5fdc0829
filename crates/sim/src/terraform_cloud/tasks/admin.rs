//! Run tasks of the organization, and what of them is attached to workspaces.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::cloud::Cloud;
use super::super::guard::Caller;
use super::super::jsonapi::{Answer, ApiError, Resource, created, empty, one, page};
use super::super::organizations::{Parameters, known, query};
use super::{Enforcement, RunTask, StageName, WorkspaceTask, calls};
use crate::ids;

/// The most run tasks of the organization: the vendor's limit in the entitlements.
const MOST_TASKS: usize = 10;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct TaskAttributes {
    name: Option<String>,
    url: Option<String>,
    description: Option<String>,
    category: Option<String>,
    hmac_key: Option<String>,
    enabled: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct AttachmentAttributes {
    enforcement_level: Option<Enforcement>,
    /// The older spelling, for one stage.
    stage: Option<StageName>,
    stages: Option<Vec<StageName>>,
}

pub(crate) async fn list(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
    parameters: Parameters,
) -> Answer {
    known(&cloud, &organization)?;
    caller.needs(caller.rights().administer)?;
    let world = cloud.world();
    let tasks = world.run_tasks.values().map(|task| view(&cloud, task));
    Ok(page(tasks.collect(), &query(parameters)))
}

pub(crate) async fn create(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
    body: Bytes,
) -> Answer {
    known(&cloud, &organization)?;
    caller.needs(caller.rights().administer)?;
    let attributes: TaskAttributes = Resource::read(&body, "tasks")?.attributes()?;
    if attributes.category.as_deref() != Some("task") {
        return Err(ApiError::invalid("Category must be task"));
    }
    let task = changed(calls::draft(), attributes)?;
    tried(&task).await?;
    let mut world = cloud.world();
    if world.run_tasks.len() >= MOST_TASKS {
        return Err(ApiError::invalid("The organization has no room for a task"));
    }
    if world
        .run_tasks
        .values()
        .any(|other| other.name == task.name)
    {
        return Err(ApiError::invalid("Name has already been taken"));
    }
    let shown = view(&cloud, &task);
    world.run_tasks.insert(task.id.clone(), task);
    Ok(created(shown))
}

pub(crate) async fn read(
    State(cloud): State<Arc<Cloud>>,
    Extension(_): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let world = cloud.world();
    let task = world.run_tasks.get(&id).ok_or_else(ApiError::not_found)?;
    Ok(one(view(&cloud, task)))
}

pub(crate) async fn update(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let attributes: TaskAttributes = Resource::read(&body, "tasks")?.attributes()?;
    let before = cloud.world().run_tasks.get(&id).cloned();
    let task = changed(before.ok_or_else(ApiError::not_found)?, attributes)?;
    tried(&task).await?;
    let shown = view(&cloud, &task);
    cloud.world().run_tasks.insert(id, task);
    Ok(one(shown))
}

/// Deletes a task, and takes it from every workspace.
pub(crate) async fn delete(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let mut world = cloud.world();
    world
        .run_tasks
        .remove(&id)
        .ok_or_else(ApiError::not_found)?;
    for workspace in world.workspaces.values_mut() {
        workspace.tasks.retain(|attached| attached.task_id != id);
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn list_attached(
    State(cloud): State<Arc<Cloud>>,
    Path(workspace_id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = cloud.world();
    let workspace = world
        .workspaces
        .get(&workspace_id)
        .ok_or_else(ApiError::not_found)?;
    let attached = workspace
        .tasks
        .iter()
        .map(|task| view_attached(&workspace_id, task));
    Ok(page(attached.collect(), &query(parameters)))
}

pub(crate) async fn attach(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(workspace_id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let request = Resource::read(&body, "workspace-tasks")?;
    let attributes: AttachmentAttributes = request.attributes()?;
    let task_id = request.related("task").ok_or_else(ApiError::not_found)?;
    let mut world = cloud.world();
    if !world.run_tasks.contains_key(task_id) {
        return Err(ApiError::not_found());
    }
    let workspace = world
        .workspaces
        .get_mut(&workspace_id)
        .ok_or_else(ApiError::not_found)?;
    if workspace.tasks.iter().any(|task| task.task_id == task_id) {
        return Err(ApiError::invalid("Task has already been attached"));
    }
    let mut task = WorkspaceTask {
        id: ids::id("wstask"),
        task_id: task_id.to_owned(),
        enforcement: Enforcement::Advisory,
        stages: vec![StageName::PostPlan],
    };
    reattached(&mut task, attributes)?;
    let shown = view_attached(&workspace_id, &task);
    workspace.tasks.push(task);
    Ok(created(shown))
}

pub(crate) async fn update_attached(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path((workspace_id, id)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let attributes = Resource::read(&body, "workspace-tasks")?.attributes()?;
    let mut world = cloud.world();
    let workspace = world.workspaces.get_mut(&workspace_id);
    let task = workspace.and_then(|workspace| {
        let mut tasks = workspace.tasks.iter_mut();
        tasks.find(|task| task.id == id)
    });
    let task = task.ok_or_else(ApiError::not_found)?;
    reattached(task, attributes)?;
    Ok(one(view_attached(&workspace_id, task)))
}

pub(crate) async fn read_attached(
    State(cloud): State<Arc<Cloud>>,
    Path((workspace_id, id)): Path<(String, String)>,
) -> Answer {
    let world = cloud.world();
    let workspace = world.workspaces.get(&workspace_id);
    let task = workspace.and_then(|workspace| workspace.tasks.iter().find(|task| task.id == id));
    let task = task.ok_or_else(ApiError::not_found)?;
    Ok(one(view_attached(&workspace_id, task)))
}

pub(crate) async fn detach(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path((workspace_id, id)): Path<(String, String)>,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let mut world = cloud.world();
    let workspace = world
        .workspaces
        .get_mut(&workspace_id)
        .ok_or_else(ApiError::not_found)?;
    let before = workspace.tasks.len();
    workspace.tasks.retain(|task| task.id != id);
    if workspace.tasks.len() == before {
        return Err(ApiError::not_found());
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// A task with what a request says of it.
fn changed(mut task: RunTask, attributes: TaskAttributes) -> Result<RunTask, ApiError> {
    let TaskAttributes {
        name,
        url,
        description,
        hmac_key,
        enabled,
        category: _,
    } = attributes;
    task.name = name.unwrap_or(task.name);
    task.url = url.unwrap_or(task.url);
    task.description = description.unwrap_or(task.description);
    task.enabled = enabled.unwrap_or(task.enabled);
    if let Some(key) = hmac_key {
        task.hmac_key = (!key.is_empty()).then_some(key);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if task.name.is_empty() || !task.name.bytes().all(plain) {
        return Err(ApiError::invalid(
            "Name can only include letters, numbers, -, and _",
        ));
    }
    if !task.url.starts_with("http") {
        return Err(ApiError::invalid("URL is invalid"));
    }
    Ok(task)
}

/// Keeps no task whose address does not answer.
async fn tried(task: &RunTask) -> Result<(), ApiError> {
    if !task.enabled || calls::answers(task).await {
        return Ok(());
    }
    Err(ApiError::invalid(
        "URL could not be verified: it must answer with 200",
    ))
}

fn reattached(task: &mut WorkspaceTask, attributes: AttachmentAttributes) -> Result<(), ApiError> {
    if let Some(level) = attributes.enforcement_level {
        task.enforcement = level;
    }
    let stages = attributes
        .stages
        .or_else(|| attributes.stage.map(|stage| vec![stage]));
    if let Some(mut stages) = stages {
        stages.sort_unstable();
        stages.dedup();
        if stages.is_empty() {
            return Err(ApiError::invalid("Stages can't be blank"));
        }
        task.stages = stages;
    }
    Ok(())
}

fn view(cloud: &Cloud, task: &RunTask) -> Value {
    json!({
        "id": task.id,
        "type": "tasks",
        "attributes": {
            "category": "task",
            "description": task.description,
            "enabled": task.enabled,
            "hmac-key": null,
            "name": task.name,
            "url": task.url,
            "global-configuration": null,
        },
        "relationships": {
            "organization": {"data": {"id": cloud.organization, "type": "organizations"}},
        },
        "links": {"self": format!("/api/v2/tasks/{}", task.id)},
    })
}

fn view_attached(workspace_id: &str, task: &WorkspaceTask) -> Value {
    json!({
        "id": task.id,
        "type": "workspace-tasks",
        "attributes": {
            "enforcement-level": task.enforcement,
            "stage": task.stages.first(),
            "stages": task.stages,
        },
        "relationships": {
            "task": {"data": {"id": task.task_id, "type": "tasks"}},
            "workspace": {"data": {"id": workspace_id, "type": "workspaces"}},
        },
        "links": {"self": format!("/api/v2/workspaces/{workspace_id}/tasks/{}", task.id)},
    })
}
