//! What a contract takes out of requests before they are sent.

use proof::json::Json;

use super::check_spelling;
use crate::contract::{Redaction, RedactionAction, Step};
use crate::reason::{ReasonCode, Refusal};

/// What stands in the place of a masked value.
pub const MASK: &str = "[masked]";

/// Applies every rule, in their order. A member that is not there needs no redaction; a rule
/// whose path leads through something else than it says cannot be applied, and then nothing may
/// be sent.
///
/// # Errors
/// `MODEL_REDACTION` with the rule's path, never with what stands there, and
/// `BODY_UNKNOWN_MEMBER` for a member that could be taken for one on the path.
pub fn redact(body: &mut Json, rules: &[Redaction]) -> Result<(), Refusal> {
    for rule in rules {
        follow(body, rule.path.steps(), rule)?;
    }
    Ok(())
}

fn follow(value: &mut Json, steps: &[Step], rule: &Redaction) -> Result<(), Refusal> {
    let Some((step, rest)) = steps.split_first() else {
        mask(value);
        return Ok(());
    };
    match step {
        Step::Member(name) => {
            if value.members().is_none() {
                return cannot(rule, "an object");
            }
            check_spelling(value, name)?;
            if rest.is_empty() && rule.action == RedactionAction::Remove {
                value.remove(name);
                return Ok(());
            }
            let Json::Object(members) = value else {
                return cannot(rule, "an object");
            };
            match members.iter_mut().find(|(key, _)| **key == **name) {
                None | Some((_, Json::Null)) => Ok(()),
                Some((_, inner)) => follow(inner, rest, rule),
            }
        }
        Step::Elements => match value {
            Json::Array(elements) => elements
                .iter_mut()
                .try_for_each(|element| follow(element, rest, rule)),
            _ => cannot(rule, "an array"),
        },
    }
}

fn mask(value: &mut Json) {
    if *value != Json::Null {
        *value = MASK.into();
    }
}

fn cannot(rule: &Redaction, needed: &str) -> Result<(), Refusal> {
    Err(Refusal::new(
        ReasonCode::ModelRedaction,
        format!(
            "the rule for `{}` finds something else than {needed} on its way",
            rule.path.as_str()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;
    use crate::model::read_body;

    fn redacted(rules: &str, body: &str) -> Result<String, ReasonCode> {
        let contract = crate::EXAMPLE_CONTRACT.replacen(
            "\"audit\"",
            &format!(r#""models":{{"redact":{rules}}},"audit""#),
            1,
        );
        let contract = Contract::parse(contract.as_bytes()).unwrap();
        let mut body = read_body(body.as_bytes()).unwrap();
        redact(&mut body, &contract.models.unwrap().redact).map_err(|refused| refused.code)?;
        Ok(serde_json::to_string(&body).unwrap())
    }

    #[test]
    fn rules_take_out_and_mask() {
        let contents = r#"[{"path":"messages[*].content","action":"mask"}]"#;
        let user =
            r#"[{"path":"user","action":"remove"},{"path":"metadata.who","action":"remove"}]"#;
        for (rules, body, after) in [
            (
                contents,
                r#"{"z":1.5,"messages":[{"role":"user","content":"secret"},{"content":[{"type":"text","text":"secret"}]},{"content":null},{"role":"x"}]}"#,
                r#"{"z":1.5,"messages":[{"role":"user","content":"[masked]"},{"content":"[masked]"},{"content":null},{"role":"x"}]}"#,
            ),
            (contents, r#"{"input":"a"}"#, r#"{"input":"a"}"#),
            (contents, r#"{"messages":null}"#, r#"{"messages":null}"#),
            (contents, r#"{"messages":[]}"#, r#"{"messages":[]}"#),
            (
                user,
                r#"{"user":{"x":1},"metadata":{"who":"me","why":"y"}}"#,
                r#"{"metadata":{"why":"y"}}"#,
            ),
            (user, r#"{"metadata":{}}"#, r#"{"metadata":{}}"#),
            (
                r#"[{"path":"a[*][*]","action":"mask"}]"#,
                r#"{"a":[[1,"b"],[]]}"#,
                r#"{"a":[["[masked]","[masked]"],[]]}"#,
            ),
            ("[]", r#"{"a":1}"#, r#"{"a":1}"#),
        ] {
            assert_eq!(
                redacted(rules, body).as_deref(),
                Ok(after),
                "{rules} {body}"
            );
        }
    }

    #[test]
    fn a_rule_that_cannot_be_applied_stops_the_call() {
        use ReasonCode::{BodyUnknownMember, ModelRedaction};
        let contents = r#"[{"path":"messages[*].content","action":"mask"}]"#;
        let who = r#"[{"path":"metadata.who","action":"remove"}]"#;
        for (rules, body, code) in [
            (contents, r#"{"messages":"secret"}"#, ModelRedaction),
            (
                contents,
                r#"{"messages":{"content":"secret"}}"#,
                ModelRedaction,
            ),
            (contents, r#"{"messages":["secret"]}"#, ModelRedaction),
            (contents, r#"{"messages":[null]}"#, ModelRedaction),
            (contents, r#"["secret"]"#, ModelRedaction),
            (
                contents,
                r#"{"Messages":[{"content":"secret"}]}"#,
                BodyUnknownMember,
            ),
            (
                contents,
                r#"{"messages":[{"Content":"secret"}]}"#,
                BodyUnknownMember,
            ),
            (who, r#"{"metadata":"me"}"#, ModelRedaction),
            (who, r#"{"metadata":{"WHO":"me"}}"#, BodyUnknownMember),
        ] {
            assert_eq!(redacted(rules, body), Err(code), "{rules} {body}");
        }
    }
}
