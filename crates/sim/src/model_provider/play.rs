//! A model that plays a script: which tool it asks for next depends on the answers that the
//! conversation already has, so that a request which is repeated is answered as before.

use serde::Deserialize;
use serde_json::{Value, json};

use super::script::{Conversation, Reply};

/// Answers of tools after which a script gives up, wherever it stands: no step is waited for
/// longer.
const MOST_ANSWERS: usize = 100;

/// Stands for the id of a run that an answer named last.
const RUN: &str = "$run";

/// Stands for the last answer of a tool.
const LAST: &str = "$last";

/// What the model does, step by step; the last step is repeated.
///
/// ```
/// let script = br#"[
///     {"call": {"tool": "start_plan", "arguments": {"workspace": "staging-app"}}},
///     {"call": {"tool": "plan_status", "arguments": {"run": "$run"}, "until": "planned"}},
///     {"say": "It is planned: $last"}
/// ]"#;
/// assert!(sim::Script::parse(script).is_ok());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Script(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Call(Call),
    Say(String),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    /// The tool's name, without what clients put before it.
    tool: String,
    #[serde(default = "nothing")]
    arguments: Value,
    /// The tool is asked for until its answer has this text.
    until: Option<String>,
}

fn nothing() -> Value {
    json!({})
}

/// A script that cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum NoScript {
    /// No list of steps.
    #[error("a script is a list of steps: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A list of none.
    #[error("a script needs a step")]
    Empty,
}

impl Script {
    /// Reads a script: a list of `{"call": {"tool", "arguments", "until"}}` and `{"say": text}`.
    ///
    /// # Errors
    /// When it is no such list, or an empty one.
    pub fn parse(text: &[u8]) -> Result<Self, NoScript> {
        let steps: Vec<Step> = serde_json::from_slice(text)?;
        match steps.is_empty() {
            true => Err(NoScript::Empty),
            false => Ok(Self(steps)),
        }
    }

    /// What comes next in a conversation.
    pub(super) fn reply(&self, conversation: &Conversation) -> Reply {
        let answers = &conversation.answers;
        if answers.len() >= MOST_ANSWERS {
            return Reply::Text(format!("I give up after {MOST_ANSWERS} answers."));
        }
        let mut at = 0;
        for answer in answers {
            let goes_on = match self.0.get(at) {
                Some(Step::Call(call)) => {
                    let wanted = call.until.as_deref();
                    wanted.is_none_or(|wanted| answer.contains(wanted))
                }
                Some(Step::Say(_)) | None => false,
            };
            at += usize::from(goes_on);
        }
        let step = self.0.get(at).or(self.0.last());
        match step {
            Some(Step::Call(call)) => call.reply(conversation),
            Some(Step::Say(text)) => Reply::Text(filled(text, answers)),
            None => Reply::Text(String::new()),
        }
    }
}

impl Call {
    fn reply(&self, conversation: &Conversation) -> Reply {
        let offered = conversation.tools.iter();
        let mut offered = offered.filter(|offered| is_called(&offered.name, &self.tool));
        if let Some(tool) = offered.next() {
            return Reply::ToolCall {
                tool: tool.clone(),
                arguments: fill(&self.arguments, &conversation.answers),
            };
        }
        let names = conversation.tools.iter().map(|tool| tool.name.as_str());
        let names: Vec<&str> = names.collect();
        Reply::Text(format!(
            "There is no tool `{}`; there are: {}",
            self.tool,
            names.join(", ")
        ))
    }
}

/// Whether a client's name for a tool is the server's, with the server's name before it.
fn is_called(offered: &str, tool: &str) -> bool {
    let before = offered.strip_suffix(tool);
    before.is_some_and(|before| before.is_empty() || before.ends_with("__"))
}

fn fill(value: &Value, answers: &[String]) -> Value {
    match value {
        Value::String(text) => filled(text, answers).into(),
        Value::Array(list) => list.iter().map(|value| fill(value, answers)).collect(),
        Value::Object(members) => {
            let members = members.iter();
            let members = members.map(|(name, value)| (name.clone(), fill(value, answers)));
            Value::Object(members.collect())
        }
        other => other.clone(),
    }
}

fn filled(text: &str, answers: &[String]) -> String {
    let run = answers.iter().rev().find_map(|answer| run_id(answer));
    let last = answers.last().map_or("", String::as_str);
    text.replace(RUN, run.unwrap_or(RUN)).replace(LAST, last)
}

/// The first id of a run in a text.
fn run_id(text: &str) -> Option<&str> {
    text.match_indices("run-").find_map(|(at, prefix)| {
        let rest = &text[at + prefix.len()..];
        let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        (length >= 16).then(|| &text[at..at + prefix.len() + length])
    })
}

#[cfg(test)]
mod tests {
    use super::super::script::Tool;
    use super::*;

    const SCRIPT: &str = r#"[
        {"call": {"tool": "start_plan", "arguments": {"workspace": "staging-app"}}},
        {"call": {"tool": "plan_status", "arguments": {"run": "$run"}, "until": "planned"}},
        {"say": "$run: $last"}
    ]"#;

    fn tool(namespace: Option<&str>, name: &str) -> Tool {
        Tool {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    fn conversation(answers: &[&str]) -> Conversation {
        Conversation {
            last_user_message: "Go".to_owned(),
            tools: [
                (None, "exec"),
                (None, "clawgate__start_plan"),
                (Some("mcp__clawgate"), "plan_status"),
            ]
            .map(|(namespace, name)| tool(namespace, name))
            .to_vec(),
            answers: answers.iter().map(|&answer| answer.to_owned()).collect(),
        }
    }

    #[test]
    fn the_answers_say_which_step_it_is() {
        let script = Script::parse(SCRIPT.as_bytes()).unwrap();
        let call = |tool: Tool, arguments: Value| Reply::ToolCall { tool, arguments };
        let start = call(
            tool(None, "clawgate__start_plan"),
            json!({"workspace": "staging-app"}),
        );
        let run = "run-0123456789abcdef";
        let status = call(
            tool(Some("mcp__clawgate"), "plan_status"),
            json!({"run": run}),
        );
        let started = "Run run-0123456789abcdef plans now.";
        let said = |text: &str| Reply::Text(text.to_owned());
        for (answers, reply) in [
            (&[][..], start),
            (&[started], status.clone()),
            (&[started, "planning"], status.clone()),
            (&[started, "planning", "planning"], status),
            (
                &[started, "planning", "planned"],
                said("run-0123456789abcdef: planned"),
            ),
            (
                &[started, "planned", "more"],
                said("run-0123456789abcdef: more"),
            ),
        ] {
            assert_eq!(script.reply(&conversation(answers)), reply, "{answers:?}");
        }
        let endless = vec!["planning"; MOST_ANSWERS];
        let reply = script.reply(&conversation(&endless));
        assert!(matches!(&reply, Reply::Text(text) if text.contains("give up")));
    }

    #[test]
    fn a_tool_that_is_not_offered_is_said_to_be_missing() {
        let script = Script::parse(br#"[{"call": {"tool": "plan"}}]"#).unwrap();
        let reply = script.reply(&conversation(&[]));
        let missing = "There is no tool `plan`; there are: exec";
        assert!(matches!(&reply, Reply::Text(text) if text.starts_with(missing)));
    }

    #[test]
    fn what_is_no_script_is_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            "[1]",
            r#"[{"call": {}}]"#,
            r#"[{"do": "x"}]"#,
        ] {
            assert!(Script::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Script::parse(br#"[{"call": {"tool": "a", "args": {}}}]"#).is_err());
    }

    #[test]
    fn ids_of_runs_are_found_in_sentences() {
        for (text, id) in [
            ("Run run-0123456789abcdef.", Some("run-0123456789abcdef")),
            (
                "run-id, run-0123456789abcdefg",
                Some("run-0123456789abcdefg"),
            ),
            ("run-time", None),
            ("", None),
        ] {
            assert_eq!(run_id(text), id, "{text}");
        }
    }
}
