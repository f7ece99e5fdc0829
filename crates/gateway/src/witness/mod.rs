//! A witness: remembers the last checkpoint that it saw of each log, and cosigns the next one when
//! the log proves that it goes on (<https://c2sp.org/tlog-witness>).
//!
//! Run by somebody else than the gateway, with a key and a folder of its own. What was cosigned is
//! durable before the answer goes out, so that no crash makes it forget what it vouched for. One
//! process has the folder: a second one could vouch for another past meanwhile.

mod request;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use http::StatusCode;
use proof::checkpoint::{Checkpoint, CheckpointError};
use proof::merkle::{empty_root, verify_consistency};
use proof::trust::{Log, TrustRoot};
use proof::{Did, Hash, SigningKey, Timestamp};
use tokio::sync::Mutex;

use crate::bundles::file;

pub use request::{AddCheckpoint, MAX_REQUEST_BYTES};

/// A witness of one or several logs.
pub struct Witness {
    name: String,
    key: SigningKey,
    logs: Vec<TrustRoot>,
    folder: PathBuf,
    /// One checkpoint is judged at a time: what was seen last must not change in between.
    one: Mutex<()>,
    /// Held as long as the witness lives.
    _lock: File,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The cosignature's line.
    Cosigned(String),
    /// The checkpoint does not continue from the size that was named; this is the last one seen.
    Conflict(u64),
    /// Nothing is cosigned.
    Refused(StatusCode, String),
}

/// Why a witness cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The folder cannot be used.
    #[error("cannot use the witness's folder `{0}`")]
    Folder(PathBuf, #[source] io::Error),
    /// Another process has it.
    #[error("another witness runs on the folder `{0}`; two could vouch for two pasts")]
    Taken(PathBuf),
    /// Two trust roots name one log.
    #[error("the log `{0}` is named twice")]
    Twice(String),
}

impl Witness {
    /// Takes the folder. `name` and `key` are the witness's, `logs` the trust roots of those that it
    /// knows. While a log's key is being replaced, its checkpoints are signed by both: a witness
    /// that knows one of them goes on, and learns the new one from the next trust root.
    ///
    /// # Errors
    /// See [`WitnessError`].
    pub fn open(
        name: &str,
        key: SigningKey,
        logs: Vec<TrustRoot>,
        folder: &Path,
    ) -> Result<Self, WitnessError> {
        for (n, TrustRoot { log, .. }) in logs.iter().enumerate() {
            if logs[..n].iter().any(|other| other.log.origin == log.origin) {
                return Err(WitnessError::Twice(log.origin.clone()));
            }
        }
        let unusable = |error| WitnessError::Folder(folder.to_owned(), error);
        fs::create_dir_all(folder).map_err(unusable)?;
        let lock = File::create(folder.join("lock")).map_err(unusable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => WitnessError::Taken(folder.to_owned()),
            TryLockError::Error(error) => unusable(error),
        })?;
        file::sweep(folder).map_err(unusable)?;
        Ok(Self {
            name: name.to_owned(),
            key,
            logs,
            folder: folder.to_owned(),
            one: Mutex::new(()),
            _lock: lock,
        })
    }

    /// Judges a checkpoint; when it continues what was seen, it is kept and then cosigned.
    pub async fn add(&self, body: &[u8], now: Timestamp) -> Answer {
        let refused = |status, why: &str| Answer::Refused(status, why.to_owned());
        let Some(request) = AddCheckpoint::read(body) else {
            return refused(StatusCode::BAD_REQUEST, "not a request to add a checkpoint");
        };
        let origin = request.note.split('\n').next().unwrap_or_default();
        let Some(root) = self.logs.iter().find(|root| root.log.origin == origin) else {
            return refused(StatusCode::NOT_FOUND, "the log is not known here");
        };
        let keys = root.checkpoint_keys_at(now);
        let new = match Checkpoint::verify_any(&request.note, origin, &keys) {
            Ok(new) => new,
            Err(CheckpointError::Malformed) => {
                return refused(StatusCode::BAD_REQUEST, "not a checkpoint");
            }
            Err(_) => return refused(StatusCode::FORBIDDEN, "not signed by the log's key"),
        };
        if request.old > new.size {
            return refused(StatusCode::BAD_REQUEST, "the old size is the larger one");
        }
        let _one = self.one.lock().await;
        let last = match self.last(root).await {
            Ok(last) => last,
            Err(why) => {
                tracing::error!(origin, why, "what was seen last cannot be read");
                return refused(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the state is not readable",
                );
            }
        };
        if request.old != last.size {
            return Answer::Conflict(last.size);
        }
        if !verify_consistency(last.size, &last.root, new.size, &new.root, &request.path) {
            if last.size == new.size && last.root != new.root {
                tracing::error!(
                    origin,
                    size = new.size,
                    "FORK: two roots for one size, both signed"
                );
                return Answer::Conflict(last.size);
            }
            tracing::error!(origin, from = last.size, to = new.size, "not consistent");
            return refused(StatusCode::UNPROCESSABLE_ENTITY, "the proof does not hold");
        }
        if last != new
            && let Err(error) = self.keep(&root.log, request.note.clone()).await
        {
            tracing::error!(origin, %error, "what was seen cannot be kept");
            return refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the state cannot be kept",
            );
        }
        let seconds = u64::try_from(now.millis() / 1000).unwrap_or(0);
        tracing::info!(origin, size = new.size, "cosigned");
        Answer::Cosigned(new.cosign(&self.name, &self.key, seconds))
    }

    /// The checkpoint of a log that was cosigned last; the empty log when none was.
    async fn last(&self, root: &TrustRoot) -> Result<Checkpoint, String> {
        let log = &root.log;
        match tokio::fs::read_to_string(self.place(log)).await {
            Ok(note) => {
                // Whatever became of its key since.
                let keys: Vec<_> = root.checkpoint_keys().map(Did::key).collect();
                Checkpoint::verify_any(&note, &log.origin, &keys).map_err(|error| error.to_string())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Checkpoint {
                origin: log.origin.clone(),
                size: 0,
                root: empty_root(),
            }),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn keep(&self, log: &Log, note: String) -> io::Result<()> {
        let place = std::path::absolute(self.place(log))?;
        let kept = tokio::task::spawn_blocking(move || file::write(&place, note.as_bytes(), 0o600));
        kept.await.expect("writing a file does not panic")
    }

    fn place(&self, log: &Log) -> PathBuf {
        let name = Hash::of(log.origin.as_bytes()).to_hex();
        self.folder.join(format!("{name}.checkpoint"))
    }
}

#[cfg(test)]
mod tests {
    use proof::checkpoint::cosigned_at;
    use proof::merkle::{consistency_path, leaf_hash, root};
    use proof::trust::{GatewayKey, Role};

    use super::*;

    const ORIGIN: &str = "gateway.example/log";
    const NAME: &str = "witness.example/w";

    struct Tree {
        key: SigningKey,
        leaves: Vec<Hash>,
    }

    impl Tree {
        fn new(first: &[u8]) -> Self {
            let mut leaves = vec![leaf_hash(first)];
            leaves.extend((0..40u8).map(|n| leaf_hash(&[n])));
            let key = SigningKey::from_seed(&[1; 32]);
            Self { key, leaves }
        }

        fn root(&self) -> TrustRoot {
            let key = self.key.did();
            let text = format!(
                r#"{{"trust_root":"clawgate.trust/1","gateway":[],"authors":[],"approvers":[],
                    "log":{{"origin":"{ORIGIN}","key":"{key}"}}}}"#
            );
            proof::json::from_slice(text.as_bytes()).unwrap()
        }

        fn request(&self, old: u64, size: u64) -> AddCheckpoint {
            let origin = ORIGIN.to_owned();
            let root = root(self.leaves.as_slice(), size).unwrap();
            AddCheckpoint {
                old,
                path: consistency_path(self.leaves.as_slice(), old, size).unwrap(),
                note: Checkpoint { origin, size, root }.sign(&self.key),
            }
        }
    }

    fn open(tree: &Tree, folder: &Path) -> Witness {
        let key = SigningKey::from_seed(&[9; 32]);
        Witness::open(NAME, key, vec![tree.root()], folder).unwrap()
    }

    async fn add(witness: &Witness, request: &AddCheckpoint) -> Answer {
        let now = Timestamp::from_seconds(1_795_300_000);
        witness.add(request.to_text().as_bytes(), now).await
    }

    async fn takes(witness: &Witness, request: &AddCheckpoint) {
        let Answer::Cosigned(line) = add(witness, request).await else {
            panic!("not cosigned");
        };
        let note = format!("{}{line}", request.note);
        let at = cosigned_at(&note, NAME, &witness.key.public());
        assert_eq!(at, Some(1_795_300_000));
    }

    #[tokio::test]
    async fn what_goes_on_is_cosigned_and_no_other_past_after_it() {
        let (tree, folder) = (Tree::new(b"a"), tempfile::tempdir().unwrap());
        let other = Tree::new(b"another past");
        let witness = open(&tree, folder.path());
        takes(&witness, &tree.request(0, 5)).await;
        takes(&witness, &tree.request(5, 5)).await;
        takes(&witness, &tree.request(5, 17)).await;
        let refused =
            |status| move |answer: &Answer| matches!(answer, Answer::Refused(s, _) if *s == status);
        let unprocessable = refused(StatusCode::UNPROCESSABLE_ENTITY);
        for _ in 0..2 {
            // The log rolled back, told another past, or forgot what the witness has seen.
            assert_eq!(
                add(&witness, &tree.request(5, 9)).await,
                Answer::Conflict(17)
            );
            assert_eq!(
                add(&witness, &other.request(0, 20)).await,
                Answer::Conflict(17)
            );
            assert_eq!(
                add(&witness, &other.request(17, 17)).await,
                Answer::Conflict(17)
            );
            assert!(unprocessable(&add(&witness, &other.request(17, 20)).await));
            let mut damaged = tree.request(17, 20);
            damaged.path[0] = leaf_hash(b"damaged");
            assert!(unprocessable(&add(&witness, &damaged).await));
            damaged.path.clear();
            assert!(unprocessable(&add(&witness, &damaged).await));
        }
        drop(witness);
        // It remembers across a restart.
        let witness = open(&tree, folder.path());
        assert_eq!(
            add(&witness, &other.request(0, 20)).await,
            Answer::Conflict(17)
        );
        takes(&witness, &tree.request(17, 41)).await;
    }

    #[tokio::test]
    async fn a_key_of_the_log_is_replaced_by_way_of_both() {
        let (tree, folder) = (Tree::new(b"a"), tempfile::tempdir().unwrap());
        let mut later = Tree::new(b"a");
        later.key = SigningKey::from_seed(&[3; 32]);
        let witness = open(&tree, folder.path());
        takes(&witness, &tree.request(0, 5)).await;
        // The new key alone means nothing here, both do.
        let forbidden = |answer: Answer| {
            let forbidden = matches!(answer, Answer::Refused(StatusCode::FORBIDDEN, _));
            assert!(forbidden, "{answer:?}");
        };
        forbidden(add(&witness, &later.request(5, 9)).await);
        let mut both = later.request(5, 9);
        both.note = Checkpoint::joined(&both.note, &tree.request(5, 9).note).unwrap();
        takes(&witness, &both).await;
        drop(witness);
        // The next trust root names the new one, and says when the old one ends.
        let mut root = later.root();
        root.gateway = vec![GatewayKey {
            did: tree.key.did(),
            role: Role::Checkpoint,
            not_before: Timestamp::from_seconds(0),
            not_after: Some(Timestamp::from_seconds(1_795_299_999)),
            revoked_at: None,
            revoked_from_leaf: None,
        }];
        let key = SigningKey::from_seed(&[9; 32]);
        let witness = Witness::open(NAME, key, vec![root], folder.path()).unwrap();
        forbidden(add(&witness, &tree.request(9, 12)).await);
        takes(&witness, &later.request(9, 12)).await;
    }

    #[tokio::test]
    async fn only_known_logs_by_their_own_keys_are_seen() {
        let (tree, folder) = (Tree::new(b"a"), tempfile::tempdir().unwrap());
        let witness = open(&tree, folder.path());
        let mut stranger = Tree::new(b"a");
        stranger.key = SigningKey::from_seed(&[2; 32]);
        let mut foreign = tree.request(0, 5);
        foreign.note = foreign.note.replace(ORIGIN, "other.example/log");
        let mut backwards = tree.request(0, 5);
        backwards.old = 6;
        let mut garbled = tree.request(0, 5);
        garbled.note = garbled.note.replacen("\n5\n", "\n05\n", 1);
        for (request, status) in [
            (stranger.request(0, 5), StatusCode::FORBIDDEN),
            (foreign, StatusCode::NOT_FOUND),
            (backwards, StatusCode::BAD_REQUEST),
            (garbled, StatusCode::BAD_REQUEST),
        ] {
            let answer = add(&witness, &request).await;
            assert!(
                matches!(answer, Answer::Refused(s, _) if s == status),
                "{answer:?}"
            );
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the lock");
    }

    #[tokio::test]
    async fn a_state_that_cannot_be_read_or_kept_vouches_for_nothing() {
        let (tree, folder) = (Tree::new(b"a"), tempfile::tempdir().unwrap());
        let witness = open(&tree, folder.path());
        takes(&witness, &tree.request(0, 5)).await;
        fs::write(witness.place(&tree.root().log), "half a no").unwrap();
        for request in [tree.request(0, 5), tree.request(5, 9)] {
            let answer = add(&witness, &request).await;
            let internal = StatusCode::INTERNAL_SERVER_ERROR;
            assert!(matches!(answer, Answer::Refused(s, _) if s == internal));
        }
        let key = SigningKey::from_seed(&[9; 32]);
        let second = Witness::open(NAME, key.clone(), vec![tree.root()], folder.path());
        assert!(matches!(second, Err(WitnessError::Taken(_))));
        let place = tempfile::tempdir().unwrap();
        let twice = Witness::open(NAME, key, vec![tree.root(), tree.root()], place.path());
        assert!(matches!(twice, Err(WitnessError::Twice(_))));
    }
}
