//! Measurements. Nothing here passes or fails: budgets and method stand in
//! `docs/performance.md`, and a figure is written there only when it was measured.

use std::time::Duration;

use anyhow::{Context, bail};

mod figures;
mod gateway;
mod hop;
mod load;
mod peers;
mod process;
mod streams;

use crate::cargo::cargo;
use figures::Figures;
use hop::Lengths;

/// What to measure, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Rounds of each number of connections, everybody in turn.
    rounds: u32,
    /// Length of a turn.
    round: Duration,
    /// Length of the soak.
    soak: Option<Duration>,
    /// Print JSON.
    json: bool,
    /// Leave out the benches of pure code.
    skip_criterion: bool,
    /// Put the figures into `docs/performance.md`.
    write: bool,
    /// Measure the people's pages, and nothing else.
    pages: bool,
    /// Measure decisions, appends and look-ups in a store of so many records, and nothing else.
    records: Option<u32>,
    /// Seal and verify a bundle of so many receipts, and nothing else.
    receipts: Option<u32>,
    /// Keep so many streams open, and nothing else.
    streams: Option<u32>,
}

const USAGE: &str = "\
cargo xtask bench [--rounds N] [--seconds N] [--soak MINUTES] [--skip-criterion] [--json] [--write]
cargo xtask bench --pages
cargo xtask bench --records N
cargo xtask bench [--receipts N] [--streams N]
  --rounds N         rounds at 1, at 16 and at 64 connections, 1 to 50 (5)
  --seconds N        length of each peer's turn in a round, 1 to 60 (5)
  --soak MINUTES     64 streams with bodies of 150 KB for so long, 1 to 60 (none)
  --skip-criterion   leave out decide, sign and verify
  --json             print the figures as JSON; all else goes to the standard error
  --write            put the figures into docs/performance.md
  --pages            only the people's pages, on a store of 100,000 jobs; takes 1 GB of disk
  --records N        only decisions, appends and look-ups in a store of N records beside one of
                     10,000, on SQLite, and on PostgreSQL where CLAWGATE_TEST_POSTGRES names a server
  --receipts N       only a job of N receipts that is sealed and verified, and its memory
  --streams N        only N streams that stand open beside 64 that do not, and their memory";

impl Options {
    /// Reads the words after `bench`.
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            rounds: 5,
            round: Duration::from_secs(5),
            soak: None,
            json: false,
            skip_criterion: false,
            write: false,
            pages: false,
            records: None,
            receipts: None,
            streams: None,
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
                "--soak" => options.soak = Some(Duration::from_secs(60 * u64::from(number(60)?))),
                "--json" => options.json = true,
                "--skip-criterion" => options.skip_criterion = true,
                "--write" => options.write = true,
                "--pages" => options.pages = true,
                "--records" => options.records = Some(number(100_000_000)?),
                "--receipts" => options.receipts = Some(number(200_000)?),
                "--streams" => options.streams = Some(number(4_000)?),
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
    if options.pages {
        return pages();
    }
    if let Some(records) = options.records {
        let records = records.to_string();
        let words = ["run", "--release", "--package", "clawgate", "--example"];
        return succeed(cargo(&[&words[..], &["records", "--", &records]].concat()));
    }
    if options.receipts.is_some() || options.streams.is_some() {
        return endurance(options);
    }
    let mut figures = Figures::default();
    if !options.skip_criterion {
        for (package, bench) in BENCHES {
            eprintln!("\n== criterion: {bench} ({package})");
            run_bench(package, bench)?;
        }
        figures.criterion = figures::read_criterion()?;
    }
    eprintln!("\n== a governed model call beside others");
    let lengths = Lengths {
        rounds: options.rounds,
        round: options.round,
        soak: options.soak,
    };
    match hop::measure(lengths) {
        Ok(hop) => figures.hop = Some(hop),
        Err(hop::NotMeasured::Missing(program)) => {
            eprintln!("`{program}` is not installed; this row stays empty");
            figures.missing = Some(program);
        }
        Err(hop::NotMeasured::Failed(error)) => return Err(error),
    }
    let origin = figures::where_and_when();
    let table = figures.table(&origin);
    if options.json {
        println!("{:#}", figures.json(&origin));
    } else {
        println!("\n{table}");
    }
    if options.write {
        figures::write(&table)?;
        eprintln!("written to docs/performance.md");
    }
    Ok(())
}

/// What the test of the same name does with small numbers, as it is shipped; it prints what it
/// measures.
fn endurance(options: &Options) -> anyhow::Result<()> {
    let words = [
        "test",
        "--release",
        "--package",
        "clawgate",
        "--test",
        "endurance",
    ];
    let mut test = cargo(&[&words[..], &["--", "--nocapture"]].concat());
    for (name, number) in [
        ("CLAWGATE_RECEIPTS", options.receipts),
        ("CLAWGATE_STREAMS", options.streams),
    ] {
        if let Some(number) = number {
            test.env(name, number.to_string());
        }
    }
    succeed(test)
}

fn succeed(mut command: std::process::Command) -> anyhow::Result<()> {
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the measurement ended with {status}");
    }
    Ok(())
}

/// The example prints its own table.
fn pages() -> anyhow::Result<()> {
    let words = [
        "run",
        "--release",
        "--package",
        "clawgate",
        "--example",
        "pages",
    ];
    let status = crate::cargo::cargo(&words).status();
    let status = status.context("cannot start cargo")?;
    if !status.success() {
        bail!("the example `pages` ended with {status}");
    }
    Ok(())
}

fn run_bench(package: &str, bench: &str) -> anyhow::Result<()> {
    let status = crate::cargo::cargo(&["bench", "--package", package, "--bench", bench])
        .stdout(std::io::stderr())
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
        assert!(options.write && !options.skip_criterion && !options.json && !options.pages);
        assert!(Options::parse(&["--pages"]).unwrap().pages);
        let options = Options::parse(&["--receipts", "100000", "--streams", "2000"]).unwrap();
        assert_eq!(
            (options.receipts, options.streams),
            (Some(100_000), Some(2000))
        );
        let options = Options::parse(&["--soak", "10", "--json"]).unwrap();
        assert_eq!(options.soak, Some(Duration::from_secs(600)));
        assert!(options.json);
        for bad in [
            &["--rounds"][..],
            &["--rounds", "0"],
            &["--rounds", "51"],
            &["--seconds", "many"],
            &["--faster"],
            &["--soak"],
            &["--soak", "61"],
            &["--streams", "4001"],
            &["--records"],
        ] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }
}
