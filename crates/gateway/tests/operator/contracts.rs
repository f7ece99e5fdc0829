//! The registry over the wire.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn contracts_are_published_read_compared_and_withdrawn() {
    let world = World::new().await;
    let admin = world.admin().await;
    let old = admin.publish().await;
    let envelope = world.contract("1800", "900");
    let made = admin
        .post("/v1/contracts", &json!({ "envelope": envelope }))
        .await
        .ok();
    assert_eq!(
        (&made["version"], &made["existed"]),
        (&json!(2), &json!(false))
    );
    let new = made["policy_hash_b64u"].as_str().unwrap().to_owned();
    let again = admin
        .post("/v1/contracts", &json!({ "envelope": envelope }))
        .await
        .ok();
    assert_eq!(again["existed"], json!(true));

    let list = admin.get("/v1/contracts").await.ok();
    assert_eq!(list["contracts"].as_array().unwrap().len(), 1);
    assert_eq!(list["contracts"][0]["versions"], json!(2));
    let name = list["contracts"][0]["name"].as_str().unwrap().to_owned();
    let versions = admin
        .get(&format!("/v1/contracts/by-name/{name}"))
        .await
        .ok();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
    let shown = admin.get(&format!("/v1/contracts/{new}")).await.ok();
    assert_eq!(shown["envelope"], serde_json::to_value(&envelope).unwrap());
    let path = format!("/v1/contracts/diff?old={old}&new={new}");
    let diff = admin.get(&path).await.ok();
    assert!(
        diff["diff"].to_string().contains("15 minutes"),
        "the lifetime is another one: {diff}"
    );

    let path = format!("/v1/contracts/{new}/withdraw");
    assert_eq!(
        admin.post(&path, &json!({})).await.code(),
        "BODY_MISSING_MEMBER"
    );
    assert_eq!(
        admin.post(&path, &json!({ "reason": " " })).await.code(),
        "BODY_WRONG_TYPE"
    );
    admin
        .post(&path, &json!({ "reason": "too narrow" }))
        .await
        .ok();
    // The name now means the latest version that holds.
    let opened = admin
        .post("/v1/jobs", &json!({ "name": "j", "contract": name }))
        .await
        .ok();
    assert_eq!(opened["policy_hash_b64u"], json!(old));
    let body = json!({ "name": "j", "policy_hash_b64u": new });
    assert_eq!(
        admin.post("/v1/jobs", &body).await.code(),
        "CONTRACT_WITHDRAWN"
    );
}

#[tokio::test]
async fn everything_that_stands_against_a_contract_is_in_the_answer() {
    let world = World::new().await;
    let admin = world.admin().await;
    let envelope = world.contract(
        "\"requires_approval\": true",
        "\"requires_approval\": false",
    );
    let answer = admin
        .post("/v1/contracts", &json!({ "envelope": envelope }))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (422, "CONTRACT_AUTONOMOUS_APPLY")
    );
    let errors = answer.json()["errors"].clone();
    assert_eq!(errors[0]["path"], "permissions.apply.requires_approval");

    let envelope = world.contract("\"state_read\"", "\"state_raed\": true, \"more\"");
    let answer = admin
        .post("/v1/contracts", &json!({ "envelope": envelope }))
        .await;
    assert_eq!(answer.code(), "CONTRACT_INVALID");
    let errors = answer.json()["errors"].clone();
    let paths: Vec<&str> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["path"].as_str().unwrap())
        .collect();
    assert!(paths.contains(&"permissions.state_raed"), "{errors}");
    assert!(paths.contains(&"permissions.more"), "{errors}");
    let misspelt = paths
        .iter()
        .position(|path| *path == "permissions.state_raed")
        .unwrap();
    let message = errors[misspelt]["message"].as_str().unwrap();
    assert!(
        message.contains("state_read"),
        "the nearest known name: {message}"
    );
}

#[tokio::test]
async fn a_withdrawn_contract_stops_its_agents() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let token = admin.token(&job).await;
    assert_eq!(world.agent_view(&token).await.status, 200);
    let hash = admin.publish().await;
    let path = format!("/v1/contracts/{hash}/withdraw");
    admin
        .post(&path, &json!({ "reason": "too wide" }))
        .await
        .ok();
    let refused = world.agent_view(&token).await;
    assert!(refused.status.is_client_error());
    assert!(String::from_utf8_lossy(&refused.bytes).contains("CONTRACT_WITHDRAWN"));
    let body = json!({ "job_id": job });
    assert_eq!(
        admin.post("/v1/tokens", &body).await.code(),
        "CONTRACT_WITHDRAWN"
    );
}
