//! What a change must pass, here and on the build machine alike.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cargo::cargo;
use crate::{differential, fuzz, layers, licences};

enum Work {
    Run(Command),
    Layers,
    Licences,
}

/// Runs all steps in order and stops at the first that fails.
pub(crate) fn run() -> anyhow::Result<()> {
    let began = Instant::now();
    let steps = steps();
    let count = steps.len();
    let mut times = Vec::with_capacity(count);
    for (place, (name, work)) in steps.into_iter().enumerate() {
        let place = place + 1;
        println!("\n== {place}/{count} {name}");
        let step = Instant::now();
        let failure = match work {
            Work::Run(command) => execute(command).err(),
            Work::Layers => layers::run().err(),
            Work::Licences => licences::run().err(),
        };
        let took = seconds(step.elapsed());
        if let Some(failure) = failure {
            bail!("check stopped at step {place} of {count}, `{name}`, after {took}: {failure:#}");
        }
        println!("== {place}/{count} {name}: passed in {took}");
        times.push((name, took));
    }
    println!("\nall checks passed in {}", seconds(began.elapsed()));
    for (name, took) in times {
        println!("  {took:>8}  {name}");
    }
    Ok(())
}

/// Clippy before the tests because it says sooner what is wrong; the three that compile share
/// the development profile and the workspace's features, so that dependencies are built once.
fn steps() -> Vec<(&'static str, Work)> {
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    vec![
        (
            "cargo fmt --all --check",
            Work::Run(cargo(&["fmt", "--all", "--check"])),
        ),
        (
            "cargo clippy --workspace --all-targets -- -D warnings",
            Work::Run(cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])),
        ),
        (
            "cargo test --workspace",
            Work::Run(cargo(&["test", "--workspace"])),
        ),
        (
            "cargo xtask differential",
            Work::Run(differential::command()),
        ),
        (
            "cargo test --manifest-path fuzz/Cargo.toml",
            Work::Run(fuzz::corpus()),
        ),
        ("cargo xtask layers", Work::Layers),
        ("cargo xtask licences", Work::Licences),
        ("cargo doc --workspace --no-deps", Work::Run(doc)),
    ]
}

fn execute(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the command ended with {status}");
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
