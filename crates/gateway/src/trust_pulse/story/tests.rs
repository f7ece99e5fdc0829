use proof::Hash;
use proof::record::{Caller, JobClose, JobId, ReceiptRef, Usage};
use proof::{Json, SigningKey};
use serde_json::json;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_000_000 + seconds)
}

fn record(seq: u64, body: Body) -> Record {
    let job_id: JobId = "job_1".parse().unwrap();
    Record {
        job_id,
        seq,
        at: at(i64::try_from(seq).unwrap()),
        body,
    }
}

fn caller() -> Caller {
    let agent_did = SigningKey::from_seed(&[1; 32]).did();
    Caller {
        token_hash: "00".into(),
        agent_did,
        holder: "h".into(),
    }
}

fn intent(seq: u64, lane: Lane, operation: &str, input: serde_json::Value) -> Record {
    let hash = Hash::of(b"x");
    let intent = Intent {
        caller: caller(),
        lane,
        operation: operation.into(),
        run_id: None,
        input: Json::from(input),
        decision: Json::object(),
        policy_hash_b64u: hash,
        request_hash_b64u: hash,
        trace_id: None,
        caused_by: None,
    };
    record(seq, Body::Intent(Box::new(intent)))
}

fn outcome(seq: u64, intent_seq: u64, status: u16, usage: Option<Usage>) -> Record {
    let hash = Hash::of(b"x");
    let outcome = Outcome {
        intent_seq,
        tool_calls: Vec::new(),
        status: Some(status),
        upstream_status: None,
        response_hash_b64u: hash,
        response_bytes: 0,
        latency_ms: 1,
        first_byte_ms: None,
        usage,
        object_id: None,
        egress: None,
        ended: Ended::Complete,
        code: None,
        receipt: Some(ReceiptRef {
            receipt_id: format!("rcpt_{intent_seq}"),
            payload_hash_b64u: hash,
        }),
    };
    record(seq, Body::Outcome(Box::new(outcome)))
}

fn refusal(seq: u64, code: &str) -> Record {
    let hash = Hash::of(b"x");
    let refusal = Refusal {
        caller: caller(),
        lane: Lane::Terraform,
        asked: "create-run".into(),
        target_hash_b64u: hash,
        code: code.into(),
        reasons: vec!["why".into()],
        run_id: None,
        input: None,
        policy_hash_b64u: hash,
    };
    record(seq, Body::Refusal(Box::new(refusal)))
}

fn story(bounds: StoryBounds, records: &[Record]) -> Story {
    let mut story = Story::new(at(0), at(100), bounds);
    for record in records {
        story.push(record);
    }
    story
}

fn small() -> StoryBounds {
    StoryBounds {
        head: 2,
        tail: 2,
        rows: 2,
        kinds: 2,
    }
}

#[test]
fn reads_and_model_calls_become_one_stretch_with_all_their_tokens() {
    let usage = |tokens_input| {
        Some(Usage {
            tokens_input,
            tokens_output: 1,
            derived: false,
        })
    };
    let model = json!({"provider": "openai", "model": "m"});
    let records = [
        intent(1, Lane::Terraform, "read-run", json!({})),
        intent(2, Lane::Model, "messages", model.clone()),
        intent(3, Lane::Model, "messages", model),
        outcome(4, 3, 200, usage(7)),
        outcome(5, 1, 200, None),
        intent(
            6,
            Lane::Terraform,
            "create-run",
            json!({"workspace_id": "ws-1"}),
        ),
        outcome(7, 2, 200, usage(5)),
        outcome(8, 6, 201, None),
        intent(9, Lane::Terraform, "read-run", json!({})),
    ];
    let story = story(small(), &records);
    let entries: Vec<&Entry> = story.entries().collect();
    assert_eq!(entries.len(), 3);
    let What::Stretch(stretch) = &entries[0].what else {
        panic!("{entries:?}")
    };
    assert_eq!((stretch.model_calls(), stretch.read_calls()), (2, 1));
    assert_eq!(
        stretch.models[0].tokens_in, 12,
        "also of rows that are not listed"
    );
    assert_eq!((stretch.rows.len(), stretch.more), (2, 1));
    assert_eq!(stretch.rows[0].receipt, "rcpt_1");
    let What::Call(call) = &entries[1].what else {
        panic!("{entries:?}")
    };
    assert_eq!(
        (call.end.as_str(), call.receipt.as_str(), call.failed),
        ("201", "rcpt_6", false)
    );
    assert_eq!(call.about, ["ws-1"]);
    let What::Stretch(stretch) = &entries[2].what else {
        panic!("{entries:?}")
    };
    assert_eq!(stretch.rows[0].end, NO_ANSWER);
    assert_eq!(
        (story.models[0].calls, story.changes, story.reads),
        (2, 1, 2)
    );
}

#[test]
fn the_same_refusal_in_a_row_is_one_entry() {
    let codes = [
        "STATE_READ_DENIED",
        "STATE_READ_DENIED",
        "TOKEN_SCOPE",
        "STATE_READ_DENIED",
    ];
    let records: Vec<Record> = (1..)
        .zip(codes)
        .map(|(seq, code)| refusal(seq, code))
        .collect();
    let story = story(StoryBounds::default(), &records);
    let times: Vec<u64> = story
        .entries()
        .map(|entry| match &entry.what {
            What::Refused(refused) => refused.times,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [2, 1, 1]);
    let grouped: Vec<(&str, u64)> = story
        .refusals
        .iter()
        .map(|r| (r.code.as_str(), r.times))
        .collect();
    assert_eq!(grouped, [("STATE_READ_DENIED", 3), ("TOKEN_SCOPE", 1)]);
    assert_eq!(story.refusals[0].title, ReasonCode::StateReadDenied.title());
}

#[test]
fn a_long_job_keeps_its_beginning_and_its_end() {
    let mut records = Vec::new();
    for seq in 0..50 {
        records.push(intent(
            2 * seq + 1,
            Lane::Terraform,
            "create-run",
            json!({}),
        ));
        records.push(outcome(2 * seq + 2, 2 * seq + 1, 201, None));
    }
    // An outcome of an entry that is left out by then.
    records.insert(2, intent(1000, Lane::Terraform, "cancel-run", json!({})));
    records.push(outcome(1001, 1000, 200, None));
    let close = JobClose {
        closed_by: "o".into(),
        reason: "r".into(),
        count: 1,
        policy_hash_b64u: Hash::of(b"x"),
    };
    records.push(record(1002, Body::JobClose(close)));
    let story = story(small(), &records);
    let seqs: Vec<u64> = story.entries().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [1, 1000, 99, 1002]);
    assert_eq!((story.kept_head(), story.dropped()), (2, 48));
    for entry in story.entries() {
        if let What::Call(call) = &entry.what {
            assert!(!call.receipt.is_empty(), "{entry:?}");
        }
    }
}

#[test]
fn refusals_and_models_beyond_the_bound_are_counted() {
    let codes = ["A", "B", "C", "D"];
    let records: Vec<Record> = (1..)
        .zip(codes)
        .map(|(seq, code)| refusal(seq, code))
        .collect();
    let told = story(small(), &records);
    assert_eq!((told.refusals.len(), told.refusals_more), (2, 2));
    let records: Vec<Record> = (1..5)
        .map(|seq| {
            let input = json!({"provider": "p", "model": format!("m{seq}")});
            intent(seq, Lane::Model, "messages", input)
        })
        .collect();
    let told = story(small(), &records);
    assert_eq!(told.models.iter().map(|tally| tally.calls).sum::<u64>(), 4);
    assert_eq!(told.models.len(), 2);
}

#[test]
fn the_strip_shows_the_weightiest_thing() {
    let records = [
        intent(1, Lane::Terraform, "read-run", json!({})),
        refusal(1, "TOKEN_SCOPE"),
        intent(50, Lane::Model, "messages", json!({})),
        intent(99, Lane::Gateway, "apply-run", json!({})),
    ];
    let story = story(StoryBounds::default(), &records);
    let tones: Vec<Tone> = story
        .bars
        .iter()
        .filter(|bar| bar.records > 0)
        .map(bar_tone)
        .collect();
    assert_eq!(tones, [Tone::Refused, Tone::Model, Tone::Applied]);
}
