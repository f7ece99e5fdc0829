//! How many calls are open, so that a stopping gateway can wait for their outcomes.

use tokio::sync::watch;

use super::pace::Pass;

/// Counts open calls.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenCalls(watch::Sender<usize>);

/// One open call; dropped once its outcome has been handed in.
#[derive(Debug)]
pub(super) struct OpenCall {
    count: watch::Sender<usize>,
    pass: Option<Pass>,
}

impl OpenCalls {
    /// Counts one more; the operator's limits count it as long.
    pub(super) fn one(&self, pass: Option<Pass>) -> OpenCall {
        self.0.send_modify(|count| *count += 1);
        OpenCall {
            count: self.0.clone(),
            pass,
        }
    }

    /// Resolves when there is none.
    pub(super) async fn none(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        // Whoever is told of the last end may count on it.
        self.pass = None;
        self.count.send_modify(|count| *count -= 1);
    }
}
