//! The egress lane: scope, host and port, what is reserved, and where the name leads.

use super::{Against, CompiledContract, EgressInput, has_scope};
use crate::egress::{HostRef, Kind, kind, well_known};
use crate::reason::ReasonCode;

pub(super) fn judge(contract: &CompiledContract, input: &EgressInput<'_>, against: &mut Against) {
    against.unless(
        has_scope(&input.scope, "proxy:call"),
        ReasonCode::TokenScope,
    );
    let Some(host) = HostRef::from_canonical(&input.host) else {
        return against.add(ReasonCode::EgressTarget);
    };
    let patterns = &contract.contract().egress_allow_hosts;
    let listed = |port| {
        let mut patterns = patterns.iter();
        patterns.any(|pattern| pattern.matches(input.operation, host, port))
    };
    if input.port == 0 || !listed(input.port) {
        let EgressInput { host, port, .. } = input;
        against.because(
            ReasonCode::EgressNotAllowed,
            format!("{host}, port {port}, is outside the contract"),
        );
    }
    let known = match host {
        HostRef::Name(name) => well_known(name),
        HostRef::Ip(_) => None,
    };
    if let Some(whose) = input.reserved.or(known) {
        against.because(
            ReasonCode::EgressReserved,
            format!("{} is {}", input.host, whose.in_words()),
        );
    }
    // A name that may not be connected to is not looked up: the question alone would carry data out.
    if against.first.is_none() {
        addresses(host, input, against);
    }
}

fn addresses(host: HostRef<'_>, input: &EgressInput<'_>, against: &mut Against) {
    let Some(addresses) = input.addresses.as_deref().filter(|all| !all.is_empty()) else {
        return against.add(ReasonCode::EgressUnresolved);
    };
    if let HostRef::Ip(ip) = host
        && addresses != [ip]
    {
        return against.add(ReasonCode::InputInconsistent);
    }
    // One that is not public is enough: which of them a connection would take is chance.
    let excepted = |address| input.excepted.iter().any(|range| range.contains(address));
    let private = addresses
        .iter()
        .find(|address| kind(**address) != Kind::Public && !excepted(**address));
    if let Some(address) = private {
        against.because(
            ReasonCode::EgressAddress,
            format!("{} leads to {}", input.host, kind(*address).in_words()),
        );
    }
}
