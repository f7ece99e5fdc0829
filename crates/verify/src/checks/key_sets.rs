//! The gateway's key sets: an unbroken chain from a root that the trust root names, to the last one
//! under the checkpoint.
//!
//! Where each of them stands in the log is shown with the records' places, under the checkpoint;
//! what the keys in them are worth there is judged wherever something is signed.

use proof::Envelope;
use proof::bundle::LoggedKeySet;
use proof::keyset::{History, KeySetError, LogPlace};
use proof::trust::{Role, TrustRoot};

use crate::checks::envelope_code;
use crate::code::Code;
use crate::document::Document;
use crate::report::Findings;

/// Reads the chain. An empty history means that the trust root's own list of keys counts; after a
/// fault it is as long as nothing is wrong.
pub(crate) fn check(
    document: &Document,
    root: &TrustRoot,
    findings: &mut Findings,
) -> Option<History> {
    let sets = &document.bundle.log.key_sets;
    let size = document.size();
    let mut history = History::default();
    if !root.has_key_sets() {
        findings.note(match sets.len() {
            0 => "none; the trust root lists the keys".to_owned(),
            n => format!("{n}, not judged: the trust root lists the keys, and no root of key sets"),
        });
        return Some(history);
    }
    for (n, set) in sets.iter().enumerate() {
        let place = format!("/log/key_sets/{n}");
        if let Err((code, detail)) = take(&mut history, set, root) {
            findings.fail(code, place, detail);
            return Some(history);
        }
    }
    // Those that the trust root has seen, and that this checkpoint covers.
    let mut covered = root.key_sets.iter().filter(|seen| seen.leaf < size);
    let missing = covered.nth(sets.len());
    if let Some(missing) = missing {
        let (number, leaf) = (missing.number, missing.leaf);
        let detail = format!("key set {number}, which stands at leaf {leaf}, is not in the bundle");
        findings.fail(Code::KeySetMissing, "/log/key_sets", detail);
    } else if sets.is_empty() && root.key_sets.is_empty() {
        let detail = "the trust root names a root of key sets, and the bundle has none";
        findings.fail(Code::KeySetMissing, "/log/key_sets", detail);
    }
    findings.note(match history.sets().last() {
        Some(last) => format!("{} at place {}", last.number, last.leaf),
        None => "none; the log had none yet".to_owned(),
    });
    Some(history)
}

/// Takes the next one. Number 1 is believed when the trust root has seen it, or lists the key that
/// signed it; the others follow from it, and must be those that the trust root has seen.
fn take(history: &mut History, set: &LoggedKeySet, root: &TrustRoot) -> Result<(), (Code, String)> {
    let hash = set.entry.key_set.payload_hash_b64u;
    let number = history.sets().len() + 1;
    match root.key_sets.get(number - 1) {
        Some(seen) if (seen.leaf, seen.hash_b64u) != (set.index, hash) => {
            let detail = format!("key set {number} is another than the trust root's");
            return Err((Code::KeySetChain, detail));
        }
        Some(_) => {}
        None => check_root(number, set, root)?,
    }
    history
        .extend(&set.entry, set.index)
        .map_err(|error| (code(&error), error.to_string()))
}

/// Whether the root that signed a key set is trusted. Of later ones the chain says it; but a
/// revocation in the trust root counts for all of them.
fn check_root(number: usize, set: &LoggedKeySet, root: &TrustRoot) -> Result<(), (Code, String)> {
    let Envelope {
        signer_did,
        issued_at,
        ..
    } = &set.entry.key_set;
    let listed = || {
        let roots = root.listed(Role::Keyset);
        roots.filter(|key| key.did == *signer_did)
    };
    if number == 1 && listed().next().is_none() {
        let detail = format!("{signer_did} is no root of key sets of the trust root");
        return Err((Code::KeyUnknown, detail));
    }
    let place = LogPlace::Leaf(set.index);
    if listed().any(|key| key.was_revoked(place, *issued_at)) {
        let detail = format!("the trust root has revoked {signer_did}");
        return Err((Code::KeyNotValidThen, detail));
    }
    Ok(())
}

fn code(error: &KeySetError) -> Code {
    match error {
        KeySetError::Envelope(error) => envelope_code(error),
        KeySetError::Contradicts => Code::EnvelopeMismatch,
        KeySetError::Number { .. } | KeySetError::Forked(_) | KeySetError::NotLater(_) => {
            Code::KeySetChain
        }
        _ => Code::KeySetInvalid,
    }
}
