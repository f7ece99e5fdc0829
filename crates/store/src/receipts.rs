//! Receipts, as they were signed.

use async_trait::async_trait;
use proof::Envelope;
use proof::record::JobId;

use crate::StoreError;

/// The receipts of a job, each kind in the order of the outcomes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReceiptsOfJob {
    /// Of model calls.
    pub gateway: Vec<Envelope>,
    /// Of Terraform calls.
    pub tool: Vec<Envelope>,
}

/// Receipts; they are written by [`Log::append_outcome`](crate::Log::append_outcome).
#[async_trait]
pub trait Receipts {
    /// One receipt of a job.
    async fn receipt(
        &self,
        job_id: &JobId,
        receipt_id: &str,
    ) -> Result<Option<Envelope>, StoreError>;

    /// A receipt by its id alone, with the job that it belongs to; ids are not given twice.
    async fn find_receipt(&self, receipt_id: &str)
    -> Result<Option<(JobId, Envelope)>, StoreError>;

    /// Every receipt of a job.
    async fn receipts(&self, job_id: &JobId) -> Result<ReceiptsOfJob, StoreError>;
}
