//! Answers without end pass through in little memory. A test of its own, because memory is the
//! whole process's: gateway, client and provider are all in it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    dead_code,
    reason = "shared with the hostile tests, which use all of it"
)]

#[path = "hostile/rig.rs"]
mod rig;
#[path = "hostile/scripted.rs"]
mod scripted;

use rig::{HERE, Rig, lossy};
use scripted::{Scripted, Step, say};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How much of an answer passes: many times what may be kept of it, or as many MiB as
/// `CLAWGATE_ENDLESS_MIB` says.
fn to_pass() -> usize {
    let mib = std::env::var("CLAWGATE_ENDLESS_MIB").ok();
    mib.map_or(256, |mib| mib.parse().unwrap()) << 20
}

/// What memory may grow by meanwhile: the readers keep up to 1.3 MiB, sockets and allocator some.
const GROWTH: usize = 24 << 20;

/// Resident memory of this process in bytes, by the kernel's word.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: usize = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_end_pass_in_bounded_memory() {
    let provider = Scripted::start().await;
    let url = format!("http://{}/v1", provider.address);
    let rig = Rig::start().await.restarted(|config| {
        for model in config.models.values_mut() {
            model.url.clone_from(&url);
        }
    });
    let rig = rig.await;
    let head = |kind: &str| say(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n"));
    let tools = json!([{"type": "function", "function": {"name": "plan"}}]);
    // Usage is asked for and comes first: what a provider tells is not counted, and the vocabulary
    // for counting, whose size is known, stays out of this.
    const USAGE: &str = r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}"#;
    for (what, steps) in [
        (
            "a document",
            vec![
                head("application/json"),
                say(format!("{USAGE},\"a\":\"")),
                Step::Forever(&[b'x'; 65_536]),
            ],
        ),
        (
            "one line of events",
            vec![
                head("text/event-stream"),
                say(format!("data: {USAGE}}}\n\ndata: ")),
                Step::Forever(&[b'x'; 65_536]),
            ],
        ),
        (
            "one event of many lines",
            vec![
                head("text/event-stream"),
                say(format!("data: {USAGE}}}\n\n")),
                Step::Forever(b"data: {\"tool_calls\":[{\"function\":{\n"),
            ],
        ),
        (
            "one usage",
            vec![
                head("application/json"),
                say(format!("{USAGE},\"usage\":{{")),
                Step::Forever(&[b' '; 65_536]),
            ],
        ),
    ] {
        provider.does(steps);
        let body = json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true},
            "messages": [], "tools": tools,
        });
        let call = rig.agent("POST", "/openai/v1/chat/completions").json(&body);
        let mut stream = rig.connect(HERE).await;
        stream.write_all(&call.bytes()).await.unwrap();
        let mut buffer = vec![0; 256 << 10];
        let read = stream.read(&mut buffer).await.unwrap();
        let begins = lossy(&buffer[..read]);
        assert!(begins.starts_with("HTTP/1.1 200 "), "{what}: {begins}");
        let (before, mut most, mut passed) = (resident(), 0, 0);
        let enough = match what {
            // Small pieces take longer.
            "one event of many lines" => to_pass() / 8,
            _ => to_pass(),
        };
        while passed < enough {
            let read = stream.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "{what} ends after {passed} bytes");
            passed += read;
            most = most.max(resident());
        }
        let growth = most.saturating_sub(before);
        assert!(growth < GROWTH, "{what}: {growth} bytes more");
    }
}
