//! Documents that are too large to be held: handed on piece by piece while they arrive.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc::Sender;

use super::{Duty, Upstream, UpstreamError, cause};

/// Most redirects that are followed.
const MAX_REDIRECTS: u32 = 3;

/// A whole document may take so many times what one answer or one piece may take.
const PATIENCE: u32 = 20;

impl Upstream {
    /// Reads a document with one credential and sends its pieces on. Redirects are followed to
    /// allowed hosts only and without the bearer. Answers the last status and how many bytes were
    /// sent; a body that is not a success is not sent. When nobody receives any more, the rest is
    /// not read, which is no error here.
    ///
    /// # Errors
    /// See [`UpstreamError`]. What was sent before is then not the whole.
    pub async fn stream_document(
        &self,
        duty: Duty,
        target: &str,
        pieces: &Sender<Bytes>,
    ) -> Result<(StatusCode, u64), UpstreamError> {
        let answer = self.call(duty, Method::GET, target, None).await?;
        if !answer.status.is_redirection() {
            let size = answer.body.len() as u64;
            let sent = answer.status.is_success() && pieces.send(answer.body).await.is_ok();
            return Ok((answer.status, if sent { size } else { 0 }));
        }
        let limit = self.timeout * PATIENCE;
        tokio::time::timeout(limit, self.follow(place(&answer.headers)?, pieces))
            .await
            .map_err(|_| UpstreamError::Slow(limit.as_secs()))?
    }

    async fn follow(
        &self,
        mut address: String,
        pieces: &Sender<Bytes>,
    ) -> Result<(StatusCode, u64), UpstreamError> {
        for _ in 0..MAX_REDIRECTS {
            let uri = self.check_object_address(&address)?;
            let request = Request::get(uri)
                .body(Full::default())
                .map_err(|error| UpstreamError::Unreachable(error.to_string()))?;
            let response = within(self.timeout, self.client.request(request))
                .await?
                .map_err(|error| UpstreamError::Unreachable(cause(&error)))?;
            let (parts, mut body) = response.into_parts();
            if parts.status.is_redirection() {
                address = place(&parts.headers)?;
                continue;
            }
            let mut sent = 0;
            while parts.status.is_success()
                && let Some(frame) = within(self.timeout, body.frame()).await?
            {
                let frame = frame.map_err(|error| UpstreamError::Broken(cause(&error)))?;
                let Ok(piece) = frame.into_data() else {
                    continue;
                };
                sent += piece.len() as u64;
                if pieces.send(piece).await.is_err() {
                    break;
                }
            }
            return Ok((parts.status, sent));
        }
        Err(UpstreamError::Broken("too many redirects".into()))
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, UpstreamError> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| UpstreamError::Slow(limit.as_secs()))
}

fn place(headers: &HeaderMap) -> Result<String, UpstreamError> {
    headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
        .ok_or_else(|| UpstreamError::Broken("a redirect without a place".into()))
}
