//! Several gateways on one database: what they know of each other, and what becomes of one that
//! goes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use proof::record::Lane;
use proof::{Hash, merkle};
use store::{
    Happened, KeyClaim, LeasedJob, ModelLimits, ModelSpend, ModelUsage, PostgresPlace, Seat, Store,
    StoreError,
};

use crate::fixtures::*;
use crate::proxy::{Cut, Proxy};
use crate::server::Schema;

/// How long something that must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The gateway that is there, by the number that it has now; and that nothing was heard of it for
/// long.
const WHICH: &str = "CREATE TABLE silent AS SELECT number FROM writers";
const SILENT: &str = "UPDATE writers SET seen = 0 WHERE number IN (SELECT number FROM silent)";

fn news(store: &Arc<dyn Store>) -> Receiver<Happened> {
    let (sender, news) = channel();
    store.follow(Box::new(move |one| {
        let _ = sender.send(one);
    }));
    news
}

fn wait_for(news: &Receiver<Happened>, one: &Happened) {
    let until = Instant::now() + PATIENCE;
    while news
        .recv_timeout(until.saturating_duration_since(Instant::now()))
        .unwrap_or_else(|_| panic!("nothing of {one:?}"))
        != *one
    {}
}

async fn leads(store: &Arc<dyn Store>, leads: bool) {
    let mut now = store.leads();
    let changed = now.wait_for(|now| *now == leads);
    tokio::time::timeout(PATIENCE, changed)
        .await
        .unwrap_or_else(|_| panic!("it never became {leads}"))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_ends_the_others_are_told() {
    let Some(schema) = Schema::new() else { return };
    let (one, other) = (schema.open(), schema.open());
    let job = open_job(&one, 1).await;
    let token = token(&job, 1);
    one.issue(token.clone()).await.unwrap();
    let published = contract("other", "v2");
    one.publish(published.clone()).await.unwrap();
    let news = news(&other);
    let mut commits = other.commits();
    one.revoke(&token.token_hash, "ada", "lost", at(5))
        .await
        .unwrap();
    wait_for(&news, &Happened::Revoked(token.token_hash));
    one.withdraw(&published.policy_hash, "ada", at(6))
        .await
        .unwrap();
    wait_for(&news, &Happened::Withdrawn(published.policy_hash));
    commits.mark_unchanged();
    one.close_job(&job, "ada", "done", at(7)).await.unwrap();
    wait_for(&news, &Happened::Closed(job));
    tokio::time::timeout(PATIENCE, commits.changed())
        .await
        .unwrap()
        .unwrap();
    assert!(other.is_shared());
    // Whoever comes later is not told what was before.
    let late = schema.open();
    let late_news = self::news(&late);
    let second = open_job(&one, 2).await;
    one.close_job(&second, "ada", "done", at(8)).await.unwrap();
    let first = late_news.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first, Happened::Closed(second));
}

/// Waits as a gateway does: it is told of each commit, and looks again.
async fn all_took_up(store: &Arc<dyn Store>, key_set: u64) {
    let mut commits = store.commits();
    let taken_up = async {
        while !store.all_took_up(key_set).await.unwrap() {
            commits.changed().await.unwrap();
        }
    };
    let taken_up = tokio::time::timeout(PATIENCE, taken_up);
    taken_up.await.expect("all of them take it up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_a_key_set_is_known_to_whoever_waits_for_that() {
    let Some(schema) = Schema::new() else { return };
    let (one, other) = (schema.open(), schema.open());
    let news = news(&other);
    let first = first_key_set();
    one.append_key_set(1, first, at(1)).await.unwrap();
    wait_for(&news, &Happened::KeySet(1));
    one.took_up(1).await.unwrap();
    assert!(!one.all_took_up(1).await.unwrap(), "the other has not");
    let (told, ()) = tokio::join!(other.took_up(1), all_took_up(&one, 1));
    told.unwrap();
    // One that was taken for gone begins anew with what it had said.
    schema.tamper("DELETE FROM writers").unwrap();
    open_job(&one, 1).await;
    open_job(&other, 2).await;
    assert!(one.all_took_up(1).await.unwrap());
    assert!(!one.all_took_up(2).await.unwrap());
    // A command beside them is no gateway that could follow; one that goes is not waited for.
    let late = schema.open();
    assert!(!one.all_took_up(1).await.unwrap(), "it has said nothing");
    let _beside = store::open_postgres(&schema.place(), Seat::Beside).unwrap();
    drop(late);
    all_took_up(&one, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_append_to_one_log() {
    let Some(schema) = Schema::new() else { return };
    let stores = [schema.open(), schema.open(), schema.open()];
    let job = open_job(&stores[0], 1).await;
    let mut appending = Vec::new();
    for n in 0..30 {
        let (store, job) = (Arc::clone(&stores[n % 3]), job.clone());
        appending.push(tokio::spawn(async move {
            append(&store, &job, refusal()).await.unwrap().leaf_index
        }));
    }
    let mut leaves = Vec::new();
    for one in appending {
        leaves.push(one.await.unwrap());
    }
    leaves.sort_unstable();
    assert_eq!(leaves, (1..31).collect::<Vec<_>>());
    let all = records(&stores[1], &job).await;
    let hashes: Vec<_> = all.iter().map(|(_, record)| record.leaf_hash()).collect();
    let root = merkle::root(hashes.as_slice(), 31).unwrap();
    for store in &stores {
        assert_eq!(store.log_root(31).await.unwrap(), Some(root));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_and_the_next_one_takes_over() {
    let Some(schema) = Schema::new() else { return };
    let first = schema.open();
    leads(&first, true).await;
    let second = schema.open();
    assert!(!*second.leads().borrow());
    assert!(first.claim("seal/1").await.unwrap());
    assert!(!second.claim("seal/1").await.unwrap());
    assert!(first.claim("seal/1").await.unwrap(), "it has it already");
    second.release("seal/1").await.unwrap();
    assert!(!second.claim("seal/1").await.unwrap(), "not its own");
    let news = news(&second);
    drop(first);
    leads(&second, true).await;
    wait_for(&news, &Happened::GatewayGone);
    assert!(second.claim("seal/1").await.unwrap());
    second.release("seal/1").await.unwrap();
    let third = schema.open();
    assert!(third.claim("seal/1").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_leaves_behind_is_settled_and_what_others_do_is_not() {
    let Some(schema) = Schema::new() else { return };
    let (gone, there) = (schema.open(), schema.open());
    let job = open_job(&gone, 1).await;
    let most = ModelSpend {
        tokens: 70,
        cost: 700,
    };
    let reserve = |store: &Arc<dyn Store>| {
        let (store, job) = (Arc::clone(store), job.clone());
        async move {
            store
                .reserve_model(&job, ModelLimits::default(), most, at(1))
                .await
                .unwrap()
        }
    };
    let left = reserve(&gone).await;
    let kept = reserve(&there).await;
    let keys = [Hash::of(b"gone"), Hash::of(b"there")];
    for (store, key) in [&gone, &there].into_iter().zip(keys) {
        store.claim_model_key(&job, key, key, at(1)).await.unwrap();
    }
    let left_intent = append(&gone, &job, intent(Lane::Model)).await.unwrap();
    append(&there, &job, intent(Lane::Model)).await.unwrap();
    assert_eq!(there.left_behind().await.unwrap(), []);
    let news = news(&there);
    drop(gone);
    wait_for(&news, &Happened::GatewayGone);
    let usage = there.model_usage(&job).await.unwrap();
    let expected = ModelUsage {
        calls: 2,
        tokens: 70,
        reserved: 70,
        cost: 700,
        cost_reserved: 700,
    };
    assert_eq!(usage, expected);
    let store::Reservation::Granted { id } = left else {
        panic!("{left:?}")
    };
    assert!(there.settle_model(id, most).await.is_err(), "it is settled");
    let store::Reservation::Granted { id } = kept else {
        panic!("{kept:?}")
    };
    there.settle_model(id, most).await.unwrap();
    let [lost, open] = keys.map(|key| there.claim_model_key(&job, key, key, at(1)));
    assert_eq!(lost.await.unwrap(), KeyClaim::Lost);
    assert_eq!(open.await.unwrap(), KeyClaim::InFlight);
    let behind = there.left_behind().await.unwrap();
    let behind: Vec<_> = behind.iter().map(|intent| intent.seq).collect();
    assert_eq!(behind, [left_intent.seq]);
}

/// A gateway that stood still for long is gone for the others. When it goes on it has lost what it
/// was doing, and takes part again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_counted_as_gone_begins_anew() {
    let Some(schema) = Schema::new() else { return };
    let first = schema.open();
    schema.tamper(WHICH).unwrap();
    let second = schema.open();
    let job = open_job(&first, 1).await;
    let intent = append(&first, &job, intent(Lane::Model)).await.unwrap();
    let news = news(&second);
    // Until its next sign of life puts it right; the second one may look before that, or not.
    while news.try_recv() != Ok(Happened::GatewayGone) {
        schema.tamper(SILENT).unwrap();
        second.check_room().await.unwrap();
        append(&second, &job, refusal()).await.unwrap();
    }
    leads(&second, true).await;
    let behind = second.left_behind().await.unwrap();
    assert_eq!(behind.len(), 1);
    second
        .append_outcome(&job, at(9), outcome(intent.seq), None, Vec::new())
        .await
        .unwrap();
    let twice = first.append_outcome(&job, at(9), outcome(intent.seq), None, Vec::new());
    assert!(matches!(twice.await, Err(StoreError::Conflict(_))));
    let size = first.log_size().await.unwrap();
    let next = append(&first, &job, refusal()).await.unwrap();
    assert_eq!(next.leaf_index, size, "it takes part");
    leads(&first, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_look_is_not_current_and_is_told() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::start(&schema.server_address());
    let place = PostgresPlace::parse(&proxy.instead_of(&schema.address()), None, false).unwrap();
    let cut = store::open_postgres(&place, Seat::Gateway).unwrap();
    leads(&cut, true).await;
    let other = schema.open();
    let news = news(&cut);
    proxy.close();
    wait_for(&news, &Happened::CutOff);
    assert!(!cut.is_current());
    assert!(!*cut.leads().borrow());
    let job = open_job(&other, 1).await;
    assert!(matches!(
        append(&cut, &job, refusal()).await,
        Err(StoreError::Unavailable(_))
    ));
    leads(&other, true).await;
    proxy.open();
    let token = token(&job, 1);
    other.issue(token.clone()).await.unwrap();
    other
        .revoke(&token.token_hash, "ada", "lost", at(5))
        .await
        .unwrap();
    wait_for(&news, &Happened::Revoked(token.token_hash));
    append(&cut, &job, refusal()).await.unwrap();
}

/// What stands between a gateway and its database has stopped, and still takes bytes: no
/// connection breaks, and nobody answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_answered_is_cut_off_and_comes_back() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::start(&schema.server_address());
    let place = PostgresPlace::parse(&proxy.instead_of(&schema.address()), None, false).unwrap();
    let cut = store::open_postgres(&place, Seat::Gateway).unwrap();
    leads(&cut, true).await;
    let other = schema.open();
    let job = open_job(&other, 1).await;
    let token = token(&job, 1);
    other.issue(token.clone()).await.unwrap();
    let news = news(&cut);
    proxy.freeze();
    wait_for(&news, &Happened::CutOff);
    assert!(!cut.is_current());
    assert!(!*cut.leads().borrow());
    let reading = cut.job(&job).await;
    assert!(matches!(reading, Err(StoreError::Unavailable(_))));
    assert!(matches!(
        append(&cut, &job, refusal()).await,
        Err(StoreError::Unavailable(_))
    ));
    other
        .revoke(&token.token_hash, "ada", "lost", at(5))
        .await
        .unwrap();
    proxy.thaw();
    wait_for(&news, &Happened::Revoked(token.token_hash));
    append(&cut, &job, refusal()).await.unwrap();
    // Each of the connections that hang is found out when it is used.
    for _ in 0..8 {
        cut.job(&job).await.unwrap();
    }
}

/// A connection that breaks in the middle of a look, after the news was read and before anybody
/// was told: the next look tells it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broken_look_has_read_is_told_by_the_next_one() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::start(&schema.server_address());
    let place = PostgresPlace::parse(&proxy.instead_of(&schema.address()), None, false).unwrap();
    let other = store::open_postgres(&place, Seat::Gateway).unwrap();
    let one = schema.open();
    let job = open_job(&one, 1).await;
    let token = token(&job, 1);
    one.issue(token.clone()).await.unwrap();
    let published = contract("other", "v2");
    one.publish(published.clone()).await.unwrap();
    let news = news(&other);

    proxy.arm(Cut::After(token.token_hash.as_bytes().to_vec()));
    one.revoke(&token.token_hash, "ada", "lost", at(5))
        .await
        .unwrap();
    wait_for(&news, &Happened::Revoked(token.token_hash));
    assert!(proxy.has_cut());

    proxy.arm(Cut::After(published.policy_hash.as_bytes().to_vec()));
    one.withdraw(&published.policy_hash, "ada", at(6))
        .await
        .unwrap();
    wait_for(&news, &Happened::Withdrawn(published.policy_hash));
    assert!(proxy.has_cut());

    proxy.arm(Cut::After(job.as_str().as_bytes().to_vec()));
    one.close_job(&job, "ada", "done", at(7)).await.unwrap();
    wait_for(&news, &Happened::Closed(job));
    assert!(proxy.has_cut());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_of_a_lease_are_counted_for_all() {
    let Some(schema) = Schema::new() else { return };
    let stores = [schema.open(), schema.open()];
    let mut opening = opening("work");
    opening.lease_seconds = None;
    let unleased = job_id(1);
    stores[0]
        .publish(contract("staging", "work"))
        .await
        .unwrap();
    stores[0].open_job(unleased, at(1), opening).await.unwrap();
    assert_eq!(stores[1].leased_jobs().await.unwrap(), []);
    let leased = open_job(&stores[0], 2).await;
    for renewals in 0..3 {
        let found = stores[1].leased_jobs().await.unwrap();
        let expected = LeasedJob {
            job_id: leased.clone(),
            seconds: 60,
            renewals,
        };
        assert_eq!(found, [expected]);
        let store = &stores[renewals as usize % 2];
        store.renew_lease(&leased).await.unwrap();
    }
    let closing = stores[0].close_job(&leased, "ada", "done", at(9));
    closing.await.unwrap();
    assert!(stores[1].renew_lease(&leased).await.is_err());
    assert_eq!(stores[1].leased_jobs().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_store_is_not_read_in_beside_a_gateway() {
    let Some(schema) = Schema::new() else { return };
    let gateway = schema.open();
    let refused = store::open_postgres(&schema.place(), Seat::Alone).err();
    assert!(matches!(refused, Some(StoreError::Unavailable(_))));
    drop(gateway);
    store::open_postgres(&schema.place(), Seat::Alone).unwrap();
}

#[test]
fn many_begin_on_an_empty_database() {
    let Some(schema) = Schema::new() else { return };
    let opened: Vec<_> = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..4).map(|_| scope.spawn(|| schema.open())).collect();
        opening
            .into_iter()
            .map(|opened| opened.join().unwrap())
            .collect()
    });
    let leading = opened.iter().filter(|store| *store.leads().borrow());
    assert_eq!(leading.count(), 1);
}
