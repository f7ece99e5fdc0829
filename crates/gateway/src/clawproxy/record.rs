//! Evidence of a call: the intent before it, the outcome with its receipt after it, or the
//! refusal in its place.
//!
//! [`Permit`] is the proof that an intent is in the log's queue; [`intent`], and for an apply
//! [`intent_to_apply`], are its only makers, and nothing goes upstream on an agent's behalf
//! without one.

mod facts;
mod refusals;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use policy::{Decision, DecisionInput, ReasonCode, Refusal, Verdict};
use proof::receipt::{self, Binding, GatewayReceipt, ResultStatus, ToolReceipt};
use proof::record::{
    Body, Caller as RecordedCaller, CausedBy, Ended, Intent, JobId, Lane, Outcome, ReceiptRef,
    Usage,
};
use proof::{Did, Envelope, EnvelopeType, Hash, Json, Timestamp};
use store::{Appended, Pending, RunUpdate, StoreError, kill_point};

use super::authenticate::{Caller, unavailable};
use super::weight;
use crate::app::App;
use crate::keys::{SignError, random_bytes, timed_uuid};
use crate::live::Underway;

pub use facts::{Facts, ModelNames, end_unsigned};
pub use refusals::{counted, refusal};

/// Whether the store takes records, as far as the last of them told.
#[derive(Debug, Default)]
pub struct Recording {
    failing: AtomicBool,
}

impl Recording {
    /// The last record was not taken for a reason that the next one will meet, too.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    fn note<T>(&self, result: &Result<T, StoreError>) {
        let failing = match result {
            Ok(_) => false,
            // About this record alone.
            Err(StoreError::Conflict(_)) => return,
            Err(_) => true,
        };
        // Read first: calls in parallel need not write the same all the time.
        if self.is_failing() != failing {
            self.failing.store(failing, Ordering::Relaxed);
        }
    }
}

/// On whose behalf a call is made.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The job.
    pub job_id: JobId,
    /// As records name the caller.
    pub caller: RecordedCaller,
    /// The contract that decides.
    pub policy_hash: Hash,
    /// Scope hash of the token; none for the gateway's own calls.
    pub token_scope_hash: Option<Hash>,
}

impl From<&Caller> for Principal {
    fn from(caller: &Caller) -> Self {
        Self {
            job_id: caller.token.job.id.clone(),
            caller: caller.recorded(),
            policy_hash: caller.contract().hash,
            token_scope_hash: Some(caller.token.claims.token_scope_hash_b64u),
        }
    }
}

impl Principal {
    /// The gateway itself, acting for a job.
    pub fn gateway(job_id: JobId, agent_did: Did, policy_hash: Hash) -> Self {
        let caller = RecordedCaller {
            token_hash: "gateway".to_owned(),
            agent_did,
            holder: "gateway".to_owned(),
        };
        Self {
            job_id,
            caller,
            policy_hash,
            token_scope_hash: None,
        }
    }
}

/// What is about to be done.
#[derive(Debug)]
pub struct Planned<'a> {
    /// Through which lane.
    pub lane: Lane,
    /// Stable name of the operation.
    pub operation: &'a str,
    /// The run that it concerns.
    pub run_id: Option<String>,
    /// What the decision was made from.
    pub input: &'a DecisionInput<'a>,
    /// Hash of the body that goes upstream.
    pub request_hash: Hash,
    /// Whether it can change anything.
    pub mutates: bool,
    /// The client's trace id.
    pub trace_id: Option<String>,
    /// The model call that asked for it.
    pub caused_by: Option<CausedBy>,
}

/// The proof that a call was decided and that its intent is recorded, or is being recorded for
/// a call that cannot change anything.
#[derive(Debug)]
pub struct Permit {
    principal: Principal,
    lane: Lane,
    operation: String,
    intent: Stage,
    request_hash: Hash,
    receipt_id: String,
    started: Instant,
    /// Counts in the job's evidence.
    underway: Option<Underway>,
}

#[derive(Debug)]
enum Stage {
    Queued(Pending),
    Durable(Box<Appended>),
    /// The store did not take it.
    Failed(StoreError),
}

/// Records the intent of a call that was decided.
///
/// A call that can change something waits until the intent is durable: after a crash the intent
/// is there and the call is reconciled. For a read the intent is in the writer's queue, and the
/// answer is given only once it is durable.
///
/// # Errors
/// The decision's own reason when it is a denial; `STORE_UNAVAILABLE` when it cannot be
/// recorded, `SIGNER_UNAVAILABLE` when no receipt could be given for it, and then nothing is done.
pub async fn intent(
    app: &App,
    principal: Principal,
    planned: Planned<'_>,
    decision: Decision,
) -> Result<Permit, Refusal> {
    let mutates = planned.mutates;
    let (intent, permit) = decided(principal, planned, decision)?;
    can_sign(app).await?;
    let bytes = weight::of_intent(&intent);
    let body = Body::Intent(Box::new(intent));
    let now = app.now();
    let pending = app.store.append(&permit.principal.job_id, now, body);
    let stage = if mutates {
        let handed_in = Instant::now();
        let appended = pending.await;
        app.metrics.store_write.observe(handed_in.elapsed());
        app.recording.note(&appended);
        note_time(app, &permit.principal.job_id, &appended);
        Stage::Durable(Box::new(appended.map_err(not_recorded)?))
    } else {
        Stage::Queued(pending)
    };
    Ok(permit.with(app, stage, now, bytes))
}

/// Moves the gate of `run` from `rechecking` to `applying` and records the intent of its apply,
/// in one transaction. `None` when the gate stands elsewhere by now: somebody else applies, or
/// the run was discarded in this very moment.
///
/// # Errors
/// Those of [`intent`]; the gate has not moved then.
pub async fn intent_to_apply(
    app: &App,
    principal: Principal,
    planned: Planned<'_>,
    decision: Decision,
    update: RunUpdate,
) -> Result<Option<Permit>, Refusal> {
    let (intent, permit) = decided(principal, planned, decision)?;
    can_sign(app).await?;
    let run_id = intent.run_id.clone().ok_or(ReasonCode::Internal)?;
    let bytes = weight::of_intent(&intent);
    let now = app.now();
    let begun = app.store.begin_apply(&run_id, now, update, intent);
    let appended = begun.await.map_err(not_recorded)?;
    let durable = |appended| Stage::Durable(Box::new(appended));
    Ok(appended.map(|appended| permit.with(app, durable(appended), now, bytes)))
}

/// Whether a receipt can be given, as far as that is known: without one nothing is done.
///
/// # Errors
/// `SIGNER_UNAVAILABLE`.
pub async fn can_sign(app: &App) -> Result<(), Refusal> {
    let ready = app.keys.now().receipt.ready().await;
    ready.map_err(|error| error.refusal())
}

/// The intent of a call that was not denied, and its permit but for the intent's place.
fn decided(
    principal: Principal,
    planned: Planned<'_>,
    decision: Decision,
) -> Result<(Intent, Unrecorded), Refusal> {
    if decision.verdict == Verdict::Deny {
        let detail = decision.reasons.join("; ");
        return Err(Refusal::new(decision.code, detail));
    }
    let intent = Intent {
        caller: principal.caller.clone(),
        lane: planned.lane,
        operation: planned.operation.to_owned(),
        run_id: planned.run_id,
        input: Json::from_value(planned.input).map_err(|_| ReasonCode::Internal)?,
        decision: Json::from_value(&decision).map_err(|_| ReasonCode::Internal)?,
        policy_hash_b64u: principal.policy_hash,
        request_hash_b64u: planned.request_hash,
        trace_id: planned.trace_id,
        caused_by: planned.caused_by,
    };
    let unrecorded = Unrecorded {
        principal,
        lane: planned.lane,
        operation: planned.operation.to_owned(),
        request_hash: planned.request_hash,
    };
    Ok((intent, unrecorded))
}

/// What a permit holds besides the place of its intent. It permits nothing.
struct Unrecorded {
    principal: Principal,
    lane: Lane,
    operation: String,
    request_hash: Hash,
}

impl Unrecorded {
    /// The permit of an intent of that time, which takes so many bytes.
    fn with(self, app: &App, intent: Stage, now: Timestamp, bytes: u64) -> Permit {
        let job = app.live.job(&self.principal.job_id);
        let underway = job.map(|job| job.begin_call(bytes, weight::most_of_outcome(self.lane)));
        Permit {
            underway,
            principal: self.principal,
            lane: self.lane,
            operation: self.operation,
            intent,
            request_hash: self.request_hash,
            receipt_id: format!("rcpt_{}", timed_uuid(now)),
            started: Instant::now(),
        }
    }
}

/// Why the end of a call cannot be proven, so that its answer is not given out.
#[derive(Debug, thiserror::Error)]
pub enum NotProven {
    /// It was not recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was recorded as unknown: there is no receipt.
    #[error(transparent)]
    Signer(#[from] SignError),
}

impl NotProven {
    /// The reason, for the caller.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Store(error) => not_recorded(error),
            Self::Signer(error) => error.refusal(),
        }
    }
}

/// The end of a recorded call.
#[derive(Debug)]
pub struct Recorded {
    /// The receipt.
    pub envelope: Envelope,
    /// The outcome's place in the log.
    pub appended: Appended,
}

impl Permit {
    /// Id of the receipt that the call will get.
    pub fn receipt_id(&self) -> &str {
        &self.receipt_id
    }

    /// Milliseconds since the permit was given.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The job.
    pub fn job_id(&self) -> &JobId {
        &self.principal.job_id
    }

    /// Resolves when the intent is durable. Dropping the future takes nothing back.
    ///
    /// # Errors
    /// When the store did not take it; the call must not be answered then.
    pub async fn recorded(&mut self, app: &App) -> Result<(), StoreError> {
        if let Stage::Queued(pending) = &mut self.intent {
            let appended = pending.await;
            app.recording.note(&appended);
            self.intent = match appended {
                Ok(appended) => Stage::Durable(Box::new(appended)),
                Err(error) => Stage::Failed(error),
            };
        }
        match &self.intent {
            Stage::Failed(error) => Err(error.clone()),
            Stage::Queued(_) | Stage::Durable(_) => Ok(()),
        }
    }

    /// Records how the call ended and signs its receipt; resolves when both are durable.
    ///
    /// A call whose receipt cannot be signed ends `unknown`, with what was seen of it: verifiers
    /// know that end, which has no receipt, and never call its job proven. What was learnt of ids
    /// is kept, so that a run that was made can be found again.
    ///
    /// # Errors
    /// When the store cannot write, or the receipt cannot be signed: the answer must not be given
    /// out then, because nothing would prove it.
    pub async fn finish(
        self,
        app: &App,
        facts: Facts,
        model: Option<&ModelNames>,
    ) -> Result<Recorded, NotProven> {
        kill_point!("call.forwarded");
        let latency_ms = self.elapsed_ms();
        let intent = match self.intent {
            Stage::Durable(appended) => *appended,
            Stage::Queued(pending) => {
                let appended = pending.await;
                app.recording.note(&appended);
                appended?
            }
            Stage::Failed(error) => return Err(error.into()),
        };
        let event = intent.event.as_ref();
        let binding = Binding {
            run_id: self.principal.job_id.to_string(),
            event_hash_b64u: event.expect("an intent is an event").event_hash_b64u,
            nonce: format!("{}:{}", self.principal.job_id, intent.seq),
            policy_hash: self.principal.policy_hash,
            token_scope_hash_b64u: self.principal.token_scope_hash,
        };
        // A clock that has gone back must not end a call before it began.
        let now = app.now().max(intent.at);
        let signing = app.keys.signing().await;
        let signer = &app.keys.now().receipt;
        let signed = match model {
            Some(names) => {
                let usage = facts.usage.unwrap_or(Usage {
                    tokens_input: 0,
                    tokens_output: 0,
                    derived: true,
                });
                let mut ours = Json::object();
                ours.set(
                    "ended",
                    Json::from_value(&facts.ended).unwrap_or(Json::Null),
                );
                ours.set("issuer", signer.did().as_str());
                ours.set("tokens_derived", usage.derived);
                if let Some(means) = facts.counted_by {
                    ours.set("tokens_counted_by", means);
                }
                let mut metadata = Json::object();
                metadata.set("clawgate", ours);
                let receipt = GatewayReceipt {
                    receipt_version: "1".to_owned(),
                    receipt_id: self.receipt_id.clone(),
                    gateway_id: app.config.gateway_id.clone(),
                    provider: names.provider.clone(),
                    model: names.model.clone(),
                    request_hash_b64u: self.request_hash,
                    response_hash_b64u: facts.response_hash,
                    tokens_input: usage.tokens_input.min(10_000_000),
                    tokens_output: usage.tokens_output.min(10_000_000),
                    latency_ms: latency_ms.min(3_600_000),
                    timestamp: now,
                    binding,
                    metadata,
                };
                let kind = EnvelopeType::GatewayReceipt;
                signer.envelope(kind, &receipt, now).await
            }
            None => {
                let args_salt = Hash::from_bytes(random_bytes());
                let result_salt = Hash::from_bytes(random_bytes());
                let success = facts.ended == Ended::Complete
                    && facts.code.is_none()
                    && facts
                        .status
                        .is_some_and(|status| status < 400 || status == 404);
                let receipt = ToolReceipt {
                    receipt_version: "2".to_owned(),
                    receipt_id: self.receipt_id.clone(),
                    tool_name: format!("{}{}", receipt::tool_prefix(self.lane), self.operation),
                    tool_version: "clawgate/1".to_owned(),
                    args_hash_b64u: receipt::salted(&args_salt, &self.request_hash),
                    result_hash_b64u: receipt::salted(&result_salt, &facts.response_hash),
                    hash_algorithm: "SHA-256".to_owned(),
                    agent_did: self.principal.caller.agent_did.clone(),
                    timestamp: now,
                    latency_ms: latency_ms.min(3_600_000),
                    result_status: if success {
                        ResultStatus::Success
                    } else {
                        ResultStatus::Error
                    },
                    args_salt_b64u: args_salt,
                    result_salt_b64u: result_salt,
                    binding,
                };
                let kind = EnvelopeType::ToolReceipt;
                signer.envelope(kind, &receipt, now).await
            }
        };
        let mut outcome = Outcome {
            intent_seq: intent.seq,
            status: facts.status,
            upstream_status: facts.upstream_status,
            response_hash_b64u: facts.response_hash,
            response_bytes: facts.response_bytes,
            latency_ms,
            first_byte_ms: facts.first_byte_ms,
            usage: facts.usage,
            tool_calls: facts.tool_calls,
            object_id: facts.object_id,
            egress: facts.egress.map(|egress| *egress),
            ended: facts.ended,
            code: facts.code.map(|code| code.as_str().to_owned()),
            receipt: signed.as_ref().ok().map(|envelope| ReceiptRef {
                receipt_id: self.receipt_id,
                payload_hash_b64u: envelope.payload_hash_b64u,
            }),
        };
        if signed.is_err() {
            end_unsigned(&mut outcome);
        }
        if let Some(underway) = self.underway {
            underway.end(weight::of_outcome(&outcome));
        }
        let job_id = &self.principal.job_id;
        let ended = outcome.ended;
        kill_point!("call.signed");
        let handed_in = Instant::now();
        let pending = app.store.append_outcome(
            job_id,
            now,
            outcome,
            signed.as_ref().ok().cloned(),
            facts.learned,
        );
        drop(signing);
        let appended = pending.await;
        app.metrics.store_write.observe(handed_in.elapsed());
        app.metrics.ended(self.lane, ended);
        app.recording.note(&appended);
        note_time(app, job_id, &appended);
        let appended = appended?;
        kill_point!("call.recorded");
        for stray in &appended.not_learned {
            tracing::warn!(
                kind = stray.kind,
                id = stray.id,
                "an id is known to belong elsewhere"
            );
        }
        Ok(Recorded {
            envelope: signed?,
            appended,
        })
    }

    /// Which lane it is for.
    pub fn lane(&self) -> Lane {
        self.lane
    }
}

/// Remembers when a job's latest record was made.
fn note_time(app: &App, job_id: &JobId, appended: &Result<Appended, StoreError>) {
    if let (Ok(appended), Some(job)) = (appended, app.live.job(job_id)) {
        job.wrote_at(appended.at);
    }
}

/// A store that does not take the intent, in the words of the caller's side.
fn not_recorded(error: StoreError) -> Refusal {
    match error.conflict() {
        Some(store::Conflict::JobClosed(_)) => ReasonCode::TokenJobClosed.into(),
        // By another gateway, of which this one was not told yet.
        Some(store::Conflict::TokenRevoked) => ReasonCode::TokenRevoked.into(),
        // By the time of a record that another gateway has made.
        Some(store::Conflict::TokenExpired) => ReasonCode::TokenExpired.into(),
        _ => match error {
            StoreError::Busy => ReasonCode::Overloaded.into(),
            other => unavailable(other),
        },
    }
}
