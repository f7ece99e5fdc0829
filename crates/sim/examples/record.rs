//! Records the plans that `Engine::Recorded` plays: `cargo run -p clawgate-sim --example record`.
//!
//! It drives a stand-in with the real engine over the API, from an empty workspace through all
//! scenes; each once with structured and once with plain logs. Between scenes it rolls the state
//! back, so that all of them are about the same resources.

#![expect(
    clippy::unwrap_used,
    reason = "a recording that fails should stop at once"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;

use serde_json::{Value, json};
use sim::{
    Credential, Engine, Rights, TerraformCloud, TerraformCloudConfig, example_change,
    example_configuration,
};
use support::Api;

/// What the recordings have in place of a secret; the player replaces it.
const SECRET: &str = "recorded-database-password";
const WORKSPACE: &str = "ws-staging-app";

#[tokio::main]
async fn main() {
    let engine = Engine::detect();
    assert!(
        matches!(
            engine,
            Engine::Real {
                name: "terraform",
                ..
            }
        ),
        "needs terraform on the PATH"
    );
    let ids = record(engine.clone(), true, &[]).await;
    record(engine, false, &ids).await;
}

/// Records all scenes; answers with the resources' ids. The plain logs are of runs of their own,
/// so those ids take the place of theirs.
async fn record(engine: Engine, structured: bool, ids: &[String]) -> Vec<String> {
    let mut config = TerraformCloudConfig::acme(engine)
        .with_credential(Credential::random("owner", Rights::OWNER))
        .with_settings(WORKSPACE, |settings| {
            settings.structured_run_output_enabled = structured
        });
    let seed = config
        .workspaces
        .iter_mut()
        .find(|seed| seed.id == WORKSPACE)
        .unwrap();
    seed.state = None;
    seed.variables[0].value = SECRET.to_owned();
    let cloud = TerraformCloud::start(config).await.unwrap();
    let api = Api::new(&cloud.url(), Some(cloud.token("owner")));

    let change = example_change();
    let one = example_configuration()[0].1.to_owned();
    let two = one.replace(change.from, change.to);
    let mut own_ids = Vec::new();
    let mut logs = Vec::new();
    for (name, configuration, destroy) in [
        ("create-1", &one, false),
        ("keep-1", &one, false),
        ("destroy-1", &one, true),
        ("grow", &two, false),
        ("keep-2", &two, false),
        ("shrink", &one, false),
        ("destroy-2", &two, true),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("recorded")
            .join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let files = [("main.tf", configuration.as_str())];
        let upload = api
            .upload(WORKSPACE, json!({"auto-queue-runs": false}), &files)
            .await;
        let wishes = json!({"auto-apply": true, "is-destroy": destroy, "allow-empty-apply": true});
        let run = api.run(WORKSPACE, &upload, wishes).await;
        let status = cloud.wait_until_ended(&run).await.unwrap();
        println!("{name}: {}", status.name());

        let ending = if structured { "jsonl" } else { "log" };
        let (plan_log, apply_log) = cloud.logs(&run).unwrap();
        logs.push((folder.join(format!("plan.{ending}")), plan_log));
        logs.push((folder.join(format!("apply.{ending}")), apply_log));
        let state = cloud.state(WORKSPACE).unwrap();
        if name == "grow" {
            own_ids = resource_ids(&state);
        }
        if structured {
            let plan = api.get(&format!("/api/v2/runs/{run}/plan")).await.json();
            for (link, file) in [
                ("json-output", "plan.json"),
                ("json-redacted", "redacted.json"),
            ] {
                let path = plan["data"]["links"][link].as_str().unwrap();
                let redirect = api.get(path).await;
                std::fs::write(folder.join(file), api.follow(&redirect).await.body).unwrap();
            }
            let state = serde_json::to_string_pretty(&state).unwrap();
            std::fs::write(folder.join("state.json"), state).unwrap();
        }
        if matches!(name, "destroy-1" | "shrink") {
            roll_back(&api).await;
        }
    }
    for (path, log) in logs {
        let same_ids = |log: String, (own, id): (&String, &String)| log.replace(own, id);
        std::fs::write(path, own_ids.iter().zip(ids).fold(log, same_ids)).unwrap();
    }
    cloud.shutdown().await;
    own_ids
}

/// Undoes the last apply.
async fn roll_back(api: &Api) {
    let workspace = format!("/api/v2/workspaces/{WORKSPACE}");
    let states = api.get(&format!("{workspace}/state-versions")).await.json();
    let before = &states["data"][1]["id"];
    let body = json!({"data": {"type": "state-versions", "relationships":
        {"rollback-state-version": {"data": {"type": "state-versions", "id": before}}}}});
    api.post(&format!("{workspace}/actions/lock"), &json!({}))
        .await;
    let answer = api
        .patch(&format!("{workspace}/state-versions"), &body)
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    api.post(&format!("{workspace}/actions/unlock"), &json!({}))
        .await;
}

/// The ids of all resources in a state, in the order in which they stand there.
fn resource_ids(state: &Value) -> Vec<String> {
    let resources = state["resources"].as_array().unwrap().iter();
    let instances = resources.flat_map(|resource| resource["instances"].as_array().unwrap());
    instances
        .map(|one| one["attributes"]["id"].as_str().unwrap().to_owned())
        .collect()
}
