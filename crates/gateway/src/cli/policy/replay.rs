//! `clawgate policy replay`: recorded calls, decided again under another contract.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clawverify::replay::{Fate, Group, Pair, Said, Tally};
use policy::{Contract, Verdict};
use proof::record::Record;
use proof::{Hash, Timestamp};
use serde_json::{Value, json};

use super::super::evidence::export::time;
use super::super::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};
use super::super::{Failure, OperatorApi, Remote};
use super::diff;

/// Decides recorded calls again under another contract, and says what would have changed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate policy replay new.json bundle.json other-bundle.json
  clawgate policy replay new.json bundle.json --trust trust.json
  clawgate policy replay new.json --since 2026-11-01

Bundles are read here, without a gateway, and verified first where --trust names a trust root.
With --since the calls are those that the gateway has recorded from then on, of all jobs.

Each call is decided for itself, with the facts that were recorded with it. What depends on more,
files, plans, bodies, prices, is counted as not decidable and never guessed.

Exit codes: 0 nothing would have changed, 1 something would, 2 the question could not be asked,
3 nothing is known to change, but something is not decidable.")]
pub(in crate::cli) struct Replay {
    /// The contract to decide under: a file, or a published hash
    #[arg(value_name = "FILE|HASH")]
    contract: String,
    /// Bundles of closed jobs
    #[arg(
        value_name = "BUNDLE",
        required_unless_present = "since",
        conflicts_with = "since"
    )]
    bundles: Vec<PathBuf>,
    /// What the gateway recorded from this time on: a day (UTC) or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Verify each bundle against this trust root first
    #[arg(long, value_name = "FILE", conflicts_with = "since")]
    trust: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

impl Replay {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        // 1 and 3 are answers here.
        self.replay().await.map_err(Failure::into_usage)
    }

    async fn replay(self) -> Result<ExitCode, Failure> {
        let contract = diff::contract(&self.contract, &self.remote).await?;
        let mut desk = Desk::new(&contract);
        match self.since {
            Some(since) => recorded(&self.remote.connect()?, since, &mut desk).await?,
            None => {
                let trust = self.trust.as_deref().map(read).transpose()?;
                for file in &self.bundles {
                    bundle(file, trust.as_deref(), &mut desk)?;
                }
            }
        }
        if self.remote.json {
            term::print_json(&document(&contract, &desk));
        } else {
            print(&desk);
        }
        Ok(desk.exit_code())
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file)
        .map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", file.display())))
}

fn bundle(file: &Path, trust: Option<&[u8]>, desk: &mut Desk<'_>) -> Result<(), Failure> {
    let bytes = read(file)?;
    let name = file.display();
    if let Some(trust) = trust {
        let report = clawverify::verify(&bytes, trust, &clawverify::Options::default());
        if report.verdict != clawverify::Verdict::Valid {
            return Err(Failure::new(format!("`{name}` is not valid"))
                .next(format!("clawverify {name} --trust FILE says why")));
        }
    }
    let (old, records) = clawverify::replay::read(&bytes)
        .map_err(|error| Failure::new(format!("`{name}`: {error}")))?;
    desk.sources += 1;
    let hash = old.hash();
    desk.learn(hash, &old);
    for record in &records {
        desk.take(&hash, record);
    }
    Ok(())
}

/// Jobs, newest first; of each its records, in pages.
async fn recorded(api: &OperatorApi, since: Timestamp, desk: &mut Desk<'_>) -> Result<(), Failure> {
    let odd = |what: &str| Failure::new(format!("the gateway's answer has no usable {what}"));
    let mut before = String::new();
    loop {
        let answer = api.get(&format!("/v1/jobs?limit=1000{before}")).await?;
        let jobs = term::items(&answer);
        for job in jobs {
            let last: Timestamp =
                serde_json::from_value(job["last_at"].clone()).map_err(|_| odd("`last_at`"))?;
            if last < since {
                continue;
            }
            let hash: Hash = serde_json::from_value(job["policy_hash_b64u"].clone())
                .map_err(|_| odd("`policy_hash_b64u`"))?;
            if !desk.knows(&hash) {
                desk.learn(hash, &diff::fetch(api, &hash).await?);
            }
            desk.sources += 1;
            job_records(api, &term::text(job, "job_id"), &hash, since, desk).await?;
        }
        match jobs.last() {
            Some(last) if jobs.len() == 1000 => {
                before = format!("&before={}", term::text(last, "job_id"));
            }
            _ => return Ok(()),
        }
    }
}

async fn job_records(
    api: &OperatorApi,
    job: &str,
    hash: &Hash,
    since: Timestamp,
    desk: &mut Desk<'_>,
) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let path = format!("/v1/jobs/{job}/records?limit=1000&after={after}");
        let answer = api.get(&path).await?;
        if !answer["pruned"].is_null() {
            let gone = "their records' content was removed after its retention";
            anstream::eprintln!("{job} is left out: {gone}");
            return Ok(());
        }
        let rows = answer["records"].as_array().map_or(&[][..], Vec::as_slice);
        for row in rows {
            let record: Record = serde_json::from_value(row["record"].clone())
                .map_err(|error| Failure::new(format!("a record of {job}: {error}")))?;
            after = record.seq;
            if record.at >= since {
                desk.take(hash, &record);
            }
        }
        if rows.len() < 1000 {
            return Ok(());
        }
    }
}

/// Where records are decided again and counted.
struct Desk<'c> {
    new: &'c Contract,
    pairs: HashMap<Hash, Pair>,
    tally: Tally,
    /// Bundles or jobs.
    sources: u64,
}

impl<'c> Desk<'c> {
    fn new(new: &'c Contract) -> Self {
        Self {
            new,
            pairs: HashMap::new(),
            tally: Tally::default(),
            sources: 0,
        }
    }

    fn knows(&self, hash: &Hash) -> bool {
        self.pairs.contains_key(hash)
    }

    fn learn(&mut self, hash: Hash, old: &Contract) {
        let new = self.new;
        self.pairs
            .entry(hash)
            .or_insert_with(|| Pair::new(old, new));
    }

    fn take(&mut self, hash: &Hash, record: &Record) {
        let pair = self.pairs.get(hash);
        if let Some(replayed) = pair.and_then(|pair| pair.replay(record)) {
            self.tally.add(record, replayed);
        }
    }

    fn counts(&self) -> [(&'static str, u64); 7] {
        let becomes = |was: fn(Verdict) -> bool, now: Verdict| {
            self.tally.count(|fate| {
                matches!(fate, Fate::Changed(then, after) if was(then.decision) && after.decision == now)
            })
        };
        let refused = |verdict| verdict == Verdict::Deny;
        [
            ("same", self.tally.count(|fate| *fate == Fate::Same)),
            ("newly_refused", becomes(|_| true, Verdict::Deny)),
            (
                "newly_allowed",
                becomes(refused, Verdict::Allow) + becomes(refused, Verdict::Approve),
            ),
            (
                "newly_needs_a_person",
                becomes(|was| was == Verdict::Allow, Verdict::Approve),
            ),
            (
                "no_longer_needs_a_person",
                becomes(|was| was == Verdict::Approve, Verdict::Allow),
            ),
            (
                "not_decidable",
                self.tally
                    .count(|fate| matches!(fate, Fate::Undecidable(_))),
            ),
            (
                "not_decided_by_a_contract",
                self.tally.count(|fate| *fate == Fate::Apart),
            ),
        ]
    }

    fn exit_code(&self) -> ExitCode {
        let changed = self.tally.count(|fate| matches!(fate, Fate::Changed(..)));
        let open = self
            .tally
            .count(|fate| matches!(fate, Fate::Undecidable(_)));
        match (changed, open) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}

fn document(contract: &Contract, desk: &Desk<'_>) -> Value {
    let groups = desk.tally.groups().map(|group| {
        let (then, now, why) = match group.replayed.fate {
            Fate::Changed(then, now) => (Some(then), Some(now), None),
            Fate::Undecidable(why) => (None, None, Some(why)),
            Fate::Same | Fate::Apart => (None, None, None),
        };
        json!({
            "operation": group.replayed.operation,
            "target": group.replayed.target,
            "then": then,
            "now": now,
            "not_decidable": why,
            "count": group.count,
            "first": { "job_id": group.first.0, "seq": group.first.1 },
        })
    });
    let mut document = json!({
        "policy_hash_b64u": contract.hash(),
        "sources": desk.sources,
        "groups": groups.collect::<Vec<_>>(),
    });
    for (name, count) in desk.counts() {
        document[name] = count.into();
    }
    // Of the counted ones, those that no group tells of.
    document["beyond"] = desk.tally.beyond.into();
    document
}

fn print(desk: &Desk<'_>) {
    let counts = desk.counts();
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    let jobs = if desk.sources == 1 { "job" } else { "jobs" };
    anstream::println!("{all} recorded answers of {} {jobs}", desk.sources);
    for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
        anstream::println!("  {count:>8}  {}", name.replace('_', " "));
    }
    section(desk, "would be refused", BAD, |then, now| {
        now.decision == Verdict::Deny && then.decision != Verdict::Deny
    });
    section(desk, "would be allowed", WARN, |then, now| {
        now.decision != Verdict::Deny && then.decision == Verdict::Deny
    });
    section(
        desk,
        "would need a person, or no longer",
        GOOD,
        |then, now| now.decision != Verdict::Deny && then.decision != Verdict::Deny,
    );
    let mut heading = false;
    for group in desk.tally.groups() {
        let Fate::Undecidable(why) = group.replayed.fate else {
            continue;
        };
        if !std::mem::replace(&mut heading, true) {
            anstream::println!("\n{BOLD}not decidable from the records{OFF}");
        }
        line(group, DIM, why);
    }
    if desk.tally.beyond > 0 {
        let beyond = desk.tally.beyond;
        anstream::println!("\n{beyond} of these are not listed: there are too many kinds");
    }
}

fn section(desk: &Desk<'_>, title: &str, style: anstyle::Style, of: fn(Said, Said) -> bool) {
    let mut heading = false;
    for group in desk.tally.groups() {
        let Fate::Changed(then, now) = group.replayed.fate else {
            continue;
        };
        if !of(then, now) {
            continue;
        }
        if !std::mem::replace(&mut heading, true) {
            anstream::println!("\n{BOLD}{title}{OFF}");
        }
        line(group, style, &format!("{} → {}", then.code, now.code));
    }
}

fn line(group: &Group, style: anstyle::Style, why: &str) {
    let (job, seq) = &group.first;
    anstream::println!(
        "  {style}{:>6}{OFF}  {}  {}  {why}  {DIM}first {job} {seq}{OFF}",
        group.count,
        term::plain(&group.replayed.operation),
        term::plain(&group.replayed.target),
    );
}
