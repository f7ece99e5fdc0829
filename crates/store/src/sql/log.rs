//! Records in SQL; [`ends`] appends them.

use async_trait::async_trait;
use proof::record::{Body, JobId, Outcome, Record};
use proof::{Envelope, Hash, Numbers, Timestamp, json};

use super::column::{self, Columns as _};
use super::connection::{Connection, Row, params};
use super::ends::{Ends, NewRecord};
use super::{Database, ends, merkle, objects};
use crate::{
    Appended, CheckpointRow, Conflict, Log, ObjectRow, OpenIntent, Pending, StoreError,
    StoredRecord,
};

/// Records in one page.
const PAGE: u32 = 1000;

/// Open intents in one answer.
const OPEN_INTENTS: usize = 10_000;

#[async_trait]
impl Log for Database {
    fn append(&self, job_id: &JobId, at: Timestamp, body: Body) -> Pending {
        if !matches!(body, Body::Intent(_) | Body::Refusal(_)) {
            return Pending::refused(Conflict::OwnOperation.into());
        }
        self.writer
            .submit_record(NewRecord::plain(job_id.clone(), at, body))
    }

    fn append_outcome(
        &self,
        job_id: &JobId,
        at: Timestamp,
        outcome: Outcome,
        receipt: Option<Envelope>,
        learned: Vec<ObjectRow>,
    ) -> Pending {
        let job_id = job_id.clone();
        if learned.is_empty() {
            let new = NewRecord::outcome(job_id, at, outcome, receipt);
            return self.writer.submit_record(new);
        }
        // What it teaches may be refused after the record is written, so it has a savepoint of
        // its own.
        let written = self.writer.submit(move |connection| {
            append_outcome(
                connection,
                &job_id,
                at,
                outcome.clone(),
                receipt.clone(),
                &learned,
            )
        });
        match written {
            Ok(answer) => Pending::queued(answer),
            Err(error) => Pending::refused(error),
        }
    }

    async fn records(
        &self,
        job_id: &JobId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT leaf_index, record FROM records JOIN jobs USING (job)
                 WHERE job_id = ?1 AND seq > ?2 AND length(record) <> 8 ORDER BY seq LIMIT ?3",
                params![job_id.as_str(), column::integer(after)?, limit.min(PAGE)],
                |row| {
                    Ok(StoredRecord {
                        leaf_index: row.uint("leaf_index")?,
                        record: record(row)?,
                    })
                },
            )
        })
        .await
    }

    async fn refusals(&self, job_id: &JobId, limit: u32) -> Result<Vec<StoredRecord>, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT leaf_index, record FROM records
                 WHERE job = (SELECT job FROM jobs WHERE job_id = ?1)
                   AND kind = 'refusal' AND length(record) <> 8
                 ORDER BY seq DESC LIMIT ?2",
                params![job_id.as_str(), limit.min(PAGE)],
                |row| {
                    Ok(StoredRecord {
                        leaf_index: row.uint("leaf_index")?,
                        record: record(row)?,
                    })
                },
            )
        })
        .await
    }

    async fn record_bytes(&self, job_id: &JobId) -> Result<u64, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            let bytes = column::one(
                connection,
                "SELECT coalesce(sum(length(record)), 0) AS bytes
                 FROM records JOIN jobs USING (job) WHERE job_id = ?1",
                [job_id.as_str()],
                |row| row.uint("bytes"),
            )?;
            Ok(bytes.unwrap_or_default())
        })
        .await
    }

    async fn open_intents(&self) -> Result<Vec<OpenIntent>, StoreError> {
        self.read(|connection| {
            // Closing a job answers all of its intents, so only open ones have any.
            let waiting = column::all(
                connection,
                "SELECT job, open_seqs FROM jobs WHERE phase = 'open' AND open_intents > 0",
                [],
                |row| Ok((row.int("job")?, ends::open_seqs(row)?)),
            )?;
            let mut places: Vec<u64> = Vec::new();
            for (job, seqs) in waiting {
                let job: i64 = job;
                for seq in seqs {
                    let leaf = column::one(
                        connection,
                        "SELECT leaf_index FROM records WHERE job = ?1 AND seq = ?2",
                        params![job, column::integer(seq)?],
                        |row| row.uint("leaf_index"),
                    )?;
                    places.push(leaf.ok_or_else(|| column::damaged("open_seqs"))?);
                }
            }
            places.sort_unstable();
            places.truncate(OPEN_INTENTS);
            places
                .into_iter()
                .map(|leaf| open_intent(connection, leaf))
                .collect()
        })
        .await
    }

    async fn log_size(&self) -> Result<u64, StoreError> {
        self.read(merkle::size).await
    }

    async fn log_root(&self, size: u64) -> Result<Option<Hash>, StoreError> {
        self.read(move |connection| merkle::root(connection, size))
            .await
    }

    async fn inclusion(&self, leaf_index: u64, size: u64) -> Result<Option<Vec<Hash>>, StoreError> {
        let paths = self.inclusions(vec![leaf_index], size).await?;
        Ok(paths.and_then(|mut paths| paths.pop()))
    }

    async fn inclusions(
        &self,
        leaf_indexes: Vec<u64>,
        size: u64,
    ) -> Result<Option<Vec<Vec<Hash>>>, StoreError> {
        self.read(move |connection| merkle::inclusions(connection, &leaf_indexes, size))
            .await
    }

    async fn consistency(&self, old: u64, size: u64) -> Result<Option<Vec<Hash>>, StoreError> {
        self.read(move |connection| merkle::consistency(connection, old, size))
            .await
    }

    async fn hashes(
        &self,
        level: u8,
        start: u64,
        count: u64,
    ) -> Result<Option<Vec<Hash>>, StoreError> {
        self.read(move |connection| merkle::hashes(connection, level, start, count))
            .await
    }

    async fn save_checkpoint(&self, note: &str, size: u64) -> Result<(), StoreError> {
        let note = note.to_owned();
        self.write(move |connection| {
            let leaves = merkle::size(connection)?;
            if size > leaves {
                return Err(Conflict::CheckpointBeyondLog(leaves).into());
            }
            column::change(
                connection,
                "INSERT INTO checkpoints (size, note) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![column::integer(size)?, note],
            )?;
            Ok(())
        })
        .await
    }

    async fn cosign_checkpoint(&self, note: &str, size: u64) -> Result<(), StoreError> {
        let note = note.to_owned();
        self.write(move |connection| {
            column::change(
                connection,
                "UPDATE checkpoints SET note = ?2 WHERE size = ?1",
                params![column::integer(size)?, note],
            )?;
            Ok(())
        })
        .await
    }

    async fn latest_checkpoint(&self) -> Result<Option<CheckpointRow>, StoreError> {
        self.read(|connection| {
            column::one(
                connection,
                "SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1",
                [],
                |row| {
                    Ok(CheckpointRow {
                        size: row.uint("size")?,
                        note: row.text("note")?,
                    })
                },
            )
        })
        .await
    }
}

/// Appends one record on its own; in the writer's transaction.
pub(super) fn append(
    connection: &Connection,
    job_id: &JobId,
    at: Timestamp,
    body: Body,
) -> Result<Appended, StoreError> {
    append_alone(connection, NewRecord::plain(job_id.clone(), at, body))
}

/// Appends an outcome on its own, with all that belongs to it; in the writer's transaction.
pub(super) fn append_outcome(
    connection: &Connection,
    job_id: &JobId,
    at: Timestamp,
    outcome: Outcome,
    receipt: Option<Envelope>,
    learned: &[ObjectRow],
) -> Result<Appended, StoreError> {
    let new = NewRecord::outcome(job_id.clone(), at, outcome, receipt);
    let mut appended = append_alone(connection, new)?;
    for object in learned {
        match objects::learn(connection, object) {
            Ok(()) => {}
            Err(StoreError::Conflict(Conflict::ObjectElsewhere { .. })) => {
                appended.not_learned.push(object.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(appended)
}

fn append_alone(connection: &Connection, mut new: NewRecord) -> Result<Appended, StoreError> {
    let mut ends = Ends::read(connection)?;
    let checked = ends.check(&mut new)?;
    let appended = ends.write(checked)?;
    ends.finish()?;
    Ok(appended)
}

pub(super) fn open_intent(
    connection: &Connection,
    leaf_index: u64,
) -> Result<OpenIntent, StoreError> {
    let record = column::one(
        connection,
        "SELECT record FROM records WHERE leaf_index = ?1",
        [column::integer(leaf_index)?],
        record,
    )?;
    match record.ok_or_else(|| column::damaged("open_seqs"))? {
        Record {
            job_id,
            seq,
            at,
            body: Body::Intent(intent),
        } => Ok(OpenIntent {
            job_id,
            seq,
            at,
            intent: *intent,
        }),
        _ => Err(column::damaged("record")),
    }
}

/// What stands in a record's column.
pub(super) enum Content {
    Record(Box<Record>),
    /// Its content is gone; what stays is its time.
    Pruned(Timestamp),
}

/// What takes the place of a record of this time: eight bytes, which no record is as short as.
pub(super) fn pruned(at: Timestamp) -> [u8; 8] {
    at.millis().to_be_bytes()
}

pub(super) fn is_pruned(record: &[u8]) -> bool {
    record.len() == 8
}

pub(super) fn content(row: &Row<'_>) -> Result<Content, StoreError> {
    let bytes = row.blob("record")?;
    if let Ok(millis) = <[u8; 8]>::try_from(bytes.as_slice()) {
        let at = Timestamp::from_millis(i64::from_be_bytes(millis));
        return Ok(Content::Pruned(at));
    }
    json::parse(&bytes, Numbers::Integers)
        .and_then(|json| Record::from_json(&json))
        .map(|record| Content::Record(Box::new(record)))
        .map_err(|_| column::damaged("record"))
}

/// A record whose content must be there.
pub(super) fn record(row: &Row<'_>) -> Result<Record, StoreError> {
    match content(row)? {
        Content::Record(record) => Ok(*record),
        Content::Pruned(_) => Err(column::damaged("record")),
    }
}
