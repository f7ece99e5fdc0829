//! What people are told, before any channel has put it into its own form.
//!
//! Everything here is ours, or a name that was made harmless. Values of attributes, what the agent
//! wrote, and whatever could be a secret never come in: a notice leaves the house.

use std::fmt::Display;

use policy::ReasonCode;
use proof::Timestamp;
use proof::approval::{Changes, Decision, Statement};
use serde_json::{Value, json};
use store::{GateState, JobRow, RunRow, StatementRow, StoreError};

use crate::app::App;
use crate::approvals::question::verdict;
use crate::clawcontrols;
use crate::pages::words::{Moment, Quoted};

/// One thing to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What happened, by its stable name.
    pub event: &'static str,
    /// The run; a test has none.
    pub run_id: Option<String>,
    /// When it happened.
    pub at: Timestamp,
    /// What happened, in a few words.
    pub headline: String,
    /// What the plan does; empty when there is none.
    pub verdict: String,
    /// The plan destroys, replaces or lets go.
    pub destructive: bool,
    /// Where it would be, or is, applied; empty for a test.
    pub place: String,
    /// What else is worth knowing, name by name.
    pub facts: Vec<(&'static str, String)>,
    /// Where to look and decide.
    pub link: String,
    /// The same for programs.
    pub data: Value,
}

/// Longest list of people in a fact.
const MAX_PEOPLE: usize = 20;

impl Message {
    /// What there is to tell of a run as it stands.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn of_run(app: &App, run: &RunRow) -> Result<Self, StoreError> {
        let store = &*app.store;
        let job = store.job(&run.job_id).await?;
        let job = job.ok_or_else(|| StoreError::Corrupt("a run without a job".to_owned()))?;
        let contract = clawcontrols::contract(app, &job.policy_hash).await?;
        let terms = contract.as_ref().map(|live| {
            let apply = &live.contract.permissions.apply;
            let approvers = apply.approvers.iter().map(|email| email.to_string());
            Terms {
                contract: live.contract.name.clone(),
                approvers: approvers.collect(),
                needed: apply.min_approvals,
            }
        });
        let known = Known {
            run,
            job: &job,
            terms: &terms.unwrap_or_default(),
            statements: &store.statements(&run.run_id).await?,
            gateway: &app.config.gateway_id,
            operator_url: &app.operator_url,
        };
        Ok(known.message())
    }

    /// What is sent when somebody tries a channel.
    pub fn test(app: &App, channel: &str) -> Self {
        let gateway = &app.config.gateway_id;
        Self {
            event: "test",
            run_id: None,
            at: app.now(),
            headline: format!("A test of the notice channel {channel}: nothing waits"),
            verdict: String::new(),
            destructive: false,
            place: String::new(),
            facts: vec![("Gateway", gateway.clone())],
            link: format!("{}/approvals/", app.operator_url),
            data: json!({ "gateway": gateway, "channel": channel }),
        }
    }
}

/// What the contract says about approvals.
#[derive(Debug, Default)]
struct Terms {
    contract: String,
    approvers: Vec<String>,
    needed: u32,
}

/// Everything that a message is made of.
struct Known<'a> {
    run: &'a RunRow,
    job: &'a JobRow,
    terms: &'a Terms,
    statements: &'a [StatementRow],
    gateway: &'a str,
    operator_url: &'a str,
}

impl Known<'_> {
    fn message(&self) -> Message {
        let run = self.run;
        let changes = run.changes.unwrap_or_default();
        let verdict = run.changes.as_ref().map(verdict).unwrap_or_default();
        let place = format!(
            "{} / {}",
            harmless(&run.organization),
            harmless(&run.workspace_id)
        );
        let link = format!("{}/approvals/{}", self.operator_url, run.run_id);
        Message {
            event: run.gate.as_str(),
            run_id: Some(run.run_id.clone()),
            at: run.updated_at,
            headline: self.headline(),
            destructive: changes.is_destructive(),
            facts: self.facts(&place),
            data: self.data(&changes, &verdict, &link),
            verdict,
            place,
            link,
        }
    }

    fn headline(&self) -> String {
        let by = |what: &str, people: &[String]| match people {
            [] => what.to_owned(),
            people => format!("{what} by {}", people.join(", ")),
        };
        match self.run.gate {
            GateState::AwaitingApproval => "Approval wanted".to_owned(),
            GateState::Denied => by("Denied", &self.people(Decision::Deny)),
            GateState::Expired => "Nobody decided in time".to_owned(),
            GateState::Superseded => "Overtaken by a change".to_owned(),
            GateState::Discarded if !self.codes().is_empty() => {
                "Discarded: the contract does not allow it".to_owned()
            }
            GateState::Discarded => by("Discarded", self.discarded_by().as_slice()),
            GateState::Applied => by("Applied, approved", &self.people(Decision::Approve)),
            GateState::Errored if self.run.subject.is_none() => "The plan failed".to_owned(),
            GateState::Errored => "The apply failed".to_owned(),
            other => format!("The run is {}", other.as_str()),
        }
    }

    fn facts(&self, place: &str) -> Vec<(&'static str, String)> {
        let run = self.run;
        let mut facts = vec![("Workspace", place.to_owned())];
        if let Some(cost) = self.cost() {
            facts.push(("Monthly cost", format!("{cost} USD more or less")));
        }
        facts.push((
            "Job",
            format!("{} ({})", harmless(&self.job.name), self.job.job_id),
        ));
        facts.push(("Agent", self.job.agent_did.to_string()));
        facts.push(("Run", harmless(&run.run_id)));
        if run.gate == GateState::AwaitingApproval {
            let given = self.people(Decision::Approve).len();
            let needed = self.terms.needed;
            let from = self.approvers().join(", ");
            facts.push(("Approvals", format!("{given} of {needed}, from {from}")));
            if let Some(until) = run.approval_expires_at {
                facts.push(("Until", Moment::from(until).to_string()));
            }
        }
        let why: Vec<String> = self.codes().iter().map(ReasonCode::to_string).collect();
        if !why.is_empty() {
            facts.push(("Why", why.join(", ")));
        }
        if let Some(reason) = self.reason() {
            facts.push(("Reason given", reason));
        }
        facts.push(("Gateway", self.gateway.to_owned()));
        facts
    }

    fn data(&self, changes: &Changes, verdict: &str, link: &str) -> Value {
        let run = self.run;
        json!({
            "gateway": self.gateway,
            "run_id": harmless(&run.run_id),
            "state": run.gate.as_str(),
            "headline": self.headline(),
            "verdict": verdict,
            "organization": harmless(&run.organization),
            "workspace_id": harmless(&run.workspace_id),
            "changes": run.changes,
            "destructive": changes.is_destructive(),
            "monthly_cost_usd": self.cost(),
            "job_id": self.job.job_id,
            "job_name": harmless(&self.job.name),
            "agent_did": self.job.agent_did,
            "contract": harmless(&self.terms.contract),
            "approvers": self.approvers(),
            "approvals_needed": self.terms.needed,
            "approved_by": self.people(Decision::Approve),
            "denied_by": self.people(Decision::Deny),
            "discarded_by": self.discarded_by(),
            "reason": self.reason(),
            "codes": self.codes(),
            "expires_at": match run.gate {
                GateState::AwaitingApproval => run.approval_expires_at,
                _ => None,
            },
            "url": link,
        })
    }

    fn cost(&self) -> Option<String> {
        let cost = self.run.subject.as_ref()?.cost.as_deref()?;
        Some(harmless(cost))
    }

    fn approvers(&self) -> Vec<String> {
        let approvers = self.terms.approvers.iter();
        approvers.take(MAX_PEOPLE).map(harmless).collect()
    }

    /// Who said so in time.
    fn people(&self, decision: Decision) -> Vec<String> {
        let said = |row: &&StatementRow| row.counted && row.decision == decision;
        let people = self.statements.iter().filter(said).take(MAX_PEOPLE);
        people.map(|row| harmless(&row.approver)).collect()
    }

    /// The reason of whoever denied it: a person's words, which the agent reads too.
    fn reason(&self) -> Option<String> {
        if self.run.gate != GateState::Denied {
            return None;
        }
        let denial = self.statements.iter();
        let mut denial = denial.filter(|row| row.counted && row.decision == Decision::Deny);
        // It was verified before it was kept.
        let payload = &denial.next()?.envelope.payload;
        let statement: Statement = payload.to_typed().ok()?;
        statement.reason.as_deref().map(harmless)
    }

    /// Which rules were broken. What the gate wrote beside the codes may quote the plan, and stays
    /// where people have to sign in.
    fn codes(&self) -> Vec<ReasonCode> {
        let reason = self.run.gate_reason.as_deref().unwrap_or_default();
        let words = reason.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        let mut codes: Vec<ReasonCode> = words.filter_map(code).collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// Which operator threw the plan away.
    fn discarded_by(&self) -> Option<String> {
        let reason = self.run.gate_reason.as_deref()?;
        if self.run.gate != GateState::Discarded {
            return None;
        }
        if reason.ends_with(" by the agent") {
            return Some("the agent".to_owned());
        }
        let (by, _) = reason.strip_prefix("discarded by ")?.split_once(':')?;
        Some(harmless(by))
    }
}

fn code(word: &str) -> Option<ReasonCode> {
    let mut all = ReasonCode::ALL.iter();
    all.find(|code| code.as_str() == word).copied()
}

/// A name from elsewhere, on one line, cut, without characters that change how the text around it
/// looks.
fn harmless(text: impl Display) -> String {
    Quoted::new(&text.to_string(), "").text
}

#[cfg(test)]
mod tests;
