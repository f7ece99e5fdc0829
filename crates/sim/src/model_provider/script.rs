//! What the stand-in says, which depends on the request alone.

use serde_json::{Value, json};

use super::play::Script;
use crate::example::example_change;

/// What a request says of the conversation so far.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) last_user_message: String,
    /// The tools that may be asked for.
    pub(super) tools: Vec<Tool>,
    /// What tools answered, oldest first.
    pub(super) answers: Vec<String>,
}

/// A tool's name, and that of the group to which it belongs, which responses know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl Conversation {
    /// Of a chat completion.
    pub(super) fn chat(request: &Value) -> Self {
        let answers = items(&request["messages"]).filter(|message| message["role"] == "tool");
        Self {
            last_user_message: last_user_message(&request["messages"]),
            tools: names(&request["tools"], |tool| &tool["function"]["name"]),
            answers: answers.map(|m| content_text(&m["content"])).collect(),
        }
    }

    /// Of a response.
    pub(super) fn responses(request: &Value) -> Self {
        let last_user_message = match &request["input"] {
            Value::String(text) => text.clone(),
            list => last_user_message(list),
        };
        let answers = items(&request["input"]).filter(|i| i["type"] == "function_call_output");
        Self {
            last_user_message,
            tools: items(&request["tools"]).flat_map(grouped).collect(),
            answers: answers.map(|i| content_text(&i["output"])).collect(),
        }
    }

    /// Of a message.
    pub(super) fn messages(request: &Value) -> Self {
        let parts = items(&request["messages"]).flat_map(|message| items(&message["content"]));
        let answers = parts.filter(|part| part["type"] == "tool_result");
        Self {
            last_user_message: last_user_message(&request["messages"]),
            tools: names(&request["tools"], |tool| &tool["name"]),
            answers: answers.map(|p| content_text(&p["content"])).collect(),
        }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn names(tools: &Value, name: impl Fn(&Value) -> &Value) -> Vec<Tool> {
    let names = items(tools).filter_map(|tool| name(tool).as_str());
    let tools = names.map(|name| Tool {
        namespace: None,
        name: name.to_owned(),
    });
    tools.collect()
}

/// The tools of a group, or the one tool.
fn grouped(tool: &Value) -> Vec<Tool> {
    let mut tools = match tool["type"] == "namespace" {
        true => names(&tool["tools"], |tool| &tool["name"]),
        false => return names(&json!([tool]), |tool| &tool["name"]),
    };
    for one in &mut tools {
        one.namespace = tool["name"].as_str().map(str::to_owned);
    }
    tools
}

/// What the stand-in answers to a conversation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Text(String),
    ToolCall { tool: Tool, arguments: Value },
}

impl Reply {
    /// Plays the script when there is one and there are tools. Without one, calls the first tool
    /// when there are tools and the last user message contains `call the tool`. Otherwise
    /// proposes the example change.
    pub(super) fn to(conversation: &Conversation, script: Option<&Script>) -> Self {
        let asked = &conversation.last_user_message;
        match (conversation.tools.first(), script) {
            (Some(_), Some(script)) => script.reply(conversation),
            (Some(tool), None) if asked.contains("call the tool") => Self::ToolCall {
                tool: tool.clone(),
                arguments: json!({"workspace": "staging-app"}),
            },
            _ => Self::Text(proposal()),
        }
    }

    /// The text in pieces, as a stream has them.
    pub(super) fn pieces(text: &str) -> Vec<String> {
        text.split_inclusive(' ').map(str::to_owned).collect()
    }

    /// Tokens of the answer, by the rule of [`tokens`].
    pub(super) fn tokens(&self) -> u64 {
        match self {
            Self::Text(text) => tokens(text),
            Self::ToolCall { arguments, .. } => tokens(&arguments.to_string()),
        }
    }
}

/// Counts tokens by the rule of thumb of four bytes each: deterministic, which is what tests need.
pub(super) fn tokens(text: &str) -> u64 {
    text.len().div_ceil(4) as u64
}

/// The text of a message's content, which is a string or a list of parts.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts
                .iter()
                .filter_map(|part| part["text"].as_str())
                .collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

/// The last user message of a list of messages.
fn last_user_message(messages: &Value) -> String {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let last = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user");
    last.map(|message| content_text(&message["content"]))
        .unwrap_or_default()
}

fn proposal() -> String {
    let change = example_change();
    format!(
        "One instance of the application is not enough for the load that you describe. \
         In `{file}`, run two of them:\n\n```diff\n-  {from}+  {to}```\n\n\
         The plan should add `terraform_data.instance[1]` and update \
         `terraform_data.load_balancer` in place; nothing is destroyed.",
        file = change.file,
        from = change.from,
        to = change.to,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_called_only_when_there_is_one_and_it_is_asked_for() {
        let cases = [
            ("please call the tool now", Some("plan"), true),
            ("please call the tool now", None, false),
            ("what should change?", Some("plan"), false),
        ];
        for (message, tool, called) in cases {
            let conversation = Conversation {
                last_user_message: message.to_owned(),
                tools: names(&json!([tool]), |tool| tool),
                answers: Vec::new(),
            };
            let reply = Reply::to(&conversation, None);
            assert_eq!(matches!(reply, Reply::ToolCall { .. }), called, "{message}");
        }
    }

    #[test]
    fn pieces_make_the_whole() {
        let text = proposal();
        assert!(text.contains("+  instances = 2\n"));
        assert_eq!(Reply::pieces(&text).concat(), text);
    }

    #[test]
    fn the_last_user_message_may_have_parts() {
        let messages = json!([
            {"role": "user", "content": "first"},
            {"role": "user", "content": [{"type": "text", "text": "second"}]},
            {"role": "assistant", "content": "third"},
        ]);
        assert_eq!(last_user_message(&messages), "second");
    }
}
