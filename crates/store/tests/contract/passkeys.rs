//! Passkeys and invitations.

use std::sync::Arc;

use proof::Hash;
use proof::approval::Decision::{Approve, Deny};
use proof::approval::{Decision, SignedStatement, Subject, to_sign};
use proof::passkey::Site;
use proof::passkey::testing::SoftAuthenticator;
use proof::record::ApprovalVia;
use store::{
    Conflict, Enrolled, GateState, Invitation, MAX_PASSKEYS, NewPasskey, NewStatement, PasskeyUse,
    Removed, StatementOutcome, Store,
};

use crate::assert_conflict;
use crate::fixtures::*;

pub(crate) const ADA: &str = "approver-1@example.com";

fn site() -> Site {
    Site {
        rp_id: "gateway.example".into(),
        origins: vec!["https://gateway.example".into()],
    }
}

pub(crate) fn passkey(n: u8) -> SoftAuthenticator {
    SoftAuthenticator::new(n, &site())
}

fn new(authenticator: &SoftAuthenticator) -> NewPasskey {
    NewPasskey {
        credential_id: authenticator.credential_id.clone(),
        did: authenticator.did(),
        name: "laptop".into(),
        rp_id: authenticator.rp_id.clone(),
        origin: authenticator.origin.clone(),
        sign_count: authenticator.sign_count,
    }
}

fn invitation(email: &str, link: &str) -> Invitation {
    Invitation {
        link_hash: Hash::of(link.as_bytes()),
        email: email.into(),
        invited_by: "olga".into(),
        invited_at: at(10),
        expires_at: at(1000),
    }
}

pub(crate) async fn enrolled(
    store: &Arc<dyn Store>,
    email: &str,
    authenticator: &SoftAuthenticator,
) {
    let link = format!("{:?}", authenticator.credential_id);
    store.invite(invitation(email, &link)).await.unwrap();
    let link = Hash::of(link.as_bytes());
    let enrolled = store.enrol(&link, new(authenticator), at(15)).await;
    assert_eq!(enrolled.unwrap(), Enrolled::As(email.into()));
}

pub(crate) async fn a_link_enrols_once(store: Arc<dyn Store>) {
    let link = Hash::of(b"link");
    let enrol = async |n: u8, when: i64| {
        store
            .enrol(&link, new(&passkey(n)), at(when))
            .await
            .unwrap()
    };
    assert_eq!(enrol(1, 20).await, Enrolled::LinkGone, "nobody was invited");
    store.invite(invitation(ADA, "link")).await.unwrap();
    assert_eq!(store.invitations(at(20)).await.unwrap().len(), 1);
    assert_eq!(enrol(1, 1000).await, Enrolled::LinkGone, "at its end");
    assert_eq!(store.invitation(&link, at(1000)).await.unwrap(), None);
    assert_eq!(store.invitations(at(1000)).await.unwrap(), []);
    assert_eq!(enrol(1, 999).await, Enrolled::As(ADA.into()));
    assert_eq!(enrol(2, 20).await, Enrolled::LinkGone, "a second time");
    let row = store
        .passkey(&passkey(1).credential_id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        row,
        store
            .passkey_by_did(&passkey(1).did())
            .await
            .unwrap()
            .unwrap()
    );
    assert_eq!((row.email.as_str(), row.site()), (ADA, site()));
    assert_eq!(
        (row.enrolled_at, row.last_used_at, row.removed_at),
        (at(999), None, None)
    );
    assert_eq!(store.passkeys_of(ADA).await.unwrap(), [row]);

    // The next invitation of a person ends the one before.
    store.invite(invitation(ADA, "link")).await.unwrap();
    store.invite(invitation(ADA, "other")).await.unwrap();
    assert_eq!(enrol(2, 20).await, Enrolled::LinkGone);
}

pub(crate) async fn a_credential_is_enrolled_for_one_person_once(store: Arc<dyn Store>) {
    enrolled(&store, ADA, &passkey(1)).await;
    store
        .invite(invitation("bob@example.com", "bob"))
        .await
        .unwrap();
    let link = Hash::of(b"bob");
    let mut same_key = new(&passkey(1));
    same_key.credential_id = vec![1];
    let mut same_id = new(&passkey(2));
    same_id.credential_id = passkey(1).credential_id;
    for known in [new(&passkey(1)), same_key, same_id] {
        let enrolled = store.enrol(&link, known, at(20)).await.unwrap();
        assert_eq!(enrolled, Enrolled::Known);
    }
    // Not even after it was removed: what it signed before stays its first owner's.
    store
        .remove_passkeys(ADA, None, "olga", at(30))
        .await
        .unwrap();
    let known = store.enrol(&link, new(&passkey(1)), at(40)).await.unwrap();
    assert_eq!(known, Enrolled::Known);
    let bob = store.enrol(&link, new(&passkey(2)), at(40)).await.unwrap();
    assert_eq!(
        bob,
        Enrolled::As("bob@example.com".into()),
        "the link stayed good"
    );
}

pub(crate) async fn a_person_has_a_bounded_number_of_passkeys(store: Arc<dyn Store>) {
    for n in 0..u8::try_from(MAX_PASSKEYS).unwrap() {
        enrolled(&store, ADA, &passkey(n)).await;
    }
    store.invite(invitation(ADA, "more")).await.unwrap();
    let link = Hash::of(b"more");
    let more = async || {
        store
            .enrol(&link, new(&passkey(200)), at(20))
            .await
            .unwrap()
    };
    assert_eq!(more().await, Enrolled::TooMany);
    let one = passkey(0).credential_id;
    let removed = store.remove_passkeys(ADA, Some(&one), "olga", at(30)).await;
    let only_one = Removed {
        passkeys: 1,
        invitation: false,
    };
    assert_eq!(removed.unwrap(), only_one);
    assert_eq!(more().await, Enrolled::As(ADA.into()));
}

pub(crate) async fn a_counter_only_rises(store: Arc<dyn Store>) {
    let mut one = passkey(1);
    one.sign_count = 5;
    enrolled(&store, ADA, &one).await;
    let id = one.credential_id.clone();
    let used = async |count: u32, when: i64| store.use_passkey(&id, count, at(when)).await.unwrap();
    for (count, outcome) in [
        (5, PasskeyUse::CounterBack),
        (6, PasskeyUse::Counted),
        (6, PasskeyUse::CounterBack),
        (0, PasskeyUse::CounterBack),
        (9, PasskeyUse::Counted),
        (7, PasskeyUse::CounterBack),
    ] {
        assert_eq!(used(count, 20).await, outcome, "{count}");
    }
    let unknown = store.use_passkey(b"unknown", 1, at(20)).await.unwrap();
    assert_eq!(unknown, PasskeyUse::Gone);
    // One without a counter says 0 each time.
    let none = passkey(2);
    enrolled(&store, ADA, &none).await;
    for _ in 0..2 {
        let used = store
            .use_passkey(&none.credential_id, 0, at(50))
            .await
            .unwrap();
        assert_eq!(used, PasskeyUse::Counted);
    }
    let latest = &store.passkeys_of(ADA).await.unwrap()[0];
    assert_eq!(
        latest.passkey.credential_id, none.credential_id,
        "used last"
    );

    // A removal by a clock behind is dated after the latest use all the same.
    let removed = store
        .remove_passkeys(ADA, None, "olga", at(40))
        .await
        .unwrap();
    assert_eq!(removed.passkeys, 2);
    assert_eq!(used(10, 60).await, PasskeyUse::Gone);
    let rows = store.passkeys().await.unwrap();
    assert_eq!(
        (rows[0].removed_at, rows[0].last_used_at),
        (Some(at(40)), Some(at(20)))
    );
    assert!(rows[1].removed_at > rows[1].last_used_at);
    let again = store
        .remove_passkeys(ADA, None, "olga", at(90))
        .await
        .unwrap();
    assert_eq!(again.passkeys, 0);
}

/// Approver 1 signs with a passkey.
fn signed(
    authenticator: &mut SoftAuthenticator,
    decision: Decision,
    subject: Subject,
    nonce: &str,
) -> NewStatement {
    let mut new = says(1, decision, subject, nonce);
    new.statement.approver_did = authenticator.did();
    let (_, challenge) = to_sign(&new.statement).unwrap();
    let assertion = authenticator.sign(challenge.as_bytes());
    new.envelope = SignedStatement::by_passkey(&new.statement, assertion).unwrap();
    new.via = ApprovalVia::Passkey;
    new.sign_count = Some(authenticator.sign_count);
    new
}

pub(crate) async fn a_statement_counts_with_its_passkey_only(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    awaiting(&store, &job, "run-1").await;
    let plan = || subject(&job, "run-1", "plan");
    let mut one = passkey(1);
    one.sign_count = 5;
    let early = signed(&mut one.clone(), Approve, plan(), "n1");
    let said = async |new: &NewStatement| store.record_statement(new.clone()).await;
    use StatementOutcome as S;
    assert_eq!(said(&early).await.unwrap(), S::PasskeyGone, "not enrolled");
    enrolled(&store, "somebody@example.com", &passkey(9)).await;
    let foreign = signed(&mut passkey(9), Approve, plan(), "n1");
    assert_eq!(
        said(&foreign).await.unwrap(),
        S::PasskeyGone,
        "somebody else's"
    );
    enrolled(&store, ADA, &one).await;
    let mut copy = one.clone();
    copy.sign_count = 3;
    let copied = signed(&mut copy, Approve, plan(), "n1");
    assert_eq!(said(&copied).await.unwrap(), S::CounterBack);
    for wrong in [
        NewStatement {
            sign_count: None,
            ..early.clone()
        },
        NewStatement {
            via: ApprovalVia::Key,
            ..early.clone()
        },
        NewStatement {
            sign_count: Some(1),
            ..says(1, Approve, plan(), "n1")
        },
    ] {
        assert_conflict!(said(&wrong).await, Conflict::StatementMismatch);
    }
    assert_eq!(
        store.statements("run-1").await.unwrap(),
        [],
        "nothing was kept"
    );
    let good = signed(&mut one, Approve, plan(), "n1");
    let counted = S::Counted {
        approvals: 1,
        complete: true,
    };
    assert_eq!(said(&good).await.unwrap(), counted);
    assert_eq!(said(&good).await.unwrap(), S::Duplicate, "a replay");
    let kept = store.statements("run-1").await.unwrap();
    assert_eq!(
        (&kept[0].envelope, kept[0].via),
        (&good.envelope, ApprovalVia::Passkey)
    );
    let row = store.passkeys_of(ADA).await.unwrap().remove(0);
    assert_eq!(
        (row.passkey.sign_count, row.last_used_at),
        (6, Some(kept[0].at))
    );

    store
        .remove_passkeys(ADA, None, "olga", at(1))
        .await
        .unwrap();
    let row = store.passkey_by_did(&one.did()).await.unwrap().unwrap();
    assert!(
        row.removed_at > row.last_used_at,
        "what was said before still counts"
    );
    let late = signed(&mut one, Deny, plan(), "n2");
    assert_eq!(said(&late).await.unwrap(), S::PasskeyGone);
    let run = store.run("run-1").await.unwrap().unwrap();
    assert_eq!(run.gate, GateState::Approved);
}

pub(crate) async fn key_and_passkey_of_one_person_are_one_voice(store: Arc<dyn Store>) {
    let job = open_job(&store, 1).await;
    awaiting(&store, &job, "run-1").await;
    let mut one = passkey(1);
    enrolled(&store, ADA, &one).await;
    let mut by_key = says(1, Approve, subject(&job, "run-1", "plan"), "n1");
    by_key.min_approvals = 2;
    let mut by_passkey = signed(&mut one, Approve, subject(&job, "run-1", "plan"), "n2");
    by_passkey.min_approvals = 2;
    let first = store.record_statement(by_passkey).await.unwrap();
    let incomplete = StatementOutcome::Counted {
        approvals: 1,
        complete: false,
    };
    assert_eq!(first, incomplete);
    let second = store.record_statement(by_key).await.unwrap();
    assert_eq!(second, StatementOutcome::Duplicate);
}
