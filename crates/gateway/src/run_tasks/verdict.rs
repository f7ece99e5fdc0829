//! What is said to a call: kept, sent to Terraform Cloud, and shown on a page of its own.

use policy::reason::Origin;
use policy::{ReasonCode, Refusal};
use proof::record::JobId;
use proof::{Hash, Json};
use serde::{Deserialize, Serialize};

use super::governing::Governing;

/// Most findings of one verdict; the first ones say enough.
const MAX_FINDINGS: usize = 20;

/// Longest detail of a finding, in characters.
const MAX_DETAIL: usize = 500;

/// What is said to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the run may go on.
    pub passed: bool,
    /// In one sentence.
    pub summary: String,
    /// What was looked at.
    pub checked: Vec<Checked>,
    /// What stands against it.
    pub findings: Vec<Finding>,
    /// The contracts that were asked.
    pub contracts: Vec<Asked>,
    /// The job that the run or its configuration belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// What.
    pub what: String,
    /// What it was.
    pub was: String,
}

/// Something that stands against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub code: ReasonCode,
    /// Where and how it is broken. It may repeat names from the configuration: untrusted.
    pub detail: String,
}

/// A contract that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// Its hash.
    pub policy_hash_b64u: Hash,
}

impl Verdict {
    /// One that nothing stands against so far.
    pub(super) fn passing(summary: impl Into<String>) -> Self {
        Self {
            passed: true,
            summary: summary.into(),
            checked: Vec::new(),
            findings: Vec::new(),
            contracts: Vec::new(),
            job_id: None,
        }
    }

    /// A no for one reason.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        let mut verdict = Self::passing("");
        verdict.find(refusal.code, refusal.detail.clone());
        verdict
    }

    /// The no that is given when nobody could look: upstream or the gateway itself failed.
    pub(super) fn unchecked(why: &Refusal) -> Self {
        let detail = format!("{}: {}", why.code, why.detail);
        Self::refused(&Refusal::new(ReasonCode::RunTaskUnchecked, detail))
    }

    /// Notes what was looked at.
    pub(super) fn check(&mut self, what: &str, was: impl Into<String>) {
        self.checked.push(Checked {
            what: what.to_owned(),
            was: was.into().chars().take(MAX_DETAIL).collect(),
        });
    }

    /// Notes whose rules were asked.
    pub(super) fn ask(&mut self, governing: &Governing) {
        self.contracts.push(Asked {
            name: governing.contract.contract.name.clone(),
            policy_hash_b64u: governing.contract.hash,
        });
        self.job_id = self.job_id.take().or_else(|| governing.job_id.clone());
    }

    /// Notes what stands against it, which makes it a no. The same twice is once.
    pub(super) fn find(&mut self, code: ReasonCode, detail: impl AsRef<str>) {
        let finding = Finding {
            code,
            detail: detail.as_ref().chars().take(MAX_DETAIL).collect(),
        };
        if self.passed {
            self.passed = false;
            self.summary = format!("{} ({code}): {}", code.title(), finding.detail);
        }
        if self.findings.len() < MAX_FINDINGS && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// As the store keeps it.
    pub(super) fn to_json(&self) -> Json {
        Json::from_value(self).expect("texts, lists and booleans are JSON")
    }
}

/// Whether a refusal says something about the run, and not that nobody could look.
pub(super) fn is_answer(refusal: &Refusal) -> bool {
    matches!(refusal.code.origin(), Origin::Policy | Origin::Token)
        || refusal.code == ReasonCode::UpstreamNotFound
}
