//! The signed envelope that all our documents travel in (the public clawsig shape).
//!
//! Only the payload is under the signature: the signature covers the 43 ASCII characters of the
//! payload hash. Type, signer and time of the envelope are not, so every payload repeats what
//! matters, and our verifier compares.
//!
//! To add a signed document: give it a variant of [`EnvelopeType`], a payload type that denies
//! unknown members and names its own kind, issuer, time and policy hash, and a row in the
//! verifier's list of comparisons.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::json::{self, Json, JsonError};
use crate::keys::{Did, PublicKey, Signature, SigningKey};
use crate::time::Timestamp;
use crate::unsigned::Unsigned;

/// What an envelope holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvelopeType {
    /// A Work Policy Contract, signed by its author.
    WorkPolicyContract,
    /// The receipt of a model call, signed by the gateway.
    GatewayReceipt,
    /// The receipt of a Terraform call, signed by the gateway.
    ToolReceipt,
    /// An approver's decision on one plan, signed by the approver.
    ApprovalStatement,
    /// The end of a job, signed by the gateway.
    JobClose,
    /// The public half of a proof bundle, signed by the job's own key.
    ProofBundle,
    /// The gateway's keys, signed by their root.
    KeySet,
}

impl EnvelopeType {
    /// `envelope_version` that goes with the type: tool receipts are at their second.
    pub const fn version(self) -> &'static str {
        match self {
            Self::ToolReceipt => "2",
            _ => "1",
        }
    }
}

/// An envelope as it was received: nothing about it is verified yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// `"1"`, or `"2"` for tool receipts.
    pub envelope_version: String,
    /// What the payload is; outside the signature.
    pub envelope_type: EnvelopeType,
    /// The signed document.
    pub payload: Json,
    /// SHA-256 of the payload's canonical form.
    pub payload_hash_b64u: Hash,
    /// Always `SHA-256`.
    pub hash_algorithm: String,
    /// Ed25519 over the text of `payload_hash_b64u`.
    pub signature_b64u: Signature,
    /// Always `Ed25519`.
    pub algorithm: String,
    /// Who says to have signed; outside the signature, but it must verify under this key.
    pub signer_did: Did,
    /// When it was signed, by the signer's word; outside the signature.
    pub issued_at: Timestamp,
}

/// A payload whose hash and signature have been checked. Whether its signer had any authority
/// is the caller's question, and [`Signed::signer`] is there to ask it.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed<T> {
    /// The document.
    pub payload: T,
    /// The key that signed it.
    pub signer: Did,
    /// SHA-256 of the payload's canonical form.
    pub payload_hash: Hash,
}

/// Why an envelope was not made or not accepted.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Payload that cannot be signed: fractions, huge integers, integer-like member names.
    #[error("this payload cannot be signed: {0}")]
    Unsignable(String),
    /// Not an envelope, or not the payload that its type calls for.
    #[error("malformed envelope: {0}")]
    Malformed(#[from] JsonError),
    /// Another type than the one that is expected in this place.
    #[error("an envelope of type {actual:?} where {expected:?} is expected")]
    WrongType {
        /// What the place calls for.
        expected: EnvelopeType,
        /// What was found.
        actual: EnvelopeType,
    },
    /// A version or an algorithm that we do not speak.
    #[error("unknown envelope version or algorithm")]
    UnknownVersion,
    /// The payload was changed after it was hashed.
    #[error("the payload's hash does not match")]
    HashMismatch,
    /// The signature is not by the key that the envelope names.
    #[error("the signature is not valid for `{0}`")]
    SignatureInvalid(Did),
}

impl Envelope {
    /// Hashes and signs a payload, and writes it in canonical order.
    ///
    /// # Errors
    /// [`EnvelopeError::Unsignable`] when two readers could hash the payload differently.
    pub fn sign(
        envelope_type: EnvelopeType,
        payload: &impl Serialize,
        key: &SigningKey,
        issued_at: Timestamp,
    ) -> Result<Self, EnvelopeError> {
        let (payload, hash) = signable(payload)?;
        let signature = key.sign(hash.to_string().as_bytes());
        let signer = key.did();
        Ok(Self::of(
            envelope_type,
            payload,
            hash,
            signature,
            signer,
            issued_at,
        ))
    }

    /// The same for a key that signs elsewhere.
    ///
    /// # Errors
    /// Those of [`Self::sign`].
    pub fn unsigned(
        envelope_type: EnvelopeType,
        payload: &impl Serialize,
        signer: &Did,
        issued_at: Timestamp,
    ) -> Result<Unsigned<Self>, EnvelopeError> {
        let (payload, hash) = signable(payload)?;
        let (message, key) = (hash.to_string().into_bytes(), signer.key());
        let signer = signer.clone();
        Ok(Unsigned::new(message, key, move |signature| {
            Self::of(envelope_type, payload, hash, signature, signer, issued_at)
        }))
    }

    fn of(
        envelope_type: EnvelopeType,
        payload: Json,
        payload_hash_b64u: Hash,
        signature_b64u: Signature,
        signer_did: Did,
        issued_at: Timestamp,
    ) -> Self {
        Self {
            envelope_version: envelope_type.version().to_owned(),
            envelope_type,
            payload,
            payload_hash_b64u,
            hash_algorithm: "SHA-256".to_owned(),
            signature_b64u,
            algorithm: "Ed25519".to_owned(),
            signer_did,
            issued_at,
        }
    }

    /// Reads an envelope from strict JSON.
    ///
    /// # Errors
    /// [`EnvelopeError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        Ok(json::from_slice(bytes)?)
    }

    /// Takes an envelope out of a value; the payload moves over as it is.
    ///
    /// # Errors
    /// [`JsonError::Shape`] when it is not one.
    pub fn from_json(mut json: Json) -> Result<Self, JsonError> {
        let payload = json.remove("payload");
        if payload.is_some() {
            json.set("payload", Json::Null);
        }
        let envelope: Self = json.to_typed()?;
        Ok(Self {
            payload: payload.unwrap_or(Json::Null),
            ..envelope
        })
    }

    /// Checks type, hash and signature, and reads the payload.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify<T: DeserializeOwned>(
        &self,
        expected: EnvelopeType,
    ) -> Result<Signed<T>, EnvelopeError> {
        let payload_hash = self.check(expected)?;
        Ok(Signed {
            payload: self.payload.to_typed()?,
            signer: self.signer_did.clone(),
            payload_hash,
        })
    }

    /// Checks type, hash and signature of a payload that is read in parts afterwards. What comes
    /// back is the payload's hash.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, expected: EnvelopeType) -> Result<Hash, EnvelopeError> {
        let payload_hash = || Hash::of(&self.payload.to_jcs());
        self.check_hashed(expected, payload_hash, PublicKey::verify)
    }

    /// The same for a payload whose canonical form somebody has at hand and hashes as it stands;
    /// what stands in [`Envelope::payload`] is not looked at. `verify` is [`PublicKey::verify`], or
    /// a quicker way to the same answer.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_hashed(
        &self,
        expected: EnvelopeType,
        payload_hash: impl FnOnce() -> Hash,
        verify: impl FnOnce(&PublicKey, &[u8], &Signature) -> bool,
    ) -> Result<Hash, EnvelopeError> {
        if self.envelope_type != expected {
            return Err(EnvelopeError::WrongType {
                expected,
                actual: self.envelope_type,
            });
        }
        if self.envelope_version != expected.version()
            || self.hash_algorithm != "SHA-256"
            || self.algorithm != "Ed25519"
        {
            return Err(EnvelopeError::UnknownVersion);
        }
        let payload_hash = payload_hash();
        if payload_hash != self.payload_hash_b64u {
            return Err(EnvelopeError::HashMismatch);
        }
        let (key, message) = (self.signer_did.key(), payload_hash.to_string());
        if !verify(&key, message.as_bytes(), &self.signature_b64u) {
            return Err(EnvelopeError::SignatureInvalid(self.signer_did.clone()));
        }
        Ok(payload_hash)
    }
}

/// A payload in canonical order, and its hash.
fn signable(payload: &impl Serialize) -> Result<(Json, Hash), EnvelopeError> {
    let mut payload = Json::from_value(payload)?;
    payload
        .make_signable()
        .map_err(|error| EnvelopeError::Unsignable(error.to_string()))?;
    let hash = Hash::of(&payload.to_jcs());
    Ok((payload, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Note {
        text: String,
        count: i64,
    }

    fn signed() -> Envelope {
        let note = Note {
            text: "plan".into(),
            count: 2,
        };
        let key = SigningKey::from_seed(&[9; 32]);
        Envelope::sign(
            EnvelopeType::JobClose,
            &note,
            &key,
            Timestamp::from_millis(1),
        )
        .unwrap()
    }

    #[test]
    fn a_signed_payload_comes_back() {
        let text = serde_json::to_vec(&signed()).unwrap();
        let verified: Signed<Note> = Envelope::parse(&text)
            .unwrap()
            .verify(EnvelopeType::JobClose)
            .unwrap();
        assert_eq!(
            verified.payload,
            Note {
                text: "plan".into(),
                count: 2
            }
        );
        assert_eq!(verified.signer, SigningKey::from_seed(&[9; 32]).did());
        let mut json = json::parse(&text, json::Numbers::Integers).unwrap();
        assert_eq!(Envelope::from_json(json.clone()).unwrap(), signed());
        json.remove("payload");
        assert!(Envelope::from_json(json).is_err());
        assert!(Envelope::from_json(Json::Null).is_err());
    }

    #[test]
    fn every_change_is_noticed() {
        let refused = |change: &dyn Fn(&mut Envelope)| {
            let mut envelope = signed();
            change(&mut envelope);
            envelope.verify::<Note>(EnvelopeType::JobClose).is_err()
        };
        assert!(!refused(&|_| ()));
        assert!(refused(&|e| e.payload.set("count", 3)));
        assert!(refused(&|e| e.payload.set("more", "x")));
        assert!(refused(&|e| e.envelope_type = EnvelopeType::ProofBundle));
        assert!(refused(&|e| e.envelope_version = "2".into()));
        assert!(refused(&|e| e.algorithm = "none".into()));
        assert!(refused(&|e| e.hash_algorithm = "BLAKE3".into()));
        assert!(refused(
            &|e| e.signer_did = SigningKey::from_seed(&[8; 32]).did()
        ));
        assert!(refused(&|e| e.payload_hash_b64u = Hash::of(b"x")));
        assert!(refused(&|e| {
            e.payload.set("count", 3);
            e.payload_hash_b64u = Hash::of(&e.payload.to_jcs());
        }));
    }

    #[test]
    fn ambiguous_payloads_are_not_signed() {
        let key = SigningKey::from_seed(&[9; 32]);
        for payload in [
            serde_json::json!({"a": 1.5}),
            serde_json::json!({"a": u64::MAX}),
            serde_json::json!({"10": 1}),
        ] {
            let made = Envelope::sign(
                EnvelopeType::JobClose,
                &payload,
                &key,
                Timestamp::from_millis(1),
            );
            assert!(
                matches!(made, Err(EnvelopeError::Unsignable(_))),
                "{payload}"
            );
        }
    }
}
