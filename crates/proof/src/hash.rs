//! SHA-256 values and the one base64 alphabet that our formats use.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A SHA-256 value, written as base64url without padding (43 characters).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Hashes the concatenation of `parts`.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Takes a value that was computed elsewhere, for example by a [`Hasher`].
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Lower-case hexadecimal, which the public formats use for token hashes.
    pub fn to_hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |four: u8| char::from(DIGITS[usize::from(four)]);
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 0xf));
        }
        text
    }
}

/// Hashes a body piece by piece, as it streams past.
#[derive(Clone, Default)]
pub struct Hasher {
    inner: Sha256,
    length: u64,
}

impl Hasher {
    /// Starts an empty hash.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// How many bytes went in so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The hash of everything so far; more may be added afterwards.
    pub fn finish(&self) -> Hash {
        Hash(self.inner.clone().finalize().into())
    }
}

/// Why a text is not the hash, signature or key that it should be.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum Base64Error {
    /// Padding, a foreign character, or non-zero trailing bits.
    #[error("not canonical base64url without padding")]
    NotCanonical,
    /// Right alphabet, wrong size.
    #[error("{actual} bytes where {expected} are needed")]
    Length {
        /// Size that the field has.
        expected: usize,
        /// Size that was found.
        actual: usize,
    },
}

/// Writes as base64url through a buffer of `N` bytes on the stack: hashes and signatures are
/// written thousands of times for one bundle.
pub(crate) fn write_b64u<const N: usize>(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let mut text = [0; N];
    let length = URL_SAFE_NO_PAD
        .encode_slice(bytes, &mut text)
        .expect("callers give four thirds of the size");
    f.write_str(std::str::from_utf8(&text[..length]).expect("base64 is ASCII"))
}

/// Reads a text member by its parser, without a copy of the text where none is needed.
pub(crate) fn deserialize_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    struct Text<T>(PhantomData<T>);
    impl<T: FromStr> Visitor<'_> for Text<T>
    where
        T::Err: fmt::Display,
    {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(PhantomData))
}

/// Encodes as base64url without padding.
pub fn encode_b64u(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url without padding; only the canonical spelling is accepted, because hash and
/// signature texts serve as identifiers.
pub fn decode_b64u(text: &str) -> Result<Vec<u8>, Base64Error> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Base64Error::NotCanonical)
}

/// Decodes a text that stands for exactly `N` bytes.
pub fn decode_b64u_exact<const N: usize>(text: &str) -> Result<[u8; N], Base64Error> {
    // Onto the stack when the size is right, the long way round to say what is wrong.
    if text.len() == N.div_ceil(3) * 4 - (3 - N % 3) % 3 {
        let mut bytes = [0; N];
        return match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(_) => Ok(bytes),
            Err(_) => Err(Base64Error::NotCanonical),
        };
    }
    let bytes = decode_b64u(text)?;
    let actual = bytes.len();
    bytes.try_into().map_err(|_| Base64Error::Length {
        expected: N,
        actual,
    })
}

impl FromStr for Hash {
    type Err = Base64Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode_b64u_exact(text).map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_b64u::<43>(f, &self.0)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_a_hash() {
        let hash = Hash::of(b"");
        let text = hash.to_string();
        assert_eq!(text, "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
        assert_eq!(text.parse(), Ok(hash));
        for bad in [
            "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
            "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFV", // trailing bits
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", // other alphabet
            "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSu",
            " 47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
            "",
        ] {
            assert!(bad.parse::<Hash>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_streamed_hash_equals_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"one ");
        hasher.update(b"two");
        assert_eq!(hasher.finish(), Hash::of(b"one two"));
        assert_eq!(hasher.length(), 7);
        assert_eq!(
            Hash::of_parts([b"one ".as_slice(), b"two"]),
            Hash::of(b"one two")
        );
    }
}
