//! `clawgate log`: what the log has, proofs about it, and whether it is still the same log.

mod monitor;
mod source;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use proof::checkpoint::Checkpoint;
use proof::consistency::ConsistencyProof;
use proof::record::JobId;
use serde_json::Value;

use super::client::job_id;
use super::term::{self, BAD, DIM, OFF, WARN};
use super::{Failure, Remote, trust};

/// Largest file that is read for the size of its checkpoint.
const MAX_FILE_BYTES: u64 = proof::bundle::MAX_BYTES as u64;

/// Shows the log of records, proves things about it, and watches that it is not rewritten.
#[derive(Debug, Subcommand)]
pub(super) enum Log {
    /// Shows the log's size, root, checkpoint and last records
    #[command(after_help = "\
Examples:
  clawgate log show
  clawgate log show --json")]
    Show {
        #[command(flatten)]
        remote: Remote,
    },
    Prove(Prove),
    Monitor(monitor::Monitor),
}

/// Proves that a record is in the log, or that the log continues an earlier one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate log prove --from 1200 --to 3400 -o consistency.json
  clawgate log prove --from last-quarter.json --to bundle.json -o consistency.json
  clawverify bundle.json --trust trust.json --since last-quarter.json --consistency consistency.json
  clawgate log prove --receipt rcpt_0198…
  clawgate log prove --job job_0198… --seq 7 -o inclusion.json
  clawgate log prove --index 41

Sizes are numbers, or files: a checkpoint that somebody has kept, or a bundle. A proof holds
hashes only; what it proves follows from the signed checkpoints.")]
pub(super) struct Prove {
    /// The earlier size, or a file with a checkpoint of it
    #[arg(long, value_name = "SIZE|FILE", required_unless_present_any = ["index", "job", "receipt"])]
    from: Option<String>,
    /// The later size; the whole log without it
    #[arg(long, value_name = "SIZE|FILE", requires = "from")]
    to: Option<String>,
    /// Proves that the record at this place is in the log
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "job", "receipt"])]
    index: Option<u64>,
    /// Proves that a record of this job is in the log
    #[arg(long, value_name = "JOB", value_parser = job_id, requires = "seq")]
    #[arg(conflicts_with_all = ["from", "receipt"])]
    job: Option<JobId>,
    /// The record's number in the job
    #[arg(long, value_name = "N", requires = "job")]
    seq: Option<u64>,
    /// Proves that the outcome with this receipt is in the log
    #[arg(long, value_name = "ID", value_parser = receipt_id, conflicts_with = "from")]
    receipt: Option<String>,
    /// File to write; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

impl Log {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show { remote } => show(&remote).await,
            Self::Prove(prove) => prove.run().await,
            Self::Monitor(monitor) => monitor.run().await,
        }
    }
}

async fn show(remote: &Remote) -> Result<(), Failure> {
    let answer = remote.connect()?.get("/v1/log").await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    let tiles = &answer["tiles"];
    let published = match tiles["state"].as_str() {
        Some("published") => format!("up to size {}", term::text(tiles, "size")),
        Some("failing") => format!("{WARN}failing{OFF}: {}", term::text(tiles, "detail")),
        Some("forked") => format!("{BAD}FORKED{OFF}: {}", term::text(tiles, "detail")),
        Some("starting") => "starting".to_owned(),
        _ => format!("{DIM}no; log.tiles is not set{OFF}"),
    };
    term::print_facts(&[
        ("log", term::text(&answer, "origin")),
        ("size", term::text(&answer, "size")),
        ("root", term::text(&answer, "root_sha256_b64u")),
        ("published", published),
    ]);
    anstream::println!();
    let rows: Vec<Vec<String>> = term::items(&answer["last"])
        .iter()
        .map(|row| ["index", "at", "job_id", "seq", "record"].map(|name| term::text(row, name)))
        .map(Vec::from)
        .collect();
    let heading = ["index", "at", "job", "seq", "record"];
    term::print_table(&heading, &rows, "the log is empty");
    anstream::println!();
    for line in answer["checkpoint"].as_str().unwrap_or_default().lines() {
        anstream::println!("{DIM}{}{OFF}", term::plain(line));
    }
    Ok(())
}

impl Prove {
    async fn run(self) -> Result<(), Failure> {
        let path = match (&self.from, self.index, &self.job, self.seq, &self.receipt) {
            (Some(from), ..) => {
                let mut path = format!("/v1/log/consistency?from={}", size(from)?);
                if let Some(to) = &self.to {
                    path.push_str(&format!("&to={}", size(to)?));
                }
                path
            }
            (_, Some(index), ..) => format!("/v1/log/inclusion?index={index}"),
            (_, _, Some(job), Some(seq), _) => format!("/v1/log/inclusion?job={job}&seq={seq}"),
            (.., Some(receipt)) => format!("/v1/log/inclusion?receipt={receipt}"),
            _ => return Err(Failure::usage("name what is to be proven; see --help")),
        };
        let bytes = self.remote.connect()?.download(&path).await?;
        if self.from.is_some() {
            proof::json::from_slice::<ConsistencyProof>(&bytes)
                .map_err(|error| Failure::new(format!("the answer is not a proof: {error}")))?;
        }
        trust::write(&bytes, self.output.as_deref())?;
        if self.output.is_none() {
            anstream::println!();
        }
        Ok(())
    }
}

/// A size: a number, or that of the checkpoint in a file. Nothing is believed of the file; whoever
/// verifies the proof checks its signature.
fn size(text: &str) -> Result<u64, Failure> {
    use std::io::Read as _;
    if let Ok(size) = text.parse() {
        return Ok(size);
    }
    let path = Path::new(text);
    let unreadable = |why: String| {
        Failure::new(format!("`{text}` is no size, and no file with one: {why}"))
            .next("give a number, a checkpoint or a bundle")
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    let note = match serde_json::from_slice::<Value>(&bytes) {
        Ok(bundle) => bundle["log"]["checkpoint"].as_str().map(str::to_owned),
        Err(_) => String::from_utf8(bytes).ok(),
    };
    let size = note.as_deref().and_then(Checkpoint::claimed_size);
    size.ok_or_else(|| unreadable("it holds no checkpoint".to_owned()))
}

fn receipt_id(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if text.is_empty() || text.len() > 128 || !text.bytes().all(plain) {
        return Err("a receipt's id has letters, digits, `_` and `-`".to_owned());
    }
    Ok(text.to_owned())
}
