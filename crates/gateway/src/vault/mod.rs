//! The vault: content that evidence names by its digest, kept so that what was proposed can be
//! compared with what was applied.
//!
//! Each piece is an age file, sealed to the auditors' keys; the gateway has none of them and
//! cannot open what it sealed. Its name is the SHA-256 of the content, by which approvals and
//! bundles name it already. What is kept today are inspected uploads; any other stream can be
//! kept the same way, since [`Sealing`] learns the digest while the content goes by.
//!
//! Sealing is here, opening in [`opened`]: they share the name and nothing else.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use age::x25519::Recipient;
use proof::Hash;
use proof::hash::Hasher;
use tempfile::NamedTempFile;

use crate::config;

pub mod opened;

/// How often old files are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// What a crash left half written is removed at this age; nothing takes so long to seal.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// End of the name of a sealed file.
const SEALED: &str = "age";

/// End of the name of a file that is being written.
const PART: &str = "part";

/// Why content was not kept.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Not the public name of an age key.
    #[error("`{0}` is not an age recipient: `age-keygen` prints one, it begins with `age1`")]
    Recipient(String),
    /// The folder cannot be used.
    #[error("cannot use the vault's folder `{path}`")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is kept would take more than the operator wants.
    #[error("the vault is full: it may take {max_bytes} bytes")]
    Full {
        /// The bound.
        max_bytes: u64,
    },
    /// The content could not be sealed or written.
    #[error("cannot keep the content")]
    Write(#[source] io::Error),
}

/// Where content is kept. Writing blocks: not for threads that serve calls.
#[derive(Debug)]
pub struct Vault {
    recipients: Vec<Recipient>,
    folder: PathBuf,
    retention: Duration,
    max_bytes: u64,
    used: Mutex<Used>,
}

/// What the folder holds, in bytes.
#[derive(Debug)]
struct Used {
    sealed: u64,
    being_written: u64,
    /// When old files were looked for last.
    swept: SystemTime,
}

/// Content that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// SHA-256 of the content.
    pub digest: Hash,
    /// Its length.
    pub bytes: u64,
}

/// Reads the auditors' keys.
///
/// # Errors
/// [`VaultError::Recipient`] for the first that is none.
pub fn recipients(texts: &[String]) -> Result<Vec<Recipient>, VaultError> {
    let read = |text: &String| {
        text.parse()
            .map_err(|_| VaultError::Recipient(text.clone()))
    };
    texts.iter().map(read).collect()
}

/// The name of the file that keeps the content of this digest.
pub fn file_name(digest: &Hash) -> String {
    format!("{}.{SEALED}", digest.to_hex())
}

impl Vault {
    /// Opens the vault's folder, and makes it when it is not there: only its owner can enter.
    ///
    /// # Errors
    /// [`VaultError::Recipient`], [`VaultError::Folder`].
    pub fn open(config: &config::Vault, folder: &Path) -> Result<Self, VaultError> {
        let vault = Self {
            recipients: recipients(&config.recipients)?,
            folder: folder.to_owned(),
            retention: Duration::from_secs(u64::from(config.retention_days) * 24 * 3600),
            max_bytes: config.max_bytes,
            used: Mutex::new(Used {
                sealed: 0,
                being_written: 0,
                swept: SystemTime::now(),
            }),
        };
        let opened = fs::create_dir_all(folder)
            .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
            .and_then(|()| vault.sweep(&mut vault.used(), SystemTime::now()));
        opened.map_err(|source| VaultError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        Ok(vault)
    }

    /// Keeps everything that a reader gives.
    ///
    /// # Errors
    /// [`VaultError::Full`], [`VaultError::Write`]; nothing is left behind then.
    pub fn seal(&self, mut content: impl Read) -> Result<Kept, VaultError> {
        let mut sealing = self.begin()?;
        io::copy(&mut content, &mut sealing).map_err(write_error)?;
        sealing.finish()
    }

    /// Begins to keep content that comes piece by piece.
    ///
    /// # Errors
    /// [`VaultError::Full`], [`VaultError::Write`].
    pub fn begin(&self) -> Result<Sealing<'_>, VaultError> {
        {
            let mut used = self.used();
            let now = SystemTime::now();
            if now
                .duration_since(used.swept)
                .is_ok_and(|since| since > SWEEP)
            {
                self.sweep(&mut used, now).map_err(VaultError::Write)?;
            }
        }
        let part = tempfile::Builder::new()
            .prefix(".")
            .suffix(&format!(".{PART}"))
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)
            .map_err(VaultError::Write)?;
        let counted = Counted {
            vault: self,
            part,
            bytes: 0,
        };
        let recipients = self.recipients.iter().map(|key| key as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients)
            .map_err(|error| VaultError::Write(io::Error::other(error.to_string())))?;
        Ok(Sealing {
            stream: encryptor.wrap_output(counted).map_err(write_error)?,
            hasher: Hasher::new(),
        })
    }

    /// Bytes that the folder holds.
    pub fn bytes(&self) -> u64 {
        let used = self.used();
        used.sealed + used.being_written
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Sums of file sizes: a panic elsewhere leaves them as right as they were.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what is older than it has to be kept, and counts the rest.
    fn sweep(&self, used: &mut Used, now: SystemTime) -> io::Result<()> {
        let mut sealed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            let (keep_for, counts) = match path.extension().and_then(|e| e.to_str()) {
                Some(SEALED) => (self.retention, true),
                Some(PART) => (ABANDONED, false),
                _ => continue,
            };
            let metadata = match entry.metadata() {
                Ok(metadata) if metadata.is_file() => metadata,
                Ok(_) => continue,
                // Finished or removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let age = now.duration_since(metadata.modified()?).unwrap_or_default();
            if age > keep_for {
                fs::remove_file(&path)?;
            } else if counts {
                sealed += metadata.len();
            }
        }
        used.sealed = sealed;
        used.swept = now;
        Ok(())
    }
}

/// Content on its way into the vault. Dropped before [`Sealing::finish`], it leaves nothing.
pub struct Sealing<'a> {
    stream: age::stream::StreamWriter<Counted<'a>>,
    hasher: Hasher,
}

impl Write for Sealing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Sealing<'_> {
    /// Ends the content and keeps it, durably, under its digest. What was kept under the same
    /// digest before makes room: the content is the same, but the keys may be others and the time
    /// begins anew.
    ///
    /// # Errors
    /// [`VaultError::Full`], [`VaultError::Write`]; nothing is left behind then.
    pub fn finish(self) -> Result<Kept, VaultError> {
        let kept = Kept {
            digest: self.hasher.finish(),
            bytes: self.hasher.length(),
        };
        let counted = self.stream.finish().map_err(write_error)?;
        counted.keep(&kept.digest).map_err(VaultError::Write)?;
        Ok(kept)
    }
}

/// The file that is being written, within what the vault may take.
struct Counted<'a> {
    vault: &'a Vault,
    /// Removes itself unless it is given its name.
    part: NamedTempFile,
    bytes: u64,
}

impl Counted<'_> {
    /// Makes the file durable and gives it its name.
    fn keep(mut self, digest: &Hash) -> io::Result<()> {
        self.part.as_file().sync_all()?;
        let path = self.vault.folder.join(file_name(digest));
        {
            // Under the lock, so that of two files of one name the replaced one is counted once.
            let mut used = self.vault.used();
            let replaced = fs::metadata(&path).map_or(0, |there| there.len());
            fs::rename(self.part.path(), &path)?;
            used.sealed = used.sealed.saturating_sub(replaced) + self.bytes;
            used.being_written -= self.bytes;
            self.bytes = 0;
        }
        // The name itself must survive a crash too.
        File::open(&self.vault.folder)?.sync_all()
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let more = bytes.len() as u64;
        {
            let mut used = self.vault.used();
            let all = used.sealed.saturating_add(used.being_written);
            if all.saturating_add(more) > self.vault.max_bytes {
                return Err(io::Error::other(Full(self.vault.max_bytes)));
            }
            used.being_written += more;
            self.bytes += more;
        }
        self.part.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.part.flush()
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.vault.used().being_written -= self.bytes;
    }
}

/// [`VaultError::Full`] on its way through a writer.
#[derive(Debug, thiserror::Error)]
#[error("the vault is full: it may take {0} bytes")]
struct Full(u64);

fn write_error(error: io::Error) -> VaultError {
    let full = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Full>());
    match full {
        Some(Full(max_bytes)) => VaultError::Full {
            max_bytes: *max_bytes,
        },
        None => VaultError::Write(error),
    }
}

#[cfg(test)]
mod tests;
