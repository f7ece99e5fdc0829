//! Passkeys: what an authenticator made, read strictly and verified (WebAuthn Level 3).
//!
//! An authenticator signs its own data and the hash of what the browser says about the ceremony.
//! [`UnverifiedAssertion::verify`] is the only maker of an [`Assertion`], and
//! [`UnverifiedRegistration::verify`] of a [`Registration`]. Both run for the gateway and for an
//! auditor alike; what may differ, the site and the challenge, comes in as an argument.
//!
//! Decisions:
//! - ES256 and Ed25519. Every platform and every security key offers ES256; RS256 would bring an
//!   RSA implementation into what auditors must trust, for a few old TPMs.
//! - An ECDSA signature is DER, nothing else and nothing behind it. Both values of `s` are
//!   admitted, since authenticators do not choose the lower one; a signature is therefore no
//!   identifier, and nothing here uses it as one.
//! - The person was there and was verified (flags UP and UV), on a page of the site itself: frames
//!   of other sites are refused.
//! - Browsers may add members to what they say, so unknown ones are admitted there; duplicate ones
//!   are not. Reserved flags are refused.
//! - Attestation is not asked for and not looked at: which authenticator somebody uses is not ours
//!   to judge, the invitation says who enrols.

mod authenticator;
mod cbor;
mod client_data;
mod key;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use authenticator::AuthenticatorData;
use client_data::{Ceremony, ClientData};

pub use key::{ApproverDid, ApproverKey};

/// Longest authenticator data that is read, in bytes: a credential id of 1023, a key, and room
/// for extensions.
pub const MAX_AUTHENTICATOR_DATA: usize = 2048;

/// Longest text of a browser about a ceremony that is read, in bytes; they have some 200.
pub const MAX_CLIENT_DATA: usize = 4096;

/// Longest signature, in bytes: DER of two numbers of 33 bytes each.
pub const MAX_SIGNATURE: usize = 72;

/// Longest id of a credential, in bytes, as the specification has it.
pub const MAX_CREDENTIAL_ID: usize = 1023;

/// Where a passkey counts. A verifier takes it from its trust root, never from a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The relying party's id: a domain.
    pub rp_id: String,
    /// Origins of the pages on which it may be used, exactly as browsers write them.
    pub origins: Vec<String>,
}

/// Why what an authenticator made does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasskeyError {
    /// Not authenticator data, or not as strict as it must be.
    #[error("malformed authenticator data: {0}")]
    AuthenticatorData(&'static str),
    /// Not a browser's account of a ceremony.
    #[error("malformed client data: {0}")]
    ClientData(String),
    /// A key of another kind than ES256 or Ed25519, or not one at all.
    #[error("unusable passkey: {0}")]
    Key(&'static str),
    /// Made for another ceremony: an enrolment instead of a signature, or the other way round.
    #[error("made in a ceremony of the type `{0}`")]
    WrongCeremony(String),
    /// It answers another question.
    #[error("the challenge is another one")]
    WrongChallenge,
    /// Made on a page of another site, or inside one.
    #[error("made on a page of `{0}`")]
    WrongOrigin(String),
    /// Made for another relying party.
    #[error("made for another relying party")]
    WrongRpId,
    /// The authenticator did not see anybody, or did not make sure who it was.
    #[error("the authenticator did not verify the person")]
    NotVerified,
    /// By another key, or over something else.
    #[error("the passkey's signature is not valid")]
    SignatureInvalid,
}

/// What an authenticator signed, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedAssertion {
    /// What the authenticator says.
    pub authenticator_data: Vec<u8>,
    /// What the browser says, JSON.
    pub client_data_json: Vec<u8>,
    /// Over the first and the hash of the second.
    pub signature: Vec<u8>,
}

/// A signature of a passkey that was verified: the key, the challenge, the site and the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assertion {
    sign_count: u32,
}

impl Assertion {
    /// The authenticator's counter; 0 when it has none.
    pub const fn sign_count(&self) -> u32 {
        self.sign_count
    }
}

impl UnverifiedAssertion {
    /// The challenge that is said to be answered; whether it is one of the caller's own must be
    /// known before it counts for anything.
    ///
    /// # Errors
    /// [`PasskeyError::ClientData`].
    pub fn challenge(&self) -> Result<Vec<u8>, PasskeyError> {
        ClientData::parse(&self.client_data_json)?.challenge()
    }

    /// Verifies the signature by `key` over `challenge`, made on a page of `site`.
    ///
    /// # Errors
    /// The first thing that is wrong; what was signed by nobody is not looked at further.
    pub fn verify(
        &self,
        key: &ApproverDid,
        challenge: &[u8],
        site: &Site,
    ) -> Result<Assertion, PasskeyError> {
        let data = AuthenticatorData::parse(&self.authenticator_data)?;
        let client = ClientData::parse(&self.client_data_json)?;
        if self.signature.len() > MAX_SIGNATURE {
            return Err(PasskeyError::SignatureInvalid);
        }
        let client_hash = Hash::of(&self.client_data_json);
        let mut message = self.authenticator_data.clone();
        message.extend_from_slice(client_hash.as_bytes());
        if !key.key().verify(&message, &self.signature) {
            return Err(PasskeyError::SignatureInvalid);
        }
        client.check(Ceremony::Get, challenge, site)?;
        data.check(site)?;
        if data.attested.is_some() {
            let reason = "a signature brings no new credential";
            return Err(PasskeyError::AuthenticatorData(reason));
        }
        Ok(Assertion {
            sign_count: data.sign_count,
        })
    }
}

/// A new credential, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedRegistration {
    /// What the authenticator says; holds the credential's id and key.
    pub authenticator_data: Vec<u8>,
    /// What the browser says, JSON.
    pub client_data_json: Vec<u8>,
}

/// A new credential that was made for a challenge, on a page of the site, by a verified person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    credential_id: Vec<u8>,
    did: ApproverDid,
    sign_count: u32,
}

impl Registration {
    /// The credential's id, 1 to [`MAX_CREDENTIAL_ID`] bytes.
    pub fn credential_id(&self) -> &[u8] {
        &self.credential_id
    }

    /// Its public key.
    pub const fn did(&self) -> &ApproverDid {
        &self.did
    }

    /// The authenticator's counter; 0 when it has none.
    pub const fn sign_count(&self) -> u32 {
        self.sign_count
    }
}

impl UnverifiedRegistration {
    /// Takes the new credential. Nothing is signed here: that the key's owner can sign shows with
    /// the first assertion.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self, challenge: &[u8], site: &Site) -> Result<Registration, PasskeyError> {
        let data = AuthenticatorData::parse(&self.authenticator_data)?;
        let client = ClientData::parse(&self.client_data_json)?;
        client.check(Ceremony::Create, challenge, site)?;
        data.check(site)?;
        let none = PasskeyError::AuthenticatorData("there is no credential in it");
        let attested = data.attested.ok_or(none)?;
        Ok(Registration {
            credential_id: attested.credential_id.to_vec(),
            did: attested.did,
            sign_count: data.sign_count,
        })
    }
}
