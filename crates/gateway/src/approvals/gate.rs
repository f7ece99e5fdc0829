//! Moves each run along the gate: one task for each run that can still become something.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::{ReasonCode, Refusal};
use proof::Json;
use proof::record::JobId;
use store::{GateState, JobFilter, JobPhase, RunRow, RunUpdate};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{apply, inspect, ours};
use crate::app::App;
use crate::clawproxy::authenticate::unavailable;
use crate::clawproxy::terraform::runs::{related, status};

/// How often a run is read while upstream works on it, and while people think about it. Far
/// below upstream's 30 requests a second even with many runs.
const BUSY: Duration = Duration::from_millis(700);
const IDLE: Duration = Duration::from_secs(5);

/// Statuses in which upstream waits for somebody who overrides a policy or a run task.
const PEOPLE_DECIDE: [&str; 3] = [
    "policy_override",
    "pre_plan_awaiting_decision",
    "post_plan_awaiting_decision",
];

/// Jobs that are read at a time.
const PAGE: u32 = 200;

/// Most runs that are watched at a time: no job makes another one then.
const MAX_WATCHED: usize = 5000;

/// The runs that are being watched, by id. Whoever waits for one to be let go is told.
#[derive(Debug, Default)]
pub struct Gate {
    watched: watch::Sender<HashMap<String, Watched>>,
}

/// A run's task.
#[derive(Debug)]
struct Watched {
    job: JobId,
    notify: Arc<Notify>,
    task: AbortHandle,
}

/// What a step led to.
pub(super) enum Next {
    /// Look again at once: the gate moved.
    Again,
    /// Nothing to do before that, or a wake.
    Wait(Duration),
    /// The run has ended.
    Done,
}

impl Gate {
    /// Watches a run until it ends; a run that is watched already is looked at now. Of several
    /// gateways the one that leads watches all runs, and finds them in the store.
    pub fn watch(&self, app: &Arc<App>, job: &JobId, run_id: &str) {
        if !app.leads() {
            return;
        }
        self.watched.send_if_modified(|watched| {
            if let Some(known) = watched.get(run_id) {
                known.notify.notify_one();
                return false;
            }
            let notify = Arc::new(Notify::new());
            // The list is held, so the task cannot take itself off before it is on it.
            let attend = attend(Arc::clone(app), run_id.to_owned(), Arc::clone(&notify));
            let task = tokio::spawn(attend).abort_handle();
            let job = job.clone();
            watched.insert(run_id.to_owned(), Watched { job, notify, task });
            true
        });
    }

    /// Whether a job may make another run: each that has not ended is read again and again, at
    /// the cost of what upstream allows everybody together.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn has_room(&self, app: &App, job: &JobId) -> Result<bool, store::StoreError> {
        let runs_per_job = app.config.limits.runs_per_job;
        if app.store.is_shared() {
            let active = app.store.active_runs().await?;
            let own = active.iter().filter(|run| run.job_id == *job).count();
            return Ok(own < runs_per_job as usize && active.len() < MAX_WATCHED);
        }
        let watched = self.watched.borrow();
        let own = watched.values().filter(|run| run.job == *job).count();
        Ok(own < runs_per_job as usize && watched.len() < MAX_WATCHED)
    }

    /// Watches the runs that other gateways have begun, and looks at those about which something
    /// was said since they were `seen` last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn take_up(
        &self,
        app: &Arc<App>,
        seen: &mut HashMap<String, (GateState, bool)>,
    ) -> Result<(), store::StoreError> {
        let mut before = std::mem::take(seen);
        for run in app.store.active_runs().await? {
            let now = (run.gate, run.apply_wished);
            if before.remove(&run.run_id) != Some(now) || !self.watches(&run.run_id) {
                self.watch(app, &run.job_id, &run.run_id);
            }
            seen.insert(run.run_id, now);
        }
        for ended in before.keys() {
            self.wake(ended);
        }
        Ok(())
    }

    /// Looks at a run now, if it is watched.
    pub fn wake(&self, run_id: &str) {
        if let Some(known) = self.watched.borrow().get(run_id) {
            known.notify.notify_one();
        }
    }

    /// Whether a run that the gate has ended still stands upstream, as far as is known.
    pub fn is_letting_go(&self, app: &App, run: &RunRow) -> bool {
        match app.leads() {
            true => run.gate.is_final() && self.watches(&run.run_id),
            // Another gateway watches it.
            false => run.gate.is_final() && !ours::is_final(&run.status),
        }
    }

    /// Whether a run is being watched: one whose end upstream does not know yet.
    pub fn watches(&self, run_id: &str) -> bool {
        self.watched.borrow().contains_key(run_id)
    }

    /// Resolves when a run comes to the gate or leaves it, from the call on.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        let mut watched = self.watched.subscribe();
        async move {
            // The sender lives as long as the gateway.
            let _ = watched.changed().await;
        }
    }

    /// Ends every task, for a gateway that stops: steps that are being made get some time to
    /// end. One that does not is dropped where it stands, as by a crash; the next start settles
    /// it.
    pub async fn stop(&self, patience: Duration) {
        for known in self.watched.borrow().values() {
            known.notify.notify_one();
        }
        let mut watched = self.watched.subscribe();
        let _ = timeout(patience, watched.wait_for(HashMap::is_empty)).await;
        for (run, known) in self.watched.send_replace(HashMap::new()) {
            tracing::warn!(
                run,
                "the gate's step did not end; the next start settles it"
            );
            known.task.abort();
        }
    }

    /// Takes up what a restart interrupted: runs on their way, and runs that the gate has ended
    /// and upstream, as far as we have seen, has not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn resume(&self, app: &Arc<App>) -> Result<(), store::StoreError> {
        for run in app.store.active_runs().await? {
            self.watch(app, &run.job_id, &run.run_id);
        }
        let mut open = JobFilter {
            phase: Some(JobPhase::Open),
            before: None,
            limit: PAGE,
            ..JobFilter::default()
        };
        loop {
            let jobs = app.store.jobs(open.clone()).await?;
            let Some(last) = jobs.last() else {
                return Ok(());
            };
            open.before = Some(last.job_id.clone());
            for job in &jobs {
                for run in app.store.runs(&job.job_id).await? {
                    if run.gate.is_final() && !ours::is_final(&run.status) {
                        self.watch(app, &run.job_id, &run.run_id);
                    }
                }
            }
        }
    }
}

async fn attend(app: Arc<App>, run_id: String, notify: Arc<Notify>) {
    // When the gateway stops, the run stays where it is; the next start goes on from there, or the
    // gateway that leads now.
    while !app.draining.load(Ordering::Acquire) && app.leads() {
        let wait = match step(&app, &run_id).await {
            Ok(Next::Again) => continue,
            Ok(Next::Wait(wait)) => wait,
            Ok(Next::Done) => break,
            Err(refusal) if refusal.code == ReasonCode::TokenJobClosed => break,
            Err(refusal) => {
                tracing::warn!(%refusal, run = run_id, "the gate could not go on; it tries again");
                IDLE
            }
        };
        let _ = timeout(wait, notify.notified()).await;
    }
    app.gate
        .watched
        .send_if_modified(|watched| watched.remove(&run_id).is_some());
}

/// One step. Every state is either left by a transition, waited in, or an end.
async fn step(app: &Arc<App>, run_id: &str) -> Result<Next, Refusal> {
    let Some(run) = app.store.run(run_id).await.map_err(unavailable)? else {
        return Ok(Next::Done);
    };
    match run.gate {
        GateState::Planned => planned(app, run).await,
        GateState::Inspecting => inspect::inspect(app, run).await,
        GateState::Violates => violates(app, run).await,
        GateState::AwaitingApproval => awaiting(app, run).await,
        GateState::Approved => {
            let from = [GateState::Approved];
            move_to(
                app,
                &run,
                &from,
                GateState::Rechecking,
                RunUpdate::default(),
            )
            .await
        }
        GateState::Rechecking => apply::recheck_and_apply(app, run).await,
        GateState::Applying => apply::follow(app, run).await,
        GateState::Denied
        | GateState::Expired
        | GateState::Superseded
        | GateState::Discarded
        | GateState::Errored => {
            ours::let_go(app, &run).await?;
            Ok(Next::Done)
        }
        GateState::Applied | GateState::Finished => Ok(Next::Done),
    }
}

/// Moves the gate if it still stands where we saw it; either way, look again.
pub(super) async fn move_to(
    app: &App,
    run: &RunRow,
    from: &[GateState],
    to: GateState,
    update: RunUpdate,
) -> Result<Next, Refusal> {
    let moved = app
        .store
        .transition(&run.run_id, from, to, app.now(), update)
        .await;
    if moved.map_err(unavailable)?.is_some() {
        tracing::info!(run = run.run_id, gate = to.as_str(), "gate");
    }
    Ok(Next::Again)
}

/// Upstream is planning, or has planned and nobody asked for the apply yet.
async fn planned(app: &App, run: RunRow) -> Result<Next, Refusal> {
    let json = ours::read_run(app, &run.run_id).await?;
    let status = status(&json);
    let seen = RunUpdate {
        status: Some(status.clone()),
        plan_id: related(&json, "plan"),
        apply_id: related(&json, "apply"),
        ..RunUpdate::default()
    };
    let from = [GateState::Planned];
    match end_of(&status) {
        // Somebody confirmed it behind our back: whatever that was, it was not our apply.
        Some(GateState::Applied) => {
            let gate_reason = Some("applied outside the gateway".to_owned());
            let update = RunUpdate {
                gate_reason,
                ..seen
            };
            return move_to(app, &run, &from, GateState::Superseded, update).await;
        }
        Some(end) => return move_to(app, &run, &from, end, seen).await,
        None => {}
    }
    // We asked for the opposite. Nobody's approval would be waited for, so it is stopped.
    if json
        .at(&["data", "attributes", "auto-apply"])
        .and_then(Json::as_bool)
        == Some(true)
    {
        let refusal = Refusal::from(ReasonCode::WorkspaceAutoApplies);
        let gate_reason = Some(refusal.to_string());
        let update = RunUpdate {
            gate_reason,
            ..seen
        };
        return move_to(app, &run, &from, GateState::Violates, update).await;
    }
    let confirmable = json
        .at(&["data", "attributes", "actions", "is-confirmable"])
        .and_then(Json::as_bool);
    // A run that waits for others of its workspace, or for somebody, stays what it is for long.
    let waits = confirmable == Some(true) || seen.status.as_deref() == Some("pending");
    if run.apply_wished && confirmable == Some(true) {
        return move_to(app, &run, &from, GateState::Inspecting, seen).await;
    }
    app.store
        .update_run(&run.run_id, app.now(), seen)
        .await
        .map_err(unavailable)?;
    let idle = waits || PEOPLE_DECIDE.contains(&status.as_str());
    Ok(Next::Wait(if idle { IDLE } else { BUSY }))
}

/// The plan breaks the contract: nobody is asked, the plan is thrown away.
async fn violates(app: &App, run: RunRow) -> Result<Next, Refusal> {
    ours::let_go(app, &run).await?;
    let from = [GateState::Violates];
    move_to(app, &run, &from, GateState::Discarded, RunUpdate::default()).await
}

/// People are thinking. The question lapses, and upstream may end the run meanwhile.
async fn awaiting(app: &App, run: RunRow) -> Result<Next, Refusal> {
    let from = [GateState::AwaitingApproval];
    if run.approval_expires_at.is_none_or(|end| end <= app.now()) {
        let gate_reason = Some("nobody approved in time".to_owned());
        let update = RunUpdate {
            gate_reason,
            ..RunUpdate::default()
        };
        return move_to(app, &run, &from, GateState::Expired, update).await;
    }
    let status = status(&ours::read_run(app, &run.run_id).await?);
    if ours::is_final(&status) {
        let gate_reason = Some(format!(
            "it became `{status}` upstream, outside the gateway"
        ));
        let update = RunUpdate {
            gate_reason,
            status: Some(status),
            ..RunUpdate::default()
        };
        return move_to(app, &run, &from, GateState::Superseded, update).await;
    }
    Ok(Next::Wait(IDLE))
}

/// The gate's end for a status that is upstream's end.
pub(super) fn end_of(status: &str) -> Option<GateState> {
    match status {
        "applied" => Some(GateState::Applied),
        "errored" | "policy_soft_failed" => Some(GateState::Errored),
        "discarded" | "canceled" | "force_canceled" => Some(GateState::Discarded),
        "planned_and_finished" | "assessed" => Some(GateState::Finished),
        _ => None,
    }
}
