//! Which models the contract allows, by the gateway's own lists.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;

use super::super::agent::{Agent, AgentApi};
use super::super::{Failure, term};
use super::document::{Model, Surface};
use crate::upstream::cause;

/// Largest list that is read: the gateway's own bound.
const MAX_LIST: usize = 4 << 20;

/// Most models of a list that are taken over.
const MAX_MODELS: usize = 100;

/// How long the gateway may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The models of both dialects.
///
/// # Errors
/// When there is nobody to ask, or there are none.
pub(super) async fn ask(agent: &Agent) -> Result<Vec<Model>, Failure> {
    let name_them = "name models with --model openai/NAME or --model anthropic/NAME";
    if !agent.has_token() {
        return Err(Failure::usage("no models are named").next(format!(
            "{name_them}; or set CST or give --token-file, and the gateway is asked which ones \
             the contract allows"
        )));
    }
    let api = agent.connect()?;
    let mut models = Vec::new();
    let mut refused = None;
    for (path, surface) in [
        ("/openai/v1/models", Surface::Openai),
        ("/anthropic/v1/models", Surface::Anthropic),
    ] {
        let listed = tokio::time::timeout(PATIENCE, list(&api, path)).await;
        let silent = || Failure::new(format!("`{}` gave no answer", api.base));
        match listed.map_err(|_| silent())? {
            Ok(names) => {
                let names = names.into_iter().take(MAX_MODELS);
                models.extend(names.map(|name| Model { surface, name }));
            }
            // Of a provider that is not there, say; the other one may be.
            Err(failure)
                if failure
                    .code()
                    .is_some_and(|code| !code.starts_with("TOKEN_")) =>
            {
                refused = Some(failure);
            }
            Err(failure) => return Err(failure.next(name_them)),
        }
    }
    match (models.is_empty(), refused) {
        (false, _) => Ok(models),
        (true, Some(failure)) => Err(failure),
        (true, None) => {
            Err(Failure::new("the contract allows no model that the gateway knows").next(name_them))
        }
    }
}

async fn list(api: &AgentApi, path: &str) -> Result<Vec<String>, Failure> {
    let address = format!("{}{path}", api.base);
    let mut request = Request::builder()
        .uri(&address)
        .header(header::AUTHORIZATION, api.bearer.clone());
    if path.starts_with("/anthropic") {
        request = request.header("anthropic-version", "2023-06-01");
    }
    let request = request
        .body(Full::new(Bytes::new()))
        .map_err(|_| Failure::usage(format!("`{}` is not an address", term::plain(&api.base))))?;
    let answer =
        api.http.request(request).await.map_err(|error| {
            Failure::new(format!("no gateway at {}: {}", api.base, cause(&error)))
        })?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_LIST).collect().await;
    let body = body.map_err(|error| Failure::new(format!("the answer broke off: {error}")))?;
    let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    if head.status != StatusCode::OK {
        let code = head.headers.get("x-clawgate-code");
        let code = code
            .and_then(|code| code.to_str().ok())
            .or_else(|| body["error"]["code"].as_str());
        let status = head.status;
        let message = body["error"]["message"].as_str().map(term::plain);
        let message = message.unwrap_or_else(|| format!("`{address}` answered {status}"));
        return Err(match code {
            Some(code) => Failure::refused(code, message),
            None => Failure::new(message),
        });
    }
    let models = body["data"].as_array().into_iter().flatten();
    let names = models.filter_map(|model| model["id"].as_str());
    // A name that no configuration could hold is left out.
    let names = names.filter(|name| format!("openai/{name}").parse::<Model>().is_ok());
    Ok(names.map(str::to_owned).collect())
}
