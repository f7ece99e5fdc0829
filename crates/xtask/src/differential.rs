//! A million random calls under random contracts: the decision beside an evaluator that was
//! written separately (`crates/policy/tests/differential`).

use std::process::Command;

use anyhow::{Context, bail};

use crate::cargo::cargo;

/// Pairs of call and contract; about a minute in the development profile.
const PAIRS: u64 = 1_000_000;

/// The test with its full number of pairs, over the whole workspace so that the features are
/// those of every other build.
pub(crate) fn command() -> Command {
    let mut command = cargo(&[
        "test",
        "--workspace",
        "--quiet",
        "--test",
        "differential",
        "--",
        "--nocapture",
    ]);
    command.env("CLAWGATE_PAIRS", PAIRS.to_string());
    command
}

/// Runs it.
pub(crate) fn run() -> anyhow::Result<()> {
    let status = command().status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the two evaluators disagree; the pair stands above: {status}");
    }
    Ok(())
}
