//! Runs: made, read, confirmed, discarded, canceled and commented on.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::config::{ExecutionMode, Rights};
use super::configurations::source;
use super::guard::Caller;
use super::jsonapi::{
    Answer, ApiError, Query, Resource, answer, created, empty, one, one_with, page_with,
};
use super::lifecycle::{self, NewRun};
use super::organizations::{Parameters, known, query};
use super::tasks::results::view_stage;
use super::views::{View, user};
use super::world::{Comment, Run, RunStatus, RunVariable, Wishes, World};
use crate::ids;

/// The most comments on one run.
const MOST_COMMENTS: usize = 1_000;

/// What a request says about a run.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RunAttributes {
    message: Option<String>,
    auto_apply: Option<bool>,
    is_destroy: Option<bool>,
    plan_only: Option<bool>,
    save_plan: Option<bool>,
    refresh: Option<bool>,
    refresh_only: Option<bool>,
    allow_empty_apply: Option<bool>,
    target_addrs: Option<Vec<String>>,
    replace_addrs: Option<Vec<String>>,
    variables: Option<Vec<RunVariable>>,
    terraform_version: Option<String>,
}

pub(crate) async fn create(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().plan)?;
    let request = Resource::read(&body, "runs")?;
    let attributes: RunAttributes = request.attributes()?;
    let workspace_id = request
        .related("workspace")
        .ok_or_else(ApiError::not_found)?
        .to_owned();
    let mut world = cloud.world();
    let (configuration_id, wishes) = wishes(
        &world,
        attributes,
        &workspace_id,
        request.related("configuration-version"),
        !cloud.downgrade_auto_apply || caller.rights().apply,
        cloud.honour_auto_apply,
    )?;
    let run = NewRun {
        workspace_id,
        configuration_id,
        created_by: caller.name(),
        source: source(&headers),
        wishes,
    };
    let id = lifecycle::create(&cloud, &mut world, run)?;
    let view = View {
        cloud: &cloud,
        rights: caller.rights(),
    };
    Ok(created(view.run(&world.runs[&id])))
}

/// Works out what a run will do, by the vendor's rules.
fn wishes(
    world: &World,
    attributes: RunAttributes,
    workspace_id: &str,
    configuration_id: Option<&str>,
    may_auto_apply: bool,
    honour_auto_apply: bool,
) -> Result<(String, Wishes), ApiError> {
    let workspace = world
        .workspaces
        .get(workspace_id)
        .ok_or_else(ApiError::not_found)?;
    let settings = &workspace.settings;
    if settings.execution_mode == ExecutionMode::Local {
        return Err(ApiError::invalid(
            "Workspace runs are disabled: it executes locally",
        ));
    }
    // Without a configuration version, the workspace's latest is used.
    let configuration_id = configuration_id
        .map(str::to_owned)
        .or_else(|| workspace.latest_configuration.clone())
        .ok_or_else(|| ApiError::invalid("Configuration version is missing"))?;
    let configuration = world
        .configurations
        .get(&configuration_id)
        .filter(|configuration| configuration.workspace_id == workspace_id)
        .ok_or_else(|| ApiError::invalid("Configuration version does not exist"))?;
    if configuration.archive.is_none() {
        return Err(ApiError::invalid("Configuration version is not uploaded"));
    }
    let plan_only = attributes.plan_only.unwrap_or(false) || configuration.speculative;
    let save_plan = attributes.save_plan.unwrap_or(false);
    let destroy = attributes.is_destroy.unwrap_or(false);
    let refresh_only = attributes.refresh_only.unwrap_or(false);
    if destroy && !settings.allow_destroy_plan {
        return Err(ApiError::invalid(
            "Destroy plans are not allowed for this workspace",
        ));
    }
    if destroy && refresh_only {
        return Err(ApiError::invalid(
            "Refresh-only and destroy exclude each other",
        ));
    }
    if attributes.terraform_version.is_some() && !plan_only {
        return Err(ApiError::invalid(
            "Terraform version can be set only on plan-only runs",
        ));
    }
    let wished = attributes.auto_apply.filter(|_| honour_auto_apply);
    let wished = wished.unwrap_or(settings.auto_apply);
    let kind = if destroy { "destroy" } else { "run" };
    let wishes = Wishes {
        message: attributes
            .message
            .unwrap_or_else(|| format!("Triggered {kind} via API")),
        auto_apply: wished && may_auto_apply && !plan_only && !save_plan,
        destroy,
        plan_only,
        save_plan: save_plan && !plan_only,
        refresh: attributes.refresh.unwrap_or(true),
        refresh_only,
        allow_empty_apply: attributes.allow_empty_apply.unwrap_or(false),
        targets: attributes.target_addrs.unwrap_or_default(),
        replacements: attributes.replace_addrs.unwrap_or_default(),
        variables: attributes.variables.unwrap_or_default(),
        terraform_version: attributes.terraform_version,
    };
    Ok((configuration_id, wishes))
}

pub(crate) async fn read(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = cloud.world();
    let run = world.runs.get(&id).ok_or_else(ApiError::not_found)?;
    let view = View {
        cloud: &cloud,
        rights: caller.rights(),
    };
    Ok(one_with(
        view.run(run),
        included(&view, &world, run, &query(parameters)),
    ))
}

fn included(view: &View<'_>, world: &World, run: &Run, query: &Query) -> Vec<Value> {
    let mut included = Vec::new();
    if query.includes("workspace") {
        included.extend(
            world
                .workspaces
                .get(&run.workspace_id)
                .map(|w| view.workspace(w)),
        );
    }
    if query.includes("plan") {
        included.push(view.plan(run));
    }
    if query.includes("apply") {
        included.push(view.apply(run));
    }
    if query.includes("cost_estimate") {
        included.extend(view.cost_estimate(run));
    }
    if query.includes("configuration_version") {
        let configuration = world.configurations.get(&run.configuration_id);
        included.extend(configuration.map(|configuration| view.configuration(configuration)));
    }
    if query.includes("task_stages") {
        let stages = run.task_stages.iter();
        included.extend(stages.map(|stage| view_stage(run, stage)));
    }
    if query.includes("created_by") {
        included.push(user(&run.created_by));
    }
    included
}

pub(crate) async fn apply(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().apply)?;
    act(&cloud, &caller, &id, &body, |world| {
        lifecycle::confirm(&cloud, world, &id, &caller.name())
    })
}

pub(crate) async fn discard(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().plan || caller.rights().apply)?;
    act(&cloud, &caller, &id, &body, |world| {
        lifecycle::discard(&cloud, world, &id)
    })
}

pub(crate) async fn cancel(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().plan || caller.rights().apply)?;
    act(&cloud, &caller, &id, &body, |world| {
        lifecycle::cancel(&cloud, world, &id)
    })
}

/// Takes an action; the comment that came with it is kept when it was possible.
fn act(
    cloud: &Cloud,
    caller: &Caller,
    id: &str,
    body: &Bytes,
    action: impl FnOnce(&mut World) -> Result<(), ApiError>,
) -> Answer {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut world = cloud.world();
    action(&mut world)?;
    if let Some(text) = request["comment"].as_str().filter(|text| !text.is_empty()) {
        // The action stands even when there is no room for its comment.
        let _ = add_comment(&mut world, id, caller, text);
    }
    Ok(empty(StatusCode::ACCEPTED))
}

pub(crate) async fn events(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let world = cloud.world();
    let run = world.runs.get(&id).ok_or_else(ApiError::not_found)?;
    let events = View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .run_events(run);
    Ok(answer(StatusCode::OK, &json!({"data": events})))
}

pub(crate) async fn comment(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let request = Resource::read(&body, "comments")?;
    let text = request.raw_attributes()["body"]
        .as_str()
        .filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| ApiError::invalid("Body can't be blank"))?;
    let mut world = cloud.world();
    let comment = add_comment(&mut world, &id, &caller, text)?;
    Ok(created(
        View {
            cloud: &cloud,
            rights: caller.rights(),
        }
        .comment(&comment),
    ))
}

fn add_comment(
    world: &mut World,
    run_id: &str,
    caller: &Caller,
    text: &str,
) -> Result<Comment, ApiError> {
    let run = world.runs.get_mut(run_id).ok_or_else(ApiError::not_found)?;
    if run.comments.len() >= MOST_COMMENTS {
        return Err(ApiError::invalid(
            "The stand-in keeps no more comments on a run",
        ));
    }
    let comment = Comment {
        id: ids::id("wsc"),
        body: text.to_owned(),
        author: caller.name(),
        created_at: Timestamp::now(),
    };
    run.comments.push(comment.clone());
    world.run_of.insert(comment.id.clone(), run_id.to_owned());
    Ok(comment)
}

pub(crate) async fn list_comments(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
) -> Answer {
    let world = cloud.world();
    let run = world.runs.get(&id).ok_or_else(ApiError::not_found)?;
    let view = View {
        cloud: &cloud,
        rights: Rights::NONE,
    };
    let comments: Vec<Value> = run
        .comments
        .iter()
        .map(|comment| view.comment(comment))
        .collect();
    Ok(answer(StatusCode::OK, &json!({"data": comments})))
}

pub(crate) async fn read_comment(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
) -> Answer {
    let world = cloud.world();
    let run = world
        .run_of
        .get(&id)
        .and_then(|run_id| world.runs.get(run_id));
    let comments = run.map(|run| run.comments.as_slice()).unwrap_or_default();
    let comment = comments.iter().find(|comment| comment.id == id);
    let comment = comment.ok_or_else(ApiError::not_found)?;
    Ok(one(View {
        cloud: &cloud,
        rights: Rights::NONE,
    }
    .comment(comment)))
}

pub(crate) async fn of_workspace(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Answer {
    cloud
        .world()
        .workspaces
        .get(&id)
        .ok_or_else(ApiError::not_found)?;
    Ok(list(&cloud, &caller, Some(&id), &query(parameters), |_| {
        true
    }))
}

pub(crate) async fn of_organization(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
    parameters: Parameters,
) -> Answer {
    known(&cloud, &organization)?;
    Ok(list(&cloud, &caller, None, &query(parameters), |_| true))
}

/// The runs of the organization that wait for a worker.
pub(crate) async fn queue(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
    parameters: Parameters,
) -> Answer {
    known(&cloud, &organization)?;
    let waits = |run: &Run| {
        matches!(
            run.status,
            RunStatus::Pending
                | RunStatus::PlanQueued
                | RunStatus::Planning
                | RunStatus::ApplyQueued
                | RunStatus::Applying
        )
    };
    Ok(list(&cloud, &caller, None, &query(parameters), waits))
}

fn list(
    cloud: &Cloud,
    caller: &Caller,
    workspace_id: Option<&str>,
    query: &Query,
    fits: impl Fn(&Run) -> bool,
) -> axum::response::Response {
    let view = View {
        cloud,
        rights: caller.rights(),
    };
    let world = cloud.world();
    let status = query.text("filter[status]");
    let wanted = |run: &&Run| {
        fits(run) && status.is_none_or(|list| list.split(',').any(|name| name == run.status.name()))
    };
    let runs = world
        .runs_newest_first(workspace_id)
        .into_iter()
        .filter(wanted);
    let shown = runs.map(|run| (view.run(run), included(&view, &world, run, query)));
    page_with(shown.collect(), query)
}
