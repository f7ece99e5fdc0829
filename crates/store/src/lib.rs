//! The gateway's durable state, and the only SQL in the workspace.
//!
//! One narrow trait per area; [`Store`] is all of them, and is used as `Arc<dyn Store>`. Row
//! types are plain: what a column may not say (a closed job without a closing time, a token that
//! is revoked by nobody) cannot be built from them either.
//!
//! # What every engine keeps
//! The contract suite in `tests/contract` runs against `Arc<dyn Store>`; an engine is one
//! that passes it.
//! - **Answered means durable.** A write's future resolves after the commit that holds it. When
//!   that commit fails, every write in it fails with [`StoreError::Unavailable`] and none counts.
//! - **Each write is one transaction**, whatever it touches: an outcome with its receipt and its
//!   ids, a job's closing with its record, a statement with the gate that it moves.
//! - **Order is given here.** `seq` has no gaps within a job, the leaf index none in the log, and
//!   a job's record times do not run backwards.
//! - **Races have one winner**: bindings, transitions, statements and single uses are
//!   compare-and-swap, decided by the writers' order.
//! - **Bounds.** Queues are bounded; a full one answers [`StoreError::Busy`] at once. Lists take
//!   a limit or are bounded by their job.
//! - **Not found is `None`.** A write that needs something that is not there is a
//!   [`Conflict`], because its caller has looked before.
//!
//! To add an area: a trait beside the others with its row types, the SQL in a module of the same
//! name under `sql/`, which serves every engine, its tables among the steps of each engine, a
//! line in [`Store`], and its rules in the contract suite.

#![forbid(unsafe_code)]

mod approvals;
mod budgets;
mod bundles;
mod commits;
mod contracts;
mod error;
mod exports;
mod jobs;
mod key_sets;
mod log;
mod model_keys;
mod notices;
mod objects;
mod observations;
mod operators;
mod passkeys;
pub mod points;
mod postgres;
mod publications;
mod receipts;
mod replicas;
mod retention;
mod runs;
mod sessions;
mod sql;
mod sqlite;
mod task_calls;
mod tokens;
mod whole;

pub use self::postgres::{PostgresPlace, Seat, UnusableAddress, open_postgres};
pub use approvals::{Approvals, NewStatement, StatementOutcome, StatementRow};
pub use budgets::{Budget, Budgets, ModelLimits, ModelSpend, ModelUsage, Reservation};
pub use bundles::{BundleRow, Bundles};
pub use commits::Commits;
pub use contracts::{
    ContractRow, ContractSummary, ContractVersion, Contracts, Published, Withdrawal,
};
pub use error::{Cause, Conflict, StoreError};
pub use exports::{Exports, LogEntry, LogRange, Logged, LoggedRecord, NumberedAction};
pub use jobs::{
    Closing, JobClosing, JobCounters, JobFilter, JobOutcome, JobPhase, JobRow, JobState, Jobs,
};
pub use key_sets::{KeySets, StoredKeySet};
pub use log::{Appended, CheckpointRow, Log, OpenIntent, Pending, StoredRecord};
pub use model_keys::{KeyClaim, ModelKeys};
pub use notices::{DueNotice, News, NewsQuery, NoticeRow, NoticeState, Notices, Told};
pub use objects::{ObjectRow, Objects};
pub use observations::{
    Baseline, FIRST_LOOK, Look, Observation, ObservationFilter, ObservationRow, Observations,
};
pub use operators::{OperatorAction, OperatorRow, Operators};
pub use passkeys::{
    Enrolled, Invitation, MAX_PASSKEYS, NewPasskey, PasskeyRow, PasskeyUse, Passkeys, Removed,
};
pub use publications::{MAX_PUBLICATIONS, Publication, Publications};
pub use receipts::{ReceiptKind, Receipts, ReceiptsOfJob};
pub use replicas::{Follower, Happened, LeasedJob, Replicas};
pub use retention::{
    Hold, Lifted, MAX_HOLDS, PRUNED_AT_ONCE, Part, Prunable, PrunedRecord, Pruning, Retention,
};
pub use runs::{ConfigurationRow, GateState, RunBrief, RunRow, RunUpdate, Runs};
pub use sessions::{Account, SessionProof, SessionRow, Sessions};
pub use sql::transfer::TransferError;
pub use sqlite::{open_sqlite, open_sqlite_as, open_sqlite_bounded, open_sqlite_in_memory};
pub use task_calls::{TaskCall, TaskCallRow, TaskCalls, TaskJudgement, TaskStage, UnknownStage};
pub use tokens::{
    Bound, ElevatedApproval, NewToken, RevocationRow, Revoked, TokenRevocation, TokenRow, Tokens,
};

pub use whole::{
    Soundness, StorePlace, check_store, copy_store, export_store, import_store, migrate_store,
};

/// Everything that the gateway remembers.
pub trait Store:
    Contracts
    + Jobs
    + Tokens
    + Objects
    + Observations
    + Runs
    + Approvals
    + Log
    + KeySets
    + Exports
    + Receipts
    + Bundles
    + Operators
    + Sessions
    + Passkeys
    + Publications
    + Budgets
    + ModelKeys
    + Commits
    + TaskCalls
    + Notices
    + Retention
    + Replicas
    + Send
    + Sync
{
}

impl<T> Store for T where
    T: Contracts
        + Jobs
        + Tokens
        + Objects
        + Observations
        + Runs
        + Approvals
        + Log
        + KeySets
        + Exports
        + Receipts
        + Bundles
        + Operators
        + Sessions
        + Passkeys
        + Publications
        + Budgets
        + ModelKeys
        + Commits
        + TaskCalls
        + Notices
        + Retention
        + Replicas
        + Send
        + Sync
{
}
