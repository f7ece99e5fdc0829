//! Takes secrets out of text on its way to an agent: logs of plans and applies, plan JSON.
//!
//! Best effort, and the last of several controls: whoever writes the configuration could encode a
//! secret so that nobody recognises it, which is why functions and data sources are judged before
//! a plan. What is recognised: values that a plan marks as sensitive ([`Known`]), keys of known
//! shapes (`shape`), values of attributes that are called like secrets (`name`), and long
//! texts that look random (`random`).
//!
//! A mask is as long as what it hides, in bytes, so that offsets into a log stay what they are;
//! [`Piece`] reads a part of a log so that a secret across its edges is seen whole.

mod known;
mod name;
mod piece;
mod random;
mod sensitive;
mod shape;

use std::ops::Range;

use proof::json::Json;

pub use known::Known;
pub use piece::{CONTEXT, Piece, Place};
pub use sensitive::sensitive_values;

/// What stands in the place of each byte.
const MASK: u8 = b'*';

/// Masks every secret that is recognised; answers how many bytes that were.
pub fn mask(text: &mut [u8], known: &Known) -> usize {
    let mut spans = Vec::new();
    known.find(text, &mut spans);
    shape::find(text, &mut spans);
    name::find(text, &mut spans);
    random::find(text, &mut spans);
    let mut masked = 0;
    let spans: Vec<_> = spans
        .into_iter()
        .map(|span| whole_escapes(text, span))
        .collect();
    for byte in spans.into_iter().flatten() {
        if !is_kept(text[byte]) {
            text[byte] = MASK;
            masked += 1;
        }
    }
    masked
}

/// Masks the texts of a JSON document; names of members stay.
pub fn mask_json(json: &mut Json, known: &Known) -> usize {
    match json {
        Json::String(text) => {
            let mut bytes = std::mem::take(text).into_bytes();
            let masked = mask(&mut bytes, known);
            // A mask replaces whole characters, except where a text of ours is broken already.
            *text =
                String::from_utf8(bytes).unwrap_or_else(|error| "*".repeat(error.as_bytes().len()));
            masked
        }
        Json::Array(elements) => elements.iter_mut().map(|e| mask_json(e, known)).sum(),
        Json::Object(members) => members
            .iter_mut()
            .map(|(_, value)| mask_json(value, known))
            .sum(),
        _ => 0,
    }
}

/// Bytes that frame a log or its lines, and what was masked before.
fn is_kept(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | 2 | 3 | MASK)
}

/// Logs are often lines of JSON: a mask that begins or ends within an escape would make them
/// something else, so it begins after the escape, and ends before it.
fn whole_escapes(text: &[u8], span: Range<usize>) -> Range<usize> {
    let Range { mut start, mut end } = span;
    if is_escaped(text, start) {
        start += if text[start] == b'u' { 5 } else { 1 };
    }
    if end > start && text[end - 1] == b'\\' && !is_escaped(text, end - 1) {
        end -= 1;
    }
    start.min(end)..end
}

/// Whether an odd number of backslashes stands before a byte.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rev().take_while(|byte| **byte == b'\\');
    before.count() % 2 == 1
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a word could begin at `at`. An escape such as the `n` of `\n` is no part of a word.
fn begins_word(text: &[u8], at: usize) -> bool {
    at == 0 || !is_word(text[at - 1]) || is_escaped(text, at - 1)
}

#[cfg(test)]
mod tests;
