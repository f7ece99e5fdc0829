//! Refusals in the shape that each client library shows to its user.

use http::{HeaderValue, Response, header};
use policy::{ReasonCode, Refusal};
use serde_json::json;

use super::{Surface, model};
use crate::config::Dialect;
use crate::server::{Body, whole};

/// Media type of the vendor's API.
pub(super) const JSON_API: HeaderValue = HeaderValue::from_static("application/vnd.api+json");

/// How long a client waits that met upstream's limit, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("2");

/// The answer to a refused request.
pub(super) fn refusal(surface: Surface, refusal: &Refusal) -> Response<Body> {
    match surface {
        Surface::Terraform | Surface::Object | Surface::Unknown => json_api(refusal),
        Surface::Openai => model::refusal_response(Dialect::Openai, refusal),
        Surface::Anthropic => model::refusal_response(Dialect::Anthropic, refusal),
        Surface::Job | Surface::Mcp => problem(refusal),
        Surface::Egress => proxied(refusal),
    }
}

/// Problem details, as a proxy gives them: who is nobody yet is asked for its credential by 407,
/// and nothing follows on the connection.
fn proxied(refusal: &Refusal) -> Response<Body> {
    let mut response = problem(refusal);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if headers.remove(header::WWW_AUTHENTICATE).is_some() {
        for challenge in ["Basic realm=\"clawgate\"", "Bearer realm=\"clawgate\""] {
            let challenge = HeaderValue::from_static(challenge);
            headers.append(header::PROXY_AUTHENTICATE, challenge);
        }
        *response.status_mut() = http::StatusCode::PROXY_AUTHENTICATION_REQUIRED;
    }
    response
}

/// JSON:API errors. The CLI prints title and detail, so both must say what to do next.
pub(super) fn json_api(refusal: &Refusal) -> Response<Body> {
    let code = refusal.code;
    let body = json!({"errors": [{
        "status": code.status().to_string(),
        "code": code.as_str(),
        "title": format!("{} ({code})", code.title()),
        "detail": sentence(refusal),
    }]});
    answer(refusal, JSON_API, &body)
}

/// Problem details (RFC 9457).
fn problem(refusal: &Refusal) -> Response<Body> {
    let code = refusal.code;
    let body = json!({
        "type": "about:blank",
        "status": code.status(),
        "code": code.as_str(),
        "title": code.title(),
        "detail": refusal.detail,
        "advice": code.advice(),
    });
    answer(
        refusal,
        HeaderValue::from_static("application/problem+json"),
        &body,
    )
}

fn sentence(refusal: &Refusal) -> String {
    let (detail, advice) = (refusal.detail.trim_end_matches('.'), refusal.code.advice());
    if detail == refusal.code.title() {
        advice.to_owned()
    } else {
        format!("{detail}. {advice}")
    }
}

fn answer(refusal: &Refusal, media: HeaderValue, body: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(whole(body.to_string()));
    *response.status_mut() =
        http::StatusCode::from_u16(refusal.code.status()).expect("the table holds valid statuses");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-clawgate-code",
        HeaderValue::from_static(refusal.code.as_str()),
    );
    if refusal.code == ReasonCode::UpstreamRateLimited {
        // go-tfe waits as long as the first says, other clients as long as the second.
        headers.insert("x-ratelimit-reset", RETRY_SECONDS);
        headers.insert(header::RETRY_AFTER, RETRY_SECONDS);
    }
    if refusal.code.status() == 401 {
        let challenge = HeaderValue::from_static("Bearer realm=\"clawgate\"");
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
