//! Configurations, runs, plans and comments.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use sim::{Engine, ExecutionMode, LoggedBody, RunStatus, TerraformCloud, TerraformCloudConfig};

use crate::support::{Api, archive, run_body};
use crate::{APP, DB, api, changed, planned, recorded, upload};

#[tokio::test]
async fn a_configuration_takes_one_upload_and_queues_a_run_by_default() {
    let cloud = recorded().await;
    let planner = api(&cloud, "planner");
    let body = json!({"data": {"type": "configuration-versions", "attributes": {}}});
    let path = format!("/api/v2/workspaces/{APP}/configuration-versions");
    let created = planner.post(&path, &body).await.json();
    let attributes = &created["data"]["attributes"];
    assert_eq!(attributes["auto-queue-runs"], true);
    assert_eq!(attributes["speculative"], false);
    assert_eq!(attributes["status"], "pending");
    let url = attributes["upload-url"].as_str().unwrap();
    let nobody = Api::new("", None);
    let archive = archive(&[("main.tf", &changed())]);
    cloud
        .change_settings(APP, |settings| settings.auto_apply = true)
        .unwrap();
    assert_eq!(
        nobody
            .send(Method::PUT, url, archive.clone())
            .await
            .unwrap()
            .status,
        200
    );
    assert_eq!(
        nobody
            .send(Method::PUT, url, archive.clone())
            .await
            .unwrap()
            .status,
        409
    );
    let upload = cloud.requests().pop().unwrap();
    assert_eq!(upload.body, Some(LoggedBody::Length(archive.len() as u64)));
    let id = created["data"]["id"].as_str().unwrap();
    let shown = planner
        .get(&format!("/api/v2/configuration-versions/{id}"))
        .await
        .json();
    assert_eq!(shown["data"]["attributes"]["status"], "uploaded");
    assert_eq!(shown["data"]["attributes"]["upload-url"], Value::Null);

    // The upload alone started a run that inherits the workspace's auto-apply.
    let run = cloud.runs()[0].0.clone();
    assert_eq!(
        cloud.wait_until_ended(&run).await.unwrap(),
        RunStatus::Applied
    );
    let answer = planner
        .get(&format!("/api/v2/configuration-versions/{id}/download"))
        .await;
    assert_eq!(planner.follow(&answer).await.body, archive);
}

#[tokio::test]
async fn a_run_is_made_by_the_vendors_rules() {
    let cloud = recorded().await;
    let planner = api(&cloud, "planner");
    let own = upload(&planner).await;
    let speculative = planner
        .upload(
            APP,
            json!({"auto-queue-runs": false, "speculative": true}),
            &[("a.tf", "")],
        )
        .await;
    let of_other = planner
        .upload(DB, json!({"auto-queue-runs": false}), &[("a.tf", "")])
        .await;
    for (configuration, attributes) in [
        (of_other.as_str(), json!({})),
        ("cv-none", json!({})),
        (&own, json!({"auto-apply": "yes"})),
        (&own, json!({"terraform-version": "1.0.0"})),
        (&own, json!({"is-destroy": true, "refresh-only": true})),
    ] {
        let answer = planner
            .post("/api/v2/runs", &run_body(APP, configuration, attributes))
            .await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}",
            answer.text()
        );
    }
    let wrong_type = json!({"data": {"type": "plans"}});
    assert_eq!(planner.post("/api/v2/runs", &wrong_type).await.status, 422);

    for (configuration, attributes, shown) in [
        (
            &speculative,
            json!({"auto-apply": true}),
            json!([true, false, false]),
        ),
        (
            &own,
            json!({"plan-only": true}),
            json!([true, false, false]),
        ),
        (
            &own,
            json!({"save-plan": true, "auto-apply": true}),
            json!([false, true, false]),
        ),
        (
            &own,
            json!({"auto-apply": true}),
            json!([false, false, true]),
        ),
    ] {
        let answer = planner
            .post("/api/v2/runs", &run_body(APP, configuration, attributes))
            .await
            .json();
        let made = &answer["data"]["attributes"];
        let made = json!([made["plan-only"], made["save-plan"], made["auto-apply"]]);
        assert_eq!(made, shown);
    }
    // Without a configuration version, the latest that is not speculative is used.
    let body = json!({"data": {"type": "runs", "relationships":
        {"workspace": {"data": {"type": "workspaces", "id": APP}}}}});
    let answer = planner.post("/api/v2/runs", &body).await.json();
    assert_eq!(
        answer["data"]["relationships"]["configuration-version"]["data"]["id"],
        own
    );

    cloud
        .change_settings(APP, |settings| settings.allow_destroy_plan = false)
        .unwrap();
    let destroy = run_body(APP, &own, json!({"is-destroy": true}));
    assert_eq!(planner.post("/api/v2/runs", &destroy).await.status, 422);
    cloud
        .change_settings(APP, |settings| {
            settings.execution_mode = ExecutionMode::Local
        })
        .unwrap();
    assert_eq!(
        planner
            .post("/api/v2/runs", &run_body(APP, &own, json!({})))
            .await
            .status,
        422
    );
}

#[tokio::test]
async fn auto_apply_of_a_planner_is_honoured_unless_configured_otherwise() {
    for (downgrade, expected) in [(false, RunStatus::Applied), (true, RunStatus::Planned)] {
        let mut config = TerraformCloudConfig::acme(Engine::Recorded);
        config.downgrade_auto_apply = downgrade;
        let cloud = TerraformCloud::start(config).await.unwrap();
        let run = planned(&cloud, json!({"auto-apply": true})).await;
        assert_eq!(cloud.run_status(&run).unwrap(), expected);
    }
}

#[tokio::test]
async fn a_run_passes_through_the_vendors_states() {
    let mut config = TerraformCloudConfig::acme(Engine::Recorded);
    config.prices = Some(BTreeMap::from([("terraform_data".to_owned(), 12_500_000)]));
    let cloud = TerraformCloud::start(config).await.unwrap();
    let run = planned(&cloud, json!({"message": "scale out"})).await;
    let path = format!("/api/v2/runs/{run}");
    let reader = api(&cloud, "reader");
    let shown = reader
        .get(&format!("{path}?include=plan,workspace,cost_estimate"))
        .await
        .json();
    let data = &shown["data"];
    assert_eq!(data["attributes"]["status"], "cost_estimated");
    assert_eq!(data["attributes"]["actions"]["is-confirmable"], true);
    assert_eq!(data["attributes"]["permissions"]["can-apply"], false);
    assert_eq!(data["relationships"]["workspace"]["data"]["id"], APP);
    let kinds: Vec<&Value> = shown["included"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["type"])
        .collect();
    assert_eq!(kinds, ["workspaces", "plans", "cost-estimates"]);
    let plan = &shown["included"][1]["attributes"];
    assert_eq!(plan["status"], "finished");
    assert_eq!(
        (&plan["resource-additions"], &plan["resource-changes"]),
        (&json!(1), &json!(1))
    );
    let cost = data["relationships"]["cost-estimate"]["data"]["id"]
        .as_str()
        .unwrap();
    let cost = reader
        .get(&format!("/api/v2/cost-estimates/{cost}"))
        .await
        .json();
    assert_eq!(cost["data"]["attributes"]["prior-monthly-cost"], "37.5");
    assert_eq!(cost["data"]["attributes"]["delta-monthly-cost"], "12.5");

    let executor = api(&cloud, "executor");
    executor
        .post(&format!("{path}/actions/apply"), &json!({}))
        .await;
    assert_eq!(
        cloud.wait_until_ended(&run).await.unwrap(),
        RunStatus::Applied
    );
    let shown = reader.get(&path).await.json();
    let reached = shown["data"]["attributes"]["status-timestamps"]
        .as_object()
        .unwrap();
    for state in [
        "plan-queued",
        "planning",
        "planned",
        "cost-estimated",
        "confirmed",
        "apply-queued",
        "applying",
        "applied",
    ] {
        assert!(reached.contains_key(&format!("{state}-at")), "{state}");
    }
    let events = reader.get(&format!("{path}/run-events")).await.json();
    assert_eq!(events["data"][0]["attributes"]["action"], "created");
    let apply = executor.get(&format!("{path}/apply")).await.json();
    let state = apply["data"]["relationships"]["state-versions"]["data"][0]["id"]
        .as_str()
        .unwrap();
    let state = executor
        .get(&format!("/api/v2/state-versions/{state}"))
        .await
        .json();
    assert_eq!(state["data"]["relationships"]["run"]["data"]["id"], *run);
    assert_eq!(
        state["data"]["relationships"]["workspace"]["data"]["id"],
        APP
    );
    for action in ["apply", "discard", "cancel"] {
        let answer = executor
            .post(&format!("{path}/actions/{action}"), &json!({}))
            .await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{action}");
        assert_eq!(
            answer.json()["errors"][0]["title"],
            "transition not allowed"
        );
    }
}

#[tokio::test]
async fn the_full_plan_has_the_secret_and_the_redacted_one_does_not() {
    let cloud = recorded().await;
    let run = planned(&cloud, json!({})).await;
    let reader = api(&cloud, "reader");
    let plan = reader.get(&format!("/api/v2/runs/{run}/plan")).await.json();
    let links = &plan["data"]["links"];
    let mut bodies = Vec::new();
    for link in ["json-output", "json-redacted"] {
        let redirect = reader.get(links[link].as_str().unwrap()).await;
        assert_eq!(redirect.status, StatusCode::TEMPORARY_REDIRECT);
        bodies.push(reader.follow(&redirect).await);
    }
    let secrets = cloud.secrets();
    let leaks = |text: &str| secrets.iter().any(|secret| text.contains(secret.as_str()));
    assert!(leaks(&bodies[0].text()) && !leaks(&bodies[1].text()));
    assert_eq!(bodies[0].json()["applyable"], true);
    assert_eq!(bodies[1].json()["plan_format_version"], "1.2");
    let (log, _) = cloud.logs(&run).unwrap();
    assert!(!leaks(&log));
}

#[tokio::test]
async fn a_run_holds_its_workspace() {
    let cloud = recorded().await;
    let run = planned(&cloud, json!({})).await;
    let executor = api(&cloud, "executor");
    let lock = format!("/api/v2/workspaces/{APP}/actions/lock");
    assert_eq!(
        executor.post(&lock, &json!({})).await.status,
        StatusCode::CONFLICT
    );
    let workspace = executor
        .get(&format!("/api/v2/workspaces/{APP}"))
        .await
        .json();
    assert_eq!(
        workspace["data"]["relationships"]["locked-by"]["data"]["id"],
        *run
    );
    executor
        .post(&format!("/api/v2/runs/{run}/actions/discard"), &json!({}))
        .await;
    assert_eq!(
        executor.post(&lock, &json!({})).await.status,
        StatusCode::OK
    );

    // A lock of a person makes the next run wait.
    let planner = api(&cloud, "planner");
    let configuration = upload(&planner).await;
    let next = planner.run(APP, &configuration, json!({})).await;
    assert_eq!(cloud.run_status(&next).unwrap(), RunStatus::Pending);
    let unlock = format!("/api/v2/workspaces/{APP}/actions/unlock");
    assert_eq!(
        executor.post(&unlock, &json!({})).await.status,
        StatusCode::OK
    );
    assert_eq!(
        cloud.wait_until_confirmable(&next).await.unwrap(),
        RunStatus::Planned
    );
}

#[tokio::test]
async fn comments_are_kept() {
    let cloud = recorded().await;
    let run = planned(&cloud, json!({})).await;
    let planner = api(&cloud, "planner");
    let path = format!("/api/v2/runs/{run}/comments");
    let body = json!({"data": {"type": "comments", "attributes": {"body": "bundle sha256:abc"}}});
    let made = planner.post(&path, &body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(
        planner.get(&path).await.json()["data"][0],
        made.json()["data"]
    );
    let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        planner.get(&format!("/api/v2/comments/{id}")).await.json(),
        made.json()
    );
    assert_eq!(cloud.comments(&run), ["bundle sha256:abc"]);
}
