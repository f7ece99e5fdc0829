//! `clawgate witness`: cosigns the checkpoints of gateways that somebody else runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use proof::checkpoint::is_key_name;
use proof::trust::TrustRoot;
use tokio::sync::watch;

use super::Failure;
use super::serve::{Stop, log_to_stderr};
use crate::config::{Limits, Listener, Tls};
use crate::keys;
use crate::server::{Body, Bound};
use crate::witness::{Answer, MAX_REQUEST_BYTES, Witness};

/// Connections at a time: gateways ask now and then.
const CONNECTIONS: usize = 64;

/// Cosigns checkpoints of gateways' logs after checking that they go on
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate key new witness.key
  clawgate witness --name witness.example.org --key witness.key --trust trust.json --state seen
  clawgate witness --name witness.example.org --key witness.key --trust a.json --trust b.json \\
      --state seen --address 0.0.0.0:8790 --certificate-file w.crt --key-file w.key

Another team runs it, on another machine than the gateway's. It remembers the last checkpoint of
each log in the folder --state and never vouches for another past; keep that folder, and never
restore it from a backup while gateways go on. The gateway lists it under log.witnesses.")]
pub(super) struct Serve {
    /// Its name in checkpoints
    #[arg(long, value_name = "NAME", value_parser = key_name)]
    name: String,
    /// Its private key, from `clawgate key new`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The trust root of a gateway; give it again for another one
    #[arg(long, value_name = "FILE", required = true)]
    trust: Vec<PathBuf>,
    /// Folder of what was seen last
    #[arg(long, value_name = "FOLDER")]
    state: PathBuf,
    /// Where it listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8790")]
    address: SocketAddr,
    /// Certificate chain for TLS, PEM
    #[arg(long, value_name = "FILE", requires = "key_file")]
    certificate_file: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    key_file: Option<PathBuf>,
    /// Speak plain HTTP on an address that is not loopback: something in front does TLS
    #[arg(long)]
    allow_plaintext: bool,
}

impl Serve {
    pub(super) async fn run(self) -> Result<(), Failure> {
        log_to_stderr(false, "info")?;
        let tls = self.certificate_file.zip(self.key_file);
        if tls.is_none() && !self.address.ip().is_loopback() && !self.allow_plaintext {
            return Err(Failure::usage(format!(
                "{} would speak plain HTTP to other machines",
                self.address
            ))
            .next("give --certificate-file and --key-file, or --allow-plaintext"));
        }
        let mut logs = Vec::new();
        for file in &self.trust {
            let bytes = std::fs::read(file).map_err(|error| {
                Failure::new(format!("cannot read `{}`: {error}", file.display()))
            })?;
            let trust: TrustRoot = proof::json::from_slice(&bytes).map_err(|error| {
                Failure::new(format!("`{}` is not a trust root: {error}", file.display()))
            })?;
            logs.push(trust);
        }
        let key = keys::read_key(&self.key)?;
        let did = key.did();
        let witness = Witness::open(&self.name, key, logs, &self.state)
            .map_err(|error| Failure::new(super::chain(&error)))?;
        let listener = Listener {
            address: self.address,
            public_url: None,
            tls: tls.map(|(certificate_file, key_file)| Tls {
                certificate_file,
                key_file,
            }),
            allow_plaintext: self.allow_plaintext,
        };
        let mut signals = Stop::listen()?;
        let bound = Bound::bind(&listener)
            .await
            .map_err(|error| Failure::new(format!("{error:#}")))?;
        let limits = Limits {
            connections: CONNECTIONS,
            connections_per_holder: CONNECTIONS,
            ..Limits::default()
        };
        anstream::println!("{} at {} with {did}", self.name, bound.url);
        let (stop, stopping) = watch::channel(false);
        let witness = Arc::new(witness);
        let handler = move |request, _| answer(Arc::clone(&witness), request);
        let served = bound.serve(&limits, stopping, handler);
        tokio::pin!(served);
        tokio::select! {
            () = &mut served => {}
            _ = signals.recv() => {
                stop.send_replace(true);
                served.await;
            }
        }
        Ok(())
    }
}

async fn answer(witness: Arc<Witness>, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() != "/add-checkpoint" {
        return text(StatusCode::NOT_FOUND, "POST /add-checkpoint".to_owned());
    }
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST".to_owned());
    }
    let patience = std::time::Duration::from_secs(Limits::default().body_timeout_seconds);
    let body = Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect();
    let body = match tokio::time::timeout(patience, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return text(StatusCode::PAYLOAD_TOO_LARGE, "too large".to_owned()),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "too slow".to_owned()),
    };
    match witness.add(&body, crate::app::now()).await {
        Answer::Cosigned(line) => text(StatusCode::OK, line),
        Answer::Conflict(size) => {
            let mut response = text(StatusCode::CONFLICT, format!("{size}\n"));
            let kind = http::HeaderValue::from_static("text/x.tlog.size");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Answer::Refused(status, why) => text(status, format!("{why}\n")),
    }
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response
}

fn key_name(text: &str) -> Result<String, String> {
    match is_key_name(text) {
        true => Ok(text.to_owned()),
        false => Err("a name has no spaces and no `+`".to_owned()),
    }
}
