//! Hosts that are reached through the egress proxy.

use std::net::{IpAddr, Ipv4Addr};

use super::{Dimension, Probes, Question};
use crate::contract::Contract;
use crate::decide::{CompiledContract, Decision, DecisionInput, EgressInput, decide};
use crate::egress::EgressOperation;

/// Where somebody wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// A lower-case name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How it is asked for.
    pub operation: EgressOperation,
}

/// Some public address, for names.
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 215, 14));

impl Connection {
    /// What a contract says, for a host that leads to a public address, or to one that the
    /// operator has excepted.
    pub(super) fn decide(&self, contract: &CompiledContract, scope: &[String]) -> Decision {
        let mut input = EgressInput::new(self.operation, &self.host, self.port, scope);
        let written: Option<IpAddr> = self.host.parse().ok();
        input.addresses = Some(vec![written.unwrap_or(PUBLIC)].into());
        let bits = if written.is_some_and(|ip| ip.is_ipv6()) {
            128
        } else {
            32
        };
        let range = format!("{}/{bits}", written.unwrap_or(PUBLIC));
        input.excepted = range.parse().ok().into_iter().collect::<Vec<_>>().into();
        decide(contract, &DecisionInput::Egress(input))
    }
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
    let (old, new) = (probes.old.contract(), probes.new.contract());
    let is_named =
        |label: &str| patterns(old).any(|(host, _)| host.split('.').any(|part| part == label));
    // Short ones first: a name has 253 characters at most.
    let letters = ('a'..='z').map(|letter| letter.to_string());
    let label = letters
        .chain((0..).map(|n| format!("h{n}")))
        .find(|label| !is_named(label))
        .expect("a contract names finitely many");
    for (pattern, port) in patterns(new) {
        let host = match pattern.strip_prefix("*.") {
            Some(parent) => format!("{label}.{parent}"),
            None => pattern.trim_matches(['[', ']']).to_owned(),
        };
        for operation in [EgressOperation::Connect, EgressOperation::Request] {
            let to = Connection {
                host: host.clone(),
                port: port.unwrap_or(operation.default_port()),
                operation,
            };
            probes.ask(Dimension::Egress, Question::Connection(to));
        }
    }
}
