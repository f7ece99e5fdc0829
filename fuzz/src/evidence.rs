//! What auditors are handed: JSON, envelopes, checkpoints and proofs, bundles, trust roots.

use std::sync::LazyLock;

use clawverify::testing::{Keys, Story, bytes, seal};
use clawverify::{Options, Verdict, verify};
use proof::checkpoint::Checkpoint;
use proof::json::{Canonical, Numbers, parse};
use proof::merkle::{inclusion_path, leaf_hash, root, verify_inclusion};
use proof::{Envelope, EnvelopeType, Hash, Json};

use crate::choice;

/// An honest job with an apply, sealed, and the trust root for it.
struct Honest {
    keys: Keys,
    bundle: Vec<u8>,
    trust: Vec<u8>,
    meaning: Vec<u8>,
    contract: Vec<u8>,
    note: String,
}

static HONEST: LazyLock<Honest> = LazyLock::new(|| {
    let story = Story::apply();
    let bundle = seal(story.evidence(), &story.keys);
    let file = bytes(&bundle);
    Honest {
        trust: bytes(&story.keys.trust_root()),
        meaning: meaning(&file).expect("ours can be read"),
        contract: bytes(&bundle.wpc),
        note: bundle.log.checkpoint.clone(),
        keys: story.keys,
        bundle: file,
    }
});

/// JSON: what is read is JSON to others too, and is written in one way, which reads back the same;
/// what the walk calls canonical is that way.
pub fn json(data: &[u8]) {
    if let Ok(read) = parse(data, Numbers::Any) {
        let theirs = serde_json::from_slice::<serde_json::Value>(data);
        assert!(theirs.is_ok(), "strict JSON is JSON");
        let written = read.to_jcs();
        let again = parse(&written, Numbers::Any).expect("ours can be read");
        assert_eq!(again.to_jcs(), written, "written once and for all");
    }
    if let Ok(text) = std::str::from_utf8(data)
        && Canonical::is(text)
    {
        let read = parse(data, Numbers::Integers).expect("canonical text is strict JSON");
        assert_eq!(read.to_jcs(), data);
    }
}

/// An envelope: whatever is changed in one that is signed, what still verifies has the payload that
/// was signed; and what nobody signed does not verify.
pub fn envelope(data: &[u8]) {
    let signed = Envelope::parse(&HONEST.contract).expect("ours can be read");
    let made = [patched(&HONEST.contract, data), data.to_vec()];
    for envelope in made.iter().filter_map(|text| Envelope::parse(text).ok()) {
        let written = serde_json::to_vec(&envelope).expect("what was read can be written");
        let again = Envelope::parse(&written).expect("ours can be read");
        assert_eq!(again.payload.to_jcs(), envelope.payload.to_jcs());
        if envelope.check(EnvelopeType::WorkPolicyContract).is_ok() {
            assert_eq!(envelope.payload.to_jcs(), signed.payload.to_jcs());
            assert_eq!(envelope.signer_did, signed.signer_did);
        }
    }
}

/// The log: a proof that is accepted is the one that the tree gives, and a note that is accepted
/// says what was signed.
pub fn log(data: &[u8]) {
    let (kind, data) = choice(data);
    if kind % 2 == 0 {
        inclusion(data);
    } else {
        note(data);
    }
}

/// Bytes: size, index and length of the path; then what is put in place of the path's hashes.
fn inclusion(data: &[u8]) {
    let [size, index, length, rest @ ..] = data else {
        return;
    };
    let size = u64::from(*size % 64) + 1;
    let index = u64::from(*index);
    let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    let root = root(leaves.as_slice(), size).unwrap_or_else(|never| match never {});
    let right = (index < size).then(|| {
        inclusion_path(leaves.as_slice(), index, size).unwrap_or_else(|never| match never {})
    });
    let mut path = right.clone().unwrap_or_default();
    path.resize(usize::from(*length % 10), root);
    for change in rest.chunks(2) {
        let [place, value] = change else { break };
        let Some(hash) = path.get_mut(usize::from(place % 16)) else {
            continue;
        };
        *hash = match value {
            0..64 => leaf_hash(&u64::from(*value).to_be_bytes()),
            64..128 => root,
            _ => Hash::of(&[*value]),
        };
    }
    for leaf in &leaves {
        if verify_inclusion(leaf, index, size, &path, &root) {
            assert_eq!(Some(&path), right.as_ref(), "another proof is accepted");
            assert_eq!(leaf, &leaves[index as usize], "of another leaf");
        }
    }
}

fn note(data: &[u8]) {
    let key = HONEST.keys.log.public();
    let origin = HONEST.note.split('\n').next().unwrap_or_default();
    let signed = Checkpoint::verify(&HONEST.note, origin, &key).expect("ours is signed");
    for text in [patched(HONEST.note.as_bytes(), data), data.to_vec()] {
        let Ok(text) = String::from_utf8(text) else {
            continue;
        };
        if let Ok(read) = Checkpoint::verify(&text, origin, &key) {
            assert_eq!(read, signed);
        }
    }
}

/// A bundle: whatever is changed in one that is valid, what is still valid says the same; and what
/// is anything else is not valid.
pub fn bundle(data: &[u8]) {
    for file in [patched(&HONEST.bundle, data), data.to_vec()] {
        let report = verify(&file, &HONEST.trust, &Options::default());
        if report.verdict == Verdict::Valid {
            assert_eq!(meaning(&file).as_ref(), Some(&HONEST.meaning));
        }
    }
}

/// A trust root: what is read is written as what reads the same; and without its keys nothing is
/// proven.
pub fn trust(data: &[u8]) {
    for text in [patched(&HONEST.trust, data), data.to_vec()] {
        let Ok(read) = clawverify::trust::read(&text) else {
            continue;
        };
        let written = bytes(&read);
        let again = clawverify::trust::read(&written).expect("ours can be read");
        assert_eq!(bytes(&again), written);
        if read.gateway.is_empty() {
            let report = verify(&HONEST.bundle, &text, &Options::default());
            assert_ne!(report.verdict, Verdict::Valid);
        }
    }
}

/// What a document says, however it is written.
fn meaning(text: &[u8]) -> Option<Vec<u8>> {
    let json: Json = parse(text, Numbers::Integers).ok()?;
    Some(json.to_jcs())
}

/// `text` with changes: for each a place (two bytes), how much goes (one), how much comes (one), and
/// what comes.
pub(crate) fn patched(text: &[u8], mut changes: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    while let [high, low, goes, comes, rest @ ..] = changes {
        let place = usize::from(u16::from_be_bytes([*high, *low])) % (text.len() + 1);
        let end = text.len().min(place + usize::from(*goes));
        let (new, rest) = rest.split_at(rest.len().min(usize::from(*comes)));
        text.splice(place..end, new.iter().copied());
        changes = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_where_they_say() {
        assert_eq!(patched(b"abcd", &[0, 1, 2, 3, b'x', b'y', b'z']), b"axyzd");
        assert_eq!(patched(b"abcd", &[0, 4, 9, 1, b'e']), b"abcde");
        assert_eq!(patched(b"abcd", &[0, 1]), b"abcd");
        assert_eq!(patched(b"", &[255, 255, 255, 0]), b"");
    }

    /// The targets judge something: without a change what is honest is accepted.
    #[test]
    fn what_is_honest_is_accepted() {
        let report = verify(&HONEST.bundle, &HONEST.trust, &Options::default());
        assert_eq!(report.verdict, Verdict::Valid);
        assert!(
            HONEST.bundle.len() < usize::from(u16::MAX),
            "each place can be reached"
        );
        let envelope = Envelope::parse(&HONEST.contract).expect("ours can be read");
        assert!(envelope.check(EnvelopeType::WorkPolicyContract).is_ok());
    }
}
