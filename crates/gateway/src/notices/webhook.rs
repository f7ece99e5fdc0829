//! Notices as signed calls, in the manner of the Standard Webhooks specification
//! (<https://www.standardwebhooks.com>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proof::Timestamp;
use serde_json::json;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::message::Message;
use crate::keys::random_bytes;
use crate::secret::Secret;

/// What keys begin with.
const PREFIX: &str = "whsec_";

/// The lengths that the specification allows, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// Signs calls.
pub(super) struct Key {
    bytes: Zeroizing<Vec<u8>>,
    text: Secret,
}

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key must be whsec_ and 24 to 64 bytes in base64; `clawgate notices key FILE` makes one"
)]
pub struct BadKey;

impl Key {
    /// Reads a key as it is written.
    ///
    /// # Errors
    /// [`BadKey`].
    pub(super) fn read(secret: &Secret) -> Result<Self, BadKey> {
        let text = secret.expose();
        let text = text.strip_prefix(PREFIX).unwrap_or(text);
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| BadKey)?);
        if !LENGTHS.contains(&bytes.len()) {
            return Err(BadKey);
        }
        let text = Secret::new(text.to_owned());
        Ok(Self { bytes, text })
    }

    /// The text that must not be said on.
    pub(super) fn expose(&self) -> &str {
        self.text.expose()
    }

    fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.bytes).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// A new key, as it is written.
pub fn new_key() -> String {
    let bytes = Zeroizing::new(random_bytes::<32>());
    format!("{PREFIX}{}", STANDARD.encode(*bytes))
}

/// Headers and body of a call.
pub(super) fn render(
    message: &Message,
    id: &str,
    now: Timestamp,
    key: &Key,
) -> (Vec<(&'static str, String)>, Vec<u8>) {
    let kind = match message.run_id {
        Some(_) => format!("run.{}", message.event),
        None => message.event.to_owned(),
    };
    let body = json!({ "type": kind, "timestamp": message.at, "data": message.data });
    let body = body.to_string().into_bytes();
    let seconds = now.seconds();
    let headers = vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", key.sign(id, seconds, &body)),
    ];
    (headers, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<Key, BadKey> {
        Key::read(&Secret::new(text.to_owned()))
    }

    #[test]
    fn a_key_is_base64_of_a_sensible_length() {
        assert!(key(&new_key()).is_ok());
        let of = |bytes: usize| STANDARD.encode(vec![7; bytes]);
        for (text, good) in [
            (of(24), true),
            (of(64), true),
            (of(23), false),
            (of(65), false),
            (format!("whsec_{}", of(32)), true),
            (format!("whsec_whsec_{}", of(32)), false),
            ("correct horse battery staple".to_owned(), false),
        ] {
            assert_eq!(key(&text).is_ok(), good, "{text}");
        }
    }

    /// The specification's own example.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }
}
