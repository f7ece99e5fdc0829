//! The proof bundle: everything about one job in one JSON file.
//!
//! Its two halves are tied together: the public half (`proof_bundle`, signed by the job's own
//! key) carries the hash of all the rest, and the close envelope (signed by the gateway) says
//! how many records there are and repeats that hash.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::approval::SignedStatement;
use crate::envelope::{Envelope, EnvelopeError, EnvelopeType};
use crate::hash::Hash;
use crate::json::{Json, JsonError, Without};
use crate::keys::{Did, SigningKey};
use crate::keyset::SignedKeySet;
use crate::record::{Event, EventChain, JobId, Record};
use crate::time::Timestamp;
use crate::timestamp;
use crate::token::Claims;

pub mod stream;

/// The document's kind and version.
pub const BUNDLE: &str = "clawgate.proof-bundle/1";

/// Largest bundle that is read, in bytes: some 200,000 calls. Read, it takes several times as much
/// memory.
pub const MAX_BYTES: usize = 1024 * 1024 * 1024;

/// Kind of the payload in the close envelope.
pub const CLOSE: &str = "clawgate.job-close/1";

/// A bundle file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Always [`BUNDLE`].
    pub bundle: String,
    /// The job.
    pub job: Job,
    /// The public half: one envelope for each [`crate::record::MAX_CHAIN`] events. The file has `proof_bundle`
    /// with one envelope for an ordinary job, `proof_bundles` for a longer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof_bundle: Option<Envelope>,
    /// The public half of a long job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proof_bundles: Vec<Envelope>,
    /// The contract's envelope.
    pub wpc: Envelope,
    /// Every token of the job.
    pub tokens: Vec<Token>,
    /// Runs and receipts of Terraform calls.
    pub terraform: Terraform,
    /// Every signed approval or denial.
    pub approvals: Vec<SignedStatement>,
    /// Every record, in order.
    pub records: Vec<Record>,
    /// Where the records stand in the log.
    pub log: LogProof,
    /// The gateway's closing word.
    pub close: Envelope,
    /// What others vouched for after the bundle was sealed. Each part is signed for itself, so none
    /// of the bundle's seals is over it, and the file without it is the file that was sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<Added>,
}

impl Bundle {
    /// The file: canonical JSON and a line feed. Verifiers hash what stands in it without writing
    /// it again.
    pub fn to_file(&self) -> Vec<u8> {
        let json = Json::from_value(self).expect("a bundle holds strings and integers");
        let mut file = json.to_jcs();
        file.push(b'\n');
        file
    }
}

/// A later checkpoint of the same log, or the same one with more lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// A signed note.
    pub checkpoint: String,
    /// The proof that it continues the bundle's own; empty when both have one size.
    pub consistency: Vec<Hash>,
    /// A timestamp of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<timestamp::Token>,
}

/// The job that a bundle is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its id.
    pub job_id: JobId,
    /// Its own key.
    pub agent_did: Did,
    /// What it was for.
    pub name: String,
    /// When it began.
    pub opened_at: Timestamp,
    /// When it ended.
    pub closed_at: Timestamp,
}

/// A token's life, without the token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What it granted.
    pub claims: Claims,
    /// SHA-256 of its text, in hexadecimal.
    pub token_hash: String,
    /// When it was minted.
    pub issued_at: Timestamp,
    /// The gateway's key that signed it; absent for tokens from before key sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Did>,
    /// Whom it was bound to at first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// First use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_used_at: Option<Timestamp>,
    /// Last use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// Revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// How often somebody else tried to use it.
    pub replays_refused: u64,
}

/// The Terraform half.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terraform {
    /// Every run of the job.
    pub runs: Vec<Run>,
    /// A receipt for every Terraform call.
    pub receipts: Vec<Envelope>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The run.
    pub run_id: String,
    /// Its workspace.
    pub workspace_id: String,
    /// Its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_version_id: Option<String>,
    /// Digest of the configuration as uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_sha256_b64u: Option<Hash>,
    /// Its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// Digest of the plan, when the gateway inspected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_sha256_b64u: Option<Hash>,
    /// Digest of the plan JSON's raw bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_raw_sha256_b64u: Option<Hash>,
    /// What it would change, when the gateway inspected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<crate::approval::Changes>,
    /// Upstream's status, as last seen.
    pub status: String,
    /// State version before the apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_version_before: Option<String>,
    /// State version that the apply made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_version_after: Option<String>,
}

/// Inclusion of every record in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogProof {
    /// A signed note of origin, size and root.
    pub checkpoint: String,
    /// A timestamp of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<timestamp::Token>,
    /// One proof for each record.
    pub proofs: Vec<Inclusion>,
    /// Every key set of the log up to that checkpoint, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_sets: Vec<LoggedKeySet>,
}

/// A key set with its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedKeySet {
    /// Its place in the log.
    pub index: u64,
    /// The hashes beside its way to the root.
    pub path: Vec<Hash>,
    /// The key set: the leaf.
    pub entry: SignedKeySet,
}

/// Where one record stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// The record's place in the job.
    pub seq: u64,
    /// Its place in the log.
    pub index: u64,
    /// The hashes beside its way to the root.
    pub path: Vec<Hash>,
}

/// Payload of the close envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// Always [`CLOSE`].
    pub kind: String,
    /// The job.
    pub job_id: JobId,
    /// How many records there are.
    pub count: u64,
    /// Leaf hash of the first record.
    pub first_leaf_hash_b64u: Hash,
    /// Leaf hash of the last record.
    pub last_leaf_hash_b64u: Hash,
    /// Hash of everything but the public half and this envelope.
    pub evidence_hash_b64u: Hash,
    /// The contract.
    pub policy_hash_b64u: Hash,
    /// The last key set under the checkpoint; absent where the log has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_set_hash_b64u: Option<Hash>,
    /// Who closes.
    pub gateway_did: Did,
    /// When.
    pub issued_at: Timestamp,
}

/// Payload of the public half (clawsig 2.11).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicHalf {
    /// Always `"1"`.
    pub bundle_version: String,
    /// The job, and the part when there are several.
    pub bundle_id: String,
    /// The job's own key; also the signer.
    pub agent_did: Did,
    /// The events of the job.
    pub event_chain: Vec<Event>,
    /// The receipts of its model calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<Envelope>,
    /// Ties this half to the rest.
    pub metadata: Metadata,
}

impl PublicHalf {
    /// Reads everything but the receipts, which come back as they stand: they are many, and can
    /// be read by all processors.
    ///
    /// # Errors
    /// [`JsonError::Shape`] when it is no public half, apart from the receipts.
    pub fn apart(json: &Json) -> Result<(Self, &[Json]), JsonError> {
        let receipts = match json.get("receipts") {
            None => [].as_slice(),
            Some(Json::Array(receipts)) => receipts,
            Some(_) => return Ok((json.to_typed()?, &[])),
        };
        let names = &["receipts"];
        let half = Self::deserialize(Without { json, names }).map_err(JsonError::Shape)?;
        Ok((half, receipts))
    }
}

/// Metadata of the public half.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Our part of it.
    pub clawgate: Tie,
}

/// What ties the two halves together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tie {
    /// Hash of everything but the public half and the close envelope.
    pub evidence_hash_b64u: Hash,
    /// The gateway's key for receipts.
    pub gateway_did: Did,
    /// The contract.
    pub policy_hash_b64u: Hash,
}

/// Everything that goes into a bundle before it is sealed.
#[derive(Debug)]
pub struct Evidence {
    /// The job.
    pub job: Job,
    /// The contract's envelope.
    pub wpc: Envelope,
    /// Its hash.
    pub policy_hash: Hash,
    /// Every token.
    pub tokens: Vec<Token>,
    /// Every run.
    pub runs: Vec<Run>,
    /// Receipts of Terraform calls.
    pub tool_receipts: Vec<Envelope>,
    /// Receipts of model calls.
    pub gateway_receipts: Vec<Envelope>,
    /// Signed approvals and denials.
    pub approvals: Vec<SignedStatement>,
    /// Every record, in order, from job-open to job-close.
    pub records: Vec<Record>,
    /// Their places in the log.
    pub log: LogProof,
}

/// Who signs a bundle, and when.
pub struct Sealers<'a, E> {
    /// The job's own key.
    pub job: &'a SigningKey,
    /// The gateway's key for closing.
    pub close: Did,
    /// Signs with it, wherever it is: an envelope of [`EnvelopeType::JobClose`]. Asked once.
    pub sign_close: &'a dyn Fn(&Close) -> Result<Envelope, E>,
    /// The gateway's key for receipts, named in the public half.
    pub receipt_did: Did,
    /// Now.
    pub at: Timestamp,
}

/// Why a job cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No records at all.
    #[error("the job has no records")]
    Empty,
    /// A receipt that names no event of the job.
    #[error("a receipt names an event that the job does not have")]
    StrayReceipt,
    /// A part could not be signed.
    #[error("a part of the bundle cannot be signed")]
    Sign(#[from] EnvelopeError),
}

/// Members of a bundle that the evidence hash is not over.
pub const NOT_EVIDENCE: [&str; 4] = ["added", "close", "proof_bundle", "proof_bundles"];

/// Hash of everything in a bundle but [`NOT_EVIDENCE`].
pub fn evidence_hash(bundle: &Bundle) -> Hash {
    let mut json = Json::from_value(bundle).expect("a bundle holds strings and integers");
    for name in NOT_EVIDENCE {
        json.remove(name);
    }
    Hash::of(&json.to_jcs())
}

/// Signs the two halves and ties them together.
///
/// # Errors
/// See [`SealError`], and what the key for closing fails with.
pub fn seal<E: From<SealError>>(evidence: Evidence, sealers: &Sealers<'_, E>) -> Result<Bundle, E> {
    let (Some(first), Some(last)) = (evidence.records.first(), evidence.records.last()) else {
        return Err(SealError::Empty.into());
    };
    let last_key_set = evidence.log.key_sets.last();
    let mut close = Close {
        kind: CLOSE.to_owned(),
        job_id: evidence.job.job_id.clone(),
        count: evidence.records.len() as u64,
        first_leaf_hash_b64u: first.leaf_hash(),
        last_leaf_hash_b64u: last.leaf_hash(),
        evidence_hash_b64u: Hash::of(b""),
        policy_hash_b64u: evidence.policy_hash,
        key_set_hash_b64u: last_key_set.map(|set| set.entry.key_set.payload_hash_b64u),
        gateway_did: sealers.close.clone(),
        issued_at: sealers.at,
    };
    // The hash leaves the close envelope out, so anything can stand in its place meanwhile.
    let placeholder = Envelope::sign(EnvelopeType::JobClose, &close, sealers.job, sealers.at)
        .map_err(SealError::Sign)?;
    let mut bundle = Bundle {
        bundle: BUNDLE.to_owned(),
        job: evidence.job,
        proof_bundle: None,
        proof_bundles: Vec::new(),
        wpc: evidence.wpc,
        tokens: evidence.tokens,
        terraform: Terraform {
            runs: evidence.runs,
            receipts: evidence.tool_receipts,
        },
        approvals: evidence.approvals,
        records: evidence.records,
        log: evidence.log,
        close: placeholder,
        added: None,
    };
    close.evidence_hash_b64u = evidence_hash(&bundle);
    bundle.close = (sealers.sign_close)(&close)?;
    let tie = Tie {
        evidence_hash_b64u: close.evidence_hash_b64u,
        gateway_did: sealers.receipt_did.clone(),
        policy_hash_b64u: evidence.policy_hash,
    };
    let mut halves = public_halves(&bundle, evidence.gateway_receipts, &tie)?
        .iter()
        .map(|half| Envelope::sign(EnvelopeType::ProofBundle, half, sealers.job, sealers.at))
        .collect::<Result<Vec<_>, _>>()
        .map_err(SealError::Sign)?;
    if halves.len() == 1 {
        bundle.proof_bundle = halves.pop();
    } else {
        bundle.proof_bundles = halves;
    }
    Ok(bundle)
}

/// Splits the events into chains and puts each receipt beside its event.
fn public_halves(
    bundle: &Bundle,
    receipts: Vec<Envelope>,
    tie: &Tie,
) -> Result<Vec<PublicHalf>, SealError> {
    let mut halves: Vec<PublicHalf> = Vec::new();
    for event in events(&bundle.records) {
        if event.prev_hash_b64u.is_none() {
            halves.push(PublicHalf {
                bundle_version: "1".to_owned(),
                bundle_id: format!("bundle_{}_{}", bundle.job.job_id, halves.len() + 1),
                agent_did: bundle.job.agent_did.clone(),
                event_chain: Vec::new(),
                receipts: Vec::new(),
                metadata: Metadata {
                    clawgate: tie.clone(),
                },
            });
        }
        let half = halves
            .last_mut()
            .expect("the first event has no predecessor");
        half.event_chain.push(event);
    }
    let half_of_event: HashMap<Hash, usize> = halves
        .iter()
        .enumerate()
        .flat_map(|(n, half)| half.event_chain.iter().map(move |e| (e.event_hash_b64u, n)))
        .collect();
    for receipt in receipts {
        let named = receipt
            .payload
            .at(&["binding", "event_hash_b64u"])
            .and_then(Json::as_str);
        let named: Option<Hash> = named.and_then(|text| text.parse().ok());
        let half = named.and_then(|hash| half_of_event.get(&hash));
        halves[*half.ok_or(SealError::StrayReceipt)?]
            .receipts
            .push(receipt);
    }
    Ok(halves)
}

/// The event chain that the records of a job make; a new chain begins every [`crate::record::MAX_CHAIN`].
pub fn events(records: &[Record]) -> Vec<Event> {
    let mut chain = EventChain::default();
    records
        .iter()
        .filter_map(|record| chain.extend(record))
        .collect()
}
