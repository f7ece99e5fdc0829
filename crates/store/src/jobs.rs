//! Jobs: the frame in which an agent works, from its opening to its bundle.

use async_trait::async_trait;
use proof::record::{Confinement, JobId, JobOpen};
use proof::{Did, Hash, Timestamp};

use crate::{Appended, StoreError};

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Records may be appended.
    Open,
    /// Its closing record is written; nothing follows.
    Closed(Closing),
    /// Its bundle is kept.
    Sealed {
        /// How it was closed.
        closing: Closing,
        /// SHA-256 of the bundle file.
        bundle: Hash,
    },
}

impl JobState {
    /// Whether records may be appended.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// How the job was closed, when it was.
    pub const fn closing(&self) -> Option<&Closing> {
        match self {
            Self::Open => None,
            Self::Closed(closing) | Self::Sealed { closing, .. } => Some(closing),
        }
    }
}

/// How a job was closed; the same as in its closing record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Time of the closing record.
    pub at: Timestamp,
    /// The operator, or `gateway`.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Its id.
    pub job_id: JobId,
    /// Its own key.
    pub agent_did: Did,
    /// What it is for.
    pub name: String,
    /// The contract that holds for all of it.
    pub policy_hash: Hash,
    /// The gateway's key for receipts, as the opening record names it.
    pub gateway_did: Did,
    /// The operator who opened it.
    pub opened_by: String,
    /// The e-mail address of the person behind that operator, where it was known then.
    pub opened_by_email: Option<String>,
    /// How the opener says that the agent is confined.
    pub confinement: Option<Confinement>,
    /// How long it stays open when the opener says nothing, in seconds.
    pub lease_seconds: Option<u32>,
    /// Time of the opening record.
    pub opened_at: Timestamp,
    /// Where it stands.
    pub state: JobState,
    /// Time of its last record.
    pub last_at: Timestamp,
    /// What has happened in it.
    pub counters: JobCounters,
}

/// What has happened in a job, kept beside it so that a list of jobs reads nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounters {
    /// Records of any kind: the last `seq`.
    pub records: u64,
    /// Admitted calls of the agent, both lanes.
    pub calls: u64,
    /// Those of them that went to a model provider.
    pub model_calls: u64,
    /// Refused calls.
    pub refusals: u64,
    /// Recorded approvals.
    pub approvals: u64,
    /// Recorded denials.
    pub denials: u64,
    /// Runs that reached [`GateState::Applied`](crate::GateState::Applied).
    pub applies: u64,
    /// Intents without an outcome: calls in flight, or cut off by a crash.
    pub open_intents: u64,
}

/// [`JobState`] without its particulars, to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobPhase {
    /// [`JobState::Open`].
    Open,
    /// [`JobState::Closed`].
    Closed,
    /// [`JobState::Sealed`].
    Sealed,
}

/// What came of a job, to filter by; one job may be several of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOutcome {
    /// A run was applied.
    Applied,
    /// An approver said no by a signature.
    Denied,
    /// Something was refused.
    Refused,
}

/// Which jobs to list: those for which everything holds that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// In this phase only.
    pub phase: Option<JobPhase>,
    /// With this key of its own.
    pub agent: Option<Did>,
    /// Under a version of the contract of this name.
    pub contract: Option<String>,
    /// With a run in this workspace.
    pub workspace: Option<String>,
    /// With this outcome.
    pub outcome: Option<JobOutcome>,
    /// Opened then or later.
    pub since: Option<Timestamp>,
    /// Opened before then.
    pub until: Option<Timestamp>,
    /// Opened before this job: the last one of the page before.
    pub before: Option<JobId>,
    /// At most so many; more than 1000 are never given.
    pub limit: u32,
}

impl Default for JobFilter {
    fn default() -> Self {
        Self {
            phase: None,
            agent: None,
            contract: None,
            workspace: None,
            outcome: None,
            since: None,
            until: None,
            before: None,
            limit: 100,
        }
    }
}

/// What closing did.
#[derive(Debug, Clone, PartialEq)]
pub enum JobClosing {
    /// The job is closed by this call.
    Now {
        /// The closing record.
        appended: Box<Appended>,
        /// Intents that had no outcome and were closed as `unknown`, by `seq`.
        cut: Vec<u64>,
    },
    /// It was closed before, in this way; nothing was written.
    Before(Closing),
}

/// Jobs.
#[async_trait]
pub trait Jobs {
    /// Opens a job and appends its opening record, which says everything else about it.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `JobExists`, `NoSuchContract`, `ContractWithdrawn`.
    async fn open_job(
        &self,
        job_id: JobId,
        at: Timestamp,
        open: JobOpen,
    ) -> Result<Appended, StoreError>;

    /// One job.
    async fn job(&self, job_id: &JobId) -> Result<Option<JobRow>, StoreError>;

    /// Jobs, newest first.
    async fn jobs(&self, filter: JobFilter) -> Result<Vec<JobRow>, StoreError>;

    /// Closes a job: marks it and appends the closing record with the right count, in one
    /// transaction.
    ///
    /// A bundle must not hold an intent of which nothing is said. Those still without an outcome
    /// get one here that ended `unknown` with the code `JOB_CLOSED`, because nobody will be able
    /// to add theirs. So a gateway that wants true outcomes stops admitting calls, cuts the
    /// streams, waits until `open_intents` is 0 or its patience ends, and closes then.
    ///
    /// # Errors
    /// [`Conflict::NoSuchJob`](crate::Conflict::NoSuchJob).
    async fn close_job(
        &self,
        job_id: &JobId,
        closed_by: &str,
        reason: &str,
        at: Timestamp,
    ) -> Result<JobClosing, StoreError>;
}
