//! Model budgets in SQL.

use async_trait::async_trait;
use proof::Timestamp;
use proof::record::JobId;

use super::column::{self, Columns as _};
use super::connection::{Connection, params};
use super::{Database, jobs};
use crate::{
    Budget, Budgets, Conflict, ModelLimits, ModelSpend, ModelUsage, Reservation, StoreError,
};

/// Tokens of one call at most, so that sums stay within the engines' integers: 2^40, far beyond any
/// provider's limit. A larger claim counts as this much.
const MOST_TOKENS: u64 = 1 << 40;

/// Money of one call at most, for the same reason: 2^50 units, a million USD.
const MOST_COST: u64 = 1 << 50;

#[async_trait]
impl Budgets for Database {
    async fn reserve_model(
        &self,
        job_id: &JobId,
        limits: ModelLimits,
        most: ModelSpend,
        at: Timestamp,
    ) -> Result<Reservation, StoreError> {
        let job_id = job_id.clone();
        self.write(move |connection| reserve(connection, &job_id, limits, most, at))
            .await
    }

    async fn settle_model(&self, id: u64, used: ModelSpend) -> Result<(), StoreError> {
        self.write(move |connection| settle(connection, id, used))
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
    most: ModelSpend,
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
    let sum = |parts: [u64; 3]| {
        parts
            .iter()
            .try_fold(0_u64, |sum, part| sum.checked_add(*part))
    };
    for (sum, limit, what) in [
        (
            sum([used.tokens, used.reserved, most.tokens]),
            limits.max_tokens,
            Budget::Tokens,
        ),
        (
            sum([used.cost, used.cost_reserved, most.cost]),
            limits.max_cost,
            Budget::Cost,
        ),
    ] {
        if beyond(sum, limit) {
            return Ok(Reservation::Exhausted { what });
        }
    }
    let job = jobs::key(connection, job_id)?;
    let (tokens, cost) = columns(most)?;
    column::change(
        connection,
        "INSERT INTO model_usage (job, calls, reserved, cost_reserved) VALUES (?1, 1, ?2, ?3)
         ON CONFLICT (job) DO UPDATE SET calls = model_usage.calls + 1,
             reserved = model_usage.reserved + ?2,
             cost_reserved = model_usage.cost_reserved + ?3",
        params![job, tokens, cost],
    )?;
    // The calls of a job are only counted up, so an id never names another reservation.
    let id = column::one(
        connection,
        "INSERT INTO reservations (id, job, tokens, cost, at)
         SELECT job * 4294967296 + calls, job, ?2, ?3, ?4 FROM model_usage WHERE job = ?1
         RETURNING id",
        params![job, tokens, cost, at.millis()],
        |row| row.uint("id"),
    )?;
    let id = id.ok_or_else(|| column::damaged("calls"))?;
    Ok(Reservation::Granted { id })
}

fn columns(spend: ModelSpend) -> Result<(i64, i64), StoreError> {
    Ok((
        column::integer(spend.tokens.min(MOST_TOKENS))?,
        column::integer(spend.cost.min(MOST_COST))?,
    ))
}

fn settle(connection: &Connection, id: u64, used: ModelSpend) -> Result<(), StoreError> {
    let place = i64::try_from(id).map_err(|_| Conflict::NoSuchReservation(id))?;
    let (job, reserved, cost_reserved): (i64, i64, i64) = column::one(
        connection,
        "DELETE FROM reservations WHERE id = ?1 RETURNING job, tokens, cost",
        [place],
        |row| Ok((row.int("job")?, row.int("tokens")?, row.int("cost")?)),
    )?
    .ok_or(Conflict::NoSuchReservation(id))?;
    let (tokens, cost) = columns(used)?;
    column::change(
        connection,
        "UPDATE model_usage SET tokens = tokens + ?2, reserved = reserved - ?3,
             cost = cost + ?4, cost_reserved = cost_reserved - ?5 WHERE job = ?1",
        params![job, tokens, reserved, cost, cost_reserved],
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
                cost: row.uint("cost")?,
                cost_reserved: row.uint("cost_reserved")?,
            })
        },
    )?;
    Ok(usage.unwrap_or_default())
}

/// Settles what a crash left open as fully used, in a transaction. The call may have reached the provider; were
/// its tokens and its money given back, whoever can make the gateway stop could stretch the budget.
pub(super) fn settle_leftovers(connection: &Connection) -> Result<(), StoreError> {
    connection.batch(
        "UPDATE model_usage SET tokens = tokens + reserved, reserved = 0,
             cost = cost + cost_reserved, cost_reserved = 0;
         DELETE FROM reservations;",
    )
}
