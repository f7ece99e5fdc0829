//! `clawgate evidence`: records for a SIEM, and what the vault keeps. The vault's commands work on
//! files, so they run wherever those are; the key that opens them is the auditor's, and no gateway
//! has it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use proof::Hash;
use serde_json::json;

use self::conversation::{Raw, Source, Wanted};
use super::failure::chain;
use super::{Failure, Remote, term};
use crate::config::Config;
use crate::vault::opened::{self, OpenError};
use crate::vault::{CONVERSATIONS, notes};

mod conversation;
pub(in crate::cli) mod export;
mod state;

/// Exports records, and lists and opens what the vault keeps.
#[derive(Debug, Subcommand)]
pub(super) enum Evidence {
    /// Writes records of all jobs, or what operators did, as lines for a SIEM
    #[command(after_help = "\
Examples:
  clawgate evidence export --as csv --since 2026-11-01 --until 2026-12-01 > november.csv
  clawgate evidence export --as ocsf --state records.state --out records.ocsf.jsonl
  clawgate evidence export --as ocsf --state records.state --follow | ship-to-siem
  clawgate evidence export --of actions --as ocsf --state actions.state --out actions.jsonl
  clawgate evidence export --job job_0198… | jq 'select(.decision == \"deny\")'

Lines come in the order of the log and are numbered by it (`log_index`; what operators did by
`action_index`), so whoever remembers the last number misses nothing. With --state FILE the number
is kept there, after the lines were written: a command that was killed goes on where it stood, and
writes at most its last lines twice.")]
    Export(export::Export),
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
    /// Opens an upload or a model call with an auditor's key, and checks it against its hash
    #[command(after_help = "\
Examples:
  clawgate evidence open rcpt_0198… --key auditor.txt
  clawgate evidence open rcpt_0198… --key auditor.txt --bundle bundle.json --vault copy-of-the-vault
  clawgate evidence open rcpt_0198… --key auditor.txt --raw answer > answer.sse
  clawgate evidence open 5gq6kM… --key auditor.txt --vault copy-of-the-vault
  clawgate evidence open 5gq6kM… --key auditor.txt --out proposed
  clawgate evidence open 5gq6kM… --key auditor.txt --out - > proposed.tar.gz

A receipt's id stands for what was said in that model call; the receipt comes from the gateway, or
from --bundle. A digest stands for an upload: `configuration_sha256_b64u` of a run or of an
approval in the bundle. The key is a file of `age-keygen`; the gateway does not have it.")]
    Open {
        /// A model call's receipt id, or the SHA-256 of an upload, base64url or hexadecimal
        #[arg(value_parser = named, value_name = "RECEIPT|DIGEST", allow_hyphen_values = true)]
        named: Named,
        /// The auditor's key file
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Unpack an upload into this folder, which must not exist; `-` writes the archive as it is
        #[arg(long, value_name = "DIR", conflicts_with_all = ["raw", "bundle", "json"])]
        out: Option<PathBuf>,
        /// Take the receipt from this bundle, without asking a gateway
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
        /// Write one body of a model call as it is
        #[arg(long, value_enum, conflicts_with = "json")]
        raw: Option<Raw>,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        remote: Remote,
    },
}

/// What is to be opened.
#[derive(Debug, Clone)]
pub(super) enum Named {
    /// A model call, by its receipt's id.
    Call(String),
    /// An upload, by its digest.
    Upload(Hash),
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

fn named(text: &str) -> Result<Named, String> {
    if text.starts_with("rcpt_") {
        let id = super::client::segment(text, "a receipt's id");
        let id = id.map_err(|failure| failure.to_string())?;
        return Ok(Named::Call(id.to_owned()));
    }
    opened::parse_digest(text)
        .map(Named::Upload)
        .ok_or_else(|| {
            "neither a receipt's id (rcpt_…) nor a SHA-256 digest: 43 characters base64url or 64 \
         hexadecimal digits"
                .to_owned()
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
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Export(export) => export.run().await,
            Self::List { place, json } => list(&place.folder()?, json),
            Self::Open {
                named: Named::Upload(digest),
                key,
                out,
                bundle,
                raw,
                place,
                remote,
            } => {
                if bundle.is_some() || raw.is_some() {
                    let message = "--bundle and --raw are for model calls: give a receipt's id";
                    return Err(Failure::usage(message));
                }
                open(&place.folder()?, &digest, &key, out.as_deref(), remote.json)
            }
            Self::Open {
                named: Named::Call(receipt_id),
                key,
                out,
                bundle,
                raw,
                place,
                remote,
            } => {
                if out.is_some() {
                    return Err(Failure::usage("--out unpacks uploads: give a digest")
                        .next("--raw request and --raw answer write the bodies of a model call"));
                }
                let wanted = Wanted {
                    receipt_id,
                    keys: opened::read_keys(&key)?,
                    folder: place.folder()?.join(CONVERSATIONS),
                    raw,
                    json: remote.json,
                };
                let source = match bundle {
                    Some(file) => Source::Bundle(file),
                    None => Source::Gateway(remote),
                };
                conversation::open(wanted, source).await
            }
        }
    }
}

fn list(folder: &Path, as_json: bool) -> Result<(), Failure> {
    let mut entries = Vec::new();
    let mut gone = Vec::new();
    for (kind, folder) in [
        ("upload", folder.to_owned()),
        ("conversation", folder.join(CONVERSATIONS)),
    ] {
        // A gateway that keeps one kind has no folder for the other.
        if folder.is_dir() || kind == "upload" {
            entries.extend(
                opened::list(&folder)?
                    .into_iter()
                    .map(|entry| (kind, entry)),
            );
            gone.extend(notes::read(&folder).unwrap_or_default());
        }
    }
    entries.sort_by_key(|(_, entry)| (entry.sealed_at, entry.digest));
    if as_json {
        let entries: Vec<_> = entries
            .iter()
            .map(|(kind, entry)| {
                json!({
                    "kind": kind,
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
        .map(|(kind, entry)| {
            vec![
                (*kind).to_owned(),
                entry.digest.to_string(),
                entry.sealed_at.to_string(),
                entry.bytes.to_string(),
            ]
        })
        .collect();
    term::print_table(
        &["KIND", "DIGEST", "SEALED", "BYTES"],
        &rows,
        "the vault keeps nothing",
    );
    if !gone.is_empty() {
        let count: u64 = gone.iter().map(|note| note.count.unwrap_or(1)).sum();
        anstream::eprintln!(
            "{count} pieces were removed or never kept whole; notes.jsonl in the vault names them"
        );
    }
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
                "see `clawgate evidence list`; what is from before the vault was switched on, or \
                 older than its retention, is not there",
            ),
            OpenError::NoKey(_) => failure.next("give the file that `age-keygen` wrote"),
            OpenError::OtherKey(_) => failure
                .next("use a key whose recipient stood in `vault.recipients` when it was sealed"),
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
