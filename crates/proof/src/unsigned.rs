//! Documents that are signed elsewhere, by a key that never leaves its module or its service.
//!
//! What comes back from there is foreign: it is verified before it becomes part of anything.

use std::fmt;

use crate::keys::{PublicKey, Signature};

/// What came back is no signature by the key over the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not by the key that was to sign")]
pub struct WrongSignature;

/// A document but for its signature, which one key is to make.
pub struct Unsigned<T> {
    message: Vec<u8>,
    key: PublicKey,
    with: Box<dyn FnOnce(Signature) -> T + Send + Sync>,
}

impl<T> Unsigned<T> {
    pub(crate) fn new(
        message: Vec<u8>,
        key: PublicKey,
        with: impl FnOnce(Signature) -> T + Send + Sync + 'static,
    ) -> Self {
        Self {
            message,
            key,
            with: Box::new(with),
        }
    }

    /// The bytes to sign.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The document with its signature, once that has been verified.
    ///
    /// # Errors
    /// [`WrongSignature`] when it is by another key or over something else.
    pub fn attach(self, signature: Signature) -> Result<T, WrongSignature> {
        match self.key.verify(&self.message, &signature) {
            true => Ok((self.with)(signature)),
            false => Err(WrongSignature),
        }
    }
}

impl<T> fmt::Debug for Unsigned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unsigned(by {})", self.key.did())
    }
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::Checkpoint;
    use crate::token::{self, Claims, Scope};
    use crate::{Envelope, EnvelopeType, Hash, SigningKey, Timestamp};

    use super::*;

    /// Signs as somebody elsewhere would.
    fn elsewhere<T>(unsigned: Unsigned<T>, key: &SigningKey) -> Result<T, WrongSignature> {
        let signature = key.sign(unsigned.message());
        unsigned.attach(signature)
    }

    #[test]
    fn what_is_signed_elsewhere_is_the_same_document() {
        let (key, other) = (
            SigningKey::from_seed(&[1; 32]),
            SigningKey::from_seed(&[2; 32]),
        );
        let at = Timestamp::from_millis(5);
        let payload = serde_json::json!({ "a": 1 });
        let kind = EnvelopeType::JobClose;
        let envelope = || Envelope::unsigned(kind, &payload, &key.did(), at).unwrap();
        assert_eq!(
            elsewhere(envelope(), &key).unwrap(),
            Envelope::sign(kind, &payload, &key, at).unwrap()
        );
        assert_eq!(elsewhere(envelope(), &other), Err(WrongSignature));
        assert_eq!(
            envelope().attach(key.sign(b"something else")),
            Err(WrongSignature)
        );

        let checkpoint = Checkpoint {
            origin: "gateway.example/log".into(),
            size: 7,
            root: Hash::of(b"r"),
        };
        let note = || checkpoint.unsigned(&key.public());
        assert_eq!(elsewhere(note(), &key).unwrap(), checkpoint.sign(&key));
        assert!(elsewhere(note(), &other).is_err());

        let claims = Claims {
            token_version: "1".into(),
            sub: other.did(),
            aud: "gateway.example".into(),
            scope: vec![Scope::ProxyCall],
            iat: 1,
            exp: 2,
            policy_hash_b64u: Hash::of(b"p"),
            mission_id: "job_1".into(),
            token_scope_hash_b64u: Hash::of(b""),
            jti: "1".into(),
            cnf: None,
        };
        let text = || token::unsigned(claims.clone(), &key.public()).unwrap();
        assert_eq!(
            elsewhere(text(), &key).unwrap(),
            token::sign(claims.clone(), &key).unwrap()
        );
        assert!(elsewhere(text(), &other).is_err());
    }
}
