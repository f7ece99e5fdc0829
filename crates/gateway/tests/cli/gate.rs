//! What voids an approval, and what never comes up for one.

use proof::Hash;
use serde_json::json;
use store::{GateState, RunUpdate};

use crate::evidence::{begun, judgements, refusals};
use crate::terraform::words;
use crate::world::{APP, Setup, World, terraform};

/// Nothing was applied, and upstream holds nothing back for it.
async fn not_applied(world: &World, run: &str) {
    let ended = world.cloud.wait_until_ended(run).await.unwrap();
    assert_eq!(ended, sim::RunStatus::Discarded);
    assert!(world.asked("POST", "/actions/apply").is_empty());
    assert_eq!(world.instances(), 1);
}

#[tokio::test]
async fn b11_a_plan_that_is_not_the_approved_one_is_not_applied() {
    let world = Setup::new().start().await;
    let run = world.agent().held_run().await;
    // The approver was shown another plan than upstream has now.
    let mut subject = world.run(&run).await.subject.unwrap();
    subject.plan_sha256_b64u = Hash::of(b"another plan");
    let update = RunUpdate {
        subject: Some(subject),
        ..RunUpdate::default()
    };
    world
        .app()
        .store
        .update_run(&run, world.app().now(), update)
        .await
        .unwrap();
    world.approve(&run).await;
    let ended = world.run_at(&run, GateState::Superseded).await;
    assert!(
        ended
            .gate_reason
            .unwrap()
            .contains("not the one that was approved")
    );
    not_applied(&world, &run).await;
}

#[tokio::test]
async fn a_run_that_was_discarded_upstream_takes_no_approval() {
    let world = Setup::new().start().await;
    let run = world.agent().held_run().await;
    let late = world.yes(&run, 0).await;
    let path = format!("/api/v2/runs/{run}/actions/discard");
    world.upstream("owner").send(&path, &json!({})).await.ok();
    world.app().gate.wake(&run);
    let ended = world.run_at(&run, GateState::Superseded).await;
    assert!(ended.gate_reason.unwrap().contains("outside the gateway"));
    assert_eq!(world.submit(&run, &late).await.code(), "APPROVAL_CLOSED");
    not_applied(&world, &run).await;
    // Too late to count, but an auditor sees that it was given.
    assert_eq!(judgements(&world.valid_evidence().await), 1);
}

#[tokio::test]
async fn a_run_that_was_discarded_in_the_same_moment_is_not_applied() {
    let world = Setup::new().start().await;
    let run = world.agent().held_run().await;
    let path = format!("/api/v2/runs/{run}/actions/discard");
    world.upstream("owner").send(&path, &json!({})).await.ok();
    // Whether the gate has noticed or not: nothing is applied.
    let yes = world.yes(&run, 0).await;
    world.submit(&run, &yes).await;
    world.run_at(&run, GateState::Superseded).await;
    not_applied(&world, &run).await;
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_withdrawn_contract_voids_what_waits_under_it() {
    let world = Setup::new().start().await;
    let run = world.agent().held_run().await;
    let hash = world.run(&run).await.subject.unwrap().policy_hash_b64u;
    let path = format!("/v1/contracts/{hash}/withdraw");
    world
        .operator()
        .post(&path, &json!({"reason": "too permissive"}))
        .await
        .ok();
    let yes = world.yes(&run, 0).await;
    world.submit(&run, &yes).await;
    let ended = world.run_at(&run, GateState::Superseded).await;
    let reason = ended.gate_reason.unwrap();
    assert!(reason.contains("withdrawn"), "{reason}");
    not_applied(&world, &run).await;
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_revoked_token_voids_what_it_asked_for() {
    let world = Setup::new().start().await;
    let run = world.agent().held_run().await;
    let revoke = json!({"token": world.cst, "reason": "stolen"});
    world
        .operator()
        .post("/v1/tokens/revoke", &revoke)
        .await
        .ok();
    assert_eq!(world.agent().get("/v1/job").await.code(), "TOKEN_REVOKED");
    let yes = world.yes(&run, 0).await;
    world.submit(&run, &yes).await;
    let ended = world.run_at(&run, GateState::Superseded).await;
    let reason = ended.gate_reason.unwrap();
    assert!(reason.contains("revoked"), "{reason}");
    not_applied(&world, &run).await;
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_job_that_closes_takes_its_waiting_runs_along() {
    let world = Setup::new().start().await;
    let run = world.agent().held_run().await;
    let yes = world.yes(&run, 0).await;
    let bundle = world.valid_evidence().await;
    assert_eq!(world.submit(&run, &yes).await.code(), "APPROVAL_CLOSED");
    assert_eq!(world.run(&run).await.gate, GateState::Discarded);
    not_applied(&world, &run).await;
    assert_eq!((begun(&bundle, "discard-run"), judgements(&bundle)), (1, 0));
}

#[tokio::test]
async fn a_workspace_that_runs_locally_now_is_not_applied() {
    let world = Setup::new().start().await;
    let run = world.agent().held_run().await;
    let local = |settings: &mut sim::Settings| settings.execution_mode = sim::ExecutionMode::Local;
    world.cloud.change_settings(APP, local).unwrap();
    world.approve(&run).await;
    let ended = world.run_at(&run, GateState::Superseded).await;
    assert!(ended.gate_reason.unwrap().contains("runs locally"));
    not_applied(&world, &run).await;
    world.valid_evidence().await;
}

#[tokio::test]
async fn an_executor_that_may_not_apply_ends_the_run_with_the_reason() {
    let mut setup = Setup::new();
    for credential in &mut setup.cloud.credentials {
        if credential.name == "executor" {
            credential.rights = sim::Rights::NONE;
        }
    }
    let world = setup.start().await;
    let run = world.agent().held_run().await;
    world.approve(&run).await;
    let ended = world.run_at(&run, GateState::Errored).await;
    assert!(
        ended
            .gate_reason
            .unwrap()
            .contains("upstream refused the apply with 404")
    );
    assert_eq!(
        world.asked("POST", "/actions/apply").len(),
        1,
        "asked once, not again and again"
    );
    assert_eq!(world.instances(), 1);
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_plan_with_a_denied_type_ends_the_cli_with_the_rule() {
    if terraform().is_none() {
        return;
    }
    let rules = json!({"deny_types": ["terraform_*"]});
    let world = Setup::new()
        .contract("/permissions/resources", rules)
        .start()
        .await;
    let cli = world.cli().await;
    let output = words(&cli.run(&["apply", "-auto-approve"]).await.failed());
    assert!(output.contains("(PLAN_RESOURCE_TYPE)"), "{output}");
    let run = world.any_run_at(GateState::Discarded).await.run_id;
    not_applied(&world, &run).await;
    let bundle = world.valid_evidence().await;
    assert!(
        refusals(&bundle)
            .iter()
            .any(|code| code == "PLAN_RESOURCE_TYPE")
    );
    assert_eq!(
        (begun(&bundle, "discard-run"), begun(&bundle, "apply-run")),
        (1, 0)
    );
}

#[tokio::test]
async fn plans_that_break_a_rule_are_discarded_and_recorded() {
    for (rules, code) in [
        (json!({"deny_actions": ["create"]}), "PLAN_ACTION_DENIED"),
        (json!({"deny_actions": ["update"]}), "PLAN_ACTION_DENIED"),
        (
            json!({"max_changes": {"update": 0}}),
            "PLAN_TOO_MANY_CHANGES",
        ),
    ] {
        let world = Setup::new()
            .contract("/permissions/resources", rules.clone())
            .start()
            .await;
        let agent = world.agent();
        let upload = agent.upload().await;
        let made = agent.run(&upload, &json!({"auto-apply": true})).await.ok();
        let run = made["data"]["id"].as_str().unwrap();
        let ended = world.run_at(run, GateState::Discarded).await;
        assert!(ended.gate_reason.unwrap().starts_with(code), "{rules}");
        not_applied(&world, run).await;
        assert!(
            refusals(&world.valid_evidence().await)
                .iter()
                .any(|c| c == code),
            "{rules}"
        );
    }
}

#[tokio::test]
async fn a_configuration_that_runs_programs_does_not_even_go_up() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let shell = "resource \"terraform_data\" \"shell\" {\n  \
                 provisioner \"local-exec\" {\n    command = \"env\"\n  }\n}\n";
    cli.write("shell.tf", shell);
    let output = words(&cli.run(&["plan"]).await.failed());
    assert!(output.contains("(CONFIGURATION_PROVISIONER)"), "{output}");
    assert!(output.contains("shell.tf:2"), "{output}");
    let uploads = world
        .cloud
        .requests()
        .into_iter()
        .filter(|request| request.method == "PUT");
    assert_eq!(uploads.count(), 0);
    assert!(world.runs().await.is_empty());
    let bundle = world.valid_evidence().await;
    assert!(
        refusals(&bundle)
            .iter()
            .any(|code| code == "CONFIGURATION_PROVISIONER")
    );
}

/// Approves a held run and stops the gate at a request of its last look.
async fn held_at_the_last_look(world: &World, method: &str, path: &str) -> (String, sim::FaultId) {
    let run = world.agent().held_run().await;
    let yes = world.yes(&run, 0).await;
    let path = path.replace("{run}", &run);
    let hold = || {
        let fault = sim::Fault::once(method, &path, sim::FaultAction::Hold);
        let seen = world.cloud.requests().len();
        (world.cloud.set_fault(fault).unwrap(), seen)
    };
    let (mut held, mut seen) = hold();
    world.submit(&run, &yes).await.ok();
    loop {
        let look = |r: &sim::Request| r.path == path && r.method == method && r.seq as usize > seen;
        world.cloud.wait_for_request(look).await;
        if world.run(&run).await.gate == GateState::Rechecking {
            return (run, held);
        }
        // That was the look of a gate that waits for people; the next may be the last one.
        let next = hold();
        world.cloud.release(&held);
        (held, seen) = next;
    }
}

#[tokio::test]
async fn a_job_that_is_stopped_during_the_last_look_applies_nothing() {
    let last_looks = [
        "/api/v2/runs/{run}",
        "/api/v2/workspaces/ws-staging-app/current-state-version",
    ];
    for path in last_looks {
        let world = Setup::new().start().await;
        let (run, held) = held_at_the_last_look(&world, "GET", path).await;
        world.run_at(&run, GateState::Rechecking).await;
        let stop = format!("/v1/rollback/job/{}", world.job);
        let reason = json!({"reason": "stop it now"});
        let stopped = world.operator().post(&stop, &reason).await.ok();
        assert_eq!(stopped["unfinished_runs"], json!([]), "{stopped}");
        world.cloud.release(&held);
        world.run_at(&run, GateState::Discarded).await;
        not_applied(&world, &run).await;
    }
}

#[tokio::test]
async fn a_run_that_its_agent_cancels_during_the_last_look_is_not_applied() {
    let world = Setup::new().start().await;
    let path = "/api/v2/workspaces/ws-staging-app/current-state-version";
    let (run, held) = held_at_the_last_look(&world, "GET", path).await;
    world.run_at(&run, GateState::Rechecking).await;
    let cancel = format!("/api/v2/runs/{run}/actions/cancel");
    let agent = world.agent();
    let answer = agent.send(&cancel, &json!({})).await;
    assert_eq!(answer.status, http::StatusCode::ACCEPTED);
    world.cloud.release(&held);
    let ended = world.run_at(&run, GateState::Discarded).await;
    assert_eq!(
        ended.gate_reason.as_deref(),
        Some("cancel-run by the agent")
    );
    not_applied(&world, &run).await;
    // There is nothing left to cancel.
    let again = agent.send(&cancel, &json!({})).await;
    assert_eq!(again.status, http::StatusCode::CONFLICT, "{}", again.text());
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_run_that_moves_under_its_discard_is_discarded_where_it_stands() {
    let world = Setup::new().start().await;
    let hold = |method, path: &str| {
        let fault = sim::Fault::once(method, path, sim::FaultAction::Hold);
        world.cloud.set_fault(fault).unwrap()
    };
    let planning = hold("ENGINE", "plan");
    let agent = world.agent();
    let upload = agent.upload().await;
    let made = agent.run(&upload, &json!({"auto-apply": true})).await.ok();
    let run = made["data"]["id"].as_str().unwrap();
    // The gate sees a run at work, and cancels it; in this moment it comes to wait for people.
    let cancel = format!("/api/v2/runs/{run}/actions/cancel");
    let cancelling = hold("POST", &cancel);
    let asked = |request: &sim::Request| request.path == cancel;
    let path = format!("/v1/rollback/run/{run}");
    let (operator, reason) = (world.operator(), json!({"reason": "not this one"}));
    let discard = operator.post(&path, &reason);
    let meanwhile = async {
        world.cloud.wait_for_request(asked).await;
        world.cloud.release(&planning);
        world.cloud.wait_until_confirmable(run).await.unwrap();
        world.cloud.release(&cancelling);
    };
    let (discarded, ()) = tokio::join!(discard, meanwhile);
    discarded.ok();
    not_applied(&world, run).await;
    let bundle = world.valid_evidence().await;
    assert_eq!(
        (begun(&bundle, "cancel-run"), begun(&bundle, "discard-run")),
        (1, 1)
    );
}

#[tokio::test]
async fn a_discard_that_upstream_never_takes_is_asked_for_once() {
    let world = Setup::new().start().await;
    let run = world.agent().held_run().await;
    let path = format!("/api/v2/runs/{run}/actions/discard");
    let mut stubborn = sim::Fault::once("POST", &path, sim::FaultAction::Status(409));
    stubborn.times = 100;
    world.cloud.set_fault(stubborn).unwrap();
    world.deny(&run, "not today").await;
    let gate = &world.app().gate;
    let let_go = async {
        loop {
            let changed = gate.changed();
            if !gate.watches(&run) {
                return;
            }
            changed.await;
        }
    };
    let_go.await;
    assert_eq!(world.asked("POST", "/actions/discard").len(), 1);
}
