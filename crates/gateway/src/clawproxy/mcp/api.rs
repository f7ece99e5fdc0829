//! Calls of the API lane on the agent's behalf.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::{Agent, Failed};
use crate::server::Body;

/// Largest answer that is read for a tool. As a tree it takes about ten times as much.
const MAX_ANSWER: usize = 4 << 20;

/// What the API lane answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Agent {
    /// Reads a resource: the member `data`.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failed> {
        let answer = self.call(Method::GET, path, "", Bytes::new()).await?;
        Ok(answer.json()["data"].take())
    }

    /// Posts a document; the member `data` of what is answered.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failed> {
        let media = "application/vnd.api+json";
        let body = Bytes::from(body.to_string());
        let answer = self.call(Method::POST, path, media, body).await?;
        Ok(answer.json()["data"].take())
    }

    /// Makes a call through the whole pipeline. What is not a success is told in words.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        media: &'static str,
        body: Bytes,
    ) -> Result<Answer, Failed> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .map_err(|_| format!("`{path}` is not a path"))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static("mcp.clawgate"));
        headers.insert(header::AUTHORIZATION, self.bearer.clone());
        if !media.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        }
        if let Some(cause) = self.cause().await? {
            request.extensions_mut().insert(cause.clone());
        }
        let answer = super::super::again(self.app.clone(), request, self.peer).await;
        let status = answer.status();
        let body = collect(answer.into_body()).await?;
        let answer = Answer { status, body };
        match status.is_success() {
            true => Ok(answer),
            false => Err(self.in_words(&answer)),
        }
    }

    /// Why a call was refused, and what would be allowed.
    fn in_words(&self, answer: &Answer) -> Failed {
        let json = answer.json();
        let error = &json["errors"][0];
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        let (title, detail) = (text("title"), text("detail"));
        if title.is_empty() && detail.is_empty() {
            return format!("The gateway answered {}.", answer.status);
        }
        let mut words = format!("Refused: {title}. {detail}");
        // What Terraform Cloud does not know, or cannot do now, no contract allows.
        if answer.status == StatusCode::FORBIDDEN {
            let contract = &self.caller.contract().contract;
            let allowed: Vec<String> = contract.summary().into_iter().take(4).collect();
            words.push_str(&format!("\nWhat is allowed: {}", allowed.join(" ")));
        }
        words
    }
}

async fn collect(mut body: Body) -> Result<Bytes, Failed> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("The answer broke off: {error}."))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if bytes.len() + piece.len() > MAX_ANSWER {
            return Err("It is too large for this tool; look at `run_log`.".to_owned());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// An attribute of a resource as text; empty when it is not there.
pub(super) fn attribute<'a>(resource: &'a Value, name: &str) -> &'a str {
    resource["attributes"][name].as_str().unwrap_or_default()
}

/// The id behind a relationship.
pub(super) fn related<'a>(resource: &'a Value, name: &str) -> Option<&'a str> {
    resource["relationships"][name]["data"]["id"].as_str()
}
