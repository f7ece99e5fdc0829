//! What was measured, as a table, and the table's place in `docs/performance.md`.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::hop::Hop;
use crate::cargo::{root, target};

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// Everything that a run measured.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Name of a bench and its median in nanoseconds.
    pub(super) criterion: Vec<(String, f64)>,
    /// The governed call.
    pub(super) hop: Option<Hop>,
    /// Why there is none.
    pub(super) missing: Option<&'static str>,
}

impl Figures {
    /// The table for people; `origin` says where and when it was measured.
    pub(super) fn table(&self, origin: &str) -> String {
        let mut text = format!("{origin}\n\n| what | measured |\n|---|---|\n");
        let mut row = |what: &str, measured: String| {
            writeln!(text, "| {what} | {measured} |").expect("writing to a string cannot fail");
        };
        match (&self.hop, self.missing) {
            (Some(hop), _) => {
                row(
                    "governed model call, CPU in the gateway",
                    format!("{:.0} µs", hop.gateway_us),
                );
                row(
                    "the same call through nginx, CPU in nginx",
                    format!("{:.0} µs", hop.nginx_us),
                );
                row(
                    "ratio",
                    format!(
                        "{:.2}, median over {} pairs of rounds",
                        hop.ratio, hop.rounds
                    ),
                );
                row(
                    "calls a second, load, upstream and gateway on one machine",
                    format!("{:.0} (nginx: {:.0})", hop.gateway_rate, hop.nginx_rate),
                );
                row(
                    "memory of the gateway, idle and after the load",
                    format!("{:.0} MiB, {:.0} MiB", hop.idle_mib, hop.loaded_mib),
                );
                row(
                    "start to listening",
                    format!("{} ms", hop.ready.as_millis()),
                );
            }
            (None, Some(program)) => row(
                "governed model call against nginx",
                format!("not measured: `{program}` was not installed"),
            ),
            (None, None) => {}
        }
        for (name, nanoseconds) in &self.criterion {
            row(name, duration(*nanoseconds));
        }
        text
    }
}

fn duration(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// The medians that criterion left, by name.
pub(super) fn read_criterion() -> anyhow::Result<Vec<(String, f64)>> {
    let mut found = Vec::new();
    collect(&target().join("criterion"), &mut found)?;
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<(String, f64)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).context("criterion left nothing")? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|name| name == "new") {
            found.extend(read_one(&path)?);
        } else {
            collect(&path, found)?;
        }
    }
    Ok(())
}

fn read_one(folder: &Path) -> anyhow::Result<Option<(String, f64)>> {
    let read = |name: &str| -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&fs::read(folder.join(name))?)?)
    };
    let name = read("benchmark.json")?["full_id"]
        .as_str()
        .map(|name| name.replace('/', ": "));
    let median = read("estimates.json")?["median"]["point_estimate"].as_f64();
    Ok(name.zip(median))
}

/// Where and when: processor, cores, day and commit.
pub(super) fn where_and_when() -> String {
    let ask = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(root())
            .output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.unwrap_or_default()
    };
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")?
                .split_once(": ")
                .map(|(_, name)| name)
        })
        .unwrap_or("an unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "Measured on {} at commit {}, {cores} cores of {model}; load average {load} at the end.",
        ask("date", &["-u", "+%Y-%m-%d"]),
        ask("git", &["rev-parse", "--short", "HEAD"]),
    )
}

/// Puts the table into the document.
pub(super) fn write(table: &str) -> anyhow::Result<()> {
    let file = root().join("docs/performance.md");
    let text = fs::read_to_string(&file).context("cannot read docs/performance.md")?;
    let text = replaced(&text, table).context("docs/performance.md has lost its markers")?;
    fs::write(&file, text).context("cannot write docs/performance.md")
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{BEGIN}\n{}\n{END}{after}",
        table.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_peer_leaves_no_figure() {
        let figures = Figures {
            missing: Some("wrk"),
            ..Figures::default()
        };
        let table = figures.table("today");
        assert!(table.contains("not measured: `wrk`"), "{table}");
        assert!(!table.contains("µs"), "{table}");
    }

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(
            replaced(&text, "new\n"),
            Some(format!("a\n{BEGIN}\nnew\n{END}\nb\n"))
        );
        assert_eq!(replaced("a", "new"), None);
    }

    #[test]
    fn durations_are_read_easily() {
        for (nanoseconds, says) in [(250.4, "250 ns"), (1_234.0, "1.2 µs"), (2.5e6, "2.5 ms")] {
            assert_eq!(duration(nanoseconds), says);
        }
    }
}
