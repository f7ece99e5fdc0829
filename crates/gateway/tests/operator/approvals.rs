//! Approvals over the wire, and the elevated token that carries one.

use proof::approval::{Changes, Decision, Judgement, Subject};
use proof::record::JobId;
use proof::{Envelope, EnvelopeType, Hash, SigningKey};
use serde_json::{Value, json};
use store::{GateState, RunRow};

use crate::world::{APPROVER, World};

/// A run of the job that stands at `gate`; upstream knows nothing of it.
pub(crate) async fn run_at(world: &World, job: &str, run_id: &str, gate: GateState) -> Subject {
    let app = &world.gateway.app;
    let job_id: JobId = job.parse().unwrap();
    let job = app.store.job(&job_id).await.unwrap().unwrap();
    let subject = Subject {
        organization: "acme".into(),
        workspace_id: "ws-staging-app".into(),
        run_id: run_id.into(),
        configuration_version_id: "cv-1".into(),
        configuration_sha256_b64u: Hash::of(b"configuration"),
        plan_id: "plan-1".into(),
        plan_sha256_b64u: Hash::of(b"plan"),
        policy_hash_b64u: job.policy_hash,
        job_id: job_id.clone(),
        changes: Changes {
            create: 1,
            ..Changes::default()
        },
        cost: None,
    };
    let now = app.now();
    let run = RunRow {
        run_id: run_id.into(),
        job_id,
        organization: subject.organization.clone(),
        workspace_id: subject.workspace_id.clone(),
        configuration_version_id: Some(subject.configuration_version_id.clone()),
        configuration_sha256: Some(subject.configuration_sha256_b64u),
        plan_id: Some(subject.plan_id.clone()),
        apply_id: None,
        apply_wished: true,
        gate,
        plan_sha256: Some(subject.plan_sha256_b64u),
        plan_raw_sha256: Some(Hash::of(b"raw plan")),
        changes: Some(subject.changes),
        subject: Some(subject.clone()),
        summary: None,
        status: "planned".into(),
        state_version_before: None,
        state_version_after: None,
        gate_reason: None,
        approval_expires_at: Some(now.plus_seconds(3600)),
        created_at: now,
        updated_at: now,
    };
    app.store.insert_run(run).await.unwrap();
    subject
}

pub(crate) async fn waiting_run(world: &World, job: &str, run_id: &str) -> Subject {
    run_at(world, job, run_id, GateState::AwaitingApproval).await
}

pub(crate) fn judge(
    world: &World,
    subject: &Subject,
    decision: Decision,
    key: &SigningKey,
) -> Envelope {
    let now = world.gateway.app.now();
    let statement = subject.clone().judge(Judgement {
        decision,
        approver: APPROVER.into(),
        approver_did: key.did().into(),
        issued_at: now,
        expires_at: now.plus_seconds(300),
        nonce: clawgate::keys::random_text(),
        reason: Some("looked at it".into()),
    });
    Envelope::sign(EnvelopeType::ApprovalStatement, &statement, key, now).unwrap()
}

#[tokio::test]
async fn waiting_runs_are_listed_and_decided() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let subject = waiting_run(&world, &job, "run-1").await;
    let list = admin.get("/v1/approvals").await.ok();
    assert_eq!(list["approvals"][0]["run_id"], "run-1");
    assert_eq!(list["approvals"][0]["approvers"], json!([APPROVER]));
    let active = admin.get("/v1/approvals?state=active").await.ok();
    assert_eq!(active["approvals"].as_array().unwrap().len(), 1);

    let submit = async |envelope: &Envelope| {
        admin
            .post("/v1/approvals/run-1", &json!({ "envelope": envelope }))
            .await
    };
    let stranger = clawgate::keys::random_key();
    let foreign = judge(&world, &subject, Decision::Approve, &stranger);
    assert_eq!(submit(&foreign).await.code(), "APPROVAL_NOT_AN_APPROVER");
    let mut other = subject.clone();
    other.plan_sha256_b64u = Hash::of(b"another plan");
    let other = judge(&world, &other, Decision::Approve, &world.approver);
    assert_eq!(submit(&other).await.code(), "APPROVAL_WRONG_DIGEST");
    let denial = judge(&world, &subject, Decision::Deny, &world.approver);
    let denied = submit(&denial).await.ok();
    assert_eq!(denied["state"], "denied");
    let late = judge(&world, &subject, Decision::Approve, &world.approver);
    assert_eq!(submit(&late).await.code(), "APPROVAL_CLOSED");
    let shown = admin.get("/v1/approvals/run-1").await.ok();
    assert_eq!(shown["approvals"][0]["decision"], "deny");
}

#[tokio::test]
async fn an_elevated_token_carries_one_approval_of_one_plan() {
    let world = World::new().await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let subject = waiting_run(&world, &job, "run-1").await;
    let good = judge(&world, &subject, Decision::Approve, &world.approver);
    let ask = async |run: &str, envelope: &Envelope, more: Value| {
        let mut body = json!({ "run_id": run, "envelope": envelope });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        admin.post("/v1/tokens/elevated", &body).await
    };
    let issued = ask("run-1", &good, json!({})).await.ok();
    assert_eq!(issued["scopes"], json!(["proxy:call", "tfc:apply:run-1"]));
    let seen = json!({ "token": issued["token"] });
    let seen = admin.post("/v1/tokens/introspect", &seen).await.ok();
    assert_eq!(
        (&seen["active"], &seen["elevated_for_run"]),
        (&json!(true), &json!("run-1"))
    );
    let lifetime = seen["exp"].as_i64().unwrap() - seen["iat"].as_i64().unwrap();
    assert!(
        (1..=300).contains(&lifetime),
        "no longer than the approval: {lifetime}"
    );
    let run = world.gateway.app.store.run("run-1").await.unwrap().unwrap();
    assert_eq!(
        run.gate,
        GateState::AwaitingApproval,
        "issuing it approves nothing yet"
    );

    let stranger = clawgate::keys::random_key();
    let mut other = subject.clone();
    other.plan_sha256_b64u = Hash::of(b"another plan");
    run_at(&world, &job, "run-2", GateState::Planned).await;
    for (what, run, envelope, more, code) in [
        (
            "too long",
            "run-1",
            good.clone(),
            json!({ "ttl_seconds": 601 }),
            "TOKEN_REQUEST_REFUSED",
        ),
        (
            "no time",
            "run-1",
            good.clone(),
            json!({ "ttl_seconds": 0 }),
            "TOKEN_REQUEST_REFUSED",
        ),
        (
            "no run",
            "run-none",
            good.clone(),
            json!({}),
            "APPROVAL_UNKNOWN",
        ),
        (
            "not asked",
            "run-2",
            good.clone(),
            json!({}),
            "APPROVAL_CLOSED",
        ),
        (
            "no id",
            "nonsense",
            good.clone(),
            json!({}),
            "BODY_WRONG_TYPE",
        ),
        (
            "a denial",
            "run-1",
            judge(&world, &subject, Decision::Deny, &world.approver),
            json!({}),
            "APPROVAL_MALFORMED",
        ),
        (
            "another plan",
            "run-1",
            judge(&world, &other, Decision::Approve, &world.approver),
            json!({}),
            "APPROVAL_WRONG_DIGEST",
        ),
        (
            "a stranger",
            "run-1",
            judge(&world, &subject, Decision::Approve, &stranger),
            json!({}),
            "APPROVAL_NOT_AN_APPROVER",
        ),
        (
            "a contract in its place",
            "run-1",
            world.contract("", ""),
            json!({}),
            "APPROVAL_MALFORMED",
        ),
    ] {
        assert_eq!(ask(run, &envelope, more).await.code(), code, "{what}");
    }
}
