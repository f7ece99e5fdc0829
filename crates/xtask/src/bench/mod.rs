//! Measurements. Nothing here passes or fails: budgets stand in `docs/performance.md`.

use anyhow::{Context, bail};

use crate::cargo::cargo;

/// What to measure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options;

impl Options {
    /// Reads the words after `bench`.
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Self> {
        if !words.is_empty() {
            bail!("unknown option; bench knows --rounds");
        }
        Ok(Self)
    }
}

/// Measures.
pub(crate) fn run(_: &Options) -> anyhow::Result<()> {
    for (package, bench) in [
        ("clawgate-policy", "decide"),
        ("clawgate-proof", "sign"),
        ("clawverify", "verify"),
    ] {
        let status = cargo(&["bench", "-p", package, "--bench", bench])
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            bail!("the bench `{bench}` ended with {status}");
        }
    }
    Ok(())
}
