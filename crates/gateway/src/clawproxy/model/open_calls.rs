//! How many calls are open, so that a stopping gateway can wait for their outcomes.

use tokio::sync::watch;

/// Counts open calls.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenCalls(watch::Sender<usize>);

/// One open call; dropped once its outcome has been handed in.
#[derive(Debug)]
pub(super) struct OpenCall(watch::Sender<usize>);

impl OpenCalls {
    /// Counts one more.
    pub(super) fn one(&self) -> OpenCall {
        self.0.send_modify(|count| *count += 1);
        OpenCall(self.0.clone())
    }

    /// Resolves when there is none.
    pub(super) async fn none(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
