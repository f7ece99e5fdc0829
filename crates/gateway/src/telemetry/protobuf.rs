//! Writes messages of Protocol Buffers: the few kinds of fields that OTLP has.
//!
//! The format is frozen and small, and what is written here is read by nobody in this program: a
//! library for it, with its code generator, would be larger than this and all that uses it.

/// A message, as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

/// How a field's value is written.
#[derive(Debug, Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
}

impl Message {
    /// A number of variable length, an enumeration or a truth value.
    pub(super) fn varint(mut self, field: u32, value: u64) -> Self {
        self.key(field, Wire::Varint);
        self.number(value);
        self
    }

    /// `fixed64`: times and counts.
    pub(super) fn fixed64(mut self, field: u32, value: u64) -> Self {
        self.key(field, Wire::Fixed64);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// `double`.
    pub(super) fn double(self, field: u32, value: f64) -> Self {
        self.fixed64(field, value.to_bits())
    }

    /// Bytes or a text.
    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, Wire::Length);
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A text.
    pub(super) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// A message within this one; a repeated field is written once for each.
    pub(super) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// Each of these messages within this one.
    pub(super) fn messages(self, field: u32, values: impl IntoIterator<Item = Self>) -> Self {
        let add = |own: Self, value: Self| own.message(field, &value);
        values.into_iter().fold(self, add)
    }

    /// A list of numbers of 64 bits.
    pub(super) fn packed(self, field: u32, values: impl IntoIterator<Item = u64>) -> Self {
        let bytes: Vec<u8> = values.into_iter().flat_map(u64::to_le_bytes).collect();
        self.bytes(field, &bytes)
    }

    /// All of it.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u32, wire: Wire) {
        self.number(u64::from(field) << 3 | wire as u64);
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the format's own description.
    #[test]
    fn fields_are_written_as_the_description_has_them() {
        let bytes = |message: Message| message.into_bytes();
        assert_eq!(bytes(Message::default().varint(1, 150)), [0x08, 0x96, 0x01]);
        let testing = [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67];
        assert_eq!(bytes(Message::default().text(2, "testing")), testing);
        let inner = Message::default().varint(1, 150);
        let nested = Message::default().message(3, &inner);
        assert_eq!(bytes(nested), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let one = bytes(Message::default().double(1, 1.0));
        assert_eq!(one, [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        let most = bytes(Message::default().varint(1, u64::MAX));
        assert_eq!(most.len(), 11);
    }
}
