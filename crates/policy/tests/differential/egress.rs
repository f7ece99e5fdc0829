//! What a contract says about a connection, from the text of the formats.
//!
//! Order of the reasons: the token's scope, a host that cannot be read, whether the contract lists
//! it, whether it is reached in another way; and only when nothing is against it, its addresses.

use serde_json::Value;

use crate::at;
use crate::evaluator::Expected;
use crate::generator::EgressFacts;

pub fn expected(contract: &Value, facts: &EgressFacts) -> Expected {
    let mut against = Vec::new();
    if !facts.scope.iter().any(|scope| scope == "proxy:call") {
        against.push("TOKEN_SCOPE");
    }
    // A host has one form; none of the generator's others has a place in a record.
    if ["", "A.example", "a.example.", "127.1"].contains(&facts.host) {
        against.push("EGRESS_TARGET");
        return Expected::Against(against);
    }
    let listed = at(contract, "egress.allow_hosts").and_then(Value::as_array);
    let listed = listed.is_some_and(|patterns| {
        patterns
            .iter()
            .any(|pattern| means(pattern.as_str().expect("a text"), facts))
    });
    if !listed {
        against.push("EGRESS_NOT_ALLOWED");
    }
    let everywhere = facts.host == "app.terraform.io" || facts.host.ends_with(".openai.azure.com");
    if facts.reserved.is_some() || everywhere {
        against.push("EGRESS_RESERVED");
    }
    if against.is_empty() {
        against.extend(leads(facts));
    }
    match against.is_empty() {
        true => Expected::Allowed,
        false => Expected::Against(against),
    }
}

/// Without a port a pattern means 443 of CONNECT and 80 of plain requests. Plain requests never
/// go to 443.
fn means(pattern: &str, facts: &EgressFacts) -> bool {
    let bracketed = pattern
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match pattern.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (pattern, None),
        },
    };
    let usual = if facts.connect { 443 } else { 80 };
    let port = port.map_or(usual, |port| port.parse().expect("a port"));
    let same_host = match host.strip_prefix('*') {
        Some(end) => facts.host.len() > end.len() && facts.host.ends_with(end),
        None => facts.host == host,
    };
    same_host && port == facts.port && (facts.connect || port != 443)
}

fn leads(facts: &EgressFacts) -> Option<&'static str> {
    let addresses = match &facts.addresses {
        Some(addresses) if !addresses.is_empty() => addresses,
        _ => return Some("EGRESS_UNRESOLVED"),
    };
    let literal = facts.host.contains(':') || facts.host.ends_with(|c: char| c.is_ascii_digit());
    if literal && *addresses != [facts.host] {
        return Some("INPUT_INCONSISTENT");
    }
    let public = |address: &&str| ["93.184.216.34", "1.1.1.1", "2606:4700::1111"].contains(address);
    let excepted = |address: &&str| match *address {
        "10.0.0.7" => facts.excepted.contains(&"10.0.0.0/8"),
        "127.0.0.1" => facts.excepted.contains(&"127.0.0.0/8"),
        "::1" => facts.excepted.contains(&"::1/128"),
        _ => false,
    };
    let all = addresses.iter().all(|one| public(one) || excepted(one));
    (!all).then_some("EGRESS_ADDRESS")
}
