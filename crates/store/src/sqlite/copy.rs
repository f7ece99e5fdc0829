//! A copy of the file while it is used.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, private_file};
use crate::StoreError;

/// Pages that are copied in one step; 4 MiB.
const PAGES: i32 = 1024;

/// How long a step waits when the file is locked.
const STEP_BACK: Duration = Duration::from_millis(10);

/// How often; the file is locked while its schema changes, and for no longer.
const TRIES: u32 = 500;

/// Copies the store in the file `from` into a new file `to`, as one state of it is seen.
///
/// The copy is made within one reading transaction: the writer goes on meanwhile, and what it
/// writes is not in the copy. Without that each commit would make the copy begin anew. The
/// write-ahead log is not folded until the copy is done, so it grows by what is written meanwhile.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags)?;
    source.busy_timeout(BUSY_TIMEOUT)?;
    source.execute_batch("BEGIN DEFERRED")?;
    // The transaction begins with its first read.
    let _: i64 = source.query_row("SELECT count(*) FROM migrations", [], |row| row.get(0))?;
    private_file(to)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(to, flags)?;
    target.pragma_update(None, "synchronous", "FULL")?;
    let backup = Backup::new(&source, &mut target)?;
    let mut waited = 0;
    loop {
        match backup.step(PAGES)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ if waited < TRIES => {
                waited += 1;
                std::thread::sleep(STEP_BACK);
            }
            _ => return Err(StoreError::Busy),
        }
    }
}
