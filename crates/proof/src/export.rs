//! A bundle for readers of other formats: a clawsig export bundle, or an in-toto attestation.
//!
//! Both are signed by the gateway's close key, over bytes that no other document of ours begins
//! with: an export bundle by the text of its hash, over members that no payload of an envelope has,
//! and an attestation over `DSSEv1 …`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;

use crate::bundle::{Bundle, Run};
use crate::hash::Hash;
use crate::json::{Json, JsonError};
use crate::keys::Did;
use crate::time::Timestamp;
use crate::unsigned::Unsigned;

/// The predicate of our attestations (`docs/schemas/job-attestation.v1.json`).
pub const PREDICATE: &str = "https://clawgate.dev/attestation/job/v1";

/// in-toto Attestation Framework, Statement v1.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// Media type of the payload (in-toto Attestation Framework, Envelope v1).
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Who exports a bundle, and when.
#[derive(Debug)]
pub struct Exporter<'a> {
    /// The gateway's close key.
    pub key: &'a Did,
    /// Now.
    pub at: Timestamp,
    /// SHA-256 of the bundle's file.
    pub file: Hash,
}

/// What the exporter's own verifier said about the bundle.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// The program and its version.
    pub verifier: String,
    /// `valid` or `not-proven`.
    pub verdict: String,
    /// What could not be shown, by the verifier's codes.
    pub codes: Vec<String>,
}

/// Why a bundle is not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There are fewer public halves than that, or none has the number 0.
    #[error("the bundle has {parts} parts, and no part {part}")]
    NoSuchPart {
        /// Which one was asked for, counted from 1.
        part: usize,
        /// So many there are.
        parts: usize,
    },
    /// The bundle holds what cannot be signed.
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl Bundle {
    /// So many public halves are there: each is a clawsig export bundle of its own.
    pub fn parts(&self) -> usize {
        self.proof_bundle.iter().len() + self.proof_bundles.len()
    }

    /// A part as a clawsig export bundle; parts are counted from 1.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn to_clawsig(
        &self,
        part: usize,
        exporter: &Exporter<'_>,
    ) -> Result<Unsigned<Json>, ExportError> {
        let mut halves = self.proof_bundle.iter().chain(&self.proof_bundles);
        let half = part.checked_sub(1).and_then(|n| halves.nth(n));
        let half = half.ok_or_else(|| ExportError::NoSuchPart {
            part,
            parts: self.parts(),
        })?;
        let artifact = Json::from_value(half)?;
        let canonical = artifact.to_jcs();
        let manifest = json!({
            "manifest_version": "1",
            "generated_at": exporter.at,
            "entries": [{
                "path": "artifacts/proof_bundle_envelope.json",
                "sha256_b64u": Hash::of(&canonical),
                "content_type": "application/json",
                "size_bytes": canonical.len(),
            }],
        });
        let mut export = Json::object();
        export.set("export_version", "1");
        export.set("export_id", format!("export_{}_{part}", self.job.job_id));
        export.set("created_at", exporter.at.to_string());
        export.set("issued_at", exporter.at.to_string());
        export.set("issuer_did", exporter.key.as_str());
        export.set("manifest", manifest);
        let mut artifacts = Json::object();
        artifacts.set("proof_bundle_envelope", artifact);
        export.set("artifacts", artifacts);
        let origin = json!({
            "job_id": self.job.job_id,
            "part": part,
            "parts": self.parts(),
            "bundle_sha256_b64u": exporter.file,
            "policy_hash_b64u": self.wpc.payload_hash_b64u,
        });
        export.set("metadata", json!({ "clawgate": origin }));
        let hash = Hash::of(&export.to_jcs()).to_string();
        export.set("bundle_hash_b64u", hash.as_str());
        export.set("hash_algorithm", "SHA-256");
        export.set("algorithm", "Ed25519");
        let (message, key) = (hash.into_bytes(), exporter.key.key());
        Ok(Unsigned::new(message, key, move |signature| {
            export.set("signature_b64u", signature.to_string());
            export
        }))
    }

    /// The bundle as an in-toto attestation in a DSSE envelope: the plans, the configurations and
    /// the bundle itself are its subjects, and the predicate says under which contract, by whose
    /// approval and with what end. It repeats the bundle and is no substitute for it.
    ///
    /// # Errors
    /// [`ExportError::Json`].
    pub fn to_in_toto(
        &self,
        verification: &Verification,
        exporter: &Exporter<'_>,
    ) -> Result<Unsigned<Json>, ExportError> {
        let statement = json!({
            "_type": STATEMENT,
            "subject": self.subjects(exporter.file),
            "predicateType": PREDICATE,
            "predicate": self.predicate(verification, exporter),
        });
        let payload = Json::from_value(&statement)?.to_jcs();
        let message = pae(PAYLOAD_TYPE, &payload);
        let did = exporter.key.clone();
        Ok(Unsigned::new(message, did.key(), move |signature| {
            let signature = json!({
                "keyid": did,
                "sig": STANDARD.encode(signature.as_bytes()),
            });
            let envelope = json!({
                "payload": STANDARD.encode(&payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [signature],
            });
            Json::from(envelope)
        }))
    }

    fn subjects(&self, file: Hash) -> Vec<serde_json::Value> {
        let mut subjects = vec![resource(&format!("{}.json", self.job.job_id), &file)];
        for run in &self.terraform.runs {
            let files = [
                ("configuration.tar.gz", &run.configuration_sha256_b64u),
                ("plan.json", &run.plan_raw_sha256_b64u),
                ("plan.canonical.json", &run.plan_sha256_b64u),
            ];
            for (name, digest) in files {
                if let Some(digest) = digest {
                    subjects.push(resource(&format!("{}/{name}", run.run_id), digest));
                }
            }
        }
        subjects
    }

    fn predicate(&self, verification: &Verification, exporter: &Exporter<'_>) -> serde_json::Value {
        let text = |path: &[&str]| self.close.payload.at(path).and_then(Json::as_str);
        let contract = self.wpc.payload.get("policy_id").and_then(Json::as_str);
        json!({
            "job": {
                "id": self.job.job_id,
                "name": self.job.name,
                "agent": self.job.agent_did,
                "openedOn": self.job.opened_at,
                "closedOn": self.job.closed_at,
            },
            "contract": resource(contract.unwrap_or("contract"), &self.wpc.payload_hash_b64u),
            "contractAuthor": self.wpc.signer_did,
            "evidence": {
                "sha256_b64u": text(&["evidence_hash_b64u"]),
                "records": self.records.len(),
                "checkpoint": self.log.checkpoint,
                "closedBy": self.close.signer_did,
            },
            "runs": self.terraform.runs.iter().map(|run| self.run(run)).collect::<Vec<_>>(),
            "verification": verification,
            "attestedOn": exporter.at,
        })
    }

    /// What became of a run, and who decided about it.
    fn run(&self, run: &Run) -> serde_json::Value {
        let of_run = self.approvals.iter().filter(|signed| {
            signed.payload.get("run_id").and_then(Json::as_str) == Some(run.run_id.as_str())
        });
        let decisions = of_run.map(|signed| {
            let text = |name: &str| signed.payload.get(name).and_then(Json::as_str);
            json!({
                "decision": text("decision"),
                "approver": text("approver"),
                "signer": signed.signer_did,
                "statement": { "sha256": signed.payload_hash_b64u.to_hex() },
                "signedOn": text("issued_at"),
            })
        });
        let mut said = json!({
            "id": run.run_id,
            "workspace": run.workspace_id,
            "status": run.status,
            "decisions": decisions.collect::<Vec<_>>(),
        });
        if let Some(changes) = &run.changes {
            said["changes"] = json!(changes);
        }
        said
    }
}

/// A resource descriptor of in-toto.
fn resource(name: &str, sha256: &Hash) -> serde_json::Value {
    json!({ "name": name, "digest": { "sha256": sha256.to_hex() } })
}

/// What a DSSE signature covers (DSSE v1, "PAE").
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the DSSE specification.
    #[test]
    fn the_encoding_is_the_published_one() {
        let encoded = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(
            encoded,
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
