//! One exchange with a provider: sends the request, passes the answer on, and answers itself
//! where the provider does not.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Incoming};
use policy::{ReasonCode, Refusal};
use proof::record::Ended;

use super::ending::Ending;
use super::headers::{RECEIPT, to_client};
use super::refusal::{json_response, refusal_response};
use super::relay::{Relay, Stop};
use super::{Finish, ModelCall, Providers, list};
use crate::config::Dialect;
use crate::server::Body;
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
        let ending = Ending::new(&call.target, length, reserved, finish, self.open.one());
        let exchange = Exchange {
            dialect: call.target.dialect,
            patience: self.patience,
            ending,
        };
        let client = self.client.clone();
        async move {
            let mut response = exchange.run(&client, call).await;
            if let Some(receipt) = receipt {
                response.headers_mut().insert(RECEIPT, receipt);
            }
            response
        }
    }
}

struct Exchange {
    dialect: Dialect,
    patience: Duration,
    ending: Ending,
}

impl Exchange {
    async fn run(mut self, client: &HttpClient, call: ModelCall) -> Response<Body> {
        let request = match call.provider.request(&call) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(?call, %error, "a model request could not be built");
                return self
                    .refuse(Ended::UpstreamReset, ReasonCode::Internal)
                    .await;
            }
        };
        let ModelCall {
            provider,
            token,
            target,
            room,
            ..
        } = call;
        let provider_name = provider.name.as_str();
        let contract = std::sync::Arc::clone(&token.job.contract);
        let mut stop: Stop = Box::pin(async move { token.until_ended().await });
        self.ending.sent();
        // The intent is on its way to the disk while the provider thinks; nothing is answered
        // before it has arrived, and a call whose intent cannot be recorded is given up.
        let exchanged = async {
            let asked = tokio::time::timeout(self.patience, client.request(request));
            let recorded = async { self.ending.recorded().await.then_some(()).ok_or(()) };
            tokio::try_join!(asked.map(Ok), recorded)
        };
        let answer = tokio::select! {
            biased;
            code = &mut stop => return self.refuse(Ended::CutByPolicy, code).await,
            exchanged = exchanged => match exchanged {
                Ok((answer, ())) => answer,
                Err(()) => {
                    let code = ReasonCode::StoreUnavailable;
                    return self.refuse(Ended::CutByPolicy, code).await;
                }
            },
        };
        let (head, body) = match answer {
            Ok(Ok(answer)) => answer.into_parts(),
            Ok(Err(error)) => {
                let cause = cause(&error);
                tracing::warn!(
                    provider = provider_name,
                    cause,
                    "a model provider cannot be reached"
                );
                if error.is_connect() {
                    self.ending.not_sent();
                }
                return self
                    .refuse(Ended::UpstreamReset, ReasonCode::UpstreamUnavailable)
                    .await;
            }
            Err(_) => {
                tracing::warn!(
                    provider = provider_name,
                    "a model provider did not answer in time"
                );
                return self
                    .refuse(Ended::UpstreamReset, ReasonCode::UpstreamTimeout)
                    .await;
            }
        };
        // The request has gone; another body may have its room.
        drop(room);
        let kind = Kind::of(&head.headers);
        self.ending
            .answered(head.status.as_u16(), kind == Kind::Events);
        if let Some(code) = unusable(head.status, kind, body.is_end_stream()) {
            let status = head.status.as_u16();
            tracing::warn!(provider = provider_name, status, %code, "a model provider's answer is not usable");
            let ended = match self.collect(body, MAX_REPLACED, &mut stop).await {
                Ok(_) => Ended::Complete,
                Err((ended, _)) => ended,
            };
            return self.refuse(ended, code).await;
        }
        let mut response = match &contract.contract.models {
            Some(models) if target.is_list() && head.status.is_success() => {
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
                if self
                    .ending
                    .end(Ended::Complete, None)
                    .await
                    .unwrap_or(None)
                    .is_none()
                {
                    return self.without_receipt();
                }
                json_response(head.status.as_u16(), filtered)
            }
            _ if is_empty(&body) => {
                // The server never asks an empty body for its end, so it is recorded here.
                self.ending.status(head.status.as_u16());
                if self
                    .ending
                    .end(Ended::Complete, None)
                    .await
                    .unwrap_or(None)
                    .is_none()
                {
                    return self.without_receipt();
                }
                Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync())
            }
            _ => {
                self.ending.status(head.status.as_u16());
                let relay = Relay::new(body, self.ending, stop, provider, self.patience);
                Response::new(relay.boxed_unsync())
            }
        };
        *response.status_mut() = head.status;
        let own = std::mem::replace(response.headers_mut(), to_client(&head.headers));
        response.headers_mut().extend(own);
        response
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
            Ok(Some(_)) => refusal_response(self.dialect, &Refusal::from(code)),
            Ok(None) | Err(_) => self.without_receipt(),
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

fn is_empty(body: &Incoming) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
