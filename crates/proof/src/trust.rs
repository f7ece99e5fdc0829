//! The trust root: whom a verifier believes. Always given from outside the bundle.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::checkpoint::cosigned_at;
use crate::hash::Hash;
use crate::keys::{Did, PublicKey};
use crate::keyset::LogPlace;
use crate::passkey::{ApproverDid, Site};
use crate::time::Timestamp;
use crate::timestamp::Authority;

/// The document's kind and version.
pub const TRUST_ROOT: &str = "clawgate.trust/1";

/// `trust.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRoot {
    /// Always [`TRUST_ROOT`].
    pub trust_root: String,
    /// The gateway's keys, each for one role and one time. Where one of them is for
    /// [`Role::Keyset`], key sets say which others count.
    pub gateway: Vec<GatewayKey>,
    /// The key sets that the log has, from number 1 on, as far as they were seen: a bundle whose
    /// checkpoint is later than one of them has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_sets: Vec<SeenKeySet>,
    /// Who may sign contracts.
    pub authors: Vec<Author>,
    /// Who may sign approvals with a key file.
    pub approvers: Vec<Approver>,
    /// Who may sign approvals with a passkey, and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passkeys: Vec<Passkey>,
    /// The log.
    pub log: Log,
    /// Who witnesses it; without them nobody has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<Witnesses>,
    /// Whose timestamps count: certificates of timestamping authorities, or of who certifies them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tsa: Vec<Authority>,
}

/// What a gateway key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Signs receipts.
    Receipt,
    /// Signs scoped tokens.
    Token,
    /// Signs checkpoints of the log.
    Checkpoint,
    /// Signs the end of jobs.
    Close,
    /// The keys of jobs are derived from it; it signs nothing itself.
    Jobs,
    /// Signs key sets, and nothing else: the root of the others.
    Keyset,
}

impl Role {
    /// The name, as it stands in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Token => "token",
            Self::Checkpoint => "checkpoint",
            Self::Close => "close",
            Self::Jobs => "jobs",
            Self::Keyset => "keyset",
        }
    }
}

/// One key of the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayKey {
    /// The key.
    pub did: Did,
    /// Its one role.
    pub role: Role,
    /// First moment at which it counts.
    pub not_before: Timestamp,
    /// Last moment at which it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// From when on it does not count any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// From which place in the log on it does not count any more, whatever time stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_from_leaf: Option<u64>,
}

impl GatewayKey {
    /// Whether it was revoked before something that was signed at this time, and took effect at
    /// this place of the log.
    pub fn was_revoked(&self, place: LogPlace, at: Timestamp) -> bool {
        self.revoked_at.is_some_and(|end| end <= at)
            || self
                .revoked_from_leaf
                .is_some_and(|leaf| place.reaches(leaf))
    }
}

/// A key set that the log has, as whoever wrote the trust root has seen it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenKeySet {
    /// Its number.
    pub number: u64,
    /// Its place in the log.
    pub leaf: u64,
    /// Hash of its payload.
    pub hash_b64u: Hash,
}

/// A policy author.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// The author's key.
    pub did: Did,
    /// The author's name.
    pub name: String,
}

/// An enrolled approver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approver {
    /// The e-mail address by which contracts name the approver.
    pub email: String,
    /// The approver's key.
    pub did: Did,
}

/// A passkey of an approver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passkey {
    /// The e-mail address by which contracts name the approver.
    pub email: String,
    /// The passkey's public key.
    pub did: ApproverDid,
    /// Where it may be used.
    pub site: Site,
    /// When it was enrolled.
    pub not_before: Timestamp,
    /// From when on it does not count any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

impl Passkey {
    /// Whether it counted at that moment.
    pub fn counts(&self, at: Timestamp) -> bool {
        self.not_before <= at && self.revoked_at.is_none_or(|end| at < end)
    }
}

/// Who witnesses the log, and how many of them must have seen a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// How many have to have cosigned a bundle's checkpoint.
    pub required: u32,
    /// The witnesses.
    pub keys: Vec<WitnessKey>,
}

/// A witness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessKey {
    /// Its name in notes.
    pub name: String,
    /// Its key.
    pub did: Did,
}

impl Witnesses {
    /// How many of the keys with a wanted name have cosigned one of the notes. A key that is listed
    /// twice counts once.
    pub fn count(&self, notes: &[&str], wanted: impl Fn(&str) -> bool) -> usize {
        let keys = self.keys.iter().filter(|witness| {
            let signed = |note: &&str| cosigned_at(note, &witness.name, &witness.did.key());
            wanted(&witness.name) && notes.iter().any(|note| signed(note).is_some())
        });
        keys.map(|witness| &witness.did)
            .collect::<HashSet<_>>()
            .len()
    }
}

/// The log of records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The log's name.
    pub origin: String,
    /// The key that signs its checkpoints; others may be listed with the gateway's keys.
    pub key: Did,
}

impl TrustRoot {
    /// Whether `did` was the gateway's key for `role` at that moment.
    pub fn gateway_key(&self, did: &Did, role: Role, at: Timestamp) -> bool {
        self.gateway.iter().any(|key| {
            key.did == *did
                && key.role == role
                && key.not_before <= at
                && key.not_after.is_none_or(|end| at <= end)
                && key.revoked_at.is_none_or(|end| at < end)
        })
    }

    /// Whether key sets say which keys of the gateway count.
    pub fn has_key_sets(&self) -> bool {
        !self.key_sets.is_empty() || self.listed(Role::Keyset).next().is_some()
    }

    /// Whether the key sets are numbered from 1, each at a later place than the one before.
    pub fn key_sets_are_in_order(&self) -> bool {
        let numbered = (1..).zip(&self.key_sets).all(|(n, set)| set.number == n);
        numbered && self.key_sets.is_sorted_by(|a, b| a.leaf < b.leaf)
    }

    /// The keys of the gateway that are listed for a role.
    pub fn listed(&self, role: Role) -> impl Iterator<Item = &GatewayKey> {
        self.gateway.iter().filter(move |key| key.role == role)
    }

    /// Every key that may have signed a checkpoint, as far as is known here.
    pub fn checkpoint_keys(&self) -> impl Iterator<Item = &Did> {
        let listed = self.listed(Role::Checkpoint).map(|key| &key.did);
        let others = listed.filter(|did| **did != self.log.key);
        std::iter::once(&self.log.key).chain(others)
    }

    /// Those of them whose signature on a new checkpoint counts at this time.
    pub fn checkpoint_keys_at(&self, now: Timestamp) -> Vec<PublicKey> {
        let own = |did: &Did| {
            let did = did.clone();
            self.listed(Role::Checkpoint)
                .filter(move |key| key.did == did)
        };
        let counts = |did: &&Did| {
            let stolen = own(did).any(|key| key.revoked_from_leaf.is_some());
            let listed = own(did).next().is_some();
            !stolen && (!listed || self.gateway_key(did, Role::Checkpoint, now))
        };
        self.checkpoint_keys()
            .filter(counts)
            .map(Did::key)
            .collect()
    }

    /// The author with this key.
    pub fn author(&self, did: &Did) -> Option<&Author> {
        self.authors.iter().find(|author| author.did == *did)
    }

    /// Whether the key file's key is enrolled for the approver with this address.
    pub fn approver(&self, email: &str, did: &ApproverDid) -> bool {
        self.approvers
            .iter()
            .any(|approver| approver.email == email && *did == approver.did)
    }

    /// The passkey with this public key.
    pub fn passkey(&self, did: &ApproverDid) -> Option<&Passkey> {
        self.passkeys.iter().find(|passkey| passkey.did == *did)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    #[test]
    fn a_key_counts_in_its_role_and_time_only() {
        let did = SigningKey::from_seed(&[1; 32]).did();
        let at = Timestamp::from_seconds;
        let trust = TrustRoot {
            trust_root: TRUST_ROOT.into(),
            gateway: vec![GatewayKey {
                did: did.clone(),
                role: Role::Receipt,
                not_before: at(10),
                not_after: Some(at(20)),
                revoked_at: Some(at(15)),
                revoked_from_leaf: None,
            }],
            key_sets: vec![],
            authors: vec![],
            approvers: vec![Approver {
                email: "a@example.com".into(),
                did: did.clone(),
            }],
            passkeys: vec![],
            log: Log {
                origin: "x".into(),
                key: did.clone(),
            },
            witnesses: None,
            tsa: vec![],
        };
        assert!(trust.gateway_key(&did, Role::Receipt, at(10)));
        assert!(!trust.gateway_key(&did, Role::Receipt, at(9)));
        assert!(!trust.gateway_key(&did, Role::Receipt, at(15)));
        assert!(!trust.gateway_key(&did, Role::Token, at(12)));
        // A checkpoint that is signed now is later than any place that a revocation names.
        let mut logs = trust.clone();
        assert_eq!(logs.checkpoint_keys_at(at(12)), [did.key()], "not listed");
        logs.gateway[0].role = Role::Checkpoint;
        assert_eq!(logs.checkpoint_keys_at(at(12)), [did.key()]);
        assert!(logs.checkpoint_keys_at(at(15)).is_empty());
        logs.gateway[0].revoked_from_leaf = Some(1_000_000);
        assert!(logs.checkpoint_keys_at(at(12)).is_empty());
        let approver = did.clone().into();
        assert!(trust.approver("a@example.com", &approver));
        assert!(!trust.approver("b@example.com", &approver));
        assert_eq!(trust.passkey(&approver), None, "a key file is no passkey");
        assert!(trust.author(&did).is_none());
    }
}
