//! The program: its exit status, what it prints, and what it does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use clawverify::testing::{Story, bytes, seal};
use clawverify::{Code, Report, Verdict};
use proof::record::{Body, Ended};

/// Files of one test, in a folder of its own.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
        fs::create_dir_all(&folder).unwrap();
        let story = Story::apply();
        let files = Self(folder);
        files.write(
            "bundle.json",
            &seal(story.evidence(), &story.keys).to_file(),
        );
        files.write("trust.json", &bytes(&story.keys.trust_root()));
        files
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawverify"));
        command.args(arguments).current_dir(&self.0);
        command
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_exit_status_is_the_verdict() {
    let files = Files::new("exit_status");
    let good = fs::read(files.0.join("bundle.json")).unwrap();
    let mut bad = good.clone();
    let end = bad.len() - 10;
    bad[end] ^= 1;
    files.write("bad.json", &bad);

    let mut story = Story::apply();
    let place = story.intent("create-run") + 1;
    if let Body::Outcome(outcome) = &mut story.steps[place].body {
        outcome.ended = Ended::Unknown;
    }
    files.write("open.json", &seal(story.evidence(), &story.keys).to_file());

    let trust = ["--trust", "trust.json"];
    for (arguments, status) in [
        (vec!["bundle.json", trust[0], trust[1]], 0),
        (vec!["bad.json", trust[0], trust[1]], 1),
        (vec!["bundle.json"], 2),
        (vec![], 2),
        (vec!["bundle.json", "--trust", "missing.json"], 2),
        (vec!["missing.json", trust[0], trust[1]], 2),
        (vec!["bundle.json", "--trust", "bundle.json"], 2),
        (vec!["bundle.json", trust[0], trust[1], "--at", "today"], 2),
        (vec!["bundle.json", trust[0], trust[1], "--unknown"], 2),
        (vec!["open.json", trust[0], trust[1]], 3),
        (vec!["explain", "NO_SUCH_CODE"], 2),
        (vec!["explain"], 0),
        (vec!["--help"], 0),
        (vec!["--version"], 0),
    ] {
        let output = files.run(&arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        let quiet_failure = output.stdout.is_empty() && output.stderr.is_empty();
        assert!(!quiet_failure, "{arguments:?}");
    }
    let quiet = files.run(&["bad.json", trust[0], trust[1], "--quiet"]);
    assert_eq!((quiet.status.code(), quiet.stdout.len()), (Some(1), 0));
}

#[test]
fn each_check_has_a_line_and_the_verdict_comes_last() {
    let files = Files::new("lines");
    let output = files.run(&["bundle.json", "--trust", "trust.json"]);
    let text = stdout(&output);
    for name in clawverify::report::Name::ALL {
        assert!(text.contains(name.as_str()), "{text}");
    }
    assert!(text.lines().last().unwrap().starts_with("VALID"), "{text}");
    assert!(
        !text.contains('\u{1b}'),
        "no colour when it is not a terminal"
    );
}

#[test]
fn json_is_the_report() {
    let files = Files::new("json");
    let good = fs::read_to_string(files.0.join("bundle.json")).unwrap();
    files.write(
        "bad.json",
        good.replace("\"replays_refused\":0", "\"replays_refused\":1")
            .as_bytes(),
    );
    let output = files.run(&["bad.json", "--trust", "trust.json", "--json"]);
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.verdict, Verdict::Invalid);
    assert!(report.failed_with(Code::EvidenceMismatch));
}

#[test]
fn standard_input_is_read() {
    let files = Files::new("stdin");
    let bundle = fs::read(files.0.join("bundle.json")).unwrap();
    let mut child = files
        .command(&["-", "--trust", "trust.json", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bundle).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A pipe with a name is read once, from its one writer.
#[test]
fn a_named_pipe_is_read() {
    let files = Files::new("pipe");
    let bundle = fs::read(files.0.join("bundle.json")).unwrap();
    // An earlier run's.
    let _ = fs::remove_file(files.0.join("pipe"));
    let made = Command::new("mkfifo").arg(files.0.join("pipe")).status();
    assert!(made.unwrap().success());
    let mut child = files
        .command(&["pipe", "--trust", "trust.json", "--quiet"])
        .spawn()
        .unwrap();
    fs::write(files.0.join("pipe"), &bundle).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn every_code_is_explained() {
    let files = Files::new("explain");
    let list = stdout(&files.run(&["explain"]));
    for code in Code::ALL {
        assert!(list.contains(code.as_str()));
    }
    let one = stdout(&files.run(&["explain", "apply_not_approved"]));
    assert!(one.contains(Code::ApplyNotApproved.explanation()));
}

#[test]
fn the_public_profile_judges_our_public_half() {
    let files = Files::new("clawsig");
    let profile = ["--profile", "clawsig"];
    let arguments = [
        "bundle.json",
        "--trust",
        "trust.json",
        profile[0],
        profile[1],
    ];
    let output = files.run(&arguments);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with("PASS"));

    let did = Story::apply().keys.receipt.did();
    let config = serde_json::json!({
        "config_version": "1",
        "allowlists": {"gateway_receipt_signer_dids": [did]},
    });
    files.write("config.json", &bytes(&config));
    let arguments = [
        "bundle.json",
        "--trust",
        "config.json",
        profile[0],
        profile[1],
    ];
    assert_eq!(files.run(&arguments).status.code(), Some(0));

    files.write("none.json", br#"{"config_version":"1"}"#);
    let arguments = [
        "bundle.json",
        "--trust",
        "none.json",
        profile[0],
        profile[1],
    ];
    assert_eq!(files.run(&arguments).status.code(), Some(1));
    files.write("no-trust.json", b"{}");
    let arguments = [
        "bundle.json",
        "--trust",
        "no-trust.json",
        profile[0],
        profile[1],
    ];
    assert_eq!(files.run(&arguments).status.code(), Some(2));
}

#[test]
fn a_list_of_test_files_is_compared() {
    let files = Files::new("conformance");
    let bundle: serde_json::Value =
        serde_json::from_slice(&fs::read(files.0.join("bundle.json")).unwrap()).unwrap();
    files.write("half.json", &bytes(&bundle["proof_bundle"]));
    let did = Story::apply().keys.receipt.did();
    let config = serde_json::json!({
        "config_version": "1",
        "allowlists": {"gateway_receipt_signer_dids": [did]},
    });
    files.write("config.json", &bytes(&config));
    let list = serde_json::json!([
        {"path": "half.json", "kind": "proof_bundle", "expected": "pass", "reason_code": "OK",
         "note": "for people"},
        {"path": "x.json", "kind": "commit_sig", "expected": "pass", "reason_code": "OK"},
    ]);
    files.write("manifest.json", &bytes(&list));
    let run = |more: &[&str]| {
        let output = files.run(&[&["conformance", "manifest.json"], more].concat());
        (output.status.code(), stdout(&output))
    };
    let (status, text) = run(&["--config", "config.json"]);
    assert_eq!(status, Some(0), "{text}");
    assert_eq!(
        text,
        "agree        1\ndisagree     0\nunsupported  1  (1 commit_sig)\n"
    );
    let (status, text) = run(&[]);
    assert_eq!(
        status,
        Some(1),
        "no keys are allowed without a configuration"
    );
    assert!(text.starts_with("disagree  half.json: "), "{text}");
    let (status, text) = run(&["--json"]);
    let summary: clawverify::clawsig::conformance::Summary = serde_json::from_str(&text).unwrap();
    assert_eq!((status, summary.agree), (Some(1), 0));
    assert_eq!(summary.disagree[0].path, "half.json");
    assert_eq!(run(&["--config", "missing.json"]).0, Some(2));
    assert_eq!(run(&["--config", "half.json"]).0, Some(2));
    let output = files.run(&["conformance", "half.json"]);
    assert_eq!(output.status.code(), Some(2), "not a list");
}
