//! An authenticator and its browser in software, for tests: real keys, real CBOR, and every part
//! of what is signed can be made wrong.

#![expect(
    clippy::missing_panics_doc,
    reason = "a fixture that cannot be made is a mistake in the test"
)]

// The trait that signs; P-256 keys have the same.
use ed25519_dalek::Signer as _;

use super::{ApproverDid, Site, UnverifiedAssertion, UnverifiedRegistration};
use crate::hash::{Hash, encode_b64u};

/// The person is there.
pub const PRESENT: u8 = 0x01;

/// The person was verified.
pub const VERIFIED: u8 = 0x04;

/// A new credential follows.
pub const ATTESTED: u8 = 0x40;

/// The private half.
#[derive(Debug, Clone)]
enum Key {
    P256(Box<p256::ecdsa::SigningKey>),
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

/// One passkey, and the browser that uses it.
#[derive(Debug, Clone)]
pub struct SoftAuthenticator {
    key: Key,
    /// The credential's id.
    pub credential_id: Vec<u8>,
    /// The relying party that the authenticator is asked for.
    pub rp_id: String,
    /// The origin of the page.
    pub origin: String,
    /// What the authenticator says about the person, and reserved bits.
    pub flags: u8,
    /// The counter, which goes up with each signature; 0 stays 0, as with synchronised passkeys.
    pub sign_count: u32,
    /// More members of the client data, each beginning with a comma.
    pub more: String,
}

impl SoftAuthenticator {
    /// An ES256 passkey of this seed, for a site.
    pub fn new(seed: u8, site: &Site) -> Self {
        let secret = Hash::of(&[seed; 32]);
        let key = p256::ecdsa::SigningKey::from_slice(secret.as_bytes()).expect("a scalar");
        Self::with(Key::P256(Box::new(key)), seed, site)
    }

    /// An Ed25519 passkey of this seed, for a site.
    pub fn ed25519(seed: u8, site: &Site) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
        Self::with(Key::Ed25519(Box::new(key)), seed, site)
    }

    fn with(key: Key, seed: u8, site: &Site) -> Self {
        Self {
            key,
            credential_id: Hash::of_parts([b"credential".as_slice(), &[seed]])
                .as_bytes()
                .to_vec(),
            rp_id: site.rp_id.clone(),
            origin: site.origins.first().cloned().unwrap_or_default(),
            flags: PRESENT | VERIFIED,
            sign_count: 0,
            more: ",\"crossOrigin\":false".to_owned(),
        }
    }

    /// The public half.
    pub fn did(&self) -> ApproverDid {
        match &self.key {
            Key::P256(key) => key.verifying_key().into(),
            Key::Ed25519(key) => {
                let bytes = key.verifying_key().to_bytes();
                let key = crate::keys::PublicKey::from_bytes(&bytes).expect("not a weak key");
                key.did().into()
            }
        }
    }

    /// Enrols.
    pub fn register(&self, challenge: &[u8]) -> UnverifiedRegistration {
        let mut data = self.data(self.flags | ATTESTED, self.sign_count);
        data.extend_from_slice(&[0; 16]);
        let length = u16::try_from(self.credential_id.len()).expect("a short id");
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(&self.credential_id);
        data.extend_from_slice(&self.cose());
        UnverifiedRegistration {
            authenticator_data: data,
            client_data_json: self.client_data("webauthn.create", challenge),
        }
    }

    /// Signs.
    pub fn sign(&mut self, challenge: &[u8]) -> UnverifiedAssertion {
        if self.sign_count > 0 {
            self.sign_count += 1;
        }
        let data = self.data(self.flags, self.sign_count);
        self.sign_bytes(data, self.client_data("webauthn.get", challenge))
    }

    /// Signs whatever it is given.
    pub fn sign_bytes(
        &self,
        authenticator_data: Vec<u8>,
        client_data_json: Vec<u8>,
    ) -> UnverifiedAssertion {
        let mut message = authenticator_data.clone();
        message.extend_from_slice(Hash::of(&client_data_json).as_bytes());
        let signature = match &self.key {
            Key::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(&message);
                signature.to_der().as_bytes().to_vec()
            }
            Key::Ed25519(key) => key.sign(&message).to_bytes().to_vec(),
        };
        UnverifiedAssertion {
            authenticator_data,
            client_data_json,
            signature,
        }
    }

    /// What the browser says.
    pub fn client_data(&self, kind: &str, challenge: &[u8]) -> Vec<u8> {
        let (challenge, origin, more) = (encode_b64u(challenge), &self.origin, &self.more);
        format!(r#"{{"type":"{kind}","challenge":"{challenge}","origin":"{origin}"{more}}}"#)
            .into_bytes()
    }

    /// The head of the authenticator's data.
    pub fn data(&self, flags: u8, sign_count: u32) -> Vec<u8> {
        let mut data = Hash::of(self.rp_id.as_bytes()).as_bytes().to_vec();
        data.push(flags);
        data.extend_from_slice(&sign_count.to_be_bytes());
        data
    }

    /// The public key as COSE writes it.
    pub fn cose(&self) -> Vec<u8> {
        match &self.key {
            Key::P256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                let (x, y) = point.as_bytes()[1..].split_at(32);
                let head = [0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
                [&head, x, &[0x22, 0x58, 0x20], y].concat()
            }
            Key::Ed25519(key) => {
                let head = [0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20];
                [head.as_slice(), key.verifying_key().as_bytes()].concat()
            }
        }
    }
}
