//! Links by which outsiders read one sealed job.

use std::sync::Arc;

use proof::record::JobId;
use store::{BundleRow, Conflict, MAX_PUBLICATIONS, Publication, Store};

use crate::assert_conflict;
use crate::fixtures::*;

fn link(n: u32, job: &JobId) -> Publication {
    Publication {
        id: format!("pub_{n}"),
        link_hash: hash(&format!("link {n}")),
        job_id: job.clone(),
        published_by: "ada".into(),
        published_at: at(60),
        expires_at: at(100),
        withdrawn: None,
    }
}

async fn sealed(store: &Arc<dyn Store>, n: u32) -> JobId {
    let job = open_job(store, n).await;
    store.close_job(&job, "ada", "done", at(40)).await.unwrap();
    let bundle = BundleRow {
        job_id: job.clone(),
        sha256: hash("bundle"),
        bytes: 1234,
        sealed_at: at(50),
        verdict: None,
    };
    store.save_bundle(bundle, Vec::new()).await.unwrap();
    job
}

pub(crate) async fn a_link_is_good_until_it_ends(store: Arc<dyn Store>) {
    let job = sealed(&store, 1).await;
    let first = link(1, &job);
    assert!(store.publish_job(first.clone()).await.unwrap());
    let found = async |n: u32, ms| {
        let hash = hash(&format!("link {n}"));
        store.published(&hash, at(ms)).await.unwrap()
    };
    assert_eq!(found(1, 99).await, Some(first.clone()));
    assert_eq!(found(1, 100).await, None, "expired");
    assert_eq!(found(2, 99).await, None, "never made");

    let withdraw =
        async |id: &'static str, ms| store.withdraw_publication(id, "eve", at(ms)).await.unwrap();
    assert_eq!(withdraw("pub_1", 70).await, Some(true));
    assert_eq!(withdraw("pub_1", 80).await, Some(false), "once");
    assert_eq!(withdraw("pub_9", 80).await, None);
    assert_eq!(found(1, 75).await, None, "withdrawn");
    let listed = store.publications(10).await.unwrap();
    let withdrawn = Some((at(70), "eve".to_owned()));
    assert_eq!(listed, [Publication { withdrawn, ..first }]);
}

pub(crate) async fn only_a_sealed_job_is_published_and_not_without_end(store: Arc<dyn Store>) {
    let open = open_job(&store, 1).await;
    assert_conflict!(
        store.publish_job(link(1, &open)).await,
        Conflict::JobOpen(_)
    );
    store.close_job(&open, "ada", "done", at(40)).await.unwrap();
    assert_conflict!(
        store.publish_job(link(1, &open)).await,
        Conflict::JobOpen(_)
    );
    assert_conflict!(
        store.publish_job(link(1, &job_id(9))).await,
        Conflict::NoSuchJob(_)
    );
    let job = sealed(&store, 2).await;
    for n in 0..MAX_PUBLICATIONS {
        assert!(store.publish_job(link(n, &job)).await.unwrap());
    }
    assert!(!store.publish_job(link(99, &job)).await.unwrap());
    store
        .withdraw_publication("pub_3", "ada", at(70))
        .await
        .unwrap();
    assert!(store.publish_job(link(99, &job)).await.unwrap());
    let listed = store.publications(2).await.unwrap();
    let ids: Vec<&str> = listed.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["pub_99", "pub_19"], "the newest first");
}
