//! B: an apply out of a grant that does not hold one.

use serde_json::json;
use sim::{Fault, FaultAction, PolicyOutcome};

use super::{id, refused, sent};
use crate::flow::run_on;
use crate::rig::Rig;

#[tokio::test]
async fn b24_a_repeated_request_is_the_same_run_until_its_answer_is_used() {
    let rig = Rig::start().await;
    let token = rig.sandbox.cst.clone();
    let configured = rig.uploaded(&token, "ws-staging-app").await;
    let body = run_on("ws-staging-app", Some(&configured));
    // Another request of the same job plans the same configuration: it is not mistaken for it.
    let mut other = body.clone();
    other["data"]["attributes"]["message"] = json!("another");
    let another = id(&rig.start_run(&token, &other).await);
    // The answer is lost on the way to us: the repetition finds the run that was made.
    let fault = Fault::once("POST", "/api/v2/runs", FaultAction::CloseMidway);
    rig.sandbox.cloud.set_fault(fault).unwrap();
    let lost = rig.start_run(&token, &body).await;
    assert_eq!(lost.status, 503, "{}", lost.whole);
    let first = id(&rig.start_run(&token, &body).await);
    assert_ne!(first, another);
    assert_eq!(rig.sandbox.cloud.runs().len(), 2);
    // The answer is lost on the way to the client: the repetition gets the same run, even when
    // it has ended.
    rig.person("POST", &format!("/api/v2/runs/{another}/actions/discard"))
        .json_api(&json!({}))
        .send()
        .await
        .ok();
    rig.sandbox
        .cloud
        .wait_until_confirmable(&first)
        .await
        .unwrap();
    assert_eq!(id(&rig.start_run(&token, &body).await), first);
    // The client has the id, so the same request is a new wish.
    rig.agent("GET", &format!("/api/v2/runs/{first}"))
        .send()
        .await
        .ok();
    rig.agent("POST", &format!("/api/v2/runs/{first}/actions/discard"))
        .json_api(&json!({}))
        .send()
        .await
        .ok();
    let second = id(&rig.start_run(&token, &body).await);
    assert_ne!(second, first);
    assert_eq!(rig.sandbox.cloud.runs().len(), 3);
}

#[tokio::test]
async fn b24_a_run_of_somebody_else_is_never_taken_for_a_lost_one() {
    let rig = Rig::start().await;
    let theirs = rig.planned_by_a_person("ws-staging-app").await;
    // Never arrives upstream; nothing was made, and what is there is not ours.
    let fault = Fault::once("POST", "/api/v2/runs", FaultAction::Status(503));
    rig.sandbox.cloud.set_fault(fault).unwrap();
    let body = run_on("ws-staging-app", None);
    let token = rig.sandbox.cst.clone();
    assert_eq!(rig.start_run(&token, &body).await.status, 503);
    let own = id(&rig.start_run(&token, &body).await);
    assert_ne!(own, theirs.run);
    assert_eq!(
        sent(&rig, "/runs")["relationships"]["configuration-version"]["data"]["id"],
        json!(theirs.configuration)
    );
}

#[tokio::test]
async fn b19_policies_are_not_overridden() {
    let rig = Rig::start().await;
    let token = rig.sandbox.cst.clone();
    let own = rig.planned(&token).await;
    let key = "AKIAQ3EGXMPLE7TESTAB";
    let output = format!("Sentinel Result: false\nsaw {key}\n");
    let check = rig
        .sandbox
        .cloud
        .check_policy(&own.run, PolicyOutcome::SoftFailed, &output)
        .unwrap();
    let read = async |path: &str| rig.agent("GET", path).send().await;
    // Unknown until the run has told of it.
    let path = format!("/api/v2/policy-checks/{check}");
    assert_eq!(
        read(&path).await.refusal(),
        (404, "OBJECT_UNKNOWN".to_owned())
    );
    let run = read(&format!("/api/v2/runs/{}", own.run)).await.ok();
    let related = &run["data"]["relationships"]["policy-checks"]["data"][0]["id"];
    assert_eq!(related, &json!(check));
    for path in [
        path.clone(),
        format!("/api/v2/runs/{}/policy-checks", own.run),
    ] {
        let answer = read(&path).await.ok();
        let shown = answer["data"]
            .as_array()
            .map_or(&answer["data"], |list| &list[0]);
        assert_eq!(shown["attributes"]["status"], json!("soft_failed"));
        assert_eq!(
            shown["attributes"]["actions"],
            json!({"is-overridable": false})
        );
        assert_eq!(
            shown["attributes"]["permissions"],
            json!({"can-override": false})
        );
        assert_eq!(shown["attributes"]["result"].get("sentinel"), None);
    }
    let printed = read(&format!("{path}/output")).await;
    assert_eq!(printed.status, 200);
    assert_eq!(printed.text(), output.replace(key, "AKIA****************"));
    // Another job sees none of it, and nobody overrides.
    let stranger = rig.token(&rig.job().await).await;
    let post = |path: String| rig.agent("POST", &path).json_api(&json!({}));
    refused(
        &rig,
        vec![
            (
                rig.nobody("GET", &path).bearer(&stranger),
                "OBJECT_NOT_OWNED",
            ),
            (
                post(format!("{path}/actions/override")),
                "POLICY_OVERRIDE_DENIED",
            ),
            (
                post("/api/v2/task-stages/ts-1/actions/override".into()),
                "POLICY_OVERRIDE_DENIED",
            ),
            (
                post("/api/v2/tf-policy-evaluations/tfpe-1/actions/override".into()),
                "POLICY_OVERRIDE_DENIED",
            ),
        ],
    )
    .await;
}
