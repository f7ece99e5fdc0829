//! The way back: discard a plan, stop a job, return a workspace to an earlier state.
//!
//! Each is noted as an operator's action before it is done, and what reaches upstream on behalf
//! of an open job is recorded in that job like any other call.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use policy::terraform::ids::{StateVersionId, WorkspaceId};
use policy::{Decision, ReasonCode, Refusal, Verdict};
use proof::json::Numbers;
use proof::receipt::{self, Binding, ResultStatus, ToolReceipt};
use proof::record::{Body, Caller, Ended, Intent, JobId, Lane, Outcome, ReceiptRef};
use proof::{EnvelopeType, Hash, Json};
use store::{Appended, JobRow, RunRow, StoreError};
use tokio::time::Instant;

use crate::app::App;
use crate::clawproxy::record::{can_sign, end_unsigned};
use crate::jobs::{self, EndedJob, JobError, RunningApply};
use crate::keys::{random_bytes, timed_uuid};
use crate::operator::audit::{Action, audited};
use crate::upstream::{Answer, Duty, UpstreamError};
use crate::watching;
use crate::{approvals, clawcontrols, clawscope};

/// Name of the operation in records and receipts.
const ROLLBACK_STATE: &str = "rollback-state";

/// Why something was not rolled back.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job was not closed or not sealed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// Upstream did not do it.
    #[error("{step}: {detail}")]
    Upstream {
        /// The reason code for the caller.
        code: ReasonCode,
        /// What was being done.
        step: &'static str,
        /// How it failed, and in what condition the workspace is now.
        detail: String,
    },
}

impl From<ReasonCode> for RollbackError {
    fn from(code: ReasonCode) -> Self {
        Self::Refused(code.into())
    }
}

/// Discards a run's plan: nothing of it is applied any more.
///
/// # Errors
/// `OBJECT_UNKNOWN`, the gate's refusal for a run that has ended or is being applied, or the
/// store's.
pub async fn discard_run(
    app: &App,
    operator: &str,
    run_id: &str,
    reason: &str,
) -> Result<RunRow, RollbackError> {
    if app.store.run(run_id).await?.is_none() {
        return Err(ReasonCode::ObjectUnknown.into());
    }
    let action = Action {
        operator,
        name: "rollback.run",
        subject: run_id.to_owned(),
        detail: vec![("reason", reason.to_owned())],
        at: app.now(),
    };
    audited(&*app.store, action, async {
        approvals::discard(app, run_id, operator, reason)
            .await
            .map_err(RollbackError::from)
    })
    .await
}

/// A job that was stopped.
#[derive(Debug)]
pub struct StoppedJob {
    /// The closed job, with its bundle if that could be sealed.
    pub ended: EndedJob,
    /// Hashes of the tokens that were revoked, in hexadecimal.
    pub revoked_tokens: Vec<String>,
    /// Runs that upstream may still be applying.
    pub unfinished_runs: Vec<String>,
}

/// Stops a job now: no more calls, tokens revoked, waiting runs discarded, closed, and sealed when
/// its bundle waits for nobody. A running apply is upstream's and cannot be taken back; it is named
/// in the answer.
///
/// # Errors
/// `JOB_UNKNOWN`, or what ending it fails with.
pub async fn stop_job(
    app: &Arc<App>,
    operator: &str,
    job_id: &JobId,
    reason: &str,
) -> Result<StoppedJob, RollbackError> {
    let job = app.store.job(job_id).await?.ok_or(ReasonCode::JobUnknown)?;
    // What is known first: it stops the agent at once, and the store makes it last below.
    if job.state.is_open() {
        app.live.end_job(job_id);
    }
    let action = Action {
        operator,
        name: "rollback.job",
        subject: job_id.to_string(),
        detail: vec![("reason", reason.to_owned())],
        at: app.now(),
    };
    audited(&*app.store, action, async {
        let mut revoked_tokens = Vec::new();
        for row in app.store.tokens(job_id).await? {
            let hash = row.token.token_hash;
            let spent = row.token.claims.expires_at() <= app.now();
            if row.revoked.is_some() || spent {
                continue;
            }
            let now = app.now();
            clawscope::revoke(&*app.store, &app.live, operator, &hash, reason, now).await?;
            revoked_tokens.push(hash.to_hex());
        }
        let running = RunningApply::LeftBehind;
        // Whatever its bundle waits for: what the responder needs is the list.
        let ended = jobs::end(app, operator, job_id, reason, running).await?;
        let runs = app.store.runs(job_id).await?;
        let unfinished = runs.into_iter().filter(|run| !run.gate.is_final());
        let unfinished_runs = unfinished.map(|run| run.run_id).collect();
        Ok(StoppedJob {
            ended,
            revoked_tokens,
            unfinished_runs,
        })
    })
    .await
}

/// Which workspace returns to which state.
#[derive(Debug, Clone)]
pub struct StateRollback {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The earlier state version.
    pub state_version: StateVersionId,
    /// Why; upstream shows it as the reason of the lock.
    pub reason: String,
    /// The open job in whose evidence it shall stand.
    pub job_id: Option<JobId>,
}

/// A workspace that was returned to an earlier state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The new state version, with the content of the earlier one.
    pub state_version: String,
}

/// Locks the workspace, makes the earlier state current, unlocks it. Resources are not touched:
/// only what Terraform believes about them.
///
/// # Errors
/// `JOB_UNKNOWN`, `JOB_CLOSED` and `WORKSPACE_NOT_ALLOWED` for the job that was named, upstream's
/// refusal, or the store's.
pub async fn return_to_state(
    app: &App,
    operator: &str,
    request: &StateRollback,
) -> Result<RolledBack, RollbackError> {
    let job = match &request.job_id {
        Some(job_id) => Some(open_job_with(app, job_id, &request.workspace).await?),
        None => None,
    };
    let mut detail = vec![
        ("state_version_id", request.state_version.to_string()),
        ("reason", request.reason.clone()),
    ];
    if let Some(job) = &job {
        detail.push(("job_id", job.job_id.to_string()));
    }
    let subject = request.workspace.to_string();
    let action = Action {
        operator,
        name: "rollback.state",
        subject,
        detail,
        at: app.now(),
    };
    audited(&*app.store, action, async {
        // Until it is kept which state version is ours, no look takes it for somebody else's.
        let _write = app.watching.own_write();
        let done = match &job {
            Some(job) => recorded(app, operator, job, request).await,
            None => exchange(app, request).await.1,
        };
        if let Ok(done) = &done {
            let workspace = request.workspace.as_str();
            let noted =
                watching::note_rollback(app, workspace, &done.state_version, operator).await;
            if let Err(error) = noted {
                // It is done all the same; a look will take it for somebody else's.
                tracing::error!(%error, "a rollback's state version could not be noted");
            }
        }
        done
    })
    .await
}

/// The job must be open, and the workspace must be one of its contract's: a job's evidence is
/// about nothing else.
async fn open_job_with(
    app: &App,
    job_id: &JobId,
    workspace: &WorkspaceId,
) -> Result<JobRow, RollbackError> {
    let job = app.store.job(job_id).await?.ok_or(ReasonCode::JobUnknown)?;
    if !job.state.is_open() {
        return Err(ReasonCode::JobClosed.into());
    }
    let contract = clawcontrols::contract(app, &job.policy_hash).await?;
    let contract = contract.ok_or(ReasonCode::ContractUnknown)?;
    if !contract.compiled.has_workspace(workspace.as_str()) {
        return Err(ReasonCode::WorkspaceNotAllowed.into());
    }
    Ok(job)
}

/// The exchange, between its intent and its outcome.
async fn recorded(
    app: &App,
    operator: &str,
    job: &JobRow,
    request: &StateRollback,
) -> Result<RolledBack, RollbackError> {
    can_sign(app).await?;
    let body = intent(operator, job, request);
    let intent = app.store.append(&job.job_id, app.now(), body).await?;
    let started = Instant::now();
    let (answer, result) = exchange(app, request).await;
    let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let code = match &result {
        Err(RollbackError::Upstream { code, .. }) => Some(*code),
        _ => None,
    };
    let (mut outcome, receipt) = outcome(app, job, request, &intent, answer, code, latency_ms);
    let guard = app.keys.signing().await;
    let signer = &app.keys.now().receipt;
    let signing = signer.envelope(EnvelopeType::ToolReceipt, &receipt, receipt.timestamp);
    let signed = signing.await;
    match &signed {
        Ok(envelope) => {
            outcome.receipt = Some(ReceiptRef {
                receipt_id: receipt.receipt_id,
                payload_hash_b64u: envelope.payload_hash_b64u,
            });
        }
        Err(_) => end_unsigned(&mut outcome),
    }
    let envelope = signed.as_ref().ok().cloned();
    let recording = app
        .store
        .append_outcome(&job.job_id, app.now(), outcome, envelope, Vec::new());
    drop(guard);
    recording.await?;
    signed.map_err(|error| error.refusal())?;
    result
}

fn intent(operator: &str, job: &JobRow, request: &StateRollback) -> Body {
    // Not the contract's decision but an operator's, so the input says who and why.
    let mut input = Json::object();
    input.set("lane", "gateway");
    input.set("operation", ROLLBACK_STATE);
    input.set("workspace_id", request.workspace.as_str());
    input.set("state_version_id", request.state_version.as_str());
    input.set("operator", operator);
    input.set("reason", request.reason.as_str());
    let decision = Decision {
        verdict: Verdict::Allow,
        code: ReasonCode::Allowed,
        reasons: Vec::new(),
    };
    Body::Intent(Box::new(Intent {
        caller: Caller {
            token_hash: "gateway".to_owned(),
            agent_did: job.agent_did.clone(),
            holder: "gateway".to_owned(),
        },
        lane: Lane::Gateway,
        operation: ROLLBACK_STATE.to_owned(),
        run_id: None,
        input,
        decision: Json::from_value(&decision).expect("a decision is texts"),
        policy_hash_b64u: job.policy_hash,
        request_hash_b64u: Hash::of(&rollback_body(&request.state_version)),
        trace_id: None,
        caused_by: None,
    }))
}

fn outcome(
    app: &App,
    job: &JobRow,
    request: &StateRollback,
    intent: &Appended,
    answer: Option<Answer>,
    code: Option<ReasonCode>,
    latency_ms: u64,
) -> (Outcome, ToolReceipt) {
    let now = app.now();
    let body = answer
        .as_ref()
        .map_or(Bytes::new(), |answer| answer.body.clone());
    let (request_hash, response_hash) = (
        Hash::of(&rollback_body(&request.state_version)),
        Hash::of(&body),
    );
    let event = intent.event.as_ref().expect("an intent is an event");
    let (args_salt, result_salt) = (
        Hash::from_bytes(random_bytes()),
        Hash::from_bytes(random_bytes()),
    );
    let receipt = ToolReceipt {
        receipt_version: "2".to_owned(),
        receipt_id: format!("rcpt_{}", timed_uuid(now)),
        tool_name: format!("terraform_cloud.{ROLLBACK_STATE}"),
        tool_version: "clawgate/1".to_owned(),
        args_hash_b64u: receipt::salted(&args_salt, &request_hash),
        result_hash_b64u: receipt::salted(&result_salt, &response_hash),
        hash_algorithm: "SHA-256".to_owned(),
        agent_did: job.agent_did.clone(),
        timestamp: now,
        latency_ms: latency_ms.min(3_600_000),
        result_status: match code {
            None => ResultStatus::Success,
            Some(_) => ResultStatus::Error,
        },
        args_salt_b64u: args_salt,
        result_salt_b64u: result_salt,
        binding: Binding {
            run_id: job.job_id.to_string(),
            event_hash_b64u: event.event_hash_b64u,
            nonce: format!("{}:{}", job.job_id, intent.seq),
            policy_hash: job.policy_hash,
            token_scope_hash_b64u: None,
        },
    };
    let outcome = Outcome {
        intent_seq: intent.seq,
        tool_calls: Vec::new(),
        status: None,
        upstream_status: answer.as_ref().map(|answer| answer.status.as_u16()),
        response_hash_b64u: response_hash,
        response_bytes: body.len() as u64,
        latency_ms,
        first_byte_ms: None,
        usage: None,
        object_id: Some(request.workspace.to_string()),
        egress: None,
        ended: if answer.is_some() {
            Ended::Complete
        } else {
            Ended::UpstreamReset
        },
        code: code.map(|code| code.as_str().to_owned()),
        // Once it is signed.
        receipt: None,
    };
    (outcome, receipt)
}

/// Lock, roll back, unlock. The answer is upstream's to the rolling back, or to the step before
/// it that failed. A workspace that we locked is unlocked whatever happens.
async fn exchange(
    app: &App,
    request: &StateRollback,
) -> (Option<Answer>, Result<RolledBack, RollbackError>) {
    let workspace = &request.workspace;
    let mut reason = Json::object();
    reason.set("reason", format!("clawgate: {}", request.reason));
    let lock = format!("/api/v2/workspaces/{workspace}/actions/lock");
    let locked = call(app, Method::POST, &lock, Some(reason.to_jcs())).await;
    let locked = judge("the workspace was not locked", locked);
    if locked.1.is_err() {
        return (
            locked.0,
            locked.1.map(|_| RolledBack {
                state_version: String::new(),
            }),
        );
    }
    let target = format!("/api/v2/workspaces/{workspace}/state-versions");
    let body = rollback_body(&request.state_version);
    let rolled = call(app, Method::PATCH, &target, Some(body)).await;
    let (answer, rolled) = judge("the state was not rolled back", rolled);
    let unlock = format!("/api/v2/workspaces/{workspace}/actions/unlock");
    let (_, unlocked) = judge(
        "the workspace is still locked",
        call(app, Method::POST, &unlock, None).await,
    );
    let result = match (rolled, unlocked) {
        (Ok(state_version), Ok(_)) => Ok(RolledBack { state_version }),
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => Err(error),
        (Err(RollbackError::Upstream { code, step, detail }), Err(_)) => {
            let detail = format!("{detail}; and the workspace is still locked");
            Err(RollbackError::Upstream { code, step, detail })
        }
        (Err(error), Err(_)) => Err(error),
    };
    (answer, result)
}

async fn call(
    app: &App,
    method: Method,
    target: &str,
    body: Option<Vec<u8>>,
) -> Result<Answer, UpstreamError> {
    app.upstream
        .call(Duty::Executor, method, target, body.map(Bytes::from))
        .await
}

/// Upstream's answer and the id in it, or why it is a failure.
fn judge(
    step: &'static str,
    answer: Result<Answer, UpstreamError>,
) -> (Option<Answer>, Result<String, RollbackError>) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let code = error.code();
            let detail = error.to_string();
            return (None, Err(RollbackError::Upstream { code, step, detail }));
        }
    };
    let code = match answer.status {
        status if status.is_success() => {
            let id = proof::json::parse(&answer.body, Numbers::Any).ok();
            let id = id.as_ref().and_then(|body| body.at(&["data", "id"]));
            let id = id.and_then(Json::as_str).unwrap_or_default().to_owned();
            return (Some(answer), Ok(id));
        }
        StatusCode::UNAUTHORIZED => ReasonCode::UpstreamUnauthorized,
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => ReasonCode::UpstreamNotFound,
        StatusCode::CONFLICT => ReasonCode::UpstreamConflict,
        StatusCode::TOO_MANY_REQUESTS => ReasonCode::UpstreamRateLimited,
        status if status.is_client_error() => ReasonCode::UpstreamRefused,
        _ => ReasonCode::UpstreamGarbage,
    };
    let detail = format!("upstream answered {}", answer.status.as_u16());
    (
        Some(answer),
        Err(RollbackError::Upstream { code, step, detail }),
    )
}

/// The vendor's body for a rollback.
fn rollback_body(state_version: &StateVersionId) -> Vec<u8> {
    let body = serde_json::json!({ "data": {
        "type": "state-versions",
        "relationships": { "rollback-state-version": {
            "data": { "type": "state-versions", "id": state_version },
        }},
    }});
    serde_json::to_vec(&body).expect("texts are JSON")
}
