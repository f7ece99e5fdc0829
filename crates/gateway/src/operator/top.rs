//! What jobs are doing now, for whoever watches: answered at once, or when something changes.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use policy::decimal::Decimal;
use policy::{Contract, ReasonCode};
use proof::record::{JobId, Lane};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{JobFilter, JobPhase, JobRow, JobState};

use super::extract::Params;
use super::problem::Problem;
use crate::activity::Seen;
use crate::app::App;

/// Longest wait for a change, in seconds. Commits of another process do not wake anybody, and
/// calls get older.
const MAX_WAIT: u64 = 30;

/// Open jobs that are shown, the newest.
const MAX_JOBS: u32 = 50;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Watch {
    /// One job, also a closed one; all open ones without it.
    #[serde(default)]
    job: Option<JobId>,
    /// The revision that was shown last: the answer waits until there is another.
    #[serde(default)]
    after: Option<u64>,
    /// Seconds to wait at most.
    #[serde(default)]
    wait: Option<u64>,
}

/// A snapshot.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Params(watch): Params<Watch>,
) -> Result<Json<Value>, Problem> {
    let wait = watch.wait.unwrap_or(MAX_WAIT);
    if wait > MAX_WAIT {
        let detail = format!("`wait` is 0 to {MAX_WAIT}");
        return Err(Problem::new(ReasonCode::QueryValue, detail));
    }
    let mut commits = app.store.commits();
    if let Some(after) = watch.after {
        let stopping = app.stopping.notified();
        tokio::select! {
            // The store lives as long as `app`, so the wait cannot fail.
            _ = commits.wait_for(|revision| *revision != after) => {}
            () = stopping => {}
            () = tokio::time::sleep(Duration::from_secs(wait)) => {}
        }
    }
    // Before anything is read: what is committed meanwhile makes the next revision.
    let revision = *commits.borrow_and_update();
    let jobs = match &watch.job {
        Some(id) => vec![app.store.job(id).await?.ok_or(ReasonCode::JobUnknown)?],
        None => {
            let open = JobFilter {
                phase: Some(JobPhase::Open),
                limit: MAX_JOBS,
                ..JobFilter::default()
            };
            app.store.jobs(open).await?
        }
    };
    let mut views = Vec::new();
    for job in &jobs {
        views.push(view(&app, job).await?);
    }
    Ok(Json(json!({
        "revision": revision,
        "at": app.now(),
        "gateway_id": app.config.gateway_id,
        "jobs": views,
    })))
}

async fn view(app: &App, job: &JobRow) -> Result<Value, Problem> {
    let seen = app.activity.of(&*app.store, job, app.now()).await?;
    let usage = app.store.model_usage(&job.job_id).await?;
    let row = app.store.contract(&job.policy_hash).await?;
    let payload = row.map(|row| row.contract.envelope.payload);
    let contract = payload.and_then(|payload| Contract::from_json(payload).ok());
    let models = contract
        .as_ref()
        .and_then(|contract| contract.models.as_ref());
    let counters = &job.counters;
    Ok(json!({
        "job_id": job.job_id,
        "name": job.name,
        "contract": contract.as_ref().map(|contract| contract.name.as_str()),
        "state": match job.state {
            JobState::Open => "open",
            JobState::Closed(_) => "closed",
            JobState::Sealed { .. } => "sealed",
        },
        "opened_at": job.opened_at,
        "last_at": job.last_at,
        "calls": counters.calls,
        "model_calls": counters.model_calls,
        "refused": counters.refusals,
        "in_flight": counters.open_intents,
        "tokens_input": seen.tokens_input,
        "tokens_output": seen.tokens_output,
        "tokens_derived": seen.derived,
        "budget": {
            "calls": { "used": usage.calls, "of": models.and_then(|models| models.max_calls) },
            "tokens": {
                "used": usage.tokens,
                "reserved": usage.reserved,
                "of": models.and_then(|models| models.max_tokens),
            },
            "cost_usd": {
                "used": Decimal::from_units(usage.cost),
                "reserved": Decimal::from_units(usage.cost_reserved),
                "of": models.and_then(|models| models.max_cost_usd),
            },
        },
        "live": live(&seen),
        "refusals": refusals(&seen),
    }))
}

fn live(seen: &Seen) -> Vec<Value> {
    let calls = seen.live.iter().map(|(seq, call)| {
        json!({
            "seq": seq,
            "at": call.at,
            "lane": match call.lane {
                Lane::Model => "model",
                Lane::Terraform => "terraform",
                Lane::Gateway => "gateway",
                Lane::Egress => "egress",
            },
            "operation": call.operation,
            "about": call.about,
        })
    });
    calls.collect()
}

fn refusals(seen: &Seen) -> Vec<Value> {
    let refusals = seen.refusals.iter().rev().map(|refused| {
        json!({
            "at": refused.at,
            "code": refused.code,
            "asked": refused.asked,
            "why": refused.why,
        })
    });
    refusals.collect()
}
