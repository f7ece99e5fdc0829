//! Logs at capability addresses: the CLI reads them in pieces, without a token.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderValue, Method, Response, StatusCode, header};
use policy::terraform::answer::{SignedUrl, UrlPurpose};
use policy::terraform::mask::{HELD_BACK, Piece, mask};
use policy::{ReasonCode, Refusal};
use store::{GateState, RunRow};

use super::super::authenticate::Caller;
use super::super::objects::Purpose;
use super::super::record::Facts;
use super::{Done, TerraformCall, Work, check_status, facts_of, runs, sensitive};
use crate::app::App;
use crate::server::whole;
use crate::upstream::Duty;

/// Largest piece of a log that is served at once; the CLI asks for 64 KiB.
const MAX_PIECE_BYTES: usize = 2 << 20;

/// How long an empty log of a held apply keeps its reader waiting.
const HELD: Duration = Duration::from_secs(5);

/// How long after one look at a held run the next one may follow.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// What our address in place of a signed one is good for; state is never given out here.
pub(super) fn purpose(signed: &SignedUrl<'_>, run: Option<&str>) -> Option<Purpose> {
    let id = signed.object_id.to_owned();
    match signed.purpose {
        UrlPurpose::ConfigurationUpload => Some(Purpose::Upload {
            configuration_version: id,
        }),
        UrlPurpose::PlanLog => Some(Purpose::PlanLog { plan: id }),
        UrlPurpose::ApplyLog => Some(Purpose::ApplyLog {
            apply: id,
            run: run?.to_owned(),
        }),
        UrlPurpose::StateDownload => None,
    }
}

/// Serves a piece of a log, without the secrets that are recognised in it.
///
/// The apply log of a run that will never be applied is ours: an error that says why. A CLI that
/// waits on it stops, shows the reason and exits with 1; for a run that merely became
/// `discarded` it would show nothing and exit with 0.
pub(super) async fn read(app: &App, caller: &Caller, call: TerraformCall) -> Done {
    let Work::Log { capability, range } = &call.work else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    let to_apply = match &capability.purpose {
        Purpose::ApplyLog { .. } => call.run.as_ref(),
        _ => None,
    };
    if let Some(refusal) = to_apply.and_then(|run| not_applied(app, caller, run)) {
        return Done::refused(refusal, Facts::answered(403, b""));
    }
    let piece = Piece::new(*range);
    let wanted = piece.to_read();
    let mut address = capability.upstream.clone();
    for (name, value) in [
        ("limit", wanted.limit.map(u64::from)),
        ("offset", wanted.offset),
    ] {
        if let Some(value) = value {
            let separator = if address.contains('?') { '&' } else { '?' };
            address.push_str(&format!("{separator}{name}={value}"));
        }
    }
    let answer = match app
        .upstream
        .object(Method::GET, &address, None, MAX_PIECE_BYTES)
        .await
    {
        Ok(answer) => answer,
        Err(error) => return Done::broken(&error),
    };
    let facts = facts_of(&answer);
    let text = match check_status(&answer) {
        Ok(()) => {
            let shown = match &capability.purpose {
                Purpose::PlanLog { plan } => {
                    let place = piece.place(&answer.body);
                    sensitive::may_be_shown(app, &capability.workspace, plan, place).await
                }
                // Whatever it says, it says after the plan.
                _ if answer.body.is_empty() => Ok(true),
                _ => learn_plan_of(app, &capability.workspace, call.run.as_ref()).await,
            };
            let shown = match shown {
                Ok(shown) => shown,
                Err(refusal) => return Done::refused(refusal, facts),
            };
            let plan = match &capability.purpose {
                Purpose::PlanLog { plan } => Some(plan.as_str()),
                _ => plan_of(call.run.as_ref()),
            };
            let known = app.sensitive.of(&capability.workspace, plan);
            if shown {
                let cut = move || piece.cut(answer.body.to_vec(), &known);
                match tokio::task::spawn_blocking(cut).await {
                    Ok(text) => text,
                    Err(_) => return Done::refused(ReasonCode::Internal.into(), facts),
                }
            } else {
                Vec::new()
            }
        }
        // A log that upstream has not begun yet is empty, not missing.
        Err(_) if answer.status == StatusCode::NOT_FOUND => Vec::new(),
        Err(refusal) => return Done::refused(refusal, facts),
    };
    if text.is_empty()
        && let Some(run) = to_apply
    {
        let now = news(app, caller, run).await;
        if let Some(refusal) = now.and_then(|now| not_applied(app, caller, &now)) {
            return Done::refused(refusal, facts);
        }
    }
    Done::answered(text_answer(text), facts)
}

/// Waits a while with an empty answer as long as the apply is held: a client asks twice a second,
/// for hours perhaps, and each time is a record. Returns the run as it stands then, `None` when
/// nothing was waited for.
async fn news(app: &App, caller: &Caller, run: &RunRow) -> Option<RunRow> {
    let refused = |run: &RunRow| not_applied(app, caller, run).is_some();
    if !runs::holds(run.gate) || refused(run) {
        return None;
    }
    // A wait that outlasts the gateway would end without an outcome.
    let mut stopping = std::pin::pin!(app.stopping.notified());
    stopping.as_mut().enable();
    if app.draining.load(Ordering::Acquire) {
        return None;
    }
    let moved = async {
        let mut commits = app.store.commits();
        while let Ok(Some(now)) = app.store.run(&run.run_id).await
            && runs::holds(now.gate)
            && !refused(&now)
            && commits.changed().await.is_ok()
        {
            // On a busy gateway nearly every commit is somebody else's.
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(HELD, moved) => {}
        _ = caller.token.until_ended() => {}
        () = stopping => {}
    }
    app.store.run(&run.run_id).await.ok().flatten()
}

/// Serves what a policy check printed: names of policies, and what they print of a plan.
pub(super) async fn policy_output(app: &App, call: TerraformCall) -> Done {
    let Work::Api { target, .. } = &call.work else {
        return Done::refused(ReasonCode::Internal.into(), Facts::answered(500, b""));
    };
    let answer = match app
        .upstream
        .fetch_document(Duty::Planner, target, MAX_PIECE_BYTES)
        .await
    {
        Ok(answer) => answer,
        Err(error) => return Done::broken(&error),
    };
    let facts = facts_of(&answer);
    if let Err(refusal) = check_status(&answer) {
        return Done::refused(refusal, facts);
    }
    if let Err(refusal) = learn_plan_of(app, call.workspace(), call.run.as_ref()).await {
        return Done::refused(refusal, facts);
    }
    let plan = plan_of(call.run.as_ref());
    let known = app.sensitive.of(call.workspace(), plan);
    let masked = move || {
        if known.is_overfull() {
            return HELD_BACK.as_bytes().to_vec();
        }
        let mut text = answer.body.to_vec();
        mask(&mut text, &known);
        text
    };
    match tokio::task::spawn_blocking(masked).await {
        Ok(text) => Done::answered(text_answer(text), facts),
        Err(_) => Done::refused(ReasonCode::Internal.into(), facts),
    }
}

/// What is printed about a run that was planned is masked by what its own plan marks; always true.
async fn learn_plan_of(app: &App, workspace: &str, run: Option<&RunRow>) -> Result<bool, Refusal> {
    if let Some(plan) = plan_of(run) {
        sensitive::collect_ended(app, workspace, plan).await?;
    }
    Ok(true)
}

fn plan_of(run: Option<&RunRow>) -> Option<&str> {
    run.and_then(|run| run.plan_id.as_deref())
}

/// Why the run of an apply log will not be applied, or not without somebody who has to be asked.
fn not_applied(app: &App, caller: &Caller, run: &RunRow) -> Option<Refusal> {
    let (code, what) = match run.gate {
        GateState::AwaitingApproval => return runs::rejected(app, caller, run),
        GateState::Denied => (ReasonCode::ApprovalDenied, "an approver said no"),
        GateState::Expired => (ReasonCode::ApprovalExpired, "nobody approved in time"),
        GateState::Superseded => (
            ReasonCode::ApprovalSuperseded,
            "something changed meanwhile",
        ),
        GateState::Violates => (ReasonCode::ApprovalClosed, "the plan breaks the contract"),
        GateState::Discarded => (ReasonCode::ApprovalClosed, "the run was discarded"),
        // An apply that failed or was stopped has a log of its own, unless it never began.
        GateState::Errored
            if run.gate_reason.is_some()
                && !matches!(run.status.as_str(), "canceled" | "force_canceled") =>
        {
            (ReasonCode::ApprovalClosed, "the run was stopped")
        }
        _ => return None,
    };
    let reason = run.gate_reason.as_deref().unwrap_or(what);
    // A plan that breaks the contract is refused with the code of the rule that it breaks.
    let first = reason.split(':').next().unwrap_or_default();
    let code = ReasonCode::ALL
        .iter()
        .find(|code| code.as_str() == first)
        .copied()
        .unwrap_or(code);
    Some(Refusal::new(
        code,
        format!("this plan was not applied: {reason}"),
    ))
}

fn text_answer(body: impl Into<bytes::Bytes>) -> Response<crate::server::Body> {
    let mut response = Response::new(whole(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
