//! What lies in a vault's folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use proof::{Hash, Timestamp};

use super::notes::{Note, What};
use super::{PART, SEALED, opened};

/// A file of a vault's folder. Ordered by age, the oldest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SealedFile {
    pub(super) modified: SystemTime,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) kind: Kind,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Whole, and of which content.
    Sealed(Option<Hash>),
    /// Being written, or cut off.
    Part,
}

impl SealedFile {
    /// What is noted when it is removed; what never was content is not missed.
    pub(super) fn note(&self, at: Timestamp, why: &str) -> Option<Note> {
        match self.kind {
            Kind::Sealed(digest) => Some(Note {
                sha256_b64u: Some(digest?),
                ..Note::new(at, What::Removed, why)
            }),
            Kind::Part => None,
        }
    }
}

/// Looks at each sealed file and each that was never finished.
pub(super) fn for_each_file(
    folder: &Path,
    mut seen: impl FnMut(SealedFile) -> io::Result<()>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let kind = match path.extension().and_then(|end| end.to_str()) {
            Some(SEALED) => Kind::Sealed(opened::digest_of(&path)),
            Some(PART) => Kind::Part,
            _ => continue,
        };
        let metadata = match entry.metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => continue,
            // Finished or removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let modified = metadata.modified()?;
        let bytes = metadata.len();
        seen(SealedFile {
            modified,
            path,
            bytes,
            kind,
        })?;
    }
    Ok(())
}
