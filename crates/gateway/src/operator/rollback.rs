//! Rollback over the operator API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::terraform::ids::{RunId, StateVersionId, WorkspaceId};
use proof::record::JobId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::credential::Operator;
use super::extract::{Id, Reason, Strict};
use super::jobs::closed_view;
use super::problem::Problem;
use crate::app::App;
use crate::rollback::{self, RollbackError, StateRollback};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    reason: Reason,
}

/// Discards a plan.
pub(super) async fn run(
    State(app): State<Arc<App>>,
    Id(run_id): Id<RunId>,
    operator: Operator,
    Strict(body): Strict<Why>,
) -> Result<Json<Value>, Problem> {
    let (by, reason) = (operator.name(), body.reason.as_str());
    let run = rollback::discard_run(&app, by, run_id.as_str(), reason).await?;
    Ok(Json(json!({
        "run_id": run.run_id,
        "job_id": run.job_id,
        "state": run.gate.as_str(),
        "status": run.status,
    })))
}

/// Stops a job: its tokens, its runs, and then the job itself.
pub(super) async fn job(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
    operator: Operator,
    Strict(body): Strict<Why>,
) -> Result<Json<Value>, Problem> {
    let (by, reason) = (operator.name(), body.reason.as_str());
    let stopped = rollback::stop_job(&app, by, &job_id, reason).await?;
    let mut view = closed_view(&stopped.closed);
    view["revoked_tokens"] = json!(stopped.revoked_tokens);
    view["unfinished_runs"] = json!(stopped.unfinished_runs);
    Ok(Json(view))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToState {
    workspace_id: WorkspaceId,
    state_version_id: StateVersionId,
    reason: Reason,
    #[serde(default)]
    job_id: Option<JobId>,
}

/// Returns a workspace to an earlier state version.
pub(super) async fn state(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<ToState>,
) -> Result<Json<Value>, Problem> {
    let request = StateRollback {
        workspace: body.workspace_id,
        state_version: body.state_version_id,
        reason: body.reason.as_str().to_owned(),
        job_id: body.job_id,
    };
    let done = rollback::return_to_state(&app, operator.name(), &request).await?;
    Ok(Json(json!({
        "workspace_id": request.workspace,
        "rolled_back_to": request.state_version,
        "state_version_id": done.state_version,
        "job_id": request.job_id,
    })))
}

impl From<RollbackError> for Problem {
    fn from(error: RollbackError) -> Self {
        match error {
            RollbackError::Refused(refusal) => refusal.into(),
            RollbackError::Store(error) => error.into(),
            RollbackError::Job(error) => error.into(),
            RollbackError::Upstream { code, .. } => Self::new(code, error.to_string()),
        }
    }
}
