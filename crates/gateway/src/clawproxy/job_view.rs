//! `/v1/job`: what an agent may see of its own job. Read only, nothing goes upstream.

use http::request::Parts;
use http::{HeaderValue, Method, Response, header};
use policy::{ReasonCode, Refusal};
use serde_json::json;

use super::authenticate::{Caller, unavailable};
use crate::app::App;
use crate::server::{Body, whole};

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
    let job = &caller.token.job;
    let body = match parts.uri.path() {
        "/v1/job" => {
            let row = app.store.job(&job.id).await.map_err(unavailable)?;
            let row = row.ok_or(ReasonCode::TokenJobUnknown)?;
            let contract = &job.contract.contract;
            json!({
                "job_id": job.id,
                "name": job.name,
                "agent_did": job.agent_did,
                "policy_hash_b64u": job.contract.hash,
                "contract": { "name": contract.name.as_str(), "summary": contract.summary() },
                "token": {
                    "scope": caller.token.scopes,
                    "expires_at": caller.token.claims.expires_at(),
                },
                "counts": {
                    "records": row.counters.records,
                    "calls": row.counters.calls,
                    "refusals": row.counters.refusals,
                    "approvals": row.counters.approvals,
                    "applies": row.counters.applies,
                },
            })
        }
        "/v1/job/runs" => {
            let runs = app.store.runs(&job.id).await.map_err(unavailable)?;
            let runs: Vec<_> = runs
                .iter()
                .map(|run| {
                    json!({
                        "run_id": run.run_id,
                        "workspace_id": run.workspace_id,
                        "status": run.status,
                        "gate": run.gate.as_str(),
                        "reason": run.gate_reason,
                        "approval_expires_at": run.approval_expires_at,
                    })
                })
                .collect();
            json!({ "runs": runs })
        }
        path => {
            let id = path
                .strip_prefix("/v1/job/receipts/")
                .ok_or(ReasonCode::RouteUnknown)?;
            let receipt = app.store.receipt(&job.id, id).await.map_err(unavailable)?;
            json!(receipt.ok_or(ReasonCode::ReceiptUnknown)?)
        }
    };
    let mut response = Response::new(whole(body.to_string()));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
