//! Calls that go on although their client has left, because the contract wants their tokens
//! counted exactly.
//!
//! A client's connections are bounded, but nothing holds one any more: without a bound of its own
//! whoever sends, hangs up and repeats would have any number of answers on their way. Beyond it a
//! call ends with its client, and its reservation is used up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls without a client at a time.
pub(super) const MOST: usize = 128;

/// The places of calls without a client.
#[derive(Debug, Clone)]
pub(super) struct GoingOn(Arc<Semaphore>);

/// A place of one of them.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Default for GoingOn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl GoingOn {
    /// A place for one more; `None` when all are taken.
    pub(super) fn enter(&self) -> Option<Place> {
        let place = Arc::clone(&self.0).try_acquire_owned().ok();
        if place.is_none() {
            tracing::warn!("too many calls go on without a client; this one ends with its own");
        }
        place.map(Place)
    }

    /// Makes a call that goes on when it is dropped, which is how a client leaves.
    pub(super) fn carry<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Carried<T> {
        Carried {
            call: Some(Box::pin(call)),
            going_on: self.clone(),
        }
    }
}

/// A call that goes on when it is dropped before its end.
pub(super) struct Carried<T: Send + 'static> {
    call: Option<BoxFuture<'static, T>>,
    going_on: GoingOn,
}

impl<T: Send + 'static> Future for Carried<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let call = self.call.as_mut().expect("not polled after its end");
        let ended = call.as_mut().poll(context);
        if ended.is_ready() {
            self.call = None;
        }
        ended
    }
}

impl<T: Send + 'static> Drop for Carried<T> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take()
            && let Ok(runtime) = Handle::try_current()
            && let Some(place) = self.going_on.enter()
        {
            runtime.spawn(async move {
                let answer = call.await;
                // Free before the answer is dropped, which takes one to be read to its end.
                drop(place);
                drop(answer);
            });
        }
    }
}
