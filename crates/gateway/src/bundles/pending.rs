//! Closed jobs whose contracts ask for more than witnesses and authorities have said so far.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::resume;
use crate::app::App;

/// How many there are.
#[derive(Debug)]
pub struct Pending(watch::Sender<usize>);

impl Default for Pending {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Pending {
    /// How many bundles wait, as far as this process knows.
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Tells of each change.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    /// One more waits.
    pub(crate) fn add(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    pub(super) fn set(&self, count: usize) {
        self.0.send_replace(count);
    }
}

/// Seals what waits as soon as it can be, until the gateway stops. While something waits, everybody
/// is asked again every `log.publish_seconds`.
pub async fn complete(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let mut waiting = app.pending.watch();
    let pause = Duration::from_secs(app.config.log.publish_seconds);
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
        if let Err(error) = resume(&app).await {
            tracing::warn!(%error, "the bundles that wait cannot be looked at");
        }
    }
}
