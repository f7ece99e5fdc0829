//! Canonical form written straight from a type, without a tree of values in between.
//!
//! It writes what our own documents are made of. What it does not know (fractions, names with
//! escapes or twice the same, names that are no text) it gives up, and the caller goes the long
//! way, by [`Json`](crate::Json); where both give something, they give the same bytes.

use std::fmt::{self, Display};
use std::io::Write as _;

use serde::ser::{self, Serialize, Serializer};

use super::{array_index, canonical_order, write_string};
use crate::json::{MAX_DEPTH, MAX_SAFE_INTEGER};

/// Writes a value behind what `out` holds; `false` when it was given up, and then `out` may hold
/// a part of it.
pub(super) fn write(value: &impl Serialize, out: &mut Vec<u8>) -> bool {
    value.serialize(Direct { out, depth: 0 }).is_ok()
}

/// Not written: go the long way.
#[derive(Debug)]
pub(super) struct GivenUp;

impl Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not written directly")
    }
}

impl std::error::Error for GivenUp {}

impl ser::Error for GivenUp {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// Writes one value that stands so many levels deep.
struct Direct<'o> {
    out: &'o mut Vec<u8>,
    depth: usize,
}

/// The elements of an array as they come.
struct Elements<'o> {
    out: &'o mut Vec<u8>,
    depth: usize,
    first: bool,
}

/// The members of an object as they come.
struct Members<'o> {
    out: &'o mut Vec<u8>,
    depth: usize,
    /// Where each member stands, and how long its name is with its quotes.
    written: Vec<(usize, usize)>,
    /// Whether each name came after the one before it.
    ordered: bool,
}

impl<'o> Direct<'o> {
    fn deeper(self) -> Result<(&'o mut Vec<u8>, usize), GivenUp> {
        // The strict reader's bound is here or one further; there the long way decides.
        match self.depth < MAX_DEPTH {
            true => Ok((self.out, self.depth + 1)),
            false => Err(GivenUp),
        }
    }

    fn elements(self) -> Result<Elements<'o>, GivenUp> {
        let (out, depth) = self.deeper()?;
        out.push(b'[');
        Ok(Elements {
            out,
            depth,
            first: true,
        })
    }

    fn members(self, length: usize) -> Result<Members<'o>, GivenUp> {
        let (out, depth) = self.deeper()?;
        out.push(b'{');
        Ok(Members {
            out,
            depth,
            written: Vec::with_capacity(length.min(32)),
            ordered: true,
        })
    }

    fn literal(self, text: &str) -> Result<(), GivenUp> {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Elements<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GivenUp> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        value.serialize(Direct {
            out: self.out,
            depth: self.depth,
        })
    }
}

impl Members<'_> {
    fn name<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), GivenUp> {
        if !self.written.is_empty() {
            self.out.push(b',');
        }
        let start = self.out.len();
        self.value(name)?;
        let member = (start, self.out.len() - start);
        let name = name_at(self.out, member)?;
        // An escape, or a name that JavaScript would move to the front.
        if name.contains('\\') || array_index(name).is_some() {
            return Err(GivenUp);
        }
        if let Some(before) = self.written.last() {
            let before = name_at(self.out, *before)?;
            self.ordered &= canonical_order(before, name).is_lt();
        }
        self.written.push(member);
        self.out.push(b':');
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GivenUp> {
        value.serialize(Direct {
            out: self.out,
            depth: self.depth,
        })
    }

    fn finish(self) -> Result<(), GivenUp> {
        let Self { out, written, .. } = self;
        if !self.ordered {
            sort(out, &written)?;
        }
        out.push(b'}');
        Ok(())
    }
}

/// The name of a member that begins there: a text, as it stands between its quotes.
fn name_at(out: &[u8], (start, length): (usize, usize)) -> Result<&str, GivenUp> {
    match &out[start..start + length] {
        [b'"', name @ .., b'"'] => std::str::from_utf8(name).map_err(|_| GivenUp),
        _ => Err(GivenUp),
    }
}

/// Brings an object's members, the last thing that was written, into their order.
fn sort(out: &mut Vec<u8>, written: &[(usize, usize)]) -> Result<(), GivenUp> {
    let Some((begin, _)) = written.first().copied() else {
        return Ok(());
    };
    let mut members = Vec::with_capacity(written.len());
    for (index, member) in written.iter().enumerate() {
        // Up to the comma before the next one.
        let end = written
            .get(index + 1)
            .map_or(out.len(), |(next, _)| next - 1);
        members.push((name_at(out, *member)?, &out[member.0..end]));
    }
    members.sort_unstable_by(|(a, _), (b, _)| canonical_order(a, b));
    if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(GivenUp);
    }
    let mut sorted = Vec::with_capacity(out.len() - begin);
    for (index, (_, member)) in members.into_iter().enumerate() {
        if index > 0 {
            sorted.push(b',');
        }
        sorted.extend_from_slice(member);
    }
    out.truncate(begin);
    out.extend_from_slice(&sorted);
    Ok(())
}

impl<'o> Serializer for Direct<'o> {
    type Ok = ();
    type Error = GivenUp;
    type SerializeSeq = Elements<'o>;
    type SerializeTuple = Elements<'o>;
    type SerializeTupleStruct = Elements<'o>;
    type SerializeTupleVariant = ser::Impossible<(), GivenUp>;
    type SerializeMap = Members<'o>;
    type SerializeStruct = Members<'o>;
    type SerializeStructVariant = ser::Impossible<(), GivenUp>;

    fn serialize_bool(self, value: bool) -> Result<(), GivenUp> {
        self.literal(if value { "true" } else { "false" })
    }

    fn serialize_i8(self, value: i8) -> Result<(), GivenUp> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), GivenUp> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), GivenUp> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), GivenUp> {
        if value.unsigned_abs() > MAX_SAFE_INTEGER.unsigned_abs() {
            return Err(GivenUp);
        }
        write!(self.out, "{value}").map_err(|_| GivenUp)
    }

    fn serialize_u8(self, value: u8) -> Result<(), GivenUp> {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), GivenUp> {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), GivenUp> {
        self.serialize_i64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), GivenUp> {
        self.serialize_i64(i64::try_from(value).map_err(|_| GivenUp)?)
    }

    fn serialize_f32(self, _: f32) -> Result<(), GivenUp> {
        Err(GivenUp)
    }

    fn serialize_f64(self, _: f64) -> Result<(), GivenUp> {
        Err(GivenUp)
    }

    fn serialize_char(self, value: char) -> Result<(), GivenUp> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), GivenUp> {
        write_string(value, self.out);
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), GivenUp> {
        Err(GivenUp)
    }

    fn serialize_none(self) -> Result<(), GivenUp> {
        self.literal("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), GivenUp> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), GivenUp> {
        self.literal("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), GivenUp> {
        self.literal("null")
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), GivenUp> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), GivenUp> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), GivenUp> {
        let mut members = self.members(1)?;
        members.name(variant)?;
        members.value(value)?;
        members.finish()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements<'o>, GivenUp> {
        self.elements()
    }

    fn serialize_tuple(self, _: usize) -> Result<Elements<'o>, GivenUp> {
        self.elements()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Elements<'o>, GivenUp> {
        self.elements()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, GivenUp> {
        Err(GivenUp)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Members<'o>, GivenUp> {
        self.members(length.unwrap_or(0))
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Members<'o>, GivenUp> {
        self.members(length)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, GivenUp> {
        Err(GivenUp)
    }

    /// Into a string of its own: whoever writes a text by pieces may write what has to be
    /// escaped.
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), GivenUp> {
        self.serialize_str(&value.to_string())
    }
}

impl ser::SerializeSeq for Elements<'_> {
    type Ok = ();
    type Error = GivenUp;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GivenUp> {
        self.push(value)
    }

    fn end(self) -> Result<(), GivenUp> {
        self.out.push(b']');
        Ok(())
    }
}

impl ser::SerializeTuple for Elements<'_> {
    type Ok = ();
    type Error = GivenUp;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GivenUp> {
        self.push(value)
    }

    fn end(self) -> Result<(), GivenUp> {
        ser::SerializeSeq::end(self)
    }
}

impl ser::SerializeTupleStruct for Elements<'_> {
    type Ok = ();
    type Error = GivenUp;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GivenUp> {
        self.push(value)
    }

    fn end(self) -> Result<(), GivenUp> {
        ser::SerializeSeq::end(self)
    }
}

impl ser::SerializeMap for Members<'_> {
    type Ok = ();
    type Error = GivenUp;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), GivenUp> {
        self.name(name)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GivenUp> {
        self.value(value)
    }

    fn end(self) -> Result<(), GivenUp> {
        self.finish()
    }
}

impl ser::SerializeStruct for Members<'_> {
    type Ok = ();
    type Error = GivenUp;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), GivenUp> {
        self.name(name)?;
        self.value(value)
    }

    fn end(self) -> Result<(), GivenUp> {
        self.finish()
    }
}
