//! The stand-in for model providers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sim::{Fault, FaultAction, ModelProvider, ModelProviderConfig, example_change};
use support::Api;

const CHAT: &str = "/v1/chat/completions";

async fn start() -> ModelProvider {
    ModelProvider::start(ModelProviderConfig::default())
        .await
        .unwrap()
}

fn client(provider: &ModelProvider) -> Api {
    Api::new(&provider.url(), Some(provider.key()))
}

fn question(more: Value) -> Value {
    let mut request = json!({"model": "gpt-standin", "messages": [
        {"role": "system", "content": "You look after staging."},
        {"role": "user", "content": "The shop is slow. What should change?"},
    ]});
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    request
}

/// The `data` of all events; `[DONE]` becomes a string.
fn events(body: &Bytes) -> Vec<Value> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.ends_with("\n\n"), "{text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data)))
        .collect()
}

#[tokio::test]
async fn the_answer_is_the_same_whole_and_streamed() {
    let provider = start().await;
    let api = client(&provider);
    let whole = api.post(CHAT, &question(json!({}))).await.json();
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains(example_change().to), "{text}");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let usage = &whole["usage"];
    assert_eq!(
        usage["total_tokens"].as_u64().unwrap(),
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap()
    );

    for with_usage in [true, false] {
        let options = json!({"stream": true, "stream_options": {"include_usage": with_usage}});
        let answer = api.post(CHAT, &question(options)).await;
        assert!(
            answer.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/event-stream")
        );
        let mut events = events(&answer.body);
        assert_eq!(events.pop().unwrap(), "[DONE]");
        if with_usage {
            let last = events.pop().unwrap();
            assert_eq!(&last["usage"], usage);
            assert_eq!(last["choices"], json!([]));
        }
        let pieces = events
            .iter()
            .filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
        assert_eq!(pieces.collect::<String>(), text);
        assert_eq!(
            events.last().unwrap()["choices"][0]["finish_reason"],
            "stop"
        );
    }
}

#[tokio::test]
async fn a_tool_is_called_when_asked_for() {
    let provider = start().await;
    let api = client(&provider);
    let asked = json!([{"role": "user", "content": "Now call the tool."}]);
    let tools = json!([{"type": "function", "function": {"name": "tf_run_create"}}]);
    let request = question(json!({"messages": asked, "tools": tools}));
    let whole = api.post(CHAT, &request).await.json();
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "tf_run_create");
    assert!(
        serde_json::from_str::<Value>(call["arguments"].as_str().unwrap())
            .unwrap()
            .is_object()
    );
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    let request = question(json!({"messages": asked, "tools": tools, "stream": true}));
    let answer = api.post(CHAT, &request).await;
    let calls = events(&answer.body);
    let calls = calls
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["tool_calls"][0].as_object());
    assert_eq!(calls.count(), 2);

    let tools = json!([{"name": "tf_run_create", "input_schema": {"type": "object"}}]);
    let request =
        json!({"model": "claude-standin", "max_tokens": 100, "messages": asked, "tools": tools});
    let whole = api.post("/v1/messages", &request).await.json();
    assert_eq!(whole["content"][0]["type"], "tool_use");
    assert_eq!(whole["stop_reason"], "tool_use");
}

#[tokio::test]
async fn responses_are_whole_and_streamed() {
    let provider = start().await;
    let api = client(&provider);
    let request = |stream: bool| json!({"model": "gpt-standin", "input": "The shop is slow.", "stream": stream});
    let whole = api.post("/v1/responses", &request(false)).await.json();
    let text = whole["output"][0]["content"][0]["text"].as_str().unwrap();
    let streamed = events(&api.post("/v1/responses", &request(true)).await.body);
    let pieces = streamed
        .iter()
        .filter(|e| e["type"] == "response.output_text.delta");
    assert_eq!(
        pieces
            .map(|e| e["delta"].as_str().unwrap())
            .collect::<String>(),
        text
    );
    assert_eq!(streamed[0]["type"], "response.created");
    let last = streamed.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["usage"], whole["usage"]);
    let numbers: Vec<u64> = streamed
        .iter()
        .map(|e| e["sequence_number"].as_u64().unwrap())
        .collect();
    assert!(
        numbers
            .iter()
            .enumerate()
            .all(|(index, number)| index as u64 == *number)
    );
}

#[tokio::test]
async fn messages_are_whole_and_streamed() {
    let provider = start().await;
    let api = Api::new(&provider.url(), None).with_header("x-api-key", provider.key());
    let request = |stream: bool| {
        json!({"model": "claude-standin", "max_tokens": 100, "stream": stream,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "What now?"}]}]})
    };
    let whole = api.post("/v1/messages", &request(false)).await.json();
    let text = whole["content"][0]["text"].as_str().unwrap();
    assert!(text.contains(example_change().to));
    let streamed = events(&api.post("/v1/messages", &request(true)).await.body);
    let kinds: Vec<&str> = streamed
        .iter()
        .map(|e| e["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[..3], ["message_start", "content_block_start", "ping"]);
    let [.., stop, delta, end] = kinds.as_slice() else {
        panic!("{kinds:?}")
    };
    assert_eq!(
        [*stop, *delta, *end],
        ["content_block_stop", "message_delta", "message_stop"]
    );
    let pieces = streamed.iter().filter_map(|e| e["delta"]["text"].as_str());
    assert_eq!(pieces.collect::<String>(), text);
    let usage = &streamed[streamed.len() - 2]["usage"];
    assert_eq!(usage["output_tokens"], whole["usage"]["output_tokens"]);
    let counted = api
        .post("/v1/messages/count_tokens", &request(false))
        .await
        .json();
    assert_eq!(counted["input_tokens"], whole["usage"]["input_tokens"]);

    let without = json!({"model": "claude-standin", "messages": []});
    let refused = api.post("/v1/messages", &without).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn models_and_embeddings_are_there() {
    let provider = start().await;
    let api = client(&provider);
    let list = api.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let one = api.get("/v1/models/gpt-standin").await.json();
    assert_eq!(
        (&one["object"], &one["id"]),
        (&json!("model"), &json!("gpt-standin"))
    );
    let none = api.get("/v1/models/gpt-unknown").await.status;
    assert_eq!(none, StatusCode::NOT_FOUND);
    let list = client(&provider)
        .with_header("anthropic-version", "2023-06-01")
        .get("/v1/models")
        .await;
    assert_eq!(list.json()["has_more"], false);
    let request = json!({"model": "text-embedding-standin", "input": ["a", "b"]});
    let answer = api.post("/v1/embeddings", &request).await.json();
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    assert_eq!(api.get("/v1/files").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_wrong_key_is_refused_in_the_providers_own_shape() {
    let provider = start().await;
    let callers = [
        (Api::new(&provider.url(), None), None),
        (Api::new(&provider.url(), Some("sk-other")), Some("foreign")),
        (
            Api::new(&provider.url(), None).with_header("x-api-key", "sk-other"),
            Some("foreign"),
        ),
    ];
    for (caller, bearer) in callers {
        let openai = caller.post(CHAT, &question(json!({}))).await;
        assert_eq!(openai.status, StatusCode::UNAUTHORIZED);
        assert_eq!(openai.json()["error"]["code"], "invalid_api_key");
        let anthropic = caller.post("/v1/messages", &json!({})).await;
        assert_eq!(anthropic.status, StatusCode::UNAUTHORIZED);
        assert_eq!(anthropic.json()["error"]["type"], "authentication_error");
        assert_eq!(provider.requests().pop().unwrap().bearer.as_deref(), bearer);
    }
    let api = client(&provider);
    for (body, status) in [
        (
            json!({"model": "gpt-unknown", "messages": []}),
            StatusCode::NOT_FOUND,
        ),
        (json!({"messages": []}), StatusCode::BAD_REQUEST),
        (json!([]), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(api.post(CHAT, &body).await.status, status, "{body}");
    }
    let logged = Api::new(&provider.url(), None)
        .get("/_sim/requests")
        .await
        .json();
    assert_eq!(logged[0]["bearer"], Value::Null);
    assert_eq!(logged.as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn faults_break_a_stream_or_an_answer() {
    let provider = start().await;
    let api = client(&provider);
    let streaming = question(json!({"stream": true})).to_string();
    provider
        .set_fault(Fault::once("POST", CHAT, FaultAction::CloseMidway))
        .unwrap();
    assert!(api.send(Method::POST, CHAT, streaming).await.is_err());
    provider
        .set_fault(Fault::once("POST", CHAT, FaultAction::Status(500)))
        .unwrap();
    let failed = api.post(CHAT, &question(json!({}))).await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(failed.json()["error"]["type"], "api_error");
    provider
        .set_fault(Fault::once("POST", CHAT, FaultAction::Garbage))
        .unwrap();
    let garbage = api.post(CHAT, &question(json!({}))).await;
    assert!(serde_json::from_slice::<Value>(&garbage.body).is_err());
    assert_eq!(
        api.post(CHAT, &question(json!({}))).await.status,
        StatusCode::OK
    );
    provider.shutdown().await;
}

#[tokio::test]
async fn a_stream_is_held_in_the_middle() {
    let provider = start().await;
    let fault = Fault::once("POST", CHAT, FaultAction::HoldMidway);
    let gate = provider.set_fault(fault).unwrap();
    let mut stream = Box::pin(
        client(&provider)
            .open(CHAT, &question(json!({"stream": true})))
            .await,
    );
    let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"data: {"));
    provider.release(&gate);
    let rest = stream.collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
}
