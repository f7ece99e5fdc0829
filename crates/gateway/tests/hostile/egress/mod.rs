//! The egress proxy as an attacker meets it, and as real clients do.

mod destinations;
mod passing;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clawgate::app::App;
use clawgate::clawproxy::egress::Resolve;
use clawverify::{Options, Verdict, verify};
use futures_util::future::BoxFuture;
use proof::record::{Body, Ended, JobId, Lane, Outcome};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::rig::{Call, ELSEWHERE, HERE, Reply, Rig, lossy};

/// Answers of a made-up DNS: each name's one after the other, the last one again and again.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<HashMap<String, Answers>>>);

/// How often a name was asked for, and what it answers in turn.
type Answers = (usize, Vec<Vec<IpAddr>>);

impl Names {
    fn leads(&self, name: &str, answers: &[&[&str]]) {
        let parsed = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        let answers = answers.iter().map(parsed).collect();
        self.0.lock().unwrap().insert(name.to_owned(), (0, answers));
    }

    fn asked(&self, name: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .get(name)
            .map_or(0, |(asked, _)| *asked)
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let mut names = self.0.lock().unwrap();
        let entry = names.entry(name.to_owned()).or_default();
        let answer = entry.1.get(entry.0).or(entry.1.last()).cloned();
        entry.0 += 1;
        Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

/// A server that answers each plain request with the head that it saw, and says how many came.
struct Origin {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let head = read_head(&mut stream).await;
                    seen.lock().unwrap().push(head);
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { address, heads }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn seen(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// A server that sends back what it is sent, says goodbye when the client has said all, and closes.
async fn echo() -> u16 {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                if tokio::io::copy(&mut from, &mut to).await.is_ok() {
                    let _ = to.write_all(b"goodbye").await;
                }
            });
        }
    });
    port
}

/// An HTTPS server of that name, with its certificate.
async fn https(name: &str) -> (u16, rcgen::CertifiedKey<rcgen::KeyPair>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut come = Vec::new();
                while !come.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut come).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let answer =
                    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (port, made)
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut come = Vec::new();
    while !come.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut come).await.unwrap_or(0) == 0 {
            break;
        }
    }
    lossy(&come)
}

fn listing(hosts: &[String]) -> String {
    let mut contract: Value = serde_json::from_str(policy::EXAMPLE_CONTRACT).unwrap();
    contract["egress"] = json!({ "allow_hosts": hosts });
    contract.to_string()
}

/// An installation whose contract lists these hosts, and whose operator excepts this machine.
async fn rig(hosts: &[String], names: &Names) -> Rig {
    let excepted = |config: &mut clawgate::config::Config| {
        config.egress.allow_private = vec!["127.0.0.1/32".parse().unwrap()];
    };
    configured(hosts, names, excepted).await
}

async fn configured(
    hosts: &[String],
    names: &Names,
    change: impl FnOnce(&mut clawgate::config::Config),
) -> Rig {
    let rig = Rig::under(&listing(hosts)).await;
    rig.restarted_resolving(change, Arc::new(names.clone()))
        .await
}

impl Rig {
    fn proxied(&self, method: &str, target: &str) -> Call {
        let host = target.trim_start_matches("http://").split('/').next();
        self.nobody(method, target)
            .header("host", host.unwrap_or_default())
            .header("proxy-authorization", &basic(&self.sandbox.cst))
    }

    /// A tunnel, with what came behind the answer's head.
    async fn tunnel(&self, to: &str, behind: &[u8]) -> (TcpStream, String) {
        let mut stream = self.connect(HERE).await;
        let authorization = basic(&self.sandbox.cst);
        let head = format!(
            "CONNECT {to} HTTP/1.1\r\nhost: {to}\r\nproxy-authorization: {authorization}\r\n\r\n"
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(behind);
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await.expect("an answer");
            answer.push(byte);
        }
        (stream, lossy(&answer))
    }

    async fn ends(&self, job: &JobId, count: usize) -> Vec<(Value, Outcome)> {
        ends(self.app(), job, count).await
    }

    async fn token_under(&self, job: &JobId, contract: &str) -> String {
        let contract = policy::Contract::parse(contract.as_bytes()).unwrap();
        clawgate::demo::sandbox::mint(self.app(), job, &contract)
            .await
            .unwrap()
    }
}

/// The outcomes of the egress lane, with their inputs, once there are so many.
async fn ends(app: &App, job: &JobId, count: usize) -> Vec<(Value, Outcome)> {
    let mut commits = app.store.commits();
    loop {
        let (mut found, mut asked) = (Vec::new(), HashMap::new());
        let records = app.store.records(job, 0, 1000).await.unwrap();
        for row in records {
            match row.record.body {
                Body::Intent(intent) if intent.lane == Lane::Egress => {
                    let input = serde_json::to_value(&intent.input).unwrap();
                    asked.insert(row.record.seq, input);
                }
                Body::Outcome(outcome) => {
                    if let Some(input) = asked.remove(&outcome.intent_seq) {
                        found.push((input, *outcome));
                    }
                }
                _ => {}
            }
        }
        if found.len() >= count {
            return found;
        }
        commits.changed().await.unwrap();
    }
}

fn basic(token: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("anybody:{token}")))
}

/// Reads to the end, whether that is a farewell or a broken connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    lossy(&rest)
}
