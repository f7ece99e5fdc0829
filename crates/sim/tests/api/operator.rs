//! Faults, the log of requests, and the end of a stand-in.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sim::{Engine, Fault, FaultAction, TerraformCloud, TerraformCloudConfig};

use crate::support::{Api, run_body};
use crate::{APP, api, recorded, upload};

#[tokio::test]
async fn faults_hit_the_next_requests_that_fit() {
    let cloud = recorded().await;
    let planner = api(&cloud, "planner");
    let path = "/api/v2/workspaces/ws-staging-app";
    for (action, status) in [(401, 401), (429, 429), (500, 500)] {
        cloud
            .set_fault(Fault::once("GET", path, FaultAction::Status(action)))
            .unwrap();
        let answer = planner.get(path).await;
        assert_eq!(answer.status, status);
        assert!(answer.headers.contains_key("x-ratelimit-reset"));
        assert_eq!(planner.get(path).await.status, StatusCode::OK);
    }
    cloud
        .set_fault(Fault::once("GET", path, FaultAction::Garbage))
        .unwrap();
    let answer = planner.get(path).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(serde_json::from_slice::<Value>(&answer.body).is_err());
    cloud
        .set_fault(Fault::once("GET", path, FaultAction::CloseMidway))
        .unwrap();
    assert!(planner.send(Method::GET, path, Bytes::new()).await.is_err());
    assert_eq!(planner.get(path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_lost_answer_has_still_done_its_work() {
    let cloud = recorded().await;
    let planner = api(&cloud, "planner");
    let configuration = upload(&planner).await;
    let body = run_body(APP, &configuration, json!({})).to_string();
    cloud
        .set_fault(Fault::once(
            "POST",
            "/api/v2/runs",
            FaultAction::CloseMidway,
        ))
        .unwrap();
    assert!(
        planner
            .send(Method::POST, "/api/v2/runs", body)
            .await
            .is_err()
    );
    assert_eq!(cloud.runs().len(), 1);
}

#[tokio::test]
async fn a_held_request_waits_until_it_is_released() {
    let cloud = recorded().await;
    let operator = Api::new(&cloud.url(), None);
    for action in ["hold", "hold_answer"] {
        let fault = json!({"method": "GET", "path_prefix": "/api/v2/account", "action": action});
        let id = operator.post("/_sim/faults", &fault).await.json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let planner = api(&cloud, "planner");
        let before = cloud.requests().len() as u64;
        let held = tokio::spawn(async move { planner.get("/api/v2/account/details").await.status });
        cloud
            .wait_for_request(|r| r.seq > before && r.path == "/api/v2/account/details")
            .await;
        assert!(!held.is_finished());
        let release = operator
            .post(&format!("/_sim/faults/{id}/release"), &json!({}))
            .await;
        assert_eq!(release.status, StatusCode::NO_CONTENT);
        assert_eq!(held.await.unwrap(), StatusCode::OK);
    }
    let clear = operator
        .send(Method::DELETE, "/_sim/faults", Bytes::new())
        .await
        .unwrap();
    assert_eq!(clear.status, StatusCode::NO_CONTENT);
    let nonsense = operator
        .post("/_sim/faults", &json!({"path_prefix": "/", "action": "no"}))
        .await;
    assert_eq!(nonsense.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        operator
            .post("/_sim/faults/fault-none/release", &json!({}))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn the_operator_reads_the_log_and_changes_settings() {
    let cloud = recorded().await;
    let operator = Api::new(&cloud.url(), None);
    let planner = api(&cloud, "planner");
    planner
        .get("/api/v2/organizations/acme/workspaces?search%5Bname%5D=staging")
        .await;
    planner
        .post("/api/v2/runs", &json!({"data": {"type": "runs"}}))
        .await;
    let log = operator.get("/_sim/requests").await.json();
    assert_eq!(
        log[0],
        json!({"seq": 1, "method": "GET", "path": "/api/v2/organizations/acme/workspaces",
            "query": "search%5Bname%5D=staging", "bearer": "planner", "body": null})
    );
    assert_eq!(log[1]["body"], json!({"data": {"type": "runs"}}));
    assert_eq!(
        log.as_array().unwrap().len(),
        2,
        "the operator's own calls are not logged"
    );
    assert!(!log.to_string().contains(cloud.token("planner")));

    let path = "/_sim/workspaces/ws-staging-app";
    let settings = operator
        .patch(
            path,
            &json!({"auto-apply": true, "execution-mode": "agent"}),
        )
        .await;
    assert_eq!(settings.json()["execution-mode"], "agent");
    let shown = planner
        .get("/api/v2/workspaces/ws-staging-app")
        .await
        .json();
    assert_eq!(shown["data"]["attributes"]["auto-apply"], true);
    for bad in [
        json!({"auto_apply": true}),
        json!({"auto-apply": "yes"}),
        json!({"nonsense": 1}),
    ] {
        assert_eq!(
            operator.patch(path, &bad).await.status,
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
    assert_eq!(
        operator
            .patch("/_sim/workspaces/ws-none", &json!({}))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn ports_are_free_after_a_shutdown() {
    let cloud = recorded().await;
    let address = cloud.url();
    let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
    let planner = api(&cloud, "planner");
    planner.get("/api/v2/ping").await;
    cloud.shutdown().await;
    assert!(
        planner
            .send(Method::GET, "/api/v2/ping", Bytes::new())
            .await
            .is_err()
    );
    let mut config = TerraformCloudConfig::acme(Engine::Recorded);
    config.port = port;
    let again = TerraformCloud::start(config).await.unwrap();
    assert_eq!(again.url(), address);
}
