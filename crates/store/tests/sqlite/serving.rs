//! Who may have the file open beside whom, and who puts it in order.

use super::*;

/// Why a store was not opened.
fn why(opened: Result<Arc<dyn Store>, StoreError>) -> String {
    match opened.err() {
        Some(StoreError::Unavailable(why)) => why.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn one_gateway_serves_from_a_file() {
    let place = Place::new();
    let serving = place.open_as(Seat::Gateway).unwrap();
    let second = why(place.open_as(Seat::Gateway));
    assert!(
        second.contains("another gateway serves from it"),
        "{second}"
    );
    assert_eq!(why(place.open_as(Seat::Alone)), "Some(Busy)");
    // The next one waits for it to end.
    let (begins, has_begun) = std::sync::mpsc::channel();
    let path = place.path.clone();
    let next = std::thread::spawn(move || {
        begins.send(()).unwrap();
        open_sqlite_as(&path, Seat::Gateway).map(drop)
    });
    has_begun.recv().unwrap();
    drop(serving);
    next.join().unwrap().unwrap();
    let serving = place.open_as(Seat::Gateway).unwrap();
    // Commands run beside it, and beside the next one.
    let command = place.open();
    drop(serving);
    assert_eq!(why(place.open_as(Seat::Alone)), "Some(Busy)");
    let serving = place.open_as(Seat::Gateway).unwrap();
    drop((serving, command));
    let alone = place.open_as(Seat::Alone).unwrap();
    let beside = why(place.open_as(Seat::Gateway));
    assert!(
        beside.contains("another gateway serves from it"),
        "{beside}"
    );
    // It does not wait for ever.
    assert_eq!(why(open_sqlite(&place.path)), "Some(Busy)");
    drop(alone);
    place.open_as(Seat::Gateway).unwrap();
}

/// A command that goes on through the crash of a gateway keeps the next one from being the only one
/// that has the file open, and from nothing else.
#[tokio::test]
async fn whoever_serves_settles_what_was_left_beside_a_command() {
    let place = Place::new();
    let store = place.open_as(Seat::Gateway).unwrap();
    let job = open_job(&store, 1).await;
    let limits = ModelLimits::default();
    let most = ModelSpend {
        tokens: 70,
        cost: 700,
    };
    let reserving = store.reserve_model(&job, limits, most, at(1));
    reserving.await.unwrap();
    let key = Hash::of(b"key");
    let claimed = store.claim_model_key(&job, key, key, at(1)).await;
    assert_eq!(claimed.unwrap(), store::KeyClaim::New);
    for _ in 0..20 {
        append(&store, &job, refusal()).await.unwrap();
    }
    let command = place.open();
    drop(store);
    let claimed = command.claim_model_key(&job, key, key, at(1)).await;
    assert_eq!(
        claimed.unwrap(),
        store::KeyClaim::InFlight,
        "not a command's to settle"
    );
    let left = place.log();
    let store = place.open_as(Seat::Gateway).unwrap();
    assert!(left > place.log(), "{left} {}", place.log());
    let claimed = store.claim_model_key(&job, key, key, at(1)).await;
    assert_eq!(claimed.unwrap(), store::KeyClaim::Lost);
    let usage = store.model_usage(&job).await.unwrap();
    assert_eq!((usage.tokens, usage.reserved), (70, 0));
    drop(store);

    // One that reads all the time keeps the file from being put in order.
    let reader = rusqlite::Connection::open(&place.path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = |sql| reader.query_row(sql, [], |row| row.get::<_, i64>(0));
    count("SELECT count(*) FROM jobs").unwrap();
    let reads = why(place.open_as(Seat::Gateway));
    assert!(reads.contains("another process holds it"), "{reads}");
    reader.execute_batch("COMMIT").unwrap();
    place.open_as(Seat::Gateway).unwrap();
}

#[tokio::test]
async fn two_processes_never_overspend_a_budget() {
    let place = Place::new();
    let stores = [place.open(), place.open()];
    let job = open_job(&stores[0], 1).await;
    let limits = ModelLimits {
        max_cost: Some(1000),
        ..ModelLimits::default()
    };
    let most = ModelSpend { tokens: 1, cost: 9 };
    let calls: Vec<_> = (0..200)
        .map(|n| {
            let (store, job) = (std::sync::Arc::clone(&stores[n % 2]), job.clone());
            tokio::spawn(async move {
                let reserved = store.reserve_model(&job, limits, most, at(1)).await;
                match reserved.unwrap() {
                    store::Reservation::Granted { id } => {
                        store.settle_model(id, most).await.unwrap();
                        1
                    }
                    store::Reservation::Exhausted { .. } => 0,
                }
            })
        })
        .collect();
    let mut granted = 0;
    for call in calls {
        granted += call.await.unwrap();
    }
    assert_eq!(granted, 111);
    let usage = stores[1].model_usage(&job).await.unwrap();
    assert_eq!((usage.cost, usage.cost_reserved), (999, 0));
}
