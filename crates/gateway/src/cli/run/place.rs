//! Where the bundle goes. The folder is opened before the command begins, and the file takes its
//! name by being renamed: a link that the command put there leads nowhere.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use proof::record::JobId;
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

use super::super::Failure;

/// A folder, and the file's name in it.
#[derive(Debug)]
pub(super) struct Place {
    folder: OwnedFd,
    /// As it was said; the job's name stands for none.
    named: Option<PathBuf>,
}

impl Place {
    /// # Errors
    /// When there is no such folder.
    pub(super) fn find(named: Option<&Path>) -> Result<Self, Failure> {
        let parent = named.and_then(Path::parent);
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(parent, flags, Mode::empty()).map_err(|error| {
            Failure::new(format!(
                "no bundle can be written in `{}`: {error}",
                parent.display()
            ))
            .next("no job was opened; give --bundle FILE")
        })?;
        let named = named.map(Path::to_owned);
        Ok(Self { folder, named })
    }

    /// Writes the bundle of a job; the path that people know it by.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, job: &JobId, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let default = || PathBuf::from(format!("{job}.bundle.json"));
        let shown = self.named.clone().unwrap_or_else(default);
        let failed = |error: std::io::Error| {
            Failure::new(format!("cannot write `{}`: {error}", shown.display()))
        };
        let name = shown
            .file_name()
            .ok_or_else(|| failed(std::io::ErrorKind::IsADirectory.into()))?;
        let mut first = OsString::from(".");
        first.push(name);
        first.push(format!(".{}", std::process::id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.folder, &first, flags, Mode::from_raw_mode(0o666))
            .map_err(|error| failed(error.into()))?;
        let written = std::fs::File::from(file).write_all(bytes);
        let named = written
            .and_then(|()| renameat(&self.folder, &first, &self.folder, name).map_err(Into::into));
        named.map_err(|error| {
            // What is there of it is of no use.
            let _ = unlinkat(&self.folder, &first, AtFlags::empty());
            failed(error)
        })?;
        Ok(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_bundles_place_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, named) = (folder.path().join("secret"), folder.path().join("w/b.json"));
        std::fs::create_dir(folder.path().join("w")).unwrap();
        std::fs::write(&secret, "mine").unwrap();
        let place = Place::find(Some(&named)).unwrap();
        std::os::unix::fs::symlink(&secret, &named).unwrap();
        // Nor does the folder's own name lead anywhere later.
        let moved = folder.path().join("moved");
        std::fs::rename(folder.path().join("w"), &moved).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("w")).unwrap();
        let job: JobId = "job_1".parse().unwrap();
        assert_eq!(place.write(&job, b"{}").unwrap(), named);
        assert_eq!(std::fs::read(moved.join("b.json")).unwrap(), b"{}");
        assert_eq!(std::fs::read(&secret).unwrap(), b"mine");
        assert!(Place::find(Some(&folder.path().join("none/b.json"))).is_err());
    }
}
