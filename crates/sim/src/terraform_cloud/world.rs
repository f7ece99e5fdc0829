//! Everything that the stand-in for Terraform Cloud knows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::AbortHandle;

use super::config::{PriceTable, Settings};
use super::notifications::Notification;
use super::policies::{Policy, PolicyCheck};
use super::state_version::StateVersion;
use super::tasks::{RunTask, StageName, StageToken, TaskStage, WorkspaceTask};
use super::triggers::RunTrigger;
use crate::engine::{Counts, Log, SavedPlan};
use crate::ids;

/// All objects of the organization, by id.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) workspaces: BTreeMap<String, Workspace>,
    pub(crate) configurations: HashMap<String, ConfigurationVersion>,
    pub(crate) runs: HashMap<String, Run>,
    pub(crate) state_versions: HashMap<String, StateVersion>,
    pub(crate) run_triggers: BTreeMap<String, RunTrigger>,
    pub(crate) notifications: BTreeMap<String, Notification>,
    /// The organization's run tasks, by id.
    pub(crate) run_tasks: BTreeMap<String, RunTask>,
    /// What run tasks were told, oldest first.
    pub(crate) task_calls: Vec<Value>,
    /// What run tasks were given to read and to answer with, by token.
    pub(crate) stage_tokens: HashMap<String, StageToken>,
    /// Which run a plan, an apply, a cost estimate, a comment, a run event, a task stage or a task
    /// result belongs to.
    pub(crate) run_of: HashMap<String, String>,
    /// Bytes of all uploads together.
    pub(crate) upload_bytes: usize,
    /// Counts everything that is made, so that lists have an order.
    made: u64,
}

impl World {
    /// The next position in the order of making.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    pub(crate) fn run_with_plan(&self, plan_id: &str) -> Option<&Run> {
        self.runs
            .get(self.run_of.get(plan_id)?)
            .filter(|run| run.plan.id == plan_id)
    }

    pub(crate) fn run_with_apply(&self, apply_id: &str) -> Option<&Run> {
        self.runs
            .get(self.run_of.get(apply_id)?)
            .filter(|run| run.apply.id == apply_id)
    }

    /// The runs of a workspace, or of all, newest first.
    pub(crate) fn runs_newest_first(&self, workspace_id: Option<&str>) -> Vec<&Run> {
        let mut runs: Vec<&Run> = self
            .runs
            .values()
            .filter(|run| workspace_id.is_none_or(|id| run.workspace_id == id))
            .collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.number));
        runs
    }

    /// The state versions of a workspace, newest first.
    pub(crate) fn states_newest_first(&self, workspace_id: &str) -> Vec<&StateVersion> {
        let mut states: Vec<&StateVersion> = self
            .state_versions
            .values()
            .filter(|state| state.workspace_id == workspace_id)
            .collect();
        states.sort_by_key(|state| std::cmp::Reverse(state.number));
        states
    }

    pub(crate) fn current_state(&self, workspace_id: &str) -> Option<&StateVersion> {
        let id = self.workspaces.get(workspace_id)?.current_state.as_ref()?;
        self.state_versions.get(id)
    }

    /// Makes a state version the current one of its workspace.
    pub(crate) fn add_state(&mut self, state: StateVersion) {
        if let Some(workspace) = self.workspaces.get_mut(&state.workspace_id) {
            workspace.current_state = Some(state.id.clone());
        }
        self.state_versions.insert(state.id.clone(), state);
    }
}

#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) settings: Settings,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) lock: Lock,
    pub(crate) current_state: Option<String>,
    pub(crate) current_run: Option<String>,
    pub(crate) latest_configuration: Option<String>,
    /// Runs that wait for the workspace, in order.
    pub(crate) queue: std::collections::VecDeque<(String, Phase)>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) tags: Vec<(String, String)>,
    /// Workspaces that may read the state.
    pub(crate) consumers: std::collections::BTreeSet<String>,
    /// Run tasks that are attached to it.
    pub(crate) tasks: Vec<WorkspaceTask>,
    /// What every plan is checked by.
    pub(crate) policy: Option<Policy>,
    pub(crate) secret: Option<String>,
}

/// Who holds a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lock {
    Free,
    User { credential: String, reason: String },
    Run(String),
}

/// What a queued run waits to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Plan,
    Apply,
}

#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) description: Option<String>,
    pub(crate) environment: bool,
    pub(crate) hcl: bool,
    pub(crate) sensitive: bool,
}

#[derive(Debug)]
pub(crate) struct ConfigurationVersion {
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) workspace_id: String,
    pub(crate) created_by: String,
    pub(crate) auto_queue_runs: bool,
    pub(crate) speculative: bool,
    pub(crate) provisional: bool,
    pub(crate) source: &'static str,
    pub(crate) archive: Option<Bytes>,
    pub(crate) created_at: Timestamp,
    pub(crate) uploaded_at: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) workspace_id: String,
    pub(crate) configuration_id: String,
    pub(crate) created_by: String,
    pub(crate) confirmed_by: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) source: &'static str,
    pub(crate) wishes: Wishes,
    /// Whether the workspace's logs were JSON lines when the run was made.
    pub(crate) structured: bool,
    pub(crate) status: RunStatus,
    pub(crate) reached: Vec<(RunStatus, Timestamp)>,
    pub(crate) has_changes: bool,
    pub(crate) plan: Stage,
    pub(crate) apply: Stage,
    pub(crate) plan_json: Option<Bytes>,
    pub(crate) redacted_json: Option<Bytes>,
    pub(crate) saved: Option<Arc<SavedPlan>>,
    pub(crate) cost: Option<CostEstimate>,
    pub(crate) state_before: Option<String>,
    pub(crate) state_after: Option<String>,
    pub(crate) events: Vec<(String, RunStatus, Timestamp)>,
    pub(crate) comments: Vec<Comment>,
    /// The stages at which run tasks are asked: those that the workspace had when the run was made.
    pub(crate) task_stages: Vec<TaskStage>,
    pub(crate) policy_checks: Vec<PolicyCheck>,
    /// The work that goes on for the run.
    pub(crate) task: Option<AbortHandle>,
}

impl Run {
    /// A saved plan or a plan-only run does not hold its workspace while it plans.
    pub(crate) fn holds_workspace(&self) -> bool {
        !self.wishes.plan_only && !self.wishes.save_plan
    }

    /// Whether somebody may confirm it now.
    pub(crate) fn is_confirmable(&self) -> bool {
        if self.wishes.plan_only {
            return false;
        }
        match self.status {
            RunStatus::PlannedAndSaved => true,
            RunStatus::Planned => {
                self.cost.is_none() && self.task_stage(StageName::PostPlan).is_none()
            }
            RunStatus::PostPlanCompleted => self.cost.is_none(),
            RunStatus::CostEstimated | RunStatus::PolicyChecked => true,
            _ => false,
        }
    }

    pub(crate) fn is_discardable(&self) -> bool {
        self.is_confirmable()
            || (!self.wishes.plan_only
                && matches!(
                    self.status,
                    RunStatus::Pending | RunStatus::PostPlanRunning | RunStatus::PolicyOverride
                ))
    }

    /// The stage at which run tasks are asked, when the run has one of that name.
    pub(crate) fn task_stage(&self, name: StageName) -> Option<&TaskStage> {
        self.task_stages.iter().find(|stage| stage.name == name)
    }

    pub(crate) fn is_cancelable(&self) -> bool {
        matches!(
            self.status,
            RunStatus::Pending
                | RunStatus::PrePlanRunning
                | RunStatus::PlanQueued
                | RunStatus::Planning
                | RunStatus::PostPlanRunning
                | RunStatus::CostEstimating
                | RunStatus::PolicyChecking
                | RunStatus::PreApplyRunning
                | RunStatus::ApplyQueued
                | RunStatus::Applying
        )
    }
}

/// What the creator of a run asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    pub(crate) message: String,
    pub(crate) auto_apply: bool,
    pub(crate) destroy: bool,
    pub(crate) plan_only: bool,
    pub(crate) save_plan: bool,
    pub(crate) refresh: bool,
    pub(crate) refresh_only: bool,
    pub(crate) allow_empty_apply: bool,
    pub(crate) targets: Vec<String>,
    pub(crate) replacements: Vec<String>,
    pub(crate) variables: Vec<RunVariable>,
    pub(crate) terraform_version: Option<String>,
}

/// A variable that comes with a run; the value is an HCL expression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunVariable {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for its workspace.
    Pending,
    /// Run tasks are asked before the plan.
    PrePlanRunning,
    /// They let the plan begin.
    PrePlanCompleted,
    /// Waits for a worker.
    PlanQueued,
    /// Plans.
    Planning,
    /// Has a plan.
    Planned,
    /// Run tasks are asked about the plan.
    PostPlanRunning,
    /// They let the plan pass.
    PostPlanCompleted,
    /// The plan is being priced.
    CostEstimating,
    /// The plan has a price.
    CostEstimated,
    /// Policies look at the plan.
    PolicyChecking,
    /// One failed, and waits for somebody who overrides it.
    PolicyOverride,
    /// They passed, or were overridden.
    PolicyChecked,
    /// Ended: one failed, and only a plan was wanted.
    PolicySoftFailed,
    /// Somebody, or auto-apply, has confirmed it.
    Confirmed,
    /// Run tasks are asked before the apply.
    PreApplyRunning,
    /// They let the apply begin.
    PreApplyCompleted,
    /// Waits for a worker to apply.
    ApplyQueued,
    /// Applies.
    Applying,
    /// Run tasks are told that it was applied.
    PostApplyRunning,
    /// They have answered.
    PostApplyCompleted,
    /// Ended: applied.
    Applied,
    /// Ended: nothing to apply, or only a plan was wanted.
    PlannedAndFinished,
    /// Has a plan that can be confirmed later.
    PlannedAndSaved,
    /// Ended: somebody did not want it.
    Discarded,
    /// Ended: the plan or the apply failed.
    Errored,
    /// Ended: stopped.
    Canceled,
    /// Ended: stopped without waiting.
    ForceCanceled,
}

impl RunStatus {
    /// The vendor's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::PrePlanRunning => "pre_plan_running",
            Self::PrePlanCompleted => "pre_plan_completed",
            Self::PlanQueued => "plan_queued",
            Self::Planning => "planning",
            Self::Planned => "planned",
            Self::PostPlanRunning => "post_plan_running",
            Self::PostPlanCompleted => "post_plan_completed",
            Self::CostEstimating => "cost_estimating",
            Self::CostEstimated => "cost_estimated",
            Self::PolicyChecking => "policy_checking",
            Self::PolicyOverride => "policy_override",
            Self::PolicyChecked => "policy_checked",
            Self::PolicySoftFailed => "policy_soft_failed",
            Self::Confirmed => "confirmed",
            Self::PreApplyRunning => "pre_apply_running",
            Self::PreApplyCompleted => "pre_apply_completed",
            Self::ApplyQueued => "apply_queued",
            Self::Applying => "applying",
            Self::PostApplyRunning => "post_apply_running",
            Self::PostApplyCompleted => "post_apply_completed",
            Self::Applied => "applied",
            Self::PlannedAndFinished => "planned_and_finished",
            Self::PlannedAndSaved => "planned_and_saved",
            Self::Discarded => "discarded",
            Self::Errored => "errored",
            Self::Canceled => "canceled",
            Self::ForceCanceled => "force_canceled",
        }
    }

    /// Whether nothing comes after it.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Applied
                | Self::PlannedAndFinished
                | Self::PolicySoftFailed
                | Self::Discarded
                | Self::Errored
                | Self::Canceled
                | Self::ForceCanceled
        )
    }
}

/// The plan or the apply of a run.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) id: String,
    pub(crate) status: StageStatus,
    pub(crate) reached: Vec<(StageStatus, Timestamp)>,
    pub(crate) counts: Option<Counts>,
    pub(crate) log: Log,
}

impl Stage {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            id: ids::id(prefix),
            status: StageStatus::Pending,
            reached: Vec::new(),
            counts: None,
            log: Log::default(),
        }
    }

    pub(crate) fn move_to(&mut self, status: StageStatus) {
        self.status = status;
        self.reached.push((status, Timestamp::now()));
        if !matches!(
            status,
            StageStatus::Pending | StageStatus::Queued | StageStatus::Running
        ) {
            self.log.end();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StageStatus {
    Pending,
    Queued,
    Running,
    Finished,
    Errored,
    Canceled,
    Unreachable,
}

impl StageStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Errored => "errored",
            Self::Canceled => "canceled",
            Self::Unreachable => "unreachable",
        }
    }

    /// The name that the vendor uses in timestamps.
    pub(crate) fn timestamp_name(self) -> &'static str {
        match self {
            Self::Running => "started",
            other => other.name(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Comment {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) author: String,
    pub(crate) created_at: Timestamp,
}

/// What a plan costs a month, in millionths of a US dollar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CostEstimate {
    pub(crate) id: String,
    pub(crate) finished: bool,
    pub(crate) resources: usize,
    pub(crate) matched: usize,
    pub(crate) prior: u64,
    pub(crate) proposed: u64,
}

impl CostEstimate {
    /// Prices a plan.
    pub(crate) fn of(plan: &Value, prices: &PriceTable) -> Self {
        let mut estimate = Self {
            id: ids::id("ce"),
            finished: false,
            resources: 0,
            matched: 0,
            prior: 0,
            proposed: 0,
        };
        for resource in plan["resource_changes"].as_array().into_iter().flatten() {
            if resource["mode"] != "managed" {
                continue;
            }
            estimate.resources += 1;
            let price = resource["type"].as_str().and_then(|name| prices.get(name));
            let Some(price) = price else { continue };
            estimate.matched += 1;
            estimate.prior += if resource["change"]["before"].is_null() {
                0
            } else {
                *price
            };
            estimate.proposed += if resource["change"]["after"].is_null() {
                0
            } else {
                *price
            };
        }
        estimate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_priced_resources_count() {
        let plan = serde_json::json!({"resource_changes": [
            {"mode": "managed", "type": "a", "change": {"before": {}, "after": {}}},
            {"mode": "managed", "type": "a", "change": {"before": null, "after": {}}},
            {"mode": "managed", "type": "b", "change": {"before": null, "after": {}}},
            {"mode": "data", "type": "a", "change": {"before": null, "after": {}}},
        ]});
        let estimate = CostEstimate::of(&plan, &PriceTable::from([("a".to_owned(), 2_500_000)]));
        assert_eq!((estimate.resources, estimate.matched), (3, 2));
        assert_eq!((estimate.prior, estimate.proposed), (2_500_000, 5_000_000));
    }
}
