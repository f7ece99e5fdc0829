//! What was seen outside the gateway, over the operator API; and Terraform Cloud's notifications.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use policy::ReasonCode;
use policy::terraform::ids::WorkspaceId;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Baseline, ObservationFilter, ObservationRow};

use super::audit::{Action, audited};
use super::credential::Operator;
use super::extract::{Id, Params, Reason, Strict};
use super::problem::Problem;
use crate::app::App;
use crate::watching::notification::{self, Notification};
use crate::watching::{self, settings};

/// Observations in one answer unless another number is asked for, and the most.
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 500;

/// Observations of a workspace that are shown with it.
const LATEST: u32 = 20;

/// Takes a notification of Terraform Cloud's. It brings no credential; it is signed.
pub(super) async fn notify(
    State(app): State<Arc<App>>,
    notification: Notification,
) -> Result<StatusCode, Problem> {
    notification::receive(&app, notification).await?;
    Ok(StatusCode::OK)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default)]
    workspace: Option<WorkspaceId>,
    #[serde(default)]
    before: Option<u64>,
    #[serde(default)]
    limit: Option<u32>,
}

/// Observations, newest first.
pub(super) async fn observations(
    State(app): State<Arc<App>>,
    Params(filter): Params<Filter>,
) -> Result<Json<Value>, Problem> {
    let limit = filter.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let filter = ObservationFilter {
        workspace_id: filter.workspace.map(|id| id.to_string()),
        since: None,
        before: filter.before,
        limit,
    };
    let rows = app.store.observations(filter).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
    let next = rows.last().filter(|_| full).map(|row| row.id);
    let views: Vec<Value> = rows.iter().map(view).collect();
    Ok(Json(json!({ "observations": views, "next": next })))
}

/// An observation as answers have it.
pub(super) fn view(row: &ObservationRow) -> Value {
    let seen = &row.observation;
    json!({
        "id": row.id,
        "at": seen.at,
        "workspace_id": seen.workspace_id,
        "kind": seen.kind,
        "subject": seen.subject,
        "says": watching::says(seen),
        "detail": seen.detail,
        "source": seen.source,
    })
}

/// The governed workspaces, and how they stand.
pub(super) async fn workspaces(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let baselines = app.store.baselines().await?;
    let mut views = Vec::new();
    for id in watching::governed(&*app.store).await? {
        let baseline = baselines
            .iter()
            .find(|baseline| baseline.workspace_id == id);
        views.push(standing(&id, baseline));
    }
    let watching = &app.config.watching;
    Ok(Json(json!({
        "workspaces": views,
        "poll_seconds": watching.poll_seconds,
        "notifications": watching.notification_key.is_some(),
    })))
}

/// One workspace: what its settings should be, what they are, and what was seen there lately.
pub(super) async fn workspace(
    State(app): State<Arc<App>>,
    Id(id): Id<WorkspaceId>,
) -> Result<Json<Value>, Problem> {
    let id = id.as_str();
    let baseline = app.store.baseline(id).await?;
    let latest = ObservationFilter {
        workspace_id: Some(id.to_owned()),
        limit: LATEST,
        ..ObservationFilter::default()
    };
    let rows = app.store.observations(latest).await?;
    let mut view_of = standing(id, baseline.as_ref());
    let governed = watching::governed(&*app.store).await?;
    view_of["governed"] = json!(governed.contains(id));
    view_of["observations"] = json!(rows.iter().map(view).collect::<Vec<_>>());
    Ok(Json(view_of))
}

fn standing(id: &str, baseline: Option<&Baseline>) -> Value {
    let drift = baseline.map(|baseline| {
        let changes = settings::changes(&baseline.accepted, &baseline.seen);
        let changes = changes.iter().map(settings::Change::to_json);
        changes.collect::<Vec<_>>()
    });
    json!({
        "workspace_id": id,
        "since": baseline.map(|baseline| baseline.since),
        "seen_at": baseline.map(|baseline| baseline.seen_at),
        "seen": baseline.map(|baseline| &baseline.seen),
        "accepted_at": baseline.map(|baseline| baseline.accepted_at),
        "accepted_by": baseline.map(|baseline| &baseline.accepted_by),
        "drift": drift,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accept {
    seen: Value,
    reason: Reason,
}

/// Makes the settings that were seen last what they should be.
pub(super) async fn accept(
    State(app): State<Arc<App>>,
    Id(id): Id<WorkspaceId>,
    operator: Operator,
    Strict(body): Strict<Accept>,
) -> Result<Json<Value>, Problem> {
    let seen = proof::Json::from(body.seen);
    let action = Action {
        operator: operator.name(),
        name: "watch.accept",
        subject: id.to_string(),
        detail: vec![("reason", body.reason.as_str().to_owned())],
        at: app.now(),
    };
    audited(&*app.store, action, async {
        let accepted = app
            .store
            .accept_settings(id.as_str(), &seen, operator.name(), app.now());
        match accepted.await? {
            true => Ok(()),
            false => Err(Problem::from(ReasonCode::SettingsMoved)),
        }
    })
    .await?;
    let baseline = app.store.baseline(id.as_str()).await?;
    Ok(Json(standing(id.as_str(), baseline.as_ref())))
}
