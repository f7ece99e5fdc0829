//! The vault: content that evidence names by its digest, kept so that what was proposed can be
//! compared with what was applied.
//!
//! Each piece is an age file, sealed to the auditors' keys; the gateway has none of them and
//! cannot open what it sealed. Its name is the SHA-256 of the content, by which approvals,
//! receipts and bundles name it already. Inspected uploads are sealed before they leave and are
//! refused when that fails; what is said to models and by them is sealed beside the call
//! ([`conversations`]), in a folder of its own. What is no longer kept, or never was, leaves a
//! line in [`notes`].
//!
//! Sealing is here, opening in [`opened`]: they share names and nothing else.

use std::collections::BinaryHeap;
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
pub use held::{Held, TURN, Unsettled};

use files::{Kind, SealedFile, for_each_file};
use notes::{Note, Notes};

pub mod conversations;
mod files;
mod held;
pub mod notes;
pub mod opened;

/// The folder of conversations, within the vault's.
pub const CONVERSATIONS: &str = "conversations";

/// How often old files are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// What a crash left half written is removed at this age; nothing takes so long to seal.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Most files that are removed together; each is held in memory meanwhile.
const REMOVED_AT_ONCE: usize = 1024;

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
    /// The content is not what it should be.
    #[error("the content changed on its way: its digest is {0}")]
    Changed(Hash),
}

/// What a vault may hold, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Older content is removed.
    pub retention: Duration,
    /// Bytes of all sealed files together.
    pub max_bytes: u64,
    /// What happens to content for which there is no room.
    pub when_full: WhenFull,
}

/// What happens when a vault is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// New content is not kept.
    Refuse,
    /// The oldest content is removed for it.
    RemoveOldest,
}

impl Bounds {
    /// Those of inspected uploads: what is not kept does not go up.
    pub fn of_uploads(config: &config::Vault) -> Self {
        Self {
            retention: days(config.retention_days),
            max_bytes: config.max_bytes,
            when_full: WhenFull::Refuse,
        }
    }

    /// Those of conversations.
    pub fn of_conversations(config: &config::Conversations) -> Self {
        Self {
            retention: days(config.retention_days),
            max_bytes: config.max_bytes,
            when_full: WhenFull::RemoveOldest,
        }
    }
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 3600)
}

/// Where content is kept. Writing blocks: not for threads that serve calls.
#[derive(Debug)]
pub struct Vault {
    recipients: Vec<Recipient>,
    folder: PathBuf,
    bounds: Bounds,
    notes: Notes,
    held: Option<Held>,
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
    /// What it holds is not counted before [`Vault::sweep`].
    ///
    /// # Errors
    /// [`VaultError::Recipient`], [`VaultError::Folder`].
    pub fn open(texts: &[String], folder: &Path, bounds: Bounds) -> Result<Self, VaultError> {
        let opened = fs::create_dir_all(folder)
            .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)));
        opened.map_err(|source| VaultError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        Ok(Self {
            recipients: recipients(texts)?,
            folder: folder.to_owned(),
            bounds,
            notes: Notes::of(folder),
            held: None,
            used: Mutex::new(Used {
                sealed: 0,
                being_written: 0,
                swept: SystemTime::now(),
            }),
        })
    }

    /// Keeps what is held, too.
    #[must_use]
    pub fn with_holds(mut self, held: &Held) -> Self {
        self.held = Some(held.clone());
        self
    }

    /// Removes what is older than it has to be kept and not held, and counts the rest.
    ///
    /// # Errors
    /// [`VaultError::Folder`].
    pub fn sweep(&self) -> Result<(), VaultError> {
        let swept = self.sweep_at(&mut self.used(), SystemTime::now());
        swept.map_err(|source| VaultError::Folder {
            path: self.folder.clone(),
            source,
        })
    }

    /// The same, unless it was done lately.
    pub(super) fn sweep_when_due(&self) -> io::Result<()> {
        let mut used = self.used();
        let now = SystemTime::now();
        let since = now.duration_since(used.swept);
        if since.is_ok_and(|since| since > SWEEP) {
            self.sweep_at(&mut used, now)?;
        }
        Ok(())
    }

    /// What is not kept.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Keeps everything that a reader gives.
    ///
    /// # Errors
    /// [`VaultError::Full`], [`VaultError::Write`]; nothing is left behind then.
    pub fn seal(&self, mut content: impl Read) -> Result<Kept, VaultError> {
        let mut sealing = self.begin("")?;
        io::copy(&mut content, &mut sealing).map_err(write_error)?;
        sealing.finish()
    }

    /// Begins to keep content that comes piece by piece. Until it is whole its file has a name
    /// of its own, in which `whose` stands.
    ///
    /// # Errors
    /// [`VaultError::Full`], [`VaultError::Write`].
    pub fn begin(&self, whose: &str) -> Result<Sealing<'_>, VaultError> {
        self.sweep_when_due().map_err(VaultError::Write)?;
        let part = tempfile::Builder::new()
            .prefix(&format!(".{whose}."))
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

    fn sweep_at(&self, used: &mut Used, now: SystemTime) -> io::Result<()> {
        let mut sealed = 0;
        let mut gone = Vec::new();
        let held = self.held_since();
        for_each_file(&self.folder, |file| {
            let age = now.duration_since(file.modified).unwrap_or_default();
            let old = match file.kind {
                Kind::Sealed(_) => age > self.bounds.retention && !is_held(&file, held),
                Kind::Part => age > ABANDONED,
            };
            if old {
                gone.push(file);
                if gone.len() == REMOVED_AT_ONCE {
                    let old = std::mem::take(&mut gone);
                    sealed += self.remove(old, "older than the retention")?.kept;
                }
            } else if matches!(file.kind, Kind::Sealed(_)) {
                sealed += file.bytes;
            }
            Ok(())
        })?;
        sealed += self.remove(gone, "older than the retention")?.kept;
        used.sealed = sealed;
        used.swept = now;
        Ok(())
    }

    /// Removes the oldest files until `more` bytes fit, and a little more, so that the folder is
    /// not read for each piece of new content.
    fn make_room(&self, used: &mut Used, more: u64) -> io::Result<()> {
        let most = self.bounds.max_bytes;
        let goal = (most - most / 20).saturating_sub(more.saturating_add(used.being_written));
        let since = self.held_since();
        while used.sealed > goal {
            let mut oldest = BinaryHeap::new();
            let mut held = false;
            for_each_file(&self.folder, |file| {
                if is_held(&file, since) {
                    held = true;
                } else if matches!(file.kind, Kind::Sealed(_)) {
                    oldest.push(file);
                    if oldest.len() > REMOVED_AT_ONCE {
                        oldest.pop();
                    }
                }
                Ok(())
            })?;
            if oldest.is_empty() {
                // All that is there is held: there is no room. Or the count was wrong, and
                // nothing is there.
                if !held {
                    used.sealed = 0;
                }
                return Ok(());
            }
            let mut gone = Vec::new();
            let mut left = used.sealed;
            for file in oldest.into_sorted_vec() {
                if left > goal {
                    left = left.saturating_sub(file.bytes);
                    gone.push(file);
                }
            }
            let removal = self.remove(gone, "the oldest when there was no room")?;
            used.sealed = used.sealed.saturating_sub(removal.removed);
            if removal.kept > 0 {
                // Held since a moment ago.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Since when content is held, as it was a moment ago; [`Self::remove`] looks again.
    fn held_since(&self) -> Option<SystemTime> {
        self.held.as_ref().and_then(Held::since)
    }

    /// Removes files, except for sealed ones that are held. What is removed is noted first: a
    /// crash in between leaves a note too many, which nobody reads while the file is there.
    fn remove(&self, files: Vec<SealedFile>, why: &str) -> io::Result<Removal> {
        let mut removal = Removal::default();
        if files.is_empty() {
            return Ok(removal);
        }
        let turn = self.held.as_ref().map(Held::begin);
        let stays = |file: &SealedFile| match (&file.kind, &turn) {
            (Kind::Part, _) | (Kind::Sealed(_), None) => false,
            (Kind::Sealed(_), Some(None)) => true,
            (Kind::Sealed(_), Some(Some(turn))) => turn.keeps(file.modified),
        };
        let going = files.iter().filter(|file| !stays(file));
        let at = crate::app::now();
        let notes: Vec<Note> = going.filter_map(|file| file.note(at, why)).collect();
        self.notes.write(&notes);
        for file in files {
            // Once more, since time goes by.
            if stays(&file) {
                removal.kept += file.bytes;
                continue;
            }
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => removal.removed += file.bytes,
            }
        }
        Ok(removal)
    }
}

/// What became of files that were to go, in bytes.
#[derive(Debug, Default)]
struct Removal {
    removed: u64,
    kept: u64,
}

fn is_held(file: &SealedFile, since: Option<SystemTime>) -> bool {
    let sealed = matches!(file.kind, Kind::Sealed(_));
    sealed && since.is_some_and(|since| file.modified >= since)
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

    /// The same for content whose digest stands in a receipt already.
    ///
    /// # Errors
    /// Also [`VaultError::Changed`] when the content is another.
    pub fn finish_as(self, digest: &Hash) -> Result<Kept, VaultError> {
        let found = self.hasher.clone().finish();
        if found != *digest {
            return Err(VaultError::Changed(found));
        }
        self.finish()
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
            let bounds = &self.vault.bounds;
            let fits = |used: &Used| {
                let all = used.sealed.saturating_add(used.being_written);
                all.saturating_add(more) <= bounds.max_bytes
            };
            if !fits(&used) && bounds.when_full == WhenFull::RemoveOldest {
                self.vault.make_room(&mut used, more)?;
            }
            if !fits(&used) {
                return Err(io::Error::other(Full(bounds.max_bytes)));
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
