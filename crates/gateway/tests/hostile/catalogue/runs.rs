//! B: what a run may ask for.

use serde_json::{Value, json};

use super::{id, made, permitting, posted, refused, sent};
use crate::flow::{archive, good_archive, run_on};
use crate::rig::{Call, Rig};

impl Rig {
    fn wish(&self, configuration: &str, attributes: &Value) -> Call {
        let mut body = run_on("ws-staging-app", Some(configuration));
        body["data"]["attributes"] = attributes.clone();
        self.agent("POST", "/api/v2/runs").json_api(&body)
    }
}

/// Asks for runs that must each be refused with its code, in both spellings.
async fn wishes_refused(rig: &Rig, wishes: &[(Value, &'static str)]) {
    let configuration = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    let mut calls = Vec::new();
    for (attributes, code) in wishes {
        calls.push((rig.wish(&configuration, attributes), *code));
        let underscored: serde_json::Map<String, Value> = attributes
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.replace('-', "_"), value.clone()))
            .collect();
        calls.push((rig.wish(&configuration, &underscored.into()), *code));
    }
    refused(rig, calls).await;
}

#[tokio::test]
async fn b01_a_wish_to_apply_is_never_passed_on() {
    let rig = Rig::start().await;
    let configuration = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    for attributes in [
        json!({"auto-apply": true}),
        json!({"auto_apply": true, "message": "x"}),
    ] {
        let run = id(&rig.wish(&configuration, &attributes).send().await);
        assert_eq!(
            sent(&rig, "/runs")["attributes"]["auto-apply"],
            json!(false)
        );
        rig.sandbox
            .cloud
            .wait_until_confirmable(&run)
            .await
            .unwrap();
        rig.agent("POST", &format!("/api/v2/runs/{run}/actions/discard"))
            .json_api(&json!({}))
            .send()
            .await
            .ok();
    }
    assert!(posted(&rig, "/actions/apply").is_empty());
    let both = rig.wish(
        &configuration,
        &json!({"auto-apply": false, "auto_apply": true}),
    );
    refused(&rig, vec![(both, "BODY_BOTH_SPELLINGS")]).await;
}

#[tokio::test]
async fn b02_what_is_not_said_is_not_left_to_the_workspace() {
    let rig = Rig::start().await;
    let change = |settings: &mut sim::Settings| settings.auto_apply = true;
    rig.sandbox
        .cloud
        .change_settings("ws-staging-app", change)
        .unwrap();
    let configuration = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    let run = id(&rig.wish(&configuration, &json!({})).send().await);
    let said = sent(&rig, "/runs")["attributes"].clone();
    for (name, value) in [
        ("auto-apply", false),
        ("plan-only", false),
        ("save-plan", false),
        ("is-destroy", false),
        ("refresh-only", false),
        ("refresh", true),
    ] {
        assert_eq!(said[name], json!(value), "{name}");
    }
    let status = rig
        .sandbox
        .cloud
        .wait_until_confirmable(&run)
        .await
        .unwrap();
    assert_eq!(status, sim::RunStatus::Planned);
}

#[tokio::test]
async fn b03_an_upload_starts_no_run() {
    let rig = Rig::start().await;
    let path = "/api/v2/workspaces/ws-staging-app/configuration-versions";
    for attributes in [
        json!({}),
        json!({"auto-queue-runs": true}),
        json!({"auto_queue_runs": true}),
    ] {
        let body = json!({"data": {"type": "configuration-versions", "attributes": attributes}});
        let opened = rig.agent("POST", path).json_api(&body).send().await.ok();
        let said = sent(&rig, "/configuration-versions")["attributes"].clone();
        assert_eq!(said["auto-queue-runs"], json!(false));
        assert_eq!(said["speculative"], json!(false));
        let upload = opened["data"]["attributes"]["upload-url"].as_str().unwrap();
        rig.upload(&crate::flow::path_of(upload), good_archive())
            .await
            .ok();
    }
    assert!(rig.sandbox.cloud.runs().is_empty());
}

#[tokio::test]
async fn b06_an_empty_apply_is_not_asked_for() {
    let rig = Rig::start().await;
    wishes_refused(
        &rig,
        &[(
            json!({"allow-empty-apply": true}),
            "EMPTY_APPLY_NOT_ALLOWED",
        )],
    )
    .await;
}

#[tokio::test]
async fn b07_b08_refreshing_and_destroying_need_the_contracts_word_and_the_same_approval() {
    let rig = Rig::start().await;
    let wishes = [
        (json!({"refresh-only": true}), "REFRESH_ONLY_NOT_ALLOWED"),
        (json!({"is-destroy": true}), "DESTROY_NOT_ALLOWED"),
        (
            json!({"is-destroy": true, "auto-apply": true}),
            "DESTROY_NOT_ALLOWED",
        ),
    ];
    wishes_refused(&rig, &wishes).await;
    // Allowed, they are still rewritten, held and asked about.
    let rig = Rig::under(&permitting(
        "\"run\": {\"destroy\": true, \"refresh_only\": true}",
    ))
    .await;
    let configuration = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    let wish = json!({"is-destroy": true, "auto-apply": true});
    let run = id(&rig.wish(&configuration, &wish).send().await);
    let said = sent(&rig, "/runs")["attributes"].clone();
    assert_eq!(
        (&said["is-destroy"], &said["auto-apply"]),
        (&json!(true), &json!(false))
    );
    rig.sandbox
        .cloud
        .wait_until_confirmable(&run)
        .await
        .unwrap();
    let apply = rig.agent("POST", &format!("/api/v2/runs/{run}/actions/apply"));
    assert_eq!(apply.json_api(&json!({})).send().await.status, 202);
    assert!(posted(&rig, "/actions/apply").is_empty());
    let wish = json!({"refresh-only": true, "message": "drift"});
    id(&rig.wish(&configuration, &wish).send().await);
    let said = sent(&rig, "/runs")["attributes"].clone();
    assert_eq!(
        (&said["refresh-only"], &said["auto-apply"]),
        (&json!(true), &json!(false))
    );
}

#[tokio::test]
async fn b09_actions_of_providers_are_not_invoked() {
    let rig = Rig::start().await;
    let wish = json!({"invoke-action-addrs": ["action.aws_lambda_invoke.x"]});
    wishes_refused(&rig, &[(wish, "ACTION_INVOCATION_NOT_ALLOWED")]).await;
    let (_, path) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
    let hidden = archive(&[("main.tf", "action \"aws_lambda_invoke\" \"x\" {\n}\n")]);
    let seen = rig.seen();
    let refusal = rig.upload(&path, hidden).await.refusal();
    assert_eq!(refusal, (422, "CONFIGURATION_BLOCK".to_owned()));
    rig.assert_silent(&seen, "a block with an action");
}

#[tokio::test]
async fn b21_words_are_shown_as_words() {
    let rig = Rig::start().await;
    let configuration = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    let said = "Approved by\r\ninfra-lead@example.com\u{202e} \u{200b}(Clawgate job_other)";
    let wish = json!({"message": said, "comment": "APPROVED"});
    let run = id(&rig.wish(&configuration, &wish).send().await);
    let sent = sent(&rig, "/runs")["attributes"].clone();
    assert_eq!(sent.get("comment"), None);
    let message = sent["message"].as_str().unwrap();
    assert!(
        !message
            .chars()
            .any(|c| c.is_control() || c == '\u{202e}' || c == '\u{200b}')
    );
    // Who really asks stands where the agent's words cannot.
    assert!(
        message.ends_with(&format!("(Clawgate {})", rig.sandbox.job_id)),
        "{message}"
    );
    let path = format!("/api/v2/runs/{run}/comments");
    let body = json!({"data": {"type": "comments", "attributes": {"body": "approved"}}});
    refused(
        &rig,
        vec![(rig.agent("POST", &path).json_api(&body), "COMMENT_DENIED")],
    )
    .await;
}

#[tokio::test]
async fn b23_the_version_is_the_workspaces() {
    let rig = Rig::start().await;
    let wish = json!({"terraform-version": "0.12.0", "plan-only": true});
    wishes_refused(&rig, &[(wish, "TERRAFORM_VERSION_NOT_ALLOWED")]).await;
}

#[tokio::test]
async fn b26_a_budget_is_not_escaped_by_targets() {
    let permitted =
        permitting("\"run\": {\"targets\": true}, \"cost\": {\"max_monthly_total_usd\": \"10\"}");
    let rig = Rig::under(&permitted).await;
    let wish = json!({"target-addrs": ["terraform_data.instance"]});
    wishes_refused(&rig, &[(wish, "TARGETS_NOT_ALLOWED")]).await;
}

#[tokio::test]
async fn d14_variables_of_a_run_are_named_by_the_contract() {
    let rig = Rig::under(&permitting("\"run\": {\"variables\": [\"size\"]}")).await;
    let variable = |key: &str| json!({"key": key, "value": "\"x\""});
    let named =
        |keys: &[&str]| json!({"variables": keys.iter().map(|k| variable(k)).collect::<Vec<_>>()});
    wishes_refused(
        &rig,
        &[
            (named(&["TF_CLI_ARGS_apply"]), "RUN_VARIABLES_NOT_ALLOWED"),
            (
                named(&["size", "AWS_ENDPOINT_URL"]),
                "RUN_VARIABLES_NOT_ALLOWED",
            ),
            (named(&["size", "size"]), "BODY_WRONG_TYPE"),
            (
                json!({"variables": [{"key": "size", "value": "1", "category": "env"}]}),
                "BODY_UNKNOWN_MEMBER",
            ),
        ],
    )
    .await;
    let configuration = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    rig.wish(&configuration, &named(&["size"]))
        .send()
        .await
        .ok();
    assert_eq!(made(&rig).len(), 1);
}

#[tokio::test]
async fn d05_d09_modes_that_print_or_write_more_are_refused() {
    let rig = Rig::start().await;
    wishes_refused(
        &rig,
        &[
            (json!({"debugging-mode": true}), "DEBUGGING_NOT_ALLOWED"),
            (
                json!({"allow-config-generation": true}),
                "CONFIG_GENERATION_NOT_ALLOWED",
            ),
            (json!({"policy-paths": ["p"]}), "POLICY_PATHS_NOT_ALLOWED"),
            (json!({"something-new": true}), "RUN_ATTRIBUTE_UNKNOWN"),
        ],
    )
    .await;
}
