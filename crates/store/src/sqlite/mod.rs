//! The embedded engine.

use std::path::Path;
use std::sync::Arc;

use crate::{Store, StoreError};

/// Opens the store in the file `path`, and makes it when it is not there.
///
/// # Errors
/// [`StoreError`].
pub fn open_sqlite(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
    let _ = path;
    Err(StoreError::unavailable(std::io::Error::other(
        "being written",
    )))
}

/// A store that ends with its process, for tests.
///
/// # Errors
/// [`StoreError`].
pub fn open_sqlite_in_memory() -> Result<Arc<dyn Store>, StoreError> {
    Err(StoreError::unavailable(std::io::Error::other(
        "being written",
    )))
}
