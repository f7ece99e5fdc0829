//! Values that a plan marks as sensitive, wherever they show.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use proof::json::Json;

use super::{Spans, Text};

/// Shorter values would be found in ordinary words, and hide them.
const MIN_LENGTH: usize = 6;
/// Longer values are looked for in parts of this many bytes.
const PART: usize = 1024;
/// Most texts that are looked for.
const MAX_TEXTS: usize = 4096;
/// Most bytes of all of them together.
const MAX_BYTES: usize = 1 << 20;
/// By so many of its first bytes a text is found: by the most that it has.
const HEADS: [usize; 2] = [16, MIN_LENGTH];
/// Most texts that are compared for each byte of what is masked, on average: one for each
/// [`STEP`] bytes that a text is long. Logs with hundreds of values that begin alike take one or
/// two.
const MAX_COMPARED: usize = 32;
/// Bytes that are compared at a time.
const STEP: usize = 32;

/// There is too much to compare, or more than is known.
#[derive(Debug)]
pub(super) struct TooMuch;

/// The values that must not show. Kept in memory only; prints without them.
#[derive(Clone, Default)]
pub struct Known {
    texts: BTreeSet<Vec<u8>>,
    by_head: [HashMap<Vec<u8>, Vec<Vec<u8>>>; HEADS.len()],
    bytes: usize,
    overfull: bool,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Known({} texts)", self.texts.len())
    }
}

impl Known {
    /// Of values that nobody could keep: hides everything.
    pub fn overfull() -> Self {
        Self {
            overfull: true,
            ..Self::default()
        }
    }

    /// Whether there are values that are not looked for, since there was no room for them.
    pub fn is_overfull(&self) -> bool {
        self.overfull
    }

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
    /// room for it: from then on the set is overfull, and everything is hidden.
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
        self.overfull |= !room;
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
        let heads = HEADS.iter().zip(&mut self.by_head);
        let Some((head, by_head)) = heads.into_iter().find(|(head, _)| text.len() >= **head) else {
            return true;
        };
        // The longest first: what begins alike and is shorter is hidden with it.
        let alike = by_head.entry(text[..*head].to_vec()).or_default();
        let place = alike.partition_point(|other| other.len() >= text.len());
        alike.insert(place, text.to_vec());
        self.bytes += text.len();
        self.texts.insert(text.to_vec());
        true
    }

    pub(super) fn find(&self, text: &Text<'_>, spans: &mut Spans) -> Result<(), TooMuch> {
        if self.overfull {
            return Err(TooMuch);
        }
        if self.is_empty() {
            return Ok(());
        }
        let bytes = text.bytes;
        let mut left = (bytes.len() + 4096).saturating_mul(MAX_COMPARED);
        for at in 0..bytes.len() {
            let heads = HEADS.iter().zip(&self.by_head);
            let alike = heads.filter_map(|(head, by_head)| by_head.get(bytes.get(at..at + head)?));
            for candidate in alike.flatten() {
                left = left
                    .checked_sub(1 + candidate.len() / STEP)
                    .ok_or(TooMuch)?;
                if bytes[at..].starts_with(candidate) {
                    spans.add(at..at + candidate.len());
                    break;
                }
            }
        }
        Ok(())
    }
}
