//! `/v1/job`: what an agent may see of its own job. Read only, nothing goes upstream.

use http::request::Parts;
use http::{HeaderValue, Method, Response, header};
use policy::{ReasonCode, Refusal};
use proof::record::JobId;
use proof::{Did, Envelope, Hash, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use store::RunRow;

use super::authenticate::{Caller, unavailable};
use crate::app::App;
use crate::server::{Body, whole};
use crate::shapes;

/// The views, as paths are written.
pub(crate) const PATHS: [&str; 3] = [JOB, RUNS, "/v1/job/receipts/{id}"];

const JOB: &str = "/v1/job";
const RUNS: &str = "/v1/job/runs";
const RECEIPTS: &str = "/v1/job/receipts/";

/// Answers one of the views.
pub(super) async fn answer(
    app: &App,
    caller: &Caller,
    parts: &Parts,
) -> Result<Response<Body>, Refusal> {
    if parts.method != Method::GET {
        return Err(ReasonCode::MethodNotAllowed.into());
    }
    if parts.uri.query().is_some() {
        return Err(ReasonCode::QueryUnknownKey.into());
    }
    match parts.uri.path() {
        JOB => Ok(json(&job(app, caller).await?)),
        RUNS => {
            let runs = app.store.runs(&caller.token.job.id).await;
            let runs = runs.map_err(unavailable)?.into_iter();
            Ok(json(&OwnRuns {
                runs: runs.map(OwnRun::from).collect(),
            }))
        }
        path => {
            let id = path.strip_prefix(RECEIPTS);
            let id = id.ok_or(ReasonCode::RouteUnknown)?;
            let receipt = app.store.receipt(&caller.token.job.id, id).await;
            let receipt = receipt.map_err(unavailable)?;
            Ok(json(&OwnReceipt(
                receipt.ok_or(ReasonCode::ReceiptUnknown)?,
            )))
        }
    }
}

async fn job(app: &App, caller: &Caller) -> Result<OwnJob, Refusal> {
    let job = &caller.token.job;
    let row = app.store.job(&job.id).await.map_err(unavailable)?;
    let counters = row.ok_or(ReasonCode::TokenJobUnknown)?.counters;
    let contract = &job.contract.contract;
    Ok(OwnJob {
        job_id: job.id.clone(),
        name: job.name.clone(),
        agent_did: job.agent_did.clone(),
        policy_hash_b64u: job.contract.hash,
        contract: OwnContract {
            name: contract.name.as_str().to_owned(),
            summary: contract.summary(),
        },
        token: OwnToken {
            scope: caller.token.scopes.clone(),
            expires_at: caller.token.claims.expires_at(),
        },
        counts: OwnCounts {
            records: counters.records,
            calls: counters.calls,
            refusals: counters.refusals,
            approvals: counters.approvals,
            applies: counters.applies,
        },
    })
}

/// The job of the token that was sent.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OwnJob {
    #[schemars(with = "shapes::JobId")]
    job_id: JobId,
    name: String,
    #[schemars(with = "shapes::Did")]
    agent_did: Did,
    /// The contract that the job is pinned to.
    #[schemars(with = "shapes::Sha256")]
    policy_hash_b64u: Hash,
    contract: OwnContract,
    token: OwnToken,
    counts: OwnCounts,
}

/// What an agent may do.
#[derive(Debug, Serialize, JsonSchema)]
struct OwnContract {
    name: String,
    /// In plain words, one sentence each.
    summary: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct OwnToken {
    #[schemars(with = "Vec<shapes::Scope>")]
    scope: Vec<String>,
    #[schemars(with = "shapes::Timestamp")]
    expires_at: Timestamp,
}

#[derive(Debug, Serialize, JsonSchema)]
struct OwnCounts {
    records: u64,
    calls: u64,
    refusals: u64,
    approvals: u64,
    applies: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OwnRuns {
    /// Oldest first.
    runs: Vec<OwnRun>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct OwnRun {
    run_id: String,
    workspace_id: String,
    /// Terraform Cloud's status, as last seen.
    status: String,
    #[schemars(with = "shapes::GateState")]
    gate: &'static str,
    /// Why it stands there, by reason code or in words.
    reason: Option<String>,
    #[schemars(with = "Option<shapes::Timestamp>")]
    approval_expires_at: Option<Timestamp>,
}

impl From<RunRow> for OwnRun {
    fn from(run: RunRow) -> Self {
        Self {
            run_id: run.run_id,
            workspace_id: run.workspace_id,
            status: run.status,
            gate: run.gate.as_str(),
            reason: run.gate_reason,
            approval_expires_at: run.approval_expires_at,
        }
    }
}

/// A receipt; see docs/formats.md.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct OwnReceipt(#[schemars(with = "shapes::Envelope")] Envelope);

fn json(view: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_string(view).expect("texts and numbers are JSON");
    let mut response = Response::new(whole(text));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
