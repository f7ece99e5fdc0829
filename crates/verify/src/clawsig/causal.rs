//! The causal graph that receipts' spans make, and the claims of coverage beside it.

use std::collections::{HashMap, HashSet};

use proof::Json;

use super::chain::{self, Chain};
use super::shape;
use super::{Fault, Options, entries, envelope, fault, text};

/// Which of the weaker findings fail a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Observe,
    Warn,
    Enforce,
}

/// The modes in force.
#[derive(Debug)]
pub(super) struct Modes {
    connectivity: Mode,
    coverage: Mode,
}

impl Modes {
    /// Reads the options; the strict profile does not let them be weakened.
    pub(super) fn resolve(options: &Options) -> Result<Self, Fault> {
        let invalid = || {
            fault(
                "CAUSAL_POLICY_PROFILE_INVALID",
                "",
                "unknown mode or profile",
            )
        };
        let read = |text: &Option<String>| match text.as_deref() {
            None => Ok(None),
            Some("observe") => Ok(Some(Mode::Observe)),
            Some("warn") => Ok(Some(Mode::Warn)),
            Some("enforce") => Ok(Some(Mode::Enforce)),
            Some(_) => Err(invalid()),
        };
        let connectivity = read(&options.connectivity)?;
        let coverage = read(&options.coverage)?;
        match options.policy_profile.as_deref() {
            None | Some("compat") => Ok(Self {
                connectivity: connectivity.unwrap_or(Mode::Enforce),
                coverage: coverage.unwrap_or(Mode::Observe),
            }),
            Some("strict") => {
                let weaker = |mode: Option<Mode>| mode.is_some_and(|mode| mode < Mode::Enforce);
                if weaker(connectivity) || weaker(coverage) {
                    let code = "CAUSAL_POLICY_PROFILE_DOWNGRADE";
                    return Err(fault(code, "", "the strict profile forbids weaker modes"));
                }
                Ok(Self {
                    connectivity: Mode::Enforce,
                    coverage: Mode::Enforce,
                })
            }
            Some(_) => Err(invalid()),
        }
    }
}

/// One receipt in the graph.
struct Node<'a> {
    place: String,
    span: &'a str,
    parent: Option<&'a str>,
    tool: Option<&'a str>,
    phase: Option<&'a str>,
    confidence: Option<f64>,
    time: Option<i64>,
}

/// A member that has two spellings, which must not contradict each other.
fn either<'a>(
    binding: &'a Json,
    names: (&str, &str),
    place: &str,
) -> Result<Option<&'a Json>, Fault> {
    match (binding.get(names.0), binding.get(names.1)) {
        (Some(one), Some(other)) if one != other => {
            let code = "CAUSAL_BINDING_FIELD_CONFLICT";
            Err(fault(
                code,
                format!("{place}/{}", names.1),
                "says something else",
            ))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// Replays, spans, phases, confidence, connectivity, and the anchoring of flat receipts.
pub(super) fn check(payload: &Json, place: &str, modes: &Modes) -> Result<(), Fault> {
    chain::replayed(payload, place)?;
    let mut nodes = Vec::new();
    for (n, receipt) in entries(payload, "receipts").iter().enumerate() {
        let Some(binding) = receipt.at(&["payload", "binding"]) else {
            continue;
        };
        let place = format!("{place}/receipts/{n}/payload/binding");
        let text = |names| Ok(either(binding, names, &place)?.and_then(Json::as_str));
        let span = text(("span_id", "spanId"))?;
        let parent = text(("parent_span_id", "parentSpanId"))?;
        let tool = text(("tool_span_id", "toolSpanId"))?;
        let names = ("attribution_confidence", "attributionConfidence");
        let confidence = either(binding, names, &place)?.and_then(|value| match value {
            Json::Integer(value) => Some(*value as f64),
            Json::Double(value) => Some(*value),
            _ => None,
        });
        let Some(span) = span else {
            if confidence.is_some_and(|confidence| confidence > 0.0) {
                return Err(inconsistent(&place));
            }
            if parent.or(tool).is_some() {
                let detail = "a reference without a span of its own";
                return Err(fault("CAUSAL_REFERENCE_DANGLING", place, detail));
            }
            continue;
        };
        let time = receipt.at(&["payload", "timestamp"]).and_then(Json::as_str);
        nodes.push(Node {
            place,
            span,
            parent,
            tool,
            phase: binding.get("phase").and_then(Json::as_str),
            confidence,
            time: time.and_then(shape::millis),
        });
    }
    graph(&nodes)?;
    if modes.connectivity == Mode::Enforce && !connected(&nodes) {
        let detail = "the spans do not hang together";
        return Err(fault("CAUSAL_GRAPH_DISCONNECTED", place, detail));
    }
    let spans: HashSet<&str> = nodes.iter().map(|node| node.span).collect();
    for (name, code) in [
        ("side_effect_receipts", "CAUSAL_SIDE_EFFECT_ORPHANED"),
        ("human_approval_receipts", "CAUSAL_HUMAN_APPROVAL_ORPHANED"),
    ] {
        for (n, entry) in entries(payload, name).iter().enumerate() {
            let anchored = entry.get("binding").is_some_and(|binding| {
                let names = ["tool_span_id", "toolSpanId", "span_id", "spanId"];
                let named = names.iter().filter_map(|name| binding.get(name)?.as_str());
                named.into_iter().any(|span| spans.contains(span))
            });
            if !anchored && modes.connectivity == Mode::Enforce {
                let place = format!("{place}/{name}/{n}");
                return Err(fault(code, place, "not anchored in a receipt's span"));
            }
        }
    }
    Ok(())
}

fn inconsistent(place: &str) -> Fault {
    let code = "CAUSAL_CONFIDENCE_EVIDENCE_INCONSISTENT";
    fault(code, place, "more confidence than the links give")
}

fn graph(nodes: &[Node<'_>]) -> Result<(), Fault> {
    let mut by_span: HashMap<&str, &Node<'_>> = HashMap::new();
    for node in nodes {
        let other = by_span.insert(node.span, node);
        if other.is_some_and(|other| (other.parent, other.tool) != (node.parent, node.tool)) {
            let detail = "another receipt uses the span otherwise";
            return Err(fault("CAUSAL_SPAN_REUSE_CONFLICT", &node.place, detail));
        }
    }
    let mut referred: HashSet<&str> = HashSet::new();
    for node in nodes {
        for reference in [node.parent, node.tool].into_iter().flatten() {
            if !by_span.contains_key(reference) {
                let detail = "refers to a span that is not there";
                return Err(fault("CAUSAL_REFERENCE_DANGLING", &node.place, detail));
            }
            referred.insert(reference);
        }
    }
    acyclic(nodes, &by_span)?;
    for node in nodes {
        let parent = node.parent.and_then(|span| by_span.get(span));
        if let Some(parent) = parent {
            if let (Some(before), Some(after)) = (parent.phase, node.phase)
                && !follows(before, after)
            {
                let code = "CAUSAL_PHASE_TRANSITION_INVALID";
                let detail = format!("{after} after {before}");
                return Err(fault(code, &node.place, detail));
            }
            if node.time < parent.time {
                let code = "CAUSAL_CLOCK_CONTRADICTION";
                return Err(fault(code, &node.place, "earlier than its parent"));
            }
        }
        let linked = node.parent.or(node.tool).is_some() || referred.contains(node.span);
        let most = if linked { 1.0 } else { 0.5 };
        if node.confidence.is_some_and(|confidence| confidence > most) {
            return Err(inconsistent(&node.place));
        }
    }
    Ok(())
}

/// Follows parents from each span; each span is walked once.
fn acyclic(nodes: &[Node<'_>], by_span: &HashMap<&str, &Node<'_>>) -> Result<(), Fault> {
    let mut done: HashSet<&str> = HashSet::new();
    for start in nodes {
        let mut way: HashSet<&str> = HashSet::new();
        let mut here = Some(start.span);
        while let Some(span) = here.filter(|span| !done.contains(span)) {
            if !way.insert(span) {
                let detail = "its parents lead back to it";
                return Err(fault("CAUSAL_CYCLE_DETECTED", &start.place, detail));
            }
            here = by_span.get(span).and_then(|node| node.parent);
        }
        done.extend(way);
    }
    Ok(())
}

/// The phases that may follow a phase.
fn follows(before: &str, after: &str) -> bool {
    let allowed: &[&str] = match before {
        "setup" => &["setup", "planning"],
        "planning" => &["planning", "reasoning", "execution"],
        "reasoning" => &["reasoning", "execution", "observation"],
        "execution" => &["execution", "observation", "reflection", "teardown"],
        "observation" => &["observation", "reflection", "teardown"],
        "reflection" => &["reflection", "teardown"],
        _ => &["teardown"],
    };
    allowed.contains(&after)
}

/// Whether all spans are in one piece.
fn connected(nodes: &[Node<'_>]) -> bool {
    let mut beside: HashMap<&str, Vec<&str>> = HashMap::new();
    for node in nodes {
        beside.entry(node.span).or_default();
        for other in [node.parent, node.tool].into_iter().flatten() {
            beside.entry(node.span).or_default().push(other);
            beside.entry(other).or_default().push(node.span);
        }
    }
    let Some(first) = nodes.first() else {
        return true;
    };
    let mut reached = HashSet::from([first.span]);
    let mut open = vec![first.span];
    while let Some(span) = open.pop() {
        for other in beside.get(span).into_iter().flatten() {
            if reached.insert(other) {
                open.push(other);
            }
        }
    }
    reached.len() == beside.len()
}

/// What a sentinel attests against what the agent's own interposer counted.
pub(super) fn coverage(
    payload: &Json,
    place: &str,
    chain: &Chain,
    options: &Options,
    modes: &Modes,
) -> Result<(), Fault> {
    let counted = payload.at(&["metadata", "sentinels", "interpose_state", "cldd"]);
    for (n, attestation) in entries(payload, "coverage_attestations").iter().enumerate() {
        let place = format!("{place}/coverage_attestations/{n}");
        envelope::inner(attestation, &place, "coverage_attestation", "1", &[])?;
        let signer = text(attestation, "signer_did");
        let allowed = options
            .coverage_signers
            .iter()
            .any(|did| did.as_str() == signer);
        let root = attestation.at(&["payload", "binding", "event_chain_root_hash_b64u"]);
        let counts = allowed
            && envelope::signature(attestation, &place).is_ok()
            && root.and_then(Json::as_str) == chain.root();
        let (true, Some(counted)) = (counts, counted) else {
            continue;
        };
        let attested = [
            ("unmediated_connections", "egress"),
            ("unmonitored_spawns", "lineage"),
            ("escapes_suspected", "lineage"),
        ];
        let differs = attested.iter().any(|(name, group)| {
            counted.get(name) != attestation.at(&["payload", "metrics", group, name])
        });
        if differs && modes.coverage == Mode::Enforce {
            let code = "COVERAGE_CLDD_DISCREPANCY_ENFORCED";
            return Err(fault(code, place, "the sentinel counted otherwise"));
        }
    }
    Ok(())
}
