//! The trust root as the verifier uses it. It always comes from outside the bundle.

use std::fmt;

use proof::keyset::{History, Lapse, LogPlace};
use proof::trust::{GatewayKey, Role, TRUST_ROOT, TrustRoot};
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
    /// Key sets that are not numbered 1, 2, 3, each at a later place.
    #[error("the trust root's key sets are not in order")]
    KeySets,
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
    if trust.trust_root != TRUST_ROOT {
        Err(TrustError::UnknownKind(trust.trust_root))
    } else if trust.key_sets_are_in_order() {
        Ok(trust)
    } else {
        Err(TrustError::KeySets)
    }
}

/// Whether a key that a trust root lists for a role counts for what has a time and no place in the
/// log; otherwise why not. A revoked one never does: whoever has stolen it writes what time he
/// likes.
pub(crate) fn counts_without_place(
    root: &TrustRoot,
    did: &Did,
    role: Role,
    signed_at: Timestamp,
    at: Option<Timestamp>,
) -> Result<(), String> {
    let own = || root.listed(role).filter(|key| key.did == *did);
    if own().next().is_none() {
        return Err(format!("{did} is no {role} key of the trust root"));
    }
    if own().any(|key| key.revoked_at.is_some() || key.revoked_from_leaf.is_some()) {
        return Err(format!(
            "the trust root has revoked the {role} key {did}, and nothing here shows that this was \
             signed before"
        ));
    }
    // Under key sets, what a key signed in its time stays good when another one has followed it.
    let asked = at.filter(|_| !root.has_key_sets());
    for moment in [Some(signed_at), asked].into_iter().flatten() {
        if !root.gateway_key(did, role, moment) {
            return Err(format!("{did} is a {role} key, but not at {moment}"));
        }
    }
    Ok(())
}

/// Whom to believe, and as of when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Believed<'a> {
    /// The trust root.
    pub(crate) root: &'a TrustRoot,
    /// The moment given by `--at`: keys must be good at that moment too.
    pub(crate) at: Option<Timestamp>,
    /// The gateway's keys as the key sets of the bundle say; the trust root lists them itself where
    /// there are none.
    pub(crate) keys: Option<&'a History>,
}

/// When a signature took effect, by the word of what was signed, and where, by the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// The time.
    pub(crate) at: Timestamp,
    /// The place.
    pub(crate) place: LogPlace,
}

impl Believed<'_> {
    /// Whether a key of the gateway counted in its role when and where it signed (and at the
    /// moment asked about); otherwise why not. What the trust root says about a revocation counts
    /// always, since it may be newer than the bundle.
    pub(crate) fn gateway_key(
        &self,
        did: &Did,
        role: Role,
        signed: Moment,
    ) -> Result<(), (Code, String)> {
        self.not_revoked_by_root(did, role, signed)?;
        let Some(keys) = self.keys else {
            return self.by_list(did, role, signed.at);
        };
        let judged = keys.judge(did, role, signed.place, signed.at);
        judged.map_err(|lapse| lapsed(did, role, signed.place, &lapse))?;
        self.not_revoked_by_then(keys, did)
    }

    /// The same for the key of a token, of a call that was recorded up to `late_ms` after the token
    /// was looked at: so much later than a key's end it counts. Where a place is named from which
    /// on the key had been stolen, that place counts. Without key sets, revocations alone are known.
    pub(crate) fn token_key(
        &self,
        did: &Did,
        recorded: Moment,
        late_ms: i64,
    ) -> Result<(), (Code, String)> {
        let (role, place) = (Role::Token, recorded.place);
        let at = Timestamp::from_millis(recorded.at.millis().saturating_sub(late_ms));
        self.not_revoked_by_root(did, role, Moment { at, place })?;
        let Some(keys) = self.keys else {
            return Ok(());
        };
        let just_ended = || keys.stopped_at(did).is_some_and(|stopped| at <= stopped);
        match keys.judge(did, role, place, recorded.at) {
            Err(Lapse::Expired(_) | Lapse::Ended(_) | Lapse::Revoked(_)) if just_ended() => {}
            judged => judged.map_err(|lapse| lapsed(did, role, place, &lapse))?,
        }
        self.not_revoked_by_then(keys, did)
    }

    /// What the trust root says by itself.
    fn not_revoked_by_root(
        &self,
        did: &Did,
        role: Role,
        signed: Moment,
    ) -> Result<(), (Code, String)> {
        let at = self.at.map_or(signed.at, |at| at.max(signed.at));
        let mut own = self.root.listed(role).filter(|key| key.did == *did);
        // A revocation that is in the bundle, too, is judged by its place: what stands before it was
        // there before it, whatever time it bears.
        let in_bundle = self.keys.and_then(|keys| keys.revoked_at(did));
        let has_place = |key: &GatewayKey| in_bundle.is_some() && in_bundle == key.revoked_at;
        if own.any(|key| match has_place(key) {
            true => key
                .revoked_from_leaf
                .is_some_and(|leaf| signed.place.reaches(leaf)),
            false => key.was_revoked(signed.place, at),
        }) {
            let detail = format!("the trust root has revoked the {role} key {did}");
            return Err((Code::KeyNotValidThen, detail));
        }
        Ok(())
    }

    /// What the key sets say about the moment asked about.
    fn not_revoked_by_then(&self, keys: &History, did: &Did) -> Result<(), (Code, String)> {
        let revoked = keys.revoked_at(did);
        match self.at {
            Some(at) if revoked.is_some_and(|revoked| revoked <= at) => {
                let detail = format!("{did} had been revoked at {at}");
                Err((Code::KeyNotValidThen, detail))
            }
            _ => Ok(()),
        }
    }

    fn by_list(&self, did: &Did, role: Role, signed_at: Timestamp) -> Result<(), (Code, String)> {
        if !self.root.listed(role).any(|key| key.did == *did) {
            let detail = format!("{did} is no {role} key of the trust root");
            return Err((Code::KeyUnknown, detail));
        }
        for moment in [Some(signed_at), self.at].into_iter().flatten() {
            if !self.root.gateway_key(did, role, moment) {
                let detail = format!("{did} is a {role} key, but not at {moment}");
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
        signed: Moment,
        place: impl fmt::Display,
        findings: &mut Findings,
    ) {
        if let Err((code, detail)) = self.gateway_key(did, role, signed) {
            findings.fail(code, place, detail);
        }
    }
}

/// A key that did not count at its place, as a finding.
fn lapsed(did: &Did, role: Role, place: LogPlace, lapse: &Lapse) -> (Code, String) {
    let code = match lapse {
        Lapse::Unknown | Lapse::OtherRole(_) => Code::KeyUnknown,
        _ => Code::KeyNotValidThen,
    };
    (code, format!("{did} as {role} key at {place}: {lapse}"))
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
            good.replace(
                "\"authors\"",
                "\"key_sets\":[{\"number\":2,\"leaf\":0,\
                 \"hash_b64u\":\"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU\"}],\"authors\"",
            ),
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
