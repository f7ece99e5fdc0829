//! The gateway's own keys: one file for each role, mode 0600, made by `clawgate init`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proof::record::JobId;
use proof::trust::Role;
use proof::{Did, SigningKey, Timestamp};

/// The keys, each used for its own role only.
#[derive(Debug)]
pub struct Keys {
    /// Signs receipts.
    pub receipt: SigningKey,
    /// Signs scoped tokens.
    pub token: SigningKey,
    /// Signs checkpoints of the log.
    pub checkpoint: SigningKey,
    /// Signs the end of jobs.
    pub close: SigningKey,
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
        Ok(Self {
            receipt: read("receipt")?,
            token: read("token")?,
            checkpoint: read("checkpoint")?,
            close: read("close")?,
            jobs: read("jobs")?,
        })
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

/// A key from the system's randomness.
pub fn random_key() -> SigningKey {
    SigningKey::from_seed(&random_bytes())
}

/// Bytes from the system's randomness.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness; without it nothing is safe");
    bytes
}

/// A random text of 256 bits, for bearer credentials and capability addresses.
pub fn random_text() -> String {
    proof::hash::encode_b64u(&random_bytes::<32>())
}

/// A random UUID (version 4).
pub fn random_uuid() -> String {
    uuid(random_bytes(), 4)
}

/// A UUID that begins with its time (version 7, RFC 9562), for what is kept under it: new ones
/// stand together at the end of an index, and a commit writes one page of it in place of many.
pub fn timed_uuid(at: Timestamp) -> String {
    let mut bytes = random_bytes::<16>();
    let millis = at.millis().to_be_bytes();
    bytes[..6].copy_from_slice(&millis[2..]);
    uuid(bytes, 7)
}

fn uuid(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = (bytes[6] & 0x0f) | (version << 4);
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let number = u128::from_be_bytes(bytes);
    let part = |bits: u32, digits: u32| (number >> bits) & ((1 << (4 * digits)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )
}

/// Writes a private key to a new file of mode 0600.
///
/// # Errors
/// [`KeysError::Io`], also when the file exists.
pub fn write_key(path: &Path, key: &SigningKey) -> Result<(), KeysError> {
    write_private(path, key.to_secret_text().as_bytes())
}

/// Writes a new file that only its owner can read.
///
/// # Errors
/// [`KeysError::Io`], also when the file exists.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), KeysError> {
    let io = |source| KeysError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    file.write_all(content)
        .and_then(|()| file.write_all(b"\n"))
        .map_err(io)?;
    file.sync_all().map_err(io)
}

/// Makes a folder that only its owner can enter.
///
/// # Errors
/// [`KeysError::Io`].
pub fn make_private_folder(folder: &Path) -> Result<(), KeysError> {
    let io = |source| KeysError::Io {
        path: folder.to_owned(),
        source,
    };
    fs::create_dir_all(folder).map_err(io)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(io)
}

/// Reads a private key; a file that others may read is refused.
///
/// # Errors
/// See [`KeysError`].
pub fn read_key(path: &Path) -> Result<SigningKey, KeysError> {
    let io = |source| KeysError::Io {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed(path.to_owned()));
    }
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(io)?);
    SigningKey::from_secret_text(&text).map_err(|_| KeysError::NotAKey(path.to_owned()))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn uuids_are_version_four() {
        let uuid = random_uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        let dashes: Vec<usize> = uuid.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!(dashes, [8, 13, 18, 23]);
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"));
        assert_ne!(uuid, random_uuid());
    }

    #[test]
    fn timed_uuids_sort_by_their_time() {
        let at = |millis| timed_uuid(Timestamp::from_millis(millis));
        let (one, two) = (at(0x0123_4567_89ab), at(0x0123_4567_89ac));
        assert!(one.starts_with("01234567-89ab-7"), "{one}");
        assert!(one < two && at(0) < one);
        assert_ne!(one, at(0x0123_4567_89ab));
    }
}
