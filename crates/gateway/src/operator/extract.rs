//! What a request brings: bodies and queries, read strictly and within bounds.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query};
use http::request::Parts;
use http::{HeaderMap, Request, Uri, header};
use policy::ReasonCode;
use proof::{Hash, JsonError};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Largest body that is read, in bytes; a contract with its signature is the largest document.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

/// How long an operator's client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest form that is read; it holds one token.
const MAX_FORM_BYTES: usize = 32 * 1024;

/// A JSON body, read strictly: no duplicate, no unknown member, nothing behind it.
#[derive(Debug)]
pub(super) struct Strict<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Strict<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is(&parts.headers, "application/json") {
            return Err(Problem::new(
                ReasonCode::BodyContentType,
                "send application/json",
            ));
        }
        json(&read(body).await?).map(Self)
    }
}

/// A form (RFC 7009, RFC 7662) or the same members as JSON.
#[derive(Debug)]
pub(super) struct FormOrJson<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for FormOrJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if is(&parts.headers, "application/json") {
            return json(&read(body).await?).map(Self);
        }
        let bytes = form(&parts.headers, body).await?;
        pairs(&bytes).map(Self)
    }
}

/// A form's body, not read yet.
///
/// # Errors
/// `BODY_CONTENT_TYPE`, `BODY_TOO_LARGE`.
pub(super) async fn form(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    if !is(headers, "application/x-www-form-urlencoded") {
        let detail = "send application/x-www-form-urlencoded or application/json";
        return Err(Problem::new(ReasonCode::BodyContentType, detail));
    }
    let bytes = read(body).await?;
    if bytes.len() > MAX_FORM_BYTES {
        return Err(ReasonCode::BodyTooLarge.into());
    }
    Ok(bytes)
}

/// What a form's body says.
///
/// # Errors
/// A `BODY_…` code.
pub(super) fn pairs<T: DeserializeOwned>(form: &[u8]) -> Result<T, Problem> {
    // A form is written like a query, and is read by the same code.
    let uri = std::str::from_utf8(form)
        .ok()
        .and_then(|form| format!("/?{form}").parse().ok());
    let uri: Uri = uri.ok_or_else(|| Problem::new(ReasonCode::BodyWrongType, "not a form"))?;
    match Query::try_from_uri(&uri) {
        Ok(Query(value)) => Ok(value),
        Err(rejection) => Err(shape(&cause(&rejection))),
    }
}

/// Query parameters; unknown and repeated ones are refused.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(value)| Self(value))
            .map_err(|rejection| {
                let message = cause(&rejection);
                let code = if message.contains("unknown field") {
                    ReasonCode::QueryUnknownKey
                } else if message.contains("duplicate field") {
                    ReasonCode::QueryRepeatedKey
                } else {
                    ReasonCode::QueryValue
                };
                Problem::new(code, message)
            })
    }
}

/// The one variable part of a path, read into its own type.
#[derive(Debug)]
pub(super) struct Id<T>(pub(super) T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let names = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let text = names
            .ok()
            .and_then(|Path(names)| names.into_values().next());
        let value = text.and_then(|text| text.parse().ok());
        value
            .map(Self)
            .ok_or_else(|| ReasonCode::IdMalformed.into())
    }
}

/// Why an operator does something: one to a thousand bytes, as records keep it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Reason(String);

/// Longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1000;

impl Reason {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Reason {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let blank = text.trim().is_empty();
        if blank || text.len() > MAX_REASON_BYTES || text.chars().any(char::is_control) {
            return Err(format!(
                "a reason has 1 to {MAX_REASON_BYTES} bytes on one line"
            ));
        }
        Ok(Self(text))
    }
}

/// Reads a token's hash as public formats write it: 64 lower-case hexadecimal digits.
///
/// # Errors
/// `ID_MALFORMED`.
pub(crate) fn hash_from_hex(text: &str) -> Result<Hash, Problem> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    let pairs = text.as_bytes().chunks(2);
    let good = text.len() == 64
        && bytes.iter_mut().zip(pairs).all(|(byte, pair)| {
            let value = digit(pair[0])
                .zip(digit(pair[1]))
                .map(|(high, low)| high << 4 | low);
            value.map(|value| *byte = value).is_some()
        });
    if good {
        Ok(Hash::from_bytes(bytes))
    } else {
        Err(Problem::new(
            ReasonCode::IdMalformed,
            "a token's hash has 64 hexadecimal digits",
        ))
    }
}

pub(super) fn is(headers: &HeaderMap, media_type: &str) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let bare = value
        .and_then(|value| value.split(';').next())
        .unwrap_or("");
    bare.trim().eq_ignore_ascii_case(media_type)
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    let slow = || Problem::new(ReasonCode::BodyNotJson, "the body did not arrive in time");
    tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES))
        .await
        .map_err(|_| slow())?
        .map_err(|_| ReasonCode::BodyTooLarge.into())
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    proof::json::from_slice(bytes).map_err(|error| match error {
        JsonError::Rejected(reason) => Problem::new(ReasonCode::BodyNotJson, reason),
        JsonError::Shape(error) => shape(&error.to_string()),
    })
}

/// serde says in words what was wrong; the first ones are stable.
pub(super) fn shape(message: &str) -> Problem {
    let code = if message.contains("unknown field") {
        ReasonCode::BodyUnknownMember
    } else if message.contains("missing field") {
        ReasonCode::BodyMissingMember
    } else {
        ReasonCode::BodyWrongType
    };
    Problem::new(code, message)
}

fn cause(rejection: &QueryRejection) -> String {
    let mut inner: &dyn std::error::Error = rejection;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        token: String,
        reason: Option<String>,
    }

    async fn sent(content_type: &str, body: impl Into<Body>) -> Result<Wanted, ReasonCode> {
        let request = Request::builder().header(header::CONTENT_TYPE, content_type);
        let request = request.body(body.into()).unwrap();
        let read = FormOrJson::<Wanted>::from_request(request, &()).await;
        read.map(|FormOrJson(value)| value)
            .map_err(|problem| problem.code)
    }

    #[tokio::test]
    async fn bodies_are_read_strictly() {
        const JSON: &str = "application/json";
        const FORM: &str = "application/x-www-form-urlencoded";
        let wanted = Wanted {
            token: "a b".into(),
            reason: None,
        };
        assert_eq!(sent(JSON, r#"{"token":"a b"}"#).await, Ok(wanted));
        let wanted = Wanted {
            token: "a b".into(),
            reason: Some("x&y".into()),
        };
        assert_eq!(sent(FORM, "token=a+b&reason=x%26y").await, Ok(wanted));
        use ReasonCode as R;
        for (content_type, body, code) in [
            ("text/plain", "{}", R::BodyContentType),
            ("", "{}", R::BodyContentType),
            (JSON, "", R::BodyNotJson),
            (JSON, "{} {}", R::BodyNotJson),
            (JSON, r#"{"token":"a","token":"b"}"#, R::BodyNotJson),
            (JSON, r#"{"token":"a","tokn":"b"}"#, R::BodyUnknownMember),
            (JSON, "{}", R::BodyMissingMember),
            (JSON, r#"{"token":1}"#, R::BodyWrongType),
            (FORM, "token=a&more=b", R::BodyUnknownMember),
            (FORM, "reason=a", R::BodyMissingMember),
            (FORM, "token=a&token=b", R::BodyWrongType),
            (FORM, "token=\u{7f}\u{0}", R::BodyWrongType),
        ] {
            assert_eq!(
                sent(content_type, body).await,
                Err(code),
                "{content_type} {body}"
            );
        }
        let large = vec![b' '; MAX_BODY_BYTES + 1];
        assert_eq!(sent(JSON, large).await, Err(R::BodyTooLarge));
        let large = format!("token={}", "a".repeat(MAX_FORM_BYTES));
        assert_eq!(sent(FORM, large).await, Err(R::BodyTooLarge));
    }

    #[test]
    fn hashes_and_reasons_have_one_form() {
        let hash = Hash::of(b"x");
        assert_eq!(hash_from_hex(&hash.to_hex()).unwrap(), hash);
        let hex = hash.to_hex();
        for bad in [
            "",
            &hex[1..],
            &hex.to_uppercase(),
            &format!("{hex}0"),
            &"é".repeat(32),
        ] {
            assert!(hash_from_hex(bad).is_err(), "{bad}");
        }
        assert!(Reason::try_from("because".to_owned()).is_ok());
        for bad in ["", "  ", "two\nlines", &"x".repeat(MAX_REASON_BYTES + 1)] {
            assert!(Reason::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn queries_are_read_strictly() {
        let read = |uri: &'static str| async move {
            let (mut parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
            let read = Params::<Wanted>::from_request_parts(&mut parts, &()).await;
            read.map(|_| ()).map_err(|problem| problem.code)
        };
        assert_eq!(read("/?token=a").await, Ok(()));
        assert_eq!(
            read("/?token=a&b=c").await,
            Err(ReasonCode::QueryUnknownKey)
        );
        assert_eq!(
            read("/?token=a&token=c").await,
            Err(ReasonCode::QueryRepeatedKey)
        );
        assert_eq!(read("/").await, Err(ReasonCode::QueryValue));
    }
}
