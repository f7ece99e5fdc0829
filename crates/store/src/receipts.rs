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

/// What a receipt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptKind {
    /// A model call.
    Gateway,
    /// A Terraform call.
    Tool,
}

/// Receipts; they are written by [`Log::append_outcome`](crate::Log::append_outcome).
#[async_trait]
pub trait Receipts {
    /// One receipt of a job.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `ContentPruned`.
    async fn receipt(
        &self,
        job_id: &JobId,
        receipt_id: &str,
    ) -> Result<Option<Envelope>, StoreError>;

    /// A receipt by its id alone, with the job that it belongs to; ids are not given twice.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `ContentPruned`.
    async fn find_receipt(&self, receipt_id: &str)
    -> Result<Option<(JobId, Envelope)>, StoreError>;

    /// Place in the log of the outcome that names a receipt, also of one whose content went.
    async fn outcome_of_receipt(&self, receipt_id: &str) -> Result<Option<u64>, StoreError>;

    /// A page of a job's receipts of one kind with the places in the log of their outcomes, in
    /// that order, from the one after `after` on; at most 1000.
    async fn receipts_after(
        &self,
        job_id: &JobId,
        kind: ReceiptKind,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Envelope)>, StoreError>;

    /// The receipts of outcomes at these places in the log, in the order asked; one that is not
    /// there is left out.
    async fn receipts_of(&self, outcomes: Vec<u64>) -> Result<Vec<Envelope>, StoreError>;

    /// Every receipt of a job.
    async fn receipts(&self, job_id: &JobId) -> Result<ReceiptsOfJob, StoreError>;
}
