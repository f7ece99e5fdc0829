//! Scoped tokens.

use std::sync::Arc;

use proof::approval::Decision;
use proof::record::{Body, JobId, Lane};
use store::{Conflict, ElevatedApproval, NewToken, Store};

use crate::assert_conflict;
use crate::fixtures::*;

fn elevated(job: &JobId, n: u32) -> NewToken {
    let statement = says(1, Decision::Approve, subject(job, "run-1", "plan"), "n1");
    NewToken {
        elevated: Some(ElevatedApproval {
            run_id: "run-1".into(),
            approver: "approver-1@example.com".into(),
            envelope: statement.envelope,
        }),
        ..token(job, n)
    }
}

pub(crate) async fn a_token_is_renewed_until_one_of_its_job_is_revoked(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let after = |first: &NewToken, n| NewToken {
        renews: Some(first.token_hash),
        ..token(&job, n)
    };
    let first = token(&job, 1);
    let second = after(&first, 2);
    let approval = elevated(&job, 3);
    for new in [&first, &second, &approval] {
        store.issue(new.clone()).await.unwrap();
    }
    let row = store.token(&second.token_hash).await.unwrap().unwrap();
    assert_eq!(row.token, second);
    // An elevated token is not the agent's.
    let revoke = async |hash| store.revoke(&hash, "ada", "stop", at(2)).await.unwrap();
    revoke(approval.token_hash).await;
    let third = after(&second, 4);
    store.issue(third.clone()).await.unwrap();
    revoke(first.token_hash).await;
    assert_conflict!(store.issue(after(&third, 5)).await, Conflict::TokenRevoked);
    store.issue(token(&job, 6)).await.unwrap();
}

pub(crate) async fn a_token_is_issued_for_its_job_and_contract(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    for new in [token(&job, 1), elevated(&job, 2)] {
        store.issue(new.clone()).await.unwrap();
        let row = store.token(&new.token_hash).await.unwrap().unwrap();
        assert_eq!(row.token, new);
        assert_eq!((row.holder, row.first_used_at), (None, None));
        assert_eq!((row.revoked, row.replays_refused), (None, 0));
    }
    assert_eq!(store.tokens(&job).await.unwrap().len(), 2);
    assert_conflict!(store.issue(token(&job, 1)).await, Conflict::TokenExists);
    let other = open_job(&store, 2).await;
    let mut of_other_job = token(&job, 3);
    of_other_job.job_id = other;
    let mut of_other_contract = token(&job, 3);
    of_other_contract.claims.policy_hash_b64u = hash("v2");
    for wrong in [of_other_job, of_other_contract] {
        assert_conflict!(store.issue(wrong).await, Conflict::TokenMismatch);
    }
    assert_conflict!(
        store.issue(token(&job_id(9), 3)).await,
        Conflict::NoSuchJob(_)
    );
    assert_eq!(store.token(&hash("unknown")).await.unwrap(), None);
}

pub(crate) async fn a_token_is_bound_to_its_first_holder(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let new = token(&job, 1);
    store.issue(new.clone()).await.unwrap();
    let bind = async |holder, ms| {
        let bound = store.bind_holder(&new.token_hash, holder, at(ms)).await;
        bound.unwrap().unwrap()
    };
    for (holder, ms, first) in [("one", 5, true), ("one", 6, false), ("two", 7, false)] {
        let bound = bind(holder, ms).await;
        assert_eq!((bound.holder.as_str(), bound.first), ("one", first));
    }
    store.count_replay(&new.token_hash).await.unwrap();
    store.count_replay(&new.token_hash).await.unwrap();
    store.count_replay(&hash("unknown")).await.unwrap();
    let row = store.token(&new.token_hash).await.unwrap().unwrap();
    assert_eq!(row.holder.as_deref(), Some("one"));
    assert_eq!(row.first_used_at, Some(at(5)));
    assert_eq!(row.replays_refused, 2);
    let unknown = store.bind_holder(&hash("unknown"), "one", at(5)).await;
    assert_eq!(unknown.unwrap(), None);
}

pub(crate) async fn uses_are_noted_with_the_next_write(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let new = token(&job, 1);
    store.issue(new.clone()).await.unwrap();
    store
        .bind_holder(&new.token_hash, "one", at(5))
        .await
        .unwrap();
    for ms in [20, 30, 25] {
        store.touch(&new.token_hash, at(ms));
    }
    store.touch(&hash("unknown"), at(30));
    append(&store, &job, refusal()).await.unwrap();
    let last = async || {
        let row = store.token(&new.token_hash).await.unwrap().unwrap();
        row.last_used_at
    };
    assert_eq!(last().await, Some(at(30)));
    store.touch(&new.token_hash, at(10));
    append(&store, &job, refusal()).await.unwrap();
    assert_eq!(last().await, Some(at(30)), "never back");
}

fn by(new: &NewToken, lane: Lane) -> Body {
    let mut intent = bare_intent(lane);
    intent.caller.token_hash = new.token_hash.to_hex();
    Body::Intent(Box::new(intent))
}

/// Gateways' clocks differ, and one may not know yet what another has revoked: what counts is
/// decided where the records are put in order.
pub(crate) async fn a_call_is_begun_within_the_tokens_life_only(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let (first, second) = (token(&job, 1), token(&job, 2));
    for new in [&first, &second] {
        store.issue(new.clone()).await.unwrap();
    }
    let begin = async |new: &NewToken, lane, ms| {
        let begun = store.append(&job, at(ms), by(new, lane)).await;
        begun.map(|appended| appended.at)
    };
    // By a clock that stands before the issue.
    let begun = begin(&first, Lane::Model, 0).await.unwrap();
    assert_eq!(begun, first.issued_at);
    // Another gateway binds and uses it, by a clock that is ahead.
    let bound = store.bind_holder(&first.token_hash, "one", at(1500));
    bound.await.unwrap();
    let revoked = store.revoke(&first.token_hash, "ada", "lost", at(20)).await;
    let end = revoked.unwrap().unwrap().revocation.at;
    assert_eq!(end, at(1500), "not before its last use");
    for lane in [Lane::Model, Lane::Terraform] {
        assert_conflict!(begin(&first, lane, 3000).await, Conflict::TokenRevoked);
    }
    store.touch(&first.token_hash, at(3000));
    // The gateway's own calls for the job go on, and so does the other token.
    begin(&first, Lane::Gateway, 3000).await.unwrap();
    begin(&second, Lane::Model, 899_999).await.unwrap();
    let row = store.token(&first.token_hash).await.unwrap().unwrap();
    assert_eq!(row.last_used_at, Some(end), "no use after its end");
    // It is a moment before its end here, and the job has a record from after it.
    store.append(&job, at(900_000), refusal()).await.unwrap();
    let late = begin(&second, Lane::Model, 899_999).await;
    assert_conflict!(late, Conflict::TokenExpired);
    // One that was never used before it was revoked.
    let third = token(&job, 3);
    store.issue(third.clone()).await.unwrap();
    let revoked = store.revoke(&third.token_hash, "ada", "lost", at(0)).await;
    let end = revoked.unwrap().unwrap().revocation.at;
    let bound = store.bind_holder(&third.token_hash, "one", at(2_000_000));
    bound.await.unwrap();
    let row = store.token(&third.token_hash).await.unwrap().unwrap();
    assert_eq!(
        (row.first_used_at, row.last_used_at),
        (Some(end), Some(end))
    );
}

pub(crate) async fn a_job_is_closed_after_its_tokens_were_issued(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let mut ahead = token(&job, 1);
    ahead.issued_at = at(1500);
    store.issue(ahead).await.unwrap();
    store.close_job(&job, "ada", "done", at(20)).await.unwrap();
    let row = store.job(&job).await.unwrap().unwrap();
    assert_eq!(row.state.closing().unwrap().at, at(1500));
}

pub(crate) async fn a_revocation_is_written_in_all_three_places(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    for n in 1..=2 {
        store.issue(token(&job, n)).await.unwrap();
    }
    let token_hash = token(&job, 1).token_hash;
    let revoked = store.revoke(&token_hash, "ada", "lost", at(8)).await;
    let revoked = revoked.unwrap().unwrap();
    assert!(!revoked.before);
    let appended = revoked.appended.expect("the job is open");
    let (_, record) = records(&store, &job).await.pop().unwrap();
    assert_eq!(
        (record.seq, record.at),
        (appended.seq, revoked.revocation.at)
    );
    let Body::Revocation(body) = record.body else {
        panic!("a revocation record");
    };
    assert_eq!(body.token_hash, token_hash.to_hex());

    let again = store.revoke(&token_hash, "eve", "again", at(9)).await;
    let again = again.unwrap().unwrap();
    assert!(again.before && again.appended.is_none());
    assert_eq!(again.revocation, revoked.revocation);
    let row = store.token(&token_hash).await.unwrap().unwrap();
    assert_eq!(row.revoked, Some(revoked.revocation.clone()));
    let list = store.revocations(0).await.unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].revocation, revoked.revocation);
    assert_eq!((list[0].token_hash, &list[0].job_id), (token_hash, &job));

    let other = token(&job, 2).token_hash;
    assert_eq!(store.token(&other).await.unwrap().unwrap().revoked, None);
    store.revoke(&other, "ada", "lost", at(10)).await.unwrap();
    let page = store.revocations(list[0].id).await.unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].token_hash, other);
    let unknown = store.revoke(&hash("unknown"), "ada", "lost", at(8)).await;
    assert_eq!(unknown.unwrap(), None);
}

pub(crate) async fn a_token_of_a_closed_job_is_revoked_without_a_record(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    store.issue(token(&job, 1)).await.unwrap();
    store.close_job(&job, "ada", "done", at(7)).await.unwrap();
    let token_hash = token(&job, 1).token_hash;
    let revoked = store.revoke(&token_hash, "ada", "lost", at(8)).await;
    let revoked = revoked.unwrap().unwrap();
    assert_eq!((revoked.before, revoked.appended), (false, None));
    assert_eq!(records(&store, &job).await.len(), 2);
    assert_eq!(store.revocations(0).await.unwrap().len(), 1);
}

pub(crate) async fn an_elevated_token_is_used_only_while_it_is_good(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    for new in [token(&job, 1), elevated(&job, 2), elevated(&job, 3)] {
        store.issue(new).await.unwrap();
    }
    let revoked = token(&job, 3).token_hash;
    store.revoke(&revoked, "ada", "lost", at(8)).await.unwrap();
    let use_it = async |token_hash| store.use_elevated(&token_hash, at(9)).await.unwrap();
    assert!(!use_it(token(&job, 1).token_hash).await, "not elevated");
    assert!(!use_it(revoked).await, "revoked");
    assert!(!use_it(hash("unknown")).await, "unknown");
    let good = token(&job, 2).token_hash;
    assert!(use_it(good).await);
    assert!(!use_it(good).await, "used up");
    let row = store.token(&good).await.unwrap().unwrap();
    assert_eq!(row.elevated_used_at, Some(at(9)));
}
