//! Asking a service that signs: few bytes both ways, and once more when that may help.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::sleep;

use crate::upstream::{HttpClient, cause};

/// Largest answer that is read, in bytes; ours are under 4 KiB.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Before it is asked once more.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks, and asks once more when nobody answered or the service was busy: the same message has the
/// same signature, so nothing is done twice.
pub(super) async fn ask(
    http: &HttpClient,
    request: impl Fn() -> Result<Request<Full<Bytes>>, String>,
) -> Result<(StatusCode, Bytes), String> {
    match once(http, request()?).await {
        Ok((status, _)) if is_passing(status) => {}
        Ok(answer) => return Ok(answer),
        Err(reason) => tracing::warn!(reason, "a signer did not answer; it is asked once more"),
    }
    sleep(PAUSE).await;
    once(http, request()?).await
}

fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

async fn once(
    http: &HttpClient,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), String> {
    let response = http.request(request).await.map_err(|error| cause(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect();
    let body = body.await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}

/// A text of somebody else's, short enough for a message.
pub(super) fn excerpt(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(200).collect()
}
