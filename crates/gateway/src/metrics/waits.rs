//! How much of a call is waiting for upstream: what is left is the gateway's own.
//!
//! Like whose call it is, this is part of the task that makes the call, so that nobody on the way
//! has to hand it on. Waits within waits and waits beside each other count once.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::task::futures::TaskLocalFuture;

/// The waits of one call.
#[derive(Debug, Default)]
pub struct Waits {
    /// How many there are now.
    open: Cell<u32>,
    /// Since when there are any.
    since: Cell<Option<Instant>>,
    /// Those that are over.
    waited: Cell<Duration>,
}

tokio::task_local! {
    static WAITS: Waits;
}

/// Work whose waits for upstream are measured. (No wrapper that is itself asynchronous: calls are
/// large futures, and each such layer would hold them twice.)
pub type Measured<F> = TaskLocalFuture<Waits, F>;

/// Measures how much of its time `work` waits for upstream; [`waited`] tells it.
pub fn measured<F: Future>(work: F) -> Measured<F> {
    WAITS.scope(Waits::default(), work)
}

/// How much of its time work that is over has waited.
pub fn waited<F: Future>(over: Pin<&mut Measured<F>>) -> Duration {
    over.take_value()
        .map_or(Duration::ZERO, |waits| waits.waited.get())
}

/// Adds what a part of the call, which was measured by itself, has waited.
pub fn add(more: Duration) {
    // Outside of a call nobody asks.
    let _ = WAITS.try_with(|waits| waits.waited.set(waits.waited.get() + more));
}

/// One wait for upstream, over when it is dropped.
#[derive(Debug)]
pub struct Waiting(());

impl Waiting {
    /// Begins one.
    pub fn begin() -> Self {
        let _ = WAITS.try_with(|waits| {
            if waits.open.replace(waits.open.get() + 1) == 0 {
                waits.since.set(Some(Instant::now()));
            }
        });
        Self(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = WAITS.try_with(|waits| {
            let open = waits.open.get().saturating_sub(1);
            waits.open.set(open);
            if open == 0
                && let Some(since) = waits.since.take()
            {
                waits.waited.set(waits.waited.get() + since.elapsed());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn for_upstream<F: Future>(answer: F) -> F::Output {
        let _waiting = Waiting::begin();
        answer.await
    }

    /// The clock is the machine's, so nothing is said about how long; only what is counted.
    #[tokio::test]
    async fn waits_within_and_beside_each_other_count_once() {
        let started = Instant::now();
        let mut work = std::pin::pin!(measured(async {
            let one = for_upstream(for_upstream(tokio::task::yield_now()));
            let other = for_upstream(tokio::task::yield_now());
            tokio::join!(one, other);
            WAITS.with(|waits| {
                assert_eq!(waits.open.get(), 0);
                waits.waited.get()
            })
        }));
        let seen = work.as_mut().await;
        assert_eq!(waited(work), seen);
        assert!(seen <= started.elapsed());
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_is_over_and_one_outside_of_a_call_is_nobodys() {
        for_upstream(async {}).await;
        let mut work = std::pin::pin!(measured(async {
            let given_up = for_upstream(std::future::pending::<()>());
            tokio::select! {
                biased;
                () = given_up => {}
                () = async {} => {}
            }
            WAITS.with(|waits| assert_eq!((waits.open.get(), waits.since.get()), (0, None)));
            add(Duration::from_secs(7));
        }));
        work.as_mut().await;
        assert!(waited(work) >= Duration::from_secs(7));
    }
}
