//! `clawgate store`: what is done with a whole store.

mod backup;
mod prune;

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use store::{Soundness, TransferError};

use super::{Failure, term};
use crate::config::Config;
use crate::storage::Place;

/// Checks the store, copies it, lets old content go, and moves it to a database or back
#[derive(Debug, Subcommand)]
#[command(after_help = "\
The store is the one that the configuration names: a file in data_dir, or the database of
store.url.

To move an installation from the file to a database:
  stop the gateway
  clawgate store export --out store.jsonl
  set store.url in the configuration
  clawgate store import store.jsonl
  clawgate doctor, and start the gateway

Back it goes in the same way. Keys, bundles and the vault are files and stay where they are.")]
pub(super) enum Store {
    /// Make the store, or bring its tables up to date
    #[command(after_help = "\
Examples:
  clawgate store migrate --config clawgate.toml

The gateway does the same when it starts. Steps only go forward: take a backup first.")]
    Migrate(Where),
    /// Find out whether the store is whole
    #[command(after_help = "\
Examples:
  clawgate store check
  clawgate store check --json

Computes the log anew from its records and compares it with what is stored and with every
checkpoint, and looks for gaps in each job and for rows that name what is not there. Works while
the gateway runs. The exit code is 1 when something is not in order.")]
    Check {
        #[command(flatten)]
        place: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    Prune(prune::Prune),
    Backup(backup::Backup),
    /// Write the whole store to a file
    #[command(after_help = "\
Examples:
  clawgate store export --out store.jsonl

Lines of JSON with a digest at the end. Works while the gateway runs, but what is recorded after
that is not in the file: stop the gateway to move. Whoever reads the file reads the records: it is
made for its owner only.")]
    Export {
        #[command(flatten)]
        place: Where,
        /// The file; there must be none
        #[arg(long, short, value_name = "FILE")]
        out: PathBuf,
    },
    /// Read such a file into an empty store
    #[command(after_help = "\
Examples:
  clawgate store import store.jsonl

All of it or nothing: a file that was changed or cut short, or whose log does not fit its records,
leaves the store empty. The gateway must not run. People who were signed in sign in again.")]
    Import {
        #[command(flatten)]
        place: Where,
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Which store.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
    config: PathBuf,
}

impl Where {
    async fn place(&self) -> Result<Place, Failure> {
        Ok(self.with_config().await?.1)
    }

    async fn with_config(&self) -> Result<(Config, Place), Failure> {
        let config = Config::load(&self.config)?;
        let place = Place::of(&config).await;
        let place = place.map_err(|error| Failure::new(format!("{error:#}")))?;
        Ok((config, place))
    }

    /// One that must be there.
    async fn existing(&self) -> Result<Place, Failure> {
        Ok(self.existing_with_config().await?.1)
    }

    async fn existing_with_config(&self) -> Result<(Config, Place), Failure> {
        let (config, place) = self.with_config().await?;
        match place.is_missing() {
            true => Err(Failure::new(format!("no store at `{}`", place.name()))
                .next("`clawgate init` makes one, and `clawgate store migrate` an empty one")),
            false => Ok((config, place)),
        }
    }
}

impl Store {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Migrate(place) => {
                let place = place.place().await?;
                store::migrate_store(place.of_store()).map_err(|error| failed(&place, error))?;
                anstream::println!("{} is up to date", place.name());
            }
            Self::Check { place, json } => {
                let place = place.existing().await?;
                let found =
                    store::check_store(place.of_store()).map_err(|error| failed(&place, error))?;
                return Ok(report(&place, &found, json));
            }
            Self::Prune(prune) => prune.run().await?,
            Self::Backup(backup) => backup.run().await?,
            Self::Export { place, out } => {
                let place = place.existing().await?;
                let rows = export(&place, &out)?;
                anstream::println!("{rows} rows of {} written", place.name());
            }
            Self::Import { place, file } => {
                let place = place.place().await?;
                let opened = File::open(&file).map_err(|error| {
                    Failure::new(format!("cannot read `{}`: {error}", file.display()))
                })?;
                let found = store::import_store(place.of_store(), &mut BufReader::new(opened))
                    .map_err(|error| failed(&place, error))?;
                report(&place, &found, false);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the file, which is there only when it is whole.
fn export(place: &Place, out: &Path) -> Result<u64, Failure> {
    let io =
        |error: std::io::Error| Failure::new(format!("cannot write `{}`: {error}", out.display()));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .map_err(io)?;
    let mut writer = BufWriter::new(file);
    let written = store::export_store(place.of_store(), &mut writer)
        .map_err(|error| failed(place, error))
        .and_then(|rows| {
            writer.flush().map_err(io)?;
            writer.get_ref().sync_all().map_err(io)?;
            Ok(rows)
        });
    if written.is_err() {
        let _ = std::fs::remove_file(out);
    }
    written
}

/// Prints what a check found.
fn report(place: &Place, found: &Soundness, as_json: bool) -> ExitCode {
    if as_json {
        term::print_json(&json!({
            "store": place.name(),
            "records": found.records,
            "pruned": found.pruned,
            "root": found.root,
            "jobs": found.jobs,
            "checkpoints": found.checkpoints,
            "faults": found.faults,
        }));
    } else {
        term::print_facts(&[
            ("store", place.name()),
            ("records", found.records.to_string()),
            (
                "of them",
                match found.pruned {
                    0 => "-".to_owned(),
                    pruned => format!("{pruned} without their content, after its retention"),
                },
            ),
            ("jobs", found.jobs.to_string()),
            ("checkpoints", found.checkpoints.to_string()),
            ("log root", found.root.to_string()),
        ]);
        let (good, bad, off) = (term::GOOD, term::BAD, term::OFF);
        for fault in &found.faults {
            anstream::println!("{bad}problem{off}  {}", term::plain(fault));
        }
        if found.faults.is_empty() {
            anstream::println!("{good}whole{off}: the log fits its records and every checkpoint");
        } else {
            anstream::println!("keep this store for investigation, and restore the backup");
        }
    }
    ExitCode::from(u8::from(!found.faults.is_empty()))
}

fn failed(place: &Place, error: TransferError) -> Failure {
    let next = match &error {
        TransferError::NotEmpty(_) => Some("import into a new file or database"),
        TransferError::Line { .. } | TransferError::Digest | TransferError::Unsound(_) => {
            Some("export it again; nothing of this file was kept")
        }
        TransferError::Store(store::StoreError::Busy) => Some("stop the gateway first"),
        TransferError::Store(_) | TransferError::File(_) => None,
    };
    let failure = Failure::new(format!("{}: {:#}", place.name(), anyhow::Error::new(error)));
    match next {
        Some(next) => failure.next(next),
        None => failure,
    }
}
