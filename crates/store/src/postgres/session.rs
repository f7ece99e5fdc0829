//! One connection to the server: what it has prepared, what its transaction stands at, and what
//! is done when it breaks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, SimpleQueryMessage, Statement};

use super::link::{Link, LinkError};
use super::seat::{self, Seat, Tended};
use super::shared::{CHANNEL, Shared};
use super::{CONNECT, PostgresPlace};
use crate::StoreError;
use crate::sql::connection::Value;

/// What holds for each connection. A statement is stopped after this time, and sooner when it
/// waits for somebody else's lock; a transaction that we forgot is ended by the server. Commits
/// wait for the disk, whatever the server's own setting.
const SETTINGS: &str = "SET statement_timeout = 20000;
    SET lock_timeout = 5000;
    SET idle_in_transaction_session_timeout = 30000;
    SET client_min_messages = warning";

/// The same for work on a whole store, which nobody waits for: a statement may read a table from
/// end to end, and what comes between two of them may wait for a pipe.
const UNHURRIED: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";

/// How long an answer may take: the longest statement, and some way. Then the connection counts as
/// lost, although it may still stand.
const ANSWERED: Duration = Duration::from_secs(25);

/// The same for what is said last.
const FAREWELL: Duration = Duration::from_secs(2);

/// What holds for each transaction that writes: others wait for it, so one whose process stands
/// still is ended soon.
const STANDSTILL: Duration = Duration::from_secs(4);

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
    link: Link,
    /// It is PostgreSQL itself, and not a database that speaks its protocol.
    plain: bool,
    prepared: HashMap<String, Statement>,
}

/// A connection, made when it is needed and again when it was lost.
pub(crate) struct Session {
    place: PostgresPlace,
    live: RefCell<Option<Live>>,
    standing: Cell<Standing>,
    /// How long an answer may take; for ever in work on a whole store.
    patience: Cell<Option<Duration>>,
    /// Conflicts in a row.
    conflicts: Cell<u32>,
    /// Of one that writes: why, under which number, and the number of its transaction.
    seat: Option<Seat>,
    number: Cell<i64>,
    batch: Cell<i64>,
    /// The key set that a gateway has taken up; a new number says so from the beginning.
    key_set: Cell<i64>,
    /// Of a gateway.
    shared: Option<Arc<Shared>>,
    tended: Tended,
    /// What the transaction makes of the lead when it is committed.
    leads_then: Cell<Option<bool>>,
}

impl Session {
    /// One that reads only.
    pub(super) fn reading(place: &PostgresPlace) -> Self {
        Self::new(place, None, None)
    }

    /// One that writes, connected.
    pub(super) fn writing(
        place: &PostgresPlace,
        seat: Seat,
        shared: Option<Arc<Shared>>,
    ) -> Result<Self, StoreError> {
        let session = Self::new(place, Some(seat), shared);
        session.connect()?;
        Ok(session)
    }

    fn new(place: &PostgresPlace, seat: Option<Seat>, shared: Option<Arc<Shared>>) -> Self {
        Self {
            place: place.clone(),
            live: RefCell::new(None),
            standing: Cell::new(Standing::Idle),
            patience: Cell::new(Some(ANSWERED)),
            conflicts: Cell::new(0),
            seat,
            number: Cell::new(0),
            batch: Cell::new(0),
            key_set: Cell::new(0),
            shared,
            tended: Tended::default(),
            leads_then: Cell::new(None),
        }
    }

    /// Takes the place among those who write, under a new number.
    pub(super) fn sit_down(&self) -> Result<(), StoreError> {
        let seat = self.seat.ok_or_else(|| StoreError::unavailable(NoWriter))?;
        self.number.set(seat::join(self, seat, self.key_set.get())?);
        self.batch.set(0);
        self.tended.forget();
        Ok(())
    }

    /// Connects, unless it is.
    fn connect(&self) -> Result<(), StoreError> {
        let mut live = self.live.borrow_mut();
        if let Some(Live { link, .. }) = &mut *live {
            // Nothing stands in the way of this answer.
            let patience = self.patience.get().unwrap_or(CONNECT);
            link.wait_until(Some(Instant::now() + patience.min(CONNECT)));
            if link.check().is_ok() {
                return Ok(());
            }
        }
        *live = None;
        *live = Some(self.connected().map_err(StoreError::unavailable)?);
        self.standing.set(Standing::Idle);
        Ok(())
    }

    fn connected(&self) -> Result<Live, LinkError> {
        let place = &self.place;
        let until = Instant::now() + place.longest(CONNECT);
        let mut link = Link::connect(place, &place.config, Some(until))?;
        link.wait_until(self.deadline());
        link.batch_execute(SETTINGS)?;
        if self.patience.get().is_none() {
            link.batch_execute(UNHURRIED)?;
        }
        let durable = link.query_one("SHOW synchronous_commit", &[]);
        if durable.is_ok_and(|row| row.get::<_, String>(0) == "off") {
            link.batch_execute("SET synchronous_commit = on")?;
        }
        let plain = speaks_notify(&mut link)?;
        Ok(Live {
            link,
            plain,
            prepared: HashMap::new(),
        })
    }

    /// Until when what is asked now is waited for.
    fn deadline(&self) -> Option<Instant> {
        Some(Instant::now() + self.patience.get()?)
    }

    /// From now on no statement is too long.
    pub(super) fn take_time(&self) -> Result<(), StoreError> {
        self.patience.set(None);
        self.batch(UNHURRIED)
    }

    /// The opposite, as at the beginning.
    pub(super) fn hurry(&self) -> Result<(), StoreError> {
        self.patience.set(Some(ANSWERED));
        self.batch(SETTINGS)
    }

    /// Uses the connection; every error is judged for what it means for the transaction.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Live) -> Result<T, LinkError>,
    ) -> Result<T, StoreError> {
        let mut live = self.live.borrow_mut();
        let Some(connected) = live.as_mut() else {
            return Err(StoreError::unavailable(Lost));
        };
        connected.link.wait_until(self.deadline());
        work(connected).map_err(|error| {
            let closed = connected.link.is_closed();
            self.judge(error, closed)
        })
    }

    fn judge(&self, error: LinkError, closed: bool) -> StoreError {
        let LinkError::Client(error) = error else {
            self.standing.set(Standing::Lost);
            return StoreError::unavailable(error);
        };
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
        let raced = (state == SqlState::UNIQUE_VIOLATION || state == SqlState::DUPLICATE_TABLE)
            && self.conflicts.get() < 2;
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

    /// Runs statements without parameters and gives back all that was answered.
    pub(super) fn ask(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, StoreError> {
        self.with(|live| live.link.simple_query(sql))
    }

    /// Runs statements without parameters and tells how many rows the last of them changed.
    pub(super) fn simply(&self, sql: &str) -> Result<u64, StoreError> {
        let answers = self.ask(sql)?;
        let changed = answers.iter().rev().find_map(|answer| match answer {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        });
        Ok(changed.unwrap_or_default())
    }

    pub(crate) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.with(|live| live.link.batch_execute(sql))
    }

    pub(crate) fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.with(|live| {
            let statement = live.prepare(sql)?;
            live.link.query(&statement, &as_params(values))
        })
    }

    pub(crate) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize, StoreError> {
        let changed = self.with(|live| {
            let statement = live.prepare(sql)?;
            live.link.execute(&statement, &as_params(values))
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

    /// Waits for this writer's turn, as the first statement of a transaction: writers go one
    /// after the other, so that none is run in vain because of another, and none waits for ever.
    pub(super) fn take_turn(&self) -> Result<(), StoreError> {
        self.batch(self.turn())
    }

    /// The lock of a table is given in the order of asking, and before the transaction's state of
    /// the database is chosen. Others than PostgreSQL have no such lock; there the row's lock does
    /// it, and what conflicts all the same is run again.
    fn turn(&self) -> &'static str {
        match self.is_plain() {
            true => "LOCK TABLE sequencer IN EXCLUSIVE MODE",
            false => "SELECT id FROM sequencer WHERE id = 1 FOR UPDATE",
        }
    }

    /// Bounds how long the others wait for a process that stands still in its turn.
    fn standstill(&self) -> String {
        let most = self.patience.get().map_or(0, |_| STANDSTILL.as_millis());
        format!("SET LOCAL idle_in_transaction_session_timeout = {most}")
    }

    fn is_plain(&self) -> bool {
        self.live.borrow().as_ref().is_some_and(|live| live.plain)
    }

    /// Begins a transaction that writes, with its number; a gateway looks after the others in it
    /// when that is due.
    pub(crate) fn begin(&self) -> Result<(), StoreError> {
        self.leads_then.set(None);
        for _ in 0..2 {
            self.connect()?;
            let (number, now) = (self.number.get(), seat::NOW);
            self.batch.set(self.batch.get() + 1);
            let begun = self.open(&format!(
                "BEGIN ISOLATION LEVEL SERIALIZABLE; {};
                 {};
                 SET LOCAL clawgate.writer = '{number}';
                 UPDATE writers SET batch = {}, seen = {now} WHERE number = {number}",
                self.turn(),
                self.standstill(),
                self.batch.get(),
            ))?;
            if begun == 1 {
                if self.shared.is_some() && self.tended.is_due() {
                    let leads = seat::tend(self, number, self.tended.never())?;
                    self.leads_then.set(Some(leads));
                }
                return Ok(());
            }
            // Nothing was heard of it for so long that the others have settled what it was doing.
            self.rollback()?;
            tracing::warn!("this writer was counted as gone; it begins anew");
            if let Some(shared) = &self.shared {
                shared.set_leads(false);
            }
            self.sit_down()?;
        }
        Err(StoreError::unavailable(NoWriter))
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
                if let (Some(shared), Some(leads)) = (&self.shared, self.leads_then.take()) {
                    self.tended.now();
                    shared.set_leads(leads);
                }
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
                "SELECT batch FROM writers WHERE number = ?1 FOR UPDATE",
                &[Value::Integer(self.number.get())],
            );
            let Ok(rows) = row else { continue };
            let last: Option<i64> = rows.first().and_then(|row| row.try_get("batch").ok());
            return match last {
                Some(last) if last == self.batch.get() => {
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
        match self.seat {
            Some(Seat::Gateway | Seat::Alone) => Ok(()),
            Some(Seat::Beside) | None => Err(StoreError::unavailable(seat::NotGateway)),
        }
    }

    pub(crate) fn took_up(&self, key_set: i64) -> Result<(), StoreError> {
        self.key_set.set(key_set);
        let (key_set, number) = (Value::Integer(key_set), Value::Integer(self.number.get()));
        let sql = "UPDATE writers SET key_set = ?1 WHERE number = ?2";
        self.execute(sql, &[key_set, number])?;
        // Somebody may be waiting for it.
        self.announce()
    }

    pub(crate) fn pulse(&self) -> Option<Duration> {
        self.shared.is_some().then_some(seat::PULSE)
    }

    /// Has the others look as soon as the transaction is committed.
    pub(crate) fn announce(&self) -> Result<(), StoreError> {
        match self.is_plain() {
            true => self.batch(&format!("NOTIFY {CHANNEL}")),
            // They look every so often anyway.
            false => Ok(()),
        }
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
    /// Says that it goes, so that the others need not wait until it counts as gone.
    fn drop(&mut self) {
        if self.seat.is_none() || self.live.borrow().is_none() {
            return;
        }
        self.patience.set(Some(FAREWELL));
        let _ = self.rollback();
        let number = self.number.get();
        // Whoever takes the row out settles what is left. What cannot be said now is found out.
        let _ = self.simply(&format!(
            "UPDATE writers SET seen = 0 WHERE number = {number}"
        ));
    }
}

impl Live {
    fn prepare(&mut self, sql: &str) -> Result<Statement, LinkError> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.link.prepare(&translated(sql))?;
        if self.prepared.len() >= PREPARED {
            self.prepared.clear();
        }
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Whether the server is PostgreSQL itself; others speak its protocol and have no `NOTIFY`, or
/// take it and say nothing.
pub(super) fn speaks_notify(link: &mut Link) -> Result<bool, LinkError> {
    let version: String = link.query_one("SELECT version()", &[])?.try_get(0)?;
    Ok(version.starts_with("PostgreSQL ") && !version.contains("-YB-"))
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
