//! Runs: made once, never applied by the agent, stopped when asked.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response, StatusCode, header};
use policy::contract::OnMissingApproval;
use policy::decide::DecisionInput;
use policy::terraform::Call;
use policy::terraform::ids::RunId;
use policy::{ReasonCode, Refusal};
use proof::{Hash, Json, Numbers};
use store::{GateState, RunRow, RunUpdate, kill_point};
use tokio::time::timeout;

use super::super::authenticate::{Caller, unavailable};
use super::super::record::Facts;
use super::super::respond::JSON_API;
use super::{Asks, Done, TerraformCall, Work, change, facts_of, local, rewritten, workspaces};
use crate::app::App;
use crate::approvals;
use crate::server::whole;
use crate::upstream::{Answer, Duty, UpstreamError};

/// How long the same request means the same run, in seconds: what a client that lost an answer
/// needs for its thirty repetitions, each a little later than the one before. It ends as soon as
/// the client calls the run by its id, because then the answer was not lost; the same request is
/// then a new wish.
const SAME_REQUEST_SECONDS: i64 = 600;

/// How long a request waits for those that came before it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stands in the place of a run's id while it is not known whether upstream made it.
const ASKED: &str = "asked";

/// Starts a run, at most once for the same request.
///
/// Upstream has no idempotency key. So that a repeated request is remembered before it is made,
/// and when an earlier one has no known end, upstream is searched for its run first.
pub(super) async fn create(app: &Arc<App>, caller: &Caller, call: TerraformCall) -> Done {
    let failed = |refusal: Refusal| Done::refused(refusal, Facts::answered(500, b""));
    let Work::Api {
        call: api,
        target,
        asks: Asks::Run { sent, .. },
    } = &call.work
    else {
        return failed(ReasonCode::Internal.into());
    };
    let job = &caller.token.job;
    // Two copies of one request wait for each other, and no longer than for upstream.
    let Ok(_turn) = timeout(PATIENCE, job.creating_run.lock()).await else {
        return Done::broken(&UpstreamError::Busy);
    };
    // One that was waiting is stopped by a revocation like any other.
    if let Some(reason) = caller.token.ended() {
        return failed(reason.into());
    }
    let since = app.now().plus_seconds(-SAME_REQUEST_SECONDS);
    let earlier = match app.store.run_for_request(&job.id, sent, since).await {
        Ok(earlier) => earlier,
        Err(error) => return failed(unavailable(error)),
    };
    let earlier = earlier.filter(|run_id| !job.has_named(run_id));
    let found = match earlier.as_deref() {
        None => {
            let asked = app
                .store
                .remember_run_request(&job.id, sent, ASKED, app.now())
                .await;
            if let Err(error) = asked {
                return failed(unavailable(error));
            }
            Ok(None)
        }
        Some(ASKED) => match search(app, &call).await {
            Ok(candidates) => match nobodys(app, candidates).await {
                Ok(Some(run_id)) => read(app, &run_id).await.map(Some),
                Ok(None) => Ok(None),
                Err(error) => return failed(unavailable(error)),
            },
            Err(error) => Err(error),
        },
        Some(run_id) => read(app, run_id).await.map(Some),
    };
    let answer = match found {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            match app.gate.has_room(app, &job.id).await {
                Ok(true) => {}
                Ok(false) => return failed(ReasonCode::JobRunsFull.into()),
                Err(error) => return failed(unavailable(error)),
            }
            match change(app, caller, Duty::Planner, target, call.body.clone()).await {
                Ok(answer) => answer,
                Err(done) => return done,
            }
        }
        Err(error) => return Done::broken(&error),
    };
    let mut done = rewritten(app, caller, api, &call, &answer).await;
    if let Ok(response) = &mut done.response {
        *response.status_mut() = StatusCode::CREATED;
    }
    let Some(run_id) = done
        .facts
        .object_id
        .clone()
        .filter(|_| done.response.is_ok())
    else {
        return done;
    };
    match keep(app, caller, &call, &run_id, &answer, sent).await {
        Ok(()) => done,
        Err(refusal) => Done::refused(refusal, done.facts),
    }
}

/// Remembers a run before its id is given out, and has the gate watch it.
async fn keep(
    app: &Arc<App>,
    caller: &Caller,
    call: &TerraformCall,
    run_id: &str,
    answer: &Answer,
    sent: &Hash,
) -> Result<(), Refusal> {
    let (
        DecisionInput::Terraform(input),
        Work::Api {
            asks:
                Asks::Run {
                    request,
                    configuration,
                    ..
                },
            ..
        },
    ) = (&call.input, &call.work)
    else {
        return Err(ReasonCode::Internal.into());
    };
    let job = &caller.token.job;
    if app.store.run(run_id).await.map_err(unavailable)?.is_none() {
        let cv_id = request
            .configuration_version
            .as_ref()
            .map(|id| id.as_str().to_owned());
        let organization = match input.organization.as_deref() {
            Some(organization) => organization.to_owned(),
            None => workspaces::workspace(app, call.workspace())
                .await?
                .map(|workspace| workspace.organization.clone())
                .ok_or(ReasonCode::UpstreamNotFound)?,
        };
        let json = proof::json::parse(&answer.body, Numbers::Any)
            .map_err(|_| ReasonCode::UpstreamGarbage)?;
        let now = app.now();
        let wished = request.wants_auto_apply() && job.contract.contract.permissions.apply.allowed;
        let run = RunRow {
            run_id: run_id.to_owned(),
            job_id: job.id.clone(),
            organization,
            workspace_id: call.workspace().to_owned(),
            configuration_version_id: cv_id,
            configuration_sha256: *configuration,
            plan_id: related(&json, "plan"),
            apply_id: related(&json, "apply"),
            apply_wished: wished,
            gate: GateState::Planned,
            plan_sha256: None,
            plan_raw_sha256: None,
            changes: None,
            subject: None,
            summary: None,
            status: status(&json),
            state_version_before: None,
            state_version_after: None,
            gate_reason: None,
            approval_expires_at: None,
            created_at: now,
            updated_at: now,
        };
        // Both at once: after a crash between them, a repeated request would find this run to be
        // another request's, and make a second one.
        kill_point!("gate.planned");
        let kept = app.store.insert_requested_run(run, sent).await;
        kept.map_err(unavailable)?;
        keep_prompts(app, caller, call, run_id).await;
    } else {
        app.store
            .remember_run_request(&job.id, sent, run_id, app.now())
            .await
            .map_err(unavailable)?;
    }
    app.gate.watch(app, &job.id, run_id);
    Ok(())
}

/// Keeps what the agent asked models just before, where the contract lets approvers see it. The
/// run is made already, so that it goes on without.
async fn keep_prompts(app: &App, caller: &Caller, call: &TerraformCall, run_id: &str) {
    let job = &caller.token.job;
    let models = job.contract.contract.models.as_ref();
    let days = models.map_or(0, |models| models.show_prompts_days);
    let Ok(run) = run_id.parse::<RunId>() else {
        return;
    };
    if days == 0 {
        return;
    }
    let (prompts, job, now) = (Arc::clone(&app.prompts), job.id.clone(), app.now());
    let known = app.sensitive.of(call.workspace(), None);
    let kept = tokio::task::spawn_blocking(move || prompts.keep(&run, &job, days, &known, now));
    if let Ok(Err(error)) = kept.await {
        tracing::error!(%error, run_id, "what the agent asked is not kept");
    }
}

/// Runs that an earlier, unfinished request may have made, newest first: they are what was asked
/// for, down to the message, which names the job.
async fn search(app: &App, call: &TerraformCall) -> Result<Vec<String>, UpstreamError> {
    let broken = || UpstreamError::Broken("its list of runs was not understood".into());
    let wanted = proof::json::parse(&call.body, Numbers::Any).map_err(|_| broken())?;
    let target = format!("/api/v2/workspaces/{}/runs", call.workspace());
    let answer = app
        .upstream
        .call(Duty::Reader, Method::GET, &target, None)
        .await?;
    if !answer.status.is_success() {
        return Err(broken());
    }
    let json = proof::json::parse(&answer.body, Numbers::Any).map_err(|_| broken())?;
    let runs = json
        .get("data")
        .and_then(Json::as_array)
        .ok_or_else(broken)?;
    let wanted = wanted.get("data").ok_or_else(broken)?;
    let made = runs.iter().filter(|run| is_what_was_asked(run, wanted));
    let ids = made.filter_map(|run| run.get("id").and_then(Json::as_str));
    Ok(ids.map(str::to_owned).collect())
}

/// The first run that is not known here: a known one was made by another request.
async fn nobodys(app: &App, runs: Vec<String>) -> Result<Option<String>, store::StoreError> {
    for run_id in runs {
        if app.store.run(&run_id).await?.is_none() {
            return Ok(Some(run_id));
        }
    }
    Ok(None)
}

/// Whether a run of upstream's list is what our request asked for.
fn is_what_was_asked(run: &Json, wanted: &Json) -> bool {
    let configuration = ["relationships", "configuration-version", "data", "id"];
    let alike = |name: &str| {
        let member = |from: &Json| match from.at(&["attributes", name]) {
            // What was not asked for is not there, null or empty.
            None | Some(Json::Null | Json::Bool(false)) => None,
            Some(Json::Array(list)) if list.is_empty() => None,
            Some(value) => Some(value.clone()),
        };
        member(run) == member(wanted)
    };
    let named = run.at(&configuration).and_then(Json::as_str);
    named.is_some()
        && named == wanted.at(&configuration).and_then(Json::as_str)
        && [
            "message",
            "is-destroy",
            "refresh-only",
            "save-plan",
            "target-addrs",
            "replace-addrs",
        ]
        .into_iter()
        .all(alike)
}

async fn read(app: &App, run_id: &str) -> Result<Answer, UpstreamError> {
    let target = format!("/api/v2/runs/{run_id}");
    app.upstream
        .call(Duty::Planner, Method::GET, &target, None)
        .await
}

/// An agent's wish to apply. Nothing goes upstream: the gate asks a person, and applies itself.
pub(super) async fn ask_for_apply(app: &Arc<App>, caller: &Caller, call: TerraformCall) -> Done {
    let facts = Facts::answered(202, b"");
    let Some(run) = &call.run else {
        return Done::refused(ReasonCode::ObjectUnknown.into(), facts);
    };
    let asked = match elevated(caller, &run.run_id) {
        true => approvals::use_elevated(app, &caller.token, &run.run_id).await,
        false => approvals::wish(app, run).await,
    };
    if let Err(refusal) = asked {
        return Done::refused(refusal, facts);
    }
    if call_needs_approval(app, &run.run_id).await
        && let Some(refusal) = rejected(app, caller, run)
    {
        return Done::refused(refusal, facts);
    }
    let mut response = Response::new(whole("null"));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, JSON_API);
    let mut facts = Facts::answered(202, b"null");
    facts.object_id = Some(run.run_id.clone());
    Done::answered(response, facts)
}

/// Where somebody can approve, for a contract that does not let agents wait for it.
pub(super) fn rejected(app: &App, caller: &Caller, run: &RunRow) -> Option<Refusal> {
    let hold = caller
        .contract()
        .contract
        .permissions
        .apply
        .on_missing_approval;
    (hold == OnMissingApproval::Reject).then(|| {
        let detail = format!(
            "run {} is waiting at {}/approvals/{} (clawgate approvals show {})",
            run.run_id, app.operator_url, run.run_id, run.run_id
        );
        Refusal::new(ReasonCode::ApprovalRequired, detail)
    })
}

fn elevated(caller: &Caller, run_id: &str) -> bool {
    caller
        .token
        .claims
        .scope
        .iter()
        .any(|scope| matches!(scope, proof::token::Scope::ElevatedApply(run) if run == run_id))
}

async fn call_needs_approval(app: &App, run_id: &str) -> bool {
    let run = app.store.run(run_id).await.ok().flatten();
    run.is_none_or(|run| {
        !matches!(
            run.gate,
            GateState::Approved | GateState::Rechecking | GateState::Applying
        )
    })
}

/// Discards or cancels a run of the job, with the executor's credential.
///
/// Who waits for an apply and gives up cancels it, as a run that upstream applies. While the gate
/// holds the apply, upstream has nothing to cancel but a plan to throw away.
pub(super) async fn stop(app: &Arc<App>, caller: &Caller, call: TerraformCall) -> Done {
    let Work::Api {
        call: api, target, ..
    } = &call.work
    else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    let discard;
    let target = match (api, &call.run) {
        (Call::CancelRun { .. }, Some(run)) if is_held(run) => match only_planned(app, run).await {
            Ok(true) => {
                discard = format!("/api/v2/runs/{}/actions/discard", run.run_id);
                &discard
            }
            Ok(false) => target,
            Err(error) => return Done::broken(&error),
        },
        _ => target,
    };
    let answer = match change(app, caller, Duty::Executor, target, call.body.clone()).await {
        Ok(answer) => answer,
        Err(done) => return done,
    };
    let mut facts = facts_of(&answer);
    facts.object_id = call.run.as_ref().map(|run| run.run_id.clone());
    if let Err(refusal) = super::check_status(&answer) {
        return Done::refused(refusal, facts);
    }
    if let Some(run) = &call.run {
        let update = RunUpdate {
            gate_reason: Some(format!("{} by the agent", call.name)),
            ..RunUpdate::default()
        };
        let moved = app
            .store
            .transition(&run.run_id, &HELD, GateState::Discarded, app.now(), update)
            .await;
        if let Err(error) = moved {
            return Done::refused(unavailable(error), facts);
        }
        app.gate.wake(&run.run_id);
    }
    let mut response = local::no_content();
    *response.status_mut() = StatusCode::ACCEPTED;
    Done::answered(response, facts)
}

/// Where the gate holds an apply.
const HELD: [GateState; 5] = [
    GateState::Planned,
    GateState::Inspecting,
    GateState::AwaitingApproval,
    GateState::Approved,
    GateState::Rechecking,
];

/// Whether the gate may still hold a run's apply.
pub(super) fn holds(gate: GateState) -> bool {
    HELD.contains(&gate)
}

/// Whether somebody waits for a run's apply, which the gate holds.
pub(super) fn is_held(run: &RunRow) -> bool {
    run.apply_wished && holds(run.gate)
}

/// Whether upstream has planned a run and does nothing more about it.
async fn only_planned(app: &App, run: &RunRow) -> Result<bool, UpstreamError> {
    let answer = read(app, &run.run_id).await?;
    let json = proof::json::parse(&answer.body, Numbers::Any).unwrap_or(Json::Null);
    let can = |name| {
        json.at(&["data", "attributes", "actions", name])
            .and_then(Json::as_bool)
            == Some(true)
    };
    Ok(can("is-discardable") && !can("is-cancelable"))
}

/// Id of a related object.
pub(crate) fn related(json: &Json, name: &str) -> Option<String> {
    json.at(&["data", "relationships", name, "data", "id"])
        .and_then(Json::as_str)
        .map(str::to_owned)
}

/// A run's status, as upstream calls it.
pub(crate) fn status(json: &Json) -> String {
    json.at(&["data", "attributes", "status"])
        .and_then(Json::as_str)
        .unwrap_or("unknown")
        .to_owned()
}
