//! What vaults keep beyond its time because a job is held.
//!
//! Sealed content has no job: the same content may belong to several, and is kept once, under the
//! time of the last. So while any hold stands, nothing goes that was sealed since the first of
//! the held jobs was opened.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use store::{Store, StoreError};
use tokio::sync::watch;

use crate::app::App;

/// How much the clocks of the gateway and of the folder's file system may differ.
const SKEW: Duration = Duration::from_secs(3600);

/// How often holds are read anew: another gateway may have placed one.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Since when sealed content is held.
#[derive(Debug, Default)]
pub struct Held(Mutex<Option<SystemTime>>);

impl Held {
    /// Reads the holds.
    ///
    /// # Errors
    /// When the store does not answer; then what was known stays.
    pub async fn read(&self, store: &dyn Store) -> Result<(), StoreError> {
        let since = store.held_since().await?.map(|at| {
            let millis = u64::try_from(at.millis()).unwrap_or(0);
            let since = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            since.checked_sub(SKEW).unwrap_or(SystemTime::UNIX_EPOCH)
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
        Ok(())
    }

    /// Whether content that was sealed then stays.
    pub(super) fn keeps(&self, sealed: SystemTime) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| sealed >= since)
    }

    /// Keeps up with the store until the gateway stops.
    pub async fn keep_up(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            if let Err(error) = app.held.read(&*app.store).await {
                tracing::warn!(%error, "the holds cannot be read; those that were known stay");
            }
        }
    }
}
