//! Plans that wait for a person: the inbox, and the page on which one plan is judged.
//!
//! An approval is the approver's own signature, which no session stands in for. A denial through
//! the page is an operator's word: it stops the plan, and is noted as that operator's act.

mod read;
mod view;

pub(crate) use view::SideView;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use policy::terraform::ids::RunId;
use serde::Deserialize;

use super::{Frame, Place, failed, html, nothing_here, see};
use crate::app::App;
use crate::approvals;
use crate::operator::audit::{Action, audited};
use crate::operator::extract::Reason;
use crate::operator::{Form, Problem, Visit};

/// What waits, longest first; then what is on its way, and what ended lately.
pub async fn inbox(State(app): State<Arc<App>>, visit: Visit) -> Response {
    let frame = Frame::new(&app, &visit, Place::Approvals);
    match read::inbox(&app, frame.clone()).await {
        Ok(page) => html(StatusCode::OK, &page),
        Err(error) => failed(frame, &error),
    }
}

/// Which piece of a long plan.
#[derive(Debug, Deserialize)]
pub struct Piece {
    #[serde(default)]
    from: u64,
}

/// One plan.
pub async fn plan(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(run_id): Path<String>,
    piece: Result<Query<Piece>, QueryRejection>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Approvals);
    // Anything but a number is the beginning: a page is not an API.
    let from = piece.map_or(0, |Query(piece)| piece.from);
    let Ok(run_id) = run_id.parse::<RunId>() else {
        return nothing_here(frame, "That is no run's id.");
    };
    match read::plan(&app, &visit, frame.clone(), run_id.as_str(), from).await {
        Ok(Some(page)) => html(StatusCode::OK, &page),
        Ok(None) => nothing_here(frame, "No job of this gateway has such a run."),
        Err(error) => failed(frame, &error),
    }
}

/// The form of a denial.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    reason: Reason,
}

/// Stops a plan on an operator's word. The agent reads the reason.
pub async fn deny(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(run_id): Path<String>,
    Form(denial): Form<Denial>,
) -> Response {
    let name = visit
        .operator
        .as_ref()
        .map_or("", |operator| operator.name());
    let action = Action {
        operator: name,
        name: "approval.deny",
        subject: run_id.clone(),
        detail: vec![("reason", denial.reason.as_str().to_owned())],
        at: app.now(),
    };
    let denied = audited(&*app.store, action, async {
        approvals::discard(&app, &run_id, name, denial.reason.as_str())
            .await
            .map_err(Problem::from)
    });
    match denied.await {
        Ok(_) => see(format!("../{run_id}")),
        Err(problem) => super::refused(&app, &visit.root, &problem),
    }
}
