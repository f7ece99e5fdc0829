//! Envelopes: their header, and the signature over the hash of the text as it was written.

use proof::keys::Signature;
use proof::{Did, Hash, Json};

use super::shape::{self, Kind};
use super::{Fault, Options, SCHEMA, fault, text};

const REQUIRED: [&str; 9] = [
    "envelope_version",
    "envelope_type",
    "payload",
    "payload_hash_b64u",
    "hash_algorithm",
    "signature_b64u",
    "algorithm",
    "signer_did",
    "issued_at",
];

/// Envelope types of the family.
const TYPES: [&str; 12] = [
    "artifact_signature",
    "message_signature",
    "gateway_receipt",
    "tool_receipt",
    "web_receipt",
    "proof_bundle",
    "event_chain",
    "owner_attestation",
    "execution_attestation",
    "derivation_attestation",
    "audit_result_attestation",
    "scoped_token",
];

/// The header of a proof bundle's envelope; the payload comes back.
pub(super) fn header<'a>(
    envelope: &'a Json,
    place: &str,
    options: &Options,
) -> Result<&'a Json, Fault> {
    let wrapped = ["envelope_version", "payload", "signature_b64u"];
    if wrapped.iter().all(|name| envelope.get(name).is_none()) {
        // The reference reads a bare payload and passes some; what nobody signed is refused here.
        let code = match envelope.get("bundle_version").and_then(Json::as_str) {
            Some("1") => "MALFORMED_ENVELOPE",
            _ => SCHEMA,
        };
        return Err(fault(code, place, "not signed by anybody"));
    }
    if let Some(missing) = REQUIRED.iter().find(|name| envelope.get(name).is_none()) {
        return Err(fault(
            "MALFORMED_ENVELOPE",
            format!("{place}/{missing}"),
            "missing",
        ));
    }
    let is = |name: &'static str, allowed: &[&str], code| {
        if allowed.contains(&text(envelope, name)) {
            Ok(())
        } else {
            Err(fault(code, format!("{place}/{name}"), "not known"))
        }
    };
    is("envelope_version", &["1"], "UNKNOWN_ENVELOPE_VERSION")?;
    is("envelope_type", &TYPES, "UNKNOWN_ENVELOPE_TYPE")?;
    is("envelope_type", &["proof_bundle"], "MALFORMED_ENVELOPE")?;
    is("algorithm", &["Ed25519"], "UNKNOWN_ALGORITHM")?;
    is(
        "hash_algorithm",
        &["SHA-256", "BLAKE3"],
        "UNKNOWN_HASH_ALGORITHM",
    )?;
    if !shape::is_did(text(envelope, "signer_did")) {
        let place = format!("{place}/signer_did");
        return Err(fault("INVALID_DID_FORMAT", place, "not a DID"));
    }
    let malformed =
        |name: &str| fault("MALFORMED_ENVELOPE", format!("{place}/{name}"), "malformed");
    if shape::millis(text(envelope, "issued_at")).is_none() {
        return Err(malformed("issued_at"));
    }
    if let Some(expires) = envelope.get("expires_at") {
        let expires = expires.as_str().and_then(shape::millis);
        let expires = expires.ok_or_else(|| malformed("expires_at"))?;
        if options.at.is_some_and(|at| expires < at.millis()) {
            let place = format!("{place}/expires_at");
            return Err(fault("EXPIRED_TTL", place, "expired"));
        }
    }
    for name in ["payload_hash_b64u", "signature_b64u"] {
        if !shape::is_base64url(text(envelope, name)) {
            return Err(malformed(name));
        }
    }
    let required = REQUIRED.map(|name| (name, Kind::Any));
    shape::closed(envelope, place, &required, &[("expires_at", Kind::Any)])?;
    envelope.get("payload").ok_or_else(|| malformed("payload"))
}

/// The shape of an envelope inside a bundle.
pub(super) fn inner(
    envelope: &Json,
    place: &str,
    envelope_type: &'static str,
    version: &'static str,
    optional: shape::Members<'_>,
) -> Result<(), Fault> {
    let required = [
        ("envelope_version", Kind::Const(version)),
        ("envelope_type", Kind::Const(envelope_type)),
        ("payload", Kind::Object),
        ("payload_hash_b64u", Kind::Base64),
        ("hash_algorithm", Kind::OneOf(&["SHA-256", "BLAKE3"])),
        ("signature_b64u", Kind::Base64),
        ("algorithm", Kind::Const("Ed25519")),
        ("signer_did", Kind::Did),
        ("issued_at", Kind::Time),
    ];
    shape::closed(envelope, place, &required, optional)
}

/// Hash of the payload in written order, then the signature over the hash's text.
pub(super) fn signature(envelope: &Json, place: &str) -> Result<(), Fault> {
    let written = envelope
        .get("payload")
        .map(Json::to_document_order)
        .unwrap_or_default();
    let hash = Hash::of(&written).to_string();
    // BLAKE3 is listed by the family and computed by nobody.
    if text(envelope, "hash_algorithm") != "SHA-256" || hash != text(envelope, "payload_hash_b64u")
    {
        let place = format!("{place}/payload_hash_b64u");
        return Err(fault("HASH_MISMATCH", place, "the payload was changed"));
    }
    if signed(envelope, &hash) {
        Ok(())
    } else {
        let place = format!("{place}/signature_b64u");
        Err(fault("SIGNATURE_INVALID", place, "not by the signer"))
    }
}

/// Whether `signer_did` signed this text in `signature_b64u`.
pub(super) fn signed(json: &Json, message: &str) -> bool {
    signed_by(json, ("signer_did", "signature_b64u"), message)
}

/// The same under other names of the two members.
pub(super) fn signed_by(json: &Json, (signer, signature): (&str, &str), message: &str) -> bool {
    let signer = text(json, signer).parse::<Did>();
    let signature = text(json, signature).parse::<Signature>();
    matches!((signer, signature), (Ok(signer), Ok(signature))
        if signer.key().verify(message.as_bytes(), &signature))
}
