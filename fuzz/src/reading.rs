//! What the model lane reads out of answers as they pass: events, token counts, tool calls.
//!
//! The readers are private to the gateway, and their files are read here as they stand: the crate
//! around them is a network server, which nobody wants to instrument.

#[allow(
    dead_code,
    reason = "the gateway uses all of it, the properties a part"
)]
#[path = "../../crates/gateway/src/clawproxy/model/sse.rs"]
mod sse;
#[allow(
    dead_code,
    reason = "the gateway uses all of it, the properties a part"
)]
#[path = "../../crates/gateway/src/clawproxy/model/tool_calls.rs"]
mod tool_calls;
#[allow(
    dead_code,
    reason = "the gateway uses all of it, the properties a part"
)]
#[path = "../../crates/gateway/src/clawproxy/model/usage.rs"]
mod usage;

use proof::json::{self, Json, Numbers};
use proof::record::{MAX_TOOL_CALLS, MAX_TOOL_NAME, ToolCall};
use serde::de::IgnoredAny;
use serde_json::Value;

use sse::{EventReader, Place};
use tool_calls::DocumentCalls;
use usage::{MAX_TOKENS, Reported, UsageReader};

/// Longest `usage` object that is read, so that the definition below need not be cut.
const SHORT: usize = 4096;

/// Lengths of the pieces, from the first two bytes; the rest is what is read.
fn in_pieces(data: &[u8]) -> Option<(impl Iterator<Item = &[u8]>, &[u8])> {
    let (lengths, text) = data.split_at_checked(2)?;
    let (first, then) = (usize::from(lengths[0]), usize::from(lengths[1]).max(1));
    let (head, tail) = text.split_at(first.min(text.len()));
    Some((std::iter::once(head).chain(tail.chunks(then)), text))
}

/// A stream of events: pieces make no difference, the events are those that the definition
/// finds, and what may be appended where it stands begins a line of its own.
pub fn events(data: &[u8]) {
    let Some((pieces, text)) = in_pieces(data) else {
        return;
    };
    let (mut whole, mut reader) = (EventReader::new(true), EventReader::new(true));
    whole.feed(text);
    pieces.for_each(|piece| reader.feed(piece));
    assert_eq!(reader.reported(), whole.reported());
    assert_eq!(reader.events(), whole.events());
    assert_eq!(reader.has_ended(), whole.has_ended());
    assert_eq!(reader.place(), whole.place());
    check_reported(whole.reported());
    let defined = Defined::of(text);
    assert_eq!(whole.events(), defined.events);
    assert_eq!(whole.has_ended(), defined.ended);
    assert_eq!(whole.place(), defined.place);
    let calls = whole.tool_calls();
    check_calls(&calls);
    assert_eq!(reader.tool_calls(), calls);
}

/// What the standard says about events, without a thought of pieces.
struct Defined {
    events: u64,
    ended: bool,
    place: Place,
}

impl Defined {
    fn of(text: &[u8]) -> Self {
        let (mut events, mut ended) = (0, false);
        let (mut data, mut name) = (None::<Vec<u8>>, Vec::new());
        let mut open = false;
        let mut rest = text;
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, after) = rest.split_at(end);
            rest = match after {
                [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
                [] => after,
            };
            open = !line.is_empty();
            if !open {
                if let Some(data) = &data {
                    events += 1;
                    let last: [&[u8]; 4] = [
                        b"message_stop",
                        b"response.completed",
                        b"response.incomplete",
                        b"response.failed",
                    ];
                    ended |= last.contains(&&name[..]) || data == b"[DONE]\n";
                }
                (data, name) = (None, Vec::new());
                continue;
            }
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let value = &line[colon + 1..];
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &line[..colon] {
                b"data" => {
                    let data = data.get_or_insert_default();
                    data.extend_from_slice(value);
                    data.push(b'\n');
                }
                b"event" => name = value.to_vec(),
                _ => {}
            }
        }
        let place = match (rest.is_empty(), open) {
            (false, _) => Place::WithinLine,
            (true, true) => Place::WithinEvent,
            (true, false) => Place::BetweenEvents,
        };
        Self {
            events,
            ended,
            place,
        }
    }
}

/// Token counts: pieces make no difference, and of a JSON document they are those that stand
/// where the two APIs put them.
pub fn usage(data: &[u8]) {
    let Some((pieces, text)) = in_pieces(data) else {
        return;
    };
    let (mut whole, mut reader) = (UsageReader::default(), UsageReader::default());
    whole.feed(text);
    pieces.for_each(|piece| reader.feed(piece));
    assert_eq!(reader.reported(), whole.reported());
    check_reported(whole.reported());
    // An escape in a name is another spelling, which is not looked for.
    if text.len() < SHORT
        && !text.contains(&b'\\')
        && let Ok(document) = json::parse(text, Numbers::Any)
        && let Ok(values) = serde_json::from_slice(text)
    {
        assert_eq!(whole.reported(), said_in(&document, &values), "{values}");
    }
    whole.next_document();
    let before = whole.reported();
    whole.feed(b"{}");
    assert_eq!(whole.reported(), before);
}

/// Of the places of `usage`, the last in the text counts. The order is that of `document`, the
/// numbers are those of `values`, where 12.0 is still no count.
fn said_in(document: &Json, values: &Value) -> Reported {
    let mut reported = Reported::default();
    for (name, value) in members(document) {
        match name.as_str() {
            "usage" => learn_from(&mut reported, &values["usage"]),
            carrier @ ("message" | "response") => {
                if members(value).iter().any(|(name, _)| name == "usage") {
                    learn_from(&mut reported, &values[carrier]["usage"]);
                }
            }
            _ => {}
        }
    }
    reported
}

fn members(value: &Json) -> &[(String, Json)] {
    match value {
        Json::Object(members) => members,
        _ => &[],
    }
}

fn learn_from(reported: &mut Reported, said: &Value) {
    let Value::Object(said) = said else {
        return;
    };
    const COUNTS: [&str; 6] = [
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
    ];
    // One count that is none, and nothing of the object is believed.
    let mut counts = [None; 6];
    for (count, name) in counts.iter_mut().zip(COUNTS) {
        *count = match said.get(name) {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_u64() {
                Some(tokens) => Some(tokens),
                None => return,
            },
        };
    }
    let [prompt, completion, input, created, read, output] = counts;
    let cached = created.unwrap_or(0).saturating_add(read.unwrap_or(0));
    let input = prompt
        .or(input)
        .map(|tokens| tokens.saturating_add(cached).min(MAX_TOKENS));
    let output = completion.or(output).map(|tokens| tokens.min(MAX_TOKENS));
    reported.input = input.or(reported.input);
    reported.output = output.or(reported.output);
}

fn check_reported(reported: Reported) {
    for tokens in [reported.input, reported.output].into_iter().flatten() {
        assert!(tokens <= MAX_TOKENS);
    }
}

/// Tool calls of a whole answer: pieces make no difference, all are within their bounds, and
/// what is no JSON asks for none.
pub fn tools(data: &[u8]) {
    let Some((pieces, text)) = in_pieces(data) else {
        return;
    };
    let (mut whole, mut reader) = (DocumentCalls::default(), DocumentCalls::default());
    whole.feed(text);
    pieces.for_each(|piece| reader.feed(piece));
    let calls = whole.finish();
    assert_eq!(reader.finish(), calls);
    check_calls(&calls);
    // Texts that nobody looks at need not be UTF-8.
    if serde_json::from_slice::<IgnoredAny>(text).is_err() {
        assert_eq!(calls, []);
    }
}

fn check_calls(calls: &[ToolCall]) {
    assert!(calls.len() <= MAX_TOOL_CALLS);
    assert!(calls.iter().all(|call| call.name.len() <= MAX_TOOL_NAME));
}
