//! What the story is told in: entries, and the strip of bars over them.

use super::super::words::{self, Moment, Quoted};
use super::operations::sentence;

/// Bars of the strip over the whole job.
pub const BARS: usize = 96;

/// What a moment of a job was, for the strip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Reading.
    Quiet,
    /// A model call.
    Model,
    /// A call that changes something.
    Change,
    /// A refusal, a denial, a revocation.
    Refused,
    /// A person agreed.
    Person,
    /// An apply by the gateway.
    Applied,
}

impl Tone {
    /// Its name in the style sheet.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Model => "model",
            Self::Change => "change",
            Self::Refused => "refused",
            Self::Person => "person",
            Self::Applied => "applied",
        }
    }
}

/// One entry of the story.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it began.
    pub at: Moment,
    /// Its first record's place in the job.
    pub seq: u64,
    /// How it looks.
    pub tone: Tone,
    /// What it is.
    pub what: What,
}

/// What an entry tells.
#[derive(Debug, Clone)]
pub enum What {
    /// Model calls and reads with nothing of weight in between.
    Stretch(Box<Stretch>),
    /// A call that changes something.
    Call(Box<Call>),
    /// The same refusal once or several times in a row.
    Refused(Box<Refused>),
    /// Something that a person did, in one sentence.
    Note(Box<Note>),
}

/// Model calls and reads.
#[derive(Debug, Clone, Default)]
pub struct Stretch {
    /// When its last call began.
    pub until: Option<Moment>,
    /// Model calls by provider and model.
    pub models: Vec<ModelTally>,
    /// Reads by what was read.
    pub reads: Vec<Read>,
    /// The first calls one by one.
    pub rows: Vec<Row>,
    /// How many more there are.
    pub more: u64,
}

/// Calls to one model.
#[derive(Debug, Clone)]
pub struct ModelTally {
    /// The provider, as the operator names it.
    pub provider: String,
    /// The model, as the agent named it.
    pub model: Quoted,
    /// How many calls.
    pub calls: u64,
    /// Tokens sent.
    pub tokens_in: u64,
    /// Tokens received.
    pub tokens_out: u64,
}

/// Reads of one kind.
#[derive(Debug, Clone)]
pub struct Read {
    /// What was read, in words.
    pub words: &'static str,
    /// How often.
    pub times: u64,
}

/// One call of a stretch.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its intent's place in the job.
    pub seq: u64,
    /// When it began.
    pub at: Moment,
    /// What it was; for a model call, the provider.
    pub words: String,
    /// The model, for a model call.
    pub model: Option<Quoted>,
    /// How it ended.
    pub end: String,
    /// Its receipt.
    pub receipt: String,
}

/// A call that changes something.
#[derive(Debug, Clone)]
pub struct Call {
    /// What it was, in words.
    pub title: String,
    /// Its operation's stable name.
    pub operation: String,
    /// The gateway made it itself.
    pub by_gateway: bool,
    /// Workspace, run and what was made, as far as known.
    pub about: Vec<String>,
    /// How it ended.
    pub end: String,
    /// It did not end well.
    pub failed: bool,
    /// Its receipt.
    pub receipt: String,
}

/// A refusal.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The stable reason code.
    pub code: String,
    /// The code's title.
    pub title: &'static str,
    /// What to do.
    pub advice: &'static str,
    /// What was asked, by its stable name.
    pub asked: Quoted,
    /// The reason as it was given; it may repeat what the caller sent.
    pub reason: Option<Quoted>,
    /// How often, in a row or altogether.
    pub times: u64,
    /// When last.
    pub last: Moment,
}

/// Something that a person did.
#[derive(Debug, Clone)]
pub struct Note {
    /// In the gateway's words.
    pub text: String,
    /// In the person's.
    pub said: Option<Quoted>,
}

/// One bar of the strip.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bar {
    /// Records in it.
    pub records: u32,
    /// The weightiest thing in it, as a rank.
    pub weight: u8,
}

impl Entry {
    /// Whether it is a stretch.
    pub fn is_stretch(&self) -> bool {
        matches!(self.what, What::Stretch(_))
    }
}

impl ModelTally {
    /// The calls, for people.
    pub fn calls_text(&self) -> String {
        words::number(self.calls)
    }

    /// The tokens sent, for people.
    pub fn in_text(&self) -> String {
        words::number(self.tokens_in)
    }

    /// The tokens received, for people.
    pub fn out_text(&self) -> String {
        words::number(self.tokens_out)
    }

    /// Adds what a call used.
    pub(super) fn use_tokens(&mut self, usage: &proof::record::Usage) {
        self.tokens_in = self.tokens_in.saturating_add(usage.tokens_input);
        self.tokens_out = self.tokens_out.saturating_add(usage.tokens_output);
    }
}

impl Stretch {
    /// How many model calls.
    pub fn model_calls(&self) -> u64 {
        self.models.iter().map(|tally| tally.calls).sum()
    }

    /// How many reads.
    pub fn read_calls(&self) -> u64 {
        self.reads.iter().map(|read| read.times).sum()
    }

    /// The model that was called, when it is one only.
    pub fn only_model(&self) -> Option<&Quoted> {
        match &self.models[..] {
            [tally] => Some(&tally.model),
            _ => None,
        }
    }

    /// Its one call, when it is one only.
    pub fn only_row(&self) -> Option<&Row> {
        match &self.rows[..] {
            [row] if self.more == 0 => Some(row),
            _ => None,
        }
    }

    /// The number of model calls.
    pub fn model_title(&self) -> String {
        words::count(self.model_calls(), "model call", "model calls")
    }

    /// The number of reads.
    pub fn read_title(&self) -> String {
        words::count(self.read_calls(), "read", "reads")
    }

    /// The tokens of its model calls.
    pub fn tokens(&self) -> String {
        let sum = |of: fn(&ModelTally) -> u64| self.models.iter().map(of).sum();
        let (sent, received) = (sum(|tally| tally.tokens_in), sum(|tally| tally.tokens_out));
        format!(
            "{} tokens in, {} out",
            words::number(sent),
            words::number(received)
        )
    }

    /// In one line.
    pub fn title(&self) -> String {
        match (self.model_calls(), &self.reads[..]) {
            // One kind of read can be named.
            (0, [Read { words, times: 1 }]) => sentence(words),
            (0, [Read { words, times }]) => format!("{} ×{times}", sentence(words)),
            (0, _) => self.read_title(),
            (_, []) => self.model_title(),
            _ => format!("{}, {}", self.model_title(), self.read_title()),
        }
    }
}

/// The weightiest thing decides a bar's colour.
pub(super) const fn weight(tone: Tone) -> u8 {
    match tone {
        Tone::Quiet => 1,
        Tone::Model => 2,
        Tone::Change => 3,
        Tone::Person => 4,
        Tone::Refused => 5,
        Tone::Applied => 6,
    }
}

/// The tone of a bar.
pub fn bar_tone(bar: &Bar) -> Tone {
    match bar.weight {
        6 => Tone::Applied,
        5 => Tone::Refused,
        4 => Tone::Person,
        3 => Tone::Change,
        2 => Tone::Model,
        _ => Tone::Quiet,
    }
}
