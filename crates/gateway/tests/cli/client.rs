//! Plain HTTP clients: an agent's and an operator's.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// An answer, read whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The reason code of a refusal, in whichever shape it came; empty for a success.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        let places = ["/errors/0/code", "/error/code", "/code"];
        let code = places
            .iter()
            .find_map(|place| json.pointer(place)?.as_str());
        code.unwrap_or_default().to_owned()
    }

    /// The document of a success; anything else fails the test.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        self.json()
    }
}

/// A client with one credential.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    http: Client<HttpConnector, Full<Bytes>>,
    base: String,
    bearer: Option<String>,
}

impl Caller {
    pub(crate) fn new(base: &str, bearer: Option<&str>) -> Self {
        Self::from_address(base, bearer, None)
    }

    /// A client that calls from another loopback address: to the gateway, another machine.
    pub(crate) fn from_address(
        base: &str,
        bearer: Option<&str>,
        address: Option<std::net::IpAddr>,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(address);
        Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            base: base.to_owned(),
            bearer: bearer.map(str::to_owned),
        }
    }

    /// Makes one call; a path that is a whole address is called without the credential.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.try_call(method, path, headers, body).await.unwrap()
    }

    /// The same for a call that may break off.
    pub(crate) async fn try_call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
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
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = self
            .http
            .request(request)
            .await
            .map_err(|error| format!("{error:?}"))?;
        let (parts, body) = answer.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], Bytes::new()).await
    }

    /// Posts JSON as an operator does.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.call(Method::POST, path, &headers, body.to_string())
            .await
    }

    /// Posts JSON:API as Terraform's clients do.
    pub(crate) async fn send(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/vnd.api+json")];
        self.call(Method::POST, path, &headers, body.to_string())
            .await
    }

    /// Opens a configuration version and uploads the files; its id, or the refusal.
    pub(crate) async fn upload(
        &self,
        workspace: &str,
        speculative: bool,
        files: &[(&str, &str)],
    ) -> Result<String, Answer> {
        let path = format!("/api/v2/workspaces/{workspace}/configuration-versions");
        let attributes = json!({"auto-queue-runs": false, "speculative": speculative});
        let body = json!({"data": {"type": "configuration-versions", "attributes": attributes}});
        let opened = self.send(&path, &body).await;
        if !opened.status.is_success() {
            return Err(opened);
        }
        let resource = opened.json();
        let address = resource["data"]["attributes"]["upload-url"]
            .as_str()
            .unwrap();
        let put = self.call(Method::PUT, address, &[], archive(files)).await;
        if !put.status.is_success() {
            return Err(put);
        }
        Ok(resource["data"]["id"].as_str().unwrap().to_owned())
    }

    /// Asks for a run.
    pub(crate) async fn run(&self, workspace: &str, upload: &str, attributes: &Value) -> Answer {
        self.send("/api/v2/runs", &run_body(workspace, upload, attributes))
            .await
    }
}

pub(crate) fn run_body(workspace: &str, upload: &str, attributes: &Value) -> Value {
    json!({"data": {"type": "runs", "attributes": attributes, "relationships": {
        "workspace": {"data": {"type": "workspaces", "id": workspace}},
        "configuration-version": {"data": {"type": "configuration-versions", "id": upload}},
    }}})
}

/// Packs files as the CLI does.
pub(crate) fn archive(files: &[(&str, &str)]) -> Bytes {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    Bytes::from(archive.into_inner().unwrap().finish().unwrap())
}
