//! What the people and agents of a world were given: what no crash may take back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proof::Envelope;
use proof::checkpoint::Checkpoint;

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Held>);

/// What is held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// By job.
    pub(crate) jobs: BTreeMap<String, Job>,
    /// Every checkpoint that anybody saw, by its size.
    pub(crate) checkpoints: BTreeMap<u64, Checkpoint>,
    /// Runs that the approver agreed to.
    pub(crate) agreed: BTreeSet<String>,
    /// Receipts that were not looked for since they were given out.
    pub(crate) unseen: Vec<Receipt>,
}

/// What one job's people have.
#[derive(Debug, Default)]
pub(crate) struct Job {
    pub(crate) receipts: Vec<Receipt>,
    /// Tokens that the model said it took, in answers that came whole.
    pub(crate) tokens: u64,
    /// The bundle as it was first given out.
    pub(crate) bundle: Option<Vec<u8>>,
    /// Tokens whose revocation was confirmed.
    pub(crate) revoked: Vec<String>,
}

/// A receipt that a client has.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    pub(crate) id: String,
    /// Itself, where it came with the answer.
    pub(crate) envelope: Option<Envelope>,
}

impl Ledger {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Held) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    pub(crate) fn receipt(&self, job: &str, receipt: Receipt, tokens: u64) {
        self.with(|held| {
            held.unseen.push(receipt.clone());
            let job = held.jobs.entry(job.to_owned()).or_default();
            job.receipts.push(receipt);
            job.tokens += tokens;
        });
    }

    /// A job's bundle; a second one must be the first.
    pub(crate) fn bundle(&self, job: &str, bytes: &[u8]) {
        self.with(|held| {
            let held = held.jobs.entry(job.to_owned()).or_default();
            let first = held.bundle.get_or_insert_with(|| bytes.to_vec());
            assert!(first == bytes, "{job} was sealed twice");
        });
    }

    pub(crate) fn revoked(&self, job: &str, token: &str) {
        self.with(|held| {
            let held = held.jobs.entry(job.to_owned()).or_default();
            held.revoked.push(token.to_owned());
        });
    }

    /// A checkpoint; another one of its size must have its root.
    pub(crate) fn checkpoint(&self, checkpoint: Checkpoint) {
        self.with(|held| {
            let known = held
                .checkpoints
                .entry(checkpoint.size)
                .or_insert_with(|| checkpoint.clone());
            assert_eq!(
                known.root, checkpoint.root,
                "two logs of {} records",
                checkpoint.size
            );
        });
    }
}
