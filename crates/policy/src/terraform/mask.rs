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
pub(crate) use sensitive::Values;
pub use sensitive::{Marked, sensitive_values};

/// What stands in the place of each byte.
const MASK: u8 = b'*';

/// What an agent reads in the place of a log or a plan that is not shown.
pub const HELD_BACK: &str = "clawgate holds this back: the plan marks more values as sensitive than can be looked for (2000 of them, or 1 MiB with their spellings), or could not be read whole, so that any text could show one. The run itself goes on. Who may read it finds it in Terraform Cloud; with fewer values marked in one workspace it is shown here.";

/// Masks every secret that is recognised; answers how many bytes that were.
///
/// Takes time and memory in proportion to the text, whatever the text is: an agent writes both
/// the text and, by way of its configuration, the values that are looked for. Where looking for
/// those would take longer, or there are more than are known, everything is masked.
pub fn mask(text: &mut [u8], known: &Known) -> usize {
    let read = Text::new(text);
    let mut spans = Spans::default();
    if known.find(&read, &mut spans).is_err() {
        spans.add(0..text.len());
    }
    shape::find(&read, &mut spans);
    name::find(&read, &mut spans);
    random::find(&read, &mut spans);
    let spans: Vec<_> = spans
        .0
        .into_iter()
        .map(|span| whole_escapes(&read, span))
        .collect();
    let mut masked = 0;
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
fn whole_escapes(text: &Text<'_>, span: Range<usize>) -> Range<usize> {
    let Range { mut start, mut end } = span;
    if text.is_escaped(start) {
        start += if text.bytes[start] == b'u' { 5 } else { 1 };
    }
    if end > start && text.bytes[end - 1] == b'\\' && !text.is_escaped(end - 1) {
        end -= 1;
    }
    start.min(end)..end
}

/// A text, and which of its bytes follow a backslash that escapes them.
struct Text<'a> {
    bytes: &'a [u8],
    /// Empty where the text has no backslash.
    escaped: Vec<bool>,
}

impl<'a> Text<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut escaped = Vec::new();
        if memchr::memchr(b'\\', bytes).is_some() {
            let mut next = false;
            escaped.extend(bytes.iter().map(|byte| {
                let this = next;
                next = *byte == b'\\' && !this;
                this
            }));
        }
        Self { bytes, escaped }
    }

    /// Whether an odd number of backslashes stands before a byte.
    fn is_escaped(&self, at: usize) -> bool {
        self.escaped.get(at).copied().unwrap_or(false)
    }

    /// Whether a word could begin at `at`. An escape such as the `n` of `\n` is no part of a word.
    fn begins_word(&self, at: usize) -> bool {
        at == 0 || !is_word(self.bytes[at - 1]) || self.is_escaped(at - 1)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// What is to be masked. Spans that come in order and overlap become one, so that they hold no
/// more bytes together than a few times the text.
#[derive(Default)]
struct Spans(Vec<Range<usize>>);

impl Spans {
    fn add(&mut self, span: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if (last.start..=last.end).contains(&span.start) => {
                last.end = last.end.max(span.end);
            }
            _ => self.0.push(span),
        }
    }
}

#[cfg(test)]
mod tests;
