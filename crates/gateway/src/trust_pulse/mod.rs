//! Trust Pulse: read-only pages on which a reviewer sees what a job did, without access to the
//! agent or to Terraform Cloud.
//!
//! A page is made in three steps: read what the store holds, fold the records into a [`story`],
//! render a plain [`view`]; the second and third know nothing of stores or servers, so that a
//! static export can use them, too. Who may look stands with the routes, in
//! [`crate::operator::pages`].
//!
//! The pages are the gateway's own account. What proves it is the bundle, which each page of a
//! closed job offers with its digest, and which the reviewer's browser can check (`check.rs`). For outsiders
//! a job is [`published`].

pub(crate) mod agent;
pub(crate) mod check;
pub(crate) mod contract;
pub mod origin;
mod outside;
pub mod published;
pub(crate) mod read;
pub(crate) mod receipt;
pub(crate) mod run;
pub mod story;
mod task;
pub mod view;
mod wanted;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use policy::terraform::ids::TaskResultId;
use proof::record::JobId;
use serde::Deserialize;
use store::Part;

use crate::app::App;
use crate::bundles::{self, BundleError};
use crate::operator::Visit;
use crate::pages::{Frame, Place, broken, failed, html, nothing_here, pruned};
use crate::watching;

pub use crate::pages::words;
pub use story::{Story, StoryBounds};
pub use view::{JobPage, ListPage};
use wanted::Wanted;

/// The jobs that somebody looks for.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    visit: Visit,
    Query(wanted): Query<Wanted>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Jobs);
    let wanted = wanted.understood();
    let filter = wanted.filter();
    match read::list(&*app.store, frame.clone(), wanted, filter).await {
        Ok(page) => html(StatusCode::OK, &page),
        Err(error) => failed(frame, &error),
    }
}

/// What was seen outside the gateway.
pub(crate) async fn outside(
    State(app): State<Arc<App>>,
    visit: Visit,
    Query(part): Query<Older>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Outside);
    let governed = match watching::governed(&*app.store).await {
        Ok(governed) => governed,
        Err(error) => return failed(frame, &error),
    };
    let page = outside::page(
        &*app.store,
        &app.config,
        &governed,
        part.before,
        frame.clone(),
    );
    match page.await {
        Ok(page) => html(StatusCode::OK, &page),
        Err(error) => failed(frame, &error),
    }
}

/// Which part of what was seen.
#[derive(Debug, Deserialize)]
pub(crate) struct Older {
    before: Option<u64>,
}

/// One job.
pub(crate) async fn job(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(job_id): Path<String>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Jobs);
    let Ok(job_id) = job_id.parse::<JobId>() else {
        return nothing_here(frame, "That is no job's id.");
    };
    let now = app.now();
    match read::job(&*app.store, &app.config, &job_id, frame.clone(), now).await {
        Ok(Some(page)) => html(StatusCode::OK, &page),
        Ok(None) => nothing_here(frame, "There is no such job."),
        Err(error) => failed(frame, &error),
    }
}

/// What was said to one of Terraform Cloud's run tasks, and why.
pub(crate) async fn task_page(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(id): Path<String>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Jobs);
    let Ok(id) = id.parse::<TaskResultId>() else {
        return nothing_here(frame, "That is no task result's id.");
    };
    match task::read(&*app.store, frame.clone(), id.as_str()).await {
        Ok(Some(page)) => html(StatusCode::OK, &page),
        Ok(None) => nothing_here(frame, "Terraform Cloud has not asked about that."),
        Err(error) => failed(frame, &error),
    }
}

/// The sealed file, byte for byte. The other listener route asks for a bearer, which a browser
/// cannot send.
pub(crate) async fn bundle(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(job_id): Path<String>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Jobs);
    let Ok(job_id) = job_id.parse::<JobId>() else {
        return nothing_here(frame, "That is no job's id.");
    };
    match bundles::pruned(&*app.store, &job_id, Part::Bundle).await {
        Ok(None) => {}
        Ok(Some(gone)) => return pruned(frame, &gone),
        Err(error) => return failed(frame, &error),
    }
    match app.store.bundle(&job_id).await {
        Ok(Some(row)) => {
            // Served only when it is the file that was sealed: the page shows its digest.
            match bundles::read(&app.config, &row).await {
                Ok(bytes) => {
                    let added = bundles::added(bundles::Sealing::of(&app), &row).await;
                    let whole = match added {
                        Some(front) => front.with(&bytes),
                        None => bytes,
                    };
                    download(&job_id, whole)
                }
                Err(BundleError::Altered(_)) => {
                    broken(frame, "The bundle's file is not the one that was sealed.")
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, job = %job_id, "a sealed bundle cannot be read");
                    broken(frame, "The bundle's file cannot be read.")
                }
            }
        }
        Ok(None) => nothing_here(frame, "This job has no sealed bundle."),
        Err(error) => failed(frame, &error),
    }
}

pub(crate) fn download(job_id: &JobId, bundle: impl Into<Body>) -> Response {
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
    (headers, bundle.into()).into_response()
}

#[cfg(test)]
pub(crate) mod sample;

#[cfg(test)]
mod tests;
