//! Questions to name servers, and what their answers say of them (RFC 1035, RFC 3596).
//!
//! Of an answer only that is read which was asked for: the addresses of one name, and the aliases on
//! the way to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name, with the lengths of its labels and the root's.
const MAX_NAME_BYTES: usize = 255;

/// Most aliases from a name to its addresses.
const MAX_ALIASES: usize = 16;

/// Most addresses of a name that count.
pub const MAX_ADDRESSES: usize = 64;

const HEADER_BYTES: usize = 12;

const INTERNET: u16 = 1;
const ALIAS: u16 = 5;

/// The family of the addresses that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Records of type A.
    V4,
    /// Records of type AAAA.
    V6,
}

impl Family {
    fn record_type(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }

    fn address(self, data: &[u8]) -> Option<IpAddr> {
        Some(match self {
            Self::V4 => Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into(),
            Self::V6 => Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into(),
        })
    }
}

/// A name as messages have it, labels behind their lengths, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// Reads a host's name without a dot at its end: letters, digits, `-` and `_`.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let mut name = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let length = u8::try_from(label.len()).ok();
            let length = length.filter(|length| (1..=63).contains(length))?;
            if !label.bytes().all(plain) {
                return None;
            }
            name.push(length);
            name.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        name.push(0);
        (name.len() <= MAX_NAME_BYTES).then_some(Self(name))
    }

    /// Reads one in a message; also tells where it ends.
    fn read(message: &[u8], start: usize) -> Option<(Self, usize)> {
        let mut name = Vec::new();
        let (mut at, mut part, mut end) = (start, start, None);
        loop {
            let length = *message.get(at)?;
            match length {
                0 => {
                    name.push(0);
                    return Some((Self(name), end.unwrap_or(at + 1)));
                }
                1..=63 => {
                    let next = at + 1 + usize::from(length);
                    name.push(length);
                    name.extend(message.get(at + 1..next)?.to_ascii_lowercase());
                    if name.len() >= MAX_NAME_BYTES {
                        return None;
                    }
                    at = next;
                }
                0xc0.. => {
                    // The rest stands elsewhere: further ahead each time, so that it ends.
                    let to = usize::from(u16_at(message, at)? & 0x3fff);
                    if to >= part {
                        return None;
                    }
                    end.get_or_insert(at + 2);
                    (at, part) = (to, to);
                }
                _ => return None,
            }
        }
    }
}

/// One question.
pub struct Question {
    id: u16,
    name: Name,
    family: Family,
}

/// What a message says of a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing: it is no answer to it.
    Foreign,
    /// More than there was room for.
    Truncated,
    /// That it cannot be answered; with the code of the server.
    Failed(u8),
    /// Nothing that can be read.
    Unreadable,
    /// The addresses; none, when there is no such name or no such address of it.
    Addresses(Vec<IpAddr>),
}

impl Question {
    /// The id is drawn for each question, so that nobody answers who has not seen it.
    pub fn new(id: u16, name: Name, family: Family) -> Self {
        Self { id, name, family }
    }

    /// The message that asks.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER_BYTES + self.name.0.len() + 4);
        message.extend(self.id.to_be_bytes());
        // A question; the server is to ask further. One question, and nothing else.
        message.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend(&self.name.0);
        message.extend(self.family.record_type().to_be_bytes());
        message.extend(INTERNET.to_be_bytes());
        message
    }

    /// Reads what came back.
    pub fn read(&self, message: &[u8]) -> Said {
        const NO_ERROR: u8 = 0;
        const NO_SUCH_NAME: u8 = 3;
        let header = |at| u16_at(message, at).unwrap_or_default();
        let (id, flags, questions, answers) = (header(0), header(2), header(4), header(6));
        let is_answer = flags & 0xf800 == 0x8000;
        if message.len() < HEADER_BYTES || id != self.id || !is_answer {
            return Said::Foreign;
        }
        let code = (flags & 0xf) as u8;
        // A server that cannot read a question need not repeat it.
        if questions == 0 && code != NO_ERROR && code != NO_SUCH_NAME {
            return Said::Failed(code);
        }
        let Some(end) = self.repeated(message).filter(|_| questions == 1) else {
            return Said::Foreign;
        };
        match code {
            _ if flags & 0x0200 != 0 => Said::Truncated,
            NO_ERROR => match self.addresses(message, end, answers) {
                Some(addresses) => Said::Addresses(addresses),
                None => Said::Unreadable,
            },
            NO_SUCH_NAME => Said::Addresses(Vec::new()),
            code => Said::Failed(code),
        }
    }

    /// Where the question ends in its answer, `None` when it is another one.
    fn repeated(&self, message: &[u8]) -> Option<usize> {
        let (name, at) = Name::read(message, HEADER_BYTES)?;
        let same = name == self.name
            && u16_at(message, at)? == self.family.record_type()
            && u16_at(message, at + 2)? == INTERNET;
        same.then_some(at + 4)
    }

    /// Addresses at the end of the aliases; `None` when the records cannot be read.
    fn addresses(&self, message: &[u8], mut at: usize, records: u16) -> Option<Vec<IpAddr>> {
        let (mut aliases, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..records {
            let (owner, head) = Name::read(message, at)?;
            let (kind, class) = (u16_at(message, head)?, u16_at(message, head + 2)?);
            // Between them is the time for which it counts; nothing is kept.
            let start = head + 10;
            let end = start + usize::from(u16_at(message, head + 8)?);
            let data = message.get(start..end)?;
            if class == INTERNET && kind == self.family.record_type() {
                addresses.push((owner, self.family.address(data)?));
            } else if class == INTERNET && kind == ALIAS {
                let (to, _) = Name::read(message, start).filter(|(_, at)| *at == end)?;
                aliases.push((owner, to));
            }
            at = end;
        }
        let mut name = &self.name;
        for _ in 0..=MAX_ALIASES {
            let own = addresses.iter().filter(|(owner, _)| owner == name);
            let own: Vec<IpAddr> = own.map(|(_, ip)| *ip).take(MAX_ADDRESSES).collect();
            let alias = aliases.iter().find(|(owner, _)| owner == name);
            match alias {
                Some((_, to)) if own.is_empty() => name = to,
                _ => return Some(own),
            }
        }
        None
    }
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
