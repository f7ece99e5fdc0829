//! A plain hop over the libraries that the gateway is made of, for `cargo xtask bench`: the same
//! server, the same client, the same allocator, and nothing in between. What a governed call takes
//! beyond this is what governing costs; what this takes beyond nginx is the libraries'.
//!
//! `plain_hop PORT UPSTREAM`: listens on PORT of loopback and passes `/openai/v1/…` on to `/v1/…` of
//! the other port. It reads bodies whole, as the gateway must before it decides.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use anyhow::Context;
use bytes::Bytes;
use clawgate::upstream::{HttpClient, http_client_with};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<u16>());
    let mut port = || words.next().context("PORT UPSTREAM")?.context("a port");
    let (own, upstream) = (port()?, port()?);
    let client = http_client_with(None)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, own)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let client = client.clone();
                async move { Ok::<_, Infallible>(pass(&client, upstream, request).await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is the load generator's affair: it counts what failed.
            let _ = connection.await;
        });
    }
}

async fn pass(
    client: &HttpClient,
    upstream: u16,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    exchange(client, upstream, request)
        .await
        .unwrap_or_else(|error| {
            let mut answer = Response::new(Full::from(error.to_string()));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        })
}

async fn exchange(
    client: &HttpClient,
    upstream: u16,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().trim_start_matches("/openai");
    let body = body.collect().await?.to_bytes();
    let request = Request::post(format!("http://127.0.0.1:{upstream}{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let (head, body) = client.request(request).await?.into_parts();
    let mut answer = Response::new(Full::new(body.collect().await?.to_bytes()));
    *answer.status_mut() = head.status;
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, kind.clone());
    }
    Ok(answer)
}
