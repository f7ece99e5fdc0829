//! The records themselves: their numbering, their frame, their times, and which belong together.

use std::collections::HashMap;
use std::net::IpAddr;

use proof::Json;
use proof::record::{
    Body, CausedBy, Ended, Intent, Lane, MAX_TOOL_CALLS, MAX_TOOL_NAME, Match, Outcome, ToolCall,
};

use crate::code::Code;
use crate::document::Document;
use crate::report::Findings;

/// Numbers without gaps, one open, one close, time that does not run backwards.
pub(crate) fn check_sequence(document: &Document, findings: &mut Findings) -> Option<()> {
    let records = &document.bundle.records;
    let count = records.len() as u64;
    let mut latest = None;
    for ((place, record), expected) in document.placed().zip(1u64..) {
        if record.seq != expected {
            let detail = format!("number {} where {expected} must be", record.seq);
            findings.fail(Code::SequenceGap, format!("{place}/seq"), detail);
        }
        if latest.is_some_and(|before| record.at < before) {
            findings.fail(
                Code::TimeBackwards,
                format!("{place}/at"),
                "earlier than the record before",
            );
        }
        latest = Some(record.at);
        let stands_right = match &record.body {
            Body::JobOpen(_) => expected == 1,
            Body::JobClose(_) => expected == count,
            _ => expected != 1 && expected != count,
        };
        findings.require(
            stands_right,
            Code::RecordOrder,
            place,
            "job-open is the first and job-close the last record, and only they",
        );
        if let Body::JobClose(close) = &record.body {
            findings.require(
                close.count == count,
                Code::CountMismatch,
                format_args!("{place}/count"),
                "not the number of records in the bundle",
            );
        }
    }
    let job = &document.bundle.job;
    if let (Some(first), Some(last)) = (records.first(), records.last()) {
        findings.require(
            job.opened_at == first.at && job.closed_at == last.at,
            Code::JobMismatch,
            "/job",
            "the job's times are not those of its first and last record",
        );
    }
    findings.note(format!("{count} records"));
    Some(())
}

/// Outcome number by intent number.
pub(crate) type Calls = HashMap<u64, u64>;

/// Outcomes of model calls with their places in the job, by receipt.
type Answers<'a> = HashMap<&'a str, (u64, &'a Outcome)>;

fn answers(document: &Document) -> Answers<'_> {
    let by_model = |outcome: &Outcome| {
        let intent = document.intent(outcome.intent_seq);
        intent.is_some_and(|(_, intent)| intent.lane == Lane::Model)
    };
    let outcomes = document
        .outcomes()
        .filter(|(_, _, outcome)| by_model(outcome));
    let named = outcomes.filter_map(|(_, record, outcome)| {
        let receipt = outcome.receipt.as_ref()?;
        Some((receipt.receipt_id.as_str(), (record.seq, outcome)))
    });
    named.collect()
}

/// Whether one of them can have asked for the call of that number as it is claimed.
fn can_have_caused(answers: &Answers<'_>, cause: &CausedBy, seq: u64) -> bool {
    let Some((answered, outcome)) = answers.get(cause.receipt_id.as_str()) else {
        return false;
    };
    let as_named = match (cause.by, &cause.tool) {
        (Match::Arguments, Some(tool)) => {
            tool.arguments_sha256_b64u.is_some() && outcome.tool_calls.contains(tool)
        }
        (Match::Sequence, None) => true,
        (Match::Arguments, None) | (Match::Sequence, Some(_)) => false,
    };
    *answered < seq && as_named
}

/// Whether an outcome says of what was sent elsewhere as much as its call allows: nothing unless it
/// went through the egress proxy, and then where to, among the addresses of the decision.
fn egress_fits(intent: &Intent, outcome: &Outcome) -> bool {
    let known = outcome.ended != Ended::Unknown;
    let Some(egress) = &outcome.egress else {
        return intent.lane != Lane::Egress || !known;
    };
    let addresses = intent.input.get("addresses").and_then(Json::as_array);
    let decided = |address: IpAddr| {
        let text = address.to_string();
        let mut addresses = addresses.unwrap_or_default().iter();
        addresses.any(|own| own.as_str() == Some(&text))
    };
    let passed = egress.sent_bytes > 0 || outcome.response_bytes > 0;
    intent.lane == Lane::Egress && known && egress.address.map_or(!passed, decided)
}

/// One outcome for each intent, after it; and callers that can be.
pub(crate) fn check_calls(document: &Document, findings: &mut Findings) -> Option<Calls> {
    let mut calls = Calls::new();
    for (place, record, outcome) in document.outcomes() {
        let intent = document.intent(outcome.intent_seq);
        if intent.is_none_or(|(intent, _)| intent.seq >= record.seq) {
            findings.fail(
                Code::OutcomeWithoutIntent,
                format!("{place}/intent_seq"),
                format!("record {} is no earlier intent", outcome.intent_seq),
            );
            continue;
        }
        let by_model = intent.is_some_and(|(_, intent)| intent.lane == Lane::Model);
        let few = outcome.tool_calls.len() <= MAX_TOOL_CALLS;
        let short = |call: &ToolCall| call.name.len() <= MAX_TOOL_NAME;
        findings.require(
            outcome.tool_calls.is_empty()
                || (by_model && few && outcome.tool_calls.iter().all(short)),
            Code::ToolCallsStray,
            format_args!("{place}/tool_calls"),
            "only the answer of a model asks for tools, and few of them are named",
        );
        findings.require(
            intent.is_some_and(|(_, intent)| egress_fits(intent, outcome)),
            Code::EgressStray,
            format_args!("{place}/egress"),
            "only a connection through the egress proxy sends elsewhere, to an address that was \
             decided about",
        );
        if let Some(other) = calls.insert(outcome.intent_seq, record.seq) {
            let detail = format!("intent {} ended in record {other}", outcome.intent_seq);
            findings.fail(Code::OutcomeTwice, place, detail);
        }
        if outcome.ended == Ended::Unknown {
            let detail = format!("what became of intent {}", outcome.intent_seq);
            findings.not_proven(Code::OutcomeUnknown, place, detail);
        }
    }
    let answers = answers(document);
    for (place, record, intent) in document.intents() {
        if !calls.contains_key(&record.seq) {
            let detail = format!("{} has no outcome", intent.operation);
            findings.fail(Code::IntentWithoutOutcome, place, detail);
        }
        findings.require(
            (intent.lane == Lane::Gateway) == (intent.caller.token_hash == "gateway"),
            Code::CallerUnknown,
            format_args!("{place}/caller"),
            "the gateway calls in its own lane, agents in the others",
        );
        if let Some(cause) = &intent.caused_by {
            findings.require(
                intent.lane == Lane::Terraform && can_have_caused(&answers, cause, record.seq),
                Code::CauseStray,
                format_args!("{place}/caused_by"),
                "no earlier model call of the job asked for this",
            );
        }
    }
    findings.note(format!("{} calls", calls.len()));
    Some(calls)
}
