//! Configuration versions and their uploads.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::archivist::Object;
use super::cloud::Cloud;
use super::guard::Caller;
use super::jsonapi::{Answer, ApiError, Resource, created, empty, one, page};
use super::lifecycle::{self, NewRun};
use super::organizations::{Parameters, query};
use super::views::View;
use super::world::{ConfigurationVersion, Wishes};
use crate::ids;

/// The most configuration versions that a stand-in keeps.
const MOST_CONFIGURATIONS: usize = 20_000;
/// The most bytes of all uploads together.
const MOST_UPLOAD_BYTES: usize = 1 << 30;

/// What a request says about a configuration version.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ConfigurationAttributes {
    auto_queue_runs: Option<bool>,
    speculative: Option<bool>,
    provisional: Option<bool>,
}

pub(crate) async fn create(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(workspace_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().plan)?;
    let attributes: ConfigurationAttributes =
        Resource::read(&body, "configuration-versions")?.attributes()?;
    let mut world = cloud.world();
    world
        .workspaces
        .get(&workspace_id)
        .ok_or_else(ApiError::not_found)?;
    if world.configurations.len() >= MOST_CONFIGURATIONS {
        return Err(ApiError::invalid(
            "The stand-in keeps no more configuration versions",
        ));
    }
    let configuration = ConfigurationVersion {
        id: ids::id("cv"),
        number: world.next_number(),
        workspace_id,
        created_by: caller.name(),
        // The vendor's defaults: an upload alone starts a run.
        auto_queue_runs: attributes.auto_queue_runs.unwrap_or(true),
        speculative: attributes.speculative.unwrap_or(false),
        provisional: attributes.provisional.unwrap_or(false),
        source: source(&headers),
        archive: None,
        created_at: Timestamp::now(),
        uploaded_at: None,
    };
    let resource = View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .configuration(&configuration);
    world
        .configurations
        .insert(configuration.id.clone(), configuration);
    Ok(created(resource))
}

pub(crate) async fn list(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(workspace_id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = cloud.world();
    world
        .workspaces
        .get(&workspace_id)
        .ok_or_else(ApiError::not_found)?;
    let mut configurations: Vec<&ConfigurationVersion> = world
        .configurations
        .values()
        .filter(|configuration| configuration.workspace_id == workspace_id)
        .collect();
    configurations.sort_by_key(|configuration| std::cmp::Reverse(configuration.number));
    let view = View {
        cloud: &cloud,
        rights: caller.rights(),
    };
    let resources = configurations
        .into_iter()
        .map(|c| view.configuration(c))
        .collect();
    Ok(page(resources, &query(parameters)))
}

pub(crate) async fn read(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let world = cloud.world();
    let configuration = world
        .configurations
        .get(&id)
        .ok_or_else(ApiError::not_found)?;
    Ok(one(View {
        cloud: &cloud,
        rights: caller.rights(),
    }
    .configuration(configuration)))
}

pub(crate) async fn download(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().plan || caller.rights().read_plan_json)?;
    let world = cloud.world();
    let configuration = world
        .configurations
        .get(&id)
        .ok_or_else(ApiError::not_found)?;
    if configuration.archive.is_none() {
        return Err(ApiError::not_found());
    }
    Ok(redirect(
        StatusCode::FOUND,
        &cloud.signer.url(Object::ConfigurationDownload, &id),
    ))
}

/// Takes an upload; a configuration version takes only one.
pub(crate) fn store(cloud: &Arc<Cloud>, id: &str, archive: Bytes) -> bool {
    let mut world = cloud.world();
    if world.upload_bytes + archive.len() > MOST_UPLOAD_BYTES {
        return false;
    }
    let Some(configuration) = world.configurations.get_mut(id) else {
        return false;
    };
    if configuration.archive.is_some() || archive.is_empty() {
        return false;
    }
    let size = archive.len();
    configuration.archive = Some(archive);
    configuration.uploaded_at = Some(Timestamp::now());
    let (workspace_id, speculative) = (
        configuration.workspace_id.clone(),
        configuration.speculative,
    );
    let becomes_current = !speculative && !configuration.provisional;
    let queues_run = configuration.auto_queue_runs;
    let created_by = configuration.created_by.clone();
    world.upload_bytes += size;
    let Some(workspace) = world.workspaces.get_mut(&workspace_id) else {
        return false;
    };
    if becomes_current {
        workspace.latest_configuration = Some(id.to_owned());
    }
    if queues_run {
        let wishes = Wishes {
            message: "Queued by an upload".to_owned(),
            auto_apply: workspace.settings.auto_apply && !speculative,
            plan_only: speculative,
            refresh: true,
            ..Wishes::default()
        };
        let run = NewRun {
            workspace_id,
            configuration_id: id.to_owned(),
            created_by,
            source: "tfe-configuration-version",
            wishes,
        };
        // The upload counts even when the run cannot be made.
        let _ = lifecycle::create(cloud, &mut world, run);
    }
    true
}

/// Where an object comes from: the CLI says that it is the CLI.
pub(crate) fn source(headers: &HeaderMap) -> &'static str {
    match headers
        .get("x-terraform-integration")
        .map(HeaderValue::as_bytes)
    {
        Some(b"cloud") => "terraform+cloud",
        Some(_) => "terraform",
        None => "tfe-api",
    }
}

pub(crate) fn redirect(status: StatusCode, url: &str) -> axum::response::Response {
    let mut response = empty(status);
    let location = HeaderValue::from_str(url).expect("a signed URL is ASCII without controls");
    response.headers_mut().insert(header::LOCATION, location);
    response
}
