//! The private folder in which an engine works.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use flate2::read::GzDecoder;
use tar::{Archive, EntryType};
use tempfile::TempDir;

use super::{EngineError, PlanOrder, Providers};

/// The most entries of an upload.
const MOST_ENTRIES: usize = 10_000;
/// The most bytes of an upload, unpacked.
const MOST_BYTES: u64 = 256 << 20;

/// A folder that only this process's user can enter; it goes when it is dropped.
#[derive(Debug)]
pub(crate) struct PrivateFolder {
    root: TempDir,
    working_directory: PathBuf,
}

impl PrivateFolder {
    /// Makes a folder with everything that an order needs. Blocks.
    pub(crate) fn prepare(order: &PlanOrder, providers: &Providers) -> Result<Self, EngineError> {
        let root = TempDir::with_prefix("clawgate-sim-").map_err(EngineError::Folder)?;
        let configuration = root.path().join("configuration");
        for folder in [
            &configuration,
            &root.path().join("home"),
            &root.path().join("no-providers"),
        ] {
            std::fs::create_dir(folder).map_err(EngineError::Folder)?;
        }
        unpack(&order.configuration, &configuration).map_err(EngineError::Unpack)?;
        let working_directory = match &order.working_directory {
            Some(inner) => inside(&configuration, inner).map_err(EngineError::Folder)?,
            None => configuration,
        };
        let folder = Self {
            root,
            working_directory,
        };
        folder
            .write(order, providers)
            .map_err(EngineError::Folder)?;
        Ok(folder)
    }

    fn write(&self, order: &PlanOrder, providers: &Providers) -> io::Result<()> {
        if let Some(state) = &order.state {
            std::fs::write(self.state_file(), state)?;
        }
        // The upload says `cloud`; an override file that sorts last makes it a local state.
        let state_file = quoted(&self.state_file().to_string_lossy());
        let backend =
            format!("terraform {{\n  backend \"local\" {{\n    path = {state_file}\n  }}\n}}\n");
        std::fs::write(
            self.working_directory().join("zzzz_stand_in_override.tf"),
            backend,
        )?;
        std::fs::write(
            self.variables_file(),
            serde_json::to_vec(&order.variables).map_err(io::Error::other)?,
        )?;
        let expressions: String = order
            .expressions
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        std::fs::write(self.expressions_file(), expressions)?;
        let installation = match providers {
            Providers::Registry => String::new(),
            Providers::BuiltIn => mirror(&self.root.path().join("no-providers")),
            Providers::Mirror(folder) => mirror(folder),
        };
        std::fs::write(
            self.cli_config(),
            format!("disable_checkpoint = true\n{installation}"),
        )
    }

    pub(crate) fn working_directory(&self) -> &Path {
        &self.working_directory
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.root.path().join("terraform.tfstate")
    }

    pub(crate) fn plan_file(&self) -> PathBuf {
        self.root.path().join("plan")
    }

    pub(crate) fn variables_file(&self) -> PathBuf {
        self.root.path().join("workspace.tfvars.json")
    }

    pub(crate) fn expressions_file(&self) -> PathBuf {
        self.root.path().join("run.tfvars")
    }

    pub(crate) fn cli_config(&self) -> PathBuf {
        self.root.path().join("cli.tfrc")
    }
}

fn mirror(folder: &Path) -> String {
    let path = quoted(&folder.to_string_lossy());
    format!("provider_installation {{\n  filesystem_mirror {{\n    path = {path}\n  }}\n}}\n")
}

/// Writes a text as an HCL string without templates.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace("${", "$${").replace("%{", "%%{"))
}

/// Joins a relative path that stays inside; anything else is an error.
fn inside(folder: &Path, inner: &str) -> io::Result<PathBuf> {
    let inner = Path::new(inner);
    let stays = inner
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let joined = folder.join(inner);
    if stays && joined.is_dir() {
        Ok(joined)
    } else {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "working directory not in the upload",
        ))
    }
}

/// Unpacks files and folders of a gzipped tar; links and devices are left out.
fn unpack(archive: &Bytes, folder: &Path) -> io::Result<()> {
    let mut archive = Archive::new(GzDecoder::new(archive.as_ref()).take(MOST_BYTES));
    for (index, entry) in archive.entries()?.enumerate() {
        if index >= MOST_ENTRIES {
            return Err(io::Error::other("too many entries"));
        }
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if matches!(
            kind,
            EntryType::Regular | EntryType::Directory | EntryType::GNUSparse
        ) {
            entry.set_preserve_mtime(false);
            entry.set_preserve_permissions(false);
            entry.unpack_in(folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Bytes {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut archive = tar::Builder::new(gzip);
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            // Written raw, because the builder refuses `..` itself.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            if *kind == EntryType::Symlink {
                header.set_link_name("/etc").unwrap();
            }
            header.set_cksum();
            archive.append(&header, *content).unwrap();
        }
        Bytes::from(archive.into_inner().unwrap().finish().unwrap())
    }

    #[test]
    fn only_files_and_folders_inside_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("configuration");
        std::fs::create_dir(&inner).unwrap();
        let upload = archive(&[
            ("modules/", EntryType::Directory, b""),
            ("modules/main.tf", EntryType::Regular, b"# hello\n"),
            ("../outside.tf", EntryType::Regular, b"# no\n"),
            ("etc", EntryType::Symlink, b""),
        ]);
        unpack(&upload, &inner).unwrap();
        assert_eq!(
            std::fs::read(inner.join("modules/main.tf")).unwrap(),
            b"# hello\n"
        );
        assert!(!folder.path().join("outside.tf").exists());
        assert!(std::fs::symlink_metadata(inner.join("etc")).is_err());
    }

    #[test]
    fn what_is_no_gzip_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(unpack(&Bytes::from_static(b"plain text"), folder.path()).is_err());
    }

    #[test]
    fn a_working_directory_stays_inside() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("network")).unwrap();
        assert!(inside(folder.path(), "network").is_ok());
        for bad in ["../network", "/etc", "missing"] {
            assert!(inside(folder.path(), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_quoted_for_hcl() {
        assert_eq!(quoted(r#"a"b\c${d}"#), r#""a\"b\\c$${d}""#);
    }
}
