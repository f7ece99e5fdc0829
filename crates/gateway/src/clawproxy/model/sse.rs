//! Follows a stream of server-sent events as it passes: where it stands, whether it has said
//! its last word, and the JSON in its data.

use proof::record::ToolCall;

use super::tool_calls::EventCalls;
use super::usage::{Reported, UsageReader};

/// What is compared: field names, event names, `[DONE]`. The longest is `response.incomplete`.
const MAX_TEXT: usize = 24;

/// The reader of one stream.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    usage: UsageReader,
    calls: Option<Box<EventCalls>>,
    line: Line,
    /// First bytes of the field name, then of an event's name.
    text: Text,
    /// First bytes of the data of this event.
    data: Text,
    named_last: bool,
    has_data: bool,
    after_cr: bool,
    /// Some line of an event has come that no blank line has ended yet.
    open: bool,
    events: u64,
    ended: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// At its start or in its field name.
    #[default]
    Name,
    /// In the value of `data`.
    Data,
    /// In the value of `event`.
    Event,
    /// In anything else.
    Other,
}

#[derive(Debug, Default)]
struct Text {
    bytes: [u8; MAX_TEXT],
    /// Over [`MAX_TEXT`] when it was longer.
    length: usize,
}

impl Text {
    fn clear(&mut self) {
        self.length = 0;
    }

    fn extend(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(MAX_TEXT.saturating_sub(self.length));
        if let Some(place) = self.bytes.get_mut(self.length..self.length + fits) {
            place.copy_from_slice(&bytes[..fits]);
        }
        self.length = if fits < bytes.len() {
            MAX_TEXT + 1
        } else {
            self.length + fits
        };
    }

    /// The value, without the one space that may follow the colon.
    fn value(&self) -> &[u8] {
        let text = self.bytes.get(..self.length).unwrap_or_default();
        text.strip_prefix(b" ").unwrap_or(text)
    }
}

/// Where a stream stands between lines and events: how something may be appended to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Between two events.
    BetweenEvents,
    /// At the start of a line within an event.
    WithinEvent,
    /// Within a line.
    WithinLine,
}

impl EventReader {
    /// A reader at the beginning of a stream, which also reads tool calls when it should.
    pub(super) fn new(expects_tool_calls: bool) -> Self {
        Self {
            calls: expects_tool_calls.then(Box::default),
            ..Self::default()
        }
    }

    /// The tools that the stream asked for.
    pub(super) fn tool_calls(self) -> Vec<ToolCall> {
        self.calls.map_or_else(Vec::new, |calls| calls.finish())
    }

    /// Reads the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let stop = match self.line {
                Line::Name => memchr::memchr3(b':', b'\n', b'\r', bytes),
                _ => memchr::memchr2(b'\n', b'\r', bytes),
            };
            let end = stop.unwrap_or(bytes.len());
            self.take(&bytes[..end]);
            match stop.map(|at| bytes[at]) {
                None => return,
                Some(b':') => self.name_ends(),
                Some(byte) => {
                    self.after_cr = byte == b'\r';
                    self.line_ends();
                }
            }
            bytes = &bytes[end + 1..];
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        match self.line {
            Line::Name | Line::Event => self.text.extend(bytes),
            Line::Data => {
                self.data.extend(bytes);
                self.usage.feed(bytes);
                if let Some(calls) = &mut self.calls {
                    calls.feed(bytes);
                }
            }
            Line::Other => {}
        }
    }

    fn name_ends(&mut self) {
        self.open = true;
        self.line = match self.text.bytes.get(..self.text.length).unwrap_or_default() {
            b"data" => {
                // A second data line continues the first, after a line feed.
                self.has_data = true;
                Line::Data
            }
            b"event" => Line::Event,
            _ => Line::Other,
        };
        self.text.clear();
    }

    fn line_ends(&mut self) {
        match self.line {
            Line::Name if self.text.length == 0 => self.event_ends(),
            Line::Name => self.open = true,
            Line::Event => self.named_last = names_last(self.text.value()),
            Line::Data => self.data.extend(b"\n"),
            Line::Other => {}
        }
        self.text.clear();
        self.line = Line::Name;
    }

    fn event_ends(&mut self) {
        self.open = false;
        if self.has_data {
            self.events += 1;
            self.ended |= self.named_last || self.data.value() == b"[DONE]\n";
        }
        if let Some(calls) = &mut self.calls {
            calls.event_ends();
        }
        self.has_data = false;
        self.named_last = false;
        self.data.clear();
        self.usage.next_document();
    }

    /// What the stream said about tokens.
    pub(super) fn reported(&self) -> Reported {
        self.usage.reported()
    }

    /// Complete events with data.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Whether the event came that the API ends its streams with.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Where the stream stands.
    pub(super) fn place(&self) -> Place {
        match self.line {
            Line::Name if self.text.length == 0 && self.open => Place::WithinEvent,
            Line::Name if self.text.length == 0 => Place::BetweenEvents,
            _ => Place::WithinLine,
        }
    }
}

/// Events after which a stream of the two APIs has nothing to say.
fn names_last(event: &[u8]) -> bool {
    matches!(
        event,
        b"message_stop" | b"response.completed" | b"response.incomplete" | b"response.failed"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> EventReader {
        let mut whole = EventReader::default();
        whole.feed(text.as_bytes());
        for size in 1..text.len().min(40) {
            let mut reader = EventReader::default();
            text.as_bytes()
                .chunks(size)
                .for_each(|piece| reader.feed(piece));
            assert_eq!(
                reader.reported(),
                whole.reported(),
                "in pieces of {size}: {text}"
            );
            assert_eq!(
                reader.events(),
                whole.events(),
                "in pieces of {size}: {text}"
            );
            assert_eq!(
                reader.has_ended(),
                whole.has_ended(),
                "in pieces of {size}: {text}"
            );
            assert_eq!(reader.place(), whole.place(), "in pieces of {size}: {text}");
        }
        whole
    }

    const OPENAI: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n\
        data: [DONE]\n\n";

    const ANTHROPIC: &str = "event: message_start\n\
        data: {\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n\
        : ping\n\n\
        event: message_delta\ndata: {\"delta\":{},\"usage\":{\"output_tokens\":15}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    #[test]
    fn both_apis_are_read() {
        let reader = read(OPENAI);
        assert_eq!(
            reader.reported(),
            Reported {
                input: Some(7),
                output: Some(2)
            }
        );
        assert_eq!((reader.events(), reader.has_ended()), (3, true));
        assert_eq!(reader.place(), Place::BetweenEvents);
        for ends in ["\n", "\r\n", "\r"] {
            let reader = read(&ANTHROPIC.replace('\n', ends));
            assert_eq!(
                reader.reported(),
                Reported {
                    input: Some(25),
                    output: Some(15)
                }
            );
            assert_eq!((reader.events(), reader.has_ended()), (3, true));
            assert_eq!(reader.place(), Place::BetweenEvents);
        }
        let responses = "event: response.completed\n\
            data: {\"response\":\ndata:{\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}}\n\n";
        let reader = read(responses);
        assert_eq!(
            reader.reported(),
            Reported {
                input: Some(3),
                output: Some(4)
            }
        );
        assert!(reader.has_ended());
    }

    #[test]
    fn the_end_and_the_place_are_not_guessed() {
        for (text, ended, place) in [
            ("", false, Place::BetweenEvents),
            ("data: [DONE]", false, Place::WithinLine),
            ("data: [DONE]\n", false, Place::WithinEvent),
            ("data: [DONE]\n\n", true, Place::BetweenEvents),
            ("data:[DONE]\n\n", true, Place::BetweenEvents),
            ("data: [DONE] \n\n", false, Place::BetweenEvents),
            ("data: [DONE]\ndata: x\n\n", false, Place::BetweenEvents),
            ("data: {\"x\":\"[DONE]\"}\n\n", false, Place::BetweenEvents),
            ("event: message_stop\n\n", false, Place::BetweenEvents),
            (
                "event: message_stops\ndata: x\n\n",
                false,
                Place::BetweenEvents,
            ),
            (
                "event: message_stop\nevent: other\ndata: x\n\n",
                false,
                Place::BetweenEvents,
            ),
            (
                "x: event: message_stop\ndata: x\n\n",
                false,
                Place::BetweenEvents,
            ),
            (": comment\n", false, Place::WithinEvent),
            ("dat", false, Place::WithinLine),
            ("data\n", false, Place::WithinEvent),
        ] {
            let reader = read(text);
            assert_eq!(
                (reader.has_ended(), reader.place()),
                (ended, place),
                "{text:?}"
            );
        }
    }
}
