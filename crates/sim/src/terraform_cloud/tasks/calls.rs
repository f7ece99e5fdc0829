//! Calls to run tasks, as the vendor makes them: signed, answered at once by 200 or tried again.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::{Value, json};

use super::super::cloud::Cloud;
use super::super::views::time;
use super::super::{lifecycle, signed};
use super::{RunTask, STAGE_LIFE, StageName, TaskStatus};
use crate::ids;

/// How often a call is made before the task counts as out of reach.
const ATTEMPTS: u32 = 3;

/// The most calls that are remembered for whoever looks.
const KEPT_CALLS: usize = 1_000;

/// How long it is waited between two of them.
const PAUSE: Duration = Duration::from_millis(200);

/// What stands in place of a token in the call that tries an address.
const NO_TOKEN: &str = "test-token";

/// Calls a task, and gives it up when it is out of reach or says nothing in time.
pub(super) async fn call(cloud: Arc<Cloud>, run_id: String, result_id: String, token: String) {
    let Some((task, payload)) = payload(&cloud, &run_id, &result_id, &token) else {
        return;
    };
    let body = Bytes::from(payload.to_string());
    {
        let mut world = cloud.world();
        if world.task_calls.len() < KEPT_CALLS {
            world.task_calls.push(payload);
        }
    }
    let mut reached = false;
    for attempt in 1..=ATTEMPTS {
        reached = post(&task, body.clone()).await == Some(StatusCode::OK);
        if reached {
            break;
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(PAUSE).await;
        }
    }
    let why = if reached {
        tokio::time::sleep(STAGE_LIFE.unsigned_abs()).await;
        "The run task did not answer in time"
    } else {
        "The run task could not be reached"
    };
    let mut world = cloud.world();
    lifecycle::task_answered(
        &cloud,
        &mut world,
        &run_id,
        &result_id,
        TaskStatus::Errored,
        why,
    );
}

/// Whether an address takes calls: what the vendor tries before it keeps a task.
pub(super) async fn answers(task: &RunTask) -> bool {
    let payload = json!({
        "payload_version": 1,
        "stage": "test",
        "access_token": NO_TOKEN,
        "capabilities": {"outcomes": true},
        "is_speculative": false,
        "organization_name": "test-org",
        "run_id": "run-test",
        "run_message": "test-message",
        "task_result_callback_url": "https://example.com",
        "task_result_enforcement_level": "test",
        "task_result_id": "taskrs-test",
        "workspace_id": "ws-test",
        "workspace_name": "test-workspace",
    });
    post(task, Bytes::from(payload.to_string())).await == Some(StatusCode::OK)
}

async fn post(task: &RunTask, body: Bytes) -> Option<StatusCode> {
    let key = task.hmac_key.as_deref();
    signed::post(&task.url, "x-tfc-task-signature", key, body).await
}

/// What a task is told. `None` when run or result are gone.
fn payload(cloud: &Cloud, run_id: &str, result_id: &str, token: &str) -> Option<(RunTask, Value)> {
    let world = cloud.world();
    let run = world.runs.get(run_id)?;
    let workspace = world.workspaces.get(&run.workspace_id)?;
    let configuration = world.configurations.get(&run.configuration_id)?;
    let (stage, result) = run.task_stages.iter().find_map(|stage| {
        let mut results = stage.results.iter();
        Some((stage, results.find(|result| result.id == result_id)?))
    })?;
    let api = format!("{}/api/v2", cloud.url);
    let app = format!(
        "{}/app/{}/{}",
        cloud.url, cloud.organization, workspace.name
    );
    let download = configuration
        .archive
        .is_some()
        .then(|| format!("{api}/configuration-versions/{}/download", configuration.id));
    let mut payload = json!({
        "payload_version": 1,
        "stage": stage.name,
        "access_token": token,
        "capabilities": {"outcomes": true},
        "configuration_version_download_url": download,
        "configuration_version_id": configuration.id,
        "is_speculative": run.wishes.plan_only,
        "organization_name": cloud.organization,
        "run_app_url": format!("{app}/runs/{run_id}"),
        "run_created_at": time(run.created_at),
        "run_created_by": run.created_by,
        "run_id": run_id,
        "run_message": run.wishes.message,
        "task_result_callback_url": format!("{api}/task-results/{}/callback", result.guid),
        "task_result_enforcement_level": result.enforcement,
        "task_result_id": result.id,
        "vcs_branch": null,
        "vcs_commit_url": null,
        "vcs_pull_request_url": null,
        "vcs_repo_url": null,
        "workspace_app_url": app,
        "workspace_id": workspace.id,
        "workspace_name": workspace.name,
        "workspace_working_directory": workspace.settings.working_directory,
    });
    if stage.name != StageName::PrePlan {
        payload["plan_json_api_url"] = format!("{api}/plans/{}/json-output", run.plan.id).into();
    }
    Some((result.task.clone(), payload))
}

/// A new task, checked and not yet kept.
pub(super) fn draft() -> RunTask {
    RunTask {
        id: ids::id("task"),
        name: String::new(),
        description: String::new(),
        url: String::new(),
        enabled: true,
        hmac_key: None,
    }
}
