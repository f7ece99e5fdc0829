//! The Terraform lane: what a call asks for, and what is done about it once it is permitted.
//!
//! Reading order: [`resolve()`] finds out what a call is really about, [`forward`] does it. Calls
//! that make or change something have files of their own: [`runs`], `uploads`; `logs` serves
//! capability addresses; `local` answers what upstream need not be asked; [`workspaces`] knows
//! to which organization a contract's workspaces belong.
//!
//! To open a route to agents: give its row in the route table an operation (the recipe is in the
//! policy crate), then an arm in `resolve::facts` if it needs other facts, and one in
//! [`forward`].

mod lists;
mod local;
mod logs;
mod pinned;
mod resolve;
pub mod runs;
pub mod sensitive;
pub(crate) mod uploads;
pub mod workspaces;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use policy::terraform::answer::{self, Learned, SignedUrl};
use policy::terraform::{Call, Effect, ObjectKind, Target};
use policy::{DecisionInput, ReasonCode, Refusal};
use proof::record::{Ended, Lane};
use proof::{Hash, Json, Numbers};
use store::{ObjectRow, RunRow};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::authenticate::Caller;
use super::objects::Capability;
use super::record::{Facts, Permit, Planned};
use super::respond;
use crate::app::App;
use crate::server::{Body, whole};
use crate::upstream::{Answer, Duty, MAX_ANSWER_BYTES, UpstreamError};

pub use resolve::{resolve, resolve_object};

/// A Terraform call with everything that its decision and its forwarding need.
#[derive(Debug)]
pub struct TerraformCall {
    /// Stable name of the operation, for records.
    pub name: &'static str,
    /// What the decision is made from.
    pub input: DecisionInput<'static>,
    /// What to do when it is permitted.
    pub work: Work,
    /// The run that it concerns.
    pub run: Option<RunRow>,
    /// The body that goes upstream; empty for a read.
    pub body: Bytes,
    /// Whether it can change anything.
    pub mutates: bool,
    /// Its share of the memory for bodies.
    pub share: Option<OwnedSemaphorePermit>,
}

/// What there is to do.
#[derive(Debug)]
pub enum Work {
    /// A call of the API.
    Api {
        /// The call.
        call: Call,
        /// Path and query for upstream, rebuilt.
        target: String,
        /// Particulars of a call that has some.
        asks: Asks,
    },
    /// An upload to a capability address.
    Upload {
        /// The address as the client wrote it.
        path: String,
        /// What stands behind it.
        capability: Box<Capability>,
        /// The bytes.
        archive: Bytes,
        /// The CLI sends it, which shows no reason when an upload is refused.
        by_cli: bool,
    },
    /// Reading a log at a capability address.
    Log {
        /// What stands behind it.
        capability: Box<Capability>,
        /// Which part.
        range: policy::terraform::LogRange,
    },
}

/// Particulars of calls that carry a body, or whose answer is put together here.
#[derive(Debug)]
pub enum Asks {
    /// Nothing but the path and the query.
    Nothing,
    /// Part of a list that is made here.
    Page(policy::terraform::Query),
    /// A new run.
    Run {
        /// What the client asked for.
        request: Box<policy::terraform::rewrite::RunRequest>,
        /// Hash of the body as the client sent it: the same again is the same run.
        sent: Hash,
        /// Digest of the configuration that it plans.
        configuration: Option<Hash>,
    },
    /// A new configuration version.
    Configuration {
        /// It can be planned only.
        speculative: bool,
    },
}

impl TerraformCall {
    /// The workspace that it is about; empty when it is about none.
    fn workspace(&self) -> &str {
        match &self.input {
            DecisionInput::Terraform(input) => input.workspace_id.as_deref().unwrap_or_default(),
            DecisionInput::Model(_) | DecisionInput::Egress(_) => "",
        }
    }

    /// What is about to be done, for its intent.
    pub fn planned(&self, trace_id: Option<String>) -> Planned<'_> {
        Planned {
            lane: Lane::Terraform,
            operation: self.name,
            run_id: self.run.as_ref().map(|run| run.run_id.clone()),
            input: &self.input,
            request_hash: Hash::of(&self.body),
            mutates: self.mutates,
            trace_id,
            caused_by: None,
        }
    }
}

/// Does what was permitted, and records how it ended before the answer goes out.
pub async fn forward(
    app: &Arc<App>,
    caller: &Caller,
    permit: Permit,
    call: TerraformCall,
) -> Response<Body> {
    let done = match &call.work {
        Work::Upload { .. } => uploads::receive(app, caller, call).await,
        Work::Log { .. } => logs::read(app, caller, call).await,
        Work::Api { call: api, .. } => match api {
            Call::Discovery => local::discovery(),
            Call::Ping => local::ping(),
            Call::AccountDetails => local::account(caller),
            Call::CreateConfigurationVersion { .. } => uploads::open(app, caller, call).await,
            Call::CreateRun => runs::create(app, caller, call).await,
            Call::ApplyRun { .. } => runs::ask_for_apply(app, caller, call).await,
            Call::DiscardRun { .. } | Call::CancelRun { .. } => runs::stop(app, caller, call).await,
            Call::ReadConfigurationVersion { .. } => uploads::read(app, caller, call).await,
            Call::PlanJsonRedacted { .. } => document(app, caller, call).await,
            Call::PolicyCheckOutput { .. } => logs::policy_output(app, call).await,
            Call::ListWorkspaces { .. } => lists::workspaces(app, caller, call).await,
            Call::RunsQueue { .. } => lists::queue(app, caller, call).await,
            _ => read(app, caller, call).await,
        },
    };
    conclude(app, permit, done).await
}

/// Has upstream change something for an agent. Its turn may be a while in coming, so what was
/// allowed is looked at once more when it is there: a call that waited is stopped by a revocation
/// like any other.
async fn change(
    app: &App,
    caller: &Caller,
    duty: Duty,
    target: &str,
    body: Bytes,
) -> Result<Answer, Done> {
    let turn = app.upstream.turn(duty).await;
    let turn = turn.map_err(|error| Done::broken(&error))?;
    if let Some(reason) = caller.token.ended() {
        return Err(Done::refused(reason.into(), Facts::answered(500, b"")));
    }
    let answer = app.upstream.write(turn, Method::POST, target, Some(body));
    answer.await.map_err(|error| Done::broken(&error))
}

/// What came of a call.
pub(super) struct Done {
    /// For the caller.
    response: Result<Response<Body>, Refusal>,
    /// For the record.
    facts: Facts,
}

impl Done {
    /// An answer of our own or a rewritten one, of these upstream bytes.
    fn answered(response: Response<Body>, facts: Facts) -> Self {
        Self {
            response: Ok(response),
            facts,
        }
    }

    /// Refused after the intent: by inspection, or by upstream.
    fn refused(refusal: Refusal, mut facts: Facts) -> Self {
        facts.status = Some(refusal.code.status());
        facts.code = Some(refusal.code);
        Self {
            response: Err(refusal),
            facts,
        }
    }

    /// Upstream did not answer.
    fn broken(error: &UpstreamError) -> Self {
        tracing::warn!(%error, "upstream failed");
        let refusal = error.refusal();
        let mut facts = Facts::answered(refusal.code.status(), b"");
        facts.ended = Ended::UpstreamReset;
        Self::refused(refusal, facts)
    }
}

/// Records the outcome, then answers. An answer that cannot be proven is not given.
async fn conclude(app: &App, permit: Permit, done: Done) -> Response<Body> {
    let receipt_id = permit.receipt_id().to_owned();
    let job = permit.job_id().clone();
    let mut response = match permit.finish(app, done.facts, None).await {
        Ok(_) => match done.response {
            Ok(response) => response,
            Err(refusal) => {
                tracing::info!(code = %refusal.code, job = %job, "refused: {}", refusal.detail);
                respond::json_api(&refusal)
            }
        },
        Err(error) => {
            tracing::error!(%error, "the end of a call cannot be proven");
            respond::json_api(&error.refusal())
        }
    };
    if let Ok(value) = receipt_id.parse() {
        response.headers_mut().insert("x-clawgate-receipt", value);
    }
    response
}

/// A read: asked with the planner's credential, answered through the allow-list.
async fn read(app: &App, caller: &Caller, call: TerraformCall) -> Done {
    let Work::Api {
        call: api, target, ..
    } = &call.work
    else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    match app
        .upstream
        .call(Duty::Planner, Method::GET, target, None)
        .await
    {
        Ok(answer) => rewritten(app, caller, api, &call, &answer).await,
        Err(error) => Done::broken(&error),
    }
}

/// Plans that are read for agents at a time: each is held as bytes and as a tree, which is ten
/// times as large.
static DOCUMENTS: Semaphore = Semaphore::const_new(2);

/// How long an agent waits until its plan can be read.
const FOR_A_DOCUMENT: Duration = Duration::from_secs(10);

/// The plan as the CLI renders it. Upstream has taken out what is marked as secret; what shows
/// elsewhere in it all the same is masked.
async fn document(app: &App, caller: &Caller, call: TerraformCall) -> Done {
    let Work::Api {
        call: api, target, ..
    } = &call.work
    else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    let Some(plan) = api.object() else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    let slot = tokio::time::timeout(FOR_A_DOCUMENT, DOCUMENTS.acquire()).await;
    let Ok(Ok(slot)) = slot else {
        return Done::broken(&UpstreamError::Busy);
    };
    let answer = match app
        .upstream
        .fetch_document(Duty::Planner, target, MAX_ANSWER_BYTES)
        .await
    {
        Ok(answer) => answer,
        Err(error) => return Done::broken(&error),
    };
    let facts = facts_of(&answer);
    if let Err(refusal) = check_status(&answer) {
        return Done::refused(refusal, facts);
    }
    if answer.status == StatusCode::NO_CONTENT {
        return Done::answered(local::no_content(), facts);
    }
    // After it was read: then it has ended, and all of its values are to be had.
    if let Err(refusal) = sensitive::collect(app, call.workspace(), plan.id).await {
        return Done::refused(refusal, facts);
    }
    let contract = Arc::clone(&caller.token.job.contract);
    let known = app.sensitive.of(call.workspace(), Some(plan.id));
    // Parsing and masking take a while: not on the threads that serve connections.
    let redacted = tokio::task::spawn_blocking(move || {
        let mut redacted = answer::rewrite_bytes(
            policy::terraform::Operation::PlanJsonRedacted,
            &answer.body,
            &contract.compiled,
            &mut |_| None,
        )
        .ok()?;
        let masked = answer::mask_redacted_plan(&mut redacted, &known);
        Some((redacted.body.to_document_order(), masked))
    });
    let Ok(Some((redacted, masked))) = redacted.await else {
        return Done::refused(ReasonCode::UpstreamGarbage.into(), facts);
    };
    drop(slot);
    if masked > 0 {
        tracing::info!(
            plan = plan.id,
            masked,
            "bytes of secrets were taken out of a plan"
        );
    }
    let mut response = Response::new(whole(redacted));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Done::answered(response, facts)
}

/// Rewrites an answer: allowed attributes only, signed addresses replaced, ids learned.
async fn rewritten(
    app: &App,
    caller: &Caller,
    api: &Call,
    call: &TerraformCall,
    answer: &Answer,
) -> Done {
    let mut facts = facts_of(answer);
    if let Err(refusal) = check_status(answer) {
        return Done::refused(refusal, facts);
    }
    if answer.status == StatusCode::NO_CONTENT || answer.body.is_empty() {
        let mut response = local::no_content();
        *response.status_mut() = answer.status;
        return Done::answered(response, facts);
    }
    let garbage = |facts| Done::refused(ReasonCode::UpstreamGarbage.into(), facts);
    let Ok(json) = proof::json::parse(&answer.body, Numbers::Any) else {
        return garbage(facts);
    };
    let workspace = call.workspace();
    let run_id = call.run.as_ref().map(|run| run.run_id.as_str());
    let compiled = &caller.contract().compiled;
    // A list shows what others have made, and their logs and uploads stay theirs: an address is
    // given for what the call itself makes, or for what is known to be the job's own.
    let own = call.mutates || api.operation().target() == Target::OwnObject;
    let mut give = |signed: SignedUrl<'_>| {
        if !own {
            return None;
        }
        let purpose = logs::purpose(&signed, run_id)?;
        app.upstream.check_object_address(signed.url).ok()?;
        let now = app.now();
        let path = app
            .capabilities
            .give(purpose, &caller.token, signed.url, workspace, now);
        Some(format!("{}{path}", app.agent_url))
    };
    let mut answered = match answer::rewrite_answer(api.operation(), &json, compiled, &mut give) {
        Ok(answered) => answered,
        Err(error) => {
            tracing::warn!(%error, operation = call.name, "upstream's answer was not understood");
            return garbage(facts);
        }
    };
    let text = |path: &[&str]| answered.body.at(path).and_then(Json::as_str);
    if let Call::WorkspaceByName { name, .. } = api
        && text(&["data", "attributes", "name"]) != Some(name.as_str())
    {
        // Renamed since we looked: the name may stand for another workspace by now.
        return Done::refused(ReasonCode::UpstreamNotFound.into(), facts);
    }
    facts.object_id = text(&["data", "id"]).map(str::to_owned);
    // The client has seen that the run went on; the gate need not wait for its next look.
    if let (Some(run), Call::ReadRun { .. }) = (&call.run, api)
        && text(&["data", "attributes", "status"]) != Some(run.status.as_str())
    {
        app.gate.wake(&run.run_id);
    }
    facts.learned = answered
        .learned
        .iter()
        .filter_map(|row| learned(row, call, caller))
        .collect();
    if own && text(&["data", "type"]) == Some("runs") {
        local::made_by_the_agent(&mut answered.body);
    }
    if call.run.as_ref().is_some_and(runs::is_held) {
        local::cancelable_as_it_is_held(&mut answered.body);
    }
    if let Err(refusal) = lists::hide_runs_of_others(app, caller, &mut answered.body).await {
        return Done::refused(refusal, facts);
    }
    let mut response = Response::new(whole(answered.body.to_document_order()));
    *response.status_mut() = answer.status;
    facts.status = Some(answer.status.as_u16());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, respond::JSON_API);
    Done::answered(response, facts)
}

/// An id for the index. What a call made, and what hangs on a run of the job, is the job's own;
/// anything else was merely seen.
fn learned(row: &Learned, call: &TerraformCall, caller: &Caller) -> Option<ObjectRow> {
    let of_own_run = call
        .run
        .as_ref()
        .is_some_and(|run| row.run.as_ref() == Some(&run.run_id));
    let workspace_id = row.workspace.clone().or_else(|| {
        // A part of the run that was asked for is where the run is.
        let part = row.run.is_none() || of_own_run || call.mutates;
        part.then(|| call.workspace().to_owned())
    })?;
    Some(ObjectRow {
        kind: kind_name(row.kind).to_owned(),
        id: row.id.clone(),
        workspace_id,
        organization: None,
        job_id: (call.mutates || of_own_run).then(|| caller.token.job.id.clone()),
        run_id: row.run.clone(),
        parent: None,
    })
}

/// The name of a kind of object in the id index.
pub(crate) const fn kind_name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Workspace => "workspace",
        ObjectKind::Run => "run",
        ObjectKind::Plan => "plan",
        ObjectKind::Apply => "apply",
        ObjectKind::ConfigurationVersion => "configuration-version",
        ObjectKind::CostEstimate => "cost-estimate",
        ObjectKind::StateVersion => "state-version",
        ObjectKind::Output => "output",
        ObjectKind::PolicyCheck => "policy-check",
        ObjectKind::TaskStage => "task-stage",
        ObjectKind::RunEvent => "run-event",
    }
}

/// Facts of an upstream answer.
fn facts_of(answer: &Answer) -> Facts {
    let mut facts = Facts::answered(answer.status.as_u16(), &answer.body);
    facts.upstream_status = Some(answer.status.as_u16());
    facts
}

/// Turns an upstream status that is no success into a refusal. Upstream's own error text may
/// name other objects, so it stays here.
fn check_status(answer: &Answer) -> Result<(), Refusal> {
    let code = match answer.status.as_u16() {
        200..=299 => return Ok(()),
        401 | 403 => ReasonCode::UpstreamUnauthorized,
        404 => ReasonCode::UpstreamNotFound,
        409 => ReasonCode::UpstreamConflict,
        400 | 405 | 410 | 413 | 415 | 422 => ReasonCode::UpstreamRefused,
        429 => ReasonCode::UpstreamRateLimited,
        500..=599 => ReasonCode::UpstreamUnavailable,
        _ => ReasonCode::UpstreamGarbage,
    };
    Err(Refusal::new(
        code,
        format!("upstream answered {}", answer.status.as_u16()),
    ))
}

/// Whether an operation can change anything.
fn mutates(call: &Call) -> bool {
    call.operation().effect() == Effect::Mutate
}
