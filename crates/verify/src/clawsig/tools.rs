//! Tool receipts with their co-signatures and disclosures, and the flat side-effect and approval
//! receipts.

use proof::{Hash, Json};

use super::chain::{self, Chain};
use super::shape::{self, Kind};
use super::{Fault, SCHEMA, entries, envelope, fault, text};

const RECEIPT: [(&str, Kind); 8] = [
    ("receipt_id", Kind::Text),
    ("tool_name", Kind::Text),
    ("args_hash_b64u", Kind::Base64),
    ("result_hash_b64u", Kind::Base64),
    ("hash_algorithm", Kind::OneOf(&["SHA-256"])),
    ("agent_did", Kind::Did),
    ("timestamp", Kind::Time),
    ("latency_ms", Kind::Number(1 << 53)),
];

/// Shapes of tool, side-effect and approval receipts.
pub(super) fn shapes(payload: &Json, place: &str) -> Result<(), Fault> {
    for (n, entry) in entries(payload, "tool_receipts").iter().enumerate() {
        let place = format!("{place}/tool_receipts/{n}");
        if entry.get("payload").is_none() {
            receipt_shape(entry, &place)?;
            continue;
        }
        let version = match text(entry, "envelope_version") {
            "2" => "2",
            _ => "1",
        };
        let more = [
            ("co_signatures", Kind::Array { most: 16 }),
            ("expires_at", Kind::Time),
        ];
        envelope::inner(entry, &place, "tool_receipt", version, &more)?;
        for (n, co) in entries(entry, "co_signatures").iter().enumerate() {
            let required = [
                ("signature_b64u", Kind::Base64),
                ("algorithm", Kind::Const("Ed25519")),
                ("signer_did", Kind::Did),
                ("issued_at", Kind::Time),
                (
                    "role",
                    Kind::OneOf(&["proxy", "approver", "auditor", "supervisor"]),
                ),
            ];
            shape::closed(co, &format!("{place}/co_signatures/{n}"), &required, &[])?;
        }
        let receipt = entry.get("payload").unwrap_or(&Json::Null);
        if text(receipt, "receipt_version") != version {
            let place = format!("{place}/payload/receipt_version");
            return Err(fault(SCHEMA, place, "not the envelope's version"));
        }
        receipt_shape(receipt, &format!("{place}/payload"))?;
    }
    let flat = |name: &str, required: &[(&'static str, Kind)]| {
        for (n, entry) in entries(payload, name).iter().enumerate() {
            shape::open(entry, &format!("{place}/{name}/{n}"), required, &[])?;
        }
        Ok(())
    };
    flat(
        "side_effect_receipts",
        &[
            ("receipt_version", Kind::Const("1")),
            ("receipt_id", Kind::Text),
            (
                "effect_class",
                Kind::OneOf(&["network_egress", "filesystem_write", "external_api_write"]),
            ),
            ("hash_algorithm", Kind::OneOf(&["SHA-256", "BLAKE3"])),
            ("agent_did", Kind::Did),
            ("timestamp", Kind::Time),
        ],
    )?;
    flat(
        "human_approval_receipts",
        &[
            ("receipt_version", Kind::Const("1")),
            ("receipt_id", Kind::Text),
            (
                "approval_type",
                Kind::OneOf(&[
                    "explicit_approve",
                    "explicit_deny",
                    "auto_approve",
                    "timeout_deny",
                ]),
            ),
            ("agent_did", Kind::Did),
            ("timestamp", Kind::Time),
        ],
    )
}

fn receipt_shape(receipt: &Json, place: &str) -> Result<(), Fault> {
    let optional = [
        ("receipt_version", Kind::OneOf(&["1", "2"])),
        ("tool_version", Kind::Text),
        (
            "result_status",
            Kind::OneOf(&["success", "error", "timeout"]),
        ),
        ("binding", Kind::Object),
    ];
    if text(receipt, "receipt_version") != "2" {
        let required = [&RECEIPT[..], &[("receipt_version", Kind::Const("1"))]].concat();
        return shape::closed(receipt, place, &required, &optional);
    }
    let salts = [
        ("args_salt_b64u", Kind::Base64),
        ("result_salt_b64u", Kind::Base64),
    ];
    let disclosures = [
        ("args_disclosure", Kind::Object),
        ("result_disclosure", Kind::Object),
    ];
    let required = [&RECEIPT[..], &salts].concat();
    shape::closed(
        receipt,
        place,
        &required,
        &[&optional[..], &disclosures].concat(),
    )?;
    match receipt.get("binding") {
        Some(binding) => chain::binding_shape(binding, &format!("{place}/binding")),
        None => Ok(()),
    }
}

/// Signatures, agent, binding and disclosures of tool receipts; the agent of the flat ones.
pub(super) fn check(payload: &Json, place: &str, agent: &str, chain: &Chain) -> Result<(), Fault> {
    for (n, entry) in entries(payload, "tool_receipts").iter().enumerate() {
        let place = format!("{place}/tool_receipts/{n}");
        let receipt = entry.get("payload").unwrap_or(entry);
        of_agent(receipt, &place, agent)?;
        if !chain.agrees(receipt.get("binding").unwrap_or(&Json::object())) {
            let detail = "not an event of the chain";
            return Err(fault("RECEIPT_BINDING_MISMATCH", place, detail));
        }
        if entry.get("payload").is_some() {
            envelope::signature(entry, &place)?;
            for (n, co) in entries(entry, "co_signatures").iter().enumerate() {
                if !envelope::signed(co, text(entry, "payload_hash_b64u")) {
                    let place = format!("{place}/co_signatures/{n}");
                    return Err(fault("CO_SIGNATURE_INVALID", place, "not by its signer"));
                }
            }
        }
        for (disclosure, hash) in [
            ("args_disclosure", "args_hash_b64u"),
            ("result_disclosure", "result_hash_b64u"),
        ] {
            if let Some(disclosed) = receipt.get(disclosure) {
                disclosure_fits(
                    disclosed,
                    text(receipt, hash),
                    &format!("{place}/{disclosure}"),
                )?;
            }
        }
    }
    for name in ["side_effect_receipts", "human_approval_receipts"] {
        for (n, entry) in entries(payload, name).iter().enumerate() {
            of_agent(entry, &format!("{place}/{name}/{n}"), agent)?;
        }
    }
    Ok(())
}

fn of_agent(receipt: &Json, place: &str, agent: &str) -> Result<(), Fault> {
    if text(receipt, "agent_did") == agent {
        Ok(())
    } else {
        Err(fault("PROOF_BUNDLE_AGENT_MISMATCH", place, "another agent"))
    }
}

/// Some leaves are shown, of others only the hash; together they make the receipt's hash.
fn disclosure_fits(disclosure: &Json, hash: &str, place: &str) -> Result<(), Fault> {
    let required = [
        ("disclosure_algorithm", Kind::Text),
        ("merkle_root_b64u", Kind::Base64),
        ("disclosed_leaves", Kind::Object),
    ];
    let optional = [("redacted_leaf_hashes_b64u", Kind::Array { most: 10_000 })];
    shape::closed(disclosure, place, &required, &optional)?;
    if text(disclosure, "disclosure_algorithm") != "vir_v2_typed_lexicographical" {
        return Err(fault("DISCLOSURE_ALGORITHM_UNKNOWN", place, "not known"));
    }
    let hidden = entries(disclosure, "redacted_leaf_hashes_b64u").iter();
    let mut leaves: Vec<String> = hidden.filter_map(Json::as_str).map(str::to_owned).collect();
    let shown = disclosure.get("disclosed_leaves").and_then(Json::members);
    for (path, leaf) in shown.unwrap_or_default() {
        let value = leaf.get("value").unwrap_or(&Json::Null);
        let fits = matches!(
            (text(leaf, "type"), value),
            ("string", Json::String(_))
                | ("number", Json::Integer(_) | Json::Double(_))
                | ("integer", Json::Integer(_))
                | ("boolean", Json::Bool(_))
                | ("null", Json::Null)
                | ("object", Json::Object(_))
                | ("array", Json::Array(_))
        );
        if !fits {
            let place = format!("{place}/disclosed_leaves/{path}");
            return Err(fault("DISCLOSURE_TYPE_MISMATCH", place, "not of its type"));
        }
        let preimage = Json::Object(
            ["type", "value", "salt_b64u"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), leaf.get(name)?.clone())))
                .collect(),
        );
        let parts = [path.as_bytes(), b":", &preimage.to_jcs()];
        leaves.push(Hash::of_parts(parts).to_string());
    }
    leaves.sort_unstable();
    let leaves = Json::Array(leaves.into_iter().map(Json::String).collect());
    let root = Hash::of(&leaves.to_jcs()).to_string();
    if root == text(disclosure, "merkle_root_b64u") && root == hash {
        Ok(())
    } else {
        Err(fault(
            "DISCLOSURE_ROOT_MISMATCH",
            place,
            "not the receipt's hash",
        ))
    }
}
