//! Export bundles: a proof bundle with attestations about it, listed in a manifest and signed by
//! whoever exported it.

use std::collections::HashMap;

use proof::{Did, Hash, Json};

use super::shape::{self, Kind};
use super::{
    Fault, Options, SCHEMA, Tiers, bundle, entries, envelope, fault, inclusion, payload_shape, text,
};

/// So many milliseconds of disagreement between clocks are forgiven.
const SKEW_MILLIS: i64 = 300_000;

/// Attestations of other kinds, which this profile does not judge.
const UNCHECKED: [&str; 2] = [
    "execution_attestation_envelopes",
    "audit_result_attestation_envelopes",
];

const DERIVATIONS: &str = "derivation_attestation_envelopes";

/// The checks, in the reference verifier's order.
pub(super) fn check(
    export: &Json,
    options: &Options,
    unsupported: &mut Option<Fault>,
) -> Result<Tiers, Fault> {
    let artifacts = shapes(export)?;
    if export.get("expires_at").is_some() && options.at.is_none() {
        let detail = "whether it has expired shows at a given moment only";
        unsupported.get_or_insert(fault("UNSUPPORTED", "/expires_at", detail));
    }
    times(export, options)?;
    manifest(export, artifacts)?;
    sealed(export)?;
    let issuer = (text(export, "issuer_did"), text(export, "issued_at"));
    let admitted = options.admits_export(issuer.0, issuer.1);
    admitted.map_err(|why| fault("CLAIM_NOT_FOUND", "/issuer_did", why))?;
    let half = artifacts
        .get("proof_bundle_envelope")
        .unwrap_or(&Json::Null);
    // An export has no place for the run manifest that a bundle may refer to.
    let options = Options {
        urm: None,
        ..options.clone()
    };
    let tiers = bundle(
        half,
        "/artifacts/proof_bundle_envelope",
        &options,
        unsupported,
    )?;
    for name in UNCHECKED {
        if !entries(artifacts, name).is_empty() {
            let detail = "this profile does not check it";
            unsupported.get_or_insert(fault("UNSUPPORTED", format!("/artifacts/{name}"), detail));
        }
    }
    for (n, envelope) in entries(artifacts, DERIVATIONS).iter().enumerate() {
        let place = format!("/artifacts/{DERIVATIONS}/{n}");
        derivation(envelope, &place, &options)?;
        let named = envelope.at(&["payload", "execution", "proof_bundle_hash_b64u"]);
        if named.is_some_and(|named| named.as_str() != Some(text(half, "payload_hash_b64u"))) {
            let place = format!("{place}/payload/execution/proof_bundle_hash_b64u");
            return Err(fault("HASH_MISMATCH", place, "of another proof bundle"));
        }
    }
    Ok(tiers)
}

fn shapes(export: &Json) -> Result<&Json, Fault> {
    let required = [
        ("export_version", Kind::Const("1")),
        ("export_id", Kind::Text),
        ("created_at", Kind::Time),
        ("issuer_did", Kind::AnyDid),
        ("manifest", Kind::Object),
        ("artifacts", Kind::Object),
        ("bundle_hash_b64u", Kind::Base64),
        ("hash_algorithm", Kind::Const("SHA-256")),
        ("signature_b64u", Kind::Base64),
        ("algorithm", Kind::Const("Ed25519")),
        ("issued_at", Kind::Time),
    ];
    let optional = [("expires_at", Kind::Time), ("metadata", Kind::Object)];
    shape::closed(export, "", &required, &optional)?;
    let manifest = export.get("manifest").unwrap_or(&Json::Null);
    let required = [
        ("manifest_version", Kind::Const("1")),
        ("generated_at", Kind::Time),
        ("entries", Kind::Array { most: 10_000 }),
    ];
    shape::closed(manifest, "/manifest", &required, &[])?;
    if entries(manifest, "entries").is_empty() {
        return Err(fault(SCHEMA, "/manifest/entries", "empty"));
    }
    for (n, entry) in entries(manifest, "entries").iter().enumerate() {
        let required = [
            ("path", Kind::Text),
            ("sha256_b64u", Kind::Base64),
            ("content_type", Kind::Text),
            ("size_bytes", Kind::Number(1 << 53)),
        ];
        shape::closed(entry, &format!("/manifest/entries/{n}"), &required, &[])?;
    }
    let artifacts = export.get("artifacts").unwrap_or(&Json::Null);
    let many = Kind::Array { most: 1000 };
    let optional = [
        (UNCHECKED[0], many),
        (DERIVATIONS, many),
        (UNCHECKED[1], many),
    ];
    let required = [("proof_bundle_envelope", Kind::Object)];
    shape::closed(artifacts, "/artifacts", &required, &optional)?;
    let half = artifacts
        .get("proof_bundle_envelope")
        .unwrap_or(&Json::Null);
    let place = "/artifacts/proof_bundle_envelope";
    envelope::inner(
        half,
        place,
        "proof_bundle",
        "1",
        &[("expires_at", Kind::Time)],
    )?;
    let payload = half.get("payload").unwrap_or(&Json::Null);
    payload_shape(payload, &format!("{place}/payload"))?;
    for (n, envelope) in entries(artifacts, DERIVATIONS).iter().enumerate() {
        derivation_shape(envelope, &format!("/artifacts/{DERIVATIONS}/{n}"))?;
    }
    Ok(artifacts)
}

fn times(export: &Json, options: &Options) -> Result<(), Fault> {
    if !shape::is_did(text(export, "issuer_did")) {
        return Err(fault("INVALID_DID_FORMAT", "/issuer_did", "not a DID"));
    }
    let time = |name| shape::millis(text(export, name));
    let issued = time("issued_at");
    if time("created_at") > issued {
        let detail = "later than its signature";
        return Err(fault("CAUSAL_CLOCK_CONTRADICTION", "/created_at", detail));
    }
    let Some(now) = options.at.map(|at| at.millis()) else {
        return Ok(());
    };
    if issued.is_some_and(|issued| issued > now + SKEW_MILLIS) {
        let detail = "in the future";
        return Err(fault("FUTURE_TIMESTAMP_POISONING", "/issued_at", detail));
    }
    if time("expires_at").is_some_and(|expires| now > expires + SKEW_MILLIS) {
        return Err(fault("EXPIRED_TTL", "/expires_at", "expired"));
    }
    Ok(())
}

/// The manifest lists every artifact with the hash of its canonical form, and nothing else.
fn manifest(export: &Json, artifacts: &Json) -> Result<(), Fault> {
    let mut listed: HashMap<&str, &Json> = HashMap::new();
    let all = export
        .get("manifest")
        .map(|manifest| entries(manifest, "entries"));
    for (n, entry) in all.unwrap_or_default().iter().enumerate() {
        if listed.insert(text(entry, "path"), entry).is_some() {
            let place = format!("/manifest/entries/{n}/path");
            return Err(fault("MALFORMED_ENVELOPE", place, "a path twice"));
        }
    }
    let one = artifacts.get("proof_bundle_envelope").into_iter();
    let mut expected: Vec<(String, &Json)> = one
        .map(|half| ("artifacts/proof_bundle_envelope.json".to_owned(), half))
        .collect();
    for name in [UNCHECKED[0], DERIVATIONS, UNCHECKED[1]] {
        for (n, artifact) in entries(artifacts, name).iter().enumerate() {
            expected.push((format!("artifacts/{name}/{n}.json"), artifact));
        }
    }
    if listed.len() != expected.len() {
        let detail = format!("{} entries for {} artifacts", listed.len(), expected.len());
        return Err(fault("MISSING_REQUIRED_FIELD", "/manifest/entries", detail));
    }
    // The reference goes through the paths in their order.
    expected.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    for (path, artifact) in expected {
        let place = "/manifest/entries";
        let Some(entry) = listed.get(path.as_str()) else {
            return Err(fault(
                "MISSING_REQUIRED_FIELD",
                place,
                format!("no `{path}`"),
            ));
        };
        let canonical = artifact.to_jcs();
        if Hash::of(&canonical).to_string() != text(entry, "sha256_b64u") {
            let detail = format!("`{path}` was changed");
            return Err(fault("HASH_MISMATCH", place, detail));
        }
        if text(entry, "content_type") != "application/json" {
            let detail = format!("`{path}` is of another type");
            return Err(fault("MALFORMED_ENVELOPE", place, detail));
        }
        let size = entry.get("size_bytes").and_then(Json::as_integer);
        if size.and_then(|size| usize::try_from(size).ok()) != Some(canonical.len()) {
            let detail = format!("`{path}` is of another size");
            return Err(fault("HASH_MISMATCH", place, detail));
        }
    }
    Ok(())
}

/// The hash over everything but the seal itself, and the issuer's signature over it.
fn sealed(export: &Json) -> Result<(), Fault> {
    const SEAL: [&str; 4] = [
        "bundle_hash_b64u",
        "hash_algorithm",
        "signature_b64u",
        "algorithm",
    ];
    let members = export.members().unwrap_or_default().iter();
    let content = members.filter(|(name, _)| !SEAL.contains(&name.as_str()));
    let content = Json::Object(content.cloned().collect());
    let hash = Hash::of(&content.to_jcs()).to_string();
    if hash != text(export, "bundle_hash_b64u") {
        return Err(fault(
            "HASH_MISMATCH",
            "/bundle_hash_b64u",
            "not the content's hash",
        ));
    }
    if text(export, "issuer_did").parse::<Did>().is_err() {
        let detail = "not an Ed25519 did:key";
        return Err(fault("INVALID_DID_FORMAT", "/issuer_did", detail));
    }
    if envelope::signed_by(export, ("issuer_did", "signature_b64u"), &hash) {
        Ok(())
    } else {
        Err(fault(
            "SIGNATURE_INVALID",
            "/signature_b64u",
            "not by the issuer",
        ))
    }
}

fn derivation_shape(envelope: &Json, place: &str) -> Result<(), Fault> {
    envelope::inner(envelope, place, "derivation_attestation", "1", &[])?;
    let place = format!("{place}/payload");
    let payload = envelope.get("payload").unwrap_or(&Json::Null);
    let required = [
        ("derivation_version", Kind::Const("1")),
        ("derivation_id", Kind::Text),
        ("issued_at", Kind::Time),
        ("input_model", Kind::Object),
        ("output_model", Kind::Object),
        ("transform", Kind::Object),
    ];
    let optional = [
        ("artifacts", Kind::Array { most: 1000 }),
        ("execution", Kind::Object),
        ("clawlogs", Kind::Object),
        ("metadata", Kind::Object),
    ];
    shape::closed(payload, &place, &required, &optional)?;
    let part = |name: &str| payload.get(name).unwrap_or(&Json::Null);
    for name in ["input_model", "output_model"] {
        model_shape(part(name), &format!("{place}/{name}"))?;
    }
    let optional = [
        ("code_hash_b64u", Kind::Base64),
        ("params_hash_b64u", Kind::Base64),
        ("build_steps", Kind::Array { most: 1000 }),
    ];
    let required = [("kind", Kind::Text)];
    shape::closed(
        part("transform"),
        &format!("{place}/transform"),
        &required,
        &optional,
    )?;
    for (n, artifact) in entries(payload, "artifacts").iter().enumerate() {
        let required = [("type", Kind::Text), ("hash_b64u", Kind::Base64)];
        let optional = [("uri", Kind::String), ("content_type", Kind::String)];
        shape::closed(
            artifact,
            &format!("{place}/artifacts/{n}"),
            &required,
            &optional,
        )?;
    }
    if let Some(execution) = payload.get("execution") {
        let optional = [
            ("execution_attestation_hash_b64u", Kind::Base64),
            ("proof_bundle_hash_b64u", Kind::Base64),
        ];
        shape::closed(execution, &format!("{place}/execution"), &[], &optional)?;
    }
    if let Some(logs) = payload.get("clawlogs") {
        let place = format!("{place}/clawlogs");
        let optional = [
            ("log_entry_hash_b64u", Kind::Base64),
            ("inclusion_proof", Kind::Object),
        ];
        shape::closed(logs, &place, &[], &optional)?;
        if let Some(proof) = logs.get("inclusion_proof") {
            inclusion::shapes(proof, &format!("{place}/inclusion_proof"))?;
        }
    }
    Ok(())
}

/// A model's identity. What it says beyond provider and name is a claim that nothing here rests on,
/// so that its inner members are not looked at.
fn model_shape(model: &Json, place: &str) -> Result<(), Fault> {
    let tiers = &[
        "closed_opaque",
        "closed_provider_manifest",
        "openweights_hashable",
        "tee_measured",
    ];
    let required = [
        ("model_identity_version", Kind::Const("1")),
        ("tier", Kind::OneOf(tiers)),
        ("model", Kind::Object),
    ];
    let optional = [
        ("gateway_observed", Kind::Object),
        ("artifacts", Kind::Object),
        ("metadata", Kind::Object),
    ];
    shape::closed(model, place, &required, &optional)?;
    let required = [("provider", Kind::Text), ("name", Kind::Text)];
    let optional = ["family", "endpoint", "region", "deployment_id", "revision"];
    let optional = optional.map(|name| (name, Kind::String));
    let name = model.get("model").unwrap_or(&Json::Null);
    shape::closed(name, &format!("{place}/model"), &required, &optional)
}

/// An attestation by an allowed key, in the log if it says so.
fn derivation(envelope: &Json, place: &str, options: &Options) -> Result<(), Fault> {
    let signer = text(envelope, "signer_did");
    let signer_place = format!("{place}/signer_did");
    if !shape::is_did(signer) {
        return Err(fault("INVALID_DID_FORMAT", signer_place, "not a DID"));
    }
    if options.derivation_signers.is_empty() {
        let detail = "no keys for derivation attestations are allowed";
        return Err(fault("DEPENDENCY_NOT_CONFIGURED", signer_place, detail));
    }
    let allowed = options.derivation_signers.iter();
    if !allowed.map(Did::as_str).any(|did| did == signer) {
        return Err(fault(
            "CLAIM_NOT_FOUND",
            signer_place,
            "a key that is not allowed",
        ));
    }
    envelope::signature(envelope, place)?;
    match envelope.at(&["payload", "clawlogs", "inclusion_proof"]) {
        Some(proof) => {
            let place = format!("{place}/payload/clawlogs/inclusion_proof");
            inclusion::check(proof, &place)
        }
        None => Ok(()),
    }
}
