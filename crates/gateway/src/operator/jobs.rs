//! Jobs over the operator API.

pub(super) mod views;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use policy::contract::Email;
use policy::decimal::Decimal;
use proof::record::{Confinement, JobId};
use proof::{Did, Hash, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{JobFilter, JobPhase, JobRow, JobState, Part};

use super::credential::{self, Operator};
use super::extract::{Id, Params, Reason, Strict};
use super::problem::Problem;
use crate::app::App;
use crate::bundles::BundleError;
use crate::clawscope::Issuer;
use crate::jobs::{self, ClosedJob, ContractChoice, JobError, Opener, RunningApply, Terms};
use crate::leases::Lease;
use crate::shapes;

use views::{
    Counters, Job, JobDetails, Jobs, ModelUsage, PrunedRecordView, PrunedRecords, RecordView,
    Records, RunView, Runs, TokenView, Tokens,
};

/// Most entries of one answer.
const MAX_PAGE: u32 = 1000;

/// Entries of an answer when nobody says how many.
const PAGE: u32 = 100;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OpenJob")]
pub(super) struct Open {
    /// What the job is for, for people.
    name: String,
    /// A version of a contract.
    #[serde(default)]
    #[schemars(with = "Option<shapes::Sha256>")]
    policy_hash_b64u: Option<Hash>,
    /// A contract's name, of which the latest version counts.
    #[serde(default)]
    contract: Option<String>,
    /// How the agent is confined, which the gateway cannot see.
    #[serde(default)]
    #[schemars(with = "Option<shapes::Confinement>")]
    confinement: Option<Confinement>,
    /// How long the job stays open when nobody renews its lease, in seconds.
    #[serde(default)]
    #[schemars(with = "Option<u32>", range(min = 2, max = 3600))]
    lease_seconds: Option<Lease>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OpenedJob")]
pub(super) struct Opened {
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    /// The agent: the job's own key.
    #[schemars(with = "shapes::Did")]
    agent_did: Did,
    /// The contract that the job is pinned to.
    #[schemars(with = "shapes::Sha256")]
    policy_hash_b64u: Hash,
    #[schemars(with = "shapes::Timestamp")]
    opened_at: Timestamp,
}

/// Opens a job.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    operator: Operator,
    Strict(body): Strict<Open>,
) -> Result<Json<Opened>, Problem> {
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
    let terms = Terms {
        confinement: body.confinement,
        lease: body.lease_seconds.map(|lease| (lease, &app.leases)),
    };
    let job = jobs::open(issuer, opener, &body.name, choice, terms, app.now()).await?;
    Ok(Json(Opened {
        job_id: job.job_id,
        agent_did: job.agent_did,
        policy_hash_b64u: job.policy_hash,
        opened_at: job.opened_at,
    }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Only jobs in this state.
    #[serde(default)]
    state: Option<Phase>,
    /// Only jobs before this one, for the next page.
    #[serde(default)]
    #[schemars(with = "Option<shapes::JobId>")]
    before: Option<JobId>,
    /// How many at most; 100 unless it is said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "JobState")]
pub(super) enum Phase {
    Open,
    Closed,
    Sealed,
}

impl From<&JobState> for Phase {
    fn from(state: &JobState) -> Self {
        match state {
            JobState::Open => Self::Open,
            JobState::Closed(_) => Self::Closed,
            JobState::Sealed { .. } => Self::Sealed,
        }
    }
}

/// Jobs, newest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(filter): Params<Filter>,
) -> Result<Json<Jobs>, Problem> {
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
    let jobs = jobs.into_iter().map(Job::from).collect();
    Ok(Json(Jobs { jobs }))
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
) -> Result<Json<JobDetails>, Problem> {
    let job = known(&app, &job_id).await?;
    let usage = app.store.model_usage(&job_id).await?;
    Ok(Json(JobDetails {
        job: job.into(),
        model_usage: ModelUsage {
            calls: usage.calls,
            tokens: usage.tokens,
            reserved: usage.reserved,
            cost_usd: Decimal::from_units(usage.cost),
            cost_reserved_usd: Decimal::from_units(usage.cost_reserved),
        },
        trust_pulse: format!("{}/trust-pulse/jobs/{job_id}", app.operator_url),
    }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Records after this `seq`.
    #[serde(default)]
    after: u64,
    /// How many at most; 100 unless it is said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

/// A page of a job's records, in their order; of those whose content was removed after its
/// retention, what stays.
pub(super) async fn records(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
    Params(asked): Params<Page>,
) -> Result<Json<Records>, Problem> {
    known(&app, &job_id).await?;
    let limit = page(asked.limit)?;
    let went = app.store.prunings(&job_id).await?;
    if let Some(went) = went.into_iter().find(|went| went.part == Part::Records) {
        let places = app.store.record_places(&job_id, asked.after, limit).await?;
        let pruned = PrunedRecords {
            at: went.at,
            by: went.by,
            records: places.into_iter().map(PrunedRecordView::from).collect(),
        };
        return Ok(Json(Records {
            job_id,
            records: Vec::new(),
            pruned: Some(pruned),
        }));
    }
    let records = app.store.records(&job_id, asked.after, limit).await?;
    let records = records.into_iter().map(|stored| RecordView {
        leaf_index: stored.leaf_index,
        record: stored.record,
    });
    let records = records.collect();
    Ok(Json(Records {
        job_id,
        records,
        pruned: None,
    }))
}

/// A job's runs, oldest first.
pub(super) async fn runs(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
) -> Result<Json<Runs>, Problem> {
    known(&app, &job_id).await?;
    let runs = app.store.runs(&job_id).await?;
    let runs = runs.into_iter().map(RunView::from).collect();
    Ok(Json(Runs { job_id, runs }))
}

/// A job's tokens, oldest first; never their text, which nobody has.
pub(super) async fn tokens(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
) -> Result<Json<Tokens>, Problem> {
    known(&app, &job_id).await?;
    let tokens = app.store.tokens(&job_id).await?;
    let tokens = tokens.into_iter().map(TokenView::from).collect();
    Ok(Json(Tokens { job_id, tokens }))
}

async fn known(app: &App, job_id: &JobId) -> Result<JobRow, Problem> {
    Ok(app.store.job(job_id).await?.ok_or(ReasonCode::JobUnknown)?)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloseJob")]
pub(super) struct Close {
    #[schemars(with = "shapes::Reason")]
    reason: Reason,
}

/// Renews a job's lease: whoever opened it is still there.
pub(super) async fn renew(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
    Strict(Renew {}): Strict<Renew>,
) -> Result<Json<Renewed>, Problem> {
    let job = known(&app, &job_id).await?;
    let lease = job.lease_seconds.and_then(|it| Lease::try_from(it).ok());
    let lease = lease.ok_or(ReasonCode::JobNotLeased)?;
    if !job.state.is_open() {
        return Err(ReasonCode::JobClosed.into());
    }
    if app.store.is_shared() {
        app.store
            .renew_lease(&job_id)
            .await
            .map_err(|error| match error.conflict() {
                Some(store::Conflict::JobClosed(_)) => ReasonCode::JobClosed.into(),
                _ => Problem::from(error),
            })?;
    } else if !app.leases.renew(&job_id) {
        // It has lapsed, and the job is not closed yet: an apply may keep it open. What the closing
        // of the job has not seen is not left behind.
        app.leases.begin(job_id.clone(), lease);
        if !known(&app, &job_id).await?.state.is_open() {
            app.leases.end(&job_id);
            return Err(ReasonCode::JobClosed.into());
        }
    }
    Ok(Json(Renewed {
        job_id,
        lease_seconds: lease.seconds(),
    }))
}

/// Nothing is to be said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RenewLease")]
pub(super) struct Renew {}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RenewedLease")]
pub(super) struct Renewed {
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    /// How long the lease lasts from now.
    lease_seconds: u32,
}

/// Closes a job and seals its bundle.
pub(super) async fn close(
    State(app): State<Arc<App>>,
    Id(job_id): Id<JobId>,
    operator: Operator,
    Strict(body): Strict<Close>,
) -> Result<Json<Closed>, Problem> {
    let (by, reason) = (operator.name(), body.reason.as_str());
    let closed = jobs::close(&app, by, &job_id, reason, RunningApply::KeepsOpen).await?;
    Ok(Json(closed.into()))
}

/// A closed job with its bundle.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClosedJob")]
pub(super) struct Closed {
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    #[schemars(with = "shapes::Sha256")]
    policy_hash_b64u: Hash,
    #[schemars(with = "shapes::Timestamp")]
    closed_at: Timestamp,
    closed_by: String,
    reason: String,
    #[schemars(with = "shapes::Sha256")]
    bundle_sha256_b64u: Hash,
    bundle_bytes: u64,
    /// Calls of which nobody knows how they ended, by the `seq` of their intents.
    unknown_outcomes: Vec<u64>,
    counters: Counters,
}

impl From<ClosedJob> for Closed {
    fn from(closed: ClosedJob) -> Self {
        Self {
            counters: Counters::of(&closed.job),
            job_id: closed.job.job_id,
            policy_hash_b64u: closed.job.policy_hash,
            closed_at: closed.closing.at,
            closed_by: closed.closing.by,
            reason: closed.closing.reason,
            bundle_sha256_b64u: closed.bundle.sha256,
            bundle_bytes: closed.bundle.bytes,
            unknown_outcomes: closed.unknown,
        }
    }
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Refused(refusal) => refusal.into(),
            JobError::Store(error) => error.into(),
            JobError::Seal(BundleError::Signer(error)) => error.refusal().into(),
            JobError::Seal(_) => Self::internal(&error),
        }
    }
}
