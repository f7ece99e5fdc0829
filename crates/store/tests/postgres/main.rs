//! What holds for a PostgreSQL server: conflicts, lost connections, two gateways, other schemas.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "../contract/fixtures.rs"]
#[allow(
    dead_code,
    reason = "shared with the contract suite, which uses all of it"
)]
mod fixtures;
mod proxy;
mod replicas;
#[path = "../contract/server.rs"]
mod server;
mod steps;
mod transfer;

use std::sync::Arc;

use fixtures::*;
use proof::Hash;
use proof::record::Lane;
use store::{
    Conflict, ModelLimits, ModelSpend, ModelUsage, PostgresPlace, Seat, Store, StoreError,
};

use proxy::{Cut, Proxy};
use server::Schema;

fn open(schema: &Schema, seat: Seat) -> Arc<dyn Store> {
    store::open_postgres(&schema.place(), seat).unwrap()
}

/// Waits, at the server, until another session waits for a lock that this one holds.
const UNTIL_SOMEBODY_WAITS: &str = "DO $$ BEGIN
    WHILE NOT EXISTS (SELECT 1 FROM pg_stat_activity
                      WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))) LOOP
        PERFORM pg_sleep(0.005);
        PERFORM pg_stat_clear_snapshot();
    END LOOP;
END $$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_again_after_reopening() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open();
    let job = open_job(&store, 1).await;
    append(&store, &job, intent(Lane::Model)).await.unwrap();
    store.issue(token(&job, 1)).await.unwrap();
    store.touch(&token(&job, 1).token_hash, at(40));
    let before = (
        records(&store, &job).await,
        store.log_root(2).await.unwrap(),
    );
    drop(store);
    let store = schema.open();
    let after = (
        records(&store, &job).await,
        store.log_root(2).await.unwrap(),
    );
    assert_eq!(after, before);
    let open = store.open_intents().await.unwrap();
    assert_eq!(open.len(), 1, "the call without an outcome");
    let next = append(&store, &job, refusal()).await.unwrap();
    assert_eq!((next.seq, next.leaf_index), (3, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_another_transaction_overtook_is_run_again() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open();
    let job = open_job(&store, 1).await;
    let hash = token(&job, 1).token_hash;
    store.issue(token(&job, 1)).await.unwrap();
    let counting = schema.with(|client| {
        client.batch_execute(&schema.path()).unwrap();
        client
            .batch_execute("BEGIN; UPDATE tokens SET replays_refused = 5")
            .unwrap();
        let counting = tokio::runtime::Handle::try_current().is_err();
        assert!(counting, "the client has a thread of its own");
        let (store, job) = (Arc::clone(&store), job.clone());
        let counting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(async {
                let appended = append(&store, &job, refusal()).await.unwrap();
                store.count_replay(&hash).await.unwrap();
                appended
            })
        });
        client.batch_execute(UNTIL_SOMEBODY_WAITS).unwrap();
        client.batch_execute("COMMIT").unwrap();
        counting.join().unwrap()
    });
    assert_eq!(counting.seq, 2);
    let row = store.token(&hash).await.unwrap().unwrap();
    assert_eq!(row.replays_refused, 6, "neither of the two was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_fails_what_was_on_it_and_nothing_else() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open();
    let job = open_job(&store, 1).await;
    // The writer waits for the job's row, and is ended there by the server.
    let refused = schema.with(|client| {
        client.batch_execute(&schema.path()).unwrap();
        client
            .batch_execute("BEGIN; SELECT 1 FROM jobs FOR UPDATE")
            .unwrap();
        let (store, job) = (Arc::clone(&store), job.clone());
        let appending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(append(&store, &job, refusal()))
        });
        client.batch_execute(UNTIL_SOMEBODY_WAITS).unwrap();
        client
            .batch_execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))",
            )
            .unwrap();
        let refused = appending.join().unwrap();
        client.batch_execute("ROLLBACK").unwrap();
        refused
    });
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    let next = append(&store, &job, refusal()).await.unwrap();
    assert_eq!(
        (next.seq, next.leaf_index),
        (2, 1),
        "it has connected again"
    );
    store.check_room().await.unwrap();
    assert_eq!(records(&store, &job).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_may_be_lost_between_two_operations() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open();
    let job = open_job(&store, 1).await;
    for _ in 0..8 {
        records(&store, &job).await;
    }
    schema.end_sessions();
    let next = append(&store, &job, refusal()).await.unwrap();
    assert_eq!(next.seq, 2);
    schema.end_sessions();
    assert_eq!(records(&store, &job).await.len(), 2);
}

/// The answer to a commit is lost on its way, or the commit itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_a_commit_is_asked_and_never_guessed() {
    let Some(schema) = Schema::new() else { return };
    for (cut, happens) in [(Cut::Answer, true), (Cut::Commit, false)] {
        let proxy = Proxy::start(&schema.server_address());
        let place = PostgresPlace::parse(&proxy.instead_of(&schema.address()), None, false);
        let store = store::open_postgres(&place.unwrap(), Seat::Gateway).unwrap();
        let n = if happens { 1 } else { 2 };
        let job = open_job(&store, n).await;
        let size = store.log_size().await.unwrap();
        proxy.arm(cut.clone());
        let appended = append(&store, &job, refusal()).await;
        assert!(proxy.has_cut(), "{cut:?}");
        match (&appended, happens) {
            (Ok(appended), true) => assert_eq!(appended.leaf_index, size),
            (Err(StoreError::Unavailable(_)), false) => {}
            other => panic!("{cut:?}: {other:?}"),
        }
        let now = store.log_size().await.unwrap();
        assert_eq!(now, size + u64::from(happens), "{cut:?}");
        let next = append(&store, &job, refusal()).await.unwrap();
        assert_eq!(next.leaf_index, now, "no gap and nothing twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_the_gateway_everything_works_but_the_log() {
    let Some(schema) = Schema::new() else { return };
    let gateway = schema.open();
    let job = open_job(&gateway, 1).await;
    let beside = open(&schema, Seat::Beside);
    beside.publish(contract("other", "v2")).await.unwrap();
    let refused = append(&beside, &job, refusal()).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    let refused = beside.close_job(&job, "ada", "done", at(9)).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    assert_eq!(gateway.contracts().await.unwrap().len(), 2);
    assert_eq!(append(&gateway, &job, refusal()).await.unwrap().seq, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reservations_of_a_crash_are_spent() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open();
    let job = open_job(&store, 1).await;
    let most = ModelSpend {
        tokens: 70,
        cost: 700,
    };
    let limits = ModelLimits::default();
    store
        .reserve_model(&job, limits, most, at(1))
        .await
        .unwrap();
    let key = Hash::of(b"key");
    store.claim_model_key(&job, key, key, at(1)).await.unwrap();
    // A command beside it is no crash: the reservation may still be settled.
    let beside = open(&schema, Seat::Beside);
    assert_eq!(beside.model_usage(&job).await.unwrap().reserved, 70);
    drop((store, beside));
    let store = schema.open();
    let spent = ModelUsage {
        calls: 1,
        tokens: 70,
        cost: 700,
        ..ModelUsage::default()
    };
    assert_eq!(store.model_usage(&job).await.unwrap(), spent);
    let claimed = store.claim_model_key(&job, key, key, at(1)).await;
    assert_eq!(claimed.unwrap(), store::KeyClaim::Lost);
}

#[test]
fn other_schemas_are_refused() {
    let cases: [(&str, bool); 4] = [
        (
            "INSERT INTO migrations VALUES (99, 'from the future', '\\x00')",
            true,
        ),
        ("UPDATE migrations SET sha256 = '\\x00'", false),
        ("DROP TABLE migrations", false),
        (
            "DROP TABLE migrations; CREATE TABLE migrations (version TEXT)",
            false,
        ),
    ];
    for (damage, newer) in cases {
        let Some(schema) = Schema::new() else { return };
        drop(schema.open());
        schema.tamper(damage).unwrap();
        match (
            store::open_postgres(&schema.place(), Seat::Gateway).err(),
            newer,
        ) {
            (Some(StoreError::Conflict(Conflict::NewerSchema { found: 99, known })), true) => {
                assert!(known < 99);
            }
            (Some(StoreError::Corrupt(_)), false) => {}
            (other, _) => panic!("{damage}: {other:?}"),
        }
    }
}

#[test]
fn the_schema_itself_keeps_what_was_written() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let job = open_job(&store, 1).await;
        append(&store, &job, refusal()).await.unwrap();
    });
    drop(store);
    for sql in [
        "DELETE FROM records",
        "UPDATE records SET record = '\\x00'",
        "DELETE FROM leaves WHERE leaf_index = 1",
        "UPDATE leaves SET hash = '\\x00'",
        "DELETE FROM contracts",
        "UPDATE jobs SET phase = 'closed'",
    ] {
        assert!(schema.tamper(sql).is_err(), "{sql}");
    }
}

#[test]
fn an_address_beyond_loopback_wants_encryption() {
    let tls = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
    };
    for (address, allowed, fits) in [
        ("postgres://u:p@127.0.0.1:5432/db", false, true),
        ("postgres://u:p@localhost/db?sslmode=disable", false, true),
        ("postgres://u:p@[::1]/db", false, true),
        ("host=/var/run/postgresql dbname=db user=u", false, true),
        ("postgres://u:p@db.example.com/db", false, true),
        (
            "postgres://u:p@db.example.com/db?sslmode=disable",
            false,
            false,
        ),
        (
            "postgres://u:p@db.example.com/db?sslmode=disable",
            true,
            true,
        ),
        (
            "postgres://u:p@127.0.0.1,10.0.0.7/db?sslmode=disable",
            false,
            false,
        ),
        (
            "hostaddr=10.0.0.7 host=localhost user=u sslmode=disable",
            false,
            false,
        ),
        ("host=/run/pg,localhost user=u", false, false),
        ("host=/run/pg,/tmp user=u", false, true),
        ("user=u dbname=db", false, false),
        ("nonsense", false, false),
        ("postgres://u:p@ss@db/x", false, false),
        ("postgres://u:p@s/s@db/x", false, false),
        ("postgres://u:p%40ss@db/x", false, true),
        ("host=ss@db user=u", false, false),
    ] {
        let parsed = PostgresPlace::parse(address, Some(tls()), allowed);
        assert_eq!(parsed.is_ok(), fits, "{address}");
        if let Err(error) = parsed {
            let error = error.to_string();
            assert!(!error.contains("p@") && !error.contains("ss@"), "{error}");
        }
    }
    let far = "postgres://u:p@db.example.com/db";
    assert!(
        PostgresPlace::parse(far, None, false).is_err(),
        "no TLS to be had"
    );
    let shown = format!(
        "{:?}",
        PostgresPlace::parse(far, Some(tls()), false).unwrap()
    );
    assert_eq!(shown, "PostgresPlace(db.example.com:5432/db)");
}
