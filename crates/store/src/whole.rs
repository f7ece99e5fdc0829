//! What is done with a whole store: checking it, and carrying it from one engine to the other.

use std::io::{BufRead, Write};
use std::path::Path;

use crate::postgres::{self, PostgresPlace, Seat};
use crate::sql::connection::Connection;
use crate::sql::{check, transfer};
use crate::sqlite;
use crate::{StoreError, TransferError};

pub use crate::sql::check::Soundness;

/// Where a store is.
#[derive(Debug, Clone, Copy)]
pub enum StorePlace<'p> {
    /// SQLite's file.
    File(&'p Path),
    /// A PostgreSQL database.
    Database(&'p PostgresPlace),
}

impl StorePlace<'_> {
    /// Opens it for one task on a thread of its own, since the client of a server may not wait
    /// within an async runtime.
    fn with<T: Send>(
        self,
        seat: Seat,
        work: impl FnOnce(&Connection) -> Result<T, TransferError> + Send,
    ) -> Result<T, TransferError> {
        std::thread::scope(|scope| {
            let task = scope.spawn(|| match self {
                Self::File(path) => {
                    let (connection, _locks) = sqlite::connect(path, seat)?;
                    work(&connection)
                }
                Self::Database(place) => work(&postgres::connect(place, seat)?),
            });
            task.join().unwrap_or_else(|_| {
                Err(StoreError::Corrupt("the store's task ended early".to_owned()).into())
            })
        })
    }
}

/// Brings a store's schema up to date, and makes the store when it is not there.
///
/// # Errors
/// Those of [`open_sqlite`](crate::open_sqlite) and [`open_postgres`](crate::open_postgres).
pub fn migrate_store(place: StorePlace<'_>) -> Result<(), TransferError> {
    place.with(Seat::Beside, |_| Ok(()))
}

/// Checks that a store is whole, also while a gateway uses it.
///
/// # Errors
/// When it cannot be read; what is not in order is [`Soundness::faults`].
pub fn check_store(place: StorePlace<'_>) -> Result<Soundness, TransferError> {
    place.with(Seat::Beside, |connection| {
        Ok(connection.in_snapshot(check::check)?)
    })
}

/// Copies SQLite's file to a new one as one state of it is seen, also while a gateway writes to it.
/// What is copied is a store of its own.
///
/// # Errors
/// When the file cannot be read or the copy not be written; then the copy is of no use.
pub fn copy_store(file: &Path, to: &Path) -> Result<(), StoreError> {
    sqlite::copy::copy(file, to)
}

/// Writes a store as one state of it is seen, also while a gateway uses it; returns the rows.
///
/// # Errors
/// When the store cannot be read or the file not be written.
pub fn export_store(
    place: StorePlace<'_>,
    file: &mut (dyn Write + Send),
) -> Result<u64, TransferError> {
    place.with(Seat::Beside, |connection| {
        connection.in_snapshot(|connection| Ok(transfer::export(connection, file)))?
    })
}

/// Reads into an empty store, which no gateway uses, what [`export_store`] wrote: all of it, or
/// nothing when the file was changed or what it holds is not whole.
///
/// # Errors
/// See [`TransferError`].
pub fn import_store(
    place: StorePlace<'_>,
    file: &mut (dyn BufRead + Send),
) -> Result<Soundness, TransferError> {
    place.with(Seat::Alone, |connection| {
        connection.begin()?;
        let imported = transfer::import(connection, file);
        match imported {
            Ok(soundness) => {
                connection.commit()?;
                Ok(soundness)
            }
            Err(error) => {
                connection.rollback()?;
                Err(error)
            }
        }
    })
}
