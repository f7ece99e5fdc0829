//! What a decision, an append and a look-up cost in a store of many records, beside one of ten
//! thousand: on SQLite, and on the PostgreSQL server that `CLAWGATE_TEST_POSTGRES` names.
//! `cargo run --release -p clawgate --example records -- [RECORDS]`; the figures stand in
//! `docs/performance.md`.
//!
//! Both stores are filled as files, through the store's own methods, and carried to the server by
//! its own import; a whole gateway runs on each, in this process. They are measured in turns, a
//! batch here and a batch there, so that what else the machine does weighs on both. Cost is
//! processor time by the kernel's account: of the gateway's threads, and of the sessions that the
//! server has for it. Clients and stand-ins of upstreams run on threads of their own, which are not
//! counted. Prints a table.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

mod client;
mod cost;
mod fill;
#[path = "../../../store/tests/contract/fixtures.rs"]
#[allow(
    dead_code,
    reason = "shared with the store's tests, which use all of it"
)]
mod fixtures;
#[path = "../../../store/tests/contract/server.rs"]
#[allow(
    dead_code,
    reason = "shared with the store's tests, which use all of it"
)]
mod server;

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clawgate::app::now;
use clawgate::config::Config;
use clawgate::demo::sandbox::{Sandbox, mint};
use clawgate::secret::SecretSource;
use clawgate::start::{Running, start};
use policy::Contract;
use sim::{Engine, ModelProvider, TerraformCloud, TerraformCloudConfig};
use store::StorePlace;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use client::Agent;
use fill::{CALLS, Filled};

/// Records of the small store.
const FEW: u64 = 10_000;

/// Batches of each store that are measured, after two that are not.
const BATCHES: u64 = 25;

/// Calls of one kind in a batch.
const DECISIONS: u64 = 48;

/// Tokens in a batch that are used for the first time.
const FIRST_USES: u64 = 4;

/// Look-ups of one kind in a batch.
const LOOKS: u64 = 200;

fn main() {
    let many = std::env::args()
        .nth(1)
        .map_or(1_000_000, |n| n.parse().unwrap());
    println!("| engine | what, processor time | at {FEW} records | at {many} | ratio |");
    println!("|---|---|---|---|---|");
    // What this thread does is not counted either.
    let outside = runtime("client");
    compare("SQLite", &outside, many, [None, None]);
    match std::env::var_os("CLAWGATE_TEST_POSTGRES") {
        None => eprintln!("CLAWGATE_TEST_POSTGRES names no server: PostgreSQL is left out"),
        Some(_) => {
            let schemas = [(); 2].map(|()| server::Schema::new());
            compare("PostgreSQL", &outside, many, schemas);
        }
    }
}

fn runtime(name: &str) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(2).thread_name(name).enable_all();
    builder.build().unwrap()
}

/// A gateway on a store, and who calls it.
struct Side {
    gateway: Runtime,
    running: Running,
    filled: Filled,
    /// Jobs that look-ups go to.
    jobs: u64,
    agent: Agent,
    /// Tokens of other jobs, which nobody has used.
    tokens: Vec<String>,
    schema: Option<server::Schema>,
    _upstream: (TerraformCloud, ModelProvider),
    _folder: TempDir,
}

impl Side {
    fn new(outside: &Runtime, records: u64, schema: Option<server::Schema>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let contract = policy::EXAMPLE_CONTRACT.as_bytes();
        let cloud = TerraformCloudConfig::acme(Engine::Recorded);
        let data = folder.path().join("sandbox");
        let sandbox = outside.block_on(Sandbox::start_on(
            &data,
            contract.to_vec(),
            cloud,
            |config| {
                // A connection may wait for its turn.
                config.limits.header_timeout_seconds = 3600;
                config.limits.records_per_job = 1_000_000;
                config.limits.evidence_bytes_per_job = 1 << 30;
            },
        ));
        let Sandbox {
            cloud,
            provider,
            gateway: first,
            folder: data,
            policy_hash,
            job_id,
            ..
        } = sandbox.unwrap();
        let unused = (BATCHES + 2) * FIRST_USES;
        let open_every = (records / (2 * CALLS + 2) / unused).max(1);
        let store = Arc::clone(&first.app.store);
        let mut filled = Filled::new(store, policy_hash, job_id.clone(), now(), open_every);
        let contract = Contract::parse(contract).unwrap();
        let (own, tokens) = outside.block_on(async {
            filled.fill(records).await;
            let mut tokens = Vec::new();
            for n in 0..unused {
                let token = mint(&first.app, &filled.open_job(n), &contract).await;
                tokens.push(token.unwrap());
            }
            let own = mint(&first.app, &job_id, &contract).await.unwrap();
            first.stop().await;
            (own, tokens)
        });
        eprintln!(
            "{records} records after {:.0} s",
            began.elapsed().as_secs_f64()
        );
        // As after a restart, on threads of its own: it knows nothing that it was not asked.
        let mut config = Config::load(&data.join("clawgate.toml")).unwrap();
        if let Some(schema) = &schema {
            carry(&config, schema, folder.path());
            let file = folder.path().join("database.url");
            std::fs::write(&file, schema.address()).unwrap();
            config.store.url = Some(SecretSource::File(file));
        }
        let gateway = runtime("gateway");
        let running = gateway.block_on(start(config)).unwrap();
        filled.store = Arc::clone(&running.app.store);
        Self {
            agent: Agent::new(&running.agent_url, own),
            jobs: filled.jobs,
            gateway,
            running,
            filled,
            tokens,
            schema,
            _upstream: (cloud, provider),
            _folder: folder,
        }
    }

    /// Does one batch of one thing, and tells how many of it that were.
    fn batch(&mut self, what: What, batch: u64, outside: &Runtime) -> u64 {
        // Anywhere in the store, and never twice the same.
        let any = |n: u64| (batch * LOOKS + n) * 7919 % self.jobs;
        match what {
            What::Append => {
                let receipts = self.filled.next_receipts();
                let job = self.gateway.block_on(self.filled.open());
                let filled = self.filled.clone();
                self.inside(async move { filled.calls(job, &receipts).await });
                2 * CALLS
            }
            What::Object | What::Run | What::Job | What::Receipt => {
                let jobs: Vec<u64> = (0..LOOKS).map(any).collect();
                let filled = self.filled.clone();
                self.inside(async move {
                    for (n, job) in jobs.into_iter().enumerate() {
                        look_up(&filled, what, job, n as u64).await;
                    }
                });
                LOOKS
            }
            What::Refused => {
                let calls = (0..DECISIONS).map(|n| self.agent.reads(&fill::run_of(any(n), n % 3)));
                outside.block_on(self.agent.calls(calls.collect(), " 403 "));
                DECISIONS
            }
            What::Read => {
                let calls = (0..DECISIONS).map(|n| self.agent.reads(&fill::own_run(any(n))));
                outside.block_on(self.agent.calls(calls.collect(), " 404 "));
                DECISIONS
            }
            What::Asked => {
                let calls = (0..DECISIONS).map(|_| self.agent.asks());
                outside.block_on(self.agent.calls(calls.collect(), " 200 "));
                DECISIONS
            }
            What::FirstUse => {
                let tokens = self
                    .tokens
                    .split_off(self.tokens.len() - FIRST_USES as usize);
                let calls = tokens.iter().map(|token| self.agent.pings(token));
                outside.block_on(self.agent.calls(calls.collect(), " 204 "));
                FIRST_USES
            }
        }
    }

    /// Runs something on the gateway's threads, which are counted.
    fn inside(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.gateway.block_on(self.gateway.spawn(work)).unwrap();
    }

    fn stop(self) {
        let Self {
            gateway,
            running,
            filled,
            schema,
            ..
        } = self;
        gateway.block_on(running.stop());
        drop((filled, gateway));
        drop(schema);
    }
}

/// Carries a store from its file to the server, as an installation is: filling it there takes many
/// times as long.
fn carry(config: &Config, schema: &server::Schema, folder: &Path) {
    let lines = folder.join("store.jsonl");
    let mut out = BufWriter::new(File::create_new(&lines).unwrap());
    store::export_store(StorePlace::File(&config.store_file()), &mut out).unwrap();
    drop(out.into_inner().unwrap());
    let place = schema.place();
    let mut from = BufReader::new(File::open(&lines).unwrap());
    store::import_store(StorePlace::Database(&place), &mut from).unwrap();
    std::fs::remove_file(lines).unwrap();
    // By these the server plans its queries; they come with use, here they come now.
    schema.tamper("ANALYZE").unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Refused,
    Read,
    Asked,
    FirstUse,
    Append,
    Object,
    Run,
    Job,
    Receipt,
}

const ALL: [(What, &str); 9] = [
    (What::Refused, "decision: a run of another job, refused"),
    (What::Read, "decision: a run of one's own, read upstream"),
    (What::Asked, "decision: a model asked"),
    (
        What::FirstUse,
        "decision: the first call with a token of an old job",
    ),
    (
        What::Append,
        "a record appended, with its share of a receipt",
    ),
    (What::Object, "an object looked up"),
    (What::Run, "a run looked up"),
    (What::Job, "a job looked up"),
    (What::Receipt, "a receipt looked up by its id"),
];

async fn look_up(filled: &Filled, what: What, job: u64, n: u64) {
    let store = &filled.store;
    let found = match what {
        What::Object => {
            let run = fill::run_of(job, n % 3);
            store.object("run", &run).await.unwrap().is_some()
        }
        What::Run => store.run(&fill::own_run(job)).await.unwrap().is_some(),
        What::Receipt => {
            let receipt = filled.receipt_id(job, n % CALLS);
            store.find_receipt(&receipt).await.unwrap().is_some()
        }
        _ => store.job(&fill::job_id(job)).await.unwrap().is_some(),
    };
    assert!(found, "{what:?} of job {job}");
}

fn compare(engine: &str, outside: &Runtime, many: u64, schemas: [Option<server::Schema>; 2]) {
    let [few, large] = schemas;
    let mut sides = [
        Side::new(outside, FEW, few),
        Side::new(outside, many, large),
    ];
    let mut costs: [[Vec<f64>; 2]; ALL.len()] = Default::default();
    for batch in 0..BATCHES + 2 {
        for (place, (what, _)) in ALL.iter().enumerate() {
            for (side, costs) in sides.iter_mut().zip(&mut costs[place]) {
                let before = cost::nanos(side.schema.as_ref());
                let done = side.batch(*what, batch, outside);
                // Threads that rested long end, and their account with them.
                let took = cost::nanos(side.schema.as_ref()) as i64 - before as i64;
                if batch >= 2 {
                    costs.push(took as f64 / done as f64);
                }
            }
        }
    }
    for ((_, name), sides) in ALL.iter().zip(&mut costs) {
        let [few, large] = sides.each_mut().map(|costs| {
            costs.sort_by(f64::total_cmp);
            costs[costs.len() / 2] / 1e3
        });
        let ratio = large / few;
        println!("| {engine} | {name} | {few:.1} µs | {large:.1} µs | {ratio:.2} |");
    }
    for side in sides {
        side.stop();
    }
}
