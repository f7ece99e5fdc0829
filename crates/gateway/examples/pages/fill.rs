//! A store as it is after a long time, through the store's own methods.

use clawgate::app::App;
use futures_util::future::join_all;
use policy::EXAMPLE_CONTRACT;
use proof::approval::{Changes, Decision, Judgement, Subject};
use proof::record::{
    ApprovalVia, Body, Caller, Ended, Intent, JobId, JobOpen, Lane, Outcome, ReceiptRef, Refusal,
    Usage,
};
use proof::token::{Claims, Scope};
use proof::{Envelope, EnvelopeType, Hash, Json, Numbers, SigningKey, Timestamp, json};
use serde_json::{Value, json};
use store::{
    BundleRow, ContractVersion, GateState, NewStatement, NewToken, RunRow, RunUpdate, Store,
};

pub(crate) const APPROVER: &str = "infra-lead@example.com";

/// Jobs that are written at a time: what waits together is committed together.
const TOGETHER: usize = 400;

/// Plans that wait.
const WAITING: usize = 500;

/// Resources of the large plan.
const RESOURCES: usize = 10_000;

/// What the measurement asks for.
pub(crate) struct Filled {
    pub(crate) agent: String,
    pub(crate) contract: String,
    /// A job from the first tenth.
    pub(crate) early: String,
    pub(crate) run: String,
    pub(crate) receipt: String,
    /// A job with 5000 records, and its run, whose plan is large.
    pub(crate) long: String,
    pub(crate) large: String,
    pub(crate) first_day: String,
    pub(crate) last_day: String,
    /// A place 1000 records before the log's end.
    pub(crate) tail: u64,
}

pub(crate) fn author() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

pub(crate) fn approver() -> SigningKey {
    SigningKey::from_seed(&[2; 32])
}

pub(crate) fn workspace(n: usize) -> String {
    format!("ws-{n:016}")
}

fn did(n: usize) -> proof::Did {
    SigningKey::from_seed(Hash::of(&n.to_be_bytes()).as_bytes()).did()
}

fn job_id(n: usize) -> JobId {
    format!("job_{n:08}-7e1b-7d64-9e3c-2f6a5b1c9d10")
        .parse()
        .unwrap()
}

fn from_value(value: &Value) -> Json {
    Json::from_value(value).unwrap()
}

/// Opens, fills and closes so many jobs, then those that stand open.
pub(crate) async fn fill(app: &App, jobs: usize) -> Filled {
    let store = &*app.store;
    let now = app.now();
    let contracts = contracts(store, now).await;
    let work = Work {
        store,
        contracts: &contracts,
        // A year of work that ends an hour ago.
        begin: now.plus_seconds(-365 * 86_400),
        pace: (365 * 86_400 - 3600) * 1000 / jobs as i64,
    };
    let all: Vec<usize> = (0..jobs).collect();
    for some in all.chunks(TOGETHER) {
        join_all(some.iter().map(|n| work.job(*n, jobs))).await;
    }
    let long = work.long_job(jobs, now).await;
    let log = store.log_size().await.unwrap();
    let early = jobs / 10;
    let day = |at: Timestamp| at.to_string()[..10].to_owned();
    Filled {
        agent: did(early).to_string(),
        contract: contracts[0].to_string(),
        early: job_id(early).to_string(),
        run: run_id(early - early % 4),
        receipt: format!("rcpt_{early}-0"),
        large: run_id(jobs),
        long: long.to_string(),
        first_day: day(work.at(jobs / 100)),
        last_day: day(work.at(jobs - 1)),
        tail: log.saturating_sub(1001),
    }
}

/// Twenty contracts; the first has three versions.
async fn contracts(store: &dyn Store, at: Timestamp) -> Vec<Hash> {
    let mut hashes = Vec::new();
    for n in 0..22 {
        let name = format!("work-{}", if n < 20 { n } else { 0 });
        let mut contract = json::parse(EXAMPLE_CONTRACT.as_bytes(), Numbers::Integers).unwrap();
        contract.set("name", name.as_str());
        contract.set("description", format!("version {n}"));
        let contract = policy::Contract::from_json(contract).unwrap();
        let kind = EnvelopeType::WorkPolicyContract;
        let envelope = Envelope::sign(kind, contract.json(), &author(), at).unwrap();
        let version = ContractVersion {
            second_envelope: None,
            policy_hash: contract.hash(),
            name,
            envelope,
            author_did: author().did(),
            published_at: at,
            published_by: "admin".into(),
        };
        store.publish(version).await.unwrap();
        hashes.push(contract.hash());
    }
    hashes
}

struct Work<'a> {
    store: &'a dyn Store,
    contracts: &'a [Hash],
    begin: Timestamp,
    /// Milliseconds between two jobs.
    pace: i64,
}

impl Work<'_> {
    fn at(&self, n: usize) -> Timestamp {
        Timestamp::from_millis(self.begin.millis() + n as i64 * self.pace)
    }

    /// Three of five jobs are under the first contract's versions, the others under the rest.
    fn contract(&self, n: usize) -> Hash {
        match n % 5 {
            0 => self.contracts[0],
            1 => self.contracts[20],
            2 => self.contracts[21],
            _ => self.contracts[1 + (n / 5) % 19],
        }
    }

    async fn job(&self, n: usize, all: usize) {
        let (store, at, job) = (self.store, self.at(n), job_id(n));
        self.open(n, at).await;
        for call in 0..3 {
            self.call(
                n,
                at,
                if call == 0 {
                    Lane::Model
                } else {
                    Lane::Terraform
                },
                call,
            )
            .await;
        }
        if n.is_multiple_of(5) {
            self.refuse(n, at).await;
        }
        let waits = n + WAITING >= all;
        if waits || n.is_multiple_of(4) {
            self.run(n, at, waits).await;
        }
        // Some stay open.
        if !waits && !n.is_multiple_of(50) {
            store.close_job(&job, "olga", "done", at).await.unwrap();
            let bundle = BundleRow {
                job_id: job,
                sha256: Hash::of(&n.to_be_bytes()),
                bytes: 40_000,
                sealed_at: at,
                verdict: Some("valid".into()),
            };
            store.save_bundle(bundle, Vec::new()).await.unwrap();
        }
    }

    async fn open(&self, n: usize, at: Timestamp) {
        let open = JobOpen {
            agent_did: did(n),
            name: format!("resize the staging database, part {n}"),
            opened_by: "olga".into(),
            opened_by_email: None,
            policy_hash_b64u: self.contract(n),
            gateway_did: author().did(),
            confinement: None,
            lease_seconds: None,
        };
        self.store.open_job(job_id(n), at, open).await.unwrap();
        let mut claims = Claims {
            token_version: "1".into(),
            sub: did(n),
            aud: "gateway.example".into(),
            scope: vec![Scope::ProxyCall, Scope::TerraformPlan],
            iat: at.seconds(),
            exp: at.seconds() + 900,
            policy_hash_b64u: self.contract(n),
            mission_id: job_id(n).to_string(),
            token_scope_hash_b64u: Hash::of(b""),
            jti: format!("jti-{n}"),
            cnf: None,
        };
        claims.token_scope_hash_b64u = claims.scope_hash();
        let token = NewToken {
            token_hash: Hash::of(format!("token {n}").as_bytes()),
            job_id: job_id(n),
            claims,
            issued_at: at,
            issued_by: "olga".into(),
            renews: None,
            elevated: None,
            signed_by: None,
        };
        self.store.issue(token).await.unwrap();
    }

    fn caller(&self, n: usize) -> Caller {
        Caller {
            token_hash: Hash::of(format!("token {n}").as_bytes()).to_hex(),
            agent_did: did(n),
            holder: "10.0.0.7".into(),
        }
    }

    async fn call(&self, n: usize, at: Timestamp, lane: Lane, call: usize) {
        let store = self.store;
        let scope = ["proxy:call", "tfc:plan"];
        let (operation, input) = match lane {
            Lane::Model => (
                "chat-completions",
                json!({"lane": "model", "scope": scope, "provider": "openai",
                    "surface": "chat-completions", "model": "gpt-5", "calls_so_far": call,
                    "tokens_so_far": 100 * call}),
            ),
            _ => (
                "read-run",
                json!({"lane": "terraform", "scope": scope, "operation": "read-run",
                    "organization": "acme", "workspace_id": workspace(n % 200),
                    "run_id": run_id(n), "owned": true, "approval": "none"}),
            ),
        };
        let intent = Intent {
            caller: self.caller(n),
            lane,
            operation: operation.into(),
            run_id: None,
            input: from_value(&input),
            decision: from_value(&json!({"decision": "allow", "code": "ALLOWED", "reasons": []})),
            policy_hash_b64u: self.contract(n),
            request_hash_b64u: Hash::of(b"request"),
            trace_id: None,
            caused_by: None,
        };
        let body = Body::Intent(Box::new(intent));
        let seq = store.append(&job_id(n), at, body).await.unwrap().seq;
        let model = lane == Lane::Model;
        let receipt_id = format!("rcpt_{n}-{call}");
        let payload = json!({"receipt_id": receipt_id, "binding": {"run_id": job_id(n),
            "event_hash_b64u": Hash::of(b"event"), "policy_hash": self.contract(n)}});
        let kind = match model {
            true => EnvelopeType::GatewayReceipt,
            false => EnvelopeType::ToolReceipt,
        };
        let envelope = Envelope::sign(kind, &payload, &author(), at).unwrap();
        let outcome = Outcome {
            intent_seq: seq,
            tool_calls: Vec::new(),
            status: Some(200),
            upstream_status: Some(200),
            response_hash_b64u: Hash::of(b"response"),
            response_bytes: 2000,
            latency_ms: 812,
            first_byte_ms: Some(200),
            usage: model.then_some(Usage {
                tokens_input: 900,
                tokens_output: 200,
                derived: false,
            }),
            object_id: None,
            egress: None,
            ended: Ended::Complete,
            code: None,
            receipt: Some(ReceiptRef {
                receipt_id,
                payload_hash_b64u: envelope.payload_hash_b64u,
            }),
        };
        let job = job_id(n);
        let pending = store.append_outcome(&job, at, outcome, Some(envelope), Vec::new());
        pending.await.unwrap();
    }

    async fn refuse(&self, n: usize, at: Timestamp) {
        let refusal = Refusal {
            caller: self.caller(n),
            lane: Lane::Terraform,
            asked: "read-state".into(),
            target_hash_b64u: Hash::of(b"target"),
            code: "STATE_READ_DENIED".into(),
            reasons: vec!["state is closed to this contract".into()],
            run_id: None,
            input: None,
            policy_hash_b64u: self.contract(n),
        };
        let body = Body::Refusal(Box::new(refusal));
        self.store.append(&job_id(n), at, body).await.unwrap();
    }

    /// A run; three of ten are in the first workspace.
    async fn run(&self, n: usize, at: Timestamp, waits: bool) {
        let store = self.store;
        let place = if n % 10 < 3 { 0 } else { n % 200 };
        let changes = Changes {
            create: 150,
            update: 30,
            delete: 20,
            ..Changes::default()
        };
        let subject = Subject {
            organization: "acme".into(),
            workspace_id: workspace(place),
            run_id: run_id(n),
            configuration_version_id: format!("cv-{n:016}"),
            configuration_sha256_b64u: Hash::of(b"configuration"),
            plan_id: format!("plan-{n:016}"),
            plan_sha256_b64u: Hash::of(b"plan"),
            policy_hash_b64u: self.contract(n),
            job_id: job_id(n),
            changes,
            cost: None,
        };
        let summary = json!({"resources": objects(200), "listed": true, "message": "resize"});
        let row = RunRow {
            run_id: run_id(n),
            job_id: job_id(n),
            organization: "acme".into(),
            workspace_id: workspace(place),
            configuration_version_id: Some(format!("cv-{n:016}")),
            configuration_sha256: Some(Hash::of(b"configuration")),
            plan_id: Some(format!("plan-{n:016}")),
            apply_id: None,
            apply_wished: true,
            gate: GateState::Planned,
            plan_sha256: Some(Hash::of(b"plan")),
            plan_raw_sha256: None,
            changes: Some(changes),
            subject: None,
            // The ones that ended long ago are small, so that the store fits on a disk.
            summary: waits.then(|| from_value(&summary)),
            status: "planned".into(),
            state_version_before: None,
            state_version_after: None,
            gate_reason: None,
            approval_expires_at: None,
            created_at: at,
            updated_at: at,
        };
        store.insert_run(row).await.unwrap();
        let move_to = async |to, update| {
            let moved = store
                .transition(&run_id(n), &GateState::ALL, to, at, update)
                .await;
            moved.unwrap().expect("it moves");
        };
        if waits || n.is_multiple_of(100) {
            let asked = RunUpdate {
                subject: Some(subject.clone()),
                approval_expires_at: Some(at.plus_seconds(86_400)),
                ..RunUpdate::default()
            };
            move_to(GateState::AwaitingApproval, asked).await;
            if !waits {
                self.deny(n, subject, at).await;
            }
        } else {
            move_to(GateState::Applied, RunUpdate::default()).await;
        }
    }

    async fn deny(&self, n: usize, subject: Subject, at: Timestamp) {
        let signer = approver();
        let statement = subject.judge(Judgement {
            decision: Decision::Deny,
            approver: APPROVER.into(),
            approver_did: signer.did().into(),
            issued_at: at,
            expires_at: at.plus_seconds(3600),
            nonce: format!("nonce {n}"),
            reason: Some("not now".into()),
        });
        let kind = EnvelopeType::ApprovalStatement;
        let envelope = Envelope::sign(kind, &statement, &signer, at).unwrap();
        let statement = NewStatement {
            envelope: envelope.try_into().unwrap(),
            statement,
            via: ApprovalVia::Key,
            sign_count: None,
            at,
            min_approvals: 1,
        };
        self.store.record_statement(statement).await.unwrap();
    }

    /// A job with 5000 records, whose run's plan has [`RESOURCES`].
    async fn long_job(&self, n: usize, at: Timestamp) -> JobId {
        self.open(n, at).await;
        for call in 0..2450 {
            let lane = match call % 3 {
                0 => Lane::Model,
                _ => Lane::Terraform,
            };
            self.call(n, at, lane, call).await;
        }
        for _ in 0..98 {
            self.refuse(n, at).await;
        }
        self.run(n, at, true).await;
        let objects: Vec<Json> = objects(RESOURCES).iter().map(from_value).collect();
        let listed = Json::Array(objects[..500].to_vec());
        self.store
            .keep_plan_objects(&run_id(n), objects)
            .await
            .unwrap();
        let mut summary = Json::object();
        summary.set("resources", listed);
        summary.set("listed", false);
        let update = RunUpdate {
            summary: Some(summary),
            ..RunUpdate::default()
        };
        self.store.update_run(&run_id(n), at, update).await.unwrap();
        job_id(n)
    }
}

pub(crate) fn run_id(n: usize) -> String {
    format!("run-{n:016}")
}

/// Objects as an inspection lists them.
fn objects(count: usize) -> Vec<Value> {
    let object = |n: usize| {
        let attribute = |name: &str| {
            json!({"name": name, "before": {"value": format!("\"{name}-before-{n}\"")},
                "after": {"value": format!("\"{name}-after-{n}\"")}, "forces_replacement": false})
        };
        let names = ["ami", "instance_type", "subnet_id", "user_data", "tags"];
        json!({
            "address": format!("module.cluster.aws_instance.node[{n}]"),
            "actions": [if n < count / 10 { "delete" } else { "create" }],
            "diff": names.map(attribute),
        })
    };
    (0..count).map(object).collect()
}
