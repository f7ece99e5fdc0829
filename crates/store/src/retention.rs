//! What content stays, for how long, and what somebody holds.
//!
//! Content is what a job's records and receipts say, and its bundle's file. It goes after its
//! time. What stays forever is what others rely on: every record's place, number, kind and time,
//! its leaf hash and the tree over it, checkpoints, contracts, the job and its counters, who
//! approved what, the bundle's hash, and who let the content go.

use async_trait::async_trait;
use proof::record::JobId;
use proof::{Hash, Timestamp};

use crate::StoreError;

/// Most holds of one job that stand at a time.
pub const MAX_HOLDS: u32 = 50;

/// Most records whose content goes in one transaction.
pub const PRUNED_AT_ONCE: u32 = 250;

/// Content that goes on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What records and receipts say, and what a plan would change object by object.
    Records,
    /// The sealed file.
    Bundle,
}

impl Part {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Records, Self::Bundle];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Bundle => "bundle",
        }
    }
}

/// Somebody's word that nothing of a job may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its number: 1, 2, 3 …
    pub number: u64,
    /// What is held.
    pub job_id: JobId,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// By which operator.
    pub placed_by: String,
    /// Why.
    pub reason: String,
    /// When, by whom and why it was lifted.
    pub lifted: Option<Lifted>,
}

/// The end of a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifted {
    /// When.
    pub at: Timestamp,
    /// By which operator.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A sealed job of which a part may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prunable {
    /// The job.
    pub job_id: JobId,
    /// When it was closed.
    pub closed_at: Timestamp,
    /// Its records.
    pub records: u64,
    /// Bytes of its bundle.
    pub bundle_bytes: u64,
    /// Where the list goes on.
    pub place: u64,
}

/// That a part of a job's content went, or is going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruning {
    /// What.
    pub part: Part,
    /// When that began.
    pub at: Timestamp,
    /// Who let it go.
    pub by: String,
    /// Whether all of it is gone.
    pub finished: bool,
}

/// What stays of a record whose content went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedRecord {
    /// Its job.
    pub job_id: JobId,
    /// Its place in the job.
    pub seq: u64,
    /// Its time.
    pub at: Timestamp,
    /// Its kind: `intent`, `outcome` …
    pub kind: String,
    /// Its place in the log.
    pub leaf_index: u64,
    /// Its hash there.
    pub leaf_hash: Hash,
}

/// What content stays, for how long, and what somebody holds.
#[async_trait]
pub trait Retention {
    /// Places a hold on a job, whatever its state; its number, or `None` when the job has
    /// [`MAX_HOLDS`] already. From the answer on nothing more of the job goes.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`.
    async fn hold(
        &self,
        job_id: &JobId,
        by: &str,
        reason: &str,
        at: Timestamp,
    ) -> Result<Option<u64>, StoreError>;

    /// Lifts one hold of a job; false when there is none of that number that stands.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`.
    async fn lift_hold(
        &self,
        job_id: &JobId,
        number: u64,
        by: &str,
        reason: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Holds, newest first: of one job or of all, those before a number, and only those that
    /// stand when `standing`; at most 1000.
    async fn holds(
        &self,
        job_id: Option<&JobId>,
        standing: bool,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Hold>, StoreError>;

    /// When the first of the jobs was opened that are held; `None` when none is.
    async fn held_since(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Sealed jobs that were closed before `before`, of which that part is still there (or not
    /// gone altogether), which nobody holds, and whose runs have all ended; a bundle stays, too,
    /// while a link to it is good at `now`. From the place after `after` on; at most 1000.
    async fn prunable(
        &self,
        part: Part,
        before: Timestamp,
        now: Timestamp,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Prunable>, StoreError>;

    /// Sealed jobs that were closed before `before` and stay because of a hold.
    async fn held_back(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Begins to let a part go: from the answer on it counts as gone, and no hold brings it back.
    /// False when it had begun before.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `JobOpen` for a job that is not sealed or has a
    /// run that has not ended, `JobHeld`.
    async fn begin_pruning(
        &self,
        job_id: &JobId,
        part: Part,
        by: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Removes the content of up to [`PRUNED_AT_ONCE`] records before a number, the last ones
    /// first, in one transaction; the lowest number among them, before which the next call goes
    /// on. `None` when none is left: then all that belongs to [`Part::Records`] is gone.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `NotPruned` unless that has begun, `JobHeld`.
    async fn prune_records(
        &self,
        job_id: &JobId,
        before: Option<u64>,
    ) -> Result<Option<u64>, StoreError>;

    /// Says that all of a part is gone.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `NotPruned` unless that has begun.
    async fn finish_pruning(&self, job_id: &JobId, part: Part) -> Result<(), StoreError>;

    /// What went of a job, or is going.
    async fn prunings(&self, job_id: &JobId) -> Result<Vec<Pruning>, StoreError>;

    /// A page of what stays of a job's records, from the one after `after` on, whether or not
    /// their content went; at most 1000.
    async fn record_places(
        &self,
        job_id: &JobId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<PrunedRecord>, StoreError>;

    /// Forgets sessions and invitations that have ended; how many they were.
    async fn forget_ended(&self, now: Timestamp) -> Result<u64, StoreError>;
}
