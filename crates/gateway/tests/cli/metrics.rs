//! `GET /metrics`, after some calls, as Prometheus' own parser reads it.

use std::path::Path;
use std::process::Stdio;

use clawgate::metrics::families::{self, Kind};
use clawgate::operator::credential::{self, Role};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::client::Caller;
use crate::libraries::interpreter;
use crate::world::{Setup, World};

const CHAT: &str = "/openai/v1/chat/completions";

/// The value of one series, by its whole name.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.strip_prefix(' ')?.parse().ok()
}

fn setup() -> Setup {
    let models = json!({"providers": ["openai"], "allowed": ["gpt-*"], "max_tokens": 9000});
    Setup::new().contract("/models", models)
}

#[tokio::test]
async fn calls_are_counted_by_what_was_decided() {
    let world = setup().start().await;
    let monitor = credential::add(
        &*world.app().store,
        "prometheus",
        None,
        &[Role::Monitor],
        world.app().now(),
    );
    let monitor = monitor.await.unwrap();
    let monitor = Caller::new(&world.gateway().operator_url, Some(&monitor));
    let before = monitor.get("/metrics").await.text();
    let calls = "clawgate_calls_total{lane=\"model\",class=\"chat_completions\",code=";
    assert_eq!(value(&before, &format!("{calls}\"ALLOWED\"}}")), Some(0.0));

    let agent = Caller::new(&world.gateway().agent_url, Some(&world.cst));
    let ask = |model: &str, stream: bool| {
        let message = json!({"role": "user", "content": "What should change?"});
        json!({"model": model, "max_completion_tokens": 500, "messages": [message],
               "stream": stream})
    };
    agent
        .post(CHAT, &ask("gpt-5-secret-name", false))
        .await
        .ok();
    agent.post(CHAT, &ask("gpt-5", true)).await;
    assert_eq!(agent.post(CHAT, &ask("o9", false)).await.status, 403);
    let stranger = Caller::new(&world.gateway().agent_url, Some("no-token"));
    assert_eq!(stranger.get("/api/v2/account/details").await.status, 401);
    agent.get("/api/v2/account/details").await.ok();
    let workspace = "/api/v2/organizations/acme/workspaces/";
    agent.get(&format!("{workspace}no-such-one")).await;
    let run = world.agent().held_run().await;
    // The end of a call is handed in when its answer has been read.
    world.app().models.idle().await;

    let answer = monitor.get("/metrics").await;
    assert_eq!(
        answer.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = answer.text();
    let at_least = |series: &str, least: f64| {
        let seen = value(&text, series);
        assert!(
            seen.is_some_and(|seen| seen >= least),
            "{series} {seen:?}\n{text}"
        );
    };
    let exactly = |series: &str, count: f64| {
        assert_eq!(value(&text, series), Some(count), "{series}\n{text}");
    };
    exactly(&format!("{calls}\"ALLOWED\"}}"), 2.0);
    exactly(&format!("{calls}\"MODEL_NOT_ALLOWED\"}}"), 1.0);
    let terraform = "clawgate_calls_total{lane=\"terraform\",class=";
    exactly(
        &format!("{terraform}\"unknown\",code=\"TOKEN_MALFORMED\"}}"),
        1.0,
    );
    at_least(&format!("{terraform}\"read\",code=\"ALLOWED\"}}"), 1.0);
    at_least(&format!("{terraform}\"change\",code=\"ALLOWED\"}}"), 2.0);
    exactly(
        "clawgate_call_ends_total{lane=\"model\",ended=\"complete\"}",
        2.0,
    );
    exactly("clawgate_upstream_seconds_count{lane=\"model\"}", 2.0);
    at_least("clawgate_overhead_seconds_count{lane=\"terraform\"}", 3.0);
    exactly(
        "clawgate_model_requests_total{provider=\"openai\",result=\"success\"}",
        2.0,
    );
    at_least(
        "clawgate_model_tokens_total{provider=\"openai\",direction=\"output\"}",
        1.0,
    );
    exactly("clawgate_model_streams_open", 0.0);
    exactly("clawgate_model_calls_open", 0.0);
    at_least(
        "clawgate_terraform_cloud_requests_total{result=\"success\"}",
        3.0,
    );
    exactly("clawgate_store_up", 1.0);
    exactly("clawgate_store_queue_depth", 0.0);
    at_least("clawgate_store_write_seconds_count", 3.0);
    let size = world.app().store.log_size().await.unwrap();
    exactly("clawgate_log_size", size as f64);
    exactly("clawgate_approvals_waiting", 1.0);
    exactly("clawgate_runs{gate=\"awaiting_approval\"}", 1.0);

    // Nothing that an agent has written or that belongs to one job.
    let job = world.job.to_string();
    for word in [
        &*job,
        &run,
        "secret-name",
        "gpt-5",
        "staging",
        "acme",
        "no-such-one",
    ] {
        assert!(!text.contains(word), "{word}\n{text}");
    }
    read_by_prometheus(&text).await;
}

/// Names, kinds and labels, as somebody else's reader finds them.
async fn read_by_prometheus(text: &str) {
    let Some(python) = interpreter("prometheus-client") else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/metrics.py");
    let mut running = Command::new(python)
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).await.unwrap();
    drop(stdin);
    let output = running.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let read: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let ours: Vec<Value> = families::ALL
        .iter()
        // Nothing is published here.
        .filter(|family| family.name != families::LOG_PUBLISHED.name)
        .map(|family| {
            let name = match family.kind {
                // The parser calls a counter by what it counts.
                Kind::Counter => family.name.trim_end_matches("_total"),
                Kind::Gauge | Kind::Histogram => family.name,
            };
            let mut labels = family.labels.to_vec();
            labels.sort_unstable();
            json!({"name": name, "kind": family.kind.as_str(), "help": family.help,
                   "labels": labels})
        })
        .collect();
    assert_eq!(read, ours);
}

#[tokio::test]
async fn who_may_read_them() {
    let mut world = setup().restartable().start().await;
    let status = async |world: &World, bearer: Option<&str>| {
        let caller = Caller::new(&world.gateway().operator_url, bearer);
        caller.get("/metrics").await.status.as_u16()
    };
    let auditor = credential::add(
        &*world.app().store,
        "ada",
        None,
        &[Role::Auditor],
        world.app().now(),
    );
    let auditor = auditor.await.unwrap();
    assert_eq!(status(&world, None).await, 401);
    assert_eq!(status(&world, Some(&world.cst)).await, 401);
    assert_eq!(status(&world, Some(&auditor)).await, 403);
    assert_eq!(status(&world, Some(&world.operator_token)).await, 200);
    // Nothing of it stands on the agents' listener.
    let agent = Caller::new(&world.gateway().agent_url, Some(&world.cst));
    assert_eq!(agent.get("/metrics").await.code(), "ROUTE_UNKNOWN");

    world.stop().await;
    world.config.metrics.open = true;
    world.start_again().await;
    assert_eq!(status(&world, None).await, 200);
    let caller = Caller::new(&world.gateway().operator_url, None);
    assert_eq!(caller.get("/v1/jobs").await.status, 401);
}
