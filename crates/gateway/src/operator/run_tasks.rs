//! The calls of Terraform Cloud's run tasks. They bring no credential: each is signed.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use super::problem::Problem;
use crate::app::App;
use crate::run_tasks::{self, Signed};

/// Takes a call, and answers at once; the verdict goes its own way.
pub(super) async fn receive(
    State(app): State<Arc<App>>,
    signed: Signed,
) -> Result<StatusCode, Problem> {
    run_tasks::receive(&app, &signed).await?;
    Ok(StatusCode::OK)
}
