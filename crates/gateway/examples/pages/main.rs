//! Processor time and memory of the people's pages on a store full of jobs:
//! `cargo run --release -p clawgate --example pages -- [JOBS]`. The figures stand in
//! `docs/performance.md`.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot be made stops"
)]

mod fill;

use std::fs;
use std::time::Instant;

use bytes::Bytes;
use clawgate::config::Config;
use clawgate::keys::Keys;
use clawgate::operator::credential::{self, Role};
use clawgate::start::{Running, start};
use clawgate::upstream::{HttpClient, http_client};
use http::{Request, header};
use http_body_util::{BodyExt, Full};

use fill::Filled;

/// How often each page is opened.
const TIMES: u32 = 10;

#[tokio::main]
async fn main() {
    let jobs = std::env::args().nth(1);
    let jobs = jobs.map_or(100_000, |text| text.parse().expect("a number of jobs"));
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    Keys::create(&config.keys_dir()).unwrap();
    let http = http_client(&config).unwrap();
    let file = config.store_file();
    let running = start(config).await.unwrap();
    let began = Instant::now();
    let filled = fill::fill(&running.app, jobs).await;
    let mib = fs::metadata(&file).unwrap().len() >> 20;
    println!(
        "{jobs} jobs, {} records, {mib} MiB, filled in {:.0} s",
        running.app.store.log_size().await.unwrap(),
        began.elapsed().as_secs_f64()
    );
    let visitor = Visitor::new(&running, http).await;
    println!(
        "{:44} {:>8} {:>8} {:>9} {:>8}",
        "page", "CPU ms", "max ms", "KiB", "+MiB"
    );
    for (name, path) in pages(&filled) {
        visitor.measure(&name, &path).await;
    }
}

/// Every page, and the list of jobs by each field alone and in pairs.
fn pages(filled: &Filled) -> Vec<(String, String)> {
    let fields = [
        ("state", "state=open".to_owned()),
        ("state sealed", "state=sealed".to_owned()),
        ("agent", format!("agent={}", filled.agent)),
        ("contract, of most", "contract=work-0".to_owned()),
        ("contract, of few", "contract=work-19".to_owned()),
        (
            "workspace, of many",
            format!("workspace={}", fill::workspace(0)),
        ),
        (
            "workspace, of few",
            format!("workspace={}", fill::workspace(199)),
        ),
        ("applied", "outcome=applied".to_owned()),
        ("denied", "outcome=denied".to_owned()),
        ("refused", "outcome=refused".to_owned()),
        ("since", format!("since={}", filled.last_day)),
        ("until", format!("until={}", filled.first_day)),
    ];
    let mut pages = vec![
        ("jobs".to_owned(), "/trust-pulse/".to_owned()),
        (
            "jobs, a page deep in the list".to_owned(),
            format!("/trust-pulse/?before={}", filled.early),
        ),
    ];
    for (place, (name, field)) in fields.iter().enumerate() {
        pages.push((format!("jobs by {name}"), format!("/trust-pulse/?{field}")));
        pages.push((
            format!("jobs by {name}, deep"),
            format!("/trust-pulse/?{field}&before={}", filled.early),
        ));
        for (other, second) in &fields[place + 1..] {
            if field.split('=').next() == second.split('=').next() {
                continue;
            }
            pages.push((
                format!("jobs by {name} and {other}"),
                format!("/trust-pulse/?{field}&{second}"),
            ));
        }
    }
    let one = |name: &str, path: String| (name.to_owned(), path);
    pages.extend([
        one("agent", format!("/trust-pulse/agents/{}", filled.agent)),
        one("contracts", "/trust-pulse/contracts/".to_owned()),
        one(
            "contract",
            format!("/trust-pulse/contracts/{}", filled.contract),
        ),
        one("job", format!("/trust-pulse/jobs/{}", filled.early)),
        one(
            "job with 5000 records",
            format!("/trust-pulse/jobs/{}", filled.long),
        ),
        one("run", format!("/trust-pulse/runs/{}", filled.run)),
        one(
            "run in a job with 5000 records",
            format!("/trust-pulse/runs/{}", filled.large),
        ),
        one("outside", "/trust-pulse/outside".to_owned()),
        one("activity", "/activity".to_owned()),
        one("inbox with 500 plans", "/approvals/".to_owned()),
        one(
            "plan of 10000 resources",
            format!("/approvals/{}", filled.large),
        ),
        one(
            "plan of 10000 resources, last piece",
            format!("/approvals/{}?from=9950", filled.large),
        ),
        one("API: jobs", "/v1/jobs?limit=50".to_owned()),
        one("API: approvals", "/v1/approvals".to_owned()),
        one("API: top", "/v1/top".to_owned()),
        one("API: a receipt", format!("/v1/receipts/{}", filled.receipt)),
        one(
            "export of 1000 records",
            format!("/v1/export?as=ocsf&after={}", filled.tail),
        ),
        one(
            "export of the last day",
            format!("/v1/export?as=csv&since={}T00:00:00.000Z", filled.last_day),
        ),
    ]);
    pages
}

struct Visitor {
    http: HttpClient,
    base: String,
    bearer: String,
}

impl Visitor {
    async fn new(running: &Running, http: HttpClient) -> Self {
        let app = &running.app;
        let credential = credential::add(&*app.store, "visitor", &[Role::Admin], app.now()).await;
        Self {
            http,
            base: format!("http://{}", running.operator_address),
            bearer: format!("Bearer {}", *credential.unwrap()),
        }
    }

    /// Opens a page several times; the client's own part is in the figures.
    async fn measure(&self, name: &str, path: &str) {
        let mut bytes = self.open(path).await.len();
        let before = resident();
        let (mut sum, mut most) = (0.0_f64, 0.0_f64);
        for _ in 0..TIMES {
            let began = cpu();
            bytes = self.open(path).await.len();
            let took = cpu() - began;
            sum += took;
            most = most.max(took);
        }
        println!(
            "{name:44} {:8.1} {:8.1} {:9.0} {:8.1}",
            1000.0 * sum / f64::from(TIMES),
            1000.0 * most,
            bytes as f64 / 1024.0,
            resident() - before
        );
    }

    async fn open(&self, path: &str) -> Bytes {
        let request = Request::builder()
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, &self.bearer)
            .header(header::ACCEPT, "text/html");
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let response = self.http.request(request).await.unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        response.into_body().collect().await.unwrap().to_bytes()
    }
}

/// Seconds that all threads of this process have run, as the kernel's scheduler counts them.
fn cpu() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() as f64 / 1e9
}

/// Resident memory in MiB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap() / 1024.0
}

fn config(folder: &std::path::Path) -> Config {
    let token = folder.join("upstream.token");
    fs::write(&token, "nobody-asks-for-it").unwrap();
    let token = format!("{{ file = \"{}\" }}", token.display());
    let text = format!(
        r#"
        gateway_id = "gateway.example"
        data_dir = "{}"
        agent_listener = {{ address = "127.0.0.1:0" }}
        operator_listener = {{ address = "127.0.0.1:0" }}
        authors = [{{ name = "Ada", did = "{}" }}]
        approvers = [{{ email = "{}", did = "{}" }}]
        [terraform_cloud]
        url = "http://127.0.0.1:1"
        planner = {token}
        executor = {token}
        reader = {token}
        "#,
        folder.join("data").display(),
        fill::author().did(),
        fill::APPROVER,
        fill::approver().did(),
    );
    toml::from_str(&text).unwrap()
}
