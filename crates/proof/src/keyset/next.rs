//! The key set that follows: what is signed when a key is replaced or revoked.

use super::{History, KEY_SET, Key, KeySet, MAX_REASON_BYTES, ROLES, Revoked};
use crate::keys::Did;
use crate::time::Timestamp;
use crate::trust::Role;

/// Why no key set can say what is wanted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CannotChange {
    /// There is no key set yet.
    #[error("there is no key set to follow")]
    NoKeySet,
    /// It is in use already, or was.
    #[error("{0} is or was a key of this gateway; a new one is needed")]
    NotNew(Did),
    /// No key set lists it.
    #[error("{0} is no key of this gateway")]
    Unknown(Did),
    /// It is the one that its role is fulfilled with.
    #[error("{0} is in use: it must be replaced before it can be revoked")]
    InUse(Did),
    /// It was revoked before.
    #[error("{0} was revoked before")]
    Revoked(Did),
    /// The reason does not fit.
    #[error("the reason is longer than {MAX_REASON_BYTES} bytes")]
    Reason,
}

impl KeySet {
    /// Number 1: one key for each role, by which everything so far was signed, too.
    pub fn first(keys: [Did; ROLES.len()], not_before: Timestamp, at: Timestamp) -> Self {
        let issued_by = keys[ROLES.len() - 1].clone();
        let keys = ROLES.into_iter().zip(keys);
        Self {
            key_set: KEY_SET.to_owned(),
            number: 1,
            previous_hash_b64u: None,
            issued_at: at,
            issued_by,
            keys: keys
                .map(|(role, did)| Key::new(did, role, not_before))
                .collect(),
        }
    }
}

impl History {
    /// The key set that puts another key in the place of a role's. What the old one signs counts
    /// until `not_after`; the root's own ends at once. Keys whose time has run out are ended.
    ///
    /// # Errors
    /// See [`CannotChange`].
    pub fn rotate(
        &self,
        role: Role,
        new: &Did,
        at: Timestamp,
        not_after: Timestamp,
    ) -> Result<KeySet, CannotChange> {
        if self.keys().any(|key| key.did == *new) {
            return Err(CannotChange::NotNew(new.clone()));
        }
        let mut set = self.following(at)?;
        for key in &mut set.keys {
            if key.role == role && key.is_current() {
                if role == Role::Keyset {
                    key.ended_at = Some(set.issued_at);
                } else {
                    key.not_after = Some(not_after.max(set.issued_at));
                }
            }
        }
        set.keys.push(Key::new(new.clone(), role, set.issued_at));
        Ok(set)
    }

    /// The key set that revokes a key which is not in use any more, from an earlier place on when
    /// that is known.
    ///
    /// # Errors
    /// See [`CannotChange`].
    pub fn revoke(
        &self,
        did: &Did,
        at: Timestamp,
        from_leaf: Option<u64>,
        reason: &str,
    ) -> Result<KeySet, CannotChange> {
        let known = self.keys().find(|key| key.did == *did);
        let known = known.ok_or_else(|| CannotChange::Unknown(did.clone()))?;
        if known.revoked.is_some() {
            return Err(CannotChange::Revoked(did.clone()));
        }
        if known.is_current() {
            return Err(CannotChange::InUse(did.clone()));
        }
        if reason.len() > MAX_REASON_BYTES {
            return Err(CannotChange::Reason);
        }
        let mut set = self.following(at)?;
        set.keys.retain(|key| key.did != *did);
        set.keys.push(Key {
            ended_at: None,
            revoked: Some(Revoked {
                at: set.issued_at,
                from_leaf,
                reason: reason.to_owned(),
            }),
            ..known.clone()
        });
        Ok(set)
    }

    /// What follows when nothing changes but that keys end whose time has run out.
    fn following(&self, at: Timestamp) -> Result<KeySet, CannotChange> {
        let last = self.sets().last().ok_or(CannotChange::NoKeySet)?;
        let issued_by = self.current(Role::Keyset).ok_or(CannotChange::NoKeySet)?;
        // A clock that was put back must not keep anybody from revoking a key.
        let at = at.max(last.issued_at);
        let counting = self.keys().filter(|key| key.counts_on()).cloned();
        let keys = counting.map(|mut key| {
            if key.not_after.is_some_and(|end| end < at) {
                key.ended_at = Some(at);
            }
            key
        });
        Ok(KeySet {
            key_set: KEY_SET.to_owned(),
            number: last.number + 1,
            previous_hash_b64u: Some(last.hash),
            issued_at: at,
            issued_by: issued_by.clone(),
            keys: keys.collect(),
        })
    }
}
