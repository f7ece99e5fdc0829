//! `clawgate trust`: what an auditor is given besides the bundle.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use proof::trust::TrustRoot;

use super::{Failure, Remote};

/// Exports the trust root.
#[derive(Debug, Subcommand)]
pub(super) enum Trust {
    /// Writes trust.json: the keys that a verifier is to believe
    #[command(after_help = "\
Examples:
  clawgate trust export -o trust.json
  clawverify bundle.json --trust trust.json

Whoever can change this file decides what an auditor believes: hand it over by a way of its own.")]
    Export {
        /// File to write; standard output without it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        remote: Remote,
    },
}

impl Trust {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self::Export { output, remote } = self;
        let bytes = remote.connect()?.download("/v1/trust").await?;
        // What is no trust root here would be none at the verifier's either.
        proof::json::from_slice::<TrustRoot>(&bytes)
            .map_err(|error| Failure::new(format!("the answer is not a trust root: {error}")))?;
        write(&bytes, output.as_deref())
    }
}

/// Writes to a file, or to standard output.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(bytes: &[u8], output: Option<&Path>) -> Result<(), Failure> {
    match output {
        Some(file) => std::fs::write(file, bytes)
            .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", file.display()))),
        None => std::io::stdout()
            .write_all(bytes)
            .map_err(|error| Failure::new(format!("cannot write to standard output: {error}"))),
    }
}
