//! What a contract may list in `egress.allow_hosts`.

use std::fmt;
use std::num::NonZeroU16;

use super::host::check_name;
use super::{EgressOperation, Host, HostError, HostRef, TLS_PORT};

/// A host, or `*.` and a name, with or without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// In its one form.
    text: String,
    hosts: Hosts,
    port: Option<NonZeroU16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    One(Host),
    /// Every name with one or more labels before this one, and not the name itself.
    Below(String),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A `*` anywhere but alone as the first label.
    #[error("`*` stands for whole labels at the beginning only: `*.example.com`")]
    Star,
    /// `*`, `*.com`
    #[error("`*.` must be followed by a name of two labels at least")]
    TooWide,
    /// Not 1 to 65535 in plain decimal.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// A dot at the end, which says nothing here.
    #[error("leave the dot at the end out")]
    TrailingDot,
}

impl HostPattern {
    /// Reads a pattern. Letters may be upper case; the pattern is kept in lower case.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.contains(['/', '@', '?', '#', '\\']) {
            return Err(HostError::NotAHost.into());
        }
        let (host, port) = split_port(text)?;
        if host.ends_with('.') && host.len() > 1 {
            return Err(PatternError::TrailingDot);
        }
        let hosts = if let Some(below) = host.strip_prefix("*.") {
            if !below.is_ascii() {
                return Err(HostError::NotAscii.into());
            }
            let below = below.to_ascii_lowercase();
            if below.contains('*') {
                return Err(PatternError::Star);
            }
            check_name(&below)?;
            if !below.contains('.') {
                return Err(PatternError::TooWide);
            }
            Hosts::Below(below)
        } else if host == "*" {
            return Err(PatternError::TooWide);
        } else if host.contains('*') {
            return Err(PatternError::Star);
        } else {
            Hosts::One(Host::parse(host)?)
        };
        let mut canonical = match &hosts {
            Hosts::One(Host::Ip(ip)) if ip.is_ipv6() => format!("[{ip}]"),
            Hosts::One(host) => host.to_string(),
            Hosts::Below(name) => format!("*.{name}"),
        };
        if let Some(port) = port {
            canonical.push_str(&format!(":{port}"));
        }
        Ok(Self {
            text: canonical,
            hosts,
            port,
        })
    }

    /// The pattern in its one form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a destination is meant. Allocates nothing.
    pub fn matches(&self, operation: EgressOperation, host: HostRef<'_>, port: u16) -> bool {
        self.covers(host) && self.has_port(operation, port)
    }

    /// Whether a host is meant, whatever the port.
    pub fn covers(&self, host: HostRef<'_>) -> bool {
        match (&self.hosts, host) {
            (Hosts::One(own), host) => own.borrowed() == host,
            (Hosts::Below(_), HostRef::Ip(_)) => false,
            (Hosts::Below(parent), HostRef::Name(name)) => name
                .strip_suffix(parent.as_str())
                .and_then(|before| before.strip_suffix('.'))
                .is_some_and(|before| !before.is_empty()),
        }
    }

    /// The one address that is meant, where it is one.
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        match &self.hosts {
            Hosts::One(Host::Ip(ip)) => Some(*ip),
            _ => None,
        }
    }

    /// The name below which all names are meant, where it is such a pattern.
    pub(super) fn below(&self) -> Option<&str> {
        match &self.hosts {
            Hosts::Below(name) => Some(name),
            Hosts::One(_) => None,
        }
    }

    fn has_port(&self, operation: EgressOperation, port: u16) -> bool {
        // Nothing but TLS passes there, and a plain request is none.
        if operation == EgressOperation::Request && port == TLS_PORT {
            return false;
        }
        let own = self.port.map_or(operation.default_port(), NonZeroU16::get);
        own == port
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Splits a port off; colons in brackets belong to the address.
fn split_port(text: &str) -> Result<(&str, Option<NonZeroU16>), PatternError> {
    let after = text.rfind(']').map_or(0, |end| end + 1);
    match text[after..].find(':') {
        None => Ok((text, None)),
        Some(colon) => {
            let (host, port) = text.split_at(after + colon);
            Ok((host, Some(read_port(&port[1..]).ok_or(PatternError::Port)?)))
        }
    }
}

/// A port in plain decimal.
pub(super) fn read_port(text: &str) -> Option<NonZeroU16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}
