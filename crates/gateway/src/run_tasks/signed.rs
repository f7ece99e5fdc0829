//! The signature of a call: HMAC-SHA512 over the body, by the key that Terraform Cloud was given
//! with the run task.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequest;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Request};
use policy::{ReasonCode, Refusal};
use sha2::Sha512;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::clawproxy::body::{self, Bounds};
use crate::operator::Problem;
use crate::secret::Secret;

/// Largest call, in bytes. The vendor's have a few thousand; the run's message is part of them.
pub(super) const MAX_CALL_BYTES: usize = 256 * 1024;

/// How long a call may take to come in.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the signature stands.
const SIGNATURE: &str = "x-tfc-task-signature";

/// A body that somebody signed who has the run task's key. [`FromRequest`] is its only maker.
#[derive(Debug)]
pub struct Signed {
    body: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl Signed {
    /// What was signed.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

impl FromRequest<Arc<App>> for Signed {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self, Problem> {
        let tasks = app.run_tasks.as_ref();
        let tasks = tasks.ok_or(ReasonCode::RunTaskDisabled)?;
        let (parts, body) = request.into_parts();
        let signature = signature(&parts.headers)?;
        let bounds = Bounds {
            bytes: MAX_CALL_BYTES,
            patience: PATIENCE,
            room: &tasks.bodies,
            too_large: ReasonCode::BodyTooLarge,
        };
        let held = body::read(body, bounds).await?;
        verify(&tasks.key, &held.bytes, &signature)?;
        Ok(Self {
            body: held.bytes,
            _share: held.share,
        })
    }
}

fn refused(detail: &'static str) -> Refusal {
    Refusal::new(ReasonCode::RunTaskSignature, detail)
}

/// The one signature in the headers.
fn signature(headers: &HeaderMap) -> Result<[u8; 64], Refusal> {
    let mut values = headers.get_all(SIGNATURE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refused("exactly one x-tfc-task-signature is wanted"));
    };
    let text = value.to_str().unwrap_or_default();
    from_hex(text).ok_or_else(|| refused("the signature is not 64 bytes in hexadecimal"))
}

fn from_hex(text: &str) -> Option<[u8; 64]> {
    let mut bytes = [0; 64];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|n| u8::try_from(n).ok())
    };
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Compares in constant time.
fn verify(key: &Secret, body: &[u8], signature: &[u8; 64]) -> Result<(), Refusal> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(body);
    let verified = mac.verify_slice(signature);
    verified.map_err(|_| refused("it is not what the key makes of the body"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Test case 2 of RFC 4231.
    const RFC_4231: &str = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                            9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";

    fn key() -> Secret {
        Secret::new("Jefe".into())
    }

    #[test]
    fn the_published_vector_verifies_and_nothing_else() {
        let body = b"what do ya want for nothing?";
        let signature = from_hex(RFC_4231).unwrap();
        assert!(verify(&key(), body, &signature).is_ok());
        let mut other = signature;
        other[63] ^= 1;
        for (key, body, signature) in [
            (key(), &body[..], other),
            (key(), &body[1..], signature),
            (Secret::new("jefe".into()), &body[..], signature),
        ] {
            let refused = verify(&key, body, &signature).unwrap_err();
            assert_eq!(refused.code, ReasonCode::RunTaskSignature);
        }
    }

    #[test]
    fn one_signature_of_the_right_form_is_wanted() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SIGNATURE, HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        assert!(signature(&headers(&[RFC_4231])).is_ok());
        assert!(signature(&headers(&[&RFC_4231.to_ascii_uppercase()])).is_ok());
        for bad in [
            headers(&[]),
            headers(&[""]),
            headers(&[RFC_4231, RFC_4231]),
            headers(&[&RFC_4231[1..]]),
            headers(&[&RFC_4231[2..]]),
            headers(&[&format!("{RFC_4231}00")]),
            headers(&[&RFC_4231.replace('1', "g")]),
            headers(&[&RFC_4231.replace("16", "+6")]),
        ] {
            let refused = signature(&bad).unwrap_err();
            assert_eq!(refused.code, ReasonCode::RunTaskSignature, "{bad:?}");
        }
    }
}
