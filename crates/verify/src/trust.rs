//! The trust root as the verifier uses it. It always comes from outside the bundle.

use std::fmt;

use proof::trust::{Role, TRUST_ROOT, TrustRoot};
use proof::{Did, Timestamp};

use crate::code::Code;
use crate::report::Findings;

/// Largest trust root that is read, in bytes; ours have a few kilobytes.
pub const MAX_TRUST_BYTES: usize = 4 * 1024 * 1024;

/// Why a trust root is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// More than [`MAX_TRUST_BYTES`].
    #[error("the trust root is larger than {MAX_TRUST_BYTES} bytes")]
    TooLarge,
    /// Not strict JSON, or members that are missing, unknown or malformed.
    #[error("not a trust root: {0}")]
    Malformed(#[from] proof::JsonError),
    /// A document of another kind or version.
    #[error("a trust root of the unknown kind `{0}`")]
    UnknownKind(String),
}

/// Reads `trust.json`.
///
/// # Errors
/// See [`TrustError`].
pub fn read(bytes: &[u8]) -> Result<TrustRoot, TrustError> {
    if bytes.len() > MAX_TRUST_BYTES {
        return Err(TrustError::TooLarge);
    }
    let trust: TrustRoot = proof::json::from_slice(bytes)?;
    if trust.trust_root == TRUST_ROOT {
        Ok(trust)
    } else {
        Err(TrustError::UnknownKind(trust.trust_root))
    }
}

/// Whom to believe, and as of when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Believed<'a> {
    /// The trust root.
    pub(crate) root: &'a TrustRoot,
    /// The moment given by `--at`: keys must be good at that moment too.
    pub(crate) at: Option<Timestamp>,
}

impl Believed<'_> {
    /// Whether a key of the gateway counted in its role at the moment of a signature (and at
    /// the moment asked about); otherwise why not.
    pub(crate) fn gateway_key(
        &self,
        did: &Did,
        role: Role,
        signed_at: Timestamp,
    ) -> Result<(), (Code, String)> {
        let listed = |key: &proof::trust::GatewayKey| key.did == *did && key.role == role;
        if !self.root.gateway.iter().any(listed) {
            let detail = format!("{did} is no {role:?} key of the trust root");
            return Err((Code::KeyUnknown, detail));
        }
        for moment in [Some(signed_at), self.at].into_iter().flatten() {
            if !self.root.gateway_key(did, role, moment) {
                let detail = format!("{did} is a {role:?} key, but not at {moment}");
                return Err((Code::KeyNotValidThen, detail));
            }
        }
        Ok(())
    }

    /// The same, as a finding.
    pub(crate) fn require_key(
        &self,
        did: &Did,
        role: Role,
        signed_at: Timestamp,
        place: impl fmt::Display,
        findings: &mut Findings,
    ) {
        if let Err((code, detail)) = self.gateway_key(did, role, signed_at) {
            findings.fail(code, place, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_and_members_are_refused() {
        let did = proof::SigningKey::from_seed(&[1; 32]).did();
        let good = format!(
            r#"{{"trust_root":"clawgate.trust/1","gateway":[],"authors":[],"approvers":[],"log":{{"origin":"x","key":"{did}"}}}}"#
        );
        assert!(read(good.as_bytes()).is_ok());
        for bad in [
            good.replace("trust/1", "trust/2"),
            good.replace("\"authors\"", "\"autors\""),
            good.replace("[],\"authors\"", "[],\"gateway\":[],\"authors\""),
            format!("{good} x"),
            String::new(),
            " ".repeat(MAX_TRUST_BYTES + 1),
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{:.80}", bad);
        }
    }
}
