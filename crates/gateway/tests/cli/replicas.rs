//! Three gateways on one database, as processes of their own, under load. Each of them is killed,
//! one is cut off from the database, and at the end nothing is lost and nothing happened twice.
//!
//! `CLAWGATE_REPLICAS_ROUNDS` makes it longer; `CLAWGATE_REPLICAS_SEED` repeats the choices of a run
//! that printed it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use clawgate::config::Config;
use clawgate::keys::random_bytes;
use clawgate::secret::SecretSource;
use http::Method;
use serde_json::{Value, json};
use store::{GateState, Seat, Store, StorePlace};
use tokio::io::{AsyncBufReadExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::client::{Answer, Caller, run_body};
use crate::postgres::server;
use crate::terraform::two_instances;
use crate::world::{APP, PATIENCE, Setup, World, sign};

/// Model calls that the job's contract allows: fewer than are asked for.
const MAX_CALLS: u64 = 60;

/// Who calls at a time, and how often in a round.
const AGENTS: usize = 6;
const CALLS: usize = 12;

/// Refusals of a gateway that cannot do its work just now; anything else is wrong.
const FOR_NOW: [&str; 5] = [
    "STORE_UNAVAILABLE",
    "OVERLOADED",
    "SHUTTING_DOWN",
    "MODEL_BUDGET_CALLS",
    "MODEL_RATE_LIMITED",
];

/// Waits, at the server, until two gateways are there.
const UNTIL_TWO_ARE_LEFT: &str = "DO $$ BEGIN
    WHILE (SELECT count(*) FROM writers WHERE gateway = 1) > 2 LOOP
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$";

/// Choices that a seed repeats (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The way of one gateway to the database, which can be cut.
struct Relay {
    port: u16,
    open: watch::Sender<bool>,
}

impl Relay {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = watch::Sender::new(true);
        let is_open = open.subscribe();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, mut is_open) = (server.clone(), is_open.clone());
                if !*is_open.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = is_open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { port, open }
    }
}

/// One of the three.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    child: Mutex<Option<Child>>,
}

impl Gateway {
    /// Its configuration: what all have in common, an address of its own, its way to the database.
    async fn new(world: &World, n: u8, database: &str, differ: &impl Fn(u8, &mut Config)) -> Self {
        let mut config = world.config.clone();
        differ(n, &mut config);
        let address = |listener: &mut clawgate::config::Listener| {
            let std::net::IpAddr::V4(ip) = listener.address.ip() else {
                panic!("an own loopback address")
            };
            let [a, b, c, d] = ip.octets();
            // Nobody else is there, so the ports of the others are free.
            listener.address.set_ip([a, b, c, (d % 200) + n + 1].into());
        };
        address(&mut config.agent_listener);
        address(&mut config.operator_listener);
        let file = world.folder().join(format!("database-{n}.url"));
        std::fs::write(&file, database).unwrap();
        config.store.url = Some(SecretSource::File(file));
        let gateway = Self {
            config,
            child: Mutex::default(),
        };
        let file = gateway.file(world);
        std::fs::write(file, toml::to_string(&gateway.config).unwrap()).unwrap();
        gateway
    }

    pub(crate) fn file(&self, world: &World) -> std::path::PathBuf {
        let name = format!("{}.toml", self.config.agent_listener.address.ip());
        world.folder().join(name)
    }

    /// Starts it; it serves when this returns.
    pub(crate) async fn start(&self, world: &World) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .args(["serve", "--config"])
            .arg(self.file(world))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        loop {
            let line = lines.next_line().await.unwrap();
            said.push(line.unwrap_or_else(|| panic!("it does not start: {said:#?}")));
            if said.last().is_some_and(|line| line.contains("serving")) {
                break;
            }
        }
        let name = self.config.agent_listener.address.ip();
        let loud = std::env::var_os("CLAWGATE_REPLICAS_LOUD").is_some();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if loud {
                    eprintln!("{name}: {line}");
                }
            }
        });
        *self.child.lock().unwrap() = Some(child);
    }

    /// `kill -9`.
    pub(crate) async fn kill(&self) {
        let child = self.child.lock().unwrap().take();
        child.expect("it runs").kill().await.unwrap();
    }

    pub(crate) fn agent(&self, token: &str) -> Caller {
        Caller::new(&url(self.config.agent_listener.address), Some(token))
    }

    pub(crate) fn operator(&self, world: &World) -> Caller {
        let address = self.config.operator_listener.address;
        Caller::new(&url(address), Some(&world.operator_token))
    }
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

pub(crate) struct Three {
    pub(crate) world: World,
    pub(crate) gateways: Vec<Gateway>,
    relay: Relay,
    /// The database, as somebody beside the gateways sees it.
    store: Arc<dyn Store>,
    /// Receipts that agents were given with answers of models.
    receipts: Mutex<BTreeSet<String>>,
    /// Checkpoints that anybody was shown: size and root.
    checkpoints: Mutex<Vec<(u64, String)>>,
    /// Calls that were made so far.
    calls: watch::Sender<usize>,
    /// The last that goes.
    schema: server::Schema,
}

impl Three {
    async fn start(schema: server::Schema) -> Self {
        Self::start_with(schema, |_, _| ()).await
    }

    /// With configurations that differ.
    pub(crate) async fn start_with(
        schema: server::Schema,
        differ: impl Fn(u8, &mut Config),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = folder.path().join("database.url");
        std::fs::write(&address, schema.address()).unwrap();
        let models = json!({"providers": ["openai"], "allowed": ["gpt-*"], "max_calls": MAX_CALLS});
        let mut setup = Setup::new().restartable().contract("/models", models);
        let before = setup.config;
        setup.config = Box::new(move |config| {
            before(config);
            config.store.url = Some(SecretSource::File(address));
        });
        let mut world = setup.start().await;
        world.stop().await;
        let relay = Relay::start(schema.server_address()).await;
        let here = schema.server_address();
        let by_relay = schema
            .address()
            .replace(&here, &format!("127.0.0.1:{}", relay.port));
        let mut gateways = Vec::new();
        for n in 0..3 {
            let database = if n == 2 { &by_relay } else { &schema.address() };
            let gateway = Gateway::new(&world, n, database, &differ).await;
            gateway.start(&world).await;
            gateways.push(gateway);
        }
        let store = store::open_postgres(&schema.place(), Seat::Beside).unwrap();
        Self {
            world,
            gateways,
            relay,
            store,
            receipts: Mutex::default(),
            checkpoints: Mutex::default(),
            calls: watch::Sender::new(0),
            schema,
        }
    }

    /// Waits, at the server, until the run is there.
    fn wait_for(&self, run: &str, gate: GateState) {
        let gate = gate.as_str();
        let waiting = format!(
            "DO $$ BEGIN
                 FOR n IN 1 .. 1200 LOOP
                     IF EXISTS (SELECT 1 FROM runs WHERE run_id = '{run}' AND gate = '{gate}') THEN
                         RETURN;
                     END IF;
                     PERFORM pg_sleep(0.05);
                 END LOOP;
                 RAISE '{run} never came to {gate}';
             END $$"
        );
        tokio::task::block_in_place(|| self.schema.tamper(&waiting).unwrap());
    }

    async fn gate(&self, run: &str) -> GateState {
        self.store.run(run).await.unwrap().unwrap().gate
    }

    /// Asks one gateway after the other, until one does it.
    async fn by_any<T>(&self, first: usize, ask: impl AsyncFn(&Gateway) -> Option<T>) -> T {
        let asking = async {
            loop {
                for n in 0..3 {
                    if let Some(done) = ask(&self.gateways[(first + n) % 3]).await {
                        return done;
                    }
                }
            }
        };
        timeout(PATIENCE, asking)
            .await
            .expect("one of them does it")
    }

    /// An agent's calls of a round, each to a gateway that the dice choose.
    async fn work(&self, mut dice: Dice) {
        let question = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "?"}]});
        for _ in 0..CALLS {
            let agent = self.gateways[dice.roll(3)].agent(&self.world.cst);
            let asked = match dice.roll(2) {
                0 => {
                    let headers = [("content-type", "application/json")];
                    let path = "/openai/v1/chat/completions";
                    let answer = agent
                        .try_call(Method::POST, path, &headers, question.to_string())
                        .await;
                    if let Ok(answer) = &answer
                        && answer.status.is_success()
                    {
                        let receipt = answer.headers["x-clawgate-receipt"].to_str().unwrap();
                        self.receipts.lock().unwrap().insert(receipt.to_owned());
                    }
                    answer
                }
                _ => {
                    let path = format!("/api/v2/workspaces/{APP}");
                    agent.try_call(Method::GET, &path, &[], Bytes::new()).await
                }
            };
            if let Ok(answer) = asked {
                let code = answer.code();
                assert!(
                    answer.status.is_success() || FOR_NOW.contains(&answer_code(&answer).as_str()),
                    "{code}: {}",
                    answer.text()
                );
            }
            self.calls.send_modify(|calls| *calls += 1);
        }
    }

    /// Whatever each gateway says that the log is.
    async fn look_at_the_log(&self) {
        for gateway in &self.gateways {
            let operator = gateway.operator(&self.world);
            let answer = operator
                .try_call(Method::GET, "/v1/log/checkpoint", &[], Bytes::new())
                .await;
            let Ok(answer) = answer else { continue };
            if answer.status.is_success() {
                let note = answer.text();
                let mut lines = note.lines().skip(1);
                let size = lines.next().unwrap().parse().unwrap();
                let root = lines.next().unwrap().to_owned();
                self.checkpoints.lock().unwrap().push((size, root));
            }
        }
    }

    /// A run is asked for, held, approved at all gateways at once and applied, while one of them
    /// is taken away.
    async fn round(&self, round: usize, dice: &mut Dice, taken: Taken) {
        let first = dice.roll(3);
        let wish = json!({"auto-apply": true});
        let run = self
            .by_any(first, async |gateway| {
                let agent = gateway.agent(&self.world.cst);
                // There and back again, so that each run has something to apply.
                let text = match round % 2 {
                    0 => two_instances(),
                    _ => sim::example_configuration()[0].1.to_owned(),
                };
                let upload = agent.upload(APP, false, &[("main.tf", &text)]).await.ok()?;
                let body = run_body(APP, &upload, &wish);
                let made = agent.send("/api/v2/runs", &body).await;
                made.status
                    .is_success()
                    .then(|| made.json()["data"]["id"].as_str().unwrap().to_owned())
            })
            .await;
        self.wait_for(&run, GateState::AwaitingApproval);
        let statement = self
            .by_any(first, async |gateway| {
                let path = format!("/v1/approvals/{run}");
                let question = gateway.operator(&self.world).get(&path).await;
                question.status.is_success().then(|| {
                    let yes = proof::approval::Decision::Approve;
                    let statement = self.world.statement(&question.json(), 0, yes);
                    sign(&statement, &self.world.approvers[0].key)
                })
            })
            .await;
        let body = json!({ "envelope": statement });
        let began = *self.calls.borrow();
        let moment = began + dice.roll(AGENTS * CALLS / 2);
        let agents = (0..AGENTS).map(|_| self.work(Dice(dice.roll(1 << 30) as u64)));
        let agents: Vec<_> = agents.collect();
        let (_, (), counted) = tokio::join!(
            futures_util::future::join_all(agents),
            self.take_away(moment, taken),
            self.approve_everywhere(&run, &body),
        );
        assert!(
            counted <= 1,
            "an approval counts once, and not {counted} times"
        );
        self.give_back(taken).await;
        if self.gate(&run).await == GateState::AwaitingApproval {
            // Whoever took it was gone before it was written down.
            self.approve_everywhere(&run, &body).await;
        }
        self.wait_for(&run, GateState::Applied);
        let statements = self.store.statements(&run).await.unwrap();
        assert_eq!(statements.iter().filter(|row| row.counted).count(), 1);
        assert_eq!(self.world.cloud.comments(&run).len(), 1, "applied once");
        self.look_at_the_log().await;
        println!("round {round}: {taken:?}, {} calls", *self.calls.borrow());
    }

    /// Hands the same statement in at all of them, and counts who says that it counts.
    async fn approve_everywhere(&self, run: &str, body: &Value) -> usize {
        let path = format!("/v1/approvals/{run}");
        let asking = self.gateways.iter().map(|gateway| {
            let (operator, path) = (gateway.operator(&self.world), path.clone());
            let headers = [("content-type", "application/json")];
            async move {
                let asked = operator.try_call(Method::POST, &path, &headers, body.to_string());
                asked.await.is_ok_and(|answer| answer.status.is_success())
            }
        });
        let counted = futures_util::future::join_all(asking).await;
        counted.into_iter().filter(|counted| *counted).count()
    }

    async fn take_away(&self, moment: usize, taken: Taken) {
        let mut calls = self.calls.subscribe();
        calls.wait_for(|calls| *calls >= moment).await.unwrap();
        match taken {
            Taken::Killed(n) => self.gateways[n].kill().await,
            Taken::Cut => {
                self.relay.open.send_replace(false);
                let cut = Instant::now();
                let agent = self.gateways[2].agent(&self.world.cst);
                let path = format!("/api/v2/workspaces/{APP}");
                while agent.get(&path).await.status.is_success() {}
                println!("refused {} ms after the cut", cut.elapsed().as_millis());
            }
        }
    }

    async fn give_back(&self, taken: Taken) {
        match taken {
            Taken::Killed(n) => self.gateways[n].start(&self.world).await,
            Taken::Cut => {
                // It stays cut until the others count it as gone.
                tokio::task::block_in_place(|| self.schema.tamper(UNTIL_TWO_ARE_LEFT).unwrap());
                self.relay.open.send_replace(true);
                let agent = self.gateways[2].agent(&self.world.cst);
                let path = format!("/api/v2/workspaces/{APP}");
                let again = async { while !agent.get(&path).await.status.is_success() {} };
                timeout(PATIENCE, again)
                    .await
                    .expect("it takes calls again");
            }
        }
    }

    /// A token that one gateway revokes is refused by the others.
    async fn revoke(&self) {
        let issuing = json!({ "job_id": self.world.job });
        let operator = self.gateways[0].operator(&self.world);
        let issued = operator.post("/v1/tokens", &issuing).await.ok();
        let token = issued["token"].as_str().unwrap();
        let path = format!("/api/v2/workspaces/{APP}");
        for gateway in &self.gateways {
            gateway.agent(token).get(&path).await.ok();
        }
        let stranger = Some([127, 9, 9, 9].into());
        for gateway in &self.gateways {
            let there = url(gateway.config.agent_listener.address);
            let thief = Caller::from_address(&there, Some(token), stranger);
            assert_eq!(thief.get(&path).await.code(), "TOKEN_REPLAYED");
        }
        let hash = issued["token_hash"].as_str().unwrap();
        let revoking = json!({"token_hash": hash, "reason": "a test"});
        operator.post("/v1/tokens/revoke", &revoking).await.ok();
        let revoked = Instant::now();
        for gateway in &self.gateways {
            let agent = gateway.agent(token);
            let refused = async {
                loop {
                    let answer = agent.get(&path).await;
                    if !answer.status.is_success() {
                        return answer;
                    }
                }
            };
            let refused = timeout(PATIENCE, refused).await.expect("it is refused");
            assert_eq!(refused.code(), "TOKEN_REVOKED");
            println!("revoked after {} ms", revoked.elapsed().as_millis());
        }
    }

    /// What must hold at the end, whatever happened.
    async fn check(mut self) {
        let job = self.world.job.clone();
        let usage = self.store.model_usage(&job).await.unwrap();
        assert!(usage.calls <= MAX_CALLS, "{usage:?}");
        let asked = self.world.provider.requests().len();
        assert!(asked as u64 <= MAX_CALLS, "{asked} reached the provider");
        let kept = self.store.receipts(&job).await.unwrap();
        let kept: BTreeSet<String> = kept
            .gateway
            .iter()
            .filter_map(|receipt| Some(receipt.payload.get("receipt_id")?.as_str()?.to_owned()))
            .collect();
        let given = self.receipts.lock().unwrap().clone();
        assert!(
            !given.is_empty() && given.is_subset(&kept),
            "a receipt is lost"
        );
        let checkpoints = std::mem::take(&mut *self.checkpoints.lock().unwrap());
        for (size, root) in &checkpoints {
            let now = self.store.log_root(*size).await.unwrap().unwrap();
            assert_eq!(
                BASE64.encode(now.as_bytes()),
                *root,
                "the log forked at {size}"
            );
        }
        let closing = json!({"reason": "done"});
        let operators: Vec<_> = self
            .gateways
            .iter()
            .map(|g| g.operator(&self.world))
            .collect();
        let path = format!("/v1/jobs/{job}/close");
        // Two at once: one bundle.
        let (one, other) = tokio::join!(
            operators[0].post(&path, &closing),
            operators[1].post(&path, &closing)
        );
        one.ok();
        other.ok();
        let bundles = operators.iter().map(async |operator| {
            let bundle = operator.get(&format!("/v1/jobs/{job}/bundle")).await;
            bundle.ok();
            bundle.body
        });
        let bundles = futures_util::future::join_all(bundles).await;
        assert!(bundles.iter().all(|bundle| *bundle == bundles[0]));
        for gateway in &self.gateways {
            gateway.kill().await;
        }
        let place = self.schema.place();
        let sound = tokio::task::spawn_blocking(move || {
            store::check_store(StorePlace::Database(&place)).unwrap()
        });
        assert_eq!(sound.await.unwrap().faults, [""; 0]);
        println!(
            "{asked} of {MAX_CALLS} model calls, {} receipts, {} checkpoints, {} leaves",
            given.len(),
            checkpoints.len(),
            self.store.log_size().await.unwrap(),
        );
        self.world.config.store = self.gateways[0].config.store.clone();
        self.world.start_again().await;
        self.world
            .proven_but_for_unknown_outcomes(&bundles[0])
            .await;
    }
}

fn answer_code(answer: &Answer) -> String {
    let header = answer.headers.get("x-clawgate-code");
    header.map_or_else(|| answer.code(), |code| code.to_str().unwrap().to_owned())
}

/// What becomes of a gateway in a round.
#[derive(Debug, Clone, Copy)]
enum Taken {
    Killed(usize),
    /// The last one's way to the database.
    Cut,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_lose_nothing_and_do_nothing_twice() {
    let Some(schema) = server::Schema::new() else {
        return;
    };
    let seed =
        number("CLAWGATE_REPLICAS_SEED").unwrap_or_else(|| u64::from_be_bytes(random_bytes()));
    let rounds = number("CLAWGATE_REPLICAS_ROUNDS").unwrap_or(4) as usize;
    println!("CLAWGATE_REPLICAS_SEED={seed} CLAWGATE_REPLICAS_ROUNDS={rounds}");
    let mut dice = Dice(seed);
    let three = Three::start(schema).await;
    three.revoke().await;
    let mut coming = Vec::new();
    for round in 0..rounds {
        if coming.is_empty() {
            coming = vec![Taken::Cut];
            coming.extend((0..3).map(Taken::Killed));
        }
        let taken = coming.swap_remove(dice.roll(coming.len()));
        three.round(round, &mut dice, taken).await;
    }
    three.check().await;
}
