//! How Terraform Cloud signs what it sends: HMAC-SHA512 over the body, by a key that both sides
//! were given.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use sha2::Sha512;

use crate::secret::Secret;

/// Why a body does not count as signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// None, or several.
    #[error("exactly one `{0}` is wanted")]
    NotOne(&'static str),
    /// Not 64 bytes in hexadecimal digits.
    #[error("the signature is not 64 bytes in hexadecimal digits")]
    Malformed,
    /// Another key, or another body.
    #[error("the signature is not what the key makes of the body")]
    Wrong,
}

/// A signature that nobody has compared with a body yet.
#[derive(Debug, Clone, Copy)]
pub struct Signature([u8; 64]);

impl Signature {
    /// The one signature in a header of this name.
    ///
    /// # Errors
    /// [`BadSignature::NotOne`], [`BadSignature::Malformed`].
    pub fn of(headers: &HeaderMap, name: &'static str) -> Result<Self, BadSignature> {
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(BadSignature::NotOne(name));
        };
        let text = value.to_str().unwrap_or_default();
        from_hex(text).map(Self).ok_or(BadSignature::Malformed)
    }

    /// Whether it is the key's over the body. Compares in constant time.
    ///
    /// # Errors
    /// [`BadSignature::Wrong`].
    pub fn verify(&self, key: &Secret, body: &[u8]) -> Result<(), BadSignature> {
        let mut mac = Hmac::<Sha512>::new_from_slice(key.expose().as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(body);
        mac.verify_slice(&self.0).map_err(|_| BadSignature::Wrong)
    }
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NAME: &str = "x-signature";

    /// Test case 2 of RFC 4231.
    const RFC_4231: &str = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                            9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";

    #[test]
    fn the_published_vector_verifies_and_nothing_else() {
        let key = |text: &str| Secret::new(text.into());
        let body = b"what do ya want for nothing?";
        let signature = Signature(from_hex(RFC_4231).unwrap());
        assert_eq!(signature.verify(&key("Jefe"), body), Ok(()));
        let mut other = signature;
        other.0[63] ^= 1;
        for (key, body, signature) in [
            (key("Jefe"), &body[..], other),
            (key("Jefe"), &body[1..], signature),
            (key("jefe"), &body[..], signature),
        ] {
            assert_eq!(signature.verify(&key, body), Err(BadSignature::Wrong));
        }
    }

    #[test]
    fn one_signature_of_the_right_form_is_wanted() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(NAME, HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        for good in [RFC_4231, &RFC_4231.to_ascii_uppercase()] {
            assert!(Signature::of(&headers(&[good]), NAME).is_ok());
        }
        for bad in [headers(&[]), headers(&[RFC_4231, RFC_4231])] {
            let refused = Signature::of(&bad, NAME).unwrap_err();
            assert_eq!(refused, BadSignature::NotOne(NAME), "{bad:?}");
        }
        for bad in [
            "",
            &RFC_4231[1..],
            &RFC_4231[2..],
            &format!("{RFC_4231}00"),
            &RFC_4231.replace('1', "g"),
            &RFC_4231.replace("16", "+6"),
        ] {
            let refused = Signature::of(&headers(&[bad]), NAME).unwrap_err();
            assert_eq!(refused, BadSignature::Malformed, "{bad:?}");
        }
    }
}
