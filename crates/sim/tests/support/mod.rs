//! A client of the API and a folder with the real CLI, for tests and for recording.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses a part, and fails by panicking"
)]

pub(crate) mod proxy;

use std::process::{Output, Stdio};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sim::{Engine, TerraformCloud, example_cli_config, example_configuration};
use tempfile::TempDir;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {:?} {:?}", self.status, self.body))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client with one token.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    base: String,
    headers: Vec<(&'static str, String)>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Api {
    pub(crate) fn new(base: &str, token: Option<&str>) -> Self {
        let headers = token.map(|token| ("authorization", format!("Bearer {token}")));
        Self {
            base: base.to_owned(),
            headers: headers.into_iter().collect(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends a request to a path of the API, or to a whole URL; an error is a broken answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let url = if path.starts_with('/') {
            format!("{}{path}", self.base)
        } else {
            path.to_owned()
        };
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| error.to_string())?;
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
        self.send(Method::GET, path, Bytes::new()).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string())
            .await
            .unwrap()
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, body.to_string())
            .await
            .unwrap()
    }

    /// Posts and gives the answer's body as it comes.
    pub(crate) async fn open(&self, path: &str, body: &Value) -> hyper::body::Incoming {
        let mut request = http::Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        self.client.request(request).await.unwrap().into_body()
    }

    /// Fetches what a redirect leads to, without the token.
    pub(crate) async fn follow(&self, answer: &Answer) -> Answer {
        let location = answer.headers["location"].to_str().unwrap();
        Self::new("", None).get(location).await
    }

    /// Uploads a configuration; answers with its id.
    pub(crate) async fn upload(
        &self,
        workspace_id: &str,
        attributes: Value,
        files: &[(&str, &str)],
    ) -> String {
        let body = json!({"data": {"type": "configuration-versions", "attributes": attributes}});
        let path = format!("/api/v2/workspaces/{workspace_id}/configuration-versions");
        let answer = self.post(&path, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        let resource = answer.json();
        let url = resource["data"]["attributes"]["upload-url"]
            .as_str()
            .unwrap();
        let put = Self::new("", None)
            .send(Method::PUT, url, archive(files))
            .await
            .unwrap();
        assert_eq!(put.status, StatusCode::OK);
        resource["data"]["id"].as_str().unwrap().to_owned()
    }

    /// Makes a run; answers with its id.
    pub(crate) async fn run(
        &self,
        workspace_id: &str,
        configuration: &str,
        attributes: Value,
    ) -> String {
        let answer = self
            .post(
                "/api/v2/runs",
                &run_body(workspace_id, configuration, attributes),
            )
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()["data"]["id"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn run_body(workspace_id: &str, configuration: &str, attributes: Value) -> Value {
    json!({"data": {"type": "runs", "attributes": attributes, "relationships": {
        "workspace": {"data": {"type": "workspaces", "id": workspace_id}},
        "configuration-version": {"data": {"type": "configuration-versions", "id": configuration}},
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
        header.set_cksum();
        archive
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    Bytes::from(archive.into_inner().unwrap().finish().unwrap())
}

/// The real engine, or `None` after saying that the test is skipped. In CI it must be there.
pub(crate) fn terraform() -> Option<Engine> {
    let engine = Engine::detect();
    if matches!(
        engine,
        Engine::Real {
            name: "terraform",
            ..
        }
    ) {
        return Some(engine);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "terraform must be on the PATH in CI"
    );
    println!("skipped: terraform is not on the PATH");
    None
}

/// A folder in which the real CLI works for one credential.
#[derive(Debug)]
pub(crate) struct Cli {
    folder: TempDir,
    token: String,
}

impl Cli {
    pub(crate) fn new(cloud: &TerraformCloud, credential: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cli = Self {
            folder,
            token: cloud.token(credential).to_owned(),
        };
        std::fs::write(cli.path("cli.tfrc"), example_cli_config(&cloud.url())).unwrap();
        std::fs::create_dir(cli.path("work")).unwrap();
        for (name, text) in example_configuration() {
            cli.write(name, text);
        }
        cli
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn work(&self) -> std::path::PathBuf {
        self.path("work")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.work().join(name), text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("terraform");
        command
            .args(arguments)
            .current_dir(self.work())
            .env("TF_CLI_CONFIG_FILE", self.path("cli.tfrc"))
            .env("TF_TOKEN_app_terraform_io", &self.token)
            .env("HOME", self.folder.path())
            .env("CHECKPOINT_DISABLE", "1")
            .env_remove("HTTP_PROXY")
            .env_remove("http_proxy")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().await.unwrap())
    }

    /// Runs a command that must succeed.
    pub(crate) async fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(
            ended.code,
            Some(0),
            "{arguments:?}: {}\n{}",
            ended.stdout,
            ended.stderr
        );
        ended.stdout
    }
}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
