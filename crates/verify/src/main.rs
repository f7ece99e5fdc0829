//! `clawverify`: what an auditor runs on a bundle and a trust root, and nothing else.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clawverify::clawsig::conformance::{self, MAX_MANIFEST_BYTES, Summary};
use clawverify::report::Name;
use clawverify::{
    Check, Code, MAX_BUNDLE_BYTES, MAX_PROOF_BYTES, Options, Report, Since, Status, Verdict,
    clawsig, trust,
};
use proof::Timestamp;

/// What one thread reads another gives back, by the hundred thousand pieces; the C library's
/// allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  clawverify bundle.json --trust trust.json
  clawverify bundle.json --trust trust.json --json > report.json
  clawverify bundle.json --trust trust.json --at 2027-01-31T00:00:00.000Z
  clawverify bundle.json --trust trust.json --since last-quarter.json --consistency proof.json
  curl -s https://… | clawverify - --trust trust.json
  clawverify bundle.json --trust config.json --profile clawsig
  clawverify conformance vectors/manifest.json
  clawverify explain APPLY_NOT_APPROVED

Exit status:
  0  valid; of a list of test files, no disagreement
  1  invalid; of a list, at least one disagreement
  2  wrong usage, or a file that cannot be read
  3  not proven";

const CONFORMANCE: &str = "\
The list is a JSON array of {path, kind, expected, reason_code} with, where a file needs them,
config, urm and verify_at. Kinds other than proof_bundle, export_bundle and log_inclusion_proof
are counted as unsupported.

Example:
  clawverify conformance vectors/manifest.json --config config.json --json";

/// Verifies a Clawgate proof bundle offline, believing only the trust root that you give it.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true, max_term_width = 100)]
struct CommandLine {
    #[command(flatten)]
    verify: Verify,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Verify {
    /// The bundle's file, or `-` for standard input.
    #[arg(required = true)]
    bundle: Option<PathBuf>,
    /// The trust root, received by another way than the bundle.
    #[arg(long, value_name = "FILE", required = true)]
    trust: Option<PathBuf>,
    /// Judge the gateway's keys as of this moment too, for example 2026-11-22T08:00:00.000Z.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// A checkpoint that you have kept, or an earlier bundle: the log must not have been rewritten
    /// since.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// The proof between the two, from `clawgate log prove`.
    #[arg(long, value_name = "FILE", requires = "since")]
    consistency: Option<PathBuf>,
    /// Which verdicts to give.
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// With the profile clawsig: the run manifest that the bundle refers to.
    #[arg(long, value_name = "FILE")]
    urm: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print nothing; the exit status says it.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// Everything that a Clawgate bundle must be.
    #[default]
    Clawgate,
    /// What the public clawsig verifier says about a proof bundle, an export bundle or an inclusion
    /// proof; the trust file may also be a configuration of that verifier.
    Clawsig,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says what a code means; without a code, lists them all.
    Explain {
        /// A code from a report.
        code: Option<String>,
    },
    /// Runs the public verifier's list of test files and compares its verdicts with those of the
    /// profile clawsig.
    #[command(after_help = CONFORMANCE)]
    Conformance {
        /// The list; the paths in it are relative to its folder.
        manifest: PathBuf,
        /// The public verifier's configuration (or a trust root), for files that name none.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let result = match line.command {
        Some(Command::Explain { code }) => explain(code.as_deref()),
        Some(Command::Conformance {
            manifest,
            config,
            json,
        }) => run_conformance(&manifest, config.as_deref(), json),
        None => run(&line.verify),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(anstream::stderr(), "clawverify: {error}");
        ExitCode::from(2)
    })
}

fn run(arguments: &Verify) -> Result<ExitCode, String> {
    let (Some(bundle), Some(trust)) = (&arguments.bundle, &arguments.trust) else {
        return Err("a bundle and --trust are needed; see --help".to_owned());
    };
    let trust = read(trust, trust::MAX_TRUST_BYTES)?;
    if arguments.profile == Profile::Clawsig {
        if arguments.since.is_some() {
            return Err("--since goes with --profile clawgate".to_owned());
        }
        return run_clawsig(arguments, bundle, &trust);
    }
    if arguments.urm.is_some() {
        return Err("--urm goes with --profile clawsig".to_owned());
    }
    // A trust root that is none is a mistake in the call, not a word about the bundle.
    trust::read(&trust).map_err(|error| error.to_string())?;
    let since = match &arguments.since {
        None => None,
        Some(kept) => Some(Since {
            kept: read(kept, MAX_BUNDLE_BYTES)?,
            proof: match &arguments.consistency {
                Some(proof) => Some(read(proof, MAX_PROOF_BYTES)?),
                None => None,
            },
        }),
    };
    let at = arguments.at;
    let options = Options { at, since };
    let report = match seekable(bundle)? {
        Some(file) => clawverify::verify_file(file, &trust, &options)
            .map_err(|error| cannot_read(bundle, &error))?,
        None => clawverify::verify(&read(bundle, MAX_BUNDLE_BYTES)?, &trust, &options),
    };
    print(&report, arguments).map_err(cannot_print)?;
    Ok(ExitCode::from(match report.verdict {
        Verdict::Valid => 0,
        Verdict::Invalid => 1,
        Verdict::NotProven => 3,
    }))
}

fn run_clawsig(arguments: &Verify, bundle: &Path, trust: &[u8]) -> Result<ExitCode, String> {
    let mut options = clawsig::Options::from_trust(trust).map_err(|error| error.to_string())?;
    options.at = arguments.at;
    if let Some(urm) = &arguments.urm {
        options.urm = Some(read(urm, MAX_BUNDLE_BYTES)?);
    }
    let report = clawsig::verify(&read(bundle, MAX_BUNDLE_BYTES)?, &options);
    let (word, color, exit) = match report.verdict {
        clawsig::Verdict::Pass => ("PASS", AnsiColor::Green, 0),
        clawsig::Verdict::Fail => ("FAIL", AnsiColor::Red, 1),
        clawsig::Verdict::Unsupported => ("NOT PROVEN", AnsiColor::Yellow, 3),
    };
    let mut out = anstream::stdout().lock();
    let printed = if arguments.quiet {
        Ok(())
    } else if arguments.json {
        serde_json::to_writer_pretty(&mut out, &report)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        let style = color.on_default().bold();
        let (code, place, detail) = (&report.reason_code, &report.place, &report.detail);
        writeln!(out, "{style}{word}{style:#}  {code}  {place}  {detail}")
    };
    printed.map_err(cannot_print)?;
    Ok(ExitCode::from(exit))
}

fn run_conformance(
    manifest: &Path,
    config: Option<&Path>,
    as_json: bool,
) -> Result<ExitCode, String> {
    let default = match config {
        Some(path) => clawsig::Options::from_trust(&read(path, trust::MAX_TRUST_BYTES)?)
            .map_err(|error| format!("`{}`: {error}", path.display()))?,
        None => clawsig::Options::default(),
    };
    let folder = manifest.parent().unwrap_or(Path::new(""));
    let list = read(manifest, MAX_MANIFEST_BYTES)?;
    if list.len() > MAX_MANIFEST_BYTES {
        return Err(format!(
            "the list is larger than {MAX_MANIFEST_BYTES} bytes"
        ));
    }
    let file = |path: &str| read(&folder.join(path), MAX_BUNDLE_BYTES);
    let summary = conformance::run(&list, &default, file).map_err(|error| error.to_string())?;
    let mut out = anstream::stdout().lock();
    let printed = if as_json {
        serde_json::to_writer_pretty(&mut out, &summary)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        print_summary(&mut out, &summary)
    };
    printed.map_err(cannot_print)?;
    Ok(ExitCode::from(u8::from(!summary.disagree.is_empty())))
}

fn print_summary(out: &mut impl std::io::Write, summary: &Summary) -> std::io::Result<()> {
    for differs in &summary.disagree {
        let found = &differs.found;
        let style = AnsiColor::Red.on_default().bold();
        writeln!(
            out,
            "{style}disagree{style:#}  {}: {:?} {} expected, {:?} {} found{}{} {}",
            differs.path,
            differs.expected,
            differs.expected_code,
            found.verdict,
            found.reason_code,
            if found.place.is_empty() { "" } else { " at " },
            found.place,
            found.detail,
        )?;
    }
    let unsupported: usize = summary.unsupported.values().sum();
    let kinds: Vec<String> = summary
        .unsupported
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    writeln!(out, "agree        {}", summary.agree)?;
    writeln!(out, "disagree     {}", summary.disagree.len())?;
    write!(out, "unsupported  {unsupported}")?;
    if !kinds.is_empty() {
        write!(out, "  ({})", kinds.join(", "))?;
    }
    writeln!(out)
}

fn cannot_print(error: std::io::Error) -> String {
    format!("cannot print the report: {error}")
}

/// Reads a file, but never much more than the verifier takes: one byte more tells it that the
/// file is too large.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let most = limit as u64 + 1;
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(cannot_read(path, &error)),
    }
}

/// A file that can be read from its beginning again; none when it is a pipe.
fn seekable(path: &Path) -> Result<Option<File>, String> {
    if path.as_os_str() == "-" {
        return Ok(None);
    }
    // Not by opening it: a pipe would take that for its reader.
    let opened = std::fs::metadata(path).and_then(|about| match about.is_file() {
        true => File::open(path).map(Some),
        false => Ok(None),
    });
    opened.map_err(|error| cannot_read(path, &error))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

fn print(report: &Report, arguments: &Verify) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    if arguments.quiet {
        return Ok(());
    }
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, report)?;
        return writeln!(out);
    }
    let width = Name::ALL.iter().map(|name| name.as_str().len()).max();
    let width = width.unwrap_or_default();
    for check in &report.checks {
        line(&mut out, check, width)?;
    }
    let (word, style) = match report.verdict {
        Verdict::Valid => ("VALID", AnsiColor::Green),
        Verdict::Invalid => ("INVALID", AnsiColor::Red),
        Verdict::NotProven => ("NOT PROVEN", AnsiColor::Yellow),
    };
    let style = style.on_default().bold();
    writeln!(out)?;
    writeln!(out, "{style}{word}{style:#}  {}", report.summary)?;
    if let Some(check) = report
        .checks
        .iter()
        .find(|check| check.status != Status::Pass)
    {
        writeln!(out, "clawverify explain {}", check.code)?;
    }
    Ok(())
}

fn line(out: &mut impl std::io::Write, check: &Check, width: usize) -> std::io::Result<()> {
    let (word, style) = match check.status {
        Status::Pass => ("pass", AnsiColor::Green.on_default()),
        Status::Fail => ("FAIL", AnsiColor::Red.on_default().bold()),
        Status::NotProven => ("not proven", AnsiColor::Yellow.on_default()),
        Status::Skipped => ("not proven", Style::new().dimmed()),
    };
    write!(
        out,
        "{style}{word:<10}{style:#}  {:<width$}",
        check.name.as_str()
    )?;
    if check.status != Status::Pass {
        write!(out, "  {}", check.code)?;
    }
    if !check.place.is_empty() {
        write!(out, "  at {}", check.place)?;
    }
    if !check.detail.is_empty() {
        write!(out, "  {}", check.detail)?;
    }
    writeln!(out)
}

fn explain(code: Option<&str>) -> Result<ExitCode, String> {
    let mut out = anstream::stdout().lock();
    let bold = Style::new().bold();
    let printed = match code {
        None => Code::ALL
            .iter()
            .try_for_each(|code| writeln!(out, "{bold}{code:<24}{bold:#}  {}", code.title())),
        Some(text) => {
            let code: Code = text
                .to_ascii_uppercase()
                .parse()
                .map_err(|error| format!("{error}; `clawverify explain` lists them all"))?;
            writeln!(
                out,
                "{bold}{code}{bold:#}: {}\n\n{}",
                code.title(),
                code.explanation()
            )
        }
    };
    printed.map_err(cannot_print)?;
    Ok(ExitCode::SUCCESS)
}
