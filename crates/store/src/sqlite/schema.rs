//! The schema: numbered steps, forward only.
//!
//! To change it: a new file under `migrations/sqlite`, a line at the end of [`MIGRATIONS`].
//! A step that has been released is never edited; its hash is kept in the store, and a store
//! whose steps differ from ours is refused.

use proof::Hash;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::sql::column;
use crate::{Conflict, StoreError};

/// Every step, in order; the first has number 1.
const MIGRATIONS: &[(&str, &str)] = &[
    (
        "0001_spine",
        include_str!("../../migrations/sqlite/0001_spine.sql"),
    ),
    (
        "0002_task_calls",
        include_str!("../../migrations/sqlite/0002_task_calls.sql"),
    ),
    (
        "0003_observations",
        include_str!("../../migrations/sqlite/0003_observations.sql"),
    ),
    (
        "0004_model_money",
        include_str!("../../migrations/sqlite/0004_model_money.sql"),
    ),
    (
        "0005_model_keys",
        include_str!("../../migrations/sqlite/0005_model_keys.sql"),
    ),
    (
        "0006_passkeys",
        include_str!("../../migrations/sqlite/0006_passkeys.sql"),
    ),
    (
        "0007_fewer_pages",
        include_str!("../../migrations/sqlite/0007_fewer_pages.sql"),
    ),
    (
        "0008_sessions",
        include_str!("../../migrations/sqlite/0008_sessions.sql"),
    ),
    (
        "0009_plan_objects",
        include_str!("../../migrations/sqlite/0009_plan_objects.sql"),
    ),
    (
        "0010_job_filters",
        include_str!("../../migrations/sqlite/0010_job_filters.sql"),
    ),
    (
        "0011_notices",
        include_str!("../../migrations/sqlite/0011_notices.sql"),
    ),
    (
        "0012_export",
        include_str!("../../migrations/sqlite/0012_export.sql"),
    ),
    (
        "0013_job_times",
        include_str!("../../migrations/sqlite/0013_job_times.sql"),
    ),
    (
        "0014_token_chains",
        include_str!("../../migrations/sqlite/0014_token_chains.sql"),
    ),
    (
        "0015_run_briefs",
        include_str!("../../migrations/sqlite/0015_run_briefs.sql"),
    ),
    (
        "0016_session_proofs",
        include_str!("../../migrations/sqlite/0016_session_proofs.sql"),
    ),
    (
        "0017_openers",
        include_str!("../../migrations/sqlite/0017_openers.sql"),
    ),
    (
        "0018_publications",
        include_str!("../../migrations/sqlite/0018_publications.sql"),
    ),
    (
        "0019_second_authors",
        include_str!("../../migrations/sqlite/0019_second_authors.sql"),
    ),
    (
        "0020_leases",
        include_str!("../../migrations/sqlite/0020_leases.sql"),
    ),
    (
        "0021_key_sets",
        include_str!("../../migrations/sqlite/0021_key_sets.sql"),
    ),
    (
        "0022_retention",
        include_str!("../../migrations/sqlite/0022_retention.sql"),
    ),
];

/// `claw` in ASCII: marks the file as ours (SQLite's `application_id`).
const APPLICATION_ID: i64 = 0x636c_6177;

/// Refuses a database of another program before anything in it is touched.
pub(super) fn check_identity(connection: &Connection) -> Result<(), StoreError> {
    let id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if id == APPLICATION_ID || (id == 0 && tables == 0) {
        Ok(())
    } else {
        Err(StoreError::Corrupt(
            "the file is a database of another program".to_owned(),
        ))
    }
}

/// The steps that the store has taken, in order.
fn taken(connection: &Connection) -> Result<Vec<(u64, Hash)>, StoreError> {
    let mut steps = connection.prepare("SELECT number, sha256 FROM migrations ORDER BY number")?;
    let rows = steps.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.map(|row| {
        let (number, sha256): (i64, [u8; 32]) = row?;
        Ok((number.unsigned_abs(), Hash::from_bytes(sha256)))
    })
    .collect()
}

/// Takes the steps that the store has not taken yet, all or none.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
            number INTEGER PRIMARY KEY,
            name   TEXT NOT NULL,
            sha256 BLOB NOT NULL
        ) STRICT",
    )?;
    let taken = taken(&transaction)?;
    if let Some((number, _)) = taken.last()
        && *number > MIGRATIONS.len() as u64
    {
        return Err(Conflict::NewerSchema {
            found: u32::try_from(*number).unwrap_or(u32::MAX),
            known: u32::try_from(MIGRATIONS.len()).expect("there are few steps"),
        }
        .into());
    }
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate() {
        let number = index as u64 + 1;
        let sha256 = Hash::of(sql.as_bytes());
        match taken.get(index) {
            Some(step) if *step == (number, sha256) => {}
            Some(_) => {
                return Err(StoreError::Corrupt(format!(
                    "step {number} of the schema is another one"
                )));
            }
            None => {
                transaction.execute_batch(sql)?;
                transaction.execute(
                    "INSERT INTO migrations (number, name, sha256) VALUES (?1, ?2, ?3)",
                    params![column::integer(number)?, name, column::bytes(&sha256)],
                )?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
