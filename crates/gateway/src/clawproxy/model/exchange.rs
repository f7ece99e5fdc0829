//! One exchange with a provider: sends the request, passes the answer on, and answers itself
//! where the provider does not.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Incoming};
use policy::decide::ModelSurface;
use policy::{ReasonCode, Refusal};
use proof::record::Ended;

use super::ending::Ending;
use super::going_on::GoingOn;
use super::headers::{RECEIPT, to_client};
use super::refusal::{json_response, refusal_response};
use super::relay::{Beginning, Relay, Stop};
use super::words::Words;
use super::{Finish, ModelCall, Provider, Providers, Target, list};
use crate::config::Dialect;
use crate::metrics::waits::{self, Waiting};
use crate::server::{Body, whole};
use crate::upstream::{HttpClient, cause};

/// Most of a body that is read only to be hashed, because the client gets another answer.
const MAX_REPLACED: usize = 64 << 10;

impl Providers {
    /// Makes the call. From here on its end is recorded whatever happens, also when the future
    /// is dropped before it is first polled.
    pub(super) fn forward(
        &self,
        mut call: ModelCall,
        finish: Box<dyn Finish>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let receipt = HeaderValue::try_from(finish.receipt_id()).ok();
        let length = call.body.len() as u64;
        let reserved = call.reserved.take();
        let open = self.open.one(call.pass.take());
        let mut ending = Ending::new(&call.target, length, reserved, finish, open);
        if let Some(claimed) = call.claimed.take() {
            ending.claims(claimed);
        }
        if call.offers_tools {
            ending.expect_tool_calls();
        }
        if call.target.dialect == Dialect::Openai && call.target.uses_tokens() {
            let words = Words::new(&self.counter, &call.body);
            // Chat completions tell their tokens within a stream only when they are asked to.
            let chats = call.target.surface == ModelSurface::ChatCompletions;
            let asks = || memchr::memmem::find(&call.body, b"\"include_usage\"").is_some();
            if call.stream && chats && !asks() {
                words.will_be_counted();
            }
            ending.counts(words, call.model.as_deref().unwrap_or_default());
        }
        if let Some(copy) = call.copy.take() {
            ending.keeps(copy);
        }
        let dialect = call.target.dialect;
        let models = call.token.job.contract.contract.models.as_ref();
        let exactly = models.is_some_and(|models| models.count_exactly);
        let going_on = exactly.then(|| self.going_on.clone());
        let exchange = Exchange {
            dialect,
            patience: self.patience,
            going_on: going_on.clone(),
            ending,
        };
        let client = self.client.clone();
        async move {
            // Measured by itself, because it may end up in another task.
            let run = async move {
                let mut run = pin!(waits::measured(exchange.run(&client, call)));
                (run.as_mut().await, waits::waited(run))
            };
            let (mut response, waited) = match going_on {
                Some(going_on) => going_on.carry(run).await,
                None => run.await,
            };
            waits::add(waited);
            if let Some(receipt) = receipt {
                response.headers_mut().insert(RECEIPT, receipt);
            }
            response
        }
    }
}

/// What goes to a provider; the same bytes to each that is asked.
pub(super) struct Outgoing {
    pub(super) target: Target,
    /// By the name that the provider knows it by.
    pub(super) model: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why a provider has not answered.
struct Failure {
    ended: Ended,
    code: ReasonCode,
    /// The request has certainly not reached it.
    unreached: bool,
}

impl Failure {
    fn new(ended: Ended, code: ReasonCode) -> Self {
        Self {
            ended,
            code,
            unreached: false,
        }
    }
}

struct Exchange {
    dialect: Dialect,
    patience: Duration,
    /// Where an answer is read to its end although its client has left, if it is.
    going_on: Option<GoingOn>,
    ending: Ending,
}

impl Exchange {
    async fn run(mut self, client: &HttpClient, call: ModelCall) -> Response<Body> {
        let ModelCall {
            mut provider,
            fallbacks,
            token,
            target,
            model,
            headers,
            body,
            room,
            ..
        } = call;
        let outgoing = Outgoing {
            target,
            model,
            headers,
            body,
        };
        let contract = Arc::clone(&token.job.contract);
        let mut stop: Stop = Box::pin(async move { token.until_ended().await });
        let mut others = fallbacks.into_iter();
        // Nothing was given to the client yet, so another provider may still answer.
        let answer = loop {
            let answer = self.ask(client, &provider, &outgoing, &mut stop).await;
            let failed = match &answer {
                Ok(answer) => is_temporary(answer.status()),
                Err(failure) => failure.unreached,
            };
            match others.next().filter(|_| failed) {
                Some(next) => {
                    let (failed, next_name) = (provider.name.as_str(), next.name.as_str());
                    tracing::warn!(provider = failed, next = next_name, "falling back");
                    provider = next;
                }
                None => break answer,
            }
        };
        let (head, body) = match answer {
            Ok(answer) => answer.into_parts(),
            Err(failure) => return self.refuse(failure.ended, failure.code).await,
        };
        let provider_name = provider.name.as_str();
        // The request has gone; another body may have its room.
        let lists = outgoing.target.is_list();
        drop((outgoing, room));
        let kind = Kind::of(&head.headers);
        self.ending
            .answered(head.status.as_u16(), kind == Kind::Events);
        let unreadable = is_encoded(&head.headers).then_some(ReasonCode::UpstreamGarbage);
        let unusable = unusable(head.status, kind, body.is_end_stream()).or(unreadable);
        if let Some(code) = unusable {
            let status = head.status.as_u16();
            tracing::warn!(provider = provider_name, status, %code, "a model provider's answer is not usable");
            let ended = match self.collect(body, MAX_REPLACED, &mut stop).await {
                Ok(_) => Ended::Complete,
                Err((ended, _)) => ended,
            };
            return self.refuse(ended, code).await;
        }
        let mut response = match &contract.contract.models {
            Some(models) if lists && head.status.is_success() => {
                let list = match self.collect(body, list::MAX_BYTES, &mut stop).await {
                    Ok(list) => list,
                    Err((ended, code)) => return self.refuse(ended, code).await,
                };
                let Some(filtered) = list::filter(&list, models) else {
                    return self
                        .refuse(Ended::Complete, ReasonCode::UpstreamGarbage)
                        .await;
                };
                self.ending.status(head.status.as_u16());
                if self.ending.end(Ended::Complete, None).await.is_none() {
                    return self.without_receipt();
                }
                json_response(head.status.as_u16(), filtered)
            }
            _ if is_empty(&body) => {
                // The server never asks an empty body for its end, so it is recorded here.
                self.ending.status(head.status.as_u16());
                if self.ending.end(Ended::Complete, None).await.is_none() {
                    return self.without_receipt();
                }
                Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync())
            }
            _ => {
                self.ending.status(head.status.as_u16());
                let dialect = self.dialect;
                let relay = Relay::new(
                    body,
                    self.ending,
                    stop,
                    provider,
                    self.patience,
                    self.going_on,
                );
                match relay.begin().await {
                    Beginning::Whole(bytes) => Response::new(whole(bytes)),
                    Beginning::Open(relay) => Response::new(relay.boxed_unsync()),
                    Beginning::Failed(abort) => {
                        return refusal_response(dialect, &Refusal::from(abort.code()));
                    }
                }
            }
        };
        *response.status_mut() = head.status;
        let own = std::mem::replace(response.headers_mut(), to_client(&head.headers));
        response.headers_mut().extend(own);
        response
    }

    /// Asks one provider and waits for the head of its answer.
    async fn ask(
        &mut self,
        client: &HttpClient,
        provider: &Arc<Provider>,
        outgoing: &Outgoing,
        stop: &mut Stop,
    ) -> Result<Response<Incoming>, Failure> {
        let name = provider.name.as_str();
        let Some(request) = provider.request(outgoing) else {
            tracing::error!(provider = name, "a model request has no address there");
            let code = ReasonCode::ModelSurfaceNotAllowed;
            return Err(Failure::new(Ended::CutByPolicy, code));
        };
        let price = outgoing
            .model
            .as_deref()
            .and_then(|model| provider.price(model));
        // What cannot be recorded is not sent. While the store fails, each intent is waited for:
        // otherwise every call would hand over its body before it is known to be lost.
        let recorded = match self.ending.is_doubtful() {
            false => self.ending.recorded().now_or_never(),
            true => tokio::select! {
                biased;
                code = &mut *stop => return Err(Failure::new(Ended::CutByPolicy, code)),
                recorded = self.ending.recorded() => Some(recorded),
            },
        };
        if recorded == Some(false) {
            let code = ReasonCode::StoreUnavailable;
            return Err(Failure::new(Ended::CutByPolicy, code));
        }
        let earlier = self.ending.sent(provider, price);
        // The intent is on its way to the disk while the provider thinks; nothing is answered
        // before it has arrived, and a call whose intent cannot be recorded is given up.
        let exchanged = async {
            let asked = tokio::time::timeout(self.patience, client.request(request));
            let asked = async {
                let _waiting = Waiting::begin();
                asked.await
            };
            let recorded = async { self.ending.recorded().await.then_some(()).ok_or(()) };
            tokio::try_join!(asked.map(Ok), recorded)
        };
        let answer = tokio::select! {
            biased;
            code = &mut *stop => return Err(Failure::new(Ended::CutByPolicy, code)),
            exchanged = exchanged => match exchanged {
                Ok((answer, ())) => answer,
                Err(()) => {
                    let code = ReasonCode::StoreUnavailable;
                    return Err(Failure::new(Ended::CutByPolicy, code));
                }
            },
        };
        match answer {
            Ok(Ok(answer)) => {
                provider.counts.requests.answered(answer.status());
                Ok(answer)
            }
            Ok(Err(error)) => {
                provider.counts.requests.unreachable();
                let cause = cause(&error);
                tracing::warn!(provider = name, cause, "a model provider cannot be reached");
                let unreached = error.is_connect();
                if unreached {
                    self.ending.not_sent(earlier);
                }
                Err(Failure {
                    ended: Ended::UpstreamReset,
                    code: ReasonCode::UpstreamUnavailable,
                    unreached,
                })
            }
            Err(_) => {
                provider.counts.requests.timed_out();
                tracing::warn!(provider = name, "a model provider did not answer in time");
                let code = ReasonCode::UpstreamTimeout;
                Err(Failure::new(Ended::UpstreamReset, code))
            }
        }
    }

    /// Reads a body that is not passed on as it is.
    async fn collect(
        &mut self,
        mut body: Incoming,
        limit: usize,
        stop: &mut Stop,
    ) -> Result<Bytes, (Ended, ReasonCode)> {
        let mut collected = BytesMut::new();
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            let frame = tokio::select! {
                biased;
                code = &mut *stop => return Err((Ended::CutByPolicy, code)),
                frame = tokio::time::timeout_at(deadline, body.frame()) => frame,
            };
            match frame {
                Err(_) => return Err((Ended::UpstreamReset, ReasonCode::UpstreamTimeout)),
                Ok(None) => return Ok(collected.freeze()),
                Ok(Some(Err(_))) => return Err((Ended::UpstreamReset, ReasonCode::UpstreamReset)),
                Ok(Some(Ok(frame))) => {
                    let Ok(piece) = frame.into_data() else {
                        continue;
                    };
                    self.ending.body(&piece);
                    if collected.len() + piece.len() > limit {
                        return Err((Ended::CutByPolicy, ReasonCode::UpstreamGarbage));
                    }
                    collected.extend_from_slice(&piece);
                }
            }
        }
    }

    /// Answers in the provider's place, once that is recorded.
    async fn refuse(mut self, ended: Ended, code: ReasonCode) -> Response<Body> {
        self.ending.status(code.status());
        match self.ending.end(ended, Some(code)).await {
            Some(_) => refusal_response(self.dialect, &Refusal::from(code)),
            None => self.without_receipt(),
        }
    }

    fn without_receipt(&self) -> Response<Body> {
        refusal_response(self.dialect, &Refusal::from(ReasonCode::StoreUnavailable))
    }
}

/// What a body claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Events,
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let text = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let essence = text
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else if essence.eq_ignore_ascii_case("text/event-stream") {
            Self::Events
        } else {
            Self::Other
        }
    }
}

/// Why an answer is replaced by ours: it is about the operator's credential, sends the client
/// elsewhere, or is no answer of a model at all.
fn unusable(status: StatusCode, kind: Kind, empty: bool) -> Option<ReasonCode> {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Some(ReasonCode::UpstreamUnauthorized)
        }
        _ if status.is_success() => {
            (kind == Kind::Other && !empty).then_some(ReasonCode::UpstreamGarbage)
        }
        _ if status.is_client_error() || status.is_server_error() => None,
        _ => Some(ReasonCode::UpstreamGarbage),
    }
}

/// Whether the body is compressed although we asked for it as it is. Nobody could count its
/// tokens, read its tool calls or see the operator's key in it, and what is appended to a stream
/// would spoil it.
fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether another provider may do what this one could not just now.
fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn is_empty(body: &Incoming) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_passed_on() {
        for (codings, encoded) in [
            (&[][..], false),
            (&["identity"], false),
            (&["Identity"], false),
            (&["gzip"], true),
            (&["br"], true),
            (&["zstd"], true),
            (&["identity", "gzip"], true),
            (&["identity, gzip"], true),
            (&["unheard-of"], true),
        ] {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
            assert_eq!(is_encoded(&headers), encoded, "{codings:?}");
        }
    }

    #[test]
    fn answers_that_are_replaced() {
        use ReasonCode::{UpstreamGarbage, UpstreamUnauthorized};
        for (status, content_type, empty, code) in [
            (200, "application/json", false, None),
            (200, "Application/JSON; charset=utf-8", false, None),
            (200, "text/event-stream; charset=utf-8", false, None),
            (204, "", true, None),
            (200, "text/html", false, Some(UpstreamGarbage)),
            (200, "", false, Some(UpstreamGarbage)),
            (200, "text/event-streams", false, Some(UpstreamGarbage)),
            (302, "text/html", true, Some(UpstreamGarbage)),
            (304, "", true, Some(UpstreamGarbage)),
            (400, "application/json", false, None),
            (401, "application/json", false, Some(UpstreamUnauthorized)),
            (403, "application/json", false, None),
            (407, "text/html", false, Some(UpstreamUnauthorized)),
            (429, "application/json", false, None),
            (500, "text/plain", false, None),
            (529, "application/json", false, None),
        ] {
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
            let kind = Kind::of(&headers.into_iter().collect());
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                unusable(status, kind, empty),
                code,
                "{status} {content_type}"
            );
        }
    }
}
