//! What jobs are doing: calls in flight, tokens and refusals, summed up from their records.
//!
//! The records are the truth; here is only how far each job's have been read, so that whoever
//! watches reads each of them once. Nothing of it is kept when the gateway stops.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use proof::Timestamp;
use proof::record::{Body, Intent, JobId, Lane, Record};
use store::{JobRow, Store, StoreError};
use tokio::sync::Mutex;

/// Jobs whose sums are kept at a time; those that were looked at longest ago are forgotten.
const MAX_JOBS: usize = 256;

/// Calls in flight that are named for each job. Their number is the store's.
const MAX_LIVE: usize = 64;

/// Refusals that are kept for each job, the last ones.
const MAX_REFUSALS: usize = 16;

/// Records that are read at a time.
const PAGE: u32 = 1000;

/// What jobs are doing.
#[derive(Debug, Default)]
pub struct Activity {
    jobs: Mutex<HashMap<JobId, Watched>>,
}

#[derive(Debug)]
struct Watched {
    seen: Arc<Seen>,
    looked_at: Timestamp,
}

/// What one job's records say, up to one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The last record that was read.
    pub seq: u64,
    /// Calls without an outcome, by the place of their intents.
    pub live: BTreeMap<u64, LiveCall>,
    /// Tokens of requests to models.
    pub tokens_input: u64,
    /// Tokens of their answers.
    pub tokens_output: u64,
    /// Whether some of them were counted here.
    pub derived: bool,
    /// The last refusals, oldest first.
    pub refusals: VecDeque<Refused>,
}

/// A call in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCall {
    /// When its intent was written.
    pub at: Timestamp,
    /// Through which lane.
    pub lane: Lane,
    /// Stable name of the operation.
    pub operation: String,
    /// The model, the run or the destination that it is about.
    pub about: Option<String>,
}

/// A refused call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: Timestamp,
    /// The reason code.
    pub code: String,
    /// What was asked.
    pub asked: String,
    /// The reasons in words.
    pub why: String,
}

impl Activity {
    /// What a job is doing, by its records until now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn of(
        &self,
        store: &dyn Store,
        job: &JobRow,
        now: Timestamp,
    ) -> Result<Arc<Seen>, StoreError> {
        // Held while records are read: who comes meanwhile would read the same ones.
        let mut jobs = self.jobs.lock().await;
        let watched = jobs.get(&job.job_id);
        let seen = watched.map(|watched| Arc::clone(&watched.seen));
        let mut seen = seen.unwrap_or_default();
        while seen.seq < job.counters.records {
            let records = store.records(&job.job_id, seen.seq, PAGE).await?;
            if records.is_empty() {
                break;
            }
            let next = Arc::make_mut(&mut seen);
            records.iter().for_each(|stored| next.read(&stored.record));
        }
        if jobs.len() >= MAX_JOBS && !jobs.contains_key(&job.job_id) {
            let oldest = jobs.iter().min_by_key(|(_, watched)| watched.looked_at);
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                jobs.remove(&id);
            }
        }
        let watched = Watched {
            seen: Arc::clone(&seen),
            looked_at: now,
        };
        jobs.insert(job.job_id.clone(), watched);
        Ok(seen)
    }
}

/// Where a call of the egress lane goes, as people write it.
pub(crate) fn destination(intent: &Intent) -> Option<String> {
    if intent.lane != Lane::Egress {
        return None;
    }
    let host = intent.input.get("host")?.as_str()?;
    let port = intent.input.get("port")?.as_integer()?;
    Some(match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    })
}

impl Seen {
    fn read(&mut self, record: &Record) {
        self.seq = record.seq;
        match &record.body {
            Body::Intent(intent) if self.live.len() < MAX_LIVE => {
                let model = intent.input.get("model").and_then(|model| model.as_str());
                let about = model
                    .map(str::to_owned)
                    .or_else(|| intent.run_id.clone())
                    .or_else(|| destination(intent));
                let call = LiveCall {
                    at: record.at,
                    lane: intent.lane,
                    operation: intent.operation.clone(),
                    about,
                };
                self.live.insert(record.seq, call);
            }
            Body::Outcome(outcome) => {
                self.live.remove(&outcome.intent_seq);
                if let Some(usage) = &outcome.usage {
                    self.tokens_input = self.tokens_input.saturating_add(usage.tokens_input);
                    self.tokens_output = self.tokens_output.saturating_add(usage.tokens_output);
                    self.derived |= usage.derived;
                }
            }
            Body::Refusal(refusal) => {
                if self.refusals.len() == MAX_REFUSALS {
                    self.refusals.pop_front();
                }
                self.refusals.push_back(Refused {
                    at: record.at,
                    code: refusal.code.clone(),
                    asked: refusal.asked.clone(),
                    why: refusal.reasons.join("; "),
                });
            }
            _ => {}
        }
    }
}
