//! Approvers' statements.

use std::sync::Arc;

use proof::approval::Decision::{Approve, Deny};
use proof::record::{ApprovalVia, Body, JobId};
use proof::{Envelope, EnvelopeType, Timestamp};
use store::{Conflict, GateState, NewStatement, RunUpdate, StatementOutcome, Store};

use crate::assert_conflict;
use crate::fixtures::*;

async fn setting(store: &Arc<dyn Store>) -> JobId {
    let job = open_job(store, 1).await;
    awaiting(store, &job, "run-1").await;
    job
}

async fn gate(store: &Arc<dyn Store>) -> GateState {
    store.run("run-1").await.unwrap().unwrap().gate
}

/// Signs a statement again after it was changed.
fn signed(mut new: NewStatement, signer: u8) -> NewStatement {
    let kind = EnvelopeType::ApprovalStatement;
    let envelope = Envelope::sign(kind, &new.statement, &key(signer), at(20)).unwrap();
    new.envelope = envelope.try_into().unwrap();
    new
}

const COMPLETE: StatementOutcome = StatementOutcome::Counted {
    approvals: 1,
    complete: true,
};

pub(crate) async fn an_approval_moves_the_gate(store: Arc<dyn Store>) {
    let job = setting(&store).await;
    let mut statement = says(1, Approve, subject(&job, "run-1", "plan"), "n1");
    statement.via = ApprovalVia::Token;
    let said = store.record_statement(statement.clone()).await.unwrap();
    assert_eq!(said, COMPLETE);
    assert_eq!(gate(&store).await, GateState::Approved);
    let (_, record) = records(&store, &job).await.pop().unwrap();
    let Body::Approval(approval) = &record.body else {
        panic!("an approval record");
    };
    assert_eq!(
        approval.statement_hash_b64u,
        statement.envelope.payload_hash_b64u
    );
    assert_eq!(approval.plan_sha256_b64u, hash("plan"));
    let kept = store.statements("run-1").await.unwrap();
    assert_eq!(kept, store.statements_of_job(&job).await.unwrap());
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].envelope, statement.envelope);
    assert_eq!((kept[0].seq, kept[0].at), (record.seq, record.at));
    assert_eq!(
        (kept[0].decision, kept[0].via),
        (Approve, ApprovalVia::Token)
    );
    assert_eq!(store.waiting().await.unwrap(), []);

    let unknown = says(1, Approve, subject(&job, "run-9", "plan"), "n2");
    assert_conflict!(
        store.record_statement(unknown).await,
        Conflict::NoSuchRun(_)
    );
}

pub(crate) async fn several_approvers_are_distinct_people(store: Arc<dyn Store>) {
    let job = setting(&store).await;
    let say = async |n: u8, nonce: &str, change: &dyn Fn(&mut NewStatement)| {
        let mut new = says(n, Approve, subject(&job, "run-1", "plan"), nonce);
        new.min_approvals = 2;
        change(&mut new);
        store.record_statement(new).await.unwrap()
    };
    let first = say(1, "n1", &|_| {}).await;
    let counted = |approvals, complete| StatementOutcome::Counted {
        approvals,
        complete,
    };
    assert_eq!(first, counted(1, false));
    assert_eq!(gate(&store).await, GateState::AwaitingApproval);
    assert_eq!(say(1, "n2", &|_| {}).await, StatementOutcome::Duplicate);
    let with_other_address = say(1, "n3", &|new| {
        new.statement.approver = "alias@example.com".into();
        *new = signed(new.clone(), 101);
    });
    assert_eq!(with_other_address.await, StatementOutcome::Duplicate);
    let with_other_key = say(1, "n4", &|new| {
        new.statement.approver_did = key(150).did().into();
        *new = signed(new.clone(), 150);
    });
    assert_eq!(with_other_key.await, StatementOutcome::Duplicate);
    assert_eq!(gate(&store).await, GateState::AwaitingApproval);
    assert_eq!(say(2, "n5", &|_| {}).await, counted(2, true));
    assert_eq!(gate(&store).await, GateState::Approved);
    assert_eq!(store.statements("run-1").await.unwrap().len(), 2);
}

pub(crate) async fn a_statement_is_used_once(store: Arc<dyn Store>) {
    let job = setting(&store).await;
    awaiting(&store, &job, "run-2").await;
    let statement = says(1, Approve, subject(&job, "run-1", "plan"), "n1");
    store.record_statement(statement.clone()).await.unwrap();
    let again = store.record_statement(statement).await.unwrap();
    assert_eq!(again, StatementOutcome::Duplicate);
    let same_nonce = says(2, Approve, subject(&job, "run-2", "plan"), "n1");
    let said = store.record_statement(same_nonce).await.unwrap();
    assert_eq!(said, StatementOutcome::Duplicate);
    assert_eq!(records(&store, &job).await.len(), 2);
    let fresh = says(2, Approve, subject(&job, "run-2", "plan"), "n2");
    assert_eq!(store.record_statement(fresh).await.unwrap(), COMPLETE);
}

pub(crate) async fn a_denial_stops_an_approved_run_before_its_apply(store: Arc<dyn Store>) {
    let job = setting(&store).await;
    let say = async |n, decision, run: &str| {
        let nonce = format!("{run} {n}");
        let statement = says(n, decision, subject(&job, run, "plan"), &nonce);
        store.record_statement(statement).await.unwrap()
    };
    assert_eq!(say(1, Approve, "run-1").await, COMPLETE);
    assert_eq!(say(2, Deny, "run-1").await, StatementOutcome::Denied);
    let run = store.run("run-1").await.unwrap().unwrap();
    assert_eq!(run.gate, GateState::Denied);
    assert_eq!(run.gate_reason.as_deref(), Some("not today"));
    let from = [GateState::Approved];
    let apply = store
        .transition(
            "run-1",
            &from,
            GateState::Rechecking,
            at(50),
            RunUpdate::default(),
        )
        .await;
    assert_eq!(apply.unwrap(), None);

    awaiting(&store, &job, "run-2").await;
    say(1, Approve, "run-2").await;
    store
        .transition(
            "run-2",
            &from,
            GateState::Rechecking,
            at(50),
            RunUpdate::default(),
        )
        .await
        .unwrap();
    let late = say(2, Deny, "run-2").await;
    assert_eq!(late, StatementOutcome::NotAwaiting(GateState::Rechecking));
    let kept = store.statements("run-2").await.unwrap();
    let counted: Vec<bool> = kept.iter().map(|row| row.counted).collect();
    assert_eq!(counted, [true, false], "late, but kept");
    let counters = store.job(&job).await.unwrap().unwrap().counters;
    assert_eq!((counters.approvals, counters.denials), (2, 2));
}

pub(crate) async fn nothing_counts_before_or_after_its_time(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    store.insert_run(run(&job, "run-1")).await.unwrap();
    let say = async |nonce: &str, now: Timestamp, expires: Timestamp| {
        let mut new = says(1, Approve, subject(&job, "run-1", "plan"), nonce);
        new.at = now;
        new.statement.expires_at = expires;
        store.record_statement(signed(new, 101)).await.unwrap()
    };
    let early = say("n1", at(30), at(60)).await;
    assert_eq!(early, StatementOutcome::NotAwaiting(GateState::Planned));
    let update = RunUpdate {
        subject: Some(subject(&job, "run-1", "plan")),
        approval_expires_at: Some(at(100)),
        ..RunUpdate::default()
    };
    let from = [GateState::Planned];
    store
        .transition("run-1", &from, GateState::AwaitingApproval, at(2), update)
        .await
        .unwrap();
    for (nonce, now, expires) in [
        ("n2", at(60), at(60)),
        ("n3", at(61), at(60)),
        ("n4", at(100), at(500)),
    ] {
        let lapsed = say(nonce, now, expires).await;
        assert_eq!(lapsed, StatementOutcome::Lapsed, "{nonce}");
    }
    assert_eq!(records(&store, &job).await.len(), 1, "nothing was kept");
    // Another gateway's clock is ahead, and the statement's record would follow what it has written.
    store.append(&job, at(58), refusal()).await.unwrap();
    assert_eq!(say("n5", at(30), at(58)).await, StatementOutcome::Lapsed);
    assert_eq!(say("n6", at(59), at(60)).await, COMPLETE);
}

pub(crate) async fn what_changed_voids_what_was_said(store: Arc<dyn Store>) {
    let job = setting(&store).await;
    let say = async |n, plan: &str, nonce: &str| {
        let mut new = says(n, Approve, subject(&job, "run-1", plan), nonce);
        new.min_approvals = 2;
        store.record_statement(new).await.unwrap()
    };
    let counted = |approvals, complete| StatementOutcome::Counted {
        approvals,
        complete,
    };
    let other = say(1, "another plan", "n1").await;
    assert_eq!(other, StatementOutcome::SubjectChanged);
    assert_eq!(say(1, "plan", "n2").await, counted(1, false));
    let update = RunUpdate {
        subject: Some(subject(&job, "run-1", "new plan")),
        ..RunUpdate::default()
    };
    store.update_run("run-1", at(40), update).await.unwrap();
    assert_eq!(say(2, "plan", "n3").await, StatementOutcome::SubjectChanged);
    // The approval of the old plan is not one of the new, and its giver may judge again.
    assert_eq!(say(2, "new plan", "n4").await, counted(1, false));
    assert_eq!(say(1, "new plan", "n5").await, counted(2, true));
}

pub(crate) async fn the_statement_is_the_signed_one(store: Arc<dyn Store>) {
    let job = setting(&store).await;
    let good = says(1, Approve, subject(&job, "run-1", "plan"), "n1");
    let mut other_decision = says(1, Deny, subject(&job, "run-1", "plan"), "n1");
    other_decision.envelope = good.envelope.clone();
    let mut other_payload = good.clone();
    other_payload.envelope.payload = other_decision.envelope.payload.clone();
    other_payload.envelope.payload.set("decision", "deny");
    let mut other_way = good.clone();
    other_way.via = ApprovalVia::Passkey;
    let other_signer = signed(good.clone(), 102);
    for wrong in [other_decision, other_payload, other_way, other_signer] {
        assert_conflict!(
            store.record_statement(wrong).await,
            Conflict::StatementMismatch
        );
    }
    assert_eq!(gate(&store).await, GateState::AwaitingApproval);
    assert_eq!(store.record_statement(good).await.unwrap(), COMPLETE);
}

pub(crate) async fn a_closed_job_takes_no_approval(store: Arc<dyn Store>) {
    let job = setting(&store).await;
    awaiting(&store, &job, "run-2").await;
    let said = says(1, Deny, subject(&job, "run-2", "plan"), "n1");
    store.record_statement(said).await.unwrap();
    store.close_job(&job, "ada", "stop", at(35)).await.unwrap();
    let counts = says(2, Approve, subject(&job, "run-1", "plan"), "n2");
    assert_conflict!(store.record_statement(counts).await, Conflict::JobClosed(_));
    let late = says(2, Approve, subject(&job, "run-2", "plan"), "n3");
    let late = store.record_statement(late).await.unwrap();
    assert_eq!(late, StatementOutcome::NotAwaiting(GateState::Denied));
    assert_eq!(store.statements("run-2").await.unwrap().len(), 1);
    assert_eq!(gate(&store).await, GateState::AwaitingApproval);
}
