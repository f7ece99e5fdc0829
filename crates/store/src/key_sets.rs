//! Key sets: which keys the gateway has. They are leaves of the log, and belong to no job.

use async_trait::async_trait;
use proof::Timestamp;
use proof::keyset::SignedKeySet;

use crate::error::StoreError;

/// A key set with its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredKeySet {
    /// Its place in the log.
    pub leaf_index: u64,
    /// The key set.
    pub entry: SignedKeySet,
}

/// Key sets. Whether one may follow the others is for [`proof::keyset::History`] to say; here it
/// is seen to that each number is there once and that none is left out.
#[async_trait]
pub trait KeySets {
    /// Appends the key set with this number, and returns its place in the log.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `KeySetNumber` unless it is the next one, `Unrecordable`
    /// when it is too long to be an entry of the log.
    async fn append_key_set(
        &self,
        number: u64,
        entry: SignedKeySet,
        at: Timestamp,
    ) -> Result<u64, StoreError>;

    /// All of them, in order.
    async fn key_sets(&self) -> Result<Vec<StoredKeySet>, StoreError>;
}
