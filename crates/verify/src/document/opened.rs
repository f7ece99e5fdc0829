//! Envelopes that come by the thousand, checked by whichever thread reads them: their payloads are
//! hashed where they stand, and nothing of them is kept but what the checks ask for.
//!
//! What is wrong with one is kept beside it, and reported by the check whose matter it is.

use proof::bundle::PublicHalf;
use proof::frequent::{Claim, Keyring};
use proof::keys::Signature;
use proof::receipt::{GatewayReceipt, ToolReceipt};
use proof::{Did, Envelope, EnvelopeError, EnvelopeType, Hash, Json, PublicKey, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::walk::Text;
use crate::checks::envelope_code;
use crate::code::Code;
use crate::threads;

/// Why an envelope was not accepted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unaccepted {
    pub(crate) code: Code,
    pub(crate) detail: String,
}

impl From<EnvelopeError> for Unaccepted {
    fn from(error: EnvelopeError) -> Self {
        Self {
            code: envelope_code(&error),
            detail: error.to_string(),
        }
    }
}

/// A payload that names the event of its call.
pub(crate) trait Bound: DeserializeOwned {
    /// The type of its envelope.
    const ENVELOPE: EnvelopeType;

    fn event(&self) -> Hash;
}

impl Bound for GatewayReceipt {
    const ENVELOPE: EnvelopeType = EnvelopeType::GatewayReceipt;

    fn event(&self) -> Hash {
        self.binding.event_hash_b64u
    }
}

impl Bound for ToolReceipt {
    const ENVELOPE: EnvelopeType = EnvelopeType::ToolReceipt;

    fn event(&self) -> Hash {
        self.binding.event_hash_b64u
    }
}

/// A receipt.
#[derive(Debug, PartialEq)]
pub(crate) struct Receipt<T> {
    /// The envelope's time, outside the signature.
    pub(crate) issued_at: Timestamp,
    /// The envelope's signer. Whether it signed, `content` says.
    pub(crate) signer: Did,
    /// The event that it names, even when it is not accepted.
    pub(crate) event: Option<Hash>,
    /// What is signed, with its hash.
    pub(crate) content: Result<(T, Hash), Unaccepted>,
}

impl<T: Bound> Receipt<T> {
    /// Opens an envelope that was read as a value.
    pub(super) fn open(envelope: &Envelope) -> Self {
        let event = envelope.payload.at(&["binding", "event_hash_b64u"]);
        let content = envelope.verify::<T>(T::ENVELOPE);
        Self {
            issued_at: envelope.issued_at,
            signer: envelope.signer_did.clone(),
            event: event
                .and_then(Json::as_str)
                .and_then(|text| text.parse().ok()),
            content: content
                .map(|signed| (signed.payload, signed.payload_hash))
                .map_err(Unaccepted::from),
        }
    }

    /// Opens envelopes that stand in canonical text; nothing at the first doubt about the shape of
    /// one. Their signatures are checked together, which saves a division for each.
    pub(super) fn open_texts(texts: &[Text], keys: &Keyring) -> Option<Vec<Self>> {
        let mut claims = Vec::with_capacity(texts.len());
        let opened = texts.iter().map(|text| Self::open_text(text, &mut claims));
        let mut opened: Vec<Self> = opened.collect::<Option<_>>()?;
        // A claim each was left behind by those in which nothing else is wrong.
        let signed = opened.iter_mut().filter(|receipt| receipt.content.is_ok());
        for (receipt, holds) in signed.zip(keys.verify_each(&claims)) {
            if !holds {
                let error = EnvelopeError::SignatureInvalid(receipt.signer.clone());
                receipt.content = Err(error.into());
            }
        }
        Some(opened)
    }

    /// Everything but the signature, which becomes one of the `claims`.
    fn open_text(text: &str, claims: &mut Vec<Claim>) -> Option<Self> {
        let (envelope, payload) = written(text)?;
        let content: T = serde_json::from_str(payload).ok()?;
        let hash = || Hash::of(payload.as_bytes());
        let later = |key: &PublicKey, message: &[u8], signature: &Signature| {
            claims.push(Claim {
                key: *key,
                message: message.to_owned(),
                signature: *signature,
            });
            true
        };
        Some(Self {
            issued_at: envelope.issued_at,
            event: Some(content.event()),
            content: match envelope.check_hashed(T::ENVELOPE, hash, later) {
                Ok(hash) => Ok((content, hash)),
                Err(error) => Err(error.into()),
            },
            signer: envelope.signer_did,
        })
    }
}

/// The public half, or one part of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Half {
    /// The envelope's time, outside the signature.
    pub(crate) issued_at: Timestamp,
    /// The envelope's signer. Whether it signed, `content` says.
    pub(crate) signer: Did,
    /// What is signed, with its receipts.
    pub(crate) content: Result<(PublicHalf, Vec<Receipt<GatewayReceipt>>), Unaccepted>,
}

impl Half {
    /// Opens an envelope that was read as a value.
    pub(super) fn open(envelope: &Envelope) -> Self {
        let content = || {
            envelope.check(EnvelopeType::ProofBundle)?;
            let (half, receipts) = PublicHalf::apart(&envelope.payload)?;
            let receipts = threads::map(receipts, |_, receipt| {
                let receipt = receipt.to_typed::<Envelope>()?;
                Ok(Receipt::open(&receipt))
            });
            let receipts: Result<_, EnvelopeError> = receipts.into_iter().collect();
            Ok((half, receipts?))
        };
        Self {
            issued_at: envelope.issued_at,
            signer: envelope.signer_did.clone(),
            content: content().map_err(|error: EnvelopeError| error.into()),
        }
    }
}

/// An envelope in canonical text: its members without the payload, and the payload's text.
pub(super) fn written(text: &str) -> Option<(Envelope, &str)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written<'a> {
        envelope_version: String,
        envelope_type: EnvelopeType,
        #[serde(borrow)]
        payload: &'a RawValue,
        payload_hash_b64u: Hash,
        hash_algorithm: String,
        signature_b64u: Signature,
        algorithm: String,
        signer_did: Did,
        issued_at: Timestamp,
    }
    let written: Written<'_> = serde_json::from_str(text).ok()?;
    let envelope = Envelope {
        envelope_version: written.envelope_version,
        envelope_type: written.envelope_type,
        payload: Json::Null,
        payload_hash_b64u: written.payload_hash_b64u,
        hash_algorithm: written.hash_algorithm,
        signature_b64u: written.signature_b64u,
        algorithm: written.algorithm,
        signer_did: written.signer_did,
        issued_at: written.issued_at,
    };
    Some((envelope, written.payload.get()))
}
