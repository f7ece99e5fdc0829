//! `clawgate evidence`: what the vault keeps. Works on files, so it runs wherever they are; the
//! key that opens them is the auditor's, and no gateway has it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use proof::Hash;
use serde_json::json;

use super::failure::chain;
use super::{Failure, term};
use crate::config::Config;
use crate::vault::opened::{self, OpenError};

/// Lists and opens what the vault keeps.
#[derive(Debug, Subcommand)]
pub(super) enum Evidence {
    /// Lists what the vault keeps, oldest first
    #[command(after_help = "\
Examples:
  clawgate evidence list --config clawgate.toml
  clawgate evidence list --vault copy-of-the-vault --json")]
    List {
        #[command(flatten)]
        place: Place,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Opens an upload with an auditor's key, checks its digest, and lists or unpacks it
    #[command(after_help = "\
Examples:
  clawgate evidence open 5gq6kM… --key auditor.txt --vault copy-of-the-vault
  clawgate evidence open 5gq6kM… --key auditor.txt --out proposed
  clawgate evidence open 5gq6kM… --key auditor.txt --out - > proposed.tar.gz

The digest is `configuration_sha256_b64u` of a run or of an approval in the bundle. The key is a
file of `age-keygen`; the gateway does not have it.")]
    Open {
        /// The content's SHA-256, base64url or hexadecimal
        #[arg(value_parser = digest, allow_hyphen_values = true)]
        digest: Hash,
        /// The auditor's key file
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Unpack into this folder, which must not exist; `-` writes the archive as it is
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
        /// Print the list of files as JSON
        #[arg(long, conflicts_with = "out")]
        json: bool,
    },
}

/// Where the vault is.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The configuration file that names the vault
    #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
    config: PathBuf,
    /// The vault's folder itself, or a copy of it
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    vault: Option<PathBuf>,
}

fn digest(text: &str) -> Result<Hash, String> {
    opened::parse_digest(text).ok_or_else(|| {
        "not a SHA-256 digest: 43 characters base64url or 64 hexadecimal digits".to_owned()
    })
}

impl Place {
    fn folder(self) -> Result<PathBuf, Failure> {
        match self.vault {
            Some(folder) => Ok(folder),
            None => Ok(Config::load(&self.config)?.vault_dir()),
        }
    }
}

impl Evidence {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { place, json } => list(&place.folder()?, json),
            Self::Open {
                digest,
                key,
                out,
                place,
                json,
            } => open(&place.folder()?, &digest, &key, out.as_deref(), json),
        }
    }
}

fn list(folder: &Path, as_json: bool) -> Result<(), Failure> {
    let entries = opened::list(folder)?;
    if as_json {
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| {
                json!({
                    "sha256_b64u": entry.digest,
                    "sha256_hex": entry.digest.to_hex(),
                    "bytes": entry.bytes,
                    "sealed_at": entry.sealed_at,
                })
            })
            .collect();
        term::print_json(&entries.into());
        return Ok(());
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.digest.to_string(),
                entry.sealed_at.to_string(),
                entry.bytes.to_string(),
            ]
        })
        .collect();
    term::print_table(
        &["DIGEST", "SEALED", "BYTES"],
        &rows,
        "the vault keeps nothing",
    );
    Ok(())
}

fn open(
    folder: &Path,
    digest: &Hash,
    key: &Path,
    out: Option<&Path>,
    as_json: bool,
) -> Result<(), Failure> {
    let keys = opened::read_keys(key)?;
    let content = opened::open(folder, digest, &keys)?;
    if out.is_some_and(|out| out.as_os_str() == "-") {
        return std::io::stdout()
            .write_all(&content)
            .map_err(|error| Failure::new(format!("cannot write to standard output: {error}")));
    }
    let files = opened::files(&content)?;
    if let Some(out) = out {
        opened::unpack(&files, out)?;
        let (count, out) = (files.len(), out.display());
        anstream::eprintln!("{count} files of {digest} in {out}");
        return Ok(());
    }
    if as_json {
        let files: Vec<_> = files
            .iter()
            .map(|file| {
                json!({
                    "path": file.path,
                    "bytes": file.content.len(),
                    "sha256_b64u": Hash::of(&file.content),
                })
            })
            .collect();
        term::print_json(&files.into());
        return Ok(());
    }
    let rows: Vec<Vec<String>> = files
        .iter()
        .map(|file| vec![term::plain(&file.path), file.content.len().to_string()])
        .collect();
    term::print_table(&["FILE", "BYTES"], &rows, "the upload holds no files");
    Ok(())
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let failure = Self::new(term::plain(&chain(&error)));
        match error {
            OpenError::NotKept { .. } => failure.next(
                "see `clawgate evidence list`; uploads from before the vault was switched on, or \
                 older than its retention, are not there",
            ),
            OpenError::NoKey(_) => failure.next("give the file that `age-keygen` wrote"),
            OpenError::OtherKey(_) => failure
                .next("use a key whose recipient stood in `vault.recipients` when the upload came"),
            OpenError::Damaged { .. } | OpenError::OtherContent { .. } => {
                failure.next("do not trust the file; look for it in a backup of the vault")
            }
            OpenError::Io { ref source, .. }
                if source.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                failure.next("name a folder that does not exist yet")
            }
            _ => failure,
        }
    }
}
