//! The embedded engine: SQLite in WAL mode, one writer thread, two reader threads.
//!
//! Every write is a closure in the writer's bounded queue; the writer runs what is waiting in one
//! transaction and answers after its commit ([`writer`]). Reads run on connections of their own
//! and see what was committed when they began ([`readers`]). Neither blocks the async runtime:
//! the caller awaits a channel.
//!
//! No state is kept in memory but the uses of tokens that are not written yet, so another process
//! may write to the same file, and a rollback has nothing to undo here.

mod approvals;
mod budgets;
mod bundles;
mod column;
mod contracts;
mod ends;
mod exports;
mod jobs;
mod log;
mod merkle;
mod model_keys;
mod notices;
mod objects;
mod observations;
mod operators;
mod passkeys;
#[cfg(test)]
mod plans;
mod publications;
mod readers;
mod receipts;
mod runs;
mod schema;
mod sessions;
mod task_calls;
mod tokens;
mod writer;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{oneshot, watch};

use crate::{Commits, Store, StoreError};
use readers::Readers;
use tokens::Touches;
use writer::Writer;

pub use writer::{CommitMoment, CommitObserver};

/// How long a statement waits for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements that a connection keeps prepared; more than this crate has.
const PREPARED: usize = 160;

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
    open(path, None, None)
}

/// As [`open_sqlite`], with a bound on the size of the file in bytes: beyond it, writes fail as
/// on a full disk. The write-ahead log, usually a few MiB, comes on top.
///
/// # Errors
/// Those of [`open_sqlite`].
pub fn open_sqlite_bounded(path: &Path, max_bytes: u64) -> Result<Arc<dyn Store>, StoreError> {
    open(path, Some(max_bytes), None)
}

/// As [`open_sqlite`], with an observer of its commits; for tests that end a process at each of
/// them.
///
/// # Errors
/// Those of [`open_sqlite`].
pub fn open_sqlite_observed(
    path: &Path,
    observer: CommitObserver,
) -> Result<Arc<dyn Store>, StoreError> {
    open(path, None, Some(observer))
}

/// A store without a file, for tests. It ends with its last handle.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub fn open_sqlite_in_memory() -> Result<Arc<dyn Store>, StoreError> {
    let mut connection = Connection::open_in_memory()?;
    prepare(&connection)?;
    schema::migrate(&mut connection)?;
    Sqlite::start(connection, None, None, None)
}

fn open(
    path: &Path,
    max_bytes: Option<u64>,
    observer: Option<CommitObserver>,
) -> Result<Arc<dyn Store>, StoreError> {
    private_file(path)?;
    let (lock, alone) = lock(path)?;
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
    if alone {
        budgets::settle_leftovers(&connection)?;
        model_keys::lose_leftovers(&connection)?;
    }
    lock.lock_shared().map_err(StoreError::unavailable)?;
    let readers = Readers::start(|| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(connection)
    })?;
    Sqlite::start(connection, Some(readers), Some(lock), observer)
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

/// The engine.
struct Sqlite {
    /// Absent for a store in memory, which has one connection: the writer reads too. Dropped
    /// before the writer, whose connection, the last one, then folds the write-ahead log into
    /// the file.
    readers: Option<Readers>,
    writer: Writer,
    touches: Arc<Touches>,
    /// Held as long as the store is open.
    _lock: Option<File>,
}

impl Sqlite {
    fn start(
        connection: Connection,
        readers: Option<Readers>,
        lock: Option<File>,
        observer: Option<CommitObserver>,
    ) -> Result<Arc<dyn Store>, StoreError> {
        let touches = Arc::new(Touches::default());
        let writer = Writer::start(connection, Arc::clone(&touches), observer)?;
        Ok(Arc::new(Self {
            readers,
            writer,
            touches,
            _lock: lock,
        }))
    }

    /// Runs a write and waits until it is durable.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        answer(self.writer.submit(work)?).await
    }

    /// Runs a read.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.readers {
            Some(readers) => answer(readers.submit(work)?).await,
            None => self.write(work).await,
        }
    }
}

#[async_trait]
impl Commits for Sqlite {
    fn commits(&self) -> watch::Receiver<u64> {
        self.writer.commits()
    }

    fn queued(&self) -> Option<usize> {
        Some(self.writer.queued())
    }

    async fn check_room(&self) -> Result<(), StoreError> {
        if !self.writer.has_failed() {
            return Ok(());
        }
        let tried = self.write(|connection| {
            connection.execute_batch(
                "CREATE TABLE room (bytes); INSERT INTO room VALUES (zeroblob(65536));
                 DROP TABLE room",
            )?;
            Ok(())
        });
        tried.await?;
        self.writer.works_again();
        Ok(())
    }
}

async fn answer<T>(receiver: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    // A thread that ended without an answer is a store that has ended.
    receiver
        .await
        .unwrap_or_else(|ended| Err(StoreError::unavailable(ended)))
}
