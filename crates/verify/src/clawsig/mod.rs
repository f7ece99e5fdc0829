//! The profile of the public family: the verdicts that its reference verifier gives on
//! `proof_bundle`, `export_bundle` and `log_inclusion_proof` files.
//!
//! It says less than [`crate::verify`]: who signed, and that chain and receipts hang together.
//! Where the reference is more lenient than it should be, this profile differs on purpose, and
//! only by refusing more: duplicate members, unpaired surrogates, base64url with stray bits,
//! signatures that strict verification refuses, payloads without an envelope, and receipts of
//! inference or coverage that are not signed or contradict the file.
//!
//! What a file may hold and this profile does not check makes its verdict
//! [`Verdict::Unsupported`], never a pass: execution and audit-result attestations, delegation and
//! web receipts, metadata with a meaning of its own, an expiry when no moment was given to judge
//! it at, and every other kind of file.

mod causal;
mod chain;
pub mod conformance;
mod envelope;
mod export;
mod inclusion;
mod shape;
mod tools;
mod vir;

use proof::json::{self, Numbers};
use proof::trust::{Role, TrustRoot};
use proof::{Did, Hash, Json, Timestamp};
use serde::{Deserialize, Serialize};

use crate::report::shown;
use crate::trust::{self, TrustError};

use shape::Kind;

/// Longest metadata object, in bytes of its text (the public verifiers' limit).
const MAX_METADATA_BYTES: usize = 16_384;

/// Members of a payload that the reference verifier looks into and this profile does not.
const UNCHECKED: [&str; 5] = [
    "attestations",
    "delegation_receipts",
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
    /// Keys whose derivation attestations count.
    pub derivation_signers: Vec<Did>,
    /// A trust root of ours. Its receipt keys count besides, each in its time and no revoked one;
    /// and an export counts only when one of its closing keys has issued it.
    pub root: Option<TrustRoot>,
    /// The run manifest, when the bundle refers to one.
    pub urm: Option<Vec<u8>>,
    /// Expiry is judged at this moment. Without one, a file that may have expired is not proven.
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
    derivation_attestation_signer_dids: Vec<Did>,
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
                derivation_signers: config.allowlists.derivation_attestation_signer_dids,
                ..Self::default()
            }),
            _ => Ok(Self {
                root: Some(trust::read(bytes)?),
                ..Self::default()
            }),
        }
    }

    /// Whether there is anybody whose receipts count.
    fn knows_receipt_signers(&self) -> bool {
        let root = self.root.as_ref();
        let mut listed = root.into_iter().flat_map(|root| root.listed(Role::Receipt));
        !self.receipt_signers.is_empty() || listed.next().is_some()
    }

    /// Whether a receipt counts that this key signed at this time; otherwise why not.
    fn admits_receipt(&self, signer: &str, time: &str) -> Result<(), String> {
        match &self.root {
            _ if self
                .receipt_signers
                .iter()
                .any(|did| did.as_str() == signer) =>
            {
                Ok(())
            }
            Some(root) => self.admits(root, signer, Role::Receipt, time),
            None => Err("by a key that is not allowed".to_owned()),
        }
    }

    /// Whether an export counts that this key issued at this time; otherwise why not. Only a trust
    /// root says who may.
    fn admits_export(&self, issuer: &str, time: &str) -> Result<(), String> {
        let root = self.root.as_ref();
        root.map_or(Ok(()), |root| self.admits(root, issuer, Role::Close, time))
    }

    fn admits(&self, root: &TrustRoot, did: &str, role: Role, time: &str) -> Result<(), String> {
        let did: Did = did
            .parse()
            .map_err(|_| "not an Ed25519 did:key".to_owned())?;
        let signed_at = shape::millis(time).ok_or_else(|| "at no time".to_owned())?;
        let signed_at = Timestamp::from_millis(signed_at);
        trust::counts_without_place(root, &did, role, signed_at, self.at)
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

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// One job's evidence, signed by the agent; also the public half of a Clawgate bundle.
    ProofBundle,
    /// A proof bundle with attestations about it, signed by whoever exported it.
    ExportBundle,
    /// That a leaf lies in a log.
    LogInclusionProof,
}

/// Whose word the evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofTier {
    /// The agent's.
    #[serde(rename = "self")]
    SelfReported,
    /// At least one receipt by an allowed gateway, bound to the chain.
    Gateway,
}

/// How much of the evidence hangs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustTier {
    /// The envelope's signature.
    Basic,
    /// A chain of events, or receipts that all count.
    Verified,
}

/// Both tiers of a proof bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tiers {
    trust: TrustTier,
    proof: ProofTier,
}

/// The result, in the reference verifier's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What the file was taken for.
    pub kind: FileKind,
    /// The verdict.
    pub verdict: Verdict,
    /// The public reason code; `OK` for a pass, `UNSUPPORTED` for what is not checked.
    pub reason_code: String,
    /// Where in the file, as a JSON pointer.
    pub place: String,
    /// What exactly.
    pub detail: String,
    /// How much of it hangs together, when it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_tier: Option<TrustTier>,
    /// Whose word it is, when it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof_tier: Option<ProofTier>,
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

/// Verifies one file: an envelope with a proof bundle, an export bundle, an inclusion proof, one of
/// these in the wrapping of the family's test data, or a Clawgate bundle, of which the public half
/// is taken.
pub fn verify(file: &[u8], options: &Options) -> Report {
    let mut unsupported = None;
    let (kind, result) = check(file, options, &mut unsupported);
    let (verdict, fault, tiers) = match (result, unsupported) {
        (Err(fault), _) => (Verdict::Fail, fault, None),
        (Ok(_), Some(fault)) => (Verdict::Unsupported, fault, None),
        (Ok(tiers), None) => (Verdict::Pass, fault("OK", "", ""), tiers),
    };
    Report {
        kind,
        verdict,
        reason_code: fault.code.to_owned(),
        place: shown(&fault.place),
        detail: shown(&fault.detail),
        trust_tier: tiers.map(|tiers| tiers.trust),
        proof_tier: tiers.map(|tiers| tiers.proof),
    }
}

type Checked = Result<Option<Tiers>, Fault>;

fn check(file: &[u8], options: &Options, unsupported: &mut Option<Fault>) -> (FileKind, Checked) {
    let malformed = |detail: String| {
        let fault = fault("MALFORMED_ENVELOPE", "", detail);
        (FileKind::ProofBundle, Err(fault))
    };
    if file.len() > crate::MAX_BUNDLE_BYTES {
        return malformed("the file is too large".to_owned());
    }
    let json = match json::parse(file, Numbers::Any) {
        Ok(json) => json,
        Err(error) => return malformed(error.to_string()),
    };
    if json.get("bundle").and_then(Json::as_str) == Some(proof::bundle::BUNDLE) {
        let halves = public_halves(&json, options, unsupported);
        return (FileKind::ProofBundle, halves.map(Some));
    }
    // As the family's own files and test data wrap them.
    let wrapped = ["envelope", "bundle", "inclusion_proof_v1"];
    let document = wrapped.iter().find_map(|name| json.get(name));
    let document = document.unwrap_or(&json);
    if document.get("export_version").is_some() {
        let tiers = export::check(document, options, unsupported);
        (FileKind::ExportBundle, tiers.map(Some))
    } else if document.get("audit_path").is_some() {
        let proven = inclusion::check(document, "");
        (FileKind::LogInclusionProof, proven.map(|()| None))
    } else {
        let tiers = bundle(document, "", options, unsupported);
        (FileKind::ProofBundle, tiers.map(Some))
    }
}

/// The public half of a bundle of ours, in one piece or in several; the strongest counts. All
/// pieces must be of one agent and one evidence: what one of them has earned is no other's.
fn public_halves(
    json: &Json,
    options: &Options,
    unsupported: &mut Option<Fault>,
) -> Result<Tiers, Fault> {
    let malformed = |place: &str, detail: &str| Err(fault("MALFORMED_ENVELOPE", place, detail));
    let pieces = match (json.get("proof_bundle"), json.get("proof_bundles")) {
        (Some(half), None) => return bundle(half, "/proof_bundle", options, unsupported),
        (Some(_), Some(_)) => return malformed("/proof_bundles", "one public half too many"),
        (None, _) => entries(json, "proof_bundles"),
    };
    let mut tiers: Option<Tiers> = None;
    for (n, piece) in pieces.iter().enumerate() {
        let place = format!("/proof_bundles/{n}");
        let found = bundle(piece, &place, options, unsupported)?;
        if tie(piece).is_none() || tie(piece) != tie(&pieces[0]) {
            return malformed(
                &place,
                "not of the agent and the evidence of the first piece",
            );
        }
        tiers = Some(tiers.map_or(found, |other| Tiers {
            trust: other.trust.max(found.trust),
            proof: other.proof.max(found.proof),
        }));
    }
    tiers.ok_or_else(|| fault("MALFORMED_ENVELOPE", "", "no public half"))
}

/// What holds the pieces of a public half together.
fn tie(piece: &Json) -> Option<(&Json, &Json)> {
    let agent = piece.at(&["payload", "agent_did"])?;
    let evidence = ["payload", "metadata", "clawgate", "evidence_hash_b64u"];
    Some((agent, piece.at(&evidence)?))
}

/// The checks, in the reference verifier's order: the first that fails gives the code.
fn bundle(
    envelope: &Json,
    at: &str,
    options: &Options,
    unsupported: &mut Option<Fault>,
) -> Result<Tiers, Fault> {
    let mut skip = |place: String, detail: &str| {
        unsupported.get_or_insert(fault("UNSUPPORTED", place, detail));
    };
    let payload = envelope::header(envelope, at, options)?;
    if envelope.get("expires_at").is_some() && options.at.is_none() {
        skip(
            format!("{at}/expires_at"),
            "whether it has expired shows at a given moment only",
        );
    }
    let modes = causal::Modes::resolve(options)?;
    let place = &format!("{at}/payload");
    payload_shape(payload, place)?;
    let unchecked = UNCHECKED.iter().filter(|name| payload.get(name).is_some());
    for name in unchecked {
        skip(format!("{place}/{name}"), "this profile does not check it");
    }
    if !vir::supported(payload) {
        skip(
            format!("{place}/vir_receipts"),
            "of a version that this profile does not check",
        );
    }
    let agent = text(payload, "agent_did");
    if envelope.get("signer_did").and_then(Json::as_str) != Some(agent) {
        let place = format!("{at}/signer_did");
        return Err(fault("INVALID_DID_FORMAT", place, "not the agent"));
    }
    envelope::signature(envelope, at)?;
    let chain = chain::Chain::read(payload, place)?;
    chain::rate_limits(payload, place, &chain)?;
    metadata(payload, place, unsupported)?;
    manifest(payload, place, &chain, options)?;
    let receipts = chain::receipts(payload, place, &chain, options);
    tools::check(payload, place, agent, &chain)?;
    causal::check(payload, place, &modes)?;
    causal::coverage(payload, place, &modes)?;
    if vir::supported(payload) {
        vir::check(payload, place, agent, &chain)?;
    }
    receipts.strict()?;
    let verified = chain.root().is_some() || receipts.complete();
    Ok(Tiers {
        trust: if verified {
            TrustTier::Verified
        } else {
            TrustTier::Basic
        },
        proof: receipts.tier(),
    })
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
    tools::shapes(payload, place)?;
    vir::shapes(payload, place)
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
