//! Ctrl-C: whoever gives up waiting has given up the apply.

use serde_json::json;
use sim::{Fault, FaultAction, FaultId, Request, RunStatus};
use store::GateState;

use crate::evidence::{begun, judgements};
use crate::terraform::{Cli, Session, words};
use crate::world::{Setup, World, terraform};

/// What the CLI says when it has cancelled.
const CANCELLED: &str = "The remote operation was successfully cancelled.";

/// The run is over for good: no approval, no call of the agent's and no person brings it back.
async fn over(world: &World, run: &str, status: RunStatus) {
    assert_eq!(world.cloud.wait_until_ended(run).await.unwrap(), status);
    let asked = world
        .agent()
        .send(&format!("/api/v2/runs/{run}/actions/apply"), &json!({}))
        .await;
    assert_eq!(asked.code(), "APPROVAL_REQUIRED", "{}", asked.text());
    let listed = world.operator().get("/v1/approvals").await.ok();
    assert!(!listed.to_string().contains(run), "{listed}");
    assert!(world.asked("POST", "/actions/apply").is_empty());
    assert_eq!(world.instances(), 1);
}

#[tokio::test]
async fn a_held_apply_that_is_interrupted_is_discarded() {
    if terraform().is_none() {
        return;
    }
    // `-auto-approve` cancels at once; who was asked before is asked again.
    for (arguments, asks) in [(&["apply", "-auto-approve"][..], false), (&["apply"], true)] {
        let world = Setup::new().start().await;
        let cli = world.cli().await;
        let mut session = cli.begin(arguments);
        if asks {
            session.says("Enter a value:").await;
            session.answer("yes\n").await;
        }
        let run = world.any_run_at(GateState::AwaitingApproval).await.run_id;
        world.cli_waits_for_the_apply().await;
        let late = world.yes(&run, 0).await;
        session.interrupt().await;
        if asks {
            session
                .says("Do you want to cancel the remote operation?")
                .await;
            session.says("Enter a value:").await;
            session.answer("yes\n").await;
        }
        // The CLI ends with 0 when it was told to cancel.
        let output = words(&session.ended().await.output);
        assert!(output.contains(CANCELLED), "{arguments:?}: {output}");
        let ended = world.run_at(&run, GateState::Discarded).await;
        assert_eq!(
            ended.gate_reason.as_deref(),
            Some("cancel-run by the agent")
        );
        assert_eq!(world.submit(&run, &late).await.code(), "APPROVAL_CLOSED");
        over(&world, &run, RunStatus::Discarded).await;
        let bundle = world.valid_evidence().await;
        // The yes came too late, but it was given.
        assert_eq!((begun(&bundle, "cancel-run"), judgements(&bundle)), (1, 1));
        assert_eq!(bundle.terraform.runs[0].status, "discarded");
    }
}

/// Begins a command whose plan does not end, and waits until it reads the log.
async fn planning(world: &World, cli: &Cli, arguments: &[&str]) -> (Session, FaultId) {
    let work = Fault::once("ENGINE", "plan", FaultAction::Hold);
    let held = world.cloud.set_fault(work).unwrap();
    let session = cli.begin(arguments);
    let log = |r: &Request| r.path.starts_with("/v1/object/") && r.method == "GET";
    world.cloud.wait_for_request(log).await;
    (session, held)
}

#[tokio::test]
async fn an_apply_that_is_interrupted_while_it_plans_is_cancelled() {
    if terraform().is_none() {
        return;
    }
    for (arguments, asks) in [(&["apply", "-auto-approve"][..], false), (&["apply"], true)] {
        let world = Setup::new().start().await;
        let cli = world.cli().await;
        let (mut session, _held) = planning(&world, &cli, arguments).await;
        session.interrupt().await;
        if asks {
            session
                .says("Do you want to cancel the remote operation?")
                .await;
            session.says("Enter a value:").await;
            session.answer("yes\n").await;
        }
        let output = words(&session.ended().await.output);
        assert!(output.contains(CANCELLED), "{arguments:?}: {output}");
        let run = world.any_run_at(GateState::Discarded).await.run_id;
        over(&world, &run, RunStatus::Canceled).await;
        let bundle = world.valid_evidence().await;
        assert_eq!((begun(&bundle, "cancel-run"), judgements(&bundle)), (1, 0));
        assert_eq!(bundle.terraform.runs[0].status, "canceled", "{arguments:?}");
    }
}

/// The CLI says so itself: Ctrl-C stops the log, not the plan. There is nothing to apply after it.
#[tokio::test]
async fn a_plan_goes_on_when_its_reader_leaves() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let (session, held) = planning(&world, &cli, &["plan"]).await;
    session.interrupt().await;
    session.ended().await.failed();
    world.cloud.release(&held);
    let run = world.any_run_at(GateState::Finished).await.run_id;
    over(&world, &run, RunStatus::PlannedAndFinished).await;
    let bundle = world.valid_evidence().await;
    assert_eq!(begun(&bundle, "cancel-run"), 0);
}

/// The CLI asks whether to cancel, and the answer is no: it leaves, and the run goes on.
#[tokio::test]
async fn an_apply_whose_client_leaves_waits_for_its_approval_all_the_same() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let mut session = cli.begin(&["apply"]);
    session.says("Enter a value:").await;
    session.answer("yes\n").await;
    let run = world.any_run_at(GateState::AwaitingApproval).await.run_id;
    world.cli_waits_for_the_apply().await;
    session.interrupt().await;
    session.says("Enter a value:").await;
    session.answer("no\n").await;
    let output = words(&session.ended().await.output);
    assert!(
        output.contains("The remote operation was not cancelled."),
        "{output}"
    );
    assert_eq!(world.run(&run).await.gate, GateState::AwaitingApproval);
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.instances(), 2);
    let bundle = world.valid_evidence().await;
    assert_eq!(begun(&bundle, "cancel-run"), 0);
}

/// Before the yes nobody wants the apply, so nothing is held: the run goes with its job.
#[tokio::test]
async fn an_apply_that_is_interrupted_at_its_question_never_comes_up_for_approval() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let mut session = cli.begin(&["apply"]);
    session.says("Enter a value:").await;
    session.interrupt().await;
    session.ended().await;
    let run = world.runs().await[0].run_id.clone();
    assert_eq!(world.run(&run).await.gate, GateState::Planned);
    let bundle = world.valid_evidence().await;
    assert_eq!(world.run(&run).await.gate, GateState::Discarded);
    assert_eq!(world.cloud.run_status(&run).unwrap(), RunStatus::Discarded);
    assert_eq!((begun(&bundle, "apply-run"), judgements(&bundle)), (0, 0));
    assert_eq!(world.instances(), 1);
}

/// An apply that has begun can be stopped, too; what it had done by then is done, and nobody
/// calls that discarded.
#[tokio::test]
async fn an_apply_that_is_interrupted_while_it_applies_is_no_discarded_run() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let work = Fault::once("ENGINE", "apply", FaultAction::Hold);
    world.cloud.set_fault(work).unwrap();
    let mut session = cli.begin(&["apply", "-auto-approve"]);
    let run = world.approve_when_asked().await;
    let applying = world.until(async || {
        let run = world.run(&run).await;
        (run.status == "applying").then_some(())
    });
    applying.await;
    session.interrupt().await;
    session.says(CANCELLED).await;
    session.ended().await;
    let ended = world.run_at(&run, GateState::Errored).await;
    let reason = ended.gate_reason.unwrap();
    assert!(reason.contains("stopped while it was applied"), "{reason}");
    let status = world.cloud.run_status(&run).unwrap();
    assert_eq!(status, RunStatus::Canceled);
    // It has a log of its own, which says more.
    let apply = ended.apply_id.unwrap();
    let agent = world.agent();
    let apply = agent.get(&format!("/api/v2/applies/{apply}")).await.ok();
    let log = apply["data"]["attributes"]["log-read-url"]
        .as_str()
        .unwrap();
    let log = agent.get(log).await;
    assert!(log.status.is_success(), "{}", log.text());
    let bundle = world.valid_evidence().await;
    assert_eq!(
        (begun(&bundle, "apply-run"), begun(&bundle, "cancel-run")),
        (1, 1)
    );
    assert_eq!(bundle.terraform.runs[0].status, "canceled");
}
