//! Records the plans that `Engine::Recorded` plays: `cargo run -p clawgate-sim --example record`.
//!
//! It drives a stand-in with the real engine over the API, from an empty workspace: create, change,
//! no changes, destroy; each once with plain and once with structured logs.

#![expect(
    clippy::unwrap_used,
    reason = "a recording that fails should stop at once"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;

use serde_json::json;
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
    for structured in [false, true] {
        record(engine.clone(), structured).await;
    }
}

async fn record(engine: Engine, structured: bool) {
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
    for (name, configuration, destroy) in [
        ("create", &one, false),
        ("change", &two, false),
        ("no-changes", &two, false),
        ("destroy", &two, true),
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

        let write = |file: &str, text: String| std::fs::write(folder.join(file), text).unwrap();
        let (plan_log, apply_log) = cloud.logs(&run).unwrap();
        let ending = if structured { "jsonl" } else { "log" };
        write(&format!("plan.{ending}"), plan_log);
        write(&format!("apply.{ending}"), apply_log);
        if structured {
            // The log above, this plan and this state belong to one run.
            let plan = api.get(&format!("/api/v2/runs/{run}/plan")).await.json();
            for (link, file) in [
                ("json-output", "plan.json"),
                ("json-redacted", "redacted.json"),
            ] {
                let path = plan["data"]["links"][link].as_str().unwrap();
                let redirect = api.get(path).await;
                write(file, api.follow(&redirect).await.text());
            }
            let state = cloud.state(WORKSPACE).unwrap();
            write("state.json", serde_json::to_string_pretty(&state).unwrap());
        }
    }
    cloud.shutdown().await;
}
