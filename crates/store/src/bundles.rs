//! What is known about sealed bundles; their bytes are files.

use async_trait::async_trait;
use proof::record::JobId;
use proof::{Hash, Timestamp};

use crate::StoreError;

/// A sealed bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleRow {
    /// The job.
    pub job_id: JobId,
    /// SHA-256 of the file.
    pub sha256: Hash,
    /// Its size.
    pub bytes: u64,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// What the verifier said right after.
    pub verdict: Option<String>,
}

/// Sealed bundles.
#[async_trait]
pub trait Bundles {
    /// Notes a bundle whose file is durable, with the state versions that its applies made, and
    /// marks the job as sealed. The same bundle again changes nothing.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `JobOpen`, `JobSealed` for another bundle.
    async fn save_bundle(
        &self,
        bundle: BundleRow,
        state_versions: Vec<String>,
    ) -> Result<(), StoreError>;

    /// The bundle of a job.
    async fn bundle(&self, job_id: &JobId) -> Result<Option<BundleRow>, StoreError>;

    /// The bundle of the job that made a state version.
    async fn bundle_by_state_version(
        &self,
        state_version_id: &str,
    ) -> Result<Option<BundleRow>, StoreError>;
}
