//! Every reason for an answer that is not the expected one: one table, from which status, title,
//! advice and documentation are made.
//!
//! Rules that a test holds: a policy answer is never 429 or 5xx (clients would retry it), 401 is
//! only ever about the token (clients then ask for a new one), 404 only where existence itself is
//! private.
//!
//! To add a code: add its line to the table in `reason/table.rs`. Nothing else lists them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod table;

pub use table::ReasonCode;

/// Whose answer a code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The scoped token itself is no good: 401.
    Token,
    /// The contract or our own grammar says no: a 4xx that must not be retried.
    Policy,
    /// Terraform Cloud or a model provider failed, or asks to wait: 429, 502, 503, 504.
    Upstream,
    /// Clawgate itself cannot answer now.
    Gateway,
}

/// What a code stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// Stable text, `SCREAMING_SNAKE_CASE`.
    pub text: &'static str,
    /// HTTP status of the answer.
    pub status: u16,
    /// Whose answer it is.
    pub origin: Origin,
    /// A few words; the Terraform CLI prints them.
    pub title: &'static str,
    /// One sentence: what to do next.
    pub advice: &'static str,
}

impl ReasonCode {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        self.reason().text
    }

    /// HTTP status of the answer.
    pub fn status(self) -> u16 {
        self.reason().status
    }

    /// A few words for people.
    pub fn title(self) -> &'static str {
        self.reason().title
    }

    /// What to do next.
    pub fn advice(self) -> &'static str {
        self.reason().advice
    }

    /// Whose answer it is.
    pub fn origin(self) -> Origin {
        self.reason().origin
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request that is refused before the contract is even asked, or a document that is: the code
/// and what exactly was wrong. The detail never holds secrets; it may hold what the caller sent,
/// shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// The reason.
    pub code: ReasonCode,
    /// What was wrong, for the caller.
    pub detail: Cow<'static, str>,
    /// Seconds after which the caller may try again, where that is known.
    pub retry_after_seconds: Option<u32>,
}

impl Refusal {
    /// A refusal with its detail.
    pub fn new(code: ReasonCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after_seconds: None,
        }
    }

    /// The same, with the time after which the caller may try again.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after_seconds: Some(seconds),
            ..self
        }
    }
}

impl From<ReasonCode> for Refusal {
    fn from(code: ReasonCode) -> Self {
        Self {
            code,
            detail: Cow::Borrowed(code.title()),
            retry_after_seconds: None,
        }
    }
}

/// Quotes what a caller sent: shortened, control characters replaced.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let clean: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    let more = if text.chars().nth(LONGEST).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{clean}{more}`")
}

/// A text that is no reason code of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason code `{0}`")]
pub struct UnknownReason(pub String);

impl FromStr for ReasonCode {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownReason(text.to_owned()))
    }
}

impl Serialize for ReasonCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ReasonCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_tell_clients_what_they_must_and_must_not_do() {
        let private = [
            "OBJECT_UNKNOWN",
            "STATE_READ_DENIED",
            "CAPABILITY_UNKNOWN",
            "JOB_UNKNOWN",
            "CONTRACT_UNKNOWN",
            "APPROVAL_UNKNOWN",
            "INVITATION_UNKNOWN",
            "BUNDLE_UNKNOWN",
            "PUBLICATION_UNKNOWN",
            "RECEIPT_UNKNOWN",
            "PAGE_UNKNOWN",
            "NOTICE_CHANNEL_UNKNOWN",
            "LOG_PLACE_UNKNOWN",
            "HOLD_UNKNOWN",
        ];
        for code in ReasonCode::ALL.iter().copied() {
            let reason = code.reason();
            let allowed: &[u16] = match reason.origin {
                Origin::Token => &[401],
                Origin::Policy if private.contains(&reason.text) => &[404],
                Origin::Policy => &[200, 400, 402, 403, 405, 409, 410, 413, 415, 422],
                Origin::Upstream => &[404, 409, 422, 429, 502, 503, 504],
                Origin::Gateway => &[429, 500, 503],
            };
            assert!(
                allowed.contains(&reason.status),
                "{code} has status {}",
                reason.status
            );
        }
    }

    #[test]
    fn each_code_reads_back_and_speaks_in_sentences() {
        let mut texts = std::collections::BTreeSet::new();
        for code in ReasonCode::ALL.iter().copied() {
            assert!(texts.insert(code.as_str()), "{code} twice");
            assert!(
                code.as_str()
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b == b'_'),
                "{code}"
            );
            assert_eq!(code.as_str().parse(), Ok(code));
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
            assert_eq!(
                serde_json::from_str::<ReasonCode>(&format!("\"{code}\"")).unwrap(),
                code
            );
            assert!(
                code.advice().ends_with('.') && !code.title().ends_with('.'),
                "{code}"
            );
            assert_eq!(
                code.as_str().replace('_', ""),
                format!("{code:?}").to_ascii_uppercase(),
                "the name of the variant is the name of the code"
            );
        }
        assert!("NO_SUCH_CODE".parse::<ReasonCode>().is_err());
        assert!(serde_json::from_str::<ReasonCode>("\"allowed\"").is_err());
    }
}
