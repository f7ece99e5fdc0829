//! The reference's verdicts, and what becomes of its files elsewhere.

use std::collections::BTreeMap;
use std::fs;

use clawverify::clawsig::conformance::{self, ConformanceError};
use clawverify::clawsig::{FileKind, Options, ProofTier, TrustTier, Verdict, verify};
use clawverify::testing::{Keys, Story, bytes, seal};
use serde_json::{Value, json};

use super::{bundle_with, gateway, vectors};

fn manifest(folder: &str) -> Vec<Value> {
    serde_json::from_slice(&fs::read(format!("{folder}/manifest.json")).unwrap()).unwrap()
}

#[test]
fn gives_the_reference_verdicts() {
    let Some(folder) = vectors() else { return };
    let list = fs::read(format!("{folder}/manifest.json")).unwrap();
    let file = |path: &str| {
        fs::read(format!("{folder}/{path}")).map_err(|error| format!("{path}: {error}"))
    };
    let summary = conformance::run(&list, &Options::default(), file).unwrap();
    assert_eq!(summary.disagree, [], "agree: {}", summary.agree);
    // 63 proof bundles, 2 export bundles, 1 inclusion proof.
    assert_eq!(summary.agree, 66);
    let unsupported = [
        ("aggregate_bundle", 9),
        ("commit_sig", 5),
        ("protocol_m_signature", 1),
        ("web_receipt", 1),
    ];
    let unsupported = unsupported.map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(summary.unsupported, BTreeMap::from(unsupported));
}

/// Whatever the family's verifier says about them: alone none of its files is evidence of ours,
/// and in the place of a good public half each makes a good bundle invalid.
#[test]
fn the_strict_profile_refuses_them_all() {
    let Some(folder) = vectors() else { return };
    let story = Story::apply();
    let good = serde_json::to_value(seal(story.evidence(), &story.keys)).unwrap();
    let trust = bytes(&story.keys.trust_root());
    let options = clawverify::Options::default();
    let strict = |file: &[u8]| clawverify::verify(file, &trust, &options).verdict;
    assert_eq!(strict(&bytes(&good)), clawverify::Verdict::Valid);
    let mut halves = 0;
    for vector in manifest(&folder) {
        let path = vector["path"].as_str().unwrap();
        let file = fs::read(format!("{folder}/{path}")).unwrap();
        assert_eq!(strict(&file), clawverify::Verdict::Invalid, "{path}");
        let parsed: Value = serde_json::from_slice(&file).unwrap();
        let half = parsed.get("envelope").unwrap_or(&parsed);
        let mut transplanted = good.clone();
        transplanted["proof_bundle"] = half.clone();
        let verdict = strict(&bytes(&transplanted));
        assert_eq!(verdict, clawverify::Verdict::Invalid, "{path}");
        halves += 1;
    }
    assert_eq!(halves, 82);
}

#[test]
fn disagreement_is_found_and_named() {
    let (bundle, options) = ours();
    let half = bytes(&bundle["proof_bundle"]);
    let read = |path: &str| match path {
        "half.json" => Ok(half.clone()),
        "config.json" => Ok(br#"{"config_version":"1"}"#.to_vec()),
        "bad.json" => Ok(b"{".to_vec()),
        _ => Err(format!("no {path}")),
    };
    let run = |list: Value| conformance::run(&bytes(&list), &options, read);
    let vector = |path: &str, expected: &str, code: &str| json!({"path": path, "kind": "proof_bundle", "expected": expected, "reason_code": code});
    let with = |mut vector: Value, name: &str, value: &str| {
        vector[name] = value.into();
        vector
    };
    let good = vector("half.json", "pass", "OK");
    for (vector, agrees) in [
        (good.clone(), true),
        (with(good.clone(), "proof_tier", "gateway"), true),
        (with(good.clone(), "trust_tier", "verified"), true),
        (with(good.clone(), "proof_tier", "self"), false),
        (with(good.clone(), "trust_tier", "basic"), false),
        (with(good.clone(), "kind", "export_bundle"), false),
        (with(good.clone(), "config", "config.json"), false),
        (vector("half.json", "fail", "OK"), false),
        (vector("half.json", "pass", "HASH_MISMATCH"), false),
        (vector("bad.json", "fail", "MALFORMED_ENVELOPE"), true),
        (vector("bad.json", "fail", "HASH_MISMATCH"), false),
    ] {
        let summary = run(json!([vector])).unwrap();
        let named: Vec<&str> = summary.disagree.iter().map(|d| d.path.as_str()).collect();
        let expected = if agrees {
            vec![]
        } else {
            vec![vector["path"].as_str().unwrap()]
        };
        assert_eq!(named, expected, "{vector}");
        assert_eq!(summary.agree, usize::from(agrees), "{vector}");
    }
    let other = with(good.clone(), "kind", "commit_sig");
    let summary = run(json!([good, other])).unwrap();
    assert_eq!((summary.agree, &summary.unsupported["commit_sig"]), (1, &1));
    for path in [
        "../half.json",
        "/half.json",
        "a/../half.json",
        "./half.json",
        "a//b",
        "",
    ] {
        let outside = run(json!([vector(path, "pass", "OK")]));
        assert!(
            matches!(outside, Err(ConformanceError::Outside(_))),
            "{path}"
        );
    }
    let missing = run(json!([vector("missing.json", "pass", "OK")]));
    assert!(matches!(missing, Err(ConformanceError::Unreadable(_))));
    assert!(matches!(
        run(json!({})),
        Err(ConformanceError::Malformed(_))
    ));
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
        assert_eq!(report.kind, FileKind::ProofBundle);
        assert_eq!(report.proof_tier, Some(ProofTier::Gateway));
        assert_eq!(report.trust_tier, Some(TrustTier::Verified));
    }
}

#[test]
fn pieces_of_a_public_half_belong_together() {
    let story = Story::with_model_calls(1000);
    let file = serde_json::to_value(seal(story.evidence(), &story.keys)).unwrap();
    let (_, options) = ours();
    let report = verify(&bytes(&file), &options);
    assert_eq!(report.verdict, Verdict::Pass, "{report:?}");
    // Receipts that count, of somebody else.
    let foreign = bundle_with(&[json!({})], json!({}));
    let more = &gateway().did();
    let options = Options {
        receipt_signers: [&options.receipt_signers[..], std::slice::from_ref(more)].concat(),
        ..options
    };
    assert_eq!(verify(&bytes(&foreign), &options).verdict, Verdict::Pass);
    let tied = |hash: &str| {
        let tie = json!({"clawgate": {"evidence_hash_b64u": hash}});
        bundle_with(&[json!({})], json!({"metadata": tie}))
    };
    let evidence = "/proof_bundles/0/payload/metadata/clawgate/evidence_hash_b64u";
    let evidence = file.pointer(evidence).and_then(Value::as_str).unwrap();
    let pieces = |pieces: &[&Value]| json!({"bundle": file["bundle"], "proof_bundles": pieces});
    let (first, second) = (&file["proof_bundles"][0], &file["proof_bundles"][1]);
    for (file, verdict) in [
        (pieces(&[first, second]), Verdict::Pass),
        (pieces(&[first, &foreign]), Verdict::Fail),
        (pieces(&[&foreign, &foreign]), Verdict::Fail),
        (pieces(&[first, &tied(evidence)]), Verdict::Fail),
        (pieces(&[&tied("A"), &tied("A")]), Verdict::Pass),
        (pieces(&[&tied("A"), &tied("B")]), Verdict::Fail),
        (pieces(&[]), Verdict::Fail),
        (
            json!({"bundle": file["bundle"], "proof_bundle": first, "proof_bundles": [second]}),
            Verdict::Fail,
        ),
        (
            json!({"bundle": file["bundle"], "proof_bundle": first, "proof_bundles": []}),
            Verdict::Fail,
        ),
    ] {
        let report = verify(&bytes(&file), &options);
        assert_eq!(report.verdict, verdict, "{report:?}");
        if verdict == Verdict::Fail {
            assert_eq!(report.reason_code, "MALFORMED_ENVELOPE", "{report:?}");
        }
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
    let mut expiring = half.clone();
    expiring["expires_at"] = "2026-01-01T00:00:00.000Z".into();
    assert_eq!(
        verify(&bytes(&expiring), &options).verdict,
        Verdict::Unsupported
    );
    let late = Options {
        at: Some("2026-01-01T00:00:00.001Z".parse().unwrap()),
        ..options
    };
    assert_eq!(verify(&bytes(&expiring), &late).reason_code, "EXPIRED_TTL");
}
