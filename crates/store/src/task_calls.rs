//! Calls of upstream's run tasks: what was asked at which stage of a run, and what was answered.

use std::str::FromStr;

use async_trait::async_trait;
use proof::{Json, Timestamp};

use crate::StoreError;

/// When in a run upstream asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskStage {
    /// Before the plan: the configuration is there.
    PrePlan,
    /// After the plan, before anybody can confirm it.
    PostPlan,
    /// Confirmed, before anything is changed.
    PreApply,
    /// After the apply.
    PostApply,
}

impl TaskStage {
    /// Every stage, in the order of a run.
    pub const ALL: [Self; 4] = [
        Self::PrePlan,
        Self::PostPlan,
        Self::PreApply,
        Self::PostApply,
    ];

    /// Upstream's name of it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrePlan => "pre_plan",
            Self::PostPlan => "post_plan",
            Self::PreApply => "pre_apply",
            Self::PostApply => "post_apply",
        }
    }
}

/// A text that names no stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no stage of a run task: pre_plan, post_plan, pre_apply and post_apply are")]
pub struct UnknownStage;

impl FromStr for TaskStage {
    type Err = UnknownStage;

    fn from_str(text: &str) -> Result<Self, UnknownStage> {
        let mut all = Self::ALL.into_iter();
        all.find(|stage| stage.as_str() == text).ok_or(UnknownStage)
    }
}

/// A call as it came. The token that came with it is not among this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskCall {
    /// Upstream's id of the answer that it wants.
    pub task_result_id: String,
    /// When in the run.
    pub stage: TaskStage,
    /// The organization's name.
    pub organization: String,
    /// The workspace.
    pub workspace_id: String,
    /// Its name.
    pub workspace_name: String,
    /// The run.
    pub run_id: String,
    /// It can only plan.
    pub speculative: bool,
    /// What a no does upstream: `mandatory` or `advisory`.
    pub enforcement: String,
    /// When it came first.
    pub received_at: Timestamp,
}

/// What was said to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskJudgement {
    /// Whether the run may go on.
    pub passed: bool,
    /// What was looked at and found.
    pub document: Json,
    /// When.
    pub at: Timestamp,
}

/// A call and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskCallRow {
    /// The call.
    pub call: TaskCall,
    /// What was said, once it is known.
    pub judgement: Option<TaskJudgement>,
    /// When upstream took the answer.
    pub reported_at: Option<Timestamp>,
}

/// Calls of run tasks. They are kept like actions of operators: for ever.
#[async_trait]
pub trait TaskCalls {
    /// Keeps a call; one that came before is answered as it stands, with its first time.
    ///
    /// # Errors
    /// [`Conflict::TaskCallDiffers`](crate::Conflict::TaskCallDiffers) when the id came before for
    /// another run, workspace or stage.
    async fn begin_task_call(&self, call: TaskCall) -> Result<TaskCallRow, StoreError>;

    /// Keeps what is said to a call, in place of what was said before and never reached upstream;
    /// false when upstream has an answer already, or when there is no such call.
    async fn judge_task_call(
        &self,
        task_result_id: &str,
        judgement: TaskJudgement,
    ) -> Result<bool, StoreError>;

    /// Notes that upstream took the answer; false when there is none to take.
    async fn report_task_call(
        &self,
        task_result_id: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// One call.
    async fn task_call(&self, task_result_id: &str) -> Result<Option<TaskCallRow>, StoreError>;

    /// The calls about a run, oldest first; at most 100.
    async fn task_calls(&self, run_id: &str) -> Result<Vec<TaskCallRow>, StoreError>;
}
