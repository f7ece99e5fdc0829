//! The causal graph that receipts' spans make, and the claims of coverage beside it.
//!
//! The order of the rules is the reference verifier's: where a file breaks several, the first
//! one gives the code.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use proof::Json;

use super::chain;
use super::shape;
use super::{Fault, Options, SCHEMA, entries, envelope, fault, text};

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

/// Where a binding stands among the spans.
struct Lineage<'a> {
    span: Option<&'a str>,
    parent: Option<&'a str>,
    tool: Option<&'a str>,
}

impl<'a> Lineage<'a> {
    fn read(binding: &'a Json, place: &str) -> Result<Self, Fault> {
        Ok(Self {
            span: identifier(binding, ("span_id", "spanId"), place)?,
            parent: identifier(binding, ("parent_span_id", "parentSpanId"), place)?,
            tool: identifier(binding, ("tool_span_id", "toolSpanId"), place)?,
        })
    }

    /// The spans that it refers to.
    fn references(&self) -> impl Iterator<Item = &'a str> {
        [self.parent, self.tool].into_iter().flatten()
    }
}

/// A span's id under either of its spellings, which must not contradict each other.
fn identifier<'a>(
    binding: &'a Json,
    (snake, camel): (&str, &str),
    place: &str,
) -> Result<Option<&'a str>, Fault> {
    let read = |name: &str| {
        let Some(value) = binding.get(name) else {
            return Ok(None);
        };
        // What JavaScript calls white space.
        let blank = |c: char| (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}';
        match value.as_str().map(|text| text.trim_matches(blank)) {
            Some(id) if !id.is_empty() => Ok(Some(id)),
            _ => Err(unreadable(place, name)),
        }
    };
    agreed(read(snake)?, read(camel)?, place, snake)
}

fn confidence(binding: &Json, place: &str) -> Result<Option<f64>, Fault> {
    let (snake, camel) = ("attribution_confidence", "attributionConfidence");
    let read = |name: &str| match binding.get(name) {
        None => Ok(None),
        Some(Json::Integer(value)) => Ok(Some(*value as f64)),
        Some(Json::Double(value)) => Ok(Some(*value)),
        Some(_) => Err(unreadable(place, name)),
    };
    agreed(read(snake)?, read(camel)?, place, snake)
}

fn unreadable(place: &str, name: &str) -> Fault {
    let code = "CAUSAL_BINDING_NORMALIZATION_FAILED";
    fault(code, format!("{place}/{name}"), "not as it must be")
}

fn agreed<T: PartialEq>(
    snake: Option<T>,
    camel: Option<T>,
    place: &str,
    name: &str,
) -> Result<Option<T>, Fault> {
    match (&snake, &camel) {
        (Some(one), Some(other)) if one != other => {
            let place = format!("{place}/{name}");
            let detail = "its other spelling says something else";
            Err(fault("CAUSAL_BINDING_FIELD_CONFLICT", place, detail))
        }
        _ => Ok(snake.or(camel)),
    }
}

/// One receipt whose binding says something about the graph.
struct Entry<'a> {
    place: String,
    lineage: Lineage<'a>,
    phase: Option<&'a str>,
    confidence: Option<f64>,
    /// Milliseconds at which the call was and at which its receipt was signed.
    called: Option<i64>,
    issued: Option<i64>,
}

const MEMBERS: [&str; 9] = [
    "span_id",
    "spanId",
    "parent_span_id",
    "parentSpanId",
    "tool_span_id",
    "toolSpanId",
    "phase",
    "attribution_confidence",
    "attributionConfidence",
];

/// Replays, spans, phases, confidence, connectivity, and the anchoring of flat receipts.
pub(super) fn check(payload: &Json, place: &str, modes: &Modes) -> Result<(), Fault> {
    let mut graph = Vec::new();
    for (n, receipt) in entries(payload, "receipts").iter().enumerate() {
        let Some(binding) = receipt.at(&["payload", "binding"]) else {
            continue;
        };
        if MEMBERS.iter().all(|name| binding.get(name).is_none()) {
            continue;
        }
        let place = format!("{place}/receipts/{n}/payload/binding");
        let called = receipt.at(&["payload", "timestamp"]).and_then(Json::as_str);
        graph.push(Entry {
            lineage: Lineage::read(binding, &place)?,
            phase: binding.get("phase").and_then(Json::as_str),
            confidence: confidence(binding, &place)?,
            called: called.and_then(shape::millis),
            issued: shape::millis(text(receipt, "issued_at")),
            place,
        });
    }
    chain::replayed(payload, place)?;
    let spans: HashSet<&str> = graph
        .iter()
        .filter_map(|entry| entry.lineage.span)
        .collect();
    references(&graph, &spans)?;
    let spans = Spans::read(&graph)?;
    spans.in_order()?;
    spans.acyclic()?;
    confident(&graph)?;
    if modes.connectivity < Mode::Enforce {
        return Ok(());
    }
    spans.connected()?;
    anchored(payload, place, &spans)
}

/// No receipt was signed before its call, and what it refers to is there.
fn references(graph: &[Entry<'_>], spans: &HashSet<&str>) -> Result<(), Fault> {
    for entry in graph {
        if let (Some(called), Some(issued)) = (entry.called, entry.issued)
            && called > issued
        {
            let detail = "signed before its call";
            return Err(fault("CAUSAL_CLOCK_CONTRADICTION", &entry.place, detail));
        }
        if entry.lineage.references().any(|span| !spans.contains(span)) {
            let detail = "refers to a span that is not there";
            return Err(fault("CAUSAL_REFERENCE_DANGLING", &entry.place, detail));
        }
    }
    Ok(())
}

/// No more confidence than the links give: all of it with a link in either direction, half with a
/// span alone, none without one.
fn confident(graph: &[Entry<'_>]) -> Result<(), Fault> {
    let referred: HashSet<&str> = graph.iter().flat_map(|e| e.lineage.references()).collect();
    for entry in graph {
        let linked = entry.lineage.references().next().is_some();
        let most = match entry.lineage.span {
            _ if linked => 1.0,
            Some(span) if referred.contains(span) => 1.0,
            Some(_) => 0.5,
            None => 0.0,
        };
        if entry.confidence.is_some_and(|confidence| confidence > most) {
            let code = "CAUSAL_CONFIDENCE_EVIDENCE_INCONSISTENT";
            let detail = "more confidence than the links give";
            return Err(fault(code, &entry.place, detail));
        }
    }
    Ok(())
}

/// What the first receipt of a span says about it; later ones may repeat or leave out, not
/// contradict.
struct Span<'a> {
    first: &'a Entry<'a>,
    time: Option<i64>,
}

struct Spans<'a> {
    /// In the order in which they first stand in the file.
    order: Vec<&'a str>,
    by_id: HashMap<&'a str, Span<'a>>,
}

impl<'a> Spans<'a> {
    fn read(graph: &'a [Entry<'a>]) -> Result<Self, Fault> {
        let mut order = Vec::new();
        let mut by_id: HashMap<&str, Span<'_>> = HashMap::new();
        for entry in graph {
            let Some(id) = entry.lineage.span else {
                continue;
            };
            let time = entry.called.or(entry.issued);
            let Some(known) = by_id.get(id) else {
                order.push(id);
                by_id.insert(id, Span { first: entry, time });
                continue;
            };
            if differ(known.time, time) {
                let detail = "another receipt gives the span another time";
                return Err(fault("CAUSAL_CLOCK_CONTRADICTION", &entry.place, detail));
            }
            let first = known.first;
            if differ(first.lineage.parent, entry.lineage.parent)
                || differ(first.lineage.tool, entry.lineage.tool)
                || differ(first.phase, entry.phase)
                || differ(first.confidence, entry.confidence)
            {
                let detail = "another receipt uses the span otherwise";
                return Err(fault("CAUSAL_SPAN_REUSE_CONFLICT", &entry.place, detail));
            }
        }
        Ok(Self { order, by_id })
    }

    fn each(&self) -> impl Iterator<Item = (&'a str, &Span<'a>)> {
        self.order.iter().map(|id| (*id, &self.by_id[id]))
    }

    /// Nothing happens before what caused it, nor in a phase that may not follow.
    fn in_order(&self) -> Result<(), Fault> {
        for (_, span) in self.each() {
            let place = &span.first.place;
            for cause in span.first.lineage.references() {
                let Some(cause) = self.by_id.get(cause) else {
                    continue;
                };
                if let (Some(before), Some(after)) = (cause.time, span.time)
                    && after < before
                {
                    let detail = "earlier than what it came from";
                    return Err(fault("CAUSAL_CLOCK_CONTRADICTION", place, detail));
                }
                if let (Some(before), Some(after)) = (cause.first.phase, span.first.phase)
                    && !follows(before, after)
                {
                    let detail = format!("{after} after {before}");
                    return Err(fault("CAUSAL_PHASE_TRANSITION_INVALID", place, detail));
                }
            }
        }
        Ok(())
    }

    /// Follows parents from each span; each span is walked once.
    fn acyclic(&self) -> Result<(), Fault> {
        let mut done: HashSet<&str> = HashSet::new();
        for (start, span) in self.each() {
            let mut way: HashSet<&str> = HashSet::new();
            let mut here = Some(start);
            while let Some(id) = here.filter(|id| !done.contains(id)) {
                if !way.insert(id) {
                    let detail = "its parents lead back to it";
                    return Err(fault("CAUSAL_CYCLE_DETECTED", &span.first.place, detail));
                }
                here = self.by_id.get(id).and_then(|s| s.first.lineage.parent);
            }
            done.extend(way);
        }
        Ok(())
    }

    /// Every span leads back to one that came from nothing, and all hang together.
    fn connected(&self) -> Result<(), Fault> {
        let Some(first) = self.order.first().copied() else {
            return Ok(());
        };
        let mut caused: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut beside: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut roots = Vec::new();
        for (id, span) in self.each() {
            if span.first.lineage.references().next().is_none() {
                roots.push(id);
            }
            for cause in span.first.lineage.references() {
                caused.entry(cause).or_default().push(id);
                beside.entry(cause).or_default().push(id);
                beside.entry(id).or_default().push(cause);
            }
        }
        let rooted = reached(roots, &caused);
        let together = reached(vec![first], &beside);
        match self
            .each()
            .find(|(id, _)| !rooted.contains(id) || !together.contains(id))
        {
            None => Ok(()),
            Some((_, span)) => Err(fault(
                "CAUSAL_GRAPH_DISCONNECTED",
                &span.first.place,
                "the spans do not hang together",
            )),
        }
    }
}

/// Whether two receipts say different things; one that says nothing does not contradict.
fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

fn reached<T: Copy + Eq + Hash>(start: Vec<T>, next: &HashMap<T, Vec<T>>) -> HashSet<T> {
    let mut reached: HashSet<T> = start.iter().copied().collect();
    let mut open = start;
    while let Some(here) = open.pop() {
        for there in next.get(&here).into_iter().flatten() {
            if reached.insert(*there) {
                open.push(*there);
            }
        }
    }
    reached
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

/// Flat receipts, which nobody but the agent signs, hang on a span of a gateway's receipt.
fn anchored(payload: &Json, place: &str, spans: &Spans<'_>) -> Result<(), Fault> {
    for (name, code) in [
        ("side_effect_receipts", "CAUSAL_SIDE_EFFECT_ORPHANED"),
        ("human_approval_receipts", "CAUSAL_HUMAN_APPROVAL_ORPHANED"),
    ] {
        for (n, entry) in entries(payload, name).iter().enumerate() {
            let place = format!("{place}/{name}/{n}/binding");
            let binding = entry.get("binding").filter(|b| b.members().is_some());
            let lineage = binding.map(|b| Lineage::read(b, &place)).transpose()?;
            let anchor =
                lineage.and_then(|lineage| lineage.tool.or(lineage.parent).or(lineage.span));
            if !anchor.is_some_and(|span| spans.by_id.contains_key(span)) {
                return Err(fault(code, place, "not anchored in a receipt's span"));
            }
        }
    }
    Ok(())
}

/// What the agent's own interposer counted, by name and by the group in which sentinels attest it.
const COUNTED: [(&str, &str); 3] = [
    ("unmediated_connections", "egress"),
    ("unmonitored_spawns", "lineage"),
    ("escapes_suspected", "lineage"),
];

/// What sentinels attest against what the agent's own interposer counted.
///
/// The reference adds up what sentinels say and looks at no signature; here each has to be signed
/// and to agree, which refuses more.
pub(super) fn coverage(payload: &Json, place: &str, modes: &Modes) -> Result<(), Fault> {
    let counted = payload.at(&["metadata", "sentinels", "interpose_state", "cldd"]);
    if let Some(counted) = counted {
        let fits = |(name, _): &(&str, &str)| match counted.get(name) {
            Some(Json::Integer(count)) => *name != "escapes_suspected" && *count >= 0,
            Some(Json::Bool(_)) => *name == "escapes_suspected",
            _ => false,
        };
        if !COUNTED.iter().all(fits) {
            let place = format!("{place}/metadata/sentinels/interpose_state/cldd");
            return Err(fault(SCHEMA, place, "not as it must be"));
        }
    }
    for (n, attestation) in entries(payload, "coverage_attestations").iter().enumerate() {
        let place = format!("{place}/coverage_attestations/{n}");
        envelope::inner(attestation, &place, "coverage_attestation", "1", &[])?;
        envelope::signature(attestation, &place)?;
        let Some(counted) = counted else {
            continue;
        };
        let differs = COUNTED.iter().any(|(name, group)| {
            counted.get(name) != attestation.at(&["payload", "metrics", group, name])
        });
        if differs && modes.coverage == Mode::Enforce {
            let code = "COVERAGE_CLDD_DISCREPANCY_ENFORCED";
            return Err(fault(code, place, "the sentinel counted otherwise"));
        }
    }
    Ok(())
}
