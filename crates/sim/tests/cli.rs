//! The real terraform CLI against the stand-in, with nothing between them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use http::StatusCode;
use serde_json::json;
use sim::{
    Credential, Fault, FaultAction, Request, Rights, RunStatus, TerraformCloud,
    TerraformCloudConfig, example_change, example_configuration,
};
use support::proxy::held_by_proxy;
use support::{Api, Cli, Ended, terraform};

const WORKSPACE: &str = "ws-staging-app";

async fn start(change: impl FnOnce(&mut sim::Settings)) -> Option<TerraformCloud> {
    let config = TerraformCloudConfig::acme(terraform()?)
        .with_credential(Credential::random("owner", Rights::OWNER))
        .with_settings(WORKSPACE, change);
    Some(TerraformCloud::start(config).await.unwrap())
}

/// A folder with the example configuration, changed to two instances and initialised.
async fn two_instances(cloud: &TerraformCloud) -> Cli {
    let cli = Cli::new(cloud, "owner");
    let change = example_change();
    let text = example_configuration()[0].1.replace(change.from, change.to);
    cli.write("main.tf", &text);
    cli.ok(&["init", "-no-color"]).await;
    cli
}

fn instances(cloud: &TerraformCloud) -> usize {
    let state = cloud.state(WORKSPACE).unwrap();
    let resources = state["resources"].as_array().unwrap();
    let instance = resources
        .iter()
        .find(|resource| resource["name"] == "instance");
    instance.map_or(0, |resource| {
        resource["instances"].as_array().unwrap().len()
    })
}

fn asked(cloud: &TerraformCloud, method: &str, ending: &str) -> Vec<Request> {
    let requests = cloud.requests().into_iter();
    requests
        .filter(|r| r.method == method && r.path.ends_with(ending))
        .collect()
}

#[tokio::test]
async fn a_plan_is_rendered_and_changes_nothing() {
    for structured in [true, false] {
        let Some(cloud) = start(|s| s.structured_run_output_enabled = structured).await else {
            return;
        };
        let cli = two_instances(&cloud).await;
        let output = cli.ok(&["plan", "-no-color"]).await;
        assert!(
            output.contains("# terraform_data.instance[1] will be created"),
            "{output}"
        );
        assert!(
            output.contains("Plan: 1 to add, 1 to change, 0 to destroy."),
            "{output}"
        );
        assert!(
            output.matches("will be created").count() == 1,
            "rendered twice: {output}"
        );
        assert!(output.contains("Terraform v"), "{output}");
        let secrets = cloud.secrets();
        assert!(
            !secrets.iter().any(|secret| output.contains(secret)),
            "{output}"
        );
        let redacted = asked(&cloud, "GET", "/json-output-redacted");
        assert_eq!(redacted.is_empty(), !structured);
        assert_eq!(cloud.runs()[0].1, RunStatus::PlannedAndFinished);
        assert_eq!(instances(&cloud), 1);
        cloud.shutdown().await;
    }
}

#[tokio::test]
async fn a_plan_shows_what_is_wrong_with_the_configuration() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let cli = two_instances(&cloud).await;
    cli.write(
        "wrong.tf",
        "output \"wrong\" {\n  value = local.missing\n}\n",
    );
    let ended = cli.run(&["plan", "-no-color"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("undeclared local value"), "{ended:?}");
    assert_eq!(cloud.runs()[0].1, RunStatus::Errored);
}

#[tokio::test]
async fn a_saved_plan_is_shown_and_applied() {
    let Some(cloud) = start(|s| s.auto_apply = true).await else {
        return;
    };
    let cli = two_instances(&cloud).await;
    cli.ok(&["plan", "-no-color", "-out=saved.tfplan"]).await;
    assert_eq!(
        cloud.runs()[0].1,
        RunStatus::PlannedAndSaved,
        "saved plans are never auto-applied"
    );
    let shown = cli.ok(&["show", "-no-color", "saved.tfplan"]).await;
    assert!(
        shown.contains("terraform_data.instance[1] will be created"),
        "{shown}"
    );
    let json = cli.ok(&["show", "-json", "saved.tfplan"]).await;
    assert!(json.contains("\"format_version\":\"1.2\""), "{json}");
    let applied = cli.ok(&["apply", "-no-color", "saved.tfplan"]).await;
    assert!(
        applied.contains("Apply complete! Resources: 1 added, 1 changed"),
        "{applied}"
    );
    assert_eq!(cloud.runs()[0].1, RunStatus::Applied);
    assert_eq!(instances(&cloud), 2);
    assert_eq!(asked(&cloud, "POST", "/actions/apply").len(), 1);
}

#[tokio::test]
async fn a_saved_plan_is_discarded_when_the_state_moves_on() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let cli = two_instances(&cloud).await;
    cli.ok(&["plan", "-no-color", "-out=saved.tfplan"]).await;
    cli.ok(&["apply", "-no-color", "-auto-approve"]).await;
    assert_eq!(cloud.runs()[0].1, RunStatus::Discarded);
    let ended = cli.run(&["apply", "-no-color", "saved.tfplan"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[tokio::test]
async fn auto_approve_applies_without_an_apply_call() {
    for structured in [true, false] {
        let Some(cloud) = start(|s| s.structured_run_output_enabled = structured).await else {
            return;
        };
        let cli = two_instances(&cloud).await;
        let output = cli.ok(&["apply", "-no-color", "-auto-approve"]).await;
        assert!(
            output.contains("Apply complete! Resources: 1 added, 1 changed"),
            "{output}"
        );
        let run = &asked(&cloud, "POST", "/api/v2/runs")[0];
        let body = serde_json::to_value(&run.body).unwrap();
        assert_eq!(body["data"]["attributes"]["auto-apply"], true);
        assert_eq!(run.bearer.as_deref(), Some("owner"));
        assert!(asked(&cloud, "POST", "/actions/apply").is_empty());
        assert_eq!(instances(&cloud), 2);

        // What is there already needs no second apply.
        let again = cli.ok(&["apply", "-no-color", "-auto-approve"]).await;
        assert!(again.contains("No changes."), "{again}");
        assert_eq!(cloud.runs()[1].1, RunStatus::PlannedAndFinished);
        cloud.shutdown().await;
    }
}

#[tokio::test]
async fn the_workspace_decides_when_a_run_does_not_say_auto_apply() {
    for (in_workspace, in_run, applied) in [
        (true, None, true),
        (false, None, false),
        (true, Some(false), false),
        (false, Some(true), true),
    ] {
        let Some(cloud) = start(|s| s.auto_apply = in_workspace).await else {
            return;
        };
        let api = Api::new(&cloud.url(), Some(cloud.token("owner")));
        let change = example_change();
        let text = example_configuration()[0].1.replace(change.from, change.to);
        let files = [("main.tf", text.as_str())];
        let upload = api
            .upload(WORKSPACE, json!({"auto-queue-runs": false}), &files)
            .await;
        let run = api
            .run(WORKSPACE, &upload, json!({"auto-apply": in_run}))
            .await;
        let status = cloud.wait_until_confirmable(&run).await.unwrap();
        let expected = if applied {
            RunStatus::Applied
        } else {
            RunStatus::Planned
        };
        // A run that applies by itself is never confirmable, so the wait is for its end.
        assert_eq!(status, expected, "workspace {in_workspace}, run {in_run:?}");
    }
}

/// How the gateway holds an apply: the CLI wanted `-auto-approve`, the run was made without it,
/// and somebody else confirms it while the CLI waits on the apply's log.
#[tokio::test]
async fn the_cli_waits_for_somebody_else_to_apply() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let cli = two_instances(&cloud).await;
    let hold = held_by_proxy(&cloud).await;
    let mut command = cli.command(&["apply", "-no-color", "-auto-approve"]);
    command.env("TF_CLI_CONFIG_FILE", hold.cli_config());
    let client = tokio::spawn(async move { Ended::from(command.output().await.unwrap()) });

    cloud
        .wait_for_request(|r| r.path.starts_with("/api/v2/applies/"))
        .await;
    let run = cloud.runs()[0].0.clone();
    assert_eq!(
        cloud.wait_until_confirmable(&run).await.unwrap(),
        RunStatus::Planned
    );
    // The CLI has begun to wait for the log of an apply that nobody has confirmed.
    let seen = cloud.requests().len() as u64;
    cloud
        .wait_for_request(|r| r.seq > seen && r.path.starts_with("/v1/object/"))
        .await;
    let executor = Api::new(&cloud.url(), Some(cloud.token("executor")));
    let path = format!("/api/v2/runs/{run}/actions/apply");
    let answer = executor
        .post(&path, &json!({"comment": "approved elsewhere"}))
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);

    let ended = client.await.unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended
            .stdout
            .contains("Apply complete! Resources: 1 added, 1 changed"),
        "{ended:?}"
    );
    assert_eq!(cloud.comments(&run), ["approved elsewhere"]);
    assert_eq!(
        executor.post(&path, &json!({})).await.status,
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn the_cli_ends_when_the_held_run_is_discarded() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let cli = two_instances(&cloud).await;
    let hold = held_by_proxy(&cloud).await;
    let mut command = cli.command(&["apply", "-no-color", "-auto-approve"]);
    command.env("TF_CLI_CONFIG_FILE", hold.cli_config());
    let client = tokio::spawn(async move { Ended::from(command.output().await.unwrap()) });
    cloud
        .wait_for_request(|r| r.path.starts_with("/api/v2/applies/"))
        .await;
    let run = cloud.runs()[0].0.clone();
    let api = Api::new(&cloud.url(), Some(cloud.token("planner")));
    let answer = api
        .post(&format!("/api/v2/runs/{run}/actions/discard"), &json!({}))
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let ended = client.await.unwrap();
    assert!(!ended.stdout.contains("Apply complete!"), "{ended:?}");
    assert!(!ended.stderr.contains("not found"), "{ended:?}");
    assert_eq!(instances(&cloud), 1);
}

#[tokio::test]
async fn a_destroy_empties_the_state() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let cli = Cli::new(&cloud, "owner");
    cli.ok(&["init", "-no-color"]).await;
    let output = cli.ok(&["destroy", "-no-color", "-auto-approve"]).await;
    assert!(output.contains("3 destroyed"), "{output}");
    assert_eq!(cloud.state(WORKSPACE).unwrap()["resources"], json!([]));
}

#[tokio::test]
async fn outputs_and_state_are_read() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let cli = Cli::new(&cloud, "owner");
    cli.ok(&["init", "-no-color"]).await;
    let outputs = cli.ok(&["output", "-no-color"]).await;
    assert!(
        outputs.contains("address = \"https://staging.acme.example\""),
        "{outputs}"
    );
    assert!(outputs.contains("database_url = <sensitive>"), "{outputs}");
    let secret = cloud.secrets().into_iter().find(|secret| {
        cloud
            .state(WORKSPACE)
            .unwrap()
            .to_string()
            .contains(secret.as_str())
    });
    let url = cli.ok(&["output", "-raw", "database_url"]).await;
    assert!(url.contains(&secret.unwrap()), "{url}");
    let state = cli.ok(&["state", "pull"]).await;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["lineage"], cloud.state(WORKSPACE).unwrap()["lineage"]);
    let list = cli.ok(&["state", "list"]).await;
    assert!(list.contains("terraform_data.load_balancer"), "{list}");
}

#[tokio::test]
async fn a_state_is_pushed() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let cli = Cli::new(&cloud, "owner");
    cli.ok(&["init", "-no-color"]).await;
    cli.ok(&["state", "rm", "-no-color", "terraform_data.load_balancer"])
        .await;
    let state = cloud.state(WORKSPACE).unwrap();
    assert!(!state.to_string().contains("load_balancer"), "{state}");
}

#[tokio::test]
async fn options_of_a_plan_reach_the_engine() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let cli = two_instances(&cloud).await;
    let targeted = cli
        .ok(&["plan", "-no-color", "-target=terraform_data.instance"])
        .await;
    assert!(
        targeted.contains("Plan: 1 to add, 0 to change, 0 to destroy."),
        "{targeted}"
    );
    let replaced = cli
        .ok(&["plan", "-no-color", "-replace=terraform_data.database"])
        .await;
    assert!(
        replaced.contains("Plan: 2 to add, 1 to change, 1 to destroy."),
        "{replaced}"
    );
    let destroyed = cli.ok(&["plan", "-no-color", "-destroy"]).await;
    assert!(
        destroyed.contains("0 to add, 0 to change, 3 to destroy."),
        "{destroyed}"
    );
    let refreshed = cli.ok(&["plan", "-no-color", "-refresh-only"]).await;
    assert!(refreshed.contains("No changes."), "{refreshed}");
    let rotated = cli
        .ok(&["plan", "-no-color", "-var=database_password=other"])
        .await;
    assert!(
        rotated.contains("terraform_data.database must be replaced"),
        "{rotated}"
    );
}

#[tokio::test]
async fn a_planner_cannot_apply() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let cli = Cli::new(&cloud, "planner");
    cli.ok(&["init", "-no-color"]).await;
    cli.ok(&["plan", "-no-color"]).await;
    let ended = cli.run(&["apply", "-no-color", "-auto-approve"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("Insufficient rights"), "{ended:?}");
}

#[tokio::test]
async fn a_second_run_waits_for_the_first() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let api = Api::new(&cloud.url(), Some(cloud.token("owner")));
    let change = example_change();
    let text = example_configuration()[0].1.replace(change.from, change.to);
    let files = [("main.tf", text.as_str())];
    let upload = api
        .upload(WORKSPACE, json!({"auto-queue-runs": false}), &files)
        .await;
    let first = api.run(WORKSPACE, &upload, json!({})).await;
    let second = api.run(WORKSPACE, &upload, json!({})).await;
    let speculative = api
        .run(WORKSPACE, &upload, json!({"plan-only": true}))
        .await;
    assert_eq!(
        cloud.wait_until_confirmable(&first).await.unwrap(),
        RunStatus::Planned
    );
    let ended = cloud.wait_until_ended(&speculative).await.unwrap();
    assert_eq!(ended, RunStatus::PlannedAndFinished);
    assert_eq!(cloud.run_status(&second).unwrap(), RunStatus::Pending);
    api.post(&format!("/api/v2/runs/{first}/actions/discard"), &json!({}))
        .await;
    assert_eq!(
        cloud.wait_until_confirmable(&second).await.unwrap(),
        RunStatus::Planned
    );
}

#[tokio::test]
async fn a_run_is_canceled_while_it_plans() {
    let Some(cloud) = start(|_| {}).await else {
        return;
    };
    let gate = cloud
        .set_fault(Fault::once("ENGINE", "plan", FaultAction::Hold))
        .unwrap();
    let api = Api::new(&cloud.url(), Some(cloud.token("planner")));
    let files = example_configuration();
    let upload = api
        .upload(WORKSPACE, json!({"auto-queue-runs": false}), files)
        .await;
    let run = api.run(WORKSPACE, &upload, json!({})).await;
    let answer = api
        .post(&format!("/api/v2/runs/{run}/actions/cancel"), &json!({}))
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert!(cloud.release(&gate) || cloud.run_status(&run).unwrap() == RunStatus::Canceled);
    assert_eq!(
        cloud.wait_until_ended(&run).await.unwrap(),
        RunStatus::Canceled
    );
    // The workspace is free for the next.
    let next = api.run(WORKSPACE, &upload, json!({})).await;
    assert_eq!(
        cloud.wait_until_ended(&next).await.unwrap(),
        RunStatus::PlannedAndFinished
    );
}
