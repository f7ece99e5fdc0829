//! Where the log's static files lie.

use super::bucket::Bucket;
use super::folder::Folder;
use super::{Added, TlogError};
use crate::config::{Config, Tiles};
use crate::upstream::HttpClient;

/// A folder or a bucket of static files.
#[derive(Debug)]
pub enum Place {
    /// On this machine's disk.
    Folder(Folder),
    /// In an S3-compatible store.
    Bucket(Bucket),
}

impl Place {
    /// The one of the configuration; `None` when nothing is to be published.
    ///
    /// # Errors
    /// When a bucket's credentials cannot be fetched.
    pub async fn of(config: &Config, http: &HttpClient) -> anyhow::Result<Option<Self>> {
        Ok(match &config.log.tiles {
            None => None,
            Some(Tiles::Folder(folder)) => Some(Self::Folder(Folder::new(folder))),
            Some(Tiles::Bucket(bucket)) => {
                Some(Self::Bucket(Bucket::open(bucket, http.clone()).await?))
            }
        })
    }

    /// A file's bytes, when it is there.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TlogError> {
        match self {
            Self::Folder(folder) => folder.read(name).await,
            Self::Bucket(bucket) => bucket.read(name).await,
        }
    }

    /// Whether a file is there.
    pub(super) async fn has(&self, name: &str) -> Result<bool, TlogError> {
        match self {
            Self::Folder(folder) => folder.has(name).await,
            Self::Bucket(bucket) => bucket.has(name).await,
        }
    }

    /// Adds a file that never changes; it is durable when this returns.
    pub(super) async fn add(&self, name: &str, bytes: Vec<u8>) -> Result<Added, TlogError> {
        match self {
            Self::Folder(folder) => folder.add(name, bytes).await,
            Self::Bucket(bucket) => bucket.add(name, bytes).await,
        }
    }

    /// Puts a checkpoint in the place of the one that was read before, never of a larger one; it is
    /// durable when this returns.
    pub(super) async fn put_checkpoint(&self, bytes: Vec<u8>) -> Result<(), TlogError> {
        match self {
            Self::Folder(folder) => folder.put_checkpoint(bytes).await,
            Self::Bucket(bucket) => bucket.put_checkpoint(bytes).await,
        }
    }

    /// Removes files that are part of a larger one now. In a bucket they stay: whoever publishes
    /// needs no right to delete there.
    pub(super) async fn remove_partials(&self, name: &str) -> Result<(), TlogError> {
        match self {
            Self::Folder(folder) => folder.remove_folder(name).await,
            Self::Bucket(_) => Ok(()),
        }
    }
}
