//! Rollback over the operator API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::terraform::ids::{RunId, StateVersionId, WorkspaceId};
use proof::record::JobId;
use proof::{Hash, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::Operator;
use super::extract::{Id, Reason, Strict};
use super::jobs::views::Counters;
use super::problem::Problem;
use crate::app::App;
use crate::bundles::BundleError;
use crate::jobs::EndedJob;
use crate::rollback::{self, RollbackError, StateRollback};
use crate::shapes;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RollbackReason")]
pub(super) struct Why {
    #[schemars(with = "shapes::Reason")]
    reason: Reason,
}

/// Discards a plan.
pub(super) async fn run(
    State(app): State<Arc<App>>,
    Id(run_id): Id<RunId>,
    operator: Operator,
    Strict(body): Strict<Why>,
) -> Result<Json<DiscardedRun>, Problem> {
    let (by, reason) = (operator.name(), body.reason.as_str());
    let run = rollback::discard_run(&app, by, run_id.as_str(), reason).await?;
    Ok(Json(DiscardedRun {
        run_id: run.run_id,
        job_id: run.job_id,
        state: run.gate.as_str(),
        status: run.status,
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DiscardedRun {
    run_id: String,
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    #[schemars(with = "shapes::GateState")]
    state: &'static str,
    /// Terraform Cloud's status, as last seen.
    status: String,
}

/// Stops a job: its tokens, its runs, and then the job itself.
pub(super) async fn job(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
    operator: Operator,
    Strict(body): Strict<Why>,
) -> Result<Json<StoppedJob>, Problem> {
    let (by, reason) = (operator.name(), body.reason.as_str());
    let stopped = rollback::stop_job(&app, by, &job_id, reason).await?;
    let EndedJob {
        job,
        closing,
        bundle,
        unknown,
    } = stopped.ended;
    let bundle_waits_for = bundle.as_ref().err().map(|error| match error {
        BundleError::Pending(why) => why.clone(),
        error => {
            let chain = crate::cli::chain(error);
            tracing::error!(job = %job_id, error = chain, "a stopped job cannot be sealed");
            "it could not be sealed, which is tried again by itself; the gateway's log says why"
                .to_owned()
        }
    });
    let bundle = bundle.ok();
    Ok(Json(StoppedJob {
        counters: Counters::of(&job),
        job_id: job.job_id,
        policy_hash_b64u: job.policy_hash,
        closed_at: closing.at,
        closed_by: closing.by,
        reason: closing.reason,
        bundle_sha256_b64u: bundle.as_ref().map(|bundle| bundle.sha256),
        bundle_bytes: bundle.as_ref().map(|bundle| bundle.bytes),
        bundle_waits_for,
        unknown_outcomes: unknown,
        revoked_tokens: stopped.revoked_tokens,
        unfinished_runs: stopped.unfinished_runs,
    }))
}

/// A job that was stopped.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StoppedJob {
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    #[schemars(with = "shapes::Sha256")]
    policy_hash_b64u: Hash,
    #[schemars(with = "shapes::Timestamp")]
    closed_at: Timestamp,
    closed_by: String,
    reason: String,
    /// None while there is no bundle.
    #[schemars(with = "Option<shapes::Sha256>")]
    bundle_sha256_b64u: Option<Hash>,
    bundle_bytes: Option<u64>,
    /// Why there is no bundle yet. The job has ended all the same.
    bundle_waits_for: Option<String>,
    /// Calls of which nobody knows how they ended, by the `seq` of their intents.
    unknown_outcomes: Vec<u64>,
    counters: Counters,
    /// Hashes of the tokens that were revoked.
    #[schemars(with = "Vec<shapes::HexSha256>")]
    revoked_tokens: Vec<String>,
    /// Runs that Terraform Cloud may still be applying.
    unfinished_runs: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReturnToState")]
pub(super) struct ToState {
    #[schemars(with = "shapes::WorkspaceId")]
    workspace_id: WorkspaceId,
    /// The earlier state version.
    #[schemars(with = "shapes::StateVersionId")]
    state_version_id: StateVersionId,
    #[schemars(with = "shapes::Reason")]
    reason: Reason,
    /// The open job in whose evidence it shall stand.
    #[serde(default)]
    #[schemars(with = "Option<shapes::JobId>")]
    job_id: Option<JobId>,
}

/// Returns a workspace to an earlier state version.
pub(super) async fn state(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<ToState>,
) -> Result<Json<ReturnedState>, Problem> {
    let request = StateRollback {
        workspace: body.workspace_id,
        state_version: body.state_version_id,
        reason: body.reason.as_str().to_owned(),
        job_id: body.job_id,
    };
    let done = rollback::return_to_state(&app, operator.name(), &request).await?;
    Ok(Json(ReturnedState {
        workspace_id: request.workspace,
        rolled_back_to: request.state_version,
        state_version_id: done.state_version,
        job_id: request.job_id,
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReturnedState {
    #[schemars(with = "shapes::WorkspaceId")]
    workspace_id: WorkspaceId,
    #[schemars(with = "shapes::StateVersionId")]
    rolled_back_to: StateVersionId,
    /// The state version that was made of it.
    state_version_id: String,
    #[schemars(with = "Option<shapes::JobId>")]
    job_id: Option<JobId>,
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
