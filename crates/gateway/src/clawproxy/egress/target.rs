//! Where a request wants to go: the authority of `CONNECT`, or a whole `http://` address.

use http::Method;
use http::request::Parts;
use http::{HeaderMap, header};
use policy::egress::{Destination, EgressOperation};
use policy::{ReasonCode, Refusal};

/// What plain requests may do; the list is for proxies, so nothing that speaks to proxies is in it.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// Reads the request line, and sees that `Host` agrees with it.
///
/// # Errors
/// `EGRESS_TARGET`, `METHOD_NOT_ALLOWED` or `HEADER_NOT_ALLOWED`.
pub(super) fn read(parts: &Parts) -> Result<(EgressOperation, Destination), Refusal> {
    let unreadable = |why: &'static str| Refusal::new(ReasonCode::EgressTarget, why);
    let operation = match (&parts.method, parts.uri.scheme_str()) {
        (&Method::CONNECT, None) if parts.uri.path_and_query().is_none() => {
            EgressOperation::Connect
        }
        (&Method::CONNECT, _) => return Err(unreadable("CONNECT names a host and a port only")),
        (method, Some("http")) if METHODS.contains(method) => EgressOperation::Request,
        (_, Some("http")) => return Err(ReasonCode::MethodNotAllowed.into()),
        (_, Some("https")) => return Err(unreadable("use CONNECT for https addresses")),
        _ => return Err(unreadable("an address that begins with http:// is needed")),
    };
    let authority = parts
        .uri
        .authority()
        .map_or("", |authority| authority.as_str());
    let parsed = Destination::parse(operation, authority);
    let destination =
        parsed.map_err(|error| Refusal::new(ReasonCode::EgressTarget, error.to_string()))?;
    if !agrees(&parts.headers, operation, &destination) {
        return Err(Refusal::new(
            ReasonCode::HeaderNotAllowed,
            "host names another destination than the request line",
        ));
    }
    Ok((operation, destination))
}

/// Whether `Host` names the same destination. Clients leave the port out when it is the usual one,
/// and old ones leave the field out with CONNECT.
fn agrees(headers: &HeaderMap, operation: EgressOperation, to: &Destination) -> bool {
    let Some(named) = headers.get(header::HOST) else {
        return operation == EgressOperation::Connect;
    };
    let Ok(named) = named.to_str() else {
        return false;
    };
    let parsed = Destination::parse(EgressOperation::Request, named);
    parsed.is_ok_and(|named_as| {
        let whole = named_as.port == to.port;
        // `Host: example.com` with `CONNECT example.com:443`.
        let without = operation == EgressOperation::Connect
            && Destination::parse(EgressOperation::Connect, named).is_err();
        named_as.host == to.host && (whole || without)
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(method: &str, target: &str, host: &[&str]) -> Result<String, ReasonCode> {
        let mut request = Request::builder().method(method).uri(target);
        for host in host {
            request = request.header("host", *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let (operation, to) = read(&parts).map_err(|refusal| refusal.code)?;
        Ok(format!("{} {}:{}", operation.name(), to.host, to.port))
    }

    #[test]
    fn a_destination_is_named_once_and_alike() {
        for (method, target, host, expected) in [
            (
                "CONNECT",
                "a.example:443",
                Some("a.example:443"),
                "connect a.example:443",
            ),
            (
                "CONNECT",
                "a.example:443",
                Some("A.Example"),
                "connect a.example:443",
            ),
            ("CONNECT", "a.example:443", None, "connect a.example:443"),
            (
                "CONNECT",
                "[2001:db8::1]:443",
                Some("[2001:db8::1]:443"),
                "connect 2001:db8::1:443",
            ),
            (
                "GET",
                "http://a.example/x?y",
                Some("a.example"),
                "request a.example:80",
            ),
            (
                "GET",
                "http://a.example:80/",
                Some("a.example"),
                "request a.example:80",
            ),
            (
                "POST",
                "http://a.example:81/",
                Some("a.example:81"),
                "request a.example:81",
            ),
        ] {
            let host: Vec<&str> = host.into_iter().collect();
            assert_eq!(asked(method, target, &host).as_deref(), Ok(expected));
        }
        use ReasonCode::{EgressTarget, HeaderNotAllowed, MethodNotAllowed};
        for (method, target, host, code) in [
            (
                "CONNECT",
                "a.example:443",
                Some("b.example:443"),
                HeaderNotAllowed,
            ),
            (
                "CONNECT",
                "a.example:443",
                Some("a.example:80"),
                HeaderNotAllowed,
            ),
            ("CONNECT", "a.example:443", Some(""), HeaderNotAllowed),
            ("CONNECT", "a.example", None, EgressTarget),
            ("CONNECT", "http://a.example:443/", None, EgressTarget),
            ("CONNECT", "/", None, EgressTarget),
            ("GET", "a.example:443", Some("a.example:443"), EgressTarget),
            ("GET", "https://a.example/", Some("a.example"), EgressTarget),
            ("GET", "ftp://a.example/", Some("a.example"), EgressTarget),
            (
                "GET",
                "http://u:p@a.example/",
                Some("a.example"),
                EgressTarget,
            ),
            (
                "GET",
                "http://2130706433/",
                Some("2130706433"),
                EgressTarget,
            ),
            (
                "GET",
                "http://a.example/",
                Some("b.example"),
                HeaderNotAllowed,
            ),
            ("GET", "http://a.example/", None, HeaderNotAllowed),
            (
                "GET",
                "http://a.example:81/",
                Some("a.example"),
                HeaderNotAllowed,
            ),
            (
                "TRACE",
                "http://a.example/",
                Some("a.example"),
                MethodNotAllowed,
            ),
            (
                "PURGE",
                "http://a.example/",
                Some("a.example"),
                MethodNotAllowed,
            ),
        ] {
            let host: Vec<&str> = host.into_iter().collect();
            assert_eq!(asked(method, target, &host), Err(code), "{method} {target}");
        }
    }
}
