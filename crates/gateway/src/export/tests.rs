//! Lines of whole jobs, from a real store.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use proof::record::{Body, Ended};
use proof::{Json, Timestamp};
use store::{LogRange, NumberedAction, OperatorAction};

use super::*;
use crate::trust_pulse::sample::{self, HOSTILE, Sample};

const ORIGIN: Origin<'_> = Origin {
    gateway_id: "gateway.example",
};

async fn rows() -> Vec<LoggedRecord> {
    let mut rows = Vec::new();
    for (name, foreign) in [("resize the database", "ws-other"), (HOSTILE, HOSTILE)] {
        let mut sample = Sample::new().await;
        sample::whole_job(&mut sample, "job_1", name, foreign).await;
        let range = LogRange {
            from: 0,
            job: None,
            limit: 1000,
        };
        let page = sample.store.logged(range).await.unwrap();
        rows.extend(page.into_iter().filter_map(store::Logged::record));
    }
    rows
}

fn actions() -> Vec<NumberedAction> {
    let action = |number, name: &str, detail: &[(&str, &str)]| {
        let mut json = Json::object();
        for (name, value) in detail {
            json.set(name, *value);
        }
        NumberedAction {
            number,
            action: OperatorAction {
                at: Timestamp::from_seconds(1_795_000_000),
                operator: "olga@example.com".into(),
                action: name.into(),
                subject: "job_1".into(),
                detail: json,
            },
        }
    };
    vec![
        action(1, "job.open", &[]),
        action(2, "token.revoke", &[("reason", "lost")]),
        action(
            3,
            "rollback.state",
            &[
                ("reason", "wrong"),
                ("failed", "no such state"),
                ("to", "sv-1"),
            ],
        ),
        action(4, "session.lock-out", &[("from", "10.0.0.1")]),
    ]
}

#[tokio::test]
async fn each_record_says_what_a_rule_wants() {
    let rows = rows().await;
    let kinds: BTreeSet<String> = rows
        .iter()
        .map(|row| record::line(row).text("kind").unwrap().to_owned())
        .collect();
    let all = [
        "approval",
        "intent",
        "job-close",
        "job-open",
        "outcome",
        "refusal",
    ];
    assert!(all.iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
    for row in &rows {
        let line = record::line(row);
        let given = |names: &[&str]| {
            for name in names {
                assert!(!line.get(name).is_null(), "{name}: {line:?}");
            }
        };
        given(&[
            "log_index",
            "record_id",
            "time",
            "action",
            "job_id",
            "agent_did",
            "contract",
            "contract_sha256_b64u",
            "leaf_sha256_b64u",
        ]);
        match line.text("kind").unwrap() {
            "intent" => given(&[
                "lane",
                "decision",
                "reason_code",
                "source",
                "token_sha256_hex",
                "request_sha256_b64u",
            ]),
            "outcome" => given(&[
                "lane",
                "decision",
                "source",
                "ended",
                "receipt_id",
                "intent_id",
                "response_sha256_b64u",
            ]),
            "refusal" => given(&["lane", "decision", "reason_code", "reasons", "source"]),
            "approval" => given(&[
                "decision",
                "person",
                "person_did",
                "run_id",
                "workspace_id",
                "plan_sha256_b64u",
            ]),
            _ => given(&["person"]),
        }
    }
}

/// However much of a line was written, it is known for one.
fn begins(format: Format, of: Of, line: &str) {
    for written in [line, &format.header(of)] {
        // Far from the beginning nothing is judged.
        let last = written.len().saturating_sub(1);
        for end in (1..last.min(100)).chain([last]).filter(|end| *end > 0) {
            let part = &written.as_bytes()[..end];
            assert!(format.may_begin(of, part), "{:?}", &written[..40]);
        }
    }
}

#[test]
fn other_files_are_not_taken_for_exports() {
    for format in [Format::Csv, Format::Ocsf, Format::Jsonl] {
        for of in [Of::Records, Of::Actions] {
            for other in [
                "half",
                "1.5",
                "7,seven",
                ",job_1",
                "[{",
                "{\"a\":1",
                "{\"level\":\"info\"",
                "{\"log\": 1",
                "\n",
            ] {
                assert!(!format.may_begin(of, other.as_bytes()), "{other}");
            }
        }
    }
}

#[tokio::test]
async fn an_effect_that_may_have_happened_is_not_called_denied() {
    let rows = rows().await;
    let found = rows.iter().find_map(|row| match &row.record.body {
        Body::Outcome(outcome) => Some((row, outcome)),
        _ => None,
    });
    let (row, outcome) = found.unwrap();
    let no_answer = |ended, code: Option<&str>| {
        let mut outcome = outcome.clone();
        (outcome.ended, outcome.upstream_status) = (ended, None);
        outcome.code = code.map(str::to_owned);
        outcome
    };
    let reset = |code| no_answer(Ended::UpstreamReset, Some(code));
    let mut refused_by_upstream = outcome.clone();
    refused_by_upstream.code = Some("UPSTREAM_REFUSED".into());
    // Allowed is 1, denied and blocked are 2, error is 27; unknown is 0, failure is 2.
    for (outcome, decision, told) in [
        (reset("UPSTREAM_RESET"), "allow", [1, 27, 0]),
        (reset("UPSTREAM_TIMEOUT"), "allow", [1, 27, 0]),
        (reset("INTERNAL"), "allow", [1, 27, 0]),
        (reset("OF_ANOTHER_VERSION"), "allow", [1, 27, 0]),
        (no_answer(Ended::Unknown, None), "allow", [1, 27, 0]),
        (refused_by_upstream, "allow", [1, 27, 2]),
        (
            no_answer(Ended::CutByPolicy, Some("TOKEN_REVOKED")),
            "deny",
            [2, 2, 2],
        ),
        (
            no_answer(Ended::Complete, Some("MODEL_TOOL_NOT_ALLOWED")),
            "deny",
            [2, 2, 2],
        ),
    ] {
        let mut row = row.clone();
        let code = outcome.code.clone();
        row.record.body = Body::Outcome(outcome);
        let line = record::line(&row);
        assert_eq!(line.text("decision"), Some(decision), "{code:?}");
        let expected = code.as_deref().unwrap_or("ALLOWED");
        assert_eq!(line.text("reason_code"), Some(expected));
        let event = ocsf::record_event(&line, &row, ORIGIN);
        let members = ["action_id", "disposition_id", "status_id"];
        assert_eq!(members.map(|name| event[name].clone()), told, "{code:?}");
        assert_eq!(event["authorizations"][0]["decision"], decision);
    }
}

#[tokio::test]
async fn a_line_is_a_line_and_says_where_to_go_on() {
    let origin = ORIGIN;
    for row in rows().await {
        for format in [Format::Csv, Format::Ocsf, Format::Jsonl] {
            let text = record_line(format, &row, origin);
            assert_eq!(text.matches(['\n', '\u{2028}']).count(), 1, "{text:?}");
            assert_eq!(format.number_of(text.trim_end()), Some(row.leaf_index));
            begins(format, Of::Records, &text);
        }
        let json = record_line(Format::Jsonl, &row, origin);
        let json = proof::json::parse(json.trim_end().as_bytes(), proof::Numbers::Integers);
        let record = json.unwrap().get("record").unwrap().to_jcs();
        assert_eq!(proof::merkle::leaf_hash(&record), row.leaf_hash);
    }
    for row in actions() {
        for format in [Format::Csv, Format::Ocsf, Format::Jsonl] {
            let text = action_line(format, &row, origin);
            assert_eq!(format.number_of(text.trim_end()), Some(row.number));
            begins(format, Of::Actions, &text);
        }
    }
    let header = Format::Csv.header(Of::Actions);
    let expected = "action_index,time,person,action,subject,outcome,reasons,detail\r\n";
    assert_eq!(header, expected);
    let failed = action_line(Format::Csv, &actions()[2], origin);
    let expected = "3,2026-11-18T11:06:40.000Z,olga@example.com,rollback.state,job_1,failed,\
                    no such state,\"{\"\"reason\"\":\"\"wrong\"\",\"\"to\"\":\"\"sv-1\"\"}\"\r\n";
    assert_eq!(failed, expected);
}

#[tokio::test]
async fn refusals_and_approvals_are_told_apart_in_ocsf() {
    for row in rows().await {
        let line = record::line(&row);
        let event = ocsf::record_event(&line, &row, ORIGIN);
        assert_eq!(event["class_uid"], 6003);
        let activity = event["activity_id"].as_u64().unwrap();
        assert_eq!(event["type_uid"].as_u64(), Some(600_300 + activity));
        assert_eq!(
            event["metadata"]["correlation_uid"],
            line.get("job_id").clone()
        );
        let told = (&event["action_id"], &event["disposition_id"]);
        match (line.text("kind").unwrap(), line.text("decision")) {
            ("refusal", _) => {
                assert_eq!(told, (&2.into(), &2.into()));
                assert_eq!(event["severity_id"], 3);
                assert_eq!(event["status_code"], line.get("reason_code").clone());
                assert_eq!(event["api"]["response"]["error"], event["status_code"]);
            }
            ("approval", Some("approve")) => assert_eq!(told, (&1.into(), &8.into())),
            ("approval", _) => assert_eq!(told, (&2.into(), &25.into())),
            ("intent", _) => assert_eq!(told, (&1.into(), &1.into())),
            _ => {}
        }
    }
}

/// The schema itself, as others check it.
#[tokio::test]
async fn events_are_valid_by_the_schema() {
    let Some(python) = std::env::var_os("CLAWGATE_PYTHON") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, CLAWGATE_PYTHON must name a Python with `ocsf-json-schema` and `jsonschema`"
        );
        println!("skipped: CLAWGATE_PYTHON does not name a Python with `ocsf-json-schema`");
        return;
    };
    let mut events: Vec<String> = Vec::new();
    for row in rows().await {
        events.push(record_line(Format::Ocsf, &row, ORIGIN));
    }
    for row in actions() {
        events.push(action_line(Format::Ocsf, &row, ORIGIN));
    }
    let validated = |events: &[String]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/export/validate.py");
        let mut validator = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = validator.stdin.take().unwrap();
        let text = events.concat();
        let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = validator.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        writing.join().unwrap().unwrap();
        (output.status.success(), said)
    };
    let (good, said) = validated(&events);
    assert!(good, "{said}");
    // A validator that lets everything pass would prove nothing.
    for (from, to) in [
        ("\"time\":", "\"times\":"),
        ("\"severity_id\":", "\"severity_number\":"),
        ("\"src_endpoint\":", "\"source_endpoint\":"),
    ] {
        let broken = events[0].replace(from, to);
        assert_ne!(broken, events[0]);
        let (good, said) = validated(&[broken]);
        assert!(!good, "{from}: {said}");
    }
}
