//! The end of what somebody says in a request to a model.

use policy::terraform::mask::{CONTEXT, HELD_BACK, Known, mask};
use serde_json::Value;

/// How much of a text is shown, in bytes.
const SHOWN: usize = 2048;

/// The end of the last words that a request has of the user or the agent's program; when nobody
/// of them says anything, of whoever spoke last. Longer than what is shown, so that a secret
/// across the cut is seen whole. Tools' results are not what was asked.
pub(super) fn of(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = ["messages", "input", "prompt"]
        .iter()
        .find_map(|name| last_words(&body[name]))?;
    Some(end(&text, SHOWN + CONTEXT as usize).to_owned())
}

/// What is kept of it: without what is marked as a secret, or looks like one, and cut.
pub(super) fn masked(text: String, known: &Known) -> String {
    if known.is_overfull() {
        return HELD_BACK.to_owned();
    }
    let length = text.len();
    let mut bytes = text.into_bytes();
    mask(&mut bytes, known);
    let text = String::from_utf8_lossy(&bytes);
    let shown = end(&text, SHOWN);
    match shown.len() < length {
        true => format!("…{shown}"),
        false => shown.to_owned(),
    }
}

fn last_words(said: &Value) -> Option<String> {
    match said {
        Value::String(text) => filled(text.clone()),
        Value::Array(items) => {
            let by_user = |item: &&Value| item["role"] == "user";
            let mut theirs = items.iter().rev().filter(by_user);
            let said = theirs.find_map(|item| words_of(&item["content"]));
            said.or_else(|| {
                items
                    .iter()
                    .rev()
                    .find_map(|item| words_of(&item["content"]))
            })
        }
        _ => None,
    }
}

/// The text of a message, which may have parts.
fn words_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => filled(text.clone()),
        Value::Array(parts) => {
            let is_text = |part: &&Value| {
                matches!(
                    part["type"].as_str(),
                    Some("text" | "input_text" | "output_text")
                )
            };
            let texts = parts.iter().filter(is_text);
            let texts: Vec<&str> = texts.filter_map(|part| part["text"].as_str()).collect();
            filled(texts.join("\n"))
        }
        _ => None,
    }
}

fn filled(text: String) -> Option<String> {
    (!text.trim().is_empty()).then_some(text)
}

/// The last characters of a text, at most so many bytes.
fn end(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_the_user_are_found() {
        for (body, words) in [
            (
                r#"{"messages":[{"role":"user","content":"one"},{"role":"assistant","content":"two"}]}"#,
                Some("one"),
            ),
            (
                r#"{"messages":[{"role":"system","content":"one"},{"role":"assistant","content":"two"}]}"#,
                Some("two"),
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}},{"type":"text","text":"b"}]}]}"#,
                Some("a\nb"),
            ),
            // A tool's result comes as the user's word, and is none.
            (
                r#"{"messages":[{"role":"user","content":"asked"},{"role":"user","content":[{"type":"tool_result","content":"secret"}]}]}"#,
                Some("asked"),
            ),
            (
                r#"{"messages":[{"role":"user","content":"asked"},{"role":"tool","content":"secret"}]}"#,
                Some("asked"),
            ),
            (r#"{"input":"said"}"#, Some("said")),
            (
                r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"said"}]}]}"#,
                Some("said"),
            ),
            (r#"{"prompt":"said"}"#, Some("said")),
            (r#"{"messages":[{"role":"user","content":" "}]}"#, None),
            (r#"{"messages":[{"role":"user"}, 7, null]}"#, None),
            (r#"{"messages":{}}"#, None),
            ("[]", None),
            ("no JSON", None),
        ] {
            assert_eq!(of(body.as_bytes()).as_deref(), words, "{body}");
        }
    }

    #[test]
    fn what_is_kept_is_the_end_without_secrets() {
        let mut known = Known::default();
        known.learn("correct horse battery staple");
        let kept = |text: &str, known: &Known| {
            let body = serde_json::json!({ "input": text }).to_string();
            masked(of(body.as_bytes()).unwrap(), known)
        };
        assert_eq!(
            kept(
                "key AKIAQ3EGXMPLE7TESTAB, correct horse battery staple!",
                &known
            ),
            format!("key AKIA{}, {}!", "*".repeat(16), "*".repeat(28))
        );
        // One that begins before what is shown.
        let long = format!(
            "{}correct horse battery staple{}",
            "ä".repeat(9000),
            "x".repeat(2040)
        );
        let end = kept(&long, &known);
        assert_eq!(end, format!("…{}{}", "*".repeat(8), "x".repeat(2040)));
        let umlauts = kept(&"ä".repeat(3000), &known);
        assert_eq!(umlauts, format!("…{}", "ä".repeat(1024)));
        assert_eq!(kept("anything", &Known::overfull()), HELD_BACK);
    }
}
