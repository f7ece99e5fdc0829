//! What a test or a curious operator asks of the stand-in itself.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::json;

use super::cloud::Cloud;
use super::jsonapi::ApiError;
use super::workspaces::merge_settings;
use crate::faults::{Fault, FaultId};

fn plain_json(text: String) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )],
        text,
    )
        .into_response()
}

pub(crate) async fn requests(State(cloud): State<Arc<Cloud>>) -> Response {
    match serde_json::to_string(&cloud.log.requests()) {
        Ok(text) => plain_json(text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

pub(crate) async fn set_fault(State(cloud): State<Arc<Cloud>>, body: Bytes) -> Response {
    let fault: Fault = match serde_json::from_slice(&body) {
        Ok(fault) => fault,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    match cloud.faults.set(fault) {
        Some(id) => plain_json(json!({"id": id}).to_string()),
        None => (StatusCode::CONFLICT, "too many faults are set").into_response(),
    }
}

pub(crate) async fn clear_faults(State(cloud): State<Arc<Cloud>>) -> Response {
    cloud.faults.clear();
    StatusCode::NO_CONTENT.into_response()
}

pub(crate) async fn release_fault(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
) -> Response {
    if cloud.faults.release(&FaultId(id)) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

/// Merges a JSON object into a workspace's settings; answers with all of them.
pub(crate) async fn change_settings(
    State(cloud): State<Arc<Cloud>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let change = serde_json::from_slice(&body).map_err(|e| ApiError::invalid(e.to_string()))?;
    let mut world = cloud.world();
    let workspace = world
        .workspaces
        .get_mut(&id)
        .ok_or_else(ApiError::not_found)?;
    merge_settings(&mut workspace.settings, &change, true)?;
    Ok(plain_json(json!(workspace.settings).to_string()))
}
