//! A bundle's text, piece by piece: the same bytes as [`super::seal`] and [`Bundle::to_file`]
//! make, without the whole in memory. Who calls brings the parts in order and takes the text away.
//!
//! The seals stand between members that they are taken over. So the evidence is written first, as
//! the object that its hash is of; then come the seals, and they are put in at the two places that
//! [`Evidence`] names.
//!
//! [`Bundle::to_file`]: super::Bundle::to_file

use serde::Serialize;

use super::{BUNDLE, Inclusion, Job, LoggedKeySet, Metadata, PublicHalf, Run, Tie, Token};
use crate::approval::SignedStatement;
use crate::envelope::Envelope;
use crate::hash::{Hash, Hasher};
use crate::json::Json;
use crate::keys::Did;
use crate::merkle;
use crate::record::{Event, EventChain, JobId, Record};
use crate::timestamp;

/// The evidence on its way into text. Each step takes the one before, so that members come in
/// canonical order.
pub struct Proofs(Text);

/// The same, at its records.
pub struct Records {
    text: Text,
    /// The text up to here stands before the public half.
    before_halves: u64,
    count: u64,
    first: Option<Hash>,
    last: Option<Hash>,
}

/// The same, at the receipts of Terraform calls.
pub struct ToolReceipts(Records);

/// Evidence that was written: what the seals are made of.
#[derive(Debug)]
pub struct Evidence {
    /// Hash of all of its text.
    pub hash: Hash,
    /// Where the close envelope stands, in bytes of that text.
    pub close_at: u64,
    /// Where the public half stands.
    pub halves_at: u64,
    /// Bytes of that text.
    pub length: u64,
    /// Records.
    pub count: u64,
    /// Leaf hash of the first record; `None` when there are no records.
    pub first_leaf: Option<Hash>,
    /// Of the last one.
    pub last_leaf: Option<Hash>,
}

/// Begins the evidence of a job.
pub fn begin(
    approvals: &[SignedStatement],
    job: &Job,
    checkpoint: &str,
    key_sets: &[LoggedKeySet],
) -> Proofs {
    let mut text = Text::default();
    text.raw("{\"approvals\":");
    text.value(&approvals);
    text.raw(",\"bundle\":");
    text.value(&BUNDLE);
    text.raw(",");
    text.close_at = text.length;
    text.raw("\"job\":");
    text.value(job);
    text.raw(",\"log\":{\"checkpoint\":");
    text.value(&checkpoint);
    if !key_sets.is_empty() {
        text.raw(",\"key_sets\":");
        text.value(&key_sets);
    }
    text.raw(",\"proofs\":[");
    text.first = true;
    Proofs(text)
}

impl Proofs {
    /// Adds the next record's place in the log.
    pub fn push(&mut self, proof: &Inclusion) {
        self.0.element(proof);
    }

    /// The text since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0.text)
    }

    /// Goes on to the records, past a timestamp of the checkpoint.
    pub fn records(self, timestamp: Option<&timestamp::Token>) -> Records {
        let mut text = self.0;
        text.raw("]");
        if let Some(timestamp) = timestamp {
            text.raw(",\"timestamp\":");
            text.value(timestamp);
        }
        text.raw("},");
        let before_halves = text.length;
        text.raw("\"records\":[");
        text.first = true;
        Records {
            text,
            before_halves,
            count: 0,
            first: None,
            last: None,
        }
    }
}

impl Records {
    /// Adds the next record.
    pub fn push(&mut self, record: &Record) {
        let canonical = record.to_jcs();
        let leaf = merkle::leaf_hash(&canonical);
        self.text.separate();
        self.text.bytes(&canonical);
        self.count += 1;
        self.first.get_or_insert(leaf);
        self.last = Some(leaf);
    }

    /// The text since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text.text)
    }

    /// Goes on to the receipts of Terraform calls.
    pub fn tool_receipts(mut self) -> ToolReceipts {
        self.text.raw("],\"terraform\":{\"receipts\":[");
        self.text.first = true;
        ToolReceipts(self)
    }
}

impl ToolReceipts {
    /// Adds the next receipt.
    pub fn push(&mut self, receipt: &Envelope) {
        self.0.text.element(receipt);
    }

    /// The text since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        self.0.take()
    }

    /// Ends the evidence; the rest of its text comes with it.
    pub fn finish(self, runs: &[Run], tokens: &[Token], wpc: &Envelope) -> (Evidence, Vec<u8>) {
        let Records {
            mut text,
            before_halves,
            count,
            first,
            last,
        } = self.0;
        text.raw("],\"runs\":");
        text.value(&runs);
        text.raw("},\"tokens\":");
        text.value(&tokens);
        text.raw(",\"wpc\":");
        text.value(wpc);
        text.raw("}");
        let evidence = Evidence {
            hash: text.hasher.finish(),
            close_at: text.close_at,
            halves_at: before_halves,
            length: text.length,
            count,
            first_leaf: first,
            last_leaf: last,
        };
        (evidence, text.text)
    }
}

/// What stands at [`Evidence::close_at`].
pub fn close_member(close: &Envelope) -> Vec<u8> {
    member("close", &jcs(close))
}

/// What stands at [`Evidence::halves_at`], of a public half of one part.
pub fn one_half(half: &Envelope) -> Vec<u8> {
    member("proof_bundle", &jcs(half))
}

/// What stands before the parts of a public half of several, or none; [`half_of_many`] are they.
pub const HALVES_BEGIN: &[u8] = b"\"proof_bundles\":[";

/// What stands after them.
pub const HALVES_END: &[u8] = b"],";

/// One part of several.
pub fn half_of_many(half: &Envelope, first: bool) -> Vec<u8> {
    let mut text = if first { Vec::new() } else { vec![b','] };
    text.extend(jcs(half));
    text
}

fn member(name: &str, value: &[u8]) -> Vec<u8> {
    [format!("\"{name}\":").as_bytes(), value, b","].concat()
}

fn jcs(value: &impl Serialize) -> Vec<u8> {
    let json = Json::from_value(value).expect("a bundle holds strings and integers");
    json.to_jcs()
}

/// The parts of a public half, without their receipts, from records in their order.
pub struct Halves {
    job_id: JobId,
    agent_did: Did,
    tie: Tie,
    chain: EventChain,
    number: usize,
    open: Option<PublicHalf>,
}

impl Halves {
    /// Of a job; the tie names the evidence.
    pub fn new(job: &Job, tie: Tie) -> Self {
        Self {
            job_id: job.job_id.clone(),
            agent_did: job.agent_did.clone(),
            tie,
            chain: EventChain::default(),
            number: 0,
            open: None,
        }
    }

    /// Takes the next record; the part that it ends by beginning another one.
    pub fn push(&mut self, record: &Record) -> Option<PublicHalf> {
        let event: Event = self.chain.extend(record)?;
        let ended = match event.prev_hash_b64u {
            Some(_) => None,
            None => {
                self.number += 1;
                self.open.replace(PublicHalf {
                    bundle_version: "1".to_owned(),
                    bundle_id: format!("bundle_{}_{}", self.job_id, self.number),
                    agent_did: self.agent_did.clone(),
                    event_chain: Vec::new(),
                    receipts: Vec::new(),
                    metadata: Metadata {
                        clawgate: self.tie.clone(),
                    },
                })
            }
        };
        let open = self.open.as_mut();
        let open = open.expect("the first event has no predecessor");
        open.event_chain.push(event);
        ended
    }

    /// The last part.
    pub fn finish(self) -> Option<PublicHalf> {
        self.open
    }
}

/// Text that is hashed as it grows.
struct Text {
    hasher: Hasher,
    text: Vec<u8>,
    length: u64,
    /// Whether no element of the list was written yet.
    first: bool,
    close_at: u64,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            hasher: Hasher::new(),
            text: Vec::new(),
            length: 0,
            first: true,
            close_at: 0,
        }
    }
}

impl Text {
    fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.text.extend_from_slice(bytes);
        self.length += bytes.len() as u64;
    }

    fn raw(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn value(&mut self, value: &impl Serialize) {
        let text = jcs(value);
        self.bytes(&text);
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.raw(",");
        }
    }

    fn element(&mut self, value: &impl Serialize) {
        self.separate();
        self.value(value);
    }
}
