//! A JSON text that is larger than what is held of it.
//!
//! Members must be hashed in canonical order, and Terraform writes them in its own: no reader that
//! goes through the text once can do that. So the text is kept, packed in chunks, which takes a
//! tenth or so of it, and read as often as it must be: [`Cursor::hash`] goes through the members
//! of each large object in their order and holds one small value at a time.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use proof::Hash;
use proof::hash::Hasher;
use proof::json::{Json, MAX_DEPTH, Numbers, parse_at};

use super::PlanError;

/// Bounds of one document, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of the text.
    pub(super) text: usize,
    /// Of what is kept of it, packed.
    pub(super) packed: usize,
    /// Of a value that is held as a tree, about ten times that in memory.
    pub(super) value: usize,
    /// Of a value that is not gone into, but read at once.
    pub(super) small: usize,
    /// Of a chunk.
    pub(super) chunk: usize,
    /// Members of one large object.
    pub(super) members: usize,
}

/// What came in so far.
pub(super) struct Document {
    bounds: Bounds,
    packed: Vec<Vec<u8>>,
    packed_size: usize,
    /// The chunk that is being filled.
    open: Vec<u8>,
    raw: Hasher,
}

impl Document {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            packed: Vec::new(),
            packed_size: 0,
            open: Vec::new(),
            raw: Hasher::new(),
        }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), PlanError> {
        self.raw.update(bytes);
        if self.raw.length() > self.bounds.text as u64 {
            return Err(too_large(format!("more than {} bytes", self.bounds.text)));
        }
        while !bytes.is_empty() {
            let room = self.bounds.chunk - self.open.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.extend_from_slice(now);
            bytes = later;
            if self.open.len() == self.bounds.chunk {
                self.pack()?;
            }
        }
        Ok(())
    }

    fn pack(&mut self) -> Result<(), PlanError> {
        const MEMORY: &str = "writing to memory cannot fail";
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.open).expect(MEMORY);
        let mut chunk = encoder.finish().expect(MEMORY);
        chunk.shrink_to_fit();
        self.open.clear();
        self.packed_size += chunk.len();
        if self.packed_size > self.bounds.packed {
            let most = self.bounds.packed;
            return Err(too_large(format!("more than {most} bytes when packed")));
        }
        self.packed.push(chunk);
        Ok(())
    }

    /// Hash of the bytes as they came.
    pub(super) fn raw_hash(&self) -> Hash {
        self.raw.finish()
    }

    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor {
            document: self,
            length: self.packed.len() * self.bounds.chunk + self.open.len(),
            chunk: usize::MAX,
            bytes: Vec::new(),
        }
    }
}

/// A value's place: first byte and the one behind its last, and how deep it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    start: usize,
    end: usize,
    depth: usize,
}

impl Value {
    fn size(self) -> usize {
        self.end - self.start
    }
}

/// Reads a document at any place. What is skipped is only looked at for its end; every value is
/// read strictly when it is asked for or hashed.
pub(super) struct Cursor<'d> {
    document: &'d Document,
    length: usize,
    /// Number of the chunk that is unpacked.
    chunk: usize,
    bytes: Vec<u8>,
}

impl Cursor<'_> {
    /// The one value of the document. Where its last byte is not its end, reading it fails.
    pub(super) fn root(&mut self) -> Result<Value, PlanError> {
        let start = self.space(0);
        let mut end = self.length;
        while end > start && self.byte(end - 1).is_some_and(is_space) {
            end -= 1;
        }
        let depth = 0;
        Ok(Value { start, end, depth })
    }

    /// Reads a value as a tree.
    pub(super) fn json(&mut self, value: Value) -> Result<Json, PlanError> {
        let most = self.document.bounds.value;
        if value.size() > most {
            return Err(too_large(format!("a value of more than {most} bytes")));
        }
        let text = self.text(value.start, value.end);
        parse_at(&text, Numbers::Any, value.depth)
            .map_err(|error| PlanError::Malformed(error.to_string()))
    }

    /// The members of an object in written order; `None` for null.
    pub(super) fn members(
        &mut self,
        value: Value,
    ) -> Result<Option<Vec<(String, Value)>>, PlanError> {
        match self.byte(value.start) {
            Some(b'{') => {}
            Some(b'n') if self.json(value)? == Json::Null => return Ok(None),
            _ => return Err(broken("an object was expected")),
        }
        let mut members: Vec<(String, Value)> = Vec::new();
        let mut names = 0;
        let mut at = self.space(value.start + 1);
        if self.byte(at) == Some(b'}') {
            return Ok(Some(members));
        }
        loop {
            let name = self.value(at, value.depth + 1)?;
            let Json::String(text) = self.json(name)? else {
                return Err(broken("a member's name was expected"));
            };
            names += text.len();
            if members.len() >= self.document.bounds.members || names > self.document.bounds.value {
                return Err(too_large("too many members in one object".to_owned()));
            }
            at = self.space(name.end);
            self.expect(at, b':')?;
            let member = self.value(at + 1, value.depth + 1)?;
            members.push((text, member));
            at = self.space(member.end);
            match self.byte(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b'}') if at + 1 == value.end => break,
                _ => return Err(broken("a comma was expected")),
            }
        }
        Ok(Some(members))
    }

    /// Calls `each` for the elements of an array; none for null.
    pub(super) fn elements(
        &mut self,
        value: Value,
        each: &mut dyn FnMut(&mut Self, Value) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        match self.byte(value.start) {
            Some(b'[') => {}
            Some(b'n') if self.json(value)? == Json::Null => return Ok(()),
            _ => return Err(broken("an array was expected")),
        }
        let mut at = self.space(value.start + 1);
        if self.byte(at) == Some(b']') {
            return Ok(());
        }
        loop {
            let element = self.value(at, value.depth + 1)?;
            each(self, element)?;
            at = self.space(element.end);
            match self.byte(at) {
                Some(b',') => at += 1,
                Some(b']') if at + 1 == value.end => return Ok(()),
                _ => return Err(broken("a comma was expected")),
            }
        }
    }

    /// Adds the canonical form (RFC 8785) of a value to a hash.
    pub(super) fn hash(&mut self, value: Value, hasher: &mut Hasher) -> Result<(), PlanError> {
        let first = self.byte(value.start);
        let small = value.size() <= self.document.bounds.small;
        match first {
            Some(b'{') if !small => {
                let members = self.members(within(value)?)?.unwrap_or_default();
                self.hash_members(members, hasher)
            }
            Some(b'[') if !small => {
                let mut separator: &[u8] = b"[";
                self.elements(within(value)?, &mut |cursor, element| {
                    hasher.update(separator);
                    separator = b",";
                    cursor.hash(element, hasher)
                })?;
                // Only an array of nothing but space is empty and not small.
                hasher.update(if separator == b"[" { b"[]" } else { b"]" });
                Ok(())
            }
            _ => {
                let json = self.json(value)?;
                hasher.update(&json.to_jcs());
                Ok(())
            }
        }
    }

    /// The same for an object of these members.
    pub(super) fn hash_members(
        &mut self,
        mut members: Vec<(String, Value)>,
        hasher: &mut Hasher,
    ) -> Result<(), PlanError> {
        members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(broken("a member is there twice"));
        }
        let mut separator: &[u8] = b"{";
        for (name, member) in members {
            hasher.update(separator);
            separator = b",";
            hasher.update(&Json::String(name).to_jcs());
            hasher.update(b":");
            self.hash(member, hasher)?;
        }
        hasher.update(if separator == b"{" { b"{}" } else { b"}" });
        Ok(())
    }

    /// The place of the value that begins at or behind `at`.
    fn value(&mut self, at: usize, depth: usize) -> Result<Value, PlanError> {
        let start = self.space(at);
        let end = match self.byte(start) {
            Some(b'"') => self.string_end(start + 1)?,
            Some(b'{' | b'[') => self.container_end(start)?,
            Some(b',' | b':' | b'}' | b']') | None => return Err(broken("a value was expected")),
            // A number or a word: to the next byte that ends one.
            Some(_) => {
                let mut at = start + 1;
                let ends = |byte| matches!(byte, b',' | b':' | b'}' | b']') || is_space(byte);
                while self.byte(at).is_some_and(|byte| !ends(byte)) {
                    at += 1;
                }
                at
            }
        };
        Ok(Value { start, end, depth })
    }

    /// The place behind the bracket that closes the one at `at`, whichever kinds they are.
    fn container_end(&mut self, mut at: usize) -> Result<usize, PlanError> {
        let mut open = 0usize;
        loop {
            let rest = self.rest(at).ok_or_else(|| broken("the text ends early"))?;
            let structural = |byte: &u8| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']');
            let Some(next) = rest.iter().position(structural) else {
                at += rest.len();
                continue;
            };
            let byte = rest[next];
            at += next + 1;
            match byte {
                b'"' => at = self.string_end(at)?,
                b'{' | b'[' => open += 1,
                _ => open -= 1,
            }
            if open == 0 {
                return Ok(at);
            }
        }
    }

    /// The place behind the quote that ends a text whose first byte is at `at`.
    fn string_end(&mut self, mut at: usize) -> Result<usize, PlanError> {
        loop {
            let rest = self.rest(at).ok_or_else(|| broken("a text ends early"))?;
            match memchr::memchr2(b'"', b'\\', rest) {
                Some(next) if rest[next] == b'"' => return Ok(at + next + 1),
                // What is escaped ends nothing.
                Some(next) => at += next + 2,
                None => at += rest.len(),
            }
        }
    }

    fn expect(&mut self, at: usize, wanted: u8) -> Result<(), PlanError> {
        match self.byte(at) {
            Some(byte) if byte == wanted => Ok(()),
            _ => Err(broken("a colon was expected")),
        }
    }

    /// The place of the next byte that is no white space.
    fn space(&mut self, mut at: usize) -> usize {
        while self.byte(at).is_some_and(is_space) {
            at += 1;
        }
        at
    }

    fn byte(&mut self, at: usize) -> Option<u8> {
        self.rest(at)?.first().copied()
    }

    /// What is unpacked from `at` on, at least one byte; `None` behind the end.
    fn rest(&mut self, at: usize) -> Option<&[u8]> {
        let size = self.document.bounds.chunk;
        if at / size != self.chunk {
            if at >= self.length {
                return None;
            }
            self.unpack(at / size);
        }
        self.bytes.get(at % size..).filter(|rest| !rest.is_empty())
    }

    fn text(&mut self, start: usize, end: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(end - start);
        while start + text.len() < end {
            let Some(rest) = self.rest(start + text.len()) else {
                break;
            };
            let wanted = rest.len().min(end - start - text.len());
            text.extend_from_slice(&rest[..wanted]);
        }
        text
    }

    fn unpack(&mut self, chunk: usize) {
        self.bytes.clear();
        match self.document.packed.get(chunk) {
            Some(packed) => {
                DeflateDecoder::new(packed.as_slice())
                    .read_to_end(&mut self.bytes)
                    .expect("we packed it ourselves");
            }
            None => self.bytes.extend_from_slice(&self.document.open),
        }
        self.chunk = chunk;
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A container may stand so deep and no deeper.
fn within(value: Value) -> Result<Value, PlanError> {
    if value.depth >= MAX_DEPTH {
        return Err(broken("nested too deep"));
    }
    Ok(value)
}

fn too_large(what: String) -> PlanError {
    PlanError::TooLarge(what)
}

fn broken(what: &str) -> PlanError {
    PlanError::Malformed(what.to_owned())
}
