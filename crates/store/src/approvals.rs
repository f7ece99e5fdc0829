//! Approvers' statements, and how they move the gate.

use async_trait::async_trait;
use proof::Timestamp;
use proof::approval::{Decision, SignedStatement, Statement};
use proof::record::{ApprovalVia, JobId};

use crate::{GateState, RunBrief, StoreError};

/// A statement whose signature and authority the caller has checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NewStatement {
    /// As it was signed.
    pub envelope: SignedStatement,
    /// What it says; must be the envelope's payload.
    pub statement: Statement,
    /// How it reached us.
    pub via: ApprovalVia,
    /// The authenticator's counter, when a passkey signed.
    pub sign_count: Option<u32>,
    /// Now.
    pub at: Timestamp,
    /// How many distinct approvers the contract asks for.
    pub min_approvals: u32,
}

/// What a statement did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementOutcome {
    /// An approval that counts.
    Counted {
        /// Distinct approvers so far.
        approvals: u32,
        /// They are enough: the gate stands at [`GateState::Approved`].
        complete: bool,
    },
    /// A denial; the gate stands at [`GateState::Denied`].
    Denied,
    /// The gate stands elsewhere and did not move.
    NotAwaiting(GateState),
    /// The nonce was used before, or the same approver said the same before. Nothing is kept.
    Duplicate,
    /// The statement is about something else than what the run is now. Nothing is kept.
    SubjectChanged,
    /// The statement or the question has lapsed. Nothing is kept.
    Lapsed,
    /// The passkey that signed is not the approver's, or was removed. Nothing is kept.
    PasskeyGone,
    /// The passkey's counter is not above the latest: its key may exist twice. Nothing is kept.
    CounterBack,
}

/// A statement that was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementRow {
    /// The run.
    pub run_id: String,
    /// The job.
    pub job_id: JobId,
    /// As it was signed.
    pub envelope: SignedStatement,
    /// The approver's e-mail address.
    pub approver: String,
    /// Yes or no.
    pub decision: Decision,
    /// How it reached us.
    pub via: ApprovalVia,
    /// Time of its record.
    pub at: Timestamp,
    /// Place of its record in the job.
    pub seq: u64,
    /// It came in time to count; false for one that came after the gate had moved.
    pub counted: bool,
}

/// Approvers' statements.
#[async_trait]
pub trait Approvals {
    /// Takes a statement, in one transaction: nonce and approver are new, the run is what the
    /// statement says, the approval record is appended, the gate moves.
    ///
    /// An approval counts while the gate awaits approval. A denial counts also when the run is
    /// approved and the apply has not begun, because a no that comes in time must hold. A
    /// statement about the run as it is that comes too late for either is kept and recorded
    /// while the job is open, since an auditor wants to see it, and changes nothing
    /// ([`StatementOutcome::NotAwaiting`]); there can be at most one of each kind from each
    /// approver.
    ///
    /// A statement that a passkey signed needs the approver's passkey in force, and its counter
    /// goes up in the same transaction: after a removal was answered, nothing that the passkey
    /// signed is taken.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchRun`, `StatementMismatch`.
    async fn record_statement(
        &self,
        statement: NewStatement,
    ) -> Result<StatementOutcome, StoreError>;

    /// Statements about a run, in the order of their records.
    async fn statements(&self, run_id: &str) -> Result<Vec<StatementRow>, StoreError>;

    /// Statements of a job, in the order of their records.
    async fn statements_of_job(&self, job_id: &JobId) -> Result<Vec<StatementRow>, StoreError>;

    /// Every run that awaits approval, the longest waiting first.
    async fn waiting(&self) -> Result<Vec<RunBrief>, StoreError>;

    /// The ids of those, in the same order; little enough to be asked for with each commit.
    async fn waiting_ids(&self) -> Result<Vec<String>, StoreError>;
}
