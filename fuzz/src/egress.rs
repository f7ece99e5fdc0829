//! Where somebody wants to go: hosts, patterns, and names in TLS.

use policy::egress::{Destination, EgressOperation, Host, HostPattern, HostRef, Opening, opening};

/// A destination that is read has one form, which reads as the same destination, and a name is
/// nobody's address; a pattern is kept in one form, and covers what it says.
pub fn destination(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for operation in [EgressOperation::Connect, EgressOperation::Request] {
        let Ok(to) = Destination::parse(operation, text) else {
            continue;
        };
        let written = to.host.to_string();
        let read = HostRef::from_canonical(&written).expect("what is written can be read");
        assert_eq!(read, to.host.borrowed());
        if let Host::Name(name) = &to.host {
            let last = name.rsplit('.').next().expect("a label");
            assert!(!last.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
            assert!(!name.contains(['%', '@', '/', ':', '\\']) && name.is_ascii());
            assert_eq!(*name, name.to_ascii_lowercase());
        }
        let again = Destination::parse(operation, &format!("{}", Written(&to)));
        assert_eq!(again.as_ref(), Ok(&to));
    }
    if let Ok(pattern) = HostPattern::new(text) {
        assert_eq!(HostPattern::new(pattern.as_str()).as_ref(), Ok(&pattern));
        if let Some(ip) = pattern.ip() {
            assert!(pattern.covers(HostRef::Ip(ip)));
        }
    }
}

/// A destination with its port, as it stands in a request.
struct Written<'a>(&'a Destination);

impl std::fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Destination { host, port } = self.0;
        match host {
            Host::Ip(ip) if ip.is_ipv6() => write!(f, "[{ip}]:{port}"),
            host => write!(f, "{host}:{port}"),
        }
    }
}

/// What the first bytes have said, no byte behind them changes; a name is one in lower case.
pub fn hello(bytes: &[u8]) {
    let whole = opening(bytes);
    if let Opening::Hello(Some(name)) = &whole {
        assert!(!name.is_empty() && *name == name.to_ascii_lowercase());
    }
    for cut in [1, 5, 9, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let part = opening(&bytes[..cut.min(bytes.len())]);
        assert!(
            part == Opening::Incomplete || part == whole,
            "{part:?} {whole:?}"
        );
    }
}
