//! The governed model call beside others, in turns, in one run: the upstream alone, nginx as a
//! plain hop, a plain hop over the gateway's libraries, the gateway, LiteLLM.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::gateway::{self, Gateway};
use super::load::{Load, Round, median};
use super::peers::{self, Server};
use super::process::{Running, find};
use super::streams::{self, Soak, Streams};

/// Connections of the load generator, one row each. Ratios are those of [`MIDDLE`].
const CONNECTIONS: [u32; 3] = [1, 16, 64];
const MIDDLE: u32 = 16;

/// Why there is no figure.
pub(super) enum NotMeasured {
    /// A program that is needed is not installed.
    Missing(&'static str),
    /// Something went wrong.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for NotMeasured {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    /// Rounds of each number of connections; everybody has a turn in each.
    pub(super) rounds: u32,
    /// Length of a turn.
    pub(super) round: Duration,
    /// Length of the soak, if there is to be one.
    pub(super) soak: Option<Duration>,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Hop {
    /// For each number of connections.
    pub(super) rows: Vec<Row>,
    /// CPU in the gateway against nginx, at 16 connections: median over pairs of rounds.
    pub(super) cpu_ratio_vs_nginx: f64,
    /// What a call costs without its evidence, at 16 connections.
    pub(super) receipts_off: ReceiptsOff,
    /// Calls a second against LiteLLM at 16 connections, if that is installed.
    pub(super) throughput_ratio_vs_litellm: Option<f64>,
    /// Streams: first byte and revocation.
    pub(super) streams: Streams,
    /// The soak, if there was one.
    pub(super) soak: Option<Soak>,
    /// Memory of the gateway before any call.
    pub(super) idle_mib: f64,
    /// And at its peak.
    pub(super) peak_mib: f64,
    /// Memory of LiteLLM at its peak.
    pub(super) litellm_peak_mib: Option<f64>,
    /// From its start until it listened.
    pub(super) ready: Duration,
    /// Rounds of each number of connections.
    pub(super) rounds: u32,
}

/// A governed call less its evidence. Receipts cannot be switched off, so this is no run without
/// them: it is the measured call less what the thread that writes records took in the same round,
/// and less the time of one raw signature, which the bench `sign` measures.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceiptsOff {
    /// CPU microseconds of a call less those of the store; the signature is still in it.
    pub(super) cpu_us: f64,
    /// CPU microseconds of nginx as a plain hop, for the ratio.
    pub(super) nginx_us: f64,
}

/// What one number of connections gave; medians over the rounds.
#[derive(Debug)]
pub(super) struct Row {
    /// Connections.
    pub(super) connections: u32,
    /// Who was measured, with what came out.
    pub(super) peers: Vec<(&'static str, Measured)>,
}

/// One peer's row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// CPU microseconds of a call; none where the upstream is called directly.
    pub(super) cpu_us: Option<f64>,
    /// Calls a second.
    pub(super) rate: f64,
    /// More than the direct call takes, in microseconds, by the median over rounds.
    pub(super) added_p50_us: f64,
    /// The same of the 99th percentiles.
    pub(super) added_p99_us: f64,
}

const DIRECT: &str = "direct";
const NGINX: &str = "nginx";
const LIBRARIES: &str = "plain hop";
const CLAWGATE: &str = "clawgate";
const LITELLM: &str = "litellm";

/// Measures; needs nginx and wrk.
pub(super) fn measure(lengths: Lengths) -> Result<Hop, NotMeasured> {
    let nginx = find("nginx").ok_or(NotMeasured::Missing("nginx"))?;
    let wrk = find("wrk").ok_or(NotMeasured::Missing("wrk"))?;
    let program = gateway::build()?;
    let folder = Folder::new()?;
    measure_in(&folder.0, &nginx, &wrk, &program, lengths).map_err(NotMeasured::Failed)
}

/// Somebody who answers calls.
struct Peer<'a> {
    name: &'static str,
    url: String,
    process: &'a Running,
}

fn measure_in(
    folder: &Path,
    nginx: &Path,
    wrk: &Path,
    program: &Path,
    lengths: Lengths,
) -> anyhow::Result<Hop> {
    let upstream = peers::upstream(nginx, folder)?;
    let hop = peers::hop(nginx, folder, upstream.port)?;
    let libraries = peers::plain_hop(folder, upstream.port)?;
    let standin = streams::StandIn::start()?;
    let home = folder.join("gateway");
    fs::create_dir(&home)?;
    let gateway = Gateway::start(program, &home, upstream.port, standin.port)?;
    let idle_mib = gateway.process.resident_mib()?;
    let litellm = match peers::litellm_program() {
        Some(program) => Some(peers::litellm(&program, folder, upstream.port)?),
        None => {
            eprintln!("LiteLLM is not installed (scripts/bench-peers): its rows stay empty");
            None
        }
    };
    let load = Load::new(wrk, folder, &gateway.token()?)?;
    let at = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}/chat/completions");
    let mut everybody = vec![
        Peer {
            name: DIRECT,
            url: at(upstream.port, "/v1"),
            process: &upstream.process,
        },
        Peer {
            name: NGINX,
            url: at(hop.port, "/openai/v1"),
            process: &hop.process,
        },
        Peer {
            name: LIBRARIES,
            url: at(libraries.port, "/openai/v1"),
            process: &libraries.process,
        },
        Peer {
            name: CLAWGATE,
            url: at(gateway.port, "/openai/v1"),
            process: &gateway.process,
        },
    ];
    everybody.extend(litellm.as_ref().map(|server: &Server| Peer {
        name: LITELLM,
        url: at(server.port, "/v1"),
        process: &server.process,
    }));
    let mut rows = Vec::new();
    let (mut cpu_ratio, mut throughput_ratio, mut receipts_off) = (f64::NAN, None, None);
    for connections in CONNECTIONS {
        let rounds = take_turns(&load, &everybody, connections, lengths)?;
        if connections == MIDDLE {
            cpu_ratio =
                ratio(&rounds, CLAWGATE, NGINX, |round| round.cpu_us).context("no pairs")?;
            throughput_ratio = ratio(&rounds, CLAWGATE, LITELLM, |round| round.rate);
            let over = |name, figure: fn(&Round) -> f64| {
                let rounds = rounds.iter().filter_map(|turn| of(turn, name));
                median(rounds.map(|round| figure(&round)))
            };
            receipts_off = Some(ReceiptsOff {
                cpu_us: over(CLAWGATE, |round| round.cpu_us - round.store_us),
                nginx_us: over(NGINX, |round| round.cpu_us),
            });
        }
        rows.push(row(connections, &everybody, &rounds));
    }
    let streams = streams::measure(&gateway, &standin)?;
    let soak = match lengths.soak {
        Some(length) => Some(streams::soak(&gateway, &standin, length)?),
        None => None,
    };
    Ok(Hop {
        rows,
        cpu_ratio_vs_nginx: cpu_ratio,
        receipts_off: receipts_off.context("no rounds")?,
        throughput_ratio_vs_litellm: throughput_ratio,
        streams,
        soak,
        idle_mib,
        peak_mib: gateway.process.peak_mib()?,
        litellm_peak_mib: litellm
            .as_ref()
            .map(|server| server.process.peak_mib())
            .transpose()?,
        ready: gateway.ready,
        rounds: lengths.rounds,
    })
}

/// A round of everybody, in the order of the peers.
type Turn = Vec<(&'static str, Round)>;

fn take_turns(
    load: &Load,
    everybody: &[Peer<'_>],
    connections: u32,
    lengths: Lengths,
) -> anyhow::Result<Vec<Turn>> {
    // Connections, caches and the token's verification are not part of a call.
    for peer in everybody {
        load.round(peer.process, &peer.url, connections, Duration::from_secs(1))?;
    }
    let mut rounds = Vec::new();
    for n in 1..=lengths.rounds {
        let mut turn = Turn::new();
        for peer in everybody {
            let round = load
                .round(peer.process, &peer.url, connections, lengths.round)
                .with_context(|| format!("{} at {connections} connections", peer.name))?;
            eprintln!(
                "{connections} connections, round {n}, {}: {:.0} us/call, {:.0} calls/s, \
                 p50 {:.0} us, p99 {:.0} us",
                peer.name, round.cpu_us, round.rate, round.p50_us, round.p99_us
            );
            turn.push((peer.name, round));
        }
        rounds.push(turn);
    }
    Ok(rounds)
}

fn of(turn: &Turn, name: &str) -> Option<Round> {
    let found = turn.iter().find(|(own, _)| *own == name);
    found.map(|(_, round)| *round)
}

/// Median over the rounds of one peer's figure against another's of the same round.
fn ratio(rounds: &[Turn], one: &str, other: &str, figure: fn(&Round) -> f64) -> Option<f64> {
    let pairs: Option<Vec<f64>> = rounds
        .iter()
        .map(|turn| Some(figure(&of(turn, one)?) / figure(&of(turn, other)?)))
        .collect();
    pairs.map(|pairs| median(pairs.into_iter()))
}

fn row(connections: u32, everybody: &[Peer<'_>], rounds: &[Turn]) -> Row {
    let peers = everybody.iter().map(|peer| {
        let over = |figure: fn(&Round) -> f64| {
            let rounds = rounds.iter().filter_map(|turn| of(turn, peer.name));
            median(rounds.map(|round| figure(&round)))
        };
        let added = |figure: fn(&Round) -> f64| {
            let pairs = rounds.iter().filter_map(|turn| {
                Some(figure(&of(turn, peer.name)?) - figure(&of(turn, DIRECT)?))
            });
            median(pairs)
        };
        let measured = Measured {
            cpu_us: (peer.name != DIRECT).then(|| over(|round| round.cpu_us)),
            rate: over(|round| round.rate),
            added_p50_us: added(|round| round.p50_us),
            added_p99_us: added(|round| round.p99_us),
        };
        (peer.name, measured)
    });
    Row {
        connections,
        peers: peers.collect(),
    }
}

/// A folder that goes when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("clawgate-bench-{}", std::process::id()));
        fs::create_dir(&folder).context("cannot make a folder for the measurement")?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(cpu_us: f64, rate: f64) -> Round {
        Round {
            cpu_us,
            store_us: 0.0,
            rate,
            p50_us: cpu_us,
            p99_us: 2.0 * cpu_us,
        }
    }

    #[test]
    fn ratios_are_of_pairs_and_only_of_those_that_were_there() {
        let turns = vec![
            vec![(NGINX, round(10.0, 4.0)), (CLAWGATE, round(30.0, 2.0))],
            vec![(NGINX, round(20.0, 4.0)), (CLAWGATE, round(100.0, 1.0))],
            vec![(NGINX, round(40.0, 4.0)), (CLAWGATE, round(80.0, 3.0))],
        ];
        let cpu = ratio(&turns, CLAWGATE, NGINX, |round| round.cpu_us);
        assert_eq!(cpu, Some(3.0), "of 3, 5 and 2");
        assert_eq!(ratio(&turns, CLAWGATE, LITELLM, |round| round.rate), None);
    }
}
