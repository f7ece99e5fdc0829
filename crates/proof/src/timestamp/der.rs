//! The little of DER that a timestamp needs: elements of definite, shortest length.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// `[n]`, constructed.
pub(super) const fn context(n: u8) -> u8 {
    0xa0 | n
}

/// One element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// Tag, length and content.
    pub(super) whole: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is.
    pub(super) fn any(&mut self) -> Option<Element<'a>> {
        let whole = self.0;
        let (&tag, rest) = whole.split_first()?;
        // Tags of several bytes do not occur here.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits
                    .iter()
                    .fold(0usize, |sum, digit| (sum << 8) | usize::from(*digit));
                let shortest = length > 0x7f && digits[0] != 0;
                (shortest.then_some(length)?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element {
            tag,
            content,
            whole: &whole[..whole.len() - rest.len()],
        })
    }

    /// The next element, which must be one of these.
    pub(super) fn element(&mut self, tag: u8) -> Option<Element<'a>> {
        self.any().filter(|element| element.tag == tag)
    }

    /// What is in the next element, which must be one of these.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element(tag).map(|element| element.content)
    }

    /// A reader of what is in the next element, which must be one of these.
    pub(super) fn open(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(Self)
    }

    /// The next element when it is one of these; nothing is read otherwise.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.element(tag)?;
        *self = ahead;
        Some(element)
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// The only element of some bytes.
pub(super) fn only(bytes: &[u8], tag: u8) -> Option<Reader<'_>> {
    let mut reader = Reader::new(bytes);
    let inner = reader.open(tag)?;
    reader.end()?;
    Some(inner)
}

/// Writes an element.
pub(super) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => bytes.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let digits = &digits[length.leading_zeros() as usize / 8..];
            bytes.push(0x80 | u8::try_from(digits.len()).expect("a length has 8 bytes at most"));
            bytes.extend_from_slice(digits);
        }
    }
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_definite_and_shortest() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let bytes = write(OCTET_STRING, &[&content]);
            let mut reader = Reader::new(&bytes);
            let element = reader.element(OCTET_STRING).unwrap();
            assert!(element.content == content && element.whole == bytes);
            assert!(reader.is_empty());
            for cut in 1..=bytes.len().min(6) {
                assert!(Reader::new(&bytes[..bytes.len() - cut]).any().is_none());
            }
        }
        for bad in [
            &[0x04, 0x80, 0, 0][..],
            &[0x04, 0x81, 0x01, 0x07],
            &[0x04, 0x82, 0x00, 0x81],
            &[0x04, 0xff, 0x01],
            &[0x1f, 0x81, 0x01, 0x00],
            &[0x04, 0x85, 0, 0, 0, 0, 1, 7],
            &[0x04],
            &[],
        ] {
            assert!(Reader::new(bad).any().is_none(), "{bad:?}");
        }
    }
}
