//! Reads which tools an answer asks for, as it passes: the name, and the hash of the arguments.
//!
//! Both APIs and both of OpenAI's forms are told apart by their members, which no two of them
//! share. A document is kept until its end and an event until its blank line, both bounded; what
//! is longer than the bound leaves calls without a hash, never with a wrong one.

use std::borrow::Cow;

use proof::Hash;
use proof::json::{Numbers, parse};
use proof::record::{MAX_TOOL_CALLS, MAX_TOOL_NAME, ToolCall};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest document that is kept to be read.
const MAX_DOCUMENT: usize = 1 << 20;
/// Longest event that is kept to be read.
const MAX_EVENT: usize = 256 << 10;
/// Longest arguments of all calls of an answer together.
const MAX_ARGUMENTS: usize = 1 << 20;

/// The calls of an answer that comes whole.
#[derive(Debug, Default)]
pub(super) struct DocumentCalls {
    bytes: Vec<u8>,
    too_long: bool,
}

impl DocumentCalls {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.too_long |= self.bytes.len() + bytes.len() > MAX_DOCUMENT;
        if self.too_long {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// What was asked for.
    pub(super) fn finish(self) -> Vec<ToolCall> {
        let mut calls = Calls::default();
        if let Ok(answer) = serde_json::from_slice::<Answer<'_>>(&self.bytes) {
            answer.tell(&mut calls);
        }
        calls.finish()
    }
}

/// The calls of an answer that comes in events.
#[derive(Debug, Default)]
pub(super) struct EventCalls {
    event: Vec<u8>,
    too_long: bool,
    calls: Calls,
}

impl EventCalls {
    /// Takes the next bytes of an event's data.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.too_long |= self.event.len() + bytes.len() > MAX_EVENT;
        if !self.too_long {
            self.event.extend_from_slice(bytes);
        }
    }

    /// The event is complete.
    pub(super) fn event_ends(&mut self) {
        if self.too_long {
            // It may have held a part of any call.
            self.calls.cut();
        } else if mentions_tools(&self.event)
            && let Ok(event) = serde_json::from_slice::<Answer<'_>>(&self.event)
        {
            event.tell(&mut self.calls);
        }
        self.too_long = false;
        self.event.clear();
    }

    /// What was asked for.
    pub(super) fn finish(self) -> Vec<ToolCall> {
        self.calls.finish()
    }
}

/// Whether it is worth reading: most events of a stream are pieces of text.
fn mentions_tools(event: &[u8]) -> bool {
    ["tool_call", "function_call", "tool_use", "input_json_delta"]
        .iter()
        .any(|word| memchr::memmem::find(event, word.as_bytes()).is_some())
}

/// Members of an answer or of an event, of any of the APIs.
#[derive(Deserialize)]
struct Answer<'a> {
    /// Chat completions.
    #[serde(default, borrow)]
    choices: Vec<Choice<'a>>,
    /// Responses, whole.
    #[serde(default, borrow)]
    output: Vec<Item<'a>>,
    /// Responses, in events.
    #[serde(borrow)]
    item: Option<Item<'a>>,
    /// Messages, whole.
    #[serde(default, borrow)]
    content: Vec<Item<'a>>,
    /// The kind of an event.
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    /// Messages, in events.
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    content_block: Option<Item<'a>>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    delta: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow)]
    function_call: Option<Named<'a>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Option<Named<'a>>,
    #[serde(borrow)]
    custom: Option<Named<'a>>,
}

/// A function with arguments, or a tool with input.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// An item of a response, or a block of a message.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    partial_json: Option<Cow<'a, str>>,
}

impl Answer<'_> {
    fn tell(&self, calls: &mut Calls) {
        for choice in &self.choices {
            for message in [&choice.message, &choice.delta].into_iter().flatten() {
                message.tell(choice.index, calls);
            }
        }
        for item in self.output.iter().chain(&self.content) {
            item.tell(Key::None, calls);
        }
        match self.kind.as_deref() {
            Some("response.output_item.done") => {
                if let Some(item) = &self.item {
                    item.tell(Key::None, calls);
                }
            }
            Some("content_block_start") => {
                if let Some(block) = &self.content_block {
                    block.tell(Key::Block(self.index), calls);
                }
            }
            Some("content_block_delta") => {
                let delta = self.delta.map(RawValue::get);
                let delta = delta.and_then(|delta| serde_json::from_str::<Delta<'_>>(delta).ok());
                if let Some(part) = delta.and_then(|delta| delta.partial_json) {
                    calls.more(Key::Block(self.index), &part);
                }
            }
            _ => {}
        }
    }
}

impl Message<'_> {
    fn tell(&self, choice: u64, calls: &mut Calls) {
        for call in self.tool_calls.iter().flatten() {
            let key = call
                .index
                .map_or(Key::None, |index| Key::Call(choice, index));
            for named in [&call.function, &call.custom].into_iter().flatten() {
                named.tell(key, call.id.as_deref(), calls);
            }
        }
        if let Some(named) = &self.function_call {
            named.tell(Key::Function(choice), None, calls);
        }
    }
}

impl Named<'_> {
    fn tell(&self, key: Key, id: Option<&str>, calls: &mut Calls) {
        let name = self.name.as_deref().unwrap_or_default();
        if calls.begins(key, id) {
            calls.begin(key, id, name);
        }
        if let Some(arguments) = self.arguments {
            calls.value(key, arguments.get(), Kind::Arguments);
        } else if let Some(input) = self.input {
            calls.value(key, input.get(), Kind::Text);
        }
    }
}

impl Item<'_> {
    fn tell(&self, key: Key, calls: &mut Calls) {
        let kind = self.kind.as_deref().unwrap_or_default();
        if !matches!(
            kind,
            "function_call" | "custom_tool_call" | "tool_use" | "server_tool_use" | "mcp_tool_use"
        ) {
            return;
        }
        calls.begin(key, None, self.name.as_deref().unwrap_or_default());
        match (self.arguments, self.input) {
            (Some(arguments), _) => calls.value(key, arguments.get(), Kind::Arguments),
            (None, Some(input)) if kind == "custom_tool_call" => {
                calls.value(key, input.get(), Kind::Text);
            }
            // A block that begins has an empty object, and its parts follow.
            (None, Some(input)) if input.get() != "{}" || matches!(key, Key::None) => {
                calls.value(key, input.get(), Kind::Arguments);
            }
            (None, _) => {}
        }
    }
}

/// By what the parts of a call belong together; `None` belongs to the last call alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    None,
    Call(u64, u64),
    Function(u64),
    Block(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// JSON, usually written into a text.
    Arguments,
    /// A text that is no JSON.
    Text,
}

#[derive(Debug)]
struct Open {
    key: Key,
    id: String,
    name: String,
    kind: Kind,
    arguments: String,
    cut: bool,
}

#[derive(Debug, Default)]
struct Calls {
    open: Vec<Open>,
    /// Bytes of all arguments.
    length: usize,
    /// More calls came than are kept; their parts belong to nobody.
    full: bool,
}

impl Calls {
    /// Whether a part with this key is the first of its call. Some providers write the name
    /// into every part, and some give every call the same place.
    fn begins(&self, key: Key, id: Option<&str>) -> bool {
        let same = self.open.iter().rev().find(|open| open.key == key);
        match (key, same) {
            (Key::None, _) | (_, None) => true,
            (_, Some(open)) => id.is_some_and(|id| !id.is_empty() && id != open.id),
        }
    }

    fn begin(&mut self, key: Key, id: Option<&str>, name: &str) {
        self.full = self.open.len() == MAX_TOOL_CALLS;
        if self.full {
            return;
        }
        let mut name = name.to_owned();
        name.truncate(name.floor_char_boundary(MAX_TOOL_NAME));
        self.open.push(Open {
            key,
            id: id.unwrap_or_default().chars().take(128).collect(),
            name,
            kind: Kind::Arguments,
            arguments: String::new(),
            cut: false,
        });
    }

    /// Arguments as they stand in the answer: a text that holds them, or the value itself.
    fn value(&mut self, key: Key, raw: &str, kind: Kind) {
        if let Some(open) = self.find(key) {
            open.kind = kind;
        }
        match serde_json::from_str::<Cow<'_, str>>(raw) {
            Ok(text) => self.more(key, &text),
            Err(_) if raw == "null" => {}
            Err(_) => self.more(key, raw),
        }
    }

    fn more(&mut self, key: Key, part: &str) {
        let fits = self.length + part.len() <= MAX_ARGUMENTS;
        let Some(open) = self.find(key) else {
            return;
        };
        open.cut |= !fits;
        if fits {
            open.arguments.push_str(part);
            self.length += part.len();
        }
    }

    fn find(&mut self, key: Key) -> Option<&mut Open> {
        if self.full && key == Key::None {
            return None;
        }
        self.open.iter_mut().rev().find(|open| open.key == key)
    }

    /// A part of the answer was not read: nothing is known of the arguments so far.
    fn cut(&mut self) {
        for open in &mut self.open {
            open.cut = true;
        }
    }

    fn finish(self) -> Vec<ToolCall> {
        let calls = self.open.into_iter();
        calls
            .map(|open| ToolCall {
                arguments_sha256_b64u: open.hash(),
                name: open.name,
            })
            .collect()
    }
}

impl Open {
    fn hash(&self) -> Option<Hash> {
        if self.cut {
            return None;
        }
        let canonical = match self.kind {
            Kind::Text => proof::Json::from(self.arguments.as_str()).to_jcs(),
            // No arguments are written in two ways.
            Kind::Arguments if self.arguments.trim().is_empty() => b"{}".to_vec(),
            Kind::Arguments => parse(self.arguments.as_bytes(), Numbers::Any)
                .ok()?
                .to_jcs(),
        };
        Some(Hash::of(&canonical))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sse::EventReader;
    use super::*;

    fn call(name: &str, canonical: Option<&str>) -> ToolCall {
        ToolCall {
            name: name.to_owned(),
            arguments_sha256_b64u: canonical.map(|text| Hash::of(text.as_bytes())),
        }
    }

    fn document(text: &str) -> Vec<ToolCall> {
        let mut calls = DocumentCalls::default();
        text.as_bytes()
            .chunks(7)
            .for_each(|piece| calls.feed(piece));
        calls.finish()
    }

    fn events(data: &[&str]) -> Vec<ToolCall> {
        let text: String = data
            .iter()
            .map(|data| format!("data: {data}\n\n"))
            .collect();
        let mut found = Vec::new();
        for size in [1, 13, text.len()] {
            let mut reader = EventReader::new(true);
            text.as_bytes()
                .chunks(size)
                .for_each(|piece| reader.feed(piece));
            found.push(reader.tool_calls());
        }
        assert!(found.iter().all(|calls| *calls == found[0]), "{found:?}");
        found.remove(0)
    }

    #[test]
    fn whole_answers_of_each_api() {
        let canonical = Some(r#"{"a":1,"b":[2.5]}"#);
        for (text, calls) in [
            (
                r#"{"choices":[{"index":0,"message":{"content":null,"tool_calls":[
                {"id":"c1","type":"function","function":{"name":"plan","arguments":"{ \"b\":[2.50], \"a\":1}"}},
                {"id":"c2","type":"custom","custom":{"name":"shell","input":"ls"}},
                {"id":"c3","function":{"name":"none","arguments":""}},
                {"id":"c4","function":{"name":"broken","arguments":"{"}},
                {"id":"c5","function":{"name":"twice","arguments":"{\"a\":1,\"a\":2}"}}]}}]}"#,
                vec![
                    call("plan", canonical),
                    call("shell", Some("\"ls\"")),
                    call("none", Some("{}")),
                    call("broken", None),
                    call("twice", None),
                ],
            ),
            (
                r#"{"choices":[{"message":{"function_call":{"name":"old","arguments":"{}"}}}]}"#,
                vec![call("old", Some("{}"))],
            ),
            (
                r#"{"output":[{"type":"reasoning"},{"type":"function_call","name":"plan","arguments":"{\"b\":[2.5],\"a\":1}"},
                {"type":"custom_tool_call","name":"shell","input":"ls"},{"type":"message","content":[{"type":"output_text"}]}]}"#,
                vec![call("plan", canonical), call("shell", Some("\"ls\""))],
            ),
            (
                r#"{"content":[{"type":"text","text":"tool_use"},{"type":"tool_use","id":"t","name":"plan","input":{"b":[2.5],"a":1}},
                {"type":"tool_use","name":"none","input":{}}]}"#,
                vec![call("plan", canonical), call("none", Some("{}"))],
            ),
            (
                r#"{"choices":[{"message":{"content":"{\"tool_calls\":[]}"}}]}"#,
                vec![],
            ),
            ("<html>", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(document(text), calls, "{text}");
        }
    }

    #[test]
    fn streams_of_each_api() {
        let chat = events(&[
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"tool_calls"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"plan","arguments":""}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"read","arguments":"{\"x\""}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":" 1}"}},{"index":1,"function":{"arguments":":2}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"third","arguments":"{}"}}]}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"id":"d","function":{"name":"other","arguments":"{}"}}]}}]}"#,
            "[DONE]",
        ]);
        assert_eq!(
            chat,
            [
                call("plan", Some(r#"{"a":1}"#)),
                call("read", Some(r#"{"x":2}"#)),
                call("third", Some("{}")),
                call("other", Some("{}"))
            ]
        );
        let responses = events(&[
            r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"plan","arguments":""}}"#,
            r#"{"type":"response.function_call_arguments.delta","delta":"{\"a\""}"#,
            r#"{"type":"response.output_item.done","item":{"type":"function_call","name":"plan","arguments":"{\"a\":1}"}}"#,
            r#"{"type":"response.completed","response":{"output":[{"type":"function_call","name":"plan","arguments":"{\"a\":1}"}]}}"#,
        ]);
        assert_eq!(responses, [call("plan", Some(r#"{"a":1}"#))]);
        let messages = events(&[
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"plan","input":{}}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"u","name":"none","input":{}}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"tool_use"}}"#,
        ]);
        assert_eq!(
            messages,
            [call("plan", Some(r#"{"a":1}"#)), call("none", Some("{}"))]
        );
    }

    #[test]
    fn what_is_too_much_leaves_no_wrong_hash() {
        let many = r#"{"name":"a","type":"tool_use","input":{}},"#.repeat(MAX_TOOL_CALLS);
        let many =
            format!(r#"{{"content":[{many}{{"name":"b","type":"tool_use","input":{{"x":1}}}}]}}"#);
        assert_eq!(document(&many), vec![call("a", Some("{}")); MAX_TOOL_CALLS]);
        let name = "n".repeat(500);
        let long = document(&format!(
            r#"{{"content":[{{"name":"{name}","type":"tool_use","input":{{}}}}]}}"#
        ));
        assert_eq!(long[0].name.len(), MAX_TOOL_NAME);
        let huge = format!(r#"{{"content":[],"x":"{}"}}"#, "x".repeat(MAX_DOCUMENT));
        assert_eq!(document(&huge), []);
        let begin = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","name":"plan","input":{}}}"#;
        let part = |text: &str| {
            format!(
                r#"{{"type":"content_block_delta","index":1,"delta":{{"type":"input_json_delta","partial_json":"{text}"}}}}"#
            )
        };
        let end = r#"{"type":"content_block_stop"}"#;
        let too_long = part(&"x".repeat(MAX_EVENT));
        assert_eq!(events(&[begin, &too_long, end]), [call("plan", None)]);
        let half = part(&"x".repeat(MAX_EVENT / 2));
        let all = [
            begin, &half, &half, &half, &half, &half, &half, &half, &half, &half,
        ];
        assert_eq!(events(&all), [call("plan", None)]);
    }
}
