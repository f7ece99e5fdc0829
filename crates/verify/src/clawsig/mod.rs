//! The profile of the public family: the verdicts that its reference verifier gives on
//! `proof_bundle` files.
//!
//! It says less than [`crate::verify`]: who signed, and that chain and receipts hang together.
//! Where the reference is more lenient than it should be, this profile differs on purpose, and
//! only by refusing more: duplicate members, unpaired surrogates, base64url with stray bits,
//! signatures that strict verification refuses, and payloads without an envelope.
//!
//! What a file may hold and this profile does not check makes its verdict
//! [`Verdict::Unsupported`], never a pass: attestations, delegation, web and vir receipts,
//! metadata with a meaning of its own, and every kind of file but proof bundles.

mod causal;
mod chain;
mod envelope;
mod shape;
mod tools;

use proof::json::{self, Numbers};
use proof::trust::Role;
use proof::{Did, Hash, Json, Timestamp};
use serde::{Deserialize, Serialize};

use crate::report::shown;
use crate::trust::{self, TrustError};

use shape::Kind;

/// Longest metadata object, in bytes of its text (the public verifiers' limit).
const MAX_METADATA_BYTES: usize = 16_384;

/// Members of a payload that the reference verifier looks into and this profile does not.
const UNCHECKED: [&str; 6] = [
    "attestations",
    "delegation_receipts",
    "vir_receipts",
    "web_receipts",
    "binary_semantic_evidence_attestations",
    "reviewer_signoff_receipts",
];

/// The same in `metadata`.
const UNCHECKED_METADATA: [&str; 7] = [
    "policy_binding",
    "runner_measurement",
    "runner_attestation_receipt",
    "reviewer_signoff_receipts",
    "data_handling",
    "prompt_pack",
    "system_prompt_report",
];

/// What a file is checked against.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Keys whose gateway receipts count.
    pub receipt_signers: Vec<Did>,
    /// Keys whose coverage attestations count.
    pub coverage_signers: Vec<Did>,
    /// The run manifest, when the bundle refers to one.
    pub urm: Option<Vec<u8>>,
    /// Expiry is judged at this moment; without one, an expiry is only read.
    pub at: Option<Timestamp>,
    /// `causal_policy_profile`: `strict` forbids the weaker modes below.
    pub policy_profile: Option<String>,
    /// `causal_connectivity_mode`: `observe`, `warn` or `enforce` (the default).
    pub connectivity: Option<String>,
    /// `coverage_enforcement_phase`: `observe` (the default), `warn` or `enforce`.
    pub coverage: Option<String>,
}

/// The part of the public verifier's configuration that this profile uses.
#[derive(Deserialize)]
struct Config {
    config_version: String,
    #[serde(default)]
    allowlists: Allowlists,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Allowlists {
    gateway_receipt_signer_dids: Vec<Did>,
    attestation_signer_dids: Vec<Did>,
}

impl Options {
    /// Takes the keys that count from a trust root of ours, or from a configuration of the
    /// public verifier.
    ///
    /// # Errors
    /// [`TrustError`] when it is neither.
    pub fn from_trust(bytes: &[u8]) -> Result<Self, TrustError> {
        match proof::json::from_slice::<Config>(bytes) {
            Ok(config) if config.config_version == "1" => Ok(Self {
                receipt_signers: config.allowlists.gateway_receipt_signer_dids,
                coverage_signers: config.allowlists.attestation_signer_dids,
                ..Self::default()
            }),
            _ => Ok(Self {
                receipt_signers: trust::read(bytes)?
                    .gateway
                    .into_iter()
                    .filter(|key| key.role == Role::Receipt)
                    .map(|key| key.did)
                    .collect(),
                ..Self::default()
            }),
        }
    }
}

/// What the profile says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The reference verifier passes it.
    Pass,
    /// It does not.
    Fail,
    /// The file holds something that this profile does not check.
    Unsupported,
}

/// How much the evidence shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The agent's word.
    #[serde(rename = "self")]
    SelfReported,
    /// At least one receipt by an allowed gateway, bound to the chain.
    Gateway,
}

/// The result, in the reference verifier's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// The public reason code; `OK` for a pass.
    pub reason_code: String,
    /// Where in the file, as a JSON pointer.
    pub place: String,
    /// What exactly.
    pub detail: String,
    /// How much it shows, when it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof_tier: Option<Tier>,
}

/// Why a file does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    code: &'static str,
    place: String,
    detail: String,
}

fn fault(code: &'static str, place: impl Into<String>, detail: impl Into<String>) -> Fault {
    Fault {
        code,
        place: place.into(),
        detail: detail.into(),
    }
}

/// Code of a file whose members are not what the schema says.
const SCHEMA: &str = "SCHEMA_VALIDATION_FAILED";

/// Verifies one file: a proof bundle envelope, `{"envelope": …}` around one, or a Clawgate
/// bundle, of which the public half is taken.
pub fn verify(file: &[u8], options: &Options) -> Report {
    let mut unsupported = None;
    match check(file, options, &mut unsupported) {
        Err(fault) => Report {
            verdict: Verdict::Fail,
            reason_code: fault.code.to_owned(),
            place: shown(&fault.place),
            detail: shown(&fault.detail),
            proof_tier: None,
        },
        Ok(tier) => match unsupported {
            Some(fault) => Report {
                verdict: Verdict::Unsupported,
                reason_code: fault.code.to_owned(),
                place: shown(&fault.place),
                detail: shown(&fault.detail),
                proof_tier: None,
            },
            None => Report {
                verdict: Verdict::Pass,
                reason_code: "OK".to_owned(),
                place: String::new(),
                detail: String::new(),
                proof_tier: Some(tier),
            },
        },
    }
}

fn check(file: &[u8], options: &Options, unsupported: &mut Option<Fault>) -> Result<Tier, Fault> {
    if file.len() > crate::MAX_BUNDLE_BYTES {
        return Err(fault("MALFORMED_ENVELOPE", "", "the file is too large"));
    }
    let json = json::parse(file, Numbers::Any)
        .map_err(|error| fault("MALFORMED_ENVELOPE", "", error.to_string()))?;
    let is_ours = json.get("bundle").and_then(Json::as_str) == Some(proof::bundle::BUNDLE);
    if is_ours {
        let one = json.get("proof_bundle").into_iter();
        let several = json.get("proof_bundles").and_then(Json::as_array);
        let mut tier = None;
        for half in one.chain(several.unwrap_or_default()) {
            tier = tier.max(Some(bundle(half, options, unsupported)?));
        }
        return tier.ok_or_else(|| fault("MALFORMED_ENVELOPE", "", "no public half"));
    }
    bundle(json.get("envelope").unwrap_or(&json), options, unsupported)
}

impl PartialOrd for Tier {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Tier {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (*self as u8).cmp(&(*other as u8))
    }
}

/// The checks, in the reference verifier's order: the first that fails gives the code.
fn bundle(
    envelope: &Json,
    options: &Options,
    unsupported: &mut Option<Fault>,
) -> Result<Tier, Fault> {
    let payload = envelope::header(envelope, options)?;
    let modes = causal::Modes::resolve(options)?;
    let place = "/payload";
    payload_shape(payload, place)?;
    for name in UNCHECKED {
        if payload.get(name).is_some() {
            let detail = "this profile does not check it";
            unsupported.get_or_insert(fault("UNSUPPORTED", format!("{place}/{name}"), detail));
        }
    }
    let agent = text(payload, "agent_did");
    if envelope.get("signer_did").and_then(Json::as_str) != Some(agent) {
        return Err(fault("INVALID_DID_FORMAT", "/signer_did", "not the agent"));
    }
    envelope::signature(envelope, "")?;
    let chain = chain::Chain::read(payload, place)?;
    chain::rate_limits(payload, place, &chain)?;
    metadata(payload, place, unsupported)?;
    manifest(payload, place, &chain, options)?;
    let receipts = chain::receipts(payload, place, &chain, options);
    tools::check(payload, place, agent, &chain)?;
    causal::check(payload, place, &modes)?;
    causal::coverage(payload, place, &chain, options, &modes)?;
    receipts.strict()?;
    Ok(receipts.tier())
}

fn text<'a>(json: &'a Json, name: &str) -> &'a str {
    json.get(name).and_then(Json::as_str).unwrap_or_default()
}

fn entries<'a>(json: &'a Json, name: &str) -> &'a [Json] {
    json.get(name).and_then(Json::as_array).unwrap_or_default()
}

fn payload_shape(payload: &Json, place: &str) -> Result<(), Fault> {
    let many = Kind::Array { most: 1000 };
    let required = [
        ("bundle_version", Kind::Const("1")),
        ("bundle_id", Kind::Text),
        ("agent_did", Kind::Did),
    ];
    let optional = [
        ("eip8004_registry", Kind::Any),
        ("eip8004_agent_id", Kind::Any),
        ("urm", Kind::Object),
        ("event_chain", many),
        ("receipts", many),
        ("tool_receipts", many),
        ("side_effect_receipts", many),
        ("human_approval_receipts", many),
        ("delegation_receipts", many),
        ("vir_receipts", many),
        ("web_receipts", many),
        ("coverage_attestations", many),
        ("binary_semantic_evidence_attestations", many),
        ("rate_limit_claims", Kind::Array { most: 256 }),
        ("attestations", Kind::Array { most: 100 }),
        ("metadata", Kind::Object),
    ];
    shape::closed(payload, place, &required, &optional)?;
    let evidence = ["urm", "event_chain", "receipts", "attestations"];
    if !evidence.iter().any(|name| payload.get(name).is_some()) {
        return Err(fault(SCHEMA, place, "no evidence at all"));
    }
    chain::shapes(payload, place)?;
    tools::shapes(payload, place)
}

fn metadata(payload: &Json, place: &str, unsupported: &mut Option<Fault>) -> Result<(), Fault> {
    let Some(metadata) = payload.get("metadata") else {
        return Ok(());
    };
    let place = format!("{place}/metadata");
    if metadata.to_document_order().len() > MAX_METADATA_BYTES {
        return Err(fault("MALFORMED_ENVELOPE", place, "longer than 16 KiB"));
    }
    for name in UNCHECKED_METADATA {
        if metadata.get(name).is_some() {
            let detail = "this profile does not check it";
            unsupported.get_or_insert(fault("UNSUPPORTED", format!("{place}/{name}"), detail));
        }
    }
    Ok(())
}

/// The run manifest that the bundle refers to: given beside it, and the one that was meant.
fn manifest(
    payload: &Json,
    place: &str,
    chain: &chain::Chain,
    options: &Options,
) -> Result<(), Fault> {
    let Some(reference) = payload.get("urm") else {
        return Ok(());
    };
    let place = format!("{place}/urm");
    let required = [
        ("urm_version", Kind::Const("1")),
        ("urm_id", Kind::Text),
        ("resource_type", Kind::Text),
        ("resource_hash_b64u", Kind::Base64),
    ];
    shape::closed(reference, &place, &required, &[("metadata", Kind::Object)])?;
    let Some(bytes) = &options.urm else {
        return Err(fault("URM_MISSING", place, "the manifest was not given"));
    };
    let urm = json::parse(bytes, Numbers::Any)
        .map_err(|error| fault(SCHEMA, &place, error.to_string()))?;
    let required = [
        ("urm_version", Kind::Const("1")),
        ("urm_id", Kind::Text),
        ("run_id", Kind::Text),
        ("agent_did", Kind::Did),
        ("issued_at", Kind::Time),
        ("harness", Kind::Object),
        ("inputs", Kind::Array { most: 100_000 }),
        ("outputs", Kind::Array { most: 100_000 }),
    ];
    let optional = [
        ("event_chain_root_hash_b64u", Kind::Base64),
        ("receipts_root_hash_b64u", Kind::Base64),
        ("proof_bundle_hash_b64u", Kind::Base64),
        ("metadata", Kind::Object),
    ];
    shape::closed(&urm, &place, &required, &optional)?;
    let root = urm.get("event_chain_root_hash_b64u").and_then(Json::as_str);
    let same = text(&urm, "urm_id") == text(reference, "urm_id")
        && text(&urm, "agent_did") == text(payload, "agent_did")
        && chain.run_id().is_none_or(|run| run == text(&urm, "run_id"))
        && (root.is_none() || chain.root().is_none() || root == chain.root())
        && Hash::of(&urm.to_document_order()).to_string() == text(reference, "resource_hash_b64u");
    if same {
        Ok(())
    } else {
        Err(fault(
            "URM_MISMATCH",
            place,
            "not the manifest that was meant",
        ))
    }
}
