//! Leases: a job whose opener has gone without a word is closed.
//!
//! A lease runs by the machine's steady clock, in this process: whatever happens to the time of
//! day, it neither ends too early nor never. What the store knows is how long it is. A gateway
//! that starts gives each open job a whole one, because nobody could renew while it was away.
//! Where several gateways share a store, renewals are counted there, and the one that leads closes
//! what nobody renews: it sees that the count has changed, so that no two clocks are compared.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use policy::ReasonCode;
use proof::record::JobId;
use serde::Deserialize;
use store::{JobFilter, JobPhase, StoreError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::app::App;
use crate::jobs::{self, JobError, RunningApply};

/// Open jobs that are read at a time when a gateway starts.
const PAGE: u32 = 1000;

/// How long a job stays open when nobody renews it: 2 to 3600 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct Lease(u32);

impl TryFrom<u32> for Lease {
    type Error = &'static str;

    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        match seconds {
            2..=3600 => Ok(Self(seconds)),
            _ => Err("a lease is 2 to 3600 seconds"),
        }
    }
}

impl Lease {
    /// Its length.
    pub const fn seconds(self) -> u32 {
        self.0
    }

    fn end(self) -> Instant {
        Instant::now() + Duration::from_secs(self.0.into())
    }
}

/// The leases of open jobs.
#[derive(Debug, Default)]
pub struct Leases {
    running: Mutex<HashMap<JobId, (Lease, Instant)>>,
    /// Renewals that were seen in a store that several gateways share.
    renewals: Mutex<HashMap<JobId, u64>>,
    /// Told of each lease that begins: it may end before all others.
    begun: Notify,
}

impl Leases {
    /// A lease begins.
    pub fn begin(&self, job_id: JobId, lease: Lease) {
        self.running().insert(job_id, (lease, lease.end()));
        self.begun.notify_one();
    }

    /// Renews a lease; `false` when there is none, also while a job whose lease has lapsed is closed.
    pub fn renew(&self, job_id: &JobId) -> bool {
        match self.running().get_mut(job_id) {
            Some((lease, end)) => {
                *end = lease.end();
                true
            }
            None => false,
        }
    }

    /// Forgets all: this gateway leads from now on, and gives each open job a whole lease.
    pub fn begin_anew(&self) {
        self.running().clear();
        self.renewals().clear();
    }

    /// Takes up leases and renewals that came to any of the gateways on the store.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_up(&self, app: &App) -> Result<(), StoreError> {
        let leased = app.store.leased_jobs().await?;
        let mut renewals = self.renewals();
        let mut before = std::mem::take(&mut *renewals);
        for job in leased {
            let Ok(lease) = Lease::try_from(job.seconds) else {
                continue;
            };
            if before.remove(&job.job_id) != Some(job.renewals) {
                self.begin(job.job_id.clone(), lease);
            }
            renewals.insert(job.job_id, job.renewals);
        }
        for closed in before.keys() {
            self.end(closed);
        }
        Ok(())
    }

    /// Ends a lease: its job is closed.
    pub fn end(&self, job_id: &JobId) {
        self.running().remove(job_id);
    }

    /// Waits for a lease to lapse, and takes it out.
    async fn lapsed(&self) -> (JobId, Lease) {
        loop {
            let first = {
                let running = self.running();
                let first = running.iter().min_by_key(|(_, (_, end))| *end);
                first.map(|(job_id, (_, end))| (job_id.clone(), *end))
            };
            let Some((job_id, end)) = first else {
                self.begun.notified().await;
                continue;
            };
            tokio::select! {
                () = sleep_until(end) => {}
                () = self.begun.notified() => continue,
            }
            let mut running = self.running();
            // It may have been renewed meanwhile.
            if let Some((lease, end)) = running.get(&job_id).copied()
                && end <= Instant::now()
            {
                running.remove(&job_id);
                return (job_id, lease);
            }
        }
    }

    fn renewals(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, u64>> {
        self.renewals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, (Lease, Instant)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each open job that has a lease a whole one.
///
/// # Errors
/// The store's.
pub async fn resume(app: &App) -> Result<(), StoreError> {
    let mut filter = JobFilter {
        phase: Some(JobPhase::Open),
        limit: PAGE,
        ..JobFilter::default()
    };
    loop {
        let jobs = app.store.jobs(filter.clone()).await?;
        for job in &jobs {
            if let Some(Ok(lease)) = job.lease_seconds.map(Lease::try_from) {
                app.leases.begin(job.job_id.clone(), lease);
            }
        }
        match jobs.last() {
            Some(last) if jobs.len() == PAGE as usize => {
                filter.before = Some(last.job_id.clone());
            }
            _ => return Ok(()),
        }
    }
}

/// Closes jobs whose leases lapse, until the gateway stops.
pub async fn keep(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let mut closing = JoinSet::new();
    loop {
        tokio::select! {
            (job_id, lease) = app.leases.lapsed() => {
                closing.spawn(close(Arc::clone(&app), job_id, lease));
            }
            Some(_) = closing.join_next() => {}
            // Also when the sender is gone. What is being closed ends, or is closed again after
            // the next start.
            _ = stopping.changed() => return,
        }
    }
}

async fn close(app: Arc<App>, job_id: JobId, lease: Lease) {
    // It may have been renewed at another gateway, just now.
    match app.leases.take_up(&app).await {
        Ok(()) if app.leases.running().contains_key(&job_id) => return,
        Ok(()) => {}
        Err(error) => {
            tracing::warn!(job = %job_id, %error, "it is not known whether a lease was renewed");
            app.leases.begin(job_id, lease);
            return;
        }
    }
    let reason = format!("its lease of {} s was not renewed", lease.seconds());
    let closed = jobs::close(&app, "gateway", &job_id, &reason, RunningApply::KeepsOpen);
    match closed.await {
        Ok(_) => tracing::info!(job = %job_id, "closed: {reason}"),
        Err(JobError::Refused(refusal)) if refusal.code == ReasonCode::BundlePending => {
            tracing::info!(job = %job_id, "closed: {reason}; its bundle waits for others");
        }
        // It is closed, and its bundle is tried again without a lease.
        Err(JobError::Seal(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(job = %job_id, error, "closed: {reason}; its bundle is not sealed yet");
        }
        // It was never opened.
        Err(JobError::Refused(refusal)) if refusal.code == ReasonCode::JobUnknown => {}
        Err(error) => {
            tracing::warn!(job = %job_id, %error, "not closed yet, though {reason}");
            // An apply is running, or the store is away: what is still open lapses again.
            app.leases.begin(job_id, lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: u32) -> JobId {
        format!("job_{n}").parse().unwrap()
    }

    #[test]
    fn leases_have_bounds() {
        for (seconds, good) in [
            (0, false),
            (1, false),
            (2, true),
            (3600, true),
            (3601, false),
        ] {
            assert_eq!(Lease::try_from(seconds).is_ok(), good, "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_of_a_closed_job_never_lapses() {
        let leases = Leases::default();
        leases.begin(job(1), Lease(30));
        leases.begin(job(2), Lease(60));
        leases.end(&job(1));
        assert_eq!(leases.lapsed().await, (job(2), Lease(60)));
        assert!(leases.running().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_that_nobody_renews_lapses() {
        let leases = Arc::new(Leases::default());
        let began = Instant::now();
        let waiting = tokio::spawn({
            let leases = Arc::clone(&leases);
            async move { (leases.lapsed().await, leases.lapsed().await) }
        });
        tokio::task::yield_now().await;
        leases.begin(job(1), Lease(60));
        leases.begin(job(2), Lease(30));
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert!(leases.renew(&job(2)));
        }
        let (first, second) = waiting.await.unwrap();
        assert_eq!(first, (job(1), Lease(60)));
        assert_eq!(second, (job(2), Lease(30)));
        assert_eq!(began.elapsed().as_secs(), 90);
        assert!(!leases.renew(&job(2)), "it has lapsed");
        assert!(!leases.renew(&job(3)), "there is none");
    }
}
