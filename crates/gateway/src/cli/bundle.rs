//! `clawgate bundle`: the sealed evidence of a job.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clawverify::{MAX_BUNDLE_BYTES, trust as trust_file};
use proof::Hash;
use proof::record::JobId;

use super::client::job_id;
use super::failure::chain;
use super::{Failure, Remote, trust};
use crate::bundles::export::{Export, Format};
use crate::config::Config;
use crate::keys::Keys;
use crate::upstream::http_client;

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
    /// Writes a bundle in another format, verified and signed by the gateway's close key
    #[command(after_help = "\
Examples:
  clawgate bundle export job_0198… --as in-toto -o job.intoto.json
  clawgate bundle export job_0198… --as clawsig -o export.json
  clawgate bundle export --bundle bundle.json --trust trust.json --as in-toto   (no gateway runs)

The first two ask a running gateway. The last one reads the keys of the installation and nothing
else. What the formats hold is in docs/formats.md; a bundle that does not verify is not exported.")]
    Export(ExportOptions),
}

#[derive(Debug, Args)]
pub(super) struct ExportOptions {
    /// The job
    #[arg(value_parser = job_id, required_unless_present = "bundle")]
    job: Option<JobId>,
    /// The format
    #[arg(long = "as", value_name = "FORMAT")]
    format: Format,
    /// Which part of a job with more than 1000 events, for clawsig; counted from 1
    #[arg(long, value_name = "N")]
    part: Option<usize>,
    /// File to write; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    offline: Offline,
    #[command(flatten)]
    remote: Remote,
}

/// Without a running gateway.
#[derive(Debug, Args)]
#[command(next_help_heading = "Without a gateway")]
struct Offline {
    /// The bundle's file, in place of a job
    #[arg(long, value_name = "FILE", conflicts_with = "job", requires = "trust")]
    bundle: Option<PathBuf>,
    /// The trust root that it must verify under
    #[arg(long, value_name = "FILE", requires = "bundle")]
    trust: Option<PathBuf>,
    /// The configuration, beside whose data the keys are
    #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
    config: PathBuf,
}

impl Bundle {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Get {
                job,
                output,
                remote,
            } => get(&job, output.as_deref(), &remote).await,
            Self::Export(options) => options.run().await,
        }
    }
}

async fn get(job: &JobId, output: Option<&Path>, remote: &Remote) -> Result<(), Failure> {
    let bytes = remote
        .connect()?
        .download(&format!("/v1/jobs/{job}/bundle"))
        .await?;
    trust::write(&bytes, output)?;
    if let Some(file) = output {
        anstream::eprintln!("sha256 {}", Hash::of(&bytes).to_hex());
        anstream::eprintln!("next: clawverify {} --trust trust.json", file.display());
    }
    Ok(())
}

impl ExportOptions {
    async fn run(self) -> Result<(), Failure> {
        let exported = match (&self.job, &self.offline.bundle, &self.offline.trust) {
            (Some(job), ..) => self.ask(job).await?,
            (None, Some(bundle), Some(trust)) => self.sign(bundle, trust).await?,
            _ => return Err(Failure::usage("give a job, or --bundle and --trust")),
        };
        trust::write(&exported, self.output.as_deref())?;
        if let Some(file) = &self.output {
            anstream::eprintln!("sha256 {}", Hash::of(&exported).to_hex());
            if self.format == Format::Clawsig {
                let file = file.display();
                anstream::eprintln!("next: clawverify {file} --trust trust.json --profile clawsig");
            }
        }
        Ok(())
    }

    /// Has the gateway do it.
    async fn ask(&self, job: &JobId) -> Result<Vec<u8>, Failure> {
        let format = match self.format {
            Format::Clawsig => "clawsig",
            Format::InToto => "in-toto",
        };
        let mut path = format!("/v1/jobs/{job}/bundle/export?as={format}");
        if let Some(part) = self.part {
            path.push_str(&format!("&part={part}"));
        }
        let answer = self.remote.connect()?.download(&path).await?;
        let json = proof::json::parse(&answer, proof::Numbers::Integers);
        let json = json.map_err(|error| Failure::new(format!("the answer: {error}")))?;
        Ok(line(&json))
    }

    /// Does it with the installation's keys.
    async fn sign(&self, bundle: &Path, trust: &Path) -> Result<Vec<u8>, Failure> {
        let config = Config::load(&self.offline.config)?;
        let http = http_client(&config).map_err(|error| Failure::new(format!("{error:#}")))?;
        let keys = Keys::open(&config, &http).await.map_err(|error| {
            Failure::new(chain(&error)).next("run this where the gateway's keys are")
        })?;
        let root = trust_file::read(&read(trust, trust_file::MAX_TRUST_BYTES)?)
            .map_err(|error| Failure::new(format!("`{}`: {error}", trust.display())))?;
        let export = Export {
            format: self.format,
            part: self.part,
            at: crate::app::now(),
        };
        let file = read(bundle, MAX_BUNDLE_BYTES)?;
        let exported = export.of(file, root, &config, &keys.close).await;
        let exported = exported.map_err(|error| {
            let next = format!(
                "clawverify {} --trust {}",
                bundle.display(),
                trust.display()
            );
            Failure::new(error.to_string()).next(next)
        })?;
        Ok(line(&exported))
    }
}

/// Canonical, and ended by a line feed.
fn line(json: &proof::Json) -> Vec<u8> {
    let mut line = json.to_jcs();
    line.push(b'\n');
    line
}

/// A file, up to a bound.
fn read(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let file = std::fs::File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(most as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    match file {
        Ok(bytes) if bytes.len() <= most => Ok(bytes),
        Ok(_) => Err(Failure::new(format!(
            "`{}` is larger than {most} bytes",
            path.display()
        ))),
        Err(error) => Err(Failure::new(format!("`{}`: {error}", path.display()))),
    }
}
