//! `clawgate policy diff`: what a new version newly allows, and what it no longer does.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use policy::{Contract, ContractDiff};
use proof::Hash;
use serde_json::json;

use super::super::term::{self, BOLD, GOOD, OFF, WARN};
use super::super::{Failure, OperatorApi, Remote, contract_file, job};
use super::prove;

/// Says in words what a new version newly allows and what it no longer does
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate policy diff old.json new.json
  clawgate policy diff _SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc new.json
  clawgate policy diff old.json new.json --prove || echo 'needs a second look'

Files are compared here, without a gateway; a published hash is fetched and checked first.

--prove decides instead of comparing texts: whatever the new version allows and the old one does
not is found, and shown with a call to try. Exit codes with it: 0 nothing is newly allowed,
1 something is, 2 the question could not be asked.")]
pub(in crate::cli) struct Diff {
    /// The old version: a file, or a published hash
    #[arg(value_name = "FILE|HASH")]
    old: String,
    /// The new version: a file, or a published hash
    #[arg(value_name = "FILE|HASH")]
    new: String,
    /// Decide exactly whether anything is newly allowed, and show what
    #[arg(long)]
    prove: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Diff {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let read = async {
            Ok((
                self.contract(&self.old).await?,
                self.contract(&self.new).await?,
            ))
        };
        let read: Result<(Contract, Contract), Failure> = read.await;
        if self.prove {
            let (old, new) = match read {
                Ok(read) => read,
                // 1 is an answer here.
                Err(failure) => return Err(failure.into_usage()),
            };
            let old = prove::Named {
                name: &self.old,
                contract: &old,
            };
            let new = prove::Named {
                name: &self.new,
                contract: &new,
            };
            return Ok(prove::report(&old, &new, self.remote.json));
        }
        let (old, new) = read?;
        let diff = policy::diff(&old, &new);
        if self.remote.json {
            term::print_json(&json!({ "old": old.hash(), "new": new.hash(), "diff": diff }));
        } else {
            print(&diff);
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn contract(&self, named: &str) -> Result<Contract, Failure> {
        contract(named, &self.remote).await
    }
}

/// A contract in a file, or a published one by its hash.
pub(super) async fn contract(named: &str, remote: &Remote) -> Result<Contract, Failure> {
    let file = Path::new(named);
    match job::named_hash(named) {
        // A file that happens to be called like a hash is still a file.
        Some(hash) if !file.exists() => fetch(&remote.connect()?, &hash).await,
        _ => contract_file::read_sound(file),
    }
}

pub(super) async fn fetch(api: &OperatorApi, hash: &Hash) -> Result<Contract, Failure> {
    super::verified(&api.get(&format!("/v1/contracts/{hash}")).await?, hash)
}

fn print(diff: &ContractDiff) {
    if diff.is_empty() {
        anstream::println!("the two mean the same");
        return;
    }
    let parts = [
        ("newly allowed", WARN, "+", &diff.now_allowed),
        ("no longer allowed", GOOD, "-", &diff.no_longer_allowed),
        ("otherwise changed", BOLD, "~", &diff.other),
    ];
    for (title, style, sign, lines) in parts {
        if lines.is_empty() {
            continue;
        }
        anstream::println!("{BOLD}{title}{OFF}");
        for line in lines {
            anstream::println!("  {style}{sign}{OFF} {}", term::plain(line));
        }
    }
}
