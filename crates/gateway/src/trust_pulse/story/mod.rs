//! The story of a job: its records, folded so that two hundred polling reads do not drown the
//! six things that matter.
//!
//! Model calls and reads between two events of weight become one *stretch* with counts; what
//! changes something, what was refused and what people did stand alone. The fold keeps a bounded
//! number of entries whatever the job's length: first and last ones, and how many are left out.

mod entry;
mod operations;

use std::collections::{HashMap, VecDeque};

use policy::ReasonCode;
use policy::terraform::Operation;
use proof::Timestamp;
use proof::approval::Decision;
use proof::record::{Body, Ended, Intent, Lane, Outcome, Record, Refusal};

use super::words::Quoted;
use crate::activity::destination;
use entry::weight;
use operations::{in_words, is_model_call, sentence};

pub(crate) use operations::is_change;

pub use entry::{
    BARS, Bar, Call, Entry, ModelTally, Note, Read, Refused, Row, Tone, What, bar_tone,
};

/// How an intent without an outcome ended, as far as anybody can say.
const NO_ANSWER: &str = "no answer recorded";

/// How much of a long job a page shows.
#[derive(Debug, Clone, Copy)]
pub struct StoryBounds {
    /// Entries kept from the beginning.
    pub head: usize,
    /// Entries kept from the end.
    pub tail: usize,
    /// Single calls listed in one stretch.
    pub rows: usize,
    /// Kinds of refusals, models, and operations that are told apart.
    pub kinds: usize,
}

impl Default for StoryBounds {
    fn default() -> Self {
        Self {
            head: 200,
            tail: 100,
            rows: 40,
            kinds: 60,
        }
    }
}

/// A call whose outcome is not told yet.
#[derive(Debug)]
struct Open {
    /// The number of its entry.
    entry: usize,
    /// Its row, when the entry is a stretch; rows beyond the bound are not kept.
    row: usize,
    /// Provider and model, when it is a model call.
    model: Option<(String, Quoted)>,
}

/// The fold.
#[derive(Debug)]
pub struct Story {
    bounds: StoryBounds,
    from: Timestamp,
    to: Timestamp,
    head: Vec<Entry>,
    tail: VecDeque<Entry>,
    dropped: usize,
    /// Where the calls without an outcome stand, by their intent.
    open: HashMap<u64, Open>,
    /// Every bar of the strip.
    pub bars: Vec<Bar>,
    /// Refusals by code and what was asked, in the order of their first.
    pub refusals: Vec<Refused>,
    /// Refusals that are not among them.
    pub refusals_more: u64,
    /// Model calls of the whole job.
    pub models: Vec<ModelTally>,
    /// Calls that change something, the agent's and the gateway's.
    pub changes: u64,
    /// Calls that only read.
    pub reads: u64,
}

impl Story {
    /// Begins the story of a job that lasts from one moment to another.
    pub fn new(from: Timestamp, to: Timestamp, bounds: StoryBounds) -> Self {
        Self {
            bounds,
            from,
            to,
            head: Vec::new(),
            tail: VecDeque::new(),
            dropped: 0,
            open: HashMap::new(),
            bars: vec![Bar::default(); BARS],
            refusals: Vec::new(),
            refusals_more: 0,
            models: Vec::new(),
            changes: 0,
            reads: 0,
        }
    }

    /// Takes the next record, in order.
    pub fn push(&mut self, record: &Record) {
        match &record.body {
            Body::JobOpen(open) => {
                let text = format!("Job opened by {}", open.opened_by);
                self.note(record, Tone::Person, text, None);
            }
            Body::Intent(intent) => self.intent(record, intent),
            Body::Outcome(outcome) => self.outcome(outcome),
            Body::Refusal(refusal) => self.refusal(record, refusal),
            Body::Approval(approval) => {
                let (verb, tone) = match approval.decision {
                    Decision::Approve => ("approved", Tone::Person),
                    Decision::Deny => ("denied", Tone::Refused),
                };
                let text = format!(
                    "{} {verb} the plan of {}",
                    approval.approver, approval.run_id
                );
                self.note(record, tone, text, None);
            }
            Body::Revocation(revocation) => {
                let token: String = revocation.token_hash.chars().take(12).collect();
                let text = format!("{} revoked the token {token}…", revocation.revoked_by);
                let said = Quoted::new(&revocation.reason, "the operator");
                self.note(record, Tone::Refused, text, Some(said));
            }
            Body::JobClose(close) => {
                let text = format!("Job closed by {}", close.closed_by);
                let said = Quoted::new(&close.reason, "the operator");
                self.note(record, Tone::Person, text, Some(said));
            }
        }
    }

    /// The entries kept, and how many are left out after [`Self::kept_head`] of them.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.head.iter().chain(&self.tail)
    }

    /// How many entries stand before the gap.
    pub fn kept_head(&self) -> usize {
        self.head.len()
    }

    /// How many entries are left out in the middle.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    fn intent(&mut self, record: &Record, intent: &Intent) {
        if is_change(intent) {
            self.change(record, intent);
            return;
        }
        let called = is_model_call(intent).then(|| model_names(intent));
        let tone = if called.is_some() {
            Tone::Model
        } else {
            Tone::Quiet
        };
        self.mark(record.at, tone);
        match &called {
            Some(model) => tally(&mut self.models, self.bounds.kinds, model).calls += 1,
            None => self.reads += 1,
        }
        let index = self.stretch(record, tone);
        let limits = self.bounds;
        let Some(Entry {
            what: What::Stretch(stretch),
            tone: entry_tone,
            ..
        }) = self.entry_mut(index)
        else {
            return;
        };
        stretch.until = Some(record.at.into());
        let (words, model) = match &called {
            Some((provider, model)) => {
                *entry_tone = Tone::Model;
                tally(
                    &mut stretch.models,
                    limits.kinds,
                    &(provider.clone(), model.clone()),
                )
                .calls += 1;
                (provider.clone(), Some(model.clone()))
            }
            None => {
                let words = in_words(&intent.operation);
                match stretch.reads.iter_mut().find(|read| read.words == words) {
                    Some(read) => read.times += 1,
                    // There are fewer words than the bound.
                    None => stretch.reads.push(Read { words, times: 1 }),
                }
                let to = destination(intent).map(|to| format!("connected to {to}"));
                (to.unwrap_or_else(|| words.to_owned()), None)
            }
        };
        let row = stretch.rows.len();
        if row < limits.rows {
            let (seq, at) = (record.seq, record.at.into());
            let end = NO_ANSWER.to_owned();
            stretch.rows.push(Row {
                seq,
                at,
                words,
                model,
                end,
                receipt: String::new(),
            });
        } else {
            stretch.more += 1;
        }
        self.open.insert(
            record.seq,
            Open {
                entry: index,
                row,
                model: called,
            },
        );
    }

    fn change(&mut self, record: &Record, intent: &Intent) {
        self.changes += 1;
        let by_gateway = intent.lane == Lane::Gateway;
        let applies = by_gateway && intent.operation == Operation::ApplyRun.name();
        let tone = if applies { Tone::Applied } else { Tone::Change };
        self.mark(record.at, tone);
        let workspace = intent.input.get("workspace_id").and_then(|id| id.as_str());
        let about = [workspace, intent.run_id.as_deref()].into_iter().flatten();
        let about = about.map(str::to_owned).collect();
        let title = if applies {
            "The gateway applied the approved plan".to_owned()
        } else if by_gateway {
            format!("The gateway: {}", in_words(&intent.operation))
        } else {
            sentence(in_words(&intent.operation))
        };
        let call = Call {
            title,
            operation: intent.operation.clone(),
            by_gateway,
            about,
            end: NO_ANSWER.to_owned(),
            failed: false,
            receipt: String::new(),
        };
        let index = self.add(record, tone, What::Call(Box::new(call)));
        self.open.insert(
            record.seq,
            Open {
                entry: index,
                row: 0,
                model: None,
            },
        );
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let Some(open) = self.open.remove(&outcome.intent_seq) else {
            return;
        };
        let used = open.model.zip(outcome.usage);
        let kinds = self.bounds.kinds;
        if let Some((model, usage)) = &used {
            tally(&mut self.models, kinds, model).use_tokens(usage);
        }
        let receipt = outcome
            .receipt
            .as_ref()
            .map(|receipt| receipt.receipt_id.clone());
        let receipt = receipt.unwrap_or_default();
        let (end, failed) = ending(outcome);
        let Some(entry) = self.entry_mut(open.entry) else {
            return;
        };
        match &mut entry.what {
            What::Stretch(stretch) => {
                if let Some((model, usage)) = &used {
                    tally(&mut stretch.models, kinds, model).use_tokens(usage);
                }
                if let Some(row) = stretch.rows.get_mut(open.row) {
                    row.end = end;
                    row.receipt = receipt;
                }
            }
            What::Call(call) => {
                call.end = end;
                call.failed = failed;
                call.receipt = receipt;
                if let Some(object) = &outcome.object_id
                    && !call.about.contains(object)
                {
                    call.about.push(object.clone());
                }
            }
            What::Refused(_) | What::Note(_) => {}
        }
    }

    fn refusal(&mut self, record: &Record, refusal: &Refusal) {
        self.mark(record.at, Tone::Refused);
        let code = refusal.code.parse::<ReasonCode>().ok();
        let reason = refusal
            .reasons
            .first()
            .map(|reason| Quoted::new(reason, "the call"));
        let refused = Refused {
            code: refusal.code.clone(),
            title: code.map_or("Refused", ReasonCode::title),
            advice: code.map_or("", ReasonCode::advice),
            asked: Quoted::new(&refusal.asked, "the call"),
            reason: reason.filter(|reason| code.is_none_or(|code| reason.text != code.title())),
            times: 1,
            last: record.at.into(),
        };
        let same = |other: &Refused| other.code == refused.code && other.asked == refused.asked;
        let room = self.refusals.len() < self.bounds.kinds;
        match self.refusals.iter_mut().find(|other| same(other)) {
            Some(other) => {
                other.times += 1;
                other.last = record.at.into();
            }
            None if room => self.refusals.push(refused.clone()),
            None => self.refusals_more += 1,
        }
        // An agent that asks the same again and again is one entry.
        if let Some(Entry {
            what: What::Refused(last),
            ..
        }) = self.last_mut()
            && same(last)
        {
            last.times += 1;
            last.last = record.at.into();
            return;
        }
        self.add(record, Tone::Refused, What::Refused(Box::new(refused)));
    }

    fn note(&mut self, record: &Record, tone: Tone, text: String, said: Option<Quoted>) {
        self.mark(record.at, tone);
        self.add(record, tone, What::Note(Box::new(Note { text, said })));
    }

    /// The stretch that is being told, or a new one.
    fn stretch(&mut self, record: &Record, tone: Tone) -> usize {
        let last = self.dropped + self.head.len() + self.tail.len();
        if let Some(Entry {
            what: What::Stretch(_),
            ..
        }) = self.last_mut()
        {
            return last - 1;
        }
        self.add(record, tone, What::Stretch(Box::default()))
    }

    fn last_mut(&mut self) -> Option<&mut Entry> {
        self.tail.back_mut().or_else(|| self.head.last_mut())
    }

    /// Adds an entry and gives its number, which stays right when others are left out.
    fn add(&mut self, record: &Record, tone: Tone, what: What) -> usize {
        let entry = Entry {
            at: record.at.into(),
            seq: record.seq,
            tone,
            what,
        };
        let index = self.dropped + self.head.len() + self.tail.len();
        if self.head.len() < self.bounds.head {
            self.head.push(entry);
        } else {
            self.tail.push_back(entry);
            if self.tail.len() > self.bounds.tail {
                self.tail.pop_front();
                self.dropped += 1;
            }
        }
        index
    }

    fn entry_mut(&mut self, index: usize) -> Option<&mut Entry> {
        if index < self.head.len() {
            return self.head.get_mut(index);
        }
        // Numbers between the head and the tail belong to entries that are left out.
        let in_tail = index.checked_sub(self.head.len() + self.dropped)?;
        self.tail.get_mut(in_tail)
    }

    fn mark(&mut self, at: Timestamp, tone: Tone) {
        let whole = (self.to.millis() - self.from.millis()).max(1);
        let passed = (at.millis() - self.from.millis()).clamp(0, whole - 1);
        let bar = usize::try_from(i128::from(passed) * BARS as i128 / i128::from(whole))
            .unwrap_or(0)
            .min(BARS - 1);
        let bar = &mut self.bars[bar];
        bar.records = bar.records.saturating_add(1);
        bar.weight = bar.weight.max(weight(tone));
    }
}

pub(super) fn model_names(intent: &Intent) -> (String, Quoted) {
    let member = |name: &str| intent.input.get(name).and_then(|value| value.as_str());
    let provider = member("provider").unwrap_or("a provider").to_owned();
    (
        provider,
        Quoted::new(member("model").unwrap_or("no model named"), "the agent"),
    )
}

/// The tally of one model; what is beyond the bound shares the last one.
fn tally<'a>(
    tallies: &'a mut Vec<ModelTally>,
    kinds: usize,
    (provider, model): &(String, Quoted),
) -> &'a mut ModelTally {
    let found = tallies
        .iter()
        .position(|t| t.provider == *provider && t.model == *model);
    let index = found.unwrap_or_else(|| {
        if tallies.len() < kinds {
            tallies.push(ModelTally {
                provider: provider.clone(),
                model: model.clone(),
                calls: 0,
                tokens_in: 0,
                tokens_out: 0,
            });
        }
        tallies.len() - 1
    });
    &mut tallies[index]
}

fn ending(outcome: &Outcome) -> (String, bool) {
    let status = outcome
        .status
        .map(|status| status.to_string())
        .unwrap_or_default();
    if let Some(code) = &outcome.code {
        return (format!("{status} {code}").trim().to_owned(), true);
    }
    let failed = outcome.status.is_none_or(|status| status >= 400);
    match outcome.ended {
        Ended::Complete => (status, failed),
        Ended::ClientGone => ("the client left before the end".into(), true),
        Ended::UpstreamReset => ("upstream broke off".into(), true),
        Ended::CutByPolicy => ("cut by the gateway".into(), true),
        Ended::Unknown => ("unknown: the gateway stopped in between".into(), true),
    }
}

#[cfg(test)]
mod tests;
