//! The event chain that public formats want of a job: its records that mean an event, each
//! hashed over the one before.

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::record::Record;
use crate::time::Timestamp;

/// One entry of the public event chain (clawsig, 2.6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// `evt_` and the record's place in the job.
    pub event_id: String,
    /// The job.
    pub run_id: String,
    /// What happened.
    pub event_type: String,
    /// The record's time.
    pub timestamp: Timestamp,
    /// SHA-256 of the record's canonical form.
    pub payload_hash_b64u: Hash,
    /// The event before, or null at the start of a chain.
    pub prev_hash_b64u: Option<Hash>,
    /// SHA-256 over the six members above, in that order.
    pub event_hash_b64u: Hash,
}

/// Longest chain that public verifiers take; a longer job starts another one.
pub const MAX_CHAIN: u64 = 1000;

/// The end of a job's event chain, from which the next event follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventChain {
    /// Events so far.
    pub count: u64,
    /// Hash of the last one.
    pub last: Option<Hash>,
}

impl EventChain {
    /// Extends the chain by a record, if the record is an event. After [`MAX_CHAIN`] events a
    /// new chain begins.
    pub fn extend(&mut self, record: &Record) -> Option<Event> {
        record.event_type()?;
        self.extend_written(record, &record.to_jcs())
    }

    /// The same for a record whose canonical form is at hand.
    pub fn extend_written(&mut self, record: &Record, canonical: &[u8]) -> Option<Event> {
        record.event_type()?;
        self.extend_hashed(record, Hash::of(canonical))
    }

    /// The same for a record whose canonical form has been hashed already, for example by a
    /// verifier that hashes each record as it was received.
    pub fn extend_hashed(&mut self, record: &Record, content: Hash) -> Option<Event> {
        let event_type = record.event_type()?;
        let prev_hash_b64u = if self.count.is_multiple_of(MAX_CHAIN) {
            None
        } else {
            self.last
        };
        let mut event = Event {
            event_id: format!("evt_{}", record.seq),
            run_id: record.job_id.to_string(),
            event_type: event_type.to_owned(),
            timestamp: record.at,
            payload_hash_b64u: content,
            prev_hash_b64u,
            event_hash_b64u: Hash::of(b""),
        };
        event.event_hash_b64u = event.compute_hash();
        self.count += 1;
        self.last = Some(event.event_hash_b64u);
        Some(event)
    }
}

impl Event {
    /// The hash that the entry should carry: over six members in a fixed order, which is not
    /// the canonical one (clawsig, recipe 5).
    pub fn compute_hash(&self) -> Hash {
        #[derive(Serialize)]
        struct Preimage<'a> {
            event_id: &'a str,
            run_id: &'a str,
            event_type: &'a str,
            timestamp: Timestamp,
            payload_hash_b64u: Hash,
            prev_hash_b64u: Option<Hash>,
        }
        let preimage = Preimage {
            event_id: &self.event_id,
            run_id: &self.run_id,
            event_type: &self.event_type,
            timestamp: self.timestamp,
            payload_hash_b64u: self.payload_hash_b64u,
            prev_hash_b64u: self.prev_hash_b64u,
        };
        Hash::of(&serde_json::to_vec(&preimage).expect("strings and hashes are JSON"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Body, JobClose};

    fn record(seq: u64) -> Record {
        let body = Body::JobClose(JobClose {
            closed_by: "ops".into(),
            reason: "done".into(),
            count: 3,
            policy_hash_b64u: Hash::of(b"p"),
        });
        Record {
            job_id: "job_1".parse().unwrap(),
            seq,
            at: Timestamp::from_millis(5),
            body,
        }
    }

    #[test]
    fn event_hash_follows_the_published_example() {
        let event = Event {
            event_id: "evt_1".into(),
            run_id: "run_selfmade_001".into(),
            event_type: "run_start".into(),
            timestamp: "2026-11-01T00:00:00.000Z".parse().unwrap(),
            payload_hash_b64u: "cdANGrVjL9B2yAMk7mAkmzP64nXRYBAvgSaq_u-29AI"
                .parse()
                .unwrap(),
            prev_hash_b64u: None,
            event_hash_b64u: Hash::of(b""),
        };
        assert_eq!(
            event.compute_hash().to_string(),
            "5pVGu-GiIiQr92nUdBq4S8pg92kJGFUumGyBbSCUcVY"
        );
    }

    #[test]
    fn a_long_job_has_several_chains() {
        let mut chain = EventChain::default();
        let mut starts = Vec::new();
        for seq in 1..=2 * MAX_CHAIN + 1 {
            let event = chain.extend(&record(seq)).unwrap();
            if event.prev_hash_b64u.is_none() {
                starts.push(seq);
            }
        }
        assert_eq!(starts, [1, MAX_CHAIN + 1, 2 * MAX_CHAIN + 1]);
    }
}
