//! `clawgate policy diff`: what a new version newly allows, and what it no longer does.

use std::path::Path;

use clap::Args;
use policy::{Contract, ContractDiff};
use proof::Hash;
use serde_json::json;

use super::super::term::{self, BOLD, GOOD, OFF, WARN};
use super::super::{Failure, OperatorApi, Remote, contract_file, job};

/// Says in words what a new version newly allows and what it no longer does
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate policy diff old.json new.json
  clawgate policy diff _SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc new.json

Files are compared here, without a gateway; a published hash is fetched and checked first.")]
pub(in crate::cli) struct Diff {
    /// The old version: a file, or a published hash
    #[arg(value_name = "FILE|HASH")]
    old: String,
    /// The new version: a file, or a published hash
    #[arg(value_name = "FILE|HASH")]
    new: String,
    #[command(flatten)]
    remote: Remote,
}

impl Diff {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (old, new) = (
            self.contract(&self.old).await?,
            self.contract(&self.new).await?,
        );
        let diff = policy::diff(&old, &new);
        if self.remote.json {
            term::print_json(&json!({ "old": old.hash(), "new": new.hash(), "diff": diff }));
        } else {
            print(&diff);
        }
        Ok(())
    }

    async fn contract(&self, named: &str) -> Result<Contract, Failure> {
        let file = Path::new(named);
        match job::named_hash(named) {
            // A file that happens to be called like a hash is still a file.
            Some(hash) if !file.exists() => fetch(&self.remote.connect()?, &hash).await,
            _ => contract_file::read_sound(file),
        }
    }
}

async fn fetch(api: &OperatorApi, hash: &Hash) -> Result<Contract, Failure> {
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
