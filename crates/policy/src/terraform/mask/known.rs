//! Values that a plan marks as sensitive, wherever they show.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;

use proof::json::Json;

/// Shorter values would be found in ordinary words, and hide them.
const MIN_LENGTH: usize = 6;
/// Longer values are looked for in parts of this many bytes.
const PART: usize = 1024;
/// Most texts that are looked for.
const MAX_TEXTS: usize = 4096;
/// Most bytes of all of them together.
const MAX_BYTES: usize = 1 << 20;
/// By so many of its first bytes a text is found.
const HEAD: usize = 4;

/// The values that must not show. Kept in memory only; prints without them.
#[derive(Clone, Default)]
pub struct Known {
    texts: BTreeSet<Vec<u8>>,
    by_head: HashMap<[u8; HEAD], Vec<Vec<u8>>>,
    bytes: usize,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Known({} texts)", self.texts.len())
    }
}

impl Known {
    /// How many texts are looked for: a value of several lines, or one that is written with
    /// escapes, is several.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Learns a value: as it is, line by line, and as JSON writes it. False when there is no
    /// room for it; the first ones stay.
    pub fn learn(&mut self, value: &str) -> bool {
        let mut room = true;
        for line in value.split(['\n', '\r']).map(str::trim) {
            let quoted = Json::from(line).to_jcs();
            // Without the quotes.
            let escaped = &quoted[1..quoted.len() - 1];
            // Terraform writes these as escapes, too.
            let mut escaped_more = Vec::with_capacity(escaped.len());
            for byte in escaped {
                match byte {
                    b'<' => escaped_more.extend_from_slice(br"\u003c"),
                    b'>' => escaped_more.extend_from_slice(br"\u003e"),
                    b'&' => escaped_more.extend_from_slice(br"\u0026"),
                    _ => escaped_more.push(*byte),
                }
            }
            for form in [line.as_bytes(), escaped, &escaped_more] {
                for part in form.chunks(PART) {
                    room &= self.insert(part);
                }
            }
        }
        room
    }

    fn insert(&mut self, text: &[u8]) -> bool {
        if text.len() < MIN_LENGTH || text.iter().all(|byte| *byte == super::MASK) {
            return true;
        }
        if self.texts.contains(text) {
            return true;
        }
        if self.texts.len() >= MAX_TEXTS || self.bytes + text.len() > MAX_BYTES {
            return false;
        }
        let Some(head) = text.first_chunk::<HEAD>() else {
            return true;
        };
        self.bytes += text.len();
        self.by_head.entry(*head).or_default().push(text.to_vec());
        self.texts.insert(text.to_vec());
        true
    }

    pub(super) fn find(&self, text: &[u8], spans: &mut Vec<Range<usize>>) {
        if self.is_empty() {
            return;
        }
        for (at, head) in text.windows(HEAD).enumerate() {
            let candidates = <&[u8; HEAD]>::try_from(head)
                .ok()
                .and_then(|head| self.by_head.get(head));
            for candidate in candidates.into_iter().flatten() {
                if text[at..].starts_with(candidate) {
                    spans.push(at..at + candidate.len());
                }
            }
        }
    }
}
