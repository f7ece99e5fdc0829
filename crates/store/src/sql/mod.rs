//! All the SQL, for either engine: each area's statements and the rules about them, one writer
//! thread, a few reader threads.
//!
//! Every write is a closure in the writer's bounded queue; the writer runs what is waiting in one
//! transaction and answers after its commit ([`writer`]). Reads run on connections of their own
//! and see what was committed when they began ([`readers`]). Neither blocks the async runtime:
//! the caller awaits a channel.
//!
//! No state is kept in memory but the uses of tokens that are not written yet, so another process
//! may write to the same store, and a rollback has nothing to undo here.
//!
//! An engine is a [`connection`], a schema, and how it is opened: `sqlite/`, `postgres/`.

mod approvals;
mod budgets;
mod bundles;
pub(crate) mod check;
pub(crate) mod column;
pub(crate) mod connection;
mod contracts;
mod ends;
mod exports;
mod jobs;
mod key_sets;
mod log;
mod merkle;
mod model_keys;
mod notices;
mod objects;
mod observations;
mod operators;
mod passkeys;
mod publications;
mod readers;
mod receipts;
mod replicas;
mod retention;
mod runs;
mod sessions;
mod task_calls;
mod tokens;
pub(crate) mod transfer;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use crate::postgres::{Looking, Shared};
use crate::sqlite::Locks;
use crate::{Commits, Store, StoreError};
use connection::{Connection, Dialect};
use tokens::Touches;
use writer::Writer;

pub(crate) use readers::Readers;

/// The store, whichever the engine.
pub(crate) struct Database {
    /// Absent for a store in memory, which has one connection: the writer reads too. Dropped
    /// before the writer, whose connection, the last one, then folds the write-ahead log into
    /// the file.
    readers: Option<Readers>,
    /// Of a gateway that may be one of several.
    sharing: Option<(Arc<Shared>, Looking)>,
    writer: Writer,
    touches: Arc<Touches>,
    /// Held as long as the store is open.
    _locks: Option<Locks>,
}

impl Database {
    pub(crate) fn start(
        connection: Connection,
        readers: Option<Readers>,
        locks: Option<Locks>,
    ) -> Result<Arc<dyn Store>, StoreError> {
        let touches = Arc::new(Touches::default());
        let writer = Writer::start(connection, Arc::clone(&touches))?;
        Ok(Arc::new(Self {
            readers,
            sharing: None,
            writer,
            touches,
            _locks: locks,
        }))
    }

    /// The same for one gateway of several, which `look`s what the others do and tells of it.
    pub(crate) fn start_shared(
        connection: Connection,
        readers: Readers,
        shared: Arc<Shared>,
        look: impl FnOnce(watch::Sender<u64>) -> Result<Looking, StoreError>,
    ) -> Result<Arc<dyn Store>, StoreError> {
        let touches = Arc::new(Touches::default());
        let writer = Writer::start(connection, Arc::clone(&touches))?;
        let looking = look(writer.told())?;
        Ok(Arc::new(Self {
            readers: Some(readers),
            sharing: Some((shared, looking)),
            writer,
            touches,
            _locks: None,
        }))
    }

    fn shared(&self) -> Option<&Shared> {
        self.sharing.as_ref().map(|(shared, _)| &**shared)
    }

    /// Runs a write and waits until it is durable. It may be run more than once.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
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
            None => {
                let mut work = Some(work);
                self.write(move |connection| {
                    let work = work
                        .take()
                        .expect("nothing stands in the way of a store in memory");
                    work(connection)
                })
                .await
            }
        }
    }
}

#[async_trait]
impl Commits for Database {
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
        let tried = self.write(|connection| match connection.dialect() {
            Dialect::Sqlite => connection.batch(
                "CREATE TABLE room (bytes); INSERT INTO room VALUES (zeroblob(65536));
                 DROP TABLE room",
            ),
            // Each commit writes that it was made.
            Dialect::Postgres => Ok(()),
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

/// What a crash left behind in a store that nobody else has open, in a transaction. Where several
/// may have it open, see `postgres/seat.rs`.
pub(crate) fn clear_leftovers(connection: &Connection) -> Result<(), StoreError> {
    budgets::settle_leftovers(connection)?;
    model_keys::lose_leftovers(connection)
}
