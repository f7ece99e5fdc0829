//! Measurements. Nothing here passes or fails: budgets and method stand in
//! `docs/performance.md`, and a figure is written there only when it was measured.

use std::time::Duration;

use anyhow::{Context, bail};

mod figures;
mod gateway;
mod hop;
mod process;

use figures::Figures;

/// What to measure, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Pairs of rounds, gateway and plain hop in turn.
    rounds: u32,
    /// Length of a round.
    round: Duration,
    /// Leave out the benches of pure code.
    skip_criterion: bool,
    /// Put the figures into `docs/performance.md`.
    write: bool,
}

const USAGE: &str = "\
cargo xtask bench [--rounds N] [--seconds N] [--skip-criterion] [--write]
  --rounds N         pairs of rounds, 1 to 50 (5)
  --seconds N        length of a round, 1 to 60 (5)
  --skip-criterion   leave out decide, sign and verify
  --write            put the figures into docs/performance.md";

impl Options {
    /// Reads the words after `bench`.
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            rounds: 5,
            round: Duration::from_secs(5),
            skip_criterion: false,
            write: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = |most: u32| {
                let text = words.next().copied().unwrap_or_default();
                match text.parse() {
                    Ok(number) if (1..=most).contains(&number) => Ok(number),
                    _ => bail!("{word} takes a number from 1 to {most}, not `{text}`\n\n{USAGE}"),
                }
            };
            match *word {
                "--rounds" => options.rounds = number(50)?,
                "--seconds" => options.round = Duration::from_secs(number(60)?.into()),
                "--skip-criterion" => options.skip_criterion = true,
                "--write" => options.write = true,
                other => bail!("unknown option `{other}`\n\n{USAGE}"),
            }
        }
        Ok(options)
    }
}

/// The benches of pure code: crate, bench.
const BENCHES: &[(&str, &str)] = &[
    ("clawgate-policy", "decide"),
    ("clawgate-proof", "sign"),
    ("clawverify", "verify"),
];

/// Measures, prints, and writes when asked to.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut figures = Figures::default();
    if !options.skip_criterion {
        for (package, bench) in BENCHES {
            println!("\n== criterion: {bench} ({package})");
            run_bench(package, bench)?;
        }
        figures.criterion = figures::read_criterion()?;
    }
    println!("\n== a governed model call beside a plain hop");
    match hop::measure(options.rounds, options.round) {
        Ok(hop) => figures.hop = Some(hop),
        Err(hop::NotMeasured::Missing(program)) => {
            println!("`{program}` is not installed; this row stays empty");
            figures.missing = Some(program);
        }
        Err(hop::NotMeasured::Failed(error)) => return Err(error),
    }
    let table = figures.table(&figures::where_and_when());
    println!("\n{table}");
    if options.write {
        figures::write(&table)?;
        println!("written to docs/performance.md");
    }
    Ok(())
}

fn run_bench(package: &str, bench: &str) -> anyhow::Result<()> {
    let status = crate::cargo::cargo(&["bench", "--package", package, "--bench", bench])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the bench `{bench}` of {package} ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let options = Options::parse(&["--rounds", "3", "--seconds", "2", "--write"]).unwrap();
        assert_eq!((options.rounds, options.round.as_secs()), (3, 2));
        assert!(options.write && !options.skip_criterion);
        for bad in [
            &["--rounds"][..],
            &["--rounds", "0"],
            &["--rounds", "51"],
            &["--seconds", "many"],
            &["--faster"],
        ] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }
}
