//! Races: whatever comes at the same moment has one order and one winner.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use proof::approval::Decision;
use proof::bundle;
use proof::record::{Body, JobId, Lane, Record};
use store::{
    ElevatedApproval, GateState, JobClosing, ModelLimits, ModelSpend, Reservation, RunUpdate,
    StatementOutcome, Store,
};

use crate::fixtures::*;

tokio::task_local! {
    /// Other gateways' handles on the same store.
    pub(crate) static OTHERS: Vec<Arc<dyn Store>>;
}

/// Runs `count` tasks at once, on all handles in turn, and collects what they return, in order.
async fn at_once<T, F>(
    store: &Arc<dyn Store>,
    count: usize,
    task: impl Fn(Arc<dyn Store>, usize) -> F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut stores = OTHERS.try_with(Clone::clone).unwrap_or_default();
    stores.push(Arc::clone(store));
    let tasks: Vec<_> = (0..count)
        .map(|n| tokio::spawn(task(Arc::clone(&stores[n % stores.len()]), n)))
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

pub(crate) async fn appends_leave_no_gaps(store: Arc<dyn Store>) {
    let mut jobs: Vec<JobId> = Vec::new();
    for n in 1..=4 {
        jobs.push(open_job(&store, n).await);
    }
    let ids = jobs.clone();
    let appended = at_once(&store, 64, move |store, n| {
        let job = ids[n % 4].clone();
        async move {
            let mut leaves = Vec::new();
            for _ in 0..4 {
                let intent = store
                    .append(&job, at(10), intent(Lane::Model))
                    .await
                    .unwrap();
                let answer =
                    store.append_outcome(&job, at(11), outcome(intent.seq), None, Vec::new());
                leaves.push(intent.leaf_index);
                leaves.push(answer.await.unwrap().leaf_index);
            }
            leaves
        }
    })
    .await;
    let leaves: BTreeSet<u64> = appended.into_iter().flatten().collect();
    assert_eq!(leaves, (4..4 + 512).collect(), "no gap and no double");
    assert_eq!(store.log_size().await.unwrap(), 516);
    for job in &jobs {
        let all: Vec<Record> = records(&store, job)
            .await
            .into_iter()
            .map(|(_, record)| record)
            .collect();
        let seqs: Vec<u64> = all.iter().map(|record| record.seq).collect();
        assert_eq!(seqs, (1..=129).collect::<Vec<_>>());
        let answered = all.iter().filter_map(|record| match &record.body {
            Body::Outcome(outcome) => Some(outcome.intent_seq),
            _ => None,
        });
        assert_eq!(answered.collect::<BTreeSet<_>>().len(), 64);
        assert_eq!(bundle::events(&all).len(), 65);
    }
    assert_eq!(store.open_intents().await.unwrap(), []);
}

pub(crate) async fn appends_keep_the_order_of_their_calls(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let first = store.append(&job, at(10), intent(Lane::Model));
    let second = store.append(&job, at(10), refusal());
    let third = store.append_outcome(&job, at(11), outcome(2), None, Vec::new());
    // Polled in the other order: their places were given when they were called.
    assert_eq!(third.await.unwrap().seq, 4);
    assert_eq!(second.await.unwrap().seq, 3);
    assert_eq!(first.await.unwrap().seq, 2);
    // What nobody waits for counts as well.
    drop(store.append(&job, at(12), refusal()));
    let last = store.append(&job, at(12), refusal()).await.unwrap();
    assert_eq!(last.seq, 6);
}

pub(crate) async fn one_holder_wins(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    store.issue(token(&job, 1)).await.unwrap();
    let token_hash = token(&job, 1).token_hash;
    let bound = at_once(&store, 16, |store, n| async move {
        let holder = format!("10.0.0.{n}");
        let bound = store.bind_holder(&token_hash, &holder, at(10)).await;
        (bound.unwrap().unwrap(), holder)
    })
    .await;
    let winners: Vec<_> = bound.iter().filter(|(bound, _)| bound.first).collect();
    assert_eq!(winners.len(), 1);
    let (winner, asked) = winners[0];
    assert_eq!(&winner.holder, asked);
    assert!(bound.iter().all(|(bound, _)| bound.holder == winner.holder));
}

pub(crate) async fn one_transition_wins(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    awaiting(&store, &job, "run-1").await;
    let moved = at_once(&store, 16, |store, n| async move {
        let to = [GateState::Approved, GateState::Expired][n % 2];
        let from = [GateState::AwaitingApproval];
        let update = RunUpdate {
            gate_reason: Some(n.to_string()),
            ..RunUpdate::default()
        };
        store
            .transition("run-1", &from, to, at(40), update)
            .await
            .unwrap()
    })
    .await;
    let winners: Vec<_> = moved.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.run("run-1").await.unwrap().as_ref(), winners.first());
}

pub(crate) async fn one_apply_begins(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let mut row = run(&job, "run-1");
    row.gate = GateState::Rechecking;
    store.insert_run(row).await.unwrap();
    let begun = at_once(&store, 8, |store, _| async move {
        let intent = bare_intent(Lane::Gateway);
        let begun = store.begin_apply("run-1", at(40), RunUpdate::default(), intent);
        begun.await.unwrap()
    })
    .await;
    assert_eq!(begun.into_iter().flatten().count(), 1);
    assert_eq!(store.open_intents().await.unwrap().len(), 1);
}

pub(crate) async fn an_elevated_token_is_used_once(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let mut elevated = token(&job, 1);
    let statement = says(1, Decision::Approve, subject(&job, "run-1", "plan"), "n1");
    elevated.elevated = Some(ElevatedApproval {
        run_id: "run-1".into(),
        approver: "approver-1@example.com".into(),
        envelope: statement.envelope,
    });
    let token_hash = elevated.token_hash;
    store.issue(elevated).await.unwrap();
    let used = at_once(&store, 16, |store, n| async move {
        let now = at(n as i64);
        store.use_elevated(&token_hash, now).await.unwrap()
    })
    .await;
    assert_eq!(used.into_iter().filter(|used| *used).count(), 1);
}

pub(crate) async fn two_approvers_at_once_are_both_recorded(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    awaiting(&store, &job, "run-1").await;
    let id = job.clone();
    let said = at_once(&store, 2, move |store, n| {
        let subject = subject(&id, "run-1", "plan");
        let nonce = format!("nonce {n}");
        let statement = says(n as u8, Decision::Approve, subject, &nonce);
        async move { store.record_statement(statement).await.unwrap() }
    })
    .await;
    let complete = StatementOutcome::Counted {
        approvals: 1,
        complete: true,
    };
    let late = StatementOutcome::NotAwaiting(GateState::Approved);
    assert!(said.contains(&complete) && said.contains(&late), "{said:?}");
    let kept = store.statements("run-1").await.unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept[0].counted && !kept[1].counted);
    let counters = store.job(&job).await.unwrap().unwrap().counters;
    assert_eq!((counters.approvals, counters.records), (2, 3));
}

pub(crate) async fn approval_and_denial_at_once_end_in_denial(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    for n in 0..8 {
        let run_id = format!("run-{n}");
        awaiting(&store, &job, &run_id).await;
        let (id, of) = (job.clone(), run_id.clone());
        at_once(&store, 2, move |store, n| {
            let decision = [Decision::Approve, Decision::Deny][n];
            let nonce = format!("{of} {n}");
            let statement = says(n as u8, decision, subject(&id, &of, "plan"), &nonce);
            async move { store.record_statement(statement).await.unwrap() }
        })
        .await;
        let run = store.run(&run_id).await.unwrap().unwrap();
        assert_eq!(run.gate, GateState::Denied);
        assert_eq!(store.statements(&run_id).await.unwrap().len(), 2);
    }
}

pub(crate) async fn a_budget_is_not_overdrawn(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let limits = ModelLimits {
        max_calls: None,
        max_tokens: Some(100),
        max_cost: Some(75),
    };
    let id = job.clone();
    let reserved = at_once(&store, 200, move |store, n| {
        let id = id.clone();
        // Half of them are about tokens, half about money.
        let most = if n % 2 == 0 {
            ModelSpend {
                tokens: 10,
                cost: 0,
            }
        } else {
            ModelSpend {
                tokens: 0,
                cost: 10,
            }
        };
        async move { store.reserve_model(&id, limits, most, at(1)).await.unwrap() }
    })
    .await;
    let granted = reserved
        .iter()
        .filter(|reservation| matches!(reservation, Reservation::Granted { .. }));
    assert_eq!(granted.count(), 10 + 7);
    let usage = store.model_usage(&job).await.unwrap();
    assert_eq!((usage.reserved, usage.cost_reserved), (100, 70));
}

pub(crate) async fn one_closing_wins(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let id = job.clone();
    let closings = at_once(&store, 16, move |store, n| {
        let id = id.clone();
        async move {
            drop(store.append(&id, at(10), intent(Lane::Model)));
            let by = format!("operator {n}");
            store.close_job(&id, &by, "done", at(20)).await.unwrap()
        }
    })
    .await;
    let now = closings
        .iter()
        .filter(|closing| matches!(closing, JobClosing::Now { .. }));
    assert_eq!(now.count(), 1);
    let all = records(&store, &job).await;
    let Body::JobClose(close) = &all.last().unwrap().1.body else {
        panic!("the closing record is the last");
    };
    assert_eq!(close.count, all.len() as u64);
    assert_eq!(store.open_intents().await.unwrap(), []);
}
