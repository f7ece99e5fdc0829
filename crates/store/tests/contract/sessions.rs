//! People who are signed in.

use std::sync::Arc;

use store::{Account, OperatorRow, SessionProof, SessionRow, Store};

use crate::fixtures::*;
use crate::passkeys::{ADA, enrolled, passkey};

fn session(id: &str, operator: &str, opened: i64) -> SessionRow {
    SessionRow {
        id_hash: hash(id),
        operator: operator.into(),
        roles: vec!["auditor".into()],
        proof: SessionProof::Account(Account {
            issuer: "https://login.example.com".into(),
            subject: operator.into(),
            groups: vec!["platform".into()],
        }),
        opened_at: at(opened),
        used_at: at(opened),
        expires_at: at(opened + 100),
    }
}

pub(crate) async fn a_session_ends_with_its_operators_credential(store: Arc<dyn Store>) {
    let operator = |credential: &str, role: &str| OperatorRow {
        name: "ada".into(),
        email: None,
        token_hash: hash(credential),
        roles: vec![role.into()],
        created_at: at(0),
    };
    store.add_operator(operator("one", "issuer")).await.unwrap();
    let bound = SessionRow {
        proof: SessionProof::Credential(hash("one")),
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

pub(crate) async fn a_session_ends_with_the_passkey_that_opened_it(store: Arc<dyn Store>) {
    let (one, two) = (passkey(1), passkey(2));
    for authenticator in [&one, &two] {
        enrolled(&store, ADA, authenticator).await;
    }
    let by = |id: &str, credential_id: &[u8]| SessionRow {
        proof: SessionProof::Passkey(credential_id.to_vec()),
        ..session(id, ADA, 20)
    };
    let (first, second) = (by("one", &one.credential_id), by("two", &two.credential_id));
    store.open_session(first.clone(), 5).await.unwrap();
    store.open_session(second.clone(), 5).await.unwrap();
    assert_eq!(store.session(&hash("one")).await.unwrap(), Some(first));
    let gone = store.remove_passkeys(ADA, Some(&one.credential_id), "olga", at(30));
    assert_eq!(gone.await.unwrap().passkeys, 1);
    assert_eq!(store.session(&hash("one")).await.unwrap(), None);
    // Written while the passkey went away.
    let late = by("late", &one.credential_id);
    store.open_session(late, 5).await.unwrap();
    assert_eq!(store.session(&hash("late")).await.unwrap(), None);
    assert_eq!(
        store.sessions_of(ADA).await.unwrap(),
        [second],
        "the other passkey's stays"
    );
    let never = by("never", b"enrolled nowhere");
    store.open_session(never, 5).await.unwrap();
    assert_eq!(store.session(&hash("never")).await.unwrap(), None);
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
