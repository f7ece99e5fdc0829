//! A way to the gateway that outlives a token: the command goes on using the first one, and what
//! it asks goes out with the present one.
//!
//! It listens on loopback, decides nothing and keeps nothing. Whoever calls it without the
//! command's token has what he would have at the gateway itself: nothing.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::request::Parts;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use super::super::Failure;
use crate::clawproxy::objects;
use crate::server::{Body, whole};
use crate::upstream::{Connector, HttpClient, cause};

/// Largest body that is passed on; the gateway's own bounds are smaller.
const MAX_BODY: usize = 64 << 20;

/// Calls at once; more wait. As many connections to other hosts, which the gateway bounds, too.
const MAX_CALLS: usize = 256;

/// Room in KiB for the bodies that are whole in memory, of all calls together.
const ROOM: usize = 4 * (MAX_BODY >> 10);

/// Connections at once; more wait until one ends, as those that ask nothing soon do. What became
/// a tunnel counts no more.
const MAX_CONNECTIONS: usize = 2 * MAX_CALLS;

/// How long a body may take to come in.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is said when there is no room for a body.
const NO_ROOM: &str = "too many large bodies at once; try again";

/// How long to wait when no connection could be taken.
const AFTER_A_FAILURE: Duration = Duration::from_millis(100);

/// What belongs to one connection and is not passed on (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A running relay; dropped, it ends.
pub(super) struct Relay {
    /// Its address, without a slash at the end.
    pub(super) url: String,
    passing: Arc<Passing>,
    task: AbortHandle,
}

struct Passing {
    http: HttpClient,
    /// The command's own address of the relay, when it reaches no other one.
    only: Option<String>,
    /// For what goes through the gateway's egress proxy: each gets a connection of its own.
    connector: TowerToHyperService<Connector>,
    gateway: String,
    /// The token that the command holds.
    first: Zeroizing<String>,
    /// The one that counts.
    present: RwLock<Zeroizing<String>>,
    calls: Semaphore,
    proxied: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

impl Relay {
    /// Listens on a socket that leads here from where nothing else can be reached, or else on a
    /// free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn start(
        listener: Option<std::net::TcpListener>,
        http: HttpClient,
        connector: Connector,
        gateway: String,
        token: Zeroizing<String>,
    ) -> Result<Self, Failure> {
        let no_port = |error| Failure::new(format!("cannot listen on loopback: {error}"));
        let alone = listener.is_some();
        let listener = match listener {
            Some(listener) => {
                listener.set_nonblocking(true).map_err(no_port)?;
                TcpListener::from_std(listener)
            }
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
        };
        let listener = listener.map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        let url = format!("http://{address}");
        let passing = Arc::new(Passing {
            http,
            only: alone.then(|| url.clone()),
            connector: TowerToHyperService::new(connector),
            gateway,
            present: RwLock::new(token.clone()),
            first: token,
            calls: Semaphore::new(MAX_CALLS),
            proxied: Arc::new(Semaphore::new(MAX_CALLS)),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            room: Arc::new(Semaphore::new(ROOM)),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&passing))).abort_handle();
        Ok(Self { url, passing, task })
    }

    /// From now on calls go out with this token.
    pub(super) fn renew(&self, token: Zeroizing<String>) {
        *self.passing.present.write().expect("nobody panics with it") = token;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, passing: Arc<Passing>) {
    loop {
        let Ok(one) = Arc::clone(&passing.connections).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say, which takes a moment.
            tokio::time::sleep(AFTER_A_FAILURE).await;
            continue;
        };
        let passing = Arc::clone(&passing);
        tokio::spawn(async move {
            let _one = one;
            let service = service_fn(move |request| {
                let passing = Arc::clone(&passing);
                async move { Ok::<_, Infallible>(passing.pass(request).await) }
            });
            // A connection that breaks is the command's affair.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

impl Passing {
    async fn pass(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let elsewhere = head.uri.scheme().is_some() || head.uri.authority().is_some();
        if head.method == Method::CONNECT || elsewhere {
            return self.pass_elsewhere(head, body).await;
        }
        let _one = self.calls.acquire().await;
        // Who has not the command's token has nothing to send.
        let known = head
            .headers
            .values()
            .any(|value| self.holds(value).is_some());
        // An upload's address is its permission; where the command is alone, only it has one.
        let upload = self.only.is_some() && head.uri.path().starts_with(objects::PREFIX);
        let most = if known || upload { MAX_BODY } else { 0 };
        let Some(room) = self.room(&body, most).await else {
            return own_answer(StatusCode::SERVICE_UNAVAILABLE, NO_ROOM);
        };
        let collected = Limited::new(body, most).collect();
        let Ok(Ok(body)) = tokio::time::timeout(PATIENCE, collected).await else {
            let why = "the request is too large without the command's token, or broke off";
            return own_answer(StatusCode::PAYLOAD_TOO_LARGE, why);
        };
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let terraform = target.starts_with("/api/v2/");
        let Ok(uri) = format!("{}{target}", self.gateway).parse::<Uri>() else {
            return own_answer(StatusCode::BAD_REQUEST, "the address cannot be read");
        };
        let mut request = Request::new(Full::new(body.to_bytes()));
        *request.method_mut() = head.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.outgoing(head.headers);
        let answer = self.http.request(request).await;
        // Who waits for an answer's room holds none.
        drop(room);
        match answer {
            Ok(answer) => {
                let (mut head, body) = answer.into_parts();
                for name in &HOP_BY_HOP {
                    head.headers.remove(name);
                }
                match &self.only {
                    Some(only) if terraform && is_json(&head.headers) => {
                        self.readdressed(head, body, only).await
                    }
                    _ => Response::from_parts(head, body.map_err(Into::into).boxed_unsync()),
                }
            }
            Err(error) => {
                let why = format!("no gateway at {}: {}", self.gateway, cause(&error));
                own_answer(StatusCode::BAD_GATEWAY, &why)
            }
        }
    }

    /// An answer in which the addresses of uploads and logs, which the gateway writes with its own
    /// name, lead through this relay.
    async fn readdressed(
        &self,
        mut head: http::response::Parts,
        body: Incoming,
        only: &str,
    ) -> Response<Body> {
        let Some(room) = self.room(&body, MAX_BODY).await else {
            return own_answer(StatusCode::SERVICE_UNAVAILABLE, NO_ROOM);
        };
        let collected = Limited::new(body, MAX_BODY).collect();
        let Ok(Ok(body)) = tokio::time::timeout(PATIENCE, collected).await else {
            let why = "the gateway's answer is too large, or broke off";
            return own_answer(StatusCode::BAD_GATEWAY, why);
        };
        let from = format!("\"{}{}", self.gateway, objects::PREFIX);
        let to = format!("\"{only}{}", objects::PREFIX);
        let body = replaced(&body.to_bytes(), from.as_bytes(), to.as_bytes());
        head.headers.remove(header::CONTENT_LENGTH);
        if !body.is_empty() {
            let length = HeaderValue::from(body.len());
            head.headers.insert(header::CONTENT_LENGTH, length);
        }
        // Until it is sent.
        let body = whole(Bytes::from(body)).map_frame(move |frame| {
            let _ = &room;
            frame
        });
        Response::from_parts(head, body.boxed_unsync())
    }

    /// Room for a body, of which no more than `most` bytes are taken; `None` when there is none for
    /// too long.
    async fn room(
        &self,
        body: &impl hyper::body::Body,
        most: usize,
    ) -> Option<OwnedSemaphorePermit> {
        let bytes = body.size_hint().upper().unwrap_or(u64::MAX);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(most);
        let room = u32::try_from(bytes.div_ceil(1 << 10)).ok()?;
        let room = Arc::clone(&self.room).acquire_many_owned(room);
        tokio::time::timeout(PATIENCE, room).await.ok()?.ok()
    }

    /// What is meant for another host goes to the gateway's egress proxy as it is, but for the token
    /// in `Proxy-Authorization`.
    async fn pass_elsewhere(&self, mut head: Parts, body: Incoming) -> Response<Body> {
        let Ok(place) = Arc::clone(&self.proxied).acquire_owned().await else {
            return own_answer(StatusCode::BAD_GATEWAY, "the relay has ended");
        };
        let client = head.extensions.remove::<OnUpgrade>();
        let connects = head.method == Method::CONNECT;
        let mut headers = std::mem::take(&mut head.headers);
        let credential = headers.get(header::PROXY_AUTHORIZATION).cloned();
        for name in HOP_BY_HOP.iter().filter(|name| **name != header::TRAILER) {
            headers.remove(name);
        }
        if let Some(credential) = credential {
            let renewed = self.for_proxy(&credential).unwrap_or(credential);
            headers.insert(header::PROXY_AUTHORIZATION, renewed);
        }
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.headers_mut() = headers;
        let mut answer = match self.ask(request).await {
            Ok(answer) => answer,
            Err(why) => {
                let why = format!("no gateway at {}: {why}", self.gateway);
                return own_answer(StatusCode::BAD_GATEWAY, &why);
            }
        };
        if connects && answer.status() == StatusCode::OK {
            let gateway = hyper::upgrade::on(&mut answer);
            tokio::spawn(async move {
                let _place = place;
                // Either side may be gone; the gateway records how it ended.
                let (Some(client), Ok(gateway)) = (client, gateway.await) else {
                    return;
                };
                if let Ok(client) = client.await {
                    let (mut client, mut gateway) = (TokioIo::new(client), TokioIo::new(gateway));
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut gateway).await;
                }
            });
        }
        let (mut head, body) = answer.into_parts();
        for name in HOP_BY_HOP
            .iter()
            .filter(|name| **name != header::PROXY_AUTHENTICATE)
        {
            head.headers.remove(name);
        }
        Response::from_parts(head, body.map_err(Into::into).boxed_unsync())
    }

    /// Asks on a connection of its own, which becomes the tunnel when it is one.
    async fn ask(&self, request: Request<Incoming>) -> Result<Response<Incoming>, String> {
        let uri = self
            .gateway
            .parse::<Uri>()
            .map_err(|error| error.to_string())?;
        let stream = self
            .connector
            .call(uri)
            .await
            .map_err(|error| cause(&*error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(|error| cause(&error))?;
        tokio::spawn(connection.with_upgrades());
        let answer = sender.send_request(request).await;
        answer.map_err(|error| cause(&error))
    }

    /// A credential for the proxy with the present token in the place of the command's; `None` when
    /// it is another one.
    fn for_proxy(&self, value: &HeaderValue) -> Option<HeaderValue> {
        let present = self.present.read().expect("nobody panics with it");
        let text = value.to_str().ok()?;
        let (scheme, credential) = text.split_once(' ')?;
        let renewed = if scheme.eq_ignore_ascii_case("basic") {
            let pair = Zeroizing::new(BASE64.decode(credential).ok()?);
            let colon = pair.iter().position(|byte| *byte == b':')? + 1;
            if !bool::from(pair[colon..].ct_eq(self.first.as_bytes())) {
                return None;
            }
            let mut pair = Zeroizing::new(pair[..colon].to_vec());
            pair.extend_from_slice(present.as_bytes());
            Zeroizing::new(format!("Basic {}", BASE64.encode(&*pair)))
        } else {
            self.holds(value)?;
            Zeroizing::new(format!("Bearer {}", **present))
        };
        let mut renewed = HeaderValue::from_str(&renewed).ok()?;
        renewed.set_sensitive(true);
        Some(renewed)
    }

    /// Whether a header is the command's token; the length of what stands before it.
    fn holds(&self, value: &HeaderValue) -> Option<usize> {
        let text = value.as_bytes();
        let scheme = match text.get(..7) {
            Some(scheme) if scheme.eq_ignore_ascii_case(b"bearer ") => 7,
            _ => 0,
        };
        bool::from(text[scheme..].ct_eq(self.first.as_bytes())).then_some(scheme)
    }

    /// The headers as they go to the gateway. A header that is not the command's token passes as
    /// it is: the gateway says what it thinks of it.
    fn outgoing(&self, mut headers: HeaderMap) -> HeaderMap {
        for name in HOP_BY_HOP.iter().chain([&header::HOST]) {
            headers.remove(name);
        }
        let present = self.present.read().expect("nobody panics with it");
        for value in headers.values_mut() {
            if let Some(scheme) = self.holds(value) {
                let mut renewed = Zeroizing::new(value.as_bytes()[..scheme].to_vec());
                renewed.extend_from_slice(present.as_bytes());
                if let Ok(mut renewed) = HeaderValue::from_bytes(&renewed) {
                    renewed.set_sensitive(true);
                    *value = renewed;
                }
            }
        }
        headers
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.contains("json"))
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// An answer in the gateway's place that each of the clients can show: Terraform and the vendor's
/// libraries read `errors`, model libraries `error.message`.
fn own_answer(status: StatusCode, why: &str) -> Response<Body> {
    let body = json!({
        "errors": [{"status": status.as_str(), "title": "clawgate run", "detail": why}],
        "error": {"type": "api_error", "message": format!("clawgate run: {why}")},
    });
    let mut response = Response::new(whole(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{connector_with, http_client_with};

    fn passing(present: &str) -> Passing {
        Passing {
            http: http_client_with(None).unwrap(),
            only: None,
            connector: TowerToHyperService::new(connector_with(None).unwrap()),
            gateway: "http://127.0.0.1:9".to_owned(),
            first: Zeroizing::new("first".to_owned()),
            present: RwLock::new(Zeroizing::new(present.to_owned())),
            calls: Semaphore::new(1),
            proxied: Arc::new(Semaphore::new(1)),
            connections: Arc::new(Semaphore::new(1)),
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }

    #[test]
    fn only_the_commands_own_token_is_renewed() {
        let passing = passing("second");
        for (name, value, sent) in [
            ("authorization", "Bearer first", "Bearer second"),
            ("authorization", "bearer first", "bearer second"),
            ("x-api-key", "first", "second"),
            ("authorization", "Bearer firs", "Bearer firs"),
            ("authorization", "Bearer first ", "Bearer first "),
            ("authorization", "Bearer other", "Bearer other"),
            ("authorization", "Basic first", "Basic first"),
            ("x-note", "é", "é"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:1"));
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            let out = passing.outgoing(headers);
            assert_eq!(out.len(), 1, "{name}: {value}");
            assert_eq!(out[name].as_bytes(), sent.as_bytes());
        }
    }

    #[test]
    fn addresses_are_replaced_wherever_they_stand() {
        for (text, out) in [
            ("", ""),
            ("\"a/x\",\"a/y\"", "\"bb/x\",\"bb/y\""),
            ("a/x \"c/\"", "a/x \"c/\""),
            ("\"a/", "\"bb/"),
        ] {
            let got = replaced(text.as_bytes(), b"\"a/", b"\"bb/");
            assert_eq!(got, out.as_bytes(), "{text}");
        }
    }

    #[test]
    fn the_proxys_credential_is_renewed_in_either_form() {
        let passing = passing("second");
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair));
        for (value, sent) in [
            (basic("clawgate:first"), Some(basic("clawgate:second"))),
            (basic(":first"), Some(basic(":second"))),
            ("Bearer first".to_owned(), Some("Bearer second".to_owned())),
            (basic("first"), None),
            (basic("clawgate:other"), None),
            ("Basic first".to_owned(), None),
            ("Bearer other".to_owned(), None),
            ("first".to_owned(), None),
        ] {
            let found = passing.for_proxy(&HeaderValue::from_str(&value).unwrap());
            let found = found.map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(found, sent, "{value}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_one_room() {
        let passing = passing("second");
        let body = Full::new(Bytes::from(vec![0; 1025]));
        let small = passing.room(&body, MAX_BODY).await.unwrap();
        assert_eq!(small.num_permits(), 2);
        assert_eq!(passing.room(&body, 0).await.unwrap().num_permits(), 0);
        // Of a body that does not say its length, the most is expected.
        let open = whole(Bytes::new()).map_frame(|frame| frame);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(passing.room(&open, MAX_BODY).await.unwrap());
        }
        assert!(passing.room(&open, MAX_BODY).await.is_none());
        drop(small);
        assert!(passing.room(&open, MAX_BODY).await.is_some());
    }

    #[tokio::test]
    async fn a_connection_waits_for_another_to_end() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let passing = Arc::new(passing("second"));
        let task = tokio::spawn(accept(listener, Arc::clone(&passing)));
        for _ in 0..2 {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'H');
            assert_eq!(passing.connections.available_permits(), 0);
        }
        task.abort();
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_told_of() {
        let http = http_client_with(None).unwrap();
        // Nothing listens on a port that was given back.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let gateway = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let token = Zeroizing::new("first".to_owned());
        let connector = connector_with(None).unwrap();
        let starting = Relay::start(None, http.clone(), connector, gateway, token);
        let relay = starting.await.unwrap();
        let uri: Uri = format!("{}/v1/job", relay.url).parse().unwrap();
        let answer = http.get(uri).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("no gateway at"), "{text}");
    }
}
