//! The public half of the token key, for whoever wants to check a token's signature.

use serde_json::{Value, json};

use crate::keys::Keys;

/// The JSON Web Key Set (RFC 7517) with the token key (RFC 8037).
pub fn jwks(keys: &Keys) -> Value {
    let key = keys.token.public();
    json!({ "keys": [{
        "kty": "OKP",
        "crv": "Ed25519",
        "x": proof::hash::encode_b64u(&key.to_bytes()),
        "kid": key.kid(),
        "use": "sig",
        "alg": "EdDSA",
    }]})
}
