//! The one thread that writes, and its group commit.
//!
//! # Concurrency
//! Operations wait in a bounded queue. The writer takes all that are there, at most [`BATCH`],
//! runs each in a savepoint of one transaction, commits once and answers them all. While it waits
//! for the disk the next batch gathers, so that the cost of a sync is shared by as many as are
//! waiting for it, and a lone write pays one sync. After a batch of [`CROWD`] it waits
//! [`GATHERING`] before it takes the next: those that were answered come back at once, and
//! otherwise the first of them would pay for a commit of its own.
//!
//! An operation sees what the ones before it in the batch did; one that fails is undone to its
//! savepoint and takes no other with it. Records that stand next to each other in the queue share
//! a savepoint: what speaks against one is found before it writes anything, so only a failure of
//! the engine itself undoes them together.
//!
//! A transaction that the engine gave up because of another one is undone and run once more, all
//! of it: an operation can be run again until it was answered. After [`TRIES`] the batch is
//! answered as busy.
//!
//! # Crash
//! An answer is given after the commit. A crash before it leaves nothing of the batch; a crash
//! after it, everything. When the commit fails, all of the batch fails, also those operations
//! that refused something, since they may have refused it because of a write that is now undone.
//! (After a failed sync the log's tail may still reach the disk. Going on folds the log into the
//! file first, which ends that tail for good; a crash before it may find it, and a write that was
//! answered with an error then exists. That is the safe side for evidence, and a caller that repeats
//! it meets a conflict.)

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proof::{Hash, Timestamp};
use tokio::sync::{oneshot, watch};

use super::connection::Connection;
use super::ends::{Ends, NewRecord};
use super::tokens::Touches;
use crate::{Appended, Pending, StoreError, kill_point};

/// Operations that may wait; at 5 ms for a full batch of [`BATCH`] this is a wait of 80 ms.
const QUEUE: usize = 4096;

/// Operations of one transaction at most, so that the first of them does not wait for ever.
const BATCH: usize = 256;

/// A batch of so many means that there are more where it came from.
const CROWD: usize = 4;

/// How long the writer lets the next batch gather then: less than a sync takes.
const GATHERING: Duration = Duration::from_micros(100);

/// Uses of tokens are written with other writes than records at once, with records this often: of
/// a crash's last moment it may be forgotten that a token was used, never what it was used for.
const TOUCHES_EVERY: Duration = Duration::from_secs(1);

/// How often a batch is run that other transactions stand in the way of, and how long it waits
/// before the second time; each wait is longer by as much.
const TRIES: u32 = 10;
const STEP_BACK: Duration = Duration::from_millis(3);

/// What waits in the queue.
enum Operation {
    /// A record, the most frequent of all.
    Record(Box<RecordInQueue>),
    /// Anything else.
    Other(Box<dyn Work>),
}

struct RecordInQueue {
    new: NewRecord,
    result: Option<Result<Appended, StoreError>>,
    sender: oneshot::Sender<Result<Appended, StoreError>>,
}

/// An operation that can be run until it is answered.
trait Work: Send {
    /// Runs it and keeps its result; false when its changes are not to be kept.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Answers the caller with the result, or with the failure of the commit.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Waiting<T, F> {
    work: F,
    result: Option<Result<T, StoreError>>,
    sender: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Work for Waiting<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.result.insert((self.work)(connection)).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        answer(self.sender, committed, self.result);
    }
}

/// What the commit says comes first: what was refused may have been refused because of a write
/// that is now undone.
fn answer<T>(
    sender: oneshot::Sender<Result<T, StoreError>>,
    committed: Result<(), StoreError>,
    result: Option<Result<T, StoreError>>,
) {
    // A caller that has gone does not take its write back.
    let _ = sender.send(committed.and(result.unwrap_or_else(not_run)));
}

fn not_run<T>() -> Result<T, StoreError> {
    Err(StoreError::unavailable(RolledBack))
}

/// The store is being closed.
#[derive(Debug, thiserror::Error)]
#[error("the store has been closed")]
pub(super) struct Closed;

/// The engine gave up the transaction on its own: disk full, out of memory, I/O error.
#[derive(Debug, thiserror::Error)]
#[error("the transaction was rolled back")]
struct RolledBack;

/// The queue of the writer thread.
pub(super) struct Writer {
    queue: Option<SyncSender<Operation>>,
    thread: Option<JoinHandle<()>>,
    /// How many batches were committed.
    commits: watch::Receiver<u64>,
    told: watch::Sender<u64>,
    failed: Arc<AtomicBool>,
    /// Operations in the queue.
    queued: Arc<AtomicUsize>,
}

impl Writer {
    pub(super) fn start(connection: Connection, touches: Arc<Touches>) -> Result<Self, StoreError> {
        let (queue, operations) = sync_channel(QUEUE);
        let (told, commits) = watch::channel(0);
        let failed = Arc::new(AtomicBool::new(false));
        let queued = Arc::new(AtomicUsize::new(0));
        let batches = Batches {
            failed: Arc::clone(&failed),
            queued: Arc::clone(&queued),
            connection,
            touches,
            touched: Instant::now(),
            told: told.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || batches.run(&operations))
            .map_err(StoreError::unavailable)?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            commits,
            told,
            failed,
            queued,
        })
    }

    /// Tells of each batch that was committed.
    pub(super) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Tells those who listen to [`Self::commits`], also of what others commit.
    pub(super) fn told(&self) -> watch::Sender<u64> {
        self.told.clone()
    }

    /// How many operations wait in the queue.
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Whether a batch was lost since [`Self::works_again`].
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn works_again(&self) {
        self.failed.store(false, Ordering::Release);
    }

    /// Puts a record into the queue now; the answer comes after its commit.
    pub(super) fn submit_record(&self, new: NewRecord) -> Pending {
        let (sender, receiver) = oneshot::channel();
        let record = RecordInQueue {
            new,
            result: None,
            sender,
        };
        match self.enqueue(Operation::Record(Box::new(record))) {
            Ok(()) => Pending::queued(receiver),
            Err(error) => Pending::refused(error),
        }
    }

    /// Puts an operation into the queue now; the answer comes after its commit. It may be run
    /// several times, each time as if it were the first.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting {
            work,
            result: None,
            sender,
        };
        self.enqueue(Operation::Other(Box::new(waiting)))
            .map(|()| receiver)
    }

    fn enqueue(&self, operation: Operation) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().expect("taken only when dropped");
        // Before it is there: the writer may take it at once.
        self.queued.fetch_add(1, Ordering::Relaxed);
        queue.try_send(operation).map_err(|error| {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Disconnected(_) => StoreError::unavailable(Closed),
            }
        })
    }
}

impl Drop for Writer {
    /// Lets the writer finish what is queued, and waits for it.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: every caller has been told by its closed channel.
            let _ = thread.join();
        }
    }
}

/// What the writer thread has.
struct Batches {
    connection: Connection,
    touches: Arc<Touches>,
    /// When they were written last.
    touched: Instant,
    told: watch::Sender<u64>,
    failed: Arc<AtomicBool>,
    queued: Arc<AtomicUsize>,
}

impl Batches {
    fn run(mut self, operations: &Receiver<Operation>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut crowded = false;
        loop {
            let first = match self.connection.pulse() {
                None => operations
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Some(pulse) => operations.recv_timeout(pulse),
            };
            match first {
                Ok(first) => batch.push(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if crowded {
                std::thread::sleep(GATHERING);
            }
            batch.extend(operations.try_iter().take(BATCH - batch.len()));
            self.queued.fetch_sub(batch.len(), Ordering::Relaxed);
            crowded = batch.len() >= CROWD;
            self.commit_together(&mut batch);
        }
        // The last uses of tokens, which no operation followed.
        self.commit_together(&mut batch);
    }

    /// Runs a batch in one transaction, again when another one stood in its way, and answers all
    /// of it.
    fn commit_together(&mut self, batch: &mut Vec<Operation>) {
        let records_only = batch
            .iter()
            .all(|operation| matches!(operation, Operation::Record(_)));
        let uses = if !records_only || batch.is_empty() || self.touched.elapsed() >= TOUCHES_EVERY {
            self.touched = Instant::now();
            self.touches.take()
        } else {
            HashMap::new()
        };
        let mut tries = 0;
        let committed = loop {
            tries += 1;
            let tried = self.attempt(batch, &uses);
            let conflicted = tried.is_err() && self.connection.conflicted();
            if tried.is_err()
                && let Err(error) = self.connection.rollback()
            {
                // The next BEGIN fails then, and with it every write, until the process restarts.
                tracing::error!(%error, "a failed batch could not be rolled back");
            }
            match conflicted {
                true if tries < TRIES => std::thread::sleep(STEP_BACK * tries),
                true => break Err(StoreError::Busy),
                false => break tried,
            }
        };
        if let Err(error) = &committed {
            self.failed.store(true, Ordering::Release);
            tracing::error!(%error, cause = ?error, writes = batch.len(), "a batch of writes failed");
        }
        for operation in batch.drain(..) {
            match operation {
                Operation::Record(record) => {
                    answer(record.sender, committed.clone(), record.result);
                }
                Operation::Other(other) => other.answer(committed.clone()),
            }
        }
    }

    /// Runs a batch in a transaction and commits it.
    fn attempt(
        &self,
        batch: &mut [Operation],
        uses: &HashMap<Hash, Timestamp>,
    ) -> Result<(), StoreError> {
        let connection = &self.connection;
        let anything = !batch.is_empty();
        connection.begin()?;
        if !uses.is_empty()
            && let Err(error) = in_savepoint(connection, || Touches::write(connection, uses))
        {
            tracing::warn!(%error, "the last uses of some tokens were not written");
        }
        let mut rest = batch;
        while let Some(first) = rest.first_mut() {
            still_open(connection)?;
            let together = match first {
                Operation::Other(other) => {
                    run_one(connection, other.as_mut())?;
                    1
                }
                Operation::Record(_) => append_together(connection, rest)?,
            };
            rest = &mut rest[together..];
        }
        still_open(connection)?;
        self.commit(anything)
    }

    /// Commits, and tells of it when there is anything to see.
    fn commit(&self, anything: bool) -> Result<(), StoreError> {
        kill_point!("commit.before");
        self.connection.commit()?;
        kill_point!("commit.after");
        if anything {
            self.told.send_modify(|commits| *commits += 1);
        }
        Ok(())
    }
}

/// Some errors make the engine roll back everything; going on would write outside a transaction.
fn still_open(connection: &Connection) -> Result<(), StoreError> {
    if connection.in_transaction() {
        Ok(())
    } else {
        not_run()
    }
}

/// Appends the records at the head of the batch in one savepoint, which a failure of the engine
/// undoes, and tells how many they were.
fn append_together(connection: &Connection, batch: &mut [Operation]) -> Result<usize, StoreError> {
    connection.execute("SAVEPOINT operation", [])?;
    let mut group: Vec<&mut RecordInQueue> = batch
        .iter_mut()
        .map_while(|operation| match operation {
            Operation::Record(record) => Some(record.as_mut()),
            Operation::Other(_) => None,
        })
        .collect();
    let mut ends = Ends::read(connection);
    for record in &mut group {
        let mut failed = None;
        let result = match &mut ends {
            Err(error) => Err(error.clone()),
            Ok(open) => match open.check(&mut record.new) {
                Ok(checked) => open
                    .write(checked)
                    .inspect_err(|error| failed = Some(error.clone())),
                // A refusal has written nothing, and the others go on.
                Err(refused @ StoreError::Conflict(_)) => Err(refused),
                Err(error) => {
                    // The engine may have ended the transaction: what would be written now would
                    // stand alone.
                    failed = Some(error.clone());
                    Err(error)
                }
            },
        };
        record.result = Some(result);
        if let Some(error) = failed {
            ends = Err(error);
        }
    }
    let written = ends.and_then(Ends::finish);
    if connection.in_transaction() {
        leave_savepoint(connection, written.is_ok())?;
    }
    if let Err(error) = written {
        // One that was refused may have been refused because of one that is now undone.
        for record in &mut group {
            record.result = Some(Err(error.clone()));
        }
    }
    Ok(group.len())
}

fn run_one(connection: &Connection, operation: &mut dyn Work) -> Result<(), StoreError> {
    connection.execute("SAVEPOINT operation", [])?;
    let keep = operation.run(connection);
    match connection.in_transaction() {
        true => leave_savepoint(connection, keep),
        false => Ok(()),
    }
}

fn in_savepoint(
    connection: &Connection,
    work: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    connection.execute("SAVEPOINT operation", [])?;
    let result = work();
    if connection.in_transaction() {
        leave_savepoint(connection, result.is_ok())?;
    }
    result
}

fn leave_savepoint(connection: &Connection, keep: bool) -> Result<(), StoreError> {
    if !keep {
        connection.execute("ROLLBACK TO SAVEPOINT operation", [])?;
    }
    connection
        .execute("RELEASE SAVEPOINT operation", [])
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::super::column::{self, Columns as _};
    use super::*;

    fn writer() -> Writer {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "PRAGMA foreign_keys = ON;
                 CREATE TABLE parents (id INTEGER PRIMARY KEY);
                 CREATE TABLE children (id INTEGER PRIMARY KEY REFERENCES parents
                     DEFERRABLE INITIALLY DEFERRED);",
            )
            .unwrap();
        Writer::start(
            Connection::Sqlite(crate::sqlite::Session::new(connection)),
            Arc::default(),
        )
        .unwrap()
    }

    fn add(sql: &'static str) -> impl FnMut(&Connection) -> Result<(), StoreError> + Send {
        move |connection| connection.batch(sql)
    }

    fn parents(writer: &Writer) -> i64 {
        let count = writer.submit(|connection| {
            let sql = "SELECT count(*) AS count FROM parents";
            column::one(connection, sql, [], |row| row.int("count"))
        });
        count.unwrap().blocking_recv().unwrap().unwrap().unwrap()
    }

    /// Runs the statements as one batch, each an operation, and tells which were answered well.
    fn batch(writer: &Writer, statements: [&'static str; 3]) -> Vec<Result<(), StoreError>> {
        let (started, has_started) = channel();
        let (release, released) = channel::<()>();
        let gate = writer.submit(move |_| {
            started.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        });
        has_started.recv().unwrap();
        // The writer is busy with the gate: all of these wait, and are taken together.
        let waiting = statements.map(|sql| writer.submit(add(sql)).unwrap());
        release.send(()).unwrap();
        gate.unwrap().blocking_recv().unwrap().unwrap();
        waiting
            .into_iter()
            .map(|receiver| receiver.blocking_recv().unwrap())
            .collect()
    }

    #[test]
    fn a_failed_operation_takes_no_other_with_it() {
        let writer = writer();
        let answers = batch(
            &writer,
            [
                "INSERT INTO parents VALUES (1)",
                "INSERT INTO parents VALUES (7); INSERT INTO parents VALUES (1)",
                "INSERT INTO parents VALUES (2)",
            ],
        );
        assert!(matches!(
            answers[..],
            [Ok(()), Err(StoreError::Corrupt(_)), Ok(())]
        ));
        assert_eq!(parents(&writer), 2, "the failed one left nothing");
    }

    #[test]
    fn a_failed_commit_fails_all_and_keeps_nothing() {
        let writer = writer();
        let answers = batch(
            &writer,
            [
                "INSERT INTO parents VALUES (1)",
                // Without a parent: the engine finds out at the commit.
                "INSERT INTO children VALUES (9)",
                "INSERT INTO parents VALUES (2)",
            ],
        );
        for answer in answers {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        }
        assert_eq!(parents(&writer), 0);
        let next = writer.submit(add("INSERT INTO parents VALUES (3)"));
        next.unwrap().blocking_recv().unwrap().unwrap();
        assert_eq!(parents(&writer), 1, "the next batch is a new one");
    }

    #[test]
    fn a_transaction_that_the_engine_gave_up_fails_all() {
        let writer = writer();
        let answers = batch(
            &writer,
            [
                "INSERT INTO parents VALUES (1)",
                // What SQLite does by itself when the disk is full at the wrong moment.
                "ROLLBACK",
                "INSERT INTO parents VALUES (2)",
            ],
        );
        for answer in answers {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        }
        assert_eq!(parents(&writer), 0);
    }

    #[test]
    fn what_is_queued_is_written_before_the_end() {
        let writer = writer();
        let last = writer
            .submit(add("INSERT INTO parents VALUES (1)"))
            .unwrap();
        drop(writer);
        last.blocking_recv().unwrap().unwrap();
    }
}
