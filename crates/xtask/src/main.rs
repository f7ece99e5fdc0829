//! Chores of the project: `cargo xtask CHORE`.
//!
//! To add a chore: a module with its `run`, a line in [`CHORES`] and its arm in [`dispatch`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::bail;

mod bench;
mod book;
mod cargo;
mod check;
mod crash;
mod differential;
mod dist;
mod fuzz;
mod layers;
mod licences;
mod packages;
mod packaging;
mod prose;
mod regenerate;
mod report;
mod sbom;
mod threats;

/// Every chore, in the order in which the usage shows them.
const CHORES: &[(&str, &str)] = &[
    (
        "check",
        "everything that a change must pass, in order: format, clippy, tests, decisions, layers, docs",
    ),
    (
        "layers",
        "compares the crates' dependencies with the table that is the diagram",
    ),
    (
        "licences",
        "compares where others' code comes from, and under which licences, with the tables",
    ),
    (
        "docs",
        "writes docs/reason-codes.md and docs/openapi.json anew from the code",
    ),
    (
        "vectors",
        "writes the test vectors anew that crates keep as files",
    ),
    (
        "report",
        "judges what `clawgate demo --once --out DIR` left in DIR",
    ),
    (
        "differential",
        "compares a million random decisions with a separately written evaluator",
    ),
    (
        "crash",
        "kills the gateway under load and checks what is left; --kills N, --seed S, --worlds W",
    ),
    (
        "fuzz",
        "runs the fuzz targets under libFuzzer; --seconds N each, --target NAME",
    ),
    (
        "book",
        "builds the documentation as a site, with mdBook; book [URL of the sources]",
    ),
    (
        "dist",
        "makes the archives of a release with checksums and bills of materials; dist [DIR]",
    ),
    (
        "bench",
        "measures: decide, sign, verify, and the governed call beside nginx and LiteLLM; --soak, --json",
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["check"] => check::run(),
        ["layers"] => layers::run(),
        ["licences"] => licences::run(),
        ["book"] => book::run(None),
        ["book", sources] => book::run(Some(sources)),
        ["dist"] => dist::run(None),
        ["dist", folder] => dist::run(Some(folder.as_ref())),
        ["docs"] => regenerate::run("documents"),
        ["vectors"] => regenerate::run("vectors"),
        ["differential"] => differential::run(),
        ["report", folder] => report::run(folder.as_ref()),
        ["crash", options @ ..] => crash::run(crash::Options::parse(options)?),
        ["fuzz", options @ ..] => fuzz::run(&fuzz::Options::parse(options)?),
        ["bench", options @ ..] => bench::run(&bench::Options::parse(options)?),
        [] => bail!("no chore given\n\n{}", usage()),
        other => bail!("unknown chore `{}`\n\n{}", other.join(" "), usage()),
    }
}

fn usage() -> String {
    let mut text = String::from("cargo xtask CHORE\n");
    for (chore, purpose) in CHORES {
        text.push_str(&format!("  {chore:<12} {purpose}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_chore_is_refused_with_the_list() {
        for words in [
            &[][..],
            &["cheque"],
            &["check", "--fast"],
            &["bench", "--rounds", "none"],
            &["fuzz", "--seconds", "0"],
            &["fuzz", "--target"],
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let refusal = dispatch(&words).unwrap_err().to_string();
            assert!(
                ["check", "--rounds", "--seconds", "--target"]
                    .iter()
                    .any(|word| refusal.contains(word)),
                "{refusal}"
            );
        }
    }
}
