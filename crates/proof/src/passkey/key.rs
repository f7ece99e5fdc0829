//! Approvers' public keys: Ed25519 of a key file, or the key of a passkey.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::SIGNATURE_LENGTH;
use p256::ecdsa::VerifyingKey;
use p256::ecdsa::signature::Verifier as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::PasskeyError;
use super::cbor::Reader;
use crate::hash;
use crate::keys::{Did, KeyError, PublicKey, Signature};

/// Multicodec prefix of a compressed P-256 public key (multiformats table: 0x1200, as a varint).
const P256_MULTICODEC: [u8; 2] = [0x80, 0x24];

/// The `did:key` name of an approver's Ed25519 or P-256 public key, known to be well formed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApproverDid(String);

/// The key that an [`ApproverDid`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApproverKey {
    /// A key file's, or a passkey's.
    Ed25519(PublicKey),
    /// A passkey's.
    P256(VerifyingKey),
}

impl ApproverKey {
    /// Verifies what an authenticator signed.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => {
                let signature: Result<[u8; SIGNATURE_LENGTH], _> = signature.try_into();
                signature.is_ok_and(|bytes| key.verify(message, &Signature::from_bytes(bytes)))
            }
            Self::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

impl ApproverDid {
    /// The key.
    pub fn key(&self) -> ApproverKey {
        decode(&self.0).expect("checked when made")
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of_p256(key: &VerifyingKey) -> Self {
        let mut bytes = P256_MULTICODEC.to_vec();
        bytes.extend_from_slice(key.to_sec1_point(true).as_bytes());
        Self(format!("did:key:z{}", bs58::encode(bytes).into_string()))
    }

    /// Reads a COSE key in the one form in which authenticators write it (RFC 9053; the members
    /// that the algorithm needs, in canonical order, and no other).
    pub(super) fn read_cose(reader: &mut Reader<'_>) -> Result<Self, PasskeyError> {
        read_cose(reader).unwrap_or(Err(PasskeyError::Key("not a COSE key in canonical form")))
    }
}

fn read_cose(reader: &mut Reader<'_>) -> Option<Result<ApproverDid, PasskeyError>> {
    const KTY: i64 = 1;
    const ALG: i64 = 3;
    const CRV: i64 = -1;
    const X: i64 = -2;
    const Y: i64 = -3;
    let members = reader.map()?;
    let mut member = |label: i64| {
        (reader.integer()? == label)
            .then(|| reader.integer())
            .flatten()
    };
    let kind = (member(KTY)?, member(ALG)?);
    let read = match (kind, members) {
        // EC2, ES256, P-256.
        ((2, -7), 5) => {
            (member(CRV)? == 1).then_some(())?;
            let mut point = vec![4];
            for label in [X, Y] {
                (reader.integer()? == label).then_some(())?;
                let coordinate: &[u8; 32] = reader.bytes()?.try_into().ok()?;
                point.extend_from_slice(coordinate);
            }
            let key = VerifyingKey::from_sec1_bytes(&point);
            key.map(|key| ApproverDid::of_p256(&key))
                .map_err(|_| PasskeyError::Key("not a point of P-256"))
        }
        // OKP, EdDSA, Ed25519.
        ((1, -8), 4) => {
            (member(CRV)? == 6).then_some(())?;
            (reader.integer()? == X).then_some(())?;
            let key: &[u8; 32] = reader.bytes()?.try_into().ok()?;
            PublicKey::from_bytes(key)
                .map(|key| key.did().into())
                .map_err(|_| PasskeyError::Key("not a usable point of Ed25519"))
        }
        ((2, -7) | (1, -8), _) => return None,
        _ => Err(PasskeyError::Key("neither ES256 nor Ed25519")),
    };
    Some(read)
}

fn decode(text: &str) -> Result<ApproverKey, KeyError> {
    if let Ok(did) = text.parse::<Did>() {
        return Ok(ApproverKey::Ed25519(did.key()));
    }
    let not_a_did = || KeyError::NotAnApprover(text.chars().take(128).collect());
    let encoded = text.strip_prefix("did:key:z").ok_or_else(not_a_did)?;
    // base58 is quadratic in its length; a key is 49 characters.
    if encoded.len() > 64 {
        return Err(not_a_did());
    }
    let bytes = bs58::decode(encoded).into_vec().map_err(|_| not_a_did())?;
    let point = bytes
        .strip_prefix(&P256_MULTICODEC)
        .filter(|point| point.len() == 33)
        .ok_or_else(not_a_did)?;
    let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| not_a_did())?;
    // One key has one name.
    if ApproverDid::of_p256(&key).0 == text {
        Ok(ApproverKey::P256(key))
    } else {
        Err(not_a_did())
    }
}

impl From<Did> for ApproverDid {
    fn from(did: Did) -> Self {
        Self(did.as_str().to_owned())
    }
}

impl From<&VerifyingKey> for ApproverDid {
    fn from(key: &VerifyingKey) -> Self {
        Self::of_p256(key)
    }
}

impl PartialEq<Did> for ApproverDid {
    fn eq(&self, other: &Did) -> bool {
        self.0 == other.as_str()
    }
}

impl FromStr for ApproverDid {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|_| Self(text.to_owned()))
    }
}

impl fmt::Display for ApproverDid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ApproverDid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ApproverDid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ApproverDid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hash::deserialize_text(deserializer)
    }
}
