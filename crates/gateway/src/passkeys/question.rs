//! A statement about a run, asked for and signed.

use policy::{ReasonCode, Refusal};
use proof::approval::{Decision, Judgement, SignedStatement, Statement, to_sign};
use proof::record::ApprovalVia;
use proof::{Hash, Json};
use serde_json::Value;
use store::GateState;

use super::wire::{Assertion, request_options};
use super::{of, short_id, site};
use crate::app::App;
use crate::approvals::Barred;
use crate::approvals::{self, MAX_REASON_BYTES, Submitted};
use crate::clawcontrols;
use crate::clawproxy::authenticate::unavailable;
use crate::keys::random_text;
use crate::operator::Problem;
use crate::operator::audit::{Action, audited};
use crate::operator::credential::Operator;

/// What a person wants to say about a run.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The person's e-mail address.
    pub approver: &'a str,
    /// Yes or no.
    pub decision: Decision,
    /// Why; a denial needs it, and the agent reads it.
    pub reason: Option<&'a str>,
    /// With which passkey, by its short id; else with the one used last.
    pub passkey: Option<&'a str>,
}

/// A statement to be signed, and how.
#[derive(Debug, Clone)]
pub struct Question {
    /// The statement, to be handed back as it is.
    pub statement: Json,
    /// Its hash, which is the challenge: what the passkey signs.
    pub hash: Hash,
    /// For the browser.
    pub options: Value,
    /// The short id of the passkey that is asked.
    pub passkey: String,
}

/// Makes the statement that a person would sign about a run as it stands. Nothing is kept.
///
/// # Errors
/// An `APPROVAL_…` code, `PASSKEY_UNKNOWN`, `PASSKEYS_UNAVAILABLE`, `STORE_UNAVAILABLE`.
pub async fn question(app: &App, run_id: &str, asked: Asked<'_>) -> Result<Question, Refusal> {
    let site = site(app)?;
    let run = app.store.run(run_id).await.map_err(unavailable)?;
    let run = run.ok_or(ReasonCode::ApprovalUnknown)?;
    let job = app.store.job(&run.job_id).await.map_err(unavailable)?;
    let job = job.ok_or(ReasonCode::ApprovalUnknown)?;
    let contract = clawcontrols::contract(app, &job.policy_hash).await;
    let contract = contract.map_err(unavailable)?;
    let contract = contract.ok_or(ReasonCode::ContractUnknown)?;
    let terms = &contract.contract.permissions.apply;
    if !terms
        .approvers
        .iter()
        .any(|email| email.as_str() == asked.approver)
    {
        return Err(ReasonCode::ApprovalNotAnApprover.into());
    }
    if asked.decision == Decision::Approve {
        Barred::of(&job, terms).check([asked.approver].into_iter())?;
    }
    let open = match asked.decision {
        Decision::Approve => run.gate == GateState::AwaitingApproval,
        Decision::Deny => matches!(run.gate, GateState::AwaitingApproval | GateState::Approved),
    };
    let (Some(subject), Some(expires_at), true) = (run.subject, run.approval_expires_at, open)
    else {
        let detail = format!("the run stands at `{}`", run.gate.as_str());
        return Err(Refusal::new(ReasonCode::ApprovalClosed, detail));
    };
    let now = app.now();
    if expires_at <= now {
        return Err(ReasonCode::ApprovalExpired.into());
    }
    let reason = asked.reason.map(str::trim).filter(|text| !text.is_empty());
    check_reason(asked.decision, reason)?;
    let passkeys = of(app, asked.approver).await?;
    let passkey = match asked.passkey {
        Some(id) => passkeys.iter().find(|row| short_id(row) == id),
        None => passkeys.first(),
    };
    let passkey = passkey.ok_or(ReasonCode::PasskeyUnknown)?;
    let statement = subject.judge(Judgement {
        decision: asked.decision,
        approver: asked.approver.to_owned(),
        approver_did: passkey.passkey.did.clone(),
        issued_at: now,
        expires_at,
        nonce: random_text(),
        reason: reason.map(str::to_owned),
    });
    let (statement, hash) = to_sign(&statement)
        .map_err(|error| Refusal::new(ReasonCode::ApprovalMalformed, error.to_string()))?;
    let credentials = [passkey.passkey.credential_id.as_slice()];
    Ok(Question {
        options: request_options(&site, hash.as_bytes(), &credentials),
        statement,
        hash,
        passkey: short_id(passkey),
    })
}

/// One line of words; what is signed is shown again, and cannot be cut then.
fn check_reason(decision: Decision, reason: Option<&str>) -> Result<(), Refusal> {
    let malformed = |detail| Err(Refusal::new(ReasonCode::ApprovalMalformed, detail));
    match reason {
        None if decision == Decision::Deny => malformed("a denial needs a reason"),
        Some(text) if text.len() > MAX_REASON_BYTES || text.chars().any(char::is_control) => {
            malformed("a reason has up to 1000 bytes on one line")
        }
        _ => Ok(()),
    }
}

/// Takes a statement back with a passkey's signature over it. Everything is checked again, as for
/// a key file, and what was handed in is noted whatever becomes of it.
///
/// # Errors
/// An `APPROVAL_…` or `PASSKEY_…` code, `STORE_UNAVAILABLE`.
pub async fn answer(
    app: &App,
    run_id: &str,
    operator: &Operator,
    statement: &Json,
    assertion: Assertion,
) -> Result<Submitted, Problem> {
    let statement: Statement = statement.to_typed().map_err(|error| {
        let detail = format!("not the statement that was offered: {error}");
        Problem::new(ReasonCode::ApprovalMalformed, detail)
    })?;
    let action = Action {
        operator: operator.name(),
        name: "approval.submit",
        subject: run_id.to_owned(),
        detail: vec![("signer_did", statement.approver_did.to_string())],
        at: app.now(),
    };
    audited(&*app.store, action, async {
        let signed = SignedStatement::by_passkey(&statement, assertion.signed)
            .map_err(|error| Refusal::new(ReasonCode::ApprovalMalformed, error.to_string()))?;
        let submitted = approvals::submit(app, run_id, signed, ApprovalVia::Passkey).await?;
        Ok::<_, Problem>(submitted)
    })
    .await
}
