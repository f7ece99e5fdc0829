//! The lane over real sockets: a client, the gateway's listener with this lane behind it, and a
//! provider that does exactly what the test says, when the test says it.

mod answers;
mod budgets;
mod ends;
mod fallbacks;
mod refusals;
mod rules;
#[cfg(feature = "demo")]
mod standin;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use policy::Contract;
use proof::token::{Claims, Scope};
use proof::{Envelope, EnvelopeType, Hash, Json, SigningKey, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use super::*;
use crate::config::{Config, Dialect, Limits, ModelProvider};
use crate::live::{Live, LiveContract, LiveJob};
use crate::secret::SecretSource;
use crate::server::Bound;
use crate::upstream::{HttpClient, connector};

/// The key that only the gateway and the provider know.
const KEY: &str = "sk-provider-0123456789abcdef";

/// What the client shows in its place.
const TOKEN: &str = "header.claims.signature";

const RECEIPT_ID: &str = "rcpt_0001";

pub(super) fn client() -> HttpClient {
    let tls = rustls::ClientConfig::builder_with_provider(
        rustls::crypto::ring::default_provider().into(),
    )
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    Client::builder(TokioExecutor::new()).build(connector(tls))
}

/// A body whose pieces the test sends one by one. An error breaks the connection.
type Pieces = mpsc::Sender<std::io::Result<Frame<Bytes>>>;
type ProviderBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// A request that has reached the provider, and the way to answer it.
struct Received {
    parts: Parts,
    body: Bytes,
    answer: oneshot::Sender<Response<ProviderBody>>,
}

impl Received {
    fn header(&self, name: &str) -> Option<&str> {
        self.parts
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap())
    }

    /// Answers whole.
    fn answer(self, status: u16, fields: &[(&str, &str)], body: impl Into<Bytes>) {
        let body = Full::new(body.into())
            .map_err(|never| match never {})
            .boxed_unsync();
        self.send(status, fields, body);
    }

    /// Begins a stream of events.
    fn stream(self, fields: &[(&str, &str)]) -> Pieces {
        let (pieces, receiver) = mpsc::channel(1);
        let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        let mut all = vec![("content-type", "text/event-stream")];
        all.extend_from_slice(fields);
        self.send(200, &all, StreamBody::new(frames).boxed_unsync());
        pieces
    }

    fn send(self, status: u16, fields: &[(&str, &str)], body: ProviderBody) {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let _ = self.answer.send(response.body(body).unwrap());
    }
}

fn piece(text: &str) -> std::io::Result<Frame<Bytes>> {
    Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))
}

fn broken() -> std::io::Result<Frame<Bytes>> {
    Err(std::io::ErrorKind::ConnectionReset.into())
}

/// Starts a provider; each request that reaches it comes out of the channel.
async fn provider() -> (String, mpsc::Receiver<Received>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body
                        .collect()
                        .await
                        .map_err(std::io::Error::other)?
                        .to_bytes();
                    let (answer, answered) = oneshot::channel();
                    let _ = sender
                        .send(Received {
                            parts,
                            body,
                            answer,
                        })
                        .await;
                    answered.await.map_err(std::io::Error::other)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (url, receiver)
}

/// Takes the place of the evidence: signs a receipt over what it is told, and tells the test.
struct Recorder {
    facts: mpsc::UnboundedSender<Facts>,
    /// `false` is a store that cannot write.
    works: bool,
    /// When given, recording waits for it.
    hold: Option<watch::Receiver<bool>>,
    intent: IntentIs,
    /// Is told who was asked.
    asked: mpsc::UnboundedSender<String>,
    /// Who was asked last.
    provider: String,
}

/// What becomes of the intent of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IntentIs {
    Durable,
    /// The store's queue does not even take it.
    RefusedAtOnce,
    /// It is taken, and lost, as those before it were.
    LostLater,
    /// The same, but it arrives: the store has room again.
    DurableAfterAll,
}

impl Recorder {
    fn new(facts: mpsc::UnboundedSender<Facts>, asked: mpsc::UnboundedSender<String>) -> Self {
        Self {
            facts,
            works: true,
            hold: None,
            intent: IntentIs::Durable,
            asked,
            provider: String::new(),
        }
    }

    /// One of which nothing is wanted but that it works.
    fn unheard() -> Box<Self> {
        Box::new(Self::new(
            mpsc::unbounded_channel().0,
            mpsc::unbounded_channel().0,
        ))
    }
}

impl Finish for Recorder {
    fn receipt_id(&self) -> &str {
        RECEIPT_ID
    }

    fn recorded(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            if self.is_doubtful() {
                tokio::task::yield_now().await;
            }
            matches!(self.intent, IntentIs::Durable | IntentIs::DurableAfterAll)
        })
    }

    fn is_doubtful(&self) -> bool {
        matches!(self.intent, IntentIs::LostLater | IntentIs::DurableAfterAll)
    }

    fn asks(&mut self, provider: &str) {
        self.provider = provider.to_owned();
        let _ = self.asked.send(provider.to_owned());
    }

    fn finish(mut self: Box<Self>, facts: Facts) -> BoxFuture<'static, Option<Envelope>> {
        Box::pin(async move {
            if let Some(hold) = &mut self.hold {
                hold.wait_for(|go| *go).await.unwrap();
            }
            let mut payload = Json::object();
            payload.set("response_hash_b64u", facts.response_hash.to_string());
            payload.set("provider", self.provider.clone());
            let receipt = Envelope::sign(
                EnvelopeType::GatewayReceipt,
                &payload,
                &SigningKey::from_seed(&[7; 32]),
                Timestamp::from_millis(0),
            );
            let _ = self.facts.send(facts);
            self.works.then(|| receipt.unwrap())
        })
    }
}

/// A running gateway with this lane only, and one token.
struct Gateway {
    url: String,
    providers: Arc<Providers>,
    live: Live,
    token: Arc<LiveToken>,
    facts: mpsc::UnboundedReceiver<Facts>,
    asked: mpsc::UnboundedReceiver<String>,
    client: HttpClient,
    _stop: watch::Sender<bool>,
}

/// What differs from test to test.
struct Setup {
    /// Names, dialects and addresses of the providers.
    providers: Vec<(&'static str, Dialect, String)>,
    key: String,
    /// `models` of the contract.
    models: Option<&'static str>,
    limits: Limits,
    store_works: bool,
    hold: Option<watch::Receiver<bool>>,
    intent: IntentIs,
    /// What else is configured about the providers.
    configure: fn(&mut BTreeMap<String, ModelProvider>),
}

impl Setup {
    fn new(url: &str) -> Self {
        Self {
            providers: vec![
                ("openai", Dialect::Openai, url.to_owned()),
                ("anthropic", Dialect::Anthropic, url.to_owned()),
            ],
            key: KEY.to_owned(),
            models: None,
            limits: Limits::default(),
            store_works: true,
            hold: None,
            intent: IntentIs::Durable,
            configure: |_| {},
        }
    }

    async fn start(self) -> Gateway {
        let mut models: BTreeMap<_, _> = self
            .providers
            .into_iter()
            .map(|(name, dialect, url)| {
                let key = SecretSource::Command(vec!["echo".into(), self.key.clone()]);
                (name.to_owned(), ModelProvider::new(dialect, url, Some(key)))
            })
            .collect();
        (self.configure)(&mut models);
        let config = config(models, self.limits);
        let providers = Arc::new(Providers::connect(&config, client()).await.unwrap());
        let live = Live::default();
        let token = token(&live, self.models);
        let (sender, facts) = mpsc::unbounded_channel();
        let (tell_asked, asked) = mpsc::unbounded_channel();
        let bound = Bound::bind(&config.agent_listener).await.unwrap();
        let url = bound.url.clone();
        let (stop, stopped) = watch::channel(false);
        let handler = {
            let (providers, token) = (Arc::clone(&providers), Arc::clone(&token));
            move |request: Request<Incoming>, _| {
                let finish = Recorder {
                    works: self.store_works,
                    hold: self.hold.clone(),
                    intent: self.intent,
                    ..Recorder::new(sender.clone(), tell_asked.clone())
                };
                serve(Arc::clone(&providers), Arc::clone(&token), request, finish)
            }
        };
        tokio::spawn(async move { bound.serve(&config.limits, stopped, handler).await });
        Gateway {
            url,
            providers,
            live,
            token,
            facts,
            asked,
            client: client(),
            _stop: stop,
        }
    }
}

/// The part of the life of a call that concerns this lane.
async fn serve(
    providers: Arc<Providers>,
    token: Arc<LiveToken>,
    request: Request<Incoming>,
    finish: Recorder,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let dialect = match parts.uri.path().starts_with("/anthropic/") {
        true => Dialect::Anthropic,
        false => Dialect::Openai,
    };
    let mut asked = String::new();
    let call = match providers.resolve(&token, &parts, body, &mut asked).await {
        Ok(call) => call,
        Err(refused) => return refusal_response(dialect, &refused),
    };
    let decision = policy::decide(&token.job.contract.compiled, &call.input);
    if !decision.is_allow() {
        return refusal_response(dialect, &Refusal::from(decision.code));
    }
    providers.forward(call, Box::new(finish)).await
}

fn config(models: BTreeMap<String, ModelProvider>, limits: Limits) -> Config {
    let mut config: Config = toml::from_str(
        r#"
        gateway_id = "gateway.example"
        data_dir = "data"
        agent_listener = { address = "127.0.0.1:0" }
        operator_listener = { address = "127.0.0.1:0" }
        [terraform_cloud]
        url = "http://127.0.0.1:1"
        planner = { env = "A" }
        executor = { env = "A" }
        reader = { env = "A" }
        "#,
    )
    .unwrap();
    config.models = models;
    config.limits = limits;
    config
}

/// A verified token under the example contract, with these `models`.
fn token(live: &Live, models: Option<&str>) -> Arc<LiveToken> {
    let mut document = proof::json::parse(
        policy::EXAMPLE_CONTRACT.as_bytes(),
        proof::Numbers::Integers,
    )
    .unwrap();
    if let Some(models) = models {
        let models = proof::json::parse(models.as_bytes(), proof::Numbers::Integers).unwrap();
        document.set("models", models);
    }
    let contract = Contract::from_json(document).unwrap();
    let contract = live.keep_contract(LiveContract::new(contract, false));
    let agent = SigningKey::from_seed(&[3; 32]).did();
    let policy_hash = contract.hash;
    let job = LiveJob::open(
        "job_1".parse().unwrap(),
        agent.clone(),
        "test".into(),
        contract,
    );
    let job = live.keep_job(job);
    let claims = Claims {
        token_version: "1".into(),
        sub: agent,
        aud: "gateway.example".into(),
        scope: vec![Scope::ProxyCall, Scope::ModelCall],
        iat: 0,
        exp: 900,
        policy_hash_b64u: policy_hash,
        mission_id: "job_1".into(),
        token_scope_hash_b64u: Hash::of(b""),
        jti: "t".into(),
        cnf: None,
    };
    live.keep_token(LiveToken::new(
        Hash::of(TOKEN.as_bytes()),
        claims,
        job,
        None,
        None,
    ))
}

/// An answer as the client sees it, with its body still to come.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Incoming,
}

impl Answer {
    /// The next piece; `None` at a clean end.
    async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let frame = self.body.frame().await?;
        Some(frame.map(|frame| frame.into_data().unwrap()))
    }

    async fn whole(self) -> Result<Bytes, hyper::Error> {
        Ok(self.body.collect().await?.to_bytes())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Gateway {
    async fn ask(&self, method: Method, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {TOKEN}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        let (parts, body) = self.client.request(request).await.unwrap().into_parts();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            body,
        )
        .await
    }

    /// The facts of the next call that has ended.
    async fn ended(&mut self) -> Facts {
        self.facts.recv().await.unwrap()
    }

    /// Whom the evidence has named so far as asked, in this order.
    fn asked(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }
}

/// Takes a stream apart into the provider's bytes and the receipt at the end.
fn split_receipt(stream: &[u8]) -> (&[u8], Option<Envelope>) {
    const MARK: &[u8] = b":clawgate_receipt_envelope_b64u=";
    let Some(at) = memchr::memmem::find(stream, MARK) else {
        return (stream, None);
    };
    let text = std::str::from_utf8(&stream[at + MARK.len()..])
        .unwrap()
        .trim_end();
    let json = proof::hash::decode_b64u(text).unwrap();
    (&stream[..at], Some(Envelope::parse(&json).unwrap()))
}

/// The error of an answer of ours: type and message.
fn error_of(body: &[u8]) -> (String, String) {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    let text = |name: &str| body["error"][name].as_str().unwrap().to_owned();
    (text("type"), text("message"))
}
