//! Much at a time in bounded memory: a job of many receipts is sealed and its bundle verified, and
//! many streams stand open. A test of its own, because memory is the whole process's: gateway,
//! clients and provider are all in it.
//!
//! `CLAWGATE_RECEIPTS=100000` and `CLAWGATE_STREAMS=2000` are the full numbers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    dead_code,
    reason = "shared with the hostile tests, which use all of it"
)]

#[path = "hostile/rig.rs"]
mod rig;
#[path = "hostile/scripted.rs"]
mod scripted;

use clawgate::bundles::{self, Sealing};
use rig::{HERE, Rig, lossy};
use scripted::{Scripted, Step, say};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What sealing may take beyond what was there, however many receipts there are: pages of records
/// and a part of the public half; and a little for each event.
const SEALING: usize = 64 << 20;
const SEALING_EACH: usize = 256;

/// How many times its file a bundle may take while it is verified; no more than a piece of its text
/// is among it.
const VERIFYING: usize = 2;

/// What an open stream may take in gateway, client and provider together.
const STREAM: usize = 160 << 10;

/// Streams that are busy while the others stand.
const BUSY: usize = 64;

/// Events of a busy stream.
const EVENT: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"word \"}}]}\n\n";

fn number(name: &str, short: usize) -> usize {
    let number = std::env::var(name).ok();
    number.map_or(short, |number| number.parse().unwrap())
}

/// Files that streams need, with gateway, client and provider in one process, each of which has both
/// ends of its connections: allows so many, or says what to do.
fn allow_files(streams: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let needed = 4 * (streams + BUSY) as u64 + 256;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    assert!(
        limit.maximum.is_none_or(|most| most >= needed),
        "{streams} streams need {needed} open files and this shell may have {:?}: \
         `ulimit -Hn {needed}` as root before, or fewer streams",
        limit.maximum
    );
    limit.current = Some(needed);
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// How long something took, by the clock and on the processors, all threads of this process.
struct Watch(std::time::Instant, f64);

impl Watch {
    fn start() -> Self {
        Self(std::time::Instant::now(), Self::processors())
    }

    fn processors() -> f64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        // A hundred a second, on every kernel that people run this on.
        ticks
            .map(|ticks| ticks.parse::<f64>().unwrap() / 100.0)
            .sum()
    }
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (clock, processors) = (self.0.elapsed().as_secs_f64(), Self::processors() - self.1);
        write!(f, "{clock:.1} s, {processors:.1} s of processors")
    }
}

/// Memory of this process in bytes, by the kernel's word.
fn memory(which: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    let kib: usize = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

/// Runs something and tells by how much memory was higher than before, at the most.
async fn growth<T>(work: impl Future<Output = T>) -> (T, usize) {
    // Begins the count of the most anew.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let done = work.await;
    (done, memory("VmHWM:").saturating_sub(before))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_at_a_time_takes_bounded_memory() {
    let streams = number("CLAWGATE_STREAMS", 200);
    allow_files(streams);
    let rig = Rig::start().await.restarted(|config| {
        config.limits.records_per_job = 1_000_000;
        config.limits.evidence_bytes_per_job = 1 << 30;
        config.limits.connections = 4096;
        config.limits.connections_per_holder = 4096;
    });
    let rig = rig.await;
    many_receipts(&rig, number("CLAWGATE_RECEIPTS", 5_000)).await;
    let provider = Scripted::start().await;
    let url = format!("http://{}/v1", provider.address);
    let rig = rig.restarted(|config| {
        config.limits.connections = 4096;
        config.limits.connections_per_holder = 4096;
        for model in config.models.values_mut() {
            model.url.clone_from(&url);
        }
    });
    many_streams(&rig.await, &provider, streams).await;
}

async fn many_receipts(rig: &Rig, receipts: usize) {
    let job = rig.job().await;
    let watch = Watch::start();
    let clients = (0..8).map(|n| calls(rig, &job, receipts / 8 + usize::from(n < receipts % 8)));
    futures_util::future::join_all(clients).await;
    eprintln!("{receipts} calls in {watch}, client and provider among it");

    let app = rig.app();
    app.store
        .close_job(&job, "operator", "enough", app.now())
        .await
        .unwrap();
    let watch = Watch::start();
    let (sealed, grown) = growth(bundles::seal(Sealing::of(app), &job, clawgate::app::now)).await;
    let sealed = sealed.unwrap();
    eprintln!(
        "sealed {} MiB in {watch}: {} MiB more memory at the most",
        sealed.bytes >> 20,
        grown >> 20
    );
    let most = SEALING + receipts * SEALING_EACH;
    assert!(grown < most, "sealing took {grown} bytes more");

    let trust = rig.operator("GET", "/v1/trust").send().await.body;
    let path = bundles::path(&app.config, &sealed).await;
    let watch = Watch::start();
    let verifying = async {
        let file = std::fs::File::open(&path).unwrap();
        let length = file.metadata().unwrap().len() as usize;
        let options = clawverify::Options::default();
        let report = clawverify::verify_file(file, &trust, &options).unwrap();
        (length, report)
    };
    let ((length, report), grown) = growth(verifying).await;
    assert_eq!(length as u64, sealed.bytes);
    assert_eq!(report.verdict, clawverify::Verdict::Valid, "{report:?}");
    eprintln!(
        "verified in {watch}: {} MiB more memory at the most",
        grown >> 20
    );
    let most = VERIFYING * length + (64 << 20);
    assert!(grown < most, "verifying {length} bytes took {grown} more");
}

/// Model calls on one connection.
async fn calls(rig: &Rig, job: &proof::record::JobId, count: usize) {
    // A token lives for a quarter of an hour, and may have to last longer.
    const EACH: usize = 2_000;
    let body = json!({
        "model": "gpt-4.1", "stream": false,
        "messages": [{"role": "user", "content": "hello"}],
    });
    let mut left = count;
    while left > 0 {
        let token = rig.token(job).await;
        let call = rig
            .nobody("POST", "/openai/v1/chat/completions")
            .bearer(&token)
            .json(&body);
        let text = lossy(&call.bytes()).replace("connection: close\r\n", "");
        let mut stream = rig.connect(HERE).await;
        for _ in 0..left.min(EACH) {
            stream.write_all(text.as_bytes()).await.unwrap();
            answer(&mut stream).await;
        }
        left -= left.min(EACH);
    }
}

/// Reads one answer with a length.
async fn answer(stream: &mut TcpStream) {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let end = read.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = lossy(&read[..end]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200 "), "{}", lossy(&read));
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.unwrap_or_else(|| panic!("{head}"));
            if read.len() >= end + 4 + length {
                return;
            }
        }
        let more = stream.read(&mut buffer).await.unwrap();
        assert_ne!(more, 0, "{}", lossy(&read));
        read.extend_from_slice(&buffer[..more]);
    }
}

async fn many_streams(rig: &Rig, provider: &Scripted, idle: usize) {
    let job = rig.job().await;
    let token = rig.token(&job).await;
    let body = json!({
        "model": "gpt-4.1", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "hello"}],
    });
    let call = rig
        .nobody("POST", "/openai/v1/chat/completions")
        .bearer(&token)
        .json(&body);
    let begins = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    // Usage comes first: what a provider tells is not counted.
    let usage = "data: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
    provider.does(vec![say(begins), say(usage), Step::Hang]);
    // One warms up what is there once.
    let first = open(rig, &call).await;
    let watch = Watch::start();
    let (standing, grown) = growth(async {
        let mut standing = Vec::new();
        for _ in 0..idle {
            standing.push(open(rig, &call).await);
        }
        standing
    })
    .await;
    eprintln!(
        "{idle} idle streams in {watch}: {} KiB each, in gateway, client and provider",
        (grown / idle) >> 10
    );
    assert!(grown < idle * STREAM, "{idle} streams took {grown} bytes");

    provider.does(vec![say(begins), say(usage), Step::Forever(EVENT)]);
    let watch = Watch::start();
    let (passed, grown) = growth(async {
        let busy = (0..BUSY).map(async |_| {
            let mut stream = open(rig, &call).await;
            let mut buffer = vec![0; 64 << 10];
            let mut passed = 0;
            while passed < 1 << 20 {
                let read = stream.read(&mut buffer).await.unwrap();
                assert_ne!(read, 0, "it ends after {passed} bytes");
                passed += read;
            }
            passed
        });
        futures_util::future::join_all(busy).await
    })
    .await;
    assert_eq!(passed.len(), BUSY);
    eprintln!(
        "{BUSY} busy ones beside them, {watch}: {} MiB more",
        grown >> 20
    );
    assert!(grown < BUSY * (1 << 20), "the busy ones took {grown} bytes");
    // Those that stood are still there.
    let open = rig.app().store.open_intents().await.unwrap();
    assert!(open.len() > idle, "{} are open", open.len());
    drop((first, standing));
}

/// Opens a stream and reads its first event.
async fn open(rig: &Rig, call: &rig::Call) -> TcpStream {
    let mut stream = rig.connect(HERE).await;
    stream.write_all(&call.bytes()).await.unwrap();
    let mut read = Vec::new();
    let mut buffer = vec![0; 4096];
    while !lossy(&read).contains("data: ") {
        let more = stream.read(&mut buffer).await.unwrap();
        assert_ne!(more, 0, "{}", lossy(&read));
        read.extend_from_slice(&buffer[..more]);
    }
    assert!(read.starts_with(b"HTTP/1.1 200 "), "{}", lossy(&read));
    stream
}
