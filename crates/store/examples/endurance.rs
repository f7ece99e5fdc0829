//! What an append and a look-up cost in a store of many records, beside one of ten thousand: on
//! SQLite, and on the PostgreSQL server that `CLAWGATE_TEST_POSTGRES` names.
//!
//! Both stores are filled through their own methods and measured in turn, a batch here and a batch
//! there, so that what else the machine does weighs on both. Cost is processor time by the kernel's
//! account, of this process and of the sessions that the server has for it. Prints a table.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

#[path = "../tests/contract/fixtures.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod fixtures;
#[path = "../tests/contract/server.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod server;

use std::sync::Arc;

use fixtures::{at, bare_intent, contract, opening, outcome, receipt, seen};
use proof::record::{Body, JobId, Lane, ReceiptRef};
use proof::{Envelope, EnvelopeType};
use store::Store;

/// Records of the small store.
const FEW: u64 = 10_000;

/// Calls of a job: an intent and an outcome with its receipt each.
const CALLS: u64 = 250;

/// Calls that wait together.
const TOGETHER: usize = 64;

/// Batches of each store that are measured, after two that are not.
const BATCHES: usize = 21;

/// Look-ups of one kind in a batch.
const LOOKS: u64 = 200;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let many = std::env::args()
        .nth(1)
        .map_or(1_000_000, |n| n.parse().unwrap());
    println!("| engine | what, processor time | at {FEW} records | at {many} | ratio |");
    println!("|---|---|---|---|---|");
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| store::open_sqlite(&folder.path().join(name)).unwrap();
    let pair = [Filled::new(open("few.db")), Filled::new(open("many.db"))];
    compare("SQLite", pair, many, own_nanos).await;
    drop(folder);
    let Ok(_) = std::env::var("CLAWGATE_TEST_POSTGRES") else {
        eprintln!("CLAWGATE_TEST_POSTGRES names no server: PostgreSQL is left out");
        return;
    };
    let [few, large] = [(); 2].map(|()| server::Schema::new().unwrap());
    let names = [few.name().to_owned(), large.name().to_owned()];
    let pair = [Filled::new(few.open()), Filled::new(large.open())];
    // The tables' statistics, by which queries are planned, come with use; here they come now.
    let cpu = || own_nanos() + sessions_nanos(&few, &names);
    compare("PostgreSQL", pair, many, cpu).await;
}

/// A store and what was put into it.
struct Filled {
    store: Arc<dyn Store>,
    jobs: u64,
}

impl Filled {
    fn new(store: Arc<dyn Store>) -> Self {
        Self { store, jobs: 0 }
    }

    /// Opens the next job.
    async fn open(&mut self) -> JobId {
        if self.jobs == 0 {
            self.store.publish(contract("staging", "v1")).await.unwrap();
        }
        let id: JobId = format!("job_{:08}", self.jobs).parse().unwrap();
        let opened = self.store.open_job(id.clone(), self.time(0), opening("v1"));
        opened.await.unwrap();
        self.jobs += 1;
        id
    }

    /// Time goes on by a second with each job.
    fn time(&self, ms: i64) -> proof::Timestamp {
        at(1000 * self.jobs as i64 + ms)
    }

    /// Calls of a job, as many together as there are agents.
    async fn calls(&self, job: &JobId, receipts: &[(Envelope, ReceiptRef)]) {
        for (wave, together) in receipts.chunks(TOGETHER).enumerate() {
            let now = self.time(1 + wave as i64);
            let intents: Vec<_> = together
                .iter()
                .map(|_| {
                    let intent = Body::Intent(Box::new(bare_intent(Lane::Model)));
                    self.store.append(job, now, intent)
                })
                .collect();
            let mut outcomes = Vec::new();
            for (n, (intent, (envelope, named))) in intents.into_iter().zip(together).enumerate() {
                let seq = intent.await.unwrap().seq;
                let mut outcome = outcome(seq);
                outcome.receipt = Some(named.clone());
                let learned = match n % 16 {
                    0 => vec![seen(&format!("run-{job}-{seq}"), "ws-1", Some(job))],
                    _ => Vec::new(),
                };
                let envelope = Some(envelope.clone());
                outcomes.push(
                    self.store
                        .append_outcome(job, now, outcome, envelope, learned),
                );
            }
            for outcome in outcomes {
                outcome.await.unwrap();
            }
        }
    }

    async fn fill(&mut self, records: u64) {
        while self.store.log_size().await.unwrap() < records {
            let receipts = receipts(self.jobs);
            let job = self.open().await;
            self.calls(&job, &receipts).await;
            let closed = self.store.close_job(&job, "ada", "done", self.time(900));
            closed.await.unwrap();
        }
    }
}

/// Receipts of a job, signed by now.
fn receipts(job: u64) -> Vec<(Envelope, ReceiptRef)> {
    let id = |n| receipt_id(job, n);
    (0..CALLS)
        .map(|n| receipt(EnvelopeType::GatewayReceipt, &id(n)))
        .collect()
}

fn receipt_id(job: u64, call: u64) -> String {
    let millis = format!("{:012x}", at(1000 * (job as i64 + 1)).millis());
    format!(
        "rcpt_{}-{}-7abc-8def-{call:012x}",
        &millis[..8],
        &millis[8..]
    )
}

const WHAT: [&str; 4] = [
    "a record appended, with its share of a receipt",
    "an object looked up, as for a decision",
    "a receipt by its id",
    "a job by its id",
];

async fn compare(engine: &str, mut pair: [Filled; 2], many: u64, cpu: impl Fn() -> u64) {
    for (filled, records) in pair.iter_mut().zip([FEW, many]) {
        filled.fill(records).await;
    }
    let mut costs: [[Vec<f64>; 2]; 4] = Default::default();
    for batch in 0..BATCHES + 2 {
        for (side, filled) in pair.iter_mut().enumerate() {
            let receipts = receipts(filled.jobs);
            let job = filled.open().await;
            let mut took = [0.0; 4];
            let began = cpu();
            filled.calls(&job, &receipts).await;
            took[0] = (cpu() - began) as f64 / (2 * CALLS) as f64;
            for (what, took) in took.iter_mut().enumerate().skip(1) {
                let began = cpu();
                for look in 0..LOOKS {
                    look_up(filled, what, look).await;
                }
                *took = (cpu() - began) as f64 / LOOKS as f64;
            }
            if batch >= 2 {
                for (what, took) in took.into_iter().enumerate() {
                    costs[what][side].push(took);
                }
            }
        }
    }
    for (what, sides) in WHAT.iter().zip(&mut costs) {
        let [few, large] = sides.each_mut().map(|costs| {
            costs.sort_by(f64::total_cmp);
            costs[costs.len() / 2] / 1e3
        });
        let ratio = large / few;
        println!("| {engine} | {what} | {few:.1} µs | {large:.1} µs | {ratio:.2} |");
    }
}

/// Looks something up that lies anywhere in the store.
async fn look_up(filled: &Filled, what: usize, n: u64) {
    let job = n * 7919 % (filled.jobs - 1);
    let id: JobId = format!("job_{job:08}").parse().unwrap();
    let store = &filled.store;
    match what {
        // The first of a job: its intents are the records 2 to 65.
        1 => {
            let found = store.object("run", &format!("run-{id}-2")).await;
            assert!(found.unwrap().is_some(), "{id}");
        }
        2 => {
            let found = store.find_receipt(&receipt_id(job, n % CALLS)).await;
            assert_eq!(found.unwrap().unwrap().0, id);
        }
        _ => assert!(store.job(&id).await.unwrap().is_some(), "{id}"),
    }
}

/// Processor time of this process, of all its threads that are there.
fn own_nanos() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .map(|task| nanos(&task.unwrap().path().join("schedstat")))
        .sum()
}

/// Processor time of the server's sessions of these names.
fn sessions_nanos(schema: &server::Schema, names: &[String; 2]) -> u64 {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = ANY($1)";
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows = schema.with(|client| client.query(sql, &[&names]).unwrap());
    rows.iter()
        .map(|row| {
            let pid: i32 = row.get(0);
            nanos(std::path::Path::new(&format!("/proc/{pid}/schedstat")))
        })
        .sum()
}

/// The first number: time on a processor. What has ended meanwhile counts as nothing.
fn nanos(file: &std::path::Path) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(0)
}
