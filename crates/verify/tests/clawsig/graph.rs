//! The causal graph, what hangs on it, and coverage.

use clawverify::clawsig::Options;
use serde_json::{Value, json};

use super::{agent, believing, bundle_with, code, gateway, signed};

#[test]
fn the_causal_graph_is_checked() {
    let at = |second: u8| format!("2026-02-17T00:00:0{second}.000Z");
    for (bindings, expected) in [
        (json!([{}, {}]), "OK"),
        (
            json!([{"span_id": "a"}, {"span_id": "b", "parent_span_id": "a"}]),
            "OK",
        ),
        (
            json!([{"spanId": "a"}, {"span_id": "b", "toolSpanId": "a"}]),
            "OK",
        ),
        (
            json!([{"span_id": " a "}, {"span_id": "b", "parent_span_id": "a"}]),
            "OK",
        ),
        (json!([{"span_id": "a", "spanId": " a"}]), "OK"),
        (
            json!([{"span_id": "a"}, {"span_id": "a", "phase": "setup"}]),
            "OK",
        ),
        (
            json!([{"span_id": "a", "attribution_confidence": 0.5}]),
            "OK",
        ),
        (json!([{"attribution_confidence": 0}]), "OK"),
        (
            json!([{"span_id": "a", "spanId": "b"}]),
            "CAUSAL_BINDING_FIELD_CONFLICT",
        ),
        (
            json!([{"attribution_confidence": 0, "attributionConfidence": 1}]),
            "CAUSAL_BINDING_FIELD_CONFLICT",
        ),
        (
            json!([{"span_id": " "}]),
            "CAUSAL_BINDING_NORMALIZATION_FAILED",
        ),
        (
            json!([{"span_id": 1}]),
            "CAUSAL_BINDING_NORMALIZATION_FAILED",
        ),
        (json!([{"phase": "lunch"}]), "CAUSAL_PHASE_INVALID"),
        (
            json!([{"attribution_confidence": 2}]),
            "CAUSAL_CONFIDENCE_OUT_OF_RANGE",
        ),
        (
            json!([{"receipt_id": "r"}, {"receipt_id": "r", "nonce": "n"}]),
            "CAUSAL_RECEIPT_REPLAY_DETECTED",
        ),
        (
            json!([{"span_id": "a", "timestamp": "2027-02-17T00:00:00.000Z"}]),
            "CAUSAL_CLOCK_CONTRADICTION",
        ),
        (
            json!([{"span_id": "a", "parent_span_id": "b"}]),
            "CAUSAL_REFERENCE_DANGLING",
        ),
        (json!([{"tool_span_id": "b"}]), "CAUSAL_REFERENCE_DANGLING"),
        (
            json!([{"span_id": "a", "timestamp": at(1)}, {"span_id": "a", "timestamp": at(2)}]),
            "CAUSAL_CLOCK_CONTRADICTION",
        ),
        (
            json!([{"span_id": "a"}, {"span_id": "b"},
                   {"span_id": "c", "parent_span_id": "a"}, {"span_id": "c", "parent_span_id": "b"}]),
            "CAUSAL_SPAN_REUSE_CONFLICT",
        ),
        (
            json!([{"span_id": "a", "phase": "setup"}, {"span_id": "a", "phase": "planning"}]),
            "CAUSAL_SPAN_REUSE_CONFLICT",
        ),
        (
            json!([{"span_id": "a", "timestamp": at(2)},
                   {"span_id": "b", "parent_span_id": "a", "timestamp": at(1)}]),
            "CAUSAL_CLOCK_CONTRADICTION",
        ),
        (
            json!([{"span_id": "a", "timestamp": at(2)},
                   {"span_id": "b", "tool_span_id": "a", "timestamp": at(1)}]),
            "CAUSAL_CLOCK_CONTRADICTION",
        ),
        (
            json!([{"span_id": "a", "phase": "teardown"},
                   {"span_id": "b", "tool_span_id": "a", "phase": "setup"}]),
            "CAUSAL_PHASE_TRANSITION_INVALID",
        ),
        (
            json!([{"span_id": "a", "parent_span_id": "b"}, {"span_id": "b", "parent_span_id": "a"}]),
            "CAUSAL_CYCLE_DETECTED",
        ),
        (
            json!([{"span_id": "a", "attribution_confidence": 0.6}]),
            "CAUSAL_CONFIDENCE_EVIDENCE_INCONSISTENT",
        ),
        (
            json!([{"attribution_confidence": 0.1}]),
            "CAUSAL_CONFIDENCE_EVIDENCE_INCONSISTENT",
        ),
        (
            json!([{"span_id": "a"}, {"span_id": "b"}]),
            "CAUSAL_GRAPH_DISCONNECTED",
        ),
        (
            json!([{"span_id": "a", "tool_span_id": "b"}, {"span_id": "b", "tool_span_id": "a"}]),
            "CAUSAL_GRAPH_DISCONNECTED",
        ),
    ] {
        let bundle = bundle_with(bindings.as_array().unwrap(), json!({}));
        assert_eq!(code(&bundle, &believing()), expected, "{bindings}");
    }
    let apart = [json!({"span_id": "a"}), json!({"span_id": "b"})];
    let observing = Options {
        connectivity: Some("observe".to_owned()),
        ..believing()
    };
    assert_eq!(code(&bundle_with(&apart, json!({})), &observing), "OK");
}

#[test]
fn flat_receipts_hang_on_a_span() {
    let flat = |binding: Value| {
        json!({"side_effect_receipts": [{
            "receipt_version": "1",
            "receipt_id": "se_1",
            "effect_class": "network_egress",
            "hash_algorithm": "SHA-256",
            "agent_did": agent().did(),
            "timestamp": "2026-02-17T00:00:00.000Z",
            "binding": binding,
        }]})
    };
    for (binding, expected) in [
        (json!({"span_id": "a"}), "OK"),
        (json!({"parentSpanId": "a", "span_id": "own"}), "OK"),
        (json!({"tool_span_id": "a", "parent_span_id": "own"}), "OK"),
        (json!({"span_id": "b"}), "CAUSAL_SIDE_EFFECT_ORPHANED"),
        (
            json!({"tool_span_id": "b", "span_id": "a"}),
            "CAUSAL_SIDE_EFFECT_ORPHANED",
        ),
        (json!({}), "CAUSAL_SIDE_EFFECT_ORPHANED"),
        (json!("a"), "CAUSAL_SIDE_EFFECT_ORPHANED"),
        (
            json!({"span_id": ""}),
            "CAUSAL_BINDING_NORMALIZATION_FAILED",
        ),
    ] {
        let bundle = bundle_with(&[json!({"span_id": "a"})], flat(binding.clone()));
        assert_eq!(code(&bundle, &believing()), expected, "{binding}");
    }
}

/// What the reference's own data lets through under `warn` fails under `enforce`, and an
/// attestation that nobody signed fails always.
#[test]
fn coverage_is_compared() {
    let counted = json!({
        "unmediated_connections": 0,
        "unmonitored_spawns": 1,
        "escapes_suspected": false,
    });
    let attested = |spawns: u8| {
        let payload = json!({"metrics": {
            "egress": {"unmediated_connections": 0},
            "lineage": {"unmonitored_spawns": spawns, "escapes_suspected": false},
        }});
        signed("coverage_attestation", payload, &gateway())
    };
    let bundle = |counted: &Value, attestation: Value| {
        let more = json!({
            "metadata": {"sentinels": {"interpose_state": {"cldd": counted}}},
            "coverage_attestations": [attestation],
        });
        bundle_with(&[], more)
    };
    let enforcing = Options {
        coverage: Some("enforce".to_owned()),
        ..believing()
    };
    assert_eq!(code(&bundle(&counted, attested(1)), &enforcing), "OK");
    assert_eq!(code(&bundle(&counted, attested(2)), &believing()), "OK");
    assert_eq!(
        code(&bundle(&counted, attested(2)), &enforcing),
        "COVERAGE_CLDD_DISCREPANCY_ENFORCED"
    );
    let mut unsigned = attested(1);
    unsigned["signature_b64u"] = gateway().sign(b"x").to_string().into();
    assert_eq!(
        code(&bundle(&counted, unsigned), &believing()),
        "SIGNATURE_INVALID"
    );
    let wrong = json!({"unmediated_connections": "0"});
    assert_eq!(
        code(&bundle(&wrong, attested(1)), &believing()),
        "SCHEMA_VALIDATION_FAILED"
    );
}
