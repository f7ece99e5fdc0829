//! `clawgate approvals`: plans that wait for a person.
//!
//! The approver signs here, with a key that never leaves this machine, exactly the subject that
//! was printed. The gateway cannot sign for anybody.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use proof::approval::{Changes, Decision, Judgement, Subject};
use proof::{Envelope, EnvelopeType, SigningKey, Timestamp};
use serde_json::{Value, json};

use super::client::id;
use super::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};
use super::{Failure, OperatorApi, Remote};
use crate::{app, keys};

/// Most changed objects that are printed; the digest covers all of them.
const MAX_CHANGES_SHOWN: usize = 200;

/// Lists, shows and decides about plans that wait for approval.
#[derive(Debug, Subcommand)]
pub(super) enum Approvals {
    /// Lists plans that wait for approval
    #[command(
        after_help = "Examples:\n  clawgate approvals list\n  clawgate approvals list --state applied --json"
    )]
    List {
        /// Only plans in this state
        #[arg(long, default_value = "awaiting_approval", value_parser = state)]
        state: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows what one plan would change, destructive changes first
    #[command(after_help = "Example:\n  clawgate approvals show run-CZcmD7eagjhyX0vN")]
    Show {
        /// The run
        #[arg(value_parser = id)]
        run: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Approves one plan: it is applied by the gateway, once
    #[command(after_help = "\
Example:
  clawgate approvals approve run-CZcmD7eagjhyX0vN --key infra-lead.key

Prints what would change and asks. The signature covers the plan's digest: another plan of the
same run needs another approval.")]
    Approve {
        /// The run
        #[arg(value_parser = id)]
        run: String,
        /// Why, in your words; it is signed
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        remote: Remote,
    },
    /// Denies one plan: it cannot be applied any more
    #[command(after_help = "\
Example:
  clawgate approvals deny run-CZcmD7eagjhyX0vN --key infra-lead.key --reason 'replaces the database'")]
    Deny {
        /// The run
        #[arg(value_parser = id)]
        run: String,
        /// Why, in your words; it is signed and the agent reads it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Who decides.
#[derive(Debug, Args)]
pub(super) struct By {
    /// The approver's key file; it is not sent
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The approver's e-mail address; without it, the one enrolled for the key
    #[arg(long, value_name = "EMAIL")]
    approver: Option<String>,
    /// Do not ask before signing
    #[arg(long)]
    yes: bool,
}

/// An approver at this machine.
pub(super) struct Signer {
    /// The approver's own key.
    pub(super) key: SigningKey,
    /// The address, when it was given.
    pub(super) approver: Option<String>,
    /// Sign without asking.
    pub(super) assume_yes: bool,
}

fn state(text: &str) -> Result<String, String> {
    let states = store::GateState::ALL.map(store::GateState::as_str);
    if text == "all" || states.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("the states are all, {}", states.join(", ")))
}

impl Approvals {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { state, remote } => list(&state, &remote).await,
            Self::Show { run, remote } => {
                let api = remote.connect()?;
                let approval = api.get(&format!("/v1/approvals/{run}")).await?;
                if remote.json {
                    term::print_json(&approval);
                    return Ok(());
                }
                Shown::read(&approval, &run)?.print(&approval);
                Ok(())
            }
            Self::Approve {
                run,
                reason,
                by,
                remote,
            } => decide(&run, Decision::Approve, reason, by, &remote).await,
            Self::Deny {
                run,
                reason,
                by,
                remote,
            } => decide(&run, Decision::Deny, Some(reason), by, &remote).await,
        }
    }
}

async fn list(state: &str, remote: &Remote) -> Result<(), Failure> {
    let query = if state == "all" {
        String::new()
    } else {
        format!("?state={state}")
    };
    let approvals = remote
        .connect()?
        .get(&format!("/v1/approvals{query}"))
        .await?;
    if remote.json {
        term::print_json(&approvals);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = term::items(&approvals)
        .iter()
        .map(|approval| {
            let subject = &approval["subject"];
            vec![
                term::text(approval, "run_id"),
                term::text(approval, "state"),
                term::text(subject, "workspace_id"),
                serde_json::from_value(subject["changes"].clone())
                    .map_or("-".into(), |changes: Changes| in_words(&changes)),
                term::text(approval, "expires_at"),
            ]
        })
        .collect();
    term::print_table(
        &["run", "state", "workspace", "changes", "expires"],
        &rows,
        "nothing waits",
    );
    Ok(())
}

async fn decide(
    run: &str,
    decision: Decision,
    reason: Option<String>,
    by: By,
    remote: &Remote,
) -> Result<(), Failure> {
    let key = keys::read_key(&by.key)?;
    let signer = Signer {
        key,
        approver: by.approver,
        assume_yes: by.yes,
    };
    let api = remote.connect()?;
    let Some(envelope) = sign(&api, run, decision, reason, &signer).await? else {
        return Err(nothing_signed());
    };
    let path = format!("/v1/approvals/{run}");
    let answer = api.post(&path, &json!({ "envelope": envelope })).await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    match (decision, term::text(&answer, "state").as_str()) {
        (Decision::Deny, _) => anstream::println!("{BAD}denied{OFF}: the plan cannot be applied"),
        (Decision::Approve, "awaiting_approval") => anstream::println!(
            "{GOOD}signed{OFF}: {} of {} approvals",
            approvals_so_far(&answer["approvals"]),
            term::text(&answer, "needed")
        ),
        (Decision::Approve, state) => {
            anstream::println!("{GOOD}approved{OFF}: the gateway takes it from here ({state})");
        }
    }
    Ok(())
}

fn approvals_so_far(value: &Value) -> String {
    value
        .as_array()
        .map_or_else(|| value.to_string(), |list| list.len().to_string())
}

/// The approver looked and did not sign.
pub(super) fn nothing_signed() -> Failure {
    Failure::new("nothing was signed")
}

/// Fetches what waits, prints it, asks, and signs exactly what was printed. `None` when the
/// answer to the question was no.
///
/// # Errors
/// When the gateway's answer contradicts itself, or there is nothing to decide.
pub(super) async fn sign(
    api: &OperatorApi,
    run: &str,
    decision: Decision,
    reason: Option<String>,
    signer: &Signer,
) -> Result<Option<Envelope>, Failure> {
    let approval = api.get(&format!("/v1/approvals/{run}")).await?;
    let now = app::now();
    let shown = Shown::read(&approval, run)?;
    shown.check_open(decision, now)?;
    let approver = match &signer.approver {
        Some(email) => email.clone(),
        None => enrolled_for(&api.get("/v1/trust").await?, &signer.key)?,
    };
    shown.print_to_stderr(&approval);
    let verb = match decision {
        Decision::Approve => "Approve",
        Decision::Deny => "Deny",
    };
    let question = format!("{verb} this plan as {}?", term::plain(&approver));
    if !signer.assume_yes && !term::confirm(&question)? {
        return Ok(None);
    }
    Ok(Some(shown.sign(
        decision,
        approver,
        reason,
        &signer.key,
        now,
    )?))
}

/// The address that is enrolled for a key; it must be exactly one.
fn enrolled_for(trust: &Value, key: &SigningKey) -> Result<String, Failure> {
    let did = key.did();
    let emails: Vec<&str> = trust["approvers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|approver| approver["did"] == did.as_str())
        .filter_map(|approver| approver["email"].as_str())
        .collect();
    match emails[..] {
        [email] => Ok(email.to_owned()),
        [] => Err(
            Failure::new(format!("the gateway knows no approver with the key {did}"))
                .next("the operator adds it to clawgate.toml under [[approvers]]"),
        ),
        _ => Err(Failure::usage("this key is enrolled for several approvers")
            .next("say which one with --approver EMAIL")),
    }
}

/// What is printed and what is signed, read from the same answer.
struct Shown {
    subject: Subject,
    state: String,
    expires_at: Timestamp,
    objects: Vec<ChangedObject>,
}

/// One object that the plan would change.
struct ChangedObject {
    action: String,
    address: String,
}

impl Shown {
    /// Reads the gateway's answer; one that contradicts itself is not shown, let alone signed.
    fn read(approval: &Value, run: &str) -> Result<Self, Failure> {
        let odd = |what: &str| {
            Failure::new(format!("the gateway's answer about `{run}` {what}"))
                .next("do not approve it; tell the operator")
        };
        if approval["subject"].is_null() {
            let state = term::text(approval, "state");
            return Err(
                Failure::new(format!("`{run}` has no plan to decide about ({state})"))
                    .next("wait until its plan is inspected: `clawgate approvals list`"),
            );
        }
        let subject: Subject = serde_json::from_value(approval["subject"].clone())
            .map_err(|error| odd(&format!("cannot be read: {error}")))?;
        if subject.run_id != run {
            return Err(odd("is about another run"));
        }
        let expires_at = approval["expires_at"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| odd("does not say until when it holds"))?;
        let objects = changed_objects(&approval["summary"]);
        if !objects.is_empty() && !agrees(&objects, &subject.changes) {
            return Err(odd("lists other changes than it would have you sign"));
        }
        let state = term::text(approval, "state");
        Ok(Self {
            subject,
            state,
            expires_at,
            objects,
        })
    }

    fn check_open(&self, decision: Decision, now: Timestamp) -> Result<(), Failure> {
        let open = match decision {
            Decision::Approve => self.state == "awaiting_approval",
            // A no that comes before the apply must hold.
            Decision::Deny => matches!(self.state.as_str(), "awaiting_approval" | "approved"),
        };
        if !open {
            return Err(
                Failure::new(format!("this plan is not waiting: it is {}", self.state))
                    .next("`clawgate approvals list` shows what waits"),
            );
        }
        if self.expires_at <= now {
            return Err(
                Failure::new(format!("the question lapsed at {}", self.expires_at))
                    .next("a new run has a new plan to approve"),
            );
        }
        Ok(())
    }

    fn lines(&self, approval: &Value) -> Vec<String> {
        let subject = &self.subject;
        let changes = &subject.changes;
        let mut lines = Vec::new();
        let style = if changes.is_destructive() { BAD } else { BOLD };
        lines.push(format!("{style}{}{OFF}", in_words(changes)));
        let shown = self.objects.iter().take(MAX_CHANGES_SHOWN);
        lines.extend(shown.map(|object| {
            let style = if rank(&object.action) < 3 { BAD } else { WARN };
            format!("  {style}{:8}{OFF} {}", object.action, object.address)
        }));
        if self.objects.len() > MAX_CHANGES_SHOWN {
            lines.push(format!(
                "  and {} more",
                self.objects.len() - MAX_CHANGES_SHOWN
            ));
        }
        lines.extend(other_lines(&approval["summary"]));
        let mut fact = |name: &str, value: &str| {
            lines.push(format!("{DIM}{name:14}{OFF} {}", term::plain(value)));
        };
        fact("run", &subject.run_id);
        fact(
            "workspace",
            &format!("{} in {}", subject.workspace_id, subject.organization),
        );
        if let Some(cost) = &subject.cost {
            fact("monthly cost", &format!("{cost} USD more or less"));
        }
        fact("plan digest", &subject.plan_sha256_b64u.to_string());
        fact(
            "configuration",
            &subject.configuration_sha256_b64u.to_string(),
        );
        fact("contract", &subject.policy_hash_b64u.to_string());
        fact("job", subject.job_id.as_str());
        fact("state", &self.state);
        fact("expires", &self.expires_at.to_string());
        fact("approvals", &approvals_line(approval));
        lines
    }

    fn print(&self, approval: &Value) {
        for line in self.lines(approval) {
            anstream::println!("{line}");
        }
    }

    fn print_to_stderr(&self, approval: &Value) {
        for line in self.lines(approval) {
            anstream::eprintln!("{line}");
        }
    }

    fn sign(
        &self,
        decision: Decision,
        approver: String,
        reason: Option<String>,
        key: &SigningKey,
        now: Timestamp,
    ) -> Result<Envelope, Failure> {
        let statement = self.subject.clone().judge(Judgement {
            decision,
            approver,
            approver_did: key.did(),
            issued_at: now,
            expires_at: self.expires_at,
            nonce: keys::random_text(),
            reason,
        });
        Ok(Envelope::sign(
            EnvelopeType::ApprovalStatement,
            &statement,
            key,
            now,
        )?)
    }
}

fn approvals_line(approval: &Value) -> String {
    let given = approval["approvals"].as_array().map_or(0, Vec::len);
    let approvers: Vec<String> = approval["approvers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|approver| approver.as_str().or_else(|| approver["email"].as_str()))
        .map(term::plain)
        .collect();
    let needed = term::text(approval, "min_approvals");
    format!("{given} of {needed}, from {}", approvers.join(", "))
}

/// Changed objects, destructive ones first, from a summary's list `changes` or `resources`.
fn changed_objects(summary: &Value) -> Vec<ChangedObject> {
    let list = ["changes", "resources", "objects"]
        .iter()
        .find_map(|name| summary[*name].as_array())
        .map_or(&[][..], Vec::as_slice);
    let mut objects: Vec<ChangedObject> = list
        .iter()
        .filter(|entry| entry["address"].is_string())
        .map(|entry| ChangedObject {
            action: term::text(entry, "action"),
            address: term::text(entry, "address"),
        })
        .collect();
    objects.sort_by(|a, b| (rank(&a.action), &a.address).cmp(&(rank(&b.action), &b.address)));
    objects
}

/// What the summary says besides the list of changes.
fn other_lines(summary: &Value) -> Vec<String> {
    let texts = |value: &Value| -> Vec<String> {
        match value {
            Value::String(text) => vec![term::plain(text)],
            Value::Array(list) => list
                .iter()
                .filter_map(Value::as_str)
                .map(term::plain)
                .collect(),
            _ => Vec::new(),
        }
    };
    match summary {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| {
                let name = term::plain(name);
                texts(value)
                    .into_iter()
                    .map(move |text| format!("{DIM}{name:14}{OFF} {text}"))
            })
            .collect(),
        other => texts(other),
    }
}

/// Whether a list of changes is what the counts say. `no-op` and `read` are no changes.
fn agrees(objects: &[ChangedObject], changes: &Changes) -> bool {
    let count = |action: &str| {
        let number = objects
            .iter()
            .filter(|object| object.action == action)
            .count();
        u64::try_from(number).unwrap_or(u64::MAX)
    };
    count("create") == changes.create
        && count("update") == changes.update
        && count("delete") == changes.delete
        && count("replace") == changes.replace
        && count("forget") == changes.forget
}

/// Destructive first.
fn rank(action: &str) -> u8 {
    match action {
        "delete" => 0,
        "replace" => 1,
        "forget" => 2,
        "update" => 3,
        "create" => 4,
        "import" => 5,
        _ => 6,
    }
}

/// The counts in words, destructive ones first.
fn in_words(changes: &Changes) -> String {
    let parts: Vec<String> = [
        (changes.delete, "to destroy"),
        (changes.replace, "to replace"),
        (changes.forget, "to forget"),
        (changes.update, "to change"),
        (changes.create, "to create"),
        (changes.import, "to import"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if parts.is_empty() {
        "no changes".to_owned()
    } else {
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use proof::Hash;
    use proof::approval::Statement;

    use super::*;

    fn answer() -> Value {
        let hash = Hash::of(b"x").to_string();
        json!({
            "run_id": "run-1",
            "state": "awaiting_approval",
            "expires_at": "2026-11-22T09:00:00.000Z",
            "min_approvals": 1,
            "approvers": ["a@example.com"],
            "approvals": [],
            "subject": {
                "organization": "acme", "workspace_id": "ws-staging-app", "run_id": "run-1",
                "configuration_version_id": "cv-1", "configuration_sha256_b64u": hash,
                "plan_id": "plan-1", "plan_sha256_b64u": hash, "policy_hash_b64u": hash,
                "job_id": "job_1",
                "changes": {"create": 1, "update": 0, "delete": 1, "replace": 0, "forget": 0, "import": 0},
            },
            "summary": { "changes": [
                {"address": "aws_s3_bucket.new", "action": "create"},
                {"address": "aws_db_instance.main\u{1b}[2J", "action": "delete"},
            ]},
        })
    }

    const NOW: &str = "2026-11-22T08:00:00.000Z";

    #[test]
    fn the_destructive_change_comes_first_and_cannot_paint() {
        let answer = answer();
        let lines = Shown::read(&answer, "run-1")
            .unwrap()
            .lines(&answer)
            .join("\n");
        let text = anstream::adapter::strip_str(&lines).to_string();
        assert!(text.starts_with("1 to destroy, 1 to create"), "{text}");
        assert!(text.find("aws_db_instance").unwrap() < text.find("aws_s3_bucket").unwrap());
        assert!(text.contains("\\u{1b}[2J"), "{text}");
    }

    #[test]
    fn what_is_signed_is_what_was_shown() {
        let answer = answer();
        let key = SigningKey::from_seed(&[3; 32]);
        let shown = Shown::read(&answer, "run-1").unwrap();
        let now: Timestamp = NOW.parse().unwrap();
        shown.check_open(Decision::Approve, now).unwrap();
        let envelope = shown
            .sign(Decision::Approve, "a@example.com".into(), None, &key, now)
            .unwrap();
        let signed = envelope
            .verify::<Statement>(EnvelopeType::ApprovalStatement)
            .unwrap();
        assert_eq!(signed.payload.subject(), shown.subject);
        assert_eq!(signed.payload.approver_did, signed.signer);
        assert_eq!(signed.payload.expires_at, shown.expires_at);
    }

    #[test]
    fn an_answer_that_contradicts_itself_is_not_signed() {
        for (pointer, value) in [
            ("/subject/run_id", json!("run-2")),
            ("/subject/changes/delete", json!(0)),
            ("/subject/plan_sha256_b64u", json!("short")),
            ("/subject/more", json!(1)),
            ("/expires_at", json!(null)),
            ("/subject", json!(null)),
        ] {
            let mut answer = answer();
            match answer.pointer_mut(pointer) {
                Some(place) => *place = value,
                None => answer["subject"]["more"] = value,
            }
            assert!(Shown::read(&answer, "run-1").is_err(), "{pointer}");
        }
    }

    #[test]
    fn only_what_waits_is_decided() {
        let now: Timestamp = NOW.parse().unwrap();
        for (state, at, approve, deny) in [
            ("awaiting_approval", now, true, true),
            ("approved", now, false, true),
            ("applied", now, false, false),
            ("awaiting_approval", now.plus_seconds(3600), false, false),
        ] {
            let mut answer = answer();
            answer["state"] = json!(state);
            let shown = Shown::read(&answer, "run-1").unwrap();
            assert_eq!(
                shown.check_open(Decision::Approve, at).is_ok(),
                approve,
                "{state}"
            );
            assert_eq!(
                shown.check_open(Decision::Deny, at).is_ok(),
                deny,
                "{state}"
            );
        }
    }

    #[test]
    fn the_address_is_the_one_enrolled_for_the_key() {
        let key = SigningKey::from_seed(&[3; 32]);
        let did = key.did();
        let trust = |emails: &[&str]| {
            let approvers: Vec<Value> = emails
                .iter()
                .map(|email| json!({"email": email, "did": did}))
                .collect();
            json!({ "approvers": approvers })
        };
        assert_eq!(
            enrolled_for(&trust(&["a@example.com"]), &key).unwrap(),
            "a@example.com"
        );
        assert!(enrolled_for(&trust(&[]), &key).is_err());
        assert!(enrolled_for(&trust(&["a@example.com", "b@example.com"]), &key).is_err());
    }
}
