//! A model provider that speaks the OpenAI and the Anthropic protocols and answers from a script.

mod anthropic;
mod openai;
mod play;
mod script;

use std::io;
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use crate::faults::{Fault, FaultId, Faults};
use crate::ids;
use crate::listener::{Bound, Listener};
use crate::request_log::{Request, RequestLog};
use crate::terraform_cloud::bearer;
use script::{Conversation, Reply};

pub use play::{NoScript, Script};

/// The largest request that the stand-in takes.
const LARGEST_BODY: usize = 64 << 20;

/// What a stand-in for model providers starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelProviderConfig {
    /// The models that it lists.
    pub models: Vec<String>,
    /// Answers for any model that is asked for, not only for those: in a sandbox, a client may
    /// bring its own default.
    pub any_model: bool,
    /// Port on the loopback address; 0 takes a free one.
    pub port: u16,
}

impl Default for ModelProviderConfig {
    fn default() -> Self {
        let models = [
            "gpt-standin",
            "gpt-standin-mini",
            "text-embedding-standin",
            "claude-standin",
        ];
        Self {
            models: models.map(str::to_owned).to_vec(),
            any_model: false,
            port: 0,
        }
    }
}

/// A model provider that runs until it is shut down or dropped.
#[derive(Debug)]
pub struct ModelProvider {
    provider: Arc<Provider>,
    listener: Listener,
}

/// The stand-in behind its listener.
#[derive(Debug)]
struct Provider {
    key: String,
    models: Vec<String>,
    any_model: bool,
    script: RwLock<Option<Script>>,
    log: RequestLog,
    faults: Faults,
}

impl Provider {
    fn reply(&self, conversation: &Conversation) -> Reply {
        let script = self.script.read().expect("nobody panics with it");
        Reply::to(conversation, script.as_ref())
    }
}

impl ModelProvider {
    /// Starts on a loopback port.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub async fn start(config: ModelProviderConfig) -> io::Result<Self> {
        let bound = Bound::new(config.port).await?;
        let provider = Arc::new(Provider {
            key: format!("sk-{}", ids::letters(48)),
            models: config.models,
            any_model: config.any_model,
            script: RwLock::default(),
            log: RequestLog::new(),
            faults: Faults::default(),
        });
        let listener = bound.serve(router(Arc::clone(&provider)));
        Ok(Self { provider, listener })
    }

    /// Address, such as `http://127.0.0.1:4000`. OpenAI clients want it with `/v1`, Anthropic
    /// clients as it is.
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// The only key that it accepts, as a bearer token or as `x-api-key`.
    pub fn key(&self) -> &str {
        &self.provider.key
    }

    /// From now on conversations with tools go by this script.
    pub fn play(&self, script: Script) {
        *self.provider.script.write().expect("nobody panics with it") = Some(script);
    }

    /// Everything that reached it, in order. `bearer` is `key` for the right key, `foreign` for
    /// any other.
    pub fn requests(&self) -> Vec<Request> {
        self.provider.log.requests()
    }

    /// Waits for a request that fits, among those logged and those to come.
    pub async fn wait_for_request(&self, fits: impl Fn(&Request) -> bool) -> Request {
        self.provider.log.wait_for(fits).await
    }

    /// Makes coming requests misbehave; `None` when too many faults are set already.
    pub fn set_fault(&self, fault: Fault) -> Option<FaultId> {
        self.provider.faults.set(fault)
    }

    /// Lets go what a fault holds; false when there is no such fault.
    pub fn release(&self, id: &FaultId) -> bool {
        self.provider.faults.release(id)
    }

    /// Removes every fault and lets go what they hold.
    pub fn clear_faults(&self) {
        self.provider.faults.clear();
    }

    /// Frees the port; held requests are let go.
    pub async fn shutdown(self) {
        self.provider.faults.clear();
        self.listener.shutdown().await;
    }
}

fn router(provider: Arc<Provider>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/responses", post(openai::responses))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .fallback(unknown)
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&provider),
            guard,
        ))
        .route("/_sim/requests", get(requests))
        .with_state(provider)
}

/// The protocol that a request speaks; errors and the list of models depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    OpenAi,
    Anthropic,
}

impl Protocol {
    fn of(path: &str, headers: &HeaderMap) -> Self {
        if path.starts_with("/v1/messages") || headers.contains_key("anthropic-version") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }

    fn error(self, status: StatusCode, kind: &str, message: &str) -> Response {
        let body = match self {
            Self::OpenAi => json!({"error":
                {"message": message, "type": kind, "param": null, "code": kind}}),
            Self::Anthropic => json!({"type": "error", "error": {"type": kind, "message": message},
                "request_id": ids::id("req")}),
        };
        json_answer(status, &body)
    }
}

async fn guard(
    State(provider): State<Arc<Provider>>,
    request: HttpRequest,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let read = axum::body::to_bytes(body, LARGEST_BODY).await;
    let protocol = Protocol::of(parts.uri.path(), &parts.headers);
    let key = match (bearer(&parts.headers), parts.headers.get("x-api-key")) {
        (Some(token), _) => Some(token),
        (None, Some(key)) => Some(key.to_str().unwrap_or_default()),
        (None, None) => None,
    };
    let known = key == Some(provider.key.as_str());
    let name = key.map(|_| if known { "key" } else { "foreign" }.to_owned());
    let Ok(body) = read else {
        provider
            .log
            .append(parts.method.as_str(), &parts.uri, name, &Bytes::new());
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return protocol.error(status, "request_too_large", "The request is too large.");
    };
    provider
        .log
        .append(parts.method.as_str(), &parts.uri, name, &body);

    let failure = |status| {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        protocol.error(status, "api_error", "Failed on request.")
    };
    let mut hit = provider.faults.hit(parts.method.as_str(), parts.uri.path());
    if let Some(hit) = &mut hit
        && let Some(instead) = hit.before(failure).await
    {
        return instead;
    }
    if !known {
        let (kind, message) = match protocol {
            Protocol::OpenAi => ("invalid_api_key", "Incorrect API key provided."),
            Protocol::Anthropic => ("authentication_error", "invalid x-api-key"),
        };
        return protocol.error(StatusCode::UNAUTHORIZED, kind, message);
    }
    let response = next
        .run(HttpRequest::from_parts(parts, Body::from(body)))
        .await;
    match hit {
        Some(hit) => hit.after(response).await,
        None => response,
    }
}

async fn unknown(request: HttpRequest) -> Response {
    let protocol = Protocol::of(request.uri().path(), request.headers());
    let kind = match protocol {
        Protocol::OpenAi => "invalid_request_error",
        Protocol::Anthropic => "not_found_error",
    };
    protocol.error(StatusCode::NOT_FOUND, kind, "There is no such path.")
}

/// A model as lists and its own address have it.
fn entry(model: &str, headers: &HeaderMap) -> Value {
    match Protocol::of("", headers) {
        Protocol::OpenAi => {
            json!({"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "stand-in"})
        }
        Protocol::Anthropic => json!({"type": "model", "id": model, "display_name": model,
            "created_at": "2026-01-01T00:00:00Z"}),
    }
}

async fn model(
    State(provider): State<Arc<Provider>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if provider.any_model || provider.models.contains(&id) {
        return json_answer(StatusCode::OK, &entry(&id, &headers));
    }
    let (kind, message) = ("not_found_error", "There is no such model.");
    Protocol::of("", &headers).error(StatusCode::NOT_FOUND, kind, message)
}

async fn models(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Response {
    let models = provider.models.iter();
    let data: Vec<Value> = models.map(|model| entry(model, &headers)).collect();
    let list = match Protocol::of("", &headers) {
        Protocol::OpenAi => json!({"object": "list", "data": data}),
        Protocol::Anthropic => json!({"data": data, "has_more": false,
            "first_id": provider.models.first(), "last_id": provider.models.last()}),
    };
    json_answer(StatusCode::OK, &list)
}

async fn requests(State(provider): State<Arc<Provider>>) -> Response {
    match serde_json::to_value(provider.log.requests()) {
        Ok(list) => json_answer(StatusCode::OK, &list),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Reads a request and checks that the model is one that is answered for.
fn read(provider: &Provider, protocol: Protocol, body: &Bytes) -> Result<Value, Box<Response>> {
    let invalid =
        |status, kind: &str, message: &str| Err(Box::new(protocol.error(status, kind, message)));
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        let message = "The body is not JSON.";
        return invalid(StatusCode::BAD_REQUEST, "invalid_request_error", message);
    };
    match request["model"].as_str() {
        Some(model)
            if (provider.any_model && !model.is_empty())
                || provider.models.iter().any(|known| known == model) =>
        {
            Ok(request)
        }
        Some(_) => {
            let kind = match protocol {
                Protocol::OpenAi => "model_not_found",
                Protocol::Anthropic => "not_found_error",
            };
            invalid(StatusCode::NOT_FOUND, kind, "There is no such model.")
        }
        None => invalid(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "The model is missing.",
        ),
    }
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
        .headers_mut()
        .insert("request-id", HeaderValue::from_static("req_standin"));
    response
}

/// Answers with server-sent events, each in a chunk of its own.
fn event_stream(events: Vec<String>) -> Response {
    let chunks = events.into_iter().map(Ok::<_, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(stream::iter(chunks)));
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
