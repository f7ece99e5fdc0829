//! What an approver is shown, and signs: both are read from the same answer.

use proof::approval::{Decision, Judgement, Subject};
use proof::{Envelope, EnvelopeType, SigningKey, Timestamp};
use serde_json::Value;

use super::super::Failure;
use super::super::term::{self, BAD, BOLD, DIM, OFF, WARN};
use super::around;
use crate::approvals::question::{self, Attribute, Object, Side, agrees, in_words};
use crate::keys;

/// Most changed objects that are printed; the digest covers all of them.
const MAX_OBJECTS: usize = 200;

/// Most attributes that are printed of one object.
const MAX_ATTRIBUTES: usize = 12;

/// Longest value that is printed, in characters.
const MAX_VALUE: usize = 80;

/// What is printed and what is signed, read from the same answer.
pub(super) struct Shown {
    subject: Subject,
    state: String,
    expires_at: Timestamp,
    objects: Vec<Object>,
}

/// What changes in an object, one line each.
fn attributes(object: &Object) -> Vec<String> {
    let all = &object.attributes;
    let mut lines: Vec<String> = all.iter().take(MAX_ATTRIBUTES).map(attribute).collect();
    let more = all.len().saturating_sub(MAX_ATTRIBUTES) as u64 + object.left_out;
    if more > 0 {
        lines.push(format!("and {more} more places"));
    }
    if object.not_compared > 0 {
        lines.push(format!(
            "{} parts are not compared: the plan has too many places",
            object.not_compared
        ));
    }
    if object.cut {
        lines.push("what changes inside is not kept: the plan is too large".to_owned());
    }
    lines
}

/// `name: before -> after`
fn attribute(attribute: &Attribute) -> String {
    let (before, after) = (&attribute.before, &attribute.after);
    let heads = question::heads(before, after, MAX_VALUE);
    let [before, after] = [before, after].map(Side::word);
    let [old, new] = heads.map(|text| text.map(|text| term::plain(&text)));
    let forces = if attribute.forces_replacement {
        "  (forces replacement)"
    } else {
        ""
    };
    let name = term::plain(&attribute.name);
    let word = |text: Option<String>, word: Option<&str>| {
        text.unwrap_or_else(|| word.unwrap_or_default().to_owned())
    };
    format!(
        "{name}: {} -> {}{forces}",
        word(old, before),
        word(new, after)
    )
}

impl Shown {
    /// Reads the gateway's answer; one that contradicts itself is not shown, let alone signed.
    pub(super) fn read(approval: &Value, run: &str) -> Result<Self, Failure> {
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
        let summary = &approval["summary"];
        let objects = changed_objects(summary);
        // A list that is cut cannot be counted; the counts that are signed are always whole.
        if summary["listed"] == true && !agrees(&objects, &subject.changes) {
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

    pub(super) fn check_open(&self, decision: Decision, now: Timestamp) -> Result<(), Failure> {
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
        let shown = self.objects.iter().take(MAX_OBJECTS);
        for object in shown {
            let style = if object.is_destructive() { BAD } else { WARN };
            let (action, address) = (term::plain(&object.action()), term::plain(&object.address));
            lines.push(format!("  {style}{action:8}{OFF} {address}"));
            let attributes = attributes(object).into_iter();
            lines.extend(attributes.map(|line| format!("{:11}{DIM}{line}{OFF}", "")));
        }
        if self.objects.len() > MAX_OBJECTS {
            lines.push(format!("  and {} more", self.objects.len() - MAX_OBJECTS));
        } else if approval["summary"]["listed"] == false {
            lines.push("  and more, which the gateway does not list".to_owned());
        }
        lines.extend(around::lines(approval));
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

    pub(super) fn print(&self, approval: &Value) {
        for line in self.lines(approval) {
            anstream::println!("{line}");
        }
    }

    pub(super) fn print_to_stderr(&self, approval: &Value) {
        for line in self.lines(approval) {
            anstream::eprintln!("{line}");
        }
    }

    pub(super) fn sign(
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
            approver_did: key.did().into(),
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
    let opener = match approval["not_by"].as_str() {
        Some(address) => format!("; not by {}, who opened the job", term::plain(address)),
        None => String::new(),
    };
    format!("{given} of {needed}, from {}{opener}", approvers.join(", "))
}

/// Changed objects, destructive ones first.
fn changed_objects(summary: &Value) -> Vec<Object> {
    let list = summary["resources"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let mut objects: Vec<Object> = list.iter().filter_map(Object::read).collect();
    objects.sort_by(|a, b| (a.rank(), &a.address).cmp(&(b.rank(), &b.address)));
    objects
}

#[cfg(test)]
mod tests {
    use proof::Hash;
    use proof::approval::Statement;
    use serde_json::json;

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
            "summary": { "listed": true, "resources": [
                {"address": "aws_s3_bucket.new", "actions": ["create"], "diff": [
                    {"name": "bucket", "before": "absent", "after": {"value": "\"assets\""}},
                    {"name": "password", "before": "sensitive", "after": "unknown",
                     "forces_replacement": true},
                ]},
                {"address": "aws_db_instance.main\u{1b}[2J", "actions": ["delete"], "diff": []},
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
        assert!(text.contains("bucket: nothing -> \"assets\""), "{text}");
        assert!(
            text.contains("password: a secret -> known after apply  (forces"),
            "{text}"
        );
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
            ("/summary/resources/0/actions", json!(["create", "delete"])),
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
}
