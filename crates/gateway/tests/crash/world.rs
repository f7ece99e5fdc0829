//! A whole installation whose gateway comes and goes.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use clawgate::app::now;
use clawgate::clawcontrols;
use clawgate::config::{Config, Tiles};
use clawgate::demo::sandbox::{OPERATOR, Person, Sandbox};
use clawgate::keys::{self, random_bytes};
use http::Method;
use proof::checkpoint::Checkpoint;
use proof::{Envelope, EnvelopeType, Hash, PublicKey};
use serde_json::{Value, json};
use sim::{Engine, ModelProvider, TerraformCloud, TerraformCloudConfig};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::client::{Answer, Caller};
use crate::ledger::Ledger;
use crate::process::{Log, Process};

/// Model calls and tokens that a job may make and use.
pub(crate) const MAX_CALLS: u64 = 6;
pub(crate) const MAX_TOKENS: u64 = 3000;

/// How long an approval may take.
pub(crate) const APPROVAL_SECONDS: i64 = 300;

/// How long something that must come may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// In so many pieces.
const PIECES: u32 = 24;

/// How long somebody whose call was lost waits for the next gateway before asking again.
const LULL: Duration = Duration::from_millis(500);

/// The call was not answered: the gateway died, or is dead.
#[derive(Debug)]
pub(crate) struct Lost(#[expect(dead_code, reason = "for whoever looks into a failure")] String);

/// Stand-ins, people, and a gateway's folder.
pub(crate) struct World {
    pub(crate) cloud: TerraformCloud,
    pub(crate) provider: ModelProvider,
    pub(crate) approver: Person,
    pub(crate) operator_token: String,
    /// Jobs of this one apply what was approved; jobs of the other may create nothing.
    pub(crate) policy: Hash,
    pub(crate) narrow_policy: Hash,
    pub(crate) config: Config,
    pub(crate) config_file: PathBuf,
    checkpoint_key: PublicKey,
    pub(crate) ledger: Ledger,
    /// Grows with every commit and with every beginning and end of a gateway.
    changed: watch::Sender<u64>,
    /// Which gateway serves, from 1; 0 while none does.
    life: watch::Sender<u64>,
    lives: Mutex<u64>,
    /// What the last gateway wrote.
    log: Mutex<Log>,
    /// Whether nobody kills gateways.
    calm: watch::Sender<bool>,
    /// Whether a store may be out of reach for a while: then such an answer is a call to be made
    /// again, and no failure.
    pub(crate) outages: bool,
    /// Kept when something fails.
    folder: Option<TempDir>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One whose store fails now and then.
    pub(crate) async fn with_outages() -> Self {
        let mut world = Self::new().await;
        world.outages = true;
        world
    }

    /// What was answered, unless it says that the store cannot be reached just now.
    fn answered(&self, answer: Result<Answer, String>) -> Result<Answer, Lost> {
        let answer = answer.map_err(Lost)?;
        // A read that fails is damage to SQLite, and so it is to us.
        let down = ["STORE_UNAVAILABLE", "OVERLOADED", "INTERNAL"];
        let down = down.contains(&answer.code().as_str());
        match self.outages && answer.status.is_server_error() && down {
            true => Err(Lost(answer.text())),
            false => Ok(answer),
        }
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A loopback address of its own, where nobody takes its ports while it is dead.
        let [a, b, c] = random_bytes();
        let own = [127, a.clamp(1, 254), b, c.clamp(1, 254)];
        let tiles = folder.path().join("tiles");
        let configure = |config: &mut Config| {
            config.agent_listener.address.set_ip(own.into());
            config.operator_listener.address.set_ip(own.into());
            config.limits.drain_seconds = 1;
            config.limits.upstream_timeout_seconds = 10;
            config.log.tiles = Some(Tiles::Folder(tiles));
            config.log.publish_seconds = 1;
            change(config);
        };
        let cloud = TerraformCloudConfig::acme(Engine::Recorded);
        let contract = serde_json::to_vec(&contract()).unwrap();
        let sandbox = Sandbox::start_on(folder.path(), contract, cloud, configure);
        let mut sandbox = sandbox.await.unwrap();
        let narrow_policy = publish_narrow(&sandbox).await;
        let mut config = sandbox.gateway.app.config.clone();
        let port = |url: &str| url.rsplit(':').next().unwrap().parse().unwrap();
        let (agents, people) = (&sandbox.gateway.agent_url, &sandbox.gateway.operator_url);
        config.agent_listener.address.set_port(port(agents));
        config.operator_listener.address.set_port(port(people));
        let checkpoint_key = sandbox.gateway.app.keys.now().checkpoint.public();
        sandbox.gateway.stop().await;
        let config_file = folder.path().join("crash.toml");
        std::fs::write(&config_file, toml::to_string(&config).unwrap()).unwrap();
        Self {
            cloud: sandbox.cloud,
            provider: sandbox.provider,
            approver: sandbox.approvers.remove(0),
            operator_token: sandbox.operator_token,
            policy: sandbox.policy_hash,
            narrow_policy,
            config,
            config_file,
            checkpoint_key,
            ledger: Ledger::default(),
            changed: watch::Sender::new(0),
            life: watch::Sender::new(0),
            lives: Mutex::new(0),
            log: Mutex::default(),
            calm: watch::Sender::new(true),
            outages: false,
            folder: Some(folder),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("until the end").path()
    }

    /// Starts a gateway; `None` when it ended before it served.
    pub(crate) async fn start(&self, environment: &[(&str, &str)]) -> Option<Process> {
        let mut process = Process::start(&self.config_file, environment, self.changed.clone());
        self.serves(&mut process).await.then_some(process)
    }

    /// Waits until a gateway serves, and tells everybody; false when it ended before.
    pub(crate) async fn serves(&self, process: &mut Process) -> bool {
        *self.log.lock().unwrap() = process.log.clone();
        let serves = process.serves().await;
        if serves {
            let mut lives = self.lives.lock().unwrap();
            *lives += 1;
            self.life.send_replace(*lives);
            self.changed.send_modify(|changes| *changes += 1);
        }
        serves
    }

    /// Starts a gateway that nobody kills.
    pub(crate) async fn start_for_good(&self) -> Process {
        match self.start(&[]).await {
            Some(process) => process,
            None => panic!("the gateway does not start:\n{}", self.log()),
        }
    }

    /// Ends one.
    pub(crate) async fn kill(&self, process: &mut Process) {
        self.is_down();
        process.kill().await;
    }

    pub(crate) fn is_down(&self) {
        self.life.send_replace(0);
    }

    pub(crate) fn changed(&self) -> watch::Sender<u64> {
        self.changed.clone()
    }

    /// What the gateway wrote last.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().text()
    }

    /// Takes a step until it is not lost.
    pub(crate) async fn again<T>(&self, step: impl AsyncFn() -> Result<T, Lost>) -> T {
        let steps = async {
            loop {
                let life = *self.life.borrow();
                match step().await {
                    Ok(done) => return done,
                    Err(Lost(_)) => self.next_life(life).await,
                }
            }
        };
        self.patiently("a step", steps).await
    }

    /// Waits for something that must come, for as long as nobody kills gateways at most.
    async fn patiently<T>(&self, what: &str, coming: impl Future<Output = T>) -> T {
        let patience = async {
            let mut calm = self.calm.subscribe();
            // Piece by piece, so that a machine that was stopped for a while costs one of them.
            for _ in 0..PIECES {
                calm.wait_for(|calm| *calm)
                    .await
                    .expect("the world is there");
                sleep(PATIENCE / PIECES).await;
            }
        };
        tokio::select! {
            biased;
            came = coming => came,
            () = patience => panic!("{what} does not come\n{}", self.log()),
        }
    }

    /// From now on gateways are killed again and again, or no more.
    pub(crate) fn is_calm(&self, calm: bool) {
        self.calm.send_replace(calm);
    }

    async fn next_life(&self, last: u64) {
        let mut life = self.life.subscribe();
        let next = life.wait_for(|life| *life > last || (last == 0 && *life > 0));
        // A connection may break for another reason; then it is the same gateway that is asked.
        let _ = timeout(LULL, next).await;
    }

    /// Looks again after each commit until `look` finds something.
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let looks = async {
            loop {
                changed.mark_unchanged();
                if let Some(found) = look().await {
                    return found;
                }
                // What upstream does is no commit.
                let _ = timeout(LULL, changed.changed()).await;
            }
        };
        self.patiently(what, looks).await
    }

    /// A call by an agent.
    pub(crate) async fn agent(
        &self,
        token: &str,
        method: Method,
        path: &str,
        kind: &str,
        body: impl Into<bytes::Bytes>,
    ) -> Result<Answer, Lost> {
        let url = format!("http://{}", self.config.agent_listener.address);
        let caller = Caller::new(&url, Some(token));
        let headers = [("content-type", kind)];
        let answer = caller.try_call(method, path, &headers, body);
        self.answered(answer.await)
    }

    /// A call by the operator: a body makes it a POST.
    pub(crate) async fn operator(&self, path: &str, body: Option<&Value>) -> Result<Answer, Lost> {
        let url = format!("http://{}", self.config.operator_listener.address);
        let caller = Caller::new(&url, Some(&self.operator_token));
        let headers = [("content-type", "application/json")];
        let (method, body) = match body {
            Some(body) => (Method::POST, body.to_string()),
            None => (Method::GET, String::new()),
        };
        let answer = caller.try_call(method, path, &headers, body);
        self.answered(answer.await)
    }

    /// A checkpoint that somebody was given, kept.
    pub(crate) fn saw(&self, note: &str) -> Checkpoint {
        let origin = format!("{}/log", self.config.gateway_id);
        let checkpoint = Checkpoint::verify(note, &origin, &self.checkpoint_key);
        let checkpoint = checkpoint.unwrap_or_else(|error| panic!("{error}: {note}"));
        self.ledger.checkpoint(checkpoint.clone());
        checkpoint
    }

    /// How many instances stand in a workspace's state.
    pub(crate) fn instances(&self, workspace: &str) -> usize {
        let state = self.cloud.state(workspace).unwrap_or_default();
        let resources = state["resources"].as_array().into_iter().flatten();
        resources
            .filter(|resource| resource["name"] == "instance")
            .filter_map(|resource| resource["instances"].as_array())
            .map(Vec::len)
            .sum()
    }
}

impl Drop for World {
    /// What failed is kept to be looked at.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            println!("{}\nkept: {}", self.log(), folder.keep().display());
        }
    }
}

/// The runbook's contract with budgets.
fn contract() -> Value {
    let mut contract: Value = serde_json::from_str(policy::EXAMPLE_CONTRACT).unwrap();
    contract["models"] = json!({
        "providers": ["openai"], "allowed": ["gpt-*"],
        "max_calls": MAX_CALLS, "max_tokens": MAX_TOKENS,
    });
    contract["permissions"]["apply"]["approval_ttl_seconds"] = json!(APPROVAL_SECONDS);
    contract
}

/// Publishes a contract that every plan breaks which changes anything.
async fn publish_narrow(sandbox: &Sandbox) -> Hash {
    let mut contract = contract();
    contract["name"] = json!("no-changes");
    contract["permissions"]["resources"] =
        json!({"max_changes": {"create": 0, "update": 0, "delete": 0}});
    let author = keys::read_key(&sandbox.folder.join("author.key")).unwrap();
    let kind = EnvelopeType::WorkPolicyContract;
    let envelope = Envelope::sign(kind, &contract, &author, now()).unwrap();
    let app = &sandbox.gateway.app;
    let published = clawcontrols::publish(&*app.store, &app.config, OPERATOR, envelope, now());
    published.await.unwrap().policy_hash
}

impl World {
    /// A step that has to be taken again for another reason than a broken connection.
    pub(crate) fn lost(&self, why: &str) -> Lost {
        Lost(why.to_owned())
    }
}
