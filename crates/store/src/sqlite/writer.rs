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
//! # Crash
//! An answer is given after the commit. A crash before it leaves nothing of the batch; a crash
//! after it, everything. When the commit fails, all of the batch fails, also those operations
//! that refused something, since they may have refused it because of a write that is now undone.
//! (After a failed sync the log's tail may still reach the disk and be found by a recovery: a
//! write that was answered with an error may then exist. That is the safe side for evidence, and
//! a caller that repeats it meets a conflict.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::ends::{Ends, NewRecord};
use super::tokens::Touches;
use crate::{Appended, Pending, StoreError};

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

/// What waits in the queue.
enum Operation {
    /// A record, the most frequent of all.
    Record(
        Box<NewRecord>,
        oneshot::Sender<Result<Appended, StoreError>>,
    ),
    /// Anything else.
    Other(Other),
}

/// An operation that is given the connection, or the reason why there is none.
type Other = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Ran + Send>;

/// An operation that has run and waits for the commit.
struct Ran {
    /// Whether its changes are to be kept.
    keep: bool,
    /// Answers the caller with its result, or with the failure of the commit.
    answer: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

impl Ran {
    fn new<T: Send + 'static>(
        result: Result<T, StoreError>,
        sender: oneshot::Sender<Result<T, StoreError>>,
    ) -> Self {
        Self {
            keep: result.is_ok(),
            answer: Box::new(move |committed| {
                // A caller that has gone does not take its write back.
                let _ = sender.send(committed.and(result));
            }),
        }
    }
}

/// Which side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitMoment {
    /// Nothing of the batch is durable yet.
    Before,
    /// All of it is, and nobody has been told.
    After,
}

/// Is called by the writer thread on both sides of each commit, with the commit's number from 1:
/// where a test stops or kills the process.
pub type CommitObserver = Box<dyn Fn(CommitMoment, u64) + Send>;

/// The store is being closed.
#[derive(Debug, thiserror::Error)]
#[error("the store has been closed")]
pub(super) struct Closed;

/// SQLite gave up the transaction on its own: disk full, out of memory, I/O error.
#[derive(Debug, thiserror::Error)]
#[error("the transaction was rolled back")]
struct RolledBack;

/// The queue of the writer thread.
pub(super) struct Writer {
    queue: Option<SyncSender<Operation>>,
    thread: Option<JoinHandle<()>>,
    /// How many batches were committed.
    commits: watch::Receiver<u64>,
    failed: Arc<AtomicBool>,
    /// Operations in the queue.
    queued: Arc<AtomicUsize>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        touches: Arc<Touches>,
        observer: Option<CommitObserver>,
    ) -> Result<Self, StoreError> {
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
            observer,
            told,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || batches.run(&operations))
            .map_err(StoreError::unavailable)?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            commits,
            failed,
            queued,
        })
    }

    /// Tells of each batch that was committed.
    pub(super) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
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
        match self.enqueue(Operation::Record(Box::new(new), sender)) {
            Ok(()) => Pending::queued(receiver),
            Err(error) => Pending::refused(error),
        }
    }

    /// Puts an operation into the queue now; the answer comes after its commit.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let operation: Other = Box::new(move |connection| {
            let result = connection.and_then(work);
            Ran::new(result, sender)
        });
        self.enqueue(Operation::Other(operation)).map(|()| receiver)
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
    observer: Option<CommitObserver>,
    told: watch::Sender<u64>,
    failed: Arc<AtomicBool>,
    queued: Arc<AtomicUsize>,
}

impl Batches {
    fn run(mut self, operations: &Receiver<Operation>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut crowded = false;
        while let Ok(first) = operations.recv() {
            if crowded {
                std::thread::sleep(GATHERING);
            }
            batch.push(first);
            batch.extend(operations.try_iter().take(BATCH - 1));
            self.queued.fetch_sub(batch.len(), Ordering::Relaxed);
            crowded = batch.len() >= CROWD;
            self.commit_together(&mut batch);
        }
        // The last uses of tokens, which no operation followed.
        self.commit_together(&mut batch);
    }

    /// Runs a batch in one transaction and answers all of it.
    fn commit_together(&mut self, batch: &mut Vec<Operation>) {
        let connection = &self.connection;
        let mut state = begin(connection);
        let records_only = batch
            .iter()
            .all(|operation| matches!(operation, Operation::Record(..)));
        let touch = !records_only || batch.is_empty() || self.touched.elapsed() >= TOUCHES_EVERY;
        if touch && state.is_ok() {
            self.touched = Instant::now();
            if let Err(error) = in_savepoint(connection, || self.touches.write(connection)) {
                tracing::warn!(%error, "the last uses of some tokens were not written");
            }
        }
        let mut ran = Vec::with_capacity(batch.len());
        let mut operations = batch.drain(..).peekable();
        while let Some(operation) = operations.next() {
            state = state.and_then(|()| still_open(connection));
            match operation {
                Operation::Other(other) => ran.push(match &state {
                    Ok(()) => run_one(connection, other, &mut state),
                    Err(error) => other(Err(error.clone())),
                }),
                Operation::Record(new, sender) => {
                    let mut group = vec![(new, sender)];
                    while let Some(Operation::Record(new, sender)) =
                        operations.next_if(|next| matches!(next, Operation::Record(..)))
                    {
                        group.push((new, sender));
                    }
                    append_together(connection, group, &mut state, &mut ran);
                }
            }
        }
        drop(operations);
        let committed = state
            .and_then(|()| still_open(connection))
            .and_then(|()| self.commit());
        if let Err(error) = &committed {
            self.failed.store(true, Ordering::Release);
            tracing::error!(%error, cause = ?error, writes = ran.len(), "a batch of writes failed");
            if !connection.is_autocommit()
                && let Err(error) = execute(connection, "ROLLBACK")
            {
                // The next BEGIN fails then, and with it every write, until the process restarts.
                tracing::error!(%error, "a failed batch could not be rolled back");
            }
        }
        for operation in ran {
            (operation.answer)(committed.clone());
        }
    }

    fn commit(&self) -> Result<(), StoreError> {
        let number = *self.told.borrow() + 1;
        let observe = |moment| {
            if let Some(observer) = &self.observer {
                observer(moment, number);
            }
        };
        observe(CommitMoment::Before);
        // Whatever the reason, what counts is that the disk did not take it.
        execute(&self.connection, "COMMIT").map_err(StoreError::unavailable)?;
        observe(CommitMoment::After);
        self.told.send_replace(number);
        Ok(())
    }
}

fn begin(connection: &Connection) -> Result<(), StoreError> {
    // IMMEDIATE takes the write lock now: a later upgrade could fail halfway.
    execute(connection, "BEGIN IMMEDIATE")
}

/// Some errors make SQLite roll back everything; going on would write outside a transaction.
fn still_open(connection: &Connection) -> Result<(), StoreError> {
    if connection.is_autocommit() {
        Err(StoreError::unavailable(RolledBack))
    } else {
        Ok(())
    }
}

type RecordInQueue = (
    Box<NewRecord>,
    oneshot::Sender<Result<Appended, StoreError>>,
);

/// Appends records in one savepoint, which a failure of the engine undoes.
fn append_together(
    connection: &Connection,
    group: Vec<RecordInQueue>,
    state: &mut Result<(), StoreError>,
    ran: &mut Vec<Ran>,
) {
    if state.is_ok() {
        *state = execute(connection, "SAVEPOINT operation");
    }
    let mut appended = Vec::with_capacity(group.len());
    let mut ends = state.clone().and_then(|()| Ends::read(connection));
    for (new, sender) in group {
        let mut failed = None;
        let result = match &mut ends {
            Err(error) => Err(error.clone()),
            Ok(open) => match open.check(*new) {
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
        if let Some(error) = failed {
            ends = Err(error);
        }
        appended.push((result, sender));
    }
    let written = ends.and_then(Ends::finish);
    if state.is_ok() && !connection.is_autocommit() {
        *state = leave_savepoint(connection, written.is_ok());
    }
    for (result, sender) in appended {
        // One that was refused may have been refused because of one that is now undone.
        ran.push(Ran::new(written.clone().and(result), sender));
    }
}

fn run_one(connection: &Connection, operation: Other, state: &mut Result<(), StoreError>) -> Ran {
    if let Err(error) = execute(connection, "SAVEPOINT operation") {
        *state = Err(error.clone());
        return operation(Err(error));
    }
    let ran = operation(Ok(connection));
    if !connection.is_autocommit() {
        *state = leave_savepoint(connection, ran.keep);
    }
    ran
}

fn in_savepoint(
    connection: &Connection,
    work: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    execute(connection, "SAVEPOINT operation")?;
    let result = work();
    if !connection.is_autocommit() {
        leave_savepoint(connection, result.is_ok())?;
    }
    result
}

fn leave_savepoint(connection: &Connection, keep: bool) -> Result<(), StoreError> {
    if !keep {
        execute(connection, "ROLLBACK TO operation")?;
    }
    execute(connection, "RELEASE operation")
}

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn writer() -> Writer {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "PRAGMA foreign_keys = ON;
                 CREATE TABLE parents (id INTEGER PRIMARY KEY);
                 CREATE TABLE children (id INTEGER PRIMARY KEY REFERENCES parents
                     DEFERRABLE INITIALLY DEFERRED);",
            )
            .unwrap();
        Writer::start(connection, Arc::default(), None).unwrap()
    }

    fn add(sql: &'static str) -> impl FnOnce(&Connection) -> Result<(), StoreError> + Send {
        move |connection| Ok(connection.execute_batch(sql)?)
    }

    fn parents(writer: &Writer) -> i64 {
        let count = writer.submit(|connection| {
            Ok(connection.query_row("SELECT count(*) FROM parents", [], |row| row.get(0))?)
        });
        count.unwrap().blocking_recv().unwrap().unwrap()
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
