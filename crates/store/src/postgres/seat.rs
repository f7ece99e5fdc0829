//! Who may append to the log: the lease of the one sequencer.

use std::time::{Duration, Instant};

use super::session::Session;
use crate::StoreError;
use crate::sql::connection::Value;

/// What a process that opens the store wants there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// To append to the log: the gateway.
    Sequencer,
    /// Anything else, beside a gateway that may be running: commands. Whatever would append to
    /// the log is refused.
    Beside,
}

/// How long the lease holds after the last transaction of whoever has it.
pub(super) const LEASE: Duration = Duration::from_secs(10);

/// How long a lease is waited for: until one that a crash left behind has lapsed, and a little.
const PATIENCE: Duration = Duration::from_secs(13);

/// How long a writer's row stays when nobody has tidied it up.
pub(super) const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// How often a transaction of the engine's own is tried, and how long it waits in between.
pub(super) const TRIES: u32 = 20;
pub(super) const STEP_BACK: Duration = Duration::from_millis(20);

/// The server's time in milliseconds since 1970.
pub(super) const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

/// Somebody else has the lease and keeps it.
#[derive(Debug, thiserror::Error)]
#[error(
    "another gateway uses this database and holds its log; stop it, or give this one a database \
     of its own"
)]
struct HeldElsewhere;

/// The lease was taken over.
#[derive(Debug, thiserror::Error)]
#[error("another gateway has taken over the log; restart this one to take part again")]
pub(super) struct Fenced;

/// Appending is the gateway's.
#[derive(Debug, thiserror::Error)]
#[error("only the gateway appends to the log of this database")]
pub(super) struct NotSequencer;

/// Takes the lease for a writer when nobody has it or it has lapsed, and returns its new number.
pub(super) fn take_lease(session: &Session, writer: &str) -> Result<i64, StoreError> {
    let began = Instant::now();
    loop {
        let left = match session.transaction(|session| try_lease(session, writer))? {
            Ok(epoch) => return Ok(epoch),
            Err(left) => left,
        };
        if began.elapsed() > PATIENCE {
            return Err(StoreError::unavailable(HeldElsewhere));
        }
        // It may be given back before it lapses.
        std::thread::sleep(left.min(Duration::from_millis(250)));
    }
}

/// The lease's new number, or how long it still belongs to somebody else.
fn try_lease(session: &Session, writer: &str) -> Result<Result<i64, Duration>, StoreError> {
    let rows = session.query(
        &format!("SELECT epoch, until - {NOW} AS remaining FROM sequencer WHERE id = 1 FOR UPDATE"),
        &[],
    )?;
    let read = |name: &str| {
        rows.first()
            .and_then(|row| row.try_get::<_, i64>(name).ok())
    };
    let (Some(epoch), Some(left)) = (read("epoch"), read("remaining")) else {
        return Err(StoreError::Corrupt("the log's lease is missing".to_owned()));
    };
    if left > 0 {
        return Ok(Err(Duration::from_millis(left.unsigned_abs())));
    }
    session.execute(
        &format!("UPDATE sequencer SET epoch = ?1, holder = ?2, until = {NOW} + ?3 WHERE id = 1"),
        &[
            Value::Integer(epoch + 1),
            Value::Text(writer),
            Value::Integer(LEASE.as_millis() as i64),
        ],
    )?;
    Ok(Ok(epoch + 1))
}
