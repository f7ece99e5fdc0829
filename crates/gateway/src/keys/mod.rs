//! The gateway's own keys, one for each role, and how each signs.
//!
//! A role's key is a file of the keys folder, made by `clawgate init`, unless the configuration
//! says that it is elsewhere. Whoever signs asks [`Signer`], and need not know where the key is.

mod aws_kms;
pub mod change;
mod file;
mod follow;
mod https;
mod pkcs11;
mod places;
mod random;
mod remote;
mod ring;
mod sealed;
mod sets;
mod signer;
mod sigv4;
mod vault;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proof::checkpoint::Checkpoint;
use proof::keyset::{CannotChange, History, KeySetError};
use proof::record::JobId;
use proof::trust::Role;
use proof::{Did, PublicKey, SigningKey, Timestamp};
use store::StoreError;

use crate::secret::SecretError;

pub use file::{make_private_folder, read_key, write_key, write_private};
pub use follow::follow;
pub use places::asks_for_passphrase;
pub use random::{random_bytes, random_key, random_text, random_uuid, timed_uuid};
pub use ring::KeyRing;
pub use sealed::{IDENTITY, ROOT, create_sealed, seal_all};
pub use sets::{KEYS_NOT_BEFORE, history, open, prepare, write_first};
pub use signer::{Replaced, SignError, Signer};

/// The keys, each used for its own role only.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Signs receipts.
    pub receipt: Arc<Signer>,
    /// Signs scoped tokens.
    pub token: Arc<Signer>,
    /// Signs checkpoints of the log.
    pub checkpoint: Arc<Signer>,
    /// Signs the end of jobs, on a thread of its own.
    pub close: Arc<Signer>,
    /// Job keys are derived from the first, so that none needs to be stored; those of jobs that
    /// were opened before it was replaced from the others.
    jobs: Vec<Arc<SigningKey>>,
    /// Keys of the log that were replaced, and sign checkpoints beside the new one until then.
    beside: Vec<(Arc<Signer>, Timestamp)>,
    /// Keys whose places others have taken that are not here.
    lacking: Vec<Replaced>,
    /// Which keys count where, as the log says.
    pub history: History,
}

/// Why the keys are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read or written.
    #[error("cannot use the key file `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Other users may read it.
    #[error("the key file `{0}` is readable by others: chmod 600 it, and consider a new key")]
    Exposed(PathBuf),
    /// Not a key.
    #[error("`{0}` does not hold a private key")]
    NotAKey(PathBuf),
    /// Not a key set.
    #[error("`{0}` does not hold the first key set: take it away, if the root's key is there")]
    NotAKeySet(PathBuf),
    /// A role has another key than the key sets name.
    #[error(
        "the {role} key is {found}, and the key sets name {wanted}: put that key back, bring it \
         from the gateway where it was changed, or have a key set name this one (clawgate keys adopt)"
    )]
    Other {
        /// The role.
        role: Role,
        /// The key that is there.
        found: Did,
        /// The key that should be.
        wanted: Did,
    },
    /// A file of identities that does not open.
    #[error(
        "the passphrase of `{path}`: {reason}; give it by --key-passphrase-file, keys.passphrase, \
         systemd's credential `clawgate-key-passphrase`, or at the terminal"
    )]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The passphrase is not where it should be.
    #[error("the passphrase of `{path}` is not to be had")]
    Secret {
        /// The file of identities.
        path: PathBuf,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// A file without an age identity.
    #[error("`{0}` holds no age identity: a line that begins with AGE-SECRET-KEY-1")]
    NoIdentity(PathBuf),
    /// Sealed to somebody else.
    #[error("`{0}` is not sealed to the identity of this gateway (keys.identity_file)")]
    OtherIdentity(PathBuf),
    /// A key elsewhere cannot be used.
    #[error("the key of the role `{role}` cannot be used: {reason}")]
    Unusable {
        /// The role.
        role: &'static str,
        /// Why, and what to do about it.
        reason: String,
    },
    /// The configuration does not say which key it is.
    #[error(
        "keys.{role}.did is missing: {name} is {found}; when that is the one that you made, write \
         it there"
    )]
    Unnamed {
        /// The role.
        role: &'static str,
        /// Where the key is.
        name: String,
        /// The key that is there.
        found: Did,
    },
    /// Another key than the one that the configuration names.
    #[error(
        "{name} is {found}, and keys.{role}.did is {wanted}: the key was replaced there, or the \
         configuration names another one; find out which before you change either"
    )]
    Replaced {
        /// The role.
        role: &'static str,
        /// Where the key is.
        name: String,
        /// The key that is there.
        found: Did,
        /// The key that should be.
        wanted: Did,
    },
    /// One key for two roles.
    #[error("the roles `{0}` and `{1}` have one key: give each its own")]
    Shared(&'static str, &'static str),
    /// A new key of this role is not the gateway's to make.
    #[error("the {0} key is no file of the gateway's, so it makes no new one")]
    Elsewhere(Role),
    /// The key sets of the log do not follow each other.
    #[error("the log's key sets are not in order")]
    KeySets(#[source] Box<KeySetError>),
    /// No key set can name it.
    #[error(transparent)]
    CannotChange(CannotChange),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeysError {
    fn other(role: Role, found: &Did, history: &History) -> Self {
        Self::Other {
            role,
            found: found.clone(),
            wanted: history.current(role).unwrap_or(found).clone(),
        }
    }
}

const FILES: [&str; 5] = ["receipt", "token", "checkpoint", "close", "jobs"];

impl Keys {
    /// Makes new keys in `folder`. A key that exists already is left alone and used.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn create(folder: &Path) -> Result<Self, KeysError> {
        make_private_folder(folder)?;
        // The root may be kept elsewhere later: only a new set-up gets one here.
        let new = !FILES
            .iter()
            .any(|name| folder.join(format!("{name}.key")).exists());
        for name in FILES.into_iter().chain(new.then_some("keyset")) {
            let path = folder.join(format!("{name}.key"));
            if !path.exists() {
                write_key(&path, &random_key())?;
            }
        }
        Self::load(folder)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn load(folder: &Path) -> Result<Self, KeysError> {
        let read = |name: &str| read_key(&folder.join(format!("{name}.key")));
        let signer = |name| read(name).map(Signer::from);
        let signers = [
            signer("receipt")?,
            signer("token")?,
            signer("checkpoint")?,
            signer("close")?,
        ];
        Ok(Self::of(signers, read("jobs")?))
    }

    /// The keys for receipts, tokens, checkpoints and closing, and the one of jobs.
    fn of([receipt, token, checkpoint, close]: [Signer; 4], jobs: SigningKey) -> Self {
        Self {
            receipt: Arc::new(receipt),
            token: Arc::new(token),
            checkpoint: Arc::new(checkpoint),
            close: Arc::new(close),
            jobs: vec![Arc::new(jobs)],
            beside: Vec::new(),
            lacking: Vec::new(),
            history: History::default(),
        }
    }

    /// The key of one job: the agent's identity in tokens and in the bundle.
    pub fn job(&self, job: &JobId) -> SigningKey {
        self.jobs[0].derive(job.as_str())
    }

    /// The key of a job that was opened before, of which this is the name; `None` when the key that
    /// it was derived from is not there any more.
    pub fn job_of(&self, job: &JobId, agent: &Did) -> Option<SigningKey> {
        let keys = self.jobs.iter().map(|jobs| jobs.derive(job.as_str()));
        keys.into_iter().find(|key| key.did() == *agent)
    }

    /// The name of the key in use for a role; of the root none is held.
    fn did(&self, role: Role) -> Did {
        match role {
            Role::Receipt => self.receipt.did(),
            Role::Token => self.token.did(),
            Role::Checkpoint => self.checkpoint.did(),
            Role::Close => self.close.did(),
            Role::Jobs | Role::Keyset => self.jobs[0].did(),
        }
    }

    /// Whether the keys here are those that the key sets name, or count for a while on.
    ///
    /// # Errors
    /// The first whose signatures do not count any more.
    pub fn check(&self, at: Timestamp) -> Result<(), Replaced> {
        let mut lacking = self.lacking.iter();
        lacking.try_for_each(|replaced| replaced.check(at))
    }

    /// The keys whose tokens are taken at this time, the one in use first.
    pub fn token_keys(&self, now: Timestamp) -> Vec<PublicKey> {
        let counting = self.history.counting(Role::Token, now);
        match counting.is_empty() {
            true => vec![self.token.public()],
            false => counting.into_iter().map(Did::key).collect(),
        }
    }

    /// Whether the key that signed a token was revoked, or may have been: of a token from before key
    /// sets nobody knows which one did.
    pub fn has_revoked_signer(&self, signed_by: Option<&Did>) -> bool {
        let mut revoked = self.revoked_token_keys();
        revoked.any(|key| signed_by.is_none_or(|by| by == key))
    }

    /// The keys whose tokens are not taken any more, however long they live.
    pub fn revoked_token_keys(&self) -> impl Iterator<Item = &Did> {
        let keys = self.history.keys();
        let revoked = keys.filter(|key| key.role == Role::Token && key.revoked.is_some());
        revoked.map(|key| &key.did)
    }

    /// Every key that has signed checkpoints of the log, the one in use first.
    pub fn checkpoint_keys(&self) -> Vec<PublicKey> {
        let own = self.checkpoint.public();
        let known = self.history.keys();
        let others = known.filter(|key| key.role == Role::Checkpoint && key.did.key() != own);
        std::iter::once(own)
            .chain(others.map(|key| key.did.key()))
            .collect()
    }

    /// Whether a checkpoint of this log was signed by keys that were revoked, and by no other that
    /// is known here. Whoever gets the trust root now does not believe it.
    pub fn disown(&self, note: &str, origin: &str) -> bool {
        let size = Checkpoint::claimed_size(note).unwrap_or(0);
        let was_revoked = |key: &PublicKey| self.history.was_revoked_over(&key.did(), size);
        let (revoked, others): (Vec<_>, Vec<_>) =
            self.checkpoint_keys().into_iter().partition(was_revoked);
        let signed = |keys: &[_]| Checkpoint::verify_any(note, origin, keys).is_ok();
        !signed(&others) && signed(&revoked)
    }

    /// Signs a checkpoint by the key of the log; while one is being replaced, by both.
    ///
    /// # Errors
    /// See [`SignError`].
    pub async fn sign_checkpoint(
        &self,
        checkpoint: &Checkpoint,
        now: Timestamp,
    ) -> Result<String, SignError> {
        let mut note = self.checkpoint.checkpoint(checkpoint).await?;
        for (signer, _) in self.beside.iter().filter(|(_, end)| now <= *end) {
            let other = signer.checkpoint(checkpoint).await?;
            note = Checkpoint::joined(&note, &other).expect("two notes of one checkpoint");
        }
        Ok(note)
    }

    /// The public keys with their roles, for the trust root.
    pub fn roles(&self) -> [(Role, Did); 4] {
        [
            (Role::Receipt, self.receipt.did()),
            (Role::Token, self.token.did()),
            (Role::Checkpoint, self.checkpoint.did()),
            (Role::Close, self.close.did()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_stay_private() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::create(folder.path()).unwrap();
        assert_eq!(Keys::create(folder.path()).unwrap().roles(), keys.roles());
        let path = folder.path().join("receipt.key");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Keys::load(folder.path()),
            Err(KeysError::Exposed(_))
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "hello").unwrap();
        assert!(matches!(
            Keys::load(folder.path()),
            Err(KeysError::NotAKey(_))
        ));
    }
}
