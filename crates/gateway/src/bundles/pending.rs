//! Closed jobs whose bundles are not sealed yet: their contracts ask for more than witnesses and
//! authorities have said so far, or something failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Looked, resume};
use crate::app::App;

/// The longest pause between two tries when all that is left has failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How many there are.
#[derive(Debug)]
pub struct Pending {
    count: watch::Sender<usize>,
    /// How many were ever added; changed while the count is.
    added: AtomicU64,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            count: watch::Sender::new(0),
            added: AtomicU64::new(0),
        }
    }
}

impl Pending {
    /// How many bundles wait, as far as this process knows.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Tells of each change.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// One more waits.
    pub(crate) fn add(&self) {
        self.count.send_modify(|count| {
            *count += 1;
            self.added.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// How many were added until now: to be asked before the closed jobs are looked through.
    pub(super) fn added(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }

    /// So many were found by looking through the closed jobs. Those that were added meanwhile may
    /// not have been seen: they are counted besides, rather once too often than never again.
    pub(super) fn found(&self, count: usize, added_before: u64) {
        self.count.send_modify(|known| {
            let meanwhile = self.added.load(Ordering::Relaxed) - added_before;
            *known = count + usize::try_from(meanwhile).unwrap_or(usize::MAX);
        });
    }

    /// There are some; nobody has looked through all.
    pub(super) fn found_some(&self) {
        self.count.send_modify(|known| *known = (*known).max(1));
    }
}

/// Seals what waits as soon as it can be, until the gateway stops. While something waits, everybody
/// is asked again every `log.publish_seconds`; what merely fails is tried less and less often.
pub async fn complete(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let mut waiting = app.pending.watch();
    let shortest = Duration::from_secs(app.config.log.publish_seconds);
    let mut pause = shortest;
    loop {
        let again = async {
            // The sender lives as long as the gateway.
            let _ = waiting.wait_for(|count| *count > 0).await;
            sleep(pause).await;
        };
        tokio::select! {
            () = again => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        pause = match resume(&app).await {
            Ok(looked) => next_pause(pause, shortest, looked),
            Err(error) => {
                tracing::warn!(%error, "the bundles that wait cannot be looked at");
                shortest
            }
        };
    }
}

fn next_pause(pause: Duration, shortest: Duration, looked: Looked) -> Duration {
    let only_failures = looked.failed > 0 && looked.sealed + looked.waiting == 0;
    match only_failures {
        true => (pause * 2).min(LONGEST_PAUSE.max(shortest)),
        false => shortest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_while_the_others_are_looked_at_is_not_forgotten() {
        let pending = Pending::default();
        pending.add();
        let before = pending.added();
        assert_eq!((pending.count(), before), (1, 1));
        // Its job was closed behind the look's back.
        pending.add();
        pending.found(0, before);
        assert_eq!(pending.count(), 1);
        pending.found(0, pending.added());
        assert_eq!(pending.count(), 0);
        pending.found_some();
        assert_eq!(pending.count(), 1);
    }

    #[test]
    fn what_merely_fails_is_tried_less_and_less_often() {
        let shortest = Duration::from_secs(60);
        let looked = |sealed, waiting, failed| Looked {
            sealed,
            waiting,
            failed,
        };
        let seconds = |pause: u64, looked| {
            let pause = next_pause(Duration::from_secs(pause), shortest, looked);
            pause.as_secs()
        };
        assert_eq!(seconds(60, looked(0, 0, 2)), 120);
        assert_eq!(seconds(240, looked(0, 0, 1)), 300);
        assert_eq!(seconds(300, looked(1, 0, 1)), 60, "something has changed");
        assert_eq!(seconds(300, looked(0, 1, 1)), 60, "others are asked");
        assert_eq!(seconds(300, looked(0, 0, 0)), 60);
        let seldom = Duration::from_secs(3600);
        assert_eq!(next_pause(seldom, seldom, looked(0, 0, 1)), seldom);
    }
}
