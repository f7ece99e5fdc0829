//! Kills and restarts of the real program under load (`crates/gateway/tests/crash`), as many as are
//! wanted.

use std::process::Command;

use anyhow::{Context, bail};

use crate::cargo::cargo;

/// How many, from which seed, and how many worlds are killed at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    kills: u64,
    seed: u64,
    worlds: u64,
}

impl Options {
    /// Reads `--kills N`, `--seed S` and `--worlds W`.
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            kills: 200,
            seed: 1,
            worlds: 4,
        };
        for pair in words.chunks(2) {
            let (place, least) = match pair[0] {
                "--kills" => (&mut options.kills, 1),
                "--seed" => (&mut options.seed, 0),
                "--worlds" => (&mut options.worlds, 1),
                other => bail!("unknown option `{other}`: there are --kills, --seed and --worlds"),
            };
            let number = pair.get(1).and_then(|text| text.parse().ok());
            let number = number.filter(|number| *number >= least);
            *place = number.with_context(|| format!("{} takes a number, from {least}", pair[0]))?;
        }
        Ok(options)
    }
}

/// Runs them; what was survived, and what was not, is printed.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let status = command(options).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("something did not survive; what, and where its folder is kept, stands above");
    }
    Ok(())
}

/// The test with these numbers, over the whole workspace so that the features are those of every
/// other build.
fn command(options: Options) -> Command {
    let mut command = cargo(&[
        "test",
        "--workspace",
        "--quiet",
        "--test",
        "crash",
        "--",
        "--nocapture",
        "kills_lose_nothing",
    ]);
    command
        .env("CLAWGATE_KILLS", options.kills.to_string())
        .env("CLAWGATE_SEED", options.seed.to_string())
        .env("CLAWGATE_WORLDS", options.worlds.to_string());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_numbers() {
        let parsed = Options::parse(&["--seed", "7", "--kills", "10000"]).unwrap();
        let expected = Options {
            kills: 10_000,
            seed: 7,
            worlds: 4,
        };
        assert_eq!(parsed, expected);
        for wrong in [&["--kills"][..], &["--kills", "0"], &["--kill", "1"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
