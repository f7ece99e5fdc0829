//! Terraform runs and where each stands at the gate.

use async_trait::async_trait;
use proof::approval::{Changes, Subject};
use proof::record::{Intent, JobId};
use proof::{Hash, Json, Timestamp};

use crate::{Appended, StoreError};

/// Where a run stands at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GateState {
    /// Upstream plans it or has planned it; the gate has not looked yet.
    Planned,
    /// The plan is being read and judged.
    Inspecting,
    /// The plan breaks the contract; the run is about to be discarded upstream.
    Violates,
    /// Approvers are asked.
    AwaitingApproval,
    /// Enough of them agreed.
    Approved,
    /// Run and plan are read once more.
    Rechecking,
    /// The apply was asked for.
    Applying,
    /// Upstream applied it.
    Applied,
    /// It failed, before or in the apply.
    Errored,
    /// An approver said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// Something changed under the approval, or a newer run took its place.
    Superseded,
    /// It was discarded or canceled.
    Discarded,
    /// It ended with nothing to apply: plan-only, or without changes.
    Finished,
}

impl GateState {
    /// Every state.
    pub const ALL: [Self; 14] = [
        Self::Planned,
        Self::Inspecting,
        Self::Violates,
        Self::AwaitingApproval,
        Self::Approved,
        Self::Rechecking,
        Self::Applying,
        Self::Applied,
        Self::Errored,
        Self::Denied,
        Self::Expired,
        Self::Superseded,
        Self::Discarded,
        Self::Finished,
    ];

    /// Stable name, for storage and display.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Inspecting => "inspecting",
            Self::Violates => "violates",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Approved => "approved",
            Self::Rechecking => "rechecking",
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Errored => "errored",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Discarded => "discarded",
            Self::Finished => "finished",
        }
    }

    /// Whether nothing follows.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Applied
                | Self::Errored
                | Self::Denied
                | Self::Expired
                | Self::Superseded
                | Self::Discarded
                | Self::Finished
        )
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A run that an agent's call made.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// The run.
    pub run_id: String,
    /// The job that it belongs to.
    pub job_id: JobId,
    /// The organization's name.
    pub organization: String,
    /// The workspace.
    pub workspace_id: String,
    /// The configuration that is planned.
    pub configuration_version_id: Option<String>,
    /// Its digest as we uploaded it.
    pub configuration_sha256: Option<Hash>,
    /// The plan.
    pub plan_id: Option<String>,
    /// The apply.
    pub apply_id: Option<String>,
    /// The agent wanted it applied when planned (`auto-apply`), or asked for the apply since.
    pub apply_wished: bool,
    /// Where it stands.
    pub gate: GateState,
    /// Digest of the plan JSON, canonical, without `timestamp`.
    pub plan_sha256: Option<Hash>,
    /// Digest of the plan JSON's raw bytes.
    pub plan_raw_sha256: Option<Hash>,
    /// How much it would change.
    pub changes: Option<Changes>,
    /// What an approval would be bound to.
    pub subject: Option<Subject>,
    /// What an approver is shown.
    pub summary: Option<Json>,
    /// Upstream's status, as last seen.
    pub status: String,
    /// State version before the apply.
    pub state_version_before: Option<String>,
    /// State version that the apply made.
    pub state_version_after: Option<String>,
    /// Why the gate is where it is, by reason code or in words.
    pub gate_reason: Option<String>,
    /// When the question to the approvers lapses.
    pub approval_expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When this row was last changed.
    pub updated_at: Timestamp,
}

/// A run and its job, without what an approver is shown: that may take hundreds of KiB, and lists
/// of runs do not need it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunBrief {
    /// See [`RunRow`].
    pub run_id: String,
    /// See [`RunRow`].
    pub job_id: JobId,
    /// What the job is for.
    pub job_name: String,
    /// The contract of the job.
    pub policy_hash: Hash,
    /// See [`RunRow`].
    pub organization: String,
    /// See [`RunRow`].
    pub workspace_id: String,
    /// See [`RunRow`].
    pub apply_wished: bool,
    /// See [`RunRow`].
    pub gate: GateState,
    /// See [`RunRow`].
    pub changes: Option<Changes>,
    /// See [`RunRow`].
    pub subject: Option<Subject>,
    /// See [`RunRow`].
    pub approval_expires_at: Option<Timestamp>,
    /// See [`RunRow`].
    pub updated_at: Timestamp,
}

/// What to change about a run: only the members that are set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunUpdate {
    /// See [`RunRow`].
    pub configuration_version_id: Option<String>,
    /// See [`RunRow`].
    pub configuration_sha256: Option<Hash>,
    /// See [`RunRow`].
    pub plan_id: Option<String>,
    /// See [`RunRow`].
    pub apply_id: Option<String>,
    /// See [`RunRow`].
    pub apply_wished: Option<bool>,
    /// See [`RunRow`].
    pub plan_sha256: Option<Hash>,
    /// See [`RunRow`].
    pub plan_raw_sha256: Option<Hash>,
    /// See [`RunRow`].
    pub changes: Option<Changes>,
    /// See [`RunRow`].
    pub subject: Option<Subject>,
    /// See [`RunRow`].
    pub summary: Option<Json>,
    /// See [`RunRow`].
    pub status: Option<String>,
    /// See [`RunRow`].
    pub state_version_before: Option<String>,
    /// See [`RunRow`].
    pub state_version_after: Option<String>,
    /// See [`RunRow`].
    pub gate_reason: Option<String>,
    /// See [`RunRow`].
    pub approval_expires_at: Option<Timestamp>,
}

/// A configuration version that an agent's call made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationRow {
    /// Its id.
    pub cv_id: String,
    /// The job that it belongs to.
    pub job_id: JobId,
    /// The workspace.
    pub workspace_id: String,
    /// Digest of what we uploaded.
    pub sha256: Option<Hash>,
    /// The upload is complete.
    pub uploaded: bool,
    /// It can be planned only.
    pub speculative: bool,
}

/// Runs and configuration versions.
#[async_trait]
pub trait Runs {
    /// Keeps a new run.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `RunExists`.
    async fn insert_run(&self, run: RunRow) -> Result<(), StoreError>;

    /// The same for a run that a request made, which is remembered with it, in one transaction:
    /// see [`Self::remember_run_request`].
    ///
    /// # Errors
    /// Those of [`Self::insert_run`].
    async fn insert_requested_run(
        &self,
        run: RunRow,
        request_hash: &Hash,
    ) -> Result<(), StoreError>;

    /// One run.
    async fn run(&self, run_id: &str) -> Result<Option<RunRow>, StoreError>;

    /// Every run of a job, oldest first.
    async fn runs(&self, job_id: &JobId) -> Result<Vec<RunRow>, StoreError>;

    /// Every run whose gate is not final, oldest first: what a start-up takes up again.
    async fn active_runs(&self) -> Result<Vec<RunRow>, StoreError>;

    /// The same runs, in brief.
    async fn active_briefs(&self) -> Result<Vec<RunBrief>, StoreError>;

    /// Changes members of a run, never its gate; `None` when there is no such run. Why a run has
    /// ended stays what it was.
    ///
    /// # Errors
    /// [`Conflict::SubjectApproved`](crate::Conflict::SubjectApproved) for another subject than
    /// the one that was approved. While approvers are still asked the subject may change: what
    /// they said about the former one does not count for the new one.
    async fn update_run(
        &self,
        run_id: &str,
        at: Timestamp,
        update: RunUpdate,
    ) -> Result<Option<RunRow>, StoreError>;

    /// Moves the gate from one of the states `from` to `to` and changes members with it, if it
    /// still stands there; `None` when it does not, or when there is no such run. A final state
    /// is never left, whatever `from` says.
    ///
    /// # Errors
    /// [`Conflict::SubjectApproved`](crate::Conflict::SubjectApproved) for another subject on the
    /// way from the question to the apply.
    async fn transition(
        &self,
        run_id: &str,
        from: &[GateState],
        to: GateState,
        at: Timestamp,
        update: RunUpdate,
    ) -> Result<Option<RunRow>, StoreError>;

    /// Moves the gate from `rechecking` to `applying` and appends the intent of the apply, in one
    /// transaction: no crash and no closing of the job comes between them. `None`, and nothing is
    /// appended, when the gate stands elsewhere or there is no such run.
    ///
    /// # Errors
    /// Those of [`Log::append`](crate::Log::append) for an intent; the gate has not moved then.
    async fn begin_apply(
        &self,
        run_id: &str,
        at: Timestamp,
        update: RunUpdate,
        intent: Intent,
    ) -> Result<Option<Appended>, StoreError>;

    /// Keeps what a run's plan would change, object by object, in this order; what was kept for
    /// the run before goes.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchRun`.
    async fn keep_plan_objects(&self, run_id: &str, objects: Vec<Json>) -> Result<(), StoreError>;

    /// A piece of what a run's plan would change, from a place on (the first is 0); at most 1000.
    async fn plan_objects(
        &self,
        run_id: &str,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Json>, StoreError>;

    /// The run that the same request of the same job made, not earlier than `not_before`: a
    /// client that repeats a creation gets the run that it made, not another one.
    async fn run_for_request(
        &self,
        job_id: &JobId,
        request_hash: &Hash,
        not_before: Timestamp,
    ) -> Result<Option<String>, StoreError>;

    /// Remembers which run a request made; a later one of the same request takes its place.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`.
    async fn remember_run_request(
        &self,
        job_id: &JobId,
        request_hash: &Hash,
        run_id: &str,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// One configuration version.
    async fn configuration(&self, cv_id: &str) -> Result<Option<ConfigurationRow>, StoreError>;

    /// Keeps a configuration version, or what has become known about it: a digest once set
    /// stays, and an upload is not undone.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `ConfigurationDiffers` for another owner,
    /// workspace, digest or kind.
    async fn save_configuration(&self, configuration: ConfigurationRow) -> Result<(), StoreError>;
}
