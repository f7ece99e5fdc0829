//! The lane before the simulator's model provider, which speaks both APIs by itself.

use proof::record::Ended;
use sim::{Fault, FaultAction, ModelProvider as StandIn, ModelProviderConfig};

use super::*;

async fn start() -> (StandIn, Gateway) {
    let standin = StandIn::start(ModelProviderConfig::default())
        .await
        .unwrap();
    let url = format!("{}/v1", standin.url());
    let gateway = Setup {
        key: standin.key().to_owned(),
        ..Setup::new(&url)
    }
    .start()
    .await;
    (standin, gateway)
}

const OPENAI: &str = r#"{"model":"gpt-standin","stream_options":{"include_usage":true},"messages":[{"role":"user","content":"What shall I change?"}]"#;
const ANTHROPIC: &str = r#"{"model":"claude-standin","max_tokens":256,"messages":[{"role":"user","content":"What shall I change?"}]"#;
const RESPONSES: &str = r#"{"model":"gpt-standin","input":"What shall I change?""#;

#[tokio::test]
async fn both_apis_in_both_modes_with_usage() {
    let (standin, mut gateway) = start().await;
    for (path, request) in [
        ("/openai/v1/chat/completions", OPENAI),
        ("/openai/v1/responses", RESPONSES),
        ("/anthropic/v1/messages", ANTHROPIC),
    ] {
        let mut counted = Vec::new();
        for stream in [false, true] {
            let body = format!("{request},\"stream\":{stream}}}");
            let answer = gateway.post(path, &body).await;
            assert_eq!(answer.status, 200, "{path}");
            let whole = answer.whole().await.unwrap();
            let (passed, receipt) = split_receipt(&whole);
            assert_eq!(receipt.is_some(), stream);
            assert!(!String::from_utf8_lossy(&whole).contains(standin.key()));
            let facts = gateway.ended().await;
            assert_eq!(facts.ended, Ended::Complete);
            assert_eq!(facts.response_hash, Hash::of(passed));
            counted.push(facts.usage.unwrap());
        }
        assert!(counted[0].tokens_input > 0 && counted[0].tokens_output > 0);
        assert_eq!(counted[0], counted[1], "the same in both modes: {path}");
        assert!(!counted[0].derived);
    }
    assert!(
        standin
            .requests()
            .iter()
            .all(|request| request.bearer.as_deref() == Some("key"))
    );
}

#[tokio::test]
async fn the_smaller_endpoints() {
    let (_standin, mut gateway) = start().await;
    for (method, path, body, holds) in [
        (
            "POST",
            "/openai/v1/embeddings",
            r#"{"model":"text-embedding-standin","input":"a"}"#,
            "embedding",
        ),
        (
            "POST",
            "/anthropic/v1/messages/count_tokens",
            r#"{"model":"claude-standin","messages":[]}"#,
            "input_tokens",
        ),
        ("GET", "/openai/v1/models", "", "gpt-standin"),
        ("GET", "/anthropic/v1/models", "", "claude-standin"),
    ] {
        let fields: &[_] = if body.is_empty() {
            &[("anthropic-version", "1")]
        } else {
            &[("content-type", "application/json")]
        };
        let answer = gateway
            .ask(method.parse().unwrap(), path, fields, body)
            .await;
        assert_eq!(answer.status, 200, "{path}");
        let whole = answer.whole().await.unwrap();
        assert!(String::from_utf8_lossy(&whole).contains(holds), "{path}");
        assert_eq!(gateway.ended().await.response_hash, Hash::of(&whole));
    }
}

#[tokio::test]
async fn its_faults_are_told_apart() {
    let (standin, mut gateway) = start().await;
    let path = "/openai/v1/chat/completions";
    let body = format!("{OPENAI},\"stream\":true}}");
    let fault = |action| Fault::once("POST", "/v1/chat", action);

    standin.set_fault(fault(FaultAction::CloseMidway)).unwrap();
    let answer = gateway.post(path, &body).await;
    // The break can overtake the head, which then never comes.
    assert!(answer.status == 503 || answer.whole().await.is_err());
    assert_eq!(gateway.ended().await.ended, Ended::UpstreamReset);

    standin.set_fault(fault(FaultAction::Status(503))).unwrap();
    assert_eq!(gateway.post(path, &body).await.status, 503);
    assert_eq!(gateway.ended().await.upstream_status, Some(503));

    standin.set_fault(fault(FaultAction::Garbage)).unwrap();
    assert_eq!(gateway.post(path, &body).await.status, 502);
    assert_eq!(
        gateway.ended().await.code,
        Some(ReasonCode::UpstreamGarbage)
    );

    standin.set_fault(fault(FaultAction::Hold)).unwrap();
    let before = standin.requests().len();
    tokio::select! {
        _ = gateway.post(path, &body) => panic!("it is held"),
        _ = standin.wait_for_request(|request| request.seq as usize > before) => {}
    }
    assert_eq!(gateway.ended().await.ended, Ended::ClientGone);
}
