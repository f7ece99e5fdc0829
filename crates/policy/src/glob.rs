//! Patterns in contracts: `*` stands for any text, `?` for one character, all else for itself.
//!
//! There are no classes and no alternatives, so that an author cannot misjudge a pattern, and
//! matching neither allocates nor takes more than pattern length times text length steps.

use std::fmt;

/// Longest pattern that is accepted.
const MAX_PATTERN: usize = 128;

/// A checked pattern.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob(Box<str>);

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a pattern: 1 to 128 printable characters, `*` and `?` as wildcards, no brackets, braces, `!` or backslash"
)]
pub struct GlobError;

impl Glob {
    /// Checks the pattern.
    ///
    /// # Errors
    /// For what other tools would read as more than `*` and `?`.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"[]{}!\\^".contains(&byte);
        if (1..=MAX_PATTERN).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(GlobError)
        }
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern has no wildcard, and so names exactly one text.
    pub fn is_literal(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where the last `*` was and how much text it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(byte) if *byte == b'?' || *byte == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        p = at + 1;
                        t = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({})", self.0)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_whole_text() {
        for (pattern, text, expected) in [
            ("aws_*", "aws_instance", true),
            ("aws_*", "xaws_instance", false),
            ("*", "", true),
            ("?", "", false),
            ("gpt-4?", "gpt-4o", true),
            ("gpt-4?", "gpt-4o-mini", false),
            ("a*b*c", "aXXbYYbZc", true),
            ("a*b*c", "aXXbYYbZ", false),
            ("*.example.com", "example.com", false),
            ("openai/*", "openai/gpt/5", true),
            ("abc", "ABC", false),
            ("abc", "abc", true),
        ] {
            assert_eq!(
                Glob::new(pattern).unwrap().matches(text),
                expected,
                "{pattern} {text}"
            );
        }
        for bad in ["", "a b", "[ab]", "{a,b}", "!a", "a\\*", "ä", "a\n"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }
}
