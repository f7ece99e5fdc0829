//! Everything in the order in which it was written, for those who collect it elsewhere.
//!
//! Two lists, each with numbers that only grow: the log's records, and what operators did. What
//! can be read never gets a smaller number later, so a reader that remembers the last number has
//! missed nothing and meets nothing twice.

use async_trait::async_trait;
use proof::record::{Intent, JobId, Record};
use proof::{Did, Hash, Timestamp};

use crate::{OperatorAction, PrunedRecord, StoreError};

/// Which records to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRange {
    /// The first place in the log.
    pub from: u64,
    /// Of this job only.
    pub job: Option<JobId>,
    /// At most so many; more than 1000 are never given.
    pub limit: u32,
}

/// A record with what other rows say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedRecord {
    /// Its place in the log, from 0.
    pub leaf_index: u64,
    /// Its hash there.
    pub leaf_hash: Hash,
    /// The record.
    pub record: Record,
    /// What its job is for.
    pub job_name: String,
    /// The key of its job.
    pub agent_did: Did,
    /// The contract of its job.
    pub policy_hash: Hash,
    /// That contract's name and version.
    pub contract: (String, u64),
    /// What an outcome answers.
    pub intent: Option<Box<Intent>>,
    /// Organization and workspace of the run that it names, when that run is known.
    pub place: Option<(String, String)>,
}

/// An entry of the log as its leaf was made of it: a record, or a key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the log, from 0.
    pub leaf_index: u64,
    /// Its hash there.
    pub leaf_hash: Hash,
    /// Its canonical form; empty when it is a record whose content went after its time.
    pub entry: Vec<u8>,
    /// What stays of such a record.
    pub pruned: Option<PrunedRecord>,
}

/// What stands at a place in the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Logged {
    /// A record.
    Record(Box<LoggedRecord>),
    /// What stays of one whose content went after its time.
    Pruned(PrunedRecord),
}

impl Logged {
    /// Its place in the log, from 0.
    pub fn leaf_index(&self) -> u64 {
        match self {
            Self::Record(record) => record.leaf_index,
            Self::Pruned(pruned) => pruned.leaf_index,
        }
    }

    /// The record's time.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Record(record) => record.record.at,
            Self::Pruned(pruned) => pruned.at,
        }
    }

    /// The record, when it is still there.
    pub fn record(self) -> Option<LoggedRecord> {
        match self {
            Self::Record(record) => Some(*record),
            Self::Pruned(_) => None,
        }
    }
}

/// Something that an operator did, with its number.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberedAction {
    /// 1, 2, 3 …
    pub number: u64,
    /// What it was.
    pub action: OperatorAction,
}

/// Reading in the order of writing.
#[async_trait]
pub trait Exports {
    /// Entries from a place in the log on, in its order; at most 1000.
    async fn entries(&self, from: u64, count: u32) -> Result<Vec<LogEntry>, StoreError>;

    /// Records from a place in the log on, in its order: one whose content went stands there as
    /// such. Entries that are no records are left out.
    async fn logged(&self, range: LogRange) -> Result<Vec<Logged>, StoreError>;

    /// A place in the log before which every record is older than `since`. Times of different
    /// jobs may be out of order there, so newer and older ones follow.
    async fn log_place(&self, since: Timestamp) -> Result<u64, StoreError>;

    /// What operators did, after that number, in order; at most 1000.
    async fn actions_after(
        &self,
        number: u64,
        limit: u32,
    ) -> Result<Vec<NumberedAction>, StoreError>;

    /// Number of the last thing that an operator did; 0 when there is none.
    async fn last_action(&self) -> Result<u64, StoreError>;
}
