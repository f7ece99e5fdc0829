//! What the stand-in says, which depends on the request alone.

use serde_json::{Value, json};

use crate::example::example_change;

/// What the stand-in answers to a conversation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Text(String),
    ToolCall { name: String, arguments: Value },
}

impl Reply {
    /// Calls the first tool when there are tools and the last user message contains
    /// `call the tool`; otherwise proposes the example change.
    pub(super) fn to(last_user_message: &str, first_tool: Option<&str>) -> Self {
        match first_tool {
            Some(name) if last_user_message.contains("call the tool") => Self::ToolCall {
                name: name.to_owned(),
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
pub(super) fn content_text(content: &Value) -> String {
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
pub(super) fn last_user_message(messages: &Value) -> String {
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
            let reply = Reply::to(message, tool);
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
