//! How many connections are open: bounded for each job and for all, and ended with the gateway.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use policy::{ReasonCode, Refusal};
use proof::record::JobId;
use tokio::sync::watch;

use super::places::{Places, Resolve};
use crate::config::Config;

/// How long the ends of connections may take to be recorded when all are cut.
const FOR_THE_LAST: Duration = Duration::from_secs(5);

/// The egress proxy, as far as connections share it.
pub struct Egress {
    pub(super) places: Places,
    most: usize,
    most_of_a_job: usize,
    open: Arc<Open>,
    stopped: watch::Sender<bool>,
}

#[derive(Default)]
struct Open {
    by_job: Mutex<HashMap<JobId, usize>>,
    count: watch::Sender<usize>,
}

/// One connection that is counted; leaving is dropping.
pub(super) struct Place {
    open: Arc<Open>,
    job: JobId,
}

impl Egress {
    /// Nothing is connected to yet. The addresses are those at which the gateway listens.
    pub fn new(
        config: &Config,
        listening: Vec<std::net::SocketAddr>,
        urls: [&str; 2],
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        Self {
            places: Places::new(config, listening, urls, resolver),
            most: config.egress.connections,
            most_of_a_job: config.egress.connections_per_job,
            open: Arc::default(),
            stopped: watch::Sender::new(false),
        }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// `EGRESS_BUSY`.
    pub(super) fn enter(&self, job: &JobId) -> Result<Place, Refusal> {
        let mut by_job = self.open.by_job.lock().expect("no panic while it is held");
        let all: usize = *self.open.count.borrow();
        let own = by_job.get(job).copied().unwrap_or(0);
        let busy = |detail: &'static str| Err(Refusal::new(ReasonCode::EgressBusy, detail));
        if own >= self.most_of_a_job {
            return busy("the job has as many connections open as it may have");
        }
        if all >= self.most {
            return busy("the gateway has as many connections open as it may have");
        }
        by_job.insert(job.clone(), own + 1);
        self.open.count.send_modify(|count| *count += 1);
        Ok(Place {
            open: Arc::clone(&self.open),
            job: job.clone(),
        })
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        *self.open.count.borrow()
    }

    /// Resolves when all are to be cut.
    pub(super) async fn until_stopped(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Lets connections end on their own for so long, then cuts them, and returns when their ends
    /// are recorded.
    pub async fn stop(&self, drain: Duration) {
        let mut count = self.open.count.subscribe();
        let none = |count: &usize| *count == 0;
        if tokio::time::timeout(drain, count.wait_for(none))
            .await
            .is_ok()
        {
            return;
        }
        self.stopped.send_replace(true);
        if tokio::time::timeout(FOR_THE_LAST, count.wait_for(none))
            .await
            .is_err()
        {
            tracing::warn!("ends of connections were not recorded in time; they end as unknown");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_job = self.open.by_job.lock().expect("no panic while it is held");
        if let Some(own) = by_job.get_mut(&self.job) {
            *own -= 1;
            if *own == 0 {
                by_job.remove(&self.job);
            }
        }
        self.open.count.send_modify(|count| *count -= 1);
    }
}
