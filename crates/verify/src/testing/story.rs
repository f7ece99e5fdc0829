//! The story itself: a model is asked, a run is planned, one call is refused, a person approves,
//! the gateway applies.

use policy::decide::{
    ApprovalFact, ConfigurationFact, EgressInput, ModelInput, ModelSurface, RunFacts,
    TerraformInput,
};
use policy::egress::EgressOperation;
use policy::terraform::Operation;
use policy::{CompiledContract, Contract, DecisionInput, EXAMPLE_CONTRACT, decide};
use proof::record::{Barrier, Confinement};

use super::*;

const TOKEN: &str = "1f3b0f7f5a0d3c0b4e7d8a9c6b5e4f3d2c1b0a99887766554433221100ffeedd";
const HOLDER: &str = "127.0.0.1";

impl Story {
    /// The story of one apply.
    pub fn apply() -> Self {
        Self::with_model_calls(1)
    }

    /// The same, approved with a passkey.
    pub fn apply_by_passkey() -> Self {
        let mut story = Self::apply();
        let place = story.position(|body| matches!(body, Body::Approval(_)));
        let signed = story.approvals.remove(0);
        let mut statement: Statement = signed.payload.to_typed().expect("a statement");
        let mut passkey = story.keys.passkey.clone();
        statement.approver_did = passkey.did();
        story.steps[place].body = story.approve_by_passkey(&statement, &mut passkey);
        story
    }

    /// The same, with so many model calls before the run is made.
    pub fn with_model_calls(model_calls: usize) -> Self {
        let mut story = Self {
            keys: Keys::from_seed(1),
            contract: serde_json::from_str(EXAMPLE_CONTRACT).expect("JSON"),
            tokens: Vec::new(),
            runs: vec![run()],
            approvals: Vec::new(),
            steps: Vec::new(),
        };
        let open = JobOpen {
            agent_did: story.keys.job.did(),
            name: "Raise the instance size of staging".to_owned(),
            opened_by: "ops".to_owned(),
            opened_by_email: Some("ops@example.com".to_owned()),
            policy_hash_b64u: Hash::of(b""),
            gateway_did: story.keys.receipt.did(),
            confinement: Some(Confinement::new(Barrier::ALL.to_vec())),
            lease_seconds: Some(60),
        };
        story.step(0, Body::JobOpen(open));
        story.tokens.push(token(&story.keys));
        for n in 0..model_calls {
            let usage = Usage {
                tokens_input: 812,
                tokens_output: 133,
                derived: false,
            };
            story.ask_model(n);
            story.outcome(900, |outcome| outcome.usage = Some(usage));
        }
        story.upload();
        story.outcome(150, |_| ());
        story.call(Lane::Terraform, create_run(WORKSPACE), None);
        story.outcome(200, |outcome| {
            outcome.status = Some(201);
            outcome.upstream_status = Some(201);
            outcome.object_id = Some(RUN.to_owned());
        });
        story.refuse();
        story.call(Lane::Terraform, apply_run(ApprovalFact::None), Some(RUN));
        story.outcome(2, |outcome| {
            outcome.status = Some(202);
            outcome.upstream_status = None;
        });
        let judged_at = Timestamp::from_millis(
            start().millis() + story.steps.iter().map(|s| s.after_ms).sum::<i64>() + 500,
        );
        let statement = story.statement(Decision::Approve, "nonce-1", judged_at);
        let key = story.keys.approver.clone();
        let approval = story.approve(&statement, &key);
        story.step(1000, approval);
        story.call(Lane::Gateway, apply_run(ApprovalFact::Valid), Some(RUN));
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

    /// A model call.
    fn ask_model(&mut self, n: usize) {
        let input = DecisionInput::Model(ModelInput {
            scope: scope().into(),
            provider: "openai".into(),
            fallbacks: Default::default(),
            surface: ModelSurface::ChatCompletions,
            model: Some("gpt-5.2".into()),
            calls_so_far: n as u64,
            tokens_so_far: n as u64 * 945,
            max_tokens_requested: Some(4096),
            cost: None,
            tools: None,
        });
        self.intend(Lane::Model, "chat-completions", &input, None);
    }

    /// An upload to a capability address, which has a name of its own.
    fn upload(&mut self) {
        let input = DecisionInput::Terraform(TerraformInput {
            workspace_id: Some(WORKSPACE.into()),
            owned: true,
            scope: scope().into(),
            ..TerraformInput::new(Operation::CreateConfigurationVersion, &[])
        });
        self.intend(Lane::Terraform, "upload-configuration", &input, None);
    }

    /// A Terraform call.
    fn call(&mut self, lane: Lane, input: TerraformInput<'_>, run_id: Option<&str>) {
        let operation = input.operation.name();
        self.intend(lane, operation, &DecisionInput::Terraform(input), run_id);
    }

    fn intend(
        &mut self,
        lane: Lane,
        operation: &str,
        input: &DecisionInput<'_>,
        run_id: Option<&str>,
    ) {
        let number = self.steps.len();
        let intent = Intent {
            caller: self.caller(lane),
            lane,
            operation: operation.to_owned(),
            run_id: run_id.map(str::to_owned),
            input: Json::from_value(input).expect("JSON"),
            decision: Json::from_value(&decide(&self.compiled(), input)).expect("JSON"),
            policy_hash_b64u: Hash::of(b""),
            request_hash_b64u: Hash::of(format!("request {number}").as_bytes()),
            trace_id: None,
            caused_by: None,
        };
        self.step(100, Body::Intent(Box::new(intent)));
    }

    fn compiled(&self) -> CompiledContract {
        let contract = Contract::from_json(self.contract.clone().into());
        CompiledContract::compile(&contract.expect("a contract"))
    }

    fn outcome(&mut self, latency_ms: i64, edit: impl Fn(&mut Outcome)) {
        let mut outcome = Outcome {
            intent_seq: 0,
            tool_calls: Vec::new(),
            status: Some(200),
            upstream_status: Some(200),
            response_hash_b64u: Hash::of(format!("answer {}", self.steps.len()).as_bytes()),
            response_bytes: 512,
            latency_ms: latency_ms.unsigned_abs(),
            first_byte_ms: Some(40),
            usage: None,
            object_id: None,
            egress: None,
            ended: Ended::Complete,
            code: None,
            receipt: None,
        };
        edit(&mut outcome);
        self.step(latency_ms, Body::Outcome(Box::new(outcome)));
    }

    /// A connection through the egress proxy, to a host that the contract lists then. It is the
    /// last thing that happens.
    pub fn connect(&mut self) {
        self.contract["egress"] = serde_json::json!({ "allow_hosts": ["registry.example"] });
        let addresses = vec!["93.184.216.34".parse().expect("an address")];
        let scope = scope();
        let input = DecisionInput::Egress(EgressInput {
            addresses: Some(addresses.into()),
            ..EgressInput::new(EgressOperation::Connect, "registry.example", 443, &scope)
        });
        let close = self.steps.pop().expect("a story has an end");
        self.intend(Lane::Egress, "connect", &input, None);
        self.outcome(700, |outcome| {
            outcome.upstream_status = None;
            outcome.egress = Some(Egress {
                address: "93.184.216.34".parse().ok(),
                sent_bytes: 517,
                sent_hash_b64u: Hash::of(b"what was sent"),
            });
        });
        self.steps.push(close);
        // The approval names the contract, which is another one now.
        let place = self.position(|body| matches!(body, Body::Approval(_)));
        let signed = self.approvals.remove(0);
        let mut statement: Statement = signed.payload.to_typed().expect("a statement");
        statement.policy_hash_b64u = self.policy_hash();
        let key = self.keys.approver.clone();
        self.steps[place].body = self.approve(&statement, &key);
    }

    fn refuse(&mut self) {
        let input = DecisionInput::Terraform(create_run("ws-production-app"));
        let decision = decide(&self.compiled(), &input);
        let refusal = Refusal {
            caller: self.caller(Lane::Terraform),
            lane: Lane::Terraform,
            asked: "create-run".to_owned(),
            target_hash_b64u: Hash::of(b"POST /api/v2/runs"),
            code: decision.code.to_string(),
            reasons: decision.reasons.iter().map(ToString::to_string).collect(),
            run_id: None,
            input: Some(Json::from_value(&input).expect("JSON")),
            policy_hash_b64u: Hash::of(b""),
        };
        self.step(50, Body::Refusal(Box::new(refusal)));
    }
}

/// The facts of a run that an agent asks for.
fn create_run(workspace: &str) -> TerraformInput<'static> {
    TerraformInput {
        workspace_id: Some(workspace.to_owned().into()),
        run: Some(std::borrow::Cow::Owned(RunFacts {
            auto_apply: true,
            configuration: ConfigurationFact::Inspected,
            ..RunFacts::default()
        })),
        scope: scope().into(),
        ..TerraformInput::new(Operation::CreateRun, &[])
    }
}

/// The facts of an apply: wished for, or the gateway's own.
fn apply_run(approval: ApprovalFact) -> TerraformInput<'static> {
    TerraformInput {
        workspace_id: Some(WORKSPACE.into()),
        run_id: Some(RUN.into()),
        owned: true,
        approval,
        scope: scope().into(),
        ..TerraformInput::new(Operation::ApplyRun, &[])
    }
}

fn scope() -> Vec<String> {
    let granted = [
        Scope::ProxyCall,
        Scope::TerraformPlan,
        Scope::TerraformApply,
        Scope::ModelCall,
    ];
    granted.into_iter().map(String::from).collect()
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
            scope: scope()
                .into_iter()
                .map(|scope| scope.try_into().expect("a scope"))
                .collect(),
            iat: issued.seconds(),
            exp: issued.seconds() + 1800,
            policy_hash_b64u: Hash::of(b""),
            mission_id: "job_019ab0c0-0000-7000-8000-000000000001".to_owned(),
            token_scope_hash_b64u: Hash::of(b""),
            jti: "019ab0c0-0000-7000-8000-0000000000aa".to_owned(),
            cnf: None,
        },
        token_hash: TOKEN.to_owned(),
        signed_by: None,
        issued_at: issued,
        holder: Some(HOLDER.to_owned()),
        first_used_at: Some(issued.plus_seconds(0)),
        last_used_at: Some(issued.plus_seconds(1)),
        revoked_at: None,
        replays_refused: 0,
    }
}
