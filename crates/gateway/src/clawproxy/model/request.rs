//! What the decision needs to know of a request body, which otherwise passes unseen.
//!
//! Members that we judge must have one reading for everybody: no duplicates, no other spelling
//! that a lenient reader takes for the same name, the documented type. All others pass unseen.

use std::borrow::Cow;
use std::fmt;

use policy::decide::ModelSurface;
use policy::{ReasonCode, Refusal};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::surface::MAX_MODEL_NAME;

/// What the decision needs to know of a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Judged {
    pub(super) model: Option<String>,
    pub(super) stream: bool,
    /// Most tokens that all answers together may have.
    pub(super) output_tokens: Option<u64>,
    /// The request goes on from something that the provider keeps, whose size is not known here.
    pub(super) continues: bool,
    /// The model may ask for tools.
    pub(super) offers_tools: bool,
}

/// Reads the members that are judged.
///
/// # Errors
/// `BODY_NOT_JSON`, `BODY_WRONG_TYPE`, `BODY_UNKNOWN_MEMBER` for what would escape the decision.
pub(super) fn judge(body: &[u8], surface: ModelSurface) -> Result<Judged, Refusal> {
    // The reader skips over strings that it does not need; they must be text all the same.
    let text = std::str::from_utf8(body)
        .map_err(|_| Refusal::new(ReasonCode::BodyNotJson, "the body is not UTF-8"))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let members = Members::deserialize(&mut reader)
        .and_then(|members| reader.end().map(|()| members))
        .map_err(|error| not_json(&error))?;
    members.judge(surface)
}

fn not_json(error: &serde_json::Error) -> Refusal {
    // The library's own texts can repeat values, and content stays out of records.
    let place = format!("line {}, column {}", error.line(), error.column());
    let detail = match error.to_string().strip_prefix(DUPLICATE) {
        Some(_) => format!("a member that decides is there twice, at {place}"),
        None if error.is_data() => "the body must be one JSON object".to_owned(),
        None => format!("not JSON at {place}"),
    };
    Refusal::new(ReasonCode::BodyNotJson, detail)
}

/// How the reader's error for a duplicate begins.
const DUPLICATE: &str = "duplicate member";

/// The members that are judged, in the order of `Members::values`.
const JUDGED: [&str; 16] = [
    "model",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    // What follows would escape the decision.
    "background",
    "models",
    "fallbacks",
    // What the provider keeps.
    "previous_response_id",
    "conversation",
    "prompt",
    // What may be called.
    "tools",
    "functions",
    "mcp_servers",
    "plugins",
];

#[derive(Default)]
struct Members {
    values: [Option<Scalar>; JUDGED.len()],
    /// A name that differs from a judged one in letter case only.
    other_case: Option<usize>,
}

impl Members {
    fn judge(self, surface: ModelSurface) -> Result<Judged, Refusal> {
        if let Some(index) = self.other_case {
            return Err(Refusal::new(
                ReasonCode::BodyUnknownMember,
                format!("write `{}` in lower case, and once", JUDGED[index]),
            ));
        }
        let [
            model,
            stream,
            max_tokens,
            max_completion,
            max_output,
            n,
            background,
            models,
            fallbacks,
            previous,
            conversation,
            prompt,
            tools,
            functions,
            servers,
            plugins,
        ] = self
            .values
            .map(|value| value.filter(|value| *value != Scalar::Null));
        let model = match model {
            None => None,
            Some(Scalar::Text(name)) if is_model_name(&name) => Some(name),
            Some(Scalar::Text(_)) => return Err(wrong("model", "a short plain name")),
            Some(_) => return Err(wrong("model", "a string")),
        };
        let stream = match stream {
            None => false,
            Some(Scalar::Bool(stream)) => stream,
            Some(_) => return Err(wrong("stream", "true or false")),
        };
        if models.is_some() || fallbacks.is_some() {
            return Err(Refusal::new(
                ReasonCode::BodyUnknownMember,
                "the provider may not choose among models: name one in `model`",
            ));
        }
        match background {
            None | Some(Scalar::Bool(false)) => {}
            Some(_) => {
                return Err(Refusal::new(
                    ReasonCode::BodyUnknownMember,
                    "a background response would be answered outside of this call",
                ));
            }
        }
        let mut output_tokens = None;
        // A member that the endpoint does not know bounds nothing there.
        let mut bounded = false;
        for (name, value) in [
            ("max_tokens", max_tokens),
            ("max_completion_tokens", max_completion),
            ("max_output_tokens", max_output),
        ] {
            match value {
                None => {}
                // Providers differ in which of two members wins; the larger one is safe.
                Some(Scalar::Count(count)) => {
                    output_tokens = output_tokens.max(Some(count));
                    bounded |= bounds(surface).contains(&name);
                }
                Some(_) => return Err(wrong(name, "a whole number, not negative")),
            }
        }
        let answers = match n {
            None => 1,
            Some(Scalar::Count(count)) if count > 0 => count,
            Some(_) => return Err(wrong("n", "a whole number, at least 1")),
        };
        let output_tokens = output_tokens
            .filter(|_| bounded)
            .map(|count| count.saturating_mul(answers));
        let continues = previous.is_some()
            || conversation.is_some()
            || prompt.is_some_and(|prompt| prompt == Scalar::Other);
        let offered = [tools, functions, servers, plugins];
        Ok(Judged {
            model,
            stream,
            output_tokens,
            continues,
            offers_tools: continues || offered.iter().any(Option::is_some),
        })
    }
}

/// The members that bound an endpoint's answer.
fn bounds(surface: ModelSurface) -> &'static [&'static str] {
    match surface {
        ModelSurface::ChatCompletions => &["max_tokens", "max_completion_tokens"],
        ModelSurface::Responses => &["max_output_tokens"],
        ModelSurface::Messages => &["max_tokens"],
        ModelSurface::Embeddings | ModelSurface::Models | ModelSurface::CountTokens => &[],
    }
}

fn wrong(member: &'static str, needed: &'static str) -> Refusal {
    Refusal::new(
        ReasonCode::BodyWrongType,
        format!("`{member}` must be {needed}"),
    )
}

fn is_model_name(name: &str) -> bool {
    (1..=MAX_MODEL_NAME).contains(&name.len())
        && name.chars().all(|c| !c.is_control() && !c.is_whitespace())
}

/// Position of a name among the judged ones, as a reader would find it that ignores letter case.
fn judged_index(name: &str) -> Option<usize> {
    if name.len() > 64 {
        return None;
    }
    JUDGED
        .iter()
        .position(|judged| policy::model::reads_as(name, judged))
}

/// The body with another model's name in it, every other byte as it was; `None` when it has no
/// member `model`.
pub(super) fn with_model(body: &[u8], name: &str) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        model: &'a serde_json::value::RawValue,
    }
    let named: Named<'_> = serde_json::from_slice(body).ok()?;
    let raw = named.model.get();
    // The value is a part of the body, so the two addresses tell where it stands.
    let start = (raw.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let (before, rest) = body.split_at_checked(start)?;
    let after = rest.get(raw.len()..)?;
    let name = serde_json::to_string(name).ok()?;
    Some([before, name.as_bytes(), after].concat())
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some(Name(name)) = map.next_key()? {
                    let Some(index) = judged_index(&name) else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    if name != JUDGED[index] {
                        members.other_case = Some(index);
                    }
                    let value = map.next_value()?;
                    if members.values[index].replace(value).is_some() {
                        return Err(serde::de::Error::custom(DUPLICATE));
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// A judged value, or the fact that it is of no kind that could be right.
#[derive(Debug, PartialEq, Eq)]
enum Scalar {
    Null,
    Bool(bool),
    Count(u64),
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar::Count(value))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Scalar, A::Error> {
                while access.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Scalar, A::Error> {
                while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(body: &[u8]) -> Result<Judged, Refusal> {
        super::judge(body, ModelSurface::ChatCompletions)
    }

    #[test]
    fn only_what_the_endpoint_knows_bounds_the_answer() {
        use ModelSurface::{ChatCompletions, Messages, Responses};
        for (surface, body, tokens) in [
            (ChatCompletions, r#"{"max_output_tokens":5}"#, None),
            (ChatCompletions, r#"{"max_completion_tokens":5}"#, Some(5)),
            (Responses, r#"{"max_tokens":5}"#, None),
            (
                Responses,
                r#"{"max_tokens":9,"max_output_tokens":5}"#,
                Some(9),
            ),
            (Messages, r#"{"max_completion_tokens":5}"#, None),
            (Messages, r#"{"max_tokens":5}"#, Some(5)),
        ] {
            let judged = super::judge(body.as_bytes(), surface).unwrap();
            assert_eq!(judged.output_tokens, tokens, "{surface:?} {body}");
        }
    }

    #[test]
    fn reads_what_is_judged_and_nothing_else() {
        let body = br#" {"messages":[{"model":"no","x":{"stream":1}}],"model":"gpt-5","stream":true,
            "max_tokens":10,"max_completion_tokens":30,"n":2,"unknown":{"a":1,"a":1},"temperature":0.5} "#;
        let judged = judge(body).unwrap();
        assert_eq!(judged.model.as_deref(), Some("gpt-5"));
        assert!(judged.stream);
        assert_eq!(judged.output_tokens, Some(60));
        assert_eq!(judge(b"{}").unwrap(), Judged::default());
        assert_eq!(
            judge(br#"{"stream":null,"n":null,"background":false}"#).unwrap(),
            Judged::default()
        );
        assert_eq!(
            judge(br#"{"model":"m","n":18446744073709551615,"max_tokens":9}"#)
                .unwrap()
                .output_tokens,
            Some(u64::MAX)
        );
    }

    #[test]
    fn hostile_bodies_are_refused() {
        use ReasonCode::{BodyNotJson, BodyUnknownMember, BodyWrongType};
        for (body, code) in [
            (r#"{"model":"a","model":"b"}"#, BodyNotJson),
            (r#"{"model":"a","mod\u0065l":"b"}"#, BodyNotJson),
            (r#"{"model":"a","Model":"b"}"#, BodyNotJson),
            (r#"{"MODEL":"b"}"#, BodyUnknownMember),
            (r#"{"model":"a","\u017ftream":true}"#, BodyUnknownMember),
            (r#"{"model":"a","max_to\u212aens":5}"#, BodyUnknownMember),
            (r#"{"stream":true,"stream":false}"#, BodyNotJson),
            (r#"{"max_tokens":1,"max_tokens":2}"#, BodyNotJson),
            (r#"{"model":["a"]}"#, BodyWrongType),
            (r#"{"model":{"name":"a"}}"#, BodyWrongType),
            (r#"{"model":7}"#, BodyWrongType),
            (r#"{"model":""}"#, BodyWrongType),
            (r#"{"model":"a\r\nb"}"#, BodyWrongType),
            (r#"{"model":"a b"}"#, BodyWrongType),
            (r#"{"stream":"true"}"#, BodyWrongType),
            (r#"{"stream":1}"#, BodyWrongType),
            (r#"{"max_tokens":-1}"#, BodyWrongType),
            (r#"{"max_tokens":1.5}"#, BodyWrongType),
            (r#"{"max_tokens":1e3}"#, BodyWrongType),
            (r#"{"max_tokens":"10"}"#, BodyWrongType),
            (r#"{"max_tokens":18446744073709551616}"#, BodyWrongType),
            (r#"{"max_output_tokens":[]}"#, BodyWrongType),
            (r#"{"n":0}"#, BodyWrongType),
            (r#"{"models":["a","b"]}"#, BodyUnknownMember),
            (r#"{"fallbacks":[{"model":"b"}]}"#, BodyUnknownMember),
            (r#"{"background":true}"#, BodyUnknownMember),
            (r#"[{"model":"a"}]"#, BodyNotJson),
            (r#""model""#, BodyNotJson),
            (r#"{"model":"a"}{"model":"b"}"#, BodyNotJson),
            (r#"{"model":"a"} x"#, BodyNotJson),
            (r#"{"model":"a","#, BodyNotJson),
            ("{'model':'a'}", BodyNotJson),
            ("{\"model\":\"a\", // x\n\"n\":1}", BodyNotJson),
            ("\u{feff}{\"model\":\"a\"}", BodyNotJson),
            ("", BodyNotJson),
        ] {
            assert_eq!(judge(body.as_bytes()).unwrap_err().code, code, "{body}");
        }
        assert_eq!(judge(b"{\"x\":\"\xff\"}").unwrap_err().code, BodyNotJson);
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(MAX_MODEL_NAME + 1));
        assert_eq!(judge(long.as_bytes()).unwrap_err().code, BodyWrongType);
        let deep = format!("{{\"x\":{}", "[".repeat(1_000_000));
        assert_eq!(judge(deep.as_bytes()).unwrap_err().code, BodyNotJson);
    }

    #[test]
    fn only_the_models_name_changes() {
        for (body, after) in [
            (
                r#" {"a":1.50, "model" : "fast" ,"x":{"model":"fast"}}"#,
                r#" {"a":1.50, "model" : "gpt-5\"x" ,"x":{"model":"fast"}}"#,
            ),
            (
                r#"{"mod\u0065l":"f\u0061st"}"#,
                r#"{"mod\u0065l":"gpt-5\"x"}"#,
            ),
        ] {
            let changed = with_model(body.as_bytes(), "gpt-5\"x").unwrap();
            assert_eq!(String::from_utf8(changed).unwrap(), after);
        }
        assert_eq!(with_model(b"{}", "a"), None);
    }

    #[test]
    fn what_the_provider_keeps_is_noticed() {
        for (body, continues) in [
            (r#"{"previous_response_id":"resp_1"}"#, true),
            (r#"{"conversation":{"id":"conv_1"}}"#, true),
            (r#"{"prompt":{"id":"pmpt_1"}}"#, true),
            (
                r#"{"previous_response_id":null,"conversation":null}"#,
                false,
            ),
            (r#"{"input":{"conversation":"a"}}"#, false),
        ] {
            assert_eq!(
                judge(body.as_bytes()).unwrap().continues,
                continues,
                "{body}"
            );
        }
    }

    #[test]
    fn refusals_do_not_repeat_the_body() {
        for body in [
            r#"{"model":["sk-secret"]}"#,
            r#"["sk-secret"]"#,
            r#""sk-secret""#,
        ] {
            let refused = judge(body.as_bytes()).unwrap_err().to_string();
            assert!(!refused.contains("sk-secret"), "{refused}");
        }
    }
}
