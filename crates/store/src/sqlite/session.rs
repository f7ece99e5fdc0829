//! A connection to a file, and whether what it wrote can be believed.
//!
//! When the system could not bring pages to the disk it says so once, and afterwards takes them for
//! clean: a sync that comes later succeeds without them. What this connection wrote itself is no
//! danger, because SQLite writes what was not committed once more. But a connection that opens the
//! file then, after a crash or a restart, finds the lost pages in the system's memory, believes
//! them, and puts durable records behind them; a loss of power takes all of those. So after a failed
//! write or sync, and when a file is opened that nobody else has open, nothing is written before the
//! whole write-ahead log was folded into the file: that writes each of its pages anew, syncs them,
//! and begins an empty log.

use std::cell::Cell;
use std::ops::Deref;

use rusqlite::{Connection, ErrorCode};

use crate::StoreError;

/// A connection to a file, used by one thread.
pub(crate) struct Session {
    connection: Connection,
    doubtful: Cell<bool>,
}

impl Session {
    /// A connection whose file another one keeps in order.
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            doubtful: Cell::new(false),
        }
    }

    /// The only connection to a file that somebody may have left after a failed sync.
    pub(crate) fn first(connection: Connection) -> Self {
        Self {
            connection,
            doubtful: Cell::new(true),
        }
    }

    /// Begins the transaction of a batch of writes.
    pub(crate) fn begin(&self) -> Result<(), StoreError> {
        if self.doubtful.get() {
            self.fold()?;
            self.doubtful.set(false);
        }
        // IMMEDIATE takes the write lock now: a later upgrade could fail halfway.
        self.run("BEGIN IMMEDIATE")
    }

    /// Commits it. After an error nothing of it counts.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        match self.run("COMMIT") {
            Ok(()) => Ok(()),
            // Whatever the reason, what counts is that the disk did not take it.
            Err(error @ StoreError::Unavailable(_)) => Err(error),
            Err(error) => Err(StoreError::unavailable(error)),
        }
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        let ran = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]));
        ran.map(drop).map_err(|error| self.noted(error))
    }

    /// An error, after which the disk may hold something else than it was told.
    pub(crate) fn noted(&self, error: rusqlite::Error) -> StoreError {
        if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
            self.doubtful.set(true);
        }
        error.into()
    }

    /// Folds the write-ahead log into the file and begins it anew.
    fn fold(&self) -> Result<(), StoreError> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: bool = self.connection.query_row(sql, [], |row| row.get("busy"))?;
        match busy {
            true => Err(StoreError::Busy),
            false => Ok(()),
        }
    }
}

impl Deref for Session {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}
