//! Receipts of observed inference (`vir_receipts`), second version.
//!
//! The reference verifier of files reads them and checks nothing in them; the family's service
//! does. Here the rules of the service hold, and each receipt has to be signed: that refuses more
//! and passes nothing else. They never raise the tier.

use proof::{Hash, Json};

use super::chain::Chain;
use super::shape::{self, Kind};
use super::{Fault, entries, envelope, fault, text};

/// Where an observation comes from, by its weight: the first outweighs those behind it.
const SOURCES: [&str; 5] = ["tls_decrypt", "gateway", "interpose", "preload", "sni"];

const DISCLOSURE: &str = "vir_v2_typed_lexicographical";

/// Whether all are of the version that is judged here.
pub(super) fn supported(payload: &Json) -> bool {
    entries(payload, "vir_receipts").iter().all(|receipt| {
        receipt
            .at(&["payload", "receipt_version"])
            .and_then(Json::as_str)
            == Some("2")
    })
}

/// Shapes of envelopes and receipts.
pub(super) fn shapes(payload: &Json, place: &str) -> Result<(), Fault> {
    if !supported(payload) {
        return Ok(());
    }
    for (n, receipt) in entries(payload, "vir_receipts").iter().enumerate() {
        let place = format!("{place}/vir_receipts/{n}");
        envelope::inner(receipt, &place, "vir_receipt", "1", &[])?;
        let place = format!("{place}/payload");
        let receipt = receipt.get("payload").unwrap_or(&Json::Null);
        let required = [
            ("receipt_version", Kind::Const("2")),
            ("receipt_id", Kind::Text),
            ("source", Kind::OneOf(&SOURCES)),
            ("provider", Kind::Text),
            ("model_claimed", Kind::String),
            ("model_observed", Kind::String),
            ("agent_did", Kind::AnyDid),
            ("timestamp", Kind::Time),
            ("legal_binding", Kind::Object),
            ("selective_disclosure", Kind::Object),
        ];
        let count = Kind::Number(1 << 53);
        let optional = [
            ("model", Kind::Text),
            ("tokens_input", count),
            ("tokens_output", count),
            ("latency_ms", count),
            ("binding", Kind::Object),
            ("evidence_conflicts", Kind::Array { most: 1000 }),
            ("metadata", Kind::Object),
        ];
        shape::open(receipt, &place, &required, &optional)?;
        let required = [
            ("nonce", Kind::Text),
            ("subject_did", Kind::AnyDid),
            ("scope_hash_b64u", Kind::Text),
        ];
        let optional = [
            ("job_id", Kind::String),
            ("contract_id", Kind::String),
            ("policy_hash_b64u", Kind::Text),
            ("jurisdiction", Kind::String),
        ];
        let legal = receipt.get("legal_binding").unwrap_or(&Json::Null);
        shape::closed(
            legal,
            &format!("{place}/legal_binding"),
            &required,
            &optional,
        )?;
        for (n, conflict) in entries(receipt, "evidence_conflicts").iter().enumerate() {
            let required = [
                ("field", Kind::Text),
                ("authoritative_source", Kind::OneOf(&SOURCES)),
                ("divergent_source", Kind::OneOf(&SOURCES)),
                ("authoritative_value", Kind::Any),
                ("divergent_value", Kind::Any),
            ];
            let place = format!("{place}/evidence_conflicts/{n}");
            shape::closed(conflict, &place, &required, &[])?;
        }
    }
    Ok(())
}

/// Signatures, agent, binding, conflicts and disclosures.
pub(super) fn check(payload: &Json, place: &str, agent: &str, chain: &Chain) -> Result<(), Fault> {
    for (n, envelope) in entries(payload, "vir_receipts").iter().enumerate() {
        let place = format!("{place}/vir_receipts/{n}");
        envelope::signature(envelope, &place)?;
        let receipt = envelope.get("payload").unwrap_or(&Json::Null);
        if text(receipt, "agent_did") != agent {
            return Err(fault("PROOF_BUNDLE_AGENT_MISMATCH", place, "another agent"));
        }
        let binding = receipt.get("binding");
        if !chain.agrees(binding.unwrap_or(&Json::object())) {
            let detail = "not an event of the chain";
            return Err(fault("RECEIPT_BINDING_MISMATCH", place, detail));
        }
        conflicts(receipt, &place)?;
        disclosure(receipt, &place)?;
    }
    Ok(())
}

/// The weightier source is believed, and a model other than the claimed one is admitted.
fn conflicts(receipt: &Json, place: &str) -> Result<(), Fault> {
    let mismatch = |detail| Err(fault("EVIDENCE_MISMATCH", place, detail));
    let weight = |conflict: &Json, name: &str| {
        let source = text(conflict, name);
        SOURCES.iter().rev().position(|other| *other == source)
    };
    let conflicts = entries(receipt, "evidence_conflicts");
    let upside_down = |conflict: &Json| {
        weight(conflict, "divergent_source") > weight(conflict, "authoritative_source")
    };
    if conflicts.iter().any(upside_down) {
        return mismatch("a weaker source is preferred to a stronger one");
    }
    let (claimed, observed) = (
        text(receipt, "model_claimed"),
        text(receipt, "model_observed"),
    );
    let diverges = !claimed.is_empty() && !observed.is_empty() && claimed != observed;
    let admitted = conflicts
        .iter()
        .any(|conflict| text(conflict, "field") == "model");
    if diverges && !admitted {
        return mismatch("another model answered, and no conflict says so");
    }
    Ok(())
}

/// Shown leaves are what the receipt says in the open, and all leaves make the root.
fn disclosure(receipt: &Json, place: &str) -> Result<(), Fault> {
    let place = format!("{place}/payload/selective_disclosure");
    let disclosure = receipt.get("selective_disclosure").unwrap_or(&Json::Null);
    let required = [
        ("disclosure_algorithm", Kind::Text),
        ("merkle_root_b64u", Kind::Base64),
        ("redacted_leaf_hashes_b64u", Kind::Array { most: 10_000 }),
        ("disclosed_leaves", Kind::Object),
    ];
    shape::closed(disclosure, &place, &required, &[])?;
    if text(disclosure, "disclosure_algorithm") != DISCLOSURE {
        return Err(fault("DISCLOSURE_ALGORITHM_UNKNOWN", place, "not known"));
    }
    let mut leaves = Vec::new();
    for hidden in entries(disclosure, "redacted_leaf_hashes_b64u") {
        shape::value(hidden, Kind::Base64, &place)?;
        leaves.extend(hidden.as_str().map(str::to_owned));
    }
    let shown = disclosure.get("disclosed_leaves").and_then(Json::members);
    for (name, leaf) in shown.unwrap_or_default() {
        let place = format!("{place}/disclosed_leaves/{name}");
        let required = [
            (
                "type",
                Kind::OneOf(&["string", "number", "boolean", "null"]),
            ),
            ("value", Kind::Any),
            ("salt_b64u", Kind::Base64),
        ];
        shape::closed(leaf, &place, &required, &[])?;
        let value = leaf.get("value").unwrap_or(&Json::Null);
        if in_the_open(receipt, name).is_some_and(|open| open != value) {
            let detail = "not what the receipt says";
            return Err(fault("EVIDENCE_MISMATCH", place, detail));
        }
        let kind = text(leaf, "type");
        let Some(value) = written(kind, value) else {
            return Err(fault("DISCLOSURE_TYPE_MISMATCH", place, "not of its type"));
        };
        let salt = text(leaf, "salt_b64u");
        let leaf = format!("vir_v2_leaf|{name}|{kind}|{salt}|{value}");
        leaves.push(Hash::of(leaf.as_bytes()).to_string());
    }
    leaves.sort_unstable_by_key(|leaf| collated(leaf));
    let root = format!("vir_v2_root|{}", leaves.join("|"));
    let root = Hash::of(root.as_bytes()).to_string();
    if !leaves.is_empty() && root == text(disclosure, "merkle_root_b64u") {
        Ok(())
    } else {
        let detail = "the leaves do not make the root";
        Err(fault("DISCLOSURE_ROOT_MISMATCH", place, detail))
    }
}

/// The member that a leaf repeats, under the leaf's name.
fn in_the_open<'a>(receipt: &'a Json, leaf: &str) -> Option<&'a Json> {
    let bound = |names: &[&str], legal: &str| {
        let binding = receipt.get("binding");
        let named = names.iter().find_map(|name| binding?.get(name));
        named.or_else(|| receipt.at(&["legal_binding", legal]))
    };
    match leaf {
        "model_claimed" | "model_observed" | "tokens_input" | "tokens_output" => receipt.get(leaf),
        "latency_ms" | "latency" => receipt.get("latency_ms"),
        "request_hash_b64u" | "request_hash" => receipt.get("request_hash_b64u"),
        "response_hash_b64u" | "response_hash" => receipt.get("response_hash_b64u"),
        "run_id" => receipt.at(&["binding", "run_id"]),
        "event_hash_b64u" | "event_hash" => receipt.at(&["binding", "event_hash_b64u"]),
        "nonce" => bound(&["nonce"], "nonce"),
        "subject" | "subject_did" => bound(&["subject", "subject_did"], "subject_did"),
        "scope" | "scope_hash_b64u" => bound(&["scope", "scope_hash_b64u"], "scope_hash_b64u"),
        _ => None,
    }
}

/// A leaf's value as text, if it is of its type.
fn written(kind: &str, value: &Json) -> Option<String> {
    match (kind, value) {
        ("string", Json::String(text)) => Some(text.clone()),
        ("number", Json::Integer(_) | Json::Double(_))
        | ("boolean", Json::Bool(_))
        | ("null", Json::Null) => String::from_utf8(value.to_jcs()).ok(),
        _ => None,
    }
}

/// The order in which the family sorts base64url: by the collation of a human language, that is
/// punctuation, digits, then letters without regard to case, and only then small before capital.
fn collated(text: &str) -> (Vec<u8>, Vec<bool>) {
    let rank = |byte: u8| match byte {
        b'_' => 0,
        b'-' => 1,
        _ => byte.to_ascii_lowercase(),
    };
    let capital = |byte: u8| byte.is_ascii_uppercase();
    (
        text.bytes().map(rank).collect(),
        text.bytes().map(capital).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::collated;

    #[test]
    fn hashes_are_sorted_as_words() {
        let mut texts = ["B", "a", "-a", "_b", "A", "b", "1", "aB", "Ab", "ab", "Aa"];
        texts.sort_by_key(|text| collated(text));
        let sorted = ["_b", "-a", "1", "a", "A", "Aa", "ab", "aB", "Ab", "b", "B"];
        assert_eq!(texts, sorted);
    }
}
