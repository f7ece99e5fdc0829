//! Where the store is, and how it is opened: a file in the data folder, or a database that the
//! configuration names.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use store::{PostgresPlace, Seat, Store, StoreError, StorePlace};

use crate::config::Config;
use crate::upstream;

/// Where the store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// SQLite's file.
    File(PathBuf),
    /// A PostgreSQL database, or one that speaks its protocol.
    Database(Box<PostgresPlace>),
}

impl Place {
    /// The place that the configuration names. The database's address is fetched now, since it
    /// holds a password.
    ///
    /// # Errors
    /// When the address cannot be had or used; the text never repeats it.
    pub async fn of(config: &Config) -> anyhow::Result<Self> {
        let settings = &config.store;
        let Some(source) = &settings.url else {
            return Ok(Self::File(config.store_file()));
        };
        let address = source.fetch().await.context("cannot fetch store.url")?;
        let tls = upstream::tls_client(settings.ca_file.as_deref())
            .context("cannot read store.ca_file")?;
        let place = PostgresPlace::parse(address.expose(), Some(tls), settings.allow_plaintext);
        Ok(Self::Database(Box::new(place.context("store.url")?)))
    }

    /// The place for people; never the password.
    pub fn name(&self) -> String {
        match self {
            Self::File(file) => file.display().to_string(),
            Self::Database(place) => format!("PostgreSQL at {}", place.name()),
        }
    }

    /// The same, for what is done with a whole store.
    pub fn of_store(&self) -> StorePlace<'_> {
        match self {
            Self::File(file) => StorePlace::File(file),
            Self::Database(place) => StorePlace::Database(place),
        }
    }

    /// Whether nothing was ever stored here; of a database only opening it can tell.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::File(file) if !file.exists())
    }

    /// Opens it, and makes it when it is not there.
    ///
    /// # Errors
    /// Those of [`store::open_sqlite_as`] and [`store::open_postgres`].
    pub fn open(&self, seat: Seat) -> Result<Arc<dyn Store>, StoreError> {
        match self {
            Self::File(file) => store::open_sqlite_as(file, seat),
            Self::Database(place) => store::open_postgres(place, seat),
        }
    }
}
