//! The story under key sets: they stand in the log where other jobs' records stood.

use proof::bundle::LoggedKeySet;
use proof::keyset::{History, KeySet, SignedKeySet};
use proof::trust::SeenKeySet;

use super::*;

/// A day before the story.
fn before() -> Timestamp {
    start().plus_seconds(-86_400)
}

/// Key sets with their places in the log, each even and below twice the number of records.
#[derive(Debug, Clone)]
pub struct KeySets {
    /// The sets, in order.
    pub sets: Vec<(u64, SignedKeySet)>,
    history: History,
}

impl KeySets {
    /// Number 1 at place 0, by the story's own keys.
    pub fn first(keys: &Keys) -> Self {
        Self::first_at(0, before(), keys)
    }

    /// The same at another place, issued at another time.
    pub fn first_at(place: u64, at: Timestamp, keys: &Keys) -> Self {
        let roles = [
            &keys.receipt,
            &keys.token,
            &keys.log,
            &keys.close,
            &keys.jobs,
            &keys.root,
        ];
        let set = KeySet::first(roles.map(SigningKey::did), before(), at);
        let mut sets = Self {
            sets: Vec::new(),
            history: History::default(),
        };
        sets.add(place, &set, &keys.root, None);
        sets
    }

    /// What follows from those that were added as they should be.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Adds a set as somebody signs it.
    pub fn add(
        &mut self,
        place: u64,
        set: &KeySet,
        signer: &SigningKey,
        successor: Option<&SigningKey>,
    ) {
        let entry = SignedKeySet::sign(set, signer, successor).expect("a key set");
        // A forged one may not follow; the next one is made as if it were not there.
        let _ = self.history.extend(&entry, place);
        self.sets.push((place, entry));
    }

    /// Puts a key in the place of a role's, when the story begins; the old one counts for so many
    /// seconds of it.
    pub fn rotate(
        &mut self,
        place: u64,
        role: Role,
        new: &SigningKey,
        seconds: i64,
        root: &SigningKey,
    ) {
        let until = start().plus_seconds(seconds);
        let set = self.history.rotate(role, &new.did(), start(), until);
        let successor = (role == Role::Keyset).then_some(new);
        self.add(place, &set.expect("a new key"), root, successor);
    }

    /// Revokes a key that was replaced.
    pub fn revoke(
        &mut self,
        place: u64,
        key: &SigningKey,
        from_leaf: Option<u64>,
        root: &SigningKey,
    ) {
        let set = self
            .history
            .revoke(&key.did(), start(), from_leaf, "stolen");
        self.add(place, &set.expect("a replaced key"), root, None);
    }

    /// What a trust root says of those that its maker has seen.
    pub fn seen(&self) -> Vec<SeenKeySet> {
        let sets = self.history.sets().iter();
        sets.map(|set| SeenKeySet {
            number: set.number,
            leaf: set.leaf,
            hash_b64u: set.hash,
        })
        .collect()
    }

    /// The log with the records and these sets, and its checkpoint by this key.
    pub fn log_for(&self, records: &[Record], key: &SigningKey) -> LogProof {
        let mut leaves = leaves_for(records);
        for (place, entry) in &self.sets {
            leaves[usize::try_from(*place).expect("in memory")] = entry.leaf_hash();
        }
        let (mut log, levels) = log_over(records, leaves, key);
        log.key_sets = self
            .sets
            .iter()
            .map(|(index, entry)| LoggedKeySet {
                index: *index,
                path: path(&levels, *index),
                entry: entry.clone(),
            })
            .collect();
        log
    }
}

/// A trust root that lists the root of the key sets and none of the keys in them.
pub fn rooted(keys: &Keys) -> TrustRoot {
    let mut trust = keys.trust_root();
    trust.gateway = vec![GatewayKey {
        did: keys.root.did(),
        role: Role::Keyset,
        not_before: before(),
        not_after: None,
        revoked_at: None,
        revoked_from_leaf: None,
    }];
    trust
}
