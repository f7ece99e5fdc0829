//! Misbehaviour on request: an upstream that fails, answers garbage, hangs up or makes wait.

use std::sync::Mutex;

use axum::body::Body;
use axum::body::HttpBody as _;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::ids;

/// The most faults that wait at once; more are refused.
const MOST_FAULTS: usize = 256;

/// A fault: which requests it hits, how many of them, and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Method of the requests that are hit; `None` hits all. The method `ENGINE` with the path
    /// `plan` or `apply` hits the engine's work instead of a request.
    #[serde(default)]
    pub method: Option<String>,
    /// Beginning of the path of the requests that are hit.
    pub path_prefix: String,
    /// How many requests are hit before the fault is spent.
    #[serde(default = "once")]
    pub times: u32,
    /// What happens to them.
    pub action: FaultAction,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// Makes a fault that hits one request.
    pub fn once(method: &str, path_prefix: &str, action: FaultAction) -> Self {
        Self {
            method: Some(method.to_owned()),
            path_prefix: path_prefix.to_owned(),
            times: 1,
            action,
        }
    }
}

/// What happens to a request that a fault hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// It is answered with this status and does nothing.
    Status(u16),
    /// It is answered 200 with text that is no JSON, and does nothing.
    Garbage,
    /// It does its work; the answer breaks off in the middle.
    CloseMidway,
    /// It waits before it does its work until the fault is released.
    Hold,
    /// It does its work; its answer waits until the fault is released.
    HoldAnswer,
    /// It does its work; half of its answer comes, the rest waits until the fault is released.
    HoldMidway,
}

/// Names a fault that was set, so that what it holds can be released.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub String);

#[derive(Debug)]
struct Armed {
    id: FaultId,
    fault: Fault,
    released: watch::Sender<bool>,
}

/// The faults that are set.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Mutex<Vec<Armed>>,
}

/// A fault that hit a request.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) action: FaultAction,
    gate: watch::Receiver<bool>,
}

impl Hit {
    /// Waits until the fault is released or cleared.
    pub(crate) async fn released(&mut self) {
        // An error means that the fault is gone, and what it held goes on.
        let _ = self.gate.wait_for(|released| *released).await;
    }

    /// Gives what is answered in place of the work, or `None` when the work is to be done; `failure`
    /// makes an answer with a status.
    pub(crate) async fn before(
        &mut self,
        failure: impl FnOnce(u16) -> Response,
    ) -> Option<Response> {
        match self.action {
            FaultAction::Status(status) => Some(failure(status)),
            FaultAction::Garbage => Some(garbage()),
            FaultAction::Hold => {
                self.released().await;
                None
            }
            FaultAction::CloseMidway | FaultAction::HoldAnswer | FaultAction::HoldMidway => None,
        }
    }

    /// Does to the answer what the fault says.
    pub(crate) async fn after(mut self, response: Response) -> Response {
        match self.action {
            FaultAction::CloseMidway => halved(response, Rest::Lost).await,
            FaultAction::HoldMidway => halved(response, Rest::Held(self)).await,
            FaultAction::HoldAnswer => {
                self.released().await;
                response
            }
            FaultAction::Status(_) | FaultAction::Garbage | FaultAction::Hold => response,
        }
    }
}

impl Faults {
    /// Sets a fault; `None` when too many are set already.
    pub(crate) fn set(&self, fault: Fault) -> Option<FaultId> {
        let mut armed = self.lock();
        // A spent fault stays only to be released; the oldest make room.
        if armed.len() >= MOST_FAULTS {
            let spent = armed.iter().position(|armed| armed.fault.times == 0)?;
            armed.remove(spent);
        }
        let id = FaultId(ids::id("fault"));
        armed.push(Armed {
            id: id.clone(),
            fault,
            released: watch::Sender::new(false),
        });
        Some(id)
    }

    /// Lets go what a fault holds, now and later; false when there is no such fault.
    pub(crate) fn release(&self, id: &FaultId) -> bool {
        let armed = self.lock();
        let found = armed.iter().find(|armed| &armed.id == id);
        if let Some(armed) = found {
            armed.released.send_replace(true);
        }
        found.is_some()
    }

    /// Removes every fault and lets go what they hold.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Spends one hit of the first fault that fits a request.
    pub(crate) fn hit(&self, method: &str, path: &str) -> Option<Hit> {
        let mut armed = self.lock();
        let armed = armed.iter_mut().find(|armed| {
            let fault = &armed.fault;
            let method_fits = match &fault.method {
                Some(wanted) => wanted == method,
                None => method != "ENGINE",
            };
            fault.times > 0 && method_fits && path.starts_with(&fault.path_prefix)
        })?;
        armed.fault.times -= 1;
        Some(Hit {
            action: armed.fault.action.clone(),
            gate: armed.released.subscribe(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Armed>> {
        self.armed
            .lock()
            .expect("no thread panics while it holds the faults")
    }
}

/// An answer that claims success and is no JSON.
fn garbage() -> Response {
    let mut response = Response::new(Body::from("<html>\u{0}not what you asked for"));
    let kind = HeaderValue::from_static("text/html");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What becomes of the second half of an answer.
enum Rest {
    Lost,
    Held(Hit),
}

/// Splits the answer's body in the middle. A length that was promised stays promised.
async fn halved(response: Response, rest: Rest) -> Response {
    let (mut parts, body) = response.into_parts();
    let has_length = body.size_hint().exact().is_some();
    let whole = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let (first, second) = (
        whole.slice(..whole.len() / 2),
        whole.slice(whole.len() / 2..),
    );
    if has_length {
        // Even an empty answer must have something to lose.
        let promised = if matches!(rest, Rest::Lost) {
            whole.len().max(2)
        } else {
            whole.len()
        };
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(promised));
    }
    if parts.status == StatusCode::NO_CONTENT && matches!(rest, Rest::Lost) {
        parts.status = StatusCode::OK;
    }
    let begun = stream::once(async { Ok::<Bytes, std::io::Error>(first) });
    let ended = stream::once(async move {
        match rest {
            Rest::Lost => Err(std::io::Error::new(
                std::io::ErrorKind::ConnectionReset,
                "cut by a fault",
            )),
            Rest::Held(mut hit) => {
                hit.released().await;
                Ok(second)
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(begun.chain(ended)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_what_fits_and_is_spent() {
        let faults = Faults::default();
        let fault = Fault {
            method: Some("GET".to_owned()),
            path_prefix: "/api/v2/runs".to_owned(),
            times: 2,
            action: FaultAction::Status(500),
        };
        faults.set(fault).unwrap();
        assert!(faults.hit("POST", "/api/v2/runs").is_none());
        assert!(faults.hit("GET", "/api/v2/plans/plan-1").is_none());
        assert_eq!(
            faults.hit("GET", "/api/v2/runs").unwrap().action,
            FaultAction::Status(500)
        );
        assert!(faults.hit("GET", "/api/v2/runs/run-1").is_some());
        assert!(faults.hit("GET", "/api/v2/runs/run-1").is_none());
    }

    #[test]
    fn a_fault_for_any_method_spares_the_engine() {
        let faults = Faults::default();
        let fault = Fault {
            method: None,
            path_prefix: String::new(),
            times: 1,
            action: FaultAction::Garbage,
        };
        faults.set(fault).unwrap();
        assert!(faults.hit("ENGINE", "plan").is_none());
        assert!(faults.hit("DELETE", "/").is_some());
    }

    #[tokio::test]
    async fn what_is_held_goes_on_when_released_or_cleared() {
        let faults = Faults::default();
        let id = faults
            .set(Fault::once("GET", "/a", FaultAction::Hold))
            .unwrap();
        let mut first = faults.hit("GET", "/a").unwrap();
        assert!(faults.release(&id));
        assert!(!faults.release(&FaultId("fault-none".to_owned())));
        first.released().await;

        faults
            .set(Fault::once("GET", "/b", FaultAction::Hold))
            .unwrap();
        let mut second = faults.hit("GET", "/b").unwrap();
        faults.clear();
        second.released().await;
    }

    #[test]
    fn faults_read_as_json() {
        let text = r#"{"method":"POST","path_prefix":"/api/v2/runs","action":{"status":429}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        assert_eq!(
            fault,
            Fault::once("POST", "/api/v2/runs", FaultAction::Status(429))
        );
        assert!(
            serde_json::from_str::<Fault>(r#"{"path_prefix":"/","action":"explode"}"#).is_err()
        );
    }
}
