//! People who are signed in.

use std::sync::Arc;

use store::{OperatorRow, SessionRow, Store};

use crate::fixtures::*;

fn session(id: &str, operator: &str, opened: i64) -> SessionRow {
    SessionRow {
        id_hash: hash(id),
        operator: operator.into(),
        roles: vec!["auditor".into()],
        method: "credential".into(),
        credential: None,
        opened_at: at(opened),
        used_at: at(opened),
        expires_at: at(opened + 100),
    }
}

pub(crate) async fn a_session_ends_with_its_operators_credential(store: Arc<dyn Store>) {
    let operator = |credential: &str, role: &str| OperatorRow {
        name: "ada".into(),
        token_hash: hash(credential),
        roles: vec![role.into()],
        created_at: at(0),
    };
    store.add_operator(operator("one", "issuer")).await.unwrap();
    let bound = SessionRow {
        credential: Some(hash("one")),
        ..session("cookie", "ada", 1)
    };
    store.open_session(bound.clone(), 5).await.unwrap();
    store
        .open_session(session("other", "eve", 1), 5)
        .await
        .unwrap();
    let found = store.session(&hash("cookie")).await.unwrap().unwrap();
    let expected = SessionRow {
        roles: vec!["issuer".into()],
        ..bound.clone()
    };
    assert_eq!(
        found, expected,
        "the table's roles count, not those of then"
    );
    assert_eq!(store.session(&hash("no such")).await.unwrap(), None);

    store.remove_operator("ada").await.unwrap();
    assert_eq!(store.session(&hash("cookie")).await.unwrap(), None);
    store.add_operator(operator("two", "admin")).await.unwrap();
    assert_eq!(
        store.session(&hash("cookie")).await.unwrap(),
        None,
        "another operator of the same name is somebody else"
    );
    // Written while the credential went away.
    store.open_session(bound, 5).await.unwrap();
    assert_eq!(store.session(&hash("cookie")).await.unwrap(), None);
    assert_eq!(store.sessions_of("ada").await.unwrap(), []);
    let other = store.session(&hash("other")).await.unwrap().unwrap();
    assert_eq!(other, session("other", "eve", 1));
}

pub(crate) async fn sessions_are_bounded_and_ended_by_their_operator(store: Arc<dyn Store>) {
    for n in 0..5 {
        let new = session(&format!("s{n}"), "ada", n);
        store.open_session(new, 3).await.unwrap();
    }
    let ids = async |operator: &str| {
        let sessions = store.sessions_of(operator).await.unwrap();
        sessions.into_iter().map(|s| s.id_hash).collect::<Vec<_>>()
    };
    assert_eq!(ids("ada").await, [hash("s4"), hash("s3"), hash("s2")]);
    assert!(!store.end_session("eve", &hash("s4")).await.unwrap());
    assert!(store.end_session("ada", &hash("s4")).await.unwrap());
    assert!(!store.end_session("ada", &hash("s4")).await.unwrap());
    assert_eq!(store.session(&hash("s4")).await.unwrap(), None);
    store.note_session_use(&hash("s3"), at(50)).await.unwrap();
    store.note_session_use(&hash("s3"), at(40)).await.unwrap();
    let used = store.session(&hash("s3")).await.unwrap().unwrap();
    assert_eq!(used.used_at, at(50));
    // Whoever signs in sweeps out what has ended.
    store
        .open_session(session("new", "eve", 102), 3)
        .await
        .unwrap();
    assert_eq!(ids("ada").await, [hash("s3")]);
}
