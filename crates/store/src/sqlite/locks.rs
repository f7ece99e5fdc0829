//! Who else has a file open: two locks on files beside it, which go with their process.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{BUSY_TIMEOUT, private_file};
use crate::{Seat, StoreError};

/// How long is waited between two looks at a lock.
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
    /// Takes what belongs to a seat.
    pub(super) fn take(path: &Path, seat: Seat) -> Result<Self, StoreError> {
        let serve = match seat {
            Seat::Beside => None,
            Seat::Gateway | Seat::Alone => {
                let serve = file(path, ".serve")?;
                match (is_free(serve.try_lock())?, seat) {
                    (true, _) => Some(serve),
                    (false, Seat::Alone) => return Err(StoreError::Busy),
                    (false, _) => return Err(StoreError::unavailable(Served)),
                }
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
        let until = Instant::now() + BUSY_TIMEOUT;
        while !is_free(self.open.try_lock_shared())? {
            if Instant::now() >= until {
                return Err(StoreError::Busy);
            }
            std::thread::sleep(STEP_BACK);
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

fn is_free(tried: Result<(), TryLockError>) -> Result<bool, StoreError> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(StoreError::unavailable(error)),
    }
}
