//! Where an export stands: a small file, replaced as a whole.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use proof::record::JobId;
use serde::{Deserialize, Serialize};

use crate::cli::Failure;
use crate::export::Of;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    export: String,
    /// Whose numbers they are.
    gateway_id: String,
    of: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
    /// The number of the last line that was written.
    last: u64,
}

const KIND: &str = "clawgate.export-state/1";

/// The file of one export.
#[derive(Debug)]
pub(super) struct State {
    file: PathBuf,
    of: Of,
    job: Option<JobId>,
    kept: Option<Document>,
    /// Held for as long as the export runs: two would write each line twice.
    lock: File,
}

impl State {
    /// Reads the file, when it is there.
    ///
    /// # Errors
    /// When it cannot be read, or is of another export.
    pub(super) fn open(file: &Path, of: Of, job: Option<&JobId>) -> Result<Self, Failure> {
        let unusable = |why: String| {
            Failure::new(format!("the state file `{}` {why}", file.display()))
                .next("name another file; without it the export begins at the beginning")
        };
        let mut name = file.as_os_str().to_owned();
        name.push(".lock");
        let lock = File::create(&name).map_err(|error| {
            unusable(format!("cannot be locked by `{}`: {error}", name.display()))
        })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(format!(
                    "another export with the state file `{}` runs",
                    file.display()
                ))
                .next("let it end, or name another file"));
            }
            Err(TryLockError::Error(error)) => {
                return Err(unusable(format!("cannot be locked: {error}")));
            }
        }
        let mut state = Self {
            file: file.to_owned(),
            of,
            job: job.cloned(),
            kept: None,
            lock,
        };
        state.kept = match std::fs::read(file) {
            Ok(bytes) => {
                let read = proof::json::from_slice::<Document>(&bytes);
                Some(read.map_err(|error| unusable(format!("cannot be understood: {error}")))?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unusable(format!("cannot be read: {error}"))),
        };
        if let Some(kept) = &state.kept
            && (kept.export != KIND || kept.of != of.as_str() || kept.job.as_ref() != job)
        {
            let job = kept.job.as_ref().map(|job| format!(" of {job}"));
            let of = format!("{}{}", kept.of, job.unwrap_or_default());
            return Err(unusable(format!("is of another export: {of}")));
        }
        Ok(state)
    }

    /// The number of the last line that was written.
    pub(super) fn last(&self) -> Option<u64> {
        self.kept.as_ref().map(|kept| kept.last)
    }

    /// Makes sure that the numbers are this gateway's.
    ///
    /// # Errors
    /// When they are another one's.
    pub(super) fn check(&self, gateway_id: &str) -> Result<(), Failure> {
        match &self.kept {
            Some(kept) if kept.gateway_id != gateway_id => Err(Failure::new(format!(
                "the state file `{}` is of the gateway `{}`, and this is `{gateway_id}`",
                self.file.display(),
                kept.gateway_id
            ))
            .next("keep one state file for each gateway")
            .lasting()),
            _ => Ok(()),
        }
    }

    /// Keeps the number of the last line. A crash leaves the file as it was or as it is to be.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn keep(&mut self, gateway_id: &str, last: u64) -> Result<(), Failure> {
        if self.last() == Some(last) {
            return Ok(());
        }
        let document = Document {
            export: KIND.to_owned(),
            gateway_id: gateway_id.to_owned(),
            of: self.of.as_str().to_owned(),
            job: self.job.clone(),
            last,
        };
        self.write(&document).map_err(|error| {
            let file = self.file.display();
            Failure::new(format!("cannot write the state file `{file}`: {error}")).lasting()
        })?;
        self.kept = Some(document);
        Ok(())
    }

    fn write(&self, document: &Document) -> io::Result<()> {
        let folder = self
            .file
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut new, document)?;
        new.write_all(b"\n")?;
        new.as_file().sync_all()?;
        new.persist(&self.file)?;
        File::open(folder)?.sync_all()
    }
}

impl Drop for State {
    /// Closing the file would do, were it not for a program that is being started just now: until
    /// it runs it has the file open, too.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_of_one_export() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        let job: JobId = "job_1".parse().unwrap();
        let mut state = State::open(&file, Of::Records, None).unwrap();
        assert_eq!(state.last(), None);
        state.check("gateway.example").unwrap();
        state.keep("gateway.example", 0).unwrap();
        state.keep("gateway.example", 7).unwrap();
        let both = State::open(&file, Of::Records, None).unwrap_err();
        assert!(both.to_string().contains("another export"), "{both}");
        drop(state);
        let again = State::open(&file, Of::Records, None).unwrap();
        assert_eq!(again.last(), Some(7));
        again.check("gateway.example").unwrap();
        assert!(again.check("other.example").unwrap_err().is_lasting());
        drop(again);
        assert!(State::open(&file, Of::Actions, None).is_err());
        assert!(State::open(&file, Of::Records, Some(&job)).is_err());
        for damaged in ["", "{}", "7", "{\"export\":\"x\"}"] {
            std::fs::write(&file, damaged).unwrap();
            assert!(State::open(&file, Of::Records, None).is_err(), "{damaged}");
        }
        let nowhere = folder.path().join("no/state");
        assert!(State::open(&nowhere, Of::Records, None).is_err());
    }
}
