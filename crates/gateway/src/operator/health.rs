//! Whether the gateway lives, and whether it may get work.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use policy::ReasonCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::problem::Problem;
use crate::app::App;
use crate::tlog::Standing;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    status: &'static str,
}

/// The process answers.
pub(super) async fn alive() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Calls can be taken: the store answers and has room, the published log does not
/// contradict it, what the gateway's keys sign counts, and the gateway is not about to stop.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Health>, Problem> {
    if app.draining.load(Ordering::Acquire) {
        return Err(ReasonCode::ShuttingDown.into());
    }
    if let Standing::Forked(why) = app.publication.standing() {
        return Err(Problem::new(ReasonCode::LogForked, why));
    }
    app.store.log_size().await?;
    app.store.check_room().await?;
    if !app.store.is_current() {
        return Err(ReasonCode::StoreUnavailable.into());
    }
    let keys = app.keys.now().check(app.now());
    keys.map_err(|replaced| replaced.refusal())?;
    Ok(Json(Health { status: "ready" }))
}
