//! Trust Pulse: read-only pages on which a reviewer sees what a job did, without access to the
//! agent or to Terraform Cloud.
//!
//! Server-rendered, no scripts, nothing loaded from elsewhere. A page is made in three steps:
//! read what the store holds, fold the records into a [`story`], render a plain
//! [`view`]; the second and third know nothing of stores or servers, so that a static export can
//! use them, too. Whoever mounts the [`router`] decides who may look.
//!
//! The pages are the gateway's own account. What proves it is the bundle, which each page of a
//! closed job offers with its digest.

mod outside;
mod read;
pub mod story;
mod task;
pub mod view;
pub mod words;

use std::sync::{Arc, LazyLock};

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use base64::Engine as _;
use policy::terraform::ids::TaskResultId;
use proof::record::JobId;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use store::StoreError;

use crate::app::App;
use crate::{bundles, watching};

pub use story::{Story, StoryBounds};
pub use view::{JobPage, ListPage};

/// The style sheet, part of every page.
const STYLE: &str = include_str!("../../templates/trust_pulse/style.css");

/// Jobs on one page of the list.
const PAGE: u32 = 50;

/// Nothing runs, nothing is loaded from anywhere; the one style sheet is named by its hash.
static CONTENT_SECURITY_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; sandbox allow-downloads allow-same-origin"
    );
    HeaderValue::try_from(policy).expect("base64 is plain ASCII")
});

/// The pages; the caller mounts them and decides who may look.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(list))
        .route("/outside", get(outside))
        .route("/jobs/{job_id}", get(job))
        .route("/jobs/{job_id}/bundle.json", get(bundle))
        .route("/tasks/{task_result_id}", get(task_page))
        .fallback(|| async { nothing_here("There is no such page.") })
}

/// Which part of the list; anything else in the query is ignored, a page is not an API.
#[derive(Debug, Deserialize)]
struct Part {
    state: Option<String>,
    before: Option<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    OriginalUri(asked): OriginalUri,
    Query(part): Query<Part>,
) -> Response {
    // Links on the pages are relative, so that a proxy may mount them anywhere.
    if !asked.path().ends_with('/') {
        return Redirect::permanent(&format!("{}/", asked.path())).into_response();
    }
    let phase = part.state.as_deref().and_then(read::phase);
    let before = part.before.as_deref().and_then(|text| text.parse().ok());
    let filter = store::JobFilter {
        phase,
        before,
        limit: PAGE,
    };
    match read::list(&*app.store, &app.config.gateway_id, filter, app.now()).await {
        Ok(page) => html(StatusCode::OK, &page),
        Err(error) => failed(&error),
    }
}

/// What was seen outside the gateway.
async fn outside(State(app): State<Arc<App>>, Query(part): Query<Older>) -> Response {
    let governed = match watching::governed(&*app.store).await {
        Ok(governed) => governed,
        Err(error) => return failed(&error),
    };
    let page = outside::page(&*app.store, &app.config, &governed, part.before, app.now());
    match page.await {
        Ok(page) => html(StatusCode::OK, &page),
        Err(error) => failed(&error),
    }
}

/// Which part of what was seen.
#[derive(Debug, Deserialize)]
struct Older {
    before: Option<u64>,
}

async fn job(State(app): State<Arc<App>>, Path(job_id): Path<String>) -> Response {
    let Ok(job_id) = job_id.parse::<JobId>() else {
        return nothing_here("That is no job's id.");
    };
    match read::job(&*app.store, &app.config, &job_id, app.now()).await {
        Ok(Some(page)) => html(StatusCode::OK, &page),
        Ok(None) => nothing_here("There is no such job."),
        Err(error) => failed(&error),
    }
}

/// What was said to one of Terraform Cloud's run tasks, and why.
async fn task_page(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<TaskResultId>() else {
        return nothing_here("That is no task result's id.");
    };
    let gateway_id = &app.config.gateway_id;
    match task::read(&*app.store, gateway_id, id.as_str(), app.now()).await {
        Ok(Some(page)) => html(StatusCode::OK, &page),
        Ok(None) => nothing_here("Terraform Cloud has not asked about that."),
        Err(error) => failed(&error),
    }
}

/// The sealed file, byte for byte. The other listener route asks for a bearer, which a browser
/// cannot send.
async fn bundle(State(app): State<Arc<App>>, Path(job_id): Path<String>) -> Response {
    let Ok(job_id) = job_id.parse::<JobId>() else {
        return nothing_here("That is no job's id.");
    };
    match app.store.bundle(&job_id).await {
        Ok(Some(row)) => {
            // Served only when it is the file that was sealed: the page shows its digest.
            match tokio::fs::read(bundles::path(&app.config, &job_id)).await {
                Ok(bytes) if proof::Hash::of(&bytes) == row.sha256 => download(&job_id, bytes),
                Ok(_) => broken("The bundle's file is not the one that was sealed."),
                Err(error) => {
                    tracing::error!(%error, job = %job_id, "a sealed bundle cannot be read");
                    broken("The bundle's file cannot be read.")
                }
            }
        }
        Ok(None) => nothing_here("This job has no sealed bundle."),
        Err(error) => failed(&error),
    }
}

fn download(job_id: &JobId, bytes: Vec<u8>) -> Response {
    let name = format!("attachment; filename=\"{job_id}.bundle.json\"");
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::try_from(name).expect("a job id is plain"),
        ),
    ];
    (headers, Body::from(bytes)).into_response()
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    let text = match page.render() {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            CONTENT_SECURITY_POLICY.clone(),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, text).into_response()
}

fn nothing_here(what: &'static str) -> Response {
    html(
        StatusCode::NOT_FOUND,
        &view::NoticePage {
            style: STYLE,
            title: "Nothing here",
            what,
        },
    )
}

fn broken(what: &'static str) -> Response {
    let title = "This cannot be shown";
    html(
        StatusCode::INTERNAL_SERVER_ERROR,
        &view::NoticePage {
            style: STYLE,
            title,
            what,
        },
    )
}

fn failed(error: &StoreError) -> Response {
    tracing::error!(%error, "a page cannot be made");
    let what = "The gateway's store does not answer. Try again in a moment.";
    let title = "This cannot be shown now";
    html(
        StatusCode::SERVICE_UNAVAILABLE,
        &view::NoticePage {
            style: STYLE,
            title,
            what,
        },
    )
}

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests;
