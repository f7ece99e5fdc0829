//! Key sets in SQL.

use async_trait::async_trait;
use proof::Timestamp;
use proof::keyset::SignedKeySet;
use proof::tiles::MAX_ENTRY_BYTES;

use super::column::{self, Columns as _};
use super::connection::{Connection, Row, params};
use super::{Database, exports, merkle};
use crate::{Conflict, KeySets, StoreError, StoredKeySet};

#[async_trait]
impl KeySets for Database {
    async fn append_key_set(
        &self,
        number: u64,
        entry: SignedKeySet,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write(move |connection| append(connection, number, &entry, at))
            .await
    }

    async fn key_sets(&self) -> Result<Vec<StoredKeySet>, StoreError> {
        self.read(|connection| {
            column::all(
                connection,
                "SELECT leaf_index, entry FROM key_sets ORDER BY leaf_index",
                [],
                |row| {
                    Ok(StoredKeySet {
                        leaf_index: row.uint("leaf_index")?,
                        entry: entry(row)?,
                    })
                },
            )
        })
        .await
    }
}

fn append(
    connection: &Connection,
    number: u64,
    entry: &SignedKeySet,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let last = column::one(
        connection,
        "SELECT coalesce(max(number), 0) AS last FROM key_sets",
        [],
        |row| row.uint("last"),
    )?;
    let last = last.unwrap_or_default();
    if number != last + 1 {
        return Err(Conflict::KeySetNumber(last).into());
    }
    let canonical = entry.to_jcs();
    if canonical.len() > MAX_ENTRY_BYTES {
        return Err(Conflict::Unrecordable.into());
    }
    let place = merkle::size(connection)?;
    let latest = exports::latest_before(connection, place)?;
    let hash = proof::merkle::leaf_hash(&canonical);
    column::change(
        connection,
        "INSERT INTO key_sets (leaf_index, number, entry, latest) VALUES (?1, ?2, ?3, ?4)",
        params![
            column::integer(place)?,
            column::integer(number)?,
            canonical,
            latest.map_or(at, |latest| latest.max(at)).millis(),
        ],
    )?;
    merkle::add_leaf(connection, place, &hash)?;
    connection.announce()?;
    Ok(place)
}

/// The key set of a row.
pub(super) fn entry(row: &Row<'_>) -> Result<SignedKeySet, StoreError> {
    SignedKeySet::parse(&row.blob("entry")?).map_err(|_| column::damaged("entry"))
}
