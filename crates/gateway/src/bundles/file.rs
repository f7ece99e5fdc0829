//! Files that are either whole or not there.
//!
//! What is being written has a name of its own beside the later one, `.NAME.RANDOM`, and whoever
//! writes it holds a lock on it. A process that is killed leaves the file, but not the lock: so
//! [`sweep`] tells what nobody finishes any more from what others, who may share the folder, are
//! just writing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use store::kill_point;

use crate::keys::random_text;

/// Length of what stands behind the last dot of a temporary name.
const RANDOM: usize = 43;

/// Writes a file so that a crash leaves the old one, the new one or none, never a part: a
/// temporary file beside it, made durable, takes its name. `mode` says who may read it.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let mut temporary = Temporary::beside(path, mode)?;
    temporary.file.write_all(bytes)?;
    temporary.keep()
}

/// A file that is being written, under a lock. Unless it is kept it goes again: most likely the
/// disk is full, and what was written so far is of no use to anybody.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) file: File,
    name: PathBuf,
    later: PathBuf,
    kept: bool,
}

impl Temporary {
    /// Begins what is to stand at `path`, in a folder that is there.
    pub(crate) fn beside(path: &Path, mode: u32) -> io::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?;
        loop {
            let name = path.with_file_name(format!(".{name}.{}", random_text()));
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(mode);
            let temporary = Self {
                file: options.open(&name)?,
                name,
                later: path.to_owned(),
                kept: false,
            };
            match temporary.file.try_lock() {
                // A sweep came in between, and has it or had it.
                Err(TryLockError::WouldBlock) => continue,
                Ok(()) if temporary.file.metadata()?.nlink() == 0 => continue,
                // Where there are no locks nothing is swept either.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(temporary),
            }
        }
    }

    /// The same under another name, which was not known before.
    pub(crate) fn keep_as(mut self, name: &str) -> io::Result<()> {
        self.later.set_file_name(name);
        self.keep()
    }

    /// Makes it durable and gives it its name.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        kill_point!("file.temporary");
        fs::rename(&self.name, &self.later)?;
        self.kept = true;
        kill_point!("file.renamed");
        // The name itself must survive a crash too.
        let folder = self.later.parent().ok_or(io::ErrorKind::InvalidInput)?;
        File::open(folder)?.sync_all()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.name);
        }
    }
}

/// Removes temporary files that nobody finishes any more, from a folder and those in it; how many
/// there were. A folder that is not there holds none.
///
/// # Errors
/// When a folder cannot be read or a file does not go.
pub(crate) fn sweep(folder: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut gone = 0;
    for entry in entries {
        let entry = entry?;
        // Not that of what a link leads to.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            gone += sweep(&entry.path())?;
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_temporary) {
            gone += usize::from(is_swept(&entry.path())?);
        }
    }
    Ok(gone)
}

/// Removes a temporary file whose writer is gone; whether it did.
fn is_swept(path: &Path) -> io::Result<bool> {
    // For writing: where folders are shared over a network, a lock asks for that.
    let file = match OpenOptions::new().write(true).open(path) {
        // It was given its name.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    if file.try_lock().is_err() {
        return Ok(false);
    }
    // Under the lock: a writer that waits for it sees that its file has gone.
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// Whether [`Temporary`] makes such names.
fn is_temporary(name: &str) -> bool {
    let parts = name
        .strip_prefix('.')
        .and_then(|rest| rest.rsplit_once('.'));
    parts.is_some_and(|(name, random)| {
        let of_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !name.is_empty() && random.len() == RANDOM && random.bytes().all(of_base64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("a.json");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        // A folder in its place: the write fails and leaves no temporary file.
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("x")).unwrap();
        assert!(write(&taken, b"three", 0o600).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn only_what_nobody_writes_any_more_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("tile").join("0");
        fs::create_dir_all(&deep).unwrap();
        let left = |folder: &Path, name: &str| fs::write(folder.join(name), b"half").unwrap();
        let random = random_text();
        // What a killed writer leaves is not locked.
        left(&deep, &format!(".067.{random}"));
        left(folder.path(), &format!(".job_1.json.{random}"));
        // Of others: files of ours that are whole, and names that we do not give.
        let others = [
            "job_1.json".to_owned(),
            format!("job_1.json.{random}"),
            format!("..{random}"),
            format!(".{random}"),
            format!(".job_1.json.{}", &random[1..]),
            format!(".job_1.json.{}+", &random[1..]),
            ".job_1.json".to_owned(),
        ];
        for name in &others {
            left(folder.path(), name);
        }
        std::os::unix::fs::symlink(&deep, folder.path().join(format!(".link.{random}"))).unwrap();
        let written = Temporary::beside(&folder.path().join("job_2.json"), 0o600).unwrap();

        assert_eq!(sweep(folder.path()).unwrap(), 2);
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
        let stays = others.len() + ["tile", "link", "written"].len();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), stays);
        written.keep().unwrap();
        assert!(folder.path().join("job_2.json").exists());
        assert_eq!(sweep(&folder.path().join("nowhere")).unwrap(), 0);
    }
}
