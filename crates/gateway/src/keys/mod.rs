//! The gateway's own keys, one for each role, and how each signs.
//!
//! A role's key is a file of the keys folder, made by `clawgate init`, unless the configuration
//! says that it is elsewhere. Whoever signs asks [`Signer`], and need not know where the key is.

mod aws_kms;
mod file;
mod https;
mod pkcs11;
mod places;
mod random;
mod remote;
mod sealed;
mod signer;
mod sigv4;
mod vault;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proof::record::JobId;
use proof::trust::Role;
use proof::{Did, SigningKey};

use crate::secret::SecretError;

pub use file::{make_private_folder, read_key, write_key, write_private};
pub use places::asks_for_passphrase;
pub use random::{random_bytes, random_key, random_text, random_uuid, timed_uuid};
pub use sealed::{IDENTITY, create_sealed, seal_all};
pub use signer::{SignError, Signer};

/// The keys, each used for its own role only.
#[derive(Debug)]
pub struct Keys {
    /// Signs receipts.
    pub receipt: Signer,
    /// Signs scoped tokens.
    pub token: Signer,
    /// Signs checkpoints of the log.
    pub checkpoint: Signer,
    /// Signs the end of jobs, on a thread of its own.
    pub close: Arc<Signer>,
    /// Job keys are derived from it, so that none needs to be stored.
    jobs: SigningKey,
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
}

const FILES: [&str; 5] = ["receipt", "token", "checkpoint", "close", "jobs"];

impl Keys {
    /// Makes new keys in `folder`. A key that exists already is left alone and used.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn create(folder: &Path) -> Result<Self, KeysError> {
        make_private_folder(folder)?;
        for name in FILES {
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
            receipt,
            token,
            checkpoint,
            close: Arc::new(close),
            jobs,
        }
    }

    /// The key of one job: the agent's identity in tokens and in the bundle.
    pub fn job(&self, job: &JobId) -> SigningKey {
        self.jobs.derive(job.as_str())
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
