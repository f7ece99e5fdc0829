//! What every request passes first: size, log, credential, faults; and the headers of every answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::cloud::Cloud;
use super::config::{Credential, Rights};
use super::jsonapi::{ApiError, empty};

/// The largest body that a stand-in takes.
pub(crate) const LARGEST_BODY: usize = 64 << 20;

/// Who calls, once the bearer is known.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Arc<Credential>);

impl Caller {
    pub(crate) fn name(&self) -> String {
        self.0.name.clone()
    }

    pub(crate) fn rights(&self) -> Rights {
        self.0.rights
    }

    /// The vendor does not tell a missing right from a missing thing.
    pub(crate) fn needs(&self, has: bool) -> Result<(), ApiError> {
        if has {
            Ok(())
        } else {
            Err(ApiError::not_found())
        }
    }
}

/// Guards the API.
pub(crate) async fn api(State(cloud): State<Arc<Cloud>>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/_sim/") {
        return next.run(request).await;
    }
    let open = matches!(
        request.uri().path(),
        "/.well-known/terraform.json" | "/api/v2/ping"
    );
    let mut response = guard(&cloud, request, next, !open).await;
    let headers = response.headers_mut();
    for (name, value) in [("tfp-api-version", "2.6"), ("x-ratelimit-limit", "30")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("tfp-appname", cloud.app_name.clone());
    for (name, value) in [
        ("x-ratelimit-remaining", "29"),
        ("x-ratelimit-reset", "0.04"),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Guards the object store, which asks for no token.
pub(crate) async fn archivist(
    State(cloud): State<Arc<Cloud>>,
    request: Request,
    next: Next,
) -> Response {
    guard(&cloud, request, next, false).await
}

async fn guard(cloud: &Cloud, request: Request, next: Next, needs_token: bool) -> Response {
    let (mut parts, body) = request.into_parts();
    let read = axum::body::to_bytes(body, LARGEST_BODY).await;
    let credential = bearer(&parts.headers).map(|token| {
        cloud
            .credential_with_token(token)
            .or_else(|| cloud.stage_credential(token, parts.uri.path()))
            .ok_or("foreign")
    });
    let name = match &credential {
        Some(Ok(credential)) => Some(credential.name.clone()),
        Some(Err(foreign)) => Some((*foreign).to_owned()),
        None => None,
    };
    let limited = name.clone();
    let Ok(body) = read else {
        cloud
            .log
            .append(parts.method.as_str(), &parts.uri, name, &Bytes::new());
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    cloud
        .log
        .append(parts.method.as_str(), &parts.uri, name, &body);

    if let (Some(limit), Some(name)) = (&cloud.limit, &limited)
        && !limit.admits(name)
    {
        return failure(429);
    }

    let mut hit = cloud.faults.hit(parts.method.as_str(), parts.uri.path());
    if let Some(hit) = &mut hit
        && let Some(instead) = hit.before(failure).await
    {
        return instead;
    }

    let response = match credential {
        Some(Ok(credential)) => {
            parts.extensions.insert(Caller(credential));
            next.run(Request::from_parts(parts, Body::from(body))).await
        }
        _ if needs_token => ApiError::unauthorized().into_response(),
        _ => next.run(Request::from_parts(parts, Body::from(body))).await,
    };
    match hit {
        Some(hit) => hit.after(response).await,
        None => response,
    }
}

/// How many requests each credential may make in a second, and what it has made.
#[derive(Debug)]
pub(crate) struct RequestLimit {
    per_second: u32,
    made: Mutex<HashMap<String, VecDeque<Instant>>>,
}

impl RequestLimit {
    pub(crate) fn new(per_second: u32) -> Self {
        let made = Mutex::default();
        Self { per_second, made }
    }

    /// Counts a request; false when it is one too many.
    fn admits(&self, credential: &str) -> bool {
        let mut made = self.made.lock().expect("no panic while it is held");
        let times = made.entry(credential.to_owned()).or_default();
        let now = Instant::now();
        while times
            .front()
            .is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1))
        {
            times.pop_front();
        }
        let admitted = times.len() < self.per_second as usize;
        if admitted {
            times.push_back(now);
        }
        admitted
    }
}

fn failure(status: u16) -> Response {
    let Ok(status) = StatusCode::from_u16(status) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if status.is_success() || status.is_redirection() {
        return empty(status);
    }
    let title = match status.as_u16() {
        401 => "unauthorized",
        404 => "not found",
        429 => "Too many requests",
        _ => "failed on request",
    };
    let detail = (status.as_u16() == 429)
        .then(|| "You have exceeded the API's rate limit of 30 requests per second.".to_owned());
    let mut response = ApiError::new(status, title, detail).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response
            .headers_mut()
            .insert("x-ratelimit-remaining", HeaderValue::from_static("0"));
    }
    response
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?;
    // What is there but is no bearer token is foreign, not absent.
    Some(
        value
            .to_str()
            .unwrap_or_default()
            .strip_prefix("Bearer ")
            .unwrap_or_default(),
    )
}
