//! What led to a run: the call that made it, and what the agent asked a model just before.
//!
//! Nobody can say what was in the agent's mind; what stood before it in the same job, by the
//! order of the records, is a fact. The chain to a run begins with one of those model calls, and
//! says what links the two.

use std::collections::HashMap;

use policy::terraform::Operation;
use proof::record::{Body, Ended, Intent, Lane, Match, Outcome, Record};
use store::{JobRow, RunRow, Store, StoreError};

use super::story::model_names;
use super::words::{Moment, Quoted};
use crate::prompts::Kept;

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
    /// The last model calls before that one, newest first. When there are any, one of them leads
    /// to the run.
    pub asked: Vec<ModelAsk>,
}

impl Origin {
    /// Puts beside the questions what is kept of their words.
    pub fn tell(&mut self, kept: &Kept) {
        for ask in &mut self.asked {
            let said = kept.text(&ask.request);
            ask.said = said.map(|text| Quoted::block(text, "the agent"));
        }
    }

    /// The model call with which the chain to the run begins.
    pub fn cause(&self) -> Option<&ModelAsk> {
        self.asked.iter().find(|ask| ask.leads.is_some())
    }
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
    /// The chain to the run begins here, for this reason.
    pub leads: Option<Match>,
    /// The end of the question, where the contract lets approvers see it.
    pub said: Option<Quoted>,
}

impl ModelAsk {
    /// How far it can be relied on that the run comes from here; `None` where the chain does not
    /// begin here.
    pub fn link(&self) -> Option<&'static str> {
        self.leads.map(|by| match by {
            Match::Arguments => {
                "The run was made with the very arguments that this answer asked for."
            }
            Match::Sequence => "This came before the run; nothing proves that it caused it.",
        })
    }
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
    let outcomes: HashMap<u64, (u64, &Outcome)> = records
        .iter()
        .filter_map(|record| match &record.body {
            Body::Outcome(outcome) => Some((outcome.intent_seq, (record.seq, &**outcome))),
            _ => None,
        })
        .collect();
    let mut made_by = None;
    let mut caused_by = None;
    let mut before = Vec::new();
    for record in records {
        let Body::Intent(intent) = &record.body else {
            continue;
        };
        let outcome = outcomes.get(&record.seq).copied();
        if intent.lane == Lane::Model {
            before.push((model_ask(record, intent, outcome), outcome));
            continue;
        }
        let made = intent.operation == Operation::CreateRun.name()
            && outcome.is_some_and(|(_, outcome)| outcome.object_id.as_deref() == Some(run_id));
        if made {
            caused_by.clone_from(&intent.caused_by);
            made_by = Some(MadeBy {
                seq: record.seq,
                at: record.at.into(),
                receipt: receipt(outcome),
            });
            break;
        }
    }
    // Without the call there is no before.
    let Some(made) = &made_by else {
        return Origin::default();
    };
    before.reverse();
    // What the record of the run itself says; else the latest answer that asked for a tool, and
    // was there before the run was asked for; else the latest model call at all.
    let named = caused_by.and_then(|named| {
        let is_it = |(ask, _): &(ModelAsk, _)| ask.receipt == named.receipt_id;
        Some((before.iter().position(is_it)?, named.by))
    });
    let wanted = before.iter().position(|(_, outcome)| {
        outcome.is_some_and(|(seq, outcome)| seq < made.seq && !outcome.tool_calls.is_empty())
    });
    let mut asked: Vec<ModelAsk> = before.into_iter().map(|(ask, _)| ask).collect();
    let (cause, by) = named.unwrap_or((wanted.unwrap_or(0), Match::Sequence));
    if let Some(ask) = asked.get_mut(cause) {
        ask.leads = Some(by);
    }
    if cause >= MOST {
        asked.swap(cause, MOST - 1);
    }
    asked.truncate(MOST);
    Origin { made_by, asked }
}

fn receipt(outcome: Option<(u64, &Outcome)>) -> String {
    let receipt = outcome.and_then(|(_, outcome)| outcome.receipt.as_ref());
    receipt.map_or_else(String::new, |receipt| receipt.receipt_id.clone())
}

fn model_ask(record: &Record, intent: &Intent, answered: Option<(u64, &Outcome)>) -> ModelAsk {
    let outcome = answered.map(|(_, outcome)| outcome);
    let (provider, model) = model_names(intent);
    let tools = outcome.map_or(&[][..], |outcome| &outcome.tool_calls);
    let named = tools.iter().take(MAX_TOOLS);
    ModelAsk {
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
        receipt: receipt(answered),
        broken: outcome.is_none_or(|outcome| outcome.ended != Ended::Complete),
        leads: None,
        said: None,
    }
}

#[cfg(test)]
mod tests {
    use proof::record::{CausedBy, ToolCall};

    use super::super::sample::Sample;
    use super::*;

    /// A job's calls in their order: `m` a model call, `t` one whose answer asks for a tool, `-`
    /// another call, `r` the run. Which model call leads to the run, counted from the last.
    #[tokio::test]
    async fn the_chain_begins_with_the_latest_answer_that_wanted_a_tool() {
        for (calls, leads, shown) in [
            ("r", None, 0),
            ("-r", None, 0),
            ("mr", Some(0), 1),
            ("tr", Some(0), 1),
            ("mm-r", Some(0), 2),
            ("tm-r", Some(1), 2),
            ("ttm-r", Some(1), 3),
            // One that is older than those that are shown, in the place of the oldest of them.
            ("tmmmmr", Some(2), 3),
            // What came afterwards leads nowhere.
            ("mrt", Some(0), 1),
            ("m", None, 0),
        ] {
            let mut sample = Sample::new().await;
            let mut told = sample.open("job_1", "a job").await;
            let mut wanting = Vec::new();
            for call in calls.chars() {
                match call {
                    'r' => drop(told.terraform("create-run", Some("run-1")).await),
                    '-' => drop(told.terraform("read-run", None).await),
                    'm' => drop(told.model("gpt-5").await),
                    _ => wanting.push(told.model("gpt-5").await),
                }
            }
            let job = told.job.clone();
            let records = sample.store.records(&job, 0, 1000).await.unwrap();
            let mut records: Vec<Record> = records.into_iter().map(|row| row.record).collect();
            for record in &mut records {
                if let Body::Outcome(outcome) = &mut record.body
                    && wanting.contains(&outcome.intent_seq)
                {
                    outcome.tool_calls.push(ToolCall {
                        name: "create_run".into(),
                        arguments_sha256_b64u: None,
                    });
                }
            }
            let origin = fold(&records, "run-1");
            let place = origin.asked.iter().position(|ask| ask.leads.is_some());
            assert_eq!((place, origin.asked.len()), (leads, shown), "{calls}");
            let by = origin.cause().and_then(|ask| ask.leads);
            assert_eq!(by, leads.map(|_| Match::Sequence), "{calls}");
            let asked_for = origin.cause().map(|ask| ask.tools.len());
            let has_tool = calls.find('t') < calls.find('r') && calls.contains('t');
            assert_eq!(asked_for, leads.map(|_| usize::from(has_tool)), "{calls}");
        }
    }

    /// What the run's own record says goes before what the order suggests.
    #[tokio::test]
    async fn the_chain_begins_where_the_record_of_the_run_says() {
        for (named, by) in [
            (Some(0), Match::Arguments),
            (Some(4), Match::Sequence),
            // A receipt of no model call here.
            (None, Match::Arguments),
        ] {
            let mut sample = Sample::new().await;
            let mut told = sample.open("job_1", "a job").await;
            for _ in 0..5 {
                told.model("gpt-5").await;
            }
            told.terraform("create-run", Some("run-1")).await;
            let job = told.job.clone();
            let records = sample.store.records(&job, 0, 1000).await.unwrap();
            let mut records: Vec<Record> = records.into_iter().map(|row| row.record).collect();
            let receipts: Vec<String> = fold(&records, "run-1")
                .asked
                .iter()
                .map(|ask| ask.receipt.clone())
                .collect();
            assert_eq!(receipts.len(), MOST);
            let receipt = |body: &Body| match body {
                Body::Outcome(outcome) => outcome.receipt.clone(),
                _ => None,
            };
            let mut all = records.iter().filter_map(|record| receipt(&record.body));
            let receipt_id = match named {
                Some(place) => all.nth(place).unwrap().receipt_id,
                None => "rcpt_of_nobody".to_owned(),
            };
            for record in &mut records {
                if let Body::Intent(intent) = &mut record.body
                    && intent.lane == Lane::Terraform
                {
                    intent.caused_by = Some(CausedBy {
                        receipt_id: receipt_id.clone(),
                        by,
                        tool: None,
                    });
                }
            }
            let origin = fold(&records, "run-1");
            let cause = origin.cause().unwrap();
            assert_eq!(cause.receipt == receipt_id, named.is_some());
            let expected = if named.is_some() { by } else { Match::Sequence };
            assert_eq!(cause.leads, Some(expected), "{named:?}");
            let says_proven = cause.link().unwrap().contains("very arguments");
            assert_eq!(says_proven, expected == Match::Arguments);
        }
    }
}
