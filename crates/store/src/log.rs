//! Records in the order in which they count, and the Merkle log over them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use proof::record::{Body, Event, Intent, JobId, Outcome, Record};
use proof::{Envelope, Hash, Timestamp};
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::objects::ObjectRow;

/// Where a record stands, once it is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Appended {
    /// Its place in the job: 1, 2, 3 …
    pub seq: u64,
    /// Its time: the one given, or that of the record before when that is later, because calls
    /// that end at the same moment reach the writer in any order and a job's time must not run
    /// backwards.
    pub at: Timestamp,
    /// Its place in the log, from 0.
    pub leaf_index: u64,
    /// Its hash there.
    pub leaf_hash: Hash,
    /// The event that it is in the public chain, if it is one.
    pub event: Option<Event>,
    /// Ids that came with an outcome and were not learned, because they are known to belong
    /// elsewhere. The outcome counts all the same: what happened has happened.
    pub not_learned: Vec<ObjectRow>,
}

/// A record in the writer's queue; resolves when it is durable. Dropping it does not take the
/// record back.
#[derive(Debug)]
#[must_use = "the record counts only when this has resolved without an error"]
pub struct Pending(Stage);

#[derive(Debug)]
enum Stage {
    Queued(oneshot::Receiver<Result<Appended, StoreError>>),
    Refused(Option<StoreError>),
}

impl Pending {
    pub(crate) fn queued(answer: oneshot::Receiver<Result<Appended, StoreError>>) -> Self {
        Self(Stage::Queued(answer))
    }

    pub(crate) fn refused(error: StoreError) -> Self {
        Self(Stage::Refused(Some(error)))
    }
}

impl Future for Pending {
    type Output = Result<Appended, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Stage::Queued(answer) => Pin::new(answer).poll(context).map(|answer| {
                // The writer answers everything that it takes; without an answer it has ended.
                answer.unwrap_or_else(|ended| Err(StoreError::unavailable(ended)))
            }),
            Stage::Refused(error) => {
                Poll::Ready(Err(error.take().expect("not polled after it resolved")))
            }
        }
    }
}

/// A record with its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// Its place in the log.
    pub leaf_index: u64,
    /// The record.
    pub record: Record,
}

/// An intent of an open job that has no outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenIntent {
    /// The job.
    pub job_id: JobId,
    /// Its place in the job.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What was about to be done.
    pub intent: Intent,
}

/// A signed checkpoint of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// How many leaves it covers.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// Records and the log over them.
#[async_trait]
pub trait Log {
    /// Appends an intent or a refusal. It is in the writer's queue when this returns, so that
    /// two calls in a row keep their order; the answer comes when it is durable.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `JobClosed`, `Unrecordable`, and
    /// `OwnOperation` for the kinds that are written by [`Jobs`](crate::Jobs),
    /// [`Tokens`](crate::Tokens), [`Approvals`](crate::Approvals) and
    /// [`Log::append_outcome`]. [`StoreError::Busy`] when the queue is full.
    fn append(&self, job_id: &JobId, at: Timestamp, body: Body) -> Pending;

    /// Appends an outcome with its receipt, and learns the ids of the answer, in one
    /// transaction. An id that is known to belong elsewhere is left out and named in
    /// [`Appended::not_learned`].
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `JobClosed`, `Unrecordable`,
    /// `NoSuchIntent`, `IntentAnswered`, and `ReceiptMismatch` unless the outcome names exactly
    /// the receipt that is given. [`StoreError::Busy`] when the queue is full.
    fn append_outcome(
        &self,
        job_id: &JobId,
        at: Timestamp,
        outcome: Outcome,
        receipt: Option<Envelope>,
        learned: Vec<ObjectRow>,
    ) -> Pending;

    /// A page of a job's records, from the one after `after` on; at most `limit`, and never more
    /// than 1000. Begin with 0, go on with the last `seq`, until a page is empty. Those whose
    /// content went are left out: [`Retention`](crate::Retention) tells of them.
    async fn records(
        &self,
        job_id: &JobId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredRecord>, StoreError>;

    /// The latest refusals of a job, newest first; at most 1000.
    async fn refusals(&self, job_id: &JobId, limit: u32) -> Result<Vec<StoredRecord>, StoreError>;

    /// Intents without an outcome, oldest first: what a start-up has to reconcile. At most 10,000;
    /// ask again when those are answered.
    async fn open_intents(&self) -> Result<Vec<OpenIntent>, StoreError>;

    /// How many leaves the log has.
    async fn log_size(&self) -> Result<u64, StoreError>;

    /// Bytes of all records of a job in canonical form; 0 when there is no such job.
    async fn record_bytes(&self, job_id: &JobId) -> Result<u64, StoreError>;

    /// Root of the tree over the first `size` leaves; `None` when there are fewer.
    async fn log_root(&self, size: u64) -> Result<Option<Hash>, StoreError>;

    /// The inclusion path of one leaf in the tree of `size` leaves; `None` when the leaf or the
    /// tree does not exist.
    async fn inclusion(&self, leaf_index: u64, size: u64) -> Result<Option<Vec<Hash>>, StoreError>;

    /// The inclusion paths of many leaves in one tree, in the order asked; cheaper than one by
    /// one. `None` when one of them does not exist.
    async fn inclusions(
        &self,
        leaf_indexes: Vec<u64>,
        size: u64,
    ) -> Result<Option<Vec<Vec<Hash>>>, StoreError>;

    /// The path from the tree of `old` leaves to that of `size` leaves (RFC 6962, 2.1.2); `None`
    /// when `old` is larger than `size`, or `size` than the log.
    async fn consistency(&self, old: u64, size: u64) -> Result<Option<Vec<Hash>>, StoreError>;

    /// Hashes of a row of the tree: roots of the complete subtrees of 256^`level` leaves, `count`
    /// of them from the one numbered `start` on. Level 0 has the leaves. `None` when they are not
    /// all there, or more than 256.
    async fn hashes(
        &self,
        level: u8,
        start: u64,
        count: u64,
    ) -> Result<Option<Vec<Hash>>, StoreError>;

    /// Keeps a signed checkpoint; another one of the same size is not kept twice.
    ///
    /// # Errors
    /// [`Conflict::CheckpointBeyondLog`](crate::Conflict::CheckpointBeyondLog).
    async fn save_checkpoint(&self, note: &str, size: u64) -> Result<(), StoreError>;

    /// Puts a note with more signatures in the place of the checkpoint of the same size; nothing when
    /// there is none.
    async fn cosign_checkpoint(&self, note: &str, size: u64) -> Result<(), StoreError>;

    /// The checkpoint over the most leaves.
    async fn latest_checkpoint(&self) -> Result<Option<CheckpointRow>, StoreError>;
}
