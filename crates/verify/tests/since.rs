//! A bundle beside a checkpoint that its reader has kept.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use clawverify::report::Name;
use clawverify::testing::{Keys, ORIGIN, Story, bytes, leaves_for, seal};
use clawverify::{Code, Options, Report, Since, Status, Verdict, verify};
use proof::bundle::Bundle;
use proof::checkpoint::Checkpoint;
use proof::consistency::ConsistencyProof;
use proof::merkle::{consistency_path, leaf_hash, root};
use proof::{Hash, SigningKey};

/// A log in which the bundle's records are followed by those of others.
struct Log {
    keys: Keys,
    bundle: Vec<u8>,
    /// Leaves of the bundle's tree, and what came after.
    leaves: Vec<Hash>,
    size: u64,
}

impl Log {
    fn new() -> Self {
        let story = Story::apply();
        let keys = story.keys.clone();
        let bundle: Bundle = seal(story.evidence(), &keys);
        let checkpoint =
            Checkpoint::verify(&bundle.log.checkpoint, ORIGIN, &keys.log.public()).unwrap();
        let mut leaves = leaves_for(&bundle.records);
        assert_eq!(
            root(leaves.as_slice(), checkpoint.size),
            Ok(checkpoint.root)
        );
        leaves.extend((0..50u8).map(|n| leaf_hash(&[n])));
        Self {
            bundle: bundle.to_file(),
            keys,
            leaves,
            size: checkpoint.size,
        }
    }

    fn note(&self, size: u64, key: &SigningKey) -> Vec<u8> {
        let origin = ORIGIN.to_owned();
        let root = root(self.leaves.as_slice(), size).unwrap();
        Checkpoint { origin, size, root }.sign(key).into_bytes()
    }

    fn proof(&self, from: u64, to: u64) -> ConsistencyProof {
        let path = consistency_path(self.leaves.as_slice(), from, to).unwrap();
        ConsistencyProof::new(ORIGIN, from, to, path)
    }

    fn judge(&self, kept: Vec<u8>, proof: Option<&ConsistencyProof>) -> Report {
        let since = Some(Since {
            kept,
            proof: proof.map(bytes),
        });
        let trust = bytes(&self.keys.trust_root());
        verify(&self.bundle, &trust, &Options { at: None, since })
    }
}

fn found(report: &Report) -> (Verdict, Code) {
    let last = report.checks.last().unwrap();
    assert_eq!(last.name, Name::Consistency);
    let others = &report.checks[..report.checks.len() - 1];
    assert!(others.iter().all(|check| check.status == Status::Pass));
    (report.verdict, last.code)
}

#[test]
fn a_log_that_goes_on_is_valid_and_nothing_else_is() {
    let log = Log::new();
    let (size, key) = (log.size, log.keys.log.clone());
    let kept = |size| log.note(size, &key);
    let later = size + 50;
    for from in [1, 3, size - 1] {
        let report = log.judge(kept(from), Some(&log.proof(from, size)));
        assert_eq!(found(&report), (Verdict::Valid, Code::Ok), "{from}");
    }
    let report = log.judge(kept(later), Some(&log.proof(size, later)));
    assert_eq!(
        found(&report),
        (Verdict::Valid, Code::Ok),
        "kept one is later"
    );
    for kept in [kept(size), kept(0), log.bundle.clone()] {
        assert_eq!(found(&log.judge(kept, None)), (Verdict::Valid, Code::Ok));
    }

    let open = (Verdict::NotProven, Code::ConsistencyMissing);
    assert_eq!(found(&log.judge(kept(3), None)), open);
    assert_eq!(found(&log.judge(kept(3), Some(&log.proof(2, size)))), open);
    let mut foreign = log.proof(3, size);
    foreign.origin = "other.example/log".to_owned();
    assert_eq!(found(&log.judge(kept(3), Some(&foreign))), open);

    let mut damaged = log.proof(3, size);
    damaged.path[0] = Hash::of(b"damaged");
    let report = log.judge(kept(3), Some(&damaged));
    assert_eq!(found(&report), (Verdict::Invalid, Code::ConsistencyInvalid));
}

#[test]
fn a_forked_log_is_invalid() {
    let log = Log::new();
    let mut other = Log::new();
    other.leaves[0] = leaf_hash(b"rewritten");
    let key = &log.keys.log;
    let report = log.judge(other.note(log.size, key), None);
    assert_eq!(found(&report), (Verdict::Invalid, Code::CheckpointForked));
    for proof in [log.proof(3, log.size), other.proof(3, log.size)] {
        let report = log.judge(other.note(3, key), Some(&proof));
        assert_eq!(found(&report), (Verdict::Invalid, Code::ConsistencyInvalid));
    }
}

#[test]
fn a_checkpoint_of_nobody_says_nothing() {
    let log = Log::new();
    let stranger = SigningKey::from_seed(&[77; 32]);
    let open = (Verdict::NotProven, Code::SinceUnreadable);
    for kept in [
        log.note(3, &stranger),
        b"not a note".to_vec(),
        b"{}".to_vec(),
        b"{\"log\":{\"checkpoint\":7}}".to_vec(),
        vec![0xff],
        Vec::new(),
    ] {
        assert_eq!(found(&log.judge(kept, None)), open);
    }
}

#[test]
fn what_was_asked_for_and_did_not_run_is_not_proven() {
    let log = Log::new();
    let kept = log.note(log.size, &log.keys.log);
    let since = Some(Since { kept, proof: None });
    let trust = bytes(&log.keys.trust_root());
    let report = verify(b"{}", &trust, &Options { at: None, since });
    let last = report.checks.last().unwrap();
    assert_eq!(
        (last.name, last.status),
        (Name::Consistency, Status::Skipped)
    );
}
