//! Runs that wait for their workspace, with a bound and without.

use serde_json::json;
use sim::RunStatus;
use store::GateState;

use crate::evidence::begun;
use crate::terraform::words;
use crate::world::{APP, Setup, World, terraform};

/// A person starts a run past the gateway, which waits to be confirmed; its id.
async fn a_persons_run(world: &World) -> String {
    let owner = world.upstream("owner");
    let text = crate::terraform::two_instances();
    let upload = owner.upload(APP, false, &[("main.tf", &text)]).await;
    let made = owner.run(APP, &upload.unwrap(), &json!({})).await.ok();
    let run = made["data"]["id"].as_str().unwrap().to_owned();
    world.cloud.wait_until_confirmable(&run).await.unwrap();
    run
}

async fn act(world: &World, path: &str) {
    world.upstream("owner").send(path, &json!({})).await.ok();
}

#[tokio::test]
async fn a_lock_timeout_cancels_the_run_that_waits_and_no_other() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let first = world.agent().held_run().await;
    let cli = world.cli().await;
    // Not a whole second: where the timeout meets a look at the run, the CLI ends without a word.
    let arguments = ["apply", "-auto-approve", "-lock-timeout=1700ms"];
    let output = words(&cli.run(&arguments).await.output);
    assert!(output.contains("Lock timeout exceeded"), "{output}");
    assert!(
        output.contains("The remote operation was successfully cancelled."),
        "{output}"
    );
    let second = world.any_run_at(GateState::Discarded).await.run_id;
    assert_ne!(first, second);
    let ended = world.cloud.wait_until_ended(&second).await.unwrap();
    assert_eq!(ended, RunStatus::Canceled);
    // The run that was in the way is as it was.
    assert_eq!(world.run(&first).await.gate, GateState::AwaitingApproval);
    world.approve(&first).await;
    world.run_at(&first, GateState::Applied).await;
    assert_eq!(world.run(&second).await.gate, GateState::Discarded);
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
    let bundle = world.valid_evidence().await;
    assert_eq!(begun(&bundle, "cancel-run"), 1);
}

#[tokio::test]
async fn a_run_waits_for_the_jobs_earlier_one_and_goes_on() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let first = world.agent().held_run().await;
    let cli = world.cli().await;
    let mut session = cli.begin(&["apply", "-auto-approve", "-lock-timeout=120s"]);
    session.says("Waiting for").await;
    world.deny(&first, "the second one will do").await;
    let (ended, second) = tokio::join!(session.ended(), world.approve_when_asked());
    let output = ended.ok();
    assert!(output.contains("Apply complete!"), "{output}");
    assert_ne!(first, second);
    assert_eq!(world.instances(), 2);
    world.valid_evidence().await;
}

/// What stands before the agent's run is a person's, of which the agent is told nothing.
#[tokio::test]
async fn a_run_waits_for_one_of_somebody_elses() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let theirs = a_persons_run(&world).await;
    let cli = world.cli().await;
    let mut session = cli.begin(&["apply", "-auto-approve", "-lock-timeout=120s"]);
    session.says("Waiting for").await;
    act(&world, &format!("/api/v2/runs/{theirs}/actions/discard")).await;
    let (ended, own) = tokio::join!(session.ended(), world.approve_when_asked());
    let output = ended.ok();
    assert!(output.contains("Apply complete!"), "{output}");
    assert_ne!(theirs, own);
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_run_waits_for_a_workspace_that_a_person_has_locked() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    act(&world, &format!("/api/v2/workspaces/{APP}/actions/lock")).await;
    let cli = world.cli().await;
    let mut session = cli.begin(&["apply", "-auto-approve", "-lock-timeout=120s"]);
    session
        .says("Waiting for the manually locked workspace to be unlocked...")
        .await;
    act(&world, &format!("/api/v2/workspaces/{APP}/actions/unlock")).await;
    let (ended, _) = tokio::join!(session.ended(), world.approve_when_asked());
    let output = ended.ok();
    assert!(output.contains("Apply complete!"), "{output}");
    world.valid_evidence().await;
}
