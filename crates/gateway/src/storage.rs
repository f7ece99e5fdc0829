//! Where the store is, and how it is opened: a file in the data folder, or a database that the
//! configuration names.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
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

/// How the folder begins in which a copy is made, and the file in it that its maker has locked.
const COPY: &str = ".backup.";
const LOCK: &str = "making";

/// A folder for a copy of the store that is not whole yet. It goes with this, and after a crash with
/// the next [`sweep_backups`].
#[derive(Debug)]
pub struct BeingMade {
    folder: tempfile::TempDir,
    _lock: File,
}

impl BeingMade {
    /// A new one in this folder.
    ///
    /// # Errors
    /// When nothing can be made there.
    pub fn within(folder: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(COPY).tempdir_in(folder)?;
        let lock = File::create_new(folder.path().join(LOCK))?;
        // Where there are no locks nothing is swept either.
        let _ = lock.try_lock();
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes copies of the store in this folder whose makers are gone; how many there were.
///
/// # Errors
/// When the folder cannot be read or a copy does not go.
pub fn sweep_backups(folder: &Path) -> io::Result<usize> {
    let mut gone = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let named = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(COPY));
        if !named || !entry.file_type()?.is_dir() {
            continue;
        }
        // One without it was not begun, or is none of ours.
        let lock = File::options().write(true).open(entry.path().join(LOCK));
        let Ok(lock) = lock else {
            continue;
        };
        if lock.try_lock().is_ok() {
            fs::remove_dir_all(entry.path())?;
            gone += 1;
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_goes_when_nobody_makes_it_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let making = BeingMade::within(folder.path()).unwrap();
        let left = folder.path().join(".backup.killed");
        let others = [".backup.other", "backup.mine"].map(|name| folder.path().join(name));
        for place in others.iter().chain([&left]) {
            fs::create_dir(place).unwrap();
            fs::write(place.join("clawgate.db"), b"half").unwrap();
        }
        for locked in [&left, &others[1]] {
            fs::write(locked.join(LOCK), b"").unwrap();
        }
        assert_eq!(sweep_backups(folder.path()).unwrap(), 1);
        assert!(!left.exists() && making.path().exists());
        assert!(others.iter().all(|place| place.exists()));
        drop(making);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), others.len());
    }
}
