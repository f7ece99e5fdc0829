//! What a browser and its authenticator sign, proven offline.

use clawverify::{Options, Verdict, verify};
use proof::bundle::Bundle;
use serde_json::json;
use store::GateState;

use crate::world::World;

/// The form that wants a passkey.
const BUTTON: &str = "form[data-passkey] button";

#[tokio::test]
async fn what_a_browser_signed_is_proven_offline() {
    let Some(world) = World::start().await else {
        return;
    };
    let browser = &world.browser;
    let operator = world.operator();
    let person = &world.sandbox.approvers[0].email;
    let invite = json!({ "email": person });
    let invited = operator.post("/v1/approvers/invite", &invite).await.ok();
    let authenticator = browser.authenticator().await;
    browser.open(invited["link"].as_str().unwrap()).await;
    // Whoever merely holds the device enrols nothing, and the link stays good.
    browser.recognises(&authenticator, false).await;
    browser.click(BUTTON).await;
    browser.sees("Nothing was signed").await;
    assert_eq!(world.app().store.passkeys().await.unwrap(), []);
    browser.recognises(&authenticator, true).await;
    browser.click(BUTTON).await;
    browser.sees("Your passkey is enrolled").await;

    browser.open(&world.url("/sign-in")).await;
    browser.click(BUTTON).await;
    browser.sees("Nothing waits for a person").await;
    let run = world.held_run("Two instances").await;
    browser.open(&world.url(&format!("/approvals/{run}"))).await;
    browser.click(BUTTON).await;
    world.until(&run, GateState::Applied).await;
    let own = world.url("/");
    for asked in browser.requests().await {
        let ours = asked.starts_with(&own) || asked.starts_with("data:");
        assert!(ours, "{asked}");
    }

    let job = &world.sandbox.job_id;
    let close = format!("/v1/jobs/{job}/close");
    operator
        .post(&close, &json!({ "reason": "done" }))
        .await
        .ok();
    let bundle = operator.get(&format!("/v1/jobs/{job}/bundle")).await;
    let trust = operator.get("/v1/trust").await;
    let report = verify(&bundle.body, &trust.body, &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    // The browser that signed can check it as well.
    browser.open(&world.url("/trust-pulse/check")).await;
    let checked = world.checked(&bundle.body, &trust.body).await;
    assert_eq!(checked["verdict"], "no_fault_found", "{checked:#}");
    let bundle: Bundle = serde_json::from_slice(&bundle.body).unwrap();
    assert_eq!(bundle.approvals.len(), 1);
    assert!(bundle.approvals[0].is_by_passkey());
}
