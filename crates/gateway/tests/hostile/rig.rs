//! A running installation, and a client that sends exactly the bytes it is told to.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clawgate::app::{App, now};
use clawgate::clawcontrols;
use clawgate::clawproxy::egress::{Resolve, SystemResolver};
use clawgate::clawscope::Issuer;
use clawgate::config::Config;
use clawgate::demo::sandbox::{OPERATOR, Sandbox, mint};
use clawgate::jobs::{self, ContractChoice};
use clawgate::keys::read_key;
use clawgate::start::start_with;
use policy::Contract;
use proof::record::{Body, JobId};
use proof::{Envelope, EnvelopeType, Hash};
use serde_json::Value;
use sim::{Engine, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Where the agent that owns the tokens calls from.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Another machine, as far as the gateway can see.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A test that waits this long hangs; no test measures time.
const HUNG: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) sandbox: Sandbox,
    _folder: tempfile::TempDir,
}

/// What a route answers that no credential opens: it wants a signature, or has no key here.
pub(crate) fn unsigned(path: &str) -> (u16, String) {
    let code = match path {
        "/v1/run-tasks" => "RUN_TASK_DISABLED",
        _ => "NOTIFICATION_SIGNATURE",
    };
    (403, code.to_owned())
}

/// Beginning of the signed address of a full plan, which nobody but the gate reads: it comes by a
/// redirect, and so without the reader's bearer. (`plj:` in base64url.)
const FULL_PLAN: &str = "/v1/object/cGxqO";

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::under(policy::EXAMPLE_CONTRACT).await
    }

    /// An installation whose first job is under this contract.
    pub(crate) async fn under(contract: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contract.json");
        std::fs::write(&path, contract).unwrap();
        let data = folder.path().join("sandbox");
        let sandbox = Sandbox::start(&data, Some(&path), Engine::Recorded)
            .await
            .unwrap();
        Self {
            sandbox,
            _folder: folder,
        }
    }

    /// Stops the gateway and starts another one on the same data, differently configured.
    pub(crate) async fn restarted(self, change: impl FnOnce(&mut Config)) -> Self {
        self.restarted_resolving(change, Arc::new(SystemResolver))
            .await
    }

    /// The same, with names that lead elsewhere.
    pub(crate) async fn restarted_resolving(
        self,
        change: impl FnOnce(&mut Config),
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        let mut config = Config::load(&self.sandbox.folder.join("clawgate.toml")).unwrap();
        change(&mut config);
        self.sandbox.gateway.stop().await;
        let starting = start_with(config, store::open_sqlite, resolver);
        let gateway = starting.await.unwrap();
        Self {
            sandbox: Sandbox {
                gateway,
                ..self.sandbox
            },
            _folder: self._folder,
        }
    }

    pub(crate) fn app(&self) -> &Arc<App> {
        &self.sandbox.gateway.app
    }

    /// Opens another job under the same contract.
    pub(crate) async fn job(&self) -> JobId {
        self.job_under(self.sandbox.policy_hash).await
    }

    pub(crate) async fn job_under(&self, contract: Hash) -> JobId {
        self.job_by("operator@example.com", contract).await
    }

    /// Another job, opened by this person.
    pub(crate) async fn job_by(&self, email: &str, contract: Hash) -> JobId {
        let choice = ContractChoice::Hash(contract);
        let issuer = Issuer::of(self.app());
        let opener = jobs::Opener {
            operator: OPERATOR,
            email: Some(email),
        };
        jobs::open(
            issuer,
            opener,
            "another job",
            choice,
            Default::default(),
            now(),
        )
        .await
        .unwrap()
        .job_id
    }

    /// Another token of a job under the first contract.
    pub(crate) async fn token(&self, job: &JobId) -> String {
        let contract = Contract::parse(&self.sandbox.contract).unwrap();
        mint(self.app(), job, &contract).await.unwrap()
    }

    /// Publishes another contract, signed by the author.
    pub(crate) async fn publish(&self, contract: &str) -> Hash {
        let author = read_key(&self.sandbox.folder.join("author.key")).unwrap();
        let payload: Value = serde_json::from_str(contract).unwrap();
        let kind = EnvelopeType::WorkPolicyContract;
        let envelope = Envelope::sign(kind, &payload, &author, now()).unwrap();
        let app = self.app();
        let done = clawcontrols::publish(&*app.store, &app.config, OPERATOR, envelope, now()).await;
        done.unwrap().policy_hash
    }

    fn agent_address(&self) -> SocketAddr {
        address(&self.sandbox.gateway.agent_url)
    }

    fn operator_address(&self) -> SocketAddr {
        address(&self.sandbox.gateway.operator_url)
    }

    /// A call to the agent listener with the first job's token.
    pub(crate) fn agent(&self, method: &str, target: &str) -> Call {
        self.nobody(method, target).bearer(&self.sandbox.cst)
    }

    /// A call to the agent listener without a credential.
    pub(crate) fn nobody(&self, method: &str, target: &str) -> Call {
        Call::new(self.agent_address(), method, target)
    }

    /// A call to the operator listener with the administrator's credential.
    pub(crate) fn operator(&self, method: &str, target: &str) -> Call {
        self.visitor(method, target)
            .bearer(&self.sandbox.operator_token)
    }

    /// A call to the operator listener without a credential.
    pub(crate) fn visitor(&self, method: &str, target: &str) -> Call {
        Call::new(self.operator_address(), method, target)
    }

    /// Sends bytes to the agent listener and reads until it hangs up.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        exchange(self.agent_address(), HERE, bytes).await
    }

    /// A connection to the agent listener.
    pub(crate) async fn connect(&self, from: Ipv4Addr) -> TcpStream {
        connect(self.agent_address(), from).await.unwrap()
    }

    /// Everything that has reached both simulators.
    pub(crate) fn seen(&self) -> Seen {
        Seen {
            cloud: self
                .sandbox
                .cloud
                .requests()
                .last()
                .map_or(0, |request| request.seq),
            models: self
                .sandbox
                .provider
                .requests()
                .last()
                .map_or(0, |request| request.seq),
        }
    }

    /// What has reached the simulators since, apart from the gateway's own reading (the reader
    /// credential is never used for what an agent asks, only to find out whether it may).
    pub(crate) fn reached_since(&self, seen: &Seen) -> Vec<String> {
        let line = |request: &Request| {
            let bearer = request.bearer.as_deref().unwrap_or("no bearer");
            format!("{} {} ({bearer})", request.method, request.path)
        };
        let cloud = self.sandbox.cloud.requests();
        let cloud = cloud.iter().filter(|request| {
            let by_gate =
                request.bearer.as_deref() == Some("reader") || request.path.starts_with(FULL_PLAN);
            let own = request.method == "GET" && by_gate;
            request.seq > seen.cloud && !own
        });
        let models = self.sandbox.provider.requests();
        let models = models.iter().filter(|request| request.seq > seen.models);
        cloud.map(line).chain(models.map(line)).collect()
    }

    /// Asserts that nothing has.
    pub(crate) fn assert_silent(&self, seen: &Seen, what: &str) {
        let reached = self.reached_since(seen);
        assert!(reached.is_empty(), "{what} reached upstream: {reached:#?}");
    }

    /// The refusals of a job's record, as (code, asked, holder).
    pub(crate) async fn refusals(&self, job: &JobId) -> Vec<(String, String, String)> {
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let page = self.app().store.records(job, after, 1000).await.unwrap();
            let Some(last) = page.last() else {
                return found;
            };
            after = last.record.seq;
            found.extend(page.into_iter().filter_map(|row| match row.record.body {
                Body::Refusal(refusal) => {
                    Some((refusal.code, refusal.asked, refusal.caller.holder))
                }
                _ => None,
            }));
        }
    }
}

pub(crate) struct Seen {
    cloud: u64,
    models: u64,
}

pub(crate) fn address(url: &str) -> SocketAddr {
    let address: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    match address.ip().is_unspecified() {
        true => (Ipv4Addr::LOCALHOST, address.port()).into(),
        false => address,
    }
}

/// A request as bytes.
#[derive(Clone)]
pub(crate) struct Call {
    to: SocketAddr,
    from: Ipv4Addr,
    line: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Call {
    pub(crate) fn new(to: SocketAddr, method: &str, target: &str) -> Self {
        let line = format!("{method} {target} HTTP/1.1");
        Self {
            to,
            from: HERE,
            line,
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.without("authorization")
            .header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(own, _)| own != name);
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    pub(crate) fn json_api(self, body: &Value) -> Self {
        self.header("content-type", "application/vnd.api+json")
            .body(body.to_string())
    }

    pub(crate) fn from(mut self, address: Ipv4Addr) -> Self {
        self.from = address;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write!(bytes, "{}\r\n", self.line).unwrap();
        if !self.headers.iter().any(|(name, _)| name == "host") {
            write!(bytes, "host: {}\r\n", self.to).unwrap();
        }
        for (name, value) in &self.headers {
            write!(bytes, "{name}: {value}\r\n").unwrap();
        }
        if let Some(body) = &self.body {
            write!(bytes, "content-length: {}\r\n", body.len()).unwrap();
        }
        bytes.extend_from_slice(b"connection: close\r\n\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    pub(crate) async fn send(&self) -> Reply {
        let bytes = exchange(self.to, self.from, &self.bytes()).await;
        Reply::read(&bytes)
            .unwrap_or_else(|| panic!("no answer to {}: {:?}", self.line, lossy(&bytes)))
    }
}

async fn connect(to: SocketAddr, from: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// Sends, then reads until the other side hangs up.
async fn exchange(to: SocketAddr, from: Ipv4Addr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(to, from).await.unwrap();
    // The other side may answer and hang up before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let read = tokio::time::timeout(HUNG, reading).await;
    let _ = read.unwrap_or_else(|_| panic!("no end after {:?}", lossy(&answer)));
    answer
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Head and body as they came: what is searched for what must not be in it.
    pub(crate) whole: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Reads one answer and nothing behind it; `None` when there is no whole head.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let raw = &bytes[end + 4..];
        let length = |name: &str| headers.iter().find(|(own, _)| own == name);
        let body = match length("content-length") {
            Some((_, length)) => raw.get(..length.parse().ok()?).unwrap_or(raw).to_vec(),
            None if length("transfer-encoding").is_some() => unchunked(raw),
            None => raw.to_vec(),
        };
        Some(Self {
            status,
            whole: lossy(bytes),
            headers,
            body,
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn text(&self) -> String {
        lossy(&self.body)
    }

    /// Status and reason code; the code is in the header of every refusal, and in the body.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let json = self.json();
        let body = ["/errors/0/code", "/error/code", "/code"]
            .iter()
            .find_map(|place| json.pointer(place)?.as_str())
            .map(str::to_owned);
        let code = body.or_else(|| self.header("x-clawgate-code").map(str::to_owned));
        (self.status, code.unwrap_or_default())
    }

    /// The answer's document; anything but success is a failed test.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}", self.whole);
        self.json()
    }
}

fn unchunked(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&raw[..end]).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok()) else {
            break;
        };
        let Some(piece) = raw.get(end + 2..end + 2 + size) else {
            break;
        };
        if size == 0 {
            break;
        }
        body.extend_from_slice(piece);
        raw = raw.get(end + 2 + size + 2..).unwrap_or_default();
    }
    body
}
