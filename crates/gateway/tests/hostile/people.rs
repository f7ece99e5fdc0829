//! The operator listener: what an agent, a web page or a careless client could send there.

use clawgate::operator::credential::Access;
use clawgate::operator::routes;
use serde_json::json;

use crate::rig::{Call, Rig, unsigned};

const HOSTILE_NAME: &str =
    "\"><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}' onmouseover='a";

fn filled(path: &str, job: &str) -> String {
    path.replace("{hash}", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")
        .replace("{name}", "terraform-cloud-staging-only")
        .replace("{run_id}", "run-1")
        .replace("{id}", job)
}

/// Every route that takes a body, with bodies that it must not take. Nothing is changed.
#[tokio::test]
async fn bodies_are_read_strictly_or_not_at_all() {
    let rig = Rig::start().await;
    let store = &rig.app().store;
    let before = store.operator_actions(1000).await.unwrap();
    let known = |text: &str| ("application/json", text.as_bytes().to_vec());
    let mut large = vec![b' '; 1 << 20];
    large.extend_from_slice(b"{}");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: Vec<(&str, (&str, Vec<u8>))> = vec![
        ("nothing", known("")),
        ("unknown members", known(r#"{"zz": 1}"#)),
        ("null", known("null")),
        ("an array", known("[]")),
        ("BOM", known("\u{feff}{}")),
        ("trailing data", known("{} {}")),
        ("twice", known(r#"{"reason":"a","reason":"b"}"#)),
        ("deep", known(&deep)),
        ("large", ("application/json", large)),
        ("text", ("text/plain", br#"{"reason":"a"}"#.to_vec())),
        ("no type", ("", br#"{"reason":"a"}"#.to_vec())),
        (
            "a web form",
            ("multipart/form-data; boundary=x", b"--x--".to_vec()),
        ),
        (
            "another type",
            ("application/vnd.api+json", br#"{"reason":"a"}"#.to_vec()),
        ),
    ];
    let mut failures = Vec::new();
    let job = rig.job().await;
    let opened = store.operator_actions(1000).await.unwrap().len() - before.len();
    for route in routes().iter().filter(|route| route.method == "POST") {
        let path = filled(route.path, job.as_str());
        for (what, (kind, body)) in &bodies {
            let call = rig
                .operator("POST", &path)
                .header("content-type", kind)
                .body(body.clone());
            let reply = call.send().await;
            let (status, code) = reply.refusal();
            if !(400..500).contains(&status) || code.is_empty() {
                failures.push(format!("{path} with {what}: {}", reply.whole));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    let after = store.operator_actions(1000).await.unwrap();
    assert_eq!(after.len(), before.len() + opened, "{after:#?}");
}

/// What a browser sends by itself opens no route: no cookie, no password, no form.
#[tokio::test]
async fn a_browser_cannot_be_made_to_act() {
    use base64::Engine as _;
    let rig = Rig::start().await;
    let pair = format!("me:{}", rig.sandbox.operator_token);
    let basic = base64::engine::general_purpose::STANDARD.encode(pair);
    let basic = format!("Basic {basic}");
    let actions = rig.app().store.operator_actions(1000).await.unwrap();
    // A one-time link is its own credential, which no foreign page knows.
    let guarded = |access| !matches!(access, Access::Public | Access::Link);
    for route in routes().iter().filter(|route| guarded(route.access)) {
        let path = filled(route.path, rig.sandbox.job_id.as_str());
        let call = rig
            .visitor(route.method, &path)
            .header("origin", "http://evil.example")
            .header("cookie", &format!("token={}", rig.sandbox.operator_token))
            .header("content-type", "application/json");
        let call = if route.method == "POST" {
            call.body(r#"{"reason":"a"}"#)
        } else {
            call
        };
        for call in [call.clone(), call.header("authorization", &basic)] {
            let reply = call.send().await;
            let expected = match route.access {
                Access::Signed => unsigned(route.path),
                _ => (401, "OPERATOR_CREDENTIAL_MISSING".into()),
            };
            assert_eq!(reply.refusal(), expected, "{path}");
            assert_eq!(reply.header("access-control-allow-origin"), None);
        }
    }
    assert_eq!(
        rig.app().store.operator_actions(1000).await.unwrap(),
        actions
    );
}

#[tokio::test]
async fn paths_lead_to_bundles_and_nowhere_else() {
    let rig = Rig::start().await;
    let close = format!("/v1/jobs/{}/close", rig.sandbox.job_id);
    rig.operator("POST", &close)
        .json(&json!({"reason": "a test"}))
        .send()
        .await
        .ok();
    let folder = rig.app().config.bundles_dir();
    std::fs::write(folder.join("secret.json"), "TOPSECRET").unwrap();
    std::fs::write(folder.join("job_secret.json"), "TOPSECRET").unwrap();
    let good = format!("/v1/jobs/{}/bundle", rig.sandbox.job_id);
    rig.operator("GET", &good).send().await.ok();
    for id in [
        "..",
        ".",
        "%2e%2e",
        "..%2f..%2fkeys%2fjobs.key",
        "%2fetc%2fpasswd",
        "secret",
        "job_secret",
        "job_secret.json",
        "job_%2e%2e",
        "job_..%2f..%2fkeys",
        "job_a%00",
        "job_%ff",
        "job_a\\..\\b",
        "job_a;x",
        &format!("job_{}", "a".repeat(300)),
        "",
        "*",
        "JOB_SECRET",
        &format!("{}%20", rig.sandbox.job_id),
        &format!("%20{}", rig.sandbox.job_id),
        &format!("{}%0a", rig.sandbox.job_id),
    ] {
        for path in [
            format!("/v1/jobs/{id}/bundle"),
            format!("/trust-pulse/jobs/{id}/bundle.json"),
            format!("/trust-pulse/jobs/{id}"),
            format!("/v1/jobs/{id}/records"),
        ] {
            let reply = rig.operator("GET", &path).send().await;
            assert!(
                (400..500).contains(&reply.status),
                "{path}: {}",
                reply.whole
            );
            assert!(!reply.whole.contains("TOPSECRET"), "{path}");
            assert!(!reply.whole.contains("PRIVATE"), "{path}");
        }
    }
}

/// Names that people give are text on the pages, whatever is in them.
#[tokio::test]
async fn pages_show_names_as_text() {
    let rig = Rig::start().await;
    let body = json!({"name": HOSTILE_NAME, "policy_hash_b64u": rig.sandbox.policy_hash});
    let opened = rig
        .operator("POST", "/v1/jobs")
        .json(&body)
        .send()
        .await
        .ok();
    let job = opened["job_id"].as_str().unwrap().to_owned();
    // An agent's words: a run's message, a refused path, a model's name.
    let token = rig.token(&job.parse().unwrap()).await;
    let model = json!({"model": "<script>alert(3)</script>", "messages": []});
    let chat = rig
        .nobody("POST", "/openai/v1/chat/completions")
        .bearer(&token)
        .json(&model);
    chat.send().await;
    rig.nobody("GET", "/api/v2/<script>")
        .bearer(&token)
        .send()
        .await;
    let reason = json!({"reason": HOSTILE_NAME});
    rig.operator("POST", &format!("/v1/jobs/{job}/close"))
        .json(&reason)
        .send()
        .await
        .ok();
    for path in [
        "/trust-pulse/".to_owned(),
        format!("/trust-pulse/jobs/{job}"),
    ] {
        let page = rig.visitor("GET", &path).send().await;
        assert_eq!(page.status, 200, "{}", page.whole);
        let text = page.text();
        assert!(text.contains("alert(1)"), "the name is shown: {text}");
        for raw in [
            "<script",
            "<img src=x",
            "onerror=alert(2)>",
            "' onmouseover='",
            "\"><",
        ] {
            let harmless = text.replace("\"><!", "").replace("\"><style", "");
            let shown = match raw {
                // Markup of our own has this sequence; the name's would be followed by the script.
                "\"><" => harmless.contains("\"><script"),
                raw => harmless.contains(raw),
            };
            assert!(!shown, "{path} has {raw}: {text}");
        }
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    }
}

/// A foreign page may point its own name at this machine; open pages are for our names only.
#[tokio::test]
async fn open_pages_answer_to_this_machine_only() {
    let rig = Rig::start().await;
    let page = |host: &str| rig.visitor("GET", "/trust-pulse/").header("host", host);
    for good in [
        "localhost",
        "localhost:8788",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.9.9.9",
        "[::1]:80",
    ] {
        assert_eq!(page(good).send().await.status, 200, "{good}");
    }
    for bad in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8788",
        "evil.example@127.0.0.1",
        "127.0.0.1@evil.example",
        "0.0.0.0",
        "10.0.0.1",
        "[::]",
        "2130706433",
        "0x7f000001",
        "127.1",
        "localhost.",
        "LOCALHOST.evil.example",
        "",
    ] {
        let reply = page(bad).send().await;
        assert!(
            reply.status == 401 || reply.status == 400,
            "{bad}: {}",
            reply.whole
        );
    }
    let twice: Call = page("127.0.0.1").header("host", "evil.example");
    let reply = twice.send().await;
    assert!(
        reply.status == 401 || reply.status == 400,
        "two hosts: {}",
        reply.whole
    );
    let absolute = rig
        .visitor("GET", "http://evil.example/trust-pulse/")
        .header("host", "127.0.0.1");
    let reply = absolute.send().await;
    assert!(
        reply.status == 401 || reply.status == 400,
        "another target: {}",
        reply.whole
    );
    // Open pages do not open the API.
    for path in [
        "/v1/jobs",
        "/v1/trust",
        "/v1/log/checkpoint",
        "/v1/contracts",
        "/v1/approvals",
    ] {
        let reply = rig
            .visitor("GET", path)
            .header("host", "127.0.0.1")
            .send()
            .await;
        assert_eq!(
            reply.refusal(),
            (401, "OPERATOR_CREDENTIAL_MISSING".into()),
            "{path}"
        );
    }
    // Closed, they ask everybody.
    let rig = rig
        .restarted(|config| config.trust_pulse.open = false)
        .await;
    let reply = rig.visitor("GET", "/trust-pulse/").send().await;
    assert_eq!(reply.status, 401);
    let reply = rig
        .visitor("GET", "/trust-pulse/")
        .bearer(&rig.sandbox.cst)
        .send()
        .await;
    assert_eq!(reply.refusal(), (401, "TOKEN_WRONG_LISTENER".into()));
}
