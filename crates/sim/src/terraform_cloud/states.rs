//! State versions and outputs, with what the CLI needs to push a state and to roll back.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::guard::Caller;
use super::jsonapi::{Answer, ApiError, Resource, answer, created, one, page};
use super::lifecycle;
use super::organizations::{Parameters, known, query};
use super::state_version::{StateVersion, with_serial};
use super::views::View;
use super::world::{Lock, World};
use crate::ids;

/// The most state versions that a stand-in keeps.
const MOST_STATES: usize = 20_000;

pub(crate) async fn current(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(workspace_id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().read_state)?;
    let world = cloud.world();
    let state = world
        .current_state(&workspace_id)
        .ok_or_else(ApiError::not_found)?;
    Ok(one(View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .state_version(state)))
}

pub(crate) async fn current_outputs(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(workspace_id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().read_state)?;
    let world = cloud.world();
    let state = world
        .current_state(&workspace_id)
        .ok_or_else(ApiError::not_found)?;
    Ok(output_list(&cloud, &caller, state))
}

pub(crate) async fn of_workspace(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(workspace_id): Path<String>,
    parameters: Parameters,
) -> Answer {
    caller.needs(caller.rights().read_state)?;
    let world = cloud.world();
    world
        .workspaces
        .get(&workspace_id)
        .ok_or_else(ApiError::not_found)?;
    Ok(state_list(
        &cloud,
        &caller,
        &world,
        &workspace_id,
        parameters,
    ))
}

pub(crate) async fn list(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
) -> Answer {
    caller.needs(caller.rights().read_state)?;
    let filter = query(parameters.clone());
    known(
        &cloud,
        filter
            .text("filter[organization][name]")
            .unwrap_or_default(),
    )?;
    let name = filter.text("filter[workspace][name]").unwrap_or_default();
    let world = cloud.world();
    let workspace = world
        .workspaces
        .values()
        .find(|workspace| workspace.name == name);
    let workspace_id = workspace.ok_or_else(ApiError::not_found)?.id.clone();
    Ok(state_list(
        &cloud,
        &caller,
        &world,
        &workspace_id,
        parameters,
    ))
}

fn state_list(
    cloud: &Cloud,
    caller: &Caller,
    world: &World,
    workspace_id: &str,
    parameters: Parameters,
) -> axum::response::Response {
    let view = View {
        cloud,
        rights: caller.rights(),
    };
    let states = world.states_newest_first(workspace_id);
    let states = states.into_iter().filter(|state| !state.content.is_empty());
    page(
        states.map(|state| view.state_version(state)).collect(),
        &query(parameters),
    )
}

pub(crate) async fn read(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().read_state)?;
    let world = cloud.world();
    let state = world
        .state_versions
        .get(&id)
        .ok_or_else(ApiError::not_found)?;
    Ok(one(View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .state_version(state)))
}

pub(crate) async fn outputs(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().read_state)?;
    let world = cloud.world();
    let state = world
        .state_versions
        .get(&id)
        .ok_or_else(ApiError::not_found)?;
    Ok(output_list(&cloud, &caller, state))
}

fn output_list(cloud: &Cloud, caller: &Caller, state: &StateVersion) -> axum::response::Response {
    let view = View {
        cloud,
        rights: caller.rights(),
    };
    let outputs: Vec<Value> = state
        .outputs
        .iter()
        .map(|output| view.output(output, true))
        .collect();
    answer(StatusCode::OK, &json!({"data": outputs}))
}

/// One output; as at the vendor, a sensitive value stands there in clear text.
pub(crate) async fn output(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().read_state)?;
    let world = cloud.world();
    let mut outputs = world
        .state_versions
        .values()
        .flat_map(|state| &state.outputs);
    let output = outputs
        .find(|output| output.id == id)
        .ok_or_else(ApiError::not_found)?;
    Ok(one(View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .output(output, false)))
}

/// What a request says about a state version.
#[derive(Debug, Deserialize)]
struct StateAttributes {
    serial: u64,
    md5: Option<String>,
    lineage: Option<String>,
    state: Option<String>,
    force: Option<bool>,
}

pub(crate) async fn create(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(workspace_id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().apply)?;
    let request = Resource::read(&body, "state-versions")?;
    let attributes: StateAttributes = request.attributes()?;
    if attributes.md5.is_none() {
        return Err(ApiError::invalid("md5 is missing"));
    }
    let mut world = cloud.world();
    needs_lock(&world, &workspace_id, &caller)?;
    let current = world.current_state(&workspace_id);
    if let Some(current) = current.filter(|_| attributes.force != Some(true)) {
        let other_lineage = attributes
            .lineage
            .as_ref()
            .is_some_and(|l| *l != current.lineage);
        if other_lineage || attributes.serial < current.serial {
            return Err(ApiError::conflict(
                "conflict",
                "The state's lineage or serial does not fit",
            ));
        }
    }
    let mut state = StateVersion {
        id: ids::id("sv"),
        number: world.next_number(),
        workspace_id,
        run_id: None,
        created_by: caller.name(),
        created_at: Timestamp::now(),
        serial: attributes.serial,
        lineage: attributes.lineage.unwrap_or_default(),
        terraform_version: String::new(),
        content: Bytes::new(),
        outputs: Vec::new(),
        resources: 0,
    };
    if let Some(inline) = attributes.state {
        let content = STANDARD.decode(inline).ok().map(Bytes::from);
        let filled = content.and_then(|content| state.fill(content));
        filled.ok_or_else(|| ApiError::invalid("State is not a state file"))?;
    }
    let resource = View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .state_version(&state);
    keep(&mut world, state)?;
    Ok(created(resource))
}

/// Takes the upload of a state that was announced; it becomes the current one.
pub(crate) fn store(cloud: &Cloud, id: &str, content: Bytes) -> bool {
    let mut world = cloud.world();
    let Some(state) = world.state_versions.get(id) else {
        return false;
    };
    if !state.content.is_empty() {
        return false;
    }
    let mut state = state.clone();
    let filled = state.fill(content).is_some();
    if filled {
        world.add_state(state);
    }
    filled
}

/// Takes the JSON form of a state; it is made of the state itself here, so it is not kept.
pub(crate) fn store_json(cloud: &Cloud, id: &str) -> bool {
    cloud.world().state_versions.contains_key(id)
}

/// Makes an earlier state version the current one again, as a new version.
pub(crate) async fn roll_back(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(workspace_id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().apply)?;
    let request = Resource::read(&body, "state-versions")?;
    let mut world = cloud.world();
    needs_lock(&world, &workspace_id, &caller)?;
    let earlier = request
        .related("rollback-state-version")
        .and_then(|id| world.state_versions.get(id))
        .filter(|state| state.workspace_id == workspace_id && !state.content.is_empty());
    let earlier = earlier.ok_or_else(ApiError::not_found)?;
    let serial = world
        .current_state(&workspace_id)
        .map_or(0, |current| current.serial)
        + 1;
    let content = with_serial(&earlier.content, serial)
        .ok_or_else(|| ApiError::invalid("State is not a state file"))?;
    let state = StateVersion::new(&mut world, &workspace_id, &caller.name(), content)
        .ok_or_else(|| ApiError::invalid("State is not a state file"))?;
    let resource = View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .state_version(&state);
    keep(&mut world, state)?;
    lifecycle::discard_saved_plans(&cloud, &mut world, &workspace_id);
    Ok(created(resource))
}

/// Keeps a state version; one with content becomes the current one.
fn keep(world: &mut World, state: StateVersion) -> Result<(), ApiError> {
    if world.state_versions.len() >= MOST_STATES {
        return Err(ApiError::invalid(
            "The stand-in keeps no more state versions",
        ));
    }
    if state.content.is_empty() {
        world.state_versions.insert(state.id.clone(), state);
    } else {
        world.add_state(state);
    }
    Ok(())
}

fn needs_lock(world: &World, workspace_id: &str, caller: &Caller) -> Result<(), ApiError> {
    let workspace = world
        .workspaces
        .get(workspace_id)
        .ok_or_else(ApiError::not_found)?;
    match &workspace.lock {
        Lock::User { credential, .. } if *credential == caller.name() => Ok(()),
        _ => Err(ApiError::conflict(
            "conflict",
            "The workspace must be locked by you",
        )),
    }
}
