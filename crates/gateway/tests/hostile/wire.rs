//! Bytes on the wire: what HTTP parsers read differently, what JSON parsers read differently, and
//! what a Rails application behind us might read into it.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::flow::run_on;
use crate::rig::{HERE, Reply, Rig, lossy};

/// A request with `{T}` for the token and `{H}` for our address; `\n` is written as it stands.
fn written(rig: &Rig, text: &str) -> Vec<u8> {
    let host = rig.sandbox.gateway.agent_url.trim_start_matches("http://");
    text.replace("{T}", &rig.sandbox.cst)
        .replace("{H}", host)
        .into_bytes()
}

/// The statuses of all answers in what came back.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    lossy(bytes)
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|answer| answer.get(2..5)?.parse().ok())
        .collect()
}

const HEAD: &str = "host: {H}\r\nauthorization: Bearer {T}\r\n";

#[tokio::test]
async fn paths_have_one_spelling() {
    let rig = Rig::start().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    let (run, plan) = (own.run.as_str(), own.plan.as_str());
    let seen = rig.seen();
    let mut failures = Vec::new();
    for (target, code) in [
        (format!("/api/v2/runs%2f{run}"), "PATH_PERCENT_ENCODED"),
        (
            format!("/api/v2/runs/{run}%2f..%2f..%2fworkspaces"),
            "PATH_PERCENT_ENCODED",
        ),
        (
            format!("/api/v2/runs/{run}/%2e%2e/{run}"),
            "PATH_PERCENT_ENCODED",
        ),
        (
            format!("/api/v2/runs/%72un-{}", &run[4..]),
            "PATH_PERCENT_ENCODED",
        ),
        (format!("/api/v2/runs/{run}%00"), "PATH_PERCENT_ENCODED"),
        (
            format!("/api/v2/runs/{run}%0d%0ax:%20y"),
            "PATH_PERCENT_ENCODED",
        ),
        (
            format!("/api/v2/runs/{run}%252fplan"),
            "PATH_PERCENT_ENCODED",
        ),
        (format!("/api/v2/runs/{run}%5c.."), "PATH_PERCENT_ENCODED"),
        (format!("/api/v2/./runs/{run}"), "PATH_DOT_SEGMENT"),
        (
            format!("/api/v2/workspaces/../runs/{run}"),
            "PATH_DOT_SEGMENT",
        ),
        (format!("/api/v2/runs/{run}/.."), "PATH_DOT_SEGMENT"),
        (format!("/api/v2//runs/{run}"), "PATH_EMPTY_SEGMENT"),
        (format!("//api/v2/runs/{run}"), ""),
        (format!("/api/v2/runs//{run}"), "PATH_EMPTY_SEGMENT"),
        (format!("/api/v2/runs/{run}/"), "PATH_TRAILING_SLASH"),
        (format!("/api/v2/runs/{run};x=1"), "PATH_PARAMETERS"),
        (format!("/api/v2/runs;x/{run}"), "PATH_PARAMETERS"),
        (format!("/api/v2/Runs/{run}"), "PATH_UPPER_CASE"),
        (format!("/api/V2/runs/{run}"), "PATH_UPPER_CASE"),
        (format!("/API/v2/runs/{run}"), "ROUTE_UNKNOWN"),
        (format!("/api/v2/runs/{run}.json"), "ID_MALFORMED"),
        (
            format!("/api/v2/plans/{plan}/json-output-redacted.json"),
            "PATH_FORMAT_SUFFIX",
        ),
        (
            format!("/api/v2/plans/{plan}/json-output"),
            "PLAN_JSON_DENIED",
        ),
        (
            format!("/api/v2/plans/{plan}/json-output?redacted"),
            "PLAN_JSON_DENIED",
        ),
        ("/api/v2/ping.xml".into(), "PATH_FORMAT_SUFFIX"),
        (
            format!("/api/v2/runs/{}", run.to_uppercase()),
            "ID_MALFORMED",
        ),
        (format!("/api/v2/runs/{plan}"), "ID_MALFORMED"),
        (format!("/api/v2/plans/{run}"), "ID_MALFORMED"),
        (format!("/api/v2/runs/{run}:plan"), "PATH_MALFORMED"),
        (format!("/api/v2/runs/{run}|plan"), "PATH_MALFORMED"),
        (format!("/api/v2/runs/{run}\\plan"), "PATH_MALFORMED"),
        (format!("/api/v2/runs/{run}\u{1}"), ""),
        (format!("/api/v2/runs/{run}\u{7f}"), ""),
        (format!("/api/v2/runs/{run}\u{ff0f}plan"), "PATH_MALFORMED"),
        (format!("/api/v2/runs/{run}?"), "QUERY_MALFORMED"),
        (
            format!("/api/v2/runs/{run}?_method=DELETE"),
            "QUERY_UNKNOWN_KEY",
        ),
        (format!("/api/v2/runs/{run}?include=outputs"), "QUERY_VALUE"),
        (
            format!("/api/v2/runs/{run}?include=created_by"),
            "QUERY_VALUE",
        ),
        (
            format!("/api/v2/runs/{run}?include=workspace.current_run"),
            "QUERY_VALUE",
        ),
        (
            format!("/api/v2/runs/{run}?include=plan&include=apply"),
            "QUERY_REPEATED_KEY",
        ),
        (
            format!("/api/v2/runs/{run}?include[]=plan"),
            "QUERY_UNKNOWN_KEY",
        ),
        (
            format!("/api/v2/runs/{run}?include=plan%2500"),
            "QUERY_MALFORMED",
        ),
        (
            format!("/api/v2/runs/{run}?data[attributes][auto-apply]=true"),
            "QUERY_UNKNOWN_KEY",
        ),
        (
            format!("/api/v2/runs/{}", "1".repeat(2100)),
            "PATH_TOO_LONG",
        ),
        (
            "/api/v2/workspaces/ws-staging-app/runs?page[size]=1000".into(),
            "QUERY_VALUE",
        ),
        (
            "/api/v2/workspaces/ws-staging-app/runs?search[user]=x".into(),
            "QUERY_UNKNOWN_KEY",
        ),
        ("/.well-known/terraform.json/".into(), "PATH_TRAILING_SLASH"),
        ("/.well-known/../api/v2/ping".into(), "PATH_DOT_SEGMENT"),
        ("/v1/job/../api/v2/ping".into(), "ROUTE_UNKNOWN"),
        ("/v1/job/receipts/../runs".into(), "RECEIPT_UNKNOWN"),
        ("/v1/job?x=1".into(), "QUERY_UNKNOWN_KEY"),
        (
            "/openai/v1/../api/v2/ping".into(),
            "MODEL_SURFACE_NOT_ALLOWED",
        ),
        ("/openai/v1/models/..".into(), "MODEL_SURFACE_NOT_ALLOWED"),
        ("/openai/v1/models/a/b".into(), "MODEL_SURFACE_NOT_ALLOWED"),
        (
            "/openai/v1/models/%2e%2e".into(),
            "MODEL_SURFACE_NOT_ALLOWED",
        ),
        ("/openai/v1/models/a?x=1".into(), "QUERY_UNKNOWN_KEY"),
        ("/openai//v1/models".into(), "MODEL_SURFACE_NOT_ALLOWED"),
        ("/openai/v1/Models".into(), "MODEL_SURFACE_NOT_ALLOWED"),
        ("/anthropic/v1/models/".into(), "MODEL_SURFACE_NOT_ALLOWED"),
    ] {
        let reply = rig
            .raw(&written(
                &rig,
                &format!("GET {target} HTTP/1.1\r\n{HEAD}connection: close\r\n\r\n"),
            ))
            .await;
        let statuses = statuses(&reply);
        let got = Reply::read(&reply).map(|reply| {
            reply
                .header("x-clawgate-code")
                .unwrap_or_default()
                .to_owned()
        });
        let refused = matches!(statuses[..], [400..=499]) || statuses.is_empty();
        // What hyper itself refuses has no code.
        let named = code.is_empty() || got.as_deref() == Some(code) || got.as_deref() == Some("");
        if !refused || !named {
            failures.push(format!("{target}: {}", lossy(&reply)));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    rig.assert_silent(&seen, "a strange path");
}

/// Each is answered once at most, never with success, and reaches nothing.
#[tokio::test]
async fn framing_has_one_reading() {
    let rig = Rig::start().await;
    let seen = rig.seen();
    let get = "GET /api/v2/workspaces/ws-staging-app HTTP/1.1\r\n";
    let post = "POST /api/v2/runs HTTP/1.1\r\n";
    let chat = "POST /openai/v1/chat/completions HTTP/1.1\r\ncontent-type: application/json\r\n";
    let run = run_on("ws-staging-app", None).to_string();
    let length = run.len();
    let inner = format!("GET /api/v2/workspaces/ws-staging-db HTTP/1.1\r\n{HEAD}\r\n");
    let model = r#"{"model":"gpt-5","messages":[]}"#;
    let chunk = format!("{:x}\r\n{model}\r\n0\r\n\r\n", model.len());
    let many: String = (0..100).map(|n| format!("x-h{n}: 1\r\n")).collect();
    let close = "connection: close\r\n";
    let mut failures = Vec::new();
    for (what, text) in [
        ("HTTP/0.9", "GET /api/v2/ping\r\n".to_owned()),
        (
            "HTTP/1.0",
            format!("GET /api/v2/ping HTTP/1.0\r\n{HEAD}\r\n"),
        ),
        (
            "HTTP/1.2",
            format!("GET /api/v2/ping HTTP/1.2\r\n{HEAD}\r\n"),
        ),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        (
            "http/1.1",
            format!("GET /api/v2/ping http/1.1\r\n{HEAD}\r\n"),
        ),
        (
            "no host",
            format!("{get}authorization: Bearer {{T}}\r\n{close}\r\n"),
        ),
        (
            "two hosts",
            format!("{get}{HEAD}host: app.terraform.io\r\n{close}\r\n"),
        ),
        (
            "an absolute target",
            format!("GET http://{{H}}/api/v2/ping HTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        (
            "an absolute target elsewhere",
            format!("GET https://app.terraform.io/api/v2/ping HTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        (
            "no path",
            format!("GET app.terraform.io HTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        ("a star", format!("GET * HTTP/1.1\r\n{HEAD}{close}\r\n")),
        (
            "OPTIONS *",
            format!("OPTIONS * HTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        (
            "CONNECT",
            format!("CONNECT app.terraform.io:443 HTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        (
            "CONNECT a path",
            format!("CONNECT /api/v2/ping HTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        (
            "TRACE",
            format!("TRACE /api/v2/ping HTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        (
            "a lower-case method",
            format!("get /api/v2/ping HTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        (
            "a long method",
            format!(
                "{} /api/v2/ping HTTP/1.1\r\n{HEAD}{close}\r\n",
                "A".repeat(500)
            ),
        ),
        (
            "an upgrade",
            format!("{get}{HEAD}upgrade: websocket\r\nconnection: upgrade\r\n\r\n"),
        ),
        (
            "h2c",
            format!(
                "{get}{HEAD}upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nconnection: upgrade, http2-settings\r\n\r\n"
            ),
        ),
        (
            "an odd expectation",
            format!("{get}{HEAD}expect: 200-ok\r\n{close}\r\n"),
        ),
        (
            "trailers announced",
            format!("{get}{HEAD}trailer: authorization\r\n{close}\r\n"),
        ),
        ("TE", format!("{get}{HEAD}te: deflate\r\n{close}\r\n")),
        (
            "a method override",
            format!(
                "{post}{HEAD}x-http-method-override: DELETE\r\n{close}content-length: 0\r\n\r\n"
            ),
        ),
        (
            "another override",
            format!("{post}{HEAD}x-method-override: DELETE\r\n{close}content-length: 0\r\n\r\n"),
        ),
        (
            "a rewritten URL",
            format!("{get}{HEAD}x-original-url: /api/v2/organizations\r\n{close}\r\n"),
        ),
        (
            "another rewritten URL",
            format!("{get}{HEAD}x-rewrite-url: /api/v2/organizations\r\n{close}\r\n"),
        ),
        (
            "a folded header",
            format!("{get}{HEAD}x-a: b\r\n c: d\r\n{close}\r\n"),
        ),
        (
            "a header with a space",
            format!("{get}{HEAD}x a: b\r\n{close}\r\n"),
        ),
        (
            "a space before the colon",
            format!("{get}host: {{H}}\r\nauthorization : Bearer {{T}}\r\n{close}\r\n"),
        ),
        (
            "a header without a name",
            format!("{get}{HEAD}: b\r\n{close}\r\n"),
        ),
        (
            "a header without a colon",
            format!("{get}{HEAD}authorization\r\n{close}\r\n"),
        ),
        (
            "NUL in a header",
            format!("{get}{HEAD}x-a: b\0c\r\n{close}\r\n"),
        ),
        (
            "a bare CR in a header",
            format!("{get}{HEAD}x-a: b\rc\r\n{close}\r\n"),
        ),
        (
            "a CR as line end",
            format!("GET /api/v2/ping HTTP/1.1\rhost: {{H}}\rauthorization: Bearer {{T}}\r\r"),
        ),
        (
            "a control byte in the line",
            format!("GET /api/v2/ping\u{b} HTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        (
            "a tab in the line",
            format!("GET\t/api/v2/ping\tHTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        (
            "two spaces in the line",
            format!("GET  /api/v2/ping HTTP/1.1\r\n{HEAD}{close}\r\n"),
        ),
        (
            "a huge head",
            format!("{get}{HEAD}x-a: {}\r\n{close}\r\n", "a".repeat(70 << 10)),
        ),
        (
            "a huge target",
            format!(
                "GET /{} HTTP/1.1\r\n{HEAD}{close}\r\n",
                "a".repeat(70 << 10)
            ),
        ),
        ("many headers", format!("{get}{HEAD}{many}{close}\r\n")),
        (
            "a body on GET",
            format!("{get}{HEAD}content-length: 4\r\n{close}\r\nabcd"),
        ),
        (
            "a chunked GET",
            format!("{get}{HEAD}transfer-encoding: chunked\r\n{close}\r\n0\r\n\r\n"),
        ),
        (
            "chunks for the API",
            format!(
                "{post}{HEAD}transfer-encoding: chunked\r\n{close}\r\n{length:x}\r\n{run}\r\n0\r\n\r\n"
            ),
        ),
        (
            "TE and CL",
            format!(
                "{post}{HEAD}transfer-encoding: chunked\r\ncontent-length: {length}\r\n\r\n{run}"
            ),
        ),
        (
            "CL and TE with a request behind",
            format!(
                "{chat}{HEAD}content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
                inner.len() + 5
            ),
        ),
        (
            "two lengths",
            format!("{post}{HEAD}content-length: {length}\r\ncontent-length: 0\r\n\r\n{run}"),
        ),
        (
            "a list of lengths",
            format!("{post}{HEAD}content-length: {length}, 0\r\n\r\n{run}"),
        ),
        (
            "a signed length",
            format!("{post}{HEAD}content-length: +{length}\r\n\r\n{run}"),
        ),
        (
            "a negative length",
            format!("{post}{HEAD}content-length: -1\r\n\r\n{run}"),
        ),
        (
            "a length in hexadecimal",
            format!("{post}{HEAD}content-length: 0x10\r\n\r\n{run}"),
        ),
        (
            "a length with junk",
            format!("{post}{HEAD}content-length: {length}abc\r\n\r\n{run}"),
        ),
        (
            "an empty length",
            format!("{post}{HEAD}content-length: \r\n\r\n{run}"),
        ),
        (
            "an impossible length",
            format!("{post}{HEAD}content-length: 99999999999999999999\r\n\r\n{run}"),
        ),
        (
            "identity",
            format!("{chat}{HEAD}transfer-encoding: identity\r\n{close}\r\n{model}"),
        ),
        (
            "chunked twice",
            format!(
                "{chat}{HEAD}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n{close}\r\n{chunk}"
            ),
        ),
        (
            "chunked, then not",
            format!("{chat}{HEAD}transfer-encoding: chunked, identity\r\n{close}\r\n{chunk}"),
        ),
        (
            "packed and chunked",
            format!("{chat}{HEAD}transfer-encoding: gzip, chunked\r\n{close}\r\n{chunk}"),
        ),
        (
            "nearly chunked",
            format!("{chat}{HEAD}transfer-encoding: xchunked\r\n{close}\r\n{chunk}"),
        ),
        (
            "quoted chunked",
            format!("{chat}{HEAD}transfer-encoding: \"chunked\"\r\n{close}\r\n{chunk}"),
        ),
        (
            "a chunk of impossible size",
            format!(
                "{chat}{HEAD}transfer-encoding: chunked\r\n{close}\r\nFFFFFFFFFFFFFFFFF\r\n{model}\r\n0\r\n\r\n"
            ),
        ),
        (
            "a chunk of negative size",
            format!(
                "{chat}{HEAD}transfer-encoding: chunked\r\n{close}\r\n-5\r\n{model}\r\n0\r\n\r\n"
            ),
        ),
        (
            "a chunk size with a prefix",
            format!(
                "{chat}{HEAD}transfer-encoding: chunked\r\n{close}\r\n0x5\r\n{model}\r\n0\r\n\r\n"
            ),
        ),
        (
            "a chunk without an end",
            format!(
                "{chat}{HEAD}transfer-encoding: chunked\r\n{close}\r\n{:x}\r\n{model}0\r\n\r\n",
                model.len()
            ),
        ),
        (
            "a chunk that is too short",
            format!(
                "{chat}{HEAD}transfer-encoding: chunked\r\n{close}\r\n3\r\n{model}\r\n0\r\n\r\n"
            ),
        ),
        (
            "a huge chunk extension",
            format!(
                "{chat}{HEAD}transfer-encoding: chunked\r\n{close}\r\n5;{}\r\n{model}\r\n0\r\n\r\n",
                "a".repeat(70 << 10)
            ),
        ),
        (
            "a packed body",
            format!(
                "{chat}{HEAD}content-encoding: gzip\r\ncontent-length: {}\r\n{close}\r\n{model}",
                model.len()
            ),
        ),
        (
            "a token after the body",
            format!(
                "{chat}host: {{H}}\r\ntransfer-encoding: chunked\r\n{close}\r\n{:x}\r\n{model}\r\n0\r\nauthorization: Bearer {{T}}\r\n\r\n",
                model.len()
            ),
        ),
        (
            "a second token in a folded line",
            format!("{get}host: {{H}}\r\nauthorization: Bearer\r\n {{T}}\r\n{close}\r\n"),
        ),
    ] {
        let bytes = written(&rig, &text);
        let mut stream = rig.connect(HERE).await;
        let _ = stream.write_all(&bytes).await;
        // Half of a request is followed by the end of the stream, never by waiting.
        if !text.contains(close) {
            let _ = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let got = statuses(&answer);
        if !matches!(got[..], [] | [400..=499] | [505]) {
            failures.push(format!("{what}: {}", lossy(&answer)));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    rig.assert_silent(&seen, "an ambiguous request");
}

/// Pipelined requests are requests of their own, each with its own credential.
#[tokio::test]
async fn a_connection_remembers_nobody() {
    let rig = Rig::start().await;
    let one = format!("GET /v1/job HTTP/1.1\r\n{HEAD}\r\n");
    let bare = "GET /v1/job HTTP/1.1\r\nhost: {H}\r\n\r\n";
    let last = "GET /v1/job HTTP/1.1\r\nhost: {H}\r\nconnection: close\r\n\r\n";
    let answer = rig
        .raw(&written(&rig, &format!("{one}{bare}{one}{last}")))
        .await;
    assert_eq!(
        statuses(&answer),
        [200, 401, 200, 401],
        "{}",
        lossy(&answer)
    );

    // A body that says it is shorter than it is: the rest is a request without a credential.
    let seen = rig.seen();
    let body = run_on("ws-production-app", None).to_string();
    let behind =
        "GET /api/v2/workspaces/ws-staging-app HTTP/1.1\r\nhost: {H}\r\nconnection: close\r\n\r\n";
    let text = format!(
        "POST /api/v2/runs HTTP/1.1\r\n{HEAD}content-length: {}\r\n\r\n{body}{behind}",
        body.len()
    );
    let answer = rig.raw(&written(&rig, &text)).await;
    assert_eq!(statuses(&answer), [403, 401], "{}", lossy(&answer));
    rig.assert_silent(&seen, "a pipelined request");

    // Chunks and a length: whoever reads the length sees a request behind the chunks.
    let inner = lossy(&written(&rig, &one));
    for length in [5, 5 + inner.len()] {
        let text = format!(
            "POST /openai/v1/chat/completions HTTP/1.1\r\n{HEAD}content-type: application/json\r\n\
             content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
        );
        let answer = rig.raw(&written(&rig, &text)).await;
        assert_eq!(statuses(&answer), [400], "{}", lossy(&answer));
    }

    // A request in the body of a request that takes none is a body, and nothing else.
    let inner = format!("GET /v1/job HTTP/1.1\r\n{HEAD}\r\n");
    let inner = lossy(&written(&rig, &inner));
    let text = format!(
        "GET /v1/job HTTP/1.1\r\n{HEAD}content-length: {}\r\n\r\n{inner}{last}",
        inner.len()
    );
    let answer = rig.raw(&written(&rig, &text)).await;
    assert_eq!(statuses(&answer), [400, 401], "{}", lossy(&answer));
}

/// Bodies that two readers could read differently, or that ask for more than is documented.
#[tokio::test]
async fn bodies_have_one_reading() {
    let rig = Rig::start().await;
    let configuration = rig.uploaded(&rig.sandbox.cst, "ws-staging-app").await;
    let relations = format!(
        r#""relationships":{{"workspace":{{"data":{{"type":"workspaces","id":"ws-staging-app"}}}},"configuration-version":{{"data":{{"type":"configuration-versions","id":"{configuration}"}}}}}}"#
    );
    let with = |attributes: &str| {
        format!(r#"{{"data":{{"type":"runs","attributes":{{{attributes}}},{relations}}}}}"#)
    };
    let good = with("");
    let deep = |open: &str, close: &str| {
        with(&format!(
            r#""message":{}1{}"#,
            open.repeat(2000),
            close.repeat(2000)
        ))
    };
    let edit = |from: &str, to: &str| {
        let edited = good.replacen(from, to, 1);
        assert_ne!(edited, good, "{from}");
        edited
    };
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut invalid = good.clone().into_bytes();
    invalid[3] = 0xff;
    let mut bom = vec![0xef, 0xbb, 0xbf];
    bom.extend_from_slice(good.as_bytes());
    let seen = rig.seen();
    let mut failures = Vec::new();
    let text = |text: String| text.into_bytes();
    for (what, body) in [
        ("nothing", Vec::new()),
        ("null", text("null".into())),
        ("a string", text("\"runs\"".into())),
        ("an array", text(format!("[{good}]"))),
        (
            "a form",
            text("data[type]=runs&data[attributes][auto-apply]=true&_method=PATCH".into()),
        ),
        ("BOM", bom),
        ("UTF-16", utf16),
        ("invalid UTF-8", invalid),
        ("two documents", text(format!("{good}{good}"))),
        ("trailing text", text(format!("{good};"))),
        ("a comment", text(format!("/* */{good}"))),
        ("a trailing comma", text(edit("}}}}", "}}},}"))),
        ("single quotes", text(good.replace('"', "'"))),
        ("deep arrays", text(deep("[", "]"))),
        ("deep objects", text(deep("{\"a\":", "}"))),
        ("a huge number", text(with(r#""message":1e999999"#))),
        (
            "a large number",
            text(with(r#""message":99999999999999999999999"#)),
        ),
        ("a fraction", text(with(r#""message":1.5"#))),
        ("NaN", text(with(r#""message":NaN"#))),
        ("Infinity", text(with(r#""message":-Infinity"#))),
        ("a lone surrogate", text(with(r#""message":"\ud800""#))),
        ("a control byte", text(with("\"message\":\"a\u{1}b\""))),
        (
            "data twice",
            text(edit(r#"{"data""#, r#"{"data":{},"data""#)),
        ),
        (
            "type twice",
            text(edit(r#""type":"runs""#, r#""type":"vars","type":"runs""#)),
        ),
        (
            "attributes twice",
            text(edit(
                r#""attributes":{}"#,
                r#""attributes":{"auto-apply":true},"attributes":{}"#,
            )),
        ),
        (
            "an attribute twice",
            text(with(r#""auto-apply":false,"auto-apply":true"#)),
        ),
        (
            "relationships twice",
            text(edit(
                r#""relationships""#,
                r#""relationships":{},"relationships""#,
            )),
        ),
        (
            "workspace twice",
            text(edit(
                r#""workspace":"#,
                r#""workspace":{"data":{"type":"workspaces","id":"ws-production-app"}},"workspace":"#,
            )),
        ),
        (
            "an id twice",
            text(edit(
                r#""id":"ws-staging-app""#,
                r#""id":"ws-production-app","id":"ws-staging-app""#,
            )),
        ),
        (
            "twice by an escape",
            text(with(r#""auto-apply":false,"auto\u002dapply":true"#)),
        ),
        (
            "both spellings",
            text(with(r#""auto-apply":false,"auto_apply":true"#)),
        ),
        (
            "both spellings of a relation",
            text(edit(
                r#""configuration-version":"#,
                r#""configuration_version":{"data":null},"configuration-version":"#,
            )),
        ),
        (
            "two workspaces",
            text(edit(
                r#"{"type":"workspaces","id":"ws-staging-app"}"#,
                r#"[{"type":"workspaces","id":"ws-staging-app"}]"#,
            )),
        ),
        (
            "data as an array",
            text(format!(r#"{{"data":[{}]}}"#, &good[8..good.len() - 1])),
        ),
        (
            "attributes as an array",
            text(edit(r#""attributes":{}"#, r#""attributes":[]"#)),
        ),
        (
            "relationships as an array",
            text(format!(
                r#"{{"data":{{"type":"runs","relationships":[]}}}}"#
            )),
        ),
        (
            "another type",
            text(edit(r#""type":"runs""#, r#""type":"workspaces""#)),
        ),
        (
            "the type in upper case",
            text(edit(r#""type":"runs""#, r#""type":"Runs""#)),
        ),
        ("no type", text(edit(r#""type":"runs","#, ""))),
        (
            "another type of workspace",
            text(edit(r#""type":"workspaces""#, r#""type":"projects""#)),
        ),
        (
            "an id for the run",
            text(edit(r#""type":"runs""#, r#""type":"runs","id":"run-1""#)),
        ),
        (
            "lid",
            text(edit(r#""type":"runs""#, r#""type":"runs","lid":"a""#)),
        ),
        (
            "lid of the workspace",
            text(edit(
                r#""id":"ws-staging-app""#,
                r#""lid":"ws-staging-app""#,
            )),
        ),
        (
            "links",
            text(edit(r#""type":"runs""#, r#""type":"runs","links":{}"#)),
        ),
        ("meta", text(edit(r#"{"data""#, r#"{"meta":{},"data""#))),
        (
            "included",
            text(edit(r#"{"data""#, r#"{"included":[],"data""#)),
        ),
        (
            "jsonapi",
            text(edit(r#"{"data""#, r#"{"jsonapi":{},"data""#)),
        ),
        (
            "atomic operations",
            text(edit(r#"{"data""#, r#"{"atomic:operations":[],"data""#)),
        ),
        (
            "another relation",
            text(edit(
                r#""workspace":"#,
                r#""organization":{"data":null},"workspace":"#,
            )),
        ),
        ("an unknown attribute", text(with(r#""surprise":true"#))),
        (
            "an unknown attribute, null",
            text(with(r#""surprise":null"#)),
        ),
        (
            "a setting of the workspace",
            text(with(r#""execution-mode":"local""#)),
        ),
        (
            "a truth value as text",
            text(with(r#""auto-apply":"true""#)),
        ),
        ("a truth value as number", text(with(r#""auto-apply":1"#))),
        ("a message as an object", text(with(r#""message":{"a":1}"#))),
        ("targets as text", text(with(r#""target-addrs":"a.b""#))),
        ("an empty apply", text(with(r#""allow-empty-apply":true"#))),
        ("debugging", text(with(r#""debugging-mode":true"#))),
        (
            "debugging, other spelling",
            text(with(r#""debugging_mode":true"#)),
        ),
        ("destruction", text(with(r#""is-destroy":true"#))),
        ("targets", text(with(r#""target-addrs":["a.b"]"#))),
        ("replacement", text(with(r#""replace-addrs":["a.b"]"#))),
        ("refresh only", text(with(r#""refresh-only":true"#))),
        (
            "actions",
            text(with(r#""invoke-action-addrs":["action.a"]"#)),
        ),
        (
            "another Terraform",
            text(with(r#""terraform-version":"0.12.0""#)),
        ),
        (
            "policies of one's own",
            text(with(r#""policy-paths":["a"]"#)),
        ),
        (
            "generated configuration",
            text(with(r#""allow-config-generation":true"#)),
        ),
        (
            "variables",
            text(with(
                r#""variables":[{"key":"TF_LOG","value":"\"TRACE\""}]"#,
            )),
        ),
        (
            "a variable twice",
            text(with(
                r#""variables":[{"key":"a","value":"1"},{"key":"a","value":"2"}]"#,
            )),
        ),
        (
            "a variable with more",
            text(with(
                r#""variables":[{"key":"a","value":"1","category":"env"}]"#,
            )),
        ),
        (
            "too many variables",
            text(with(&format!(
                r#""variables":[{}]"#,
                (0..300)
                    .map(|n| format!(r#"{{"key":"k{n}","value":"1"}}"#))
                    .collect::<Vec<_>>()
                    .join(",")
            ))),
        ),
        (
            "a workspace by name",
            text(edit("ws-staging-app", "staging-app")),
        ),
        (
            "a workspace with a path",
            text(edit(
                "ws-staging-app",
                "ws-staging-app/../ws-production-app",
            )),
        ),
        (
            "a workspace with a query",
            text(edit("ws-staging-app", "ws-staging-app?x=1")),
        ),
        (
            "a large body",
            text(with(&format!(r#""message":"{}""#, "a".repeat(1 << 20)))),
        ),
    ] {
        let reply = rig.agent("POST", "/api/v2/runs").body(body).send().await;
        let (status, code) = reply.refusal();
        if !(400..500).contains(&status) || status == 429 || code.is_empty() {
            failures.push(format!("{what}: {}", reply.whole));
        }
    }
    // What is recorded of a call is short, however long the call is.
    for name in [
        "a".repeat(129),
        "a\nb".into(),
        "a b".into(),
        "\u{202e}".into(),
        String::new(),
    ] {
        let variable = json!([{"key": name, "value": "1"}]);
        let body = with(&format!(r#""variables":{variable}"#));
        let refused = rig
            .agent("POST", "/api/v2/runs")
            .body(body)
            .send()
            .await
            .refusal();
        assert_eq!(refused, (400, "BODY_WRONG_TYPE".to_owned()), "{name}");
    }
    // The same reader stands before every other body.
    let open = "/api/v2/workspaces/ws-staging-app/configuration-versions";
    let discard = "/api/v2/runs/run-1/actions/discard";
    for (path, body) in [
        (
            open,
            r#"{"data":{"type":"configuration-versions","attributes":{"auto-queue-runs":true,"auto-queue-runs":false}}}"#,
        ),
        (
            open,
            r#"{"data":{"type":"configuration-versions","attributes":{"auto-queue-runs":false,"auto_queue_runs":true}}}"#,
        ),
        (
            open,
            r#"{"data":{"type":"configuration-versions","attributes":{"upload-url":"http://203.0.113.1"}}}"#,
        ),
        (
            open,
            r#"{"data":{"type":"configuration-versions","relationships":{"ingress-attributes":{"data":null}}}}"#,
        ),
        (open, r#"{"data":{"type":"runs"}}"#),
        (open, r#"{"data":[]}"#),
        (discard, r#"{"comment":"a","comment":"b"}"#),
        (discard, r#"{"comment":["a"]}"#),
        (discard, r#"{"force":true}"#),
        (discard, r#"[]"#),
    ] {
        let reply = rig.agent("POST", path).body(body).send().await;
        if !(400..500).contains(&reply.status) {
            failures.push(format!("{path} {body}: {}", reply.whole));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    rig.assert_silent(&seen, "a strange body");
    // What is left of an honest one goes up rebuilt, and applies nothing by itself.
    let wish = with(r#""auto_apply":true,"message":"line one\nline\u0000two\u202e""#);
    let created = rig.agent("POST", "/api/v2/runs").body(wish).send().await;
    assert_eq!(created.status, 201, "{}", created.whole);
    let requests = rig.sandbox.cloud.requests();
    let sent = requests
        .iter()
        .find(|request| request.method == "POST" && request.path == "/api/v2/runs");
    let Some(sim::LoggedBody::Json(sent)) = &sent.unwrap().body else {
        panic!("no body")
    };
    let attributes = &sent["data"]["attributes"];
    assert_eq!(attributes["auto-apply"], json!(false));
    assert_eq!(attributes.get("auto_apply"), None);
    assert_eq!(attributes["message"], json!("line one line two "));
}

/// A request's head must be complete in time, and its body too: whoever dawdles is hung up on.
/// That the test ends is what it shows.
#[tokio::test]
async fn dawdlers_are_hung_up_on() {
    let rig = Rig::start().await.restarted(|config| {
        config.limits.header_timeout_seconds = 1;
        config.limits.body_timeout_seconds = 1;
    });
    let rig = rig.await;
    let seen = rig.seen();
    let (_, upload) = rig.open(&rig.sandbox.cst, "ws-staging-app").await;
    let reached = rig.reached_since(&seen).len();
    let head = |line: &str| {
        format!(
            "{line} HTTP/1.1\r\n{HEAD}content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
        )
    };
    let texts = [
        String::new(),
        "GET /api/v2/ping HTTP/1.1\r\nhost: {H}\r\n".to_owned(),
        format!("GET /v1/job HTTP/1.1\r\n{HEAD}\r\n"),
        head("POST /api/v2/runs"),
        head("POST /openai/v1/chat/completions"),
        head("POST /api/v2/workspaces/ws-staging-app/configuration-versions"),
        head(&format!("PUT {upload}")),
    ];
    let waiting = texts.iter().map(|text| async {
        let bytes = written(&rig, text);
        rig.raw(&bytes).await
    });
    for (text, answer) in texts
        .iter()
        .zip(futures_util::future::join_all(waiting).await)
    {
        let got = statuses(&answer);
        assert!(
            matches!(got[..], [] | [200] | [400..=499]),
            "{text}: {}",
            lossy(&answer)
        );
    }
    assert_eq!(rig.reached_since(&seen).len(), reached);
}
