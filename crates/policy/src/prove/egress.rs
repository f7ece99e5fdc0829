//! Hosts that are reached through the egress proxy.
//!
//! A pattern is a host, or `*.` and a name for everything below that name, with or without a
//! port. Whether a connection is meant is said by [`admits`] alone; the candidates need nothing of
//! it but these two shapes.

use super::{Dimension, Probes, Question};
use crate::contract::Contract;

/// Where somebody wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// A lower-case name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// A plain HTTP request, not a tunnel.
    pub plain: bool,
}

/// The port that is meant where a pattern names none.
const fn default_port(plain: bool) -> u16 {
    if plain { 80 } else { 443 }
}

/// Whether a contract allows a connection.
pub(super) fn admits(contract: &Contract, to: &Connection) -> bool {
    patterns(contract).any(|(host, port)| {
        let covers = match host.strip_prefix("*.") {
            Some(parent) => to
                .host
                .strip_suffix(parent)
                .and_then(|before| before.strip_suffix('.'))
                .is_some_and(|before| !before.is_empty()),
            None => to.host == host,
        };
        // Through port 443 nothing passes but TLS.
        let passes = !(to.plain && to.port == 443);
        covers && passes && port.unwrap_or(default_port(to.plain)) == to.port
    })
}

/// The hosts that a contract lists, with their ports.
fn patterns(contract: &Contract) -> impl Iterator<Item = (&str, Option<u16>)> {
    contract.egress_allow_hosts.iter().map(|pattern| {
        let text = pattern.as_str();
        match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().ok())
            }
            _ => (text, None),
        }
    })
}

/// Each pattern of the new contract stands for its host, or for a name below it that no pattern
/// of the old one names: whichever name below is not covered, that one is not either, because
/// what covers it covers all of them.
pub(super) fn probe(probes: &mut Probes<'_>) {
    let old = probes.old.contract();
    let new = probes.new.contract();
    let is_named = |label: &str| {
        patterns(old).any(|(host, _)| host.split(['.', ':']).any(|part| part == label))
    };
    let label = (0..)
        .map(|n| format!("host{n}"))
        .find(|label| !is_named(label))
        .expect("a contract names finitely many");
    let listed: Vec<(String, Option<u16>)> = patterns(new)
        .map(|(host, port)| (host.to_owned(), port))
        .collect();
    for (pattern, port) in listed {
        let host = match pattern.strip_prefix("*.") {
            Some(parent) => format!("{label}.{parent}"),
            None => pattern,
        };
        for plain in [false, true] {
            let port = port.unwrap_or(default_port(plain));
            let host = host.clone();
            let to = Connection { host, port, plain };
            probes.ask(Dimension::Egress, Question::Connection(to));
        }
    }
}
