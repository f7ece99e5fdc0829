//! The key sets of a log, one after the other, and what follows from them.

use super::{
    Key, KeySet, LogPlace, MAX_KEY_SETS, MAX_KEYS, MAX_KNOWN, MAX_REASON_BYTES, ROLES, SignedKeySet,
};
use crate::envelope::EnvelopeError;
use crate::hash::Hash;
use crate::keys::Did;
use crate::time::Timestamp;
use crate::trust::Role;

/// Why a document is no key set, or none that may follow.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The envelope or a signature does not hold.
    #[error("the key set's envelope does not hold: {0}")]
    Envelope(#[from] EnvelopeError),
    /// Kind, signer or time outside the signature are not those inside, or it was cosigned for
    /// another document.
    #[error("the envelope contradicts the key set")]
    Contradicts,
    /// A number is missing, or there twice.
    #[error("key set {found} where number {expected} must be")]
    Number {
        /// What follows.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// It follows another document than the one before it: the chain was forked.
    #[error("key set {0} does not follow the one before it")]
    Forked(u64),
    /// It stands before the one that it follows, or is older.
    #[error("key set {0} is not later than the one before it")]
    NotLater(u64),
    /// Its signer is not the key that key sets are signed with at this point.
    #[error("key set {number} is signed by {signer}, which may not issue it")]
    NotTheIssuer {
        /// Which.
        number: u64,
        /// Who signed.
        signer: Did,
    },
    /// The key that signs from now on has not signed it, too; or somebody else has.
    #[error("key set {0} is not signed by the old and the new key, and by nobody else")]
    Cosigned(u64),
    /// A key was left out that had not been ended.
    #[error("key set {number} does not say what became of {key}")]
    Dropped {
        /// Which.
        number: u64,
        /// Whose end is missing.
        key: Did,
    },
    /// What it says about a key cannot be.
    #[error("key set {number} cannot say this about {key}: {why}")]
    Key {
        /// Which.
        number: u64,
        /// About whom.
        key: Did,
        /// What is wrong.
        why: &'static str,
    },
    /// A role without a key, or with several.
    #[error("key set {number} has {count} keys for the role `{role}`, and one is needed")]
    Role {
        /// Which.
        number: u64,
        /// The role.
        role: Role,
        /// How many.
        count: usize,
    },
    /// More than anybody needs.
    #[error("too many keys or key sets")]
    TooMany,
}

/// Why a key does not count at a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lapse {
    /// No key set lists it.
    #[error("no key set lists it")]
    Unknown,
    /// It is a key for something else.
    #[error("it is a {0} key")]
    OtherRole(Role),
    /// It was introduced later.
    #[error("it counts only after leaf {0}")]
    NotYet(u64),
    /// It was replaced, and its time has run out.
    #[error("it was replaced, and counted until {0}")]
    Expired(Timestamp),
    /// A key set had ended it.
    #[error("it was ended at leaf {0}")]
    Ended(u64),
    /// A key set has revoked it.
    #[error("it was revoked, and does not count from leaf {0} on")]
    Revoked(u64),
}

/// A key, and where it counts.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    /// As the last document says that mentions it.
    key: Key,
    /// The leaf of the document that introduced it; none for those of number 1, which count from
    /// the beginning of the log.
    introduced: Option<u64>,
    /// The leaf of the document that ended or revoked it first.
    ended: Option<u64>,
}

/// A key set in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its number.
    pub number: u64,
    /// Its place in the log.
    pub leaf: u64,
    /// Hash of its payload.
    pub hash: Hash,
    /// When it was made.
    pub issued_at: Timestamp,
    /// Who signed it.
    pub issued_by: Did,
}

/// The key sets of a log so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    sets: Vec<Placed>,
    keys: Vec<Known>,
}

impl History {
    /// Takes the next key set, which stands at `leaf` of the log. Nothing is taken of one that may
    /// not follow. Whether number 1 is believed is the trust root's question: see
    /// [`History::sets`] for who signed it.
    ///
    /// # Errors
    /// See [`KeySetError`].
    pub fn extend(&mut self, signed: &SignedKeySet, leaf: u64) -> Result<(), KeySetError> {
        let verified = signed.verify()?;
        let set = &verified.set;
        self.check_place(set, leaf)?;
        self.check_signers(set, verified.cosigner.as_ref())?;
        let mut keys = self.keys.clone();
        take_keys(&mut keys, set, leaf, self.sets.is_empty())?;
        self.keys = keys;
        self.sets.push(Placed {
            number: set.number,
            leaf,
            hash: verified.hash,
            issued_at: set.issued_at,
            issued_by: set.issued_by.clone(),
        });
        Ok(())
    }

    fn check_place(&self, set: &KeySet, leaf: u64) -> Result<(), KeySetError> {
        let last = self.sets.last();
        if self.sets.len() >= MAX_KEY_SETS {
            return Err(KeySetError::TooMany);
        }
        let expected = last.map_or(1, |last| last.number + 1);
        if set.number != expected {
            let found = set.number;
            return Err(KeySetError::Number { expected, found });
        }
        if set.previous_hash_b64u != last.map(|last| last.hash) {
            return Err(KeySetError::Forked(set.number));
        }
        match last {
            Some(last) if leaf <= last.leaf || set.issued_at < last.issued_at => {
                Err(KeySetError::NotLater(set.number))
            }
            _ => Ok(()),
        }
    }

    /// Number 1 is signed by the key that it lists, every other one by the key that the one before
    /// lists; and where that key changes, by the new one besides.
    fn check_signers(&self, set: &KeySet, cosigner: Option<&Did>) -> Result<(), KeySetError> {
        let number = set.number;
        let listed = set.keys.iter();
        let mut listed = listed.filter(|key| key.role == Role::Keyset && key.is_current());
        let next = match (listed.next(), listed.next()) {
            (Some(key), None) => &key.did,
            (first, second) => {
                let (role, count) = (Role::Keyset, first.iter().chain(&second).count());
                return Err(KeySetError::Role {
                    number,
                    role,
                    count,
                });
            }
        };
        let issuer = self.current(Role::Keyset).unwrap_or(next);
        if set.issued_by != *issuer {
            let signer = set.issued_by.clone();
            return Err(KeySetError::NotTheIssuer { number, signer });
        }
        if cosigner != Some(next).filter(|next| *next != issuer) {
            return Err(KeySetError::Cosigned(number));
        }
        Ok(())
    }

    /// The documents so far, in order.
    pub fn sets(&self) -> &[Placed] {
        &self.sets
    }

    /// Every key that was ever listed, as the last document says that mentions it.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().map(|known| &known.key)
    }

    /// The key that a role is fulfilled with now.
    pub fn current(&self, role: Role) -> Option<&Did> {
        let current = |key: &&Key| key.role == role && key.is_current();
        self.keys().find(current).map(|key| &key.did)
    }

    /// The keys of a role whose signatures count for what is written next, at this time: the
    /// current one first.
    pub fn counting(&self, role: Role, at: Timestamp) -> Vec<&Did> {
        let counts = |key: &&Key| {
            key.role == role && key.counts_on() && key.not_after.is_none_or(|end| at <= end)
        };
        let mut counting: Vec<&Key> = self.keys().filter(counts).collect();
        counting.sort_by_key(|key| !key.is_current());
        counting.into_iter().map(|key| &key.did).collect()
    }

    /// Whether a signature counts that was made at this time by a key in a role, and took effect at
    /// this place. A key counts after the leaf that introduced it (those of number 1 from the beginning),
    /// until the leaf that ended or revoked it, and from the leaf on that its revocation names not
    /// at all; and to the end of its time.
    ///
    /// # Errors
    /// Why it does not.
    pub fn judge(
        &self,
        did: &Did,
        role: Role,
        place: LogPlace,
        at: Timestamp,
    ) -> Result<(), Lapse> {
        self.place(did, role, place)?;
        let known = self.known(did).ok_or(Lapse::Unknown)?;
        match known.key.not_after {
            Some(end) if at > end => Err(Lapse::Expired(end)),
            _ => Ok(()),
        }
    }

    /// The same without a time, which not everything that is signed has.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn place(&self, did: &Did, role: Role, place: LogPlace) -> Result<(), Lapse> {
        let known = self.known(did).ok_or(Lapse::Unknown)?;
        if known.key.role != role {
            return Err(Lapse::OtherRole(known.key.role));
        }
        if let Some(introduced) = known.introduced.filter(|leaf| !place.is_after(*leaf)) {
            return Err(Lapse::NotYet(introduced));
        }
        if let Some(revoked) = &known.key.revoked
            && let Some(from) = revoked.from_leaf
            && place.reaches(from)
        {
            return Err(Lapse::Revoked(from));
        }
        match known.ended.filter(|leaf| place.is_after(*leaf)) {
            Some(leaf) if known.key.revoked.is_some() => Err(Lapse::Revoked(leaf)),
            Some(leaf) => Err(Lapse::Ended(leaf)),
            None => Ok(()),
        }
    }

    /// Whether a key of the log had been revoked when the log had this size. Then its signature on a
    /// checkpoint of that size counts for nothing.
    pub fn was_revoked_over(&self, did: &Did, size: u64) -> bool {
        let place = self.place(did, Role::Checkpoint, LogPlace::Over(size));
        matches!(place, Err(Lapse::Revoked(_)))
    }

    /// When a key was revoked, if it was.
    pub fn revoked_at(&self, did: &Did) -> Option<Timestamp> {
        let revoked = self.known(did)?.key.revoked.as_ref()?;
        Some(revoked.at)
    }

    /// When a key stopped to count, by the clock: when it was revoked, or its time ran out. `None`
    /// for one that counts on, and for one that is known to have been stolen before it was revoked.
    pub fn stopped_at(&self, did: &Did) -> Option<Timestamp> {
        let key = &self.known(did)?.key;
        match &key.revoked {
            Some(revoked) => Some(revoked.at).filter(|_| revoked.from_leaf.is_none()),
            None => key.not_after,
        }
    }

    fn known(&self, did: &Did) -> Option<&Known> {
        self.keys.iter().find(|known| known.key.did == *did)
    }
}

/// Takes over what a document says about keys.
fn take_keys(
    keys: &mut Vec<Known>,
    set: &KeySet,
    leaf: u64,
    is_first: bool,
) -> Result<(), KeySetError> {
    let number = set.number;
    if set.keys.len() > MAX_KEYS || keys.len() + set.keys.len() > MAX_KNOWN {
        return Err(KeySetError::TooMany);
    }
    for (n, key) in set.keys.iter().enumerate() {
        let wrong = |why| {
            let key = key.did.clone();
            Err(KeySetError::Key { number, key, why })
        };
        if set.keys[..n].iter().any(|other| other.did == key.did) {
            return wrong("it is listed twice");
        }
        if let Err(why) = check_times(key, set, leaf) {
            return wrong(why);
        }
        match keys.iter_mut().find(|known| known.key.did == key.did) {
            Some(known) => {
                if let Err(why) = may_become(&known.key, key) {
                    return wrong(why);
                }
                if !key.counts_on() {
                    known.ended.get_or_insert(leaf);
                }
                known.key = key.clone();
            }
            None if key.is_current() => keys.push(Known {
                key: key.clone(),
                introduced: (!is_first).then_some(leaf),
                ended: None,
            }),
            None => return wrong("it is new, and ended already"),
        }
    }
    let listed = |known: &Known| set.keys.iter().any(|key| key.did == known.key.did);
    if let Some(dropped) = keys.iter().find(|k| k.key.counts_on() && !listed(k)) {
        let key = dropped.key.did.clone();
        return Err(KeySetError::Dropped { number, key });
    }
    for role in ROLES {
        let of_role = |known: &&Known| known.key.role == role;
        let current = |known: &&Known| known.key.is_current();
        let count = keys.iter().filter(of_role).filter(current).count();
        if count != 1 {
            return Err(KeySetError::Role {
                number,
                role,
                count,
            });
        }
    }
    // There is one root at a time: the old one ends where the new one begins.
    let roots = keys.iter().filter(|known| known.key.role == Role::Keyset);
    let count = roots.filter(|known| known.key.counts_on()).count();
    match count {
        1 => Ok(()),
        _ => Err(KeySetError::Role {
            number,
            role: Role::Keyset,
            count,
        }),
    }
}

/// What a document says about a key by itself.
fn check_times(key: &Key, set: &KeySet, leaf: u64) -> Result<(), &'static str> {
    let now = set.issued_at;
    if key.not_before > now {
        return Err("it begins after the key set");
    }
    if key.ended_at.is_some_and(|at| at != now) {
        return Err("it ended at another time than the key set ends it");
    }
    match &key.revoked {
        None => Ok(()),
        Some(revoked) if revoked.at != now => {
            Err("it was revoked at another time than the key set revokes it")
        }
        Some(revoked) if revoked.from_leaf.is_some_and(|from| from > leaf) => {
            Err("it is revoked from a later place than the key set's on")
        }
        Some(revoked) if revoked.reason.len() > MAX_REASON_BYTES => {
            Err("the reason of its revocation is too long")
        }
        Some(_) => Ok(()),
    }
}

/// Whether a key of which the one was said before can become the other.
fn may_become(before: &Key, after: &Key) -> Result<(), &'static str> {
    if before.role != after.role {
        return Err("it had another role before");
    }
    if before.not_before != after.not_before {
        return Err("it began at another time before");
    }
    if before.revoked.is_some() {
        return Err("it was revoked before");
    }
    if !before.counts_on() && after.revoked.is_none() {
        return Err("it was ended before");
    }
    match (before.not_after, after.not_after) {
        (Some(_), None) => Err("it was replaced before"),
        (Some(before), Some(after)) if after > before => Err("its end is put off"),
        _ => Ok(()),
    }
}
