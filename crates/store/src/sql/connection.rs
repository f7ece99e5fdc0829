//! One connection to either engine, and what passes through it.
//!
//! The statements in this folder are written once, in what both engines understand: numbered
//! parameters (`?1`), `ON CONFLICT`, `RETURNING`, partial indexes. Ids are given by the statement
//! that inserts, never by the engine. Where one engine has to be told more than the other, the
//! statement asks for [`Connection::dialect`].

use rusqlite::types::{ToSqlOutput, ValueRef};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::StoreError;
use crate::postgres::Session;
use crate::sqlite::Session as FileSession;

/// A connection, used by one thread.
pub(crate) enum Connection {
    /// To a file or to memory.
    Sqlite(FileSession),
    /// To a server.
    Postgres(Box<Session>),
}

/// What a statement may be written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// A value on its way into a statement or out of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'v> {
    Null,
    Integer(i64),
    Text(&'v str),
    Blob(&'v [u8]),
}

/// What can stand in a statement.
pub(crate) trait Param {
    fn value(&self) -> Value<'_>;
}

impl<T: Param + ?Sized> Param for &T {
    fn value(&self) -> Value<'_> {
        (**self).value()
    }
}

impl<T: Param> Param for Option<T> {
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Param::value)
    }
}

impl Param for Value<'_> {
    fn value(&self) -> Value<'_> {
        *self
    }
}

impl Param for i64 {
    fn value(&self) -> Value<'_> {
        Value::Integer(*self)
    }
}

impl Param for u32 {
    fn value(&self) -> Value<'_> {
        Value::Integer(i64::from(*self))
    }
}

impl Param for bool {
    fn value(&self) -> Value<'_> {
        Value::Integer(i64::from(*self))
    }
}

impl Param for str {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Param for String {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Param for [u8] {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl Param for Vec<u8> {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

/// The values of a statement's parameters, in their order.
pub(crate) trait Params {
    fn values(&self) -> Vec<Value<'_>>;
}

impl Params for [Value<'_>; 0] {
    fn values(&self) -> Vec<Value<'_>> {
        Vec::new()
    }
}

impl<T: Param> Params for [T; 1] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(Param::value).collect()
    }
}

impl<T: Param> Params for [T; 2] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(Param::value).collect()
    }
}

impl<T: Param> Params for &[T] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(Param::value).collect()
    }
}

/// Values of different types as [`Params`].
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::sql::connection::Param::value(&$value)),*][..]
    };
}
pub(crate) use params;

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Value::Null => ValueRef::Null,
            Value::Integer(value) => ValueRef::Integer(value),
            Value::Text(value) => ValueRef::Text(value.as_bytes()),
            Value::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

type Unfit = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Unfit> {
        match *self {
            Value::Null => return Ok(IsNull::Yes),
            Value::Text(value) => out.extend_from_slice(value.as_bytes()),
            Value::Blob(value) => out.extend_from_slice(value),
            Value::Integer(value) if *ty == Type::INT8 => {
                out.extend_from_slice(&value.to_be_bytes());
            }
            Value::Integer(value) if *ty == Type::INT4 => {
                out.extend_from_slice(&i32::try_from(value)?.to_be_bytes());
            }
            Value::Integer(_) => return Err(format!("a number where `{ty}` is asked").into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'v> FromSql<'v> for Value<'v> {
    fn from_sql(ty: &Type, raw: &'v [u8]) -> Result<Self, Unfit> {
        Ok(match *ty {
            Type::INT8 => Self::Integer(i64::from_be_bytes(raw.try_into()?)),
            Type::INT4 => Self::Integer(i64::from(i32::from_be_bytes(raw.try_into()?))),
            Type::BOOL => Self::Integer(i64::from(raw != [0])),
            Type::TEXT | Type::VARCHAR | Type::NAME => Self::Text(std::str::from_utf8(raw)?),
            Type::BYTEA => Self::Blob(raw),
            _ => return Err(format!("a column of type `{ty}`").into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Unfit> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A row of an answer.
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row),
}

impl Row<'_> {
    /// The column of this name; the first, when there are two.
    pub(crate) fn value(&self, name: &str) -> Result<Value<'_>, StoreError> {
        match self {
            Self::Sqlite(row) => {
                let index = row.as_ref().column_index(name)?;
                Ok(match row.get_ref(index)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(value) => Value::Integer(value),
                    ValueRef::Text(value) => Value::Text(
                        std::str::from_utf8(value).map_err(|_| super::column::damaged(name))?,
                    ),
                    ValueRef::Blob(value) => Value::Blob(value),
                    ValueRef::Real(_) => return Err(super::column::damaged(name)),
                })
            }
            Self::Postgres(row) => row.try_get(name).map_err(|_| super::column::damaged(name)),
        }
    }
}

impl Connection {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Gives the rows of an answer to `each`, until that says false.
    pub(crate) fn query(
        &self,
        sql: &str,
        params: impl Params,
        mut each: impl FnMut(&Row<'_>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let values = params.values();
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query(rusqlite::params_from_iter(&values))?;
                while let Some(row) = rows.next()? {
                    if !each(&Row::Sqlite(row))? {
                        break;
                    }
                }
            }
            Self::Postgres(session) => {
                for row in session.query(sql, &values)? {
                    if !each(&Row::Postgres(&row))? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs a statement and tells how many rows it changed.
    pub(crate) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        let values = params.values();
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let executed = statement.execute(rusqlite::params_from_iter(&values));
                executed.map_err(|error| connection.noted(error))
            }
            Self::Postgres(session) => session.execute(sql, &values),
        }
    }

    /// Runs statements without parameters, one after the other.
    pub(crate) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Self::Postgres(session) => session.batch(sql),
        }
    }

    /// Begins the transaction of a batch of writes.
    pub(crate) fn begin(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(session) => session.begin(),
            Self::Postgres(session) => session.begin(),
        }
    }

    /// Commits it. After an error nothing of it counts; PostgreSQL's says so if that is not known.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(session) => session.commit(),
            Self::Postgres(session) => session.commit(),
        }
    }

    /// Undoes the transaction, if there still is one.
    pub(crate) fn rollback(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) if !self.in_transaction() => Ok(()),
            Self::Sqlite(_) => self.execute("ROLLBACK", []).map(drop),
            Self::Postgres(session) => session.rollback(),
        }
    }

    /// Whether the transaction still stands. Some errors end all of it; going on would write
    /// outside of one.
    pub(crate) fn in_transaction(&self) -> bool {
        match self {
            Self::Sqlite(connection) => !connection.is_autocommit(),
            Self::Postgres(session) => session.in_transaction(),
        }
    }

    /// Whether the transaction failed because of another one, so that it may be tried again.
    pub(crate) fn conflicted(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(session) => session.conflicted(),
        }
    }

    /// Refuses whoever may not append to the log.
    pub(crate) fn check_sequencer(&self) -> Result<(), StoreError> {
        match self {
            // Whoever has the file's write lock appends.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(session) => session.check_sequencer(),
        }
    }

    /// Writes down which key set this gateway has taken up, where others may ask.
    pub(crate) fn took_up(&self, key_set: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(session) => session.took_up(key_set),
        }
    }

    /// Something changed that other gateways know by heart: they look once this is committed.
    pub(crate) fn announce(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(session) => session.announce(),
        }
    }

    /// How often an empty batch is due when there is nothing to write.
    pub(crate) fn pulse(&self) -> Option<std::time::Duration> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(session) => session.pulse(),
        }
    }

    /// Runs a read that sees one state of the store.
    pub(crate) fn in_snapshot<T>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self {
            Self::Sqlite(_) => self.execute("BEGIN DEFERRED", []).map(drop)?,
            Self::Postgres(session) => session.begin_reading()?,
        }
        let result = work(self);
        // What was only read is ended either way.
        let ended = self.rollback();
        let result = result?;
        ended.map(|()| result)
    }
}
