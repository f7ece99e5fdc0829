//! What content goes, and what never does.

use std::sync::Arc;

use proof::EnvelopeType;
use proof::record::{JobId, Lane};
use store::{
    BundleRow, Conflict, GateState, LogRange, Logged, MAX_HOLDS, PRUNED_AT_ONCE, Part, Publication,
    ReceiptKind, RunUpdate, Store,
};

use crate::assert_conflict;
use crate::fixtures::*;

/// A call with a receipt of this id; the place of its outcome in the log.
async fn call(store: &Arc<dyn Store>, job: &JobId, lane: Lane, id: &str) -> u64 {
    let asked = append(store, job, intent(lane)).await.unwrap();
    let kind = match lane {
        Lane::Model => EnvelopeType::GatewayReceipt,
        _ => EnvelopeType::ToolReceipt,
    };
    let (envelope, named) = receipt(kind, id);
    let mut outcome = outcome(asked.seq);
    outcome.receipt = Some(named);
    let pending = store.append_outcome(job, at(11), outcome, Some(envelope), Vec::new());
    pending.await.unwrap().leaf_index
}

async fn seal(store: &Arc<dyn Store>, job: &JobId) {
    store.close_job(job, "ada", "done", at(40)).await.unwrap();
    let bundle = BundleRow {
        job_id: job.clone(),
        sha256: hash("bundle"),
        bytes: 1234,
        sealed_at: at(50),
        verdict: None,
    };
    store.save_bundle(bundle, Vec::new()).await.unwrap();
}

async fn prunable(store: &Arc<dyn Store>, part: Part, before: i64) -> Vec<JobId> {
    let found = store.prunable(part, at(before), at(90), 0, 10).await;
    found.unwrap().into_iter().map(|row| row.job_id).collect()
}

async fn prune(store: &Arc<dyn Store>, job: &JobId) -> usize {
    store
        .begin_pruning(job, Part::Records, "ada", at(80))
        .await
        .unwrap();
    let (mut before, mut batches) = (None, 0);
    while let Some(lowest) = store.prune_records(job, before).await.unwrap() {
        (before, batches) = (Some(lowest), batches + 1);
    }
    store.finish_pruning(job, Part::Records).await.unwrap();
    batches
}

pub(crate) async fn what_is_needed_does_not_go(store: Arc<dyn Store>) {
    let (open, closed, running) = (
        open_job(&store, 1).await,
        open_job(&store, 2).await,
        open_job(&store, 3).await,
    );
    store
        .close_job(&closed, "ada", "done", at(40))
        .await
        .unwrap();
    store.insert_run(run(&running, "run-1")).await.unwrap();
    seal(&store, &running).await;
    let (held, linked, free) = (
        open_job(&store, 4).await,
        open_job(&store, 5).await,
        open_job(&store, 6).await,
    );
    for job in [&held, &linked, &free] {
        seal(&store, job).await;
    }
    store.hold(&held, "eve", "a lawsuit", at(60)).await.unwrap();
    let link = Publication {
        id: "pub_1".into(),
        link_hash: hash("link"),
        job_id: linked.clone(),
        published_by: "ada".into(),
        published_at: at(60),
        expires_at: at(100),
        withdrawn: None,
    };
    store.publish_job(link).await.unwrap();
    for part in Part::ALL {
        assert_eq!(prunable(&store, part, 40).await, [], "it is not old enough");
        for job in [&open, &closed, &running] {
            let begun = store.begin_pruning(job, part, "ada", at(80)).await;
            assert_conflict!(begun, Conflict::JobOpen(_));
        }
        let begun = store.begin_pruning(&held, part, "ada", at(80)).await;
        assert_conflict!(begun, Conflict::JobHeld(_));
        assert_eq!(store.prunings(&held).await.unwrap(), []);
    }
    let both = [linked.clone(), free.clone()];
    assert_eq!(prunable(&store, Part::Records, 41).await, both);
    assert_eq!(
        prunable(&store, Part::Bundle, 41).await,
        std::slice::from_ref(&free)
    );
    // Somebody has made the link since the job was listed.
    let begun = store.begin_pruning(&linked, Part::Bundle, "ada", at(99));
    assert_conflict!(begun.await, Conflict::JobLinked(_));
    let begun = store.begin_pruning(&linked, Part::Bundle, "ada", at(100));
    assert!(begun.await.unwrap(), "the link has ended");
    // And no link to what is going.
    let late = Publication {
        id: "pub_2".into(),
        link_hash: hash("late"),
        job_id: linked.clone(),
        published_by: "ada".into(),
        published_at: at(100),
        expires_at: at(200),
        withdrawn: None,
    };
    assert_conflict!(store.publish_job(late).await, Conflict::ContentPruned(_));
    assert_eq!(store.held_back(at(41)).await.unwrap(), 1);
    assert_conflict!(
        store.prune_records(&free, None).await,
        Conflict::NotPruned(_)
    );
    // One whose run has ended.
    let from = [GateState::Planned];
    let update = RunUpdate::default();
    let ended = store.transition("run-1", &from, GateState::Finished, at(70), update);
    assert!(ended.await.unwrap().is_some());
    assert_eq!(prunable(&store, Part::Records, 41).await.len(), 3);
}

pub(crate) async fn a_hold_stands_until_it_is_lifted(store: Arc<dyn Store>) {
    let (job, other) = (open_job(&store, 1).await, open_job(&store, 2).await);
    assert_eq!(store.held_since().await.unwrap(), None);
    let place = async |why: &'static str| store.hold(&job, "eve", why, at(60)).await.unwrap();
    assert_eq!((place("one").await, place("two").await), (Some(1), Some(2)));
    assert_eq!(store.held_since().await.unwrap(), Some(at(0)));
    seal(&store, &job).await;
    let lift = async |job: &JobId, number| {
        let lifted = store.lift_hold(job, number, "ada", "settled", at(70));
        lifted.await.unwrap()
    };
    assert!(!lift(&other, 1).await, "of another job");
    assert!(!lift(&job, 3).await, "there is none");
    assert!(lift(&job, 1).await);
    assert!(!lift(&job, 1).await, "once");
    assert_eq!(prunable(&store, Part::Records, 41).await, [], "two stands");
    assert!(lift(&job, 2).await);
    assert_eq!(
        prunable(&store, Part::Records, 41).await,
        std::slice::from_ref(&job)
    );
    assert_eq!(store.held_since().await.unwrap(), None);

    let all = store.holds(Some(&job), false, None, 10).await.unwrap();
    let told: Vec<(u64, &str, &str)> = all
        .iter()
        .map(|hold| {
            let lifted = hold.lifted.as_ref().unwrap();
            (hold.number, hold.reason.as_str(), lifted.by.as_str())
        })
        .collect();
    assert_eq!(told, [(2, "two", "ada"), (1, "one", "ada")]);
    assert_eq!(store.holds(None, true, None, 10).await.unwrap(), []);
    assert_eq!(
        store.holds(Some(&other), false, None, 10).await.unwrap(),
        []
    );
    let older = store.holds(None, false, Some(2), 10).await.unwrap();
    assert_eq!(older.len(), 1);
    for n in 0..MAX_HOLDS {
        assert_eq!(place("more").await, Some(3 + u64::from(n)));
    }
    assert_eq!(place("too many").await, None);
    assert_conflict!(
        store.hold(&job_id(9), "eve", "why", at(1)).await,
        Conflict::NoSuchJob(_)
    );
}

pub(crate) async fn content_goes_and_the_log_stays(store: Arc<dyn Store>) {
    let (job, other) = (open_job(&store, 1).await, open_job(&store, 2).await);
    // More than one batch, with records of another job between them.
    for n in 0..PRUNED_AT_ONCE / 2 {
        call(&store, &job, Lane::Model, &format!("rcpt_{n}")).await;
        if n % 50 == 0 {
            call(&store, &other, Lane::Model, &format!("rcpt_other_{n}")).await;
        }
    }
    append(&store, &job, refusal()).await.unwrap();
    seal(&store, &job).await;
    let size = store.log_size().await.unwrap();
    let root = store.log_root(size).await.unwrap();
    let before = store.logged(all()).await.unwrap();
    let places = store.record_places(&job, 0, 1000).await.unwrap();
    let rest = records(&store, &other).await;

    assert_eq!(prune(&store, &job).await, 2);
    assert!(
        !store
            .begin_pruning(&job, Part::Records, "eve", at(85))
            .await
            .unwrap()
    );
    assert_eq!(prune(&store, &job).await, 0, "again, it does nothing");
    let went = store.prunings(&job).await.unwrap();
    assert_eq!(went.len(), 1);
    assert!(went[0].finished && went[0].by == "ada" && went[0].at == at(80));
    assert_eq!(prunable(&store, Part::Records, 41).await, []);
    assert_eq!(
        prunable(&store, Part::Bundle, 41).await,
        std::slice::from_ref(&job)
    );

    // What others rely on is what it was.
    assert_eq!(store.log_size().await.unwrap(), size);
    assert_eq!(store.log_root(size).await.unwrap(), root);
    assert_eq!(store.record_places(&job, 0, 1000).await.unwrap(), places);
    assert_eq!(records(&store, &other).await, rest);
    let after = store.logged(all()).await.unwrap();
    assert_eq!(after.len(), before.len());
    for (was, is) in before.iter().zip(&after) {
        assert_eq!((was.leaf_index(), was.at()), (is.leaf_index(), is.at()));
        match (was, is) {
            (Logged::Record(was), Logged::Pruned(is)) => {
                assert_eq!(was.leaf_hash, is.leaf_hash);
                assert_eq!((&was.record.job_id, was.record.seq), (&job, is.seq));
                assert_eq!(is.job_id, job);
            }
            (was, is) => assert_eq!(was, is),
        }
    }
    // The content is gone, and is not called missing.
    assert_eq!(records(&store, &job).await, []);
    assert_eq!(store.refusals(&job, 10).await.unwrap(), []);
    assert_conflict!(
        store.receipt(&job, "rcpt_0").await,
        Conflict::ContentPruned(_)
    );
    assert_conflict!(
        store.find_receipt("rcpt_0").await,
        Conflict::ContentPruned(_)
    );
    let outcome = store.outcome_of_receipt("rcpt_0").await.unwrap();
    assert!(outcome.is_some_and(|leaf| places.iter().any(|place| place.leaf_index == leaf)));
    assert!(store.find_receipt("rcpt_other_0").await.unwrap().is_some());
    // A hold that comes too late brings nothing back, and keeps the bundle.
    store.hold(&job, "eve", "late", at(90)).await.unwrap();
    let begun = store.begin_pruning(&job, Part::Bundle, "ada", at(95)).await;
    assert_conflict!(begun, Conflict::JobHeld(_));
    // The log goes on.
    append(&store, &other, refusal()).await.unwrap();
    assert!(store.consistency(size, size + 1).await.unwrap().is_some());
}

fn all() -> LogRange {
    LogRange {
        from: 0,
        job: None,
        limit: 1000,
    }
}

pub(crate) async fn a_receipt_is_found_by_its_time(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let id = |ms: i64, end: &str| {
        let millis = format!("{:012x}", at(ms).millis());
        format!(
            "rcpt_{}-{}-7abc-8def-{end:0>12}",
            &millis[..8],
            &millis[8..]
        )
    };
    let early = call(&store, &job, Lane::Model, &id(9, "1")).await;
    let late = call(&store, &job, Lane::Model, &id(10, "2")).await;
    // One whose clock was ahead, and one without a time.
    let ahead = call(&store, &job, Lane::Model, &id(99_999_999, "3")).await;
    let plain = call(&store, &job, Lane::Model, "rcpt_plain").await;
    for (id, leaf) in [
        (id(9, "1"), Some(early)),
        (id(10, "2"), Some(late)),
        (id(99_999_999, "3"), Some(ahead)),
        ("rcpt_plain".to_owned(), Some(plain)),
        (id(10, "4"), None),
        ("rcpt_none".to_owned(), None),
    ] {
        assert_eq!(store.outcome_of_receipt(&id).await.unwrap(), leaf, "{id}");
        let found = store.find_receipt(&id).await.unwrap();
        assert_eq!(found.map(|(job, _)| job), leaf.map(|_| job.clone()), "{id}");
    }
}

pub(crate) async fn a_jobs_receipts_are_read_in_pages(store: Arc<dyn Store>) {
    let (job, other) = (open_job(&store, 1).await, open_job(&store, 2).await);
    let mut expected = Vec::new();
    for n in 0..7 {
        expected.push(call(&store, &job, Lane::Model, &format!("rcpt_m{n}")).await);
        call(&store, &job, Lane::Terraform, &format!("rcpt_t{n}")).await;
        call(&store, &other, Lane::Model, &format!("rcpt_o{n}")).await;
    }
    let (mut found, mut envelopes) = (Vec::new(), Vec::new());
    loop {
        let after = found.last().copied();
        let page = store.receipts_after(&job, ReceiptKind::Gateway, after, 3);
        let page = page.await.unwrap();
        if page.is_empty() {
            break;
        }
        for (leaf, envelope) in page {
            found.push(leaf);
            envelopes.push(envelope);
        }
    }
    assert_eq!(found, expected);
    assert_eq!(envelopes, store.receipts(&job).await.unwrap().gateway);
    let tools = store
        .receipts_after(&job, ReceiptKind::Tool, None, 100)
        .await;
    assert_eq!(tools.unwrap().len(), 7);
}
