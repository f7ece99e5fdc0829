//! Everything in the order of writing.

use std::sync::Arc;

use proof::record::{Body, Lane};
use proof::{Json, Timestamp};
use store::{LogRange, Logged, LoggedRecord, OperatorAction, Store};

use crate::fixtures::*;

fn whole(all: Vec<Logged>) -> Vec<LoggedRecord> {
    all.into_iter().filter_map(Logged::record).collect()
}

async fn logged(store: &Arc<dyn Store>, from: u64, limit: u32) -> Vec<LoggedRecord> {
    let range = LogRange {
        from,
        job: None,
        limit,
    };
    whole(store.logged(range).await.unwrap())
}

pub(crate) async fn the_log_is_read_in_its_order_with_what_belongs_to_it(store: Arc<dyn Store>) {
    let (one, two) = (open_job(&store, 1).await, open_job(&store, 2).await);
    store.insert_run(run(&two, "run-1")).await.unwrap();
    let mut of_run = bare_intent(Lane::Gateway);
    of_run.run_id = Some("run-1".into());
    let asked = append(&store, &one, intent(Lane::Terraform)).await.unwrap();
    let told = append(&store, &two, Body::Intent(Box::new(of_run.clone())));
    let told = told.await.unwrap();
    append(&store, &one, refusal()).await.unwrap();
    for (job, seq) in [(&two, told.seq), (&one, asked.seq)] {
        let pending = store.append_outcome(job, at(11), outcome(seq), None, Vec::new());
        pending.await.unwrap();
    }
    let all = logged(&store, 0, 1000).await;
    let indexes: Vec<u64> = all.iter().map(|row| row.leaf_index).collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4, 5, 6]);
    let mut parts = logged(&store, 0, 3).await;
    parts.extend(logged(&store, 3, 3).await);
    parts.extend(logged(&store, 6, 3).await);
    assert_eq!(parts, all);
    assert_eq!(logged(&store, 7, 3).await, []);

    for row in &all {
        assert_eq!(row.leaf_hash, row.record.leaf_hash());
        assert_eq!(row.agent_did, key(2).did());
        assert_eq!(row.policy_hash, hash("v1"));
        assert_eq!(row.contract, ("staging".to_owned(), 1));
    }
    let intents: Vec<Option<Lane>> = all
        .iter()
        .map(|row| row.intent.as_ref().map(|intent| intent.lane))
        .collect();
    let (gateway, terraform) = (Some(Lane::Gateway), Some(Lane::Terraform));
    assert_eq!(intents, [None, None, None, None, None, gateway, terraform]);
    let place = Some(("acme".to_owned(), "ws-1".to_owned()));
    let places: Vec<bool> = all.iter().map(|row| row.place == place).collect();
    assert_eq!(places, [false, false, false, true, false, true, false]);

    let of_one = LogRange {
        from: 1,
        job: Some(one.clone()),
        limit: 2,
    };
    let page = whole(store.logged(of_one.clone()).await.unwrap());
    assert_eq!(page, [all[2].clone(), all[4].clone()]);
    let rest = LogRange { from: 5, ..of_one };
    assert_eq!(
        whole(store.logged(rest.clone()).await.unwrap()),
        [all[6].clone()]
    );
    let nobody = LogRange {
        job: Some(job_id(9)),
        ..rest
    };
    assert_eq!(store.logged(nobody).await.unwrap(), []);
}

pub(crate) async fn a_time_is_found_in_the_log(store: Arc<dyn Store>) {
    let place = async |ms| store.log_place(at(ms)).await.unwrap();
    assert_eq!(place(0).await, 0);
    let (one, two) = (open_job(&store, 1).await, open_job(&store, 2).await);
    // Leaves 2 to 7; the third of them comes late, the fourth has an older time than that.
    for (job, ms) in [
        (&one, 10),
        (&one, 20),
        (&two, 50),
        (&one, 30),
        (&one, 50),
        (&two, 60),
    ] {
        store.append(job, at(ms), refusal()).await.unwrap();
    }
    for (ms, leaf) in [
        (-5, 0),
        (0, 0),
        (1, 2),
        (10, 2),
        (11, 3),
        (20, 3),
        (21, 4),
        // The record of 30 stands after one of 50, so it is found by whoever begins there.
        (30, 4),
        (50, 4),
        (51, 7),
        (60, 7),
        (61, 8),
    ] {
        assert_eq!(place(ms).await, leaf, "{ms}");
    }
    let since = |ms: i64| -> Timestamp { at(ms) };
    for ms in 0..=61 {
        let from = place(ms).await;
        let missed = logged(&store, 0, 1000).await;
        let mut missed = missed.iter().filter(|row| row.leaf_index < from);
        assert!(missed.all(|row| row.record.at < since(ms)), "{ms}");
    }
}

pub(crate) async fn actions_are_read_in_their_order(store: Arc<dyn Store>) {
    assert_eq!(store.last_action().await.unwrap(), 0);
    for n in 1..=5 {
        let action = OperatorAction {
            at: at(n),
            operator: "ada".into(),
            action: "job.open".into(),
            subject: format!("job_{n}"),
            detail: Json::object(),
        };
        store.note_operator_action(action).await.unwrap();
    }
    let read = async |after, limit| -> Vec<(u64, String)> {
        let actions = store.actions_after(after, limit).await.unwrap();
        let numbered = actions.into_iter();
        numbered
            .map(|numbered| (numbered.number, numbered.action.subject))
            .collect()
    };
    let [second, third] = [(2, "job_2".to_owned()), (3, "job_3".to_owned())];
    assert_eq!(read(1, 2).await, [second, third]);
    assert_eq!(read(0, 1000).await.len(), 5);
    assert_eq!(read(5, 10).await, []);
    assert_eq!(store.last_action().await.unwrap(), 5);
}
