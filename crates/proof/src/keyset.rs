//! Key sets: which keys a gateway has, from which place of its log on, and until which.
//!
//! A key set is a numbered document. It names the one before by hash, lists every key that counts
//! and what has become of those that do not count any more, and is signed by a key that does
//! nothing else. It is a leaf of the gateway's log, so that it has a place among the records: a
//! key is judged by where a record stands, which a thief of the key cannot choose, and not only by
//! a time, which a thief can write down as he likes.
//!
//! [`History`] is the one place that knows the rules: it takes document after document, refuses
//! those that may not follow, and says whether a key counted at a place.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, EnvelopeError, EnvelopeType};
use crate::hash::Hash;
use crate::json::{Json, JsonError};
use crate::keys::{Did, SigningKey};
use crate::merkle;
use crate::time::Timestamp;
use crate::trust::Role;

mod history;
mod next;

pub use history::{History, KeySetError, Lapse, Placed};
pub use next::CannotChange;

/// The document's kind and version.
pub const KEY_SET: &str = "clawgate.key-set/1";

/// Most keys that one document lists: those that count, and those that it ends.
pub const MAX_KEYS: usize = 64;

/// Most key sets that a log has; a gateway that changes a key every day needs six years.
pub const MAX_KEY_SETS: usize = 2000;

/// Most keys that a log names in all of its key sets.
pub const MAX_KNOWN: usize = 4096;

/// Longest reason of a revocation, in bytes.
pub const MAX_REASON_BYTES: usize = 200;

/// The roles of a gateway's keys, in the order in which they are listed.
pub const ROLES: [Role; 6] = [
    Role::Receipt,
    Role::Token,
    Role::Checkpoint,
    Role::Close,
    Role::Jobs,
    Role::Keyset,
];

/// Where in the log a signature took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPlace {
    /// With the record at this leaf.
    Leaf(u64),
    /// Over all of a log of this size: a checkpoint, and what is signed over one.
    Over(u64),
}

impl LogPlace {
    /// Whether the key set at this leaf stands before it.
    pub const fn is_after(self, leaf: u64) -> bool {
        match self {
            Self::Leaf(place) | Self::Over(place) => leaf < place,
        }
    }

    /// Whether it concerns this leaf or a later one.
    pub const fn reaches(self, leaf: u64) -> bool {
        match self {
            Self::Leaf(place) => leaf <= place,
            Self::Over(size) => leaf < size,
        }
    }
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf(leaf) => write!(f, "leaf {leaf}"),
            Self::Over(size) => write!(f, "size {size}"),
        }
    }
}

/// Payload of a key set's envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySet {
    /// Always [`KEY_SET`].
    pub key_set: String,
    /// 1, 2, 3 … without gaps.
    pub number: u64,
    /// Hash of the payload of the one before; absent in number 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_hash_b64u: Option<Hash>,
    /// When it was made.
    pub issued_at: Timestamp,
    /// The key that signs it, of the role [`Role::Keyset`].
    pub issued_by: Did,
    /// Every key that counts, and every one that this document ends.
    pub keys: Vec<Key>,
}

/// One key of the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The key.
    pub did: Did,
    /// Its one role, for good.
    pub role: Role,
    /// When it was made. It counts from the place of the document that introduces it.
    pub not_before: Timestamp,
    /// Another key has taken its place; what it signs later than this does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// This document ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// This document ends it, because it may not be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// Why a key is not to be trusted, and since when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// When it was revoked.
    pub at: Timestamp,
    /// The first place in the log at which it did not count any more, when that was before this
    /// document: a key that is known to have been stolen earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_leaf: Option<u64>,
    /// Why, in the operator's words.
    pub reason: String,
}

impl Key {
    /// A key that is used from now on.
    pub const fn new(did: Did, role: Role, not_before: Timestamp) -> Self {
        Self {
            did,
            role,
            not_before,
            not_after: None,
            ended_at: None,
            revoked: None,
        }
    }

    /// Whether it is the one that its role is fulfilled with.
    pub const fn is_current(&self) -> bool {
        self.not_after.is_none() && self.counts_on()
    }

    /// Whether it counts beyond this document.
    pub const fn counts_on(&self) -> bool {
        self.ended_at.is_none() && self.revoked.is_none()
    }
}

/// A key set as it is signed, logged and handed out: its canonical form is a leaf of the log. It is
/// read in the one spelling in which it is written, so that whoever hashes the text and whoever
/// hashes what was read find the same leaf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Json")]
pub struct SignedKeySet {
    /// The document, signed by the key that may issue it.
    pub key_set: Envelope,
    /// The same document, signed by the key that issues the next ones; when that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosigned: Option<Envelope>,
}

/// Its members, in any spelling.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    key_set: Envelope,
    #[serde(default)]
    cosigned: Option<Envelope>,
}

impl TryFrom<Json> for SignedKeySet {
    type Error = JsonError;

    fn try_from(json: Json) -> Result<Self, JsonError> {
        let Members { key_set, cosigned } = json.to_typed()?;
        let read = Self { key_set, cosigned };
        if read.to_jcs() == json.to_jcs() {
            Ok(read)
        } else {
            let why = "a key set in another spelling than its own";
            Err(JsonError::Rejected(why.to_owned()))
        }
    }
}

/// A key set whose hash and signatures hold. Whether its signer had any authority is for
/// [`History`] and the trust root to say.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedKeySet {
    /// The document.
    pub set: KeySet,
    /// Hash of its canonical form: its name.
    pub hash: Hash,
    /// The key that signed it besides [`KeySet::issued_by`].
    pub cosigner: Option<Did>,
}

impl SignedKeySet {
    /// Signs a document, and signs it again with the key that takes over.
    ///
    /// # Errors
    /// Never for documents made by our own types.
    pub fn sign(
        set: &KeySet,
        key: &SigningKey,
        successor: Option<&SigningKey>,
    ) -> Result<Self, EnvelopeError> {
        let sign = |key| Envelope::sign(EnvelopeType::KeySet, set, key, set.issued_at);
        Ok(Self {
            key_set: sign(key)?,
            cosigned: successor.map(sign).transpose()?,
        })
    }

    /// Reads an entry of the log.
    ///
    /// # Errors
    /// [`JsonError`] when it is no key set, a record for example.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        crate::json::from_slice(bytes)
    }

    /// The canonical form: what is hashed, stored and shown.
    pub fn to_jcs(&self) -> Vec<u8> {
        let json = Json::from_value(self).expect("key sets hold strings and integers");
        json.to_jcs()
    }

    /// Its hash as a leaf of the log.
    pub fn leaf_hash(&self) -> Hash {
        merkle::leaf_hash(&self.to_jcs())
    }

    /// Checks hashes and signatures, and that everything outside them repeats what is inside.
    ///
    /// # Errors
    /// See [`KeySetError`].
    pub fn verify(&self) -> Result<VerifiedKeySet, KeySetError> {
        let signed = self.key_set.verify::<KeySet>(EnvelopeType::KeySet)?;
        let set = signed.payload;
        let same = |envelope: &Envelope| envelope.issued_at == set.issued_at;
        if set.key_set != KEY_SET || set.issued_by != signed.signer || !same(&self.key_set) {
            return Err(KeySetError::Contradicts);
        }
        let cosigner = match &self.cosigned {
            None => None,
            Some(envelope) => {
                let hash = envelope.check(EnvelopeType::KeySet)?;
                let another = envelope.signer_did != signed.signer;
                if hash != signed.payload_hash || !same(envelope) || !another {
                    return Err(KeySetError::Contradicts);
                }
                Some(envelope.signer_did.clone())
            }
        };
        Ok(VerifiedKeySet {
            set,
            hash: signed.payload_hash,
            cosigner,
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests;
