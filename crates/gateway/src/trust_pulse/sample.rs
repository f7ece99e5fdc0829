//! A job as it might have been, put into a real store: what the tests render.

use std::sync::Arc;

use policy::Contract;
use proof::approval::{Changes, Decision, Judgement, Subject};
use proof::record::{
    ApprovalVia, Body, Caller, Ended, Intent, JobId, JobOpen, Lane, Outcome, ReceiptRef, Refusal,
    Usage,
};
use proof::token::{Claims, Scope};
use proof::{Did, Envelope, EnvelopeType, Hash, Json, SigningKey, Timestamp};
use serde_json::json;
use store::{
    BundleRow, ContractVersion, GateState, NewStatement, NewToken, RunRow, RunUpdate, Store,
};

use crate::config::Config;

/// A text that tries everything: markup, attributes, direction marks, length.
pub(crate) const HOSTILE: &str =
    "</q><script>alert(1)</script>\" onclick='x' \u{202e}devorppa\u{202c} &amp; ✅ APPROVED";

/// A store with jobs in it.
pub(crate) struct Sample {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) contract: Contract,
    clock: Timestamp,
}

/// A job that is being told.
pub(crate) struct Told<'a> {
    sample: &'a mut Sample,
    pub(crate) job: JobId,
    agent: Did,
}

pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

/// A configuration that knows the sample's author and approver.
pub(crate) fn config() -> Config {
    let (author, approver) = (key(1).did(), key(2).did());
    let text = format!(
        r#"
        gateway_id = "gateway.acme.example"
        data_dir = "data"
        agent_listener = {{ address = "127.0.0.1:0" }}
        operator_listener = {{ address = "127.0.0.1:0" }}
        authors = [{{ name = "Platform team", did = "{author}" }}]
        approvers = [{{ email = "infra-lead@example.com", did = "{approver}" }}]
        [terraform_cloud]
        url = "http://127.0.0.1:1"
        planner = {{ env = "X" }}
        executor = {{ env = "X" }}
        reader = {{ env = "X" }}
        "#
    );
    toml::from_str(&text).unwrap()
}

impl Sample {
    pub(crate) async fn new() -> Self {
        let store = store::open_sqlite_in_memory().unwrap();
        let contract = Contract::parse(policy::EXAMPLE_CONTRACT.as_bytes()).unwrap();
        let clock: Timestamp = "2026-11-22T08:00:00.000Z".parse().unwrap();
        let author = key(1);
        let envelope = Envelope::sign(
            EnvelopeType::WorkPolicyContract,
            contract.json(),
            &author,
            clock,
        );
        store
            .publish(ContractVersion {
                second_envelope: None,
                policy_hash: contract.hash(),
                name: contract.name.clone(),
                envelope: envelope.unwrap(),
                author_did: author.did(),
                published_at: clock,
                published_by: "admin".into(),
            })
            .await
            .unwrap();
        Self {
            store,
            contract,
            clock,
        }
    }

    /// Opens a job.
    pub(crate) async fn open(&mut self, id: &str, name: &str) -> Told<'_> {
        self.clock = self.clock.plus_seconds(60);
        let job: JobId = id.parse().unwrap();
        let agent = key(3).derive(id).did();
        let open = JobOpen {
            agent_did: agent.clone(),
            name: name.into(),
            opened_by: "olga@example.com".into(),
            opened_by_email: Some("olga@example.com".into()),
            policy_hash_b64u: self.contract.hash(),
            gateway_did: key(4).did(),
            confinement: None,
            lease_seconds: None,
        };
        self.store
            .open_job(job.clone(), self.clock, open)
            .await
            .unwrap();
        Told {
            sample: self,
            job,
            agent,
        }
    }
}

impl Told<'_> {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.sample.store)
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, seconds: i64) -> &mut Self {
        self.sample.clock = self.sample.clock.plus_seconds(seconds);
        self
    }

    fn caller(&self) -> Caller {
        Caller {
            token_hash: Hash::of(b"token").to_hex(),
            agent_did: self.agent.clone(),
            holder: "10.0.3.17".into(),
        }
    }

    /// A call that was made and answered.
    pub(crate) async fn call(
        &mut self,
        lane: Lane,
        operation: &str,
        input: serde_json::Value,
        object: Option<&str>,
    ) -> u64 {
        let run_id = input["run_id"].as_str().map(str::to_owned);
        let model = lane == Lane::Model && input["model"].is_string();
        let intent = Intent {
            caller: self.caller(),
            lane,
            operation: operation.into(),
            run_id,
            input: Json::from(input),
            decision: Json::from(json!({"decision": "allow", "code": "ALLOWED", "reasons": []})),
            policy_hash_b64u: self.sample.contract.hash(),
            request_hash_b64u: Hash::of(operation.as_bytes()),
            trace_id: None,
            caused_by: None,
        };
        let at = self.sample.clock;
        let store = self.store();
        let seq = store
            .append(&self.job, at, Body::Intent(Box::new(intent)))
            .await
            .unwrap()
            .seq;
        self.wait(1);
        let id = format!("rcpt_0198c1f2-7e1b-4d64-9e3c-{seq:012x}");
        let payload = json!({ "receipt_id": id });
        let kind = if model {
            EnvelopeType::GatewayReceipt
        } else {
            EnvelopeType::ToolReceipt
        };
        let envelope = Envelope::sign(kind, &payload, &key(4), at).unwrap();
        let outcome = Outcome {
            intent_seq: seq,
            tool_calls: Vec::new(),
            status: Some(if operation == "create-run" { 201 } else { 200 }),
            upstream_status: Some(200),
            response_hash_b64u: Hash::of(b"answer"),
            response_bytes: 6,
            latency_ms: 840,
            first_byte_ms: None,
            usage: model.then_some(Usage {
                tokens_input: 3120,
                tokens_output: 412,
                derived: false,
            }),
            object_id: object.map(str::to_owned),
            egress: None,
            ended: Ended::Complete,
            code: None,
            receipt: Some(ReceiptRef {
                receipt_id: id,
                payload_hash_b64u: envelope.payload_hash_b64u,
            }),
        };
        let clock = self.sample.clock;
        store
            .append_outcome(&self.job, clock, outcome, Some(envelope), vec![])
            .await
            .unwrap();
        seq
    }

    /// A Terraform call in the staging workspace.
    pub(crate) async fn terraform(&mut self, operation: &str, object: Option<&str>) -> u64 {
        let input = json!({ "lane": "terraform", "workspace_id": "ws-staging-app" });
        self.call(Lane::Terraform, operation, input, object).await
    }

    /// A model call.
    pub(crate) async fn model(&mut self, model: &str) -> u64 {
        let input = json!({ "lane": "model", "provider": "openai", "model": model });
        self.call(Lane::Model, "chat-completions", input, None)
            .await
    }

    /// A call that was refused.
    pub(crate) async fn refuse(&mut self, asked: &str, code: &str, reason: &str) {
        let refusal = Refusal {
            caller: self.caller(),
            lane: Lane::Terraform,
            asked: asked.into(),
            target_hash_b64u: Hash::of(asked.as_bytes()),
            code: code.into(),
            reasons: vec![reason.into()],
            run_id: None,
            input: None,
            policy_hash_b64u: self.sample.contract.hash(),
        };
        let at = self.sample.clock;
        self.store()
            .append(&self.job, at, Body::Refusal(Box::new(refusal)))
            .await
            .unwrap();
        self.wait(2);
    }

    /// A token, used by its holder and tried by somebody else.
    pub(crate) async fn token(&mut self) {
        let at = self.sample.clock;
        let mut claims = Claims {
            token_version: "1".into(),
            sub: self.agent.clone(),
            aud: "gateway.acme.example".into(),
            scope: vec![Scope::ProxyCall, Scope::TerraformPlan, Scope::ModelCall],
            iat: at.seconds(),
            exp: at.seconds() + 1800,
            policy_hash_b64u: self.sample.contract.hash(),
            mission_id: self.job.to_string(),
            token_scope_hash_b64u: Hash::of(b""),
            jti: "jti-1".into(),
            cnf: None,
        };
        claims.token_scope_hash_b64u = claims.scope_hash();
        let token_hash = Hash::of(self.job.as_str().as_bytes());
        let token = NewToken {
            token_hash,
            job_id: self.job.clone(),
            claims,
            issued_at: at,
            issued_by: "olga@example.com".into(),
            renews: None,
            elevated: None,
            signed_by: None,
        };
        let store = self.store();
        store.issue(token).await.unwrap();
        store
            .bind_holder(&token_hash, "10.0.3.17", at)
            .await
            .unwrap();
        store.count_replay(&token_hash).await.unwrap();
    }

    /// A run whose plan waits for a person.
    pub(crate) async fn run(&mut self, run_id: &str, address: &str) -> Subject {
        let changes = Changes {
            create: 2,
            update: 1,
            delete: 0,
            replace: 1,
            forget: 0,
            import: 0,
        };
        let subject = Subject {
            organization: "acme".into(),
            workspace_id: "ws-staging-app".into(),
            run_id: run_id.into(),
            configuration_version_id: "cv-ntv3HbhJqvFzamy7".into(),
            configuration_sha256_b64u: Hash::of(b"configuration"),
            plan_id: "plan-8F5JFydVYAmtTjET".into(),
            plan_sha256_b64u: Hash::of(run_id.as_bytes()),
            policy_hash_b64u: self.sample.contract.hash(),
            job_id: self.job.clone(),
            changes,
            cost: Some("18.40".into()),
        };
        let object = |action: &str, address: &str| json!({"address": address, "type": "aws_x", "actions": [action], "diff": []});
        let summary = json!({ "listed": true, "resources": [
            object("replace", address),
            object("create", "aws_s3_bucket.assets"),
            object("create", "aws_s3_bucket_policy.assets"),
            object("update", "aws_security_group.web"),
        ]});
        let at = self.sample.clock;
        let row = RunRow {
            run_id: run_id.into(),
            job_id: self.job.clone(),
            organization: "acme".into(),
            workspace_id: "ws-staging-app".into(),
            configuration_version_id: Some(subject.configuration_version_id.clone()),
            configuration_sha256: Some(subject.configuration_sha256_b64u),
            plan_id: Some(subject.plan_id.clone()),
            apply_id: None,
            apply_wished: true,
            gate: GateState::AwaitingApproval,
            plan_sha256: Some(subject.plan_sha256_b64u),
            plan_raw_sha256: None,
            changes: Some(changes),
            subject: Some(subject.clone()),
            summary: Some(Json::from(summary)),
            status: "planned".into(),
            state_version_before: Some("sv-g8aX5jHvZ7qTfw2m".into()),
            state_version_after: None,
            gate_reason: None,
            approval_expires_at: Some(at.plus_seconds(3600)),
            created_at: at,
            updated_at: at,
        };
        self.store().insert_run(row).await.unwrap();
        subject
    }

    /// An approver's signed word.
    pub(crate) async fn decide(&mut self, subject: Subject, decision: Decision, reason: &str) {
        let at = self.sample.clock;
        let approver = key(2);
        let statement = subject.judge(Judgement {
            decision,
            approver: "infra-lead@example.com".into(),
            approver_did: approver.did().into(),
            issued_at: at,
            expires_at: at.plus_seconds(3600),
            nonce: crate::keys::random_text(),
            reason: Some(reason.into()),
        });
        let envelope =
            Envelope::sign(EnvelopeType::ApprovalStatement, &statement, &approver, at).unwrap();
        let statement = NewStatement {
            envelope: envelope.try_into().unwrap(),
            sign_count: None,
            statement,
            via: ApprovalVia::Key,
            at,
            min_approvals: 1,
        };
        self.store().record_statement(statement).await.unwrap();
    }

    /// The gateway applies.
    pub(crate) async fn apply(&mut self, run_id: &str) {
        let input =
            json!({ "lane": "terraform", "workspace_id": "ws-staging-app", "run_id": run_id });
        self.call(Lane::Gateway, "apply-run", input, None).await;
        let store = self.store();
        let at = self.sample.clock;
        let path = [
            (GateState::Approved, GateState::Rechecking),
            (GateState::Rechecking, GateState::Applying),
            (GateState::Applying, GateState::Applied),
        ];
        for (from, to) in path {
            let update = RunUpdate {
                status: Some("applied".into()),
                state_version_after: Some("sv-Q2c8rT1bXw9yLm4k".into()),
                ..RunUpdate::default()
            };
            let moved = store
                .transition(run_id, &[from], to, at, update)
                .await
                .unwrap();
            assert!(moved.is_some());
        }
    }

    /// Closes and seals.
    pub(crate) async fn close(&mut self, reason: &str) {
        let at = self.sample.clock;
        let store = self.store();
        store
            .close_job(&self.job, "olga@example.com", reason, at)
            .await
            .unwrap();
        let bundle = BundleRow {
            job_id: self.job.clone(),
            sha256: Hash::of(b"bundle"),
            bytes: 131_072,
            sealed_at: at.plus_seconds(1),
            verdict: Some("valid".into()),
        };
        store
            .save_bundle(bundle, vec!["sv-Q2c8rT1bXw9yLm4k".into()])
            .await
            .unwrap();
    }
}

/// A whole job: plans, refusals, an approval, an apply.
pub(crate) async fn whole_job(sample: &mut Sample, id: &str, name: &str, foreign: &str) -> JobId {
    let mut job = sample.open(id, name).await;
    job.token().await;
    for operation in ["discovery", "ping", "entitlement-set", "workspace-by-name"] {
        job.terraform(operation, None).await;
    }
    for _ in 0..3 {
        job.wait(4).model("gpt-5.1").await;
    }
    job.wait(10)
        .refuse(
            "read-state",
            "STATE_READ_DENIED",
            "State is closed to this contract",
        )
        .await;
    for _ in 0..4 {
        let reason = format!("workspace `{foreign}` is outside the contract");
        job.refuse("create-run", "WORKSPACE_NOT_ALLOWED", &reason)
            .await;
    }
    job.refuse(
        "variables-write",
        "VARIABLES_DENIED",
        "Variables are closed",
    )
    .await;
    job.wait(20).model("gpt-5.1").await;
    job.terraform("create-configuration-version", Some("cv-ntv3HbhJqvFzamy7"))
        .await;
    job.terraform("upload-configuration", None).await;
    job.terraform("create-run", Some("run-CZcmD7eagjhyX0vN"))
        .await;
    let subject = job.run("run-CZcmD7eagjhyX0vN", foreign).await;
    for _ in 0..90 {
        job.terraform("read-run", None).await;
        job.terraform("read-plan-log", None).await;
    }
    job.wait(30)
        .decide(
            subject,
            Decision::Approve,
            "Matches the change request CR-1182",
        )
        .await;
    job.wait(2).apply("run-CZcmD7eagjhyX0vN").await;
    for _ in 0..20 {
        job.terraform("read-apply-log", None).await;
    }
    job.wait(3).model(foreign).await;
    job.wait(9).close("Change request done").await;
    job.job
}
