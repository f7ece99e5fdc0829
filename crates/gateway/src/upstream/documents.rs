//! Documents that are too large to be held: handed on piece by piece while they arrive.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc::Sender;

use super::{Duty, MAX_REDIRECTS, Place, Upstream, UpstreamError, cause};

/// A whole document may take so many times what one answer or one piece may take.
const PATIENCE: u32 = 20;

/// How a document ended: the last status, and how many bytes were sent on.
pub type Streamed = (StatusCode, u64);

enum Step {
    Done(Streamed),
    Moved(Box<HeaderMap>),
}

impl Upstream {
    /// Reads a document and sends its pieces on, with redirects followed as for
    /// [`Self::fetch_document`]. A body that is not a success is not sent. When nobody receives
    /// any more, the rest is not read, which is no error here.
    ///
    /// # Errors
    /// See [`UpstreamError`]. What was sent before is then not the whole.
    pub async fn stream_document(
        &self,
        duty: Duty,
        target: &str,
        pieces: &Sender<Bytes>,
    ) -> Result<Streamed, UpstreamError> {
        within(self.timeout * PATIENCE, async {
            let mut step = self.stream_api(duty, target, pieces).await?;
            let mut within = true;
            for _ in 0..MAX_REDIRECTS {
                let headers = match step {
                    Step::Done(streamed) => return Ok(streamed),
                    Step::Moved(headers) => headers,
                };
                step = match self.moved(&headers, &mut within)? {
                    Place::Api(target) => self.stream_api(duty, &target, pieces).await?,
                    Place::Object(address) => self.stream_object(&address, pieces).await?,
                };
            }
            match step {
                Step::Done(streamed) => Ok(streamed),
                Step::Moved(_) => Err(UpstreamError::Broken("it redirects without end".into())),
            }
        })
        .await?
    }

    /// An answer of the API itself, which is small.
    async fn stream_api(
        &self,
        duty: Duty,
        target: &str,
        pieces: &Sender<Bytes>,
    ) -> Result<Step, UpstreamError> {
        let answer = self.call(duty, Method::GET, target, None).await?;
        if answer.status.is_redirection() {
            return Ok(Step::Moved(Box::new(answer.headers)));
        }
        let size = answer.body.len() as u64;
        let sent = answer.status.is_success() && pieces.send(answer.body).await.is_ok();
        Ok(Step::Done((answer.status, if sent { size } else { 0 })))
    }

    /// A signed object; no credential is sent.
    async fn stream_object(
        &self,
        address: &str,
        pieces: &Sender<Bytes>,
    ) -> Result<Step, UpstreamError> {
        let request = Request::get(self.check_object_address(address)?)
            .body(Full::default())
            .map_err(|error| UpstreamError::Unreachable(error.to_string()))?;
        let response = within(self.timeout, self.client.request(request))
            .await?
            .map_err(|error| UpstreamError::Unreachable(cause(&error)))?;
        let (parts, mut body) = response.into_parts();
        if parts.status.is_redirection() {
            return Ok(Step::Moved(Box::new(parts.headers)));
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
        Ok(Step::Done((parts.status, sent)))
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, UpstreamError> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| UpstreamError::Slow(limit.as_secs()))
}
