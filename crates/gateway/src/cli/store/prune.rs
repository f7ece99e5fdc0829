//! `clawgate store prune`: lets content go after its time.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use proof::Timestamp;
use proof::record::JobId;
use proof::tiles::{self, Holds, Tile};
use serde_json::json;
use store::{Conflict, Part, Prunable, Seat, Store, StoreError};

use super::super::{Failure, term};
use super::Where;
use crate::bundles;
use crate::config::{Config, Tiles};
use crate::operator::audit::Action;

/// Jobs that are read together.
const PAGE: u32 = 500;

/// What the list of actions calls whoever has this machine's command line.
const BY: &str = "command line";

/// Removes content whose retention is over
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate store prune --dry-run
  clawgate store prune --yes
  clawgate store prune --older-than 400d --json --dry-run

Of jobs that were closed longer ago than `[retention]` says, or than --older-than, their records',
receipts' and plans' content goes, and their bundles. What stays: each record's place, number, kind,
time and hash, the log and all its proofs, checkpoints, jobs, contracts, approvals, and who let the
content go. Jobs that are open, held, or have a run that goes on are passed over, and so are bundles
to which a link is good. Works while the gateway runs, in small pieces; it can be stopped and begun
again. Run it where data_dir is.")]
pub(in crate::cli) struct Prune {
    #[command(flatten)]
    place: Where,
    /// In place of the configuration's days, for records and bundles: as in 36h, 400d; 0d is all that is closed
    #[arg(long, value_name = "SPAN", value_parser = span)]
    older_than: Option<u32>,
    /// Show what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn span(text: &str) -> Result<u32, String> {
    term::seconds(text).ok_or_else(|| "give minutes, hours or days, as in 36h or 400d".to_owned())
}

/// What goes of one part.
struct Going {
    part: Part,
    /// Of jobs closed before this.
    before: Timestamp,
    jobs: u64,
    records: u64,
    bytes: u64,
    held: u64,
}

impl Prune {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (config, place) = self.place.existing_with_config().await?;
        let now = crate::app::now();
        let cutoffs = self.cutoffs(&config, now)?;
        let store = place.open(Seat::Beside).map_err(|error| failed(&error))?;
        let mut going = Vec::new();
        for (part, before) in cutoffs {
            going.push(count(&*store, part, before, now).await?);
        }
        let nothing = going.iter().all(|going| going.jobs == 0);
        if !self.json {
            tell(&going);
        }
        if !self.dry_run && !nothing {
            if !self.yes && !term::confirm("Remove this? It cannot be brought back.")? {
                return Err(Failure::new("nothing was removed"));
            }
            let detail = going.iter().map(|going| {
                let what = format!("{} jobs closed before {}", going.jobs, going.before);
                (going.part.as_str(), what)
            });
            let action = Action {
                operator: BY,
                name: "store.prune",
                subject: "store".to_owned(),
                detail: detail.collect(),
                at: now,
            };
            action.note(&*store).await.map_err(|error| failed(&error))?;
            let desk = Desk {
                store: Arc::clone(&store),
                config: &config,
                now,
            };
            for going in &mut going {
                *going = desk.prune(going).await?;
            }
            store.forget_ended(now).await.map_err(|e| failed(&e))?;
        }
        if self.json {
            let parts = going.iter().map(|going| {
                let part = json!({
                    "jobs": going.jobs,
                    "records": (going.part == Part::Records).then_some(going.records),
                    "bytes": (going.part == Part::Bundle).then_some(going.bytes),
                    "closed_before": going.before,
                    "held_jobs": going.held,
                });
                (going.part.as_str().to_owned(), part)
            });
            let mut told: serde_json::Map<_, _> = parts.collect();
            told.insert("dry_run".to_owned(), self.dry_run.into());
            term::print_json(&told.into());
        } else if nothing {
            anstream::println!("nothing is old enough");
        } else if self.dry_run {
            anstream::println!("nothing was removed: this was a dry run");
        } else {
            let jobs = |part| {
                let of = going.iter().find(|going| going.part == part);
                of.map_or(0, |going| going.jobs)
            };
            anstream::println!(
                "removed: the records' content of {} jobs, {} bundles",
                jobs(Part::Records),
                jobs(Part::Bundle)
            );
        }
        Ok(())
    }

    /// Before when a job must have been closed, for each part that may go.
    fn cutoffs(&self, config: &Config, now: Timestamp) -> Result<Vec<(Part, Timestamp)>, Failure> {
        let retention = &config.retention;
        let days = |part| match part {
            Part::Records => retention.records_days,
            Part::Bundle => retention.bundles_days,
        };
        let cutoffs: Vec<_> = Part::ALL
            .into_iter()
            .filter_map(|part| {
                let configured = days(part).map(|days| i64::from(days) * 86_400);
                let seconds = self.older_than.map(i64::from).or(configured)?;
                Some((part, now.plus_seconds(-seconds)))
            })
            .collect();
        match cutoffs.is_empty() {
            true => Err(Failure::usage("nothing says how long content stays").next(
                "set retention.records_days or retention.bundles_days in the configuration, or \
                 give --older-than",
            )),
            false => Ok(cutoffs),
        }
    }
}

/// Adds up what may go.
async fn count(
    store: &dyn Store,
    part: Part,
    before: Timestamp,
    now: Timestamp,
) -> Result<Going, Failure> {
    let held = store.held_back(before).await.map_err(|e| failed(&e))?;
    let mut going = Going {
        part,
        before,
        jobs: 0,
        records: 0,
        bytes: 0,
        held,
    };
    let mut after = 0;
    loop {
        let page = store.prunable(part, before, now, after, PAGE).await;
        let page = page.map_err(|error| failed(&error))?;
        let Some(last) = page.last() else {
            return Ok(going);
        };
        after = last.place;
        for job in &page {
            going.add(job);
        }
    }
}

impl Going {
    fn add(&mut self, job: &Prunable) {
        self.jobs += 1;
        self.records += job.records;
        self.bytes += job.bundle_bytes;
    }
}

/// Where content is removed.
struct Desk<'c> {
    store: Arc<dyn Store>,
    config: &'c Config,
    now: Timestamp,
}

impl Desk<'_> {
    /// Lets a part go of every job of which it may; tells what went.
    async fn prune(&self, planned: &Going) -> Result<Going, Failure> {
        let (part, before) = (planned.part, planned.before);
        let mut gone = Going {
            jobs: 0,
            records: 0,
            bytes: 0,
            ..*planned
        };
        let mut after = 0;
        loop {
            let page = self.store.prunable(part, before, self.now, after, PAGE);
            let page = page.await.map_err(|error| failed(&error))?;
            let Some(last) = page.last() else {
                return Ok(gone);
            };
            after = last.place;
            for job in &page {
                match self.let_go(part, &job.job_id).await {
                    Ok(()) => gone.add(job),
                    // Somebody holds it since it was listed, or has made a link to it.
                    Err(StoreError::Conflict(
                        Conflict::JobHeld(_) | Conflict::JobOpen(_) | Conflict::JobLinked(_),
                    )) => {
                        gone.held += 1;
                    }
                    Err(error) => return Err(failed(&error)),
                }
            }
        }
    }

    /// That it goes is durable before anything does: whoever asks meanwhile, and after a crash, is
    /// told that it went.
    async fn let_go(&self, part: Part, job: &JobId) -> Result<(), StoreError> {
        self.store.begin_pruning(job, part, BY, self.now).await?;
        match part {
            Part::Records => {
                let mut before = None;
                while let Some(lowest) = self.store.prune_records(job, before).await? {
                    before = Some(lowest);
                }
                self.remove_entries(job).await?;
            }
            Part::Bundle => {
                let removed = bundles::remove(self.config, job);
                removed.map_err(|error| StoreError::Unavailable(Arc::new(error)))?;
            }
        }
        self.store.finish_pruning(job, part).await
    }

    /// Removes the published bundles of entries in which records of the job stand.
    async fn remove_entries(&self, job: &JobId) -> Result<(), StoreError> {
        // In a bucket nothing is ever deleted by us: its own rules of expiry do that.
        let Some(Tiles::Folder(published)) = &self.config.log.tiles else {
            return Ok(());
        };
        let mut places = BTreeSet::new();
        let mut after = 0;
        loop {
            let page = self.store.record_places(job, after, 1000).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            places.extend(page.iter().map(|record| record.leaf_index >> 8));
        }
        for tile in places.into_iter().flat_map(entries) {
            let unusable = |error| StoreError::Unavailable(Arc::new(error));
            remove(&published.join(tile.to_string())).map_err(unusable)?;
            match fs::remove_dir_all(published.join(tile.partials())) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(unusable(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The full bundle of entries of this number.
fn entries(number: u64) -> impl Iterator<Item = Tile> {
    let (from, to) = (number << 8, (number + 1) << 8);
    tiles::added(from, to).filter(|tile| tile.holds() == Holds::Entries)
}

/// Removes a file; one that is gone already is fine.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn tell(going: &[Going]) {
    for going in going {
        let what = match going.part {
            Part::Records => format!("content of {} records", going.records),
            Part::Bundle => format!("bundles, {} bytes", going.bytes),
        };
        let (jobs, before) = (going.jobs, going.before);
        anstream::println!("{jobs} jobs closed before {before}: {what}");
    }
    if let Some(held) = going
        .iter()
        .map(|going| going.held)
        .max()
        .filter(|n| *n > 0)
    {
        anstream::println!("{held} more stay because of a hold: `clawgate hold list`");
    }
}

fn failed(error: &StoreError) -> Failure {
    Failure::new(format!("the store: {}", super::super::chain(error)))
        .next("run it again: it goes on where it stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_those_of_the_number() {
        let names: Vec<String> = entries(0x1234).map(|tile| tile.to_string()).collect();
        assert_eq!(names, ["tile/entries/x004/660"]);
        assert_eq!(entries(0).next().unwrap().partials(), "tile/entries/000.p");
    }

    #[test]
    fn spans_are_read_or_refused() {
        assert_eq!(span("400d"), Ok(400 * 86_400));
        for bad in ["400", "-1d", ""] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
