//! The page on which a reviewer's browser checks a bundle itself.
//!
//! The script is in `assets/check`; its checks are those of `crates/verify/src/checks`, in the
//! same order and with the same codes. To change one is to change both: the test in
//! `tests/browser/agreement.rs` compares them.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use proof::record::JobId;
use serde::Deserialize;

use crate::app::App;
use crate::operator::Visit;
use crate::pages::{Frame, Place, failed, html, nothing_here, with_fetching_script};

/// The form in which files are chosen.
#[derive(Debug, Default)]
pub struct CheckForm {
    /// Where the page may fetch a bundle, relative to itself.
    pub href: Option<String>,
    /// Whether a bundle need not be chosen.
    pub brought: bool,
}

#[derive(Debug, Template)]
#[template(path = "trust_pulse/check.html")]
struct CheckPage {
    frame: Frame,
    job: Option<String>,
    form: CheckForm,
}

/// Which job's bundle the page offers.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    job: Option<String>,
}

/// The page; with a job, it offers that job's bundle.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Jobs);
    let mut form = CheckForm::default();
    if let Some(job) = &asked.job {
        let Ok(job_id) = job.parse::<JobId>() else {
            return nothing_here(frame, "That is no job's id.");
        };
        match app.store.bundle(&job_id).await {
            Ok(Some(_)) => form = CheckForm::of(format!("jobs/{job_id}/bundle.json")),
            Ok(None) => return nothing_here(frame, "This job has no sealed bundle."),
            Err(error) => return failed(frame, &error),
        }
    }
    let page = CheckPage {
        frame,
        job: asked.job,
        form,
    };
    with_fetching_script(html(StatusCode::OK, &page))
}

impl CheckForm {
    /// A form beside a bundle that can be fetched.
    fn of(href: String) -> Self {
        Self {
            href: Some(href),
            brought: true,
        }
    }
}
