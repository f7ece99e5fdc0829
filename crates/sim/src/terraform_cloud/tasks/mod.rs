//! Run tasks: programs outside that are asked at four stages of a run, and whose mandatory no ends
//! it.
//!
//! A run has the stages that its workspace had when it was made. Each stage asks all of its tasks
//! at once and goes on when every one has answered, was given up, or never came.

pub(crate) mod admin;
mod calls;
pub(crate) mod results;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::cloud::Cloud;
use super::world::{Run, RunStatus, World};
use crate::ids;

/// How long a stage's token serves, and how long a task may take: the vendor's ten minutes.
const STAGE_LIFE: SignedDuration = SignedDuration::from_mins(10);

/// When in a run its tasks are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StageName {
    PrePlan,
    PostPlan,
    PreApply,
    PostApply,
}

impl StageName {
    /// Every stage, in the order of a run.
    const ALL: [Self; 4] = [
        Self::PrePlan,
        Self::PostPlan,
        Self::PreApply,
        Self::PostApply,
    ];

    /// Where a run is while its tasks are asked.
    pub(crate) fn running(self) -> RunStatus {
        match self {
            Self::PrePlan => RunStatus::PrePlanRunning,
            Self::PostPlan => RunStatus::PostPlanRunning,
            Self::PreApply => RunStatus::PreApplyRunning,
            Self::PostApply => RunStatus::PostApplyRunning,
        }
    }

    /// Where it is once they have let it pass.
    pub(crate) fn completed(self) -> RunStatus {
        match self {
            Self::PrePlan => RunStatus::PrePlanCompleted,
            Self::PostPlan => RunStatus::PostPlanCompleted,
            Self::PreApply => RunStatus::PreApplyCompleted,
            Self::PostApply => RunStatus::PostApplyCompleted,
        }
    }
}

/// What a no of a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Enforcement {
    /// It is shown.
    Advisory,
    /// It ends the run.
    Mandatory,
}

/// A run task of the organization.
#[derive(Debug, Clone)]
pub(crate) struct RunTask {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) url: String,
    pub(crate) enabled: bool,
    /// Signs the calls; never shown.
    pub(crate) hmac_key: Option<String>,
}

/// A run task that is attached to a workspace.
#[derive(Debug, Clone)]
pub(crate) struct WorkspaceTask {
    pub(crate) id: String,
    pub(crate) task_id: String,
    pub(crate) enforcement: Enforcement,
    pub(crate) stages: Vec<StageName>,
}

/// A stage of one run.
#[derive(Debug)]
pub(crate) struct TaskStage {
    pub(crate) id: String,
    pub(crate) name: StageName,
    pub(crate) status: TaskStatus,
    pub(crate) reached: Vec<(TaskStatus, Timestamp)>,
    pub(crate) created_at: Timestamp,
    pub(crate) results: Vec<TaskResult>,
}

/// What one task says at one stage of one run.
#[derive(Debug)]
pub(crate) struct TaskResult {
    pub(crate) id: String,
    /// Names the result in the address to which the task answers.
    pub(crate) guid: String,
    pub(crate) task: RunTask,
    pub(crate) workspace_task_id: String,
    pub(crate) enforcement: Enforcement,
    pub(crate) status: TaskStatus,
    pub(crate) reached: Vec<(TaskStatus, Timestamp)>,
    pub(crate) message: String,
    pub(crate) url: Option<String>,
    pub(crate) outcomes: Vec<Outcome>,
}

/// One particular of a result.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) id: String,
    pub(crate) attributes: serde_json::Value,
}

/// How far a stage or a result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskStatus {
    Pending,
    Running,
    Passed,
    Failed,
    Errored,
    Canceled,
    Unreachable,
}

impl TaskStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Errored => "errored",
            Self::Canceled => "canceled",
            Self::Unreachable => "unreachable",
        }
    }

    fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// What a task may do with the token of its call.
#[derive(Debug, Clone)]
pub(crate) struct StageToken {
    pub(crate) run_id: String,
    pub(crate) result_id: String,
    pub(crate) expires_at: Timestamp,
}

impl StageToken {
    pub(crate) fn serves(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

impl TaskStage {
    fn move_to(&mut self, status: TaskStatus) {
        self.status = status;
        self.reached.push((status, Timestamp::now()));
    }
}

impl TaskResult {
    fn move_to(&mut self, status: TaskStatus, message: &str) {
        self.status = status;
        self.reached.push((status, Timestamp::now()));
        if !message.is_empty() {
            self.message = message.to_owned();
        }
    }
}

/// The stages of a new run: those for which its workspace has an enabled task.
pub(crate) fn stages_for(world: &World, workspace_id: &str) -> Vec<TaskStage> {
    let attached = world
        .workspaces
        .get(workspace_id)
        .map(|workspace| workspace.tasks.as_slice())
        .unwrap_or_default();
    let stage = |name| {
        let asked = attached.iter().filter(|task| task.stages.contains(&name));
        let results: Vec<TaskResult> = asked.filter_map(|task| result(world, task)).collect();
        (!results.is_empty()).then(|| TaskStage {
            id: ids::id("ts"),
            name,
            status: TaskStatus::Pending,
            reached: Vec::new(),
            created_at: Timestamp::now(),
            results,
        })
    };
    StageName::ALL.into_iter().filter_map(stage).collect()
}

fn result(world: &World, attached: &WorkspaceTask) -> Option<TaskResult> {
    let task = world.run_tasks.get(&attached.task_id)?;
    task.enabled.then(|| TaskResult {
        id: ids::id("taskrs"),
        guid: ids::letters(32).to_ascii_lowercase(),
        task: task.clone(),
        workspace_task_id: attached.id.clone(),
        enforcement: attached.enforcement,
        status: TaskStatus::Pending,
        reached: Vec::new(),
        message: String::new(),
        url: None,
        outcomes: Vec::new(),
    })
}

/// Lets every id of a run's stages be found.
pub(crate) fn index(world: &mut World, run: &Run) {
    for stage in &run.task_stages {
        world.run_of.insert(stage.id.clone(), run.id.clone());
        for result in &stage.results {
            world.run_of.insert(result.id.clone(), run.id.clone());
            world.run_of.insert(result.guid.clone(), run.id.clone());
        }
    }
}

/// Asks the tasks of a stage; false when the run has no such stage.
pub(crate) fn ask(cloud: &Arc<Cloud>, world: &mut World, run_id: &str, name: StageName) -> bool {
    let expires_at = Timestamp::now() + STAGE_LIFE;
    let Some(run) = world.runs.get_mut(run_id) else {
        return false;
    };
    let stage = run.task_stages.iter_mut().find(|stage| stage.name == name);
    let Some(stage) = stage.filter(|stage| stage.status == TaskStatus::Pending) else {
        return false;
    };
    stage.move_to(TaskStatus::Running);
    let mut asked = Vec::new();
    for result in &mut stage.results {
        result.move_to(TaskStatus::Running, "");
        let token = format!("{}.atlasv1.{}", ids::letters(14), ids::letters(67));
        asked.push((result.id.clone(), token));
    }
    for (result_id, token) in asked {
        let bearer = StageToken {
            run_id: run_id.to_owned(),
            result_id: result_id.clone(),
            expires_at,
        };
        world.stage_tokens.insert(token.clone(), bearer);
        let call = calls::call(Arc::clone(cloud), run_id.to_owned(), result_id, token);
        cloud.spawn(call);
    }
    true
}

/// What became of a stage when one of its tasks has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Others have not answered yet.
    NotYet,
    /// The run goes on.
    Passed(StageName),
    /// A mandatory task said no, or nothing.
    Failed,
}

/// Writes down a task's answer, and what follows for its stage. A task answers once.
pub(crate) fn answered(
    run: &mut Run,
    result_id: &str,
    status: TaskStatus,
    message: &str,
) -> Option<Settled> {
    let stage = run
        .task_stages
        .iter_mut()
        .find(|stage| stage.results.iter().any(|result| result.id == result_id))?;
    let result = stage
        .results
        .iter_mut()
        .find(|result| result.id == result_id)?;
    if result.status != TaskStatus::Running {
        return None;
    }
    result.move_to(status, message);
    if !stage.results.iter().all(|result| result.status.is_final()) {
        return Some(Settled::NotYet);
    }
    let refused = stage.results.iter().any(|result| {
        result.enforcement == Enforcement::Mandatory && result.status != TaskStatus::Passed
    });
    stage.move_to(if refused {
        TaskStatus::Failed
    } else {
        TaskStatus::Passed
    });
    // What was applied is applied: afterwards a no is only shown.
    let ends = refused && stage.name != StageName::PostApply;
    Some(if ends {
        Settled::Failed
    } else {
        Settled::Passed(stage.name)
    })
}

/// Ends what a run that has ended still asked, or would have asked.
pub(crate) fn end(run: &mut Run) {
    let ended = |status| match status {
        TaskStatus::Running => Some(TaskStatus::Canceled),
        TaskStatus::Pending => Some(TaskStatus::Unreachable),
        _ => None,
    };
    for stage in &mut run.task_stages {
        for result in &mut stage.results {
            if let Some(status) = ended(result.status) {
                result.move_to(status, "");
            }
        }
        if let Some(status) = ended(stage.status) {
            stage.move_to(status);
        }
    }
}
