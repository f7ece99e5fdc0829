//! The folder of the log's static files.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use proof::checkpoint::Checkpoint;

use super::{Added, MAX_FILE_BYTES, TlogError};
use crate::bundles::file;

/// Files are for the web server's group, too.
const MODE: u32 = 0o640;

/// What is locked while a checkpoint takes the place of another one.
const LOCK: &str = "checkpoint.lock";

/// A folder of static files.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at this path; it is made with the first file.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// A file's bytes, when it is there.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TlogError> {
        self.on_disk(name, read).await
    }

    /// Whether a file is there.
    pub(super) async fn has(&self, name: &str) -> Result<bool, TlogError> {
        self.on_disk(name, |path| path.try_exists()).await
    }

    /// Adds a file that never changes; it is durable when this returns.
    pub(super) async fn add(&self, name: &str, bytes: Vec<u8>) -> Result<Added, TlogError> {
        let add = move |path: &Path| match read(path)? {
            Some(there) if there == bytes => Ok(Added::Fine),
            Some(_) => Ok(Added::Differs),
            None => file::write(path, &bytes, MODE).map(|()| Added::Fine),
        };
        self.on_disk(name, add).await
    }

    /// Puts a checkpoint in the place of the one before, unless that is of more records by now; it
    /// is durable when this returns.
    pub(super) async fn put_checkpoint(&self, bytes: Vec<u8>) -> Result<(), TlogError> {
        let name = "checkpoint";
        match self
            .on_disk(name, move |path| goes_on(path, &bytes))
            .await?
        {
            true => Ok(()),
            // The next look says what is there.
            false => Err(TlogError::Elsewhere(name.to_owned())),
        }
    }

    /// Removes a folder of files that are part of a larger one now.
    pub(super) async fn remove_folder(&self, name: &str) -> Result<(), TlogError> {
        let remove = |path: &Path| match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        self.on_disk(name, remove).await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, TlogError> {
        let path = self.path.join(name);
        let worked = tokio::task::spawn_blocking(move || {
            work(&path).map_err(|source| TlogError::File { path, source })
        });
        worked.await.expect("reading and writing do not panic")
    }
}

/// Writes a checkpoint, when nobody else is at it and none of more records is there. A gateway that
/// led, stood still and goes on would take a larger one back, which looks to auditors like records
/// that were taken out.
fn goes_on(path: &Path, note: &[u8]) -> io::Result<bool> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(MODE);
    // It goes with the handle.
    let lock = options.open(folder.join(LOCK))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(false),
        // Where there are no locks, what is read is nearly as good.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    let size = |note: &[u8]| Checkpoint::claimed_size(&String::from_utf8_lossy(note));
    let there = read(path)?;
    if there.as_deref().and_then(size) > size(note) {
        return Ok(false);
    }
    file::write(path, note, MODE).map(|()| true)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
