//! Which headers go upstream and which come back: two lists; everything else stays here.

use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Names the receipt from the first byte on.
pub const RECEIPT: HeaderName = HeaderName::from_static("x-clawgate-receipt");

/// What a client may say to a provider besides the body. Not the organization or the project:
/// those say who pays, which is the operator's decision.
const TO_PROVIDER: [HeaderName; 4] = [
    ACCEPT,
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("openai-beta"),
];

/// What a provider may say to a client: nothing about the operator's account, no cookies.
const TO_CLIENT: [HeaderName; 9] = [
    CONTENT_TYPE,
    RETRY_AFTER,
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("openai-processing-ms"),
    HeaderName::from_static("openai-version"),
    HeaderName::from_static("openai-model"),
];

/// The same, by how the name begins: rate limits, by which clients pace themselves.
const TO_CLIENT_PREFIXES: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];

/// The headers of a request to a provider, without its key.
pub(super) fn to_provider(from_client: &HeaderMap, has_body: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    copy(from_client, &mut headers, |name| TO_PROVIDER.contains(name));
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    // The bytes that are hashed are those that the client gets and the gateway reads, so nothing
    // is compressed: what comes compressed all the same is refused.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("clawgate/", env!("CARGO_PKG_VERSION"))),
    );
    headers
}

/// The headers of the answer to the client, without the receipt's.
pub(super) fn to_client(from_provider: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    copy(from_provider, &mut headers, |name| {
        TO_CLIENT.contains(name)
            || TO_CLIENT_PREFIXES
                .iter()
                .any(|prefix| name.as_str().starts_with(prefix))
    });
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
}

fn copy(from: &HeaderMap, to: &mut HeaderMap, passes: impl Fn(&HeaderName) -> bool) {
    for (name, value) in from {
        if passes(name) {
            to.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(headers: &HeaderMap) -> Vec<String> {
        let mut names: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        names.sort();
        names
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn only_listed_headers_go_upstream() {
        let sent = map(&[
            ("accept", "text/event-stream"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a"),
            ("openai-beta", "assistants=v2"),
            ("authorization", "Bearer cst"),
            ("x-api-key", "cst"),
            ("api-key", "cst"),
            ("openai-organization", "org-other"),
            ("openai-project", "proj-other"),
            ("cookie", "a=b"),
            ("host", "gateway"),
            ("content-type", "application/json; charset=x"),
            ("content-length", "99"),
            ("content-encoding", "identity"),
            ("transfer-encoding", "chunked"),
            ("connection", "keep-alive, x-api-key"),
            ("accept-encoding", "gzip"),
            ("user-agent", "OpenAI/JS"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-stainless-os", "Linux"),
            (
                "traceparent",
                "00-5fedb34e6a60060eef7873a8073f93d7-4968c74e1a5ff74b-01",
            ),
            ("x-run-id", "run-1"),
            ("x-clawgate-provider", "openai"),
            ("anthropic-dangerous-direct-browser-access", "true"),
        ]);
        let agent = concat!("user-agent=clawgate/", env!("CARGO_PKG_VERSION"));
        let mut expected = vec![
            "accept-encoding=identity",
            "accept=text/event-stream",
            "anthropic-beta=a",
            "anthropic-version=2023-06-01",
            "content-type=application/json",
            "openai-beta=assistants=v2",
            agent,
        ];
        assert_eq!(names(&to_provider(&sent, true)), expected);
        expected.remove(4);
        assert_eq!(names(&to_provider(&sent, false)), expected);
    }

    #[test]
    fn only_listed_headers_come_back() {
        let received = map(&[
            ("content-type", "text/event-stream"),
            ("content-encoding", "identity"),
            ("retry-after", "3"),
            ("request-id", "req_1"),
            ("x-request-id", "req_2"),
            ("openai-processing-ms", "12"),
            ("x-ratelimit-remaining-tokens", "100"),
            ("anthropic-ratelimit-requests-limit", "50"),
            ("openai-organization", "acme"),
            ("openai-project", "proj_1"),
            ("anthropic-organization-id", "uuid"),
            ("set-cookie", "a=b"),
            ("server", "cloudflare"),
            ("location", "https://elsewhere"),
            ("content-length", "10"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("www-authenticate", "Bearer"),
            ("cache-control", "public"),
            ("access-control-allow-origin", "*"),
            ("x-clawgate-receipt", "rcpt_forged"),
        ]);
        assert_eq!(
            names(&to_client(&received)),
            [
                "anthropic-ratelimit-requests-limit=50",
                "cache-control=no-store",
                "content-type=text/event-stream",
                "openai-processing-ms=12",
                "request-id=req_1",
                "retry-after=3",
                "x-ratelimit-remaining-tokens=100",
                "x-request-id=req_2",
            ]
        );
    }
}
