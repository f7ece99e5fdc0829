//! `report.json`: what the demo did, for a machine.

use serde::Serialize;

/// The whole story.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Each step, in order.
    pub(super) steps: Vec<Step>,
    /// Each refused attempt.
    pub(super) refusals: Vec<Refused>,
    /// What planned and applied.
    pub(super) engine: String,
    /// What the verifier said about the bundle.
    pub(super) verdict: Option<clawverify::Verdict>,
    /// What it said after one byte was changed.
    pub(super) tamper_verdict: Option<clawverify::Verdict>,
}

/// One step.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    /// Stable name.
    pub(super) name: String,
    /// Whether it did what it should.
    pub(super) ok: bool,
    /// In words.
    pub(super) detail: String,
}

/// One refused attempt.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    /// What was tried.
    pub(super) attempt: String,
    /// The reason code, or what came instead.
    pub(super) code: String,
}

impl Report {
    pub(super) fn new(engine: String) -> Self {
        Self {
            steps: Vec::new(),
            refusals: Vec::new(),
            engine,
            verdict: None,
            tamper_verdict: None,
        }
    }

    /// Whether every step did what it should.
    pub(super) fn is_good(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|step| step.ok)
    }
}
