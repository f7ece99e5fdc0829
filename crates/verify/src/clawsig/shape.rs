//! What members may be: the part of the public schemas that verdicts depend on.

use proof::Json;

use super::{Fault, SCHEMA, fault};

/// What a member must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Anything.
    Any,
    /// A string.
    String,
    /// A string of at least one character.
    Text,
    /// Exactly this string.
    Const(&'static str),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// base64url of at least eight characters.
    Base64,
    /// The same, or null.
    Base64OrNull,
    /// A DID of the two methods that the verifiers allow.
    Did,
    /// A DID of any method.
    AnyDid,
    /// A moment.
    Time,
    /// A number from zero up to this.
    Number(u64),
    /// An object.
    Object,
    /// An array of so many at most.
    Array { most: usize },
}

impl Kind {
    fn fits(self, value: &Json) -> bool {
        match (self, value) {
            (Self::Any, _)
            | (Self::Base64OrNull, Json::Null)
            | (Self::Object, Json::Object(_))
            | (Self::String, Json::String(_)) => true,
            (Self::Text, Json::String(text)) => !text.is_empty(),
            (Self::Const(only), Json::String(text)) => text == only,
            (Self::OneOf(some), Json::String(text)) => some.contains(&text.as_str()),
            (Self::Base64 | Self::Base64OrNull, Json::String(text)) => is_base64url(text),
            (Self::Did, Json::String(text)) => is_did(text),
            (Self::AnyDid, Json::String(text)) => text.starts_with("did:"),
            (Self::Time, Json::String(text)) => millis(text).is_some(),
            (Self::Number(most), Json::Integer(value)) => {
                u64::try_from(*value).is_ok_and(|value| value <= most)
            }
            (Self::Number(most), Json::Double(value)) => (0.0..=most as f64).contains(value),
            (Self::Array { most }, Json::Array(elements)) => elements.len() <= most,
            _ => false,
        }
    }
}

/// One value.
pub(super) fn value(json: &Json, kind: Kind, place: &str) -> Result<(), Fault> {
    if kind.fits(json) {
        Ok(())
    } else {
        Err(fault(SCHEMA, place, "not as it must be"))
    }
}

/// A list of members and what they must be.
pub(super) type Members<'a> = &'a [(&'static str, Kind)];

/// An object with these members and no others.
pub(super) fn closed(
    json: &Json,
    place: &str,
    required: Members<'_>,
    optional: Members<'_>,
) -> Result<(), Fault> {
    open(json, place, required, optional)?;
    let known = |name: &str| {
        let listed = |(known, _): &(&str, Kind)| *known == name;
        required.iter().any(listed) || optional.iter().any(listed)
    };
    let members = json.members().unwrap_or_default();
    match members.iter().find(|(name, _)| !known(name)) {
        Some((name, _)) => Err(fault(SCHEMA, format!("{place}/{name}"), "unknown member")),
        None => Ok(()),
    }
}

/// An object with these members and perhaps others.
pub(super) fn open(
    json: &Json,
    place: &str,
    required: Members<'_>,
    optional: Members<'_>,
) -> Result<(), Fault> {
    if json.members().is_none() {
        return Err(fault(SCHEMA, place, "not an object"));
    }
    for (name, kind) in required {
        match json.get(name) {
            Some(value) if kind.fits(value) => {}
            Some(_) => {
                return Err(fault(
                    SCHEMA,
                    format!("{place}/{name}"),
                    "not as it must be",
                ));
            }
            None => return Err(fault(SCHEMA, format!("{place}/{name}"), "missing")),
        }
    }
    for (name, kind) in optional {
        if json.get(name).is_some_and(|value| !kind.fits(value)) {
            return Err(fault(
                SCHEMA,
                format!("{place}/{name}"),
                "not as it must be",
            ));
        }
    }
    Ok(())
}

/// The alphabet only: the bits behind it are checked where the value is used.
pub(super) fn is_base64url(text: &str) -> bool {
    text.len() >= 8
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The form only: whether a key stands behind it shows when it has to verify something.
pub(super) fn is_did(text: &str) -> bool {
    let rest = text
        .strip_prefix("did:key:")
        .or(text.strip_prefix("did:web:"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._%-".contains(&byte);
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(plain))
}

/// Milliseconds of an RFC 3339 time.
pub(super) fn millis(text: &str) -> Option<i64> {
    let moment: jiff::Timestamp = text.parse().ok()?;
    (text.as_bytes().get(10) == Some(&b'T')).then(|| moment.as_millisecond())
}
