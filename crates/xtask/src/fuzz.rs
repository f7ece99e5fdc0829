//! Every fuzz target of `fuzz/` for a while, one after another, with the stable compiler: libFuzzer
//! needs its coverage counters and nothing else, because no code of ours is unsafe.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::cargo::{cargo, root, target};

/// What makes the compiler count which branches are taken and show what is compared.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Seconds for each target unless the caller says otherwise.
const SECONDS: u32 = 60;
/// Longest input, in bytes: what is found is found in short ones.
const MAX_INPUT: u32 = 8192;
/// Most memory of a target, in MiB, and most seconds for one input.
const MEMORY: u32 = 1024;
const PATIENCE: u32 = 20;

/// What is run, and for how long.
pub(crate) struct Options {
    seconds: u32,
    /// Only this one.
    target: Option<String>,
}

impl Options {
    /// Reads `[--seconds N] [--target NAME]`.
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            seconds: SECONDS,
            target: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("`{word}` needs a value"))?;
            match *word {
                "--seconds" => {
                    let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
                    options.seconds = seconds.context("`--seconds` needs a number above zero")?;
                }
                "--target" => options.target = Some((*value).to_owned()),
                other => bail!("unknown option `{other}`; use --seconds N or --target NAME"),
            }
        }
        Ok(options)
    }
}

/// The test that reads the corpus once, without instruments.
pub(crate) fn corpus() -> Command {
    cargo(&["test", "--quiet", "--manifest-path", "fuzz/Cargo.toml"])
}

/// Builds all targets, and runs them.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let names: Vec<String> = targets()?
        .into_iter()
        .filter(|name| options.target.as_ref().is_none_or(|wanted| wanted == name))
        .collect();
    if names.is_empty() {
        bail!("no such target; they are {}", targets()?.join(", "));
    }
    let folder = target().join("fuzz");
    let programs = build(&folder)?;
    let mut counts = Vec::new();
    for name in names {
        println!("\n== {name}, {} s", options.seconds);
        let runs = execute(&programs, &folder, &name, options.seconds)?;
        counts.push((name, runs));
    }
    println!();
    for (name, runs) in counts {
        println!("  {name:<16} {runs} inputs, no finding");
    }
    Ok(())
}

/// The folders of seeds are the list of targets.
fn targets() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("fuzz/corpus")).context("no fuzz/corpus")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The triple is named so that build scripts are left without counters.
fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    let version = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("cannot start rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not name its host")?;
    let mut command = cargo(&[
        "build",
        "--release",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--features",
        "engine",
        "--bins",
        "--target",
        host,
    ]);
    command.arg("--target-dir").arg(folder);
    command.env("RUSTFLAGS", COVERAGE.join(" "));
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the targets could not be built; libFuzzer needs a C++ compiler");
    }
    Ok(folder.join(host).join("release"))
}

/// Runs one target; gives the number of inputs.
fn execute(programs: &Path, folder: &Path, name: &str, seconds: u32) -> anyhow::Result<u64> {
    // What is learnt stays with the build and is used the next time; the seeds are only read.
    let learnt = folder.join("corpus").join(name);
    let artifacts = folder.join("artifacts").join(name);
    std::fs::create_dir_all(&learnt)?;
    std::fs::create_dir_all(&artifacts)?;
    let output = Command::new(programs.join(name))
        .arg(&learnt)
        .arg(root().join("fuzz/corpus").join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_INPUT}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-timeout={PATIENCE}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start the target `{name}`"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let last: Vec<&str> = told.lines().rev().take(40).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!(
            "`{name}` has a finding; add the input to fuzz/corpus/{name} with its correction\n{}",
            last.join("\n")
        );
    }
    told.lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|count| count.trim().parse().ok())
        .context("libFuzzer did not say how many inputs it tried")
}
