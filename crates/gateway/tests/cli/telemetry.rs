//! Traces and metrics, as a collector gets them: the messages are read by OpenTelemetry's own
//! definitions.

use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use clawgate::config::Telemetry;
use clawgate::secret::SecretSource;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::client::Caller;
use crate::libraries::interpreter;
use crate::world::{Setup, World};

const CHAT: &str = "/openai/v1/chat/completions";

/// What a collector was sent: path, whether with the right credential, body.
type Sent = Arc<Mutex<Vec<(String, bool, Bytes)>>>;

/// A collector that answers everything with one status.
async fn collector(status: StatusCode) -> (String, Sent) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = Sent::default();
    let kept = Arc::clone(&sent);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let kept = Arc::clone(&kept);
            let answer = service_fn(move |request: Request<Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    let (head, body) = request.into_parts();
                    let by = head.headers.get(header::AUTHORIZATION);
                    let known = by.is_some_and(|by| by == "Bearer collectors-secret");
                    assert_eq!(head.headers["content-type"], "application/x-protobuf");
                    let body = body.collect().await.unwrap().to_bytes();
                    kept.lock()
                        .unwrap()
                        .push((head.uri.path().to_owned(), known, body));
                    let mut answer = Response::new(Empty::<Bytes>::new());
                    *answer.status_mut() = status;
                    Ok::<_, Infallible>(answer)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    (url, sent)
}

async fn world(otlp: String) -> World {
    let models = json!({"providers": ["openai"], "allowed": ["gpt-*"]});
    let mut setup = Setup::new().contract("/models", models);
    let before = setup.config;
    setup.config = Box::new(move |config| {
        before(config);
        let file = config.data_dir.join("collector.token");
        std::fs::create_dir_all(&config.data_dir).unwrap();
        std::fs::write(&file, "collectors-secret").unwrap();
        let token = Some(SecretSource::File(file));
        config.telemetry = Some(Telemetry { otlp, token });
    });
    setup.start().await
}

fn ask(model: &str) -> Value {
    let message = json!({"role": "user", "content": "zebra-prompt"});
    json!({"model": model, "messages": [message]})
}

#[tokio::test]
async fn a_collector_gets_a_span_for_each_call_and_the_metrics() {
    let (url, sent) = collector(StatusCode::OK).await;
    let world = world(url).await;
    let agent = Caller::new(&world.gateway().agent_url, Some(&world.cst));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let body = serde_json::to_vec(&ask("gpt-5")).unwrap();
    let headers = [
        ("traceparent", &*parent),
        ("content-type", "application/json"),
    ];
    let answer = agent.call(http::Method::POST, CHAT, &headers, body).await;
    answer.ok();
    let receipt = answer.headers["x-clawgate-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(agent.post(CHAT, &ask("o9")).await.status, 403);
    agent.get("/api/v2/account/details?secret=zebra").await;
    let telemetry = world.app().telemetry.as_ref().unwrap();
    telemetry.flush().await;
    assert_eq!(telemetry.dropped(), 0);

    let sent: Vec<_> = sent.lock().unwrap().clone();
    assert!(
        sent.iter().all(|(_, known, _)| *known),
        "each with its credential"
    );
    for (path, _, body) in &sent {
        let words = [&*world.cst, "zebra", "staging"].map(str::as_bytes);
        for word in words {
            let found = body.windows(word.len()).any(|part| part == word);
            assert!(!found, "{} in {path}", String::from_utf8_lossy(word));
        }
    }
    let Some(python) = interpreter("opentelemetry-proto") else {
        return;
    };
    let mut spans = Vec::new();
    let mut metrics = Vec::new();
    for (path, _, body) in sent {
        let read = read(&python, &path, &body).await;
        let resource = &read["resourceSpans"][0]["resource"];
        match path.as_str() {
            "/v1/traces" => {
                let names = resource["attributes"].to_string();
                assert!(names.contains("service.name") && names.contains("clawgate.sandbox"));
                let scoped = &read["resourceSpans"][0]["scopeSpans"][0];
                assert_eq!(scoped["scope"]["name"], "clawgate");
                spans.extend(scoped["spans"].as_array().unwrap().clone());
            }
            "/v1/metrics" => {
                let scoped = &read["resourceMetrics"][0]["scopeMetrics"][0];
                metrics.extend(scoped["metrics"].as_array().unwrap().clone());
            }
            other => panic!("{other}"),
        }
    }
    let with = |span: &Value, key: &str| {
        let all = span["attributes"].as_array().unwrap();
        let own = all.iter().find(|own| own["key"] == key);
        own.map(|own| own["value"]["stringValue"].as_str().unwrap().to_owned())
    };
    let coded = |code: &str| {
        let own = spans
            .iter()
            .find(|span| with(span, "clawgate.code").as_deref() == Some(code));
        own.unwrap_or_else(|| panic!("{code} in {spans:#?}"))
    };
    let allowed = coded("ALLOWED");
    assert_eq!(allowed["name"], "model chat-completions");
    assert_eq!(allowed["kind"], "SPAN_KIND_SERVER");
    assert_eq!(with(allowed, "clawgate.decision").unwrap(), "allowed");
    assert_eq!(with(allowed, "clawgate.class").unwrap(), "chat_completions");
    assert_eq!(with(allowed, "clawgate.receipt_id"), Some(receipt));
    assert_eq!(
        with(allowed, "clawgate.job_id"),
        Some(world.job.to_string())
    );
    let time = |key: &str| allowed[key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
    // Its own trace; the caller's is a link.
    assert_eq!(allowed["links"][0]["traceId"], trace);
    assert_eq!(allowed["links"][0]["spanId"], "b7ad6b7169203331");
    assert_ne!(allowed["traceId"], trace);
    assert!(allowed.get("parentSpanId").is_none());
    let refused = coded("MODEL_NOT_ALLOWED");
    assert_eq!(with(refused, "clawgate.decision").unwrap(), "refused");
    assert!(refused.get("status").is_none() && refused.get("links").is_none());
    assert_ne!(refused["traceId"], allowed["traceId"]);
    coded("QUERY_UNKNOWN_KEY");

    let metric = |name: &str| {
        let own = metrics.iter().find(|metric| metric["name"] == name);
        own.unwrap_or_else(|| panic!("{name} in {metrics:#?}"))
    };
    let calls = &metric("clawgate_calls_total")["sum"];
    assert_eq!(calls["isMonotonic"], true);
    assert_eq!(
        calls["aggregationTemporality"],
        "AGGREGATION_TEMPORALITY_CUMULATIVE"
    );
    let points = calls["dataPoints"].as_array().unwrap();
    let point = points.iter().find(|point| {
        let labels = point["attributes"].to_string();
        labels.contains("chat_completions") && labels.contains("ALLOWED")
    });
    assert_eq!(point.unwrap()["asDouble"], 1.0);
    assert_eq!(
        metric("clawgate_store_up")["gauge"]["dataPoints"][0]["asDouble"],
        1.0
    );
    let overhead = metric("clawgate_overhead_seconds")["histogram"]["dataPoints"].as_array();
    let overhead = overhead.unwrap();
    let model = overhead
        .iter()
        .find(|own| own["attributes"].to_string().contains("model"));
    let model = model.unwrap();
    assert_eq!(model["count"], "1");
    let (counts, bounds) = (&model["bucketCounts"], &model["explicitBounds"]);
    let (counts, bounds) = (counts.as_array().unwrap(), bounds.as_array().unwrap());
    assert_eq!(counts.len(), bounds.len() + 1);
    let sum: u64 = counts
        .iter()
        .map(|n| n.as_str().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 1);
}

/// One message, as JSON, by the definitions of its format.
async fn read(python: &std::ffi::OsStr, path: &str, body: &[u8]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/telemetry.py");
    let mut running = Command::new(python)
        .arg(script)
        .arg(path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(body).await.unwrap();
    drop(stdin);
    let output = running.wait_with_output().await.unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn what_a_collector_does_not_take_is_dropped_and_counted_and_no_call_minds() {
    let (url, sent) = collector(StatusCode::SERVICE_UNAVAILABLE).await;
    let world = world(url).await;
    let agent = Caller::new(&world.gateway().agent_url, Some(&world.cst));
    for _ in 0..3 {
        agent.post(CHAT, &ask("gpt-5")).await.ok();
    }
    let telemetry = world.app().telemetry.as_ref().unwrap();
    telemetry.flush().await;
    assert_eq!(telemetry.dropped(), 3);
    assert!(!sent.lock().unwrap().is_empty(), "it was asked");
    let text = world.operator().get("/metrics").await.text();
    assert!(
        text.contains("\nclawgate_spans_dropped_total 3\n"),
        "{text}"
    );
}
