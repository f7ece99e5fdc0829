//! The public family's own test data, where it lies, our own public half, and files made to break
//! one rule each.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod export;
mod graph;
mod inference;
mod reference;

use clawverify::clawsig::{Options, verify};
use clawverify::testing::bytes;
use proof::{Hash, Json, SigningKey};
use serde_json::{Value, json};

/// Where the family's data lies. It is not ours to ship; the build machine has it.
fn vectors() -> Option<String> {
    match std::env::var("CLAWGATE_VECTORS") {
        Ok(folder) => Some(format!("{folder}/clawsig")),
        Err(_) if std::env::var_os("CI").is_some() => panic!("CLAWGATE_VECTORS is not set"),
        Err(_) => {
            println!("skipped: CLAWGATE_VECTORS is not set");
            None
        }
    }
}

/// A payload of the family in an envelope, as one of its agents would sign it.
fn signed(kind: &str, payload: Value, key: &SigningKey) -> Value {
    let written = Json::from(payload.clone()).to_document_order();
    let hash = Hash::of(&written).to_string();
    json!({
        "envelope_version": "1",
        "envelope_type": kind,
        "payload": payload,
        "payload_hash_b64u": hash,
        "hash_algorithm": "SHA-256",
        "signature_b64u": key.sign(hash.as_bytes()).to_string(),
        "algorithm": "Ed25519",
        "signer_did": key.did(),
        "issued_at": "2026-02-17T00:00:09.000Z",
    })
}

fn agent() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn gateway() -> SigningKey {
    SigningKey::from_seed(&[8; 32])
}

const RUN: &str = "run_1";

/// A bundle of one event with receipts that have these bindings, and these members besides.
fn bundle_with(bindings: &[Value], more: Value) -> Value {
    let mut event = json!({
        "event_id": "evt_1",
        "run_id": RUN,
        "event_type": "llm_call",
        "timestamp": "2026-02-17T00:00:00.000Z",
        "payload_hash_b64u": "AAAAAAAA",
        "prev_hash_b64u": null,
    });
    let preimage = format!(
        r#"{{"event_id":"evt_1","run_id":"{RUN}","event_type":"llm_call","timestamp":"2026-02-17T00:00:00.000Z","payload_hash_b64u":"AAAAAAAA","prev_hash_b64u":null}}"#
    );
    let event_hash = Hash::of(preimage.as_bytes()).to_string();
    event["event_hash_b64u"] = event_hash.clone().into();
    let receipt = |(n, binding): (usize, &Value)| {
        let mut binding = binding.clone();
        let time = binding.as_object_mut().unwrap().remove("timestamp");
        let id = binding.as_object_mut().unwrap().remove("receipt_id");
        binding["run_id"] = RUN.into();
        binding["event_hash_b64u"] = event_hash.clone().into();
        let payload = json!({
            "receipt_version": "1",
            "receipt_id": id.unwrap_or_else(|| format!("rcpt_{n}").into()),
            "gateway_id": "did:web:gateway.test",
            "provider": "openai",
            "model": "gpt-5",
            "request_hash_b64u": "AAAAAAAA",
            "response_hash_b64u": "AAAAAAAA",
            "tokens_input": 1,
            "tokens_output": 1,
            "latency_ms": 1,
            "timestamp": time.unwrap_or_else(|| "2026-02-17T00:00:00.000Z".into()),
            "binding": binding,
        });
        signed("gateway_receipt", payload, &gateway())
    };
    let mut payload = json!({
        "bundle_version": "1",
        "bundle_id": "bundle_1",
        "agent_did": agent().did(),
        "event_chain": [event],
        "receipts": bindings.iter().enumerate().map(receipt).collect::<Vec<_>>(),
    });
    for (name, value) in more.as_object().unwrap() {
        payload[name] = value.clone();
    }
    signed("proof_bundle", payload, &agent())
}

fn code(bundle: &Value, options: &Options) -> String {
    verify(&bytes(bundle), options).reason_code
}

fn believing() -> Options {
    Options {
        receipt_signers: vec![gateway().did()],
        ..Options::default()
    }
}

/// Sets what a pointer names; a missing last member is added.
fn with(file: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = file.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match changed.pointer_mut(parent).unwrap() {
        Value::Array(elements) => elements[name.parse::<usize>().unwrap()] = value,
        parent => parent[name] = value,
    }
    changed
}
