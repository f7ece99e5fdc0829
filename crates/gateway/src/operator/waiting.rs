//! Plans that wait, as they begin and cease to: server-sent events.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use serde_json::json;
use store::{GateState, RunBrief};

use super::approvals;
use super::openapi::{MediaTypes, Written};
use super::problem::Problem;
use super::streaming::{self, Broken, Standing, Stream, Woken};
use crate::app::App;

/// Plans that one reader is told of at a time; the ones that wait longest.
const MOST: usize = 200;

/// Server-sent events.
#[derive(Debug)]
pub(super) struct Events;

impl MediaTypes for Events {
    const ALL: &'static [&'static str] = &["text/event-stream"];
}

/// Every plan that waits, at once, and then each that begins to (`waiting`, with what
/// `GET /v1/approvals` says of it), and each that does no longer (`ended`, with where it
/// stands then). After those that wait at once comes `ready`. Whoever connects again is told anew.
pub(super) async fn watch(
    State(app): State<Arc<App>>,
    standing: Standing,
) -> Result<Written<Events>, Problem> {
    let body = streaming::begin(app, standing, None, tell)?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        // Some proxies gather an answer before they pass it on, unless they are told not to.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok(Written::new((headers, body)))
}

async fn tell(mut stream: Stream) -> Result<(), Broken> {
    let mut told = BTreeSet::new();
    let mut first = true;
    loop {
        stream.look().await?;
        let waiting = stream.app.store.waiting_ids().await?;
        let now: BTreeSet<String> = waiting.into_iter().take(MOST).collect();
        if !now.is_subset(&told) {
            begun(&mut stream, &now, &told).await?;
        }
        for run_id in told.difference(&now) {
            let run = stream.app.store.run(run_id).await?;
            // One that still waits has only lost its place among the first.
            let Some(run) = run.filter(|run| run.gate != GateState::AwaitingApproval) else {
                continue;
            };
            let view = json!({
                "run_id": run.run_id,
                "job_id": run.job_id,
                "workspace_id": run.workspace_id,
                "state": run.gate.as_str(),
                "reason": run.gate_reason,
            });
            stream.stand().await?;
            stream.say(event("ended", &view)).await?;
        }
        told = now;
        if std::mem::take(&mut first) {
            let ready = json!({ "waiting": told.len() });
            stream.say(event("ready", &ready)).await?;
        }
        match stream.wait().await? {
            Woken::Commit => {}
            Woken::Silence => stream.say(":\n\n").await?,
            Woken::Stopping => return Ok(()),
        }
    }
}

/// Tells of those that wait now and were not told of. One that cannot be shown breaks the answer
/// off: nobody is to think that there is none.
async fn begun(
    stream: &mut Stream,
    now: &BTreeSet<String>,
    told: &BTreeSet<String>,
) -> Result<(), Broken> {
    let new = |run: &RunBrief| now.contains(&run.run_id) && !told.contains(&run.run_id);
    // One that has moved on meanwhile is told of as ended only.
    let waiting = stream.app.store.waiting().await?;
    for run in waiting.iter().filter(|run| new(run)) {
        // Telling of many to a slow reader takes long.
        stream.stand().await?;
        let view = approvals::brief(&stream.app, run).await;
        let view =
            view.map_err(|problem| Broken::Untellable(format!("{}: {problem}", run.run_id)))?;
        stream.say(event("waiting", &view)).await?;
    }
    Ok(())
}

/// JSON has no line breaks of its own, so the data are one line.
fn event(name: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).expect("texts and numbers are JSON");
    format!("event: {name}\ndata: {data}\n\n")
}
