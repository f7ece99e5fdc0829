//! States, outputs, variables and settings.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sim::RunStatus;

use crate::{APP, DB, api, planned, recorded};

#[tokio::test]
async fn a_state_is_rolled_back_under_a_lock() {
    let cloud = recorded().await;
    let before = cloud.state(APP).unwrap();
    let run = planned(&cloud, json!({"auto-apply": true})).await;
    assert_eq!(
        cloud.wait_until_ended(&run).await.unwrap(),
        RunStatus::Applied
    );
    assert_ne!(cloud.state(APP).unwrap()["resources"], before["resources"]);

    let executor = api(&cloud, "executor");
    let path = format!("/api/v2/workspaces/{APP}/state-versions");
    let versions = executor.get(&path).await.json();
    assert_eq!(versions["meta"]["pagination"]["total-count"], 2);
    let first = versions["data"][1]["id"].as_str().unwrap();
    let body = json!({"data": {"type": "state-versions", "relationships":
        {"rollback-state-version": {"data": {"type": "state-versions", "id": first}}}}});
    assert_eq!(
        executor.patch(&path, &body).await.status,
        StatusCode::CONFLICT
    );
    let act = async |name: &str| {
        let path = format!("/api/v2/workspaces/{APP}/actions/{name}");
        executor
            .post(&path, &json!({"reason": "rollback"}))
            .await
            .status
    };
    assert_eq!(act("unlock").await, StatusCode::CONFLICT);
    assert_eq!(act("lock").await, StatusCode::OK);
    assert_eq!(act("lock").await, StatusCode::CONFLICT);
    let owner = api(&cloud, "owner");
    assert_eq!(
        owner.patch(&path, &body).await.status,
        StatusCode::CONFLICT,
        "locked by another"
    );
    assert_eq!(
        executor.patch(&path, &body).await.status,
        StatusCode::CREATED
    );
    assert_eq!(act("unlock").await, StatusCode::OK);
    let after = cloud.state(APP).unwrap();
    assert_eq!(after["resources"], before["resources"]);
    assert!(after["serial"].as_u64() > before["serial"].as_u64());
}

#[tokio::test]
async fn outputs_hide_what_is_sensitive_until_read_one_by_one() {
    let cloud = recorded().await;
    let planner = api(&cloud, "planner");
    let list = planner
        .get(&format!(
            "/api/v2/workspaces/{DB}/current-state-version-outputs"
        ))
        .await
        .json();
    let secret = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["attributes"]["sensitive"] == true);
    let secret = secret.unwrap();
    assert_eq!(secret["attributes"]["value"], Value::Null);
    let path = format!(
        "/api/v2/state-version-outputs/{}",
        secret["id"].as_str().unwrap()
    );
    let clear = planner.get(&path).await.json();
    let value = clear["data"]["attributes"]["value"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(cloud.secrets().contains(&value));
}

#[tokio::test]
async fn variables_are_made_changed_and_deleted() {
    let cloud = recorded().await;
    let owner = api(&cloud, "owner");
    let path = format!("/api/v2/workspaces/{APP}/vars");
    let body = |attributes: Value| json!({"data": {"type": "vars", "attributes": attributes}});
    let made = owner
        .post(
            &path,
            &body(json!({"key": "size", "value": "1", "category": "env"})),
        )
        .await;
    assert_eq!(made.status, StatusCode::CREATED);
    let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
    let again = owner
        .post(&path, &body(json!({"key": "size", "value": "1"})))
        .await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    let one = format!("{path}/{id}");
    let changed = owner
        .patch(&one, &body(json!({"value": "2", "sensitive": true})))
        .await
        .json();
    assert_eq!(changed["data"]["attributes"]["value"], Value::Null);
    assert_eq!(
        owner.get(&path).await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    for expected in [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND] {
        let answer = owner
            .send(Method::DELETE, &one, Bytes::new())
            .await
            .unwrap();
        assert_eq!(answer.status, expected);
    }
}

#[tokio::test]
async fn settings_are_changed_over_the_api_by_who_may() {
    let cloud = recorded().await;
    let body =
        json!({"data": {"type": "workspaces", "attributes": {"auto-apply": true, "odd": 1}}});
    let path = "/api/v2/workspaces/ws-staging-db";
    assert_eq!(
        api(&cloud, "planner").patch(path, &body).await.status,
        StatusCode::NOT_FOUND
    );
    let changed = api(&cloud, "owner").patch(path, &body).await.json();
    assert_eq!(changed["data"]["attributes"]["auto-apply"], true);
}
