//! A whole installation on loopback, and what must hold in each of them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clawgate::app::{App, now};
use clawgate::clawproxy::egress::SystemResolver;
use clawgate::config::Config;
use clawgate::demo::sandbox::{self, Person, Sandbox};
use clawgate::keys::{random_bytes, random_text};
use clawgate::start::{Running, start, start_with};
use http::Method;
use proof::approval::{Decision, Judgement, Statement, Subject};
use proof::record::JobId;
use proof::{Envelope, EnvelopeType, SigningKey};
use serde_json::{Value, json};
use sim::{Engine, ModelProvider, Request, TerraformCloud, TerraformCloudConfig};
use store::{GateState, RunRow, RunUpdate};
use tempfile::TempDir;

use crate::client::{Answer, Caller};
use crate::terraform::{Cli, two_instances};

/// The workspace of the example configuration.
pub(crate) const APP: &str = "ws-staging-app";

/// How long something that must come may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Simulators, gateway, contract, job and token.
pub(crate) struct World {
    pub(crate) cloud: TerraformCloud,
    pub(crate) approvers: Vec<Person>,
    pub(crate) job: JobId,
    pub(crate) cst: String,
    pub(crate) operator_token: String,
    pub(crate) config: Config,
    gateway: Option<Running>,
    pub(crate) provider: ModelProvider,
    folder: TempDir,
    /// Everything that the agent was shown.
    seen: Seen,
    /// `clawgate doctor` has asked with each credential what it may do.
    examined: AtomicBool,
}

/// What an agent was shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(crate) fn remember(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// What a world begins with.
pub(crate) struct Setup {
    pub(crate) contract: Value,
    pub(crate) cloud: TerraformCloudConfig,
    pub(crate) config: Box<dyn FnOnce(&mut Config)>,
}

impl Setup {
    /// The runbook's contract, recorded plans, and a configuration that waits for nothing.
    pub(crate) fn new() -> Self {
        Self {
            contract: serde_json::from_str(policy::EXAMPLE_CONTRACT).unwrap(),
            cloud: TerraformCloudConfig::acme(Engine::Recorded),
            config: Box::new(|config| config.limits.drain_seconds = 1),
        }
    }

    /// A gateway that can be stopped and started again on the same ports: it has a loopback
    /// address of its own, where nobody else can take them meanwhile.
    pub(crate) fn restartable(mut self) -> Self {
        let [a, b, c] = random_bytes();
        let own = [127, a.clamp(1, 254), b, c.clamp(1, 254)];
        let before = self.config;
        self.config = Box::new(move |config| {
            before(config);
            config.agent_listener.address.set_ip(own.into());
            config.operator_listener.address.set_ip(own.into());
        });
        self
    }

    /// Sets a member of the contract by its JSON pointer.
    pub(crate) fn contract(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = self
            .contract
            .pointer_mut(parent)
            .expect("the parent is there");
        parent[name] = value;
        self
    }

    pub(crate) fn engine(mut self, engine: Engine) -> Self {
        self.cloud.engine = engine;
        self
    }

    /// Terraform Cloud asks the gateway at every stage of a run.
    pub(crate) fn run_tasks(mut self) -> Self {
        let before = self.config;
        self.config = Box::new(move |config| {
            before(config);
            sandbox::with_run_tasks(config);
        });
        self
    }

    pub(crate) async fn start(self) -> World {
        World::start(self).await
    }
}

/// Signs a statement.
pub(crate) fn sign(statement: &Statement, key: &SigningKey) -> Envelope {
    Envelope::sign(
        EnvelopeType::ApprovalStatement,
        statement,
        key,
        statement.issued_at,
    )
    .unwrap()
}

/// The real engine when the real CLI is there, else `None` after saying that the test is
/// skipped. In CI it must be there.
pub(crate) fn terraform() -> Option<Engine> {
    let engine = Engine::detect();
    if matches!(
        engine,
        Engine::Real {
            name: "terraform",
            ..
        }
    ) {
        return Some(engine);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "terraform must be on the PATH in CI"
    );
    println!("skipped: terraform is not on the PATH");
    None
}

impl World {
    pub(crate) async fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let contract = serde_json::to_vec(&setup.contract).unwrap();
        let sandbox = Sandbox::start_on(folder.path(), contract, setup.cloud, setup.config);
        let sandbox = sandbox.await.unwrap();
        Self {
            cloud: sandbox.cloud,
            approvers: sandbox.approvers,
            job: sandbox.job_id,
            cst: sandbox.cst,
            operator_token: sandbox.operator_token,
            config: sandbox.gateway.app.config.clone(),
            gateway: Some(sandbox.gateway),
            provider: sandbox.provider,
            folder,
            seen: Seen::default(),
            examined: AtomicBool::new(false),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn gateway(&self) -> &Running {
        self.gateway.as_ref().expect("the gateway runs")
    }

    pub(crate) fn app(&self) -> &App {
        &self.gateway().app
    }

    /// The agent's plain client.
    pub(crate) fn agent(&self) -> Agent<'_> {
        self.agent_with(&self.cst)
    }

    pub(crate) fn agent_with(&self, token: &str) -> Agent<'_> {
        Agent {
            world: self,
            caller: Caller::new(&self.gateway().agent_url, Some(token)),
        }
    }

    /// An operator with every role.
    pub(crate) fn operator(&self) -> Caller {
        // Where it listens: its public address may be a name that nothing here knows.
        let url = format!("http://{}", self.gateway().operator_address);
        Caller::new(&url, Some(&self.operator_token))
    }

    /// Terraform Cloud as somebody there sees it, past the gateway.
    pub(crate) fn upstream(&self, credential: &str) -> Caller {
        Caller::new(&self.cloud.url(), Some(self.cloud.token(credential)))
    }

    /// From now on the executor's credential may read what `clawgate doctor` reads with it.
    pub(crate) fn is_examined(&self) {
        self.examined.store(true, Ordering::Relaxed);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// Stops the gateway and starts one on the same folder and ports.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    pub(crate) async fn stop(&mut self) {
        let gateway = self.gateway.take().expect("the gateway runs");
        let port = |url: &str| url.rsplit(':').next().unwrap().parse().unwrap();
        self.config
            .agent_listener
            .address
            .set_port(port(&gateway.agent_url));
        self.config
            .operator_listener
            .address
            .set_port(port(&gateway.operator_url));
        gateway.stop().await;
    }

    pub(crate) async fn start_again(&mut self) {
        self.gateway = Some(start(self.config.clone()).await.unwrap());
    }

    /// Starts a gateway whose store may grow by so many bytes, as on a disk that is almost full.
    pub(crate) async fn start_again_with_little_room(&mut self, bytes: u64) {
        let little = |path: &Path| {
            let there = std::fs::metadata(path).unwrap().len();
            store::open_sqlite_bounded(path, there + bytes)
        };
        let resolver = std::sync::Arc::new(SystemResolver);
        let starting = start_with(self.config.clone(), little, resolver);
        self.gateway = Some(starting.await.unwrap());
    }

    /// Runs of the job, oldest first.
    pub(crate) async fn runs(&self) -> Vec<RunRow> {
        self.app().store.runs(&self.job).await.unwrap()
    }

    pub(crate) async fn run(&self, run_id: &str) -> RunRow {
        self.app()
            .store
            .run(run_id)
            .await
            .unwrap()
            .expect("the run is known")
    }

    /// Waits until a run of the job stands at a state.
    pub(crate) async fn any_run_at(&self, gate: GateState) -> RunRow {
        self.until(async || self.runs().await.into_iter().find(|run| run.gate == gate))
            .await
    }

    /// Waits until a run stands at a state; any other end fails the test.
    #[track_caller]
    pub(crate) fn run_at(&self, run_id: &str, gate: GateState) -> impl Future<Output = RunRow> {
        self.run_at_from(run_id, gate, std::panic::Location::caller())
    }

    async fn run_at_from(
        &self,
        run_id: &str,
        gate: GateState,
        from: &std::panic::Location<'_>,
    ) -> RunRow {
        self.until(async || {
            let run = self.run(run_id).await;
            let ended = run.gate.is_final() && run.gate != gate;
            assert!(
                !ended,
                "{from}: {:?} in place of {gate:?}: {:?}",
                run.gate, run.gate_reason
            );
            (run.gate == gate).then_some(run)
        })
        .await
    }

    /// Waits until a CLI reads the log of an apply that nobody has confirmed.
    pub(crate) async fn cli_waits_for_the_apply(&self) {
        let applies = |r: &Request| r.path.starts_with("/api/v2/applies/");
        let seq = self.cloud.wait_for_request(applies).await.seq;
        let log = |r: &Request| r.seq > seq && r.path.starts_with("/v1/object/");
        self.cloud.wait_for_request(log).await;
    }

    /// Looks for something in the store whenever that has changed, within a bound.
    pub(crate) async fn until<T>(&self, look: impl AsyncFn() -> Option<T>) -> T {
        let patient = tokio::time::timeout(PATIENCE, async {
            let mut commits = self.app().store.commits();
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                commits.changed().await.expect("the store is open");
            }
        });
        match patient.await {
            Ok(found) => found,
            Err(_) => panic!("it did not come; runs: {:#?}", self.runs().await),
        }
    }

    /// What one of the contract's approvers would sign about a run.
    pub(crate) async fn draft(&self, run_id: &str, who: usize, decision: Decision) -> Statement {
        let path = format!("/v1/approvals/{run_id}");
        let question = self.operator().get(&path).await.ok();
        self.statement(&question, who, decision)
    }

    /// The same, about a question that was read.
    pub(crate) fn statement(&self, question: &Value, who: usize, decision: Decision) -> Statement {
        let subject: Subject = serde_json::from_value(question["subject"].clone()).unwrap();
        let person = &self.approvers[who];
        subject.judge(Judgement {
            decision,
            approver: person.email.clone(),
            approver_did: person.key.did().into(),
            issued_at: now(),
            expires_at: question["expires_at"].as_str().unwrap().parse().unwrap(),
            nonce: random_text(),
            reason: None,
        })
    }

    /// A yes by one of the contract's approvers.
    pub(crate) async fn yes(&self, run_id: &str, who: usize) -> Envelope {
        sign(
            &self.draft(run_id, who, Decision::Approve).await,
            &self.approvers[who].key,
        )
    }

    /// The first approver says no.
    pub(crate) async fn deny(&self, run_id: &str, reason: &str) {
        let mut statement = self.draft(run_id, 0, Decision::Deny).await;
        statement.reason = Some(reason.to_owned());
        self.submit(run_id, &sign(&statement, &self.approvers[0].key))
            .await
            .ok();
    }

    /// Hands a statement in.
    pub(crate) async fn submit(&self, run_id: &str, envelope: &Envelope) -> Answer {
        let path = format!("/v1/approvals/{run_id}");
        self.operator()
            .post(&path, &json!({ "envelope": envelope }))
            .await
    }

    /// The first approver says yes.
    pub(crate) async fn approve(&self, run_id: &str) {
        let yes = self.yes(run_id, 0).await;
        self.submit(run_id, &yes).await.ok();
    }

    /// Waits until a run awaits approval, and approves it.
    pub(crate) async fn approve_when_asked(&self) -> String {
        let run = self.any_run_at(GateState::AwaitingApproval).await.run_id;
        self.approve(&run).await;
        run
    }

    /// Time passes until a question's end; the gate looks again.
    pub(crate) async fn lapse(&self, run_id: &str) {
        let at = now();
        let update = RunUpdate {
            approval_expires_at: Some(at),
            ..RunUpdate::default()
        };
        self.app()
            .store
            .update_run(run_id, at, update)
            .await
            .unwrap();
        self.app().gate.wake(run_id);
    }

    /// What reached upstream by method and end of the path.
    pub(crate) fn asked(&self, method: &str, ending: &str) -> Vec<Request> {
        let requests = self.cloud.requests().into_iter();
        requests
            .filter(|r| r.method == method && r.path.ends_with(ending))
            .collect()
    }

    /// How many instances of the application stand in the state.
    pub(crate) fn instances(&self) -> usize {
        let state = self.cloud.state(APP).unwrap();
        let resources = state["resources"].as_array().unwrap();
        let instance = resources
            .iter()
            .find(|resource| resource["name"] == "instance");
        instance.map_or(0, |resource| {
            resource["instances"].as_array().unwrap().len()
        })
    }

    /// A folder with the CLI in it, initialised.
    pub(crate) async fn cli(&self) -> Cli {
        Cli::initialised(self, "agent").await
    }

    /// Upstream's credentials, and what it keeps secret itself.
    fn upstream_secrets(&self) -> Vec<String> {
        let tokens = ["planner", "executor", "reader"].map(|duty| self.cloud.token(duty));
        let mut secrets = self.cloud.secrets();
        secrets.extend(tokens.map(str::to_owned));
        secrets
    }

    /// Every secret that there is.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let ours = [&self.cst, &self.operator_token, self.provider.key()];
        let mut secrets = self.upstream_secrets();
        secrets.extend(ours.map(str::to_owned));
        secrets
    }

    /// What must hold in every world, whatever happened in it.
    fn check(&self) {
        let requests = self.cloud.requests();
        for request in &requests {
            let to = format!("{} {}", request.method, request.path);
            let by = request.bearer.as_deref().unwrap_or("nobody");
            assert_ne!(
                by, "foreign",
                "a token that is not upstream's went up: {to}"
            );
            let changes = request.method != "GET";
            let action = request.path.contains("/actions/");
            match by {
                // Besides, it reads which state version an apply began with and made, and leaves
                // the bundle's digest with the run.
                "executor" if !changes && self.examined.load(Ordering::Relaxed) => {}
                "executor" => assert!(
                    changes && action
                        || to.ends_with("/current-state-version")
                        || to == format!("PATCH /api/v2/workspaces/{APP}/state-versions")
                        || to.ends_with("/comments"),
                    "the executor's credential: {to}"
                ),
                "planner" => assert!(!action, "the planner's credential: {to}"),
                "reader" => assert!(!changes, "the reader's credential: {to}"),
                _ => {}
            }
        }
        let mut secrets = self.upstream_secrets();
        secrets.push(self.cloud.archivist_url());
        secrets.push(self.cloud.url());
        for text in self.seen.0.lock().unwrap().iter() {
            for secret in &secrets {
                assert!(!text.contains(secret), "the agent saw {secret:?}: {text}");
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

/// An agent with a plain HTTP client; what it is answered is remembered.
pub(crate) struct Agent<'w> {
    world: &'w World,
    caller: Caller,
}

impl Agent<'_> {
    fn saw(&self, answer: Answer) -> Answer {
        self.world.seen.remember(&answer.text());
        self.world.seen.remember(&format!("{:?}", answer.headers));
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.saw(self.caller.get(path).await)
    }

    pub(crate) async fn send(&self, path: &str, body: &Value) -> Answer {
        self.saw(self.caller.send(path, body).await)
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.saw(
            self.caller
                .call(method, path, headers, body.to_owned())
                .await,
        )
    }

    /// Uploads the example with two instances.
    pub(crate) async fn upload(&self) -> String {
        let text = two_instances();
        self.caller
            .upload(APP, false, &[("main.tf", &text)])
            .await
            .unwrap()
    }

    pub(crate) async fn run(&self, upload: &str, attributes: &Value) -> Answer {
        self.saw(self.caller.run(APP, upload, attributes).await)
    }

    /// Uploads, asks for a run that shall be applied, and waits until people are asked.
    pub(crate) async fn held_run(&self) -> String {
        let upload = self.upload().await;
        let made = self.run(&upload, &json!({"auto-apply": true})).await.ok();
        let run = made["data"]["id"].as_str().unwrap().to_owned();
        self.world.run_at(&run, GateState::AwaitingApproval).await;
        run
    }
}
