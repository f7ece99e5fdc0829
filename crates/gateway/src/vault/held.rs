//! What vaults keep beyond its time because a job is held.
//!
//! Sealed content has no job: the same content may belong to several, and is kept once, under the
//! time of the last. So while any hold stands, nothing goes that was sealed since the first of
//! the held jobs was opened.
//!
//! Whoever places a hold is answered when it is kept by everybody: the gateways on one store take
//! turns at removing, each reads the holds in its turn, and an answer waits for the turn that was
//! under way. What cannot be found out is held.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use proof::Timestamp;
use store::{Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{sleep, timeout};

/// How much the clocks of the gateway and of the folder's file system may differ.
const SKEW: Duration = Duration::from_secs(3600);

/// The turn, by its name in the store.
pub const TURN: &str = "vault/remove";

/// How long it is waited for, and how often it is looked for meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a turn may be. The store takes it from a gateway of which it hears nothing for twice as
/// long: one that stood still meanwhile removes nothing when it goes on.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// The holds in the store, for vaults.
#[derive(Clone)]
pub struct Held {
    /// Threads that seal may live a little longer than the gateway; the store does not.
    store: Weak<dyn Store>,
    runtime: Handle,
    /// The turn within this process.
    turn: Arc<Mutex<()>>,
}

/// Why a hold that stands is not answered.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    /// Another gateway is still removing, or cannot be asked.
    #[error("a vault was being cleared, and did not end in time")]
    Removing,
    /// The gateway stops.
    #[error("the store is closed")]
    Closed,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A turn at removing: holds that are placed meanwhile are not answered before its end.
pub(super) struct Turn {
    held: Held,
    since: Option<SystemTime>,
    began: Instant,
    _here: OwnedMutexGuard<()>,
}

impl Held {
    /// The holds in a store. Within a runtime, on which vaults then ask.
    pub fn of(store: &Arc<dyn Store>) -> Self {
        Self {
            store: Arc::downgrade(store),
            runtime: Handle::current(),
            turn: Arc::default(),
        }
    }

    /// After a hold was placed: whatever has not seen it has ended when this has.
    ///
    /// # Errors
    /// [`Unsettled`]: something may still go that was about to.
    pub async fn settle(&self) -> Result<(), Unsettled> {
        self.in_turn(async {}).await
    }

    /// Does something in a turn: holds that are placed meanwhile are not answered before its end.
    ///
    /// # Errors
    /// [`Unsettled`]: the turn cannot be had now, and nothing was done.
    pub async fn in_turn<T>(&self, work: impl Future<Output = T>) -> Result<T, Unsettled> {
        let turn = self.take_turn().await?;
        let done = work.await;
        if let Err(error) = self.give_back().await {
            tracing::warn!(%error, "a turn at removing is not given back yet");
        }
        drop(turn);
        Ok(done)
    }

    /// Since when content is held, as far as is known without a turn. Blocks.
    pub(super) fn since(&self) -> Option<SystemTime> {
        self.wait(async { Ok(self.store()?.held_since().await?) })
            .map_or_else(unknown, |since| since.map(begin_of))
    }

    /// Takes the turn and reads the holds; none when it cannot be had now. Blocks.
    pub(super) fn begin(&self) -> Option<Turn> {
        let begun = self.wait(async {
            let here = self.take_turn().await?;
            let since = self.store()?.held_since().await;
            if since.is_err() {
                let _ = self.give_back().await;
            }
            Ok((here, since?))
        });
        match begun {
            Ok((here, since)) => Some(Turn {
                held: self.clone(),
                since: since.map(begin_of),
                began: Instant::now(),
                _here: here,
            }),
            Err(error) => {
                tracing::warn!(%error, "nothing is removed from a vault now");
                None
            }
        }
    }

    fn store(&self) -> Result<Arc<dyn Store>, Unsettled> {
        self.store.upgrade().ok_or(Unsettled::Closed)
    }

    async fn give_back(&self) -> Result<(), Unsettled> {
        Ok(self.store()?.release(TURN).await?)
    }

    async fn take_turn(&self) -> Result<OwnedMutexGuard<()>, Unsettled> {
        let here = timeout(PATIENCE, Arc::clone(&self.turn).lock_owned());
        let here = here.await.map_err(|_| Unsettled::Removing)?;
        let claiming = async {
            while !self.store()?.claim(TURN).await? {
                sleep(LOOK_AGAIN).await;
            }
            Ok(())
        };
        let claimed = timeout(PATIENCE, claiming).await;
        let claimed = claimed.unwrap_or(Err(Unsettled::Removing));
        if claimed.is_err() {
            // It may have been given all the same, a moment too late; then others wait for it.
            let _ = timeout(PATIENCE, self.give_back()).await;
        }
        claimed.map(|()| here)
    }

    /// Waits on the runtime, wherever this is called: vaults are opened within one, too.
    fn wait<T: Send>(
        &self,
        work: impl Future<Output = Result<T, Unsettled>> + Send,
    ) -> Result<T, Unsettled> {
        let bounded = async {
            timeout(4 * PATIENCE, work)
                .await
                .unwrap_or(Err(Unsettled::Removing))
        };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| self.runtime.block_on(bounded));
            waiting.join().unwrap_or(Err(Unsettled::Removing))
        })
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Held")
    }
}

impl Turn {
    /// Whether content that was sealed then stays.
    pub(super) fn keeps(&self, sealed: SystemTime) -> bool {
        self.began.elapsed() > LONGEST_TURN || self.since.is_some_and(|since| sealed >= since)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Err(error) = self.held.wait(self.held.give_back()) {
            tracing::warn!(%error, "a turn at removing from vaults is not given back yet");
        }
    }
}

/// The first moment at which content may have been sealed for a job that was opened then.
fn begin_of(opened: Timestamp) -> SystemTime {
    let millis = u64::try_from(opened.millis()).unwrap_or(0);
    let opened = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    opened.checked_sub(SKEW).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn unknown(error: Unsettled) -> Option<SystemTime> {
    tracing::warn!(%error, "the holds cannot be read: all that is sealed stays");
    Some(SystemTime::UNIX_EPOCH)
}
