//! Where a form stood: a browser says so itself, and no page can make it say otherwise.

use http::uri::Authority;
use http::{HeaderMap, Uri, header};

/// Whether a request that changes something comes from a page of ours.
///
/// Each browser sends `Origin` with a form, and newer ones `Sec-Fetch-Site`, too. Nothing is
/// taken on trust when it is missing: programs have the API.
pub fn is_ours(headers: &HeaderMap, uri: &Uri, operator_url: &str) -> bool {
    let site = match single(headers, "sec-fetch-site") {
        Sent::Nothing => true,
        Sent::One(site) => site == "same-origin",
        Sent::Unreadable => false,
    };
    let Sent::One(origin) = single(headers, header::ORIGIN.as_str()) else {
        return false;
    };
    site && (origin_of(operator_url).as_deref() == Some(origin)
        || is_this_machine(origin, headers, uri))
}

/// The listener is reached by another name of this machine: `localhost` or `[::1]`.
fn is_this_machine(origin: &str, headers: &HeaderMap, uri: &Uri) -> bool {
    let Some(authority) = origin.strip_prefix("http://") else {
        return false;
    };
    names_this_machine(headers, uri)
        && matches!(single(headers, header::HOST.as_str()), Sent::One(host) if host == authority)
}

/// Whether the `Host` header is a loopback address: a foreign page in the same browser can make
/// its own name point here, and must not read open pages that way.
pub fn names_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    let Sent::One(host) = single(headers, header::HOST.as_str()) else {
        return false;
    };
    let host = host.parse::<Authority>().ok();
    // A whole address in the request line counts more than the header does.
    host.as_ref().is_some_and(is_loopback) && uri.authority().is_none_or(is_loopback)
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    let named = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    named && !authority.as_str().contains('@')
}

/// Whether a browser is being led here by another site, so that it keeps a strict cookie to
/// itself: a link in a mail or a chat.
pub fn led_from_elsewhere(headers: &HeaderMap) -> bool {
    let word = |name, words: &[&str]| matches!(single(headers, name), Sent::One(word) if words.contains(&word));
    word("sec-fetch-mode", &["navigate"]) && word("sec-fetch-site", &["cross-site", "same-site"])
}

/// Whether somebody follows a link of our own page, or types the address: not a script's doing, and
/// no other site's. Programs and old browsers do not say, and have nothing that they could be led
/// to lose.
pub fn is_a_click_of_ours(headers: &HeaderMap) -> bool {
    let may = |name, words: &[&str]| match single(headers, name) {
        Sent::Nothing => true,
        Sent::One(word) => words.contains(&word),
        Sent::Unreadable => false,
    };
    may("sec-fetch-mode", &["navigate"]) && may("sec-fetch-site", &["same-origin", "none"])
}

enum Sent<'a> {
    Nothing,
    One(&'a str),
    Unreadable,
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Sent<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Sent::Nothing,
        (Some(value), None) => value.to_str().map_or(Sent::Unreadable, Sent::One),
        _ => Sent::Unreadable,
    }
}

/// Scheme, host and port of an address, as browsers write them.
fn origin_of(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let default = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    let host = authority.host().to_ascii_lowercase();
    Some(
        match authority.port_u16().filter(|port| Some(*port) != default) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_form_counts_from_our_own_pages_only() {
        let ours = |pairs: &[(&'static str, &str)], url: &str| {
            let uri = Uri::from_static("/approvals/run-1/deny");
            is_ours(&headers(pairs), &uri, url)
        };
        const PUBLIC: &str = "https://Gate.example:443/";
        const LOCAL: &str = "http://127.0.0.1:8788";
        let gate = ("origin", "https://gate.example");
        let same = ("sec-fetch-site", "same-origin");
        assert!(ours(&[gate], PUBLIC));
        assert!(ours(&[gate, same], PUBLIC));
        assert!(ours(&[("origin", LOCAL), same], LOCAL));
        let host = ("host", "localhost:8788");
        assert!(ours(&[("origin", "http://localhost:8788"), host], LOCAL));
        for refused in [
            &[][..],
            &[same],
            &[("origin", "null"), same],
            &[("origin", "https://evil.example")],
            &[("origin", "https://gate.example.evil.example")],
            &[("origin", "https://gate.example:444")],
            &[("origin", "http://gate.example")],
            &[gate, ("sec-fetch-site", "cross-site")],
            &[gate, ("sec-fetch-site", "same-site")],
            &[gate, ("sec-fetch-site", "none")],
            &[gate, gate],
            &[gate, same, same],
            // A name that was made to point here.
            &[
                ("origin", "http://evil.example:8788"),
                ("host", "evil.example:8788"),
            ],
            &[("origin", "http://localhost:9999"), host],
            &[("origin", "http://localhost:8788")],
        ] {
            assert!(!ours(refused, PUBLIC), "{refused:?}");
            assert!(!ours(refused, LOCAL), "{refused:?}");
        }
    }

    #[test]
    fn only_clicks_begin_something() {
        let click = |mode, site| {
            let sent = [("sec-fetch-mode", mode), ("sec-fetch-site", site)];
            is_a_click_of_ours(&headers(&sent))
        };
        assert!(click("navigate", "same-origin") && click("navigate", "none"));
        assert!(is_a_click_of_ours(&HeaderMap::new()));
        for (mode, site) in [
            ("no-cors", "same-origin"),
            ("no-cors", "same-site"),
            ("cors", "none"),
            ("navigate", "same-site"),
            ("navigate", "cross-site"),
        ] {
            assert!(!click(mode, site), "{mode} {site}");
        }
    }

    #[test]
    fn browsers_that_are_led_here_are_known() {
        let led = |mode, site| {
            led_from_elsewhere(&headers(&[
                ("sec-fetch-mode", mode),
                ("sec-fetch-site", site),
            ]))
        };
        assert!(led("navigate", "cross-site") && led("navigate", "same-site"));
        assert!(!led("navigate", "same-origin") && !led("navigate", "none"));
        assert!(!led("no-cors", "cross-site"));
        assert!(!led_from_elsewhere(&HeaderMap::new()));
    }
}
