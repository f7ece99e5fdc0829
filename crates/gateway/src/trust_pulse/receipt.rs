//! One receipt, as it was signed.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use proof::record::JobId;
use store::{Conflict, StoreError};

use crate::app::App;
use crate::operator::Visit;
use crate::pages::{Frame, Place, failed, html, nothing_here, pruned};

/// Longest id of a receipt that is looked for.
const MAX_ID: usize = 128;

#[derive(Debug, Template)]
#[template(path = "trust_pulse/receipt.html")]
struct ReceiptPage {
    frame: Frame,
    job_id: String,
    id: String,
    kind: &'static str,
    signer: String,
    hash: String,
    document: String,
}

/// One receipt of a job.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path((job_id, id)): Path<(String, String)>,
) -> Response {
    let frame = Frame::new(&app, &visit, Place::Jobs);
    let Some(job_id) = job_id.parse::<JobId>().ok().filter(|_| id.len() <= MAX_ID) else {
        return nothing_here(frame, "That is no job's id.");
    };
    let envelope = match app.store.receipt(&job_id, &id).await {
        Ok(Some(envelope)) => envelope,
        Ok(None) => return nothing_here(frame, "This job has no such receipt."),
        Err(StoreError::Conflict(gone @ Conflict::ContentPruned(_))) => {
            return pruned(frame, &gone.to_string());
        }
        Err(error) => return failed(frame, &error),
    };
    let page = ReceiptPage {
        frame,
        job_id: job_id.to_string(),
        id,
        kind: match envelope.envelope_type {
            proof::EnvelopeType::GatewayReceipt => "a call to a model",
            _ => "a call to Terraform Cloud",
        },
        signer: envelope.signer_did.to_string(),
        hash: envelope.payload_hash_b64u.to_string(),
        document: serde_json::to_string_pretty(&envelope).unwrap_or_default(),
    };
    html(StatusCode::OK, &page)
}
