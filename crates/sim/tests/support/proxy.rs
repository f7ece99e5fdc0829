//! A thin hop between the CLI and the stand-in that does the one thing these tests need: it makes
//! every new run wait for confirmation, whatever the CLI asked for.

use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use sim::{TerraformCloud, example_cli_config};
use tempfile::TempDir;

type Upstream = (String, Client<HttpConnector, Full<Bytes>>);

#[derive(Debug)]
pub(crate) struct Hold {
    folder: TempDir,
}

impl Hold {
    pub(crate) fn cli_config(&self) -> PathBuf {
        self.folder.path().join("cli.tfrc")
    }
}

pub(crate) async fn held_by_proxy(cloud: &TerraformCloud) -> Hold {
    let upstream: Upstream = (
        cloud.url(),
        Client::builder(TokioExecutor::new()).build_http(),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(forward).with_state(upstream);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let folder = tempfile::tempdir().unwrap();
    let hold = Hold { folder };
    std::fs::write(
        hold.cli_config(),
        example_cli_config(&format!("http://{address}")),
    )
    .unwrap();
    hold
}

async fn forward(State((base, client)): State<Upstream>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut body = body.collect().await.unwrap().to_bytes();
    if parts.method == "POST" && parts.uri.path() == "/api/v2/runs" {
        let mut run: Value = serde_json::from_slice(&body).unwrap();
        run["data"]["attributes"]["auto-apply"] = false.into();
        body = Bytes::from(run.to_string());
    }
    let path = parts.uri.path_and_query().unwrap();
    let mut upstream = http::Request::builder()
        .method(parts.method.clone())
        .uri(format!("{base}{path}"));
    for name in [header::AUTHORIZATION, header::ACCEPT, header::CONTENT_TYPE] {
        if let Some(value) = parts.headers.get(&name) {
            upstream = upstream.header(name, value);
        }
    }
    let answer = client
        .request(upstream.body(Full::new(body)).unwrap())
        .await
        .unwrap();
    let (mut parts, body) = answer.into_parts();
    let kept: HeaderMap = parts
        .headers
        .drain()
        .filter_map(|(name, value)| Some((name?, value)))
        .filter(|(name, _)| *name != header::TRANSFER_ENCODING && *name != header::CONNECTION)
        .collect();
    parts.headers = kept;
    Response::from_parts(parts, Body::from(body.collect().await.unwrap().to_bytes()))
}
