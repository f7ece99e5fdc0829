//! What jobs are doing now, for whoever watches: answered at once, or when something changes.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use policy::decimal::Decimal;
use policy::{Contract, ReasonCode};
use proof::Timestamp;
use proof::record::{JobId, Lane};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{JobFilter, JobPhase, JobRow};

use super::extract::Params;
use super::jobs::Phase;
use super::problem::Problem;
use crate::activity::Seen;
use crate::app::App;
use crate::shapes;

/// Longest wait for a change, in seconds. Commits of another process do not wake anybody, and
/// calls get older.
const MAX_WAIT: u64 = 30;

/// Open jobs that are shown, the newest.
const MAX_JOBS: u32 = 50;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Watch {
    /// One job, also a closed one; all open ones without it.
    #[serde(default)]
    #[schemars(with = "Option<shapes::JobId>")]
    job: Option<JobId>,
    /// The revision that was shown last: the answer waits until there is another.
    #[serde(default)]
    after: Option<u64>,
    /// Seconds to wait at most.
    #[serde(default)]
    #[schemars(range(max = 30))]
    wait: Option<u64>,
}

/// A snapshot.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Params(watch): Params<Watch>,
) -> Result<Json<Snapshot>, Problem> {
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
    Ok(Json(Snapshot {
        revision,
        at: app.now(),
        gateway_id: app.config.gateway_id.clone(),
        jobs: views,
    }))
}

async fn view(app: &App, job: &JobRow) -> Result<BusyJob, Problem> {
    let seen = app.activity.of(&*app.store, job, app.now()).await?;
    let usage = app.store.model_usage(&job.job_id).await?;
    let row = app.store.contract(&job.policy_hash).await?;
    let payload = row.map(|row| row.contract.envelope.payload);
    let contract = payload.and_then(|payload| Contract::from_json(payload).ok());
    let models = contract
        .as_ref()
        .and_then(|contract| contract.models.as_ref());
    let counters = &job.counters;
    Ok(BusyJob {
        job_id: job.job_id.clone(),
        name: job.name.clone(),
        contract: contract
            .as_ref()
            .map(|contract| contract.name.as_str().to_owned()),
        state: Phase::from(&job.state),
        opened_at: job.opened_at,
        last_at: job.last_at,
        calls: counters.calls,
        model_calls: counters.model_calls,
        refused: counters.refusals,
        in_flight: counters.open_intents,
        tokens_input: seen.tokens_input,
        tokens_output: seen.tokens_output,
        tokens_derived: seen.derived,
        budget: Budget {
            calls: Calls {
                used: usage.calls,
                of: models.and_then(|models| models.max_calls),
            },
            tokens: Tokens {
                used: usage.tokens,
                reserved: usage.reserved,
                of: models.and_then(|models| models.max_tokens),
            },
            cost_usd: Cost {
                used: Decimal::from_units(usage.cost),
                reserved: Decimal::from_units(usage.cost_reserved),
                of: models.and_then(|models| models.max_cost_usd),
            },
        },
        live: live(&seen),
        refusals: refusals(&seen),
    })
}

fn live(seen: &Seen) -> Vec<LiveCall> {
    let calls = seen.live.iter().map(|(seq, call)| LiveCall {
        seq: *seq,
        at: call.at,
        lane: match call.lane {
            Lane::Model => "model",
            Lane::Terraform => "terraform",
            Lane::Gateway => "gateway",
            Lane::Egress => "egress",
        },
        operation: call.operation.clone(),
        about: call.about.clone(),
    });
    calls.collect()
}

fn refusals(seen: &Seen) -> Vec<RefusedCall> {
    let refusals = seen.refusals.iter().rev().map(|refused| RefusedCall {
        at: refused.at,
        code: refused.code.clone(),
        asked: refused.asked.clone(),
        why: refused.why.clone(),
    });
    refusals.collect()
}

/// What jobs are doing now.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Snapshot {
    /// Ask for what comes after it.
    revision: u64,
    #[schemars(with = "shapes::Timestamp")]
    at: Timestamp,
    gateway_id: String,
    /// The newest first.
    jobs: Vec<BusyJob>,
}

/// What one job is doing now.
#[derive(Debug, Serialize, JsonSchema)]
struct BusyJob {
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    name: String,
    contract: Option<String>,
    state: Phase,
    #[schemars(with = "shapes::Timestamp")]
    opened_at: Timestamp,
    #[schemars(with = "shapes::Timestamp")]
    last_at: Timestamp,
    calls: u64,
    model_calls: u64,
    refused: u64,
    in_flight: u64,
    tokens_input: u64,
    tokens_output: u64,
    /// Some tokens were counted by the gateway.
    tokens_derived: bool,
    budget: Budget,
    live: Vec<LiveCall>,
    /// The last refusals, the latest first.
    refusals: Vec<RefusedCall>,
}

/// What is used of the budgets; without `of` there is no limit.
#[derive(Debug, Serialize, JsonSchema)]
struct Budget {
    calls: Calls,
    tokens: Tokens,
    cost_usd: Cost,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CallBudget")]
struct Calls {
    used: u64,
    of: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TokenBudget")]
struct Tokens {
    used: u64,
    reserved: u64,
    of: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CostBudget")]
struct Cost {
    #[schemars(with = "shapes::Decimal")]
    used: Decimal,
    #[schemars(with = "shapes::Decimal")]
    reserved: Decimal,
    #[schemars(with = "Option<shapes::Decimal>")]
    of: Option<Decimal>,
}

/// A call in flight.
#[derive(Debug, Serialize, JsonSchema)]
struct LiveCall {
    seq: u64,
    #[schemars(with = "shapes::Timestamp")]
    at: Timestamp,
    /// `model`, `terraform`, `egress` or `gateway`.
    lane: &'static str,
    operation: String,
    /// The model or the run that it is about.
    about: Option<String>,
}

/// A refused call.
#[derive(Debug, Serialize, JsonSchema)]
struct RefusedCall {
    #[schemars(with = "shapes::Timestamp")]
    at: Timestamp,
    code: String,
    /// What was asked.
    asked: String,
    /// The reasons in words.
    why: String,
}
