//! Applying: held until a person approves this very plan.

use proof::Hash;
use serde_json::json;
use store::GateState;

use crate::evidence::{begun, judgements, refusals};
use crate::terraform::words;
use crate::world::{APP, Setup, terraform};

#[tokio::test]
async fn auto_approve_is_held_approved_and_applied() {
    let Some(engine) = terraform() else { return };
    let world = Setup::new().engine(engine).start().await;
    let cli = world.cli().await;
    let (ended, run) = tokio::join!(
        cli.run(&["apply", "-auto-approve", "-input=false"]),
        world.approve_when_asked()
    );
    let output = ended.ok();
    assert!(
        output.contains("Apply complete! Resources: 1 added, 1 changed"),
        "{output}"
    );
    assert_eq!(world.instances(), 2);
    world.run_at(&run, GateState::Applied).await;

    let applied = world.asked("POST", "/actions/apply");
    assert_eq!(applied.len(), 1);
    assert_eq!(applied[0].bearer.as_deref(), Some("executor"));
    let bundle = world.valid_evidence().await;
    assert_eq!((begun(&bundle, "apply-run"), judgements(&bundle)), (1, 1));
    let run = &bundle.terraform.runs[0];
    assert_eq!(run.status, "applied");
    assert!(run.state_version_before.is_some() && run.state_version_after.is_some());
    // The run says which bundle belongs to it.
    let path = format!("/v1/jobs/{}/bundle", world.job);
    let digest = Hash::of(&world.operator().get(&path).await.body).to_hex();
    let comments = world.cloud.comments(&run.run_id);
    assert!(
        comments.iter().any(|comment| comment.contains(&digest)),
        "{comments:?}"
    );
}

#[tokio::test]
async fn an_interactive_apply_is_held_after_the_yes() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let (ended, _) = tokio::join!(
        cli.answered(&["apply"], "yes\n"),
        world.approve_when_asked()
    );
    let output = ended.ok();
    assert!(
        output.contains("Only 'yes' will be accepted to approve"),
        "{output}"
    );
    assert!(output.contains("Apply complete!"), "{output}");
    assert_eq!(world.instances(), 2);
    let bundle = world.valid_evidence().await;
    // Twice: the agent's wish, and the gateway's own call.
    assert_eq!(begun(&bundle, "apply-run"), 2);
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
}

#[tokio::test]
async fn a_no_to_the_clis_question_discards_the_run() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let output = cli.answered(&["apply"], "no\n").await.failed();
    assert!(output.contains("Apply discarded."), "{output}");
    let run = world.any_run_at(GateState::Discarded).await.run_id;
    assert_eq!(
        world.cloud.run_status(&run).unwrap(),
        sim::RunStatus::Discarded
    );
    assert_eq!(world.instances(), 1);
    let bundle = world.valid_evidence().await;
    assert_eq!(
        (begun(&bundle, "discard-run"), begun(&bundle, "apply-run")),
        (1, 0)
    );
}

#[tokio::test]
async fn a_denial_ends_the_cli_with_the_approvers_reason() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let (ended, _) = tokio::join!(cli.run(&["apply", "-auto-approve"]), async {
        let run = world.any_run_at(GateState::AwaitingApproval).await.run_id;
        world.deny(&run, "not before the weekend").await;
    });
    let output = words(&ended.failed());
    assert!(output.contains("(APPROVAL_DENIED)"), "{output}");
    assert!(output.contains("not before the weekend"), "{output}");
    let run = world.any_run_at(GateState::Denied).await.run_id;
    assert_eq!(
        world.cloud.run_status(&run).unwrap(),
        sim::RunStatus::Discarded
    );
    assert_eq!(world.instances(), 1);
    let bundle = world.valid_evidence().await;
    assert_eq!((judgements(&bundle), begun(&bundle, "apply-run")), (1, 0));
}

#[tokio::test]
async fn a_question_that_lapses_ends_the_cli() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let (ended, _) = tokio::join!(cli.run(&["apply", "-auto-approve"]), async {
        let run = world.any_run_at(GateState::AwaitingApproval).await.run_id;
        world.lapse(&run).await;
    });
    let output = words(&ended.failed());
    assert!(output.contains("(APPROVAL_EXPIRED)"), "{output}");
    assert!(output.contains("nobody approved in time"), "{output}");
    let run = world.any_run_at(GateState::Expired).await.run_id;
    assert_eq!(
        world.cloud.wait_until_ended(&run).await.unwrap(),
        sim::RunStatus::Discarded
    );
    assert_eq!(world.instances(), 1);
    let bundle = world.valid_evidence().await;
    assert_eq!(begun(&bundle, "apply-run"), 0);
}

#[tokio::test]
async fn reject_tells_the_cli_where_to_ask() {
    if terraform().is_none() {
        return;
    }
    let setup = Setup::new().contract("/permissions/apply/on_missing_approval", json!("reject"));
    let world = setup.start().await;
    let cli = world.cli().await;
    for (arguments, answer) in [(&["apply"][..], "yes\n"), (&["apply", "-auto-approve"], "")] {
        let output = words(&cli.answered(arguments, answer).await.failed());
        assert!(
            output.contains("(APPROVAL_REQUIRED)"),
            "{arguments:?}: {output}"
        );
        let address = format!("{}/approvals/run-", world.gateway().operator_url);
        assert!(output.contains(&address), "{arguments:?}: {output}");
        // The question stands: a person may still say yes, and the gateway then applies.
        let run = world.approve_when_asked().await;
        world.run_at(&run, GateState::Applied).await;
        cli.write("main.tf", sim::example_configuration()[0].1);
    }
    assert_eq!(world.instances(), 1);
    let bundle = world.valid_evidence().await;
    assert_eq!(
        bundle
            .terraform
            .runs
            .iter()
            .filter(|run| run.status == "applied")
            .count(),
        2
    );
}

#[tokio::test]
async fn a_revoked_token_ends_the_waiting_cli() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let (ended, run) = tokio::join!(cli.run(&["apply", "-auto-approve"]), async {
        let run = world.any_run_at(GateState::AwaitingApproval).await.run_id;
        world.cli_waits_for_the_apply().await;
        let revoke = json!({"token": world.cst, "reason": "stolen"});
        world
            .operator()
            .post("/v1/tokens/revoke", &revoke)
            .await
            .ok();
        run
    });
    let output = ended.failed();
    assert!(output.contains("Error:"), "{output}");
    assert_eq!(world.run(&run).await.gate, GateState::AwaitingApproval);
    let bundle = world.valid_evidence().await;
    assert!(refusals(&bundle).iter().any(|code| code == "TOKEN_REVOKED"));
    assert_eq!(world.instances(), 1);
}

/// Destroying and refreshing change state as any apply does.
#[tokio::test]
async fn b07_b08_what_the_contract_allows_is_held_like_any_apply() {
    let Some(engine) = terraform() else { return };
    let allowed = json!({"destroy": true, "refresh_only": true});
    let world = Setup::new()
        .contract("/permissions/run", allowed)
        .engine(engine)
        .start()
        .await;
    let cli = world.cli().await;
    // There is something to refresh: an output that the state does not have yet.
    let more = "output \"more\" {\n  value = \"new\"\n}\n";
    cli.write("more.tf", more);
    for (arguments, said) in [
        (
            &["apply", "-refresh-only", "-auto-approve"][..],
            "Apply complete!",
        ),
        (&["destroy", "-auto-approve"], "3 destroyed"),
    ] {
        let before = world.cloud.state(APP);
        let applied = world.asked("POST", "/actions/apply").len();
        let (ended, run) = tokio::join!(cli.run(arguments), async {
            let run = world.any_run_at(GateState::AwaitingApproval).await.run_id;
            world.cli_waits_for_the_apply().await;
            assert_eq!(world.asked("POST", "/actions/apply").len(), applied);
            assert_eq!(world.cloud.state(APP), before, "{arguments:?}");
            world.approve(&run).await;
            run
        });
        let output = ended.ok();
        assert!(output.contains(said), "{arguments:?}: {output}");
        world.run_at(&run, GateState::Applied).await;
        assert_ne!(world.cloud.state(APP), before, "{arguments:?}");
    }
    assert_eq!(world.cloud.state(APP).unwrap()["resources"], json!([]));
    let bundle = world.valid_evidence().await;
    assert_eq!((begun(&bundle, "apply-run"), judgements(&bundle)), (2, 2));
}
