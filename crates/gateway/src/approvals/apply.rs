//! The last look and the apply itself.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use policy::terraform::Operation;
use policy::{ReasonCode, Refusal};
use proof::Json;
use proof::approval::{Decision, Subject};
use proof::record::Body;
use store::{GateState, RunRow, RunUpdate, kill_point};

use super::gate::{Next, end_of, move_to};
use super::{Barred, inspect, ours};
use crate::app::App;
use crate::clawproxy::authenticate::unavailable;
use crate::clawproxy::terraform::runs::{related, status};
use crate::clawproxy::terraform::workspaces;
use crate::upstream::Duty;
use crate::watching::reach;

/// A run's status from the moment upstream accepted our apply; upstream's own word for it.
const ACCEPTED: &str = "confirmed";

/// Why an apply that was cancelled has failed.
const STOPPED: &str = "it was stopped while it was applied; what it had done by then is done";

/// Records that are read at a time.
const PAGE: u32 = 1000;

/// How often an apply is looked at.
const APPLYING: std::time::Duration = std::time::Duration::from_millis(700);

/// Reads run and plan once more, and applies if nothing has changed.
///
/// After a crash before the gate moves to `applying`, nothing was sent, and the look is simply
/// repeated. The gate moves and the intent is written in one transaction, before the request
/// leaves, so of two that got here one applies. A crash after it, on either side of the request,
/// is found at `applying` and settled by reading the run, never by sending again blindly.
pub(super) async fn recheck_and_apply(app: &Arc<App>, run: RunRow) -> Result<Next, Refusal> {
    // Whatever takes time comes before the last look.
    let before = current_state_version(app, &run.workspace_id).await?;
    let turn = ours::turn(app).await?;
    if let Err(refusal) = recheck(app, &run).await {
        if refusal.code.origin() != policy::reason::Origin::Policy {
            return Err(refusal);
        }
        return supersede(app, &run, &refusal).await;
    }
    let body = Bytes::from_static(br#"{"comment":"approved and applied through Clawgate"}"#);
    let update = RunUpdate {
        state_version_before: before.map(|(id, _)| id),
        ..RunUpdate::default()
    };
    let permit = match ours::permit_apply(app, &run, &body, update).await {
        Ok(Some(permit)) => permit,
        // Somebody discarded it in this very moment.
        Ok(None) => return Ok(Next::Again),
        // The job was closed in this very moment: nothing was sent, and nothing will be.
        Err(refusal) if refusal.code == ReasonCode::TokenJobClosed => {
            return supersede(app, &run, &refusal).await;
        }
        Err(refusal) => return Err(refusal),
    };
    // A gateway that stood still since may have been taken over from. Nothing was sent, and whoever
    // reads the run finds that.
    if !app.store.is_current() {
        return Ok(Next::Wait(APPLYING));
    }
    let target = format!("/api/v2/runs/{}/actions/apply", run.run_id);
    match ours::execute(app, turn, permit, &run, &target, body).await {
        Ok(answer) if ours::is_refusal(answer.status) => {
            // A clear no: the executor may not apply here. Asking again changes nothing.
            let gate_reason = Some(format!(
                "upstream refused the apply with {}",
                answer.status.as_u16()
            ));
            let update = RunUpdate {
                gate_reason,
                ..RunUpdate::default()
            };
            let from = [GateState::Applying];
            move_to(app, &run, &from, GateState::Errored, update).await
        }
        Ok(answer) if answer.status.is_success() => {
            kill_point!("gate.accepted");
            let status = Some(ACCEPTED.to_owned());
            let update = RunUpdate {
                status,
                ..RunUpdate::default()
            };
            app.store
                .update_run(&run.run_id, app.now(), update)
                .await
                .map_err(unavailable)?;
            Ok(Next::Wait(APPLYING))
        }
        // Whatever else came back, or nothing: what happened is read from the run, a little
        // later.
        Ok(_) => Ok(Next::Wait(APPLYING)),
        Err(refusal) => {
            tracing::warn!(%refusal, run = run.run_id, "the apply's answer was lost");
            Ok(Next::Wait(APPLYING))
        }
    }
}

/// What was approved is not what stands there now: the approval counts for nothing any more.
async fn supersede(app: &App, run: &RunRow, why: &Refusal) -> Result<Next, Refusal> {
    let update = RunUpdate {
        gate_reason: Some(why.to_string()),
        ..RunUpdate::default()
    };
    let from = [GateState::Rechecking];
    move_to(app, run, &from, GateState::Superseded, update).await
}

/// Everything that an approval was bound to, read again.
async fn recheck(app: &Arc<App>, run: &RunRow) -> Result<(), Refusal> {
    let subject = approved(app, run).await?;
    let json = ours::read_run(app, &run.run_id).await?;
    if json
        .at(&["data", "attributes", "actions", "is-confirmable"])
        .and_then(Json::as_bool)
        != Some(true)
    {
        return Err(changed("the run is not waiting for confirmation any more"));
    }
    unchanged(app, run, subject, &json).await?;
    // Reading a large plan takes a while, in which somebody may have said no.
    approved(app, run).await.map(drop)
}

/// Whether the apply that upstream is about to begin is the one that the gateway asked for: of a
/// run of a job, while the gate applies it, for the plan that was approved. Everything that the
/// approval was bound to is read once more.
///
/// # Errors
/// `RUN_TASK_NOT_APPROVED` for an apply that the gateway did not ask for, the code of what does
/// not hold any more, an `UPSTREAM_…` code, or `STORE_UNAVAILABLE`.
pub async fn confirmed(app: &Arc<App>, run_id: &str) -> Result<Subject, Refusal> {
    let not_ours = |detail| Refusal::new(ReasonCode::RunTaskNotApproved, detail);
    let run = app.store.run(run_id).await.map_err(unavailable)?;
    let run = run.ok_or_else(|| not_ours("no job of this gateway made the run".to_owned()))?;
    if run.gate != GateState::Applying {
        let gate = run.gate.as_str();
        return Err(not_ours(format!(
            "it was confirmed outside the gateway, where the run stands at `{gate}`"
        )));
    }
    let subject = approved(app, &run).await?;
    let json = ours::read_run(app, run_id).await?;
    unchanged(app, &run, subject, &json).await?;
    Ok(subject.clone())
}

fn changed(what: &'static str) -> Refusal {
    Refusal::new(ReasonCode::ApprovalRunChanged, what)
}

/// What people approved, when enough of them still do: the contract holds, their statements are
/// about this subject and have not lapsed, and no token that asked was revoked.
async fn approved<'r>(app: &Arc<App>, run: &'r RunRow) -> Result<&'r Subject, Refusal> {
    let contract = inspect::contract(app, run).await?;
    if contract.is_withdrawn() {
        return Err(ReasonCode::ContractWithdrawn.into());
    }
    let subject = run.subject.as_ref().ok_or(ReasonCode::ApprovalUnknown)?;
    let apply = &contract.contract.permissions.apply;
    if apply.requires_approval {
        let statements = app
            .store
            .statements(&run.run_id)
            .await
            .map_err(unavailable)?;
        let job = app.store.job(&run.job_id).await.map_err(unavailable)?;
        let job = job.ok_or(ReasonCode::ApprovalUnknown)?;
        let barred = Barred::of(&job, apply);
        // By the time that the apply's record would bear at least: another gateway's clock, by
        // which the job has records, may be ahead.
        let now = app.now().max(job.last_at);
        let mut approvers = HashSet::new();
        for row in statements.iter().filter(|row| row.counted) {
            let statement: proof::approval::Statement = row
                .envelope
                .payload
                .to_typed()
                .map_err(|_| ReasonCode::ApprovalMalformed)?;
            if row.decision == Decision::Deny {
                return Err(ReasonCode::ApprovalDenied.into());
            }
            let counts = !barred.is(&row.approver);
            if counts && statement.subject() == *subject && statement.expires_at > now {
                approvers.insert(row.approver.clone());
            }
        }
        if approvers.len() < apply.min_approvals as usize {
            let counted = statements.iter().filter(|row| row.counted);
            barred.check(counted.map(|row| row.approver.as_str()))?;
            return Err(ReasonCode::ApprovalExpired.into());
        }
    }
    if was_asked_with_a_revoked_token(app, run).await? {
        return Err(changed("a token that asked for it was revoked"));
    }
    Ok(subject)
}

/// Whether run, workspace and plan are still those that were approved.
async fn unchanged(
    app: &Arc<App>,
    run: &RunRow,
    subject: &Subject,
    json: &Json,
) -> Result<(), Refusal> {
    if json
        .at(&["data", "attributes", "auto-apply"])
        .and_then(Json::as_bool)
        != Some(false)
    {
        return Err(changed("the run applies by itself"));
    }
    if related(json, "workspace").as_deref() != Some(&run.workspace_id)
        || related(json, "configuration-version").as_deref()
            != Some(&subject.configuration_version_id)
        || related(json, "plan").as_deref() != Some(&subject.plan_id)
    {
        let what = "workspace, configuration or plan are not the approved ones";
        return Err(changed(what));
    }
    let workspace = workspaces::read(app, &run.workspace_id).await?;
    let workspace = workspace.ok_or(ReasonCode::UpstreamNotFound)?;
    if workspace.organization != run.organization {
        return Err(changed("the workspace moved to another organization"));
    }
    if workspace.execution_mode == "local" {
        return Err(changed("the workspace runs locally now"));
    }
    let contract = inspect::contract(app, run).await?;
    let reach = reach::of_workspace(app, &contract, &run.workspace_id).await?;
    if let Some(refusal) = reach.refusals().into_iter().next() {
        return Err(refusal);
    }
    let shown = run
        .summary
        .as_ref()
        .and_then(|summary| summary.get("reach"));
    if shown != Some(&reach.to_json()) {
        return Err(changed(
            "what an apply reaches beyond the workspace is not what the approver was shown",
        ));
    }
    let seen = inspect::read_plan(app, &run.run_id).await?;
    if seen.facts.plan_sha256_b64u != subject.plan_sha256_b64u {
        return Err(ReasonCode::PlanChanged.into());
    }
    Ok(())
}

/// Whether a token that made the run, or asked for its apply, was revoked since: what a stolen
/// token asked for is not applied, whoever approved it.
async fn was_asked_with_a_revoked_token(app: &App, run: &RunRow) -> Result<bool, Refusal> {
    let tokens = app.store.tokens(&run.job_id).await.map_err(unavailable)?;
    let revoked: HashSet<String> = tokens
        .iter()
        .filter(|token| token.revoked.is_some())
        .map(|token| token.token.token_hash.to_hex())
        .collect();
    if revoked.is_empty() {
        return Ok(false);
    }
    // Calls by revoked tokens that wanted a run, until it is known which.
    let mut asked = HashSet::new();
    let mut after = 0;
    loop {
        let page = app
            .store
            .records(&run.job_id, after, PAGE)
            .await
            .map_err(unavailable)?;
        let Some(last) = page.last() else {
            return Ok(false);
        };
        after = last.record.seq;
        for stored in page {
            match stored.record.body {
                Body::Intent(intent) if revoked.contains(&intent.caller.token_hash) => {
                    if intent.operation == Operation::CreateRun.name() {
                        asked.insert(stored.record.seq);
                    } else if intent.operation == Operation::ApplyRun.name()
                        && intent.run_id.as_ref() == Some(&run.run_id)
                    {
                        return Ok(true);
                    }
                }
                Body::Outcome(outcome)
                    if asked.contains(&outcome.intent_seq)
                        && outcome.object_id.as_ref() == Some(&run.run_id) =>
                {
                    return Ok(true);
                }
                _ => {}
            }
        }
    }
}

/// Waits for the end of an apply.
///
/// A run that still waits for confirmation never got our request: the answer was lost before it
/// arrived, or we stopped before sending. It goes back to be looked at again; upstream confirms
/// a run at most once, so a request that is merely late can do nothing twice.
pub(super) async fn follow(app: &Arc<App>, run: RunRow) -> Result<Next, Refusal> {
    let from = [GateState::Applying];
    let json = ours::read_run(app, &run.run_id).await?;
    let status = status(&json);
    let seen = RunUpdate {
        status: Some(status.clone()),
        ..RunUpdate::default()
    };
    match end_of(&status) {
        Some(end) => {
            let after = current_state_version(app, &run.workspace_id).await?;
            // Another run may have gone on from there; then its state version is not ours. An
            // apply that failed or was stopped can have left one, too.
            let ours = after.filter(|(_, by)| by.as_deref() == Some(&run.run_id));
            // Discarded is what nothing was done about.
            let stopped = end == GateState::Discarded;
            let update = RunUpdate {
                state_version_after: ours.map(|(id, _)| id),
                gate_reason: stopped.then(|| STOPPED.to_owned()),
                ..seen
            };
            let end = if stopped { GateState::Errored } else { end };
            move_to(app, &run, &from, end, update).await
        }
        None => {
            let confirmable = json
                .at(&["data", "attributes", "actions", "is-confirmable"])
                .and_then(Json::as_bool);
            match (confirmable, run.status == ACCEPTED) {
                // Upstream took the apply; this reading is merely older than its answer.
                (Some(true), true) => Ok(Next::Wait(APPLYING)),
                (Some(true), false) => move_to(app, &run, &from, GateState::Rechecking, seen).await,
                _ => {
                    app.store
                        .update_run(&run.run_id, app.now(), seen)
                        .await
                        .map_err(unavailable)?;
                    Ok(Next::Wait(APPLYING))
                }
            }
        }
    }
}

/// Id of the workspace's current state version and of the run that made it.
async fn current_state_version(
    app: &App,
    workspace_id: &str,
) -> Result<Option<(String, Option<String>)>, Refusal> {
    let target = format!("/api/v2/workspaces/{workspace_id}/current-state-version");
    match ours::read_with(app, Duty::Executor, &target).await {
        Ok(json) => {
            let id = json
                .at(&["data", "id"])
                .and_then(Json::as_str)
                .map(str::to_owned);
            Ok(id.map(|id| (id, related(&json, "run"))))
        }
        Err(refusal) if refusal.code == ReasonCode::UpstreamNotFound => Ok(None),
        Err(refusal) => Err(refusal),
    }
}
