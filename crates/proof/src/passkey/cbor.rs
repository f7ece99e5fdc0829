//! As much CBOR as authenticators write: CTAP2's canonical form, read strictly (RFC 8949 4.2.1;
//! shortest lengths only, nothing indefinite, nothing behind the last item that is asked for).

/// Deepest nesting that is read; CTAP2 allows four.
const MAX_DEPTH: u8 = 4;

/// Reads items from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

/// Major types.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;

impl<'a> Reader<'a> {
    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Type and value of the next item's head, in its shortest form.
    fn head(&mut self) -> Option<(u8, u64)> {
        let first = self.take(1)?[0];
        let (major, short) = (first >> 5, first & 0x1f);
        let length = match short {
            0..24 => return Some((major, short.into())),
            24..28 => 1usize << (short - 24),
            _ => return None,
        };
        let value = self.take(length)?;
        let value = value
            .iter()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let shortest = match length {
            1 => value >= 24,
            2 => value > 0xff,
            4 => value > 0xffff,
            _ => value > 0xffff_ffff,
        };
        shortest.then_some((major, value))
    }

    /// A map, by its number of members.
    pub(super) fn map(&mut self) -> Option<u64> {
        let (major, members) = self.head()?;
        (major == MAP).then_some(members)
    }

    /// An integer that fits.
    pub(super) fn integer(&mut self) -> Option<i64> {
        let (major, value) = self.head()?;
        let value = i64::try_from(value).ok()?;
        match major {
            UNSIGNED => Some(value),
            NEGATIVE => Some(-1 - value),
            _ => None,
        }
    }

    /// A byte string.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let (major, length) = self.head()?;
        let length = usize::try_from(length).ok()?;
        (major == BYTES).then(|| self.take(length)).flatten()
    }

    /// Goes past one map, whatever is in it.
    pub(super) fn skip_map(&mut self) -> Option<()> {
        let ahead = *self;
        let mut ahead = ahead;
        ahead.map()?;
        self.skip(MAX_DEPTH)
    }

    fn skip(&mut self, depth: u8) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let start = self.0;
        let (major, value) = self.head()?;
        match major {
            UNSIGNED | NEGATIVE => Some(()),
            BYTES => self.take(usize::try_from(value).ok()?).map(drop),
            TEXT => {
                let text = self.take(usize::try_from(value).ok()?)?;
                std::str::from_utf8(text).ok().map(drop)
            }
            // Each item takes at least a byte, so what is not there ends the loop.
            ARRAY => (0..value).try_for_each(|_| self.skip(depth)),
            MAP => (0..value).try_for_each(|_| {
                self.skip(depth)?;
                self.skip(depth)
            }),
            // False, true, null. No tags, no fractions.
            SIMPLE if (20..=22).contains(&value) && start[0] < 0xf8 => Some(()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_read() {
        let skipped = |bytes: &[u8]| {
            let mut reader = Reader(bytes);
            reader.skip_map().map(|()| reader.0.len())
        };
        let good: [&[u8]; 5] = [
            &[0xa0],
            &[0xa1, 0x61, b'a', 0xf5],
            &[0xa1, 0x01, 0x82, 0x20, 0x41, 0xff],
            &[0xa1, 0x18, 0x18, 0x19, 0x01, 0x00],
            &[0xa1, 0x00, 0xa1, 0x00, 0xa1, 0x00, 0x00],
        ];
        for bytes in good {
            assert_eq!(skipped(bytes), Some(0), "{bytes:x?}");
        }
        assert_eq!(skipped(&[0xa0, 0x00]), Some(1), "the rest is left");
        let bad: [&[u8]; 14] = [
            &[],
            &[0x80],                                                 // an array
            &[0xa1],                                                 // nothing in it
            &[0xa1, 0x00],                                           // half a member
            &[0xbf, 0xff],                                           // indefinite
            &[0xb8, 0x00],                                           // a longer head than needed
            &[0xb8, 0x01, 0x00, 0x00],                               // the same
            &[0xa1, 0x00, 0x42, 0x00],                               // cut bytes
            &[0xa1, 0x00, 0x61, 0xff],                               // no UTF-8
            &[0xa1, 0x00, 0xf7],                                     // undefined
            &[0xa1, 0x00, 0xf9, 0x00, 0x00],                         // a fraction
            &[0xa1, 0x00, 0xc0, 0x00],                               // a tag
            &[0xa1, 0x00, 0xa1, 0x00, 0xa1, 0x00, 0xa1, 0x00, 0x00], // too deep
            &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00],
        ];
        for bytes in bad {
            assert_eq!(skipped(bytes), None, "{bytes:x?}");
        }
    }
}
