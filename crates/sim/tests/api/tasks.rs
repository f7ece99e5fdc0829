//! Run tasks: kept when their address answers, asked at each stage, and obeyed.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::Sha512;
use sim::{RunStatus, TerraformCloud};
use tokio::sync::mpsc;

use crate::support::Api;
use crate::{APP, api, changed, recorded, upload};

const KEY: &str = "the task's own key";

/// A program that is asked, and keeps what it is told.
struct Asked {
    url: String,
    calls: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
}

impl Asked {
    /// Answers 200 except for the first calls, whose statuses are given.
    async fn start(first: Vec<u16>) -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        let state = (
            sender,
            std::sync::Arc::new(std::sync::Mutex::new(first.into_iter())),
        );
        let router = Router::new()
            .route(
                "/task",
                post(
                    |State((sender, first)): State<(
                        mpsc::UnboundedSender<_>,
                        std::sync::Arc<std::sync::Mutex<std::vec::IntoIter<u16>>>,
                    )>,
                     headers: HeaderMap,
                     body: Bytes| async move {
                        sender.send((headers, body)).unwrap();
                        let status = first.lock().unwrap().next().unwrap_or(200);
                        StatusCode::from_u16(status).unwrap()
                    },
                ),
            )
            .with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/task", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, calls }
    }

    /// The next call, after its signature was checked.
    async fn next(&mut self) -> Value {
        let (headers, body) = self.calls.recv().await.unwrap();
        let mut mac = Hmac::<Sha512>::new_from_slice(KEY.as_bytes()).unwrap();
        mac.update(&body);
        let signature = headers["x-tfc-task-signature"].to_str().unwrap();
        let bytes: Vec<u8> = (0..signature.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap())
            .collect();
        mac.verify_slice(&bytes).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Waits for a stage's call and answers it.
    async fn answer(&mut self, stage: &str, status: &str) -> Value {
        let call = self.next().await;
        assert_eq!(call["stage"], stage);
        let answered = answer(&call, status).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        call
    }
}

/// Answers a call with its own token.
async fn answer(call: &Value, status: &str) -> crate::support::Answer {
    let token = call["access_token"].as_str().unwrap();
    let url = call["task_result_callback_url"].as_str().unwrap();
    let body = json!({"data": {
        "type": "task-results",
        "attributes": {"status": status, "message": "looked at", "url": "https://example.com/1"},
        "relationships": {"outcomes": {"data": [{
            "type": "task-result-outcomes",
            "attributes": {"outcome-id": "A", "description": "a finding", "body": "# A"},
        }]}},
    }});
    Api::new("", Some(token)).patch(url, &body).await
}

async fn make(cloud: &TerraformCloud, url: &str) -> crate::support::Answer {
    let body = json!({"data": {"type": "tasks", "attributes": {
        "name": "gate", "url": url, "category": "task", "hmac-key": KEY,
    }}});
    api(cloud, "owner")
        .post("/api/v2/organizations/acme/tasks", &body)
        .await
}

/// Makes a task, and attaches it for every stage.
async fn attached(cloud: &TerraformCloud, asked: &mut Asked, level: &str) {
    let made = make(cloud, &asked.url).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(asked.next().await["access_token"], "test-token");
    let task = made.json()["data"]["id"].clone();
    let body = json!({"data": {
        "type": "workspace-tasks",
        "attributes": {
            "enforcement-level": level,
            "stages": ["pre_plan", "post_plan", "pre_apply", "post_apply"],
        },
        "relationships": {"task": {"data": {"id": task, "type": "tasks"}}},
    }});
    let path = format!("/api/v2/workspaces/{APP}/tasks");
    let owner = api(cloud, "owner");
    assert_eq!(owner.post(&path, &body).await.status, 201);
    assert_eq!(owner.post(&path, &body).await.status, 422, "attached once");
}

async fn auto_applied(cloud: &TerraformCloud) -> String {
    let owner = api(cloud, "owner");
    let configuration = upload(&owner).await;
    owner
        .run(APP, &configuration, json!({"auto-apply": true}))
        .await
}

#[tokio::test]
async fn only_who_administers_keeps_a_task_and_only_one_that_answers() {
    let cloud = recorded().await;
    let refusing = Asked::start(vec![500]).await;
    assert_eq!(make(&cloud, &refusing.url).await.status, 422);
    assert_eq!(make(&cloud, "http://127.0.0.1:1/").await.status, 422);
    let body = json!({"data": {"type": "tasks", "attributes": {
        "name": "gate", "url": refusing.url, "category": "task",
    }}});
    let path = "/api/v2/organizations/acme/tasks";
    assert_eq!(api(&cloud, "planner").post(path, &body).await.status, 404);
    // The second time it answers.
    let made = make(&cloud, &refusing.url).await.json();
    assert_eq!(made["data"]["attributes"]["hmac-key"], Value::Null);
    let path = format!("/api/v2/tasks/{}", made["data"]["id"].as_str().unwrap());
    assert_eq!(api(&cloud, "reader").get(&path).await.status, 200);
}

#[tokio::test]
async fn a_run_asks_at_each_stage_and_goes_on_when_it_may() {
    let cloud = recorded().await;
    let mut asked = Asked::start(vec![]).await;
    attached(&cloud, &mut asked, "mandatory").await;
    let run = auto_applied(&cloud).await;
    let owner = api(&cloud, "owner");
    let first = asked.next().await;
    assert_eq!(
        cloud.run_status(&run).unwrap(),
        RunStatus::PrePlanRunning,
        "nothing happens meanwhile"
    );
    assert_eq!(first["run_id"], run.as_str());
    assert_eq!(first["is_speculative"], false);
    assert_eq!(first.get("plan_json_api_url"), None);
    assert_eq!(answer(&first, "running").await.status, 200);
    assert_eq!(answer(&first, "passed").await.status, 200);
    assert_eq!(answer(&first, "failed").await.status, 422, "said once");
    let second = asked.answer("post_plan", "passed").await;
    // A call's token reads the plan of its run, and neither answers for another nor acts.
    let stage = Api::new(&cloud.url(), second["access_token"].as_str());
    let plan = stage
        .get(second["plan_json_api_url"].as_str().unwrap())
        .await;
    assert_eq!(plan.status, 307);
    let third = asked.next().await;
    let mut borrowed = third.clone();
    borrowed["access_token"] = second["access_token"].clone();
    assert_eq!(answer(&borrowed, "passed").await.status, 401);
    let apply = format!("/api/v2/runs/{run}/actions/apply");
    assert_eq!(stage.post(&apply, &json!({})).await.status, 404);
    assert_eq!(cloud.run_status(&run).unwrap(), RunStatus::PreApplyRunning);
    assert_eq!(answer(&third, "passed").await.status, 200);
    asked.answer("post_apply", "failed").await;
    assert_eq!(
        cloud.wait_until_ended(&run).await.unwrap(),
        RunStatus::Applied,
        "what is applied is applied"
    );
    let stages = owner.get(&format!("/api/v2/runs/{run}/task-stages")).await;
    let stages = stages.json();
    let statuses: Vec<_> = stages["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| {
            (
                &stage["attributes"]["stage"],
                &stage["attributes"]["status"],
            )
        })
        .collect();
    assert_eq!(
        json!(statuses),
        json!([
            ["pre_plan", "passed"],
            ["post_plan", "passed"],
            ["pre_apply", "passed"],
            ["post_apply", "failed"]
        ])
    );
    let stage = stages["data"][0]["id"].as_str().unwrap();
    let shown = owner
        .get(&format!("/api/v2/task-stages/{stage}?include=task_results"))
        .await
        .json();
    let result = &shown["included"][0];
    assert_eq!(result["attributes"]["status"], "passed");
    assert_eq!(result["attributes"]["message"], "looked at");
    let path = format!(
        "/api/v2/task-results/{}/outcomes",
        result["id"].as_str().unwrap()
    );
    assert_eq!(
        owner.get(&path).await.json()["data"][0]["attributes"]["outcome-id"],
        "A"
    );
}

#[tokio::test]
async fn a_mandatory_no_ends_the_run_and_an_advisory_one_does_not() {
    for refused in 0..3 {
        let cloud = recorded().await;
        let mut asked = Asked::start(vec![]).await;
        attached(&cloud, &mut asked, "mandatory").await;
        let before = cloud.state(APP);
        let run = auto_applied(&cloud).await;
        for (at, stage) in ["pre_plan", "post_plan", "pre_apply"].iter().enumerate() {
            if at <= refused {
                let status = if at == refused { "failed" } else { "passed" };
                asked.answer(stage, status).await;
            }
        }
        assert_eq!(
            cloud.wait_until_ended(&run).await.unwrap(),
            RunStatus::Errored
        );
        assert_eq!(cloud.state(APP), before);
    }
    let cloud = recorded().await;
    let mut asked = Asked::start(vec![]).await;
    attached(&cloud, &mut asked, "advisory").await;
    let run = auto_applied(&cloud).await;
    for stage in ["pre_plan", "post_plan", "pre_apply", "post_apply"] {
        asked.answer(stage, "failed").await;
    }
    assert_eq!(
        cloud.wait_until_ended(&run).await.unwrap(),
        RunStatus::Applied
    );
}

#[tokio::test]
async fn a_call_is_tried_again_and_then_given_up() {
    let cloud = recorded().await;
    // The first answer is for the check when the task is made.
    let mut asked = Asked::start(vec![200, 503, 503, 200]).await;
    attached(&cloud, &mut asked, "mandatory").await;
    auto_applied(&cloud).await;
    let first = asked.next().await;
    let third = {
        asked.next().await;
        asked.next().await
    };
    assert_eq!(first, third, "the very same call");
    assert_eq!(answer(&third, "failed").await.status, 200);

    let cloud = recorded().await;
    let mut asked = Asked::start(vec![200, 503, 503, 503]).await;
    attached(&cloud, &mut asked, "mandatory").await;
    let run = auto_applied(&cloud).await;
    assert_eq!(
        cloud.wait_until_ended(&run).await.unwrap(),
        RunStatus::Errored
    );
    let call = asked.next().await;
    assert_eq!(answer(&call, "passed").await.status, 422, "too late");
}

#[tokio::test]
async fn a_plan_that_only_plans_asks_twice() {
    let cloud = recorded().await;
    let mut asked = Asked::start(vec![]).await;
    attached(&cloud, &mut asked, "mandatory").await;
    let owner = api(&cloud, "owner");
    let attributes = json!({"auto-queue-runs": false, "speculative": true});
    let configuration = owner
        .upload(APP, attributes, &[("main.tf", &changed())])
        .await;
    let run = owner.run(APP, &configuration, json!({})).await;
    assert_eq!(
        asked.answer("pre_plan", "passed").await["is_speculative"],
        true
    );
    asked.answer("post_plan", "passed").await;
    assert_eq!(
        cloud.wait_until_ended(&run).await.unwrap(),
        RunStatus::PlannedAndFinished
    );
}
