//! Being told that something was written, in place of looking again and again.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::StoreError;

/// Commits.
#[async_trait]
pub trait Commits {
    /// Changes with each commit made through this handle, after what it holds can be read and
    /// before its writers are answered. Whoever waits for something looks, waits for a change,
    /// and looks again; a commit between the look and the wait is not missed. Commits by other
    /// gateways show a moment later, those by commands beside a file not at all, so a wait has a
    /// bound of its own.
    fn commits(&self) -> watch::Receiver<u64>;

    /// Writes that wait for their turn in this process; `None` where nothing waits in the process.
    fn queued(&self) -> Option<usize> {
        None
    }

    /// Whether there is room for more. As long as no commit fails nothing is tried; after one
    /// that did, some pages are written and freed again, until that works.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is none: the disk is full, or gone.
    async fn check_room(&self) -> Result<(), StoreError>;
}
