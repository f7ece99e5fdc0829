//! The real engine behind the stand-in: what reaches it, what it can reach, and how it fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use sim::{
    Credential, Fault, FaultAction, Rights, RunStatus, Settings, TerraformCloud,
    TerraformCloudConfig, VariableSeed,
};
use support::{Api, terraform};

const WORKSPACE: &str = "ws-staging-db";
const APPLY: &str = "auto-apply";

/// A stand-in with the real engine, and the variables of its workspace.
async fn start(variables: &[(&str, &str, bool)]) -> Option<TerraformCloud> {
    let mut config = TerraformCloudConfig::acme(terraform()?)
        .with_credential(Credential::random("owner", Rights::OWNER));
    let seed = config
        .workspaces
        .iter_mut()
        .find(|seed| seed.id == WORKSPACE)
        .unwrap();
    seed.state = None;
    seed.variables = variables
        .iter()
        .map(|(key, value, environment)| VariableSeed {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
            sensitive: false,
            environment: *environment,
        })
        .collect();
    Some(TerraformCloud::start(config).await.unwrap())
}

/// Applies files and answers with the run's id, how it ended, and the outputs in the state.
async fn applied(
    cloud: &TerraformCloud,
    attributes: Value,
    files: &[(&str, &str)],
) -> (String, RunStatus, Value) {
    let api = Api::new(&cloud.url(), Some(cloud.token("owner")));
    let upload = api
        .upload(WORKSPACE, json!({"auto-queue-runs": false}), files)
        .await;
    let mut wishes = json!({APPLY: true});
    wishes
        .as_object_mut()
        .unwrap()
        .extend(attributes.as_object().unwrap().clone());
    let run = api.run(WORKSPACE, &upload, wishes).await;
    let status = cloud.wait_until_ended(&run).await.unwrap();
    let state = cloud.state(WORKSPACE).unwrap_or_default();
    (run, status, state["outputs"].clone())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_engine_sees_nothing_of_our_environment() {
    let Some(cloud) = start(&[("VISIBLE", "in-the-workspace", true)]).await else {
        return;
    };
    let spy = "output \"seen\" {\n  value = replace(file(\"/proc/self/environ\"), \"\\u0000\", \"\\n\")\n}\n";
    let (run, status, outputs) = applied(&cloud, json!({}), &[("main.tf", spy)]).await;
    assert_eq!(status, RunStatus::Applied, "{:?}", cloud.logs(&run));
    let seen = outputs["seen"]["value"].as_str().unwrap();
    let mut names: Vec<&str> = seen
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    names.sort_unstable();
    let expected = [
        "CHECKPOINT_DISABLE",
        "HOME",
        "PATH",
        "TF_CLI_CONFIG_FILE",
        "TF_INPUT",
        "TF_IN_AUTOMATION",
        "VISIBLE",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn variables_of_the_run_win_over_those_of_the_workspace() {
    let Some(cloud) = start(&[("a", "workspace", false), ("b", "workspace", false)]).await else {
        return;
    };
    let main = "variable \"a\" {}\nvariable \"b\" {}\nvariable \"c\" { type = list(number) }\n\
                output \"all\" { value = \"${var.a} ${var.b} ${length(var.c)}\" }\n";
    let variables = json!({"variables": [
        {"key": "b", "value": "\"run\""},
        {"key": "c", "value": "[1, 2, 3]"},
    ]});
    let (run, status, outputs) = applied(&cloud, variables, &[("main.tf", main)]).await;
    assert_eq!(status, RunStatus::Applied, "{:?}", cloud.logs(&run));
    assert_eq!(outputs["all"]["value"], "workspace run 3");
}

#[tokio::test]
async fn the_working_directory_is_that_of_the_workspace() {
    let Some(cloud) = start(&[]).await else {
        return;
    };
    let main = "output \"where\" { value = basename(abspath(path.root)) }\n";
    let files = [
        ("network/main.tf", main),
        ("main.tf", "this is not terraform"),
    ];
    for (folder, expected) in [
        ("network", RunStatus::Applied),
        ("../..", RunStatus::Errored),
    ] {
        let set = |settings: &mut Settings| settings.working_directory = Some(folder.to_owned());
        cloud.change_settings(WORKSPACE, set).unwrap();
        let (run, status, outputs) = applied(&cloud, json!({}), &files).await;
        assert_eq!(status, expected, "{:?}", cloud.logs(&run));
        assert_eq!(outputs["where"]["value"], "network");
    }
}

#[tokio::test]
async fn a_provider_that_is_not_built_in_is_not_fetched() {
    let Some(cloud) = start(&[]).await else {
        return;
    };
    let main = "resource \"null_resource\" \"a\" {}\n";
    let (run, status, _) = applied(&cloud, json!({}), &[("main.tf", main)]).await;
    assert_eq!(status, RunStatus::Errored);
    let (log, _) = cloud.logs(&run).unwrap();
    assert!(log.contains("hashicorp/null"), "{log}");
}

#[tokio::test]
async fn an_upload_that_is_no_archive_fails_the_plan() {
    let Some(cloud) = start(&[]).await else {
        return;
    };
    let api = Api::new(&cloud.url(), Some(cloud.token("owner")));
    let body = json!({"data": {"type": "configuration-versions", "attributes": {}}});
    let path = format!("/api/v2/workspaces/{WORKSPACE}/configuration-versions");
    let created = api.post(&path, &body).await.json();
    let url = created["data"]["attributes"]["upload-url"]
        .as_str()
        .unwrap();
    let nobody = Api::new("", None);
    assert_eq!(
        nobody
            .send(http::Method::PUT, url, "not gzip")
            .await
            .unwrap()
            .status,
        200
    );
    let run = cloud.runs()[0].0.clone();
    assert_eq!(
        cloud.wait_until_ended(&run).await.unwrap(),
        RunStatus::Errored
    );
    let (log, _) = cloud.logs(&run).unwrap();
    assert!(log.contains("cannot unpack the configuration"), "{log}");
}

#[tokio::test]
async fn a_failed_apply_keeps_what_was_made() {
    let Some(cloud) = start(&[]).await else {
        return;
    };
    let main = "resource \"terraform_data\" \"good\" { input = 1 }\n\
                resource \"terraform_data\" \"bad\" {\n  depends_on = [terraform_data.good]\n  \
                provisioner \"local-exec\" { command = \"exit 3\" }\n}\n";
    let (run, status, _) = applied(&cloud, json!({}), &[("main.tf", main)]).await;
    assert_eq!(status, RunStatus::Errored);
    assert!(
        cloud
            .state(WORKSPACE)
            .unwrap()
            .to_string()
            .contains("\"good\"")
    );
    let api = Api::new(&cloud.url(), Some(cloud.token("owner")));
    let apply = api.get(&format!("/api/v2/runs/{run}/apply")).await.json();
    assert_eq!(apply["data"]["attributes"]["status"], "errored");
    let (_, log) = cloud.logs(&run).unwrap();
    assert!(log.contains("exit status 3"), "{log}");
    // The workspace is free again.
    let main = "resource \"terraform_data\" \"good\" { input = 1 }\n";
    let (_, status, _) = applied(&cloud, json!({}), &[("main.tf", main)]).await;
    assert_eq!(status, RunStatus::Applied);
}

#[tokio::test]
async fn an_apply_fails_on_request() {
    let Some(cloud) = start(&[]).await else {
        return;
    };
    cloud
        .set_fault(Fault::once("ENGINE", "apply", FaultAction::Status(500)))
        .unwrap();
    let main = "resource \"terraform_data\" \"a\" {}\n";
    let (run, status, _) = applied(&cloud, json!({}), &[("main.tf", main)]).await;
    assert_eq!(status, RunStatus::Errored);
    assert!(cloud.logs(&run).unwrap().1.contains("a fault was set"));
    assert_eq!(cloud.state(WORKSPACE), None);
}
