//! The vendors' own client libraries through the gateway, against the stand-in for model
//! providers: what they send is taken, what comes back is what they expect, and our refusals are
//! what their users read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use clawgate::demo::sandbox::Sandbox;
use proof::Hash;
use proof::record::{Body, Ended, Lane, Outcome};
use sim::Engine;

/// Names the interpreter that has `openai` and `anthropic`; `.ci/run` sets it.
const PYTHON: &str = "CLAWGATE_PYTHON";
/// Names the folder of packages that has `openai` for JavaScript; `.ci/run` sets it.
const NODE: &str = "CLAWGATE_NODE_MODULES";

/// Longest that a script may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two dialects, some models, some tools.
const MODELS: &str = r#""models": { "providers": ["openai", "anthropic"],
    "allowed": ["gpt-standin", "text-*", "claude-*"], "tools": { "allow": ["plan_*"] } },"#;

/// What a variable names; in CI it must name something.
fn named(variable: &str, what: &str) -> Option<std::ffi::OsString> {
    let value = std::env::var_os(variable);
    assert!(
        value.is_some() || std::env::var_os("CI").is_none(),
        "in CI, {variable} must name {what}"
    );
    if value.is_none() {
        println!("skipped: {variable} does not name {what}");
    }
    value
}

async fn sandbox(folder: &Path) -> Sandbox {
    let contract = policy::EXAMPLE_CONTRACT.replacen(
        "\"cst_constraints\"",
        &format!("{MODELS}\n\"cst_constraints\""),
        1,
    );
    let path = folder.join("contract.json");
    std::fs::write(&path, contract).unwrap();
    let data = folder.join("sandbox");
    Sandbox::start(&data, Some(&path), Engine::Recorded)
        .await
        .unwrap()
}

/// Runs a script that checks by itself what it is answered.
async fn run(program: &std::ffi::OsStr, script: &str, sandbox: &Sandbox, folder: &Path) {
    let url = &sandbox.gateway.agent_url;
    let running = tokio::process::Command::new(program)
        .arg(script)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env(NODE, std::env::var_os(NODE).unwrap_or_default())
        .env("GATEWAY", url)
        .env("TOKEN", &sandbox.cst)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(PATIENCE, running).await;
    let ended = ended.expect("the script did not end").unwrap();
    let output = [ended.stdout, ended.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    assert!(
        ended.status.success() && output.contains("everything as it should be"),
        "{output}"
    );
    assert!(!output.contains(sandbox.provider.key()), "{output}");
}

/// What the job's records say about model calls: outcomes by operation, and codes of refusals.
async fn story(sandbox: &Sandbox) -> (BTreeMap<String, Vec<Outcome>>, Vec<String>) {
    let app = &sandbox.gateway.app;
    // The last outcome is durable when its answer has been read to the end.
    let records = app.store.records(&sandbox.job_id, 0, 1000).await.unwrap();
    let mut operations = BTreeMap::new();
    let mut outcomes: BTreeMap<String, Vec<Outcome>> = BTreeMap::new();
    let mut refusals = Vec::new();
    for stored in records {
        match stored.record.body {
            Body::Intent(intent) if intent.lane == Lane::Model => {
                operations.insert(stored.record.seq, intent.operation.clone());
            }
            Body::Outcome(outcome) => {
                if let Some(operation) = operations.get(&outcome.intent_seq) {
                    outcomes
                        .entry(operation.clone())
                        .or_default()
                        .push(*outcome);
                }
            }
            Body::Refusal(refusal) => refusals.push(refusal.code),
            _ => {}
        }
    }
    (outcomes, refusals)
}

fn check(outcomes: &BTreeMap<String, Vec<Outcome>>, operation: &str, calls: usize, tools: usize) {
    let of = outcomes.get(operation).map_or(&[][..], Vec::as_slice);
    assert_eq!(of.len(), calls, "{operation}: {of:?}");
    assert!(
        of.iter()
            .all(|one| one.ended == Ended::Complete && one.receipt.is_some())
    );
    let arguments = Hash::of(br#"{"workspace":"staging-app"}"#);
    let asked: Vec<_> = of.iter().flat_map(|one| &one.tool_calls).collect();
    assert_eq!(asked.len(), tools, "{operation}: {of:?}");
    for call in asked {
        assert_eq!(call.name, "plan_staging");
        assert_eq!(call.arguments_sha256_b64u, Some(arguments));
    }
}

#[tokio::test]
async fn the_python_libraries_of_both_vendors() {
    let Some(python) = named(PYTHON, "a Python with `openai` and `anthropic`") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(folder.path()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/agent.py");
    run(&python, script, &sandbox, folder.path()).await;
    let (outcomes, refusals) = story(&sandbox).await;
    check(&outcomes, "chat-completions", 3, 2);
    check(&outcomes, "responses", 3, 2);
    check(&outcomes, "messages", 4, 2);
    check(&outcomes, "embeddings", 1, 0);
    check(&outcomes, "count-tokens", 1, 0);
    assert_eq!(
        refusals,
        [
            "MODEL_NOT_ALLOWED",
            "MODEL_TOOL_NOT_ALLOWED",
            "MODEL_NOT_ALLOWED",
            "MODEL_TOOL_NOT_ALLOWED"
        ],
        "each once: the libraries do not try again"
    );
}

#[tokio::test]
async fn the_typescript_library() {
    if named(NODE, "a folder of packages with `openai`").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(folder.path()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/agent.mjs");
    run("node".as_ref(), script, &sandbox, folder.path()).await;
    let (outcomes, refusals) = story(&sandbox).await;
    check(&outcomes, "chat-completions", 3, 2);
    check(&outcomes, "responses", 2, 1);
    check(&outcomes, "embeddings", 1, 0);
    assert_eq!(refusals, ["MODEL_NOT_ALLOWED", "MODEL_TOOL_NOT_ALLOWED"]);
}
