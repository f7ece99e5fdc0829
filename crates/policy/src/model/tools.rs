//! Which tools a request offers to a model.

use proof::json::Json;

use super::{check_spelling, member, wrong};
use crate::reason::{ReasonCode, Refusal};

/// Most tools of one request that are read; agents send a few dozen.
pub const MAX_TOOLS: usize = 512;
/// Longest name of a tool, in bytes; the APIs take 64 and 128.
const MAX_NAME: usize = 128;
/// Most bytes of all names of one request's tools together: they stand in the evidence.
const MAX_NAMES: usize = 16 << 10;

/// Members that hold lists of tools: both APIs' own, the older form of OpenAI's, servers that
/// Anthropic asks for tools, and plugins of routers.
const LISTS: [&str; 4] = ["tools", "functions", "mcp_servers", "plugins"];

/// The names of all tools that a body offers, in its order: of functions the function's name, of
/// tools that the provider runs itself the type (`web_search`), of servers and plugins theirs.
///
/// # Errors
/// `BODY_WRONG_TYPE` or `BODY_UNKNOWN_MEMBER` for a tool without one clear name, and
/// `MODEL_TOOL_NOT_ALLOWED` for what may bring tools that are not in the request.
pub fn offered_tools(body: &Json) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    for list in LISTS {
        match member(body, list)? {
            None => {}
            Some(Json::Array(tools)) => {
                for tool in tools {
                    name(list, tool, &mut names)?;
                }
            }
            Some(_) => return Err(wrong(list, "an array")),
        }
    }
    if member(body, "web_search_options")?.is_some() {
        push("web_search", &mut names)?;
    }
    if matches!(member(body, "prompt")?, Some(Json::Object(_))) {
        return Err(Refusal::new(
            ReasonCode::ModelToolNotAllowed,
            "a prompt that is stored at the provider may bring its own tools: send the text",
        ));
    }
    Ok(names)
}

fn name(list: &str, tool: &Json, names: &mut Vec<String>) -> Result<(), Refusal> {
    if tool.members().is_none() {
        return Err(wrong(list, "an array of objects"));
    }
    // Each of these is where some reader looks; a tool with two of them has two names, and both
    // must be allowed.
    let before = names.len();
    for carrier in ["function", "custom"] {
        match member(tool, carrier)? {
            None => {}
            Some(inner @ Json::Object(_)) => push(text(inner, "name")?, names)?,
            Some(_) => return Err(wrong(carrier, "an object")),
        }
    }
    if member(tool, "name")?.is_some() {
        push(text(tool, "name")?, names)?;
    }
    if names.len() == before {
        check_spelling(tool, "id")?;
        let other = if list == "plugins" { "id" } else { "type" };
        push(text(tool, other)?, names)?;
    }
    // Groups of tools.
    match member(tool, "tools")? {
        None => Ok(()),
        Some(Json::Array(inner)) => inner.iter().try_for_each(|tool| name(list, tool, names)),
        Some(_) => Err(wrong("tools", "an array")),
    }
}

fn text<'a>(object: &'a Json, name: &str) -> Result<&'a str, Refusal> {
    member(object, name)?
        .and_then(Json::as_str)
        .ok_or_else(|| wrong(name, "the name of the tool"))
}

fn push(name: &str, names: &mut Vec<String>) -> Result<(), Refusal> {
    let plain = !name.chars().any(|c| c.is_control() || c.is_whitespace());
    if !plain || !(1..=MAX_NAME).contains(&name.len()) {
        return Err(wrong("name", "a short plain name of a tool"));
    }
    if names.len() == MAX_TOOLS {
        return Err(Refusal::new(
            ReasonCode::BodyTooLarge,
            format!("the request offers more than {MAX_TOOLS} tools"),
        ));
    }
    let together = names.iter().map(String::len).sum::<usize>();
    if together + name.len() > MAX_NAMES {
        return Err(Refusal::new(
            ReasonCode::BodyTooLarge,
            format!("the names of the request's tools have more than {MAX_NAMES} bytes together"),
        ));
    }
    names.push(name.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::read_body;

    fn offered(body: &str) -> Result<Vec<String>, ReasonCode> {
        offered_tools(&read_body(body.as_bytes()).unwrap()).map_err(|refused| refused.code)
    }

    #[test]
    fn every_way_to_offer_a_tool_is_seen() {
        for (body, names) in [
            ("{}", &[][..]),
            (r#"{"tools":[],"functions":null}"#, &[]),
            (r#"{"prompt":"a text to be completed"}"#, &[]),
            (
                r#"{"tools":[{"type":"function","function":{"name":"a","parameters":{}}},{"type":"custom","custom":{"name":"b"}}]}"#,
                &["a", "b"],
            ),
            (r#"{"functions":[{"name":"old"}]}"#, &["old"]),
            (
                r#"{"tools":[{"type":"function","name":"a"},{"type":"web_search"},{"type":"mcp","server_label":"x"}]}"#,
                &["a", "web_search", "mcp"],
            ),
            (
                r#"{"tools":[{"type":"bash_20250124","name":"bash"},{"name":"mine","input_schema":{}}],"mcp_servers":[{"type":"url","name":"srv","url":"https://x"}]}"#,
                &["bash", "mine", "srv"],
            ),
            (
                r#"{"tools":[{"type":"namespace","name":"crm","tools":[{"type":"function","name":"read"}]}]}"#,
                &["crm", "read"],
            ),
            (
                r#"{"web_search_options":{},"plugins":[{"id":"web"}]}"#,
                &["web", "web_search"],
            ),
            (
                r#"{"tools":[{"type":"function","name":"fair","function":{"name":"foul"}}]}"#,
                &["foul", "fair"],
            ),
            (r#"{"messages":[{"tools":[{"name":"quoted"}]}]}"#, &[]),
        ] {
            assert_eq!(offered(body).unwrap(), names, "{body}");
        }
    }

    #[test]
    fn what_has_no_clear_name_is_refused() {
        use ReasonCode::{BodyTooLarge, BodyUnknownMember, BodyWrongType, ModelToolNotAllowed};
        let many = format!(
            r#"{{"tools":[{}{{"name":"a"}}]}}"#,
            r#"{"name":"a"},"#.repeat(MAX_TOOLS)
        );
        let long = format!(r#"{{"name":"{}"}},"#, "n".repeat(MAX_NAME));
        let within = format!(
            r#"{{"tools":[{}{{"name":"{}"}}]}}"#,
            long.repeat(MAX_NAMES / MAX_NAME - 1),
            "n".repeat(MAX_NAME)
        );
        assert_eq!(offered(&within).unwrap().len(), MAX_NAMES / MAX_NAME);
        let beyond = within.replace("]}", r#",{"name":"a"}]}"#);
        assert_eq!(offered(&beyond), Err(BodyTooLarge));
        for (body, code) in [
            (r#"{"Tools":[{"name":"a"}]}"#, BodyUnknownMember),
            (r#"{"tools":[],"TOOLS":[{"name":"a"}]}"#, BodyUnknownMember),
            (r#"{"tool\u017f":[{"name":"a"}]}"#, BodyUnknownMember),
            (r#"{"tools":{"name":"a"}}"#, BodyWrongType),
            (r#"{"tools":["a"]}"#, BodyWrongType),
            (r#"{"tools":[{}]}"#, BodyWrongType),
            (
                r#"{"tools":[{"type":"function","function":{}}]}"#,
                BodyWrongType,
            ),
            (
                r#"{"tools":[{"type":"function","function":"a"}]}"#,
                BodyWrongType,
            ),
            (
                r#"{"tools":[{"function":{"name":"a","Name":"b"}}]}"#,
                BodyUnknownMember,
            ),
            (
                r#"{"tools":[{"function":{"name":"a"},"Function":{"name":"b"}}]}"#,
                BodyUnknownMember,
            ),
            (r#"{"tools":[{"name":["a"]}]}"#, BodyWrongType),
            (r#"{"tools":[{"name":"a b"}]}"#, BodyWrongType),
            (r#"{"tools":[{"name":""}]}"#, BodyWrongType),
            (r#"{"tools":[{"name":"a","tools":"b"}]}"#, BodyWrongType),
            (r#"{"plugins":[{"type":"web"}]}"#, BodyWrongType),
            (r#"{"prompt":{"id":"pmpt_1"}}"#, ModelToolNotAllowed),
            (many.as_str(), BodyTooLarge),
        ] {
            assert_eq!(offered(body), Err(code), "{body:.80}");
        }
    }

    #[test]
    fn bodies_that_cannot_be_judged_are_refused() {
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        let wide = format!("[{}1]", "1,".repeat(1 << 20));
        for (body, code) in [
            (r#"{"a":{"b":1,"b":2}}"#, ReasonCode::BodyNotJson),
            (r#"{"a":"\ud800"}"#, ReasonCode::BodyNotJson),
            (deep.as_str(), ReasonCode::BodyNotJson),
            (wide.as_str(), ReasonCode::BodyTooLarge),
        ] {
            assert_eq!(
                read_body(body.as_bytes()).unwrap_err().code,
                code,
                "{body:.40}"
            );
        }
    }
}
