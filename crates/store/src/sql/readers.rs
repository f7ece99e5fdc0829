//! A few threads that read, each on a connection of its own.
//!
//! Each read is one transaction and so sees one state of the store, also when it takes several
//! statements. Several threads, because one long read (the records of a job being sealed) must not
//! keep the short ones waiting.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::connection::Connection;
use super::writer::Closed;
use crate::StoreError;

/// Reads that may wait.
const QUEUE: usize = 1024;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The queue of the reader threads.
pub(crate) struct Readers {
    queue: Option<SyncSender<Read>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(crate) fn start(
        threads: usize,
        connect: impl Fn() -> Result<Connection, StoreError>,
    ) -> Result<Self, StoreError> {
        let (queue, reads) = sync_channel(QUEUE);
        let reads = Arc::new(Mutex::new(reads));
        let mut readers = Self {
            queue: Some(queue),
            threads: Vec::with_capacity(threads),
        };
        for _ in 0..threads {
            let (connection, reads) = (connect()?, Arc::clone(&reads));
            let thread = std::thread::Builder::new()
                .name("store-reader".to_owned())
                .spawn(move || run(&connection, &reads))
                .map_err(StoreError::unavailable)?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            // Nobody waits any more: under load that saves the work.
            if !sender.is_closed() {
                let _ = sender.send(connection.in_snapshot(work));
            }
        });
        let queue = self.queue.as_ref().expect("taken only when dropped");
        match queue.try_send(read) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(StoreError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(StoreError::unavailable(Closed)),
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, reads: &Mutex<Receiver<Read>>) {
    loop {
        // The lock is held while waiting, never while reading.
        let next = match reads.lock() {
            Ok(reads) => reads.recv(),
            Err(_) => return,
        };
        match next {
            Ok(read) => read(connection),
            Err(_) => return,
        }
    }
}
