//! Values of attributes that are called like secrets: `password = "…"`, `"token":"…"`,
//! `SECRET_KEY=…`.

use super::{Spans, Text, is_word};

/// How such a name ends, in lower case. What merely holds such a word, such as `secret_name` or
/// `token_type`, is no secret.
const ENDINGS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "secret_key",
    "secretkey",
    "secret_access_key",
    "secretaccesskey",
    "private_key",
    "privatekey",
    "api_key",
    "apikey",
    "access_key",
    "accesskey",
    "access_token",
    "auth_token",
    "session_token",
    "token",
    "credentials",
    "connection_string",
    "connectionstring",
];

/// Longest value that is hidden, in bytes.
const MAX_VALUE: usize = 4096;

pub(super) fn find(text: &Text<'_>, spans: &mut Spans) {
    let bytes = text.bytes;
    let mut hidden_until = 0;
    for at in 1..bytes.len() {
        // A name ends where something that assigns could stand. Within a value that is hidden
        // only one counts whose own value, in quotes, is not.
        let is_end = is_word(bytes[at - 1]) && !is_word(bytes[at]);
        let quoted = || bytes[at..].starts_with(b"=\"") || bytes[at..].starts_with(br#"=\""#);
        if is_end && (at >= hidden_until || quoted()) && ends_like_a_secret(&bytes[..at]) {
            hidden_until = value(bytes, at, spans).unwrap_or(hidden_until);
        }
    }
}

fn ends_like_a_secret(text: &[u8]) -> bool {
    ENDINGS.iter().any(|ending| {
        let from = text.len().checked_sub(ending.len());
        from.is_some_and(|from| text[from..].eq_ignore_ascii_case(ending.as_bytes()))
    })
}

/// Hides what is assigned to the name that ends at `at`. Answers where a value without quotes
/// ends; it may look like further names and values.
fn value(text: &[u8], at: usize, spans: &mut Spans) -> Option<usize> {
    let mut place = at + quote(&text[at..]).map_or(0, <[u8]>::len);
    let quoted_name = place > at;
    let spaces = blanks(&text[place..]);
    place += spaces;
    let assigns = *text.get(place).filter(|byte| b"=:".contains(byte))?;
    place += 1;
    let after = blanks(&text[place..]);
    place += after;
    if let Some(opening) = quote(&text[place..]) {
        let end = closed(text, place, opening, spans)?;
        // `"old" -> "new"`
        let arrow = end + blanks(&text[end..]);
        if text[arrow..].starts_with(b"->") {
            let second = arrow + 2 + blanks(&text[arrow + 2..]);
            if let Some(opening) = quote(&text[second..]) {
                closed(text, second, opening, spans);
            }
        }
        return None;
    }
    if assigns != b'=' || spaces > 0 || after > 0 || quoted_name {
        return None;
    }
    let of_value = |byte: &u8| byte.is_ascii_graphic() && !b"\"'\\,;&()<>{}[]".contains(byte);
    let length = text[place..]
        .iter()
        .take(MAX_VALUE)
        .take_while(|b| of_value(b))
        .count();
    spans.add(place..place + length);
    Some(place + length)
}

/// Hides what stands between an opening quote at `at` and the closing one, and answers the place
/// behind it. A text that is not closed is hidden as far as it is there.
fn closed(text: &[u8], at: usize, opening: &[u8], spans: &mut Spans) -> Option<usize> {
    let start = at + opening.len();
    let most = text.len().min(start + MAX_VALUE);
    let mut place = start;
    while place < most {
        if text[place..].starts_with(opening) {
            spans.add(start..place);
            return Some(place + opening.len());
        }
        match text[place] {
            b'\n' | b'\r' | 2 | 3 => break,
            // Within `\"`, an escape has two backslashes more.
            b'\\' if opening.len() == 1 => place += 2,
            b'\\' if text[place..].starts_with(b"\\\\") => place += 4,
            _ => place += 1,
        }
    }
    spans.add(start..place.min(most));
    None
}

/// A quote, or the quote of a text within a text.
fn quote(text: &[u8]) -> Option<&[u8]> {
    let length = match text {
        [b'"', ..] => 1,
        [b'\\', b'"', ..] => 2,
        _ => return None,
    };
    Some(&text[..length])
}

fn blanks(text: &[u8]) -> usize {
    text.iter().take_while(|byte| **byte == b' ').count()
}
