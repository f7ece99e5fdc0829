//! The gate: an apply happens only through us, only after approval, only for the plan that was
//! approved.
//!
//! ```text
//! planned -> inspecting -> (violates -> discarded) -> awaiting approval -> approved
//!         -> rechecking -> applying -> applied | errored
//! ```
//! with `denied`, `expired` and `superseded` as other ends. Every step is a compare-and-swap in
//! the store, so that two gateways or two operators cannot both take it, and a restart goes on
//! where the last one stopped.
//!
//! `gate` moves runs along; this file takes what people and agents say about them.

mod apply;
mod gate;
mod inspect;
mod ours;
mod own;
pub mod question;

use std::sync::Arc;

use policy::contract::Apply;
use policy::{ReasonCode, Refusal};
use proof::EnvelopeError;
use proof::approval::{Decision, STATEMENT, SignedStatement, StatementError, VerifiedStatement};
use proof::record::ApprovalVia;
use store::{GateState, JobRow, NewStatement, RunRow, RunUpdate, StatementOutcome, StoreError};

use crate::app::App;
use crate::clawproxy::authenticate::unavailable;
use crate::live::LiveToken;
use crate::passkeys;

pub use apply::confirmed;
pub use gate::Gate;
pub use inspect::{SeenPlan, read_plan, read_sensitive};
pub use ours::{read as read_document, read_run};
pub use own::Barred;

/// How far an approver's clock may be ahead of ours, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// Longest reason of an approver, in bytes.
pub const MAX_REASON_BYTES: usize = 1000;

/// Longest nonce, in bytes; ours have 43.
const MAX_NONCE_BYTES: usize = 128;

/// What a statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It counts; so many more are needed.
    Counted {
        /// Distinct approvals so far.
        approvals: u32,
        /// Still missing.
        missing: u32,
    },
    /// The run will not be applied.
    Denied,
}

/// Takes an approver's signed statement about a run.
///
/// # Errors
/// An `APPROVAL_…` code, or `STORE_UNAVAILABLE`.
pub async fn submit(
    app: &App,
    run_id: &str,
    envelope: SignedStatement,
    via: ApprovalVia,
) -> Result<Submitted, Refusal> {
    let run = app.store.run(run_id).await.map_err(unavailable)?;
    let run = run.ok_or(ReasonCode::ApprovalUnknown)?;
    let job = app.store.job(&run.job_id).await.map_err(unavailable)?;
    let job = job.ok_or(ReasonCode::ApprovalUnknown)?;
    let contract = crate::clawcontrols::contract(app, &job.policy_hash)
        .await
        .map_err(unavailable)?
        .ok_or(ReasonCode::ContractUnknown)?;
    let apply = &contract.contract.permissions.apply;
    let verified = check(app, &run, &job, &envelope, apply).await?;
    let min_approvals = apply.min_approvals;
    let statement = NewStatement {
        envelope,
        sign_count: verified.sign_count(),
        statement: verified.into_statement(),
        via,
        at: app.now(),
        min_approvals,
    };
    let at = statement.at;
    let outcome = app
        .store
        .record_statement(statement)
        .await
        .map_err(|error| match error {
            StoreError::Conflict(_) => ReasonCode::ApprovalClosed.into(),
            other => unavailable(other),
        })?;
    if let Some(job) = app.live.job(&run.job_id) {
        job.wrote_at(at);
    }
    app.gate.wake(run_id);
    match outcome {
        StatementOutcome::Counted { approvals, .. } => {
            let missing = min_approvals.saturating_sub(approvals);
            Ok(Submitted::Counted { approvals, missing })
        }
        StatementOutcome::Denied => Ok(Submitted::Denied),
        StatementOutcome::NotAwaiting(gate) => {
            let detail = format!("the run stands at `{}`", gate.as_str());
            Err(Refusal::new(ReasonCode::ApprovalClosed, detail))
        }
        StatementOutcome::Duplicate => Err(ReasonCode::ApprovalAlreadyGiven.into()),
        StatementOutcome::SubjectChanged => Err(ReasonCode::ApprovalRunChanged.into()),
        StatementOutcome::Lapsed => Err(ReasonCode::ApprovalExpired.into()),
        StatementOutcome::PasskeyGone => Err(ReasonCode::PasskeyUnknown.into()),
        StatementOutcome::CounterBack => Err(ReasonCode::PasskeyCounter.into()),
    }
}

/// Signature, person, subject and time of a statement.
///
/// # Errors
/// An `APPROVAL_…` or `PASSKEY_…` code, `PASSKEYS_UNAVAILABLE`, `STORE_UNAVAILABLE`.
pub async fn check(
    app: &App,
    run: &RunRow,
    job: &JobRow,
    envelope: &SignedStatement,
    terms: &Apply,
) -> Result<VerifiedStatement, Refusal> {
    let (signed, enrolled_for) = verify(app, envelope).await?;
    let statement = signed.statement();
    if statement.statement != STATEMENT || statement.run_id != run.run_id {
        return Err(ReasonCode::ApprovalMalformed.into());
    }
    if statement.approver_did != *signed.signer() {
        return Err(ReasonCode::ApprovalSignature.into());
    }
    // The envelope's own time is not signed; a verifier compares it, so a bundle that holds
    // another one would not verify.
    if statement.issued_at != envelope.issued_at {
        let detail = "the envelope's time is not the statement's";
        return Err(Refusal::new(ReasonCode::ApprovalMalformed, detail));
    }
    let named = terms
        .approvers
        .iter()
        .any(|email| email.as_str() == statement.approver);
    if !(named && enrolled_for.contains(&statement.approver)) {
        return Err(ReasonCode::ApprovalNotAnApprover.into());
    }
    if statement.decision == Decision::Approve {
        // A key that serves two addresses is one person's.
        let addresses = enrolled_for.iter().chain([&statement.approver]);
        Barred::of(job, terms).check(addresses.map(String::as_str))?;
    }
    let subject = run.subject.as_ref().ok_or(ReasonCode::ApprovalClosed)?;
    if statement.plan_sha256_b64u != subject.plan_sha256_b64u {
        return Err(ReasonCode::ApprovalWrongDigest.into());
    }
    if statement.subject() != *subject {
        return Err(ReasonCode::ApprovalRunChanged.into());
    }
    let now = app.now();
    let question_ends = run.approval_expires_at.ok_or(ReasonCode::ApprovalClosed)?;
    if statement.expires_at <= now || question_ends <= now {
        return Err(ReasonCode::ApprovalExpired.into());
    }
    if statement.expires_at > question_ends
        || statement.issued_at > now.plus_seconds(CLOCK_SKEW_SECONDS)
    {
        let detail = "the statement's times do not fit: check the clock";
        return Err(Refusal::new(ReasonCode::ApprovalMalformed, detail));
    }
    if statement.nonce.len() > MAX_NONCE_BYTES {
        let detail = "a nonce has up to 128 bytes";
        return Err(Refusal::new(ReasonCode::ApprovalMalformed, detail));
    }
    let reason = statement
        .reason
        .as_deref()
        .map(str::trim)
        .unwrap_or_default();
    if statement.decision == Decision::Deny && reason.is_empty() {
        return Err(Refusal::new(
            ReasonCode::ApprovalMalformed,
            "a denial needs a reason",
        ));
    }
    if reason.len() > MAX_REASON_BYTES {
        let detail = "a reason has up to 1000 bytes";
        return Err(Refusal::new(ReasonCode::ApprovalMalformed, detail));
    }
    Ok(signed)
}

/// Hash and signature of a statement, and the addresses that its key is enrolled for: in the
/// configuration that of a key file, in the store that of a passkey.
async fn verify(
    app: &App,
    envelope: &SignedStatement,
) -> Result<(VerifiedStatement, Vec<String>), Refusal> {
    if envelope.is_by_passkey() {
        let row = app.store.passkey_by_did(&envelope.signer_did).await;
        let row = passkeys::in_force(app, row.map_err(unavailable)?)?;
        let signed = envelope.verify(Some(&row.site())).map_err(unverified)?;
        return Ok((signed, vec![row.email]));
    }
    let signed = envelope.verify(None).map_err(unverified)?;
    let approvers = app.config.approvers.iter();
    let enrolled = approvers.filter(|approver| *signed.signer() == approver.did);
    let enrolled = enrolled.map(|approver| approver.email.clone()).collect();
    Ok((signed, enrolled))
}

fn unverified(error: StatementError) -> Refusal {
    let code = match error {
        StatementError::Passkey(error) => return passkeys::refused(error),
        StatementError::PasskeyUnknown(_) => ReasonCode::PasskeyUnknown,
        StatementError::Envelope(
            EnvelopeError::SignatureInvalid(_) | EnvelopeError::HashMismatch,
        ) => ReasonCode::ApprovalSignature,
        StatementError::Envelope(_) => ReasonCode::ApprovalMalformed,
    };
    Refusal::new(code, error.to_string())
}

/// An agent wants a run applied: the gate will ask as soon as the plan is there.
///
/// # Errors
/// `APPROVAL_REQUIRED` for a run that can never be applied, so that nobody waits for nothing;
/// `STORE_UNAVAILABLE`.
pub async fn wish(app: &Arc<App>, run: &RunRow) -> Result<(), Refusal> {
    let plan_only = match &run.configuration_version_id {
        Some(id) => app
            .store
            .configuration(id)
            .await
            .map_err(unavailable)?
            .is_some_and(|configuration| configuration.speculative),
        None => false,
    };
    if plan_only || run.gate.is_final() {
        let detail = if plan_only {
            "this run only plans, so there is nothing to hold until somebody approves".to_owned()
        } else {
            let reason = run.gate_reason.as_deref().unwrap_or("it has ended");
            format!("the run stands at `{}`: {reason}", run.gate.as_str())
        };
        return Err(Refusal::new(ReasonCode::ApprovalRequired, detail));
    }
    let update = RunUpdate {
        apply_wished: Some(true),
        ..RunUpdate::default()
    };
    app.store
        .update_run(&run.run_id, app.now(), update)
        .await
        .map_err(unavailable)?;
    app.gate.watch(app, &run.job_id, &run.run_id);
    Ok(())
}

/// The use of an elevated token: its approver's statement counts from now on, once.
///
/// # Errors
/// `TOKEN_SPENT`, an `APPROVAL_…` code, or `STORE_UNAVAILABLE`.
pub async fn use_elevated(app: &Arc<App>, token: &LiveToken, run_id: &str) -> Result<(), Refusal> {
    let row = app.store.token(&token.hash).await.map_err(unavailable)?;
    let elevated = row
        .and_then(|row| row.token.elevated)
        .ok_or(ReasonCode::TokenScope)?;
    if elevated.run_id != run_id {
        return Err(ReasonCode::TokenScope.into());
    }
    if !app
        .store
        .use_elevated(&token.hash, app.now())
        .await
        .map_err(unavailable)?
    {
        return Err(ReasonCode::TokenSpent.into());
    }
    submit(app, run_id, elevated.envelope, ApprovalVia::Token)
        .await
        .map(drop)
}

/// Throws a plan away on an operator's word.
///
/// # Errors
/// `APPROVAL_UNKNOWN`, `APPROVAL_CLOSED` when it is being applied or has ended, an `UPSTREAM_…`
/// code, or `STORE_UNAVAILABLE`.
pub async fn discard(app: &App, run_id: &str, by: &str, reason: &str) -> Result<RunRow, Refusal> {
    let run = app.store.run(run_id).await.map_err(unavailable)?;
    let run = run.ok_or(ReasonCode::ApprovalUnknown)?;
    let stoppable = [
        GateState::Planned,
        GateState::Inspecting,
        GateState::AwaitingApproval,
        GateState::Approved,
        GateState::Rechecking,
    ];
    let gate_reason = Some(format!("discarded by {by}: {reason}"));
    let update = RunUpdate {
        gate_reason,
        ..RunUpdate::default()
    };
    // The gate moves first: from here on nobody can approve or apply, whatever upstream answers.
    let moved = app
        .store
        .transition(run_id, &stoppable, GateState::Discarded, app.now(), update)
        .await
        .map_err(unavailable)?;
    let Some(moved) = moved else {
        let detail = format!("the run stands at `{}`", run.gate.as_str());
        return Err(Refusal::new(ReasonCode::ApprovalClosed, detail));
    };
    let discarded = ours::discard_upstream(app, &moved).await;
    // Only now: the gate, too, discards what stands upstream.
    app.gate.wake(run_id);
    discarded.map(|()| moved)
}
