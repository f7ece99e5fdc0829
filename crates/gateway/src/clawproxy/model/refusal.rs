//! Our own answers, in the shape in which each API's clients expect errors.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use policy::reason::Origin;
use policy::{ReasonCode, Refusal};
use serde_json::json;

use crate::config::Dialect;
use crate::server::{Body, whole};

/// An error answer: code, reason and advice, readable in every client's error message.
pub fn refusal_response(dialect: Dialect, refusal: &Refusal) -> Response<Body> {
    let code = refusal.code;
    let message = format!(
        "{code}: {}. {}",
        refusal.detail.trim_end_matches('.'),
        code.advice()
    );
    let body = match dialect {
        Dialect::Openai => json!({
            "error": { "message": message, "type": openai_type(code), "param": null, "code": code }
        }),
        Dialect::Anthropic => json!({
            "type": "error",
            "error": { "type": anthropic_type(code), "message": message }
        }),
    };
    let mut response = json_response(code.status(), body.to_string().into());
    let headers = response.headers_mut();
    if code.status() == 401 {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"clawgate\""),
        );
    }
    if let Some(seconds) = refusal.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    headers.insert("x-clawgate-code", HeaderValue::from_static(code.as_str()));
    if matches!(code.origin(), Origin::Token | Origin::Policy) {
        // Both vendors' SDKs obey it, also for statuses that they would try again.
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    response
}

/// A JSON answer of ours.
pub(super) fn json_response(status: u16, body: Bytes) -> Response<Body> {
    let mut response = Response::new(whole(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn openai_type(code: ReasonCode) -> &'static str {
    match code.status() {
        402 => "insufficient_quota",
        _ => anthropic_type(code),
    }
}

fn anthropic_type(code: ReasonCode) -> &'static str {
    match code.status() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn each_api_reads_its_own_shape() {
        for (dialect, code, status, kind) in [
            (
                Dialect::Openai,
                ReasonCode::ModelNotAllowed,
                403,
                "permission_error",
            ),
            (
                Dialect::Openai,
                ReasonCode::ModelBudgetTokens,
                402,
                "insufficient_quota",
            ),
            (
                Dialect::Openai,
                ReasonCode::TokenRevoked,
                401,
                "authentication_error",
            ),
            (
                Dialect::Openai,
                ReasonCode::BodyTooLarge,
                413,
                "request_too_large",
            ),
            (
                Dialect::Anthropic,
                ReasonCode::ModelNotAllowed,
                403,
                "permission_error",
            ),
            (
                Dialect::Anthropic,
                ReasonCode::ModelBudgetCalls,
                402,
                "billing_error",
            ),
            (
                Dialect::Anthropic,
                ReasonCode::TokenExpired,
                401,
                "authentication_error",
            ),
            (
                Dialect::Anthropic,
                ReasonCode::BodyNotJson,
                400,
                "invalid_request_error",
            ),
            (
                Dialect::Anthropic,
                ReasonCode::UpstreamTimeout,
                504,
                "timeout_error",
            ),
            (
                Dialect::Openai,
                ReasonCode::ModelRateLimited,
                429,
                "rate_limit_error",
            ),
            (
                Dialect::Anthropic,
                ReasonCode::ModelRateLimited,
                429,
                "rate_limit_error",
            ),
            (
                Dialect::Anthropic,
                ReasonCode::StoreUnavailable,
                503,
                "api_error",
            ),
        ] {
            let refusal = Refusal::new(code, "the \"detail\".").retry_after(7);
            let response = refusal_response(dialect, &refusal);
            assert_eq!(response.headers()["retry-after"], "7");
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(response.headers()["x-clawgate-code"], code.as_str());
            assert_eq!(
                response.headers().contains_key("www-authenticate"),
                status == 401
            );
            assert_eq!(
                response.headers().contains_key("x-should-retry"),
                status < 500 && status != 429
            );
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let error = &body["error"];
            assert_eq!(error["type"], kind);
            assert_eq!(
                error["message"],
                format!("{code}: the \"detail\". {}", code.advice()),
            );
            match dialect {
                Dialect::Openai => assert_eq!(error["code"], code.as_str()),
                Dialect::Anthropic => assert_eq!(body["type"], "error"),
            }
        }
    }
}
