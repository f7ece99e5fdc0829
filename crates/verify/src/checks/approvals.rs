//! Approvals and applies: who approved what, and whether that was enough, in time, and before.

use std::collections::{HashMap, HashSet};

use proof::approval::{
    Decision, STATEMENT, SignedStatement, Statement, StatementError, VerifiedStatement,
    is_same_person,
};
use proof::bundle::Run;
use proof::passkey::PasskeyError;
use proof::record::{ApprovalRecord, ApprovalVia, Body, Lane, Outcome, Record};
use proof::token::Scope;
use proof::{ApproverDid, Hash};

use crate::checks::contract::Contract;
use crate::checks::envelope_code;
use crate::checks::records::Calls;
use crate::checks::tokens::Tokens;
use crate::code::Code;
use crate::document::{Document, Place};
use crate::report::Findings;
use crate::threads;
use crate::trust::Believed;

/// The operation by which the gateway applies a run.
const APPLY: &str = "apply-run";

/// How much later than the gateway's an approver's clock may be, in seconds.
const APPROVER_CLOCK_SECONDS: i64 = 300;

/// A statement that is what it should be, with the record that took it into the log.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    statement: Statement,
    seq: u64,
    record: &'a ApprovalRecord,
}

/// Every statement: by whom, about what, and recorded once.
pub(crate) fn check<'a>(
    document: &'a Document,
    contract: &Contract,
    tokens: &Tokens<'_>,
    believed: &Believed<'_>,
    findings: &mut Findings,
) -> Option<Vec<Judged<'a>>> {
    let envelopes = &document.bundle.approvals;
    let signed = threads::map(envelopes, |_, envelope| {
        // Where a passkey may be used is the trust root's to say, never the bundle's.
        let passkey = believed.root.passkey(&envelope.signer_did);
        envelope.verify(passkey.map(|passkey| &passkey.site))
    });
    let mut unused = records_by_statement(document, findings);
    let scopes = tokens.values().flat_map(|token| &token.claims.scope);
    let elevated: HashSet<&str> = scopes
        .filter_map(|scope| match scope {
            Scope::ElevatedApply(run) => Some(run.as_str()),
            _ => None,
        })
        .collect();
    let mut nonces = HashSet::new();
    let mut counters = Vec::new();
    let mut judged = Vec::with_capacity(envelopes.len());
    for (n, (envelope, signed)) in envelopes.iter().zip(signed).enumerate() {
        let place = format!("/approvals/{n}");
        let signed = match signed {
            Ok(signed) => signed,
            Err(error) => {
                findings.fail(statement_code(&error), place, error.to_string());
                continue;
            }
        };
        check_signer(envelope, &signed, contract, believed, &place, findings);
        check_opener(document, &signed, contract, believed, &place, findings);
        check_subject(document, contract, signed.statement(), &place, findings);
        if !nonces.insert(signed.statement().nonce.clone()) {
            findings.fail(
                Code::ApprovalReused,
                format!("{place}/payload/nonce"),
                "used before",
            );
        }
        let Some((record, entry)) = unused.remove(&signed.payload_hash()) else {
            let detail = "no approval record names this statement";
            findings.fail(Code::ApprovalUnrecorded, place, detail);
            continue;
        };
        check_record(record, entry, signed.statement(), contract, findings);
        check_passkey_then(record, &signed, believed, &place, findings);
        let as_recorded = match entry.via {
            ApprovalVia::Key => !envelope.is_by_passkey(),
            ApprovalVia::Token => {
                !envelope.is_by_passkey() && elevated.contains(entry.run_id.as_str())
            }
            ApprovalVia::Passkey => envelope.is_by_passkey(),
        };
        findings.require(
            as_recorded,
            Code::ApprovalMismatch,
            &place,
            "given in another way than its record says, or by an elevated token that the job has not",
        );
        if let Some(count) = signed.sign_count() {
            counters.push((record.seq, signed.signer().clone(), count));
        }
        judged.push(Judged {
            statement: signed.into_statement(),
            seq: record.seq,
            record: entry,
        });
    }
    check_counters(counters, findings);
    let mut unused: Vec<u64> = unused.values().map(|(record, _)| record.seq).collect();
    unused.sort_unstable();
    for seq in unused {
        findings.fail(
            Code::ApprovalUnrecorded,
            format!("/records/{}", seq.saturating_sub(1)),
            "its signed statement is not in the bundle",
        );
    }
    findings.note(format!("{} statements", judged.len()));
    (!findings.any_failure()).then_some(judged)
}

fn records_by_statement<'a>(
    document: &'a Document,
    findings: &mut Findings,
) -> HashMap<Hash, (&'a Record, &'a ApprovalRecord)> {
    let mut records = HashMap::new();
    for (place, record) in document.placed() {
        if let Body::Approval(entry) = &record.body {
            let known = records.insert(entry.statement_hash_b64u, (record, entry));
            if known.is_some() {
                findings.fail(
                    Code::ApprovalReused,
                    place,
                    "the statement was recorded before",
                );
            }
        }
    }
    records
}

fn check_signer(
    envelope: &SignedStatement,
    signed: &VerifiedStatement,
    contract: &Contract,
    believed: &Believed<'_>,
    place: &str,
    findings: &mut Findings,
) {
    let statement = signed.statement();
    findings.require(
        statement.statement == STATEMENT
            && *signed.signer() == statement.approver_did
            && envelope.issued_at == statement.issued_at,
        Code::EnvelopeMismatch,
        place,
        "kind, signer or time are not those of the signed statement",
    );
    let enrolled = if envelope.is_by_passkey() {
        let passkey = believed.root.passkey(signed.signer());
        passkey.is_some_and(|passkey| passkey.email == statement.approver)
    } else {
        believed.root.approver(&statement.approver, signed.signer())
    };
    if !enrolled {
        findings.fail(
            Code::ApproverUnknown,
            format!("{place}/signer_did"),
            format!(
                "{} is not the key of {}",
                signed.signer(),
                statement.approver
            ),
        );
    }
    if !contract.allows_approver(&statement.approver) {
        findings.fail(
            Code::ApproverNotAllowed,
            format!("{place}/payload/approver"),
            format!("{} is no approver of the contract", statement.approver),
        );
    }
}

/// Whoever opened the job did not approve it, under this address or with a key that serves it,
/// too. Jobs of which the opening record names no address are not judged.
fn check_opener(
    document: &Document,
    signed: &VerifiedStatement,
    contract: &Contract,
    believed: &Believed<'_>,
    place: &str,
    findings: &mut Findings,
) {
    let statement = signed.statement();
    let opener = document.opener();
    let Some(opener) = opener.filter(|_| !contract.apply().opener_may_approve) else {
        return;
    };
    let signer = signed.signer();
    let keys = believed.root.approvers.iter();
    let with_key = keys.filter(|approver| *signer == approver.did);
    let passkey = believed.root.passkey(signer);
    let mut people = with_key
        .map(|approver| approver.email.as_str())
        .chain(passkey.map(|passkey| passkey.email.as_str()))
        .chain([statement.approver.as_str()]);
    if statement.decision == Decision::Approve && people.any(|one| is_same_person(one, opener)) {
        findings.fail(
            Code::ApproverOpenedJob,
            format!("{place}/payload/approver"),
            format!("{} opened the job", statement.approver),
        );
    }
}

/// The passkey counted when its statement was recorded, which is the time that the log vouches
/// for.
fn check_passkey_then(
    record: &Record,
    signed: &VerifiedStatement,
    believed: &Believed<'_>,
    place: &str,
    findings: &mut Findings,
) {
    if signed.sign_count().is_none() {
        return;
    }
    if let Some(passkey) = believed.root.passkey(signed.signer())
        && !passkey.counts(record.at)
    {
        findings.fail(
            Code::KeyNotValidThen,
            format!("{place}/signer_did"),
            format!(
                "{} is a passkey, but did not count at {}",
                passkey.did, record.at
            ),
        );
    }
}

/// The counters of one passkey rise from record to record; one that has none says 0 always.
fn check_counters(mut counters: Vec<(u64, ApproverDid, u32)>, findings: &mut Findings) {
    counters.sort_unstable_by_key(|(seq, ..)| *seq);
    let mut highest: HashMap<ApproverDid, u32> = HashMap::new();
    for (seq, signer, count) in counters {
        if let Some(before) = highest.insert(signer, count)
            && (before, count) != (0, 0)
            && count <= before
        {
            findings.fail(
                Code::PasskeyCounter,
                format!("/records/{}", seq.saturating_sub(1)),
                format!("the passkey's counter was {before} before and is {count}"),
            );
        }
    }
}

/// The code for a statement that does not verify.
fn statement_code(error: &StatementError) -> Code {
    match error {
        StatementError::Envelope(error) => envelope_code(error),
        StatementError::PasskeyUnknown(_) => Code::ApproverUnknown,
        StatementError::Passkey(error) => match error {
            PasskeyError::SignatureInvalid => Code::SignatureInvalid,
            PasskeyError::WrongChallenge => Code::PasskeyWrongChallenge,
            PasskeyError::WrongOrigin(_) | PasskeyError::WrongRpId => Code::PasskeyWrongSite,
            PasskeyError::NotVerified => Code::PasskeyNotVerified,
            PasskeyError::AuthenticatorData(_)
            | PasskeyError::ClientData(_)
            | PasskeyError::Key(_)
            | PasskeyError::WrongCeremony(_) => Code::PasskeyMalformed,
        },
    }
}

/// The statement is about a run of the bundle, in every member.
fn check_subject(
    document: &Document,
    contract: &Contract,
    statement: &Statement,
    place: &str,
    findings: &mut Findings,
) {
    findings.require(
        statement.job_id == document.bundle.job.job_id,
        Code::JobMismatch,
        format_args!("{place}/payload/job_id"),
        "an approval for another job",
    );
    findings.require(
        statement.policy_hash_b64u == contract.hash,
        Code::PolicyHashMismatch,
        format_args!("{place}/payload/policy_hash_b64u"),
        "an approval under another contract",
    );
    let Some(run) = document.run(&statement.run_id) else {
        let detail = format!("{} is not a run of the job", statement.run_id);
        findings.fail(
            Code::ApprovalMismatch,
            format!("{place}/payload/run_id"),
            detail,
        );
        return;
    };
    let organization = contract
        .permissions()
        .organization
        .as_ref()
        .is_none_or(|name| name.as_str() == statement.organization);
    let same = [
        ("organization", organization),
        ("workspace_id", run.workspace_id == statement.workspace_id),
        (
            "configuration_version_id",
            run.configuration_version_id.as_ref() == Some(&statement.configuration_version_id),
        ),
        (
            "configuration_sha256_b64u",
            run.configuration_sha256_b64u == Some(statement.configuration_sha256_b64u),
        ),
        ("plan_id", run.plan_id.as_ref() == Some(&statement.plan_id)),
        (
            "plan_sha256_b64u",
            run.plan_sha256_b64u == Some(statement.plan_sha256_b64u),
        ),
        ("changes", run.changes == Some(statement.changes)),
    ];
    for (member, same) in same {
        if !same {
            findings.fail(
                Code::ApprovalMismatch,
                format!("{place}/payload/{member}"),
                format!("not that of {}", run.run_id),
            );
        }
    }
}

/// The record says what the statement says, and took it in while it counted.
fn check_record(
    record: &Record,
    entry: &ApprovalRecord,
    statement: &Statement,
    contract: &Contract,
    findings: &mut Findings,
) {
    let place = format!("/records/{}", record.seq.saturating_sub(1));
    findings.require(
        entry.run_id == statement.run_id
            && entry.decision == statement.decision
            && entry.approver == statement.approver
            && entry.approver_did == statement.approver_did
            && entry.plan_sha256_b64u == statement.plan_sha256_b64u,
        Code::ApprovalUnrecorded,
        &place,
        "the record contradicts the statement that it names",
    );
    let ttl = contract.apply().approval_ttl_seconds.into();
    let latest_end = record.at.plus_seconds(ttl);
    findings.require(
        record.at < statement.expires_at && statement.expires_at <= latest_end,
        Code::ApprovalExpired,
        &place,
        "expired when it was recorded, or good for longer than the contract allows",
    );
    findings.require(
        statement.issued_at < statement.expires_at
            && statement.issued_at <= record.at.plus_seconds(APPROVER_CLOCK_SECONDS),
        Code::TimeBackwards,
        &place,
        "recorded before it was signed",
    );
}

/// Every apply had enough approvals for its plan before it, and no denial.
pub(crate) fn check_applies(
    document: &Document,
    contract: &Contract,
    calls: &Calls,
    judged: &[Judged<'_>],
    findings: &mut Findings,
) -> Option<()> {
    let mut by_run: HashMap<&str, Vec<&Judged<'_>>> = HashMap::new();
    for judged in judged {
        let run = judged.statement.run_id.as_str();
        by_run.entry(run).or_default().push(judged);
    }
    let mut applied: HashMap<&str, bool> = HashMap::new();
    let mut count = 0usize;
    for (place, record, intent) in document.intents() {
        if intent.operation != APPLY {
            continue;
        }
        findings.require(
            contract.apply().allowed,
            Code::ApplyNotAllowed,
            place,
            "the contract allows no applies",
        );
        let outcome = outcome_of(document, calls, record.seq);
        let upstream = outcome.and_then(|outcome| outcome.upstream_status);
        if intent.lane != Lane::Gateway {
            // An agent's wish: it opens the approval, and nothing goes upstream.
            findings.require(
                upstream.is_none(),
                Code::ApplyNotApproved,
                place,
                "the agent's own apply reached upstream; only the gateway applies",
            );
            continue;
        }
        count += 1;
        let run = intent.run_id.as_ref().and_then(|id| document.run(id));
        let Some(run) = run else {
            findings.fail(
                Code::RunMismatch,
                format!("{place}/run_id"),
                "no run of the job",
            );
            continue;
        };
        // Upstream confirms a run once. An attempt that it did not take uses nothing up: the
        // gateway reads the run and may try again.
        let used = applied.entry(run.run_id.as_str()).or_default();
        findings.require(
            !*used,
            Code::ApprovalReused,
            place,
            "the run was applied before",
        );
        *used |= upstream.is_some_and(|status| (200..300).contains(&status));
        if contract.apply().requires_approval {
            let of_run = by_run.get(run.run_id.as_str());
            let before = of_run.into_iter().flatten().copied();
            let before: Vec<_> = before.filter(|j| j.seq < record.seq).collect();
            check_approved(record, run, contract, &before, place, findings);
        }
    }
    for (n, run) in document.bundle.terraform.runs.iter().enumerate() {
        let is_applied = run.state_version_after.is_some()
            || matches!(
                run.status.as_str(),
                "applied" | "applying" | "apply_queued" | "confirmed"
            );
        findings.require(
            !is_applied || applied.contains_key(run.run_id.as_str()),
            Code::ApplyUnrecorded,
            format_args!("/terraform/runs/{n}/status"),
            "applied, but by no call of the gateway",
        );
    }
    findings.note(format!("{count} applies"));
    Some(())
}

fn outcome_of<'a>(document: &'a Document, calls: &Calls, intent: u64) -> Option<&'a Outcome> {
    match &document.record(*calls.get(&intent)?)?.body {
        Body::Outcome(outcome) => Some(outcome),
        _ => None,
    }
}

fn check_approved(
    record: &Record,
    run: &Run,
    contract: &Contract,
    before: &[&Judged<'_>],
    place: Place,
    findings: &mut Findings,
) {
    findings.require(
        before
            .iter()
            .all(|j| j.record.decision == Decision::Approve),
        Code::ApplyAfterDenial,
        place,
        "an approver had denied this run",
    );
    let for_this_plan: Vec<&Statement> = before
        .iter()
        .map(|judged| &judged.statement)
        .filter(|statement| {
            statement.decision == Decision::Approve
                && Some(statement.plan_sha256_b64u) == run.plan_sha256_b64u
        })
        .collect();
    // Distinct people with distinct keys: one key under two names is one approval.
    let distinct = |counts: &dyn Fn(&Statement) -> bool| {
        let counted = for_this_plan.iter().filter(|s| counts(s));
        let keys: HashSet<&str> = counted.clone().map(|s| s.approver_did.as_str()).collect();
        let people: HashSet<&str> = counted.map(|s| s.approver.as_str()).collect();
        people.len().min(keys.len())
    };
    let in_time = distinct(&|statement| record.at < statement.expires_at);
    let needed = contract.apply().min_approvals.max(1) as usize;
    if in_time < needed {
        let code = if distinct(&|_| true) < needed {
            Code::ApplyNotApproved
        } else {
            Code::ApprovalExpired
        };
        let detail = format!("{in_time} of {needed} approvals for this plan");
        findings.fail(code, place, detail);
    }
}
