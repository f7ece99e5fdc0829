//! What was measured, as a table, and the table's place in `docs/performance.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};

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
                    "CPU of a governed model call against nginx as a plain hop",
                    format!(
                        "{:.2} ×, median over {} pairs of rounds at 16 connections",
                        hop.cpu_ratio_vs_nginx, hop.rounds
                    ),
                );
                let off = self.receipts_off(hop);
                row(
                    "the same with receipts off, derived: less the thread that writes records",
                    format!(
                        "{:.1} µs, {:.2} ×{}",
                        off.cpu_us,
                        off.ratio,
                        match off.receipt_us {
                            Some(us) => format!(", less {us:.1} µs for making the receipt"),
                            None => "; the receipt is still in it (criterion left out)".to_owned(),
                        }
                    ),
                );
                row(
                    "governed calls a second against LiteLLM's",
                    match hop.throughput_ratio_vs_litellm {
                        Some(ratio) => format!("{ratio:.0} ×, at 16 connections"),
                        None => "not measured: LiteLLM was not installed".to_owned(),
                    },
                );
                row(
                    "first byte of a stream, one connection",
                    format!("{:.2} ms later", hop.streams.added_ttfb_ms),
                );
                row(
                    "revocation, from the command until the last of 16 streams is cut",
                    format!("{:.0} ms", hop.streams.revocation_ms),
                );
                row(
                    "memory of the gateway, idle and at its peak",
                    format!("{:.0} MiB, {:.0} MiB", hop.idle_mib, hop.peak_mib),
                );
                if let Some(peak) = hop.litellm_peak_mib {
                    row("memory of LiteLLM at its peak", format!("{peak:.0} MiB"));
                }
                row(
                    "start to listening",
                    format!("{} ms", hop.ready.as_millis()),
                );
                if let Some(soak) = &hop.soak {
                    row(
                        "soak: 64 streams, bodies of 150 KB",
                        format!(
                            "{} min, {} calls; {:.1} MiB early, {:.1} MiB late, {:.1} MiB at the \
                             peak: {}",
                            soak.length.as_secs() / 60,
                            soak.calls,
                            soak.memory.early_mib,
                            soak.memory.late_mib,
                            soak.memory.peak_mib,
                            if soak.memory.is_flat() {
                                "flat"
                            } else {
                                "GROWS"
                            }
                        ),
                    );
                }
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
        if let Some(hop) = &self.hop {
            text.push_str(&peers_table(hop));
        }
        text
    }

    fn receipts_off(&self, hop: &Hop) -> Off {
        let receipt = self.criterion.iter().find(|(name, _)| name == RECEIPT);
        let receipt_us = receipt.map(|(_, nanoseconds)| nanoseconds / 1e3);
        let cpu_us = hop.receipts_off.cpu_us - receipt_us.unwrap_or(0.0);
        Off {
            cpu_us,
            ratio: cpu_us / hop.receipts_off.nginx_us,
            receipt_us,
        }
    }

    /// The same for machines. What was not measured is null.
    pub(super) fn json(&self, origin: &str) -> Value {
        let mut figures = json!({
            "origin": origin,
            "missing": self.missing,
            "criterion_ns": self.criterion.iter().cloned().collect::<BTreeMap<_, _>>(),
        });
        let hop = self.hop.as_ref();
        let one = |value: fn(&Hop) -> f64| json!(hop.map(|hop| rounded(value(hop))));
        figures["cpu_ratio_vs_nginx"] = one(|hop| hop.cpu_ratio_vs_nginx);
        figures["added_ttfb_ms"] = one(|hop| hop.streams.added_ttfb_ms);
        figures["revocation_ms"] = one(|hop| hop.streams.revocation_ms);
        figures["idle_mib"] = one(|hop| hop.idle_mib);
        figures["peak_mib"] = one(|hop| hop.peak_mib);
        figures["ready_ms"] = one(|hop| hop.ready.as_secs_f64() * 1e3);
        figures["receipts_off"] = json!(hop.map(|hop| {
            let off = self.receipts_off(hop);
            json!({
                "derived": true,
                "cpu_us": rounded(off.cpu_us),
                "cpu_ratio_vs_nginx": rounded(off.ratio),
                "receipt_us": off.receipt_us.map(rounded),
            })
        }));
        let against_litellm = hop.and_then(|hop| hop.throughput_ratio_vs_litellm);
        figures["throughput_ratio_vs_litellm"] = json!(against_litellm.map(rounded));
        let soak = hop.and_then(|hop| hop.soak.as_ref());
        figures["soak"] = json!(soak.map(|soak| json!({
            "seconds": soak.length.as_secs(),
            "calls": soak.calls,
            "early_mib": rounded(soak.memory.early_mib),
            "late_mib": rounded(soak.memory.late_mib),
            "peak_mib": rounded(soak.memory.peak_mib),
            "flat": soak.memory.is_flat(),
        })));
        figures["peers"] = json!(hop.map(|hop| {
            let rows = hop.rows.iter().flat_map(|row| {
                row.peers.iter().map(|(name, measured)| {
                    json!({
                        "connections": row.connections,
                        "peer": name,
                        "cpu_us": measured.cpu_us.map(rounded),
                        "calls_per_second": rounded(measured.rate),
                        "added_p50_us": rounded(measured.added_p50_us),
                        "added_p99_us": rounded(measured.added_p99_us),
                    })
                })
            });
            rows.collect::<Vec<_>>()
        }));
        figures
    }
}

/// Name of the bench that makes a receipt: payload, hash, signature.
const RECEIPT: &str = "sign: a gateway receipt";

/// A governed call less its evidence.
struct Off {
    cpu_us: f64,
    ratio: f64,
    /// What was taken off for the receipt, if that was measured.
    receipt_us: Option<f64>,
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn peers_table(hop: &Hop) -> String {
    let mut text = String::from(
        "\n| connections | through | CPU of a call | calls a second | added p50 | added p99 |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in &hop.rows {
        for (name, measured) in &row.peers {
            let cpu = measured.cpu_us.map(|us| duration(us * 1e3));
            writeln!(
                text,
                "| {} | {name} | {} | {:.0} | {} | {} |",
                row.connections,
                cpu.as_deref().unwrap_or(""),
                measured.rate,
                duration(measured.added_p50_us * 1e3),
                duration(measured.added_p99_us * 1e3),
            )
            .expect("writing to a string cannot fail");
        }
    }
    text
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
    use std::time::Duration;

    use super::super::hop::{Measured, ReceiptsOff, Row};
    use super::super::streams::{Memory, Soak, Streams};
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
        let json = figures.json("today");
        assert_eq!(json["missing"], "wrk");
        for name in ["cpu_ratio_vs_nginx", "idle_mib", "soak", "peers"] {
            assert!(json[name].is_null(), "{json}");
        }
    }

    #[test]
    fn what_was_measured_is_said_twice() {
        let memory = Memory {
            early_mib: 20.0,
            late_mib: 30.0,
            peak_mib: 31.0,
        };
        let measured = Measured {
            cpu_us: Some(60.0),
            rate: 9000.4,
            added_p50_us: 800.0,
            added_p99_us: 2000.0,
        };
        let mut figures = Figures {
            hop: Some(Hop {
                rows: vec![Row {
                    connections: 16,
                    peers: vec![("clawgate", measured)],
                }],
                cpu_ratio_vs_nginx: 3.456,
                receipts_off: ReceiptsOff {
                    cpu_us: 45.0,
                    nginx_us: 15.0,
                },
                throughput_ratio_vs_litellm: None,
                streams: Streams {
                    added_ttfb_ms: 0.8,
                    revocation_ms: 30.0,
                },
                soak: Some(Soak {
                    length: Duration::from_secs(600),
                    calls: 7,
                    memory,
                }),
                idle_mib: 20.0,
                peak_mib: 40.0,
                litellm_peak_mib: None,
                ready: Duration::from_millis(5),
                rounds: 3,
            }),
            ..Figures::default()
        };
        let table = figures.table("today");
        for part in [
            "3.46 ×",
            "LiteLLM was not installed",
            "10 min, 7 calls",
            "GROWS",
            "| 16 | clawgate | 60.0 µs | 9000 | 800.0 µs | 2.0 ms |",
        ] {
            assert!(table.contains(part), "{part} is missing in {table}");
        }
        let json = figures.json("today");
        assert_eq!(json["cpu_ratio_vs_nginx"], 3.46);
        assert!(json["throughput_ratio_vs_litellm"].is_null());
        assert_eq!(json["soak"]["flat"], false);
        assert_eq!(json["peers"][0]["calls_per_second"], 9000.4);
        assert_eq!(json["receipts_off"]["cpu_us"], 45.0);
        assert!(json["receipts_off"]["receipt_us"].is_null());

        figures.criterion = vec![(RECEIPT.to_owned(), 15_000.0)];
        let table = figures.table("today");
        assert!(table.contains("30.0 µs, 2.00 ×, less 15.0 µs"), "{table}");
        assert_eq!(
            figures.json("today")["receipts_off"]["cpu_ratio_vs_nginx"],
            2.0
        );
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
