//! Links by which outsiders read one sealed job.

use async_trait::async_trait;
use proof::record::JobId;
use proof::{Hash, Timestamp};

use crate::StoreError;

/// Most links of one job that are good at a time.
pub const MAX_PUBLICATIONS: u32 = 20;

/// A link that was made, without the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its name, by which it is listed and withdrawn.
    pub id: String,
    /// SHA-256 of the link's secret.
    pub link_hash: Hash,
    /// What it shows.
    pub job_id: JobId,
    /// The operator who made it.
    pub published_by: String,
    /// When.
    pub published_at: Timestamp,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
    /// When and by whom it was withdrawn.
    pub withdrawn: Option<(Timestamp, String)>,
}

/// Links by which outsiders read one sealed job.
#[async_trait]
pub trait Publications {
    /// Keeps a link; `false`, and nothing is kept, when the job has [`MAX_PUBLICATIONS`] already.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `JobOpen` for one that is not sealed.
    async fn publish_job(&self, publication: Publication) -> Result<bool, StoreError>;

    /// The publication with this link, when it is good at `at`.
    async fn published(
        &self,
        link_hash: &Hash,
        at: Timestamp,
    ) -> Result<Option<Publication>, StoreError>;

    /// The latest publications, newest first, those that are over too.
    async fn publications(&self, limit: u32) -> Result<Vec<Publication>, StoreError>;

    /// Ends a publication; `None` when there is none of this name, `false` when it was withdrawn
    /// before.
    async fn withdraw_publication(
        &self,
        id: &str,
        by: &str,
        at: Timestamp,
    ) -> Result<Option<bool>, StoreError>;
}
