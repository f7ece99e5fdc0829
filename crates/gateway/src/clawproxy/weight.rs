//! What a record takes in its job's bundle, in bytes.
//!
//! A bundle that is larger than verifiers read proves nothing, so a job takes no more calls before
//! its bundle comes to that. The numbers are counted without writing the record: what every record
//! of its kind has is a constant, what an agent can make longer is counted.

use proof::Json;
use proof::record::{Intent, Lane, MAX_TOOL_CALLS, MAX_TOOL_NAME, Outcome, Refusal};

/// What stands in the bundle for each record besides itself: its inclusion proof in a log of a
/// million records (20 hashes of 43 characters), and for each call, which has two records, an
/// event (some 320 bytes) and a receipt (some 1240).
pub const BESIDES: u64 = 1920;

/// An intent without its input and its decision.
const INTENT: u64 = 600;
/// An outcome without tool calls.
const OUTCOME: u64 = 560;
/// A refusal without input and reasons.
const REFUSAL: u64 = 600;
/// What was sent through the egress proxy.
const EGRESS: u64 = 180;
/// One tool call of an outcome, without its name.
const TOOL_CALL: u64 = 88;

pub(super) fn of_intent(intent: &Intent) -> u64 {
    let run = intent.run_id.as_deref().map_or(0, of_text);
    INTENT + run + of_json(&intent.input) + of_json(&intent.decision)
}

pub(super) fn of_refusal(refusal: &Refusal) -> u64 {
    let reasons: u64 = refusal.reasons.iter().map(|reason| of_text(reason)).sum();
    REFUSAL + reasons + of_text(&refusal.asked) + refusal.input.as_ref().map_or(0, of_json)
}

pub(super) fn of_outcome(outcome: &Outcome) -> u64 {
    let call = |name: &str| TOOL_CALL + of_text(name);
    let calls = outcome.tool_calls.iter().map(|tool| call(&tool.name));
    let egress = outcome.egress.as_ref().map_or(0, |_| EGRESS);
    OUTCOME + calls.sum::<u64>() + egress
}

/// Most that an outcome of a lane comes to, while nobody knows it.
pub(super) fn most_of_outcome(lane: Lane) -> u64 {
    match lane {
        Lane::Model => OUTCOME + MAX_TOOL_CALLS as u64 * (TOOL_CALL + MAX_TOOL_NAME as u64 + 3),
        Lane::Egress => OUTCOME + EGRESS,
        Lane::Terraform | Lane::Gateway => OUTCOME,
    }
}

/// A value in canonical form, with the comma behind it.
fn of_json(json: &Json) -> u64 {
    match json {
        Json::Null | Json::Bool(_) => 6,
        Json::Integer(_) | Json::Double(_) => 25,
        Json::String(text) => of_text(text),
        Json::Array(entries) => 3 + entries.iter().map(of_json).sum::<u64>(),
        Json::Object(members) => {
            let member = |(name, value): &(String, Json)| of_text(name) + of_json(value);
            3 + members.iter().map(member).sum::<u64>()
        }
    }
}

/// A text with its quotes and the sign behind it, escapes included.
fn of_text(text: &str) -> u64 {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    3 + text.bytes().map(byte).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_never_longer_than_it_is_said_to_be() {
        for value in [
            json!(null),
            json!(-9_007_199_254_740_991_i64),
            json!("\u{1}\"\\\n\u{e9}"),
            json!([]),
            json!({"a": [1, "b", null, true], "tools": vec!["t\"".repeat(64); 99]}),
        ] {
            let json = Json::from(value);
            let written = json.to_jcs().len() as u64;
            let said = of_json(&json);
            assert!(
                (written..=2 * written + 25).contains(&said),
                "{said} {written}"
            );
        }
    }
}
