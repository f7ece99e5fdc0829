//! The life of a run, from `pending` to its end.
//!
//! A run that may apply holds its workspace from its first step to its last; runs that come
//! meanwhile wait. Plan-only runs never wait. A saved plan waits for the workspace only when it is
//! confirmed, and is discarded when the state moves on.

use std::sync::Arc;

use jiff::Timestamp;

use super::cloud::Cloud;
use super::jsonapi::ApiError;
use super::notifications;
use super::policies;
use super::state_version::{StateVersion, with_serial};
use super::tasks::{self, Settled, StageName, TaskStatus};
use super::triggers;
use super::world::{CostEstimate, Lock, Phase, Run, RunStatus, Stage, StageStatus, Wishes, World};
use crate::engine::{Applied, EngineError, PlanOrder, Planned};
use crate::faults::FaultAction;
use crate::ids;

/// The most runs that a stand-in keeps.
const MOST_RUNS: usize = 20_000;

/// What a new run is made of, checked.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub(crate) workspace_id: String,
    pub(crate) configuration_id: String,
    pub(crate) created_by: String,
    pub(crate) source: &'static str,
    pub(crate) wishes: Wishes,
}

/// Makes a run and lets it begin as soon as its workspace is free.
pub(crate) fn create(
    cloud: &Arc<Cloud>,
    world: &mut World,
    new: NewRun,
) -> Result<String, ApiError> {
    if world.runs.len() >= MOST_RUNS {
        return Err(ApiError::invalid(format!(
            "The stand-in keeps at most {MOST_RUNS} runs"
        )));
    }
    let number = world.next_number();
    let task_stages = tasks::stages_for(world, &new.workspace_id);
    let workspace = world
        .workspaces
        .get_mut(&new.workspace_id)
        .ok_or_else(ApiError::not_found)?;
    let mut run = Run {
        id: ids::id("run"),
        number,
        workspace_id: new.workspace_id,
        configuration_id: new.configuration_id,
        created_by: new.created_by,
        confirmed_by: None,
        created_at: Timestamp::now(),
        source: new.source,
        wishes: new.wishes,
        structured: workspace.settings.structured_run_output_enabled,
        status: RunStatus::Pending,
        reached: Vec::new(),
        has_changes: false,
        plan: Stage::new("plan"),
        apply: Stage::new("apply"),
        plan_json: None,
        redacted_json: None,
        saved: None,
        cost: None,
        state_before: workspace.current_state.clone(),
        state_after: None,
        events: Vec::new(),
        comments: Vec::new(),
        task_stages,
        policy_checks: Vec::new(),
        task: None,
    };
    record(&mut run, RunStatus::Pending);
    let id = run.id.clone();
    world.run_of.insert(run.plan.id.clone(), id.clone());
    world.run_of.insert(run.apply.id.clone(), id.clone());
    world.run_of.insert(run.events[0].0.clone(), id.clone());
    let waits = run.holds_workspace();
    if !run.wishes.plan_only {
        workspace.current_run = Some(id.clone());
    }
    tasks::index(world, &run);
    world.runs.insert(id.clone(), run);
    notifications::tell(cloud, world, &id);
    if waits {
        enqueue(world, &id, Phase::Plan);
        schedule(cloud, world, &workspace_of(world, &id));
    } else {
        begin_plan(cloud, world, &id);
    }
    Ok(id)
}

/// Confirms a run: it applies as soon as its workspace is free.
pub(crate) fn confirm(
    cloud: &Arc<Cloud>,
    world: &mut World,
    id: &str,
    by: &str,
) -> Result<(), ApiError> {
    let run = world.runs.get_mut(id).ok_or_else(ApiError::not_found)?;
    if !run.is_confirmable() {
        return Err(not_allowed(run, "apply"));
    }
    run.confirmed_by = Some(by.to_owned());
    let saved = run.wishes.save_plan;
    move_to(cloud, world, id, RunStatus::Confirmed);
    if saved {
        enqueue(world, id, Phase::Apply);
        let workspace = workspace_of(world, id);
        schedule(cloud, world, &workspace);
    } else {
        begin_apply(cloud, world, id);
    }
    Ok(())
}

/// Throws a run away before it applies.
pub(crate) fn discard(cloud: &Arc<Cloud>, world: &mut World, id: &str) -> Result<(), ApiError> {
    let run = world.runs.get(id).ok_or_else(ApiError::not_found)?;
    if !run.is_discardable() {
        return Err(not_allowed(run, "discard"));
    }
    end(cloud, world, id, RunStatus::Discarded);
    Ok(())
}

/// Stops a run that is at work.
pub(crate) fn cancel(cloud: &Arc<Cloud>, world: &mut World, id: &str) -> Result<(), ApiError> {
    let run = world.runs.get(id).ok_or_else(ApiError::not_found)?;
    if !run.is_cancelable() {
        return Err(not_allowed(run, "cancel"));
    }
    end(cloud, world, id, RunStatus::Canceled);
    Ok(())
}

/// Lets the next run of a free workspace begin.
pub(crate) fn schedule(cloud: &Arc<Cloud>, world: &mut World, workspace_id: &str) {
    let Some(workspace) = world.workspaces.get_mut(workspace_id) else {
        return;
    };
    if workspace.lock != Lock::Free {
        return;
    }
    let Some((id, phase)) = workspace.queue.pop_front() else {
        return;
    };
    workspace.lock = Lock::Run(id.clone());
    match phase {
        Phase::Plan => begin_plan(cloud, world, &id),
        Phase::Apply => begin_apply(cloud, world, &id),
    }
}

fn not_allowed(run: &Run, action: &str) -> ApiError {
    let detail = format!(
        "{action} is not possible while the run is {}",
        run.status.name()
    );
    ApiError::conflict("transition not allowed", detail)
}

pub(super) fn workspace_of(world: &World, id: &str) -> String {
    world
        .runs
        .get(id)
        .map(|run| run.workspace_id.clone())
        .unwrap_or_default()
}

fn enqueue(world: &mut World, id: &str, phase: Phase) {
    let workspace_id = workspace_of(world, id);
    if let Some(workspace) = world.workspaces.get_mut(&workspace_id) {
        workspace.queue.push_back((id.to_owned(), phase));
    }
}

fn record(run: &mut Run, status: RunStatus) {
    let now = Timestamp::now();
    run.status = status;
    run.reached.push((status, now));
    run.events.push((ids::id("re"), status, now));
}

pub(super) fn move_to(cloud: &Arc<Cloud>, world: &mut World, id: &str, status: RunStatus) {
    let Some(run) = world.runs.get_mut(id) else {
        return;
    };
    record(run, status);
    if let Some((event, ..)) = run.events.last() {
        world.run_of.insert(event.clone(), id.to_owned());
    }
    notifications::tell(cloud, world, id);
    cloud.changed();
}

/// Ends a run: stops its work, ends its logs, frees its workspace and removes its folder.
pub(super) fn end(cloud: &Arc<Cloud>, world: &mut World, id: &str, status: RunStatus) {
    let Some(run) = world.runs.get_mut(id) else {
        return;
    };
    if run.status.is_final() {
        return;
    }
    let stage_end = match status {
        RunStatus::Canceled | RunStatus::ForceCanceled => StageStatus::Canceled,
        RunStatus::Errored => StageStatus::Errored,
        _ => StageStatus::Unreachable,
    };
    let at_work =
        |stage: &Stage| matches!(stage.status, StageStatus::Queued | StageStatus::Running);
    let unbegun = |stage: &Stage| stage.status == StageStatus::Pending;
    for stage in [&mut run.plan, &mut run.apply] {
        if at_work(stage) {
            stage.move_to(stage_end);
        } else if unbegun(stage) {
            stage.move_to(StageStatus::Unreachable);
        }
    }
    tasks::end(run);
    run.saved = None;
    if matches!(status, RunStatus::Canceled | RunStatus::ForceCanceled) {
        // Only from outside: work that ends by itself must not abort the task that reports it.
        if let Some(task) = run.task.take() {
            task.abort();
        }
    }
    let workspace_id = run.workspace_id.clone();
    move_to(cloud, world, id, status);
    if let Some(workspace) = world.workspaces.get_mut(&workspace_id) {
        workspace.queue.retain(|(queued, _)| queued != id);
        if workspace.lock == Lock::Run(id.to_owned()) {
            workspace.lock = Lock::Free;
        }
    }
    schedule(cloud, world, &workspace_id);
    if status == RunStatus::Applied {
        triggers::applied(cloud, world, id);
    }
}

/// Asks a stage's run tasks when the run has the stage; true when it waits for them now.
fn waits_for_tasks(cloud: &Arc<Cloud>, world: &mut World, id: &str, name: StageName) -> bool {
    let waits = tasks::ask(cloud, world, id, name);
    if waits {
        move_to(cloud, world, id, name.running());
    }
    waits
}

/// A run task has answered, or is given up: the run goes on when it was the last one of its stage.
pub(crate) fn task_answered(
    cloud: &Arc<Cloud>,
    world: &mut World,
    id: &str,
    result_id: &str,
    status: TaskStatus,
    message: &str,
) {
    let run = world.runs.get_mut(id).filter(|run| !run.status.is_final());
    let settled = run.and_then(|run| tasks::answered(run, result_id, status, message));
    let name = match settled {
        None => return,
        Some(Settled::NotYet) => return cloud.changed(),
        Some(Settled::Failed) => return end(cloud, world, id, RunStatus::Errored),
        Some(Settled::Passed(name)) => name,
    };
    move_to(cloud, world, id, name.completed());
    match name {
        StageName::PrePlan => queue_plan(cloud, world, id),
        StageName::PostPlan => plan_stands(cloud, world, id),
        StageName::PreApply => queue_apply(cloud, world, id),
        StageName::PostApply => end(cloud, world, id, RunStatus::Applied),
    }
}

fn begin_plan(cloud: &Arc<Cloud>, world: &mut World, id: &str) {
    if !waits_for_tasks(cloud, world, id, StageName::PrePlan) {
        queue_plan(cloud, world, id);
    }
}

fn queue_plan(cloud: &Arc<Cloud>, world: &mut World, id: &str) {
    move_to(cloud, world, id, RunStatus::PlanQueued);
    let Some(run) = world.runs.get_mut(id) else {
        return;
    };
    run.plan.move_to(StageStatus::Queued);
    run.task = Some(cloud.spawn(plan(Arc::clone(cloud), id.to_owned())));
}

fn begin_apply(cloud: &Arc<Cloud>, world: &mut World, id: &str) {
    if !waits_for_tasks(cloud, world, id, StageName::PreApply) {
        queue_apply(cloud, world, id);
    }
}

fn queue_apply(cloud: &Arc<Cloud>, world: &mut World, id: &str) {
    move_to(cloud, world, id, RunStatus::ApplyQueued);
    let Some(run) = world.runs.get_mut(id) else {
        return;
    };
    run.apply.move_to(StageStatus::Queued);
    run.task = Some(cloud.spawn(apply(Arc::clone(cloud), id.to_owned())));
}

async fn plan(cloud: Arc<Cloud>, id: String) {
    let Ok(_worker) = cloud.workers.acquire().await else {
        return;
    };
    let (order, log) = {
        let mut guard = cloud.world();
        let world = &mut *guard;
        let Some(order) = plan_order(world, &id) else {
            return;
        };
        move_to(&cloud, world, &id, RunStatus::Planning);
        let Some(run) = world.runs.get_mut(&id) else {
            return;
        };
        run.plan.move_to(StageStatus::Running);
        let workspace = world.workspaces.get(&run.workspace_id);
        run.state_before = workspace.and_then(|workspace| workspace.current_state.clone());
        (order, run.plan.log.clone())
    };
    let planned = match engine_fault(&cloud, "plan").await {
        Some(error) => {
            log.push(format!("\nError: {error}\n").as_bytes());
            Err(error)
        }
        None => cloud.engine.plan(order, &cloud.providers, &log).await,
    };
    let mut world = cloud.world();
    match planned {
        Ok(planned) => planned_well(&cloud, &mut world, &id, planned),
        Err(_) => end(&cloud, &mut world, &id, RunStatus::Errored),
    }
}

/// A fault that a test has set for the engine itself.
async fn engine_fault(cloud: &Cloud, what: &str) -> Option<EngineError> {
    let mut hit = cloud.faults.hit("ENGINE", what)?;
    match hit.action {
        FaultAction::Hold | FaultAction::HoldAnswer | FaultAction::HoldMidway => {
            hit.released().await;
            None
        }
        FaultAction::Status(_) | FaultAction::Garbage | FaultAction::CloseMidway => {
            Some(EngineError::NotRecorded("a fault was set for the engine"))
        }
    }
}

fn plan_order(world: &World, id: &str) -> Option<PlanOrder> {
    let run = world.runs.get(id)?;
    let workspace = world.workspaces.get(&run.workspace_id)?;
    let configuration = world.configurations.get(&run.configuration_id)?;
    let wishes = &run.wishes;
    let mut order = PlanOrder {
        configuration: configuration.archive.clone()?,
        state: world
            .current_state(&run.workspace_id)
            .map(|state| state.content.clone()),
        structured: run.structured,
        working_directory: workspace.settings.working_directory.clone(),
        destroy: wishes.destroy,
        refresh: wishes.refresh,
        refresh_only: wishes.refresh_only,
        targets: wishes.targets.clone(),
        replacements: wishes.replacements.clone(),
        secret: workspace.secret.clone(),
        ..PlanOrder::default()
    };
    let of_run = |key: &str| wishes.variables.iter().any(|variable| variable.key == key);
    for variable in &workspace.variables {
        let pair = (variable.key.clone(), variable.value.clone());
        match (variable.environment, variable.hcl) {
            (true, _) => order.environment.push(pair),
            // A name may stand only once in the file; a variable of the run wins.
            (false, true) if of_run(&variable.key) => {}
            (false, true) => order.expressions.push(pair),
            (false, false) => drop(order.variables.insert(pair.0, pair.1.into())),
        }
    }
    order.expressions.extend(
        wishes
            .variables
            .iter()
            .map(|variable| (variable.key.clone(), variable.value.clone())),
    );
    Some(order)
}

fn planned_well(cloud: &Arc<Cloud>, world: &mut World, id: &str, planned: Planned) {
    let Some(run) = world.runs.get_mut(id) else {
        return;
    };
    if run.status.is_final() {
        return;
    }
    run.has_changes = planned.has_changes;
    run.plan.counts = Some(planned.counts);
    run.plan.move_to(StageStatus::Finished);
    run.cost = cloud.prices.as_ref().map(|prices| {
        let plan = serde_json::from_slice(&planned.json).unwrap_or_default();
        CostEstimate::of(&plan, prices)
    });
    run.plan_json = Some(planned.json);
    run.redacted_json = Some(planned.redacted);
    run.saved = Some(Arc::new(planned.saved));
    move_to(cloud, world, id, RunStatus::Planned);
    if !waits_for_tasks(cloud, world, id, StageName::PostPlan) {
        plan_stands(cloud, world, id);
    }
}

/// Prices a plan that no run task objects to, and has it checked.
fn plan_stands(cloud: &Arc<Cloud>, world: &mut World, id: &str) {
    let Some(run) = world.runs.get(id) else {
        return;
    };
    let cost_id = run.cost.as_ref().map(|cost| cost.id.clone());
    if let Some(cost_id) = cost_id {
        world.run_of.insert(cost_id, id.to_owned());
        move_to(cloud, world, id, RunStatus::CostEstimating);
        if let Some(cost) = world.runs.get_mut(id).and_then(|run| run.cost.as_mut()) {
            cost.finished = true;
        }
        move_to(cloud, world, id, RunStatus::CostEstimated);
    }
    policies::check(cloud, world, id);
}

/// Goes on with a plan that nothing objects to, as its creator wished.
pub(super) fn go_on(cloud: &Arc<Cloud>, world: &mut World, id: &str) {
    let Some(run) = world.runs.get(id) else {
        return;
    };
    let wishes = &run.wishes;
    if wishes.plan_only || !(run.has_changes || wishes.allow_empty_apply) {
        end(cloud, world, id, RunStatus::PlannedAndFinished);
    } else if wishes.save_plan {
        move_to(cloud, world, id, RunStatus::PlannedAndSaved);
    } else if wishes.auto_apply {
        move_to(cloud, world, id, RunStatus::Confirmed);
        begin_apply(cloud, world, id);
    }
}

async fn apply(cloud: Arc<Cloud>, id: String) {
    let Ok(_worker) = cloud.workers.acquire().await else {
        return;
    };
    let (saved, structured, log) = {
        let mut world = cloud.world();
        move_to(&cloud, &mut world, &id, RunStatus::Applying);
        let Some(run) = world.runs.get_mut(&id) else {
            return;
        };
        run.apply.move_to(StageStatus::Running);
        let Some(saved) = run.saved.clone() else {
            return;
        };
        (saved, run.structured, run.apply.log.clone())
    };
    let applied = match engine_fault(&cloud, "apply").await {
        Some(error) => {
            log.push(format!("\nError: {error}\n").as_bytes());
            Err(error)
        }
        None => cloud.engine.apply(&saved, structured, &log).await,
    };
    let mut world = cloud.world();
    let applied = applied.unwrap_or(Applied {
        succeeded: false,
        state: None,
    });
    applied_somehow(&cloud, &mut world, &id, applied);
}

fn applied_somehow(cloud: &Arc<Cloud>, world: &mut World, id: &str, applied: Applied) {
    let Some(run) = world.runs.get(id) else {
        return;
    };
    if run.status.is_final() {
        return;
    }
    let (workspace_id, created_by) = (run.workspace_id.clone(), run.created_by.clone());
    let before = world
        .current_state(&workspace_id)
        .map(|state| (state.serial, state.content.clone()));
    let changed = applied
        .state
        .filter(|state| before.as_ref().is_none_or(|before| before.1 != state));
    let state_after = changed.and_then(|content| {
        let mut state = StateVersion::new(world, &workspace_id, &created_by, content)?;
        // Only a recording can lag behind; the serial of a workspace never goes back.
        if let Some(last) = before
            .as_ref()
            .map(|before| before.0)
            .filter(|last| state.serial <= *last)
        {
            let content = with_serial(&state.content, last + 1)?;
            state.fill(content)?;
        }
        state.run_id = Some(id.to_owned());
        let state_id = state.id.clone();
        world.add_state(state);
        Some(state_id)
    });
    let moved_on = state_after.is_some();
    let Some(run) = world.runs.get_mut(id) else {
        return;
    };
    run.state_after = state_after;
    if applied.succeeded {
        run.apply.counts = run.plan.counts;
        run.apply.move_to(StageStatus::Finished);
        if !waits_for_tasks(cloud, world, id, StageName::PostApply) {
            end(cloud, world, id, RunStatus::Applied);
        }
    } else {
        end(cloud, world, id, RunStatus::Errored);
    }
    if moved_on {
        discard_saved_plans(cloud, world, &workspace_id);
    }
}

/// Discards the saved plans of a workspace whose state has moved on.
pub(crate) fn discard_saved_plans(cloud: &Arc<Cloud>, world: &mut World, workspace_id: &str) {
    let stale: Vec<String> = world
        .runs
        .values()
        .filter(|run| run.workspace_id == workspace_id)
        .filter(|run| run.status == RunStatus::PlannedAndSaved)
        .map(|run| run.id.clone())
        .collect();
    for id in stale {
        end(cloud, world, &id, RunStatus::Discarded);
    }
}
