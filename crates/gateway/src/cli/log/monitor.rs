//! `clawgate log monitor`: whether the log still continues the one that was seen last.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use proof::Did;
use proof::checkpoint::Checkpoint;
use proof::merkle;
use proof::trust::TrustRoot;
use serde_json::json;

use super::super::again::Again;
use super::super::term::{self, DIM, GOOD, OFF};
use super::super::{Failure, Remote};
use super::source::Source;
use crate::bundles::file;

/// Largest kept checkpoint or trust root that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Keeps the last checkpoint and checks that each new one continues it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate log monitor --trust trust.json --state log.checkpoint
  clawgate log monitor --trust trust.json --state log.checkpoint --url https://logs.example.com/gw
  clawgate log monitor --trust trust.json --state log.checkpoint --follow --interval 300

Run it somewhere else than the gateway, as somebody else, from cron or with --follow. Exit code 1
when the log was forked, rolled back, or cannot be read; a checkpoint that contradicts the kept one
is kept beside it, in STATE.fork: both are signed, so together they prove the fork to anybody.")]
pub(in super::super) struct Monitor {
    /// The trust root, which names the log and its key
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// Keeps the last checkpoint that was checked; made at the first time
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// Where the log's static files are served, instead of a gateway
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Check once (the default), for cron
    #[arg(long, conflicts_with = "follow")]
    once: bool,
    /// Go on checking
    #[arg(long)]
    follow: bool,
    /// Seconds between two checks with --follow
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        requires = "follow"
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    #[command(flatten)]
    remote: Remote,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// Nothing was kept before.
    First,
    /// The log continues the kept one, which had this size.
    Continues(u64),
}

impl Monitor {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let trust: TrustRoot = proof::json::from_slice(&read(&self.trust)?.ok_or_else(|| {
            let file = self.trust.display();
            Failure::new(format!("there is no trust root `{file}`"))
                .next("`clawgate trust export` writes one")
        })?)
        .map_err(|error| {
            Failure::new(format!(
                "`{}` is not a trust root: {error}",
                self.trust.display()
            ))
        })?;
        let source = match &self.url {
            Some(url) => Source::files(url, self.remote.ca_file.as_deref())?,
            None => Source::Gateway(self.remote.connect()?),
        };
        let mut again = Again::default();
        loop {
            let pause = match self.check(&source, &trust).await {
                Ok((found, checkpoint)) => {
                    again.well();
                    self.tell(&found, &checkpoint);
                    Duration::from_secs(self.interval)
                }
                Err(failure) if self.follow => again.pause(failure)?,
                Err(failure) => return Err(failure),
            };
            if !self.follow {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One look. The new checkpoint is kept only when it continues the old one.
    async fn check(
        &self,
        source: &Source,
        trust: &TrustRoot,
    ) -> Result<(Found, Checkpoint), Failure> {
        let log = &trust.log;
        let kept = match read(&self.state)? {
            None => None,
            Some(bytes) => {
                let note = String::from_utf8_lossy(&bytes);
                // Whatever became of its key since.
                let keys: Vec<_> = trust.checkpoint_keys().map(Did::key).collect();
                let kept = Checkpoint::verify_any(&note, &log.origin, &keys).map_err(|error| {
                    let file = self.state.display();
                    Failure::new(format!(
                        "the kept checkpoint `{file}` is of no use: {error}"
                    ))
                    .next("restore it; without it nothing is known about what came before")
                    .lasting()
                })?;
                Some(kept)
            }
        };
        let note = source.checkpoint().await?;
        let keys = trust.checkpoint_keys_at(crate::app::now());
        let new = Checkpoint::verify_any(&note, &log.origin, &keys).map_err(|error| {
            Failure::new(format!(
                "what is served is not the log's checkpoint: {error}"
            ))
            .next("if the log's key was replaced, get the trust root anew, by its own way")
            .lasting()
        })?;
        let found = match &kept {
            None => Found::First,
            Some(kept) if new.size < kept.size => {
                let message = format!(
                    "the log has {} records and had {} before: an old copy is served, or the log \
                     was rolled back",
                    new.size, kept.size
                );
                return Err(Failure::new(message)
                    .next("look again later; if it stays so, records were taken away")
                    .lasting());
            }
            Some(kept) => {
                self.compare(source, kept, &new, &note).await?;
                Found::Continues(kept.size)
            }
        };
        if kept.as_ref() != Some(&new) {
            write(&self.state, &note)?;
        }
        Ok((found, new))
    }

    /// The new root follows from the tiles, and so does the old one: what the tiles say is held
    /// against both signatures, so a fork is proven by them and by nobody's word.
    async fn compare(
        &self,
        source: &Source,
        kept: &Checkpoint,
        new: &Checkpoint,
        note: &str,
    ) -> Result<(), Failure> {
        let before = if kept.size == new.size {
            new.root
        } else {
            let (old, size) = (kept.size, new.size);
            let both = |tiles: &_| Ok((merkle::root(tiles, size)?, merkle::root(tiles, old)?));
            let (root, before) = source.compute(size, both).await?;
            if root != new.root {
                let message = "the tiles are not those of the checkpoint: the copy is damaged";
                return Err(Failure::new(message)
                    .next("ask the gateway itself")
                    .lasting());
            }
            before
        };
        if before == kept.root {
            return Ok(());
        }
        let mut evidence = self.state.clone().into_os_string();
        evidence.push(".fork");
        let evidence = PathBuf::from(evidence);
        write(&evidence, note)?;
        Err(Failure::new(format!(
            "the log was FORKED: the checkpoint of {} records is not the beginning of the one of {}",
            kept.size, new.size
        ))
        .next(format!(
            "keep `{}` and `{}`: both are signed by the log's key, and no honest log has both",
            self.state.display(),
            evidence.display()
        ))
        .lasting())
    }

    fn tell(&self, found: &Found, checkpoint: &Checkpoint) {
        let (origin, size) = (&checkpoint.origin, checkpoint.size);
        let before = match found {
            Found::First => None,
            Found::Continues(before) => Some(*before),
        };
        if self.remote.json {
            term::print_json(&json!({
                "origin": origin,
                "size": size,
                "root_sha256_b64u": checkpoint.root,
                "before": before,
            }));
            return;
        }
        match before {
            None => anstream::println!(
                "{GOOD}kept{OFF}  {origin} at size {size}; from now on it must be continued"
            ),
            Some(before) if before == size => {
                anstream::println!("{GOOD}ok{OFF}    {origin} is still at size {size}");
            }
            Some(before) => anstream::println!(
                "{GOOD}ok{OFF}    {origin} at size {size} {DIM}continues size {before}{OFF}"
            ),
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    use std::io::Read as _;
    let unreadable = |error| Failure::new(format!("cannot read `{}`: {error}", path.display()));
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(Some(bytes))
}

/// What was seen must survive a crash: the next look is held against it.
fn write(path: &Path, note: &str) -> Result<(), Failure> {
    let whole = std::path::absolute(path);
    whole
        .and_then(|path| file::write(&path, note.as_bytes(), 0o644))
        .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", path.display())))
}
