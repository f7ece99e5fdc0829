//! A walk over a file in canonical form, a piece at a time: what is held of it is the piece in
//! which the walk is, and what others still read of earlier ones.

use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::sync::Arc;

use proof::hash::Hasher;
use proof::json::{Canonical, Kind};

/// So many bytes are read in one go, or as many as one value needs.
pub(super) const PIECE: usize = 1 << 18;

/// Further than this nobody looks ahead to say that a text is not canonical: a number has at most
/// seventeen bytes, and an escape six.
const AHEAD: usize = 32;

/// Walks over what a source gives. Each method gives `None` at the first thing that is not as it
/// should be; the walk ends there.
pub(super) struct Walk<S> {
    source: S,
    /// So many bytes are read in one go.
    step: usize,
    piece: Arc<String>,
    /// So many bytes of the piece have been walked over.
    at: usize,
    /// The beginning of a character, at the end of what was read.
    rest: Vec<u8>,
    ended: bool,
    /// What takes in all that is walked over, from that byte of the piece on.
    hash: Option<(Hasher, usize)>,
    /// Why nothing more could be read.
    failed: Option<io::Error>,
}

/// Text of the file. The piece in which it stands is held as long as it is.
pub(super) struct Text {
    piece: Arc<String>,
    place: Range<usize>,
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.piece[self.place.clone()]
    }
}

impl<S: Read> Walk<S> {
    /// Begins where the source stands, and reads so many bytes in one go.
    pub(super) fn new(source: S, step: usize) -> Self {
        Self {
            source,
            step,
            piece: Arc::default(),
            at: 0,
            rest: Vec::new(),
            ended: false,
            hash: None,
            failed: None,
        }
    }

    /// Ends the walk: how the source failed, if it did.
    pub(super) fn finish(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }

    /// Walks over white space, and says whether the file ends there.
    pub(super) fn is_over(&mut self) -> Option<bool> {
        let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        loop {
            let left = self.piece[self.at..].trim_start_matches(blank).len();
            self.at = self.piece.len() - left;
            if left > 0 || self.ended {
                return Some(left == 0);
            }
            self.read_on()?;
        }
    }

    /// Walks over any value that stands so many levels deep, and gives its text.
    pub(super) fn value(&mut self, depth: usize) -> Option<Text> {
        let (place, ()) = self.token(|walk| walk.value(depth).map(drop))?;
        let piece = Arc::clone(&self.piece);
        Some(Text { piece, place })
    }

    /// Walks over an object; `member` walks over each value and is told its name.
    pub(super) fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&mut Self, &str) -> Option<()>,
    ) -> Option<()> {
        let (_, mut more) = self.token(|walk| walk.enter(Kind::Object, depth))?;
        let mut before: Option<String> = None;
        while more {
            let name = |walk: &mut Canonical<'_>| walk.name(before.as_deref()).map(str::to_owned);
            let (_, name) = self.token(name)?;
            member(self, &name)?;
            before = Some(name);
            (_, more) = self.token(|walk| walk.more(Kind::Object))?;
        }
        Some(())
    }

    /// Walks over an array; `element` walks over each of its elements.
    pub(super) fn array(
        &mut self,
        depth: usize,
        mut element: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        let (_, mut more) = self.token(|walk| walk.enter(Kind::Array, depth))?;
        while more {
            element(self)?;
            (_, more) = self.token(|walk| walk.more(Kind::Array))?;
        }
        Some(())
    }

    /// From here on, everything that is walked over goes into this hash.
    pub(super) fn hash(&mut self, hasher: Hasher) {
        self.hash = Some((hasher, self.at));
    }

    /// Up to here.
    pub(super) fn hashed(&mut self) -> Option<Hasher> {
        self.hash_walked();
        self.hash.take().map(|(hasher, _)| hasher)
    }

    fn hash_walked(&mut self) {
        if let Some((hasher, from)) = &mut self.hash {
            hasher.update(&self.piece.as_bytes()[*from..self.at]);
        }
    }

    /// Walks over something that stands in one piece, if need be in a larger one: its place there,
    /// and what was made of it.
    fn token<T>(
        &mut self,
        read: impl Fn(&mut Canonical<'_>) -> Option<T>,
    ) -> Option<(Range<usize>, T)> {
        loop {
            let left = &self.piece[self.at..];
            let mut walk = Canonical::new(left);
            let token = read(&mut walk);
            let end = self.at + walk.position();
            match token {
                // At the very end of the piece it might go on.
                Some(token) if end < self.piece.len() || self.ended => {
                    let place = self.at..end;
                    self.at = end;
                    return Some((place, token));
                }
                None if end + AHEAD < self.piece.len() => return None,
                _ => self.read_on()?,
            }
        }
    }

    /// Reads the next piece, with what is left of this one before it; at least as much again, so
    /// that a long value is not walked over many times.
    fn read_on(&mut self) -> Option<()> {
        if self.ended {
            return None;
        }
        self.hash_walked();
        let left = &self.piece.as_bytes()[self.at..];
        let more = self.step.max(left.len());
        let mut bytes = Vec::with_capacity(left.len() + self.rest.len() + more);
        bytes.extend_from_slice(left);
        bytes.append(&mut self.rest);
        match self
            .source
            .by_ref()
            .take(more as u64)
            .read_to_end(&mut bytes)
        {
            Ok(read) => self.ended = read < more,
            Err(error) => {
                self.failed = Some(error);
                return None;
            }
        }
        let piece = match String::from_utf8(bytes) {
            Ok(piece) => piece,
            // A character may go on in the next piece; nothing else may.
            Err(error) if error.utf8_error().error_len().is_none() && !self.ended => {
                let whole = error.utf8_error().valid_up_to();
                let mut bytes = error.into_bytes();
                self.rest = bytes.split_off(whole);
                String::from_utf8(bytes).ok()?
            }
            Err(_) => return None,
        };
        self.piece = Arc::new(piece);
        self.at = 0;
        if let Some((_, from)) = &mut self.hash {
            *from = 0;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proof::Hash;

    use super::*;

    const FILE: &str =
        " {\"a\":[12345,-7,\"\\u0001é€😀\",[true,null]],\"é\":{\"b\":[]},\"😀\":123456} \n";

    /// What stands in the array and behind the other names, with the hash of the array.
    fn walked(file: &[u8], step: usize) -> Option<(Vec<String>, Hash)> {
        let mut walk = Walk::new(file, step);
        let (mut found, mut hash) = (Vec::new(), None);
        (!walk.is_over()?).then_some(())?;
        walk.object(0, |walk, name| {
            found.push(name.to_owned());
            if name != "a" {
                found.push(walk.value(1)?.to_string());
                return Some(());
            }
            walk.hash(Hasher::new());
            walk.array(1, |walk| {
                found.push(walk.value(2)?.to_string());
                Some(())
            })?;
            hash = walk.hashed();
            Some(())
        })?;
        walk.is_over()?.then_some((found, hash?.finish()))
    }

    #[test]
    fn it_does_not_matter_where_pieces_end() {
        let array = "[12345,-7,\"\\u0001é€😀\",[true,null]]";
        let found = ["a", "12345", "-7", "\"\\u0001é€😀\"", "[true,null]", "é"];
        let found = found.into_iter().chain(["{\"b\":[]}", "😀", "123456"]);
        let found: Vec<String> = found.map(str::to_owned).collect();
        for step in 1..FILE.len() + 2 {
            let expected = Some((found.clone(), Hash::of(array.as_bytes())));
            assert_eq!(walked(FILE.as_bytes(), step), expected, "{step}");
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_ends_it() {
        for step in 1..FILE.len() + 2 {
            for end in 0..FILE.len() - 2 {
                assert_eq!(walked(&FILE.as_bytes()[..end], step), None, "{end} {step}");
            }
            for (from, to) in [
                ("12345", "012345"),
                ("\"a\"", "\"z\""),
                ("null", "nul"),
                (" \n", "x"),
            ] {
                let file = FILE.replacen(from, to, 1);
                assert_eq!(walked(file.as_bytes(), step), None, "{to} {step}");
            }
            let mut not_text = FILE.as_bytes().to_vec();
            not_text[FILE.find('€').expect("there")] = 0xff;
            assert_eq!(walked(&not_text, step), None, "{step}");
        }
    }
}
