//! The embedded engine: SQLite in WAL mode.

pub(crate) mod copy;
#[cfg(test)]
pub(crate) mod plans;
pub(crate) mod schema;
mod session;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::sql::connection::Connection as Either;
use crate::sql::{Database, Readers, clear_leftovers, column};
use crate::{Store, StoreError};

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

/// Opens the store in the file `path`, makes it when it is not there, and brings its schema up
/// to date.
///
/// The file is readable by its owner only; beside it stand SQLite's own `-wal` and `-shm` and a
/// `.lock` that tells whether another process has it open.
///
/// # Errors
/// [`StoreError::Unavailable`] when it cannot be opened or written, [`StoreError::Corrupt`] when
/// it is not a store or was damaged, and
/// [`Conflict::NewerSchema`](crate::Conflict::NewerSchema).
pub fn open_sqlite(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
    open(path, None, false)
}

/// As [`open_sqlite`], when nobody else has the file open; until it is closed nobody else gets it.
///
/// # Errors
/// Those of [`open_sqlite`], and [`StoreError::Busy`] when a gateway has it open.
pub fn open_sqlite_alone(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
    open(path, None, true)
}

/// As [`open_sqlite`], with a bound on the size of the file in bytes: beyond it, writes fail as
/// on a full disk. The write-ahead log, usually a few MiB, comes on top.
///
/// # Errors
/// Those of [`open_sqlite`].
pub fn open_sqlite_bounded(path: &Path, max_bytes: u64) -> Result<Arc<dyn Store>, StoreError> {
    open(path, Some(max_bytes), false)
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

fn open(path: &Path, max_bytes: Option<u64>, alone: bool) -> Result<Arc<dyn Store>, StoreError> {
    let (connection, lock) = connect_bounded(path, max_bytes, alone)?;
    let readers = Readers::start(READERS, || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(Either::Sqlite(Session::new(connection)))
    })?;
    Database::start(connection, Some(readers), Some(lock))
}

/// A connection that writes, to a store that is up to date; with `alone`, only when nobody else
/// has it open. The lock is held as long as the file that comes with it is.
pub(crate) fn connect(path: &Path, alone: bool) -> Result<(Either, File), StoreError> {
    connect_bounded(path, None, alone)
}

fn connect_bounded(
    path: &Path,
    max_bytes: Option<u64>,
    must_be_alone: bool,
) -> Result<(Either, File), StoreError> {
    private_file(path)?;
    let (lock, alone) = lock(path)?;
    if must_be_alone && !alone {
        return Err(StoreError::Busy);
    }
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
    let connection = match alone {
        true => Session::first(connection),
        false => Session::new(connection),
    };
    let connection = Either::Sqlite(connection);
    if alone {
        connection.begin()?;
        clear_leftovers(&connection)?;
        connection.commit()?;
    }
    if !must_be_alone {
        lock.lock_shared().map_err(StoreError::unavailable)?;
    }
    Ok((connection, lock))
}

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

/// Opens the lock file and tells whether nobody else has the store open. Whoever is alone holds
/// the lock exclusively until the leftovers of a crash are cleared, and shares it after that.
fn lock(path: &Path) -> Result<(File, bool), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    private_file(&name)?;
    let file = File::open(&name).map_err(StoreError::unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok((file, true)),
        Err(TryLockError::WouldBlock) => Ok((file, false)),
        Err(TryLockError::Error(error)) => Err(StoreError::unavailable(error)),
    }
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
