//! Key sets and the files of the keys in them.
//!
//! A role's key in use is `ROLE.key`. The next one is made beside it as `ROLE.next.key`, and takes
//! its place when the log has the key set that says so: a crash in between is made good at the next
//! start, when the key set names the key that waits there. Replaced keys are gone with that, but for
//! those that are needed on: of checkpoints, which both sign for a while, and of jobs, which keep
//! theirs.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proof::keyset::{History, KeySet, KeySetError, SignedKeySet};
use proof::trust::Role;
use proof::{Did, SigningKey, Timestamp};
use store::{Conflict, Store};

use super::file::{read_key, write_key, write_private};
use super::random::random_key;
use super::{KeyRing, Keys, KeysError};

/// From when on the first keys count: before the first release, because they may be older than the
/// first key set.
pub const KEYS_NOT_BEFORE: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00.000Z

/// Number 1, until the log has it: its signer may be taken away before the gateway starts.
const FIRST: &str = "key-set-1.json";

/// The roles whose keys the gateway holds. The root is its operators'.
pub(super) const HELD: [Role; 5] = [
    Role::Receipt,
    Role::Token,
    Role::Checkpoint,
    Role::Close,
    Role::Jobs,
];

/// Where a role's key in use is.
fn place(folder: &Path, role: Role) -> PathBuf {
    folder.join(format!("{role}.key"))
}

/// Where the next one waits.
fn next_place(folder: &Path, role: Role) -> PathBuf {
    folder.join(format!("{role}.next.key"))
}

/// Where a replaced one is kept.
fn old_place(folder: &Path, role: Role, did: &Did) -> PathBuf {
    folder.join(format!("{role}.{}.key", did.key().kid()))
}

/// Reads a key file that may not be there.
fn read_if_there(path: &Path) -> Result<Option<SigningKey>, KeysError> {
    match path.try_exists() {
        Ok(false) => Ok(None),
        _ => read_key(path).map(Some),
    }
}

/// Writes number 1 for a new set-up, so that its root's key can be taken away before the first
/// start.
///
/// # Errors
/// See [`KeysError`].
pub fn write_first(keys: &Keys, folder: &Path, now: Timestamp) -> Result<(), KeysError> {
    if let Some(root) = read_if_there(&place(folder, Role::Keyset))? {
        let entry = sign_first(keys, &root, now);
        write_private(&folder.join(FIRST), &entry.to_jcs())?;
    }
    Ok(())
}

fn sign_first(keys: &Keys, root: &SigningKey, now: Timestamp) -> SignedKeySet {
    let [receipt, token, checkpoint, close, jobs] = HELD.map(|role| keys.did(role));
    let dids = [receipt, token, checkpoint, close, jobs, root.did()];
    let not_before = Timestamp::from_millis(KEYS_NOT_BEFORE);
    let set = KeySet::first(dids, not_before.min(now), now);
    SignedKeySet::sign(&set, root, None).expect("a key set holds texts and numbers")
}

/// Takes up the key sets of the log; a log that has none gets its first.
///
/// # Errors
/// See [`KeysError`].
pub async fn open(
    keys: Keys,
    store: &dyn Store,
    folder: &Path,
    now: Timestamp,
) -> Result<KeyRing, KeysError> {
    let mut sets = store.key_sets().await?;
    if sets.is_empty() {
        let entry = first(&keys, folder, now)?;
        match store.append_key_set(1, entry, now).await {
            Ok(leaf) => tracing::info!(leaf, "the log has its first key set"),
            // Another gateway was faster.
            Err(error) if matches!(error.conflict(), Some(Conflict::KeySetNumber(_))) => {}
            Err(error) => return Err(error.into()),
        }
        sets = store.key_sets().await?;
    }
    discard(&folder.join(FIRST))?;
    let mut history = History::default();
    for set in sets {
        history.extend(&set.entry, set.leaf_index)?;
    }
    Ok(keys.under(history, folder, now)?.into())
}

/// Number 1: the one that was made with the keys, or one by the root's key, which is made when
/// there is none.
fn first(keys: &Keys, folder: &Path, now: Timestamp) -> Result<SignedKeySet, KeysError> {
    let path = folder.join(FIRST);
    match fs::read(&path) {
        Ok(bytes) => {
            let entry = SignedKeySet::parse(&bytes).map_err(|_| KeysError::NotAKeySet(path))?;
            let mut history = History::default();
            history.extend(&entry, 0)?;
            match HELD
                .into_iter()
                .find(|role| history.current(*role) != Some(&keys.did(*role)))
            {
                None => Ok(entry),
                Some(role) => Err(KeysError::other(role, &keys.did(role), &history)),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let path = place(folder, Role::Keyset);
            let root = match read_if_there(&path)? {
                Some(root) => root,
                None => {
                    let root = random_key();
                    write_key(&path, &root)?;
                    tracing::info!(path = %path.display(), "made the root of the gateway's keys");
                    root
                }
            };
            Ok(sign_first(keys, &root, now))
        }
        Err(source) => Err(KeysError::Io { path, source }),
    }
}

fn discard(path: &Path) -> Result<(), KeysError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(KeysError::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Makes the next key of a role, or finds the one that waits.
///
/// # Errors
/// See [`KeysError`]; [`KeysError::Elsewhere`] for a role whose key is no file here.
pub fn prepare(keys: &Keys, folder: &Path, role: Role) -> Result<Did, KeysError> {
    let (here, next) = (place(folder, role), next_place(folder, role));
    let local = read_if_there(&here)?.is_some_and(|key| key.did() == keys.did(role));
    if !local {
        return Err(KeysError::Elsewhere(role));
    }
    if let Some(waiting) = read_if_there(&next)? {
        if keys.history.keys().all(|key| key.did != waiting.did()) {
            return Ok(waiting.did());
        }
        discard(&next)?;
    }
    let key = random_key();
    write_key(&next, &key)?;
    Ok(key.did())
}

/// The key that waits to take a role's place.
pub(super) fn waiting(folder: &Path, role: Role) -> Result<Option<Did>, KeysError> {
    let key = read_if_there(&next_place(folder, role))?;
    Ok(key.map(|key| key.did()))
}

impl Keys {
    /// The keys that these key sets name, from what is in memory and in the folder. A key that was
    /// made for its role and waits takes its place; what is not needed any more is taken away.
    ///
    /// # Errors
    /// [`KeysError::Other`] when the key that a role needs is not there.
    pub(super) fn under(
        mut self,
        history: History,
        folder: &Path,
        now: Timestamp,
    ) -> Result<Self, KeysError> {
        for role in HELD {
            let wanted = history.current(role).expect("each key set has one");
            if *wanted != self.did(role) {
                self.take_place(role, wanted, &history, folder)?;
            }
        }
        self.beside = Vec::new();
        for did in history.counting(Role::Checkpoint, now) {
            let key = read_if_there(&old_place(folder, Role::Checkpoint, did))?;
            let end = history.keys().find(|key| key.did == *did);
            if let (Some(key), Some(end)) = (key, end.and_then(|key| key.not_after)) {
                self.beside.push((Arc::new(key.into()), end));
            }
        }
        for key in history.keys().filter(|key| !key.is_current()) {
            let path = old_place(folder, key.role, &key.did);
            match key.role {
                Role::Jobs if self.jobs.iter().all(|known| known.did() != key.did) => {
                    self.jobs.extend(read_if_there(&path)?.map(Arc::new));
                }
                Role::Checkpoint if !key.counts_on() => discard(&path)?,
                _ => {}
            }
        }
        self.history = history;
        Ok(self)
    }

    fn take_place(
        &mut self,
        role: Role,
        wanted: &Did,
        history: &History,
        folder: &Path,
    ) -> Result<(), KeysError> {
        let next = next_place(folder, role);
        let key = read_if_there(&next)?.filter(|key| key.did() == *wanted);
        let key = key.ok_or_else(|| KeysError::other(role, &self.did(role), history))?;
        let here = place(folder, role);
        if matches!(role, Role::Checkpoint | Role::Jobs) {
            let old = old_place(folder, role, &self.did(role));
            match fs::hard_link(&here, &old) {
                Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                    return Err(KeysError::Io { path: old, source });
                }
                _ => {}
            }
        }
        fs::rename(&next, &here).map_err(|source| KeysError::Io { path: here, source })?;
        let signer = || Arc::new(key.clone().into());
        match role {
            Role::Receipt => self.receipt = signer(),
            Role::Token => self.token = signer(),
            Role::Checkpoint => self.checkpoint = signer(),
            Role::Close => self.close = signer(),
            Role::Jobs => self.jobs.insert(0, Arc::new(key)),
            Role::Keyset => {}
        }
        Ok(())
    }
}

impl From<KeySetError> for KeysError {
    fn from(error: KeySetError) -> Self {
        Self::KeySets(Box::new(error))
    }
}
