//! Puts together what the parts have counted and what the store says.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use policy::ReasonCode;
use store::GateState;

use super::families as f;
use super::snapshot::Snapshot;
use super::text::{MEDIA_TYPE, written};
use super::{CallClass, ENDS, LANES, TIMED};
use crate::app::App;
use crate::tlog::Standing;

/// Units of the store's sums of money in one US dollar.
const UNITS_PER_USD: f64 = 1e9;

/// `GET /metrics`.
pub(crate) async fn show(State(app): State<Arc<App>>) -> Response {
    let text = written(&gather(&app).await);
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response()
}

/// What is known without the store is told also when the store is silent: that is when somebody
/// looks.
pub async fn gather(app: &App) -> Snapshot {
    let mut seen = Snapshot::default();
    seen.family(&f::BUILD_INFO)
        .value(&[env!("CARGO_PKG_VERSION")], 1.0);
    seen.number(&f::START_TIME, app.started.millis() as f64 / 1e3);
    calls(app, &mut seen);
    models(app, &mut seen);
    let lines = seen.family(&f::CLOUD_REQUESTS);
    for (result, count) in app.upstream.requests().by_result() {
        lines.value(&[result], count as f64);
    }
    lines.value(&["shed"], app.upstream.shed().value() as f64);
    store(app, &mut seen).await;
    seen.number(&f::BUNDLES, app.metrics.bundles.value() as f64);
    let dropped = app.telemetry.as_ref().map_or(0, |own| own.dropped());
    seen.number(&f::SPANS_DROPPED, dropped as f64);
    seen
}

fn calls(app: &App, seen: &mut Snapshot) {
    let metrics = &app.metrics;
    let lines = seen.family(&f::CALLS);
    for class in CallClass::ALL {
        for code in ReasonCode::ALL {
            let count = metrics.calls_of(*class, *code).map_or(0, |own| own.value());
            // Most of these never happen, and a series that does not exist costs nothing. What is
            // allowed is there from the start, so that its first increase is seen.
            if count > 0 || *code == ReasonCode::Allowed {
                let labels = [class.lane(), class.as_str(), code.as_str()];
                lines.value(&labels, count as f64);
            }
        }
    }
    let lines = seen.family(&f::CALL_ENDS);
    for ((_, lane), ends) in LANES.iter().zip(&metrics.ends) {
        for ((_, ended), count) in ENDS.iter().zip(ends) {
            lines.value(&[lane, ended], count.value() as f64);
        }
    }
    for (family, histograms) in [
        (&f::OVERHEAD, &metrics.overhead),
        (&f::UPSTREAM, &metrics.upstream),
    ] {
        let lines = seen.family(family);
        for (lane, histogram) in TIMED.iter().zip(histograms) {
            lines.distribution(&[lane], histogram.distribution());
        }
    }
}

fn models(app: &App, seen: &mut Snapshot) {
    let models = &app.models;
    seen.number(&f::MODEL_CALLS, models.open_calls() as f64);
    seen.number(&f::MODEL_STREAMS, models.open_streams() as f64);
    seen.number(&f::OPERATOR_STREAMS, app.streams.open() as f64);
    let lines = seen.family(&f::MODEL_REQUESTS);
    for provider in models.all() {
        for (result, count) in provider.counts.requests.by_result() {
            lines.value(&[&provider.name, result], count as f64);
        }
    }
    let lines = seen.family(&f::MODEL_TOKENS);
    for provider in models.all() {
        let counts = &provider.counts;
        lines.value(&[&provider.name, "input"], counts.input.value() as f64);
        lines.value(&[&provider.name, "output"], counts.output.value() as f64);
    }
    let lines = seen.family(&f::MODEL_SPEND);
    for provider in models.all() {
        let spent = provider.counts.spent.value() as f64 / UNITS_PER_USD;
        lines.value(&[&provider.name], spent);
    }
}

async fn store(app: &App, seen: &mut Snapshot) {
    let (size, runs) = tokio::join!(app.store.log_size(), app.store.active_briefs());
    let up = size.is_ok() && runs.is_ok() && !app.recording.is_failing();
    seen.number(&f::STORE_UP, f64::from(u8::from(up)));
    let commits = *app.store.commits().borrow();
    seen.number(&f::STORE_COMMITS, commits as f64);
    let writes = app.metrics.store_write.distribution();
    seen.family(&f::STORE_WRITE).distribution(&[], writes);
    if let Some(queued) = app.store.queued() {
        seen.number(&f::STORE_QUEUE, queued as f64);
    }
    if let Ok(size) = size {
        seen.number(&f::LOG_SIZE, size as f64);
    }
    let standing = app.publication.standing();
    if let Standing::Published(size) = &standing {
        seen.number(&f::LOG_PUBLISHED, *size as f64);
    }
    let lines = seen.family(&f::LOG_PUBLISHING);
    for name in Standing::ALL {
        lines.value(&[name], f64::from(u8::from(name == standing.as_str())));
    }
    seen.number(&f::BUNDLES_PENDING, app.pending.count() as f64);
    let Ok(runs) = runs else {
        return;
    };
    let standing = |gate: GateState| runs.iter().filter(move |run| run.gate == gate);
    let lines = seen.family(&f::RUNS);
    for gate in GateState::ALL.into_iter().filter(|gate| !gate.is_final()) {
        lines.value(&[gate.as_str()], standing(gate).count() as f64);
    }
    let waiting = standing(GateState::AwaitingApproval);
    let oldest = waiting.clone().map(|run| run.updated_at).min();
    let oldest = oldest.map_or(0, |since| app.now().millis() - since.millis());
    seen.number(&f::APPROVALS_WAITING, waiting.count() as f64);
    seen.number(&f::APPROVALS_OLDEST, oldest.max(0) as f64 / 1e3);
}
