//! Elevated tokens: one approver's yes to one plan, carried by a token that works once.
//!
//! The approval is the statement that the approver signed with their own key; the token only
//! carries it. It takes effect when the token is used on the run's apply action, and is judged
//! again there.

use policy::{ReasonCode, Refusal};
use proof::Envelope;
use proof::approval::{Decision, SignedStatement};
use proof::token::Scope;
use store::{ElevatedApproval, GateState};

use super::{Grant, IssueError, IssuedToken, Issuer, mint, open_job, refuse};
use crate::app::App;
use crate::approvals;

/// Longest life of an elevated token, in seconds: a person waits beside it.
pub const MAX_ELEVATED_TTL_SECONDS: u32 = 600;

/// What is asked for.
#[derive(Debug)]
pub struct ElevatedRequest {
    /// The run that is approved.
    pub run_id: String,
    /// The approver's signed statement.
    pub envelope: Envelope,
    /// Lifetime in seconds; what is left out is as much as is allowed.
    pub ttl_seconds: Option<u32>,
}

/// Issues an elevated token for a run that waits for approval.
///
/// # Errors
/// `APPROVAL_…` when the statement is not this approver's valid yes to the plan as it is now,
/// `TOKEN_REQUEST_REFUSED` for the lifetime, and everything that [`issue`](super::issue) refuses.
pub async fn issue_elevated(
    app: &App,
    operator: &str,
    request: ElevatedRequest,
) -> Result<IssuedToken, IssueError> {
    let (issuer, now) = (Issuer::of(app), app.now());
    let run = issuer
        .store
        .run(&request.run_id)
        .await?
        .ok_or(ReasonCode::ApprovalUnknown)?;
    let (job, contract) = open_job(issuer, &run.job_id).await?;
    let most = MAX_ELEVATED_TTL_SECONDS.min(contract.contract.max_ttl_seconds);
    let ttl = request.ttl_seconds.unwrap_or(most);
    if ttl == 0 || ttl > most {
        return refuse(format!(
            "the lifetime of an elevated token must be 1 to {most} seconds"
        ));
    }
    if run.gate != GateState::AwaitingApproval {
        let detail = format!("the run stands at `{}`", run.gate.as_str());
        return Err(Refusal::new(ReasonCode::ApprovalClosed, detail).into());
    }
    let approvers = &contract.contract.permissions.apply.approvers;
    let envelope = SignedStatement::try_from(request.envelope)
        .map_err(|error| Refusal::new(ReasonCode::ApprovalMalformed, error.to_string()))?;
    let verified = approvals::check(app, &run, &envelope, approvers).await?;
    let statement = verified.into_statement();
    if statement.decision != Decision::Approve {
        let detail = "a token can carry an approval only; hand a denial in as it is";
        return Err(Refusal::new(ReasonCode::ApprovalMalformed, detail).into());
    }
    // The token must not outlive the approval that it carries.
    let left = statement.expires_at.seconds() - now.seconds();
    let ttl = u32::try_from(left).map_or(ttl, |left| ttl.min(left));
    if ttl == 0 {
        return Err(ReasonCode::ApprovalExpired.into());
    }
    let grant = Grant {
        scopes: vec![Scope::ProxyCall, elevated_scope(&run.run_id)?],
        ttl,
        renews: None,
        elevated: Some(ElevatedApproval {
            run_id: run.run_id,
            approver: statement.approver,
            envelope,
        }),
    };
    mint(issuer, operator, &job, grant, now).await
}

fn elevated_scope(run_id: &str) -> Result<Scope, Refusal> {
    Scope::try_from(format!("tfc:apply:{run_id}")).map_err(|_| ReasonCode::IdMalformed.into())
}
