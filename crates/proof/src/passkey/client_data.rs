//! What the browser says about a ceremony.

use super::{MAX_CLIENT_DATA, PasskeyError, Site};
use crate::hash::{decode_b64u, encode_b64u};
use crate::json::{self, Json, Numbers};

/// What the authenticator was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ceremony {
    /// A signature.
    Get,
    /// An enrolment.
    Create,
}

impl Ceremony {
    const fn kind(self) -> &'static str {
        match self {
            Self::Get => "webauthn.get",
            Self::Create => "webauthn.create",
        }
    }
}

/// What was read; nothing is compared yet.
#[derive(Debug)]
pub(super) struct ClientData {
    kind: String,
    challenge: String,
    origin: String,
    framed: bool,
}

impl ClientData {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PasskeyError> {
        let malformed = |reason: &str| PasskeyError::ClientData(reason.to_owned());
        if bytes.len() > MAX_CLIENT_DATA {
            return Err(malformed("too long"));
        }
        let json = json::parse(bytes, Numbers::Any)
            .map_err(|error| PasskeyError::ClientData(error.to_string()))?;
        let text = |name: &str| {
            let value = json.get(name).and_then(Json::as_str);
            value
                .map(str::to_owned)
                .ok_or_else(|| malformed(&format!("`{name}` is no text")))
        };
        let cross_origin = match json.get("crossOrigin") {
            None | Some(Json::Bool(false)) => false,
            Some(Json::Bool(true)) => true,
            Some(_) => return Err(malformed("`crossOrigin` is neither true nor false")),
        };
        Ok(Self {
            kind: text("type")?,
            challenge: text("challenge")?,
            origin: text("origin")?,
            framed: cross_origin || json.get("topOrigin").is_some(),
        })
    }

    /// The challenge's bytes.
    pub(super) fn challenge(&self) -> Result<Vec<u8>, PasskeyError> {
        decode_b64u(&self.challenge)
            .map_err(|_| PasskeyError::ClientData("`challenge` is not base64url".to_owned()))
    }

    /// This ceremony, this challenge, a page of this site.
    pub(super) fn check(
        &self,
        ceremony: Ceremony,
        challenge: &[u8],
        site: &Site,
    ) -> Result<(), PasskeyError> {
        let shown = |text: &str| text.chars().take(128).collect::<String>();
        if self.kind != ceremony.kind() {
            return Err(PasskeyError::WrongCeremony(shown(&self.kind)));
        }
        if self.challenge != encode_b64u(challenge) {
            return Err(PasskeyError::WrongChallenge);
        }
        if self.framed || !site.origins.contains(&self.origin) {
            return Err(PasskeyError::WrongOrigin(shown(&self.origin)));
        }
        Ok(())
    }
}
