//! Whole answers, and errors of the provider.

use std::sync::atomic::{AtomicBool, Ordering};

use proof::record::{Ended, Usage};

use super::*;

const CHAT: &str = r#"{"model":"gpt-5","messages":[{"role":"user","content":"hi"}]}"#;
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

#[tokio::test]
async fn answers_pass_byte_for_byte_and_are_read() {
    for (path, request, answer, upstream, usage) in [
        (
            "/openai/v1/chat/completions",
            CHAT,
            "{ \"choices\":[],\n \"usage\":{\"prompt_tokens\":9,\"completion_tokens\":12} }\n",
            "/v1/chat/completions",
            Some((9, 12)),
        ),
        (
            "/openai/v1/responses",
            r#"{"model":"gpt-5","input":"hi"}"#,
            r#"{"output":[],"usage":{"input_tokens":3,"output_tokens":4}}"#,
            "/v1/responses",
            Some((3, 4)),
        ),
        (
            "/openai/v1/embeddings",
            r#"{"model":"embed","input":"hi"}"#,
            r#"{"data":[{"embedding":[0.5]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            "/v1/embeddings",
            Some((8, 0)),
        ),
        (
            "/anthropic/v1/messages",
            r#"{"model":"claude","max_tokens":9,"messages":[]}"#,
            r#"{"content":[],"usage":{"input_tokens":5,"output_tokens":6}}"#,
            "/v1/messages",
            Some((5, 6)),
        ),
        (
            "/anthropic/v1/messages/count_tokens",
            r#"{"model":"claude","messages":[]}"#,
            r#"{"input_tokens":14}"#,
            "/v1/messages/count_tokens",
            None,
        ),
    ] {
        let (url, mut provider) = provider().await;
        let mut gateway = Setup::new(&url).start().await;
        let (received, ()) = tokio::join!(gateway.post(path, request), async {
            let call = provider.recv().await.unwrap();
            assert_eq!(
                (call.parts.uri.path(), &call.body[..]),
                (upstream, request.as_bytes())
            );
            call.answer(200, JSON, answer);
        });
        assert_eq!(
            received.header("content-length"),
            Some(&*answer.len().to_string())
        );
        assert_eq!(received.header("x-clawgate-receipt"), Some(RECEIPT_ID));
        assert_eq!(received.whole().await.unwrap(), answer);
        let facts = gateway.ended().await;
        assert_eq!(facts.response_hash, Hash::of(answer.as_bytes()));
        assert_eq!(facts.ended, Ended::Complete);
        let expected = usage.map(|(tokens_input, tokens_output)| Usage {
            tokens_input,
            tokens_output,
            derived: false,
        });
        assert_eq!(facts.usage, expected, "{path}");
    }
}

#[tokio::test]
async fn whoever_has_the_whole_answer_can_have_its_receipt() {
    let (url, mut provider) = provider().await;
    let (release, hold) = watch::channel(false);
    let mut gateway = Setup {
        hold: Some(hold),
        ..Setup::new(&url)
    }
    .start()
    .await;
    let recorded = AtomicBool::new(false);
    let asking = async {
        let answer = gateway.post("/openai/v1/chat/completions", CHAT).await;
        let body = answer.whole().await.unwrap();
        assert!(
            recorded.load(Ordering::SeqCst),
            "the last byte waits for the receipt"
        );
        body
    };
    let (body, ()) = tokio::join!(asking, async {
        provider.recv().await.unwrap().answer(200, JSON, "{}");
        // Long enough for the answer to have come through, if nothing held it.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        recorded.store(true, Ordering::SeqCst);
        release.send(true).unwrap();
    });
    assert_eq!(body, "{}");
    assert_eq!(gateway.ended().await.ended, Ended::Complete);
}

#[tokio::test]
async fn errors_of_the_provider_pass_with_a_receipt() {
    for (status, body, fields) in [
        (
            400,
            r#"{"error":{"message":"bad"}}"#,
            &[("x-request-id", "r")][..],
        ),
        (403, r#"{"error":{"message":"no"}}"#, &[]),
        (404, r#"{"error":{"message":"no such model"}}"#, &[]),
        (
            429,
            r#"{"error":{"message":"slow down"}}"#,
            &[("retry-after", "7")],
        ),
        (500, "", &[]),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#,
            &[],
        ),
    ] {
        let (url, mut provider) = provider().await;
        let mut gateway = Setup::new(&url).start().await;
        let (answer, ()) = tokio::join!(gateway.post("/openai/v1/chat/completions", CHAT), async {
            let mut all = JSON.to_vec();
            all.extend_from_slice(fields);
            all.push(("set-cookie", "a=b"));
            provider.recv().await.unwrap().answer(status, &all, body);
        });
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-clawgate-receipt"), Some(RECEIPT_ID));
        assert_eq!(answer.header("set-cookie"), None);
        for (name, value) in fields {
            assert_eq!(answer.header(name), Some(*value));
        }
        assert_eq!(answer.whole().await.unwrap(), body);
        let facts = gateway.ended().await;
        assert_eq!(
            (facts.status, facts.upstream_status),
            (Some(status), Some(status))
        );
        assert_eq!((facts.ended, facts.usage), (Ended::Complete, None));
        assert_eq!(facts.response_hash, Hash::of(body.as_bytes()));
    }
}

#[tokio::test]
async fn answers_that_no_client_should_see_are_replaced() {
    let leak = format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}"}}}}"#);
    for (path, status, content_type, body, code, kind) in [
        (
            "/openai/v1/chat/completions",
            401,
            "application/json",
            leak.as_str(),
            "UPSTREAM_UNAUTHORIZED",
            "api_error",
        ),
        (
            "/anthropic/v1/messages",
            401,
            "application/json",
            &leak,
            "UPSTREAM_UNAUTHORIZED",
            "api_error",
        ),
        (
            "/openai/v1/chat/completions",
            200,
            "text/html",
            "<html>hello",
            "UPSTREAM_GARBAGE",
            "api_error",
        ),
        (
            "/openai/v1/chat/completions",
            302,
            "text/html",
            "elsewhere",
            "UPSTREAM_GARBAGE",
            "api_error",
        ),
    ] {
        let (url, mut provider) = provider().await;
        let mut gateway = Setup::new(&url).start().await;
        let (answer, ()) = tokio::join!(gateway.post(path, CHAT), async {
            let fields = [
                ("content-type", content_type),
                ("location", "https://elsewhere"),
            ];
            provider
                .recv()
                .await
                .unwrap()
                .answer(status, &fields, body.to_owned());
        });
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("location"), None);
        assert_eq!(answer.header("x-clawgate-receipt"), Some(RECEIPT_ID));
        let ours = answer.whole().await.unwrap();
        assert!(!String::from_utf8_lossy(&ours).contains(KEY));
        let (type_, message) = error_of(&ours);
        assert_eq!(type_, kind);
        assert!(message.starts_with(code), "{message}");
        let facts = gateway.ended().await;
        assert_eq!(
            (facts.status, facts.upstream_status),
            (Some(502), Some(status))
        );
        assert_eq!(facts.code.unwrap().as_str(), code);
        assert_eq!(
            facts.response_hash,
            Hash::of(body.as_bytes()),
            "what came is what is hashed"
        );
    }
}

#[tokio::test]
async fn the_list_of_models_is_what_the_contract_allows() {
    let list = r#"{"object":"list","data":[{"id":"gpt-5"},{"id":"o3"},{"id":"gpt-5-mini"}]}"#;
    let some = r#"{"providers":["openai"],"allowed":["gpt-5*"]}"#;
    for (models, path, upstream, answer, expected) in [
        (None, "/openai/v1/models", "/v1/models", list, list),
        (
            Some(some),
            "/openai/v1/models",
            "/v1/models",
            list,
            r#"{"data":[{"id":"gpt-5"},{"id":"gpt-5-mini"}],"object":"list"}"#,
        ),
        (
            Some(some),
            "/openai/v1/models/gpt-5",
            "/v1/models/gpt-5",
            r#"{"id":"gpt-5"}"#,
            r#"{"id":"gpt-5"}"#,
        ),
    ] {
        let (url, mut provider) = provider().await;
        let mut gateway = Setup {
            models,
            ..Setup::new(&url)
        }
        .start()
        .await;
        let (received, ()) = tokio::join!(gateway.ask(Method::GET, path, &[], ""), async {
            let call = provider.recv().await.unwrap();
            assert_eq!(
                (call.parts.method.as_str(), call.parts.uri.path()),
                ("GET", upstream)
            );
            assert_eq!(call.header("content-type"), None);
            assert_eq!(
                call.header("authorization"),
                Some(&*format!("Bearer {KEY}"))
            );
            call.answer(200, JSON, answer);
        });
        assert_eq!(received.status, 200);
        assert_eq!(received.header("x-clawgate-receipt"), Some(RECEIPT_ID));
        assert_eq!(received.whole().await.unwrap(), expected);
        let facts = gateway.ended().await;
        assert_eq!(
            facts.response_hash,
            Hash::of(answer.as_bytes()),
            "the provider's bytes"
        );
        assert_eq!(facts.usage, None);
    }
}

#[tokio::test]
async fn without_its_receipt_there_is_no_answer() {
    let large = format!("[{}1]", "1,".repeat(70_000));
    for answer in ["{\"usage\":{}}", "", "<html>", &large] {
        let (url, mut provider) = provider().await;
        let gateway = Setup {
            store_works: false,
            ..Setup::new(&url)
        }
        .start()
        .await;
        let (received, ()) =
            tokio::join!(gateway.post("/openai/v1/chat/completions", CHAT), async {
                let kind = if answer.starts_with('<') {
                    "text/html"
                } else {
                    "application/json"
                };
                provider.recv().await.unwrap().answer(
                    200,
                    &[("content-type", kind)],
                    answer.to_owned(),
                );
            });
        if answer == large {
            assert_eq!(received.status, 200);
            assert!(received.whole().await.is_err(), "the connection is aborted");
        } else {
            assert_eq!(received.status, 503);
            assert!(
                error_of(&received.whole().await.unwrap())
                    .1
                    .starts_with("STORE_UNAVAILABLE")
            );
        }
    }
}
