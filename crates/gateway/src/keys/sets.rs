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

use proof::keyset::{CannotChange, History, KeySet, KeySetError, SignedKeySet};
use proof::trust::Role;
use proof::{Did, SigningKey, Timestamp};
use store::{Conflict, Store};

use super::file::{read_key, write_key, write_private};
use super::random::random_key;
use super::{KeyRing, Keys, KeysError, Replaced};

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
    let mut history = self::history(store).await?;
    if history.sets().is_empty() {
        let entry = first(&keys, folder, now)?;
        match store.append_key_set(1, entry, now).await {
            Ok(leaf) => tracing::info!(leaf, "the log has its first key set"),
            // Another gateway was faster.
            Err(error) if matches!(error.conflict(), Some(Conflict::KeySetNumber(_))) => {}
            Err(error) => return Err(error.into()),
        }
        history = self::history(store).await?;
    }
    discard(&folder.join(FIRST))?;
    match keys.under(history, folder, now) {
        (keys, None) => Ok(keys.into()),
        (_, Some(error)) => Err(error),
    }
}

/// The key sets of a log.
///
/// # Errors
/// When the store does not answer, or they do not follow each other.
pub async fn history(store: &dyn Store) -> Result<History, KeysError> {
    let mut history = History::default();
    for set in store.key_sets().await? {
        history.extend(&set.entry, set.leaf_index)?;
    }
    Ok(history)
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
    /// A role whose key is another one than these key sets name, with the key that is here.
    pub fn differing(&self, history: &History) -> Option<(Role, Did)> {
        let here = HELD.into_iter().map(|role| (role, self.did(role)));
        here.into_iter()
            .find(|(role, did)| history.current(*role) != Some(did))
    }

    /// The keys that these key sets name, from what is in memory and in the folder. A key that was
    /// made for its role and waits takes its place; what is not needed any more is taken away.
    ///
    /// A key that is not there leaves the one before in its place, which then signs as long as that
    /// counts. What is wrong is told besides: [`KeysError::Other`], or why a file cannot be used.
    pub(super) fn under(
        mut self,
        history: History,
        folder: &Path,
        now: Timestamp,
    ) -> (Self, Option<KeysError>) {
        let mut wrong = None;
        self.lacking = Vec::new();
        for role in HELD {
            let wanted = history.current(role).expect("each key set has one");
            if *wanted == self.did(role) {
                continue;
            }
            if let Err(error) = self.take_place(role, wanted, &history, folder) {
                wrong.get_or_insert(error);
                self.lack(role, wanted, &history);
            }
        }
        let kept = self.keep_replaced(&history, folder, now);
        self.history = history;
        (self, wrong.or(kept.err()))
    }

    /// Another key has the place of this role's, and is not here.
    fn lack(&mut self, role: Role, by: &Did, history: &History) {
        let found = self.did(role);
        let known = history.keys().find(|key| key.did == found);
        let replaced = Replaced {
            role,
            by: by.clone(),
            until: known
                .filter(|key| key.counts_on())
                .and_then(|key| key.not_after),
            found,
        };
        let signer = match role {
            Role::Receipt => Some(&mut self.receipt),
            Role::Token => Some(&mut self.token),
            Role::Checkpoint => Some(&mut self.checkpoint),
            Role::Close => Some(&mut self.close),
            Role::Jobs | Role::Keyset => None,
        };
        if let Some(signer) = signer {
            *signer = Arc::new(signer.replaced(replaced.clone()));
        }
        self.lacking.push(replaced);
    }

    /// Keys that were replaced and are needed on, and the files of those that are not.
    fn keep_replaced(
        &mut self,
        history: &History,
        folder: &Path,
        now: Timestamp,
    ) -> Result<(), KeysError> {
        self.beside = Vec::new();
        for did in history.counting(Role::Checkpoint, now) {
            let mut key = read_if_there(&old_place(folder, Role::Checkpoint, did))?;
            if key.is_none() && *did != self.checkpoint.did() {
                // It was replaced by one that is elsewhere.
                let here = read_if_there(&place(folder, Role::Checkpoint))?;
                key = here.filter(|key| key.did() == *did);
            }
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
        Ok(())
    }

    /// Puts the key that a role needs in the place of the one before, in memory and in the folder.
    fn take_place(
        &mut self,
        role: Role,
        wanted: &Did,
        history: &History,
        folder: &Path,
    ) -> Result<(), KeysError> {
        let is_wanted = |key: &SigningKey| key.did() == *wanted;
        let (here, next) = (place(folder, role), next_place(folder, role));
        let other = || KeysError::other(role, &self.did(role), history);
        // Where several gateways share the folder, another one may put it there at any moment.
        let there = || Ok::<_, KeysError>(read_if_there(&here)?.filter(is_wanted));
        let key = match there()? {
            Some(key) => key,
            None => {
                let waits = read_if_there(&next)?.filter(is_wanted);
                let key = waits.map_or_else(there, |key| Ok(Some(key)))?;
                let key = key.ok_or_else(other)?;
                if matches!(role, Role::Checkpoint | Role::Jobs) {
                    let old = old_place(folder, role, &self.did(role));
                    match fs::hard_link(&here, &old) {
                        Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                            return Err(KeysError::Io { path: old, source });
                        }
                        _ => {}
                    }
                }
                match fs::rename(&next, &here) {
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        return Err(KeysError::Io { path: here, source });
                    }
                    _ => key,
                }
            }
        };
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

impl From<CannotChange> for KeysError {
    fn from(error: CannotChange) -> Self {
        Self::CannotChange(error)
    }
}

impl From<KeySetError> for KeysError {
    fn from(error: KeySetError) -> Self {
        Self::KeySets(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundles::{self, Sealing};
    use crate::operator::testing::{Fixture, now};

    fn sealing<'a>(fixture: &'a Fixture, keys: &'a KeyRing) -> Sealing<'a> {
        Sealing {
            store: &*fixture.store,
            keys,
            config: &fixture.config,
            witnesses: None,
            stamper: None,
        }
    }

    async fn open_again(fixture: &Fixture) -> Result<KeyRing, KeysError> {
        let folder = fixture.config.keys_dir();
        let keys = Keys::load(&folder)?;
        open(keys, &*fixture.store, &folder, now()).await
    }

    #[tokio::test]
    async fn an_installation_from_before_gets_its_first_key_set() {
        let fixture = Fixture::new();
        let folder = fixture.config.keys_dir();
        // As the version before left it: keys without a root, and an open job.
        discard(&place(&folder, Role::Keyset)).unwrap();
        let contract = fixture.published().await;
        let job = fixture.job(contract).await;
        let size = fixture.store.log_size().await.unwrap();
        let ring = open_again(&fixture).await.unwrap();
        let first = ring.now().history.sets()[0].clone();
        assert_eq!((first.number, first.leaf), (1, size));
        let root = read_key(&place(&folder, Role::Keyset)).unwrap();
        assert_eq!(first.issued_by, root.did());
        // Once, wherever the root's key is taken then.
        discard(&place(&folder, Role::Keyset)).unwrap();
        let again = open_again(&fixture).await.unwrap();
        assert_eq!(again.now().history, ring.now().history);
        assert!(!place(&folder, Role::Keyset).exists());

        // The job that was open is as good as any.
        let seal = sealing(&fixture, &ring);
        let closing = fixture.store.close_job(&job, "olga", "done", now());
        closing.await.unwrap();
        let row = bundles::seal(seal, &job, now).await.unwrap();
        let bundle = bundles::read(&fixture.config, &row).await.unwrap();
        let trust = bundles::trust_root(&fixture.config, &ring.now(), &[]);
        let trust = serde_json::to_vec(&trust).unwrap();
        let report = clawverify::verify(&bundle, &trust, &Default::default());
        assert_eq!(report.verdict, clawverify::Verdict::Valid, "{report:#?}");
    }

    #[tokio::test]
    async fn the_first_key_set_waits_for_the_log_without_its_signer() {
        let fixture = Fixture::new();
        let folder = fixture.config.keys_dir();
        let made = fixture.keys.now();
        write_first(&made, &folder, now()).unwrap();
        let root = read_key(&place(&folder, Role::Keyset)).unwrap();
        discard(&place(&folder, Role::Keyset)).unwrap();
        let ring = open_again(&fixture).await.unwrap();
        assert_eq!(ring.now().history.sets()[0].issued_by, root.did());
        assert!(!folder.join(FIRST).exists());
        // Other keys than it names are not taken up under it.
        let other = Fixture::new();
        let entry = sign_first(&made, &root, now());
        fs::write(other.config.keys_dir().join(FIRST), entry.to_jcs()).unwrap();
        let refused = open_again(&other).await;
        let role = Role::Receipt;
        assert!(
            matches!(refused, Err(KeysError::Other { role: r, .. }) if r == role),
            "{refused:?}"
        );
        assert_eq!(other.store.log_size().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_crash_between_the_log_and_the_files_is_made_good() {
        let fixture = Fixture::new();
        let folder = fixture.config.keys_dir();
        let ring = open_again(&fixture).await.unwrap();
        let root = read_key(&place(&folder, Role::Keyset)).unwrap();
        let mut history = ring.now().history.clone();
        for role in HELD {
            let before = ring.now().did(role);
            let new = prepare(&ring.now(), &folder, role).unwrap();
            assert_eq!(
                prepare(&ring.now(), &folder, role).unwrap(),
                new,
                "one waits"
            );
            let set = history.rotate(role, &new, now(), now().plus_seconds(60));
            let set = set.unwrap();
            let entry = SignedKeySet::sign(&set, &root, None).unwrap();
            let leaf = fixture
                .store
                .append_key_set(set.number, entry.clone(), now());
            history.extend(&entry, leaf.await.unwrap()).unwrap();
            // The log has it, and the process ended here.
            let again = open_again(&fixture).await.unwrap();
            assert_eq!(again.now().did(role), new);
            assert_eq!(read_key(&place(&folder, role)).unwrap().did(), new);
            let kept = matches!(role, Role::Checkpoint | Role::Jobs);
            assert_eq!(old_place(&folder, role, &before).exists(), kept, "{role}");
        }
        // A role whose key is not there is not served by another one.
        fs::remove_file(place(&folder, Role::Token)).unwrap();
        write_key(&place(&folder, Role::Token), &random_key()).unwrap();
        let refused = open_again(&fixture).await;
        assert!(
            matches!(
                refused,
                Err(KeysError::Other {
                    role: Role::Token,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}
