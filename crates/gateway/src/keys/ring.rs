//! The keys in use, which change while the gateway runs.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::timeout;

use super::Keys;

/// How long a revocation waits at most for what is just being signed.
const LAST_SIGNATURES: Duration = Duration::from_secs(10);

/// The keys that are in use now.
///
/// Whoever signs something that takes its place in the log by a later write holds
/// [`KeyRing::signing`] from before the signature until the write is in the store's queue. A
/// revocation waits for them, so that nothing that was signed in good time stands behind it.
pub struct KeyRing {
    in_use: RwLock<Arc<Keys>>,
    signing: tokio::sync::RwLock<()>,
    changing: Mutex<()>,
    told: Notify,
    announced: AtomicU64,
    tokens_left: AtomicBool,
}

impl From<Keys> for KeyRing {
    fn from(keys: Keys) -> Self {
        Self {
            in_use: RwLock::new(Arc::new(keys)),
            signing: tokio::sync::RwLock::default(),
            changing: Mutex::default(),
            told: Notify::new(),
            announced: AtomicU64::new(0),
            // Who changed keys last may have ended before it was through.
            tokens_left: AtomicBool::new(true),
        }
    }
}

impl KeyRing {
    /// The keys in use. They stay the same for whoever holds them, and may be others the next time.
    pub fn now(&self) -> Arc<Keys> {
        let in_use = self.in_use.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&in_use)
    }

    /// To be held while something is signed and handed to the store.
    pub async fn signing(&self) -> RwLockReadGuard<'_, ()> {
        self.signing.read().await
    }

    /// Waits until whatever is being signed has been handed to the store; nothing is signed while
    /// the guard is held. `None` when that takes too long: a key that must not count any more does
    /// not wait for a signer that hangs.
    pub(super) async fn all_signed(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        timeout(LAST_SIGNATURES, self.signing.write()).await.ok()
    }

    /// One change at a time.
    pub(super) async fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// The log has a key set that may be new here.
    pub fn tell(&self) {
        self.told.notify_one();
    }

    /// Waits until it may have.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    /// The key set that others know to be followed here.
    pub(super) fn announced(&self) -> u64 {
        self.announced.load(Ordering::Acquire)
    }

    /// They know now of this one.
    pub(super) fn set_announced(&self, key_set: u64) {
        self.announced.store(key_set, Ordering::Release);
    }

    /// Whether tokens may be left to revoke whose key was revoked.
    pub(super) fn has_tokens_left(&self) -> bool {
        self.tokens_left.load(Ordering::Acquire)
    }

    /// There may be some, or somebody sees to them.
    pub(super) fn set_tokens_left(&self, left: bool) {
        self.tokens_left.store(left, Ordering::Release);
    }

    /// A gateway has ended, perhaps amid a change of keys: this one goes on with that.
    pub fn go_on(&self) {
        self.set_tokens_left(true);
        self.tell();
    }

    pub(super) fn replace(&self, keys: Keys) {
        let mut in_use = self.in_use.write().unwrap_or_else(PoisonError::into_inner);
        *in_use = Arc::new(keys);
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}
