//! What people are told about runs.

use std::sync::Arc;

use proof::record::JobId;
use store::{Conflict, GateState, NewsQuery, NoticeState, RunUpdate, Store, Told};

use crate::assert_conflict;
use crate::fixtures::*;

const ALL: [GateState; 7] = [
    GateState::AwaitingApproval,
    GateState::Denied,
    GateState::Expired,
    GateState::Superseded,
    GateState::Discarded,
    GateState::Applied,
    GateState::Errored,
];

fn query(channel: &str, now: i64) -> NewsQuery {
    NewsQuery {
        channel: channel.into(),
        gates: ALL.to_vec(),
        since: at(0),
        now: at(now),
        limit: 10,
    }
}

/// Runs that are due with the attempts so far, and when the next one is.
async fn due(store: &Arc<dyn Store>, query: NewsQuery) -> (Vec<(String, u32)>, Option<i64>) {
    let news = store.news(query).await.unwrap();
    let runs = news.due.into_iter();
    let runs = runs.map(|due| (due.run.run_id, due.attempts)).collect();
    let next = news.next_at.map(|next| next.millis() - at(0).millis());
    (runs, next)
}

fn runs(names: &[(&str, u32)]) -> Vec<(String, u32)> {
    let names = names.iter();
    names.map(|(run, n)| ((*run).to_owned(), *n)).collect()
}

/// A run of which the approvers are asked, and that the agent wants applied.
async fn asked(store: &Arc<dyn Store>, job: &JobId, id: &str) {
    awaiting(store, job, id).await;
    let update = RunUpdate {
        apply_wished: Some(true),
        ..RunUpdate::default()
    };
    store.update_run(id, at(3), update).await.unwrap();
}

async fn moves(store: &Arc<dyn Store>, id: &str, to: GateState, reason: Option<&str>) {
    let update = RunUpdate {
        gate_reason: reason.map(str::to_owned),
        ..RunUpdate::default()
    };
    let from = GateState::ALL;
    let moved = store.transition(id, &from, to, at(4), update).await;
    assert!(moved.unwrap().is_some());
}

async fn tell(store: &Arc<dyn Store>, channel: &str, gate: GateState, now: i64, told: Told) {
    store
        .told(channel, "run-1", gate, at(now), told)
        .await
        .unwrap();
}

fn failed(next: i64) -> Told {
    Told::Failed {
        error: "connection refused".into(),
        next_at: at(next),
    }
}

pub(crate) async fn a_state_is_told_once_and_to_each_channel(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    asked(&store, &job, "run-1").await;
    let both = runs(&[("run-1", 0)]);
    assert_eq!(due(&store, query("ops", 5)).await, (both.clone(), None));
    tell(&store, "ops", GateState::AwaitingApproval, 6, Told::Sent).await;
    assert_eq!(due(&store, query("ops", 7)).await, (vec![], None));
    assert_eq!(due(&store, query("slack", 7)).await, (both, None));
    // The next state is news again.
    moves(&store, "run-1", GateState::Denied, None).await;
    let next = runs(&[("run-1", 0)]);
    assert_eq!(due(&store, query("ops", 8)).await, (next, None));
    tell(&store, "ops", GateState::Denied, 9, Told::Sent).await;
    // What was sent stays sent.
    tell(&store, "ops", GateState::Denied, 10, failed(11)).await;
    assert_eq!(due(&store, query("ops", 12)).await, (vec![], None));
    let rows = store.notices("ops", 10).await.unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.gate, row.state)).collect();
    assert_eq!(
        told,
        [
            (GateState::Denied, NoticeState::Sent),
            (GateState::AwaitingApproval, NoticeState::Sent),
        ]
    );
    assert_eq!(store.notices("ops", 1).await.unwrap(), rows[..1]);
    assert_eq!(store.notices("none", 10).await.unwrap(), []);
    assert_conflict!(
        store
            .told("ops", "run-9", GateState::Denied, at(9), Told::Sent)
            .await,
        Conflict::NoSuchRun(_)
    );
}

pub(crate) async fn what_failed_is_told_again_when_it_is_due(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    asked(&store, &job, "run-1").await;
    let gate = GateState::AwaitingApproval;
    tell(&store, "ops", gate, 10, failed(50)).await;
    assert_eq!(due(&store, query("ops", 49)).await, (vec![], Some(50)));
    let again = store.news(query("ops", 50)).await.unwrap();
    assert_eq!(again.next_at, None);
    let [due_again] = &again.due[..] else {
        panic!("one: {again:?}")
    };
    assert_eq!((due_again.attempts, due_again.first_at), (1, Some(at(10))));
    tell(&store, "ops", gate, 50, failed(90)).await;
    let [row] = &store.notices("ops", 10).await.unwrap()[..] else {
        panic!("one row")
    };
    assert_eq!(
        (row.attempts, row.first_at, row.last_at),
        (2, at(10), at(50))
    );
    assert_eq!(row.state, NoticeState::Waiting { next_at: at(90) });
    assert_eq!(row.error.as_deref(), Some("connection refused"));
    // A retry is due however long ago the run changed.
    let mut late = query("ops", 90);
    late.since = at(80);
    assert_eq!(due(&store, late).await, (runs(&[("run-1", 2)]), None));
    assert_eq!(store.given_up("ops", at(0)).await.unwrap(), 0);
    let error = "connection refused".to_owned();
    tell(&store, "ops", gate, 95, Told::GaveUp { error }).await;
    assert_eq!(due(&store, query("ops", 900)).await, (vec![], None));
    let row = store.notices("ops", 1).await.unwrap().remove(0);
    assert_eq!((row.state, row.attempts), (NoticeState::GaveUp, 3));
    assert_eq!(store.given_up("ops", at(95)).await.unwrap(), 1);
    assert_eq!(store.given_up("ops", at(96)).await.unwrap(), 0);
}

pub(crate) async fn only_what_stands_is_told(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    asked(&store, &job, "run-1").await;
    tell(&store, "ops", GateState::AwaitingApproval, 10, failed(50)).await;
    // It was decided before the question got through: nobody is asked any more.
    moves(&store, "run-1", GateState::Denied, None).await;
    assert_eq!(
        due(&store, query("ops", 20)).await,
        (runs(&[("run-1", 0)]), None)
    );
    tell(&store, "ops", GateState::Denied, 21, Told::Sent).await;
    assert_eq!(due(&store, query("ops", 60)).await, (vec![], None));
    let row = store.notices("ops", 10).await.unwrap().remove(1);
    assert_eq!(row.state, NoticeState::Overtaken);
}

pub(crate) async fn not_everything_is_worth_telling(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    // Nobody wants it applied.
    awaiting(&store, &job, "run-0").await;
    assert_eq!(due(&store, query("ops", 5)).await, (vec![], None));
    asked(&store, &job, "run-1").await;
    asked(&store, &job, "run-2").await;
    let both = runs(&[("run-1", 0), ("run-2", 0)]);
    assert_eq!(due(&store, query("ops", 5)).await, (both, None));
    for (what, change) in [
        ("another state", {
            let mut query = query("ops", 5);
            query.gates.remove(0);
            query
        }),
        ("long ago", {
            let mut query = query("ops", 5);
            query.since = at(4);
            query
        }),
        ("the question has lapsed", query("ops", 3_600_000)),
    ] {
        assert_eq!(due(&store, change).await, (vec![], None), "{what}");
    }
    let mut one = query("ops", 5);
    one.limit = 1;
    assert_eq!(due(&store, one).await, (runs(&[("run-1", 0)]), None));
    // The agent threw one plan away, a person the other.
    let by = Some("cancel-run by the agent");
    moves(&store, "run-1", GateState::Discarded, by).await;
    let by = Some("discarded by ada: not now");
    moves(&store, "run-2", GateState::Discarded, by).await;
    let told = runs(&[("run-2", 0)]);
    assert_eq!(due(&store, query("ops", 5)).await, (told, None));
    // On its way it is not news either.
    asked(&store, &job, "run-3").await;
    moves(&store, "run-3", GateState::Applying, None).await;
    let told = runs(&[("run-2", 0)]);
    assert_eq!(due(&store, query("ops", 5)).await, (told, None));
}
