//! Whose rules count for a run.
//!
//! What a job made stands under the job's contract. For everything else (pushed to a repository,
//! uploaded by hand, started by a stolen token) nobody said which contract it is under, so each
//! contract that is in force and names the workspace is asked, and one no is a no: otherwise
//! whoever is held by a narrow contract could go around it by the side door of a wider one.

use std::sync::Arc;

use policy::terraform::ids::WorkspaceId;
use policy::{ReasonCode, Refusal};
use proof::record::JobId;

use crate::app::App;
use crate::clawcontrols;
use crate::clawproxy::authenticate::unavailable;
use crate::live::LiveContract;

/// A contract that counts.
#[derive(Debug, Clone)]
pub(super) struct Governing {
    /// The contract.
    pub(super) contract: Arc<LiveContract>,
    /// The job that makes it count.
    pub(super) job_id: Option<JobId>,
}

/// The contract of a job, which must be open, under a contract that was not withdrawn.
pub(super) async fn of_job(app: &App, job_id: &JobId) -> Result<Governing, Refusal> {
    let job = app.store.job(job_id).await.map_err(unavailable)?;
    let job = job.ok_or(ReasonCode::JobUnknown)?;
    if !job.state.is_open() {
        let detail = format!("{job_id} is closed, and its run goes no further");
        return Err(Refusal::new(ReasonCode::JobClosed, detail));
    }
    let contract = clawcontrols::contract(app, &job.policy_hash)
        .await
        .map_err(unavailable)?
        .ok_or(ReasonCode::ContractUnknown)?;
    if contract.is_withdrawn() {
        let detail = format!("the contract `{}` was withdrawn", contract.contract.name);
        return Err(Refusal::new(ReasonCode::ContractWithdrawn, detail));
    }
    Ok(Governing {
        contract,
        job_id: Some(job_id.clone()),
    })
}

/// The contracts that name a workspace: of each name the newest version that was not withdrawn.
///
/// # Errors
/// `RUN_TASK_UNGOVERNED` when there is none, or `STORE_UNAVAILABLE`.
pub(super) async fn of_workspace(
    app: &App,
    workspace: &WorkspaceId,
) -> Result<Vec<Governing>, Refusal> {
    let mut governing = Vec::new();
    let rows = clawcontrols::contracts_in_force(&*app.store).await;
    for row in rows.map_err(unavailable)? {
        let contract = clawcontrols::contract(app, &row.contract.policy_hash)
            .await
            .map_err(unavailable)?
            .ok_or(ReasonCode::ContractUnknown)?;
        let named = &contract.contract.permissions.workspaces;
        if named.iter().any(|id| id == workspace) {
            governing.push(Governing {
                contract,
                job_id: None,
            });
        }
    }
    if governing.is_empty() {
        let detail = format!("{workspace} stands in no contract that is in force");
        return Err(Refusal::new(ReasonCode::RunTaskUngoverned, detail));
    }
    Ok(governing)
}
