//! Contracts, objects, bundles, operators and budgets.

use std::sync::Arc;

use proof::{Hash, Json};
use store::{
    Budget, BundleRow, Conflict, JobState, KeyClaim, ModelLimits, ModelSpend, ModelUsage,
    OperatorAction, OperatorRow, Reservation, Store,
};

use crate::assert_conflict;
use crate::fixtures::*;

pub(crate) async fn a_contract_is_published_once_and_under_one_name(store: Arc<dyn Store>) {
    let first = store.publish(contract("staging", "v1")).await.unwrap();
    assert_eq!((first.version, first.existed), (1, false));
    let mut again = contract("staging", "v1");
    again.published_by = "eve".into();
    let again = store.publish(again).await.unwrap();
    assert_eq!((again.version, again.existed), (1, true));
    let row = store.contract(&hash("v1")).await.unwrap().unwrap();
    assert_eq!(row.contract, contract("staging", "v1"));
    assert_conflict!(
        store.publish(contract("production", "v1")).await,
        Conflict::ContractName(_)
    );
    assert_eq!(store.contract(&hash("v2")).await.unwrap(), None);
}

pub(crate) async fn a_version_takes_the_place_of_the_one_in_force_only(store: Arc<dyn Store>) {
    store.publish(contract("other", "o1")).await.unwrap();
    let next = |text: &str| contract("staging", text);
    let replace = |text, old| store.publish_in_place_of(next(text), hash(old));
    assert_conflict!(replace("v1", "o1").await, Conflict::OtherInForce);
    for text in ["v1", "v2"] {
        store.publish(next(text)).await.unwrap();
    }
    assert_conflict!(replace("v3", "v1").await, Conflict::OtherInForce);
    store.withdraw(&hash("v2"), "ada", at(1)).await.unwrap();
    assert_conflict!(replace("v3", "v2").await, Conflict::OtherInForce);
    assert_eq!(store.contract(&hash("v3")).await.unwrap(), None);
    assert_eq!(replace("v3", "v1").await.unwrap().version, 3);
    assert!(replace("v3", "v1").await.unwrap().existed);
    store.withdraw(&hash("v3"), "ada", at(2)).await.unwrap();
    store.withdraw(&hash("v1"), "ada", at(3)).await.unwrap();
    assert_conflict!(replace("v4", "v1").await, Conflict::OtherInForce);
}

pub(crate) async fn versions_are_numbered_and_listed(store: Arc<dyn Store>) {
    assert_eq!(store.contracts().await.unwrap(), []);
    for (name, text) in [("b", "b1"), ("a", "a1"), ("b", "b2"), ("b", "b3")] {
        store.publish(contract(name, text)).await.unwrap();
    }
    store.withdraw(&hash("b1"), "ada", at(1)).await.unwrap();
    store
        .open_job(job_id(1), at(0), opening("b2"))
        .await
        .unwrap();
    store
        .open_job(job_id(2), at(0), opening("b3"))
        .await
        .unwrap();
    store
        .close_job(&job_id(2), "ada", "done", at(1))
        .await
        .unwrap();
    let summaries = store.contracts().await.unwrap();
    let short: Vec<_> = summaries
        .iter()
        .map(|s| {
            let name = s.latest.contract.name.as_str();
            (name, s.latest.version, s.versions, s.withdrawn, s.open_jobs)
        })
        .collect();
    assert_eq!(short, [("a", 1, 1, 0, 0), ("b", 3, 3, 1, 1)]);
    let versions = store.versions("b").await.unwrap();
    let numbers: Vec<u32> = versions.iter().map(|row| row.version).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(store.versions("c").await.unwrap(), []);
}

pub(crate) async fn a_second_authors_signature_is_kept(store: Arc<dyn Store>) {
    let alone = contract("staging", "v1");
    let mut together = contract("staging", "v2");
    together.second_envelope = Some(together.envelope.clone());
    for version in [alone, together] {
        store.publish(version.clone()).await.unwrap();
        let kept = store.contract(&version.policy_hash).await.unwrap();
        assert_eq!(kept.unwrap().contract, version);
    }
}

pub(crate) async fn a_withdrawn_contract_stays_readable_and_grounds_nothing_new(
    store: Arc<dyn Store>,
) {
    let job = open_job(&store, 1).await;
    let first = store.withdraw(&hash("v1"), "ada", at(5)).await.unwrap();
    let second = store.withdraw(&hash("v1"), "eve", at(9)).await.unwrap();
    assert_eq!(first, second, "the first withdrawal holds");
    assert_eq!(first.unwrap().by, "ada");
    assert!(store.contract(&hash("v1")).await.unwrap().is_some());
    let again = store.publish(contract("staging", "v1")).await.unwrap();
    assert!(again.existed);
    assert_conflict!(
        store.open_job(job_id(2), at(6), opening("v1")).await,
        Conflict::ContractWithdrawn
    );
    assert_conflict!(
        store.issue(token(&job, 1)).await,
        Conflict::ContractWithdrawn
    );
    let unknown = store.withdraw(&hash("v9"), "ada", at(5)).await.unwrap();
    assert_eq!(unknown, None);
}

pub(crate) async fn objects_keep_their_first_workspace_and_owner(store: Arc<dyn Store>) {
    let (one, two) = (open_job(&store, 1).await, open_job(&store, 2).await);
    assert_eq!(store.object("run", "run-1").await.unwrap(), None);
    store
        .learn(vec![seen("run-1", "ws-1", None)])
        .await
        .unwrap();
    let mut more = seen("run-1", "ws-1", Some(&one));
    more.organization = Some("acme".into());
    store.learn(vec![more.clone()]).await.unwrap();
    store
        .learn(vec![seen("run-1", "ws-1", None)])
        .await
        .unwrap();
    for other in [
        seen("run-1", "ws-2", None),
        seen("run-1", "ws-2", Some(&one)),
        seen("run-1", "ws-1", Some(&two)),
    ] {
        assert_conflict!(
            store.learn(vec![other]).await,
            Conflict::ObjectElsewhere { .. }
        );
    }
    let mut renamed = more.clone();
    renamed.organization = Some("evil".into());
    store.learn(vec![renamed]).await.unwrap();
    assert_eq!(store.object("run", "run-1").await.unwrap(), Some(more));
    assert_eq!(store.object("plan", "run-1").await.unwrap(), None);
    assert_conflict!(
        store
            .learn(vec![seen("run-2", "ws-1", Some(&job_id(9)))])
            .await,
        Conflict::NoSuchJob(_)
    );
}

pub(crate) async fn learning_is_all_or_nothing(store: Arc<dyn Store>) {
    store
        .learn(vec![seen("run-1", "ws-1", None)])
        .await
        .unwrap();
    let objects = vec![seen("run-2", "ws-1", None), seen("run-1", "ws-2", None)];
    assert_conflict!(store.learn(objects).await, Conflict::ObjectElsewhere { .. });
    assert_eq!(store.object("run", "run-2").await.unwrap(), None);
}

pub(crate) async fn a_bundle_seals_a_closed_job_once(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let bundle = BundleRow {
        job_id: job.clone(),
        sha256: hash("bundle"),
        bytes: 1234,
        sealed_at: at(50),
        verdict: Some("valid".into()),
    };
    let states = vec!["sv-1".to_owned(), "sv-2".to_owned()];
    assert_conflict!(
        store.save_bundle(bundle.clone(), states.clone()).await,
        Conflict::JobOpen(_)
    );
    store.close_job(&job, "ada", "done", at(40)).await.unwrap();
    for _ in 0..2 {
        store
            .save_bundle(bundle.clone(), states.clone())
            .await
            .unwrap();
    }
    let state = store.job(&job).await.unwrap().unwrap().state;
    assert!(matches!(state, JobState::Sealed { bundle, .. } if bundle == hash("bundle")));
    let mut other = bundle.clone();
    other.sha256 = hash("another");
    assert_conflict!(
        store.save_bundle(other, Vec::new()).await,
        Conflict::JobSealed(_)
    );
    assert_eq!(store.bundle(&job).await.unwrap(), Some(bundle.clone()));
    let found = store.bundle_by_state_version("sv-2").await.unwrap();
    assert_eq!(found, Some(bundle));
    assert_eq!(store.bundle_by_state_version("sv-3").await.unwrap(), None);
    assert_eq!(store.bundle(&job_id(9)).await.unwrap(), None);
}

pub(crate) async fn operators_are_found_by_credential_only_while_they_are_there(
    store: Arc<dyn Store>,
) {
    let operator = |name: &str, token: &str| OperatorRow {
        name: name.into(),
        email: Some(format!("{name}@example.com")),
        token_hash: hash(token),
        roles: vec!["publish".into(), "approve".into()],
        created_at: at(0),
    };
    let ada = operator("ada", "one");
    store.add_operator(ada.clone()).await.unwrap();
    for other in [operator("ada", "two"), operator("bob", "one")] {
        assert_conflict!(store.add_operator(other).await, Conflict::OperatorExists(_));
    }
    let found = store.operator_by_token(&hash("one")).await.unwrap();
    assert_eq!(found, Some(ada.clone()));
    assert_eq!(store.operator_by_token(&hash("two")).await.unwrap(), None);
    assert_eq!(store.operators().await.unwrap(), [ada]);
    assert!(
        store
            .set_operator_email("ada", "a@example.com")
            .await
            .unwrap()
    );
    assert!(
        !store
            .set_operator_email("eve", "a@example.com")
            .await
            .unwrap()
    );
    let named = store.operators().await.unwrap().remove(0);
    assert_eq!(named.email.as_deref(), Some("a@example.com"));
    assert!(store.remove_operator("ada").await.unwrap());
    assert!(!store.remove_operator("ada").await.unwrap());
    assert_eq!(store.operator_by_token(&hash("one")).await.unwrap(), None);
}

pub(crate) async fn actions_are_listed_newest_first(store: Arc<dyn Store>) {
    for n in 0..5 {
        let mut detail = Json::object();
        detail.set("n", n);
        let action = OperatorAction {
            at: at(n),
            operator: "ada".into(),
            action: "revoke-token".into(),
            subject: format!("job_{n}"),
            detail,
        };
        store.note_operator_action(action).await.unwrap();
    }
    let actions = store.operator_actions(3).await.unwrap();
    let subjects: Vec<&str> = actions.iter().map(|a| a.subject.as_str()).collect();
    assert_eq!(subjects, ["job_4", "job_3", "job_2"]);
    assert_eq!(actions[0].detail.get("n"), Some(&Json::Integer(4)));
}

pub(crate) async fn budgets_admit_up_to_the_limit_and_not_beyond(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let limits = ModelLimits {
        max_calls: Some(3),
        max_tokens: Some(100),
        max_cost: None,
    };
    let tokens = |tokens| ModelSpend { tokens, cost: 0 };
    let reserve = |most| store.reserve_model(&job, limits, tokens(most), at(1));
    let Reservation::Granted { id } = reserve(60).await.unwrap() else {
        panic!("60 of 100 fit");
    };
    assert_eq!(
        reserve(41).await.unwrap(),
        Reservation::Exhausted {
            what: Budget::Tokens
        }
    );
    assert!(matches!(
        reserve(40).await.unwrap(),
        Reservation::Granted { .. }
    ));
    store.settle_model(id, tokens(10)).await.unwrap();
    let usage = ModelUsage {
        calls: 2,
        tokens: 10,
        reserved: 40,
        ..ModelUsage::default()
    };
    assert_eq!(store.model_usage(&job).await.unwrap(), usage);
    assert_eq!(
        reserve(u64::MAX).await.unwrap(),
        Reservation::Exhausted {
            what: Budget::Tokens
        }
    );
    assert!(matches!(
        reserve(50).await.unwrap(),
        Reservation::Granted { .. }
    ));
    assert_eq!(
        reserve(0).await.unwrap(),
        Reservation::Exhausted {
            what: Budget::Calls
        }
    );
    let free = open_job(&store, 2).await;
    let none = ModelLimits::default();
    for most in [0, 7, u64::MAX, u64::MAX] {
        let most = ModelSpend {
            tokens: most,
            cost: most,
        };
        let reservation = store.reserve_model(&free, none, most, at(1)).await;
        assert!(matches!(reservation.unwrap(), Reservation::Granted { .. }));
    }
    store.close_job(&free, "ada", "done", at(2)).await.unwrap();
    assert_conflict!(
        store.reserve_model(&free, none, tokens(1), at(3)).await,
        Conflict::JobClosed(_)
    );
    assert_conflict!(
        store
            .reserve_model(&job_id(9), none, tokens(1), at(3))
            .await,
        Conflict::NoSuchJob(_)
    );
    let unknown = store.model_usage(&job_id(9)).await.unwrap();
    assert_eq!(unknown, ModelUsage::default());
}

pub(crate) async fn a_reservation_is_settled_once(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    let limits = ModelLimits::default();
    let spend = |tokens, cost| ModelSpend { tokens, cost };
    let reserved = store.reserve_model(&job, limits, spend(5, 50), at(1)).await;
    let Reservation::Granted { id } = reserved.unwrap() else {
        panic!("nothing limits");
    };
    // More than was reserved: what was used was used.
    store.settle_model(id, spend(9, 90)).await.unwrap();
    for other in [id, id + 1, 0, u64::MAX] {
        assert_conflict!(
            store.settle_model(other, spend(1, 1)).await,
            Conflict::NoSuchReservation(_)
        );
    }
    let usage = store.model_usage(&job).await.unwrap();
    assert_eq!((usage.tokens, usage.cost), (9, 90));
}

pub(crate) async fn whoever_waits_is_told_of_a_commit(store: Arc<dyn Store>) {
    let mut commits = store.commits();
    let job = open_job(&store, 1).await;
    assert!(commits.has_changed().unwrap(), "the job was opened");
    commits.mark_unchanged();
    // A reader waits, looks once it is told, and finds what was written.
    let reader = tokio::spawn({
        let (store, job) = (Arc::clone(&store), job.clone());
        async move {
            loop {
                commits.changed().await.unwrap();
                if let Some(run) = store.run("run-1").await.unwrap() {
                    return run.job_id == job;
                }
            }
        }
    });
    store.insert_run(run(&job, "run-1")).await.unwrap();
    assert!(reader.await.unwrap());
}

pub(crate) async fn a_key_belongs_to_one_request(store: Arc<dyn Store>) {
    let (job, other) = (open_job(&store, 1).await, open_job(&store, 2).await);
    let (key, request) = (Hash::of(b"key"), Hash::of(b"request"));
    let claim = |job, request| store.claim_model_key(job, key, request, at(1));
    assert_eq!(claim(&job, request).await.unwrap(), KeyClaim::New);
    assert_eq!(claim(&job, request).await.unwrap(), KeyClaim::InFlight);
    let foreign = Hash::of(b"another");
    assert_eq!(claim(&job, foreign).await.unwrap(), KeyClaim::Other);
    assert_eq!(claim(&other, foreign).await.unwrap(), KeyClaim::New);
    store.release_model_key(&job, key).await.unwrap();
    assert_eq!(claim(&job, foreign).await.unwrap(), KeyClaim::New);
    store.finish_model_key(&job, key, "rcpt_1").await.unwrap();
    store.release_model_key(&job, key).await.unwrap();
    let receipt_id = "rcpt_1".to_owned();
    assert_eq!(
        claim(&job, foreign).await.unwrap(),
        KeyClaim::Done { receipt_id }
    );
    assert_eq!(claim(&job, request).await.unwrap(), KeyClaim::Other);
    store.close_job(&job, "ada", "done", at(2)).await.unwrap();
    assert_conflict!(claim(&job, foreign).await, Conflict::JobClosed(_));
    assert_conflict!(claim(&job_id(9), foreign).await, Conflict::NoSuchJob(_));
}
