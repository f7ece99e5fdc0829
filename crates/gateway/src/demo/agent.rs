//! The agent's plain HTTP client, and the operator's: what somebody with curl would do.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::upstream::{PlainConnector, plain_connector};

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A client with one credential.
pub(super) struct Caller {
    client: Client<PlainConnector, Full<Bytes>>,
    base: String,
    bearer: Option<String>,
}

/// An answer, read whole.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) receipt: Option<String>,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("an answer that is not JSON (status {})", self.status))
    }

    /// The reason code of a refusal, in whichever shape it came.
    pub(super) fn code(&self) -> Option<String> {
        let json: Value = serde_json::from_slice(&self.body).ok()?;
        let places = ["/errors/0/code", "/error/code", "/code"];
        places
            .iter()
            .find_map(|place| json.pointer(place)?.as_str().map(str::to_owned))
    }
}

impl Caller {
    /// A client that calls from the given address, or from whichever the system takes.
    pub(super) fn new(base: &str, bearer: Option<&str>, from: Option<IpAddr>) -> Self {
        let mut connector = plain_connector();
        connector.set_local_address(from);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            base: base.to_owned(),
            bearer: bearer.map(str::to_owned),
        }
    }

    /// Makes one call.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> anyhow::Result<Reply> {
        let absolute = path.starts_with("http://");
        let uri = if absolute {
            path.to_owned()
        } else {
            format!("{}{path}", self.base)
        };
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(bearer) = self.bearer.as_deref().filter(|_| !absolute) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.unwrap_or_default().into()))?;
        let response = tokio::time::timeout(Duration::from_secs(60), self.client.request(request))
            .await
            .context("no answer within a minute")??;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?
            .to_bytes();
        let receipt = parts
            .headers
            .get("x-clawgate-receipt")
            .and_then(|v| v.to_str().ok());
        Ok(Reply {
            status: parts.status,
            receipt: receipt.map(str::to_owned),
            body,
        })
    }

    /// Reads.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.call(Method::GET, path, &[], None).await
    }

    /// Sends JSON.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        let headers = [("content-type", "application/json")];
        self.call(
            Method::POST,
            path,
            &headers,
            Some(body.to_string().into_bytes()),
        )
        .await
    }

    /// Sends JSON:API.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Reply> {
        let headers = [("content-type", "application/vnd.api+json")];
        self.call(method, path, &headers, Some(body.to_string().into_bytes()))
            .await
    }
}
