//! The Anthropic protocol: messages and token counts.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::script::{Conversation, Reply, tokens};
use super::{Protocol, Provider, event_stream, json_answer, read};
use crate::ids;

pub(super) async fn messages(State(provider): State<Arc<Provider>>, body: Bytes) -> Response {
    let request = match read(&provider, Protocol::Anthropic, &body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    if !request["max_tokens"].is_u64() {
        let message = "max_tokens: Field required";
        return Protocol::Anthropic.error(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            message,
        );
    }
    let reply = provider.reply(&Conversation::messages(&request));
    let (block, stop) = match &reply {
        Reply::Text(text) => (json!({"type": "text", "text": text}), "end_turn"),
        Reply::ToolCall { tool, arguments } => {
            let id = ids::id("toolu").replace('-', "_");
            (
                json!({"type": "tool_use", "id": id, "name": tool.name, "input": arguments}),
                "tool_use",
            )
        }
    };
    let whole = json!({
        "id": ids::id("msg").replace('-', "_"),
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": [block],
        "stop_reason": stop,
        "stop_sequence": null,
        "usage": {
            "input_tokens": prompt_tokens(&request),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": reply.tokens(),
        },
    });
    if request["stream"] == true {
        return event_stream(message_stream(&whole, &reply));
    }
    json_answer(StatusCode::OK, &whole)
}

fn message_stream(whole: &Value, reply: &Reply) -> Vec<String> {
    let mut begun = whole.clone();
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    begun["usage"]["output_tokens"] = 1.into();
    let block = &whole["content"][0];
    let mut empty = block.clone();
    let deltas: Vec<Value> = match reply {
        Reply::Text(text) => {
            empty["text"] = "".into();
            let delta = |piece| json!({"type": "text_delta", "text": piece});
            Reply::pieces(text).into_iter().map(delta).collect()
        }
        Reply::ToolCall { arguments, .. } => {
            empty["input"] = json!({});
            vec![json!({"type": "input_json_delta", "partial_json": arguments.to_string()})]
        }
    };
    let mut events = vec![
        json!({"type": "message_start", "message": begun}),
        json!({"type": "content_block_start", "index": 0, "content_block": empty}),
        json!({"type": "ping"}),
    ];
    let delta = |delta| json!({"type": "content_block_delta", "index": 0, "delta": delta});
    events.extend(deltas.into_iter().map(delta));
    events.push(json!({"type": "content_block_stop", "index": 0}));
    events.push(json!({
        "type": "message_delta",
        "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": null},
        "usage": {"output_tokens": reply.tokens()},
    }));
    events.push(json!({"type": "message_stop"}));
    let line = |event: &Value| {
        format!(
            "event: {}\ndata: {event}\n\n",
            event["type"].as_str().unwrap_or_default()
        )
    };
    events.iter().map(line).collect()
}

pub(super) async fn count_tokens(State(provider): State<Arc<Provider>>, body: Bytes) -> Response {
    match read(&provider, Protocol::Anthropic, &body) {
        Ok(request) => json_answer(
            StatusCode::OK,
            &json!({"input_tokens": prompt_tokens(&request)}),
        ),
        Err(refusal) => *refusal,
    }
}

fn prompt_tokens(request: &Value) -> u64 {
    tokens(&request["messages"].to_string()) + tokens(&request["system"].to_string())
}
