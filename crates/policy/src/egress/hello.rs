//! The first bytes of a connection: is it TLS, and for which server?
//!
//! Reads just enough of TLS (RFC 8446, 4.1.2 and 5.1; RFC 6066, 3) to find the server's name in a
//! ClientHello, over as many records as it is cut into. What is not exactly as the standards have
//! it is refused, because another reader might find another name in it.

/// Most bytes in which a ClientHello must be complete: tickets and post-quantum keys fit many times.
pub const MAX_OPENING: usize = 32 * 1024;

/// Longest record, with the expansion that some stacks allow themselves.
const MAX_RECORD: usize = (1 << 14) + 256;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The beginning of a ClientHello; more is needed.
    Incomplete,
    /// No TLS.
    Other,
    /// Begins like TLS and goes on in a way that is not accepted.
    Malformed,
    /// A ClientHello, for the server of this name, in lower case; `None` names none.
    Hello(Option<String>),
}

/// Reads the first bytes of a connection. Nothing behind a whole ClientHello is looked at.
pub fn opening(bytes: &[u8]) -> Opening {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let mut rest = Reader(bytes);
    let mut message = Vec::new();
    loop {
        let Some(kind) = rest.0.first() else {
            return Opening::Incomplete;
        };
        match (*kind, rest.0.get(1)) {
            (HANDSHAKE, None | Some(3)) => {}
            // A handshake that another record interrupts is none that servers accept.
            _ if message.is_empty() => return Opening::Other,
            _ => return Opening::Malformed,
        }
        let Some(header) = rest.0.get(..5) else {
            return Opening::Incomplete;
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[2] > 4 || length == 0 || length > MAX_RECORD {
            return Opening::Malformed;
        }
        let come = &rest.0[5..];
        let with_record = message.len() + length;
        message.extend_from_slice(&come[..length.min(come.len())]);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Opening::Malformed;
        }
        if let Some(&[_, a, b, c]) = message.first_chunk::<4>() {
            let wanted = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            // A second message in the same record would be read by nobody here.
            if wanted > MAX_OPENING || with_record > 4 + wanted {
                return Opening::Malformed;
            }
            if let Some(hello) = message.get(4..4 + wanted) {
                return server_name(hello).map_or(Opening::Malformed, Opening::Hello);
            }
        }
        let Some(next) = come.get(length..) else {
            return Opening::Incomplete;
        };
        rest = Reader(next);
    }
}

/// The server's name in the body of a ClientHello; `None` where it is malformed.
fn server_name(hello: &[u8]) -> Option<Option<String>> {
    const SERVER_NAME: u16 = 0;
    let mut rest = Reader(hello);
    let version = rest.take(2)?;
    if version[0] != 3 {
        return None;
    }
    rest.take(32)?;
    let session = rest.byte()?;
    if session > 32 {
        return None;
    }
    rest.take(session.into())?;
    let suites = rest.vector16()?;
    let compressions = rest.vector8()?;
    if suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    if rest.0.is_empty() {
        // Before extensions there were no names.
        return Some(None);
    }
    let mut extensions = Reader(rest.vector16()?);
    if !rest.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.vector16()?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut content = Reader(content);
        let mut list = Reader(content.vector16()?);
        let host_name = list.byte()?;
        let name = list.vector16()?;
        // One name, of the one kind that there is.
        if host_name != 0 || !list.0.is_empty() || !content.0.is_empty() || name.is_empty() {
            return None;
        }
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| name.is_ascii())?;
        if found.replace(name.to_ascii_lowercase()).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Takes bytes off the front; `None` when there are too few.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)
            .map(|taken| u16::from_be_bytes([taken[0], taken[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}
