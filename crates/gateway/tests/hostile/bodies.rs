//! JSON bodies: what parsers read differently, and what a Rails application might read into them.

use serde_json::json;

use crate::rig::Rig;

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
            text(r#"{"data":{"type":"runs","relationships":[]}}"#.to_owned()),
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
    let said = format!("line one line two (Clawgate {})", rig.sandbox.job_id);
    assert_eq!(attributes["message"], json!(said));
}
