//! Inclusion proofs and export bundles.

use std::fs;

use clawverify::clawsig::{FileKind, Options, ProofTier, Verdict, verify};
use clawverify::testing::bytes;
use proof::{Hash, Json};
use serde_json::{Value, json};

use super::{agent, code, gateway, signed, vectors, with};

#[test]
fn inclusion_proofs_are_checked() {
    let Some(folder) = vectors() else { return };
    let file = fs::read(format!(
        "{folder}/packages/schema/fixtures/log_inclusion_proof_golden.v1.json"
    ));
    let file: Value = serde_json::from_slice(&file.unwrap()).unwrap();
    let proof = &file["inclusion_proof_v1"];
    let report = verify(&bytes(proof), &Options::default());
    assert_eq!(
        (report.verdict, report.kind),
        (Verdict::Pass, FileKind::LogInclusionProof)
    );
    assert_eq!((report.proof_tier, report.trust_tier), (None, None));
    let other = &proof["audit_path"][1];
    for (pointer, value, expected) in [
        ("/leaf_hash_b64u", other.clone(), "INCLUSION_PROOF_INVALID"),
        ("/audit_path/0", other.clone(), "INCLUSION_PROOF_INVALID"),
        (
            "/audit_path/0",
            json!("AAAAAAAA"),
            "INCLUSION_PROOF_INVALID",
        ),
        ("/audit_path", json!([other]), "INCLUSION_PROOF_INVALID"),
        ("/metadata/leaf_index", json!(2), "INCLUSION_PROOF_INVALID"),
        ("/metadata/leaf_index", json!(5), "INCLUSION_PROOF_INVALID"),
        ("/metadata/leaf_index", json!(-1), "INCLUSION_PROOF_INVALID"),
        ("/metadata", json!({}), "INCLUSION_PROOF_INVALID"),
        ("/tree_size", json!(0), "INCLUSION_PROOF_INVALID"),
        ("/tree_size", json!(4), "INCLUSION_PROOF_INVALID"),
        ("/tree_size", json!(9), "INCLUSION_PROOF_INVALID"),
        ("/root_hash_b64u", other.clone(), "SIGNATURE_INVALID"),
        (
            "/root_signature/signer_did",
            json!(agent().did()),
            "SIGNATURE_INVALID",
        ),
        (
            "/root_signature/signer_did",
            json!("did:web:x"),
            "INVALID_DID_FORMAT",
        ),
        ("/proof_version", json!("2"), "SCHEMA_VALIDATION_FAILED"),
        ("/audit_path/0", json!(1), "SCHEMA_VALIDATION_FAILED"),
        ("/more", json!(1), "SCHEMA_VALIDATION_FAILED"),
    ] {
        let changed = with(proof, pointer, value.clone());
        assert_eq!(
            code(&changed, &Options::default()),
            expected,
            "{pointer} {value}"
        );
    }
}

#[test]
fn export_bundles_are_checked() {
    let Some(folder) = vectors() else { return };
    let read = |path: &str| fs::read(format!("{folder}/packages/schema/fixtures/{path}")).unwrap();
    let config = read("protocol-conformance/clawverify.config.conformance.v1.json");
    let golden = read("export_bundle_golden.v1.json");
    let trusting = Options::from_trust(&config).unwrap();
    let report = verify(&golden, &trusting);
    assert_eq!(
        (report.verdict, report.kind),
        (Verdict::Pass, FileKind::ExportBundle)
    );
    assert_eq!(report.proof_tier, Some(ProofTier::SelfReported));
    for (options, expected) in [
        (Options::default(), "DEPENDENCY_NOT_CONFIGURED"),
        (
            Options {
                derivation_signers: vec![agent().did()],
                ..Options::default()
            },
            "CLAIM_NOT_FOUND",
        ),
    ] {
        assert_eq!(verify(&golden, &options).reason_code, expected);
    }

    let issuer = agent();
    // Lists what is there and seals it again, as a forger would.
    let sealed = |mut export: Value| {
        let artifacts = export["artifacts"].clone();
        for entry in export["manifest"]["entries"].as_array_mut().unwrap() {
            let path = entry["path"].as_str().unwrap();
            let pointer = path
                .trim_start_matches("artifacts")
                .trim_end_matches(".json");
            if let Some(artifact) = artifacts.pointer(pointer) {
                let canonical = Json::from(artifact.clone()).to_jcs();
                entry["sha256_b64u"] = Hash::of(&canonical).to_string().into();
                entry["size_bytes"] = canonical.len().into();
            }
        }
        let seal = [
            "bundle_hash_b64u",
            "hash_algorithm",
            "signature_b64u",
            "algorithm",
        ];
        export["issuer_did"] = issuer.did().as_str().into();
        let mut content = export.clone();
        for name in seal {
            content.as_object_mut().unwrap().remove(name);
        }
        let hash = Hash::of(&Json::from(content).to_jcs()).to_string();
        export["signature_b64u"] = issuer.sign(hash.as_bytes()).to_string().into();
        export["bundle_hash_b64u"] = hash.into();
        export
    };
    // The same export by keys of this test, since reading it as a value loses the order of members
    // in which the family hashes.
    let attestation = "/artifacts/derivation_attestation_envelopes/0";
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let half = "/artifacts/proof_bundle_envelope";
    let payload = golden["bundle"].pointer(half).unwrap()["payload"].clone();
    let payload = with(&payload, "/agent_did", json!(issuer.did()));
    let export = with(
        &golden["bundle"],
        half,
        signed("proof_bundle", payload, &issuer),
    );
    let payload = export.pointer(attestation).unwrap()["payload"].clone();
    let payload = signed("derivation_attestation", payload, &issuer);
    let export = &sealed(with(&export, attestation, payload));
    let options = Options {
        derivation_signers: vec![issuer.did()],
        ..Options::default()
    };
    assert_eq!(code(export, &options), "OK");
    let path = format!("{attestation}/payload/clawlogs/inclusion_proof/audit_path/0");
    let in_attestation = |pointer: &str, value: Value| {
        let payload = with(
            &export.pointer(attestation).unwrap()["payload"],
            pointer,
            value,
        );
        let changed = signed("derivation_attestation", payload, &issuer);
        sealed(with(export, attestation, changed))
    };
    let other_bundle = json!({"proof_bundle_hash_b64u": "AAAAAAAA"});
    let broken_path = "/clawlogs/inclusion_proof/audit_path/0";
    let other_hash = export["bundle_hash_b64u"].clone();
    for (what, file, options, expected) in [
        (
            "re-signed attestation",
            in_attestation("/metadata", json!({})),
            &options,
            "OK",
        ),
        (
            "attestation of another bundle",
            in_attestation("/execution", other_bundle),
            &options,
            "HASH_MISMATCH",
        ),
        (
            "attestation with a wrong inclusion proof",
            in_attestation(broken_path, other_hash.clone()),
            &options,
            "INCLUSION_PROOF_INVALID",
        ),
        (
            "changed attestation",
            sealed(with(export, &path, other_hash)),
            &options,
            "HASH_MISMATCH",
        ),
        (
            "changed id",
            with(export, "/export_id", json!("x")),
            &options,
            "HASH_MISMATCH",
        ),
        (
            "changed metadata",
            with(export, "/metadata", json!({})),
            &options,
            "HASH_MISMATCH",
        ),
        (
            "other issuer",
            with(export, "/issuer_did", json!(gateway().did())),
            &options,
            "HASH_MISMATCH",
        ),
        (
            "other signature",
            with(
                export,
                "/signature_b64u",
                json!(issuer.sign(b"x").to_string()),
            ),
            &options,
            "SIGNATURE_INVALID",
        ),
        (
            "unknown member",
            with(export, "/more", json!(1)),
            &options,
            "SCHEMA_VALIDATION_FAILED",
        ),
        (
            "other version",
            with(export, "/export_version", json!("2")),
            &options,
            "SCHEMA_VALIDATION_FAILED",
        ),
        (
            "created late",
            with(export, "/created_at", json!("2027-01-01T00:00:00.000Z")),
            &options,
            "CAUSAL_CLOCK_CONTRADICTION",
        ),
        (
            "unlisted artifact",
            with(
                export,
                "/manifest/entries",
                json!([export["manifest"]["entries"][0]]),
            ),
            &options,
            "MISSING_REQUIRED_FIELD",
        ),
        (
            "listed twice",
            with(
                export,
                "/manifest/entries/1",
                export["manifest"]["entries"][0].clone(),
            ),
            &options,
            "MALFORMED_ENVELOPE",
        ),
        (
            "listed under another path",
            with(
                export,
                "/manifest/entries/0/path",
                json!("artifacts/x.json"),
            ),
            &options,
            "MISSING_REQUIRED_FIELD",
        ),
        (
            "listed with another type",
            with(
                export,
                "/manifest/entries/0/content_type",
                json!("text/html"),
            ),
            &options,
            "MALFORMED_ENVELOPE",
        ),
        (
            "listed with another size",
            with(export, "/manifest/entries/0/size_bytes", json!(1)),
            &options,
            "HASH_MISMATCH",
        ),
        (
            "changed proof bundle",
            sealed(with(
                export,
                "/artifacts/proof_bundle_envelope/payload/bundle_id",
                json!("x"),
            )),
            &options,
            "HASH_MISMATCH",
        ),
        (
            "attestation that is not judged",
            with(
                export,
                "/artifacts/execution_attestation_envelopes",
                json!([]),
            ),
            &options,
            "HASH_MISMATCH",
        ),
    ] {
        assert_eq!(code(&file, options), expected, "{what}");
    }
    let at = |time: &str| Options {
        at: Some(time.parse().unwrap()),
        ..options.clone()
    };
    let expiring = sealed(with(
        export,
        "/expires_at",
        json!("2026-03-01T00:00:00.000Z"),
    ));
    assert_eq!(code(&expiring, &options), "UNSUPPORTED");
    assert_eq!(code(&expiring, &at("2026-03-01T00:05:00.000Z")), "OK");
    assert_eq!(
        code(&expiring, &at("2026-03-01T00:05:00.001Z")),
        "EXPIRED_TTL"
    );
    assert_eq!(
        code(export, &at("2026-02-10T23:54:59.999Z")),
        "FUTURE_TIMESTAMP_POISONING"
    );
}
