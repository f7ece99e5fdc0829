//! Who writes: the gateways on one database and the commands beside them.
//!
//! Each has a row in `writers` under a number that nobody had before and nobody gets again. Its
//! transactions write that row, so the row is also its sign of life: one of which nothing was heard
//! for [`LAPSE`] is taken out by the next gateway that looks, and what it left behind is settled in
//! the same transaction. Whoever was taken out finds no row any more, writes nothing under the old
//! number, and begins anew under another. Nobody's clock counts but the server's.
//!
//! One of the gateways leads: the row of `sequencer` names it and counts the turns. It keeps the
//! lead as long as it has its row in `writers`; when that goes, the next gateway that looks takes
//! the lead under the next turn.

use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;

use super::session::Session;
use crate::StoreError;
use crate::sql::connection::Value;

/// What a process that opens the store wants there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// To serve: a gateway; on a database one of several perhaps, on a file the only one.
    Gateway,
    /// Anything else, beside gateways that may be running: commands. Whatever would append to
    /// the log is refused, but for key sets, which gateways follow.
    Beside,
    /// To write as no gateway does, such as a whole store; refused while one uses it, and on a file while anybody has it open.
    Alone,
}

/// After so long without a transaction a writer counts as gone.
pub(super) const LAPSE: Duration = Duration::from_secs(10);

/// How often a gateway that has nothing to write shows that it is there, and looks whether the
/// others are.
pub(super) const PULSE: Duration = Duration::from_secs(2);

/// How often a transaction of the engine's own is tried, and how long it waits in between.
pub(super) const TRIES: u32 = 20;
pub(super) const STEP_BACK: Duration = Duration::from_millis(20);

/// The server's time in milliseconds since 1970.
pub(super) const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

/// What belonged to writers that are gone, in the engine's own words for [`crate::sql::budgets`]
/// and [`crate::sql::model_keys`]: reservations are spent, since the calls may have been made, keys
/// are lost, and what was claimed is anybody's.
const SETTLE: &str = "
    UPDATE model_usage SET tokens = model_usage.tokens + gone.tokens,
            reserved = model_usage.reserved - gone.tokens,
            cost = model_usage.cost + gone.cost,
            cost_reserved = model_usage.cost_reserved - gone.cost
        FROM (SELECT job, CAST(sum(tokens) AS BIGINT) AS tokens, CAST(sum(cost) AS BIGINT) AS cost
              FROM reservations WHERE writer IS NULL
                  OR writer NOT IN (SELECT number FROM writers) GROUP BY job) AS gone
        WHERE model_usage.job = gone.job;
    DELETE FROM reservations
        WHERE writer IS NULL OR writer NOT IN (SELECT number FROM writers);
    UPDATE model_keys SET lost = 1 WHERE receipt_id IS NULL AND lost = 0
        AND (writer IS NULL OR writer NOT IN (SELECT number FROM writers));
    DELETE FROM claims WHERE writer NOT IN (SELECT number FROM writers);";

/// A gateway uses the database.
#[derive(Debug, thiserror::Error)]
#[error("a gateway uses this database; stop it first")]
struct InUse;

/// Appending is the gateway's.
#[derive(Debug, thiserror::Error)]
#[error("only a gateway appends to the log of this database")]
pub(super) struct NotGateway;

/// Takes a place among those who write and returns its number.
pub(super) fn join(session: &Session, seat: Seat, key_set: i64) -> Result<i64, StoreError> {
    session.transaction(|session| {
        session.take_turn()?;
        if seat == Seat::Alone {
            let living = session.query(
                &format!("SELECT 1 FROM writers WHERE gateway = 1 AND seen >= {NOW} - ?1"),
                &[Value::Integer(LAPSE.as_millis() as i64)],
            )?;
            if !living.is_empty() {
                return Err(StoreError::unavailable(InUse));
            }
        }
        let given = session.query(
            "UPDATE sequencer SET given = given + 1 WHERE id = 1 RETURNING given",
            &[],
        )?;
        let number = given.first().and_then(|row| row.try_get("given").ok());
        let number: i64 = number
            .ok_or_else(|| StoreError::Corrupt("the row of the sequencer is missing".to_owned()))?;
        session.execute(
            &format!(
                "INSERT INTO writers (number, gateway, batch, seen, key_set)
                     VALUES (?1, ?2, 0, {NOW}, ?3)"
            ),
            &[
                Value::Integer(number),
                Value::Integer(i64::from(seat == Seat::Gateway)),
                Value::Integer(key_set),
            ],
        )?;
        Ok(number)
    })
}

/// Looks after the others, in a transaction of a gateway: takes out those that are gone, settles
/// what they left behind, takes the lead when nobody has it. Returns whether this gateway leads,
/// once the transaction is committed. With `all`, what is settled is looked for in any case.
pub(super) fn tend(session: &Session, number: i64, all: bool) -> Result<bool, StoreError> {
    let gone = session.simply(&format!(
        "DELETE FROM writers WHERE number <> {number} AND seen < {NOW} - {}",
        LAPSE.as_millis()
    ))?;
    if gone > 0 || all {
        session.batch(SETTLE)?;
    }
    let answers = session.ask(&format!(
        "UPDATE sequencer SET epoch = epoch + 1, holder = {number}
             WHERE id = 1 AND holder NOT IN (SELECT number FROM writers);
         SELECT 1 FROM sequencer WHERE id = 1 AND holder = {number}"
    ))?;
    Ok(answers
        .iter()
        .any(|answer| matches!(answer, SimpleQueryMessage::Row(_))))
}

/// When a gateway looked after the others last.
#[derive(Debug, Default)]
pub(super) struct Tended(std::cell::Cell<Option<Instant>>);

impl Tended {
    pub(super) fn is_due(&self) -> bool {
        self.0.get().is_none_or(|at| at.elapsed() >= PULSE)
    }

    pub(super) fn never(&self) -> bool {
        self.0.get().is_none()
    }

    pub(super) fn now(&self) {
        self.0.set(Some(Instant::now()));
    }

    pub(super) fn forget(&self) {
        self.0.set(None);
    }
}
