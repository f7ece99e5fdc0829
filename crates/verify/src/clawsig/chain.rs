//! The event chain, and the gateway receipts that hang on it.

use std::collections::{HashMap, HashSet};

use proof::{Hash, Json};
use serde::Serialize;

use super::shape::{self, Kind};
use super::{Fault, Options, ProofTier, SCHEMA, entries, envelope, fault, text};

/// Shapes of events, gateway receipts and rate-limit claims.
pub(super) fn shapes(payload: &Json, place: &str) -> Result<(), Fault> {
    if payload.get("event_chain").is_some() && entries(payload, "event_chain").is_empty() {
        return Err(fault(SCHEMA, format!("{place}/event_chain"), "empty"));
    }
    for (n, event) in entries(payload, "event_chain").iter().enumerate() {
        let required = [
            ("event_id", Kind::Text),
            ("run_id", Kind::Text),
            ("event_type", Kind::Text),
            ("timestamp", Kind::Time),
            ("payload_hash_b64u", Kind::Base64),
            ("prev_hash_b64u", Kind::Base64OrNull),
            ("event_hash_b64u", Kind::Base64),
        ];
        shape::closed(event, &format!("{place}/event_chain/{n}"), &required, &[])?;
    }
    for (n, receipt) in entries(payload, "receipts").iter().enumerate() {
        if is_foreign(receipt) {
            continue;
        }
        let place = format!("{place}/receipts/{n}");
        envelope::inner(receipt, &place, "gateway_receipt", "1", &[])?;
        let place = format!("{place}/payload");
        let receipt = receipt.get("payload").unwrap_or(&Json::Null);
        let required = [
            ("receipt_version", Kind::Const("1")),
            ("receipt_id", Kind::Text),
            ("gateway_id", Kind::Text),
            ("provider", Kind::Text),
            ("model", Kind::Text),
            ("request_hash_b64u", Kind::Base64),
            ("response_hash_b64u", Kind::Base64),
            ("tokens_input", Kind::Number(10_000_000)),
            ("tokens_output", Kind::Number(10_000_000)),
            ("latency_ms", Kind::Number(3_600_000)),
            ("timestamp", Kind::Time),
        ];
        let optional = [("binding", Kind::Object), ("metadata", Kind::Object)];
        shape::closed(receipt, &place, &required, &optional)?;
        if let Some(binding) = receipt.get("binding") {
            binding_shape(binding, &format!("{place}/binding"))?;
        }
    }
    Ok(())
}

/// What the reference drops before it looks: entries of an older kind.
fn is_foreign(receipt: &Json) -> bool {
    receipt.get("receipt_type").is_some() && receipt.get("envelope_type").is_none()
}

const PHASES: [&str; 7] = [
    "setup",
    "planning",
    "reasoning",
    "execution",
    "observation",
    "reflection",
    "teardown",
];

const SPANS: [&str; 6] = [
    "span_id",
    "spanId",
    "parent_span_id",
    "parentSpanId",
    "tool_span_id",
    "toolSpanId",
];

/// The closed object `receipt_binding`; its causal members have codes of their own.
pub(super) fn binding_shape(binding: &Json, place: &str) -> Result<(), Fault> {
    if let Some(phase) = binding.get("phase")
        && !phase.as_str().is_some_and(|phase| PHASES.contains(&phase))
    {
        return Err(fault(
            "CAUSAL_PHASE_INVALID",
            format!("{place}/phase"),
            "unknown",
        ));
    }
    for name in ["attribution_confidence", "attributionConfidence"] {
        if let Some(value) = binding.get(name) {
            let in_range = match value {
                Json::Integer(value) => (0..=1).contains(value),
                Json::Double(value) => (0.0..=1.0).contains(value),
                _ => false,
            };
            if !in_range {
                let code = "CAUSAL_CONFIDENCE_OUT_OF_RANGE";
                return Err(fault(code, format!("{place}/{name}"), "not from 0 to 1"));
            }
        }
    }
    for name in SPANS {
        if binding
            .get(name)
            .is_some_and(|span| span.as_str().is_none_or(str::is_empty))
        {
            let code = "CAUSAL_BINDING_NORMALIZATION_FAILED";
            return Err(fault(code, format!("{place}/{name}"), "not a span's id"));
        }
    }
    let optional = [
        ("run_id", Kind::Text),
        ("event_hash_b64u", Kind::Base64),
        ("nonce", Kind::Text),
        ("policy_hash", Kind::Text),
        ("token_scope_hash_b64u", Kind::Base64),
        ("span_id", Kind::Text),
        ("spanId", Kind::Text),
        ("parent_span_id", Kind::Text),
        ("parentSpanId", Kind::Text),
        ("tool_span_id", Kind::Text),
        ("toolSpanId", Kind::Text),
        ("phase", Kind::Text),
        ("attribution_confidence", Kind::Any),
        ("attributionConfidence", Kind::Any),
    ];
    shape::closed(binding, place, &[], &optional)
}

/// A verified chain of events.
#[derive(Debug, Default)]
pub(super) struct Chain {
    run_id: Option<String>,
    root: Option<String>,
    events: HashSet<String>,
}

impl Chain {
    /// Checks linkage, then each hash.
    pub(super) fn read(payload: &Json, place: &str) -> Result<Self, Fault> {
        let events = entries(payload, "event_chain");
        let mut chain = Self::default();
        let mut ids = HashSet::new();
        let mut previous: Option<&str> = None;
        for (n, event) in events.iter().enumerate() {
            let place = format!("{place}/event_chain/{n}");
            let malformed = |detail: &str| fault("MALFORMED_ENVELOPE", &place, detail);
            if !ids.insert(text(event, "event_id")) {
                return Err(malformed("an id twice"));
            }
            let run = chain
                .run_id
                .get_or_insert_with(|| text(event, "run_id").to_owned());
            if run != text(event, "run_id") {
                return Err(fault("INCONSISTENT_RUN_ID", place, "another run"));
            }
            if event.get("prev_hash_b64u").and_then(Json::as_str) != previous {
                return Err(malformed("does not follow the event before"));
            }
            previous = Some(text(event, "event_hash_b64u"));
        }
        for (n, event) in events.iter().enumerate() {
            if event_hash(event).to_string() != text(event, "event_hash_b64u") {
                let place = format!("{place}/event_chain/{n}/event_hash_b64u");
                return Err(fault("HASH_MISMATCH", place, "not the event's hash"));
            }
            chain
                .events
                .insert(text(event, "event_hash_b64u").to_owned());
        }
        chain.root = events
            .first()
            .map(|e| text(e, "event_hash_b64u").to_owned());
        Ok(chain)
    }

    pub(super) fn run_id(&self) -> Option<&str> {
        self.run_id.as_deref()
    }

    /// The hash of the first event, by which the family names a chain.
    pub(super) fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// Whether run and event of a binding, where it has them, are those of the chain.
    pub(super) fn agrees(&self, binding: &Json) -> bool {
        let run = binding.get("run_id").and_then(Json::as_str);
        let event = binding.get("event_hash_b64u").and_then(Json::as_str);
        run.is_none_or(|run| self.run_id() == Some(run))
            && event.is_none_or(|event| self.events.contains(event))
    }
}

/// Six members in a fixed order, which is not the canonical one.
fn event_hash(event: &Json) -> Hash {
    #[derive(Serialize)]
    struct Preimage<'a> {
        event_id: &'a str,
        run_id: &'a str,
        event_type: &'a str,
        timestamp: &'a str,
        payload_hash_b64u: &'a str,
        prev_hash_b64u: Option<&'a str>,
    }
    let preimage = Preimage {
        event_id: text(event, "event_id"),
        run_id: text(event, "run_id"),
        event_type: text(event, "event_type"),
        timestamp: text(event, "timestamp"),
        payload_hash_b64u: text(event, "payload_hash_b64u"),
        prev_hash_b64u: event.get("prev_hash_b64u").and_then(Json::as_str),
    };
    Hash::of(&serde_json::to_vec(&preimage).expect("strings are JSON"))
}

/// Self-declared rates: only their arithmetic can be checked.
pub(super) fn rate_limits(payload: &Json, place: &str, chain: &Chain) -> Result<(), Fault> {
    for (n, claim) in entries(payload, "rate_limit_claims").iter().enumerate() {
        let place = format!("{place}/rate_limit_claims/{n}");
        let count = Kind::Number(1 << 53);
        let required = [
            ("claim_version", Kind::Const("1")),
            ("scope", Kind::OneOf(&["agent", "model", "tool"])),
            ("scope_key", Kind::Text),
            ("window_start", Kind::Time),
            ("window_end", Kind::Time),
            ("max_requests", count),
            ("observed_requests", count),
        ];
        let optional = [
            ("max_tokens_input", count),
            ("observed_tokens_input", count),
            ("max_tokens_output", count),
            ("observed_tokens_output", count),
            ("run_id", Kind::Text),
        ];
        shape::closed(claim, &place, &required, &optional)?;
        let start = shape::millis(text(claim, "window_start"));
        if start > shape::millis(text(claim, "window_end")) {
            return Err(fault(
                "RATE_LIMIT_WINDOW_INVALID",
                place,
                "ends before it starts",
            ));
        }
        let number = |name: &str| claim.get(name).and_then(Json::as_integer);
        let run = claim.get("run_id").and_then(Json::as_str);
        for (most, seen) in [
            ("max_requests", "observed_requests"),
            ("max_tokens_input", "observed_tokens_input"),
            ("max_tokens_output", "observed_tokens_output"),
        ] {
            if number(most).is_some() != number(seen).is_some()
                || (run.is_some() && run != chain.run_id())
            {
                let code = "RATE_LIMIT_CLAIM_INCONSISTENT";
                return Err(fault(code, place, "half a claim, or of another run"));
            }
            if number(most) < number(seen) {
                return Err(fault("RATE_LIMIT_EXCEEDED", place, seen));
            }
        }
    }
    Ok(())
}

/// What became of the gateway receipts. One that is wrong does not fail the bundle by itself;
/// [`Receipts::strict`] adds what the reference's command line asks for.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    all: usize,
    bound: usize,
    worst: Option<Fault>,
}

pub(super) fn receipts(payload: &Json, place: &str, chain: &Chain, options: &Options) -> Receipts {
    let all: Vec<&Json> = entries(payload, "receipts").iter().collect();
    let results = crate::threads::map(&all, |n, receipt| {
        if is_foreign(receipt) {
            return Ok(false);
        }
        let place = format!("{place}/receipts/{n}");
        let binding = receipt.at(&["payload", "binding"]);
        let bound = binding.is_some_and(|binding| binding.get("event_hash_b64u").is_some());
        if !bound {
            // Not counted by the reference, neither for nor against.
            return Ok(false);
        }
        let signer = text(receipt, "signer_did");
        if !options.knows_receipt_signers() {
            return Err(fault(
                "DEPENDENCY_NOT_CONFIGURED",
                place,
                "no receipt keys are allowed",
            ));
        }
        let failed =
            |place: &str, detail: &str| fault("RECEIPT_VERIFICATION_FAILED", place, detail);
        let signed_at = receipt.at(&["payload", "timestamp"]);
        let signed_at = signed_at.and_then(Json::as_str).unwrap_or_default();
        let admitted = options.admits_receipt(signer, signed_at);
        admitted.map_err(|why| failed(&place, &why))?;
        envelope::signature(receipt, &place).map_err(|f| failed(&f.place, &f.detail))?;
        let binding = binding.unwrap_or(&Json::Null);
        if binding.get("run_id").is_none() || !chain.agrees(binding) {
            return Err(fault(
                "RECEIPT_BINDING_MISMATCH",
                place,
                "not an event of the chain",
            ));
        }
        Ok(true)
    });
    let mut receipts = Receipts {
        all: results.len(),
        ..Receipts::default()
    };
    for result in results {
        match result {
            Ok(bound) => receipts.bound += usize::from(bound),
            Err(fault) => {
                receipts.worst.get_or_insert(fault);
            }
        }
    }
    receipts
}

impl Receipts {
    /// Every bound receipt counts, or the file does not pass.
    pub(super) fn strict(&self) -> Result<(), Fault> {
        self.worst.clone().map_or(Ok(()), Err)
    }

    pub(super) fn tier(&self) -> ProofTier {
        if self.bound > 0 {
            ProofTier::Gateway
        } else {
            ProofTier::SelfReported
        }
    }

    /// Whether there are receipts and every one of them counts.
    pub(super) fn complete(&self) -> bool {
        self.all > 0 && self.bound == self.all
    }
}

/// Receipts of one id with different content.
pub(super) fn replayed(payload: &Json, place: &str) -> Result<(), Fault> {
    let mut known: HashMap<&str, Vec<u8>> = HashMap::new();
    for (n, receipt) in entries(payload, "receipts").iter().enumerate() {
        let Some(content) = receipt.get("payload") else {
            continue;
        };
        let written = content.to_jcs();
        let id = text(content, "receipt_id");
        if known.get(id).is_some_and(|other| *other != written) {
            let place = format!("{place}/receipts/{n}");
            let code = "CAUSAL_RECEIPT_REPLAY_DETECTED";
            return Err(fault(code, place, "another receipt has this id"));
        }
        known.insert(id, written);
    }
    Ok(())
}
