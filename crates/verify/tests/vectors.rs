//! The bundles under `fixtures`, which other implementations can be tested with: each folder
//! has a bundle, a trust root, and what the verifier says about them.
//!
//! A folder that ends in `_fail` holds a broken sibling of a good one. `cargo xtask vectors`
//! writes all of them anew; without it this test compares, byte by byte, so that a change of
//! the formats shows as a difference that somebody has to look at.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clawverify::testing::{Keys, Story, bytes, log_for, seal};
use clawverify::{Code, Options, Report, Status, Verdict, verify};
use proof::record::{Body, Ended, Lane};
use proof::{Json, Timestamp};
use serde_json::{Value, json};

/// One folder.
struct Case {
    name: &'static str,
    about: &'static str,
    bundle: Vec<u8>,
    trust: Vec<u8>,
    /// Judge as of this moment.
    at: Option<&'static str>,
    verdict: Verdict,
    /// The code that must be among the findings, when something is wrong.
    code: Option<Code>,
}

impl Case {
    fn good(name: &'static str, about: &'static str, story: &Story) -> Self {
        Self {
            name,
            about,
            bundle: seal(story.evidence(), &story.keys).to_file(),
            trust: bytes(&Keys::from_seed(1).trust_root()),
            at: None,
            verdict: Verdict::Valid,
            code: None,
        }
    }

    fn broken(mut self, name: &'static str, about: &'static str, code: Code) -> Self {
        (self.name, self.about) = (name, about);
        (self.verdict, self.code) = (Verdict::Invalid, Some(code));
        self
    }

    /// Edits the sealed file as one with a text editor would.
    fn edit(mut self, edit: impl Fn(&mut Value)) -> Self {
        let mut value: Value = serde_json::from_slice(&self.bundle).unwrap();
        edit(&mut value);
        self.bundle = serde_json::to_vec(&value).unwrap();
        self
    }

    fn at(mut self, at: &'static str) -> Self {
        self.at = Some(at);
        self
    }

    fn report(&self) -> Report {
        let at: Option<Timestamp> = self.at.map(|text| text.parse().unwrap());
        verify(&self.bundle, &self.trust, &Options { at, since: None })
    }

    /// `expected.json`: what a verifier of these formats must say.
    fn expected(&self) -> Vec<u8> {
        let report = self.report();
        let findings: BTreeSet<&str> = report
            .checks
            .iter()
            .filter(|check| matches!(check.status, Status::Fail | Status::NotProven))
            .map(|check| check.code.as_str())
            .filter(|code| *code != Code::NotRun.as_str())
            .collect();
        let mut expected = json!({
            "about": self.about,
            "verdict": report.verdict,
            "codes": findings,
        });
        if let Some(at) = self.at {
            expected["at"] = at.into();
        }
        let mut text = serde_json::to_vec_pretty(&expected).unwrap();
        text.push(b'\n');
        text
    }

    fn files(&self) -> [(&'static str, Vec<u8>); 3] {
        [
            ("bundle.json", self.bundle.clone()),
            ("trust.json", self.trust.clone()),
            ("expected.json", self.expected()),
        ]
    }
}

fn apply() -> Case {
    Case::good(
        "apply",
        "a model call, a plan, a refusal, an approval and an apply",
        &Story::apply(),
    )
}

fn passkey() -> Case {
    Case::good(
        "passkey",
        "the same, approved with a passkey",
        &Story::apply_by_passkey(),
    )
}

/// The gateway itself seals an approval that was signed on another site.
fn retold_by_passkey() -> Case {
    let mut told = Story::apply_by_passkey();
    let place = told.position(|body| matches!(body, Body::Approval(_)));
    let statement = told.approvals.remove(0).payload.to_typed().unwrap();
    let mut elsewhere = told.keys.passkey.clone();
    "https://gatevay.example".clone_into(&mut elsewhere.origin);
    told.steps[place].body = told.approve_by_passkey(&statement, &mut elsewhere);
    let about = "an approval by passkey that was signed on another site";
    let name = "passkey-site_fail";
    Case::good(name, about, &told).broken(name, about, Code::PasskeyWrongSite)
}

fn model_calls() -> Case {
    Case::good(
        "model-calls",
        "five model calls before the plan",
        &Story::with_model_calls(5),
    )
}

/// The job of `apply`, changed before it is sealed by the gateway's own keys.
fn retold(name: &'static str, about: &'static str, code: Code, edit: impl Fn(&mut Story)) -> Case {
    let mut story = Story::apply();
    edit(&mut story);
    Case::good(name, about, &story.recounted()).broken(name, about, code)
}

fn cases() -> Vec<Case> {
    vec![
        apply(),
        model_calls(),
        passkey(),
        passkey()
            .broken(
                "passkey-origin_fail",
                "an approval by passkey, as if signed on another site",
                Code::EvidenceMismatch,
            )
            .edit(|bundle| {
                let approval = &mut bundle["approvals"][0];
                let text = approval["client_data_json_b64u"].as_str().unwrap();
                let client = proof::hash::decode_b64u(text).unwrap();
                let client = String::from_utf8(client).unwrap();
                let client = client.replace("https://gateway", "https://gatevay");
                let client = proof::hash::encode_b64u(client.as_bytes());
                approval["client_data_json_b64u"] = client.into();
            }),
        retold_by_passkey(),
        apply_at(
            "at-a-moment",
            "judged as of a moment after the job",
            "2026-11-22T12:00:00.000Z",
        ),
        Case {
            verdict: Verdict::Invalid,
            code: Some(Code::AfterTheMoment),
            ..apply_at(
                "at-a-moment_fail",
                "judged as of a moment before the job",
                "2026-11-22T07:00:00.000Z",
            )
        },
        apply()
            .broken(
                "byte_fail",
                "one letter of a record changed",
                Code::EvidenceMismatch,
            )
            .edit(|bundle| bundle["records"][1]["operation"] = "chat-completionz".into()),
        apply()
            .broken("order_fail", "two records exchanged", Code::SequenceGap)
            .edit(|bundle| {
                bundle["records"].as_array_mut().unwrap().swap(3, 4);
            }),
        model_calls()
            .broken("dropped_fail", "a refusal left out", Code::SequenceGap)
            .edit(|bundle| {
                let refusal = "clawgate.refusal/1";
                bundle["records"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|r| r["record"] != refusal);
            }),
        apply()
            .broken(
                "version_fail",
                "a bundle of an unknown version",
                Code::FileShape,
            )
            .edit(|bundle| bundle["bundle"] = "clawgate.proof-bundle/2".into()),
        Case {
            trust: bytes(&Keys::from_seed(66).trust_root()),
            ..apply().broken(
                "key_fail",
                "a good bundle, another trust root",
                Code::AuthorUnknown,
            )
        },
        retold(
            "unapproved_fail",
            "an apply that nobody approved",
            Code::ApplyNotApproved,
            |story| {
                story.approvals.clear();
                story
                    .steps
                    .retain(|step| !matches!(step.body, Body::Approval(_)));
            },
        ),
        retold(
            "decision_fail",
            "a call that the contract denies, let through",
            Code::DecisionMismatch,
            |story| {
                let create = story.intent("create-run");
                let Body::Intent(intent) = &mut story.steps[create].body else {
                    unreachable!()
                };
                intent.input.set("workspace_id", "ws-production-app");
            },
        ),
        relogged(
            "time_fail",
            "a record that is older than the one before",
            Code::TimeBackwards,
        ),
        unknown_ending(),
    ]
}

fn apply_at(name: &'static str, about: &'static str, at: &'static str) -> Case {
    Case::good(name, about, &Story::apply()).at(at)
}

/// A lie about time, made before the log's checkpoint was signed.
fn relogged(name: &'static str, about: &'static str, code: Code) -> Case {
    let story = Story::apply();
    let mut evidence = story.evidence();
    let earlier = evidence.records[0].at.plus_seconds(-1);
    evidence.records[3].at = earlier;
    evidence.log = log_for(&evidence.records, &story.keys);
    Case {
        bundle: seal(evidence, &story.keys).to_file(),
        ..apply().broken(name, about, code)
    }
}

/// The gateway stopped during a call and said so: nothing is wrong, and not all is proven.
fn unknown_ending() -> Case {
    let mut story = Story::apply();
    let model = story.position(|body| matches!(body, Body::Intent(i) if i.lane == Lane::Model));
    let Body::Outcome(outcome) = &mut story.steps[model + 1].body else {
        unreachable!()
    };
    outcome.ended = Ended::Unknown;
    outcome.status = None;
    outcome.upstream_status = None;
    outcome.usage = None;
    let about = "a call whose end nobody knows, told honestly";
    Case {
        verdict: Verdict::NotProven,
        code: Some(Code::OutcomeUnknown),
        ..Case::good("unknown-ending", about, &story)
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

#[test]
fn each_case_is_judged_as_it_should() {
    for case in cases() {
        let report = case.report();
        assert_eq!(report.verdict, case.verdict, "{}: {report:#?}", case.name);
        assert_eq!(
            case.name.ends_with("_fail"),
            case.verdict == Verdict::Invalid,
            "{}",
            case.name
        );
        let Some(code) = case.code else { continue };
        let named = report.checks.iter().any(|check| check.code == code);
        assert!(named, "{} is not named {code}: {report:#?}", case.name);
    }
}

#[test]
fn the_files_are_what_the_code_makes() {
    let write = std::env::var_os("CLAWGATE_REGENERATE").is_some();
    if write && folder().exists() {
        fs::remove_dir_all(folder()).unwrap();
    }
    let mut made = BTreeSet::new();
    for case in cases() {
        let case_folder = folder().join(case.name);
        made.insert(case.name.to_owned());
        for (name, content) in case.files() {
            let file = case_folder.join(name);
            if write {
                fs::create_dir_all(&case_folder).unwrap();
                fs::write(&file, &content).unwrap();
            }
            let there = fs::read(&file).unwrap_or_default();
            assert!(
                there == content,
                "{} is stale: run `cargo xtask vectors`",
                file.display()
            );
        }
    }
    let there: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, made);
}

/// The files alone, as another implementation would read them.
#[test]
fn the_files_say_what_they_say() {
    for entry in fs::read_dir(folder()).unwrap() {
        let folder = entry.unwrap().path();
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        let expected: Json = proof::json::from_slice(&read("expected.json")).unwrap();
        let at = expected
            .get("at")
            .and_then(Json::as_str)
            .map(|text| text.parse().unwrap());
        let report = verify(
            &read("bundle.json"),
            &read("trust.json"),
            &Options { at, since: None },
        );
        let verdict = serde_json::to_value(report.verdict).unwrap();
        assert_eq!(
            verdict.as_str(),
            expected.get("verdict").and_then(Json::as_str)
        );
        for code in expected.get("codes").and_then(Json::as_array).unwrap() {
            let code = code.as_str().unwrap();
            let found = report
                .checks
                .iter()
                .any(|check| check.code.as_str() == code);
            assert!(found, "{}: {code}", folder.display());
        }
    }
}
