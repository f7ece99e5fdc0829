//! Calls that the gateway makes itself on behalf of a job: recorded like any other.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use policy::decide::{ApprovalFact, TerraformInput};
use policy::terraform::Operation;
use policy::{DecisionInput, ReasonCode, Refusal, decide};
use proof::record::{Ended, Lane};
use proof::{Hash, Json, Numbers};
use store::{RunRow, RunUpdate, kill_point};

use super::gate::end_of;
use crate::app::App;
use crate::clawproxy::authenticate::unavailable;
use crate::clawproxy::record::{self, Facts, NotProven, Permit, Planned, Principal};
use crate::clawproxy::terraform::runs::status;
use crate::live::LiveContract;
use crate::upstream::{Answer, Duty, Turn};

/// Whether a run's upstream status is one after which nothing more happens.
pub(super) fn is_final(status: &str) -> bool {
    end_of(status).is_some()
}

/// Reads a run with the reader's credential.
///
/// # Errors
/// An `UPSTREAM_…` code.
pub async fn read_run(app: &App, run_id: &str) -> Result<Json, Refusal> {
    read(app, &format!("/api/v2/runs/{run_id}")).await
}

/// Reads a JSON document with the reader's credential.
///
/// # Errors
/// An `UPSTREAM_…` code.
pub async fn read(app: &App, target: &str) -> Result<Json, Refusal> {
    read_with(app, Duty::Reader, target).await
}

/// Reads a JSON document. What stands in a state version is told only to who may apply, which a
/// reader of plans and settings need not be.
pub(super) async fn read_with(app: &App, duty: Duty, target: &str) -> Result<Json, Refusal> {
    let answer = app.upstream.call(duty, Method::GET, target, None).await;
    let answer = answer.map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    if answer.status == http::StatusCode::NOT_FOUND {
        return Err(ReasonCode::UpstreamNotFound.into());
    }
    if !answer.status.is_success() {
        let detail = format!("upstream answered {}", answer.status.as_u16());
        return Err(Refusal::new(ReasonCode::UpstreamUnavailable, detail));
    }
    proof::json::parse(&answer.body, Numbers::Any).map_err(|_| ReasonCode::UpstreamGarbage.into())
}

/// Waits for a turn with the executor's credential, and for a key of receipts that failed, before
/// anything is looked at that could change during the wait.
///
/// # Errors
/// `UPSTREAM_RATE_LIMITED`, `SIGNER_UNAVAILABLE`.
pub(super) async fn turn(app: &App) -> Result<Turn, Refusal> {
    record::can_sign(app).await?;
    let turn = app.upstream.turn(Duty::Executor).await;
    turn.map_err(|error| Refusal::new(error.code(), error.to_string()))
}

/// Records the intent of a call of our own. The permit is durable when this returns.
pub(super) async fn permit(
    app: &App,
    run: &RunRow,
    operation: Operation,
    body: &Bytes,
) -> Result<Permit, Refusal> {
    let call = Call::about(app, run).await?;
    let input = call.input(run, operation);
    let decision = decide(&call.contract.compiled, &input);
    let planned = planned(run, operation, &input, body);
    record::intent(app, call.principal, planned, decision).await
}

/// Records the intent of an approved run's apply and moves its gate to `applying`, as one.
/// `None` when the gate has left `rechecking` meanwhile.
pub(super) async fn permit_apply(
    app: &App,
    run: &RunRow,
    body: &Bytes,
    update: RunUpdate,
) -> Result<Option<Permit>, Refusal> {
    let call = Call::about(app, run).await?;
    let mut input = call.input(run, Operation::ApplyRun);
    // Only where the contract asks for approvals were any checked.
    if call.contract.contract.permissions.apply.requires_approval
        && let DecisionInput::Terraform(input) = &mut input
    {
        input.approval = ApprovalFact::Valid;
    }
    let decision = decide(&call.contract.compiled, &input);
    let planned = planned(run, Operation::ApplyRun, &input, body);
    record::intent_to_apply(app, call.principal, planned, decision, update).await
}

/// On whose behalf the gateway makes a call of its own, and what decides it.
struct Call {
    principal: Principal,
    contract: Arc<LiveContract>,
}

impl Call {
    async fn about(app: &App, run: &RunRow) -> Result<Self, Refusal> {
        let job = app.store.job(&run.job_id).await.map_err(unavailable)?;
        let job = job.ok_or(ReasonCode::JobUnknown)?;
        let contract = crate::clawcontrols::contract(app, &job.policy_hash)
            .await
            .map_err(unavailable)?
            .ok_or(ReasonCode::ContractUnknown)?;
        let principal = Principal::gateway(run.job_id.clone(), job.agent_did, contract.hash);
        Ok(Self {
            principal,
            contract,
        })
    }

    fn input<'a>(&self, run: &RunRow, operation: Operation) -> DecisionInput<'a> {
        let mut input = TerraformInput::new(operation, &[]);
        input.scope = Cow::Owned(vec!["tfc:plan".to_owned(), "tfc:apply".to_owned()]);
        input.organization = Some(Cow::Owned(run.organization.clone()));
        input.workspace_id = Some(Cow::Owned(run.workspace_id.clone()));
        input.run_id = Some(Cow::Owned(run.run_id.clone()));
        input.owned = true;
        DecisionInput::Terraform(input)
    }
}

fn planned<'a>(
    run: &RunRow,
    operation: Operation,
    input: &'a DecisionInput<'a>,
    body: &Bytes,
) -> Planned<'a> {
    Planned {
        lane: Lane::Gateway,
        operation: operation.name(),
        run_id: Some(run.run_id.clone()),
        input,
        request_hash: Hash::of(body),
        mutates: true,
        trace_id: None,
        caused_by: None,
    }
}

/// Makes a permitted call in a turn of the executor's credential and records how it ended.
pub(super) async fn execute(
    app: &App,
    turn: Turn,
    permit: Permit,
    run: &RunRow,
    target: &str,
    body: Bytes,
) -> Result<Answer, Refusal> {
    let answer = app
        .upstream
        .write(turn, Method::POST, target, Some(body))
        .await;
    let mut facts = match &answer {
        Ok(answer) => {
            let mut facts = Facts::answered(answer.status.as_u16(), &answer.body);
            facts.upstream_status = Some(answer.status.as_u16());
            facts
        }
        Err(error) => {
            let mut facts = Facts::answered(error.code().status(), b"");
            facts.ended = Ended::UpstreamReset;
            facts.code = Some(error.code());
            facts
        }
    };
    facts.object_id = Some(run.run_id.clone());
    kill_point!("gate.sent");
    let recorded = permit.finish(app, facts, None).await;
    recorded.map_err(NotProven::refusal)?;
    answer.map_err(|error| Refusal::new(error.code(), error.to_string()))
}

/// How often a discard follows a run that moves under it.
const MOST_MOVES: usize = 5;

/// What upstream says can be done with a run just now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Switches {
    Discardable,
    Cancelable,
    Neither,
}

impl Switches {
    fn of(run: &Json) -> Self {
        let on = |name: &str| {
            let switch = run.at(&["data", "attributes", "actions", name]);
            switch.and_then(Json::as_bool) == Some(true)
        };
        match (on("is-discardable"), on("is-cancelable")) {
            (true, _) => Self::Discardable,
            (false, true) => Self::Cancelable,
            (false, false) => Self::Neither,
        }
    }
}

/// Discards a run upstream, or cancels it while it is at work, unless it has ended there already.
/// A conflict says that it has moved between our look and our call, and so is looked at again.
///
/// # Errors
/// `UPSTREAM_REFUSED` when upstream will not, however often it is asked; another `UPSTREAM_…` code
/// or `STORE_UNAVAILABLE` when it is worth asking again.
pub(super) async fn discard_upstream(app: &App, run: &RunRow) -> Result<(), Refusal> {
    let mut conflict: Option<(String, Switches)> = None;
    for _ in 0..MOST_MOVES {
        let json = read_run(app, &run.run_id).await?;
        let (found, switches) = (status(&json), Switches::of(&json));
        if is_final(&found) {
            return saw(app, run, found).await;
        }
        let (operation, action) = match switches {
            Switches::Discardable | Switches::Neither => (Operation::DiscardRun, "discard"),
            Switches::Cancelable => (Operation::CancelRun, "cancel"),
        };
        let here = (found, switches);
        if conflict.as_ref() == Some(&here) {
            let detail = format!(
                "upstream does not {action} the run while it is `{}`",
                here.0
            );
            return Err(Refusal::new(ReasonCode::UpstreamRefused, detail));
        }
        let turn = turn(app).await?;
        let body = comment(run);
        let permit = permit(app, run, operation, &body).await?;
        let target = format!("/api/v2/runs/{}/actions/{action}", run.run_id);
        let answer = execute(app, turn, permit, run, &target, body).await?;
        if answer.status.is_success() {
            let found = status(&read_run(app, &run.run_id).await?);
            return saw(app, run, found).await;
        }
        if answer.status != http::StatusCode::CONFLICT {
            let code = match is_refusal(answer.status) {
                true => ReasonCode::UpstreamRefused,
                false => ReasonCode::UpstreamUnavailable,
            };
            let detail = format!("upstream answered {}", answer.status.as_u16());
            return Err(Refusal::new(code, detail));
        }
        conflict = Some(here);
    }
    let detail = "the run moved each time it was to be discarded";
    Err(Refusal::new(ReasonCode::UpstreamUnavailable, detail))
}

/// Why the gate ends a run, for those who see it upstream.
fn comment(run: &RunRow) -> Bytes {
    let reason = run.gate_reason.as_deref().unwrap_or("ended by the gateway");
    let text: String = format!("Clawgate: {reason}").chars().take(500).collect();
    let mut comment = Json::object();
    comment.set("comment", text);
    Bytes::from(comment.to_jcs())
}

/// Remembers how a run stands upstream.
async fn saw(app: &App, run: &RunRow, status: String) -> Result<(), Refusal> {
    if status == run.status {
        return Ok(());
    }
    let update = RunUpdate {
        status: Some(status),
        ..RunUpdate::default()
    };
    let updated = app.store.update_run(&run.run_id, app.now(), update).await;
    updated.map(drop).map_err(unavailable)
}

/// Discards a run that the gate has ended. When upstream does not let our credential do that,
/// asking again and again would only fill the job's records: a person has to.
pub(super) async fn let_go(app: &App, run: &RunRow) -> Result<(), Refusal> {
    match discard_upstream(app, run).await {
        Err(refusal) if refusal.code == ReasonCode::UpstreamRefused => {
            tracing::warn!(%refusal, run = run.run_id, "discard this run by hand");
            Ok(())
        }
        other => other,
    }
}

/// Whether a status is a clear no, to which the same request gets the same answer. A conflict is
/// none: it says that the run has moved.
pub(super) fn is_refusal(status: http::StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 408 | 409 | 425 | 429)
}
