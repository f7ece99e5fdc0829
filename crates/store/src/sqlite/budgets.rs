//! Model budgets in SQLite.

use async_trait::async_trait;
use proof::Timestamp;
use proof::record::JobId;
use rusqlite::{Connection, params};

use super::column::{self, Columns as _};
use super::{Sqlite, jobs};
use crate::{Budget, Budgets, Conflict, ModelLimits, ModelUsage, Reservation, StoreError};

/// Tokens of one call at most, so that sums stay within SQLite's integers: 2^40, far beyond any
/// provider's limit. A larger claim counts as this much.
const MOST: u64 = 1 << 40;

#[async_trait]
impl Budgets for Sqlite {
    async fn reserve_model(
        &self,
        job_id: &JobId,
        limits: ModelLimits,
        tokens: u64,
        at: Timestamp,
    ) -> Result<Reservation, StoreError> {
        let job_id = job_id.clone();
        self.write(move |connection| reserve(connection, &job_id, limits, tokens, at))
            .await
    }

    async fn settle_model(&self, id: u64, tokens_used: u64) -> Result<(), StoreError> {
        self.write(move |connection| settle(connection, id, tokens_used))
            .await
    }

    async fn model_usage(&self, job_id: &JobId) -> Result<ModelUsage, StoreError> {
        let job_id = job_id.clone();
        self.read(move |connection| usage(connection, &job_id))
            .await
    }
}

fn reserve(
    connection: &Connection,
    job_id: &JobId,
    limits: ModelLimits,
    tokens: u64,
    at: Timestamp,
) -> Result<Reservation, StoreError> {
    jobs::require_open(connection, job_id)?;
    let used = usage(connection, job_id)?;
    let beyond = |sum: Option<u64>, limit: Option<u64>| {
        limit.is_some_and(|limit| sum.is_none_or(|sum| sum > limit))
    };
    if beyond(used.calls.checked_add(1), limits.max_calls) {
        return Ok(Reservation::Exhausted {
            what: Budget::Calls,
        });
    }
    let sum = used.tokens.checked_add(used.reserved);
    if beyond(
        sum.and_then(|sum| sum.checked_add(tokens)),
        limits.max_tokens,
    ) {
        return Ok(Reservation::Exhausted {
            what: Budget::Tokens,
        });
    }
    let job = jobs::key(connection, job_id)?;
    let tokens = column::integer(tokens.min(MOST))?;
    column::change(
        connection,
        "INSERT INTO model_usage (job, calls, reserved) VALUES (?1, 1, ?2)
         ON CONFLICT (job) DO UPDATE SET calls = calls + 1, reserved = reserved + ?2",
        params![job, tokens],
    )?;
    column::change(
        connection,
        "INSERT INTO reservations (job, tokens, at) VALUES (?1, ?2, ?3)",
        params![job, tokens, at.millis()],
    )?;
    let id = u64::try_from(connection.last_insert_rowid()).expect("row ids begin at 1");
    Ok(Reservation::Granted { id })
}

fn settle(connection: &Connection, id: u64, tokens_used: u64) -> Result<(), StoreError> {
    let place = i64::try_from(id).map_err(|_| Conflict::NoSuchReservation(id))?;
    let (job, reserved): (i64, i64) = column::one(
        connection,
        "DELETE FROM reservations WHERE id = ?1 RETURNING job, tokens",
        [place],
        |row| Ok((row.get("job")?, row.get("tokens")?)),
    )?
    .ok_or(Conflict::NoSuchReservation(id))?;
    column::change(
        connection,
        "UPDATE model_usage SET tokens = tokens + ?2, reserved = reserved - ?3 WHERE job = ?1",
        params![job, column::integer(tokens_used.min(MOST))?, reserved],
    )?;
    Ok(())
}

fn usage(connection: &Connection, job_id: &JobId) -> Result<ModelUsage, StoreError> {
    let usage = column::one(
        connection,
        "SELECT model_usage.* FROM model_usage JOIN jobs USING (job)
         WHERE job_id = ?1",
        [job_id.as_str()],
        |row| {
            Ok(ModelUsage {
                calls: row.uint("calls")?,
                tokens: row.uint("tokens")?,
                reserved: row.uint("reserved")?,
            })
        },
    )?;
    Ok(usage.unwrap_or_default())
}

/// Settles what a crash left open as fully used. The call may have reached the provider; were
/// its tokens given back, whoever can make the gateway stop could stretch the budget.
pub(super) fn settle_leftovers(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "BEGIN IMMEDIATE;
         UPDATE model_usage SET tokens = tokens + reserved, reserved = 0 WHERE reserved > 0;
         DELETE FROM reservations;
         COMMIT;",
    )?;
    Ok(())
}
