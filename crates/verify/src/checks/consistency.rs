//! The log beyond the bundle: it continues the one whose checkpoint the caller has kept.

use std::borrow::Cow;

use proof::checkpoint::{Checkpoint, CheckpointError};
use proof::consistency::{ConsistencyProof, Inconsistent, judge};
use proof::keyset::{History, LogPlace};
use proof::trust::{GatewayKey, Role};
use proof::{Did, Json, Numbers, PublicKey, json};

use crate::Since;
use crate::code::Code;
use crate::report::Findings;
use crate::trust::Believed;

/// Largest proof that is read, in bytes; the longest has 128 hashes.
pub const MAX_PROOF_BYTES: usize = 64 * 1024;

/// Judges the bundle's checkpoint and the kept one. Either may be the later one; both are signed
/// by the log's key of the trust root, or nothing is said.
pub(crate) fn check(
    checkpoint: &Checkpoint,
    since: &Since,
    believed: &Believed<'_>,
    findings: &mut Findings,
) -> Option<()> {
    let kept = note(&since.kept).ok_or_else(|| "neither a checkpoint nor a bundle".to_owned());
    let kept = kept.and_then(|note| of_log(&note, believed).map_err(|error| error.to_string()));
    let kept = match kept {
        Ok(kept) => kept,
        Err(error) => {
            findings.not_proven(Code::SinceUnreadable, "", error);
            return None;
        }
    };
    let proof = match since.proof.as_deref().map(read).transpose() {
        Ok(proof) => proof,
        Err(error) => {
            let detail = format!("the proof cannot be read: {error}");
            findings.not_proven(Code::ConsistencyMissing, "", detail);
            return None;
        }
    };
    let place = "/log/checkpoint";
    match judge(&kept, checkpoint, proof.as_ref()) {
        Ok(()) => {
            let (one, other) = (kept.size, checkpoint.size);
            findings.note(format!("from size {one} to size {other}"));
            return Some(());
        }
        Err(error @ Inconsistent::Forked { .. }) => {
            findings.fail(Code::CheckpointForked, place, error.to_string());
        }
        Err(error @ Inconsistent::Invalid { .. }) => {
            findings.fail(Code::ConsistencyInvalid, place, error.to_string());
        }
        // A proof about something else says nothing about this log.
        Err(error @ (Inconsistent::Missing { .. } | Inconsistent::OtherProof { .. })) => {
            findings.not_proven(Code::ConsistencyMissing, place, error.to_string());
        }
    }
    None
}

/// Every key of the log that is known: a kept checkpoint may be older or newer than what replaced
/// a key.
fn trusted_keys<'a>(believed: &Believed<'a>) -> Vec<&'a Did> {
    let known = believed.keys.into_iter().flat_map(History::keys);
    let of_log = known.filter(|key| key.role == Role::Checkpoint);
    let listed = believed.root.checkpoint_keys();
    listed.chain(of_log.map(|key| &key.did)).collect()
}

/// Whether a key had been revoked when the log had this size.
fn was_revoked(did: &Did, size: u64, believed: &Believed<'_>) -> bool {
    let over = LogPlace::Over(size);
    let by_root = |key: &GatewayKey| {
        key.did == *did && key.revoked_from_leaf.is_some_and(|leaf| over.reaches(leaf))
    };
    let by_key_sets = |keys: &History| keys.was_revoked_over(did, size);
    believed.root.listed(Role::Checkpoint).any(by_root) || believed.keys.is_some_and(by_key_sets)
}

/// A note by one of the log's keys that was not revoked before its size.
pub(super) fn of_log(note: &str, believed: &Believed<'_>) -> Result<Checkpoint, CheckpointError> {
    let size = Checkpoint::claimed_size(note).unwrap_or(0);
    let keys: Vec<PublicKey> = trusted_keys(believed)
        .iter()
        .filter(|did| !was_revoked(did, size, believed))
        .map(|did| did.key())
        .collect();
    Checkpoint::verify_any(note, &believed.root.log.origin, &keys)
}

/// The signed note in a file: the file itself, or the bundle's.
fn note(file: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(file).ok()?;
    if !text.trim_start().starts_with('{') {
        return Some(Cow::Borrowed(text));
    }
    if file.len() > crate::MAX_BUNDLE_BYTES {
        return None;
    }
    let bundle = json::parse(file, Numbers::Integers).ok()?;
    let note = bundle.at(&["log", "checkpoint"]).and_then(Json::as_str)?;
    Some(Cow::Owned(note.to_owned()))
}

fn read(bytes: &[u8]) -> Result<ConsistencyProof, String> {
    if bytes.len() > MAX_PROOF_BYTES {
        return Err(format!("more than {MAX_PROOF_BYTES} bytes"));
    }
    json::from_slice(bytes).map_err(|error| error.to_string())
}
