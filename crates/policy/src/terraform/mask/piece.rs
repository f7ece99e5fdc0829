//! A part of a log, masked as if the whole log had been.

use super::{HELD_BACK, Known, mask};
use crate::terraform::LogRange;

/// How far around a part is looked, in bytes: longer than any secret that is recognised.
pub const CONTEXT: u32 = 8192;

/// Last byte of a log that is complete.
const END_OF_TEXT: u8 = 3;

/// A part of a log that a client asks for.
///
/// More than the part is read from upstream, so that a secret across its edges is seen whole. Of
/// a log that still grows, a line that is not complete is kept back: its next bytes could make a
/// secret of it. The client asks for them again, since it counts what it got.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    range: LogRange,
}

/// Where a part of a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// With the log, which is complete.
    Last,
    /// Somewhere; more of the log is there already.
    Middle,
    /// Where the log has got to so far.
    Growing,
}

impl Piece {
    /// The part that a client asks for.
    pub const fn new(range: LogRange) -> Self {
        Self { range }
    }

    fn before(self) -> u64 {
        self.range.offset.unwrap_or(0).min(u64::from(CONTEXT))
    }

    /// What to ask upstream for.
    pub fn to_read(self) -> LogRange {
        let more = u32::try_from(self.before()).unwrap_or(CONTEXT) + CONTEXT;
        LogRange {
            offset: self.range.offset.map(|offset| offset - self.before()),
            limit: self.range.limit.map(|limit| limit.saturating_add(more)),
        }
    }

    /// Where what upstream answered to that stands in the log.
    pub fn place(self, read: &[u8]) -> Place {
        let asked = self.to_read().limit.map(|limit| limit as usize);
        if read.last() == Some(&END_OF_TEXT) {
            Place::Last
        } else if asked.is_some_and(|limit| read.len() >= limit) {
            Place::Middle
        } else {
            Place::Growing
        }
    }

    /// Masks what upstream answered to that and cuts the client's part out of it. Where more is
    /// marked than is known, that is of a short log of ours that says so, once there is a log.
    pub fn cut(self, mut read: Vec<u8>, known: &Known) -> Vec<u8> {
        let place = self.place(&read);
        if known.is_overfull() {
            return match place {
                Place::Growing => Vec::new(),
                Place::Last | Place::Middle => self.of_ours(),
            };
        }
        mask(&mut read, known);
        let mut end = read.len();
        if place == Place::Growing {
            let line = read.iter().rposition(|byte| *byte == b'\n');
            let line = line.map_or(0, |newline| newline + 1);
            end = line.max(end.saturating_sub(CONTEXT as usize));
        }
        let start = usize::try_from(self.before())
            .unwrap_or(usize::MAX)
            .min(end);
        let length = self.range.limit.map_or(usize::MAX, |limit| limit as usize);
        read.truncate(start.saturating_add(length).min(end));
        read.drain(..start);
        read
    }

    fn of_ours(self) -> Vec<u8> {
        let ours = format!("\u{2}{HELD_BACK}\n\u{3}");
        let from = usize::try_from(self.range.offset.unwrap_or(0)).unwrap_or(usize::MAX);
        let most = self.range.limit.map_or(usize::MAX, |limit| limit as usize);
        ours.bytes().skip(from).take(most).collect()
    }
}
