//! Heads and lengths: what HTTP parsers read differently, and what never comes to an end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::flow::run_on;
use crate::rig::{HERE, Rig, lossy};
use crate::wire::{HEAD, statuses, written};

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
            "GET /api/v2/ping HTTP/1.1\rhost: {H}\rauthorization: Bearer {T}\r\r".to_owned(),
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
