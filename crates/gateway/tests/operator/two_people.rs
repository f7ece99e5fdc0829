//! Whoever opened a job does not approve what it plans, by none of the ways in which people approve.

use clawgate::operator::credential::Role;
use policy::contract::Email;
use proof::approval::{Decision, Judgement, Subject, to_sign};
use serde_json::{Value, json};
use store::GateState;

use crate::approvals::{judge, waiting_run};
use crate::passkeys::{ORIGIN, approve, asked, enrolled, hand_in, passkey, signed, yes_or_no};
use crate::world::{APPROVER, Answer, Caller, World};

const ALLOWED: &str = "\"allowed\": true,";

/// Somebody who opens a job and lets a plan wait in it.
async fn opener<'w>(
    world: &'w World,
    name: &str,
    email: Option<&str>,
    terms: &str,
) -> (Caller<'w>, Subject) {
    let email = email.map(|email| Email::new(email).unwrap());
    let credential = world.person(name, email.as_ref(), &[Role::Admin]).await;
    let caller = Caller { world, credential };
    let envelope = world.contract(ALLOWED, &format!("{ALLOWED} {terms}"));
    let body = json!({ "envelope": envelope });
    let published = caller.post("/v1/contracts", &body).await.ok();
    let body = json!({ "name": "a job", "policy_hash_b64u": published["policy_hash_b64u"] });
    let opened = caller.post("/v1/jobs", &body).await.ok();
    let run = format!("run-{name}").replace(['@', '.'], "");
    let subject = waiting_run(world, opened["job_id"].as_str().unwrap(), &run).await;
    (caller, subject)
}

async fn by_key(caller: &Caller<'_>, subject: &Subject, decision: Decision) -> Answer {
    let envelope = judge(caller.world, subject, decision, &caller.world.approver);
    let path = format!("/v1/approvals/{}", subject.run_id);
    caller.post(&path, &json!({ "envelope": envelope })).await
}

async fn by_token(caller: &Caller<'_>, subject: &Subject) -> Answer {
    let key = &caller.world.approver;
    let envelope = judge(caller.world, subject, Decision::Approve, key);
    let body = json!({ "run_id": subject.run_id, "envelope": envelope });
    caller.post("/v1/tokens/elevated", &body).await
}

#[tokio::test]
async fn whoever_opened_the_job_cannot_approve_it_in_any_way() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let mut own = passkey(1);
    enrolled(&admin, APPROVER, &own).await;
    for (name, email) in [
        (APPROVER, None),
        ("olga", Some(APPROVER)),
        ("case", Some("Infra-Lead@Example.com")),
        ("tag", Some("infra-lead+jobs@example.com")),
    ] {
        let (caller, subject) = opener(&world, name, email, "").await;
        let run = subject.run_id.as_str();
        let shown = caller.get(&format!("/v1/approvals/{run}")).await.ok();
        assert_eq!(
            shown["not_by"],
            email.unwrap_or(name),
            "said before anybody signs"
        );
        let page = async |caller: &Caller<'_>| {
            let page = caller.get(&format!("/approvals/{run}")).await;
            String::from_utf8_lossy(&page.bytes).into_owned()
        };
        assert!(
            page(&caller)
                .await
                .contains("You opened this job, so somebody else")
        );
        assert!(
            page(&admin)
                .await
                .contains("opened the job and cannot approve it")
        );
        // Whoever hands it in: the signature's person counts.
        for caller in [&caller, &admin] {
            let answer = by_key(caller, &subject, Decision::Approve).await;
            assert_eq!(
                (answer.status.as_u16(), answer.code()),
                (403, "APPROVAL_OWN_JOB".into())
            );
            assert_eq!(by_token(caller, &subject).await.code(), "APPROVAL_OWN_JOB");
            assert_eq!(
                asked(caller, run, approve()).await.code(),
                "APPROVAL_OWN_JOB"
            );
        }
        // A statement that nobody was asked for.
        let now = world.gateway.app.now();
        let statement = subject.clone().judge(Judgement {
            decision: Decision::Approve,
            approver: APPROVER.into(),
            approver_did: own.did(),
            issued_at: now,
            expires_at: now.plus_seconds(300),
            nonce: clawgate::keys::random_text(),
            reason: None,
        });
        let (statement, hash) = to_sign(&statement).unwrap();
        let statement = serde_json::to_value(&statement).unwrap();
        let assertion = own.sign(hash.as_bytes());
        let answer = hand_in(&admin, run, &statement, &signed(&own, &assertion)).await;
        assert_eq!(answer.code(), "APPROVAL_OWN_JOB");
        let store = &world.gateway.app.store;
        assert!(store.statements(run).await.unwrap().is_empty());
        let row = store.run(run).await.unwrap().unwrap();
        assert_eq!(
            row.gate,
            GateState::AwaitingApproval,
            "none of it moved the gate"
        );
        // No is no, also about one's own.
        let denied = by_key(&caller, &subject, Decision::Deny).await.ok();
        assert_eq!(denied["state"], "denied");
    }
}

#[tokio::test]
async fn others_approve_and_the_contract_may_let_the_opener() {
    let world = World::at(ORIGIN).await;
    let admin = world.admin().await;
    let mut own = passkey(1);
    enrolled(&admin, APPROVER, &own).await;
    let mays = "\"opener_may_approve\": true,";
    for (name, email, terms, not_by) in [
        ("ada", Some("ada@example.com"), "", json!("ada@example.com")),
        // Nobody knows who that is; doctor says so.
        ("ci", None, "", Value::Null),
        ("olga", Some(APPROVER), mays, Value::Null),
    ] {
        let (caller, subject) = opener(&world, name, email, terms).await;
        let shown = caller
            .get(&format!("/v1/approvals/{}", subject.run_id))
            .await;
        let shown = shown.ok();
        assert_eq!(shown["not_by"], not_by, "{name}");
        assert_eq!(shown["opener_may_approve"], !terms.is_empty());
        let approved = by_key(&caller, &subject, Decision::Approve).await.ok();
        assert_eq!(approved["complete"], true, "{name}");
        let (caller, subject) = opener(&world, &format!("{name}2"), email, terms).await;
        by_token(&caller, &subject).await.ok();
        let approved = yes_or_no(&caller, &subject.run_id, approve(), &mut own)
            .await
            .ok();
        assert_eq!(approved["complete"], true, "{name}");
    }
    // What an operator's address becomes later changes nothing about a job that is open.
    let (caller, subject) = opener(&world, "eve", Some(APPROVER), "").await;
    let store = &world.gateway.app.store;
    assert!(
        store
            .set_operator_email("eve", "eve@example.com")
            .await
            .unwrap()
    );
    let answer = by_key(&caller, &subject, Decision::Approve).await;
    assert_eq!(answer.code(), "APPROVAL_OWN_JOB");
    assert!(store.remove_operator("eve").await.unwrap());
    let answer = by_key(&admin, &subject, Decision::Approve).await;
    assert_eq!(answer.code(), "APPROVAL_OWN_JOB");
}
