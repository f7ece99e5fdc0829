//! Keys by which agents repeat model calls without making them twice.

use async_trait::async_trait;
use proof::record::JobId;
use proof::{Hash, Timestamp};

use crate::StoreError;

/// What is known about a key when a call asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyClaim {
    /// Nothing; it belongs to this call now.
    New,
    /// A call with the same request is being made.
    InFlight,
    /// A call with the same request was made.
    Done {
        /// Its receipt.
        receipt_id: String,
    },
    /// The gateway stopped while a call with the same request was being made.
    Lost,
    /// It belongs to another request.
    Other,
}

/// Keys of model calls. They are as many as calls that were made, and so bounded by the job.
#[async_trait]
pub trait ModelKeys {
    /// Takes a key, by its hash, for a request, unless somebody has it.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `JobClosed`.
    async fn claim_model_key(
        &self,
        job_id: &JobId,
        key: Hash,
        request: Hash,
        at: Timestamp,
    ) -> Result<KeyClaim, StoreError>;

    /// The call was made; its receipt answers whoever asks again.
    async fn finish_model_key(
        &self,
        job_id: &JobId,
        key: Hash,
        receipt_id: &str,
    ) -> Result<(), StoreError>;

    /// The call was not made, so the key is free again. Does nothing about a finished one.
    async fn release_model_key(&self, job_id: &JobId, key: Hash) -> Result<(), StoreError>;
}
