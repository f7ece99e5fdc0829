//! Legal holds: what auditors keep from going.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use proof::Timestamp;
use proof::record::JobId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{Hold, MAX_HOLDS};

use super::audit::{Action, audited};
use super::credential::Operator;
use super::extract::{Id, Params, Reason, Strict};
use super::problem::Problem;
use crate::app::App;
use crate::shapes;

/// Holds in one answer.
const LISTED: u32 = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Of this job only.
    #[serde(default)]
    #[schemars(with = "Option<shapes::JobId>")]
    job: Option<JobId>,
    /// Those that were lifted, too.
    #[serde(default)]
    lifted: bool,
    /// Holds before this number.
    #[serde(default)]
    before: Option<u64>,
}

/// Holds, newest first; 500 at most.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(asked): Params<Which>,
) -> Result<Json<Vec<HoldView>>, Problem> {
    let (job, standing) = (asked.job.as_ref(), !asked.lifted);
    let holds = app.store.holds(job, standing, asked.before, LISTED).await?;
    Ok(Json(holds.into_iter().map(HoldView::from).collect()))
}

/// A hold.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Hold")]
pub(super) struct HoldView {
    /// Its number.
    hold: u64,
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    placed_by: String,
    #[schemars(with = "shapes::Timestamp")]
    placed_at: Timestamp,
    reason: String,
    lifted_by: Option<String>,
    #[schemars(with = "Option<shapes::Timestamp>")]
    lifted_at: Option<Timestamp>,
    lift_reason: Option<String>,
}

impl From<Hold> for HoldView {
    fn from(hold: Hold) -> Self {
        let lifted = hold
            .lifted
            .map(|lifted| (lifted.at, lifted.by, lifted.reason));
        let (lifted_at, lifted_by, lift_reason) = match lifted {
            Some((at, by, reason)) => (Some(at), Some(by), Some(reason)),
            None => (None, None, None),
        };
        Self {
            hold: hold.number,
            job_id: hold.job_id,
            placed_by: hold.placed_by,
            placed_at: hold.placed_at,
            reason: hold.reason,
            lifted_by,
            lifted_at,
            lift_reason,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PlaceHold")]
pub(super) struct Place {
    #[schemars(with = "shapes::Reason")]
    reason: Reason,
}

/// Holds a job, whatever its state: nothing of it goes while the hold stands.
pub(super) async fn place(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
    operator: Operator,
    Strict(Place { reason }): Strict<Place>,
) -> Result<Json<Placed>, Problem> {
    let at = app.now();
    let action = Action {
        operator: operator.name(),
        name: "job.hold",
        subject: job_id.to_string(),
        detail: vec![("reason", reason.as_str().to_owned())],
        at,
    };
    let number = audited(&*app.store, action, async {
        let by = operator.name();
        let number = app.store.hold(&job_id, by, reason.as_str(), at).await?;
        number.ok_or_else(|| {
            let detail = format!("{MAX_HOLDS} holds on it stand already");
            Problem::new(ReasonCode::HoldRefused, detail)
        })
    })
    .await?;
    app.held.settle().await.map_err(|error| {
        let detail = format!(
            "hold {number} stands, but {error}: sealed content may have gone since; see the \
             vault's notes"
        );
        Problem::new(ReasonCode::StoreUnavailable, detail)
    })?;
    let went = app.store.prunings(&job_id).await?;
    Ok(Json(Placed {
        hold: number,
        job_id,
        gone: went.iter().map(|went| went.part.as_str()).collect(),
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PlacedHold")]
pub(super) struct Placed {
    hold: u64,
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    /// What went before: `records`, `bundle`.
    gone: Vec<&'static str>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LiftHold")]
pub(super) struct Lift {
    /// Its number.
    hold: u64,
    #[schemars(with = "shapes::Reason")]
    reason: Reason,
}

/// Lifts one hold of a job; others stay.
pub(super) async fn lift(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
    operator: Operator,
    Strict(Lift { hold, reason }): Strict<Lift>,
) -> Result<Json<LiftedHold>, Problem> {
    let at = app.now();
    let action = Action {
        operator: operator.name(),
        name: "job.lift-hold",
        subject: job_id.to_string(),
        detail: vec![
            ("hold", hold.to_string()),
            ("reason", reason.as_str().to_owned()),
        ],
        at,
    };
    audited(&*app.store, action, async {
        let (store, by) = (&app.store, operator.name());
        let lifted = store
            .lift_hold(&job_id, hold, by, reason.as_str(), at)
            .await?;
        match lifted {
            true => Ok(()),
            false => Err(Problem::from(ReasonCode::HoldUnknown)),
        }
    })
    .await?;
    let standing = app
        .store
        .holds(Some(&job_id), true, None, MAX_HOLDS)
        .await?;
    Ok(Json(LiftedHold {
        hold,
        job_id,
        standing: standing.len() as u64,
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LiftedHold")]
pub(super) struct LiftedHold {
    hold: u64,
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    /// Holds on the job that still stand.
    standing: u64,
}
