//! The schema: numbered steps, forward only.
//!
//! To change it: a new file under `migrations/postgres`, a line at the end of [`MIGRATIONS`], in
//! step with SQLite's. A step that has been released is never edited; its hash is kept in the
//! store, and a store whose steps differ from ours is refused.

use proof::Hash;

use super::session::Session;
use crate::sql::connection::Value;
use crate::{Conflict, StoreError};

/// Every step, in order; the first has number 1 and is what SQLite has after its eighteenth.
const MIGRATIONS: &[(&str, &str)] = &[
    (
        "0001_all",
        include_str!("../../migrations/postgres/0001_all.sql"),
    ),
    (
        "0002_second_authors",
        include_str!("../../migrations/postgres/0002_second_authors.sql"),
    ),
    (
        "0003_leases",
        include_str!("../../migrations/postgres/0003_leases.sql"),
    ),
    (
        "0004_key_sets",
        include_str!("../../migrations/postgres/0004_key_sets.sql"),
    ),
    (
        "0005_replicas",
        include_str!("../../migrations/postgres/0005_replicas.sql"),
    ),
    (
        "0006_retention",
        include_str!("../../migrations/postgres/0006_retention.sql"),
    ),
    (
        "0007_keys_in_use",
        include_str!("../../migrations/postgres/0007_keys_in_use.sql"),
    ),
];

/// Takes the steps that the store has not taken yet, all or none.
pub(crate) fn migrate(session: &Session) -> Result<(), StoreError> {
    session.transaction(|session| {
        let found = session.query(
            "SELECT count(*) AS tables,
                 count(*) FILTER (WHERE table_name = 'migrations') AS ours
             FROM information_schema.tables WHERE table_schema = current_schema()",
            &[],
        )?;
        let count = |name| {
            found
                .first()
                .map_or(0_i64, |row| row.try_get(name).unwrap_or(0))
        };
        if count("ours") == 0 {
            if count("tables") > 0 {
                return Err(StoreError::Corrupt(
                    "the database's schema holds tables of another program".to_owned(),
                ));
            }
            session.batch(
                "CREATE TABLE migrations (
                    number BIGINT PRIMARY KEY,
                    name   TEXT NOT NULL,
                    sha256 BYTEA NOT NULL
                )",
            )?;
        }
        let taken = session.query("SELECT number, sha256 FROM migrations ORDER BY number", &[])?;
        let mut steps: Vec<(i64, Vec<u8>)> = Vec::new();
        for row in &taken {
            let step = row
                .try_get("number")
                .and_then(|number| Ok((number, row.try_get("sha256")?)));
            steps.push(step.map_err(|_| {
                StoreError::Corrupt("the database's schema is another program's".to_owned())
            })?);
        }
        if let Some((number, _)) = steps.last()
            && *number > MIGRATIONS.len() as i64
        {
            return Err(Conflict::NewerSchema {
                found: u32::try_from(*number).unwrap_or(u32::MAX),
                known: u32::try_from(MIGRATIONS.len()).expect("there are few steps"),
            }
            .into());
        }
        for (index, (name, sql)) in MIGRATIONS.iter().enumerate() {
            let number = index as i64 + 1;
            let sha256 = Hash::of(sql.as_bytes());
            match steps.get(index) {
                Some(step) if *step == (number, sha256.as_bytes().to_vec()) => {}
                Some(_) => {
                    return Err(StoreError::Corrupt(format!(
                        "step {number} of the schema is another one"
                    )));
                }
                None => {
                    session.batch(sql)?;
                    session.execute(
                        "INSERT INTO migrations (number, name, sha256) VALUES (?1, ?2, ?3)",
                        &[
                            Value::Integer(number),
                            Value::Text(name),
                            Value::Blob(sha256.as_bytes()),
                        ],
                    )?;
                }
            }
        }
        Ok(())
    })
}
