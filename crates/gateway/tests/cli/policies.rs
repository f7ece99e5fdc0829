//! Policies of the organization that a plan fails.

use serde_json::json;
use sim::{PolicyOutcome, RunStatus};
use store::GateState;

use crate::evidence::{begun, judgements, refusals};
use crate::terraform::words;
use crate::world::{APP, Setup, World, terraform};

const SAID: &str = "Sentinel Result: false\n\nno-changes-on-fridays: failed\n";

async fn under(outcome: PolicyOutcome) -> World {
    let world = Setup::new().start().await;
    world.cloud.set_policy(APP, outcome, SAID).unwrap();
    world
}

/// Nobody tried to override anything, and nothing was applied.
fn not_overridden(world: &World) {
    let tried = world.asked("POST", "/actions/override");
    assert!(tried.is_empty(), "{tried:#?}");
    assert!(world.asked("POST", "/actions/apply").is_empty());
    assert_eq!(world.instances(), 1);
}

#[tokio::test]
async fn b19_a_soft_failure_ends_the_cli_without_an_offer_to_override() {
    if terraform().is_none() {
        return;
    }
    for (arguments, answer) in [
        (&["apply", "-auto-approve"][..], ""),
        (&["apply"], "override\n"),
    ] {
        let world = under(PolicyOutcome::SoftFailed).await;
        let cli = world.cli().await;
        let output = words(&cli.answered(arguments, answer).await.failed());
        assert!(output.contains("no-changes-on-fridays: failed"), "{output}");
        assert!(
            output.contains("Organization Policy Check soft failed."),
            "{output}"
        );
        assert!(!output.contains("Do you want to override"), "{output}");
        not_overridden(&world);
        let run = world.runs().await.remove(0).run_id;
        let status = world.cloud.run_status(&run).unwrap();
        assert_eq!(status, RunStatus::PolicyOverride);
        let read = world.agent().get(&format!("/api/v2/runs/{run}")).await.ok();
        let checks = &read["data"]["relationships"]["policy-checks"]["data"];
        let check = checks[0]["id"].as_str().unwrap();
        let path = format!("/api/v2/policy-checks/{check}/actions/override");
        let tried = world.agent().send(&path, &json!({})).await;
        assert_eq!(tried.code(), "POLICY_OVERRIDE_DENIED", "{}", tried.text());
        not_overridden(&world);
        let bundle = world.valid_evidence().await;
        assert!(
            refusals(&bundle)
                .iter()
                .any(|code| code == "POLICY_OVERRIDE_DENIED")
        );
        assert_eq!(judgements(&bundle), 0);
        assert_eq!(
            world.cloud.run_status(&run).unwrap(),
            RunStatus::Discarded,
            "it goes with its job"
        );
    }
}

#[tokio::test]
async fn a_plan_shows_the_soft_failure_and_ends() {
    if terraform().is_none() {
        return;
    }
    let world = under(PolicyOutcome::SoftFailed).await;
    let cli = world.cli().await;
    let output = words(&cli.run(&["plan", "-input=false"]).await.failed());
    assert!(output.contains("Plan: 1 to add, 1 to change"), "{output}");
    assert!(
        output.contains("Organization Policy Check soft failed."),
        "{output}"
    );
    let run = world.any_run_at(GateState::Errored).await.run_id;
    assert_eq!(
        world.cloud.run_status(&run).unwrap(),
        RunStatus::PolicySoftFailed
    );
    not_overridden(&world);
    let bundle = world.valid_evidence().await;
    assert_eq!(bundle.terraform.runs[0].status, "policy_soft_failed");
}

#[tokio::test]
async fn a_hard_failure_reads_as_what_it_is() {
    if terraform().is_none() {
        return;
    }
    for arguments in [&["plan", "-input=false"][..], &["apply", "-auto-approve"]] {
        let world = under(PolicyOutcome::HardFailed).await;
        let cli = world.cli().await;
        let output = words(&cli.run(arguments).await.failed());
        assert!(output.contains("no-changes-on-fridays: failed"), "{output}");
        assert!(
            output.contains("Organization Policy Check hard failed."),
            "{output}"
        );
        world.any_run_at(GateState::Errored).await;
        not_overridden(&world);
        let bundle = world.valid_evidence().await;
        assert_eq!(begun(&bundle, "apply-run"), 0);
    }
}

/// A person may override it upstream, and is then asked for an approval all the same.
#[tokio::test]
async fn what_a_person_overrides_still_waits_for_its_approval() {
    let world = under(PolicyOutcome::SoftFailed).await;
    let agent = world.agent();
    let upload = agent.upload().await;
    let made = agent.run(&upload, &json!({"auto-apply": true})).await.ok();
    let run = made["data"]["id"].as_str().unwrap();
    let stands = world.until(async || {
        let run = world.run(run).await;
        (run.status == "policy_override").then_some(run)
    });
    assert_eq!(stands.await.gate, GateState::Planned);
    let owner = world.upstream("owner");
    let read = owner
        .get(&format!("/api/v2/runs/{run}/policy-checks"))
        .await
        .ok();
    let check = read["data"][0]["id"].as_str().unwrap();
    let path = format!("/api/v2/policy-checks/{check}/actions/override");
    owner.send(&path, &json!({})).await.ok();
    world.app().gate.wake(run);
    world.run_at(run, GateState::AwaitingApproval).await;
    assert!(world.asked("POST", "/actions/apply").is_empty());
    world.approve(run).await;
    world.run_at(run, GateState::Applied).await;
    assert_eq!(judgements(&world.valid_evidence().await), 1);
}

#[tokio::test]
async fn policies_that_pass_are_no_hindrance() {
    if terraform().is_none() {
        return;
    }
    let world = under(PolicyOutcome::Passed).await;
    let cli = world.cli().await;
    let (ended, _) = tokio::join!(
        cli.run(&["apply", "-auto-approve"]),
        world.approve_when_asked()
    );
    assert!(ended.ok().contains("Apply complete!"));
    assert_eq!(world.instances(), 2);
    world.valid_evidence().await;
}
