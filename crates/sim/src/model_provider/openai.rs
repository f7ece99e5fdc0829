//! The OpenAI protocol: chat completions, responses and embeddings.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::script::{Conversation, Reply, tokens};
use super::{Protocol, Provider, event_stream, json_answer, read};
use crate::ids;

/// The stand-in's clock stands still: seconds since 1970.
const CREATED: u64 = 1_764_000_000;

pub(super) async fn chat(State(provider): State<Arc<Provider>>, body: Bytes) -> Response {
    let request = match read(&provider, Protocol::OpenAi, &body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let reply = provider.reply(&Conversation::chat(&request));
    let id = ids::id("chatcmpl");
    let model = &request["model"];
    let prompt = tokens(&request["messages"].to_string());
    let usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": reply.tokens(),
        "total_tokens": prompt + reply.tokens(),
    });
    if request["stream"] == true {
        let with_usage = request["stream_options"]["include_usage"] == true;
        return event_stream(chat_stream(
            &id,
            model,
            &reply,
            with_usage.then_some(&usage),
        ));
    }
    let (message, finish) = match &reply {
        Reply::Text(text) => (
            json!({"role": "assistant", "content": text, "refusal": null}),
            "stop",
        ),
        Reply::ToolCall { tool, arguments } => {
            let function = json!({"name": tool.name, "arguments": arguments.to_string()});
            let call = json!({"id": ids::id("call"), "type": "function", "function": function});
            (
                json!({"role": "assistant", "content": null, "tool_calls": [call]}),
                "tool_calls",
            )
        }
    };
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish});
    let completion = json!({
        "id": id,
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [choice],
        "usage": usage,
    });
    json_answer(StatusCode::OK, &completion)
}

fn chat_stream(id: &str, model: &Value, reply: &Reply, usage: Option<&Value>) -> Vec<String> {
    let chunk = |choices: Value| {
        let mut chunk = json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": model,
            "choices": choices,
        });
        if usage.is_some() {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let delta = |delta: Value, finish: Option<&str>| {
        chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}]))
    };
    let mut chunks = vec![delta(json!({"role": "assistant", "content": ""}), None)];
    match reply {
        Reply::Text(text) => {
            let pieces = Reply::pieces(text).into_iter();
            chunks.extend(pieces.map(|piece| delta(json!({"content": piece}), None)));
            chunks.push(delta(json!({}), Some("stop")));
        }
        Reply::ToolCall { tool, arguments } => {
            let call = json!({"index": 0, "id": ids::id("call"), "type": "function",
                "function": {"name": tool.name, "arguments": ""}});
            chunks.push(delta(json!({"tool_calls": [call]}), None));
            let rest = json!({"index": 0, "function": {"arguments": arguments.to_string()}});
            chunks.push(delta(json!({"tool_calls": [rest]}), None));
            chunks.push(delta(json!({}), Some("tool_calls")));
        }
    }
    if let Some(usage) = usage {
        let mut last = chunk(json!([]));
        last["usage"] = usage.clone();
        chunks.push(last);
    }
    let mut events: Vec<String> = chunks
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    events.push("data: [DONE]\n\n".to_owned());
    events
}

pub(super) async fn responses(State(provider): State<Arc<Provider>>, body: Bytes) -> Response {
    let request = match read(&provider, Protocol::OpenAi, &body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let reply = provider.reply(&Conversation::responses(&request));
    let item = match &reply {
        Reply::Text(text) => json!({"id": ids::id("msg"), "type": "message", "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}]}),
        Reply::ToolCall { tool, arguments } => {
            let mut item = json!({"id": ids::id("fc"), "type": "function_call",
                "status": "completed", "call_id": ids::id("call"), "name": tool.name,
                "arguments": arguments.to_string()});
            if let Some(namespace) = &tool.namespace {
                item["namespace"] = namespace.as_str().into();
            }
            item
        }
    };
    let prompt = tokens(&request["input"].to_string());
    let whole = json!({
        "id": ids::id("resp"),
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": null,
        "incomplete_details": null,
        "instructions": request["instructions"],
        "model": request["model"],
        "output": [item],
        "parallel_tool_calls": true,
        "tool_choice": "auto",
        "tools": request.get("tools").cloned().unwrap_or_else(|| json!([])),
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": reply.tokens(),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + reply.tokens(),
        },
    });
    if request["stream"] == true {
        return event_stream(response_stream(&whole, &reply));
    }
    json_answer(StatusCode::OK, &whole)
}

fn response_stream(whole: &Value, reply: &Reply) -> Vec<String> {
    let mut begun = whole.clone();
    begun["status"] = "in_progress".into();
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let item = &whole["output"][0];
    let mut empty = item.clone();
    empty["status"] = "in_progress".into();
    let mut events = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
    ];
    let place = json!({"output_index": 0, "item_id": item["id"]});
    let placed = |kind: &str, more: Value| {
        let mut event = place.clone();
        event["type"] = kind.into();
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        event
    };
    match reply {
        Reply::Text(text) => {
            empty["content"] = json!([]);
            let part = json!({"type": "output_text", "text": "", "annotations": []});
            events.push(
                json!({"type": "response.output_item.added", "output_index": 0, "item": empty}),
            );
            events.push(placed(
                "response.content_part.added",
                json!({"content_index": 0, "part": part}),
            ));
            events.extend(Reply::pieces(text).into_iter().map(|piece| {
                placed(
                    "response.output_text.delta",
                    json!({"content_index": 0, "delta": piece, "logprobs": []}),
                )
            }));
            events.push(placed(
                "response.output_text.done",
                json!({"content_index": 0, "text": text, "logprobs": []}),
            ));
            let part = &item["content"][0];
            events.push(placed(
                "response.content_part.done",
                json!({"content_index": 0, "part": part}),
            ));
        }
        Reply::ToolCall { arguments, .. } => {
            empty["arguments"] = "".into();
            let arguments = arguments.to_string();
            events.push(
                json!({"type": "response.output_item.added", "output_index": 0, "item": empty}),
            );
            events.push(placed(
                "response.function_call_arguments.delta",
                json!({"delta": arguments}),
            ));
            events.push(placed(
                "response.function_call_arguments.done",
                json!({"arguments": arguments}),
            ));
        }
    }
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
    events.push(json!({"type": "response.completed", "response": whole}));
    let numbered = events.into_iter().enumerate().map(|(number, mut event)| {
        event["sequence_number"] = number.into();
        format!(
            "event: {}\ndata: {event}\n\n",
            event["type"].as_str().unwrap_or_default()
        )
    });
    numbered.collect()
}

/// The numbers of an embedding mean nothing here; they depend on the length of the text alone.
pub(super) async fn embeddings(State(provider): State<Arc<Provider>>, body: Bytes) -> Response {
    let request = match read(&provider, Protocol::OpenAi, &body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let inputs = match &request["input"] {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let entry = |(index, input): (usize, &Value)| {
        let length = u32::try_from(input.to_string().len()).unwrap_or(u32::MAX);
        let embedding = [1.0, 1.0 / f64::from(length.max(1)), 0.0];
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<Value> = inputs.iter().enumerate().map(entry).collect();
    let used = tokens(&request["input"].to_string());
    let answer = json!({
        "object": "list",
        "data": data,
        "model": request["model"],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    });
    json_answer(StatusCode::OK, &answer)
}
