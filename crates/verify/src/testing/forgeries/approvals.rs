//! Lies about contracts, approvals, applies and runs.

pub(super) mod passkeys;

use crate::Code;
use crate::testing::{APPROVER, Step, Story, start};
use proof::approval::{Decision, SignedStatement, Statement};
use proof::record::{ApprovalVia, Body, Lane};
use proof::trust::Approver;
use proof::{Envelope, Hash};

use super::{Forgery, foreign, forgery, resign, set};

fn is_approval(body: &Body) -> bool {
    matches!(body, Body::Approval(_))
}

/// Replaces the approval by one that was edited before it was signed.
pub(super) fn approved_otherwise(story: &mut Story, edit: impl Fn(&mut Statement)) {
    let place = story.position(is_approval);
    let mut statement: Statement = story.approvals.remove(0).payload.to_typed().unwrap();
    edit(&mut statement);
    let key = story.keys.approver.clone();
    story.steps[place].body = story.approve(&statement, &key);
}

/// Adds a second statement after the first.
fn approved_again(story: &mut Story, edit: impl Fn(&mut Statement)) {
    let place = story.position(is_approval);
    let mut statement: Statement = story.approvals[0].payload.to_typed().unwrap();
    "nonce-2".clone_into(&mut statement.nonce);
    edit(&mut statement);
    let key = story.keys.approver.clone();
    let body = story.approve(&statement, &key);
    story.steps.insert(place + 1, Step { after_ms: 1, body });
}

/// Lets somebody else open the job.
fn opened_by(story: &mut Story, email: Option<&str>) {
    let Body::JobOpen(open) = &mut story.steps[0].body else {
        panic!("a job begins with its opening")
    };
    open.opened_by_email = email.map(str::to_owned);
}

fn apply_rule(story: &mut Story, name: &str, value: serde_json::Value) {
    let old = story.policy_hash();
    story.contract["permissions"]["apply"][name] = value;
    if old != story.policy_hash() && !story.approvals.is_empty() {
        let hash = story.policy_hash();
        approved_otherwise(story, |s| s.policy_hash_b64u = hash);
    }
}

pub(super) fn all() -> Vec<Forgery> {
    [
        contracts(),
        statements(),
        passkeys::all(),
        applies(),
        runs(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A statement by a key file in its envelope, to be signed again.
fn as_envelope(signed: &SignedStatement) -> Envelope {
    Envelope::parse(&serde_json::to_vec(signed).unwrap()).unwrap()
}

fn contracts() -> Vec<Forgery> {
    vec![
        forgery("another author", Code::AuthorUnknown).story(|s| s.keys.author = foreign().author),
        forgery("a contract with an unknown member", Code::ContractInvalid).story(|s| {
            s.contract["permissions"]["aply"] = true.into();
            let hash = s.policy_hash();
            approved_otherwise(s, |statement| statement.policy_hash_b64u = hash);
        }),
        forgery("a contract after the fact", Code::PolicyHashMismatch).evidence(|e| {
            resign(&mut e.wpc, &super::keys().author, |payload| {
                payload.set("description", "kinder");
            });
        }),
    ]
}

fn statements() -> Vec<Forgery> {
    vec![
        forgery("another approver's key", Code::ApproverUnknown).story(|s| {
            s.keys.approver = foreign().approver;
            let did = s.keys.approver.did();
            approved_otherwise(s, |statement| statement.approver_did = did.clone().into());
        }),
        forgery("signed by another than it says", Code::EnvelopeMismatch).story(|s| {
            s.keys.approver = foreign().approver;
            approved_otherwise(s, |_| ());
        }),
        forgery("an approver of other contracts", Code::ApproverNotAllowed)
            .story(|s| {
                approved_otherwise(s, |statement| {
                    "intern@example.com".clone_into(&mut statement.approver);
                });
            })
            .trust(|trust| {
                let did = trust.approvers[0].did.clone();
                trust.approvers.push(Approver {
                    email: "intern@example.com".into(),
                    did,
                });
            }),
        forgery("by whoever opened the job", Code::ApproverOpenedJob)
            .story(|s| opened_by(s, Some("Infra-Lead+jobs@Example.com"))),
        forgery("by the opener under another name", Code::ApproverOpenedJob).trust(|trust| {
            let did = trust.approvers[0].did.clone();
            trust.approvers.push(Approver {
                email: "ops@example.com".into(),
                did,
            });
        }),
        forgery("for another plan", Code::ApprovalMismatch)
            .story(|s| approved_otherwise(s, |a| a.plan_sha256_b64u = Hash::of(b"other plan"))),
        forgery("for another run", Code::ApprovalMismatch)
            .story(|s| approved_otherwise(s, |a| a.run_id = "run-other".into())),
        forgery("for another workspace", Code::ApprovalMismatch)
            .story(|s| approved_otherwise(s, |a| a.workspace_id = "ws-staging-db".into())),
        forgery("for another configuration", Code::ApprovalMismatch).story(|s| {
            approved_otherwise(s, |a| a.configuration_sha256_b64u = Hash::of(b"other"));
        }),
        forgery("for fewer changes", Code::ApprovalMismatch)
            .story(|s| approved_otherwise(s, |a| a.changes.update = 1)),
        forgery("for another organization", Code::ApprovalMismatch).story(|s| {
            s.contract["permissions"]["organization"] = "acme".into();
            let hash = s.policy_hash();
            approved_otherwise(s, |a| {
                a.policy_hash_b64u = hash;
                a.organization = "evil".into();
            });
        }),
        forgery("for another job", Code::JobMismatch)
            .story(|s| approved_otherwise(s, |a| a.job_id = "job_2".parse().unwrap())),
        forgery("under another contract", Code::PolicyHashMismatch)
            .story(|s| approved_otherwise(s, |a| a.policy_hash_b64u = Hash::of(b"other"))),
        forgery("good for too long", Code::ApprovalExpired)
            .story(|s| approved_otherwise(s, |a| a.expires_at = a.expires_at.plus_seconds(9000))),
        forgery("expired before it was recorded", Code::ApprovalExpired)
            .story(|s| approved_otherwise(s, |a| a.expires_at = a.issued_at.plus_seconds(0))),
        forgery("signed long after it was recorded", Code::TimeBackwards)
            .story(|s| approved_otherwise(s, |a| a.issued_at = a.issued_at.plus_seconds(900))),
        forgery("a nonce twice", Code::ApprovalReused).story(|s| {
            approved_again(s, |a| {
                a.nonce = "nonce-1".into();
                a.reason = Some("again".into());
            })
        }),
        forgery("a statement recorded twice", Code::ApprovalReused).story(|s| {
            let place = s.position(is_approval);
            let step = s.steps[place].clone();
            s.steps.insert(place, step);
        }),
        forgery(
            "a denial called an approval in the record",
            Code::ApprovalUnrecorded,
        )
        .story(|s| {
            approved_otherwise(s, |a| a.decision = Decision::Deny);
            let place = s.position(is_approval);
            if let Body::Approval(record) = &mut s.steps[place].body {
                record.decision = Decision::Approve;
            }
        }),
        forgery("a denial turned into an approval", Code::SignatureInvalid)
            .story(|s| approved_otherwise(s, |a| a.decision = Decision::Deny))
            .evidence(|e| e.approvals[0].payload.set("decision", "approve")),
        forgery("a statement without a record", Code::ApprovalUnrecorded).story(|s| {
            let place = s.position(is_approval);
            s.steps.remove(place);
        }),
        forgery("a record without a statement", Code::ApprovalUnrecorded)
            .story(|s| s.approvals.clear()),
        forgery(
            "an elevated token that was never minted",
            Code::ApprovalMismatch,
        )
        .story(|s| {
            let place = s.position(is_approval);
            if let Body::Approval(record) = &mut s.steps[place].body {
                record.via = ApprovalVia::Token;
            }
        }),
    ]
}

fn applies() -> Vec<Forgery> {
    vec![
        forgery("no approval at all", Code::ApplyNotApproved).story(|s| {
            let place = s.position(is_approval);
            s.steps.remove(place);
            s.approvals.clear();
        }),
        forgery("approved afterwards", Code::ApplyNotApproved).story(|s| {
            let place = s.position(is_approval);
            let step = s.steps.remove(place);
            let last = s.steps.len() - 1;
            s.steps.insert(last, step);
        }),
        forgery("one approver of two", Code::ApplyNotApproved).story(|s| {
            let two = serde_json::json!([APPROVER, "second@example.com"]);
            apply_rule(s, "approvers", two);
            apply_rule(s, "min_approvals", 2.into());
        }),
        forgery("one approver twice", Code::ApplyNotApproved).story(|s| {
            let two = serde_json::json!([APPROVER, "second@example.com"]);
            apply_rule(s, "approvers", two);
            apply_rule(s, "min_approvals", 2.into());
            approved_again(s, |_| ());
        }),
        forgery("one key under two names", Code::ApplyNotApproved)
            .story(|s| {
                let two = serde_json::json!([APPROVER, "second@example.com"]);
                apply_rule(s, "approvers", two);
                apply_rule(s, "min_approvals", 2.into());
                approved_again(s, |a| a.approver = "second@example.com".into());
            })
            .trust(|trust| {
                let did = trust.approvers[0].did.clone();
                trust.approvers.push(Approver {
                    email: "second@example.com".into(),
                    did,
                });
            }),
        forgery(
            "approved, then denied, then applied",
            Code::ApplyAfterDenial,
        )
        .story(|s| approved_again(s, |a| a.decision = Decision::Deny)),
        forgery("only denied", Code::ApplyAfterDenial)
            .story(|s| approved_otherwise(s, |a| a.decision = Decision::Deny)),
        forgery(
            "applied when the approval had expired",
            Code::ApprovalExpired,
        )
        .story(|s| {
            let apply = s.intent("apply-run");
            s.steps[apply].after_ms = 1_900_000;
        }),
        forgery("applied twice with one approval", Code::ApprovalReused).story(|s| {
            let apply = s.intent("apply-run");
            let again = s.steps[apply..apply + 2].to_vec();
            s.steps.splice(apply + 2..apply + 2, again);
        }),
        forgery("a contract without applies", Code::ApplyNotAllowed).story(|s| {
            s.contract["permissions"]["apply"] = serde_json::json!({"allowed": false});
            let place = s.position(is_approval);
            s.steps.remove(place);
            s.approvals.clear();
        }),
        forgery("applied by the agent itself", Code::ApplyNotApproved).story(|s| {
            let token = s.tokens[0].clone();
            let apply = s.intent("apply-run");
            if let Body::Intent(intent) = &mut s.steps[apply].body {
                intent.lane = Lane::Terraform;
                intent.caller.token_hash = token.token_hash;
                intent.caller.holder = token.holder.unwrap();
            }
        }),
        forgery("a wish that reached upstream", Code::ApplyNotApproved).story(|s| {
            let wish =
                s.position(|body| matches!(body, Body::Intent(i) if i.operation == "apply-run"));
            if let Body::Outcome(outcome) = &mut s.steps[wish + 1].body {
                outcome.upstream_status = Some(202);
            }
        }),
        forgery("applied past the gateway", Code::ApplyUnrecorded).story(|s| {
            let apply = s.intent("apply-run");
            s.steps.drain(apply..apply + 2);
        }),
        forgery("an apply of a run that is not listed", Code::RunMismatch).story(|s| {
            let apply = s.intent("apply-run");
            if let Body::Intent(intent) = &mut s.steps[apply].body {
                intent.run_id = Some("run-other".into());
            }
        }),
    ]
}

fn runs() -> Vec<Forgery> {
    vec![
        forgery("a run outside the contract", Code::WorkspaceOutside)
            .story(|s| s.runs[0].workspace_id = "ws-production-app".into()),
        forgery("a run that nobody made", Code::RunMismatch).story(|s| {
            let mut run = s.runs[0].clone();
            run.run_id = "run-other".into();
            s.runs.push(run);
        }),
        forgery("a run twice", Code::RunMismatch).story(|s| s.runs.push(s.runs[0].clone())),
        forgery("a run left out", Code::RunMismatch).evidence(|e| e.runs.clear()),
        forgery(
            "the plan exchanged after the approval",
            Code::ApprovalMismatch,
        )
        .evidence(|e| e.runs[0].plan_sha256_b64u = Some(Hash::of(b"other plan"))),
        forgery(
            "an approval dated otherwise outside",
            Code::EnvelopeMismatch,
        )
        .evidence(|e| e.approvals[0].issued_at = start()),
        forgery("an approval with a member more", Code::FileShape).evidence(|e| {
            let mut envelope = as_envelope(&e.approvals[0]);
            resign(&mut envelope, &super::keys().approver, |payload| {
                set(payload, &["unknown"], "x");
            });
            e.approvals[0] = envelope.try_into().unwrap();
        }),
    ]
}
