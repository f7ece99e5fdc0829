//! Bodies of requests to models, where a contract has rules about them: which tools they offer,
//! and what is taken out of them before they are sent.
//!
//! Some model servers ignore the letter case of member names. A member that such a reader would
//! take for one that a rule is about is refused, wherever a rule looks.

mod redact;
mod tools;

use proof::json::{Json, JsonError, Numbers};

use crate::reason::{ReasonCode, Refusal};

pub use redact::{MASK, redact};
pub use tools::{MAX_TOOLS, offered_tools};

/// Most commas and opening brackets of a body that is read as a whole, inside of texts or not:
/// a tree takes many times the memory of its text.
const MAX_PARTS: usize = 1 << 20;

/// Reads a body as a whole.
///
/// # Errors
/// `BODY_TOO_LARGE` for one with too many values, `BODY_NOT_JSON` for one that has a duplicate
/// member anywhere, is nested too deep or is not strict JSON. The texts repeat nothing of it.
pub fn read_body(body: &[u8]) -> Result<Json, Refusal> {
    let parts = body.iter().filter(|byte| b",[{".contains(byte)).count();
    if parts > MAX_PARTS {
        return Err(Refusal::new(
            ReasonCode::BodyTooLarge,
            "the contract has rules about the body, which has too many values to be judged",
        ));
    }
    proof::json::parse(body, Numbers::Any).map_err(|error| {
        let deep =
            matches!(&error, JsonError::Rejected(reason) if reason.contains("nested deeper"));
        Refusal::new(
            ReasonCode::BodyNotJson,
            if deep {
                "the contract has rules about the body, which is nested too deep to be judged"
            } else {
                "the contract has rules about the body, which must be strict JSON without \
                 duplicate members"
            },
        )
    })
}

/// A member, provided that no other one could be taken for it by a reader that ignores case.
fn member<'a>(object: &'a Json, name: &str) -> Result<Option<&'a Json>, Refusal> {
    check_spelling(object, name)?;
    Ok(object.get(name).filter(|value| **value != Json::Null))
}

fn check_spelling(object: &Json, name: &str) -> Result<(), Refusal> {
    let members = object.members().unwrap_or_default();
    match members
        .iter()
        .any(|(key, _)| key != name && reads_as(key, name))
    {
        true => Err(Refusal::new(
            ReasonCode::BodyUnknownMember,
            format!("write `{name}` exactly so, and once"),
        )),
        false => Ok(()),
    }
}

/// Whether a reader that ignores letter case takes one name for the other. Go's does, which
/// several model servers use, and it folds two more characters.
pub fn reads_as(key: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}

fn wrong(what: &str, needed: &str) -> Refusal {
    Refusal::new(
        ReasonCode::BodyWrongType,
        format!("`{what}` must be {needed}"),
    )
}
