//! Notification configurations of workspaces, and what they send.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::config::ExecutionMode;
use super::guard::Caller;
use super::jsonapi::{Answer, ApiError, Resource, created, empty, one, page};
use super::organizations::{Parameters, query};
use super::signed;
use super::views::time;
use super::world::{Run, RunStatus, World};
use crate::ids;

/// The most of one workspace: the vendor's limit.
const MOST: usize = 20;

/// What a run can be notified about.
const TRIGGERS: [&str; 6] = [
    "run:created",
    "run:planning",
    "run:needs_attention",
    "run:applying",
    "run:completed",
    "run:errored",
];

/// A notification configuration.
#[derive(Debug, Clone)]
pub(crate) struct Notification {
    pub(crate) id: String,
    pub(crate) workspace_id: String,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) enabled: bool,
    pub(crate) triggers: Vec<String>,
    pub(crate) created_at: Timestamp,
    /// How the last delivery ended: when, and with which status.
    pub(crate) delivered: Option<(Timestamp, Option<u16>)>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Attributes {
    destination_type: Option<String>,
    name: Option<String>,
    url: Option<String>,
    token: Option<String>,
    enabled: Option<bool>,
    triggers: Option<Vec<String>>,
}

pub(crate) async fn list(
    State(cloud): State<Arc<Cloud>>,
    Path(workspace_id): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = cloud.world();
    world
        .workspaces
        .get(&workspace_id)
        .ok_or_else(ApiError::not_found)?;
    let views = world
        .notifications
        .values()
        .filter(|notification| notification.workspace_id == workspace_id)
        .map(view)
        .collect();
    Ok(page(views, &query(parameters)))
}

pub(crate) async fn create(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(workspace_id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let attributes: Attributes =
        Resource::read(&body, "notification-configurations")?.attributes()?;
    if attributes.destination_type.as_deref() != Some("generic") {
        return Err(ApiError::invalid(
            "The stand-in knows the destination type generic only",
        ));
    }
    {
        let world = cloud.world();
        world
            .workspaces
            .get(&workspace_id)
            .ok_or_else(ApiError::not_found)?;
        let all = world.notifications.values();
        if all
            .filter(|other| other.workspace_id == workspace_id)
            .count()
            >= MOST
        {
            return Err(ApiError::invalid(
                "The workspace has too many notifications",
            ));
        }
    }
    let draft = Notification {
        id: ids::id("nc"),
        workspace_id,
        name: String::new(),
        url: String::new(),
        token: None,
        enabled: false,
        triggers: Vec::new(),
        created_at: Timestamp::now(),
        delivered: None,
    };
    let mut notification = changed(draft, attributes)?;
    if notification.enabled {
        verified(&mut notification).await?;
    }
    let shown = view(&notification);
    let mut world = cloud.world();
    world
        .notifications
        .insert(notification.id.clone(), notification);
    Ok(created(shown))
}

pub(crate) async fn read(State(cloud): State<Arc<Cloud>>, Path(id): Path<String>) -> Answer {
    Ok(one(view(&found(&cloud, &id)?)))
}

pub(crate) async fn update(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let attributes: Attributes =
        Resource::read(&body, "notification-configurations")?.attributes()?;
    let mut notification = changed(found(&cloud, &id)?, attributes)?;
    if notification.enabled {
        verified(&mut notification).await?;
    }
    let shown = view(&notification);
    cloud.world().notifications.insert(id, notification);
    Ok(one(shown))
}

/// Sends the verification again, at most when somebody asks.
pub(crate) async fn verify(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let mut notification = found(&cloud, &id)?;
    verified(&mut notification).await?;
    let shown = view(&notification);
    cloud.world().notifications.insert(id, notification);
    Ok(one(shown))
}

pub(crate) async fn delete(
    State(cloud): State<Arc<Cloud>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.needs(caller.rights().administer)?;
    let removed = cloud.world().notifications.remove(&id);
    removed.ok_or_else(ApiError::not_found)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn found(cloud: &Cloud, id: &str) -> Result<Notification, ApiError> {
    let world = cloud.world();
    let notification = world.notifications.get(id);
    notification.cloned().ok_or_else(ApiError::not_found)
}

fn changed(mut kept: Notification, attributes: Attributes) -> Result<Notification, ApiError> {
    if let Some(name) = attributes.name {
        kept.name = name;
    }
    if let Some(url) = attributes.url {
        kept.url = url;
    }
    if let Some(token) = attributes.token {
        kept.token = Some(token);
    }
    if let Some(enabled) = attributes.enabled {
        kept.enabled = enabled;
    }
    if let Some(triggers) = attributes.triggers {
        kept.triggers = triggers;
    }
    if kept.name.is_empty() || !kept.url.starts_with("http") {
        return Err(ApiError::invalid("Name or url is missing"));
    }
    let unknown = |trigger: &String| !TRIGGERS.contains(&trigger.as_str());
    if kept.triggers.iter().any(unknown) {
        return Err(ApiError::invalid("A trigger is not known"));
    }
    Ok(kept)
}

/// The vendor enables a notification only when its address answers a verification.
async fn verified(notification: &mut Notification) -> Result<(), ApiError> {
    let payload = json!({
        "payload_version": 1,
        "notification_configuration_id": notification.id,
        "run_url": null,
        "run_id": null,
        "run_message": null,
        "run_created_at": null,
        "run_created_by": null,
        "workspace_id": null,
        "workspace_name": null,
        "organization_name": null,
        "notifications": [{
            "message": format!("Verification of {}", notification.name),
            "trigger": "verification",
            "run_status": null,
            "run_updated_at": null,
            "run_updated_by": null,
        }],
    });
    let status = send(notification, &payload).await;
    notification.delivered = Some((Timestamp::now(), status.map(|status| status.as_u16())));
    if status.is_some_and(|status| status.is_success()) {
        Ok(())
    } else {
        Err(ApiError::invalid(
            "Verification failed: the url did not answer with 200",
        ))
    }
}

async fn send(notification: &Notification, payload: &Value) -> Option<StatusCode> {
    let key = notification.token.as_deref();
    let body = Bytes::from(payload.to_string());
    signed::post(&notification.url, "x-tfe-notification-signature", key, body).await
}

/// Tells the workspace's destinations that a run has moved. Nothing is sent about runs that only
/// plan, nor from workspaces that execute locally.
pub(crate) fn tell(cloud: &Arc<Cloud>, world: &World, run_id: &str) {
    let Some((run, trigger)) = world
        .runs
        .get(run_id)
        .and_then(|run| Some((run, trigger_of(run)?)))
    else {
        return;
    };
    let Some(workspace) = world.workspaces.get(&run.workspace_id) else {
        return;
    };
    if run.wishes.plan_only || workspace.settings.execution_mode == ExecutionMode::Local {
        return;
    }
    let wanted = |notification: &&Notification| {
        let triggers = &notification.triggers;
        notification.enabled
            && notification.workspace_id == run.workspace_id
            && triggers.iter().any(|wanted| wanted == trigger)
    };
    for notification in world.notifications.values().filter(wanted) {
        let notification = notification.clone();
        let at = run.reached.last().map_or(run.created_at, |(_, at)| *at);
        let payload = json!({
            "payload_version": 1,
            "notification_configuration_id": notification.id,
            "run_url": format!(
                "{}/app/{}/{}/runs/{}",
                cloud.url, cloud.organization, workspace.name, run.id
            ),
            "run_id": run.id,
            "run_message": run.wishes.message,
            "run_created_at": time(run.created_at),
            "run_created_by": run.created_by,
            "workspace_id": workspace.id,
            "workspace_name": workspace.name,
            "organization_name": cloud.organization,
            "notifications": [{
                "message": message_of(trigger),
                "trigger": trigger,
                "run_status": run.status.name(),
                "run_updated_at": time(at),
                "run_updated_by": run.confirmed_by.as_ref().unwrap_or(&run.created_by),
            }],
        });
        let cloud = Arc::clone(cloud);
        cloud.clone().spawn(async move {
            let status = send(&notification, &payload).await;
            let delivered = Some((Timestamp::now(), status.map(|status| status.as_u16())));
            if let Some(kept) = cloud.world().notifications.get_mut(&notification.id) {
                kept.delivered = delivered;
            }
            cloud.changed();
        });
    }
}

fn trigger_of(run: &Run) -> Option<&'static str> {
    Some(match run.status {
        RunStatus::Pending => "run:created",
        RunStatus::Planning => "run:planning",
        RunStatus::Planned | RunStatus::CostEstimated | RunStatus::PlannedAndSaved
            if run.is_confirmable() && run.has_changes && !run.wishes.auto_apply =>
        {
            "run:needs_attention"
        }
        RunStatus::Applying => "run:applying",
        RunStatus::Applied | RunStatus::PlannedAndFinished => "run:completed",
        RunStatus::Errored | RunStatus::Canceled | RunStatus::ForceCanceled => "run:errored",
        _ => return None,
    })
}

fn message_of(trigger: &str) -> &'static str {
    match trigger {
        "run:created" => "Run Created",
        "run:planning" => "Run Planning",
        "run:needs_attention" => "Run Planned and Waiting for Confirmation",
        "run:applying" => "Run Applying",
        "run:completed" => "Run Applied",
        _ => "Run Errored",
    }
}

fn view(notification: &Notification) -> Value {
    let responses: Vec<Value> = notification
        .delivered
        .iter()
        .map(|(at, status)| {
            let code = status.map_or(String::new(), |status| status.to_string());
            let successful = status.is_some_and(|status| (200..300).contains(&status));
            json!({
                "url": notification.url,
                "body": "",
                "code": code,
                "headers": {},
                "sent-at": time(*at),
                "successful": successful.to_string(),
            })
        })
        .collect();
    json!({
        "id": notification.id,
        "type": "notification-configurations",
        "attributes": {
            "enabled": notification.enabled,
            "name": notification.name,
            "url": notification.url,
            "destination-type": "generic",
            // The vendor never shows it again.
            "token": null,
            "triggers": notification.triggers,
            "delivery-responses": responses,
            "created-at": time(notification.created_at),
            "updated-at": time(notification.created_at),
        },
        "relationships": {
            "subscribable": {"data": {"id": notification.workspace_id, "type": "workspaces"}},
        },
        "links": {"self": format!("/api/v2/notification-configurations/{}", notification.id)},
    })
}
