//! A whole store as lines of JSON, to carry an installation from one engine to the other.
//!
//! # Format
//! - The first line: `{"clawgate_store": 1, "tables": N}`.
//! - For each table a line `{"table": NAME, "columns": [NAME, …]}`, and after it a line for each of
//!   its rows: an array of the columns' values in that order. A number is a number, a text a
//!   string, bytes are `{"b64u": TEXT}`, nothing is `null`.
//! - The last line: `{"rows": N, "sha256": HEX}`, over all bytes before it.
//!
//! Left out are sessions of browsers, which begin anew, and what belongs to one engine.

use std::io::{BufRead, Write};

use proof::hash::{Hasher, decode_b64u, encode_b64u};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::check::{self, Soundness};
use super::column::{self, Columns as _};
use super::connection::{Connection, Dialect, Param, Value};
use crate::StoreError;

/// The format's version.
const VERSION: u32 = 1;

/// Rows that are read together.
const PAGE: i64 = 200;

/// Longest line that is read: a plan's summary is the largest value, and bounded by the gateway.
const MAX_LINE: u64 = 256 << 20;

/// Every table that is carried, with its key; what a row names stands in a table before.
const TABLES: &[(&str, &[&str])] = &[
    ("contracts", &["policy_hash"]),
    ("jobs", &["job"]),
    ("records", &["leaf_index"]),
    ("leaves", &["leaf_index"]),
    ("key_sets", &["leaf_index"]),
    ("tiles", &["level", "place"]),
    ("checkpoints", &["size"]),
    ("tokens", &["id"]),
    ("revocations", &["id"]),
    ("objects", &["kind", "id"]),
    ("runs", &["id"]),
    ("run_requests", &["job", "request_hash"]),
    ("configurations", &["cv_id"]),
    ("statements", &["id"]),
    ("receipts", &["outcome"]),
    ("bundles", &["job"]),
    ("bundle_states", &["state_version_id"]),
    ("operators", &["name"]),
    ("operator_actions", &["id"]),
    ("model_usage", &["job"]),
    ("reservations", &["id"]),
    ("task_calls", &["task_result_id"]),
    ("observations", &["id"]),
    ("baselines", &["workspace_id"]),
    ("model_keys", &["job", "key"]),
    ("passkeys", &["id"]),
    ("invitations", &["email"]),
    ("plan_objects", &["run_id", "place"]),
    ("notices", &["channel", "run", "gate"]),
    ("publications", &["publication"]),
    // Before the holds: one that came too late stands beside what went.
    ("prunings", &["job", "part"]),
    ("holds", &["hold"]),
];

/// Tables that stay behind.
#[cfg(test)]
const LEFT_OUT: &[&str] = &[
    "migrations",
    "sessions",
    "sequencer",
    "writers",
    "claims",
    "renewals",
];

/// Why a store cannot be carried.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store's own trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be read or written.
    #[error("the file cannot be read or written")]
    File(#[from] std::io::Error),
    /// The file is none of ours, or was damaged or cut short.
    #[error("line {line} of the file cannot be taken: {why}")]
    Line {
        /// Which line, from 1.
        line: u64,
        /// Why.
        why: String,
    },
    /// The bytes are not those that were written.
    #[error("the file was changed or cut short: its digest is another one")]
    Digest,
    /// There is something in the store already.
    #[error("the store is not empty: `{0}` has rows")]
    NotEmpty(&'static str),
    /// What was imported is not whole. Nothing of it was kept.
    #[error("what the file holds is not whole: {}", .0.join("; "))]
    Unsound(Vec<String>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    clawgate_store: u32,
    tables: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableHead {
    table: String,
    columns: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Foot {
    rows: u64,
    sha256: String,
}

/// Writes the store as one state of it is seen, and returns how many rows that were.
pub(crate) fn export(connection: &Connection, file: &mut dyn Write) -> Result<u64, TransferError> {
    let mut out = Digested {
        file,
        hasher: Hasher::new(),
    };
    let mut rows = 0;
    out.line(&Head {
        clawgate_store: VERSION,
        tables: TABLES.len(),
    })?;
    for (table, key) in TABLES {
        let columns = columns(connection, table)?;
        out.line(&TableHead {
            table: (*table).to_owned(),
            columns: columns.clone(),
        })?;
        let mut after: Option<Vec<Owned>> = None;
        loop {
            let page = page(connection, table, key, &columns, after.as_deref())?;
            let Some(last) = page.last() else { break };
            after = Some(
                key.iter()
                    .filter_map(|name| columns.iter().position(|column| column == name))
                    .map(|place| last[place].clone())
                    .collect(),
            );
            for row in &page {
                out.line(&row.iter().map(Owned::to_json).collect::<Vec<_>>())?;
            }
            rows += page.len() as u64;
        }
    }
    let sha256 = out.hasher.finish().to_hex();
    let foot = serde_json::to_string(&Foot { rows, sha256 }).map_err(std::io::Error::from)?;
    writeln!(out.file, "{foot}")?;
    out.file.flush()?;
    Ok(rows)
}

/// Reads a file into an empty store and checks it; in a transaction of the caller's, who keeps it
/// only when this succeeds.
pub(crate) fn import(
    connection: &Connection,
    file: &mut dyn BufRead,
) -> Result<Soundness, TransferError> {
    for (table, _) in TABLES {
        let sql = format!("SELECT 1 AS one FROM {table} LIMIT 1");
        if column::one(connection, &sql, [], |row| row.int("one"))?.is_some() {
            return Err(TransferError::NotEmpty(table));
        }
    }
    let mut lines = Lines {
        file,
        hasher: Hasher::new(),
        number: 0,
        line: Vec::new(),
    };
    let head: Head = lines.next()?;
    if head.clawgate_store != VERSION || head.tables > TABLES.len() {
        return Err(lines.refused("it was written by a newer version of this program"));
    }
    let (mut rows, mut tables) = (0, 0);
    let mut insert = String::new();
    let mut width = 0;
    loop {
        let digest = lines.hasher.clone();
        let line: Json = lines.next()?;
        match line {
            Json::Array(values) if values.len() == width && width > 0 => {
                let values: Vec<Owned> = values
                    .into_iter()
                    .map(Owned::from_json)
                    .collect::<Option<_>>()
                    .ok_or_else(|| lines.refused("a value is of no known kind"))?;
                connection.execute(&insert, values.as_slice())?;
                rows += 1;
            }
            Json::Object(_) if line.get("table").is_some() => {
                let table: TableHead = serde_json::from_value(line)
                    .map_err(|_| lines.refused("it does not begin a table"))?;
                let known = TABLES.iter().position(|(name, _)| *name == table.table);
                // In their order, each once: what a row names is there before it.
                if known.is_none_or(|known| known < tables) {
                    return Err(lines.refused("the table is unknown, or not in its place"));
                }
                tables = known.map_or(tables, |known| known + 1);
                let there = columns(connection, &table.table)?;
                if let Some(new) = table.columns.iter().find(|column| !there.contains(column)) {
                    let why = format!("this program knows no column `{new}` there");
                    return Err(lines.refused(&why));
                }
                width = table.columns.len();
                let places: Vec<String> = (1..=width).map(|n| format!("?{n}")).collect();
                insert = format!(
                    "INSERT INTO {} ({}) VALUES ({})",
                    table.table,
                    quoted(&table.columns),
                    places.join(", ")
                );
            }
            Json::Object(_) => {
                let foot: Foot = serde_json::from_value(line)
                    .map_err(|_| lines.refused("it is neither a table nor the end"))?;
                if foot.rows != rows || foot.sha256 != digest.finish().to_hex() {
                    return Err(TransferError::Digest);
                }
                break;
            }
            _ => return Err(lines.refused("the row has another number of values than its table")),
        }
    }
    if !lines.at_end()? {
        return Err(lines.refused("something follows the end"));
    }
    let soundness = check::check(connection)?;
    match soundness.faults.is_empty() {
        true => Ok(soundness),
        false => Err(TransferError::Unsound(soundness.faults)),
    }
}

/// The columns of a table of ours, in its order, but for the one that says which of a server's
/// writers is in the middle of a row.
fn columns(connection: &Connection, table: &str) -> Result<Vec<String>, StoreError> {
    let sql = match connection.dialect() {
        Dialect::Sqlite => "SELECT name FROM pragma_table_info(?1) ORDER BY cid",
        Dialect::Postgres => {
            "SELECT CAST(column_name AS TEXT) AS name FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = ?1
               AND column_name <> 'writer' ORDER BY ordinal_position"
        }
    };
    column::all(connection, sql, [table], |row| row.text("name"))
}

fn quoted(columns: &[String]) -> String {
    let quoted: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}

/// The next rows in the order of the key.
fn page(
    connection: &Connection,
    table: &str,
    key: &[&str],
    columns: &[String],
    after: Option<&[Owned]>,
) -> Result<Vec<Vec<Owned>>, StoreError> {
    let order = key.join(", ");
    let beyond = match after {
        None => String::new(),
        Some(after) => {
            let places: Vec<String> = (1..=after.len()).map(|n| format!("?{n}")).collect();
            format!("WHERE ({order}) > ({})", places.join(", "))
        }
    };
    let sql = format!(
        "SELECT {} FROM {table} {beyond} ORDER BY {order} LIMIT {PAGE}",
        quoted(columns)
    );
    column::all(connection, &sql, after.unwrap_or_default(), |row| {
        columns
            .iter()
            .map(|name| row.value(name).map(Owned::from))
            .collect()
    })
}

/// A value that outlives its row.
#[derive(Debug, Clone, PartialEq)]
enum Owned {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl From<Value<'_>> for Owned {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(value) => Self::Integer(value),
            Value::Text(value) => Self::Text(value.to_owned()),
            Value::Blob(value) => Self::Blob(value.to_vec()),
        }
    }
}

impl Param for Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(value) => Value::Integer(*value),
            Self::Text(value) => Value::Text(value),
            Self::Blob(value) => Value::Blob(value),
        }
    }
}

impl Owned {
    fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Integer(value) => json!(value),
            Self::Text(value) => json!(value),
            Self::Blob(value) => json!({ "b64u": encode_b64u(value) }),
        }
    }

    fn from_json(json: Json) -> Option<Self> {
        Some(match json {
            Json::Null => Self::Null,
            Json::Number(value) => Self::Integer(value.as_i64()?),
            Json::String(value) => Self::Text(value),
            Json::Object(members) if members.len() == 1 => {
                Self::Blob(decode_b64u(members.get("b64u")?.as_str()?).ok()?)
            }
            _ => return None,
        })
    }
}

/// Writes lines and digests them.
struct Digested<'f> {
    file: &'f mut dyn Write,
    hasher: Hasher,
}

impl Digested<'_> {
    fn line(&mut self, line: &impl Serialize) -> Result<(), TransferError> {
        let mut bytes = serde_json::to_vec(line).map_err(std::io::Error::from)?;
        bytes.push(b'\n');
        self.hasher.update(&bytes);
        self.file.write_all(&bytes)?;
        Ok(())
    }
}

/// Reads lines and digests them.
struct Lines<'f> {
    file: &'f mut dyn BufRead,
    hasher: Hasher,
    number: u64,
    line: Vec<u8>,
}

impl Lines<'_> {
    fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, TransferError> {
        use std::io::Read as _;

        self.number += 1;
        self.line.clear();
        let read = (&mut *self.file)
            .take(MAX_LINE)
            .read_until(b'\n', &mut self.line)?;
        self.hasher.update(&self.line);
        if read == 0 || self.line.last() != Some(&b'\n') {
            return Err(self.refused("the file ends here, without its end"));
        }
        serde_json::from_slice(&self.line).map_err(|_| self.refused("it is none of ours"))
    }

    fn at_end(&mut self) -> Result<bool, TransferError> {
        Ok(self.file.fill_buf()?.is_empty())
    }

    fn refused(&self, why: &str) -> TransferError {
        TransferError::Line {
            line: self.number,
            why: why.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new table is either carried or left behind on purpose.
    #[test]
    fn every_table_is_known_here() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        crate::sqlite::schema::migrate(&mut connection).unwrap();
        let connection = Connection::Sqlite(crate::sqlite::Session::new(connection));
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
        let tables = column::all(&connection, sql, [], |row| row.text("name")).unwrap();
        for table in &tables {
            let carried = TABLES.iter().any(|(name, _)| name == table);
            assert!(carried != LEFT_OUT.contains(&table.as_str()), "{table}");
        }
        for (table, key) in TABLES {
            assert!(tables.iter().any(|name| name == table), "{table}");
            let columns = columns(&connection, table).unwrap();
            for name in *key {
                assert!(
                    columns.iter().any(|column| column == name),
                    "{table}.{name}"
                );
            }
        }
    }
}
