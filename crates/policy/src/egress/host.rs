//! A destination's host in its one form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// Lower case, labels of letters, digits and dashes, no dot at the end.
    Name(String),
    /// Written as addresses are written: four decimal numbers, or IPv6.
    Ip(IpAddr),
}

/// The same, borrowed from its canonical text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRef<'a> {
    /// See [`Host::Name`].
    Name(&'a str),
    /// See [`Host::Ip`].
    Ip(IpAddr),
}

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing.
    #[error("a host is missing")]
    Empty,
    /// Beyond ASCII: such names have an ASCII form.
    #[error("write an internationalised name in its ASCII form (`xn--…`)")]
    NotAscii,
    /// More than a host.
    #[error("a host only: no scheme, no user, no path")]
    NotAHost,
    /// Escapes, which another reader would resolve.
    #[error("percent signs are not accepted in a host")]
    Percent,
    /// A label that is empty, too long, or has other signs.
    #[error("a name is labels of 1 to 63 letters, digits and dashes")]
    Label,
    /// More than 253 signs.
    #[error("a name has 253 characters at most")]
    TooLong,
    /// `127.1`, `0x7f000001`, `017700000001`: addresses to some readers, names to others.
    #[error("a number is no name; write an address as four decimal numbers, or IPv6 in brackets")]
    Number,
    /// Brackets without an IPv6 address in them, or one without brackets.
    #[error("an IPv6 address stands in brackets, without a zone")]
    Ipv6,
}

impl Host {
    /// Reads a host as it stands in an address: IPv6 in brackets. One dot at the end, which says
    /// that a name is complete, is taken off.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if !text.is_ascii() {
            return Err(HostError::NotAscii);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Ipv6)?;
            let ip: Ipv6Addr = inner.parse().map_err(|_| HostError::Ipv6)?;
            return Ok(Self::Ip(ip.into()));
        }
        if text.contains('%') {
            return Err(HostError::Percent);
        }
        if text.contains(['/', '@', '?', '#', '\\']) {
            return Err(HostError::NotAHost);
        }
        if text.contains(':') {
            return Err(HostError::Ipv6);
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        check_name(&name)?;
        Ok(Self::Name(name))
    }

    /// The same, borrowed.
    pub fn borrowed(&self) -> HostRef<'_> {
        match self {
            Self::Name(name) => HostRef::Name(name),
            Self::Ip(ip) => HostRef::Ip(*ip),
        }
    }
}

impl<'a> HostRef<'a> {
    /// Reads the canonical text of a host, as records have it: IPv6 without brackets. `None` for
    /// any other text. Allocates nothing.
    pub fn from_canonical(text: &'a str) -> Option<Self> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(Self::Ip(ip));
        }
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        (lower && check_name(text).is_ok()).then_some(Self::Name(text))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Whether a text is a name of DNS that nobody takes for an address.
pub(super) fn check_name(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > 253 {
        return Err(HostError::TooLong);
    }
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(sign)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(label) {
        return Err(HostError::Label);
    }
    // A name whose last label is a number is an address to C libraries and to browsers.
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostError::Number);
    }
    Ok(())
}
