//! Plans that wait for a person: the inbox, and the page on which one plan is judged.
//!
//! An approval is the approver's own signature, which no session stands in for. A denial through
//! the page is an operator's word: it stops the plan, and is noted as that operator's act.

mod object;
mod read;
mod view;

pub(crate) use view::SideView;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use policy::ReasonCode;
use policy::terraform::ids::RunId;
use proof::Numbers;
use proof::approval::Decision;
use serde::Deserialize;

use super::words::Quoted;
use super::{Frame, Place, WayOn, failed, html, nothing_here, see, with_script};
use crate::app::App;
use crate::approvals;
use crate::operator::audit::{Action, audited};
use crate::operator::extract::Reason;
use crate::operator::{Form, Problem, Visit};
use crate::passkeys::{self, Asked, UnreadablePasskey};

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
        Ok(Some(page)) => with_script(html(StatusCode::OK, &page)),
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
        Err(problem) => refused(&app, &visit, &run_id, &problem),
    }
}

/// Shows what a denial would sign: its reason is under the signature.
pub async fn deny_signed(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(run_id): Path<String>,
    Form(denial): Form<Denial>,
) -> Response {
    let run = match app.store.run(&run_id).await {
        Ok(Some(run)) => run,
        Ok(None) => return refused(&app, &visit, &run_id, &ReasonCode::ApprovalUnknown.into()),
        Err(error) => return failed(Frame::new(&app, &visit, Place::Approvals), &error),
    };
    let name = visit
        .operator
        .as_ref()
        .map_or("", |operator| operator.name());
    let reason = denial.reason.as_str();
    let asked = Asked {
        approver: name,
        decision: Decision::Deny,
        reason: Some(reason),
        passkey: None,
    };
    let question = match passkeys::question(&app, &run_id, asked).await {
        Ok(question) => question,
        Err(refusal) => return refused(&app, &visit, &run_id, &refusal.into()),
    };
    let changes = run.changes.unwrap_or_default();
    let page = view::SignPage {
        frame: Frame::new(&app, &visit, Place::Approvals),
        verdict: approvals::question::verdict(&changes),
        reason: Quoted::new(reason, "you"),
        passkey: view::PasskeyView::of(name, &question),
        run_id,
    };
    with_script(html(StatusCode::OK, &page))
}

/// Says why a form came to nothing, and leads back to the plan.
fn refused(app: &App, visit: &Visit, run_id: &str, problem: &Problem) -> Response {
    let run_id = run_id.parse::<RunId>().ok();
    let way_on = run_id.map(|run_id| WayOn::to_plan(&visit.root, &run_id));
    super::refused(Frame::new(app, visit, Place::Approvals), problem, way_on)
}

/// A statement with a passkey's signature over it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    statement: String,
    assertion: String,
}

/// Takes what a passkey signed. The signature counts, not the session that hands it in.
pub async fn signed(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(run_id): Path<String>,
    Form(signed): Form<Signed>,
) -> Response {
    match taken(&app, &visit, &run_id, &signed).await {
        Ok(()) => see(format!("../{run_id}")),
        Err(problem) => refused(&app, &visit, &run_id, &problem),
    }
}

async fn taken(app: &App, visit: &Visit, run_id: &str, signed: &Signed) -> Result<(), Problem> {
    let operator = visit.operator.as_ref();
    let operator = operator.ok_or(ReasonCode::OperatorCredentialMissing)?;
    if app.store.run(run_id).await?.is_none() {
        return Err(ReasonCode::ApprovalUnknown.into());
    }
    let statement = proof::json::parse(signed.statement.as_bytes(), Numbers::Integers);
    let statement = statement
        .map_err(|error| Problem::new(ReasonCode::ApprovalMalformed, error.to_string()))?;
    let assertion = signed
        .assertion
        .parse()
        .map_err(|error: UnreadablePasskey| {
            Problem::new(ReasonCode::PasskeyMalformed, error.to_string())
        })?;
    passkeys::answer(app, run_id, operator, &statement, assertion)
        .await
        .map(drop)
}
