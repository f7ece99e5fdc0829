//! What reached a stand-in, in order.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// The most requests that a log keeps; older ones make room.
const KEPT_REQUESTS: usize = 20_000;
/// The most bytes of bodies that a log keeps; beyond it the oldest requests make room.
const KEPT_BYTES: usize = 128 << 20;
/// A JSON body above this size is logged by its length only.
const LARGEST_PARSED_BODY: usize = 1 << 20;

/// One request that reached a stand-in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Position in the log, from 1, without gaps.
    pub seq: u64,
    /// Method as received.
    pub method: String,
    /// Path as received, not decoded.
    pub path: String,
    /// Query as received, without its question mark.
    pub query: Option<String>,
    /// Name of the credential that came with the request, `foreign` for an unknown one.
    pub bearer: Option<String>,
    /// The body; null when there was none.
    pub body: Option<LoggedBody>,
}

/// A request's body as the log keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LoggedBody {
    /// Length in bytes of a body that is not JSON, or is too large to keep.
    Length(u64),
    /// A JSON body, parsed.
    Json(Value),
}

impl LoggedBody {
    fn new(bytes: &Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let parsed = (bytes.len() <= LARGEST_PARSED_BODY)
            .then(|| serde_json::from_slice(bytes).ok())
            .flatten();
        Some(match parsed {
            Some(json) => Self::Json(json),
            None => Self::Length(bytes.len() as u64),
        })
    }
}

/// The log of one stand-in.
#[derive(Debug)]
pub(crate) struct RequestLog {
    entries: Mutex<Entries>,
    last_seq: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Entries {
    requests: VecDeque<(Request, usize)>,
    bytes: usize,
    seq: u64,
}

impl RequestLog {
    pub(crate) fn new() -> Self {
        Self {
            entries: Mutex::default(),
            last_seq: watch::Sender::new(0),
        }
    }

    /// Appends a request; its sequence number is the log's next.
    pub(crate) fn append(
        &self,
        method: &str,
        uri: &axum::http::Uri,
        bearer: Option<String>,
        body: &Bytes,
    ) {
        let logged = LoggedBody::new(body);
        let size = match &logged {
            Some(LoggedBody::Json(_)) => body.len(),
            Some(LoggedBody::Length(_)) | None => 0,
        };
        let mut entries = self
            .entries
            .lock()
            .expect("no thread panics while it holds the log");
        entries.seq += 1;
        let request = Request {
            seq: entries.seq,
            method: method.to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            bearer,
            body: logged,
        };
        entries.bytes += size;
        entries.requests.push_back((request, size));
        while entries.requests.len() > KEPT_REQUESTS || entries.bytes > KEPT_BYTES {
            let Some((_, size)) = entries.requests.pop_front() else {
                break;
            };
            entries.bytes -= size;
        }
        let seq = entries.seq;
        drop(entries);
        self.last_seq.send_replace(seq);
    }

    /// Copies the requests that the log still has.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let entries = self
            .entries
            .lock()
            .expect("no thread panics while it holds the log");
        entries
            .requests
            .iter()
            .map(|(request, _)| request.clone())
            .collect()
    }

    /// Waits until a request fits, among those already there and those to come.
    pub(crate) async fn wait_for(&self, fits: impl Fn(&Request) -> bool) -> Request {
        let mut changes = self.last_seq.subscribe();
        let mut seen = 0;
        loop {
            changes.borrow_and_update();
            let requests = self.requests();
            let unseen = requests
                .iter()
                .find(|request| request.seq > seen && fits(request));
            if let Some(request) = unseen {
                return request.clone();
            }
            seen = requests.last().map_or(seen, |request| request.seq);
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_kept_parsed_or_by_length() {
        let cases: &[(&[u8], Option<LoggedBody>)] = &[
            (b"", None),
            (
                b"{\"a\":1}",
                Some(LoggedBody::Json(serde_json::json!({"a": 1}))),
            ),
            (b"\x1f\x8b\x08", Some(LoggedBody::Length(3))),
            (b"{\"a\":", Some(LoggedBody::Length(5))),
        ];
        for (bytes, expected) in cases {
            assert_eq!(&LoggedBody::new(&Bytes::copy_from_slice(bytes)), expected);
        }
    }

    #[test]
    fn the_oldest_requests_make_room() {
        let log = RequestLog::new();
        let uri = axum::http::Uri::from_static("/api/v2/ping?a=1");
        for _ in 0..KEPT_REQUESTS + 5 {
            log.append("GET", &uri, None, &Bytes::new());
        }
        let requests = log.requests();
        assert_eq!(requests.len(), KEPT_REQUESTS);
        assert_eq!(requests[0].seq, 6);
        assert_eq!(requests[0].query.as_deref(), Some("a=1"));
    }
}
