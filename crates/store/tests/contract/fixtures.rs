//! Things to store, with fixed keys and times.

use std::sync::Arc;

use proof::approval::{Changes, Decision, Judgement, Subject};
use proof::keyset::{KeySet, SignedKeySet};
use proof::record::{
    ApprovalVia, Barrier, Body, Caller, Confinement, Ended, Intent, JobId, JobOpen, Lane, Outcome,
    ReceiptRef, Record, Refusal,
};
use proof::token::{Claims, Scope};
use proof::{Envelope, EnvelopeType, Hash, Json, SigningKey, Timestamp};
use store::{
    Appended, ContractVersion, GateState, NewStatement, NewToken, ObjectRow, RunRow, RunUpdate,
    Store, StoreError,
};

/// 2026-11-22T08:00:00Z and `ms` milliseconds.
pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_795_334_400_000 + ms)
}

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

pub(crate) fn hash(text: &str) -> Hash {
    Hash::of(text.as_bytes())
}

fn object(members: &[(&str, &str)]) -> Json {
    let mut json = Json::object();
    for (name, value) in members {
        json.set(name, *value);
    }
    json
}

/// Version `text` of the contract `name`.
pub(crate) fn contract(name: &str, text: &str) -> ContractVersion {
    let author = key(1);
    let payload = object(&[("name", name), ("text", text)]);
    ContractVersion {
        second_envelope: None,
        policy_hash: hash(text),
        name: name.into(),
        envelope: Envelope::sign(EnvelopeType::WorkPolicyContract, &payload, &author, at(0))
            .unwrap(),
        author_did: author.did(),
        published_at: at(0),
        published_by: "ada".into(),
    }
}

pub(crate) fn opening(text: &str) -> JobOpen {
    JobOpen {
        agent_did: key(2).did(),
        name: "grow the staging database".into(),
        opened_by: "ada".into(),
        opened_by_email: Some("ada@example.com".into()),
        policy_hash_b64u: hash(text),
        gateway_did: key(3).did(),
        confinement: Some(Confinement::new(vec![Barrier::Network, Barrier::Files])),
        lease_seconds: Some(60),
    }
}

pub(crate) fn job_id(n: u32) -> JobId {
    format!("job_{n}").parse().unwrap()
}

/// Publishes the contract `text` and opens job `n` under it.
pub(crate) async fn open_job(store: &Arc<dyn Store>, n: u32) -> JobId {
    store.publish(contract("staging", "v1")).await.unwrap();
    let id = job_id(n);
    store
        .open_job(id.clone(), at(0), opening("v1"))
        .await
        .unwrap();
    id
}

pub(crate) fn caller() -> Caller {
    Caller {
        token_hash: hash("token").to_hex(),
        agent_did: key(2).did(),
        holder: "127.0.0.1".into(),
    }
}

pub(crate) fn intent(lane: Lane) -> Body {
    Body::Intent(Box::new(bare_intent(lane)))
}

pub(crate) fn bare_intent(lane: Lane) -> Intent {
    Intent {
        caller: caller(),
        lane,
        operation: "create-run".into(),
        run_id: None,
        input: object(&[("workspace", "ws-1")]),
        decision: object(&[("decision", "allow")]),
        policy_hash_b64u: hash("v1"),
        request_hash_b64u: hash("request"),
        trace_id: None,
        caused_by: None,
    }
}

pub(crate) fn refusal() -> Body {
    Body::Refusal(Box::new(Refusal {
        caller: caller(),
        lane: Lane::Terraform,
        asked: "read-state".into(),
        target_hash_b64u: hash("target"),
        code: "STATE_READ_FORBIDDEN".into(),
        reasons: vec!["the contract does not allow it".into()],
        run_id: None,
        input: None,
        policy_hash_b64u: hash("v1"),
    }))
}

pub(crate) fn outcome(intent_seq: u64) -> Outcome {
    Outcome {
        intent_seq,
        tool_calls: Vec::new(),
        status: Some(201),
        upstream_status: Some(201),
        response_hash_b64u: hash("response"),
        response_bytes: 8,
        latency_ms: 12,
        first_byte_ms: Some(11),
        usage: None,
        object_id: None,
        egress: None,
        ended: Ended::Complete,
        code: None,
        receipt: None,
    }
}

/// A receipt of this type and id, and the reference to it.
pub(crate) fn receipt(kind: EnvelopeType, id: &str) -> (Envelope, ReceiptRef) {
    let payload = object(&[("receipt_id", id)]);
    let envelope = Envelope::sign(kind, &payload, &key(3), at(5)).unwrap();
    let named = ReceiptRef {
        receipt_id: id.into(),
        payload_hash_b64u: envelope.payload_hash_b64u,
    };
    (envelope, named)
}

/// Every record of a job, read in pages of 7.
pub(crate) async fn records(store: &Arc<dyn Store>, job: &JobId) -> Vec<(u64, Record)> {
    let mut all: Vec<(u64, Record)> = Vec::new();
    loop {
        let after = all.last().map_or(0, |(_, record)| record.seq);
        let page = store.records(job, after, 7).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page.into_iter().map(|row| (row.leaf_index, row.record)));
    }
}

pub(crate) async fn append(
    store: &Arc<dyn Store>,
    job: &JobId,
    body: Body,
) -> Result<Appended, StoreError> {
    store.append(job, at(10), body).await
}

pub(crate) fn token(job: &JobId, n: u32) -> NewToken {
    let mut claims = Claims {
        token_version: "1".into(),
        sub: key(2).did(),
        aud: "gateway.example".into(),
        scope: vec![Scope::ProxyCall, Scope::TerraformPlan],
        iat: at(0).seconds(),
        exp: at(0).seconds() + 900,
        policy_hash_b64u: hash("v1"),
        mission_id: job.to_string(),
        token_scope_hash_b64u: hash(""),
        jti: format!("jti-{n}"),
        cnf: None,
    };
    claims.token_scope_hash_b64u = claims.scope_hash();
    NewToken {
        token_hash: hash(&format!("token {n}")),
        job_id: job.clone(),
        claims,
        issued_at: at(1),
        issued_by: "ada".into(),
        signed_by: None,
        renews: None,
        elevated: None,
    }
}

pub(crate) fn seen(id: &str, workspace: &str, owner: Option<&JobId>) -> ObjectRow {
    ObjectRow {
        kind: "run".into(),
        id: id.into(),
        workspace_id: workspace.into(),
        organization: None,
        job_id: owner.cloned(),
        run_id: None,
        parent: None,
    }
}

pub(crate) fn subject(job: &JobId, run: &str, plan: &str) -> Subject {
    Subject {
        organization: "acme".into(),
        workspace_id: "ws-1".into(),
        run_id: run.into(),
        configuration_version_id: "cv-1".into(),
        configuration_sha256_b64u: hash("configuration"),
        plan_id: "plan-1".into(),
        plan_sha256_b64u: hash(plan),
        policy_hash_b64u: hash("v1"),
        job_id: job.clone(),
        changes: Changes {
            create: 1,
            ..Changes::default()
        },
        cost: Some("12.50".into()),
    }
}

/// A run that was just planned.
pub(crate) fn run(job: &JobId, id: &str) -> RunRow {
    RunRow {
        run_id: id.into(),
        job_id: job.clone(),
        organization: "acme".into(),
        workspace_id: "ws-1".into(),
        configuration_version_id: None,
        configuration_sha256: None,
        plan_id: None,
        apply_id: None,
        apply_wished: false,
        gate: GateState::Planned,
        plan_sha256: None,
        plan_raw_sha256: None,
        changes: None,
        subject: None,
        summary: None,
        status: "pending".into(),
        state_version_before: None,
        state_version_after: None,
        gate_reason: None,
        approval_expires_at: None,
        created_at: at(1),
        updated_at: at(1),
    }
}

/// Keeps a run of which the approvers are asked, until second 3600.
pub(crate) async fn awaiting(store: &Arc<dyn Store>, job: &JobId, id: &str) {
    store.insert_run(run(job, id)).await.unwrap();
    let update = RunUpdate {
        subject: Some(subject(job, id, "plan")),
        approval_expires_at: Some(at(3_600_000)),
        ..RunUpdate::default()
    };
    let from = [GateState::Planned];
    let moved = store
        .transition(id, &from, GateState::AwaitingApproval, at(2), update)
        .await;
    assert!(moved.unwrap().is_some());
}

/// The statement of approver `n` about a subject.
pub(crate) fn says(n: u8, decision: Decision, subject: Subject, nonce: &str) -> NewStatement {
    let signer = key(100 + n);
    let statement = subject.judge(Judgement {
        decision,
        approver: format!("approver-{n}@example.com"),
        approver_did: signer.did().into(),
        issued_at: at(20),
        expires_at: at(600_000),
        nonce: nonce.into(),
        reason: (decision == Decision::Deny).then(|| "not today".into()),
    });
    NewStatement {
        envelope: Envelope::sign(EnvelopeType::ApprovalStatement, &statement, &signer, at(20))
            .unwrap()
            .try_into()
            .unwrap(),
        statement,
        via: ApprovalVia::Key,
        sign_count: None,
        at: at(30),
        min_approvals: 1,
    }
}

/// Asserts that a result is this conflict.
#[macro_export]
macro_rules! assert_conflict {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err(store::StoreError::Conflict($pattern)) => {}
            other => panic!("{} expected, not {other:?}", stringify!($pattern)),
        }
    };
}

/// The first key set, by keys of their own.
pub(crate) fn first_key_set() -> SignedKeySet {
    let dids = [31, 32, 33, 34, 35, 36].map(|seed| key(seed).did());
    SignedKeySet::sign(&KeySet::first(dids, at(0), at(1)), &key(36), None).unwrap()
}
