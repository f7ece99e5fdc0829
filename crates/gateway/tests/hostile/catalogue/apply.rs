//! B: an apply out of a grant that does not hold one.

use serde_json::{Value, json};
use sim::{Fault, FaultAction, Request};

use crate::flow::run_on;
use crate::rig::{Reply, Rig};

/// Requests for new runs that reached upstream.
pub(super) fn made(rig: &Rig) -> Vec<Request> {
    let requests = rig.sandbox.cloud.requests().into_iter();
    requests
        .filter(|r| r.method == "POST" && r.path == "/api/v2/runs")
        .collect()
}

/// The attributes of the last run that was asked for upstream.
pub(super) fn sent(rig: &Rig) -> Value {
    let request = made(rig).pop().expect("a run was asked for");
    serde_json::to_value(&request.body).unwrap()["data"].clone()
}

#[track_caller]
pub(super) fn id(reply: &Reply) -> String {
    reply.ok()["data"]["id"].as_str().unwrap().to_owned()
}

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
        sent(&rig)["relationships"]["configuration-version"]["data"]["id"],
        json!(theirs.configuration)
    );
}
