//! The real terraform CLI in the ways in which it can be set up, other than the usual one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Stdio;

use http::StatusCode;
use serde_json::json;
use sim::{
    Credential, Engine, ExecutionMode, Rights, RunStatus, TerraformCloud, TerraformCloudConfig,
    example_change, example_configuration,
};
use support::{Api, Cli, Ended, terraform};
use tokio::io::AsyncWriteExt as _;

const WORKSPACE: &str = "ws-staging-app";

async fn start(engine: Engine) -> TerraformCloud {
    let config = TerraformCloudConfig::acme(engine)
        .with_credential(Credential::random("owner", Rights::OWNER));
    TerraformCloud::start(config).await.unwrap()
}

fn two_instances() -> String {
    let change = example_change();
    example_configuration()[0].1.replace(change.from, change.to)
}

#[tokio::test]
async fn the_cli_renders_a_recording() {
    if terraform().is_none() {
        return;
    }
    for structured in [true, false] {
        let cloud = start(Engine::Recorded).await;
        let set =
            |settings: &mut sim::Settings| settings.structured_run_output_enabled = structured;
        cloud.change_settings(WORKSPACE, set).unwrap();
        let cli = Cli::new(&cloud, "owner");
        cli.ok(&["init", "-no-color"]).await;
        let unchanged = cli.ok(&["plan", "-no-color"]).await;
        assert!(unchanged.contains("No changes."), "{unchanged}");
        cli.write("main.tf", &two_instances());
        let planned = cli.ok(&["plan", "-no-color"]).await;
        assert!(planned.contains("This is a recording"), "{planned}");
        assert!(
            planned.contains("Plan: 1 to add, 1 to change, 0 to destroy."),
            "{planned}"
        );
        let applied = cli.ok(&["apply", "-no-color", "-auto-approve"]).await;
        assert!(
            applied.contains("Resources: 1 added, 1 changed"),
            "{applied}"
        );
        let again = cli.ok(&["plan", "-no-color"]).await;
        assert!(again.contains("No changes."), "{again}");
        let destroyed = cli.ok(&["destroy", "-no-color", "-auto-approve"]).await;
        assert!(destroyed.contains("4 destroyed"), "{destroyed}");
        let beyond = cli.run(&["apply", "-no-color", "-auto-approve"]).await;
        assert_eq!(beyond.code, Some(1));
        assert!(
            beyond.stdout.contains("no recording of this change"),
            "{beyond:?}"
        );
        cli.write("main.tf", example_configuration()[0].1);
        let created = cli.ok(&["apply", "-no-color", "-auto-approve"]).await;
        assert!(created.contains("3 added"), "{created}");
        let refused = cli
            .run(&["plan", "-no-color", "-target=terraform_data.instance"])
            .await;
        assert_eq!(refused.code, Some(1));
        assert!(refused.stdout.contains("no recording"), "{refused:?}");
        let secrets = cloud.secrets();
        assert!(
            !secrets
                .iter()
                .any(|secret| planned.contains(secret) || applied.contains(secret))
        );
    }
}

/// The older backend sends no `auto-apply` at all, so the workspace decides.
#[tokio::test]
async fn the_remote_backend_inherits_auto_apply() {
    let Some(engine) = terraform() else { return };
    for auto_apply in [true, false] {
        let cloud = start(engine.clone()).await;
        cloud
            .change_settings(WORKSPACE, |settings| settings.auto_apply = auto_apply)
            .unwrap();
        let cli = Cli::new(&cloud, "owner");
        let remote = "terraform {\n  backend \"remote\" {\n    organization = \"acme\"\n    \
                      workspaces {\n      name = \"staging-app\"\n    }\n  }\n}\n";
        cli.write("main.tf", &two_instances());
        cli.write("backend_override.tf", remote);
        cli.ok(&["init", "-no-color"]).await;
        let output = cli.ok(&["apply", "-no-color", "-auto-approve"]).await;
        assert!(output.contains("Apply complete!"), "{output}");
        let requests = cloud.requests();
        let run = requests
            .iter()
            .find(|r| r.method == "POST" && r.path == "/api/v2/runs")
            .unwrap();
        let body = serde_json::to_value(&run.body).unwrap();
        assert_eq!(body["data"]["attributes"].get("auto-apply"), None);
        // With auto-apply in the workspace nobody had to confirm.
        let confirmed = requests
            .iter()
            .filter(|r| r.path.ends_with("/actions/apply"))
            .count();
        assert_eq!(confirmed, usize::from(!auto_apply));
        cloud.shutdown().await;
    }
}

#[tokio::test]
async fn a_person_answers_the_prompt() {
    let Some(engine) = terraform() else { return };
    let cloud = start(engine).await;
    let cli = Cli::new(&cloud, "owner");
    cli.write("main.tf", &two_instances());
    cli.ok(&["init", "-no-color"]).await;
    for (answer, code, status) in [
        ("no\n", Some(1), RunStatus::Discarded),
        ("yes\n", Some(0), RunStatus::Applied),
    ] {
        let mut command = cli.command(&["apply", "-no-color"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(answer.as_bytes())
            .await
            .unwrap();
        let ended = Ended::from(child.wait_with_output().await.unwrap());
        assert_eq!(ended.code, code, "{ended:?}");
        assert_eq!(cloud.runs().pop().unwrap().1, status);
    }
    assert!(
        cloud
            .state(WORKSPACE)
            .unwrap()
            .to_string()
            .contains("app-2")
    );
}

#[tokio::test]
async fn in_local_mode_the_cli_works_itself_and_keeps_its_state_here() {
    let Some(engine) = terraform() else { return };
    let cloud = start(engine).await;
    let local = |settings: &mut sim::Settings| settings.execution_mode = ExecutionMode::Local;
    cloud.change_settings(WORKSPACE, local).unwrap();
    let cli = Cli::new(&cloud, "owner");
    cli.write("main.tf", &two_instances());
    cli.ok(&["init", "-no-color"]).await;
    let output = cli
        .ok(&[
            "apply",
            "-no-color",
            "-auto-approve",
            "-var=database_password=local",
        ])
        .await;
    assert!(output.contains("Apply complete!"), "{output}");
    assert!(cloud.runs().is_empty(), "no run is made");
    assert!(
        cloud
            .state(WORKSPACE)
            .unwrap()
            .to_string()
            .contains("app-2")
    );
    let workspace = Api::new(&cloud.url(), Some(cloud.token("owner")))
        .get(&format!("/api/v2/workspaces/{WORKSPACE}"))
        .await;
    assert_eq!(workspace.json()["data"]["attributes"]["locked"], false);
}

#[tokio::test]
async fn workspaces_are_found_by_tag_and_made_by_init() {
    let Some(engine) = terraform() else { return };
    let cloud = start(engine).await;
    let owner = Api::new(&cloud.url(), Some(cloud.token("owner")));
    let body =
        json!({"data": [{"type": "tag-bindings", "attributes": {"key": "shop", "value": ""}}]});
    let path = format!("/api/v2/workspaces/{WORKSPACE}/tag-bindings");
    assert_eq!(owner.patch(&path, &body).await.status, StatusCode::OK);
    let cli = Cli::new(&cloud, "owner");
    cli.write("main.tf", "resource \"terraform_data\" \"a\" {}\n");
    cli.write(
        "cloud.tf",
        "terraform {\n  cloud {\n    organization = \"acme\"\n    workspaces {\n      tags = [\"shop\"]\n    }\n  }\n}\n",
    );
    cli.ok(&["init", "-no-color", "-input=false"]).await;
    let list = cli.ok(&["workspace", "list"]).await;
    assert!(
        list.contains("staging-app") && !list.contains("staging-db"),
        "{list}"
    );

    let cli = Cli::new(&cloud, "owner");
    let named = example_configuration()[0]
        .1
        .replace("staging-app", "brand-new");
    cli.write("main.tf", &named);
    cli.ok(&["init", "-no-color"]).await;
    assert!(
        cloud
            .workspaces()
            .iter()
            .any(|(name, id)| name == "brand-new" && id.len() == 19)
    );
}
