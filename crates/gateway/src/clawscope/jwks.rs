//! The public halves of the token keys, for whoever wants to check a token's signature.

use schemars::JsonSchema;
use serde::Serialize;

use proof::Timestamp;

use crate::keys::Keys;

/// The JSON Web Key Set (RFC 7517) with the token keys.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// An Ed25519 key (RFC 8037).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PublicKey")]
struct Key {
    kty: &'static str,
    crv: &'static str,
    /// The key, in base64url.
    x: String,
    kid: String,
    r#use: &'static str,
    alg: &'static str,
}

/// The set as it is served: the keys whose tokens are taken, the one in use first.
pub fn jwks(keys: &Keys, now: Timestamp) -> KeySet {
    let keys = keys.token_keys(now).into_iter();
    KeySet {
        keys: keys
            .map(|key| Key {
                kty: "OKP",
                crv: "Ed25519",
                x: proof::hash::encode_b64u(&key.to_bytes()),
                kid: key.kid(),
                r#use: "sig",
                alg: "EdDSA",
            })
            .collect(),
    }
}
