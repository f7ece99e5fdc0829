//! Jobs over the operator API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use policy::contract::Email;
use policy::decimal::Decimal;
use proof::Hash;
use proof::record::JobId;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{JobFilter, JobPhase, JobRow, JobState, RunRow, TokenRow};

use super::credential::{self, Operator};
use super::extract::{Id, Params, Reason, Strict};
use super::problem::Problem;
use crate::app::App;
use crate::clawscope::Issuer;
use crate::jobs::{self, ClosedJob, ContractChoice, JobError, Opener, RunningApply};

/// Most entries of one answer.
const MAX_PAGE: u32 = 1000;

/// Entries of an answer when nobody says how many.
const PAGE: u32 = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    name: String,
    #[serde(default)]
    policy_hash_b64u: Option<Hash>,
    #[serde(default)]
    contract: Option<String>,
}

/// Opens a job.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<Open>,
) -> Result<Json<Value>, Problem> {
    let choice = match (body.policy_hash_b64u, body.contract) {
        (Some(hash), None) => ContractChoice::Hash(hash),
        (None, Some(name)) => ContractChoice::Name(name),
        _ => {
            let detail = "give either `policy_hash_b64u` or `contract`";
            return Err(Problem::new(ReasonCode::BodyMissingMember, detail));
        }
    };
    let issuer = Issuer::of(&app);
    let email = credential::email_of(&*app.store, operator.name()).await?;
    let opener = Opener {
        operator: operator.name(),
        email: email.as_ref().map(Email::as_str),
    };
    let job = jobs::open(issuer, opener, &body.name, choice, app.now()).await?;
    Ok(Json(json!({
        "job_id": job.job_id,
        "agent_did": job.agent_did,
        "policy_hash_b64u": job.policy_hash,
        "opened_at": job.opened_at,
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default)]
    state: Option<Phase>,
    #[serde(default)]
    before: Option<JobId>,
    #[serde(default)]
    limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Phase {
    Open,
    Closed,
    Sealed,
}

/// Jobs, newest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(filter): Params<Filter>,
) -> Result<Json<Value>, Problem> {
    let phase = filter.state.map(|phase| match phase {
        Phase::Open => JobPhase::Open,
        Phase::Closed => JobPhase::Closed,
        Phase::Sealed => JobPhase::Sealed,
    });
    let limit = page(filter.limit)?;
    let jobs = app
        .store
        .jobs(JobFilter {
            phase,
            before: filter.before,
            limit,
            ..JobFilter::default()
        })
        .await?;
    Ok(Json(
        json!({ "jobs": jobs.iter().map(view).collect::<Vec<_>>() }),
    ))
}

fn page(limit: Option<u32>) -> Result<u32, Problem> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=MAX_PAGE => Ok(limit),
        _ => {
            let detail = format!("`limit` is 1 to {MAX_PAGE}");
            Err(Problem::new(ReasonCode::QueryValue, detail))
        }
    }
}

/// One job.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
) -> Result<Json<Value>, Problem> {
    let job = known(&app, &job_id).await?;
    let usage = app.store.model_usage(&job_id).await?;
    let mut view = view(&job);
    view["model_usage"] = json!({
        "calls": usage.calls,
        "tokens": usage.tokens,
        "reserved": usage.reserved,
        "cost_usd": Decimal::from_units(usage.cost),
        "cost_reserved_usd": Decimal::from_units(usage.cost_reserved),
    });
    view["trust_pulse"] = json!(format!("{}/trust-pulse/jobs/{job_id}", app.operator_url));
    Ok(Json(view))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    limit: Option<u32>,
}

/// A page of a job's records, in their order.
pub(super) async fn records(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
    Params(asked): Params<Page>,
) -> Result<Json<Value>, Problem> {
    known(&app, &job_id).await?;
    let records = app
        .store
        .records(&job_id, asked.after, page(asked.limit)?)
        .await?;
    let records: Vec<Value> = records
        .iter()
        .map(|stored| json!({ "leaf_index": stored.leaf_index, "record": stored.record }))
        .collect();
    Ok(Json(json!({ "job_id": job_id, "records": records })))
}

/// A job's runs, oldest first.
pub(super) async fn runs(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
) -> Result<Json<Value>, Problem> {
    known(&app, &job_id).await?;
    let runs = app.store.runs(&job_id).await?;
    Ok(Json(
        json!({ "job_id": job_id, "runs": runs.iter().map(run_view).collect::<Vec<_>>() }),
    ))
}

/// A job's tokens, oldest first; never their text, which nobody has.
pub(super) async fn tokens(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
) -> Result<Json<Value>, Problem> {
    known(&app, &job_id).await?;
    let tokens = app.store.tokens(&job_id).await?;
    let tokens: Vec<Value> = tokens.iter().map(token_view).collect();
    Ok(Json(json!({ "job_id": job_id, "tokens": tokens })))
}

async fn known(app: &App, job_id: &JobId) -> Result<JobRow, Problem> {
    Ok(app.store.job(job_id).await?.ok_or(ReasonCode::JobUnknown)?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Close {
    reason: Reason,
}

/// Closes a job and seals its bundle.
pub(super) async fn close(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
    operator: Operator,
    Strict(body): Strict<Close>,
) -> Result<Json<Value>, Problem> {
    let (by, reason) = (operator.name(), body.reason.as_str());
    let closed = jobs::close(&app, by, &job_id, reason, RunningApply::KeepsOpen).await?;
    Ok(Json(closed_view(&closed)))
}

/// A closed job with its bundle.
pub(super) fn closed_view(closed: &ClosedJob) -> Value {
    json!({
        "job_id": closed.job.job_id,
        "policy_hash_b64u": closed.job.policy_hash,
        "closed_at": closed.closing.at,
        "closed_by": closed.closing.by,
        "reason": closed.closing.reason,
        "bundle_sha256_b64u": closed.bundle.sha256,
        "bundle_bytes": closed.bundle.bytes,
        "unknown_outcomes": closed.unknown,
        "counters": counters(&closed.job),
    })
}

fn view(job: &JobRow) -> Value {
    let mut view = json!({
        "job_id": job.job_id,
        "name": job.name,
        "agent_did": job.agent_did,
        "policy_hash_b64u": job.policy_hash,
        "opened_by": job.opened_by,
        "opened_by_email": job.opened_by_email,
        "opened_at": job.opened_at,
        "last_at": job.last_at,
        "state": match job.state {
            JobState::Open => "open",
            JobState::Closed(_) => "closed",
            JobState::Sealed { .. } => "sealed",
        },
        "counters": counters(job),
    });
    if let Some(closing) = job.state.closing() {
        view["closed_at"] = json!(closing.at);
        view["closed_by"] = json!(closing.by);
        view["close_reason"] = json!(closing.reason);
    }
    if let JobState::Sealed { bundle, .. } = &job.state {
        view["bundle_sha256_b64u"] = json!(bundle);
    }
    view
}

fn counters(job: &JobRow) -> Value {
    let counters = &job.counters;
    json!({
        "records": counters.records,
        "calls": counters.calls,
        "model_calls": counters.model_calls,
        "refusals": counters.refusals,
        "approvals": counters.approvals,
        "denials": counters.denials,
        "applies": counters.applies,
        "open_intents": counters.open_intents,
    })
}

fn run_view(run: &RunRow) -> Value {
    json!({
        "run_id": run.run_id,
        "organization": run.organization,
        "workspace_id": run.workspace_id,
        "configuration_version_id": run.configuration_version_id,
        "configuration_sha256_b64u": run.configuration_sha256,
        "plan_id": run.plan_id,
        "apply_id": run.apply_id,
        "apply_wished": run.apply_wished,
        "gate": run.gate.as_str(),
        "gate_reason": run.gate_reason,
        "plan_sha256_b64u": run.plan_sha256,
        "plan_raw_sha256_b64u": run.plan_raw_sha256,
        "changes": run.changes,
        "status": run.status,
        "state_version_before": run.state_version_before,
        "state_version_after": run.state_version_after,
        "approval_expires_at": run.approval_expires_at,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
    })
}

fn token_view(row: &TokenRow) -> Value {
    let token = &row.token;
    let mut view = json!({
        "token_hash": token.token_hash.to_hex(),
        "scopes": token.claims.scope,
        "issued_at": token.issued_at,
        "issued_by": token.issued_by,
        "expires_at": token.claims.expires_at(),
        "holder": row.holder,
        "first_used_at": row.first_used_at,
        "last_used_at": row.last_used_at,
        "replays_refused": row.replays_refused,
    });
    if let Some(revoked) = &row.revoked {
        view["revoked_at"] = json!(revoked.at);
        view["revoked_by"] = json!(revoked.by);
        view["revocation_reason"] = json!(revoked.reason);
    }
    if let Some(elevated) = &token.elevated {
        view["elevated"] = json!({
            "run_id": elevated.run_id,
            "approver": elevated.approver,
            "used_at": row.elevated_used_at,
        });
    }
    view
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Refused(refusal) => refusal.into(),
            JobError::Store(error) => error.into(),
            JobError::Seal(_) => Self::internal(&error),
        }
    }
}
