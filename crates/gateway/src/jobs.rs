//! Jobs: opened under one contract, closed once, sealed into one bundle.

use std::sync::Arc;
use std::time::Duration;

use policy::{ReasonCode, Refusal};
use proof::record::{Confinement, JobId, JobOpen};
use proof::{Did, Hash, Timestamp};
use store::{
    BundleRow, Closing, GateState, JobRow, JobState, RunRow, Store, StoreError, kill_point,
};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::app::App;
use crate::approvals;
use crate::bundles::{self, BundleError};
use crate::clawcontrols;
use crate::clawscope::Issuer;
use crate::keys::random_uuid;
use crate::leases::{Lease, Leases};
use crate::live::{LiveContract, LiveJob};
use crate::operator::audit::{Action, audited};

/// Longest name of a job, in bytes; it stands on every page about the job.
pub const MAX_NAME_BYTES: usize = 200;

/// How long the gate may take to see that an apply has ended.
const APPLY_PATIENCE: Duration = Duration::from_secs(2);

/// Who opens a job.
#[derive(Debug, Clone, Copy)]
pub struct Opener<'a> {
    /// The operator's name.
    pub operator: &'a str,
    /// The person behind it, where that is known.
    pub email: Option<&'a str>,
}

/// What an opener may say beside the job's name and contract.
#[derive(Debug, Clone, Default)]
pub struct Terms<'a> {
    /// How the agent is confined, which nobody else knows.
    pub confinement: Option<Confinement>,
    /// How long the job stays open when the opener says nothing.
    pub lease: Option<(Lease, &'a Leases)>,
}

/// How a job's contract is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContractChoice {
    /// This version.
    Hash(Hash),
    /// The latest version of this name that is not withdrawn.
    Name(String),
}

/// A job that was just opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedJob {
    /// Its id.
    pub job_id: JobId,
    /// Its own key.
    pub agent_did: Did,
    /// The contract that holds for all of it.
    pub policy_hash: Hash,
    /// Time of its first record.
    pub opened_at: Timestamp,
}

/// A job that is closed and sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedJob {
    /// The job, with what happened in it.
    pub job: JobRow,
    /// How it was closed.
    pub closing: Closing,
    /// Its bundle.
    pub bundle: BundleRow,
    /// Intents of which nobody knows the outcome, by `seq`. Empty when it had been closed before.
    pub unknown: Vec<u64>,
}

/// A job that is closed, whatever became of its bundle.
#[derive(Debug)]
pub struct EndedJob {
    /// The job, with what happened in it.
    pub job: JobRow,
    /// How it was closed.
    pub closing: Closing,
    /// Its bundle, or why there is none yet.
    pub bundle: Result<BundleRow, BundleError>,
    /// Intents of which nobody knows the outcome, by `seq`. Empty when it had been closed before.
    pub unknown: Vec<u64>,
}

/// What becomes of a job whose apply is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunningApply {
    /// It stays open: what the apply does belongs into its bundle.
    KeepsOpen,
    /// It is closed all the same; the bundle says that the run was applying.
    LeftBehind,
}

/// Why a job was not opened or not closed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is closed, and its bundle could not be sealed; that is tried again from time to time, and
    /// when it is closed again.
    #[error("the job is closed, but its bundle could not be sealed")]
    Seal(#[source] BundleError),
}

impl From<ReasonCode> for JobError {
    fn from(code: ReasonCode) -> Self {
        Self::Refused(code.into())
    }
}

impl From<BundleError> for JobError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Store(error) => Self::Store(error),
            BundleError::Pending(why) => Refusal::new(ReasonCode::BundlePending, why).into(),
            other => Self::Seal(other),
        }
    }
}

/// Opens a job under a published contract. Its key is derived from its id and stored nowhere.
///
/// # Errors
/// `CONTRACT_UNKNOWN`, `CONTRACT_WITHDRAWN`, `BODY_WRONG_TYPE` for a name that is too long or
/// holds control characters, or the store's.
pub async fn open(
    parts: Issuer<'_>,
    opener: Opener<'_>,
    name: &str,
    choice: ContractChoice,
    terms: Terms<'_>,
    now: Timestamp,
) -> Result<OpenedJob, JobError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let detail = format!("a job's name has 1 to {MAX_NAME_BYTES} bytes on one line");
        return Err(Refusal::new(ReasonCode::BodyWrongType, detail).into());
    }
    let contract = choose(parts, choice).await?;
    let job_id: JobId = format!("job_{}", random_uuid())
        .parse()
        .expect("a UUID is letters, digits and dashes");
    // Until the record is written, the keys that it names must count.
    let _signing = parts.keys.signing().await;
    let keys = parts.keys.now();
    keys.check(now).map_err(|replaced| replaced.refusal())?;
    let agent_did = keys.job(&job_id).did();
    let record = JobOpen {
        agent_did: agent_did.clone(),
        name: name.to_owned(),
        opened_by: opener.operator.to_owned(),
        opened_by_email: opener.email.map(str::to_owned),
        policy_hash_b64u: contract.hash,
        gateway_did: keys.receipt.did(),
        confinement: terms.confinement,
        lease_seconds: terms.lease.map(|(lease, _)| lease.seconds()),
    };
    // Before the job is there: whoever asks for it may leave at any moment.
    if let Some((lease, leases)) = terms.lease {
        leases.begin(job_id.clone(), lease);
    }
    let action = Action {
        operator: opener.operator,
        name: "job.open",
        subject: job_id.to_string(),
        detail: vec![("policy_hash_b64u", contract.hash.to_string())],
        at: now,
    };
    let opening = parts.store.open_job(job_id.clone(), now, record);
    let appended = audited(parts.store, action, opening).await?;
    kill_point!("job.opened");
    let policy_hash = contract.hash;
    let live = LiveJob::open(job_id.clone(), agent_did.clone(), name.to_owned(), contract);
    parts.live.keep_job(live);
    Ok(OpenedJob {
        job_id,
        agent_did,
        policy_hash,
        opened_at: appended.at,
    })
}

async fn choose(parts: Issuer<'_>, choice: ContractChoice) -> Result<Arc<LiveContract>, JobError> {
    let hash = match choice {
        ContractChoice::Hash(hash) => hash,
        ContractChoice::Name(name) => {
            let versions = parts.store.versions(&name).await?;
            if versions.is_empty() {
                return Err(ReasonCode::ContractUnknown.into());
            }
            clawcontrols::in_force(versions)
                .ok_or(ReasonCode::ContractWithdrawn)?
                .contract
                .policy_hash
        }
    };
    let contract = clawcontrols::lookup(parts.store, parts.live, &hash).await?;
    let contract = contract.ok_or(ReasonCode::ContractUnknown)?;
    if contract.is_withdrawn() {
        return Err(ReasonCode::ContractWithdrawn.into());
    }
    Ok(contract)
}

/// Closes a job and seals its bundle. Closing it again returns the same bundle. What was begun goes
/// on when whoever asked for it does not wait: sealing asks witnesses, which can take seconds.
///
/// Nothing may follow the closing record, so the order is: no more calls are admitted and
/// streams are cut; runs that still wait for somebody are discarded; calls that run get the
/// drain time to end; what is left is closed as unknown together with the job.
///
/// # Errors
/// `JOB_UNKNOWN`, `JOB_BUSY` while an apply runs that keeps the job open, `BUNDLE_PENDING`, the
/// store's, or [`JobError::Seal`].
pub async fn close(
    app: &Arc<App>,
    operator: &str,
    job_id: &JobId,
    reason: &str,
    running: RunningApply,
) -> Result<ClosedJob, JobError> {
    let ended = end(app, operator, job_id, reason, running).await?;
    Ok(ClosedJob {
        bundle: ended.bundle?,
        job: ended.job,
        closing: ended.closing,
        unknown: ended.unknown,
    })
}

/// The same for whoever wants the job to end above all: it counts as done when the job is closed.
///
/// # Errors
/// `JOB_UNKNOWN`, `JOB_BUSY` while an apply runs that keeps the job open, or the store's.
pub async fn end(
    app: &Arc<App>,
    operator: &str,
    job_id: &JobId,
    reason: &str,
    running: RunningApply,
) -> Result<EndedJob, JobError> {
    let (app, job_id) = (Arc::clone(app), job_id.clone());
    let (operator, reason) = (operator.to_owned(), reason.to_owned());
    let closing = tokio::spawn(
        async move {
            let closed = close_and_seal(&app, &operator, &job_id, &reason, running).await;
            if let Err(JobError::Store(_)) = &closed {
                // It may be closed all the same; whoever looks through the closed jobs sees that.
                app.pending.add();
            }
            closed
        }
        .in_current_span(),
    );
    closing
        .await
        .map_err(|error| StoreError::Unavailable(Arc::new(error)))?
}

async fn close_and_seal(
    app: &App,
    operator: &str,
    job_id: &JobId,
    reason: &str,
    running: RunningApply,
) -> Result<EndedJob, JobError> {
    let job = app.store.job(job_id).await?.ok_or(ReasonCode::JobUnknown)?;
    if !job.state.is_open() {
        return finish(app, job, Vec::new()).await;
    }
    if running == RunningApply::KeepsOpen && !applies_end(app, job_id).await? {
        return Err(busy());
    }
    let action = Action {
        operator,
        name: "job.close",
        subject: job_id.to_string(),
        detail: vec![("reason", reason.to_owned())],
        at: app.now(),
    };
    let unknown = audited(&*app.store, action, async {
        app.live.end_job(job_id);
        kill_point!("job.ending");
        discard_waiting(app, operator, job_id, reason).await?;
        let patience = Duration::from_secs(app.config.limits.drain_seconds);
        wait_for_calls(app, job_id, patience).await?;
        if running == RunningApply::KeepsOpen && applying(&*app.store, job_id).await?.is_some() {
            return Err(busy());
        }
        kill_point!("job.drained");
        let closing = app
            .store
            .close_job(job_id, operator, reason, app.now())
            .await?;
        Ok::<_, JobError>(match closing {
            store::JobClosing::Now { cut, .. } => cut,
            store::JobClosing::Before(_) => Vec::new(),
        })
    })
    .await;
    match &unknown {
        Ok(_) => app.live.forget_job(job_id),
        Err(_) => app.live.reopen_job(job_id),
    }
    kill_point!("job.closed");
    let job = app.store.job(job_id).await?.ok_or(ReasonCode::JobUnknown)?;
    finish(app, job, unknown?).await
}

/// Seals a closed job.
async fn finish(app: &App, job: JobRow, unknown: Vec<u64>) -> Result<EndedJob, JobError> {
    let bundle = bundles::seal(bundles::Sealing::of(app), &job.job_id, crate::app::now).await;
    // Nothing more can be done in it. Whatever keeps its bundle from being sealed, it is sealed
    // when that is over.
    app.leases.end(&job.job_id);
    match &bundle {
        Ok(sealed) => {
            app.metrics.bundles.count();
            if !matches!(job.state, JobState::Sealed { .. }) {
                bundles::announce(app, sealed).await;
                kill_point!("seal.announced");
            }
        }
        Err(_) => app.pending.add(),
    }
    let closing = job.state.closing().cloned().ok_or(ReasonCode::JobUnknown)?;
    Ok(EndedJob {
        job,
        closing,
        bundle,
        unknown,
    })
}

fn busy() -> JobError {
    ReasonCode::JobBusy.into()
}

/// Whether the job's applies end within a moment: one that upstream has finished, and that the
/// gate has not looked at again since, must not keep the job open.
async fn applies_end(app: &App, job_id: &JobId) -> Result<bool, StoreError> {
    let ended = async {
        let mut commits = app.store.commits();
        if let Some(run) = applying(&*app.store, job_id).await? {
            app.gate.wake(&run.run_id);
        }
        while applying(&*app.store, job_id).await?.is_some() {
            next(&mut commits).await;
        }
        Ok(true)
    };
    timeout(APPLY_PATIENCE, ended).await.unwrap_or(Ok(false))
}

/// Waits for the next commit that was not looked at yet.
async fn next(commits: &mut watch::Receiver<u64>) {
    // The sender lives as long as the store.
    let _ = commits.changed().await;
}

/// A run of the job that is being applied, or is about to be.
async fn applying(store: &dyn Store, job_id: &JobId) -> Result<Option<RunRow>, StoreError> {
    let runs = store.runs(job_id).await?;
    let busy = |run: &RunRow| {
        matches!(
            run.gate,
            GateState::Approved | GateState::Rechecking | GateState::Applying
        )
    };
    Ok(runs.into_iter().find(busy))
}

/// Discards the runs that nobody will decide about any more. A run that cannot be discarded does
/// not keep the job open: nothing can be recorded once the job is closed, so nothing applies it.
async fn discard_waiting(
    app: &App,
    operator: &str,
    job_id: &JobId,
    reason: &str,
) -> Result<(), StoreError> {
    for run in app.store.runs(job_id).await? {
        // An apply that was asked for cannot be taken back here.
        if run.gate.is_final() || run.gate == GateState::Applying {
            continue;
        }
        if let Err(refusal) = approvals::discard(app, &run.run_id, operator, reason).await {
            tracing::warn!(run = run.run_id, %refusal, "a run of a closing job was not discarded");
        }
    }
    Ok(())
}

/// Waits until every intent has its outcome and the gate has let go of the runs that have ended,
/// or patience ends.
async fn wait_for_calls(app: &App, job_id: &JobId, patience: Duration) -> Result<(), StoreError> {
    let ended = async {
        let mut commits = app.store.commits();
        loop {
            let gate = app.gate.changed();
            let runs = app.store.runs(job_id).await?;
            let ending = runs.iter().any(|run| app.gate.is_letting_go(app, run));
            let job = app.store.job(job_id).await?;
            if !ending && job.is_none_or(|job| job.counters.open_intents == 0) {
                return Ok(());
            }
            tokio::select! {
                () = next(&mut commits) => {}
                () = gate => {}
            }
        }
    };
    timeout(patience, ended).await.unwrap_or_else(|_| {
        tracing::warn!(job = %job_id, "calls are still running; closing without them");
        Ok(())
    })
}
