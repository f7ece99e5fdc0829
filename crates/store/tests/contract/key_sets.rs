//! Key sets: leaves of the log that belong to no job.

use std::sync::Arc;

use proof::keyset::{History, SignedKeySet};
use proof::merkle::{leaf_hash, verify_inclusion};
use proof::trust::Role;
use store::{Conflict, LogRange, Store, StoreError};

use crate::fixtures::*;

/// The one that follows it: another key for receipts.
fn second_key_set() -> SignedKeySet {
    let mut history = History::default();
    history.extend(&first_key_set(), 0).unwrap();
    let set = history.rotate(Role::Receipt, &key(41).did(), at(60), at(120));
    SignedKeySet::sign(&set.unwrap(), &key(36), None).unwrap()
}

pub(crate) async fn a_key_set_is_a_leaf_that_belongs_to_no_job(store: Arc<dyn Store>) {
    let (first, second) = (first_key_set(), second_key_set());
    assert_eq!(
        store.append_key_set(1, first.clone(), at(1)).await.unwrap(),
        0
    );
    let job = open_job(&store, 1).await;
    for _ in 0..254 {
        append(&store, &job, refusal()).await.unwrap();
    }
    let two = store.append_key_set(2, second.clone(), at(900)).await;
    assert_eq!(two.unwrap(), 256, "after a whole tile");
    let last = append(&store, &job, refusal()).await.unwrap();
    assert_eq!((last.leaf_index, last.seq), (257, 256));

    let kept = store.key_sets().await.unwrap();
    let places: Vec<u64> = kept.iter().map(|kept| kept.leaf_index).collect();
    assert_eq!(places, [0, 256]);
    assert_eq!((&kept[0].entry, &kept[1].entry), (&first, &second));
    // All entries are in the log and can be proven, records and key sets alike.
    let entries = store.entries(0, 1000).await.unwrap();
    assert_eq!(entries.len(), 258);
    let root = store.log_root(258).await.unwrap().unwrap();
    for (place, entry) in (0..).zip(&entries) {
        assert_eq!(entry.leaf_index, place);
        assert_eq!(entry.leaf_hash, leaf_hash(&entry.entry));
        let path = store.inclusion(place, 258).await.unwrap().unwrap();
        assert!(verify_inclusion(&entry.leaf_hash, place, 258, &path, &root));
    }
    assert_eq!(entries[256].entry, second.to_jcs());
    assert_eq!(store.entries(255, 2).await.unwrap(), entries[255..257]);
    // Who reads records meets none.
    let range = LogRange {
        from: 255,
        job: None,
        limit: 10,
    };
    let logged = store.logged(range).await.unwrap();
    let places: Vec<u64> = logged.iter().map(|row| row.leaf_index()).collect();
    assert_eq!(places, [255, 257]);
    assert_eq!(records(&store, &job).await.len(), 256);
    // A key set has its time in the order of the log, too.
    assert_eq!(store.log_place(at(900)).await.unwrap(), 256);
    assert_eq!(store.log_place(at(901)).await.unwrap(), 258);
}

pub(crate) async fn key_sets_are_numbered_without_gaps(store: Arc<dyn Store>) {
    let add = async |number, entry| store.append_key_set(number, entry, at(1)).await;
    let refused = |result: Result<u64, StoreError>, last| {
        let error = result.unwrap_err();
        assert_eq!(error.conflict(), Some(&Conflict::KeySetNumber(last)));
    };
    refused(add(2, second_key_set()).await, 0);
    add(1, first_key_set()).await.unwrap();
    refused(add(1, first_key_set()).await, 1);
    refused(add(3, second_key_set()).await, 1);
    let both = tokio::join!(add(2, second_key_set()), add(2, second_key_set()));
    assert_eq!(
        [both.0.is_ok(), both.1.is_ok()]
            .iter()
            .filter(|ok| **ok)
            .count(),
        1,
        "one of two at once"
    );
    assert_eq!(store.log_size().await.unwrap(), 2);
}

pub(crate) async fn tokens_are_found_by_the_key_that_signed_them(store: Arc<dyn Store>) {
    let (one, two) = (open_job(&store, 1).await, open_job(&store, 2).await);
    let signed = [(&one, 1, 31), (&one, 2, 32), (&two, 3, 31), (&two, 4, 31)];
    for (job, n, seed) in signed {
        let mut new = token(job, n);
        new.signed_by = Some(key(seed).did());
        store.issue(new.clone()).await.unwrap();
        let kept = store.token(&new.token_hash).await.unwrap().unwrap();
        assert_eq!(kept.token, new);
    }
    store.issue(token(&one, 5)).await.unwrap();
    let found = async || {
        let mut found = store.tokens_signed_by(&key(31).did()).await.unwrap();
        found.sort();
        found
    };
    let expected = |ns: &[u32]| {
        let mut hashes: Vec<_> = ns.iter().map(|n| token(&one, *n).token_hash).collect();
        hashes.sort();
        hashes
    };
    // The fifth is from before it was noted who signs.
    assert_eq!(found().await, expected(&[1, 3, 4, 5]));
    let revoked = token(&one, 3).token_hash;
    store
        .revoke(&revoked, "ada", "stolen", at(5))
        .await
        .unwrap();
    assert_eq!(found().await, expected(&[1, 4, 5]));
    let of_nobody = store.tokens_signed_by(&key(9).did()).await.unwrap();
    assert_eq!(of_nobody, expected(&[5]));
}
