//! The model lane: whose key, which model, which endpoint, and until when.

use clawgate::app::now;
use clawgate::clawscope;
use clawgate::demo::sandbox::OPERATOR;
use proof::record::{Body, Ended};
use proof::token::token_hash;
use serde_json::{Value, json};
use sim::{Fault, FaultAction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::poison::{Mischief, Poisoner};
use crate::rig::{HERE, Reply, Rig, address, lossy};

const CHAT: &str = "/openai/v1/chat/completions";

/// Two models of one provider, and a small budget.
fn narrow() -> String {
    let models = r#""models": { "providers": ["openai"], "allowed": ["gpt-standin", "text-*"], "max_calls": 3 },"#;
    policy::EXAMPLE_CONTRACT.replacen(
        "\"cst_constraints\"",
        &format!("{models}\n\"cst_constraints\""),
        1,
    )
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

fn code(reply: &Reply) -> (u16, String) {
    (
        reply.status,
        reply
            .header("x-clawgate-code")
            .unwrap_or_default()
            .to_owned(),
    )
}

#[tokio::test]
async fn only_what_the_contract_lists_is_asked() {
    let rig = Rig::under(&narrow()).await;
    let seen = rig.seen();
    let post = |path: &str, body: &str| {
        rig.agent("POST", path)
            .header("content-type", "application/json")
            .body(body)
    };
    let refused = |status, code: &str| (status, code.to_owned());
    let good = chat("gpt-standin").to_string();
    let edit = |from: &str, to: &str| good.replacen(from, to, 1);
    let mut failures = Vec::new();
    for (what, path, body, expected) in [
        (
            "another model",
            CHAT,
            chat("gpt-standin-mini").to_string(),
            (403, "MODEL_NOT_ALLOWED"),
        ),
        (
            "another case",
            CHAT,
            chat("GPT-standin").to_string(),
            (403, "MODEL_NOT_ALLOWED"),
        ),
        (
            "a glob",
            CHAT,
            chat("*").to_string(),
            (403, "MODEL_NOT_ALLOWED"),
        ),
        (
            "a longer name",
            CHAT,
            chat("gpt-standin ").to_string(),
            (400, "BODY_WRONG_TYPE"),
        ),
        (
            "a name with NUL",
            CHAT,
            chat("gpt-standin\u{0}").to_string(),
            (400, "BODY_WRONG_TYPE"),
        ),
        (
            "a long name",
            CHAT,
            chat(&"text-".repeat(100)).to_string(),
            (400, "BODY_WRONG_TYPE"),
        ),
        (
            "no model",
            CHAT,
            json!({"messages": []}).to_string(),
            (400, "MODEL_MISSING"),
        ),
        (
            "model null",
            CHAT,
            json!({"model": null}).to_string(),
            (400, "MODEL_MISSING"),
        ),
        (
            "two models",
            CHAT,
            json!({"model": ["gpt-standin"]}).to_string(),
            (400, "BODY_WRONG_TYPE"),
        ),
        (
            "model twice",
            CHAT,
            edit("{", r#"{"model":"gpt-4","#),
            (400, "BODY_NOT_JSON"),
        ),
        (
            "model by an escape",
            CHAT,
            edit("{", r#"{"mod\u0065l":"gpt-4","#),
            (400, "BODY_NOT_JSON"),
        ),
        (
            "Model",
            CHAT,
            edit("{", r#"{"Model":"gpt-4","#),
            (400, "BODY_NOT_JSON"),
        ),
        (
            "max_toKens",
            CHAT,
            edit("{", "{\"max_to\u{212a}ens\":1,"),
            (400, "BODY_UNKNOWN_MEMBER"),
        ),
        (
            "models",
            CHAT,
            edit("{", r#"{"models":["gpt-4"],"#),
            (400, "BODY_UNKNOWN_MEMBER"),
        ),
        (
            "fallbacks",
            CHAT,
            edit("{", r#"{"fallbacks":["gpt-4"],"#),
            (400, "BODY_UNKNOWN_MEMBER"),
        ),
        (
            "in the background",
            "/openai/v1/responses",
            edit("{", r#"{"background":true,"#),
            (400, "BODY_UNKNOWN_MEMBER"),
        ),
        (
            "not JSON",
            CHAT,
            "model=gpt-standin".into(),
            (400, "BODY_NOT_JSON"),
        ),
        (
            "BOM",
            CHAT,
            format!("\u{feff}{good}"),
            (400, "BODY_NOT_JSON"),
        ),
        (
            "two documents",
            CHAT,
            format!("{good}{good}"),
            (400, "BODY_NOT_JSON"),
        ),
        (
            "deep",
            CHAT,
            format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
            (400, "BODY_NOT_JSON"),
        ),
        (
            "another provider",
            "/anthropic/v1/messages",
            json!({"model": "claude-standin", "max_tokens": 9, "messages": []}).to_string(),
            (403, "MODEL_PROVIDER_NOT_ALLOWED"),
        ),
        (
            "another provider's count",
            "/anthropic/v1/messages/count_tokens",
            json!({"model": "claude-standin", "messages": []}).to_string(),
            (403, "MODEL_PROVIDER_NOT_ALLOWED"),
        ),
        (
            "files",
            "/openai/v1/files",
            "{}".into(),
            (403, "MODEL_SURFACE_NOT_ALLOWED"),
        ),
        (
            "assistants",
            "/openai/v1/assistants",
            good.clone(),
            (403, "MODEL_SURFACE_NOT_ALLOWED"),
        ),
        (
            "a longer path",
            "/openai/v1/chat/completions/x",
            good.clone(),
            (403, "MODEL_SURFACE_NOT_ALLOWED"),
        ),
        (
            "without a version",
            "/openai/chat/completions",
            good.clone(),
            (403, "MODEL_SURFACE_NOT_ALLOWED"),
        ),
        (
            "dots",
            "/openai/v1/chat/../chat/completions",
            good.clone(),
            (403, "MODEL_SURFACE_NOT_ALLOWED"),
        ),
        (
            "an escape",
            "/openai/v1/chat%2fcompletions",
            good.clone(),
            (403, "MODEL_SURFACE_NOT_ALLOWED"),
        ),
        (
            "a slash",
            "/openai/v1/chat/completions/",
            good.clone(),
            (403, "MODEL_SURFACE_NOT_ALLOWED"),
        ),
        (
            "a query",
            "/openai/v1/chat/completions?model=gpt-4",
            good.clone(),
            (400, "QUERY_UNKNOWN_KEY"),
        ),
    ] {
        let got = code(&post(path, &body).send().await);
        if got != refused(expected.0, expected.1) {
            failures.push(format!("{what}: {got:?}"));
        }
    }
    for (what, call, expected) in [
        (
            "a form",
            rig.agent("POST", CHAT)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(&*good),
            (415, "BODY_CONTENT_TYPE"),
        ),
        (
            "no type",
            rig.agent("POST", CHAT).body(&*good),
            (415, "BODY_CONTENT_TYPE"),
        ),
        (
            "a named provider",
            post(CHAT, &good).header("x-clawgate-provider", "anthropic"),
            (403, "MODEL_PROVIDER_NOT_ALLOWED"),
        ),
        (
            "an unknown provider",
            post(CHAT, &good).header("x-clawgate-provider", "http://203.0.113.1"),
            (403, "MODEL_PROVIDER_NOT_ALLOWED"),
        ),
        (
            "two named providers",
            post(CHAT, &good)
                .header("x-clawgate-provider", "openai")
                .header("x-clawgate-provider", "anthropic"),
            (403, "MODEL_PROVIDER_NOT_ALLOWED"),
        ),
        (
            "another method",
            rig.agent("GET", CHAT),
            (405, "METHOD_NOT_ALLOWED"),
        ),
        (
            "deleting a model",
            rig.agent("DELETE", "/openai/v1/models/gpt-standin"),
            (405, "METHOD_NOT_ALLOWED"),
        ),
        (
            "another model's description",
            rig.agent("GET", "/openai/v1/models/gpt-standin-mini"),
            (403, "MODEL_NOT_ALLOWED"),
        ),
    ] {
        let got = code(&call.send().await);
        if got != refused(expected.0, expected.1) {
            failures.push(format!("{what}: {got:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    rig.assert_silent(&seen, "a refused model call");

    let list = rig.agent("GET", "/openai/v1/models").send().await.ok();
    let names: Vec<&Value> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["id"])
        .collect();
    assert_eq!(names, ["gpt-standin", "text-embedding-standin"]);

    // The budget is the job's, whichever token and however many at once.
    let second = rig.token(&rig.sandbox.job_id).await;
    let calls = (0..8).map(|n| {
        let token = if n % 2 == 0 {
            &rig.sandbox.cst
        } else {
            &second
        };
        let call = rig
            .nobody("POST", CHAT)
            .bearer(token)
            .json(&chat("gpt-standin"));
        async move { code(&call.send().await) }
    });
    let mut answers = futures_util::future::join_all(calls).await;
    answers.sort();
    let (granted, exhausted) = answers.split_at(3);
    assert!(
        granted.iter().all(|(status, _)| *status == 200),
        "{answers:?}"
    );
    assert!(
        exhausted
            .iter()
            .all(|answer| *answer == (402, "MODEL_BUDGET_CALLS".into())),
        "{answers:?}"
    );
}

/// The key is ours alone: not the agent's header goes up, and the key does not come down.
#[tokio::test]
async fn the_key_is_never_seen() {
    let rig = Rig::start().await;
    let key = rig.sandbox.provider.key().to_owned();
    let call = rig.agent("POST", CHAT).json(&chat("gpt-standin"));
    let with_key = call.clone().header("x-api-key", &rig.sandbox.cst.clone());
    let headers = with_key
        .header("openai-organization", "org-other")
        .header("cookie", "session=1")
        .header("proxy-authorization", "Bearer x")
        .header("x-forwarded-for", "203.0.113.1")
        .header("forwarded", "for=203.0.113.1");
    let reply = headers.send().await;
    assert_eq!(reply.status, 200, "{}", reply.whole);
    let requests = rig.sandbox.provider.requests();
    assert_eq!(requests.last().unwrap().bearer.as_deref(), Some("key"));
    assert!(!reply.whole.contains(&key));

    let poisoner = Poisoner::before(address(&rig.sandbox.provider.url())).await;
    let url = format!("{}/v1", poisoner.url());
    let rig = rig.restarted(|config| {
        config
            .models
            .values_mut()
            .for_each(|provider| provider.url.clone_from(&url));
    });
    let rig = rig.await;
    let message = json!({"model": "claude-standin", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    for status in [200, 201, 400, 401, 403, 404, 407, 429, 500, 503] {
        for kind in ["application/json", "text/event-stream", "text/html"] {
            poisoner.set(Some(Mischief::Echo(status, kind)));
            for (path, body) in [
                (CHAT, chat("gpt-standin")),
                ("/anthropic/v1/messages", message.clone()),
            ] {
                let call = rig.agent("POST", path).json(&body);
                let mut stream = rig.connect(HERE).await;
                stream.write_all(&call.bytes()).await.unwrap();
                let mut answer = Vec::new();
                // It may be cut in the middle.
                let _ = stream.read_to_end(&mut answer).await;
                let answer = lossy(&answer);
                assert!(!answer.contains(&key), "{status} {kind} {path}: {answer}");
                assert!(!answer.contains("set-cookie"), "{answer}");
                assert!(!answer.contains("location:"), "{answer}");
            }
        }
    }
}

/// A stream ends at once when its token is revoked, and its record says why.
#[tokio::test]
async fn a_stream_is_cut_by_a_revocation() {
    let rig = Rig::start().await;
    let app = rig.app();
    let token = rig.token(&rig.sandbox.job_id).await;
    let provider = &rig.sandbox.provider;
    let held = provider.set_fault(Fault::once(
        "POST",
        "/v1/chat/completions",
        FaultAction::HoldMidway,
    ));
    let mut body = chat("gpt-standin");
    body["stream"] = json!(true);
    let call = rig.nobody("POST", CHAT).bearer(&token).json(&body);
    let mut stream = rig.connect(HERE).await;
    stream.write_all(&call.bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !lossy(&answer).contains("data: ") {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap();
        assert_ne!(read, 0, "{}", lossy(&answer));
        answer.extend_from_slice(&piece[..read]);
    }
    let hash = token_hash(&token);
    clawscope::revoke(&*app.store, &app.live, OPERATOR, &hash, "a test", now())
        .await
        .unwrap();
    // The provider still holds the rest; only the cut can end this.
    let _ = stream.read_to_end(&mut answer).await;
    let text = lossy(&answer);
    assert!(!text.contains("[DONE]"), "{text}");
    assert!(
        !text.ends_with("0\r\n\r\n"),
        "a cut stream must not look whole: {text}"
    );
    provider.release(&held.unwrap());
    let mut commits = app.store.commits();
    let ended = loop {
        let records = app
            .store
            .records(&rig.sandbox.job_id, 0, 1000)
            .await
            .unwrap();
        let outcome = records.into_iter().find_map(|row| match row.record.body {
            Body::Outcome(outcome) => Some(outcome.ended),
            _ => None,
        });
        match outcome {
            Some(ended) => break ended,
            None => commits.changed().await.unwrap(),
        }
    };
    assert_eq!(ended, Ended::CutByPolicy);
}
