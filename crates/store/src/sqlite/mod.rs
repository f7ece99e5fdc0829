//! The embedded engine: SQLite in WAL mode.

pub(crate) mod copy;
mod locks;
#[cfg(test)]
pub(crate) mod plans;
pub(crate) mod schema;
mod session;

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::sql::connection::Connection as Either;
use crate::sql::{Database, Readers, clear_leftovers, column};
use crate::{Seat, Store, StoreError};

pub(crate) use locks::Locks;
pub(crate) use session::Session;

/// How long a statement waits for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements that a connection keeps prepared; more than this crate has.
const PREPARED: usize = 160;

/// Connections that read.
const READERS: usize = 2;

/// What stays of the write-ahead log after a burst, in bytes.
const LOG_BYTES: i64 = 64 << 20;

/// Pages of the write-ahead log that are folded into the file together. A page that is written
/// again in the meantime, as the end of each table is with every commit, is folded once.
const LOG_PAGES: i64 = 4000;

/// Opens the store in the file `path` beside a gateway that may serve from it, makes it when it is
/// not there, and brings its schema up to date.
///
/// The file is readable by its owner only; beside it stand SQLite's own `-wal` and `-shm`, a `.lock`
/// that tells whether another process has it open, and a `.serve` that one gateway holds.
///
/// # Errors
/// [`StoreError::Unavailable`] when it cannot be opened or written, [`StoreError::Corrupt`] when
/// it is not a store or was damaged, [`StoreError::Busy`] when another process puts it in order or
/// has it alone, and [`Conflict::NewerSchema`](crate::Conflict::NewerSchema).
pub fn open_sqlite(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
    open(path, None, Seat::Beside)
}

/// As [`open_sqlite`], for what the process wants there. One gateway serves from a file: what another
/// one knows by heart would not follow what this one ends.
///
/// # Errors
/// Those of [`open_sqlite`]; [`StoreError::Unavailable`] for a gateway beside another one,
/// [`StoreError::Busy`] for whoever wants to be alone and is not.
pub fn open_sqlite_as(path: &Path, seat: Seat) -> Result<Arc<dyn Store>, StoreError> {
    open(path, None, seat)
}

/// As [`open_sqlite`], with a bound on the size of the file in bytes: beyond it, writes fail as
/// on a full disk. The write-ahead log, usually a few MiB, comes on top.
///
/// # Errors
/// Those of [`open_sqlite`].
pub fn open_sqlite_bounded(path: &Path, max_bytes: u64) -> Result<Arc<dyn Store>, StoreError> {
    open(path, Some(max_bytes), Seat::Beside)
}

/// A store without a file, for tests. It ends with its last handle.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub fn open_sqlite_in_memory() -> Result<Arc<dyn Store>, StoreError> {
    let mut connection = Connection::open_in_memory()?;
    prepare(&connection)?;
    schema::migrate(&mut connection)?;
    Database::start(Either::Sqlite(Session::new(connection)), None, None)
}

fn open(path: &Path, max_bytes: Option<u64>, seat: Seat) -> Result<Arc<dyn Store>, StoreError> {
    let (connection, locks) = connect_bounded(path, max_bytes, seat)?;
    let readers = Readers::start(READERS, || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(Either::Sqlite(Session::new(connection)))
    })?;
    Database::start(connection, Some(readers), Some(locks))
}

/// A connection that writes, to a store that is up to date, and the locks that go with the seat.
pub(crate) fn connect(path: &Path, seat: Seat) -> Result<(Either, Locks), StoreError> {
    connect_bounded(path, None, seat)
}

fn connect_bounded(
    path: &Path,
    max_bytes: Option<u64>,
    seat: Seat,
) -> Result<(Either, Locks), StoreError> {
    let mut locks = Locks::take(path, seat)?;
    private_file(path)?;
    // Without SQLITE_OPEN_URI the path is taken literally, and without CREATE only the file
    // above, with its mode, is opened.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    schema::check_identity(&connection)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::unavailable(std::io::Error::other(
            "the file system does not allow a write-ahead log",
        )));
    }
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", LOG_PAGES, |_| Ok(()))?;
    if let Some(bytes) = max_bytes {
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = column::integer(bytes)? / page;
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    schema::migrate(&mut connection)?;
    // Whoever serves was not there before, and neither was whoever is alone: what lies here was left.
    let settles = seat == Seat::Gateway || locks.are_alone();
    let connection = match settles {
        true => Session::first(connection),
        false => Session::new(connection),
    };
    let connection = Either::Sqlite(connection);
    if settles {
        settle(&connection).map_err(|error| match error {
            StoreError::Busy if seat == Seat::Gateway => StoreError::unavailable(Held),
            error => error,
        })?;
    }
    locks.let_others_in(seat)?;
    Ok((connection, locks))
}

/// Puts the file in order and clears what a crash has left in it.
fn settle(connection: &Either) -> Result<(), StoreError> {
    connection.begin()?;
    clear_leftovers(connection)?;
    connection.commit()
}

/// Another process reads or writes all the time.
#[derive(Debug, thiserror::Error)]
#[error(
    "another process holds it and keeps it from being put in order; start again when that has ended"
)]
struct Held;

/// What holds for every connection that writes.
fn prepare(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    // FULL: in WAL mode the log is synced at each commit, so what was answered survives a power
    // failure. fullfsync matters on macOS only, where fsync alone does not reach the disk.
    for (name, value) in [("synchronous", "FULL"), ("fullfsync", "ON")] {
        connection.pragma_update(None, name, value)?;
    }
    connection.pragma_update(None, "foreign_keys", true)?;
    // Nothing in the file's schema may call functions of ours.
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}

/// Makes the file with mode 0600, or narrows the mode of one that is there. SQLite gives its
/// `-wal` and `-shm` the same mode.
///
/// A file that is there is not opened: closing it again would drop the locks that SQLite holds on
/// it for another handle in this process, as POSIX has it.
fn private_file(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => narrow(path),
        Err(error) => Err(StoreError::unavailable(error)),
    }
}

#[cfg(unix)]
fn narrow(path: &Path) -> Result<(), StoreError> {
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, private).map_err(StoreError::unavailable)
}

#[cfg(not(unix))]
fn narrow(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match &error {
            E::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy,
                // Each write checks its conditions first, under the write lock; a constraint that
                // breaks all the same means that the store is not what the code believes.
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch => Self::Corrupt(error.to_string()),
                _ => Self::unavailable(error),
            },
            E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..)
            | E::QueryReturnedNoRows => Self::Corrupt(error.to_string()),
            _ => Self::unavailable(error),
        }
    }
}
