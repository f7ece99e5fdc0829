//! What content stays, in SQL.

use async_trait::async_trait;
use proof::Timestamp;
use proof::record::JobId;

use super::column::{self, Columns as _};
use super::connection::{Connection, Dialect, Row, Value, params};
use super::{Database, jobs, log};
use crate::retention::{MAX_HOLDS, PRUNED_AT_ONCE};
use crate::{
    Conflict, Hold, JobState, Lifted, Part, Prunable, PrunedRecord, Pruning, Retention, StoreError,
};

/// Rows in one answer.
const PAGE: u32 = 1000;

/// Whether a hold on a job stands.
const HELD: &str = "SELECT 1 AS one FROM holds WHERE job = ?1 AND lifted_at IS NULL LIMIT 1";

/// Whether a link to a job's bundle is good at a time.
const LINKED: &str = "SELECT 1 AS one FROM publications
    WHERE job = ?1 AND withdrawn_at IS NULL AND expires_at > ?2 LIMIT 1";

#[async_trait]
impl Retention for Database {
    async fn hold(
        &self,
        job_id: &JobId,
        by: &str,
        reason: &str,
        at: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let (job_id, by, reason) = (job_id.clone(), by.to_owned(), reason.to_owned());
        self.write(move |connection| {
            let job = jobs::key(connection, &job_id)?;
            let standing = column::one(
                connection,
                "SELECT count(*) AS standing FROM holds WHERE job = ?1 AND lifted_at IS NULL",
                [job],
                |row| row.uint("standing"),
            )?;
            if standing.unwrap_or_default() >= u64::from(MAX_HOLDS) {
                return Ok(None);
            }
            column::one(
                connection,
                "INSERT INTO holds (hold, job, placed_at, placed_by, reason)
                 VALUES ((SELECT coalesce(max(hold), 0) + 1 FROM holds), ?1, ?2, ?3, ?4)
                 RETURNING hold",
                params![job, at.millis(), by, reason],
                |row| row.uint("hold"),
            )
        })
        .await
    }

    async fn lift_hold(
        &self,
        job_id: &JobId,
        number: u64,
        by: &str,
        reason: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (job_id, by, reason) = (job_id.clone(), by.to_owned(), reason.to_owned());
        self.write(move |connection| {
            let job = jobs::key(connection, &job_id)?;
            let Ok(number) = i64::try_from(number) else {
                return Ok(false);
            };
            let lifted = column::change(
                connection,
                "UPDATE holds SET lifted_at = ?3, lifted_by = ?4, lift_reason = ?5
                 WHERE hold = ?1 AND job = ?2 AND lifted_at IS NULL",
                params![number, job, at.millis(), by, reason],
            )?;
            Ok(lifted > 0)
        })
        .await
    }

    async fn holds(
        &self,
        job_id: Option<&JobId>,
        standing: bool,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Hold>, StoreError> {
        let job_id = job_id.cloned();
        self.read(move |connection| {
            let mut values = vec![Value::Integer(place_or_end(before))];
            let mut of_job = "";
            if let Some(job_id) = &job_id {
                of_job = "AND holds.job = (SELECT job FROM jobs WHERE job_id = ?2)";
                values.push(Value::Text(job_id.as_str()));
            }
            let of_standing = if standing {
                "AND lifted_at IS NULL"
            } else {
                ""
            };
            let sql = format!(
                "SELECT holds.*, job_id FROM holds JOIN jobs USING (job)
                 WHERE hold < ?1 {of_job} {of_standing} ORDER BY hold DESC LIMIT {}",
                limit.min(PAGE)
            );
            column::all(connection, &sql, values.as_slice(), hold_row)
        })
        .await
    }

    async fn held_since(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| {
            let first = column::one(
                connection,
                "SELECT min(opened_at) AS first FROM holds JOIN jobs USING (job)
                 WHERE lifted_at IS NULL",
                [],
                |row| row.time_opt("first"),
            )?;
            Ok(first.flatten())
        })
        .await
    }

    async fn prunable(
        &self,
        part: Part,
        before: Timestamp,
        now: Timestamp,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Prunable>, StoreError> {
        self.read(move |connection| {
            let linked = match part {
                Part::Records => "",
                Part::Bundle => {
                    "AND NOT EXISTS (SELECT 1 FROM publications
                         WHERE publications.job = jobs.job AND withdrawn_at IS NULL
                             AND expires_at > ?4)"
                }
            };
            let sql = format!(
                "SELECT jobs.job, job_id, closed_at, last_seq, bytes
                 FROM jobs JOIN bundles ON bundles.job = jobs.job
                 WHERE phase = 'sealed' AND jobs.job > ?1 AND closed_at < ?2
                   AND NOT EXISTS (SELECT 1 FROM prunings
                       WHERE prunings.job = jobs.job AND part = ?3 AND finished = 1)
                   AND NOT EXISTS (SELECT 1 FROM holds
                       WHERE holds.job = jobs.job AND lifted_at IS NULL)
                   AND NOT EXISTS (SELECT 1 FROM runs
                       WHERE runs.job = jobs.job AND active = 1) {linked}
                 ORDER BY jobs.job LIMIT {}",
                limit.min(PAGE)
            );
            let mut values = vec![
                Value::Integer(column::integer(after)?),
                Value::Integer(before.millis()),
                Value::Text(part.as_str()),
            ];
            if part == Part::Bundle {
                values.push(Value::Integer(now.millis()));
            }
            column::all(connection, &sql, values.as_slice(), |row| {
                Ok(Prunable {
                    job_id: row.parsed("job_id")?,
                    closed_at: row.time("closed_at")?,
                    records: row.uint("last_seq")?,
                    bundle_bytes: row.uint("bytes")?,
                    place: row.uint("job")?,
                })
            })
        })
        .await
    }

    async fn held_back(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.read(move |connection| {
            let held = column::one(
                connection,
                "SELECT count(DISTINCT jobs.job) AS held FROM holds JOIN jobs USING (job)
                 WHERE lifted_at IS NULL AND phase = 'sealed' AND closed_at < ?1",
                [before.millis()],
                |row| row.uint("held"),
            )?;
            Ok(held.unwrap_or_default())
        })
        .await
    }

    async fn begin_pruning(
        &self,
        job_id: &JobId,
        part: Part,
        by: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (job_id, by) = (job_id.clone(), by.to_owned());
        self.write(move |connection| {
            if !matches!(
                jobs::require(connection, &job_id)?.state,
                JobState::Sealed { .. }
            ) {
                return Err(Conflict::JobOpen(job_id.clone()).into());
            }
            let job = jobs::key(connection, &job_id)?;
            if exists(connection, HELD, job)? {
                return Err(Conflict::JobHeld(job_id.clone()).into());
            }
            let active = "SELECT 1 AS one FROM runs WHERE job = ?1 AND active = 1 LIMIT 1";
            if exists(connection, active, job)? {
                return Err(Conflict::JobOpen(job_id.clone()).into());
            }
            if part == Part::Bundle {
                let now = [job, at.millis()];
                if column::one(connection, LINKED, now, |row| row.int("one"))?.is_some() {
                    return Err(Conflict::JobLinked(job_id.clone()).into());
                }
            }
            let begun = column::change(
                connection,
                "INSERT INTO prunings (job, part, at, by, finished) VALUES (?1, ?2, ?3, ?4, 0)
                 ON CONFLICT DO NOTHING",
                params![job, part.as_str(), at.millis(), by],
            )?;
            Ok(begun > 0)
        })
        .await
    }

    async fn prune_records(
        &self,
        job_id: &JobId,
        before: Option<u64>,
    ) -> Result<Option<u64>, StoreError> {
        let job_id = job_id.clone();
        self.write(move |connection| {
            let job = require_begun(connection, &job_id, Part::Records)?;
            if exists(connection, HELD, job)? {
                return Err(Conflict::JobHeld(job_id.clone()).into());
            }
            prune(connection, job, place_or_end(before))
        })
        .await
    }

    async fn finish_pruning(&self, job_id: &JobId, part: Part) -> Result<(), StoreError> {
        let job_id = job_id.clone();
        self.write(move |connection| {
            let job = require_begun(connection, &job_id, part)?;
            column::change(
                connection,
                "UPDATE prunings SET finished = 1 WHERE job = ?1 AND part = ?2",
                params![job, part.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    async fn prunings(&self, job_id: &JobId) -> Result<Vec<Pruning>, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT prunings.* FROM prunings JOIN jobs USING (job)
                 WHERE job_id = ?1 ORDER BY part",
                [job_id.as_str()],
                |row| {
                    let part = row.text("part")?;
                    let part = Part::ALL.into_iter().find(|known| known.as_str() == part);
                    Ok(Pruning {
                        part: part.ok_or_else(|| column::damaged("part"))?,
                        at: row.time("at")?,
                        by: row.text("by")?,
                        finished: row.flag("finished")?,
                    })
                },
            )
        })
        .await
    }

    async fn record_places(
        &self,
        job_id: &JobId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<PrunedRecord>, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| {
            column::all(
                connection,
                "SELECT job_id, seq, records.kind, record, records.leaf_index, hash
                 FROM records JOIN jobs USING (job) JOIN leaves USING (leaf_index)
                 WHERE job_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                params![job_id.as_str(), column::integer(after)?, limit.min(PAGE)],
                place,
            )
        })
        .await
    }

    async fn forget_ended(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(move |connection| {
            let mut ended = 0;
            for sql in [
                "DELETE FROM sessions WHERE expires_at <= ?1",
                "DELETE FROM invitations WHERE expires_at <= ?1",
            ] {
                ended += column::change(connection, sql, [now.millis()])? as u64;
            }
            Ok(ended)
        })
        .await
    }
}

/// What stays of a record, from a row with its content or what took its place.
pub(super) fn place(row: &Row<'_>) -> Result<PrunedRecord, StoreError> {
    let at = match log::content(row)? {
        log::Content::Record(record) => record.at,
        log::Content::Pruned(at) => at,
    };
    Ok(PrunedRecord {
        job_id: row.parsed("job_id")?,
        seq: row.uint("seq")?,
        at,
        kind: row.text("kind")?,
        leaf_index: row.uint("leaf_index")?,
        leaf_hash: row.hash("hash")?,
    })
}

/// Removes the content of some records and of their receipts; after the last of them what else
/// belongs to the job's content.
fn prune(connection: &Connection, job: i64, before: i64) -> Result<Option<u64>, StoreError> {
    if connection.dialect() == Dialect::Sqlite {
        // What is removed is overwritten in the file, and not only no longer found there.
        connection.batch("PRAGMA secure_delete = ON")?;
    }
    // The last ones first: an outcome without its intent would not be understood.
    let some = column::all(
        connection,
        "SELECT leaf_index, seq, record FROM records
         WHERE job = ?1 AND seq < ?2 AND length(record) <> 8 ORDER BY seq DESC LIMIT ?3",
        params![job, before, PRUNED_AT_ONCE],
        |row| {
            Ok((
                row.int("leaf_index")?,
                row.uint("seq")?,
                log::record(row)?.at,
            ))
        },
    )?;
    for (leaf, _, at) in &some {
        column::change(
            connection,
            "UPDATE records SET record = ?2 WHERE leaf_index = ?1",
            params![leaf, log::pruned(*at).as_slice()],
        )?;
        column::change(
            connection,
            "UPDATE receipts SET envelope = ?2 WHERE outcome = ?1",
            params![leaf, b"".as_slice()],
        )?;
    }
    if some.is_empty() {
        for sql in [
            "DELETE FROM plan_objects
             WHERE run_id IN (SELECT run_id FROM runs WHERE job = ?1)",
            "DELETE FROM model_keys WHERE job = ?1",
            "DELETE FROM run_requests WHERE job = ?1",
        ] {
            column::change(connection, sql, [job])?;
        }
    }
    Ok(some.last().map(|(_, seq, _)| *seq))
}

/// A number as a bound from above; none is beyond all.
fn place_or_end(before: Option<u64>) -> i64 {
    before
        .and_then(|before| i64::try_from(before).ok())
        .unwrap_or(i64::MAX)
}

fn require_begun(connection: &Connection, job_id: &JobId, part: Part) -> Result<i64, StoreError> {
    let job = jobs::key(connection, job_id)?;
    let begun = column::one(
        connection,
        "SELECT 1 AS one FROM prunings WHERE job = ?1 AND part = ?2",
        params![job, part.as_str()],
        |row| row.int("one"),
    )?;
    begun
        .map(|_| job)
        .ok_or_else(|| Conflict::NotPruned(job_id.clone()).into())
}

fn exists(connection: &Connection, sql: &str, job: i64) -> Result<bool, StoreError> {
    let found = column::one(connection, sql, [job], |row| row.int("one"))?;
    Ok(found.is_some())
}

fn hold_row(row: &Row<'_>) -> Result<Hold, StoreError> {
    let at = row.time_opt("lifted_at")?;
    let by = row.text_opt("lifted_by")?;
    let reason = row.text_opt("lift_reason")?;
    let lifted = match (at, by, reason) {
        (Some(at), Some(by), Some(reason)) => Some(Lifted { at, by, reason }),
        _ => None,
    };
    Ok(Hold {
        number: row.uint("hold")?,
        job_id: row.parsed("job_id")?,
        placed_at: row.time("placed_at")?,
        placed_by: row.text("placed_by")?,
        reason: row.text("reason")?,
        lifted,
    })
}
