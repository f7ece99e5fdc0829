//! A statement with the signature of its approver: by a key file or by a passkey.

use serde::{Deserialize, Serialize};

use super::Statement;
use crate::envelope::{Envelope, EnvelopeError, EnvelopeType};
use crate::hash::{self, Hash};
use crate::json::Json;
use crate::keys::Signature;
use crate::passkey::{ApproverDid, ApproverKey, PasskeyError, Site, UnverifiedAssertion};
use crate::time::Timestamp;

/// `algorithm` of a statement that a passkey signed.
const WEBAUTHN: &str = "WebAuthn";

/// A signed statement as it was received: nothing about it is verified yet.
///
/// It has the members of an [`Envelope`]. One that a passkey signed has two more,
/// `authenticator_data_b64u` and `client_data_json_b64u`, and the passkey's own signature; the
/// challenge was the hash of the payload, so the signature covers the payload as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct SignedStatement {
    /// The statement.
    pub payload: Json,
    /// SHA-256 of its canonical form.
    pub payload_hash_b64u: Hash,
    /// Who says to have signed.
    pub signer_did: ApproverDid,
    /// When it was signed, by the signer's word; outside the signature.
    pub issued_at: Timestamp,
    /// The signature.
    pub signature: ApproverSignature,
}

/// How an approver signed.
#[derive(Debug, Clone, PartialEq)]
pub enum ApproverSignature {
    /// With a key file, over the text of the payload's hash.
    Key(Signature),
    /// With a passkey, over a challenge that is the payload's hash.
    Passkey(UnverifiedAssertion),
}

/// A statement whose hash and signature have been checked, with its signer. Whether the signer
/// had any authority is the caller's question.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedStatement {
    statement: Statement,
    signer: ApproverDid,
    payload_hash: Hash,
    sign_count: Option<u32>,
}

impl VerifiedStatement {
    /// What it says.
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The same, for whoever goes on with it.
    pub fn into_statement(self) -> Statement {
        self.statement
    }

    /// The key that signed it.
    pub const fn signer(&self) -> &ApproverDid {
        &self.signer
    }

    /// SHA-256 of the canonical statement.
    pub const fn payload_hash(&self) -> Hash {
        self.payload_hash
    }

    /// The authenticator's counter, when a passkey signed.
    pub const fn sign_count(&self) -> Option<u32> {
        self.sign_count
    }
}

/// Why a signed statement does not count.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Hash, key or shape.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// What a passkey made of it.
    #[error(transparent)]
    Passkey(#[from] PasskeyError),
    /// A passkey signed, and nobody knows where it may be used.
    #[error("`{0}` is not an enrolled passkey")]
    PasskeyUnknown(ApproverDid),
}

impl SignedStatement {
    /// What a passkey signed about a statement: the challenge was the hash of its canonical form.
    ///
    /// # Errors
    /// [`EnvelopeError`] when the statement cannot be signed.
    pub fn by_passkey(
        statement: &Statement,
        assertion: UnverifiedAssertion,
    ) -> Result<Self, EnvelopeError> {
        let (payload, payload_hash_b64u) = to_sign(statement)?;
        Ok(Self {
            payload,
            payload_hash_b64u,
            signer_did: statement.approver_did.clone(),
            issued_at: statement.issued_at,
            signature: ApproverSignature::Passkey(assertion),
        })
    }

    /// Whether a passkey signed, by its own word.
    pub const fn is_by_passkey(&self) -> bool {
        matches!(self.signature, ApproverSignature::Passkey(_))
    }

    /// Checks hash and signature. `site` says where the signer's passkey may be used; it is not
    /// needed for a key file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self, site: Option<&Site>) -> Result<VerifiedStatement, StatementError> {
        let payload_hash = Hash::of(&self.payload.to_jcs());
        if payload_hash != self.payload_hash_b64u {
            return Err(EnvelopeError::HashMismatch.into());
        }
        let sign_count = match &self.signature {
            ApproverSignature::Key(signature) => {
                self.check_key(payload_hash, signature)?;
                None
            }
            ApproverSignature::Passkey(assertion) => {
                let unknown = || StatementError::PasskeyUnknown(self.signer_did.clone());
                let site = site.ok_or_else(unknown)?;
                let challenge = payload_hash.as_bytes();
                let verified = assertion.verify(&self.signer_did, challenge, site)?;
                Some(verified.sign_count())
            }
        };
        Ok(VerifiedStatement {
            statement: self.payload.to_typed().map_err(EnvelopeError::from)?,
            signer: self.signer_did.clone(),
            payload_hash,
            sign_count,
        })
    }

    fn check_key(&self, payload_hash: Hash, signature: &Signature) -> Result<(), EnvelopeError> {
        let ApproverKey::Ed25519(key) = self.signer_did.key() else {
            return Err(EnvelopeError::UnknownVersion);
        };
        if key.verify(payload_hash.to_string().as_bytes(), signature) {
            Ok(())
        } else {
            Err(EnvelopeError::SignatureInvalid(key.did()))
        }
    }
}

/// The statement as it is signed, and the hash of it: the challenge for a passkey.
///
/// # Errors
/// [`EnvelopeError::Unsignable`] when two readers could hash it differently.
pub fn to_sign(statement: &Statement) -> Result<(Json, Hash), EnvelopeError> {
    let mut payload = Json::from_value(statement)?;
    payload
        .make_signable()
        .map_err(|error| EnvelopeError::Unsignable(error.to_string()))?;
    let hash = Hash::of(&payload.to_jcs());
    Ok((payload, hash))
}

impl TryFrom<Envelope> for SignedStatement {
    type Error = EnvelopeError;

    fn try_from(envelope: Envelope) -> Result<Self, EnvelopeError> {
        let expected = EnvelopeType::ApprovalStatement;
        if envelope.envelope_type != expected {
            return Err(EnvelopeError::WrongType {
                expected,
                actual: envelope.envelope_type,
            });
        }
        if envelope.envelope_version != expected.version()
            || envelope.hash_algorithm != "SHA-256"
            || envelope.algorithm != "Ed25519"
        {
            return Err(EnvelopeError::UnknownVersion);
        }
        Ok(Self {
            payload: envelope.payload,
            payload_hash_b64u: envelope.payload_hash_b64u,
            signer_did: envelope.signer_did.into(),
            issued_at: envelope.issued_at,
            signature: ApproverSignature::Key(envelope.signature_b64u),
        })
    }
}

/// The form in files and in the store.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    envelope_version: String,
    envelope_type: EnvelopeType,
    payload: Json,
    payload_hash_b64u: Hash,
    hash_algorithm: String,
    signature_b64u: String,
    algorithm: String,
    signer_did: ApproverDid,
    issued_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authenticator_data_b64u: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_data_json_b64u: Option<String>,
}

impl TryFrom<Written> for SignedStatement {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let kind = EnvelopeType::ApprovalStatement;
        if written.envelope_type != kind
            || written.envelope_version != kind.version()
            || written.hash_algorithm != "SHA-256"
        {
            return Err("not an approval statement of a known version".to_owned());
        }
        let bytes = |name: &str, text: &str| {
            hash::decode_b64u(text).map_err(|error| format!("`{name}`: {error}"))
        };
        let data = written.authenticator_data_b64u;
        let signature = match (
            written.algorithm.as_str(),
            data,
            written.client_data_json_b64u,
        ) {
            ("Ed25519", None, None) => ApproverSignature::Key(
                written
                    .signature_b64u
                    .parse()
                    .map_err(|error| format!("`signature_b64u`: {error}"))?,
            ),
            (WEBAUTHN, Some(data), Some(client)) => {
                ApproverSignature::Passkey(UnverifiedAssertion {
                    authenticator_data: bytes("authenticator_data_b64u", &data)?,
                    client_data_json: bytes("client_data_json_b64u", &client)?,
                    signature: bytes("signature_b64u", &written.signature_b64u)?,
                })
            }
            _ => return Err("an algorithm with other members than it has".to_owned()),
        };
        Ok(Self {
            payload: written.payload,
            payload_hash_b64u: written.payload_hash_b64u,
            signer_did: written.signer_did,
            issued_at: written.issued_at,
            signature,
        })
    }
}

impl From<SignedStatement> for Written {
    fn from(signed: SignedStatement) -> Self {
        let (algorithm, signature_b64u, data, client) = match signed.signature {
            ApproverSignature::Key(signature) => ("Ed25519", signature.to_string(), None, None),
            ApproverSignature::Passkey(assertion) => (
                WEBAUTHN,
                hash::encode_b64u(&assertion.signature),
                Some(hash::encode_b64u(&assertion.authenticator_data)),
                Some(hash::encode_b64u(&assertion.client_data_json)),
            ),
        };
        let kind = EnvelopeType::ApprovalStatement;
        Self {
            envelope_version: kind.version().to_owned(),
            envelope_type: kind,
            payload: signed.payload,
            payload_hash_b64u: signed.payload_hash_b64u,
            hash_algorithm: "SHA-256".to_owned(),
            signature_b64u,
            algorithm: algorithm.to_owned(),
            signer_did: signed.signer_did,
            issued_at: signed.issued_at,
            authenticator_data_b64u: data,
            client_data_json_b64u: client,
        }
    }
}
