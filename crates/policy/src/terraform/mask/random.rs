//! Long texts that look random: keys without a shape of their own.

use super::{Spans, Text};

/// Fewest neighbouring letters and digits of such a text. A random id of Terraform Cloud has 15.
const MIN_PAIRS: usize = 22;
/// Most bytes that are looked at as one text.
const MAX_RUN: usize = 4096;
/// Of a hundred neighbours, how many must be of different kinds (upper case, lower case, digit).
/// In 62 random characters it is 62; in words written together, about 30.
const MIN_MIXED_PERCENT: usize = 45;
/// Fewest upper case letters, lower case letters and digits. Hexadecimal digests and UUIDs have
/// none of one kind.
const MIN_OF_EACH: [usize; 3] = [3, 3, 1];

pub(super) fn find(text: &Text<'_>, spans: &mut Spans) {
    let bytes = text.bytes;
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes[at..].iter().take(MAX_RUN);
        let length = rest.take_while(|byte| is_member(**byte)).count();
        if length > MIN_PAIRS {
            // The `n` of `\n` is no part of it.
            let from = at + usize::from(text.is_escaped(at));
            if looks_random(&bytes[from..at + length]) {
                spans.add(from..at + length);
            }
        }
        at += length.max(1);
    }
}

/// What base64, in either alphabet, is written with. Padding is not hidden.
fn is_member(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/_-".contains(&byte)
}

fn looks_random(run: &[u8]) -> bool {
    let kind = |byte: u8| match byte {
        b'A'..=b'Z' => Some(0),
        b'a'..=b'z' => Some(1),
        b'0'..=b'9' => Some(2),
        _ => None,
    };
    let mut of_each = [0; 3];
    let (mut pairs, mut mixed) = (0, 0);
    let mut before = None;
    for byte in run {
        let now = kind(*byte);
        if let Some(now) = now {
            of_each[now] += 1;
        }
        if let (Some(before), Some(now)) = (before, now) {
            pairs += 1;
            mixed += usize::from(before != now);
        }
        before = now;
    }
    pairs >= MIN_PAIRS
        && mixed * 100 >= pairs * MIN_MIXED_PERCENT
        && of_each
            .iter()
            .zip(MIN_OF_EACH)
            .all(|(have, need)| *have >= need)
}
