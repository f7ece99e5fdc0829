//! What can go wrong when something is stored.

use std::sync::Arc;

use proof::record::JobId;

/// Why the engine could not do its work.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// A read or a write that did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The engine cannot write or read now: disk full, I/O error, or it has been shut down.
    /// Nothing of the operation counts, unless the cause says that this could not be found out: a
    /// server was lost while it committed. Whoever gets this goes on as if nothing had been done,
    /// and is prepared for a [`Conflict`] or a duplicate.
    #[error("the store is unavailable")]
    Unavailable(#[source] Cause),
    /// A bounded queue is full, or another process holds the store for too long. Nothing was
    /// done; the caller sheds load.
    #[error("the store is busy")]
    Busy,
    /// The operation does not fit what is stored.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// What is stored cannot be understood: damaged, or written by something else.
    #[error("the store is corrupt: {0}")]
    Corrupt(String),
}

impl StoreError {
    pub(crate) fn unavailable(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Arc::new(cause))
    }

    /// The conflict, when it is one.
    pub fn conflict(&self) -> Option<&Conflict> {
        match self {
            Self::Conflict(conflict) => Some(conflict),
            _ => None,
        }
    }
}

/// Why an operation does not fit what is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The store was written by a newer version of this program.
    #[error("the store has schema {found}, newer than {known}, which this program knows")]
    NewerSchema {
        /// Number of the last migration in the store.
        found: u32,
        /// Number of the last migration that this program has.
        known: u32,
    },
    /// The same document is already published under another name.
    #[error("this contract is already published as `{0}`")]
    ContractName(String),
    /// The version in force of the contract's name is another one by now.
    #[error("the version in force was withdrawn or replaced meanwhile; try again")]
    OtherInForce,
    /// The contract that is named is not published.
    #[error("no such contract is published")]
    NoSuchContract,
    /// The contract was withdrawn: nothing new may be based on it.
    #[error("the contract has been withdrawn")]
    ContractWithdrawn,
    /// A job of this id exists.
    #[error("job `{0}` exists already")]
    JobExists(JobId),
    /// The job that is named does not exist.
    #[error("no job `{0}`")]
    NoSuchJob(JobId),
    /// The job is closed: nothing follows its closing record.
    #[error("job `{0}` is closed")]
    JobClosed(JobId),
    /// The job is still open, and what was asked needs a closed one.
    #[error("job `{0}` is still open")]
    JobOpen(JobId),
    /// The job is sealed with another bundle.
    #[error("job `{0}` is sealed with another bundle")]
    JobSealed(JobId),
    /// Somebody holds the job: nothing of it may go.
    #[error("job `{0}` is held")]
    JobHeld(JobId),
    /// A link to the job's bundle is good: the bundle may not go.
    #[error("a link to the bundle of job `{0}` is good")]
    JobLinked(JobId),
    /// Nothing of the job was to go.
    #[error("nothing of job `{0}` was to go")]
    NotPruned(JobId),
    /// The content went after its time; what it was the hash of stays.
    #[error("the content of job `{0}` was removed after its retention")]
    ContentPruned(JobId),
    /// The record's kind has an operation of its own, which keeps more than the record.
    #[error("a record of this kind is not appended on its own")]
    OwnOperation,
    /// The record holds a number that two readers could write differently, or is too long to be an
    /// entry of the log.
    #[error("a record holds integers up to 2^53-1 only, and has 65535 bytes at most")]
    Unrecordable,
    /// The outcome names something that is no intent of the job.
    #[error("record {0} of the job is no intent")]
    NoSuchIntent(u64),
    /// The intent has its outcome already.
    #[error("intent {0} of the job has its outcome already")]
    IntentAnswered(u64),
    /// The receipt is not the one that the outcome names, or its id is taken.
    #[error("the receipt is not the one that the outcome names")]
    ReceiptMismatch,
    /// A checkpoint over more leaves than the log has.
    #[error("the log has {0} leaves, fewer than the checkpoint")]
    CheckpointBeyondLog(u64),
    /// Another key set was appended meanwhile, or one is missing.
    #[error("key set {0} is the last one; another one follows it")]
    KeySetNumber(u64),
    /// The token was revoked, and begins nothing any more; or one of its job's was, of which none
    /// is renewed then.
    #[error("a token of the job was revoked")]
    TokenRevoked,
    /// The token has expired by the time that the record would bear.
    #[error("the token has expired by the time of the job's latest record")]
    TokenExpired,
    /// A token of this hash exists.
    #[error("the token exists already")]
    TokenExists,
    /// The token names another job or contract than the one that it is issued for.
    #[error("the token's claims do not fit its job")]
    TokenMismatch,
    /// The object is known to belong to another workspace or job.
    #[error("{kind} `{id}` belongs elsewhere")]
    ObjectElsewhere {
        /// Kind of object.
        kind: String,
        /// Its id.
        id: String,
    },
    /// A run of this id exists.
    #[error("run `{0}` exists already")]
    RunExists(String),
    /// The run that is named does not exist.
    #[error("no run `{0}`")]
    NoSuchRun(String),
    /// The run was approved as it is; what it is may not change under the approval.
    #[error("run `{0}` was approved as it is")]
    SubjectApproved(String),
    /// The configuration version has another owner, workspace or digest.
    #[error("configuration version `{0}` is another one")]
    ConfigurationDiffers(String),
    /// The statement is not the one in the envelope.
    #[error("the statement is not the one that was signed")]
    StatementMismatch,
    /// A call of a run task with this id came before, about something else.
    #[error("task result `{0}` is about something else")]
    TaskCallDiffers(String),
    /// An operator of this name or with this credential exists.
    #[error("operator `{0}` exists already")]
    OperatorExists(String),
    /// The reservation does not exist, or was settled before.
    #[error("no open reservation {0}")]
    NoSuchReservation(u64),
}
