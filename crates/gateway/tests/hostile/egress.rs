//! The egress proxy as an attacker meets it, and as real clients do.

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

#[tokio::test]
async fn real_clients_reach_what_the_contract_lists_and_nothing_else() {
    let (port, made) = https("registry.example").await;
    let plain = Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").await;
    let names = Names::default();
    names.leads("registry.example", &[&["127.0.0.1"]]);
    let at = |port| format!("registry.example:{port}");
    let rig = rig(&[at(port), at(plain.port())], &names).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let agent = rig.sandbox.gateway.agent_url.trim_start_matches("http://");
    let proxy = format!("http://agent:{}@{agent}", rig.sandbox.cst);
    let good = format!("https://registry.example:{port}/x");
    let unencrypted = format!("http://registry.example:{}/x", plain.port());
    let outside = format!("https://elsewhere.example:{port}/x");

    let curl = |url: &str| {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--fail", "--cacert"])
            .arg(&ca)
            .arg(url);
        command.env("https_proxy", &proxy).env("http_proxy", &proxy);
        command.stdin(Stdio::null());
        command
    };
    let output = curl(&good).output().await.unwrap();
    assert_eq!(lossy(&output.stdout), "hello", "{}", lossy(&output.stderr));
    let output = curl(&unencrypted).output().await.unwrap();
    assert_eq!(lossy(&output.stdout), "plain", "{}", lossy(&output.stderr));
    let output = curl(&outside).output().await.unwrap();
    assert!(
        lossy(&output.stderr).contains("403"),
        "{}",
        lossy(&output.stderr)
    );

    let mut tunnels = 2;
    match std::env::var_os("CLAWGATE_PYTHON") {
        Some(python) => {
            let script = "import sys, httpx, requests\n\
                for get in httpx.get, requests.get:\n\
                \x20 for url in sys.argv[1:3]: print(get(url).text)\n\
                \x20 try: get(sys.argv[3])\n\
                \x20 except Exception as error: print('403' in str(error))\n";
            let mut command = Command::new(python);
            command.args(["-c", script, &good, &unencrypted, &outside]);
            command
                .env("SSL_CERT_FILE", &ca)
                .env("REQUESTS_CA_BUNDLE", &ca);
            command.env("HTTPS_PROXY", &proxy).env("HTTP_PROXY", &proxy);
            let output = command.output().await.unwrap();
            let expected = "hello\nplain\nTrue\n".repeat(2);
            assert_eq!(lossy(&output.stdout), expected, "{}", lossy(&output.stderr));
            tunnels += 4;
        }
        None if std::env::var_os("CI").is_some() => panic!("CLAWGATE_PYTHON is not set"),
        None => eprintln!("left out: httpx and requests, for want of CLAWGATE_PYTHON"),
    }
    let job = rig.sandbox.job_id.clone();
    let ends = rig.ends(&job, tunnels).await;
    for (input, outcome) in &ends {
        assert_eq!(input["host"], "registry.example");
        assert_eq!(input["addresses"], json!(["127.0.0.1"]));
        assert_eq!(input["excepted"], json!(["127.0.0.1/32"]));
        let egress = outcome.egress.as_ref().unwrap();
        assert_eq!(egress.address, Some(Ipv4Addr::LOCALHOST.into()));
        let tunnel = input["operation"] == "connect";
        assert_eq!(egress.sent_bytes > 0, tunnel, "{outcome:?}");
        assert!(outcome.response_bytes >= 5 && outcome.receipt.is_some());
        // Some clients reset a tunnel when they have what they wanted.
        let orderly = [Ended::Complete, Ended::ClientGone];
        assert!(
            orderly.contains(&outcome.ended) && outcome.code.is_none(),
            "{outcome:?}"
        );
        assert!(tunnel || outcome.ended == Ended::Complete);
    }
    // What the proxy is told stays there.
    for head in plain.seen() {
        let head = head.to_lowercase();
        assert!(
            !head.contains("proxy-") && head.contains("via: 1.1 clawgate"),
            "{head}"
        );
        assert!(head.starts_with("get /x http/1.1\r\n"), "{head}");
    }
    let close = rig.operator("POST", &format!("/v1/jobs/{job}/close"));
    close.json(&json!({ "reason": "done" })).send().await.ok();
    let bundle = rig
        .operator("GET", &format!("/v1/jobs/{job}/bundle"))
        .send()
        .await;
    let root = rig.operator("GET", "/v1/trust").send().await;
    let report = verify(&bundle.body, &root.body, &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
}

#[tokio::test]
async fn destinations_in_disguise_are_refused() {
    let names = Names::default();
    for name in [
        "listed.example",
        "tunnel.example",
        "metadata.listed.example",
    ] {
        names.leads(name, &[&["169.254.169.254"]]);
    }
    let hosts = [
        "listed.example",
        "*.listed.example",
        "169.254.169.254",
        "[::1]",
        "tunnel.example:80",
    ];
    let hosts = hosts.map(str::to_owned);
    let rig = configured(&hosts, &names, |_| ()).await;
    let seen = rig.seen();
    for (method, target, status, code) in [
        (
            "CONNECT",
            "elsewhere.example:443",
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        ("CONNECT", "listed.example:8443", 403, "EGRESS_NOT_ALLOWED"),
        ("CONNECT", "listed.example:80", 403, "EGRESS_NOT_ALLOWED"),
        (
            "CONNECT",
            "listed.example.evil.example:443",
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        ("CONNECT", "169.254.169.254:443", 403, "EGRESS_ADDRESS"),
        ("CONNECT", "169.254.169.254:80", 403, "EGRESS_NOT_ALLOWED"),
        ("CONNECT", "[::1]:443", 403, "EGRESS_ADDRESS"),
        (
            "CONNECT",
            "[::ffff:169.254.169.254]:443",
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        ("CONNECT", "127.0.0.1:443", 403, "EGRESS_NOT_ALLOWED"),
        ("CONNECT", "2852039166:443", 400, "EGRESS_TARGET"),
        ("CONNECT", "0xa9fea9fe:443", 400, "EGRESS_TARGET"),
        ("CONNECT", "0251.0376.0251.0376:443", 400, "EGRESS_TARGET"),
        ("CONNECT", "169.254.43518:443", 400, "EGRESS_TARGET"),
        ("CONNECT", "listed.example", 400, "EGRESS_TARGET"),
        ("CONNECT", "listed.example:0", 400, "EGRESS_TARGET"),
        ("CONNECT", "listed.example:https", 400, "EGRESS_TARGET"),
        ("CONNECT", "user@listed.example:443", 400, "EGRESS_TARGET"),
        (
            "CONNECT",
            "metadata.listed.example:443",
            403,
            "EGRESS_ADDRESS",
        ),
        ("CONNECT", "LISTED.example.:443", 403, "EGRESS_ADDRESS"),
        ("CONNECT", "tunnel.example:80", 403, "EGRESS_ADDRESS"),
        (
            "CONNECT",
            "nowhere.listed.example:443",
            403,
            "EGRESS_UNRESOLVED",
        ),
        ("CONNECT", "/", 400, "EGRESS_TARGET"),
        (
            "GET",
            "http://169.254.169.254/latest/meta-data/",
            403,
            "EGRESS_ADDRESS",
        ),
        ("GET", "http://listed.example/", 403, "EGRESS_ADDRESS"),
        (
            "GET",
            "http://elsewhere.example/",
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        ("GET", "https://listed.example/", 400, "EGRESS_TARGET"),
        (
            "GET",
            "http://listed.example:443/",
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        (
            "GET",
            "http://user:pass@listed.example/",
            400,
            "EGRESS_TARGET",
        ),
        ("TRACE", "http://listed.example/", 405, "METHOD_NOT_ALLOWED"),
    ] {
        let reply = rig.proxied(method, target).send().await;
        assert_eq!(
            reply.refusal(),
            (status, code.to_owned()),
            "{method} {target}"
        );
        assert_eq!(reply.header("connection"), Some("close"), "{target}");
    }
    // What is not listed is not even looked up.
    for name in ["elsewhere.example", "listed.example.evil.example"] {
        assert_eq!(names.asked(name), 0, "{name}");
    }
    rig.assert_silent(&seen, "egress");
    assert_eq!(rig.app().egress.open(), 0);
    let refused = rig.refusals(&rig.sandbox.job_id).await;
    assert_eq!(refused.len(), 29, "each refusal is recorded");
}

#[tokio::test]
async fn names_that_lead_inside_are_refused_whatever_they_say_next() {
    let origin = Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let names = Names::default();
    names.leads("inside.example", &[&["10.0.0.7"]]);
    names.leads("mixed.example", &[&["93.184.216.34", "10.0.0.7"]]);
    names.leads("six.example", &[&["::ffff:127.0.0.1"]]);
    // Says another address at each question: what was judged is what is connected to.
    names.leads(
        "turning.example",
        &[&["127.0.0.1"], &["127.0.0.2"], &["10.0.0.7"]],
    );
    names.leads("own.example", &[&["127.0.0.1"]]);
    let port = origin.port();
    let at = |name: &str, port: u16| format!("{name}:{port}");
    let listed = [
        "inside.example",
        "mixed.example",
        "six.example",
        "turning.example",
    ];
    let hosts: Vec<String> = listed.iter().map(|name| at(name, port)).collect();
    let rig = rig(&hosts, &names).await;
    for (name, code) in [
        ("inside.example", "EGRESS_ADDRESS"),
        ("mixed.example", "EGRESS_ADDRESS"),
        ("six.example", "EGRESS_ADDRESS"),
    ] {
        let reply = rig
            .proxied("GET", &format!("http://{}/", at(name, port)))
            .send()
            .await;
        assert_eq!(reply.refusal(), (403, code.to_owned()), "{name}");
    }
    let ask = || rig.proxied("GET", &format!("http://{}/", at("turning.example", port)));
    assert_eq!(ask().send().await.text(), "ok");
    assert_eq!(
        names.asked("turning.example"),
        1,
        "one question for one connection"
    );
    assert_eq!(ask().send().await.refusal().1, "EGRESS_ADDRESS");
    assert_eq!(ask().send().await.refusal().1, "EGRESS_ADDRESS");
    assert_eq!(origin.seen().len(), 1);

    // The gateway's listeners and Terraform Cloud, by a name that leads there and by address.
    let port_of = |url: &str| url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let reserved = [
        port_of(&rig.sandbox.gateway.agent_url),
        port_of(&rig.sandbox.gateway.operator_url),
        port_of(&rig.sandbox.cloud.url()),
    ];
    let mut around: Vec<String> = reserved
        .iter()
        .map(|port| at("own.example", *port))
        .collect();
    around.extend(reserved.iter().map(|port| at("127.0.0.1", *port)));
    let hash = rig.publish(&listing(&around)).await;
    let job = rig.job_under(hash).await;
    let token = {
        let contract = policy::Contract::parse(listing(&around).as_bytes()).unwrap();
        clawgate::demo::sandbox::mint(rig.app(), &job, &contract)
            .await
            .unwrap()
    };
    let seen = rig.seen();
    for to in &around {
        let call = rig.proxied("CONNECT", to).without("proxy-authorization");
        let call = call.header("proxy-authorization", &format!("Bearer {token}"));
        assert_eq!(
            call.send().await.refusal(),
            (403, "EGRESS_RESERVED".to_owned()),
            "{to}"
        );
    }
    rig.assert_silent(&seen, "a way around");
}

#[tokio::test]
async fn the_proxy_has_a_credential_of_its_own() {
    let origin = Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let to = format!("listed.example:{}", origin.port());
    let rig = rig(std::slice::from_ref(&to), &names).await;
    let cst = rig.sandbox.cst.clone();
    let call = || {
        rig.nobody("GET", &format!("http://{to}/"))
            .header("host", &to)
    };
    let other = rig.publish(policy::EXAMPLE_CONTRACT).await;
    let others_job = rig.job_under(other).await;
    let contract = policy::Contract::parse(policy::EXAMPLE_CONTRACT.as_bytes()).unwrap();
    let others = clawgate::demo::sandbox::mint(rig.app(), &others_job, &contract)
        .await
        .unwrap();
    let with = |value: &str| call().header("proxy-authorization", value);
    let bearer = format!("Bearer {cst}");
    for (what, call, status, code) in [
        ("nothing", call(), 407, "TOKEN_MISSING"),
        (
            "the other header",
            call().bearer(&cst),
            407,
            "TOKEN_MISSING",
        ),
        (
            "a key",
            call().header("x-api-key", &cst),
            407,
            "TOKEN_MISSING",
        ),
        (
            "another scheme",
            with(&format!("Digest {cst}")),
            407,
            "TOKEN_MALFORMED",
        ),
        (
            "two",
            with(&bearer).header("proxy-authorization", &bearer),
            407,
            "TOKEN_AMBIGUOUS",
        ),
        (
            "an operator's",
            with(&basic(&rig.sandbox.operator_token)),
            407,
            "TOKEN_MALFORMED",
        ),
        (
            "a changed one",
            with(&basic(&format!("{cst}x"))),
            407,
            "TOKEN_MALFORMED",
        ),
        (
            "a thief's",
            with(&bearer).from(ELSEWHERE),
            407,
            "TOKEN_REPLAYED",
        ),
        (
            "another job's",
            with(&basic(&others)),
            403,
            "EGRESS_NOT_ALLOWED",
        ),
        (
            "another job named",
            with(&bearer).header("x-job-id", "job_x"),
            407,
            "TOKEN_JOB_MISMATCH",
        ),
        // It would leave the gateway with the request.
        (
            "both headers",
            with(&bearer).bearer(&cst),
            400,
            "HEADER_NOT_ALLOWED",
        ),
        (
            "the other header, too",
            with(&bearer).header("authorization", &basic(&cst)),
            400,
            "HEADER_NOT_ALLOWED",
        ),
        (
            "a cookie",
            with(&bearer).header("cookie", &format!("a=b; t={cst}")),
            400,
            "HEADER_NOT_ALLOWED",
        ),
    ] {
        if what == "a thief's" {
            // Bound to its first user by now.
            assert_eq!(with(&bearer).send().await.status, 200);
        }
        let reply = call.send().await;
        assert_eq!(reply.refusal(), (status, code.to_owned()), "{what}");
        let challenged = reply.header("proxy-authenticate").is_some();
        assert_eq!(challenged, status == 407, "{what}");
    }
    assert_eq!(with(&basic(&cst)).send().await.text(), "ok");
    assert_eq!(origin.seen().len(), 2);
    // An origin's own credential is its own affair.
    let reply = with(&bearer)
        .header("authorization", "Bearer theirs")
        .send()
        .await;
    assert_eq!(reply.status, 200);
    assert!(origin.seen()[2].contains("authorization: Bearer theirs"));
    // A credential for the proxy is worth nothing elsewhere.
    let reply = rig
        .nobody("GET", "/api/v2/ping")
        .header("proxy-authorization", &bearer);
    assert_eq!(
        reply.send().await.refusal(),
        (401, "TOKEN_MISSING".to_owned())
    );
}

#[tokio::test]
async fn requests_end_where_they_say() {
    let origin = Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let to = format!("listed.example:{}", origin.port());
    let rig = rig(std::slice::from_ref(&to), &names).await;
    let get = || rig.proxied("GET", &format!("http://{to}/"));
    let post = || rig.proxied("POST", &format!("http://{to}/"));
    let chunked = || post().header("transfer-encoding", "chunked");
    let connect = || rig.proxied("CONNECT", &to);
    for (what, call, code) in [
        ("a body of GET", get().body("x"), "BODY_UNEXPECTED"),
        ("a body of CONNECT", connect().body("x"), "BODY_UNEXPECTED"),
        (
            "another coding",
            post().header("transfer-encoding", "gzip, chunked"),
            "HEADER_NOT_ALLOWED",
        ),
        (
            "an upgrade",
            get().header("upgrade", "websocket"),
            "HEADER_NOT_ALLOWED",
        ),
        (
            "another host",
            get().without("host").header("host", "other.example"),
            "HEADER_NOT_ALLOWED",
        ),
        ("two hosts", get().header("host", &to), "HEADER_NOT_ALLOWED"),
        (
            "a circle",
            get().header("via", "1.1 clawgate"),
            "HEADER_NOT_ALLOWED",
        ),
        (
            "a large head",
            get().header("x-filler", &"x".repeat(40_000)),
            "HEADER_NOT_ALLOWED",
        ),
    ] {
        let reply = call.send().await;
        assert_eq!(reply.refusal().1, code, "{what}: {}", reply.whole);
    }
    assert!(origin.seen().is_empty());
    // Two lengths: one request at most goes out, and nothing behind it is read.
    let smuggled = chunked().body("0\r\n\r\nGET http://listed.example/smuggled HTTP/1.1\r\n\r\n");
    let reply = smuggled.send().await;
    assert!(
        reply.status == 400 || reply.header("connection") == Some("close"),
        "{}",
        reply.whole
    );
    let seen = origin.seen();
    assert!(
        seen.len() <= 1 && !seen.concat().contains("smuggled"),
        "{seen:?}"
    );
    // A pipelined second request is one of its own, with its own credential or none.
    let mut bytes = get().bytes();
    let end = bytes.len() - b"connection: close\r\n\r\n".len();
    bytes.truncate(end);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(
        &rig.nobody("GET", &format!("http://{to}/second"))
            .header("host", &to)
            .bytes(),
    );
    let answers = lossy(&rig.raw(&bytes).await);
    assert!(
        answers.contains("HTTP/1.1 200") && answers.contains("HTTP/1.1 407"),
        "{answers}"
    );
    // Hop by hop, in both directions.
    let call = get()
        .header("x-own", "1")
        .header("x-end", "2")
        .header("te", "trailers");
    let call = call
        .header("forwarded", "for=1.2.3.4")
        .header("x-forwarded-for", "1.2.3.4");
    let mut bytes = lossy(&call.bytes());
    bytes = bytes.replace("connection: close", "connection: close, x-own");
    let reply = Reply::read(&rig.raw(bytes.as_bytes()).await).unwrap();
    assert_eq!(reply.text(), "ok");
    let head = origin.seen().pop().unwrap();
    assert!(
        head.contains("x-end: 2") && !head.contains("x-own"),
        "{head}"
    );
    assert!(
        !head.contains("forwarded") && !head.contains("te:"),
        "{head}"
    );
}

#[tokio::test]
async fn bytes_pass_in_both_directions_until_both_have_said_all() {
    let port = echo().await;
    let (tls, made) = https("listed.example").await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let at = |port| format!("listed.example:{port}");
    let rig = rig(&[at(port), at(tls), at(9)], &names).await;
    let job = rig.sandbox.job_id.clone();
    // What is sent before the answer came is not lost, and a half that is closed is closed.
    let (mut stream, answer) = rig.tunnel(&at(port), b"early ").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-clawgate-receipt: rcpt_"), "{answer}");
    stream.write_all(b"and late").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "early and lategoodbye");
    let (_, outcome) = rig.ends(&job, 1).await.remove(0);
    assert_eq!(
        (outcome.ended, outcome.status),
        (Ended::Complete, Some(200))
    );
    assert_eq!(
        (outcome.egress.unwrap().sent_bytes, outcome.response_bytes),
        (14, 21)
    );

    // TLS within is held to the name that was asked for.
    let connector = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tokio_rustls::TlsConnector::from(Arc::new(config))
    };
    let (stream, _) = rig.tunnel(&at(tls), b"").await;
    let fronted = rustls::pki_types::ServerName::try_from("other.example").unwrap();
    assert!(connector(&made).connect(fronted, stream).await.is_err());
    let (_, outcome) = rig.ends(&job, 2).await.remove(1);
    assert_eq!(outcome.ended, Ended::CutByPolicy);
    assert_eq!(outcome.code.as_deref(), Some("EGRESS_SERVER_NAME"));
    assert_eq!(outcome.egress.unwrap().sent_bytes, 0, "nothing went out");
    let (stream, _) = rig.tunnel(&at(tls), b"").await;
    let right = rustls::pki_types::ServerName::try_from("listed.example").unwrap();
    drop(connector(&made).connect(right, stream).await.unwrap());
    rig.ends(&job, 3).await;

    // A client that is gone, and a server that is not there.
    let (stream, _) = rig.tunnel(&at(port), b"").await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let (_, outcome) = rig.ends(&job, 4).await.remove(3);
    assert!(
        [Ended::ClientGone, Ended::Complete].contains(&outcome.ended),
        "{outcome:?}"
    );
    let reply = rig.proxied("CONNECT", &at(9)).send().await;
    assert_eq!(reply.refusal(), (503, "UPSTREAM_UNAVAILABLE".to_owned()));
    let (_, outcome) = rig.ends(&job, 5).await.remove(4);
    assert_eq!(outcome.ended, Ended::UpstreamReset);
    assert_eq!(outcome.egress.unwrap().address, None);
}

#[tokio::test]
async fn a_broken_answer_is_not_taken_for_a_whole_one() {
    let cut = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let origin = Origin::start(cut).await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let to = format!("listed.example:{}", origin.port());
    let rig = rig(std::slice::from_ref(&to), &names).await;
    let answer = rig
        .raw(&rig.proxied("GET", &format!("http://{to}/")).bytes())
        .await;
    assert!(lossy(&answer).contains("hello"));
    assert!(!lossy(&answer).ends_with("0\r\n\r\n"), "{}", lossy(&answer));
    let (_, outcome) = rig.ends(&rig.sandbox.job_id, 1).await.remove(0);
    assert_eq!(
        (outcome.ended, outcome.response_bytes),
        (Ended::UpstreamReset, 5)
    );
}

#[tokio::test]
async fn what_the_record_counts_is_what_the_client_is_given() {
    let two_lengths = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n\
                       5\r\nhello\r\n0\r\n\r\n";
    let origin = Origin::start(two_lengths).await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let to = format!("listed.example:{}", origin.port());
    let rig = rig(std::slice::from_ref(&to), &names).await;
    let call = rig.proxied("GET", &format!("http://{to}/"));
    let answer = lossy(&rig.raw(&call.bytes()).await).to_lowercase();
    assert!(!answer.contains("content-length"), "{answer}");
    assert!(
        answer.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        "{answer}"
    );
    let (_, outcome) = rig.ends(&rig.sandbox.job_id, 1).await.remove(0);
    assert_eq!(
        (outcome.ended, outcome.response_bytes),
        (Ended::Complete, 5)
    );
}

#[tokio::test]
async fn tunnels_are_cut_and_counted() {
    let port = echo().await;
    let names = Names::default();
    names.leads("listed.example", &[&["127.0.0.1"]]);
    let to = format!("listed.example:{port}");
    let bounded = |config: &mut clawgate::config::Config| {
        config.egress.allow_private = vec!["127.0.0.1/32".parse().unwrap()];
        config.egress.connections_per_job = 1;
        config.limits.drain_seconds = 1;
    };
    let rig = configured(std::slice::from_ref(&to), &names, bounded).await;
    let hash = rig.publish(&listing(std::slice::from_ref(&to))).await;
    let contract = policy::Contract::parse(listing(std::slice::from_ref(&to)).as_bytes()).unwrap();
    for (what, code) in [
        ("revoked", "TOKEN_REVOKED"),
        ("closed", "TOKEN_JOB_CLOSED"),
        ("withdrawn", "CONTRACT_WITHDRAWN"),
    ] {
        let job = rig.job_under(hash).await;
        let token = clawgate::demo::sandbox::mint(rig.app(), &job, &contract)
            .await
            .unwrap();
        let call = rig.proxied("CONNECT", &to).without("proxy-authorization");
        let call = call.header("proxy-authorization", &basic(&token));
        let head = lossy(&call.bytes()).replace("connection: close\r\n", "");
        let mut stream = rig.connect(HERE).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        assert_eq!(call.send().await.refusal(), (429, "EGRESS_BUSY".to_owned()));
        let done = match what {
            "revoked" => {
                let hash = proof::token::token_hash(&token).to_hex();
                rig.operator("POST", "/v1/tokens/revoke")
                    .json(&json!({ "token_hash": hash, "reason": "enough" }))
            }
            "closed" => rig
                .operator("POST", &format!("/v1/jobs/{job}/close"))
                .json(&json!({ "reason": "enough" })),
            _ => rig
                .operator("POST", &format!("/v1/contracts/{hash}/withdraw"))
                .json(&json!({ "reason": "enough" })),
        };
        done.send().await.ok();
        assert_eq!(rest(&mut stream).await, "", "{what}");
        let (_, outcome) = rig.ends(&job, 1).await.remove(0);
        assert_eq!(outcome.ended, Ended::CutByPolicy, "{what}");
        assert_eq!(outcome.code.as_deref(), Some(code), "{what}");
        assert_eq!(outcome.egress.unwrap().sent_bytes, 1);
    }
    // A gateway that stops waits for its drain time, cuts, and records the end.
    let hash = rig
        .publish(&listing(&[to.clone(), "more.example".to_owned()]))
        .await;
    let job = rig.job_under(hash).await;
    let token = rig
        .token_under(&job, &listing(&[to.clone(), "more.example".to_owned()]))
        .await;
    let call = rig.proxied("CONNECT", &to).without("proxy-authorization");
    let call = call.header("proxy-authorization", &basic(&token));
    let head = lossy(&call.bytes()).replace("connection: close\r\n", "");
    let mut stream = rig.connect(HERE).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let app = Arc::clone(rig.app());
    rig.sandbox.gateway.stop().await;
    assert_eq!(rest(&mut stream).await, "");
    let (_, outcome) = ends(&app, &job, 1).await.remove(0);
    assert_eq!(outcome.ended, Ended::CutByPolicy);
    assert_eq!(outcome.code.as_deref(), Some("SHUTTING_DOWN"));
}
