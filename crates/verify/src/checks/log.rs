//! The log: its checkpoint, where each record stands in it, and the gateway's closing word.

use proof::bundle::{CLOSE, Close};
use proof::checkpoint::{Checkpoint, CheckpointError};
use proof::keyset::Key;
use proof::trust::Role;
use proof::{Did, EnvelopeType, merkle};

use crate::checks::contract::Contract;
use crate::checks::{envelope_code, seen};
use crate::code::Code;
use crate::document::Document;
use crate::report::Findings;
use crate::threads;
use crate::trust::Believed;

/// The checkpoint is signed by the log's key for the log's name, and was seen by whom the trust
/// root and the contract ask for.
pub(crate) fn check_checkpoint(
    document: &Document,
    contract: Option<&Contract>,
    believed: &Believed<'_>,
    findings: &mut Findings,
) -> Option<Checkpoint> {
    let (checkpoint, lapse) = match signed_checkpoint(document, believed) {
        Ok(signed) => signed,
        Err(error) => {
            let place = "/log/checkpoint";
            findings.fail(Code::CheckpointInvalid, place, error.to_string());
            return None;
        }
    };
    if let Some((code, detail)) = lapse {
        findings.fail(code, "/log/checkpoint", detail);
    }
    let audit = contract.map(Contract::audit);
    let seen = seen::check(document, &checkpoint, audit, believed, findings);
    findings.note(format!(
        "{} at size {}{seen}",
        checkpoint.origin, checkpoint.size
    ));
    Some(checkpoint)
}

/// The checkpoint by one of the log's keys; with what speaks against the key, when no key that
/// counts has signed it.
fn signed_checkpoint(
    document: &Document,
    believed: &Believed<'_>,
) -> Result<(Checkpoint, Option<(Code, String)>), CheckpointError> {
    let (root, note) = (believed.root, &document.bundle.log.checkpoint);
    // A note has no time of its own, and its size is its place.
    let signed = document.sealed(document.bundle.job.closed_at);
    let keys: Vec<&Did> = match believed.keys {
        Some(keys) => {
            let of_log = |key: &&Key| key.role == Role::Checkpoint;
            keys.keys().filter(of_log).map(|key| &key.did).collect()
        }
        None => root.checkpoint_keys().collect(),
    };
    let mut lapsed = None;
    for did in keys {
        let checkpoint = match Checkpoint::verify(note, &root.log.origin, &did.key()) {
            Ok(checkpoint) => checkpoint,
            Err(CheckpointError::Unsigned) => continue,
            Err(error) => return Err(error),
        };
        // The trust root names the log's key by itself; where it also lists the key with a time,
        // the time counts.
        let listed = root.listed(Role::Checkpoint).any(|key| key.did == *did);
        let judged = match believed.keys.is_some() || listed {
            true => believed.gateway_key(did, Role::Checkpoint, signed),
            false => Ok(()),
        };
        match judged {
            Ok(()) => return Ok((checkpoint, None)),
            Err(lapse) => lapsed = lapsed.or(Some((checkpoint, Some(lapse)))),
        }
    }
    lapsed.ok_or(CheckpointError::Unsigned)
}

/// So many proofs one thread checks in one go.
const NEIGHBOURS: usize = 512;

/// One proof for each record, in order, each leading to the checkpoint's root.
pub(crate) fn check_inclusion(
    document: &Document,
    checkpoint: &Checkpoint,
    findings: &mut Findings,
) -> Option<()> {
    let proofs = &document.bundle.log.proofs;
    let records = &document.bundle.records;
    if proofs.len() != records.len() {
        let detail = format!("{} proofs for {} records", proofs.len(), records.len());
        findings.fail(Code::InclusionMissing, "/log/proofs", detail);
        return None;
    }
    let ordered = proofs
        .windows(2)
        .position(|pair| pair[0].index >= pair[1].index);
    if let Some(n) = ordered {
        findings.fail(
            Code::InclusionMissing,
            format!("/log/proofs/{}/index", n + 1),
            "not after the record before",
        );
    }
    // Neighbours share most of their way, so each thread takes many of them.
    let parts: Vec<_> = proofs.chunks(NEIGHBOURS).collect();
    let included = threads::map_large(&parts, |part, proofs| {
        let mut tree = merkle::Inclusions::new(checkpoint.size, checkpoint.root);
        let placed = (part * NEIGHBOURS..).zip(*proofs);
        let included = placed.map(|(n, proof)| {
            proof.seq == records[n].seq
                && tree.verify(&document.leaves[n], proof.index, &proof.path)
        });
        included.collect::<Vec<bool>>()
    });
    for (n, included) in included.into_iter().flatten().enumerate() {
        if !included {
            findings.fail(
                Code::InclusionInvalid,
                format!("/records/{n}"),
                "its path does not lead to the signed root",
            );
        }
    }
    let mut tree = merkle::Inclusions::new(checkpoint.size, checkpoint.root);
    for (n, set) in document.bundle.log.key_sets.iter().enumerate() {
        if !tree.verify(&set.entry.leaf_hash(), set.index, &set.path) {
            findings.fail(
                Code::InclusionInvalid,
                format!("/log/key_sets/{n}"),
                "its path does not lead to the signed root",
            );
        }
    }
    findings.note(format!("{} records", records.len()));
    Some(())
}

/// The closing envelope: who, what, how much.
pub(crate) fn check_close(
    document: &Document,
    contract: &Contract,
    believed: &Believed<'_>,
    findings: &mut Findings,
) -> Option<Close> {
    let bundle = &document.bundle;
    let signed = match bundle.close.verify::<Close>(EnvelopeType::JobClose) {
        Ok(signed) => signed,
        Err(error) => {
            findings.fail(envelope_code(&error), "/close", error.to_string());
            return None;
        }
    };
    let close = signed.payload;
    believed.require_key(
        &signed.signer,
        Role::Close,
        document.sealed(close.issued_at),
        "/close/signer_did",
        findings,
    );
    findings.require(
        close.kind == CLOSE
            && close.gateway_did == signed.signer
            && close.issued_at == bundle.close.issued_at,
        Code::EnvelopeMismatch,
        "/close",
        "kind, signer or time are not those of the signed payload",
    );
    findings.require(
        close.count == bundle.records.len() as u64,
        Code::CountMismatch,
        "/close/payload/count",
        "not the number of records in the bundle",
    );
    findings.require(
        close.job_id == bundle.job.job_id,
        Code::JobMismatch,
        "/close/payload/job_id",
        "another job was closed",
    );
    findings.require(
        close.policy_hash_b64u == contract.hash,
        Code::PolicyHashMismatch,
        "/close/payload/policy_hash_b64u",
        "closed under another contract",
    );
    let last = bundle.log.key_sets.last();
    findings.require(
        close.key_set_hash_b64u == last.map(|set| set.entry.key_set.payload_hash_b64u),
        Code::KeySetMissing,
        "/close/payload/key_set_hash_b64u",
        "the closing word names another key set than the last one of the bundle",
    );
    let ends = (document.leaves.first(), document.leaves.last());
    let signed_ends = (
        Some(&close.first_leaf_hash_b64u),
        Some(&close.last_leaf_hash_b64u),
    );
    findings.require(
        ends == signed_ends,
        Code::CloseMismatch,
        "/close/payload",
        "first or last leaf is not the one in the bundle",
    );
    findings.require(
        close.issued_at >= bundle.job.closed_at,
        Code::TimeBackwards,
        "/close/payload/issued_at",
        "closed before the last record",
    );
    findings.require(
        believed.at.is_none_or(|at| close.issued_at <= at),
        Code::AfterTheMoment,
        "/close/payload/issued_at",
        "closed after the moment asked about",
    );
    findings.note(format!("{} records at {}", close.count, close.issued_at));
    Some(close)
}

/// Nothing but the seals was changed since they were made.
pub(crate) fn check_evidence(
    document: &Document,
    close: &Close,
    findings: &mut Findings,
) -> Option<()> {
    findings.require(
        document.evidence_hash == close.evidence_hash_b64u,
        Code::EvidenceMismatch,
        "/close/payload/evidence_hash_b64u",
        "not the hash of the evidence in the bundle",
    );
    findings.note(document.evidence_hash.to_string());
    Some(())
}
