//! The log as others read it: C2SP tiles, entries and checkpoints, from the store and as static
//! files.
//!
//! The store is the truth; a folder or a bucket of tiles is a copy that [`publish`] keeps up, so that
//! auditors and witnesses can follow the log without asking the gateway. What lies there is compared
//! with the store before anything is added: a log that has two versions is not published further.

pub mod attest;
mod bucket;
mod folder;
mod place;
mod publish;
pub mod stamps;
pub mod witnesses;

use std::path::PathBuf;

use proof::checkpoint::Checkpoint;
use proof::merkle::leaf_hash;
use proof::tiles::{self, Holds, Tile};
use store::{Store, StoreError};
use tokio::sync::watch;

use crate::bundles::BundleError;
use crate::config::Config;
use crate::keys::Keys;

pub use folder::Folder;
pub use place::Place;
pub use publish::{publish, write_up};

/// Largest file of the log: 256 entries of the largest size, each behind its length.
const MAX_FILE_BYTES: u64 = 256 * (2 + 0xffff);

/// How adding a file that never changes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Added {
    /// It was not there, or it was the same.
    Fine,
    /// Another one has its name.
    Differs,
}

/// Why the log cannot be read or published.
#[derive(Debug, thiserror::Error)]
pub enum TlogError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint cannot be signed.
    #[error("the checkpoint cannot be signed")]
    Checkpoint(#[source] BundleError),
    /// A file cannot be read or written.
    #[error("cannot use the file `{path}` of the log")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An object of the bucket cannot be read or written.
    #[error("cannot use `{name}` in the bucket")]
    Bucket {
        /// The object.
        name: String,
        /// Why.
        #[source]
        source: std::sync::Arc<object_store::Error>,
    },
    /// Somebody else publishes at the same time.
    #[error("`{0}` was written by somebody else meanwhile")]
    Elsewhere(String),
    /// A record is not what its leaf was made of.
    #[error("record {0} of the log is not the one that its leaf was made of")]
    Damaged(u64),
    /// The content of a record went after its retention, and with it the bundles of entries that
    /// it stands in.
    #[error("the content of record {0} of the log was removed after its retention")]
    Pruned(u64),
    /// What was published contradicts the store.
    #[error("the published log contradicts the store: {0}")]
    Forked(String),
}

/// How publishing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is to be published.
    Off,
    /// Nothing was published yet since the start.
    Starting,
    /// Everything up to this size is there.
    Published(u64),
    /// The last try failed; it is tried again.
    Failing(String),
    /// What lies there contradicts the store; nothing more is written.
    Forked(String),
}

impl Standing {
    /// The names of all of them.
    pub const ALL: [&'static str; 5] = ["off", "starting", "published", "failing", "forked"];

    /// Its name in answers.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Published(_) => "published",
            Self::Failing(_) => "failing",
            Self::Forked(_) => "forked",
        }
    }
}

/// How publishing stands, for whoever asks.
#[derive(Debug)]
pub struct Publication(watch::Sender<Standing>);

impl Publication {
    /// Before the first try.
    pub fn of(config: &Config) -> Self {
        let standing = match config.log.tiles {
            Some(_) => Standing::Starting,
            None => Standing::Off,
        };
        Self(watch::Sender::new(standing))
    }

    /// How it stands now.
    pub fn standing(&self) -> Standing {
        self.0.borrow().clone()
    }

    /// Tells of each change.
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.0.subscribe()
    }

    fn set(&self, standing: Standing) {
        self.0.send_replace(standing);
    }
}

/// The bytes of a file of the log; `None` when the log has none such yet.
///
/// # Errors
/// [`TlogError::Store`], [`TlogError::Damaged`], [`TlogError::Pruned`] for entries.
pub async fn tile_bytes(store: &dyn Store, tile: Tile) -> Result<Option<Vec<u8>>, TlogError> {
    match tile.holds() {
        Holds::Hashes { level } => {
            let hashes = store.hashes(level, tile.start(), tile.width()).await?;
            Ok(hashes.map(|hashes| tiles::hash_tile(&hashes)))
        }
        Holds::Entries => entries(store, tile).await,
    }
}

/// A bundle of entries. An entry is the canonical form of a record or a key set: what its leaf is
/// the hash of.
async fn entries(store: &dyn Store, tile: Tile) -> Result<Option<Vec<u8>>, TlogError> {
    let width = u32::try_from(tile.width()).expect("at most 256");
    let entries = store.entries(tile.start(), width).await?;
    if entries.len() as u64 != tile.width() {
        return Ok(None);
    }
    for (index, entry) in (tile.start()..).zip(&entries) {
        if entry.pruned.is_some() {
            return Err(TlogError::Pruned(index));
        }
        if entry.leaf_index != index || leaf_hash(&entry.entry) != entry.leaf_hash {
            return Err(TlogError::Damaged(index));
        }
    }
    // The store takes no entry that is longer than one may be.
    tiles::entry_bundle(entries.iter().map(|entry| entry.entry.as_slice()))
        .map(Some)
        .ok_or(TlogError::Damaged(tile.start()))
}

/// Compares the published checkpoint with the store; the size that is published, or `None` when
/// there is no checkpoint.
///
/// # Errors
/// [`TlogError::Forked`] when they are not of one log, and when they cannot be read.
pub async fn compare(
    store: &dyn Store,
    config: &Config,
    keys: &Keys,
    place: &Place,
) -> Result<Option<u64>, TlogError> {
    let Some(note) = place.read("checkpoint").await? else {
        return Ok(None);
    };
    let note = String::from_utf8_lossy(&note);
    let origin = crate::bundles::log_origin(config);
    let there = Checkpoint::verify_any(&note, &origin, &keys.checkpoint_keys())
        .map_err(|error| TlogError::Forked(format!("its checkpoint is not this log's: {error}")))?;
    match store.log_root(there.size).await? {
        Some(root) if root == there.root => Ok(Some(there.size)),
        Some(_) => Err(TlogError::Forked(format!(
            "at size {} it has another root",
            there.size
        ))),
        None => Err(TlogError::Forked(format!(
            "it has {} records and the store only {}",
            there.size,
            store.log_size().await?
        ))),
    }
}
