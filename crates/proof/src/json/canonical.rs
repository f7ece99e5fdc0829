//! Text that is in canonical form already: recognised as it stands, without building values.
//!
//! What this accepts, the strict reader accepts with integers only, and writing it canonically
//! gives the same bytes again; so the text itself can be hashed. What it does not accept may still
//! be good JSON: whoever uses it reads that the long way.

use super::{MAX_DEPTH, MAX_SAFE_INTEGER};
use crate::jcs::canonical_order;

/// What has brackets around it.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `{` and `}`.
    Object,
    /// `[` and `]`.
    Array,
}

impl Kind {
    const fn brackets(self) -> (u8, u8) {
        match self {
            Self::Object => (b'{', b'}'),
            Self::Array => (b'[', b']'),
        }
    }
}

/// Walks through one text. Everything that has been walked over is canonical.
///
/// Each method gives `None` at the first byte that is not; the walk ends there.
#[derive(Debug)]
pub struct Canonical<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Canonical<'a> {
    /// Begins at the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Whether the whole text is one value in canonical form.
    pub fn is(text: &'a str) -> bool {
        let mut walk = Self::new(text);
        walk.value(0).is_some() && walk.end().is_some()
    }

    /// So many bytes have been walked over.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Ends the walk, if nothing is left.
    pub fn end(self) -> Option<()> {
        (self.at == self.text.len()).then_some(())
    }

    /// Walks over any value that stands so many levels deep, and gives its text.
    pub fn value(&mut self, depth: usize) -> Option<&'a str> {
        let start = self.at;
        match self.next()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(drop),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.integer(),
        }?;
        Some(&self.text[start..self.at])
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        let mut more = self.enter(Kind::Object, depth)?;
        let mut before = None;
        while more {
            before = Some(self.name(before)?);
            self.value(depth + 1)?;
            more = self.more(Kind::Object)?;
        }
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        let mut more = self.enter(Kind::Array, depth)?;
        while more {
            self.value(depth + 1)?;
            more = self.more(Kind::Array)?;
        }
        Some(())
    }

    /// Walks into an object or an array that stands so many levels deep: whether anything is in it,
    /// and otherwise out of it. The strict reader's bound is the same or one further, depending on
    /// what stands there; at the bound it is left to that reader.
    pub fn enter(&mut self, kind: Kind, depth: usize) -> Option<bool> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let (begins, ends) = kind.brackets();
        self.byte(begins)?;
        if self.next()? != ends {
            return Some(true);
        }
        self.at += 1;
        Some(false)
    }

    /// Walks over the name of a member, up to its value, and gives it; `before` is the name of the
    /// member before. Names with escapes are given up: nothing of ours has any.
    pub fn name(&mut self, before: Option<&str>) -> Option<&'a str> {
        let name = self.string()?;
        let rises = before.is_none_or(|before| canonical_order(before, name).is_lt());
        if !rises || name.contains('\\') {
            return None;
        }
        self.byte(b':')?;
        Some(name)
    }

    /// After a member or an element: whether another one follows, and otherwise out of it.
    pub fn more(&mut self, kind: Kind) -> Option<bool> {
        let (_, ends) = kind.brackets();
        let next = self.next()?;
        self.at += 1;
        match next {
            b',' => Some(true),
            _ if next == ends => Some(false),
            _ => None,
        }
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn byte(&mut self, expected: u8) -> Option<()> {
        (self.next()? == expected).then(|| self.at += 1)
    }

    fn literal(&mut self, expected: &str) -> Option<()> {
        let found = self.text.as_bytes()[self.at..].starts_with(expected.as_bytes());
        found.then(|| self.at += expected.len())
    }

    fn integer(&mut self) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        let negative = rest.first() == Some(&b'-');
        let digits = &rest[usize::from(negative)..];
        let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        let digits = &digits[..count];
        // 2^53 - 1 has sixteen.
        let plain = match digits {
            [] => false,
            [b'0'] => !negative,
            [b'0', ..] => false,
            _ => count <= 16,
        };
        if !plain {
            return None;
        }
        let value = digits
            .iter()
            .fold(0, |value: u64, digit| value * 10 + u64::from(digit - b'0'));
        if value > MAX_SAFE_INTEGER.unsigned_abs() {
            return None;
        }
        self.at += usize::from(negative) + count;
        Some(())
    }

    /// Walks over a string and gives what stands between the quotes, escapes and all.
    fn string(&mut self) -> Option<&'a str> {
        self.byte(b'"')?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        loop {
            self.at += plain_length(&bytes[self.at..]);
            match self.next()? {
                b'"' => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Some(text);
                }
                b'\\' => self.escape()?,
                // A control character has to be escaped.
                _ => return None,
            }
        }
    }

    /// The escapes that canonical form has: none where the character itself can stand.
    fn escape(&mut self) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at + 1..];
        let length = match rest {
            [b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r', ..] => 2,
            [b'u', b'0', b'0', high @ (b'0' | b'1'), low, ..] => {
                let named = *high == b'0' && matches!(low, b'8' | b'9' | b'a' | b'c' | b'd');
                let digit = matches!(low, b'0'..=b'9' | b'a'..=b'f');
                if named || !digit {
                    return None;
                }
                6
            }
            _ => return None,
        };
        self.at += length;
        Some(())
    }
}

/// So many bytes at the beginning stand for themselves in a string. Eight at a time while that is
/// possible: texts are what documents are made of.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // The high bit of each byte that is zero; bytes above the first such one may be wrong.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut length = 0;
    for chunk in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let special = quote | backslash | control;
        if special != 0 {
            return length + (special.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let rest = &bytes[length..];
    length + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::{Json, Numbers, parse};

    /// What the long way says: read strictly, write canonically, compare.
    fn long_way(text: &str) -> bool {
        parse(text.as_bytes(), Numbers::Integers)
            .is_ok_and(|value| value.to_jcs() == text.as_bytes())
    }

    #[test]
    fn canonical_text_is_recognised() {
        for good in [
            "null",
            "true",
            "false",
            "0",
            "-1",
            "9007199254740991",
            "-9007199254740991",
            r#""""#,
            r#""é€😀\"\\\b\t\n\f\r\u0000\u001f""#,
            "\"\u{7f}\u{2028}\"",
            "[]",
            "{}",
            r#"[[],{},[1,"2",null]]"#,
            r#"{"":1,"A":2,"a":{"b":[]},"aa":3}"#,
            "{\"\u{10000}\":1,\"\u{e000}\":2}",
        ] {
            assert!(long_way(good), "{good}");
            assert!(Canonical::is(good), "{good}");
        }
    }

    #[test]
    fn other_text_is_not() {
        for bad in [
            "",
            " 1",
            "1 ",
            "1.0",
            "1e2",
            "-0",
            "01",
            "-",
            "+1",
            "9007199254740992",
            "99999999999999999999",
            "nul",
            "nullx",
            "True",
            r#"""#,
            r#""a"#,
            "\"\t\"",
            "\"\u{1f}\"",
            r#""\/""#,
            r#""\u0041""#,
            r#""\u0009""#,
            r#""\u000A""#,
            r#""\u001F""#,
            r#""\u0020""#,
            r#""\ud800""#,
            r#""\u00""#,
            r#""\x""#,
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 ,2]",
            "[1]]",
            "{",
            r#"{"a""#,
            r#"{"a":"#,
            r#"{"a":1"#,
            r#"{"a":1,}"#,
            r#"{"a": 1}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"b":1,"a":1}"#,
            "{\"\u{e000}\":1,\"\u{10000}\":2}",
            "{1:1}",
            "[1}",
            r#"{"a":1]"#,
        ] {
            assert!(!long_way(bad), "{bad}");
            assert!(!Canonical::is(bad), "{bad}");
        }
        assert!(!Canonical::is(r#"{"a\"":1}"#), "left to the long way");
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Canonical::is(&nested(MAX_DEPTH)));
        assert!(!Canonical::is(&nested(MAX_DEPTH + 1)));
        assert!(!Canonical::is(&"[".repeat(1_000_000)));
    }

    #[test]
    fn special_bytes_are_found_wherever_they_stand() {
        for length in 0..40 {
            assert_eq!(plain_length(&vec![b'x'; length]), length);
            assert_eq!(plain_length(&vec![0xff; length]), length);
            for place in 0..length {
                for special in [b'"', b'\\', 0, 0x1f] {
                    let mut bytes = vec![0x80; length];
                    bytes[place] = special;
                    assert_eq!(plain_length(&bytes), place);
                    bytes[place..].fill(special);
                    assert_eq!(plain_length(&bytes), place);
                }
                let mut bytes = vec![b' '; length];
                bytes[place] = b'!';
                assert_eq!(plain_length(&bytes), length);
            }
        }
    }

    fn any_value() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(|n| Json::Integer(n % (MAX_SAFE_INTEGER + 1))),
            any::<String>().prop_map(Json::String),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
                prop::collection::btree_map("[a-zA-Z\u{80}-\u{10ffff}]{0,4}", inner, 0..6)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Both ways agree on what was written canonically, and on what one changed byte makes
        /// of it.
        #[test]
        fn both_ways_agree(value in any_value(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let text = value.to_jcs();
            prop_assert!(Canonical::is(std::str::from_utf8(&text).unwrap()));
            let mut changed = text;
            let place = place.index(changed.len());
            changed[place] = byte;
            if let Ok(changed) = std::str::from_utf8(&changed) {
                let (is, long) = (Canonical::is(changed), long_way(changed));
                // Only names with escapes are left to the long way.
                prop_assert!(is == long || (long && changed.contains('\\')), "{}", changed);
            }
        }
    }
}
