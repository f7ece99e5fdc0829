//! What led to a run: the call that made it, and what the agent asked a model just before.
//!
//! Nobody can say what was in the agent's mind; what stood before it in the same job, by the
//! order of the records, is a fact.

use std::collections::HashMap;

use policy::terraform::Operation;
use proof::record::{Body, Ended, Lane, Outcome, Record};
use store::{JobRow, RunRow, Store, StoreError};

use super::story::model_names;
use super::words::{Moment, Quoted};

/// Model calls that are shown.
const MOST: usize = 3;

/// Records that are read before and after the moment in which a run was made.
const BEFORE: u64 = 600;
const AFTER: u32 = 200;

/// Tools of one answer that are shown.
const MAX_TOOLS: usize = 8;

/// What led to a run.
#[derive(Debug, Default)]
pub struct Origin {
    /// The call that made it.
    pub made_by: Option<MadeBy>,
    /// The last model calls before that one, newest first.
    pub asked: Vec<ModelAsk>,
}

/// The call that made a run.
#[derive(Debug)]
pub struct MadeBy {
    /// Its place in the job.
    pub seq: u64,
    /// When it was made.
    pub at: Moment,
    /// Its receipt.
    pub receipt: String,
}

/// A question to a model.
#[derive(Debug)]
pub struct ModelAsk {
    /// Its place in the job.
    pub seq: u64,
    /// When it was asked.
    pub at: Moment,
    /// The provider, as the operator names it.
    pub provider: String,
    /// The model, as the agent named it.
    pub model: Quoted,
    /// Hash of the question as it went out.
    pub request: String,
    /// Hash of the answer as it came in, when one came.
    pub answer: Option<String>,
    /// Tools that the answer asked for.
    pub tools: Vec<Quoted>,
    /// How many more there were.
    pub more_tools: usize,
    /// Its receipt.
    pub receipt: String,
    /// The answer broke off, or never came.
    pub broken: bool,
}

/// Reads what led to a run.
///
/// # Errors
/// When the store cannot be read.
pub async fn of_run(store: &dyn Store, job: &JobRow, run: &RunRow) -> Result<Origin, StoreError> {
    let made = first_after(store, job, run).await?;
    let from = made.saturating_sub(BEFORE);
    let mut records = Vec::new();
    let mut last = from;
    while last < made + u64::from(AFTER) {
        let page = store.records(&job.job_id, last, AFTER).await?;
        let Some(end) = page.last() else { break };
        last = end.record.seq;
        records.extend(page.into_iter().map(|stored| stored.record));
    }
    Ok(fold(&records, &run.run_id))
}

/// The place of the first record that is younger than the run; records' times do not run
/// backwards, so that halving finds it.
async fn first_after(store: &dyn Store, job: &JobRow, run: &RunRow) -> Result<u64, StoreError> {
    let (mut low, mut high) = (1, job.counters.records + 1);
    while low < high {
        let middle = u64::midpoint(low, high);
        let page = store.records(&job.job_id, middle - 1, 1).await?;
        match page.first() {
            Some(stored) if stored.record.at <= run.created_at => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

fn fold(records: &[Record], run_id: &str) -> Origin {
    let outcomes: HashMap<u64, &Outcome> = records
        .iter()
        .filter_map(|record| match &record.body {
            Body::Outcome(outcome) => Some((outcome.intent_seq, &**outcome)),
            _ => None,
        })
        .collect();
    let mut made_by = None;
    let mut before = Vec::new();
    for record in records {
        let Body::Intent(intent) = &record.body else {
            continue;
        };
        let outcome = outcomes.get(&record.seq).copied();
        let receipt = outcome.and_then(|outcome| outcome.receipt.as_ref());
        let receipt = receipt.map_or_else(String::new, |receipt| receipt.receipt_id.clone());
        if intent.lane == Lane::Model {
            let (provider, model) = model_names(intent);
            let tools = outcome.map_or(&[][..], |outcome| &outcome.tool_calls);
            let named = tools.iter().take(MAX_TOOLS);
            before.push(ModelAsk {
                seq: record.seq,
                at: record.at.into(),
                provider,
                model,
                request: intent.request_hash_b64u.to_string(),
                answer: outcome.map(|outcome| outcome.response_hash_b64u.to_string()),
                tools: named
                    .map(|tool| Quoted::new(&tool.name, "the model"))
                    .collect(),
                more_tools: tools.len().saturating_sub(MAX_TOOLS),
                receipt,
                broken: outcome.is_none_or(|outcome| outcome.ended != Ended::Complete),
            });
            continue;
        }
        let made = intent.operation == Operation::CreateRun.name()
            && outcome.is_some_and(|outcome| outcome.object_id.as_deref() == Some(run_id));
        if made {
            made_by = Some(MadeBy {
                seq: record.seq,
                at: record.at.into(),
                receipt,
            });
            break;
        }
    }
    // Without the call there is no before.
    if made_by.is_none() {
        before.clear();
    }
    before.reverse();
    before.truncate(MOST);
    Origin {
        made_by,
        asked: before,
    }
}
