//! Where sealed bundles lie.
//!
//! Each job has a folder, and a sealed file is called by its hash. So whoever seals a job beside
//! another gateway, or after one that stood still for long, writes another file: the one that the
//! store names stays what it is. Before, a bundle was called by its job alone.

use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use proof::Hash;
use proof::record::JobId;
use store::BundleRow;
use tokio::fs;

use super::BundleError;
use super::added::{ADDED, AWAITS};
use crate::config::Config;

/// How the names end of what is kept of a bundle: the sealed file, and the two beside it. Whoever
/// copies them does so in this order: when the second says that nobody is asked any more, the third
/// is there.
pub const KEPT: [&str; 3] = ["json", AWAITS, ADDED];

/// The folder of what is kept of a job's bundle.
pub fn folder(config: &Config, job_id: &JobId) -> PathBuf {
    config.bundles_dir().join(job_id.as_str())
}

/// The name of a sealed file in the folder of its job.
pub(super) fn name(sha256: &Hash) -> String {
    format!("{}.json", sha256.to_hex())
}

/// Where a bundle lay that was sealed before it was called by its hash.
pub fn path_before(config: &Config, job_id: &JobId) -> PathBuf {
    config.bundles_dir().join(format!("{job_id}.json"))
}

/// Where a sealed bundle lies.
pub async fn path(config: &Config, row: &BundleRow) -> PathBuf {
    let path = folder(config, &row.job_id).join(name(&row.sha256));
    let before = path_before(config, &row.job_id);
    let there = async |path: &Path| fs::try_exists(path).await.unwrap_or(false);
    match !there(&path).await && there(&before).await {
        true => before,
        false => path,
    }
}

/// Opens a sealed bundle to be handed on piece by piece.
///
/// # Errors
/// [`BundleError::File`], [`BundleError::Altered`] by its length. The bytes of one that is called
/// by its job are read for their hash.
pub async fn open(config: &Config, row: &BundleRow) -> Result<fs::File, BundleError> {
    let path = path(config, row).await;
    let by_hash = path != path_before(config, &row.job_id);
    let (sha256, length) = (row.sha256, row.bytes);
    on_disk(path, row, move |path| {
        let mut file = std::fs::File::open(path)?;
        let is_whole = file.metadata()?.len() == length
            && (by_hash || {
                let found = hash(&mut file)?;
                file.rewind()?;
                found == sha256
            });
        Ok(is_whole.then(|| fs::File::from_std(file)))
    })
    .await
}

/// Reads a sealed bundle, byte for byte as it was sealed.
///
/// # Errors
/// [`BundleError::File`], [`BundleError::Altered`].
pub async fn read(config: &Config, row: &BundleRow) -> Result<Vec<u8>, BundleError> {
    let path = path(config, row).await;
    let (sha256, length) = (row.sha256, row.bytes);
    on_disk(path, row, move |path| {
        // A file that has grown is not held in memory.
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(length.saturating_add(1))
            .read_to_end(&mut bytes)?;
        Ok((Hash::of(&bytes) == sha256).then_some(bytes))
    })
    .await
}

/// Removes all that is kept of a job's bundle, wherever it lies.
///
/// # Errors
/// When something does not go.
pub fn remove(config: &Config, job_id: &JobId) -> io::Result<()> {
    let before = path_before(config, job_id);
    for path in [
        before.with_extension(AWAITS),
        before.with_extension(ADDED),
        before,
    ] {
        gone(std::fs::remove_file(path))?;
    }
    gone(std::fs::remove_dir_all(folder(config, job_id)))
}

/// What was not there is gone.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

async fn on_disk<T: Send + 'static>(
    path: PathBuf,
    row: &BundleRow,
    work: impl FnOnce(&Path) -> io::Result<Option<T>> + Send + 'static,
) -> Result<T, BundleError> {
    let worked = tokio::task::spawn_blocking(move || {
        work(&path).map_err(|source| BundleError::File { path, source })
    });
    let found = worked.await.expect("reading a file does not panic")?;
    found.ok_or_else(|| BundleError::Altered(row.job_id.clone()))
}

fn hash(file: &mut std::fs::File) -> io::Result<Hash> {
    let mut hasher = proof::hash::Hasher::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&chunk[..read]),
        }
    }
}
