//! The story itself: a model is asked, a run is planned, one call is refused, a person approves,
//! the gateway applies.

use super::*;

const TOKEN: &str = "1f3b0f7f5a0d3c0b4e7d8a9c6b5e4f3d2c1b0a99887766554433221100ffeedd";
const HOLDER: &str = "127.0.0.1";

impl Story {
    /// The story of one apply.
    pub fn apply() -> Self {
        Self::with_model_calls(1)
    }

    /// The same, with so many model calls before the run is made.
    pub fn with_model_calls(model_calls: usize) -> Self {
        let mut story = Self {
            keys: Keys::from_seed(1),
            contract: serde_json::from_str(CONTRACT).expect("JSON"),
            tokens: Vec::new(),
            runs: vec![run()],
            approvals: Vec::new(),
            steps: Vec::new(),
        };
        let open = JobOpen {
            agent_did: story.keys.job.did(),
            name: "Raise the instance size of staging".to_owned(),
            opened_by: "ops@example.com".to_owned(),
            policy_hash_b64u: Hash::of(b""),
            gateway_did: story.keys.receipt.did(),
        };
        story.step(0, Body::JobOpen(open));
        story.tokens.push(token(&story.keys));
        for n in 0..model_calls {
            let usage = Usage {
                tokens_input: 812,
                tokens_output: 133,
                derived: false,
            };
            story.call(Lane::Model, "chat-completions", None, n);
            story.outcome(900, |outcome| outcome.usage = Some(usage));
        }
        story.call(Lane::Terraform, "create-run", None, 0);
        story.outcome(200, |outcome| {
            outcome.status = Some(201);
            outcome.upstream_status = Some(201);
            outcome.object_id = Some(RUN.to_owned());
        });
        story.refuse();
        let judged_at = Timestamp::from_millis(
            start().millis() + story.steps.iter().map(|s| s.after_ms).sum::<i64>() + 500,
        );
        let statement = story.statement(Decision::Approve, "nonce-1", judged_at);
        let key = story.keys.approver.clone();
        let approval = story.approve(&statement, &key);
        story.step(1000, approval);
        story.call(Lane::Gateway, "apply-run", Some(RUN), 0);
        story.outcome(300, |outcome| {
            outcome.status = None;
            outcome.upstream_status = Some(202);
        });
        let close = JobClose {
            closed_by: "ops@example.com".to_owned(),
            reason: "done".to_owned(),
            count: 0,
            policy_hash_b64u: Hash::of(b""),
        };
        story.step(5000, Body::JobClose(close));
        story.recounted()
    }

    fn step(&mut self, after_ms: i64, body: Body) {
        self.steps.push(Step { after_ms, body });
    }

    fn caller(&self, lane: Lane) -> Caller {
        let (token_hash, holder) = match lane {
            Lane::Gateway => ("gateway", "gateway"),
            _ => (TOKEN, HOLDER),
        };
        Caller {
            token_hash: token_hash.to_owned(),
            agent_did: self.keys.job.did(),
            holder: holder.to_owned(),
        }
    }

    fn call(&mut self, lane: Lane, operation: &str, run_id: Option<&str>, n: usize) {
        let intent = Intent {
            caller: self.caller(lane),
            lane,
            operation: operation.to_owned(),
            run_id: run_id.map(str::to_owned),
            input: Json::object(),
            decision: Json::object(),
            policy_hash_b64u: Hash::of(b""),
            request_hash_b64u: Hash::of(format!("{operation} {n}").as_bytes()),
            trace_id: None,
        };
        self.step(100, Body::Intent(Box::new(intent)));
    }

    fn outcome(&mut self, latency_ms: i64, edit: impl Fn(&mut Outcome)) {
        let mut outcome = Outcome {
            intent_seq: 0,
            status: Some(200),
            upstream_status: Some(200),
            response_hash_b64u: Hash::of(format!("answer {}", self.steps.len()).as_bytes()),
            response_bytes: 512,
            latency_ms: latency_ms.unsigned_abs(),
            first_byte_ms: Some(40),
            usage: None,
            object_id: None,
            ended: Ended::Complete,
            code: None,
            receipt: None,
        };
        edit(&mut outcome);
        self.step(latency_ms, Body::Outcome(Box::new(outcome)));
    }

    fn refuse(&mut self) {
        let refusal = Refusal {
            caller: self.caller(Lane::Terraform),
            lane: Lane::Terraform,
            asked: "create-run".to_owned(),
            target_hash_b64u: Hash::of(b"POST /api/v2/runs"),
            code: "WORKSPACE_NOT_ALLOWED".to_owned(),
            reasons: vec!["the contract does not name the workspace".to_owned()],
            run_id: None,
            input: None,
            policy_hash_b64u: Hash::of(b""),
        };
        self.step(50, Body::Refusal(Box::new(refusal)));
    }
}

fn run() -> Run {
    Run {
        run_id: RUN.to_owned(),
        workspace_id: WORKSPACE.to_owned(),
        configuration_version_id: Some("cv-8Hn2sVxP4cQd7RfT".to_owned()),
        configuration_sha256_b64u: Some(Hash::of(b"configuration")),
        plan_id: Some("plan-7TgW2bYk9MzLq4Xs".to_owned()),
        plan_sha256_b64u: Some(Hash::of(b"plan")),
        plan_raw_sha256_b64u: Some(Hash::of(b"raw plan")),
        changes: Some(Changes {
            create: 1,
            update: 2,
            ..Changes::default()
        }),
        status: "applied".to_owned(),
        state_version_before: Some("sv-3kPd8YcNw5RtHm1J".to_owned()),
        state_version_after: Some("sv-6vXz2QbLs9GfTn4K".to_owned()),
    }
}

fn token(keys: &Keys) -> Token {
    let issued = start().plus_seconds(0);
    Token {
        claims: Claims {
            token_version: "1".to_owned(),
            sub: keys.job.did(),
            aud: GATEWAY.to_owned(),
            scope: vec![
                Scope::ProxyCall,
                Scope::TerraformPlan,
                Scope::TerraformApply,
                Scope::ModelCall,
            ],
            iat: issued.seconds(),
            exp: issued.seconds() + 1800,
            policy_hash_b64u: Hash::of(b""),
            mission_id: "job_019ab0c0-0000-7000-8000-000000000001".to_owned(),
            token_scope_hash_b64u: Hash::of(b""),
            jti: "019ab0c0-0000-7000-8000-0000000000aa".to_owned(),
            cnf: None,
        },
        token_hash: TOKEN.to_owned(),
        issued_at: issued,
        holder: Some(HOLDER.to_owned()),
        first_used_at: Some(issued.plus_seconds(0)),
        last_used_at: Some(issued.plus_seconds(1)),
        revoked_at: None,
        replays_refused: 0,
    }
}
