//! Run tasks: Terraform Cloud asks the gateway at four stages of every run of a workspace, and
//! stops when the answer is no, whatever token or button started the run.
//!
//! | stage | what is looked at |
//! |---|---|
//! | `pre_plan` | the configuration, before any of it runs |
//! | `post_plan` | the plan, before anybody can confirm it |
//! | `pre_apply` | that the gateway itself applies, and that this very plan is approved |
//! | `post_apply` | that what was applied was the gateway's |
//!
//! The call is answered at once, the verdict follows: read what the call is about (`call`), look
//! (`stages`) under the contracts that count (`governing`), keep what is said (`verdict`),
//! tell upstream (`answer`). A call that is lost on the way is a no: upstream ends a run whose
//! mandatory task says nothing for ten minutes.

mod answer;
pub mod attachment;
mod call;
mod governing;
mod signed;
mod stages;
pub mod verdict;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use policy::{ReasonCode, Refusal};
use proof::record::{Caller, Lane};
use proof::{Hash, Timestamp};
use store::{Conflict, RunUpdate, StoreError, TaskCall, TaskJudgement, TaskStage};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::app::App;
use crate::clawproxy::authenticate::unavailable;
use crate::clawproxy::body::Room;
use crate::clawproxy::record;
use crate::config::Config;
use crate::operator::audit::{Action, audited};
use crate::secret::{Secret, SecretError};
use call::{Call, Called};
use verdict::Verdict;

pub use signed::Signed;

/// Path of the endpoint on the operator listener.
pub const PATH: &str = "/v1/run-tasks";

/// Bytes of calls that may be held at a time; anybody who reaches the listener can send them.
const BODY_BYTES: usize = 4 << 20;

/// Runs that are looked at at a time: each may take a plan or a configuration into memory.
const AT_A_TIME: usize = 4;

/// Calls that wait or are looked at; upstream is asked to come again with what is beyond.
const MAX_CALLS: usize = 512;

/// How long a verdict may take, waiting included. The stage's token lives ten minutes, and the
/// answer has to arrive within them.
const PATIENCE: Duration = Duration::from_secs(8 * 60);

/// How long it is waited before looking again when upstream did not answer.
const AGAIN: Duration = Duration::from_secs(3);

/// How often it is looked again.
const ATTEMPTS: u32 = 5;

/// What the endpoint needs.
#[derive(Debug)]
pub struct RunTasks {
    key: Secret,
    bodies: Room,
    slots: Arc<Semaphore>,
    looking: Mutex<Looking>,
}

/// What is being looked at.
#[derive(Debug, Default)]
struct Looking {
    results: HashSet<String>,
    tasks: JoinSet<()>,
}

impl RunTasks {
    /// Fetches the key, when the configuration names one.
    ///
    /// # Errors
    /// When it is not to be had.
    pub async fn connect(config: &Config) -> Result<Option<Self>, SecretError> {
        let Some(settings) = &config.run_tasks else {
            return Ok(None);
        };
        Ok(Some(Self {
            key: settings.hmac_key.fetch().await?,
            bodies: Room::new(BODY_BYTES),
            slots: Arc::new(Semaphore::new(AT_A_TIME)),
            looking: Mutex::default(),
        }))
    }

    /// Waits for the verdicts that are being made, for a gateway that stops. What does not end in
    /// time is dropped, and is a no.
    pub async fn stop(&self, patience: Duration) {
        let mut tasks = std::mem::take(&mut self.looking().tasks);
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("run tasks were still being looked at; Terraform Cloud ends their runs");
        }
    }

    fn looking(&self) -> std::sync::MutexGuard<'_, Looking> {
        self.looking.lock().expect("no panic while it is held")
    }
}

/// Takes a call. When this returns, the call is kept and somebody looks.
///
/// # Errors
/// `RUN_TASK_…`, `OVERLOADED`, `SHUTTING_DOWN` or `STORE_UNAVAILABLE`. Upstream tries again, and
/// counts what it cannot deliver as a no.
pub async fn receive(app: &Arc<App>, signed: &Signed) -> Result<(), Refusal> {
    let tasks = app.run_tasks.as_ref();
    let tasks = tasks.ok_or(ReasonCode::RunTaskDisabled)?;
    let call = match call::read(signed.body(), &app.upstream)? {
        Called::Trial => return Ok(()),
        Called::Stage(call) => call,
    };
    if app.draining.load(Ordering::Acquire) {
        return Err(ReasonCode::ShuttingDown.into());
    }
    let known = app.store.begin_task_call(row(&call, app.now())).await;
    let known = known.map_err(|error| match error {
        StoreError::Conflict(Conflict::TaskCallDiffers(_)) => ReasonCode::RunTaskReused.into(),
        other => unavailable(other),
    })?;
    if known.reported_at.is_some() {
        return Ok(());
    }
    let mut looking = tasks.looking();
    while looking.tasks.try_join_next().is_some() {}
    if looking.results.contains(call.task_result.as_str()) {
        return Ok(());
    }
    if looking.results.len() >= MAX_CALLS {
        return Err(ReasonCode::Overloaded.into());
    }
    looking.results.insert(call.task_result.to_string());
    looking.tasks.spawn(attend(Arc::clone(app), call));
    Ok(())
}

fn row(call: &Call, now: Timestamp) -> TaskCall {
    TaskCall {
        task_result_id: call.task_result.to_string(),
        stage: call.stage,
        organization: call.organization.clone(),
        workspace_id: call.workspace.to_string(),
        workspace_name: call.workspace_name.clone(),
        run_id: call.run.to_string(),
        speculative: call.speculative,
        enforcement: call.enforcement.as_str().to_owned(),
        received_at: now,
    }
}

/// Takes a result off the list when it has been looked at, however that ended.
struct Off<'a>(&'a RunTasks, &'a str);

impl Drop for Off<'_> {
    fn drop(&mut self) {
        self.0.looking().results.remove(self.1);
    }
}

async fn attend(app: Arc<App>, call: Box<Call>) {
    let Some(tasks) = &app.run_tasks else { return };
    let _off = Off(tasks, call.task_result.as_str());
    let looked = tokio::time::timeout(PATIENCE, look(&app, tasks, &call)).await;
    let verdict = looked.unwrap_or_else(|_| {
        let late = Refusal::new(ReasonCode::RunTaskUnchecked, "it took too long");
        Verdict::unchecked(&late)
    });
    let verdict = match keep(&app, &call, &verdict).await {
        Ok(true) => verdict,
        // Upstream has an answer already.
        Ok(false) => return,
        // What cannot be written down is not allowed.
        Err(error) => Verdict::unchecked(&unavailable(error)),
    };
    if !answer::send(&app, &call, &verdict).await {
        return;
    }
    let id = call.task_result.as_str();
    if let Err(error) = app.store.report_task_call(id, app.now()).await {
        tracing::error!(%error, run = %call.run, "it cannot be noted that a run task was answered");
    }
}

/// Looks until there is a verdict, or upstream has failed too often.
async fn look(app: &Arc<App>, tasks: &RunTasks, call: &Call) -> Verdict {
    let Ok(_slot) = tasks.slots.acquire().await else {
        return Verdict::unchecked(&ReasonCode::ShuttingDown.into());
    };
    for attempt in 1.. {
        match stages::judge(app, call).await {
            Ok(verdict) => return verdict,
            Err(refusal) if verdict::is_answer(&refusal) => return Verdict::refused(&refusal),
            Err(refusal) if attempt == ATTEMPTS => return Verdict::unchecked(&refusal),
            Err(refusal) => {
                tracing::warn!(%refusal, run = %call.run, "a run could not be looked at; again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    unreachable!("the last attempt returns")
}

/// Keeps a verdict where it is asked for: in the list of actions, in the records of the job whose
/// run is refused, and with the call. False when upstream has an answer already.
async fn keep(app: &App, call: &Call, verdict: &Verdict) -> Result<bool, StoreError> {
    let codes: Vec<&str> = verdict
        .findings
        .iter()
        .map(|finding| finding.code.as_str())
        .collect();
    let action = Action {
        operator: "terraform-cloud",
        name: match call.stage {
            TaskStage::PrePlan => "run-task.pre-plan",
            TaskStage::PostPlan => "run-task.post-plan",
            TaskStage::PreApply => "run-task.pre-apply",
            TaskStage::PostApply => "run-task.post-apply",
        },
        subject: call.run.to_string(),
        detail: vec![
            ("task_result", call.task_result.to_string()),
            ("workspace", call.workspace.to_string()),
            (
                "verdict",
                if verdict.passed { "passed" } else { "failed" }.to_owned(),
            ),
            ("codes", codes.join(" ")),
        ],
        at: app.now(),
    };
    let judgement = TaskJudgement {
        passed: verdict.passed,
        document: verdict.to_json(),
        at: app.now(),
    };
    let id = call.task_result.as_str();
    let kept = audited(
        &*app.store,
        action,
        app.store.judge_task_call(id, judgement),
    )
    .await?;
    if kept && !verdict.passed {
        refuse(app, call, verdict).await?;
    }
    Ok(kept)
}

/// A run of a job is refused: the job's records say so, and so does the run, to whoever waits for
/// it. Nothing is written for runs that no job made, nor into a job that is closed.
async fn refuse(app: &App, call: &Call, verdict: &Verdict) -> Result<(), StoreError> {
    let Some(run) = app.store.run(call.run.as_str()).await? else {
        return Ok(());
    };
    let (Some(job), Some(first)) = (app.store.job(&run.job_id).await?, verdict.findings.first())
    else {
        return Ok(());
    };
    let reasons: Vec<String> = verdict
        .findings
        .iter()
        .map(|finding| format!("{}: {}", finding.code, finding.detail))
        .collect();
    let refused = proof::record::Refusal {
        caller: Caller {
            token_hash: "gateway".to_owned(),
            agent_did: job.agent_did,
            holder: "gateway".to_owned(),
        },
        lane: Lane::Gateway,
        asked: format!("run-task-{}", call.stage.as_str().replace('_', "-")),
        target_hash_b64u: Hash::of(run.run_id.as_bytes()),
        code: first.code.as_str().to_owned(),
        reasons: reasons.clone(),
        run_id: Some(run.run_id.clone()),
        input: None,
        policy_hash_b64u: job.policy_hash,
    };
    let body = record::counted(app, &run.job_id, refused);
    match app.store.append(&run.job_id, app.now(), body).await {
        Ok(_) => {}
        Err(StoreError::Conflict(Conflict::JobClosed(_))) => return Ok(()),
        Err(error) => return Err(error),
    }
    let gate_reason = Some(reasons.join("; ").chars().take(1000).collect());
    let update = RunUpdate {
        gate_reason,
        ..RunUpdate::default()
    };
    app.store
        .update_run(&run.run_id, app.now(), update)
        .await
        .map(drop)
}
