//! How many calls are open, so that a stopping gateway can wait for their outcomes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::watch;

use super::pace::Pass;

/// Counts open calls.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenCalls {
    count: watch::Sender<usize>,
    /// Those that are answered by a stream.
    streams: Arc<AtomicUsize>,
}

/// One open call; dropped once its outcome has been handed in.
#[derive(Debug)]
pub(super) struct OpenCall {
    calls: OpenCalls,
    is_stream: bool,
    pass: Option<Pass>,
}

impl OpenCalls {
    /// Counts one more; the operator's limits count it as long.
    pub(super) fn one(&self, pass: Option<Pass>) -> OpenCall {
        self.count.send_modify(|count| *count += 1);
        OpenCall {
            calls: self.clone(),
            is_stream: false,
            pass,
        }
    }

    /// Resolves when there is none.
    pub(super) async fn none(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Of these, those that are answered by a stream.
    pub(super) fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }
}

impl OpenCall {
    /// It is answered by a stream.
    pub(super) fn streams(&mut self) {
        if !std::mem::replace(&mut self.is_stream, true) {
            self.calls.streams.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        // Whoever is told of the last end may count on it.
        self.pass = None;
        if self.is_stream {
            self.calls.streams.fetch_sub(1, Relaxed);
        }
        self.calls.count.send_modify(|count| *count -= 1);
    }
}
