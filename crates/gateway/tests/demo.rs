//! The demo itself, as a newcomer starts it: every step must do what it should.

#![expect(
    clippy::unwrap_used,
    reason = "a demo that leaves no report has failed"
)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Plays the demo with the given search path for engines.
fn play(path: &std::ffi::OsStr, out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(["demo", "--once", "--out"])
        .arg(out)
        .env("PATH", path)
        .output()
        .unwrap()
}

fn check(output: &Output, out: &Path) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!text.contains('\u{1b}'), "colours although nobody looks");
    let read = |name: &str| std::fs::read(out.join(name)).unwrap();
    let report: Value = serde_json::from_slice(&read("report.json")).unwrap();
    assert_eq!(report["verdict"], "valid");
    assert_eq!(report["tamper_verdict"], "invalid");
    let steps = report["steps"].as_array().unwrap();
    assert!(
        steps.len() >= 10 && steps.iter().all(|step| step["ok"] == true),
        "{steps:?}"
    );
    let refusals = report["refusals"].as_array().unwrap();
    let codes: Vec<&str> = refusals
        .iter()
        .map(|r| r["code"].as_str().unwrap())
        .collect();
    assert_eq!(
        codes,
        [
            "WORKSPACE_NOT_ALLOWED",
            "STATE_READ_DENIED",
            "VARIABLES_DENIED",
            "TOKEN_MINT_DENIED",
            "APPROVAL_REQUIRED",
            "TOKEN_JOB_MISMATCH",
            "TOKEN_REPLAYED",
        ]
    );
    // What was published is the runbook's example, byte for byte.
    assert_eq!(read("wpc.json"), policy::EXAMPLE_CONTRACT.as_bytes());
    let verdict = clawverify::verify(
        &read("bundle.json"),
        &read("trust.json"),
        &Default::default(),
    );
    assert_eq!(
        verdict.verdict,
        clawverify::Verdict::Valid,
        "{:?}",
        verdict.first_failure()
    );
    report
}

#[test]
fn the_story_holds_with_the_real_command_line() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if matches!(sim::Engine::detect(), sim::Engine::Recorded) {
        assert!(std::env::var_os("CI").is_none(), "terraform is missing");
        println!("skipped: neither terraform nor tofu is on PATH");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let report = check(&play(&path, out.path()), out.path());
    assert!(!report["engine"].as_str().unwrap().contains("recorded"));
}

#[test]
fn the_story_holds_without_one_and_says_so() {
    let out = tempfile::tempdir().unwrap();
    let nowhere = tempfile::tempdir().unwrap();
    let report = check(&play(nowhere.path().as_os_str(), out.path()), out.path());
    assert!(
        report["engine"].as_str().unwrap().contains("recorded"),
        "{}",
        report["engine"]
    );
}
