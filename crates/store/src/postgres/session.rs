//! One connection to the server: what it has prepared, what its transaction stands at, and what
//! is done when it breaks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error as _;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, NoTls, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PostgresPlace;
use super::seat::{self, Seat};
use crate::StoreError;
use crate::sql::connection::Value;

/// What holds for each connection. A statement is stopped after this time, and sooner when it
/// waits for somebody else's lock; a transaction that we forgot is ended by the server. Commits
/// wait for the disk, whatever the server's own setting.
const SETTINGS: &str = "SET statement_timeout = 20000;
    SET lock_timeout = 5000;
    SET idle_in_transaction_session_timeout = 30000;
    SET client_min_messages = warning";

/// Statements that are kept prepared; lists of jobs have many forms.
const PREPARED: usize = 400;

/// How often it is asked what became of a commit before it is given up.
const ASKED: u32 = 3;

/// What the transaction stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There is none.
    Idle,
    Open,
    /// It failed because of another one, and may be tried again.
    Conflicted,
    /// The connection is gone, and with it what was not committed.
    Lost,
}

/// The connection is gone.
#[derive(Debug, thiserror::Error)]
#[error("the connection to the database was lost")]
struct Lost;

/// The connection broke while a transaction was being committed, and the database could not be
/// asked since.
#[derive(Debug, thiserror::Error)]
#[error(
    "the connection to the database was lost during a commit, and it is not known whether it \
     happened"
)]
struct UnknownCommit;

/// A transaction of ours is of another one's making.
#[derive(Debug, thiserror::Error)]
#[error("this process is no writer of the database any more")]
struct NoWriter;

struct Live {
    client: Client,
    prepared: HashMap<String, Statement>,
}

/// A connection, made when it is needed and again when it was lost.
pub(crate) struct Session {
    place: PostgresPlace,
    live: RefCell<Option<Live>>,
    standing: Cell<Standing>,
    /// Conflicts in a row.
    conflicts: Cell<u32>,
    /// Of one that writes: its row in `writers`, the number of its transaction.
    writer: Option<String>,
    number: Cell<i64>,
    /// The number under which it holds the lease of the log.
    epoch: Cell<Option<i64>>,
    /// It held the lease and lost it.
    fenced: Cell<bool>,
}

impl Session {
    /// One that reads only.
    pub(super) fn reading(place: &PostgresPlace) -> Self {
        Self::new(place, None)
    }

    /// One that writes, connected.
    pub(super) fn writing(place: &PostgresPlace) -> Result<Self, StoreError> {
        let mut id = [0_u8; 16];
        getrandom::fill(&mut id).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let name = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let session = Self::new(place, Some(name));
        session.connect()?;
        Ok(session)
    }

    fn new(place: &PostgresPlace, writer: Option<String>) -> Self {
        Self {
            place: place.clone(),
            live: RefCell::new(None),
            standing: Cell::new(Standing::Idle),
            conflicts: Cell::new(0),
            writer,
            number: Cell::new(0),
            epoch: Cell::new(None),
            fenced: Cell::new(false),
        }
    }

    /// Takes the place among those who write; as the sequencer, waits for the lease of the log.
    pub(super) fn sit_down(&self, seat: Seat) -> Result<(), StoreError> {
        let writer = self.name();
        self.simply(&format!(
            "DELETE FROM writers WHERE seen < {} - {};
             INSERT INTO writers (writer, batch, seen) VALUES ('{writer}', 0, {})",
            seat::NOW,
            seat::FORGOTTEN.as_millis(),
            seat::NOW,
        ))?;
        if seat == Seat::Sequencer {
            self.epoch.set(Some(seat::take_lease(self, writer)?));
        }
        Ok(())
    }

    fn name(&self) -> &str {
        self.writer.as_deref().unwrap_or_default()
    }

    /// Connects, unless it is.
    fn connect(&self) -> Result<(), StoreError> {
        let mut live = self.live.borrow_mut();
        if let Some(Live { client, .. }) = &mut *live
            && client.check_connection().is_ok()
        {
            return Ok(());
        }
        *live = None;
        let config = &self.place.config;
        let connected = match &self.place.tls {
            Some(tls) => config.connect(MakeRustlsConnect::new(tls.clone())),
            None => config.connect(NoTls),
        };
        let mut client = connected.map_err(StoreError::unavailable)?;
        client
            .batch_execute(SETTINGS)
            .map_err(StoreError::unavailable)?;
        let durable = client.query_one("SHOW synchronous_commit", &[]);
        if durable.is_ok_and(|row| row.get::<_, String>(0) == "off") {
            client
                .batch_execute("SET synchronous_commit = on")
                .map_err(StoreError::unavailable)?;
        }
        *live = Some(Live {
            client,
            prepared: HashMap::new(),
        });
        self.standing.set(Standing::Idle);
        Ok(())
    }

    /// Uses the connection; every error is judged for what it means for the transaction.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Live) -> Result<T, postgres::Error>,
    ) -> Result<T, StoreError> {
        let mut live = self.live.borrow_mut();
        let Some(connected) = live.as_mut() else {
            return Err(StoreError::unavailable(Lost));
        };
        work(connected).map_err(|error| {
            let closed = connected.client.is_closed();
            self.judge(error, closed)
        })
    }

    fn judge(&self, error: postgres::Error, closed: bool) -> StoreError {
        let Some(state) = error.code().cloned() else {
            // No answer of the server: the connection, or a value that does not fit its column.
            let cut = error
                .source()
                .is_some_and(|source| source.is::<std::io::Error>());
            if closed || cut || error.is_closed() {
                self.standing.set(Standing::Lost);
                return StoreError::unavailable(error);
            }
            return StoreError::Corrupt(error.to_string());
        };
        if closed || is_shutdown(&state) {
            self.standing.set(Standing::Lost);
            return StoreError::unavailable(error);
        }
        // Of two transactions that insert the same, the second may be told of the key before it
        // is told of the conflict.
        let raced = state == SqlState::UNIQUE_VIOLATION && self.conflicts.get() < 2;
        if state == SqlState::T_R_SERIALIZATION_FAILURE
            || state == SqlState::T_R_DEADLOCK_DETECTED
            || (raced && self.standing.get() == Standing::Open)
        {
            if self.standing.get() == Standing::Open {
                self.conflicts.set(self.conflicts.get() + 1);
                self.standing.set(Standing::Conflicted);
            }
            return StoreError::Busy;
        }
        match &state.code()[..2] {
            // Each write checks its conditions first; a constraint that breaks all the same means
            // that the store is not what the code believes. The same for data and statements.
            "22" | "23" | "42" if state != SqlState::INSUFFICIENT_PRIVILEGE => {
                // Without its detail, which repeats values.
                let told = error.as_db_error().map(|told| told.message().to_owned());
                StoreError::Corrupt(told.unwrap_or_default())
            }
            "55" => StoreError::Busy,
            _ if state == SqlState::QUERY_CANCELED => StoreError::Busy,
            _ => StoreError::unavailable(error),
        }
    }

    /// Runs statements without parameters and tells how many rows the last of them changed.
    pub(super) fn simply(&self, sql: &str) -> Result<u64, StoreError> {
        let answers = self.with(|live| live.client.simple_query(sql))?;
        let changed = answers.iter().rev().find_map(|answer| match answer {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        });
        Ok(changed.unwrap_or_default())
    }

    pub(crate) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.with(|live| live.client.batch_execute(sql))
    }

    pub(crate) fn query(
        &self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<postgres::Row>, StoreError> {
        self.with(|live| {
            let statement = live.prepare(sql)?;
            live.client.query(&statement, &as_params(values))
        })
    }

    pub(crate) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize, StoreError> {
        let changed = self.with(|live| {
            let statement = live.prepare(sql)?;
            live.client.execute(&statement, &as_params(values))
        })?;
        usize::try_from(changed).map_err(StoreError::unavailable)
    }

    pub(crate) fn in_transaction(&self) -> bool {
        self.standing.get() == Standing::Open
    }

    pub(crate) fn conflicted(&self) -> bool {
        self.standing.get() == Standing::Conflicted
    }

    pub(crate) fn begin_reading(&self) -> Result<(), StoreError> {
        self.open("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .map(drop)
    }

    /// Begins a transaction that writes: with its number, and for the sequencer with its lease,
    /// which is prolonged by that.
    pub(crate) fn begin(&self) -> Result<(), StoreError> {
        if self.fenced.get() {
            return Err(StoreError::unavailable(seat::Fenced));
        }
        let (writer, now) = (self.name(), seat::NOW);
        self.number.set(self.number.get() + 1);
        let number = self.number.get();
        let mut sql = format!(
            "BEGIN ISOLATION LEVEL SERIALIZABLE;
             UPDATE writers SET batch = {number}, seen = {now} WHERE writer = '{writer}'"
        );
        if let Some(epoch) = self.epoch.get() {
            sql += &format!(
                "; UPDATE sequencer SET until = {now} + {}
                   WHERE epoch = {epoch} AND holder = '{writer}'",
                seat::LEASE.as_millis(),
            );
        }
        match self.open(&sql)? {
            1 => Ok(()),
            _ if self.epoch.get().is_some() => {
                self.fenced.set(true);
                tracing::error!(
                    "another gateway has taken over the log; this one writes nothing any more"
                );
                Err(StoreError::unavailable(seat::Fenced))
            }
            _ => Err(StoreError::unavailable(NoWriter)),
        }
    }

    /// Sends what begins a transaction; on a new connection, when the old one turns out to be
    /// gone: nothing of the transaction was on it.
    fn open(&self, sql: &str) -> Result<u64, StoreError> {
        self.connect()?;
        self.standing.set(Standing::Open);
        let begun = self.simply(sql);
        if begun.is_err() && self.standing.get() == Standing::Lost {
            self.live.replace(None);
            self.connect()?;
            self.standing.set(Standing::Open);
            return self.simply(sql);
        }
        begun
    }

    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        // A transaction that has failed is rolled back by COMMIT, which says so to nobody; the
        // statement before it fails then.
        let committed = self.simply("SELECT 1; COMMIT");
        match committed {
            Ok(_) => {
                self.standing.set(Standing::Idle);
                self.conflicts.set(0);
                Ok(())
            }
            Err(_) if self.standing.get() == Standing::Lost => self.what_became_of_it(),
            Err(StoreError::Busy) => Err(StoreError::Busy),
            Err(StoreError::Unavailable(cause)) => Err(StoreError::Unavailable(cause)),
            Err(error) => Err(StoreError::unavailable(error)),
        }
    }

    /// Asks on a new connection whether the transaction of the last number was committed.
    fn what_became_of_it(&self) -> Result<(), StoreError> {
        for _ in 0..ASKED {
            self.live.replace(None);
            if self.connect().is_err() {
                continue;
            }
            // The lock is given when the other transaction has ended, either way.
            let row = self.query(
                "SELECT batch FROM writers WHERE writer = ?1 FOR UPDATE",
                &[Value::Text(self.name())],
            );
            let Ok(rows) = row else { continue };
            let last: Option<i64> = rows.first().and_then(|row| row.try_get("batch").ok());
            return match last {
                Some(last) if last == self.number.get() => {
                    tracing::warn!("the connection was lost during a commit, which had happened");
                    Ok(())
                }
                Some(_) => Err(StoreError::unavailable(Lost)),
                None => Err(StoreError::unavailable(UnknownCommit)),
            };
        }
        Err(StoreError::unavailable(UnknownCommit))
    }

    pub(crate) fn rollback(&self) -> Result<(), StoreError> {
        match self.standing.get() {
            Standing::Idle => Ok(()),
            Standing::Lost => {
                // The server undoes what was on a connection that is gone.
                self.live.replace(None);
                self.standing.set(Standing::Idle);
                Ok(())
            }
            Standing::Open | Standing::Conflicted => {
                let undone = self.simply("ROLLBACK");
                self.standing.set(Standing::Idle);
                if undone.is_err() {
                    self.live.replace(None);
                }
                Ok(())
            }
        }
    }

    pub(crate) fn check_sequencer(&self) -> Result<(), StoreError> {
        match self.epoch.get() {
            Some(_) => Ok(()),
            None => Err(StoreError::unavailable(seat::NotSequencer)),
        }
    }

    pub(crate) fn pulse(&self) -> Option<Duration> {
        let holds = self.epoch.get().is_some() && !self.fenced.get();
        holds.then_some(seat::LEASE / 3)
    }

    /// Runs a transaction of the engine's own, again when another one stands in its way.
    pub(super) fn transaction<T>(
        &self,
        work: impl Fn(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..seat::TRIES {
            let tried = self
                .open("BEGIN ISOLATION LEVEL SERIALIZABLE")
                .and_then(|_| work(self))
                .and_then(|done| self.simply("SELECT 1; COMMIT").map(|_| done));
            match tried {
                Ok(done) => {
                    self.standing.set(Standing::Idle);
                    self.conflicts.set(0);
                    return Ok(done);
                }
                Err(error) => {
                    let conflicted = self.conflicted();
                    self.rollback()?;
                    if !conflicted {
                        return Err(error);
                    }
                    std::thread::sleep(seat::STEP_BACK);
                }
            }
        }
        Err(StoreError::Busy)
    }
}

impl Drop for Session {
    /// Gives the lease back, so that the next one need not wait until it lapses.
    fn drop(&mut self) {
        if self.writer.is_none() || self.live.borrow().is_none() {
            return;
        }
        let _ = self.rollback();
        let writer = self.name();
        let mut sql = format!("DELETE FROM writers WHERE writer = '{writer}'");
        if let Some(epoch) = self.epoch.get() {
            sql = format!(
                "UPDATE sequencer SET until = 0 WHERE epoch = {epoch} AND holder = '{writer}'; {sql}"
            );
        }
        // What cannot be said now is found out by the lapse of the lease.
        let _ = self.simply(&sql);
    }
}

impl Live {
    fn prepare(&mut self, sql: &str) -> Result<Statement, postgres::Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(&translated(sql))?;
        if self.prepared.len() >= PREPARED {
            self.prepared.clear();
        }
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// The server goes, has ended this connection, or says itself that it does not know.
fn is_shutdown(state: &SqlState) -> bool {
    state.code().starts_with("08")
        || *state == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
        || (state.code().starts_with("57P") && state.code() != "57P03")
        || *state == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
}

fn as_params<'a>(values: &'a [Value<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values
        .iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect()
}

/// A statement in the server's words: parameters are `$1`, and a join in the order that is written
/// has no word of its own.
fn translated(sql: &str) -> String {
    sql.replace('?', "$").replace("CROSS JOIN", "JOIN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_named_as_the_server_names_them() {
        assert_eq!(
            translated("SELECT a FROM b CROSS JOIN c USING (d) WHERE e = ?1 AND f > ?12"),
            "SELECT a FROM b JOIN c USING (d) WHERE e = $1 AND f > $12"
        );
    }
}
