//! What was seen outside the gateway, over the operator API; and Terraform Cloud's notifications.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use policy::ReasonCode;
use policy::terraform::ids::WorkspaceId;
use proof::{Json as Exact, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Baseline, ObservationFilter, ObservationRow};

use super::audit::{Action, audited};
use super::credential::Operator;
use super::extract::{Id, Params, Reason, Strict};
use super::problem::Problem;
use crate::app::App;
use crate::shapes;
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Of one workspace only.
    #[serde(default)]
    #[schemars(with = "Option<shapes::WorkspaceId>")]
    workspace: Option<WorkspaceId>,
    /// Only observations before this one, for the next page.
    #[serde(default)]
    before: Option<u64>,
    /// How many at most, 500 at the most; 50 unless it is said.
    #[serde(default)]
    limit: Option<u32>,
}

/// Observations, newest first.
pub(super) async fn observations(
    State(app): State<Arc<App>>,
    Params(filter): Params<Filter>,
) -> Result<Json<Observations>, Problem> {
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
    let observations = rows.into_iter().map(ObservationView::from).collect();
    Ok(Json(Observations { observations, next }))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Observations {
    observations: Vec<ObservationView>,
    /// `before` of the next page, unless this was the last.
    next: Option<u64>,
}

/// Something that was seen outside the gateway.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Observation")]
pub(super) struct ObservationView {
    id: u64,
    /// When it was seen, not when it happened.
    #[schemars(with = "shapes::Timestamp")]
    at: Timestamp,
    workspace_id: String,
    kind: String,
    /// A run, a state version, or the name of a setting.
    subject: String,
    /// The whole in words.
    says: String,
    #[schemars(with = "shapes::Document")]
    detail: Exact,
    /// By which way it was seen.
    source: String,
}

impl From<ObservationRow> for ObservationView {
    fn from(row: ObservationRow) -> Self {
        let seen = row.observation;
        Self {
            id: row.id,
            at: seen.at,
            says: watching::says(&seen),
            workspace_id: seen.workspace_id,
            kind: seen.kind,
            subject: seen.subject,
            detail: seen.detail,
            source: seen.source,
        }
    }
}

/// The governed workspaces, and how they stand.
pub(super) async fn workspaces(State(app): State<Arc<App>>) -> Result<Json<Watched>, Problem> {
    let baselines = app.store.baselines().await?;
    let mut views = Vec::new();
    for id in watching::governed(&*app.store).await? {
        let baseline = baselines
            .iter()
            .find(|baseline| baseline.workspace_id == id);
        views.push(standing(&id, baseline));
    }
    let watching = &app.config.watching;
    Ok(Json(Watched {
        workspaces: views,
        poll_seconds: watching.poll_seconds,
        notifications: watching.notification_key.is_some(),
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WatchedWorkspaces")]
pub(super) struct Watched {
    workspaces: Vec<Settings>,
    /// How often they are looked at; 0 for never.
    poll_seconds: u64,
    /// Whether Terraform Cloud's notifications are taken.
    notifications: bool,
}

/// One workspace: what its settings should be, what they are, and what was seen there lately.
pub(super) async fn workspace(
    State(app): State<Arc<App>>,
    Id(id): Id<WorkspaceId>,
) -> Result<Json<WatchedWorkspace>, Problem> {
    let id = id.as_str();
    let baseline = app.store.baseline(id).await?;
    let latest = ObservationFilter {
        workspace_id: Some(id.to_owned()),
        limit: LATEST,
        ..ObservationFilter::default()
    };
    let rows = app.store.observations(latest).await?;
    let governed = watching::governed(&*app.store).await?;
    Ok(Json(WatchedWorkspace {
        settings: standing(id, baseline.as_ref()),
        governed: governed.contains(id),
        observations: rows.into_iter().map(ObservationView::from).collect(),
    }))
}

/// A workspace: its settings, and what was seen there.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WatchedWorkspace {
    #[serde(flatten)]
    settings: Settings,
    /// Whether a contract that can be used names it.
    governed: bool,
    /// The latest, newest first.
    observations: Vec<ObservationView>,
}

/// How a workspace's settings stand; nothing is known before the first look.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WorkspaceSettings")]
pub(super) struct Settings {
    workspace_id: String,
    #[schemars(with = "Option<shapes::Timestamp>")]
    since: Option<Timestamp>,
    #[schemars(with = "Option<shapes::Timestamp>")]
    seen_at: Option<Timestamp>,
    /// The settings as they were seen last.
    #[schemars(with = "Option<shapes::Document>")]
    seen: Option<Exact>,
    #[schemars(with = "Option<shapes::Timestamp>")]
    accepted_at: Option<Timestamp>,
    accepted_by: Option<String>,
    /// What differs from the settings that were accepted.
    #[schemars(with = "Option<Vec<shapes::Document>>")]
    drift: Option<Vec<Exact>>,
}

fn standing(id: &str, baseline: Option<&Baseline>) -> Settings {
    let drift = baseline.map(|baseline| {
        let changes = settings::changes(&baseline.accepted, &baseline.seen);
        let changes = changes.iter().map(settings::Change::to_json);
        changes.collect::<Vec<_>>()
    });
    Settings {
        workspace_id: id.to_owned(),
        since: baseline.map(|baseline| baseline.since),
        seen_at: baseline.map(|baseline| baseline.seen_at),
        seen: baseline.map(|baseline| baseline.seen.clone()),
        accepted_at: baseline.map(|baseline| baseline.accepted_at),
        accepted_by: baseline.map(|baseline| baseline.accepted_by.clone()),
        drift,
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AcceptSettings")]
pub(super) struct Accept {
    /// The settings that are accepted, as they were shown.
    #[schemars(with = "shapes::Document")]
    seen: Value,
    #[schemars(with = "shapes::Reason")]
    reason: Reason,
}

/// Makes the settings that were seen last what they should be.
pub(super) async fn accept(
    State(app): State<Arc<App>>,
    Id(id): Id<WorkspaceId>,
    operator: Operator,
    Strict(body): Strict<Accept>,
) -> Result<Json<Settings>, Problem> {
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
