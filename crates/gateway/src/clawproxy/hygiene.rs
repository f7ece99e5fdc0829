//! What HTTP allows and we do not: everything that two parsers could read differently, or that
//! asks an upstream to see another request than we do.

use http::request::Parts;
use http::{HeaderMap, Method, Version, header};
use policy::{ReasonCode, Refusal};

use super::Surface;

/// Largest head, in bytes of names and values. The listener's own bound is that of its buffer,
/// which it may exceed by as much as one read brings.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Headers that make some servers see another method or path than the request line says.
const OVERRIDES: [&str; 5] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Refuses ambiguous framing, upgrades and overrides; and targets that are addresses or authorities
/// everywhere but at the proxy, which has no others.
///
/// # Errors
/// `PATH_ABSOLUTE_FORM`, `HEADER_NOT_ALLOWED`, `METHOD_NOT_ALLOWED` or `BODY_UNEXPECTED`.
pub(super) fn check(parts: &Parts, surface: Surface) -> Result<(), Refusal> {
    if surface == Surface::Egress {
        return check_proxied(parts);
    }
    if parts.version != Version::HTTP_11 {
        return Err(Refusal::new(
            ReasonCode::HeaderNotAllowed,
            "HTTP/1.1 is needed",
        ));
    }
    if parts.uri.scheme().is_some() || parts.uri.authority().is_some() {
        return Err(ReasonCode::PathAbsoluteForm.into());
    }
    let headers = &parts.headers;
    check_size(headers)?;
    if !headers.contains_key(header::HOST) {
        return Err(Refusal::new(
            ReasonCode::HeaderNotAllowed,
            "a host is needed",
        ));
    }
    for name in OVERRIDES {
        if headers.contains_key(name) {
            return Err(Refusal::new(ReasonCode::HeaderNotAllowed, name));
        }
    }
    for name in [header::UPGRADE, header::TRAILER, header::TE] {
        // `TE: trailers` asks for nothing that we do; everything else about it is refused.
        if headers.contains_key(&name) && !(name == header::TE && headers[&name] == "trailers") {
            return Err(Refusal::new(ReasonCode::HeaderNotAllowed, name.to_string()));
        }
    }
    check_framing(headers)?;
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    // No Terraform client sends chunks; model SDKs may.
    if chunked && matches!(surface, Surface::Terraform | Surface::Object | Surface::Job) {
        return Err(Refusal::new(
            ReasonCode::HeaderNotAllowed,
            "transfer-encoding",
        ));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Refusal::new(
            ReasonCode::HeaderNotAllowed,
            "content-encoding",
        ));
    }
    if parts.method == Method::GET && body_announced(headers) {
        return Err(ReasonCode::BodyUnexpected.into());
    }
    Ok(())
}

/// What is asked of the proxy is for somebody else, who may read more headers than we do; but where
/// a request ends must be as clear.
fn check_proxied(parts: &Parts) -> Result<(), Refusal> {
    let headers = &parts.headers;
    let connect = parts.method == Method::CONNECT;
    // Old clients say CONNECT in HTTP/1.0.
    if parts.version != Version::HTTP_11 && !(connect && parts.version == Version::HTTP_10) {
        let detail = "HTTP/1.1 is needed";
        return Err(Refusal::new(ReasonCode::HeaderNotAllowed, detail));
    }
    check_size(headers)?;
    for name in [header::UPGRADE, header::TRAILER] {
        if headers.contains_key(&name) {
            return Err(Refusal::new(ReasonCode::HeaderNotAllowed, name.to_string()));
        }
    }
    check_framing(headers)?;
    let bodiless = connect || [Method::GET, Method::HEAD].contains(&parts.method);
    if bodiless && body_announced(headers) {
        return Err(ReasonCode::BodyUnexpected.into());
    }
    Ok(())
}

fn check_size(headers: &HeaderMap) -> Result<(), Refusal> {
    let head: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if head > MAX_HEAD_BYTES {
        let detail = format!("the head may have {MAX_HEAD_BYTES} bytes");
        return Err(Refusal::new(ReasonCode::HeaderNotAllowed, detail));
    }
    Ok(())
}

/// One host, one length, one coding.
fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    for name in [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::TRANSFER_ENCODING,
    ] {
        if headers.get_all(&name).iter().count() > 1 {
            return Err(Refusal::new(
                ReasonCode::HeaderNotAllowed,
                format!("{name} given twice"),
            ));
        }
    }
    let coding = headers.get(header::TRANSFER_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::new(
            ReasonCode::HeaderNotAllowed,
            "transfer-encoding",
        ));
    }
    if coding.is_some() && headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Refusal::new(
            ReasonCode::HeaderNotAllowed,
            "two lengths for one body",
        ));
    }
    if let Some(expect) = headers.get(header::EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Refusal::new(ReasonCode::HeaderNotAllowed, "expect"));
    }
    Ok(())
}

/// Whether the head says that a body follows.
fn body_announced(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// The trace id of a header in the form of W3C's `traceparent`: untrusted, kept for grouping only.
/// An agent's program that sets that one itself leaves the other to its plugins.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<String> {
    let own = headers.get("x-clawgate-trace");
    let text = own.or_else(|| headers.get("traceparent"))?.to_str().ok()?;
    let mut fields = text.split('-');
    let (version, trace) = (fields.next()?, fields.next()?);
    let hex = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    (version.len() == 2 && hex(version) && trace.len() == 32 && hex(trace))
        .then(|| trace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: (&str, &str), headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(line.0).uri(line.1);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn plain_requests_pass() {
        for (line, headers) in [
            (
                ("GET", "/api/v2/ping"),
                &[("host", "a"), ("te", "trailers")][..],
            ),
            (
                ("POST", "/api/v2/runs"),
                &[("host", "a"), ("content-length", "12")],
            ),
            (
                ("PUT", "/api/v2/runs"),
                &[("host", "a"), ("expect", "100-continue")],
            ),
            (
                ("GET", "/api/v2/ping"),
                &[("host", "a"), ("content-length", "0")],
            ),
        ] {
            assert_eq!(
                check(&parts(line, headers), Surface::Terraform),
                Ok(()),
                "{line:?}"
            );
        }
        let chunked = parts(
            ("POST", "/openai/v1/x"),
            &[("host", "a"), ("transfer-encoding", "chunked")],
        );
        assert!(check(&chunked, Surface::Openai).is_ok());
    }

    #[test]
    fn ambiguous_requests_do_not() {
        let long = "a".repeat(MAX_HEAD_BYTES);
        for (line, headers) in [
            (("GET", "http://other.example/api/v2/ping"), &[][..]),
            (("POST", "/a"), &[("x-http-method-override", "DELETE")]),
            (("POST", "/a"), &[("x-original-url", "/b")]),
            (("GET", "/a"), &[("upgrade", "websocket")]),
            (
                ("POST", "/a"),
                &[("content-length", "1"), ("transfer-encoding", "chunked")],
            ),
            (("POST", "/a"), &[("transfer-encoding", "chunked")]),
            (("POST", "/a"), &[("host", "a"), ("host", "b")]),
            (
                ("POST", "/a"),
                &[("content-type", "a/b"), ("content-type", "c/d")],
            ),
            (("POST", "/a"), &[("content-encoding", "gzip")]),
            (("POST", "/a"), &[("expect", "200-ok")]),
            (("POST", "/a"), &[("te", "gzip")]),
            (("GET", "/a"), &[("content-length", "3")]),
            (("GET", "/a"), &[("x-a", long.as_str())]),
        ] {
            let mut headers = headers.to_vec();
            if !headers.iter().any(|(name, _)| *name == "host") {
                headers.push(("host", "a"));
            }
            let refused = check(&parts(line, &headers), Surface::Terraform);
            assert!(refused.is_err(), "{headers:?}");
        }
        assert!(
            check(&parts(("GET", "/a"), &[]), Surface::Terraform).is_err(),
            "no host"
        );
        for coding in ["gzip, chunked", "chunked, chunked", "identity", "xchunked"] {
            let fields = [("host", "a"), ("transfer-encoding", coding)];
            let refused = check(&parts(("POST", "/openai/v1/x"), &fields), Surface::Openai);
            assert!(refused.is_err(), "{coding}");
        }
    }

    #[test]
    fn only_a_well_formed_trace_id_is_kept() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().unwrap());
            trace_id(&headers)
        };
        let id = "5fedb34e6a60060eef7873a8073f93d7";
        assert_eq!(
            with(&format!("00-{id}-4968c74e1a5ff74b-01")).as_deref(),
            Some(id)
        );
        assert_eq!(with("00-zz-4968c74e1a5ff74b-01"), None);
        assert_eq!(with("<script>"), None);
        // What a plugin says goes before what its program says, even when it cannot be read.
        let both = |own: &str| {
            let mut headers = http::HeaderMap::new();
            let program = "00-00000000000000000000000000000001-4968c74e1a5ff74b-01";
            headers.insert("traceparent", program.parse().unwrap());
            headers.insert("x-clawgate-trace", own.parse().unwrap());
            trace_id(&headers)
        };
        let own = format!("00-{id}-4968c74e1a5ff74b-01");
        assert_eq!(both(&own).as_deref(), Some(id));
        assert_eq!(both("session 7"), None);
    }
}
