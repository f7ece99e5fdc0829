//! Receipts of observed inference.

use std::fs;

use serde_json::{Value, json};

use super::{agent, believing, code, signed, vectors};

/// Each change is made before the file is signed, so that the rule itself has to find it.
#[test]
fn receipts_of_inference_are_checked() {
    let Some(folder) = vectors() else { return };
    let path = "materialised/clawverify-firewall/valid-vir-uncorroborated-high-claim.json";
    let file = fs::read(format!("{folder}/{path}")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let original = &file["envelope"]["payload"];
    let sealed = |change: &dyn Fn(&mut Value)| {
        let mut payload = original.clone();
        let mut receipt = payload["vir_receipts"][0]["payload"].take();
        payload["agent_did"] = agent().did().as_str().into();
        receipt["agent_did"] = agent().did().as_str().into();
        change(&mut receipt);
        payload["vir_receipts"] = json!([signed("vir_receipt", receipt, &agent())]);
        signed("proof_bundle", payload, &agent())
    };
    assert_eq!(code(&sealed(&|_| ()), &believing()), "OK");
    let conflict = |authoritative: &str, divergent: &str| {
        json!([{"field": "model", "authoritative_source": authoritative,
                "divergent_source": divergent, "authoritative_value": 1, "divergent_value": 2}])
    };
    let set = |pointer: &'static str, value: Value| {
        move |receipt: &mut Value| {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            receipt.pointer_mut(parent).unwrap()[name] = value.clone();
        }
    };
    for (pointer, value, expected) in [
        ("/receipt_version", json!("1"), "UNSUPPORTED"),
        (
            "/agent_did",
            json!("did:key:zOther"),
            "PROOF_BUNDLE_AGENT_MISMATCH",
        ),
        (
            "/binding/run_id",
            json!("run_2"),
            "RECEIPT_BINDING_MISMATCH",
        ),
        (
            "/binding/event_hash_b64u",
            json!("AAAAAAAA"),
            "RECEIPT_BINDING_MISMATCH",
        ),
        ("/model_observed", json!("gpt-3.5"), "EVIDENCE_MISMATCH"),
        ("/tokens_input", json!(1), "EVIDENCE_MISMATCH"),
        (
            "/evidence_conflicts",
            conflict("sni", "gateway"),
            "EVIDENCE_MISMATCH",
        ),
        ("/evidence_conflicts", conflict("gateway", "sni"), "OK"),
        ("/source", json!("hearsay"), "SCHEMA_VALIDATION_FAILED"),
        (
            "/legal_binding/nonce",
            Value::Null,
            "SCHEMA_VALIDATION_FAILED",
        ),
        (
            "/selective_disclosure/merkle_root_b64u",
            json!("AAAAAAAA"),
            "DISCLOSURE_ROOT_MISMATCH",
        ),
        (
            "/selective_disclosure/disclosed_leaves/tokens_input/type",
            json!("string"),
            "DISCLOSURE_TYPE_MISMATCH",
        ),
    ] {
        let bundle = sealed(&set(pointer, value.clone()));
        assert_eq!(code(&bundle, &believing()), expected, "{pointer} {value}");
    }
    let mut unsigned = sealed(&|_| ())["payload"].clone();
    unsigned["vir_receipts"][0]["signature_b64u"] = agent().sign(b"x").to_string().into();
    let unsigned = signed("proof_bundle", unsigned, &agent());
    assert_eq!(code(&unsigned, &believing()), "SIGNATURE_INVALID");
}
