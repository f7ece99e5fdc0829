//! The stand-in for Terraform Cloud as a bare API.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sim::{
    Credential, Engine, ExecutionMode, Fault, FaultAction, LoggedBody, Rights, RunStatus,
    TerraformCloud, TerraformCloudConfig, example_change, example_configuration,
};
use support::{Api, archive, run_body};

const APP: &str = "ws-staging-app";
const DB: &str = "ws-staging-db";

/// A stand-in that needs no engine: it plays recordings.
async fn recorded() -> TerraformCloud {
    let config = TerraformCloudConfig::acme(Engine::Recorded)
        .with_credential(Credential::random("owner", Rights::OWNER));
    TerraformCloud::start(config).await.unwrap()
}

fn api(cloud: &TerraformCloud, credential: &str) -> Api {
    Api::new(&cloud.url(), Some(cloud.token(credential)))
}

/// Uploads the example with its change.
async fn upload(api: &Api) -> String {
    api.upload(
        APP,
        json!({"auto-queue-runs": false}),
        &[("main.tf", &changed())],
    )
    .await
}

fn changed() -> String {
    let change = example_change();
    example_configuration()[0].1.replace(change.from, change.to)
}

/// A run of the recorded change that waits for confirmation.
async fn planned(cloud: &TerraformCloud, attributes: Value) -> String {
    let api = api(cloud, "planner");
    let configuration = upload(&api).await;
    let run = api.run(APP, &configuration, attributes).await;
    cloud.wait_until_confirmable(&run).await.unwrap();
    run
}

fn last_bearer(cloud: &TerraformCloud) -> Option<String> {
    cloud.requests().last().unwrap().bearer.clone()
}

#[tokio::test]
async fn a_call_needs_a_token_of_the_organization() {
    let cloud = recorded().await;
    let nobody = Api::new(&cloud.url(), None);
    let foreign = Api::new(&cloud.url(), Some("some.atlasv1.token"));
    let basic = Api::new(&cloud.url(), None).with_header("authorization", "Basic cGxhbm5lcg==");
    for (caller, bearer) in [
        (&nobody, None),
        (&foreign, Some("foreign")),
        (&basic, Some("foreign")),
    ] {
        for path in [
            "/api/v2/workspaces/ws-staging-app",
            "/api/v2/runs/run-none",
            "/api/v2/nowhere",
        ] {
            let answer = caller.get(path).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            assert_eq!(answer.json()["errors"][0]["title"], "unauthorized");
            assert_eq!(last_bearer(&cloud).as_deref(), bearer);
        }
    }
    let known = api(&cloud, "planner")
        .get("/api/v2/workspaces/ws-staging-app")
        .await;
    assert_eq!(known.status, StatusCode::OK);
    assert_eq!(last_bearer(&cloud).as_deref(), Some("planner"));
}

#[tokio::test]
async fn what_every_command_of_the_cli_begins_with() {
    let cloud = recorded().await;
    let nobody = Api::new(&cloud.url(), None);
    let discovery = nobody.get("/.well-known/terraform.json").await;
    assert_eq!(discovery.json()["tfe.v2"], "/api/v2/");
    assert!(discovery.json().get("login.v1").is_none());
    let ping = nobody.get("/api/v2/ping").await;
    assert_eq!(ping.status, StatusCode::NO_CONTENT);
    assert_eq!(ping.headers["tfp-api-version"], "2.6");
    assert_eq!(ping.headers["tfp-appname"], "HCP Terraform");
    assert_eq!(ping.headers["x-ratelimit-limit"], "30");
    let planner = api(&cloud, "planner");
    let set = planner
        .get("/api/v2/organizations/acme/entitlement-set")
        .await;
    assert_eq!(set.json()["data"]["attributes"]["operations"], true);
    assert_eq!(
        set.headers["content-type"],
        "application/vnd.api+json; charset=utf-8"
    );
    assert_eq!(
        planner
            .get("/api/v2/organizations/other/entitlement-set")
            .await
            .status,
        404
    );
    let by_name = planner
        .get("/api/v2/organizations/acme/workspaces/staging-app")
        .await
        .json();
    let by_id = planner
        .get("/api/v2/workspaces/ws-staging-app")
        .await
        .json();
    assert_eq!(by_name, by_id);
    assert_eq!(
        by_id["data"]["attributes"]["permissions"]["can-queue-apply"],
        false
    );
    let account = planner.get("/api/v2/account/details").await.json();
    assert_eq!(account["data"]["attributes"]["username"], "planner");
}

#[tokio::test]
async fn what_is_unknown_is_not_found_and_logged() {
    let cloud = recorded().await;
    let owner = api(&cloud, "owner");
    for (method, path) in [
        (Method::GET, "/api/v2/workspaces/ws-none"),
        (Method::GET, "/api/v2/plans/plan-none"),
        (Method::GET, "/api/v2/workspaces/ws-staging-app/varsets"),
        (Method::DELETE, "/api/v2/workspaces/ws-staging-app"),
        (
            Method::POST,
            "/api/v2/workspaces/ws-staging-app/vars/../../../x",
        ),
        (Method::GET, "/elsewhere"),
    ] {
        let answer = owner
            .send(method.clone(), path, Bytes::new())
            .await
            .unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
        assert_eq!(answer.json()["errors"][0]["status"], "404");
        let logged = cloud.requests().pop().unwrap();
        assert_eq!(
            (logged.method.as_str(), logged.path.as_str()),
            (method.as_str(), path)
        );
    }
}

#[tokio::test]
async fn rights_decide_who_may_do_what() {
    let cloud = recorded().await;
    let run = planned(&cloud, json!({})).await;
    let shown = api(&cloud, "reader")
        .get(&format!("/api/v2/runs/{run}"))
        .await
        .json();
    let plan = shown["data"]["relationships"]["plan"]["data"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let cv_body = json!({"data": {"type": "configuration-versions", "attributes": {}}});
    let var_body = json!({"data": {"type": "vars", "attributes": {"key": "a", "value": "b"}}});
    let cvs = format!("/api/v2/workspaces/{APP}/configuration-versions");
    let vars = format!("/api/v2/workspaces/{APP}/vars");
    let lock = format!("/api/v2/workspaces/{DB}/actions/lock");
    let state = format!("/api/v2/workspaces/{DB}/current-state-version");
    let json_output = format!("/api/v2/plans/{plan}/json-output");
    let redacted = format!("/api/v2/plans/{plan}/json-output-redacted");
    let apply = format!("/api/v2/runs/{run}/actions/apply");
    let token = "/api/v2/organizations/acme/authentication-token".to_owned();
    let (found, moved, created) = (
        StatusCode::OK,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::CREATED,
    );
    let cases: [(&str, &Value, &String, StatusCode, &[&str]); 9] = [
        ("POST", &cv_body, &cvs, created, &["planner", "owner"]),
        ("POST", &var_body, &vars, created, &["owner"]),
        (
            "GET",
            &Value::Null,
            &state,
            found,
            &["planner", "executor", "owner"],
        ),
        (
            "GET",
            &Value::Null,
            &json_output,
            moved,
            &["reader", "owner"],
        ),
        (
            "GET",
            &Value::Null,
            &redacted,
            moved,
            &["planner", "executor", "reader", "owner"],
        ),
        ("POST", &Value::Null, &token, created, &["owner"]),
        ("POST", &Value::Null, &lock, found, &["executor"]),
        (
            "POST",
            &Value::Null,
            &apply,
            StatusCode::ACCEPTED,
            &["executor"],
        ),
        (
            "GET",
            &Value::Null,
            &cvs,
            found,
            &["planner", "executor", "reader", "owner"],
        ),
    ];
    for (method, body, path, expected, may) in cases {
        for credential in ["planner", "reader", "executor", "owner"] {
            // What can be done only once is left to the executor.
            if credential == "owner" && !may.contains(&"owner") {
                continue;
            }
            let caller = api(&cloud, credential);
            let answer = caller
                .send(method.parse().unwrap(), path, body.to_string())
                .await
                .unwrap();
            let expected = if may.contains(&credential) {
                expected
            } else {
                StatusCode::NOT_FOUND
            };
            assert_eq!(answer.status, expected, "{credential} {method} {path}");
        }
    }
}

#[tokio::test]
async fn signed_addresses_need_no_token_and_cannot_be_guessed() {
    let cloud = recorded().await;
    let planner = api(&cloud, "planner");
    let nobody = Api::new("", None);
    let run = planned(&cloud, json!({})).await;
    let plan = planner
        .get(&format!("/api/v2/runs/{run}/plan"))
        .await
        .json();
    let log = plan["data"]["attributes"]["log-read-url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(log.starts_with(&cloud.archivist_url()) && cloud.archivist_url() != cloud.url());

    let whole = nobody.get(&log).await;
    assert_eq!(whole.body.first(), Some(&2));
    assert_eq!(whole.body.last(), Some(&3));
    assert!(
        whole.text().contains("This is a recording"),
        "{}",
        whole.text()
    );
    let first = nobody.get(&format!("{log}?limit=7&offset=0")).await.body;
    let rest = nobody
        .get(&format!("{log}?limit=65536&offset=7"))
        .await
        .body;
    assert_eq!([first, rest].concat(), whole.body);
    assert!(
        nobody
            .get(&format!("{log}?limit=10&offset=99999"))
            .await
            .body
            .is_empty()
    );
    assert_eq!(cloud.requests().pop().unwrap().bearer, None);

    assert_eq!(
        nobody.get(&format!("{log}x")).await.status,
        StatusCode::FORBIDDEN
    );
    let guessed = format!("{}/v1/object/plan-1", cloud.archivist_url());
    assert_eq!(nobody.get(&guessed).await.status, StatusCode::FORBIDDEN);
    let put = nobody.send(Method::PUT, &log, "log").await.unwrap();
    assert_eq!(put.status, StatusCode::METHOD_NOT_ALLOWED);
    // The API's port does not serve objects, and a token that comes along is noticed.
    let path = log.strip_prefix(&cloud.archivist_url()).unwrap();
    assert_eq!(planner.get(path).await.status, StatusCode::NOT_FOUND);
    Api::new("", Some("a-token-that-should-not-travel"))
        .get(&log)
        .await;
    assert_eq!(last_bearer(&cloud).as_deref(), Some("foreign"));
}

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
async fn a_minted_token_works() {
    let cloud = recorded().await;
    let owner = api(&cloud, "owner");
    let minted = owner
        .post(
            "/api/v2/organizations/acme/authentication-token",
            &json!({}),
        )
        .await
        .json();
    let token = minted["data"]["attributes"]["token"].as_str().unwrap();
    let other = Api::new(&cloud.url(), Some(token));
    assert_eq!(
        other.get("/api/v2/account/details").await.status,
        StatusCode::OK
    );
    assert!(last_bearer(&cloud).unwrap().starts_with("minted at-"));
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

#[tokio::test]
async fn lists_are_paged() {
    let cloud = recorded().await;
    let planner = api(&cloud, "planner");
    let path = "/api/v2/organizations/acme/workspaces?page%5Bsize%5D=2";
    let first = planner.get(path).await.json();
    assert_eq!(first["data"].as_array().unwrap().len(), 2);
    assert_eq!(first["meta"]["pagination"]["next-page"], 2);
    let second = planner
        .get(&format!("{path}&page%5Bnumber%5D=2"))
        .await
        .json();
    assert_eq!(second["data"].as_array().unwrap().len(), 1);
    assert_eq!(second["meta"]["pagination"]["next-page"], Value::Null);
}

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

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let cloud = recorded().await;
    let body = Bytes::from(vec![b' '; (64 << 20) + 1]);
    let answer = api(&cloud, "planner")
        .send(Method::POST, "/api/v2/runs", body)
        .await;
    // The stand-in may hang up before it has read everything.
    assert!(answer.is_err() || answer.unwrap().status == StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(cloud.requests().len(), 1);
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
