//! What happens in a job, told line by line as it is recorded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proof::record::{Body, Ended, Intent, JobId, Lane, Outcome, Record};
use serde_json::Value;
use tokio::sync::oneshot;

use super::super::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};
use super::super::{Failure, OperatorApi};
use crate::activity::destination;
use crate::trust_pulse::story::is_change;

/// Shortest time between two looks: changes may come by the hundred in a second.
const PACE: Duration = Duration::from_millis(250);

/// How long to wait before a gateway that cannot be reached is asked again.
const RETRY: Duration = Duration::from_secs(2);

/// Records that are read at a time.
const PAGE: u32 = 500;

/// Most destinations of which the first connection is told.
const PLACES: usize = 200;

/// Prints a line of ours, beside what the command prints.
pub(super) fn say(line: &str) {
    anstream::eprintln!("{DIM}clawgate{OFF}  {line}");
}

/// What is known of a job, and what was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Place of the last record that was read.
    after: u64,
    /// The change counter of the gateway that was seen last.
    revision: Option<u64>,
    /// Calls that have begun.
    open: HashMap<u64, Intent>,
    /// Runs of which it was told that they wait for somebody.
    waiting: HashSet<String>,
    /// Destinations of which it was told that they are connected to.
    places: HashSet<String>,
    /// Whether it was told that the gateway does not answer.
    lost: bool,
    /// Model calls and Terraform calls that have ended, refusals, applies, tokens.
    pub(super) sums: Sums,
    /// Say nothing.
    quiet: bool,
    /// Where the page of a plan stands.
    operator_url: String,
}

/// What a job came to.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Sums {
    pub(super) model_calls: u64,
    pub(super) terraform_calls: u64,
    pub(super) connections: u64,
    pub(super) refused: u64,
    pub(super) applied: u64,
    pub(super) tokens: u64,
}

impl Told {
    pub(super) fn new(operator_url: String, quiet: bool) -> Self {
        Self {
            quiet,
            operator_url,
            ..Self::default()
        }
    }

    /// Tells until it is stopped.
    pub(super) async fn follow(
        mut self,
        api: Arc<OperatorApi>,
        job: JobId,
        mut stop: oneshot::Receiver<()>,
    ) -> Self {
        loop {
            tokio::select! {
                _ = &mut stop => return self,
                () = self.step(&api, &job) => {}
            }
        }
    }

    async fn step(&mut self, api: &OperatorApi, job: &JobId) {
        let after = self.revision.map(|revision| format!("&after={revision}"));
        let top = format!("/v1/top?job={job}{}", after.unwrap_or_default());
        let looked = async {
            let top = api.get(&top).await?;
            self.look(api, job).await?;
            self.revision = top["revision"].as_u64();
            Ok::<_, Failure>(())
        };
        match looked.await {
            Ok(()) => {
                if std::mem::take(&mut self.lost) {
                    self.line("the gateway answers again");
                }
                tokio::time::sleep(PACE).await;
            }
            Err(failure) => {
                if !std::mem::replace(&mut self.lost, true) {
                    self.line(&format!("{WARN}cannot follow{OFF}: {failure}"));
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Reads what is new, and tells it.
    pub(super) async fn look(&mut self, api: &OperatorApi, job: &JobId) -> Result<(), Failure> {
        loop {
            let path = format!("/v1/jobs/{job}/records?after={}&limit={PAGE}", self.after);
            let page = api.get(&path).await?;
            let records = page["records"].as_array().map_or(&[][..], Vec::as_slice);
            for stored in records {
                let record: Record = serde_json::from_value(stored["record"].clone())
                    .map_err(|_| Failure::new("the gateway sent a record that cannot be read"))?;
                self.after = record.seq;
                if let Some(line) = self.record(record) {
                    self.line(&line);
                }
            }
            if records.len() < PAGE as usize {
                break;
            }
        }
        let runs = api.get(&format!("/v1/jobs/{job}/runs")).await?;
        for run in term::items(&runs) {
            self.run(run);
        }
        Ok(())
    }

    fn line(&self, line: &str) {
        if !self.quiet {
            say(line);
        }
    }

    fn run(&mut self, run: &Value) {
        let waits = run["gate"] == "awaiting_approval";
        let id = term::text(run, "run_id");
        if waits && self.waiting.insert(id.clone()) {
            let url = &self.operator_url;
            self.line(&format!(
                "{WARN}waiting{OFF}    {BOLD}{id}{OFF} for an approver: {url}/approvals/{id}"
            ));
        }
    }

    /// The line that a record is worth, if it is worth one.
    fn record(&mut self, record: Record) -> Option<String> {
        match record.body {
            Body::Intent(intent) => {
                self.open.insert(record.seq, *intent);
                None
            }
            Body::Outcome(outcome) => {
                let intent = self.open.remove(&outcome.intent_seq)?;
                self.sums.count(&intent, &outcome);
                let new_place = destination(&intent)
                    .is_some_and(|to| self.places.len() < PLACES && self.places.insert(to));
                let cut = intent.lane == Lane::Egress && outcome.code.is_some();
                (new_place || cut || is_worth_a_line(&intent)).then(|| call(&intent, &outcome))
            }
            Body::Refusal(refusal) => {
                self.sums.refused += 1;
                let why = refusal.reasons.first().map(|why| term::plain(why));
                Some(format!(
                    "{BAD}refused{OFF}    {}  {}  {DIM}{}{OFF}",
                    term::plain(&refusal.asked),
                    refusal.code,
                    why.unwrap_or_default()
                ))
            }
            Body::Approval(approval) => {
                let word = match approval.decision {
                    proof::approval::Decision::Approve => format!("{GOOD}approved{OFF} "),
                    proof::approval::Decision::Deny => format!("{BAD}denied{OFF}   "),
                };
                let by = term::plain(&approval.approver);
                Some(format!("{word}  {} by {by}", term::plain(&approval.run_id)))
            }
            Body::Revocation(revocation) => Some(format!(
                "{BAD}revoked{OFF}    a token, by {}: {}",
                term::plain(&revocation.revoked_by),
                term::plain(&revocation.reason)
            )),
            Body::JobOpen(_) | Body::JobClose(_) => None,
        }
    }
}

impl Sums {
    fn count(&mut self, intent: &Intent, outcome: &Outcome) {
        match intent.lane {
            Lane::Model => self.model_calls += 1,
            Lane::Terraform => self.terraform_calls += 1,
            Lane::Gateway if intent.operation == "apply-run" => self.applied += 1,
            Lane::Gateway => {}
            Lane::Egress => self.connections += 1,
        }
        let usage = outcome
            .usage
            .map(|usage| usage.tokens_input + usage.tokens_output);
        self.tokens += usage.unwrap_or(0);
    }
}

/// Clients of Terraform ask how a run stands many times a minute: only what changes something is
/// told, and what a model was asked.
fn is_worth_a_line(intent: &Intent) -> bool {
    intent.lane == Lane::Model || is_change(intent)
}

fn call(intent: &Intent, outcome: &Outcome) -> String {
    let lane = match intent.lane {
        Lane::Model => "model     ",
        Lane::Terraform => "terraform ",
        Lane::Gateway => "gateway   ",
        Lane::Egress => "egress    ",
    };
    let mut line = format!("{lane} {}", term::plain(&intent.operation));
    let destination = destination(intent);
    let about = match intent.lane {
        Lane::Model => intent.input.at(&["model"]).and_then(proof::Json::as_str),
        Lane::Egress => destination.as_deref(),
        Lane::Terraform | Lane::Gateway => {
            intent.run_id.as_deref().or(outcome.object_id.as_deref())
        }
    };
    if let Some(about) = about {
        line.push_str(&format!("  {}", term::plain(about)));
    }
    let good = outcome.ended == Ended::Complete && outcome.code.is_none();
    match (outcome.status, good) {
        (Some(status), true) if status < 400 => {}
        (Some(status), _) => line.push_str(&format!("  {BAD}{status}{OFF}")),
        (None, _) => line.push_str(&format!("  {BAD}no answer{OFF}")),
    }
    if let Some(code) = &outcome.code {
        line.push_str(&format!("  {BAD}{}{OFF}", term::plain(code)));
    }
    line.push_str(&format!("  {DIM}{}", milliseconds(outcome.latency_ms)));
    if let Some(usage) = outcome.usage {
        let tokens = usage.tokens_input + usage.tokens_output;
        line.push_str(&format!(", {tokens} tokens"));
    }
    for tool in outcome.tool_calls.iter().take(3) {
        line.push_str(&format!(", asks for {}", term::plain(&tool.name)));
    }
    line.push_str(&OFF.to_string());
    line
}

fn milliseconds(value: u64) -> String {
    match value {
        0..1000 => format!("{value} ms"),
        _ => format!("{}.{} s", value / 1000, value % 1000 / 100),
    }
}

#[cfg(test)]
mod tests {
    use proof::record::{Caller, Refusal, Usage};
    use proof::{Hash, Json, SigningKey, Timestamp};

    use super::*;

    fn record(seq: u64, body: Body) -> Record {
        Record {
            job_id: "job_1".parse().unwrap(),
            seq,
            at: Timestamp::from_millis(0),
            body,
        }
    }

    fn caller() -> Caller {
        Caller {
            token_hash: "0".repeat(64),
            agent_did: SigningKey::from_seed(&[1; 32]).did(),
            holder: "127.0.0.1".to_owned(),
        }
    }

    fn intent(lane: Lane, operation: &str) -> Body {
        let mut input = Json::object();
        input.set("model", "gpt-5\u{1b}[2J");
        Body::Intent(Box::new(Intent {
            caller: caller(),
            lane,
            operation: operation.to_owned(),
            run_id: None,
            input,
            decision: Json::Null,
            policy_hash_b64u: Hash::of(b""),
            request_hash_b64u: Hash::of(b""),
            trace_id: None,
            caused_by: None,
        }))
    }

    fn outcome(intent_seq: u64, status: u16) -> Body {
        Body::Outcome(Box::new(Outcome {
            intent_seq,
            status: Some(status),
            upstream_status: Some(status),
            response_hash_b64u: Hash::of(b""),
            response_bytes: 0,
            latency_ms: 1250,
            first_byte_ms: None,
            usage: Some(Usage {
                tokens_input: 10,
                tokens_output: 5,
                derived: false,
            }),
            tool_calls: Vec::new(),
            object_id: Some("run-1".to_owned()),
            egress: None,
            ended: Ended::Complete,
            code: None,
            receipt: None,
        }))
    }

    #[test]
    fn changes_and_model_calls_are_told_and_reads_are_counted() {
        let mut told = Told::new("http://127.0.0.1:1".to_owned(), true);
        for (seq, lane, operation, expected) in [
            (1, Lane::Model, "chat-completions", Some("model")),
            (3, Lane::Terraform, "create-run", Some("run-1")),
            (5, Lane::Terraform, "read-run", None),
            (7, Lane::Gateway, "apply-run", Some("gateway")),
        ] {
            assert_eq!(told.record(record(seq, intent(lane, operation))), None);
            let line = told.record(record(seq + 1, outcome(seq, 200)));
            assert_eq!(line.is_some(), expected.is_some(), "{operation}: {line:?}");
            let line = line.unwrap_or_default();
            assert!(line.contains(expected.unwrap_or_default()), "{line}");
            assert!(!line.contains("\u{1b}[2J"), "foreign text: {line}");
        }
        let refusal = Refusal {
            caller: caller(),
            lane: Lane::Terraform,
            asked: "create-run".to_owned(),
            target_hash_b64u: Hash::of(b""),
            code: "WORKSPACE_NOT_ALLOWED".to_owned(),
            reasons: vec!["not yours".to_owned()],
            run_id: None,
            input: None,
            policy_hash_b64u: Hash::of(b""),
        };
        let line = told
            .record(record(9, Body::Refusal(Box::new(refusal))))
            .unwrap();
        assert!(line.contains("WORKSPACE_NOT_ALLOWED") && line.contains("not yours"));
        let sums = Sums {
            model_calls: 1,
            terraform_calls: 2,
            connections: 0,
            refused: 1,
            applied: 1,
            tokens: 60,
        };
        assert_eq!(told.sums, sums);
    }
}
