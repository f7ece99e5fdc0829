//! Bad input of the model lane, from either side, as one table each: what the client sees, what
//! record stays, and that nothing comes through that should not.

use proof::Hash;
use proof::record::{Body, Ended, Outcome};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{Call, HERE, Reply, Rig, lossy};
use crate::scripted::{Scripted, Step, say};
use crate::wire::written;

const CHAT: &str = "/openai/v1/chat/completions";
const MESSAGES: &str = "/anthropic/v1/messages";

/// What a provider says and nobody but the gateway may hear.
const HIDDEN: &str = "HIDDENHIDDEN";

/// Largest body of a model call.
const LIMIT: usize = 32 << 20;

/// An installation whose providers are both this one, with one second of patience.
async fn with(provider: &Scripted) -> Rig {
    let url = format!("http://{}/v1", provider.address);
    let rig = Rig::start().await;
    rig.restarted(|config| {
        config.limits.upstream_timeout_seconds = 1;
        for model in config.models.values_mut() {
            model.url.clone_from(&url);
        }
    })
    .await
}

fn request(stream: bool) -> Value {
    json!({
        "model": "a-model", "max_tokens": 9, "stream": stream,
        "messages": [{"role": "user", "content": "hello"}],
    })
}

/// Records of the first job after `after`; the answer was given after they were durable.
async fn records(rig: &Rig, after: u64) -> Vec<(u64, Body)> {
    let job = &rig.sandbox.job_id;
    let rows = rig.app().store.records(job, after, 1000).await.unwrap();
    let rows = rows.into_iter().map(|row| row.record);
    rows.map(|record| (record.seq, record.body)).collect()
}

async fn last_seq(rig: &Rig) -> u64 {
    records(rig, 0).await.last().map_or(0, |(seq, _)| *seq)
}

/// What is wrong with a refusal as the client reads it.
fn shape(path: &str, reply: &Reply, code: &str) -> Option<String> {
    let body = reply.json();
    let error = &body["error"];
    let message = error["message"].as_str().unwrap_or_default();
    let good = match path.starts_with("/anthropic/") {
        true => body["type"] == "error" && error["type"].is_string(),
        false => error["code"] == code && error["type"].is_string(),
    };
    let told = message.starts_with(code) && reply.header("x-clawgate-code") == Some(code);
    (!good || !told).then(|| format!("is told {}", reply.whole))
}

/// What a row of the providers' table expects.
struct Answered {
    status: u16,
    /// Of a refusal; empty where the provider's answer passes.
    code: &'static str,
    /// Whether the client can take the answer for a whole one.
    whole: bool,
    ended: Ended,
    upstream: Option<u16>,
}

const fn refused(status: u16, code: &'static str, ended: Ended, upstream: Option<u16>) -> Answered {
    Answered {
        status,
        code,
        whole: true,
        ended,
        upstream,
    }
}

const fn passes(status: u16) -> Answered {
    Answered {
        status,
        code: "",
        whole: true,
        ended: Ended::Complete,
        upstream: Some(status),
    }
}

/// A stream that has begun cannot be refused any more: it is not given an end.
const fn cut(code: &'static str) -> Answered {
    Answered {
        status: 200,
        code,
        whole: false,
        ended: Ended::UpstreamReset,
        upstream: Some(200),
    }
}

const GARBAGE: &str = "UPSTREAM_GARBAGE";
const RESET: &str = "UPSTREAM_RESET";
const TIMEOUT: &str = "UPSTREAM_TIMEOUT";
const UNAVAILABLE: &str = "UPSTREAM_UNAVAILABLE";

fn json_head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
}

const CHUNKS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
const EVENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";

/// What providers do to documents.
fn documents() -> Vec<(&'static str, Vec<Step>, Answered)> {
    let html = format!("<html>{HIDDEN}</html>");
    let typed = |kind: &str, more: &str, body: &str| {
        say(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}content-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let unheard = |status| refused(503, status, Ended::UpstreamReset, None);
    let garbage = || refused(502, GARBAGE, Ended::Complete, Some(200));
    vec![
        ("HTML", vec![typed("text/html", "", &html)], garbage()),
        ("no type", vec![typed("", "", &html)], garbage()),
        (
            "half a chunk",
            vec![say(CHUNKS), say("20\r\n{\"half\":")],
            refused(502, RESET, Ended::UpstreamReset, Some(200)),
        ),
        (
            "no last chunk",
            vec![say(CHUNKS), say("2\r\n{}\r\n")],
            refused(502, RESET, Ended::UpstreamReset, Some(200)),
        ),
        (
            "a chunk of no length",
            vec![say(CHUNKS), say("zz\r\n{}\r\n0\r\n\r\n")],
            refused(502, RESET, Ended::UpstreamReset, Some(200)),
        ),
        (
            "a length that is too long",
            vec![say(json_head(100)), say("{\"half\":")],
            refused(502, RESET, Ended::UpstreamReset, Some(200)),
        ),
        (
            "a length that is too short",
            vec![say(json_head(2)), say(format!("{{}}{HIDDEN}"))],
            passes(200),
        ),
        (
            "two lengths",
            vec![say(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\ncontent-length: 9\r\n\r\n{}",
            )],
            unheard(UNAVAILABLE),
        ),
        (
            "a document that stops",
            vec![say(json_head(100)), say("{\"half\":"), Step::Hang],
            refused(504, TIMEOUT, Ended::UpstreamReset, Some(200)),
        ),
        (
            "no answer",
            vec![Step::Hang],
            refused(504, TIMEOUT, Ended::UpstreamReset, None),
        ),
        (
            "half a head",
            vec![say("HTTP/1.1 200 OK\r\nx-a: b"), Step::Hang],
            refused(504, TIMEOUT, Ended::UpstreamReset, None),
        ),
        ("hanging up", vec![], unheard(UNAVAILABLE)),
        (
            "no HTTP",
            vec![say(format!("{HIDDEN}\r\n\r\n"))],
            unheard(UNAVAILABLE),
        ),
        (
            "a huge header",
            vec![
                say("HTTP/1.1 200 OK\r\nx-a: "),
                Step::Repeat(&[b'a'; 4096], 1024),
                say("\r\n\r\n"),
            ],
            unheard(UNAVAILABLE),
        ),
        (
            "many headers",
            vec![
                say("HTTP/1.1 200 OK\r\n"),
                Step::Repeat(b"x-a: b\r\n", 10_000),
                say("\r\n"),
            ],
            unheard(UNAVAILABLE),
        ),
        (
            "endless headers",
            vec![say("HTTP/1.1 200 OK\r\n"), Step::Forever(b"x-a: b\r\n")],
            unheard(UNAVAILABLE),
        ),
        (
            "a header within a header",
            vec![say(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: a\rset-cookie: b\r\ncontent-length: 2\r\n\r\n{}",
            )],
            unheard(UNAVAILABLE),
        ),
        (
            "continuing for ever",
            vec![Step::Forever(b"HTTP/1.1 100 Continue\r\n\r\n")],
            refused(504, TIMEOUT, Ended::UpstreamReset, None),
        ),
        (
            "another protocol",
            vec![
                say(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
                ),
                Step::Hang,
            ],
            refused(502, GARBAGE, Ended::Complete, Some(101)),
        ),
        (
            "a redirect",
            vec![say(format!(
                "HTTP/1.1 302 Found\r\nlocation: https://{HIDDEN}.example/\r\ncontent-length: 0\r\n\r\n"
            ))],
            refused(502, GARBAGE, Ended::Complete, Some(302)),
        ),
        (
            "a status of one's own",
            vec![say(format!(
                "HTTP/1.1 999 {HIDDEN}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
            ))],
            refused(502, GARBAGE, Ended::Complete, Some(999)),
        ),
        (
            "gzip unasked",
            vec![typed(
                "application/json",
                "content-encoding: gzip\r\n",
                HIDDEN,
            )],
            garbage(),
        ),
        (
            "zstd unasked",
            vec![typed(
                "application/json",
                "content-encoding: zstd\r\n",
                HIDDEN,
            )],
            garbage(),
        ),
        (
            "br in events unasked",
            vec![typed(
                "text/event-stream",
                "content-encoding: br\r\n",
                HIDDEN,
            )],
            garbage(),
        ),
        (
            "no compression, and saying so",
            vec![typed(
                "application/json",
                "content-encoding: identity\r\n",
                "{}",
            )],
            passes(200),
        ),
        (
            "JSON that is none",
            vec![typed("application/json", "", "{oops")],
            passes(200),
        ),
        (
            "an unknown model",
            vec![say(
                "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 35\r\n\r\n{\"error\":{\"message\":\"no such one\"}}",
            )],
            passes(404),
        ),
    ]
}

/// And to streams of events.
fn streams() -> Vec<(&'static str, Vec<Step>, Answered)> {
    let chunked = EVENTS.replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n");
    let long = "a".repeat(1 << 20);
    vec![
        (
            "half a chunk",
            vec![say(&chunked), say(format!("fff\r\n{EVENT}"))],
            cut(RESET),
        ),
        (
            "a stream that stops",
            vec![say(EVENTS), say(EVENT), Step::Hang],
            cut(TIMEOUT),
        ),
        (
            "a length that is too long",
            vec![
                say(EVENTS.replace("\r\n\r\n", "\r\ncontent-length: 9999\r\n\r\n")),
                say(EVENT),
            ],
            cut(RESET),
        ),
        (
            "a length that is too short",
            vec![
                say(EVENTS.replace("\r\n\r\n", "\r\ncontent-length: 8\r\n\r\n")),
                say(format!("data: 1\n{HIDDEN}")),
            ],
            passes(200),
        ),
        (
            "invalid UTF-8",
            vec![say(EVENTS), say(b"data: {\"a\":\"\xff\xfe\xc0\x80\"}\n\n")],
            passes(200),
        ),
        (
            "no JSON",
            vec![say(EVENTS), say("data: {]\n\nnothing\0\n\n")],
            passes(200),
        ),
        (
            "a long line",
            vec![say(EVENTS), say(format!("data: {long}\n\n"))],
            passes(200),
        ),
        (
            "half an event",
            vec![say(EVENTS), say("data: {\"choi")],
            passes(200),
        ),
        ("nothing at all", vec![say(EVENTS)], passes(200)),
    ]
}

/// Every row in both APIs: clear answer, one intent and one outcome, nothing hidden let out, and
/// the next call works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_provider_does_is_answered_and_recorded() {
    let provider = Scripted::start().await;
    let rig = with(&provider).await;
    let key = rig.sandbox.provider.key().to_owned();
    let mut failures = Vec::new();
    let rows = documents().into_iter().map(|row| (false, row));
    let rows = rows.chain(streams().into_iter().map(|row| (true, row)));
    for (stream, (what, steps, expected)) in rows {
        for path in [CHAT, MESSAGES] {
            let before = last_seq(&rig).await;
            provider.does(steps.clone());
            let call = rig.agent("POST", path).json(&request(stream));
            let (reply, whole) = exchange(&rig, &call).await;
            let mut wrong = |why: String| failures.push(format!("{what}, {path}: {why}"));
            if (reply.status, whole) != (expected.status, expected.whole) {
                wrong(format!("whole: {whole}, {}", reply.whole));
            }
            if expected.whole
                && !expected.code.is_empty()
                && let Some(why) = shape(path, &reply, expected.code)
            {
                wrong(why);
            }
            for secret in [HIDDEN, &key, &provider.address.to_string(), "set-cookie"] {
                if reply.whole.contains(secret) {
                    wrong(format!("{secret} comes through: {}", reply.whole));
                }
            }
            if let Some(why) = wrong_records(&records(&rig, before).await, &expected, &reply) {
                wrong(why);
            }
        }
    }
    provider.does(vec![say(json_head(2)), say("{}")]);
    let good = rig.agent("POST", CHAT).json(&request(false)).send().await;
    assert_eq!(good.status, 200, "{}", good.whole);
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Sends a call and reads to the end of the connection; tells whether the answer has an end.
async fn exchange(rig: &Rig, call: &Call) -> (Reply, bool) {
    let mut stream = rig.connect(HERE).await;
    stream.write_all(&call.bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let reply = Reply::read(&answer).unwrap_or_else(|| panic!("{:?}", lossy(&answer)));
    let announced = reply.header("content-length").map(str::to_owned);
    let whole = match announced {
        Some(length) => length.parse() == Ok(reply.body.len()),
        None => answer.ends_with(b"\r\n0\r\n\r\n"),
    };
    (reply, whole)
}

/// What is wrong with the records of one call.
fn wrong_records(records: &[(u64, Body)], expected: &Answered, reply: &Reply) -> Option<String> {
    let [(intent_seq, Body::Intent(_)), (_, Body::Outcome(outcome))] = records else {
        return Some(format!("recorded {records:?}"));
    };
    let Outcome {
        status,
        upstream_status,
        ended,
        code,
        receipt,
        ..
    } = &**outcome;
    let receipt = receipt.as_ref().map(|receipt| receipt.receipt_id.as_str());
    let good = outcome.intent_seq == *intent_seq
        && *status == Some(expected.status)
        && *upstream_status == expected.upstream
        && *ended == expected.ended
        && code.as_deref().unwrap_or_default() == expected.code
        && receipt.is_some()
        && receipt == reply.header("x-clawgate-receipt");
    (!good).then(|| format!("recorded {outcome:?} of {:?}", reply.headers))
}

/// What clients send: refused in the client's own shape, recorded when the caller is known, and
/// nothing reaches the provider.
#[tokio::test]
async fn whatever_a_client_sends_is_refused_and_recorded() {
    let provider = Scripted::start().await;
    let rig = with(&provider).await;
    let second = rig.token(&rig.sandbox.job_id).await;
    let good = request(false).to_string();
    let post = |path: &str, body: &[u8]| {
        let call = rig
            .agent("POST", path)
            .header("content-type", "application/json");
        call.body(body)
    };
    let edit = |from: &str, to: &str| good.replacen(from, to, 1).into_bytes();
    let mut utf8 = good.clone().into_bytes();
    utf8[12] = 0xff;
    let mut failures = Vec::new();
    for (what, path, call, status, code, recorded) in [
        (
            "malformed JSON",
            CHAT,
            post(CHAT, b"{\"model\":"),
            400,
            "BODY_NOT_JSON",
            true,
        ),
        (
            "malformed JSON",
            MESSAGES,
            post(MESSAGES, b"nonsense"),
            400,
            "BODY_NOT_JSON",
            true,
        ),
        (
            "invalid UTF-8",
            CHAT,
            post(CHAT, &utf8),
            400,
            "BODY_NOT_JSON",
            true,
        ),
        ("nothing", CHAT, post(CHAT, b""), 400, "BODY_NOT_JSON", true),
        (
            "no model",
            CHAT,
            post(CHAT, b"{\"messages\":[]}"),
            400,
            "MODEL_MISSING",
            true,
        ),
        (
            "no model",
            MESSAGES,
            post(MESSAGES, b"{\"messages\":[]}"),
            400,
            "MODEL_MISSING",
            true,
        ),
        (
            "a model with a line end",
            CHAT,
            post(CHAT, &edit("a-model", "a\\r\\nx-evil: 1")),
            400,
            "BODY_WRONG_TYPE",
            true,
        ),
        (
            "the other API's path",
            CHAT,
            post("/openai/v1/messages", good.as_bytes()),
            403,
            "MODEL_SURFACE_NOT_ALLOWED",
            true,
        ),
        (
            "the other API's path",
            MESSAGES,
            post("/anthropic/v1/chat/completions", good.as_bytes()),
            403,
            "MODEL_SURFACE_NOT_ALLOWED",
            true,
        ),
        (
            "two credentials",
            MESSAGES,
            post(MESSAGES, good.as_bytes()).header("x-api-key", &second),
            401,
            "TOKEN_AMBIGUOUS",
            false,
        ),
        (
            "the token in the query",
            CHAT,
            rig.nobody("POST", &format!("{CHAT}?api_key={}", rig.sandbox.cst))
                .body(&*good),
            401,
            "TOKEN_MISSING",
            false,
        ),
        (
            "the token in the query too",
            CHAT,
            post(
                &format!("{CHAT}?api_key={}", rig.sandbox.cst),
                good.as_bytes(),
            ),
            400,
            "QUERY_UNKNOWN_KEY",
            true,
        ),
        (
            "a compressed body",
            CHAT,
            post(CHAT, good.as_bytes()).header("content-encoding", "gzip"),
            400,
            "HEADER_NOT_ALLOWED",
            true,
        ),
        (
            "a provider with a line end",
            CHAT,
            post(CHAT, good.as_bytes()).header("x-clawgate-provider", "openai%0d%0ax-evil: 1"),
            403,
            "MODEL_PROVIDER_NOT_ALLOWED",
            true,
        ),
    ] {
        let before = last_seq(&rig).await;
        let reply = call.send().await;
        let mut wrong = |why: String| failures.push(format!("{what}, {path}: {why}"));
        if reply.status != status {
            wrong(format!("is told {}", reply.whole));
        }
        if let Some(why) = shape(path, &reply, code) {
            wrong(why);
        }
        if reply.whole.contains(&rig.sandbox.cst) {
            wrong(format!("repeats the token: {}", reply.whole));
        }
        let left = records(&rig, before).await;
        let as_expected = match &left[..] {
            [] => !recorded,
            [(_, Body::Refusal(refusal))] => recorded && refusal.code == code,
            _ => false,
        };
        if !as_expected {
            wrong(format!("recorded {left:?}"));
        }
    }
    // A head that is no head has no reader of its own: the connection ends with a bare 400.
    let line = format!("POST {CHAT} HTTP/1.1\r\nhost: {{H}}\r\nauthorization: Bearer {{T}}\r\n");
    for field in [
        "x-a: b\rx-evil: 1",
        "x-a: b\0c",
        "x-clawgate-provider: openai\n x: y",
        "x-a b",
    ] {
        let before = last_seq(&rig).await;
        let text = format!(
            "{line}{field}\r\ncontent-length: {}\r\n\r\n{good}",
            good.len()
        );
        let reply = lossy(&rig.raw(&written(&rig, &text)).await);
        if !reply.starts_with("HTTP/1.1 400 ") || last_seq(&rig).await != before {
            failures.push(format!("{field:?}: {reply}"));
        }
    }
    assert_eq!(provider.requests(), 0, "something reached the provider");
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A body of exactly the limit reaches the provider as it was sent; of one byte more nothing does,
/// and where the length is announced nothing is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_unchanged_up_to_the_limit() {
    let provider = Scripted::start().await;
    let rig = with(&provider).await;
    provider.does(vec![say(json_head(2)), say("{}")]);
    let sized = |length: usize| {
        let frame = r#"{"model":"a-model","messages":[{"role":"user","content":""}]}"#;
        let text = "x".repeat(length - frame.len());
        frame
            .replacen("\"\"", &format!("\"{text}\""), 1)
            .into_bytes()
    };
    let largest = sized(LIMIT);
    assert_eq!(largest.len(), LIMIT);
    let hash = Hash::of(&largest);
    let before = last_seq(&rig).await;
    let call = rig
        .agent("POST", CHAT)
        .header("content-type", "application/json");
    let reply = call.clone().body(largest).send().await;
    assert_eq!(reply.status, 200, "{}", reply.whole);
    assert_eq!(provider.body(), Some((LIMIT, hash)));
    let left = records(&rig, before).await;
    let [(_, Body::Intent(intent)), (_, Body::Outcome(outcome))] = &left[..] else {
        panic!("{left:?}");
    };
    assert_eq!(intent.request_hash_b64u, hash);
    assert_eq!(outcome.response_hash_b64u, Hash::of(b"{}"));

    let refused = (413, "BODY_TOO_LARGE".to_owned());
    let head = |framing: &str| {
        written(
            &rig,
            &format!(
                "POST {CHAT} HTTP/1.1\r\nhost: {{H}}\r\nauthorization: Bearer {{T}}\r\n\
                 content-type: application/json\r\nconnection: close\r\n{framing}\r\n\r\n"
            ),
        )
    };
    // The announcement is enough: no byte of the body is ever sent.
    let answer = rig
        .raw(&head(&format!("content-length: {}", LIMIT + 1)))
        .await;
    assert_eq!(Reply::read(&answer).unwrap().refusal(), refused);
    let mut chunked = head("transfer-encoding: chunked");
    chunked.extend_from_slice(format!("{:x}\r\n", LIMIT + 1).as_bytes());
    chunked.extend_from_slice(&sized(LIMIT + 1));
    let answer = rig.raw(&chunked).await;
    assert_eq!(Reply::read(&answer).unwrap().refusal(), refused);
    assert_eq!(provider.requests(), 1);
    assert_eq!(rig.refusals(&rig.sandbox.job_id).await.len(), 2);
}
