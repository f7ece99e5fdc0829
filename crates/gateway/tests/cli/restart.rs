//! A gateway that stops, or is killed, while something is under way.

use std::process::Stdio;

use proof::approval::Decision;
use proof::bundle::Bundle;
use proof::record::{Body, Ended};
use serde_json::json;
use sim::{Fault, FaultAction};
use store::GateState;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::client::run_body;
use crate::evidence::begun;
use crate::world::{APP, Setup, World, sign, terraform};

#[tokio::test]
async fn a_restart_while_people_think_changes_nothing() {
    if terraform().is_none() {
        return;
    }
    let mut world = Setup::new().restartable().start().await;
    let run = world.agent().held_run().await;
    world.restart().await;
    assert_eq!(world.run(&run).await.gate, GateState::AwaitingApproval);
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
    // The agent goes on with the same token, and finds nothing left to do.
    let cli = world.cli().await;
    let again = cli.run(&["apply", "-auto-approve"]).await.ok();
    assert!(again.contains("No changes."), "{again}");
    world.valid_evidence().await;
}

#[tokio::test]
async fn what_a_crash_left_half_written_goes_with_the_next_start() {
    let mut world = Setup::new().restartable().start().await;
    let data = world.app().config.data_dir.clone();
    world.stop().await;
    let random = clawgate::keys::random_text();
    let bundles = data.join("bundles");
    let (bundle, copy) = (
        bundles.join(format!(".job_1.json.{random}")),
        data.join(".backup.x1y2z3"),
    );
    for folder in [&bundles, &copy] {
        std::fs::create_dir_all(folder).unwrap();
    }
    for file in [&bundle, &copy.join("making"), &copy.join("clawgate.db")] {
        std::fs::write(file, b"half").unwrap();
    }
    world.start_again().await;
    // It ends what it has begun.
    world.stop().await;
    assert!(!bundle.exists() && !copy.exists());
    world.start_again().await;
    world.valid_evidence().await;
}

#[tokio::test]
async fn what_was_approved_before_a_restart_is_applied_after_it() {
    let mut world = Setup::new().restartable().start().await;
    let run = world.agent().held_run().await;
    let yes = world.yes(&run, 0).await;
    // The gate is held at its first look after the approval.
    let path = format!("/api/v2/runs/{run}");
    let held = world
        .cloud
        .set_fault(Fault::once("GET", &path, FaultAction::Hold))
        .unwrap();
    world.submit(&run, &yes).await.ok();
    world.stop().await;
    world.cloud.release(&held);
    world.start_again().await;
    world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
    world.valid_evidence().await;
}

/// The address of the CLI's log is gone with the gateway that gave it, but not what was approved.
#[tokio::test]
async fn a_cli_that_waits_through_a_restart_gets_its_run_applied_once() {
    if terraform().is_none() {
        return;
    }
    let mut world = Setup::new().restartable().start().await;
    let cli = world.cli().await;
    let (ended, run) = tokio::join!(cli.run(&["apply", "-auto-approve"]), async {
        let run = world.any_run_at(GateState::AwaitingApproval).await.run_id;
        world.cli_waits_for_the_apply().await;
        world.restart().await;
        world.approve(&run).await;
        world.run_at(&run, GateState::Applied).await;
        run
    });
    assert!(!ended.failed().contains("Apply complete!"));
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
    assert_eq!(world.instances(), 2);
    let again = cli.run(&["apply", "-auto-approve"]).await.ok();
    assert!(again.contains("No changes."), "{again}");
    let bundle = world.valid_evidence().await;
    let applied: Vec<_> = bundle
        .terraform
        .runs
        .iter()
        .filter(|r| r.status == "applied")
        .collect();
    assert_eq!(applied.len(), 1);
    assert_eq!(applied[0].run_id, run);
}

/// The real program on the world's configuration, once it serves.
pub(crate) async fn serve(world: &World) -> Child {
    let file = world.folder().join("killed.toml");
    std::fs::write(&file, toml::to_string(&world.config).unwrap()).unwrap();
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(["serve", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = lines
            .next_line()
            .await
            .unwrap()
            .expect("the gateway starts");
        if line.contains("serving") {
            break;
        }
    }
    // What it says later is read too, so that it never waits for a reader.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

fn unknown(bundle: &Bundle) -> usize {
    let fits = |body: &Body| matches!(body, Body::Outcome(o) if o.ended == Ended::Unknown);
    bundle
        .records
        .iter()
        .filter(|record| fits(&record.body))
        .count()
}

/// Kills the program between the intent of an apply and its outcome, at a point that `action`
/// chooses, and starts again.
async fn killed_during_an_apply(action: FaultAction) -> (World, String) {
    let mut world = Setup::new().restartable().start().await;
    let run = world.agent().held_run().await;
    let yes = world.yes(&run, 0).await;
    world.stop().await;
    let mut child = serve(&world).await;
    let path = format!("/api/v2/runs/{run}/actions/apply");
    let held = world
        .cloud
        .set_fault(Fault::once("POST", &path, action))
        .unwrap();
    let operator = crate::client::Caller::new(
        &format!("http://{}", world.config.operator_listener.address),
        Some(&world.operator_token),
    );
    operator
        .post(&format!("/v1/approvals/{run}"), &json!({"envelope": yes}))
        .await
        .ok();
    world
        .cloud
        .wait_for_request(|request| request.path == path)
        .await;
    child.kill().await.unwrap();
    world.cloud.release(&held);
    world.start_again().await;
    (world, run)
}

#[tokio::test]
async fn a_kill_after_upstream_took_the_apply_makes_no_second_one() {
    let (world, run) = killed_during_an_apply(FaultAction::HoldAnswer).await;
    world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
    assert_eq!(world.instances(), 2);
    let bundle = world.evidence_after_a_kill().await;
    assert_eq!((begun(&bundle, "apply-run"), unknown(&bundle)), (1, 1));
    assert_eq!(bundle.terraform.runs[0].status, "applied");
}

#[tokio::test]
async fn a_kill_before_upstream_took_the_apply_leaves_one_that_counts() {
    let (world, run) = killed_during_an_apply(FaultAction::Hold).await;
    world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.cloud.comments(&run).len(), 1, "confirmed once");
    assert_eq!(world.instances(), 2);
    let bundle = world.evidence_after_a_kill().await;
    assert_eq!(unknown(&bundle), 1);
    assert_eq!(bundle.terraform.runs[0].status, "applied");
}

#[tokio::test]
async fn a_kill_while_a_run_is_made_makes_no_second_run() {
    let mut world = Setup::new().restartable().start().await;
    let upload = world.agent().upload().await;
    world.stop().await;
    let mut child = serve(&world).await;
    let fault = Fault::once("POST", "/api/v2/runs", FaultAction::HoldAnswer);
    let held = world.cloud.set_fault(fault).unwrap();
    let agent = crate::client::Caller::new(
        &format!("http://{}", world.config.agent_listener.address),
        Some(&world.cst),
    );
    let wish = json!({"auto-apply": true});
    let body = run_body(APP, &upload, &wish);
    let asking = agent.try_call(http::Method::POST, "/api/v2/runs", &[], body.to_string());
    let (answer, ()) = tokio::join!(asking, async {
        let fits = |r: &sim::Request| r.method == "POST" && r.path == "/api/v2/runs";
        world.cloud.wait_for_request(fits).await;
        child.kill().await.unwrap();
    });
    answer.unwrap_err();
    world.cloud.release(&held);
    world.start_again().await;
    let made = world.agent().run(&upload, &wish).await.ok();
    let run = made["data"]["id"].as_str().unwrap();
    assert_eq!(world.cloud.runs().len(), 1);
    world.run_at(run, GateState::AwaitingApproval).await;
    world.approve(run).await;
    world.run_at(run, GateState::Applied).await;
    let bundle = world.evidence_after_a_kill().await;
    assert_eq!((begun(&bundle, "create-run"), unknown(&bundle)), (2, 1));
}

#[tokio::test]
async fn a_denied_run_does_not_outlive_a_kill() {
    let mut world = Setup::new().restartable().start().await;
    let run = world.agent().held_run().await;
    let mut no = world.draft(&run, 0, Decision::Deny).await;
    no.reason = Some("not now".to_owned());
    let no = sign(&no, &world.approvers[0].key);
    world.stop().await;
    let mut child = serve(&world).await;
    let path = format!("/api/v2/runs/{run}/actions/discard");
    world
        .cloud
        .set_fault(Fault::once("POST", &path, FaultAction::Hold))
        .unwrap();
    let operator = crate::client::Caller::new(
        &format!("http://{}", world.config.operator_listener.address),
        Some(&world.operator_token),
    );
    operator
        .post(&format!("/v1/approvals/{run}"), &json!({"envelope": no}))
        .await
        .ok();
    world
        .cloud
        .wait_for_request(|request| request.path == path)
        .await;
    child.kill().await.unwrap();
    world.start_again().await;
    let ended = world.cloud.wait_until_ended(&run).await.unwrap();
    assert_eq!(ended, sim::RunStatus::Discarded);
    assert_eq!(world.run(&run).await.gate, GateState::Denied);
    world.evidence_after_a_kill().await;
}
