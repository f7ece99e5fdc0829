//! Who else has a file open: two locks on files beside it, which go with their process.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{BUSY_TIMEOUT, private_file};
use crate::{Seat, StoreError};

/// How long is waited between two looks at a lock: the system's own wait for one has no end.
const STEP_BACK: Duration = Duration::from_millis(10);

/// The locks on a store that is open.
pub(crate) struct Locks {
    /// Shared by all who have the file open; held alone by whoever was first, until it has put the
    /// file in order.
    open: File,
    alone: bool,
    /// Held by the gateway, or by whoever wants none to serve.
    _serve: Option<File>,
}

/// A gateway beside another one.
#[derive(Debug, thiserror::Error)]
#[error(
    "another gateway serves from it: stop that one first, or give this one a data_dir of its own; \
     several gateways that are to be one share a store in PostgreSQL (store.url)"
)]
struct Served;

impl Locks {
    /// Takes what belongs to a seat. A gateway waits for one that is just ending, as at a restart.
    pub(super) fn take(path: &Path, seat: Seat) -> Result<Self, StoreError> {
        let serve = match seat {
            Seat::Beside => None,
            Seat::Gateway => {
                let serve = file(path, ".serve")?;
                if !in_time(|| serve.try_lock())? {
                    return Err(StoreError::unavailable(Served));
                }
                Some(serve)
            }
            Seat::Alone => {
                let serve = file(path, ".serve")?;
                if !is_free(serve.try_lock())? {
                    return Err(StoreError::Busy);
                }
                Some(serve)
            }
        };
        let open = file(path, ".lock")?;
        let alone = is_free(open.try_lock())?;
        if seat == Seat::Alone && !alone {
            return Err(StoreError::Busy);
        }
        Ok(Self {
            open,
            alone,
            _serve: serve,
        })
    }

    /// Whether nobody else has the file open.
    pub(super) fn are_alone(&self) -> bool {
        self.alone
    }

    /// The file is in order: others may have it open, too, unless the seat is for one. Waits for
    /// another one who puts it in order.
    pub(super) fn let_others_in(&mut self, seat: Seat) -> Result<(), StoreError> {
        if seat == Seat::Alone {
            return Ok(());
        }
        if !in_time(|| self.open.try_lock_shared())? {
            return Err(StoreError::Busy);
        }
        self.alone = false;
        Ok(())
    }
}

/// Opens a file whose lock counts, beside the store.
fn file(path: &Path, suffix: &str) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    private_file(name.as_ref())?;
    File::open(&name).map_err(StoreError::unavailable)
}

/// Tries until the lock is free, and gives up in the end.
fn in_time(lock: impl Fn() -> Result<(), TryLockError>) -> Result<bool, StoreError> {
    let until = Instant::now() + BUSY_TIMEOUT;
    while !is_free(lock())? {
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(STEP_BACK);
    }
    Ok(true)
}

fn is_free(tried: Result<(), TryLockError>) -> Result<bool, StoreError> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(StoreError::unavailable(error)),
    }
}
