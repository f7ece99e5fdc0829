//! Reads `usage` out of an answer while it streams past.
//!
//! No tree is built and no line is kept: a small state machine follows the nesting, compares
//! member names near the top, and keeps the bytes of one small object. What a model writes
//! cannot pass for usage: inside of strings nothing is read, and deeper objects (arguments of a
//! tool call) are at other places.

use proof::record::Usage;
use serde::Deserialize;

/// Longest `usage` object that is read; published ones stay under 1 KiB.
const MAX_OBJECT: usize = 4096;

/// Longest member name that is compared.
const MAX_NAME: usize = 16;

/// Most tokens that a provider is believed for one direction of one call: what the public
/// receipt format can carry (clawsig, 2.5).
pub(super) const MAX_TOKENS: u64 = 10_000_000;

/// What a provider said so far. Later words win: both APIs count up within a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
}

impl Reported {
    /// The usage, when both directions are known.
    pub(super) fn complete(self) -> Option<Usage> {
        Some(Usage {
            tokens_input: self.input?,
            tokens_output: self.output?,
            derived: false,
        })
    }

    fn learn(&mut self, object: &[u8]) {
        // Both APIs' names; those of one never appear in the other's answers.
        #[derive(Deserialize)]
        struct Fields {
            prompt_tokens: Option<u64>,
            completion_tokens: Option<u64>,
            input_tokens: Option<u64>,
            cache_creation_input_tokens: Option<u64>,
            cache_read_input_tokens: Option<u64>,
            output_tokens: Option<u64>,
        }
        let Ok(fields) = serde_json::from_slice::<Fields>(object) else {
            return;
        };
        // Anthropic counts what came from the cache beside `input_tokens`, not within it.
        let input = fields.prompt_tokens.or(fields.input_tokens).map(|tokens| {
            tokens
                .saturating_add(fields.cache_creation_input_tokens.unwrap_or(0))
                .saturating_add(fields.cache_read_input_tokens.unwrap_or(0))
        });
        let output = fields.completion_tokens.or(fields.output_tokens);
        self.input = input.map(|tokens| tokens.min(MAX_TOKENS)).or(self.input);
        self.output = output.map(|tokens| tokens.min(MAX_TOKENS)).or(self.output);
    }
}

/// Follows one JSON document after another and learns from `usage`, `message.usage` and
/// `response.usage`, where the two APIs put it.
#[derive(Debug, Default)]
pub(super) struct UsageReader {
    reported: Reported,
    depth: u32,
    /// The outermost value is an object.
    top: bool,
    /// At depth two: inside the object `message` or `response`.
    nested: bool,
    in_string: bool,
    escaped: bool,
    name: Name,
    /// Which member's value comes next, where names are followed.
    member: Member,
    capture: Option<Capture>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Member {
    #[default]
    Other,
    Usage,
    Carrier,
}

/// The last string, if it can be a name that matters.
#[derive(Debug, Default)]
struct Name {
    bytes: [u8; MAX_NAME],
    /// Over [`MAX_NAME`] when it was longer or had an escape.
    length: usize,
}

impl Name {
    fn extend(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        match self.bytes.get_mut(self.length..end) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length = end;
            }
            None => self.length = MAX_NAME + 1,
        }
    }

    fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Capture {
    /// The depth at which the object ends.
    until: u32,
    bytes: Vec<u8>,
}

impl UsageReader {
    /// What was learnt so far.
    pub(super) fn reported(&self) -> Reported {
        self.reported
    }

    /// Forgets the place, keeps what was learnt: the next document begins.
    pub(super) fn next_document(&mut self) {
        let reported = self.reported;
        *self = Self {
            reported,
            ..Self::default()
        };
    }

    /// Reads the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = if self.in_string {
                self.string(bytes)
            } else {
                self.between(bytes)
            };
            if let Some(capture) = &mut self.capture {
                if capture.bytes.len() + used > MAX_OBJECT {
                    self.capture = None;
                } else {
                    capture.bytes.extend_from_slice(&bytes[..used]);
                }
            }
            self.close_capture();
            bytes = &bytes[used..];
        }
    }

    /// Inside a string; returns how many bytes were read.
    fn string(&mut self, bytes: &[u8]) -> usize {
        if self.escaped {
            self.escaped = false;
            return 1;
        }
        match memchr::memchr2(b'"', b'\\', bytes) {
            None => {
                self.name.extend(bytes);
                bytes.len()
            }
            Some(at) => {
                self.name.extend(&bytes[..at]);
                if bytes[at] == b'"' {
                    self.in_string = false;
                } else {
                    self.escaped = true;
                    self.name.length = MAX_NAME + 1;
                }
                at + 1
            }
        }
    }

    /// Between strings: up to and including the next byte that changes anything.
    fn between(&mut self, bytes: &[u8]) -> usize {
        for (index, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => {
                    self.in_string = true;
                    self.name.length = 0;
                }
                b'{' | b'[' => self.open(*byte == b'{'),
                b'}' | b']' => self.close(),
                b':' if self.follows_names() => {
                    self.member = match self.name.text() {
                        b"usage" => Member::Usage,
                        b"message" | b"response" if self.depth == 1 => Member::Carrier,
                        _ => Member::Other,
                    };
                    continue;
                }
                b',' => {
                    self.member = Member::Other;
                    continue;
                }
                _ => continue,
            }
            return index + 1;
        }
        bytes.len()
    }

    fn follows_names(&self) -> bool {
        (self.depth == 1 && self.top) || (self.depth == 2 && self.nested)
    }

    fn open(&mut self, object: bool) {
        if object && self.follows_names() && self.member == Member::Usage && self.capture.is_none()
        {
            // The bracket itself is copied by `feed`, which copies up to and including it; what
            // came before it in the same piece is white space at most.
            self.capture = Some(Capture {
                until: self.depth,
                bytes: Vec::with_capacity(256),
            });
        }
        match self.depth {
            0 => self.top = object,
            1 => self.nested = object && self.top && self.member == Member::Carrier,
            _ => {}
        }
        self.member = Member::Other;
        self.depth = self.depth.saturating_add(1);
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.member = Member::Other;
        match self.depth {
            0 => self.top = false,
            1 => self.nested = false,
            _ => {}
        }
    }

    fn close_capture(&mut self) {
        if self.in_string
            || self
                .capture
                .as_ref()
                .is_none_or(|open| open.until != self.depth)
        {
            return;
        }
        if let Some(capture) = self.capture.take() {
            let start = memchr::memchr(b'{', &capture.bytes).unwrap_or(0);
            self.reported.learn(&capture.bytes[start..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads in pieces of every size, which must make no difference.
    fn read(text: &str) -> Reported {
        let whole = {
            let mut reader = UsageReader::default();
            reader.feed(text.as_bytes());
            reader.reported()
        };
        for size in 1..text.len().min(40) {
            let mut reader = UsageReader::default();
            text.as_bytes()
                .chunks(size)
                .for_each(|piece| reader.feed(piece));
            assert_eq!(reader.reported(), whole, "in pieces of {size}: {text}");
        }
        whole
    }

    #[test]
    fn usage_is_found_where_the_apis_put_it() {
        for (text, input, output) in [
            (
                r#"{"id":"c","choices":[{"a":"}"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"completion_tokens_details":{"reasoning_tokens":0}}}"#,
                Some(9),
                Some(12),
            ),
            (
                r#"{ "usage" : { "prompt_tokens" : 9 , "completion_tokens" : 12 } }"#,
                Some(9),
                Some(12),
            ),
            (
                r#"{"object":"list","data":[{"embedding":[0.1,-2e5]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
                Some(8),
                None,
            ),
            (
                r#"{"usage":{"input_tokens":5,"output_tokens":6,"cache_creation_input_tokens":10,"cache_read_input_tokens":100}}"#,
                Some(115),
                Some(6),
            ),
            (
                r#"{"type":"message_start","message":{"id":"m","content":[],"usage":{"input_tokens":25,"output_tokens":1}}}"#,
                Some(25),
                Some(1),
            ),
            (
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}"#,
                None,
                Some(15),
            ),
            (
                r#"{"type":"response.completed","response":{"output":[{"x":[]}],"usage":{"input_tokens":3,"output_tokens":4}}}"#,
                Some(3),
                Some(4),
            ),
            (r#"{"usage":null}"#, None, None),
            (r#"{"choices":[]}"#, None, None),
            // Nothing that a model writes may count.
            (
                r#"{"content":[{"type":"tool_use","input":{"usage":{"input_tokens":1,"output_tokens":1}}}]}"#,
                None,
                None,
            ),
            (
                r#"{"text":"{\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}"}"#,
                None,
                None,
            ),
            (
                r#"{"text":"\\","usage":{"input_tokens":2,"output_tokens":2}}"#,
                Some(2),
                Some(2),
            ),
            (
                r#"{"message":{"x":{"usage":{"input_tokens":1}}}}"#,
                None,
                None,
            ),
            (r#"{"other":{"usage":{"input_tokens":1}}}"#, None, None),
            (r#"[{"usage":{"input_tokens":1}}]"#, None, None),
            (r#"{"a":"usage","b":{"input_tokens":1}}"#, None, None),
            (r#"{"message":["usage",{"input_tokens":1}]}"#, None, None),
            // Nonsense is not believed.
            (
                r#"{"usage":{"input_tokens":-1,"output_tokens":1}}"#,
                None,
                None,
            ),
            (r#"{"usage":{"input_tokens":1.5}}"#, None, None),
            (
                r#"{"usage":{"input_tokens":1,"input_tokens":2}}"#,
                None,
                None,
            ),
            (r#"{"usage":[1]}"#, None, None),
            (
                r#"{"usage":{"input_tokens":99999999999}}"#,
                Some(MAX_TOKENS),
                None,
            ),
            ("<html>\"usage\":{\"input_tokens\":1}</html>", None, None),
            ("}}}}]]]]{\"usage\":{\"input_tokens\":1}}", Some(1), None),
            ("", None, None),
        ] {
            assert_eq!(read(text), Reported { input, output }, "{text}");
        }
    }

    #[test]
    fn later_words_win_and_documents_do_not_mix() {
        let mut reader = UsageReader::default();
        reader.feed(br#"{"message":{"usage":{"input_tokens":25,"output_tokens":1}}}"#);
        reader.next_document();
        reader.feed(br#"{"usage":{"output_tokens":15}"#);
        reader.next_document();
        reader.feed(br#""usage":{"output_tokens":99}}"#);
        let reported = reader.reported();
        assert_eq!(
            reported,
            Reported {
                input: Some(25),
                output: Some(15)
            }
        );
        assert_eq!(
            reported.complete(),
            Some(Usage {
                tokens_input: 25,
                tokens_output: 15,
                derived: false
            })
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut reader = UsageReader::default();
        reader.feed(b"{\"usage\":{\"x\":\"");
        for _ in 0..100 {
            reader.feed(&[b'x'; 1000]);
        }
        assert!(reader.capture.is_none());
        reader.feed(b"\"},\"usage\":{\"input_tokens\":7}}");
        assert_eq!(reader.reported().input, Some(7));
    }
}
