//! What goes to a browser and what comes back, as JSON.

use std::str::FromStr;

use proof::ApproverDid;
use proof::hash::{decode_b64u, encode_b64u};
use proof::passkey::{
    MAX_AUTHENTICATOR_DATA, MAX_CLIENT_DATA, MAX_CREDENTIAL_ID, MAX_SIGNATURE, Site,
    UnverifiedAssertion, UnverifiedRegistration,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::CEREMONY_MS;

/// Longest text of an assertion or a registration, in bytes: its members in base64url, and room
/// for their names.
const MAX_TEXT: usize =
    4 * (MAX_AUTHENTICATOR_DATA + MAX_CLIENT_DATA + MAX_CREDENTIAL_ID) / 3 + 512;

/// Why a text is not what `passkey.js` makes of an authenticator's answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a passkey's answer: {0}")]
pub struct UnreadablePasskey(String);

/// A passkey's signature as it came, with the credential that is said to have made it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenAssertion")]
pub struct Assertion {
    /// The credential's id; outside the signature.
    pub credential_id: Vec<u8>,
    /// The signature and what it is over.
    pub signed: UnverifiedAssertion,
}

/// A new credential as it came.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenRegistration")]
pub struct Registration(pub UnverifiedRegistration);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAssertion {
    credential_id: String,
    authenticator_data: String,
    client_data_json: String,
    signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRegistration {
    authenticator_data: String,
    client_data_json: String,
}

impl TryFrom<WrittenAssertion> for Assertion {
    type Error = UnreadablePasskey;

    fn try_from(written: WrittenAssertion) -> Result<Self, UnreadablePasskey> {
        Ok(Self {
            credential_id: bytes("credential_id", &written.credential_id, MAX_CREDENTIAL_ID)?,
            signed: UnverifiedAssertion {
                authenticator_data: authenticator_data(&written.authenticator_data)?,
                client_data_json: client_data(&written.client_data_json)?,
                signature: bytes("signature", &written.signature, MAX_SIGNATURE)?,
            },
        })
    }
}

impl TryFrom<WrittenRegistration> for Registration {
    type Error = UnreadablePasskey;

    fn try_from(written: WrittenRegistration) -> Result<Self, UnreadablePasskey> {
        Ok(Self(UnverifiedRegistration {
            authenticator_data: authenticator_data(&written.authenticator_data)?,
            client_data_json: client_data(&written.client_data_json)?,
        }))
    }
}

fn authenticator_data(text: &str) -> Result<Vec<u8>, UnreadablePasskey> {
    bytes("authenticator_data", text, MAX_AUTHENTICATOR_DATA)
}

fn client_data(text: &str) -> Result<Vec<u8>, UnreadablePasskey> {
    bytes("client_data_json", text, MAX_CLIENT_DATA)
}

fn bytes(name: &str, text: &str, most: usize) -> Result<Vec<u8>, UnreadablePasskey> {
    if text.len() > most * 4 / 3 + 2 {
        return Err(UnreadablePasskey(format!("`{name}` is too long")));
    }
    decode_b64u(text).map_err(|error| UnreadablePasskey(format!("`{name}`: {error}")))
}

fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, UnreadablePasskey> {
    if text.len() > MAX_TEXT {
        return Err(UnreadablePasskey("too long".to_owned()));
    }
    proof::json::from_slice(text.as_bytes()).map_err(|error| UnreadablePasskey(error.to_string()))
}

/// A form's field, as `passkey.js` fills it.
impl FromStr for Assertion {
    type Err = UnreadablePasskey;

    fn from_str(text: &str) -> Result<Self, UnreadablePasskey> {
        read(text)
    }
}

/// A form's field, as `passkey.js` fills it.
impl FromStr for Registration {
    type Err = UnreadablePasskey;

    fn from_str(text: &str) -> Result<Self, UnreadablePasskey> {
        read(text)
    }
}

fn descriptors(credentials: &[&[u8]]) -> Vec<Value> {
    let describe = |id: &&[u8]| json!({ "type": "public-key", "id": encode_b64u(id) });
    credentials.iter().map(describe).collect()
}

/// Options for a signature (`PublicKeyCredentialRequestOptionsJSON`), by one of these credentials
/// or by any.
pub fn request_options(site: &Site, challenge: &[u8], credentials: &[&[u8]]) -> Value {
    json!({
        "challenge": encode_b64u(challenge),
        "rpId": site.rp_id,
        "allowCredentials": descriptors(credentials),
        "userVerification": "required",
        "timeout": CEREMONY_MS,
    })
}

/// Options for an enrolment (`PublicKeyCredentialCreationOptionsJSON`), but not on an
/// authenticator that has one of these credentials.
pub fn creation_options(
    site: &Site,
    gateway: &str,
    challenge: &[u8],
    email: &str,
    credentials: &[&[u8]],
) -> Value {
    // Says nothing about the person to whoever reads it, and is the same for the next passkey.
    let user = proof::Hash::of_parts([b"clawgate.passkey-user/1\0", email.as_bytes()]);
    json!({
        "challenge": encode_b64u(challenge),
        "rp": { "id": site.rp_id, "name": gateway },
        "user": { "id": user, "name": email, "displayName": email },
        "pubKeyCredParams": [
            { "type": "public-key", "alg": -7 },
            { "type": "public-key", "alg": -8 },
        ],
        "excludeCredentials": descriptors(credentials),
        "authenticatorSelection": {
            "residentKey": "preferred",
            "userVerification": "required",
        },
        "attestation": "none",
        "timeout": CEREMONY_MS,
    })
}

/// A name for people: what the key is written as, shortened.
pub(super) fn shortened(did: &ApproverDid) -> String {
    let text = did.as_str();
    format!("…{}", &text[text.len().saturating_sub(8)..])
}
