//! Values in columns: how each type is written, and how it is read back or found damaged.

use std::str::FromStr;

use proof::approval::SignedStatement;
use proof::{Envelope, Hash, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{Connection, Params, Row, Value};
use crate::StoreError;

/// A hash as it is written.
pub(crate) fn bytes(hash: &Hash) -> &[u8] {
    hash.as_bytes()
}

/// A hash that may be absent.
pub(crate) fn bytes_opt(hash: &Option<Hash>) -> Option<&[u8]> {
    hash.as_ref().map(bytes)
}

/// A time that may be absent.
pub(crate) fn millis_opt(at: &Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::millis)
}

/// A count; the engines' integers end at 2^63.
pub(crate) fn integer(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|error| StoreError::Corrupt(format!("count {value}: {error}")))
}

/// A document as JSON text, members in their order.
pub(crate) fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Corrupt(format!("a document is no JSON: {error}")))
}

/// A document that may be absent.
pub(crate) fn json_opt(value: &Option<impl Serialize>) -> Result<Option<String>, StoreError> {
    value.as_ref().map(json).transpose()
}

/// A signed document as JSON bytes.
pub(crate) fn envelope(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    json(value).map(String::into_bytes)
}

/// Typed reading of a row. A value that cannot be read is [`StoreError::Corrupt`] and names its
/// column.
pub(crate) trait Columns {
    fn text(&self, name: &str) -> Result<String, StoreError>;
    fn text_opt(&self, name: &str) -> Result<Option<String>, StoreError>;
    fn int_opt(&self, name: &str) -> Result<Option<i64>, StoreError>;
    fn blob_opt(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    fn int(&self, name: &str) -> Result<i64, StoreError> {
        self.int_opt(name)?.ok_or_else(|| damaged(name))
    }

    fn uint(&self, name: &str) -> Result<u64, StoreError> {
        u64::try_from(self.int(name)?).map_err(|_| damaged(name))
    }

    fn flag(&self, name: &str) -> Result<bool, StoreError> {
        match self.int(name)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(damaged(name)),
        }
    }

    fn time(&self, name: &str) -> Result<Timestamp, StoreError> {
        self.int(name).map(Timestamp::from_millis)
    }

    fn time_opt(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.int_opt(name)?.map(Timestamp::from_millis))
    }

    fn blob(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        self.blob_opt(name)?.ok_or_else(|| damaged(name))
    }

    fn hash(&self, name: &str) -> Result<Hash, StoreError> {
        self.hash_opt(name)?.ok_or_else(|| damaged(name))
    }

    fn hash_opt(&self, name: &str) -> Result<Option<Hash>, StoreError> {
        match self.blob_opt(name)? {
            None => Ok(None),
            Some(bytes) => match <[u8; 32]>::try_from(bytes) {
                Ok(bytes) => Ok(Some(Hash::from_bytes(bytes))),
                Err(_) => Err(damaged(name)),
            },
        }
    }

    /// A text that has a type of its own.
    fn parsed<T: FromStr>(&self, name: &str) -> Result<T, StoreError> {
        self.text(name)?.parse().map_err(|_| damaged(name))
    }

    /// The same, when it may be absent.
    fn parsed_opt<T: FromStr>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let text = self.text_opt(name)?;
        text.map(|text| text.parse().map_err(|_| damaged(name)))
            .transpose()
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
pub(crate) fn damaged(name: &str) -> StoreError {
    StoreError::Corrupt(format!("column `{name}` cannot be read"))
}

impl Columns for Row<'_> {
    fn text(&self, name: &str) -> Result<String, StoreError> {
        self.text_opt(name)?.ok_or_else(|| damaged(name))
    }

    fn text_opt(&self, name: &str) -> Result<Option<String>, StoreError> {
        match self.value(name)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text.to_owned())),
            _ => Err(damaged(name)),
        }
    }

    fn int_opt(&self, name: &str) -> Result<Option<i64>, StoreError> {
        match self.value(name)? {
            Value::Null => Ok(None),
            Value::Integer(value) => Ok(Some(value)),
            _ => Err(damaged(name)),
        }
    }

    fn blob_opt(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.value(name)? {
            Value::Null => Ok(None),
            Value::Blob(bytes) => Ok(Some(bytes.to_vec())),
            _ => Err(damaged(name)),
        }
    }
}

/// Reads every row of a query.
pub(crate) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut found = Vec::new();
    connection.query(sql, params, |row| {
        found.push(read(row)?);
        Ok(true)
    })?;
    Ok(found)
}

/// Reads the first row of a query, if there is one.
pub(crate) fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut found = None;
    connection.query(sql, params, |row| {
        found = Some(read(row)?);
        Ok(false)
    })?;
    Ok(found)
}

/// Runs a statement and tells how many rows it changed.
pub(crate) fn change(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<usize, StoreError> {
    connection.execute(sql, params)
}
