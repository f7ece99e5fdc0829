//! The public family's own test data, where it lies, and our own public half.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::fs;

use clawverify::clawsig::{Options, Tier, Verdict, verify};
use clawverify::testing::{Keys, Story, bytes, seal};
use serde_json::Value;

fn dids(value: Option<&Value>) -> Vec<proof::Did> {
    let entries = value.and_then(Value::as_array).cloned().unwrap_or_default();
    entries
        .iter()
        .map(|did| did.as_str().unwrap().parse().unwrap())
        .collect()
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// Proof bundles of the reference's data that this profile does not judge.
const UNSUPPORTED: usize = 1;

#[test]
fn gives_the_reference_verdicts() {
    let Ok(root) = std::env::var("CLAWGATE_VECTORS") else {
        println!("skipped: CLAWGATE_VECTORS is not set");
        return;
    };
    let root = format!("{root}/clawsig");
    let read = |path: &str| fs::read(format!("{root}/{path}")).unwrap();
    let manifest: Vec<Value> = serde_json::from_slice(&read("manifest.json")).unwrap();
    let mut judged = 0;
    let mut unsupported = Vec::new();
    let mut other_kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for vector in manifest {
        let kind = text(&vector, "kind").unwrap();
        if kind != "proof_bundle" {
            *other_kinds.entry(kind).or_default() += 1;
            continue;
        }
        let path = text(&vector, "path").unwrap();
        let file = read(&path);
        let mut options = Options::default();
        if let Some(config) = text(&vector, "config") {
            let config: Value = serde_json::from_slice(&read(&config)).unwrap();
            options.receipt_signers =
                dids(config.pointer("/allowlists/gateway_receipt_signer_dids"));
        }
        if let Some(urm) = text(&vector, "urm") {
            options.urm = Some(read(&urm));
        }
        let parsed: Value = serde_json::from_slice(&file).unwrap();
        if let Some(given) = parsed.get("options") {
            options.receipt_signers = dids(given.get("allowlistedReceiptSignerDids"));
            options.coverage_signers = dids(given.get("allowlistedCoverageAttestationSignerDids"));
            options.policy_profile = text(given, "causal_policy_profile");
            options.connectivity = text(given, "causal_connectivity_mode");
            options.coverage = text(given, "coverage_enforcement_phase");
        }
        let report = verify(&file, &options);
        if report.verdict == Verdict::Unsupported {
            unsupported.push(path);
            continue;
        }
        judged += 1;
        let expected = text(&vector, "reason_code").unwrap();
        let verdict = match report.verdict {
            Verdict::Pass => "pass",
            _ => "fail",
        };
        let tier = text(&vector, "proof_tier").filter(|_| verdict == "pass");
        let found = report.proof_tier.map(|tier| match tier {
            Tier::Gateway => "gateway".to_owned(),
            Tier::SelfReported => "self".to_owned(),
        });
        if Some(verdict) != vector["expected"].as_str()
            || report.reason_code != expected
            || (tier.is_some() && tier != found)
        {
            wrong.push((path, expected, report));
        }
    }
    println!("{judged} judged; unsupported: {unsupported:?}; other kinds: {other_kinds:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(unsupported.len(), UNSUPPORTED, "{unsupported:?}");
    assert_eq!(judged + UNSUPPORTED, 63);
}

fn ours() -> (Value, Options) {
    let story = Story::apply();
    let bundle = seal(story.evidence(), &story.keys);
    let options = Options {
        receipt_signers: vec![Keys::from_seed(1).receipt.did()],
        ..Options::default()
    };
    (serde_json::to_value(bundle).unwrap(), options)
}

#[test]
fn our_public_half_passes() {
    let (bundle, options) = ours();
    for file in [&bundle, &bundle["proof_bundle"]] {
        let report = verify(&bytes(file), &options);
        assert_eq!(report.verdict, Verdict::Pass, "{report:?}");
        assert_eq!(report.proof_tier, Some(Tier::Gateway));
    }
}

#[test]
fn our_public_half_fails_when_changed() {
    let (bundle, options) = ours();
    let half = &bundle["proof_bundle"];
    for (pointer, value, code) in [
        ("/payload/bundle_id", "x", "HASH_MISMATCH"),
        ("/payload/bundle_version", "2", "SCHEMA_VALIDATION_FAILED"),
        ("/payload/event_chain/0/event_type", "x", "HASH_MISMATCH"),
        ("/envelope_type", "tool_receipt", "MALFORMED_ENVELOPE"),
        ("/envelope_type", "x", "UNKNOWN_ENVELOPE_TYPE"),
        ("/algorithm", "none", "UNKNOWN_ALGORITHM"),
        ("/signer_did", "x", "INVALID_DID_FORMAT"),
        ("/issued_at", "x", "MALFORMED_ENVELOPE"),
    ] {
        let mut changed = half.clone();
        *changed.pointer_mut(pointer).unwrap() = value.into();
        let report = verify(&bytes(&changed), &options);
        assert_eq!(report.reason_code, code, "{pointer}: {report:?}");
        assert_eq!(report.verdict, Verdict::Fail);
    }
    let report = verify(&bytes(half), &Options::default());
    assert_eq!(report.reason_code, "DEPENDENCY_NOT_CONFIGURED");
    let foreign = Options {
        receipt_signers: vec![Keys::from_seed(2).receipt.did()],
        ..Options::default()
    };
    let report = verify(&bytes(half), &foreign);
    assert_eq!(report.reason_code, "RECEIPT_VERIFICATION_FAILED");
    let report = verify(&bytes(&half["payload"]), &options);
    assert_eq!(report.reason_code, "MALFORMED_ENVELOPE", "nobody signed it");
    assert_eq!(verify(b"{", &options).verdict, Verdict::Fail);
}
