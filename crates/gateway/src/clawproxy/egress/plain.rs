//! One plain HTTP request, rebuilt from its parts, and its answer.
//!
//! A connection of its own for each: nothing that one request leaves behind can be read as the
//! beginning of the next. What a proxy is told stays with the proxy.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use policy::egress::{Destination, EgressOperation};
use policy::{ReasonCode, Refusal};
use proof::record::Ended;
use proof::token::token_hash;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::super::authenticate::{self, Caller};
use super::meter::Meter;
use super::{Statuses, Underway, name_receipt};
use crate::server::{Body, BoxError};

/// Largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Most header fields of an answer.
const MAX_HEADERS: usize = 100;

/// What belongs to one connection (RFC 9110, 7.6.1), or to the proxy, or says where a request comes
/// from; none of it is passed on, in either direction.
const OWN: [HeaderName; 15] = [
    header::CONNECTION,
    header::FORWARDED,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VIA,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("x-clawgate-job"),
    HeaderName::from_static("x-job-id"),
];

/// How we are called on the way.
const VIA: HeaderValue = HeaderValue::from_static("1.1 clawgate");

/// A request as it goes out.
pub(super) struct Outgoing {
    method: Method,
    target: http::Uri,
    headers: HeaderMap,
    body: UnsyncBoxBody<Bytes, BoxError>,
}

impl Outgoing {
    /// Rebuilds a request.
    ///
    /// # Errors
    /// `HEADER_NOT_ALLOWED` when the scoped token would go out with it, or the request has come
    /// through here before.
    pub(super) fn new<B>(
        parts: &Parts,
        body: B,
        to: &Destination,
        caller: &Caller,
    ) -> Result<Self, Refusal>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let refuse = |why: &'static str| Refusal::new(ReasonCode::HeaderNotAllowed, why);
        let vias = parts.headers.get_all(header::VIA).iter();
        if vias
            .into_iter()
            .any(|via| via.as_bytes().ends_with(b"clawgate"))
        {
            return Err(refuse("the request has come through here before"));
        }
        let mut headers = end_to_end(&parts.headers);
        if headers.values().any(|value| holds_token(value, caller)) {
            return Err(refuse(
                "the scoped token stands in a header that would leave the gateway",
            ));
        }
        let authority = to.authority(EgressOperation::Request);
        let host = HeaderValue::try_from(authority).map_err(|_| ReasonCode::EgressTarget)?;
        headers.insert(header::HOST, host);
        headers.insert(header::VIA, VIA);
        let target = parts.uri.path_and_query().cloned();
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = target;
        Ok(Self {
            method: parts.method.clone(),
            target: http::Uri::from_parts(uri).map_err(|_| ReasonCode::EgressTarget)?,
            headers,
            body: body.map_err(Into::into).boxed_unsync(),
        })
    }
}

/// Headers that are meant for the other end. Lengths are written anew by whoever sends.
fn end_to_end(from: &HeaderMap) -> HeaderMap {
    let mut named = Vec::new();
    for value in from.get_all(header::CONNECTION) {
        let names = value.to_str().unwrap_or_default().split(',');
        named.extend(names.filter_map(|name| name.trim().parse::<HeaderName>().ok()));
    }
    let passes = |name: &HeaderName| {
        !OWN.contains(name)
            && !named.contains(name)
            && name != header::CONTENT_LENGTH
            && name != header::EXPECT
            && !name.as_str().starts_with("x-forwarded-")
    };
    let mut headers = HeaderMap::with_capacity(from.len());
    for (name, value) in from.iter().filter(|(name, _)| passes(name)) {
        headers.append(name, value.clone());
    }
    headers
}

/// Whether the caller's token stands in a header's value, as clients write credentials.
fn holds_token(value: &HeaderValue, caller: &Caller) -> bool {
    let Ok(text) = value.to_str() else {
        return false;
    };
    let basic = authenticate::basic_password(text);
    let text = basic.as_deref().map_or(text, String::as_str);
    let pieces = text.split([' ', ';', ',', '=', '"', ':']);
    let tokens = pieces.filter(|piece| piece.matches('.').count() == 2);
    let hash = caller.token.hash;
    tokens.into_iter().any(|piece| token_hash(piece) == hash)
}

/// Sends a request on a connection of its own and passes its answer on as it comes.
pub(super) async fn exchange(
    underway: Underway,
    outgoing: Outgoing,
    stream: TcpStream,
) -> Response<Body> {
    let broken = Err((Ended::UpstreamReset, ReasonCode::UpstreamReset));
    let meter = Arc::clone(&underway.meter);
    let answering = async {
        let handshake = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await;
        let Ok((mut sender, connection)) = handshake else {
            return broken;
        };
        let mut request = Request::new(Counted {
            body: outgoing.body,
            meter,
        });
        *request.method_mut() = outgoing.method;
        *request.uri_mut() = outgoing.target;
        *request.headers_mut() = outgoing.headers;
        let connection = Connection(tokio::spawn(connection).abort_handle());
        match sender.send_request(request).await {
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => broken,
            Ok(answer) => Ok((answer, connection)),
            Err(error) => {
                tracing::info!(%error, "a plain request through the egress proxy broke off");
                broken
            }
        }
    };
    let answer = tokio::select! {
        answer = answering => answer,
        reason = underway.until_cut() => Err((Ended::CutByPolicy, reason)),
    };
    let ((head, body), connection) = match answer {
        Ok((answer, connection)) => (answer.into_parts(), connection),
        Err((ended, code)) => return underway.refused(ended, code).await,
    };
    let mut headers = end_to_end(&head.headers);
    // As hyper has read it: one number. Beside a coding it says nothing about the body, and would
    // cut off what the record counts.
    let length = head.headers.get(header::CONTENT_LENGTH);
    let coded = head.headers.contains_key(header::TRANSFER_ENCODING);
    if let Some(length) = length.filter(|_| !coded) {
        headers.insert(header::CONTENT_LENGTH, length.clone());
    }
    headers.insert(header::VIA, VIA);
    let (pieces, taken) = mpsc::channel(1);
    let whole = Arc::new(AtomicBool::new(false));
    let mut response = Response::new(Body::new(Pieces {
        taken,
        whole: Arc::clone(&whole),
    }));
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    name_receipt(&mut response, underway.permit.receipt_id());
    let statuses = Statuses {
        client: Some(head.status.as_u16()),
        upstream: Some(head.status.as_u16()),
    };
    let answer = (body, connection);
    tokio::spawn(pass(underway, answer, pieces, whole, statuses));
    response
}

/// The connection of one request; dropped, it is closed.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Passes the answer's body on, and records the end before the client sees it.
async fn pass(
    underway: Underway,
    (mut body, connection): (Incoming, Connection),
    pieces: mpsc::Sender<Bytes>,
    whole: Arc<AtomicBool>,
    statuses: Statuses,
) {
    let meter = Arc::clone(&underway.meter);
    let passing = async {
        loop {
            let data = match body.frame().await {
                None => return (Ended::Complete, None),
                Some(Err(_)) => return (Ended::UpstreamReset, None),
                // Trailers stay here: nobody has asked for them.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            if pieces.send(data.clone()).await.is_err() {
                return (Ended::ClientGone, None);
            }
            meter.down(&data);
        }
    };
    let (ended, code) = tokio::select! {
        over = passing => over,
        reason = underway.until_cut() => (Ended::CutByPolicy, Some(reason)),
    };
    // Nothing goes out any more, also of a request that the server has answered early.
    drop((body, connection));
    let recorded = underway.end(ended, code, statuses).await;
    // Said before the channel ends: a client must not take what broke off for the whole.
    whole.store(ended == Ended::Complete && recorded, Ordering::Release);
    drop(pieces);
}

/// The answer's body, as it comes from the task that passes it on.
struct Pieces {
    taken: mpsc::Receiver<Bytes>,
    /// Set before the channel ends, when everything came.
    whole: Arc<AtomicBool>,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match std::task::ready!(self.taken.poll_recv(context)) {
            Some(data) => Some(Ok(Frame::data(data))),
            None if self.whole.load(Ordering::Acquire) => None,
            None => Some(Err("the answer broke off".into())),
        })
    }
}

/// A request's body on its way out: data only, counted.
struct Counted {
    body: UnsyncBoxBody<Bytes, BoxError>,
    meter: Arc<Meter>,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let frame = match std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            // Trailers stay here.
            if let Ok(data) = frame.into_data() {
                self.meter.up(&data);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
