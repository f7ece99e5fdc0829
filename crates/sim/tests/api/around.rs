//! What stands around a workspace: notifications, run triggers, shared state, the limit of
//! requests.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha512;
use sim::{Credential, Engine, Rights, TerraformCloud, TerraformCloudConfig};
use tokio::sync::mpsc;

use crate::{APP, DB, api, planned, recorded};

const KEY: &str = "a token of the notification";

/// Somebody who is notified; every call is answered with the same status.
struct Notified {
    url: String,
    calls: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
}

impl Notified {
    async fn start(status: StatusCode) -> Self {
        type Told = (mpsc::UnboundedSender<(HeaderMap, Bytes)>, StatusCode);
        let (sender, calls) = mpsc::unbounded_channel();
        let told = |State((sender, status)): State<Told>, headers: HeaderMap, body: Bytes| async move {
            sender.send((headers, body)).unwrap();
            status
        };
        let router = Router::new()
            .route("/hook", post(told))
            .with_state((sender, status));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, calls }
    }

    /// The next call, after its signature was checked.
    async fn next(&mut self) -> Value {
        let (headers, body) = self.calls.recv().await.unwrap();
        let mut mac = Hmac::<Sha512>::new_from_slice(KEY.as_bytes()).unwrap();
        mac.update(&body);
        let digits = mac.finalize().into_bytes();
        let expected: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(headers["x-tfe-notification-signature"], expected.as_str());
        serde_json::from_slice(&body).unwrap()
    }
}

fn configuration(url: &str) -> Value {
    json!({"data": {"type": "notification-configurations", "attributes": {
        "destination-type": "generic", "name": "hook", "url": url, "token": KEY, "enabled": true,
        "triggers": ["run:created", "run:needs_attention", "run:applying", "run:completed"],
    }}})
}

#[tokio::test]
async fn runs_are_notified_signed_after_a_verification() {
    let cloud = recorded().await;
    let owner = api(&cloud, "owner");
    let mut hook = Notified::start(StatusCode::OK).await;
    let path = format!("/api/v2/workspaces/{APP}/notification-configurations");
    let wanted = configuration(&hook.url);
    let refused = api(&cloud, "planner").post(&path, &wanted).await;
    assert_eq!(refused.status, 404);
    let made = owner.post(&path, &wanted).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let attributes = &made.json()["data"]["attributes"];
    assert_eq!(attributes["token"], json!(null));
    assert_eq!(attributes["delivery-responses"][0]["successful"], "true");
    let verification = hook.next().await;
    assert_eq!(verification["notifications"][0]["trigger"], "verification");
    assert_eq!(verification["run_id"], json!(null));

    let run = planned(&cloud, json!({"auto-apply": false})).await;
    let executor = api(&cloud, "executor");
    executor
        .post(&format!("/api/v2/runs/{run}/actions/apply"), &json!({}))
        .await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let told = hook.next().await;
        assert_eq!(told["run_id"], run.as_str());
        assert_eq!(told["workspace_id"], APP);
        seen.push(told["notifications"][0]["trigger"].clone());
    }
    seen.sort_by_key(ToString::to_string);
    assert_eq!(
        seen,
        [
            "run:applying",
            "run:completed",
            "run:created",
            "run:needs_attention"
        ]
    );
}

#[tokio::test]
async fn an_address_that_does_not_answer_is_not_enabled() {
    let cloud = recorded().await;
    let owner = api(&cloud, "owner");
    let hook = Notified::start(StatusCode::FORBIDDEN).await;
    let path = format!("/api/v2/workspaces/{APP}/notification-configurations");
    let refused = owner.post(&path, &configuration(&hook.url)).await;
    assert_eq!(refused.status, 422);
    let list = owner.get(&path).await.json();
    assert_eq!(list["data"], json!([]));
}

#[tokio::test]
async fn an_apply_starts_a_run_downstream() {
    let cloud = recorded().await;
    let owner = api(&cloud, "owner");
    // The downstream workspace has a configuration of its own.
    owner
        .upload(DB, json!({"auto-queue-runs": false}), &[("main.tf", "")])
        .await;
    let path = format!("/api/v2/workspaces/{DB}/run-triggers");
    let source = json!({"data": {"relationships": {
        "sourceable": {"data": {"id": APP, "type": "workspaces"}},
    }}});
    assert_eq!(owner.post(&path, &source).await.status, 201);
    assert_eq!(owner.post(&path, &source).await.status, 422, "once");
    assert_eq!(owner.get(&path).await.status, 400, "the filter is required");
    for (workspace, kind, count) in [
        (APP, "outbound", 1),
        (APP, "inbound", 0),
        (DB, "inbound", 1),
        (DB, "outbound", 0),
    ] {
        let filter = "filter%5Brun-trigger%5D%5Btype%5D";
        let list = format!("/api/v2/workspaces/{workspace}/run-triggers?{filter}={kind}");
        let list = owner.get(&list).await.json();
        assert_eq!(list["data"].as_array().unwrap().len(), count, "{kind}");
    }
    let run = planned(&cloud, json!({"auto-apply": false})).await;
    let executor = api(&cloud, "executor");
    executor
        .post(&format!("/api/v2/runs/{run}/actions/apply"), &json!({}))
        .await;
    cloud.wait_until_ended(&run).await.unwrap();
    let runs = format!("/api/v2/workspaces/{DB}/runs");
    let started = owner.get(&runs).await.json()["data"][0].clone();
    assert_eq!(started["attributes"]["source"], "tfe-run-trigger");
    assert_eq!(started["attributes"]["auto-apply"], false);
}

#[tokio::test]
async fn shared_state_names_its_readers() {
    let cloud = recorded().await;
    let owner = api(&cloud, "owner");
    let path = format!("/api/v2/workspaces/{APP}/relationships/remote-state-consumers");
    assert_eq!(owner.get(&path).await.json()["data"], json!([]));
    let more = json!({"data": [{"id": DB, "type": "workspaces"}]});
    assert_eq!(api(&cloud, "planner").post(&path, &more).await.status, 404);
    assert_eq!(owner.post(&path, &more).await.status, 204);
    assert_eq!(owner.get(&path).await.json()["data"][0]["id"], DB);
}

#[tokio::test]
async fn too_many_requests_in_a_second_are_refused_by_credential() {
    let mut config = TerraformCloudConfig::acme(Engine::Recorded)
        .with_credential(Credential::random("owner", Rights::OWNER));
    config.requests_per_second = Some(5);
    let cloud = TerraformCloud::start(config).await.unwrap();
    let planner = api(&cloud, "planner");
    let path = format!("/api/v2/workspaces/{APP}");
    let asked = (0..40).map(|_| planner.send(Method::GET, &path, Bytes::new()));
    let mut limited = Vec::new();
    for answer in asked {
        limited.push(answer.await.unwrap().status == 429);
    }
    assert!(limited.contains(&true) && !limited[0], "{limited:?}");
    assert_eq!(api(&cloud, "reader").get(&path).await.status, 200);
}
