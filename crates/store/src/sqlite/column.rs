//! Values in columns: how each type is written, and how it is read back or found damaged.

use std::str::FromStr;

use proof::approval::SignedStatement;
use proof::{Envelope, Hash, Timestamp};
use rusqlite::{Connection, ErrorCode, Params, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match &error {
            E::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy,
                // Each write checks its conditions first, under the write lock; a constraint that
                // breaks all the same means that the store is not what the code believes.
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch => Self::Corrupt(error.to_string()),
                _ => Self::unavailable(error),
            },
            E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..)
            | E::QueryReturnedNoRows => Self::Corrupt(error.to_string()),
            _ => Self::unavailable(error),
        }
    }
}

/// A hash as it is written.
pub(super) fn bytes(hash: &Hash) -> &[u8] {
    hash.as_bytes()
}

/// A hash that may be absent.
pub(super) fn bytes_opt(hash: &Option<Hash>) -> Option<&[u8]> {
    hash.as_ref().map(bytes)
}

/// A time that may be absent.
pub(super) fn millis_opt(at: &Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::millis)
}

/// A count; SQLite's integers end at 2^63.
pub(super) fn integer(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|error| StoreError::Corrupt(format!("count {value}: {error}")))
}

/// A document as JSON text, members in their order.
pub(super) fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Corrupt(format!("a document is no JSON: {error}")))
}

/// A document that may be absent.
pub(super) fn json_opt(value: &Option<impl Serialize>) -> Result<Option<String>, StoreError> {
    value.as_ref().map(json).transpose()
}

/// A signed document as JSON bytes.
pub(super) fn envelope(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    json(value).map(String::into_bytes)
}

/// Typed reading of a row. A value that cannot be read is [`StoreError::Corrupt`] and names its
/// column.
pub(super) trait Columns {
    fn text(&self, name: &str) -> Result<String, StoreError>;
    fn text_opt(&self, name: &str) -> Result<Option<String>, StoreError>;
    fn uint(&self, name: &str) -> Result<u64, StoreError>;
    fn flag(&self, name: &str) -> Result<bool, StoreError>;
    fn time(&self, name: &str) -> Result<Timestamp, StoreError>;
    fn time_opt(&self, name: &str) -> Result<Option<Timestamp>, StoreError>;
    fn hash(&self, name: &str) -> Result<Hash, StoreError>;
    fn hash_opt(&self, name: &str) -> Result<Option<Hash>, StoreError>;
    fn blob(&self, name: &str) -> Result<Vec<u8>, StoreError>;
    fn blob_opt(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// A text that has a type of its own.
    fn parsed<T: FromStr>(&self, name: &str) -> Result<T, StoreError> {
        self.text(name)?.parse().map_err(|_| damaged(name))
    }

    /// A document.
    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(name)?).map_err(|_| damaged(name))
    }

    /// A document that may be absent.
    fn json_opt<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        match self.text_opt(name)? {
            None => Ok(None),
            Some(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|_| damaged(name)),
        }
    }

    /// An envelope.
    fn envelope(&self, name: &str) -> Result<Envelope, StoreError> {
        Envelope::parse(&self.blob(name)?).map_err(|_| damaged(name))
    }

    /// An envelope that may be absent.
    fn envelope_opt(&self, name: &str) -> Result<Option<Envelope>, StoreError> {
        match self.blob_opt(name)? {
            None => Ok(None),
            Some(bytes) => Envelope::parse(&bytes).map(Some).map_err(|_| damaged(name)),
        }
    }

    /// An approver's signed statement.
    fn statement(&self, name: &str) -> Result<SignedStatement, StoreError> {
        proof::json::from_slice(&self.blob(name)?).map_err(|_| damaged(name))
    }
}

/// A column whose value cannot be read.
pub(super) fn damaged(name: &str) -> StoreError {
    StoreError::Corrupt(format!("column `{name}` cannot be read"))
}

impl Columns for Row<'_> {
    fn text(&self, name: &str) -> Result<String, StoreError> {
        Ok(self.get(name)?)
    }

    fn text_opt(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.get(name)?)
    }

    fn uint(&self, name: &str) -> Result<u64, StoreError> {
        let value: i64 = self.get(name)?;
        u64::try_from(value).map_err(|_| damaged(name))
    }

    fn flag(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.get(name)?)
    }

    fn time(&self, name: &str) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_millis(self.get(name)?))
    }

    fn time_opt(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        let value: Option<i64> = self.get(name)?;
        Ok(value.map(Timestamp::from_millis))
    }

    fn hash(&self, name: &str) -> Result<Hash, StoreError> {
        let value: [u8; 32] = self.get(name)?;
        Ok(Hash::from_bytes(value))
    }

    fn hash_opt(&self, name: &str) -> Result<Option<Hash>, StoreError> {
        let value: Option<[u8; 32]> = self.get(name)?;
        Ok(value.map(Hash::from_bytes))
    }

    fn blob(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        Ok(self.get(name)?)
    }

    fn blob_opt(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get(name)?)
    }
}

/// Reads every row of a query.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Reads the first row of a query, if there is one.
pub(super) fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

/// Runs a statement and tells how many rows it changed.
pub(super) fn change(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<usize, StoreError> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}
