//! `clawgate bundle`: the sealed evidence of a job.

use std::path::PathBuf;

use clap::Subcommand;
use proof::Hash;
use proof::record::JobId;

use super::client::job_id;
use super::{Failure, Remote, trust};

/// Fetches proof bundles.
#[derive(Debug, Subcommand)]
pub(super) enum Bundle {
    /// Fetches the bundle of a closed job, byte for byte as it was sealed
    #[command(after_help = "\
Examples:
  clawgate bundle get job_0198… -o bundle.json
  clawverify bundle.json --trust trust.json

The trust root comes from `clawgate trust export`, and reaches an auditor by another way than
the bundle.")]
    Get {
        /// The job
        #[arg(value_parser = job_id)]
        job: JobId,
        /// File to write; standard output without it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        remote: Remote,
    },
}

impl Bundle {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self::Get {
            job,
            output,
            remote,
        } = self;
        let bytes = remote
            .connect()?
            .download(&format!("/v1/jobs/{job}/bundle"))
            .await?;
        trust::write(&bytes, output.as_deref())?;
        if let Some(file) = output {
            anstream::eprintln!("sha256 {}", Hash::of(&bytes).to_hex());
            anstream::eprintln!("next: clawverify {} --trust trust.json", file.display());
        }
        Ok(())
    }
}
