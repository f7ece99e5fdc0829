//! Several gateways on one store: what this one knows by heart follows what the others end, and
//! the one that leads does what only one of them should.
//!
//! What the gateways share is in the store, and what counts once is decided there. Being the one
//! that leads saves work and keeps people from being told twice; nothing depends on there being
//! only one: runs move by compare-and-swap, an apply begins with its intent, and what is published
//! follows from the log.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proof::Hash;
use proof::record::{Ended, Outcome};
use store::{Conflict, Happened, OpenIntent, StoreError};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::bundles;
use crate::leases;

/// The shortest time between two looks at what the others have begun: a busy gateway commits all
/// the time.
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// The longest, for what failed.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// How often size and time of jobs are read that other gateways may have made larger and later.
const WEIGH: Duration = Duration::from_secs(5);

/// Whether a gateway has gone whose calls nobody has ended yet.
#[derive(Debug, Default)]
pub struct Left(AtomicBool);

impl App {
    /// Whether this gateway does what one of several should.
    pub fn leads(&self) -> bool {
        *self.store.leads().borrow()
    }
}

/// Has what is known by heart follow the store from now on.
pub fn follow(app: &Arc<App>) -> Arc<Left> {
    let left = Arc::new(Left::default());
    let (known, gone) = (Arc::downgrade(app), Arc::clone(&left));
    app.store.follow(Box::new(move |happened| {
        let Some(app) = known.upgrade() else { return };
        match happened {
            Happened::Revoked(token) => app.live.revoke_token(&token),
            Happened::Closed(job) => {
                app.live.end_job(&job);
                // The store calls it closed, so that nobody takes it for open again.
                app.live.forget_job(&job);
                app.leases.end(&job);
            }
            Happened::Withdrawn(contract) => app.live.withdraw_contract(&contract),
            Happened::KeySet(_) => app.keys.tell(),
            Happened::GatewayGone => gone.0.store(true, Ordering::Release),
            Happened::CutOff => app.live.forget_all(),
        }
    }));
    left
}

/// Does a duty whenever this gateway leads, until it ends by itself. When the lead is lost, it is
/// dropped where it stands, as by a crash; whoever leads next goes on with it.
pub async fn while_leading<F, D>(app: Arc<App>, mut stopping: watch::Receiver<bool>, duty: F)
where
    F: Fn(Arc<App>, watch::Receiver<bool>) -> D,
    D: Future<Output = ()>,
{
    let mut leads = app.store.leads();
    loop {
        tokio::select! {
            // It is never wrong for a store of one's own, whose sender is gone.
            Ok(_) = leads.wait_for(|leads| *leads) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        let mut doing = pin!(duty(Arc::clone(&app), stopping.clone()));
        let lost = async {
            if leads.wait_for(|leads| !leads).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = &mut doing => return,
            () = lost => {}
        }
    }
}

/// What the one that leads does for all: settles what gateways that are gone have left, moves runs
/// along, closes jobs whose leases lapse.
pub async fn lead(app: Arc<App>, left: Arc<Left>, stopping: watch::Receiver<bool>) {
    if !app.store.is_shared() {
        // It has settled everything at its start, and is told of everything that begins.
        leases::keep(app, stopping).await;
        return;
    }
    app.leases.begin_anew();
    left.0.store(true, Ordering::Release);
    tokio::select! {
        () = leases::keep(Arc::clone(&app), stopping) => {}
        () = look_after_all(&app, &left) => {}
    }
}

async fn look_after_all(app: &Arc<App>, left: &Left) {
    let mut commits = app.store.commits();
    let mut runs = HashMap::new();
    let mut resumed = false;
    loop {
        commits.mark_unchanged();
        if left.0.swap(false, Ordering::AcqRel)
            && let Err(error) = take_over(app).await
        {
            tracing::warn!(%error, "what a gateway left behind is not settled yet");
            left.0.store(true, Ordering::Release);
        }
        let looked = async {
            if !resumed {
                app.gate.resume(app).await?;
            }
            app.gate.take_up(app, &mut runs).await?;
            app.leases.take_up(app).await
        };
        match looked.await {
            Ok(()) => resumed = true,
            Err(error) => tracing::warn!(%error, "what others have begun cannot be read"),
        }
        sleep(BETWEEN_LOOKS).await;
        let _ = timeout(LONGEST_REST, commits.changed()).await;
    }
}

/// Takes up what gateways that are gone were doing: calls whose end nobody saw end as unknown,
/// closed jobs are sealed.
async fn take_over(app: &App) -> Result<(), StoreError> {
    loop {
        let open = app.store.left_behind().await?;
        if open.is_empty() {
            break;
        }
        for intent in open {
            match end_unknown(app, intent).await {
                // Its job was closed, or somebody else was faster.
                Ok(())
                | Err(StoreError::Conflict(Conflict::JobClosed(_) | Conflict::IntentAnswered(_))) =>
                    {}
                Err(error) => return Err(error),
            }
        }
    }
    bundles::resume(app).await.map(drop)
}

/// Ends a call whose end nobody saw.
///
/// # Errors
/// The store's.
pub async fn end_unknown(app: &App, intent: OpenIntent) -> Result<(), StoreError> {
    let outcome = Outcome {
        intent_seq: intent.seq,
        tool_calls: Vec::new(),
        status: None,
        upstream_status: None,
        response_hash_b64u: Hash::of(b""),
        response_bytes: 0,
        latency_ms: 0,
        first_byte_ms: None,
        usage: None,
        object_id: None,
        egress: None,
        ended: Ended::Unknown,
        code: None,
        receipt: None,
    };
    let ending = app
        .store
        .append_outcome(&intent.job_id, app.now(), outcome, None, Vec::new());
    ending.await?;
    tracing::warn!(job = %intent.job_id, seq = intent.seq, "a call ended unknown");
    Ok(())
}

/// Reads now and then how large the jobs have become of which this gateway takes calls, and the
/// time of their latest records: others may take some, too, and the bounds of a job are for all.
pub async fn weigh(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    if !app.store.is_shared() {
        return;
    }
    loop {
        tokio::select! {
            () = sleep(WEIGH) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        for job in app.live.jobs() {
            let read = async {
                let row = app.store.job(&job.id).await?;
                let Some(row) = row else { return Ok(()) };
                let records = row.counters.records;
                job.wrote_at(row.last_at);
                if job.knows_of(records) {
                    return Ok(());
                }
                let bytes = app.store.record_bytes(&job.id).await?;
                job.has_at_least(records, bytes);
                Ok::<_, StoreError>(())
            };
            if let Err(error) = read.await {
                tracing::warn!(%error, job = %job.id, "a job's size cannot be read");
                break;
            }
        }
    }
}
