//! Upstream that loses answers, fails, talks garbage or takes its time.

use std::time::Duration;

use http::Method;
use proof::record::{Body, Ended};
use serde_json::json;
use sim::{Fault, FaultAction};
use store::GateState;

use crate::client::run_body;
use crate::evidence::begun;
use crate::terraform::words;
use crate::world::{APP, Setup, World, terraform};

fn fault(world: &World, method: &str, path: &str, action: FaultAction) -> sim::FaultId {
    world
        .cloud
        .set_fault(Fault::once(method, path, action))
        .unwrap()
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_run() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    fault(&world, "POST", "/api/v2/runs", FaultAction::CloseMidway);
    // The CLI itself asks again.
    cli.run(&["plan", "-input=false"]).await.ok();
    assert_eq!(world.cloud.runs().len(), 1);
    assert_eq!(world.runs().await.len(), 1);
    let bundle = world.valid_evidence().await;
    assert_eq!(begun(&bundle, "create-run"), 2);
    assert_eq!(bundle.terraform.runs.len(), 1);
}

#[tokio::test]
async fn the_same_request_twice_is_one_run() {
    let world = Setup::new().start().await;
    let agent = world.agent();
    let upload = agent.upload().await;
    let wish = json!({"auto-apply": true});
    let (one, other) = tokio::join!(agent.run(&upload, &wish), agent.run(&upload, &wish));
    assert_eq!(one.ok()["data"]["id"], other.ok()["data"]["id"]);
    assert_eq!(world.cloud.runs().len(), 1);
    world.valid_evidence().await;
}

#[tokio::test]
async fn upstreams_failures_are_clear_and_recorded() {
    let world = Setup::new().start().await;
    let agent = world.agent();
    let upload = agent.upload().await;
    let mut expected = Vec::new();
    for (action, status, code) in [
        (FaultAction::Status(500), 503, "UPSTREAM_UNAVAILABLE"),
        (FaultAction::Status(503), 503, "UPSTREAM_UNAVAILABLE"),
        (FaultAction::Status(429), 429, "UPSTREAM_RATE_LIMITED"),
        (FaultAction::Status(401), 502, "UPSTREAM_UNAUTHORIZED"),
        (FaultAction::Status(404), 404, "UPSTREAM_NOT_FOUND"),
        (FaultAction::Status(422), 422, "UPSTREAM_REFUSED"),
        (FaultAction::Status(302), 502, "UPSTREAM_GARBAGE"),
        (FaultAction::Garbage, 502, "UPSTREAM_GARBAGE"),
        (FaultAction::CloseMidway, 503, "UPSTREAM_UNAVAILABLE"),
    ] {
        for (method, path) in [
            ("GET", "/api/v2/workspaces/ws-staging-db"),
            ("POST", "/api/v2/runs"),
        ] {
            let mut lasting = Fault::once(method, path, action.clone());
            // A read is asked again when upstream is overloaded; a write is not.
            let overloaded = matches!(action, FaultAction::Status(429 | 500 | 503));
            lasting.times = if method == "GET" && overloaded { 4 } else { 1 };
            world.cloud.set_fault(lasting).unwrap();
            let answer = match method {
                "GET" => agent.get(path).await,
                // A different message makes a different request.
                _ => {
                    let message = json!({"message": format!("{action:?}")});
                    agent.run(&upload, &message).await
                }
            };
            assert_eq!(
                answer.code(),
                code,
                "{action:?} on {path}: {}",
                answer.text()
            );
            assert_eq!(answer.status, status, "{action:?} on {path}");
            expected.push(code.to_owned());
        }
    }
    let bundle = world.valid_evidence().await;
    assert_eq!(crate::evidence::refusals(&bundle), expected);
}

#[tokio::test]
async fn a_short_outage_is_not_seen_by_who_reads_and_a_write_is_never_repeated() {
    let world = Setup::new().start().await;
    let agent = world.agent();
    let upload = agent.upload().await;
    let path = "/api/v2/workspaces/ws-staging-app";
    for status in [429, 500, 502, 503, 504] {
        let mut short = Fault::once("GET", path, FaultAction::Status(status));
        short.times = 2;
        world.cloud.set_fault(short).unwrap();
        agent.get(path).await.ok();
        let before = world.asked("POST", "/api/v2/runs").len();
        fault(&world, "POST", "/api/v2/runs", FaultAction::Status(status));
        let message = json!({"message": format!("{status}")});
        let refused = agent.run(&upload, &message).await;
        assert!(!refused.status.is_success(), "{}", refused.text());
        assert_eq!(world.asked("POST", "/api/v2/runs").len(), before + 1);
        // Both words for how long to wait, for the clients that know one of them.
        let limited = status == 429;
        for name in ["retry-after", "x-ratelimit-reset"] {
            assert_eq!(
                refused.headers.contains_key(name),
                limited,
                "{status} {name}"
            );
        }
    }
    world.valid_evidence().await;
}

#[tokio::test]
async fn clients_that_wait_do_not_use_up_the_limit_of_lists() {
    let world = Setup::new().start().await;
    let agent = world.agent();
    let path = format!("/api/v2/workspaces/{APP}/runs");
    for _ in 0..5 {
        agent.get(&path).await.ok();
    }
    assert_eq!(world.asked("GET", &path).len(), 1);
    // Our own write is seen at once.
    let upload = agent.upload().await;
    let made = agent.run(&upload, &json!({})).await.ok();
    let list = agent.get(&path).await.ok();
    assert_eq!(list["data"][0]["id"], made["data"]["id"]);
    assert_eq!(world.asked("GET", &path).len(), 2);
    world.valid_evidence().await;
}

#[tokio::test]
async fn an_upstream_that_is_down_is_said_so() {
    let mut world = Setup::new().restartable().start().await;
    world.config.terraform_cloud.url = "http://127.0.0.1:9".to_owned();
    world.restart().await;
    let answer = world.agent().get("/api/v2/workspaces/ws-staging-app").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "UPSTREAM_UNAVAILABLE")
    );
    world.valid_evidence().await;
}

#[tokio::test]
async fn the_cli_is_told_that_upstream_takes_no_credential() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    let mut refused = Fault::once("POST", "/api/v2/runs", FaultAction::Status(422));
    refused.times = 50;
    world.cloud.set_fault(refused).unwrap();
    let output = words(&cli.run(&["plan", "-input=false"]).await.failed());
    assert!(output.contains("UPSTREAM_REFUSED"), "{output}");
    assert!(world.runs().await.is_empty());
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_upstream_works_is_recorded() {
    let world = Setup::new().start().await;
    let agent = world.agent();
    let upload = agent.upload().await;
    let held = fault(&world, "POST", "/api/v2/runs", FaultAction::HoldAnswer);
    {
        let body = run_body(APP, &upload, &json!({"auto-apply": true}));
        let caller = crate::client::Caller::new(&world.gateway().agent_url, Some(&world.cst));
        let asking = caller.send("/api/v2/runs", &body);
        tokio::select! {
            answer = asking => panic!("answered: {}", answer.text()),
            _ = world.cloud.wait_for_request(|r| r.method == "POST" && r.path == "/api/v2/runs") => {}
        }
        // Both the call and its connection are dropped here.
    }
    world.cloud.release(&held);
    // The run is the job's all the same, and goes on to the gate.
    let run = world.any_run_at(GateState::AwaitingApproval).await.run_id;
    assert_eq!(world.cloud.runs().len(), 1);
    // Asking again finds it.
    let again = agent.run(&upload, &json!({"auto-apply": true})).await.ok();
    assert_eq!(again["data"]["id"], json!(run));
    let bundle = world.valid_evidence().await;
    let unknown = bundle.records.iter().filter(
        |record| matches!(&record.body, Body::Outcome(outcome) if outcome.ended == Ended::Unknown),
    );
    assert_eq!(unknown.count(), 0);
}

#[tokio::test]
async fn a_slow_upstream_is_given_up_and_found_again() {
    let mut setup = Setup::new();
    setup.config = Box::new(|config| {
        config.limits.drain_seconds = 1;
        config.limits.upstream_timeout_seconds = 1;
    });
    let world = setup.start().await;
    let agent = world.agent();
    let upload = agent.upload().await;
    let held = fault(&world, "POST", "/api/v2/runs", FaultAction::HoldAnswer);
    let slow = agent.run(&upload, &json!({})).await;
    assert_eq!(
        (slow.status.as_u16(), slow.code().as_str()),
        (504, "UPSTREAM_TIMEOUT")
    );
    world.cloud.release(&held);
    agent.run(&upload, &json!({})).await.ok();
    assert_eq!(world.cloud.runs().len(), 1);
    world.valid_evidence().await;
}

#[tokio::test]
async fn an_apply_whose_answer_is_lost_is_asked_for_once() {
    let world = Setup::new().start().await;
    let run = world.agent().held_run().await;
    fault(
        &world,
        "POST",
        &format!("/api/v2/runs/{run}/actions/apply"),
        FaultAction::CloseMidway,
    );
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    assert_eq!(world.asked("POST", "/actions/apply").len(), 1);
    assert_eq!(world.instances(), 2);
    world.valid_evidence().await;
}

#[tokio::test]
async fn an_apply_that_upstream_could_not_take_is_asked_for_again() {
    for status in [500, 429] {
        let world = Setup::new().start().await;
        let run = world.agent().held_run().await;
        let path = format!("/api/v2/runs/{run}/actions/apply");
        fault(&world, "POST", &path, FaultAction::Status(status));
        world.approve(&run).await;
        world.run_at(&run, GateState::Applied).await;
        assert_eq!(world.asked("POST", "/actions/apply").len(), 2, "{status}");
        assert_eq!(world.instances(), 2);
        world.valid_evidence().await;
    }
}

#[tokio::test]
async fn an_apply_that_fails_ends_the_cli() {
    if terraform().is_none() {
        return;
    }
    let world = Setup::new().start().await;
    let cli = world.cli().await;
    fault(&world, "ENGINE", "apply", FaultAction::Status(500));
    let (ended, run) = tokio::join!(
        cli.run(&["apply", "-auto-approve"]),
        world.approve_when_asked()
    );
    ended.failed();
    let ended = world.run_at(&run, GateState::Errored).await;
    assert_eq!(ended.status, "errored");
    assert_eq!(world.instances(), 1);
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_plan_that_cannot_be_read_yet_is_read_later() {
    let world = Setup::new().start().await;
    let agent = world.agent();
    let upload = agent.upload().await;
    let mut garbage = Fault::once("GET", "/api/v2/plans/", FaultAction::Status(500));
    garbage.method = Some(Method::GET.to_string());
    world.cloud.set_fault(garbage).unwrap();
    let made = agent.run(&upload, &json!({"auto-apply": true})).await.ok();
    let run = made["data"]["id"].as_str().unwrap();
    let waited = tokio::time::timeout(
        Duration::from_secs(30),
        world.run_at(run, GateState::AwaitingApproval),
    );
    waited.await.unwrap();
    world.valid_evidence().await;
}

/// Neither lane does anything that it cannot record, nobody is given an answer without evidence,
/// and what was recorded before is there when the disk has room again.
#[tokio::test]
async fn a_full_disk_stops_everything_and_loses_nothing() {
    let mut world = Setup::new().restartable().start().await;
    let run = world.agent().held_run().await;
    let yes = world.yes(&run, 0).await;
    world.stop().await;
    world.start_again_with_little_room(64 << 10).await;
    let workspace = "/api/v2/workspaces/ws-staging-app";
    let mut answered = 0;
    while world.agent().get(workspace).await.status.is_success() {
        answered += 1;
        assert!(answered < 1000, "the disk does not fill");
    }
    let question = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "?"}]});
    let stream = json!({"model": "gpt-5", "stream": true, "messages": question["messages"]});
    let upload = json!({"data": {"type": "configuration-versions", "attributes": {
        "auto-queue-runs": false, "speculative": false,
    }}});
    for (path, body) in [
        ("/openai/v1/chat/completions", &question),
        ("/openai/v1/chat/completions", &stream),
        (
            "/api/v2/workspaces/ws-staging-app/configuration-versions",
            &upload,
        ),
    ] {
        let changed = world.asked("POST", path).len();
        let kind = [
            ("content-type", "application/json"),
            ("content-type", "application/vnd.api+json"),
        ];
        let kind = [kind[usize::from(path.starts_with("/api"))]];
        let agent = world.agent();
        let answer = agent
            .call(Method::POST, path, &kind, &body.to_string())
            .await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        assert!(
            answer.text().contains("STORE_UNAVAILABLE"),
            "{}",
            answer.text()
        );
        assert_eq!(world.asked("POST", path).len(), changed);
    }
    // The store is known to fail, so no prompt leaves before its intent is on the disk.
    assert_eq!(world.provider.requests(), []);
    assert_eq!(world.submit(&run, &yes).await.status, 503);
    let ready = world.operator().get("/readyz").await;
    assert_eq!(
        (ready.status.as_u16(), ready.code().as_str()),
        (503, "STORE_UNAVAILABLE")
    );
    world.stop().await;
    world.start_again().await;
    world.operator().get("/readyz").await.ok();
    assert_eq!(world.submit(&run, &yes).await.status, 200);
    world.run_at(&run, GateState::Applied).await;
    let bundle = world.evidence_after_a_kill().await;
    assert!(begun(&bundle, "workspace-by-id") >= answered, "{answered}");
}
