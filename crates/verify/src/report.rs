//! What a verification says: one line for each check, and a verdict that follows from them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::code::Code;

/// Most findings that one check lists; the rest are counted.
const MAX_FINDINGS: usize = 20;

/// Longest detail, in characters: it may quote the bundle.
const MAX_DETAIL: usize = 300;

/// What a bundle is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every check passed.
    Valid,
    /// At least one check failed.
    Invalid,
    /// Nothing is wrong, but something could not be shown.
    NotProven,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it must be.
    Pass,
    /// Wrong.
    Fail,
    /// Neither shown nor refuted.
    NotProven,
    /// Not run, because an earlier check failed.
    Skipped,
}

macro_rules! names {
    (
        always { $($variant:ident $text:literal $doc:literal)* }
        on_request { $($asked:ident $asked_text:literal $asked_doc:literal)* }
    ) => {
        /// The checks, in the order in which they run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Name {
            $(#[doc = $doc] $variant,)*
            $(#[doc = $asked_doc] $asked,)*
        }

        impl Name {
            /// Every check of a bundle of ours that is always made. Those that a caller asks for
            /// besides come after them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* $(Self::$asked => $asked_text,)* }
            }
        }
    };
}

names! {
always {
    TrustRoot "trust-root" "The trust root is readable."
    File "file" "The file is strict JSON, within limits, and a bundle of our version."
    KeySets "key-sets" "The gateway's key sets follow each other from the trusted root on, and none is left out."
    Contract "contract" "A trusted author signed the contract, and it loads."
    Job "job" "Everything names one job and one contract."
    Sequence "sequence" "Records are numbered without gaps, framed by open and close, in time."
    Calls "calls" "Each intent has one outcome, and each outcome an intent before it."
    Tokens "tokens" "Tokens are pinned, short-lived, and were used as they may be."
    Checkpoint "checkpoint" "The log's key signed the checkpoint."
    Inclusion "inclusion" "Every record is in the log under that checkpoint."
    Close "close" "The gateway closed the job with this count and these leaves."
    Evidence "evidence" "Nothing was changed since the bundle was sealed."
    PublicHalf "public-half" "The job's own key signed the event chain that the records make."
    ModelReceipts "model-receipts" "Each model call has a signed receipt that says what the records say."
    TerraformReceipts "terraform-receipts" "The same for each Terraform call."
    ReceiptReferences "receipt-references" "Each outcome names its receipt, and each receipt is named once."
    Approvals "approvals" "Enrolled and allowed approvers signed exactly what the runs are."
    Applies "applies" "Each apply had enough approvals for its plan before it."
    Runs "runs" "Runs are those of the records, inside the contract's workspaces."
    Decisions "decisions" "Each decision is what the contract says about the recorded input."
}
on_request {
    Consistency "consistency" "The log continues the one of an earlier checkpoint that the caller has kept."
}
}

/// One check's result, or one of its findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which check.
    pub name: Name,
    /// How it came out.
    pub status: Status,
    /// Why.
    pub code: Code,
    /// Where in the bundle, as a JSON pointer; empty for the whole.
    pub place: String,
    /// What exactly, for people.
    pub detail: String,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What the bundle is worth.
    pub verdict: Verdict,
    /// Every check, in order; a check that found several things has several entries.
    pub checks: Vec<Check>,
    /// What stands behind the verdict, for people.
    pub summary: String,
}

impl Report {
    /// The first thing that failed, if anything did.
    pub fn first_failure(&self) -> Option<&Check> {
        self.checks
            .iter()
            .find(|check| check.status == Status::Fail)
    }

    /// Whether a failure with this code is among the findings.
    pub fn failed_with(&self, code: Code) -> bool {
        self.checks
            .iter()
            .any(|check| check.status == Status::Fail && check.code == code)
    }
}

/// Collects the findings of one check.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: Vec<(Status, Code, String, String)>,
    more: usize,
    note: String,
}

impl Findings {
    /// Something is wrong.
    pub(crate) fn fail(&mut self, code: Code, place: impl fmt::Display, detail: impl Into<String>) {
        self.push(Status::Fail, code, place.to_string(), detail.into());
    }

    /// Something cannot be shown.
    pub(crate) fn not_proven(
        &mut self,
        code: Code,
        place: impl fmt::Display,
        detail: impl Into<String>,
    ) {
        self.push(Status::NotProven, code, place.to_string(), detail.into());
    }

    /// Fails unless `holds`. The place is written out only then: most hold, and there are many.
    pub(crate) fn require(
        &mut self,
        holds: bool,
        code: Code,
        place: impl fmt::Display,
        detail: &str,
    ) {
        if !holds {
            self.fail(code, place, detail);
        }
    }

    /// What a passing check says about itself.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) {
        self.note = shown(text.as_ref());
    }

    /// Whether anything failed so far.
    pub(crate) fn any_failure(&self) -> bool {
        self.found
            .iter()
            .any(|(status, ..)| *status == Status::Fail)
    }

    fn push(&mut self, status: Status, code: Code, place: String, detail: String) {
        // A failure is never dropped in favour of what was merely not proven.
        if self.found.len() < MAX_FINDINGS || (status == Status::Fail && !self.any_failure()) {
            self.found
                .push((status, code, shown(&place), shown(&detail)));
        } else {
            self.more += 1;
        }
    }
}

/// What may be shown: no control characters and no marks that turn the direction of text, since
/// it may quote a hostile file on somebody's terminal.
pub(crate) fn shown(text: &str) -> String {
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| if hidden(c) { ' ' } else { c })
        .take(MAX_DETAIL)
        .collect()
}

/// Builds a report, check by check.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    checks: Vec<Check>,
    on_request: Vec<Name>,
}

impl Checks {
    /// A check that the caller asks for: like the others, it never passes without having run.
    pub(crate) fn ask_for(&mut self, name: Name) {
        self.on_request.push(name);
    }

    /// Runs one check. It has passed when it found nothing and came to a result.
    pub(crate) fn run<T>(
        &mut self,
        name: Name,
        check: impl FnOnce(&mut Findings) -> Option<T>,
    ) -> Option<T> {
        let mut findings = Findings::default();
        let result = check(&mut findings);
        let entry = |status, code, place: String, detail: String| Check {
            name,
            status,
            code,
            place,
            detail,
        };
        if findings.found.is_empty() {
            self.checks.push(match &result {
                Some(_) => entry(Status::Pass, Code::Ok, String::new(), findings.note),
                None => entry(
                    Status::Skipped,
                    Code::NotRun,
                    String::new(),
                    "an earlier check failed".to_owned(),
                ),
            });
        }
        for (status, code, place, detail) in findings.found {
            self.checks.push(entry(status, code, place, detail));
        }
        if findings.more > 0 {
            let status = self.checks.last().map_or(Status::Fail, |last| last.status);
            self.checks.push(entry(
                status,
                Code::MoreFindings,
                String::new(),
                format!("{} more findings", findings.more),
            ));
        }
        result
    }

    /// Adds the checks that never ran and draws the conclusion.
    pub(crate) fn finish(mut self) -> Report {
        let on_request = std::mem::take(&mut self.on_request);
        for name in Name::ALL.iter().copied().chain(on_request) {
            if !self.checks.iter().any(|check| check.name == name) {
                self.checks.push(Check {
                    name,
                    status: Status::Skipped,
                    code: Code::NotRun,
                    place: String::new(),
                    detail: "an earlier check failed".to_owned(),
                });
            }
        }
        let count = |status| self.checks.iter().filter(|c| c.status == status).count();
        let failed = count(Status::Fail);
        let open = count(Status::NotProven) + count(Status::Skipped);
        let (verdict, summary) = if failed > 0 {
            let first = self.checks.iter().find(|c| c.status == Status::Fail);
            let first = first.map_or("", |check| check.code.title());
            (
                Verdict::Invalid,
                format!("{first} ({failed} findings in all)"),
            )
        } else if open > 0 {
            let first = self.checks.iter().find(|c| c.status != Status::Pass);
            let first = first.map_or("", |check| check.code.title());
            (
                Verdict::NotProven,
                format!("{first} ({open} open points in all)"),
            )
        } else {
            (
                Verdict::Valid,
                format!("all {} checks passed", self.checks.len()),
            )
        };
        Report {
            verdict,
            checks: self.checks,
            summary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_run_is_never_a_pass() {
        let report = Checks::default().finish();
        assert_eq!(report.checks.len(), Name::ALL.len());
        assert_eq!(report.verdict, Verdict::NotProven);
        assert!(report.checks.iter().all(|c| c.status == Status::Skipped));

        let mut checks = Checks::default();
        for name in Name::ALL.iter().copied() {
            checks.run(name, |_| Some(()));
        }
        assert_eq!(checks.finish().verdict, Verdict::Valid);

        let mut checks = Checks::default();
        checks.ask_for(Name::Consistency);
        for name in Name::ALL.iter().copied() {
            checks.run(name, |_| Some(()));
        }
        assert_eq!(checks.finish().verdict, Verdict::NotProven);

        let mut checks = Checks::default();
        for name in Name::ALL.iter().copied() {
            checks.run(name, |_| (name != Name::Runs).then_some(()));
        }
        assert_eq!(checks.finish().verdict, Verdict::NotProven);
    }

    #[test]
    fn a_failure_outweighs_everything_and_is_never_dropped() {
        let mut checks = Checks::default();
        for name in Name::ALL.iter().copied() {
            checks.run(name, |findings| {
                for _ in 0..3 * MAX_FINDINGS {
                    findings.not_proven(Code::OutcomeUnknown, "/records/1", "x");
                }
                if name == Name::Calls {
                    findings.fail(Code::OutcomeTwice, "/records/2", "y\nz".repeat(1000));
                }
                Some(())
            });
        }
        let report = checks.finish();
        assert_eq!(report.verdict, Verdict::Invalid);
        assert!(report.failed_with(Code::OutcomeTwice));
        let failure = report.first_failure().unwrap();
        assert_eq!(failure.detail.chars().count(), MAX_DETAIL);
        assert!(!failure.detail.contains('\n'));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn nothing_hostile_is_shown() {
        assert_eq!(shown("a\u{1b}[31mb\u{202e}c\n"), "a [31mb c ");
    }

    #[test]
    fn names_are_those_of_the_report() {
        for name in Name::ALL.iter().copied().chain([Name::Consistency]) {
            assert_eq!(
                serde_json::to_string(&name).unwrap(),
                format!("\"{}\"", name.as_str())
            );
        }
    }
}
