//! Puts a conversation together from the bodies of a model call: OpenAI's chat completions,
//! responses and embeddings, Anthropic's messages, each whole or as a stream of events.
//!
//! Reads for people, and to count what was said, so it takes what it understands and names what it does not; the bytes
//! themselves are `--raw`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Deepest nesting of content that is followed, and most turns that are read.
const MAX_DEPTH: usize = 8;
const MAX_TURNS: usize = 100_000;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// `system`, `user`, `assistant`, `tool`, or what the API calls it.
    pub role: String,
    /// What was said.
    pub said: Vec<Said>,
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Text.
    Text(String),
    /// What the model thought, as far as the provider shows it.
    Thought(String),
    /// A tool is asked for.
    Call {
        /// By which its result is found.
        id: String,
        /// The tool.
        name: String,
        /// As the model wrote them.
        arguments: String,
    },
    /// A tool's answer.
    Result {
        /// The call that it answers.
        id: String,
        /// The answer.
        text: String,
    },
    /// Something that is no text: an image, a file, a list of numbers.
    Other(String),
}

impl Said {
    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => json!({ "kind": "text", "text": text }),
            Self::Thought(text) => json!({ "kind": "thought", "text": text }),
            Self::Call {
                id,
                name,
                arguments,
            } => json!({ "kind": "tool_call", "id": id, "name": name, "arguments": arguments }),
            Self::Result { id, text } => json!({ "kind": "tool_result", "id": id, "text": text }),
            Self::Other(what) => json!({ "kind": "other", "what": what }),
        }
    }
}

impl Turn {
    /// As commands print it.
    pub fn to_json(&self) -> Value {
        let said: Vec<Value> = self.said.iter().map(Said::to_json).collect();
        json!({ "role": self.role, "said": said })
    }
}

/// The turns of a request.
pub fn request(body: &[u8]) -> Vec<Turn> {
    let mut turns = Turns::default();
    match serde_json::from_slice::<Value>(body) {
        Ok(request) => turns.request(&request),
        Err(_) => turns.unread(body),
    }
    turns.turns
}

/// The turns of an answer.
pub fn answer(body: &[u8]) -> Vec<Turn> {
    let mut turns = Turns::default();
    match serde_json::from_slice::<Value>(body) {
        Ok(answer) => turns.answer(&answer),
        Err(_) => match Stream::read(body) {
            Some(stream) => {
                stream.wholes().iter().for_each(|whole| turns.answer(whole));
            }
            None => turns.unread(body),
        },
    }
    turns.turns
}

#[derive(Default)]
struct Turns {
    turns: Vec<Turn>,
}

impl Turns {
    fn add(&mut self, role: &str, said: Vec<Said>) {
        if !said.is_empty() && self.turns.len() < MAX_TURNS {
            let role = role.to_owned();
            self.turns.push(Turn { role, said });
        }
    }

    fn unread(&mut self, body: &[u8]) {
        if !body.is_empty() {
            let text = String::from_utf8_lossy(body).into_owned();
            self.add("unread", vec![Said::Text(text)]);
        }
    }

    fn request(&mut self, request: &Value) {
        for name in ["instructions", "system"] {
            self.add("system", content(&request[name], 0));
        }
        for message in list(&request["messages"]) {
            self.message(message);
        }
        match &request["input"] {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                items.iter().for_each(|item| self.item(item, "user"));
            }
            input => self.add("user", content(input, 0)),
        }
    }

    fn answer(&mut self, answer: &Value) {
        for choice in list(&answer["choices"]) {
            self.message(&choice["message"]);
        }
        for item in list(&answer["output"]) {
            self.item(item, "assistant");
        }
        if answer["content"].is_array() {
            self.message(answer);
        }
        let embeddings = list(&answer["data"]).len();
        if embeddings > 0 {
            let what = format!("a list of {embeddings} entries");
            self.add("assistant", vec![Said::Other(what)]);
        }
        if let Some(tokens) = answer["input_tokens"].as_u64() {
            let what = format!("counted {tokens} input tokens");
            self.add("assistant", vec![Said::Other(what)]);
        }
        let error = &answer["error"];
        if !error.is_null() {
            let text = error["message"].as_str().map(str::to_owned);
            let text = text.unwrap_or_else(|| error.to_string());
            self.add("error", vec![Said::Text(text)]);
        }
    }

    /// A message of chat completions, or of Anthropic's.
    fn message(&mut self, message: &Value) {
        let role = message["role"].as_str().unwrap_or("assistant");
        let mut said = Vec::new();
        for name in ["reasoning_content", "reasoning"] {
            said.extend(text(&message[name]).map(Said::Thought));
        }
        match message["tool_call_id"].as_str() {
            Some(id) => said.push(Said::Result {
                id: id.to_owned(),
                text: flat(&message["content"]),
            }),
            None => said.extend(content(&message["content"], 0)),
        }
        said.extend(text(&message["refusal"]).map(Said::Text));
        for call in list(&message["tool_calls"]) {
            let named = match &call["function"] {
                Value::Null => &call["custom"],
                function => function,
            };
            said.push(call_of(&call["id"], named));
        }
        if message["function_call"].is_object() {
            said.push(call_of(&Value::Null, &message["function_call"]));
        }
        let unread = message.as_object().into_iter().flatten();
        let unread = unread.filter(|(name, value)| {
            !MESSAGE_MEMBERS.contains(&name.as_str()) && !is_nothing(value)
        });
        said.extend(unread.map(|(name, _)| Said::Other(name.clone())));
        self.add(role, said);
    }

    /// An item of a response, or of what is put in.
    fn item(&mut self, item: &Value, default_role: &str) {
        let kind = item["type"].as_str().unwrap_or("message");
        match kind {
            "message" => {
                let role = item["role"].as_str().unwrap_or(default_role);
                self.add(role, content(&item["content"], 0));
            }
            "reasoning" => {
                let thoughts = list(&item["summary"])
                    .iter()
                    .chain(list(&item["content"]))
                    .filter_map(|part| text(&part["text"]))
                    .map(Said::Thought);
                self.add("assistant", thoughts.collect());
            }
            "function_call" | "custom_tool_call" => {
                self.add("assistant", vec![call_of(&item["call_id"], item)]);
            }
            "function_call_output" | "custom_tool_call_output" => {
                let id = item["call_id"].as_str().unwrap_or_default().to_owned();
                let text = flat(&item["output"]);
                self.add("tool", vec![Said::Result { id, text }]);
            }
            other => self.add(default_role, vec![Said::Other(other.to_owned())]),
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned)
}

fn call_of(id: &Value, named: &Value) -> Said {
    let written = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    let arguments = written(&named["arguments"]).or_else(|| written(&named["input"]));
    Said::Call {
        id: id.as_str().unwrap_or_default().to_owned(),
        name: named["name"].as_str().unwrap_or_default().to_owned(),
        arguments: arguments.unwrap_or_default(),
    }
}

/// What a `content` member says: a text, a part, or a list of parts.
fn content(value: &Value, depth: usize) -> Vec<Said> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![Said::Text(text.clone())],
        Value::Array(parts) if depth < MAX_DEPTH => parts
            .iter()
            .flat_map(|part| content(part, depth + 1))
            .collect(),
        Value::Object(part) => part_of(part, depth),
        other => vec![Said::Other(other.to_string())],
    }
}

fn part_of(part: &Map<String, Value>, depth: usize) -> Vec<Said> {
    let member = |name: &str| part.get(name).unwrap_or(&Value::Null);
    let kind = member("type").as_str().unwrap_or_default();
    match kind {
        "thinking" => text(member("thinking"))
            .map(Said::Thought)
            .into_iter()
            .collect(),
        "refusal" => text(member("refusal"))
            .map(Said::Text)
            .into_iter()
            .collect(),
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            vec![call_of(member("id"), &Value::Object(part.clone()))]
        }
        kind if kind.ends_with("tool_result") => vec![Said::Result {
            id: member("tool_use_id")
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            text: flat(member("content")),
        }],
        _ if member("text").is_string() => {
            text(member("text")).map(Said::Text).into_iter().collect()
        }
        "" if depth < MAX_DEPTH && part.contains_key("content") => {
            content(member("content"), depth + 1)
        }
        "" => vec![Said::Other("a part without a type".to_owned())],
        other => vec![Said::Other(other.to_owned())],
    }
}

/// Content as one text.
fn flat(value: &Value) -> String {
    let said = content(value, 0);
    let texts = said.iter().map(|said| match said {
        Said::Text(text) | Said::Thought(text) | Said::Result { text, .. } => text.clone(),
        Said::Other(what) => format!("[{what}]"),
        Said::Call { name, .. } => format!("[{name}]"),
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// A stream of events, put together to the documents that an answer without a stream would be.
#[derive(Default)]
struct Stream {
    /// Chat completions: a message for each choice.
    choices: BTreeMap<u64, Map<String, Value>>,
    /// Anthropic's messages: the blocks.
    blocks: BTreeMap<u64, Map<String, Value>>,
    /// Responses: the whole, when it came.
    response: Option<Value>,
    /// Responses: items, and texts of items that did not come to their end.
    items: BTreeMap<u64, Value>,
    texts: BTreeMap<u64, String>,
    errors: Vec<Value>,
}

impl Stream {
    /// `None` when the bytes hold no event with JSON in it.
    fn read(body: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(body);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut stream = Self::default();
        let mut events = 0;
        // The last event may be cut off; what of it is whole is read.
        for event in text.split("\n\n") {
            let data: Vec<&str> = event
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|data| data.strip_prefix(' ').unwrap_or(data))
                .collect();
            if let Ok(event) = serde_json::from_str::<Value>(&data.join("\n")) {
                events += 1;
                stream.event(&event);
            }
        }
        (events > 0).then_some(stream)
    }

    fn event(&mut self, event: &Value) {
        for choice in list(&event["choices"]) {
            let index = choice["index"].as_u64().unwrap_or(0);
            merge_delta(self.choices.entry(index).or_default(), &choice["delta"]);
        }
        let index = |name: &str| event[name].as_u64().unwrap_or(0);
        match event["type"].as_str().unwrap_or_default() {
            "content_block_start" => {
                let block = event["content_block"].as_object().cloned();
                self.blocks
                    .insert(index("index"), block.unwrap_or_default());
            }
            "content_block_delta" => {
                let block = self.blocks.entry(index("index")).or_default();
                let delta = &event["delta"];
                append(block, "text", &delta["text"]);
                append(block, "thinking", &delta["thinking"]);
                append(block, "partial_json", &delta["partial_json"]);
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.response = Some(event["response"].clone());
            }
            "response.output_item.done" => {
                self.items
                    .insert(index("output_index"), event["item"].clone());
            }
            "response.output_text.delta" | "response.refusal.delta" => {
                let text = self.texts.entry(index("output_index")).or_default();
                text.push_str(event["delta"].as_str().unwrap_or_default());
            }
            "error" if event["error"].is_null() => self.errors.push(json!({ "error": event })),
            _ => {}
        }
        if !event["error"].is_null() {
            self.errors.push(json!({ "error": event["error"] }));
        }
    }

    fn wholes(mut self) -> Vec<Value> {
        let mut wholes = Vec::new();
        let choices: Vec<Value> = self
            .choices
            .into_values()
            .map(|message| json!({ "message": message }))
            .collect();
        if !choices.is_empty() {
            wholes.push(json!({ "choices": choices }));
        }
        let blocks: Vec<Value> = self
            .blocks
            .into_values()
            .map(|mut block| {
                if let Some(arguments) = block.remove("partial_json") {
                    block.insert("input".to_owned(), arguments);
                }
                Value::Object(block)
            })
            .collect();
        if !blocks.is_empty() {
            wholes.push(json!({ "role": "assistant", "content": blocks }));
        }
        match self.response {
            Some(response) => wholes.push(response),
            None => {
                for (place, text) in self.texts {
                    let item = json!({ "type": "message", "content": text });
                    self.items.entry(place).or_insert(item);
                }
                let items: Vec<Value> = self.items.into_values().collect();
                if !items.is_empty() {
                    wholes.push(json!({ "output": items }));
                }
            }
        }
        wholes.extend(self.errors);
        wholes
    }
}

/// Adds a text to a member that holds one.
fn append(object: &mut Map<String, Value>, name: &str, more: &Value) {
    let Some(more) = more.as_str() else { return };
    match object.get_mut(name) {
        Some(Value::String(text)) => text.push_str(more),
        _ => {
            object.insert(name.to_owned(), more.into());
        }
    }
}

/// Members of a message of chat completions that are read, or say nothing.
const MESSAGE_MEMBERS: [&str; 9] = [
    "role",
    "name",
    "content",
    "refusal",
    "reasoning_content",
    "reasoning",
    "tool_calls",
    "tool_call_id",
    "function_call",
];

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(parts) => parts.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Adds a delta of chat completions to the message so far.
fn merge_delta(message: &mut Map<String, Value>, delta: &Value) {
    if delta["role"].is_string() {
        message.insert("role".to_owned(), delta["role"].clone());
    }
    for name in ["content", "refusal", "reasoning_content", "reasoning"] {
        append(message, name, &delta[name]);
    }
    for (name, value) in delta.as_object().into_iter().flatten() {
        if !MESSAGE_MEMBERS.contains(&name.as_str()) && !is_nothing(value) {
            message.insert(name.clone(), value.clone());
        }
    }
    if let Value::Object(part) = &delta["function_call"] {
        let call = message
            .entry("function_call")
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(call) = call {
            for name in ["name", "arguments"] {
                append(call, name, part.get(name).unwrap_or(&Value::Null));
            }
        }
    }
    for part in list(&delta["tool_calls"]) {
        let calls = message
            .entry("tool_calls")
            .or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(calls) = calls else { continue };
        // Found again by its index, which is kept beside it.
        let place = calls.iter().position(|call| call["index"] == part["index"]);
        let place = place.unwrap_or_else(|| {
            calls.push(json!({ "index": part["index"], "function": {} }));
            calls.len() - 1
        });
        let Value::Object(call) = &mut calls[place] else {
            continue;
        };
        if part["id"].is_string() {
            call.insert("id".to_owned(), part["id"].clone());
        }
        if let Some(Value::Object(function)) = call.get_mut("function") {
            for (from, name) in [
                (&part["function"]["name"], "name"),
                (&part["function"]["arguments"], "arguments"),
                (&part["custom"]["name"], "name"),
                (&part["custom"]["input"], "arguments"),
            ] {
                append(function, name, from);
            }
        }
    }
}

#[cfg(test)]
mod tests;
