//! The log as static files: C2SP tiles of 256 hashes, and bundles of 256 entries.
//!
//! Format: <https://c2sp.org/tlog-tiles>. A tile of level L holds roots of complete subtrees of
//! 256^L leaves, in order; what is above them is computed from them. The last one of a level is
//! partial until its 256 hashes are there, and carries its width in its name.

use std::collections::HashMap;
use std::fmt;

use crate::hash::Hash;
use crate::merkle::{self, Nodes};

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;

/// Levels of the tree in a tile: 2^8 = [`WIDTH`].
pub const HEIGHT: u32 = 8;

/// Highest level of tiles, enough for 2^48 leaves.
pub const MAX_LEVEL: u8 = 5;

/// Longest entry, in bytes: its length is written in two.
pub const MAX_ENTRY_BYTES: usize = 0xffff;

/// What a file of the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holds {
    /// Leaves, or roots of subtrees of 256^level leaves.
    Hashes {
        /// The level, up to [`MAX_LEVEL`].
        level: u8,
    },
    /// The leaves' bytes.
    Entries,
}

/// One file of the log, full or partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    holds: Holds,
    index: u64,
    /// 1 to 256.
    width: u16,
}

impl Tile {
    /// What it holds.
    pub fn holds(&self) -> Holds {
        self.holds
    }

    /// Its place among the tiles of its level, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries are in it, 1 to 256.
    pub fn width(&self) -> u64 {
        self.width.into()
    }

    /// Place of its first hash or entry in its level.
    pub fn start(&self) -> u64 {
        self.index * WIDTH
    }

    /// Whether nothing will be added to it.
    pub fn is_full(&self) -> bool {
        self.width() == WIDTH
    }

    /// The folder of its partial forerunners.
    pub fn partials(&self) -> String {
        let full = Self {
            width: WIDTH as u16,
            ..*self
        };
        format!("{full}.p")
    }

    /// Whether a log of `size` leaves has it.
    pub fn is_within(&self, size: u64) -> bool {
        let level = match self.holds {
            Holds::Hashes { level } => level,
            Holds::Entries => 0,
        };
        self.start() + self.width() <= size >> (HEIGHT * u32::from(level))
    }

    /// Reads a path below the log's address, as [`Tile`] is written. `None` for any other
    /// spelling.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, place) = path.strip_prefix("tile/")?.split_once('/')?;
        let holds = match level {
            "entries" => Holds::Entries,
            level => Holds::Hashes {
                level: level.parse().ok().filter(|level| *level <= MAX_LEVEL)?,
            },
        };
        let (place, width) = match place.split_once(".p/") {
            Some((place, width)) => (place, width.parse().ok().filter(|width| *width < 256)?),
            None => (place, 256),
        };
        let mut index = 0u64;
        for part in place.split('/') {
            let digits: u16 = part.strip_prefix('x').unwrap_or(part).parse().ok()?;
            // No log has 2^48 leaves, and nothing overflows below that.
            index = (index * 1000 + u64::from(digits)).min(1 << 48);
        }
        let tile = Self {
            holds,
            index,
            width,
        };
        // One spelling for each: what does not write itself like this is something else.
        (width > 0 && tile.to_string() == path).then_some(tile)
    }
}

/// The path below the log's address.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holds {
            Holds::Hashes { level } => write!(f, "tile/{level}/")?,
            Holds::Entries => f.write_str("tile/entries/")?,
        }
        let mut power = 1;
        while power * 1000 <= self.index {
            power *= 1000;
        }
        while power > 1 {
            write!(f, "x{:03}/", self.index / power % 1000)?;
            power /= 1000;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if !self.is_full() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

/// The files that a log of `size` leaves has and one of `old` leaves had not: entries first, then
/// hashes from the leaves upwards. They are made as they are asked for.
pub fn added(old: u64, size: u64) -> impl Iterator<Item = Tile> {
    let entries = row(Holds::Entries, old, size);
    let hashes = (0..=MAX_LEVEL).flat_map(move |level| {
        let shift = HEIGHT * u32::from(level);
        row(Holds::Hashes { level }, old >> shift, size >> shift)
    });
    entries.chain(hashes)
}

/// The tiles of one level.
fn row(holds: Holds, old: u64, size: u64) -> impl Iterator<Item = Tile> {
    let first = old / WIDTH;
    let last = if old < size { size.div_ceil(WIDTH) } else { 0 };
    (first..last).map(move |index| Tile {
        holds,
        index,
        width: (size - index * WIDTH).min(WIDTH) as u16,
    })
}

/// Bytes of a tile: its hashes, one after the other.
pub fn hash_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// Bytes of a bundle of entries: each behind its length, in two bytes. `None` when one is longer
/// than [`MAX_ENTRY_BYTES`].
pub fn entry_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut bundle = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).ok()?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Some(bundle)
}

/// A tree that is read from hash tiles, as far as they were fetched. Nothing in them is believed:
/// what is computed from them is compared with signed roots.
#[derive(Debug, Clone)]
pub struct Tiles {
    size: u64,
    known: HashMap<Tile, Vec<Hash>>,
}

/// A tile that has to be fetched first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing(pub Tile);

impl Tiles {
    /// The tree of `size` leaves.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            known: HashMap::new(),
        }
    }

    /// Adds the bytes of a tile; `false` when they are none of it.
    pub fn insert(&mut self, tile: Tile, bytes: &[u8]) -> bool {
        if bytes.len() as u64 != tile.width() * 32 {
            return false;
        }
        let hashes = bytes.as_chunks::<32>().0.iter();
        let hashes = hashes.map(|hash| Hash::from_bytes(*hash)).collect();
        self.known.insert(tile, hashes);
        true
    }
}

impl Nodes for Tiles {
    type Error = Missing;

    fn node(&self, level: u32, index: u64) -> Result<Hash, Missing> {
        let (tiles_below, within) = (level / HEIGHT, level % HEIGHT);
        let start = index << within;
        let hashes_in_level = self.size >> (HEIGHT * tiles_below);
        let place = start / WIDTH;
        let tile = Tile {
            holds: Holds::Hashes {
                level: tiles_below as u8,
            },
            index: place,
            width: (hashes_in_level - place * WIDTH).min(WIDTH) as u16,
        };
        let hashes = self.known.get(&tile).ok_or(Missing(tile))?;
        let first = (start % WIDTH) as usize;
        let Ok(root) = merkle::root(&hashes[first..first + (1 << within)], 1 << within);
        Ok(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling() {
        for (path, index, width) in [
            ("tile/0/000", 0, 256),
            ("tile/0/255.p/1", 255, 1),
            ("tile/5/x001/x234/067", 1_234_067, 256),
            ("tile/entries/x001/000.p/255", 1000, 255),
        ] {
            let tile = Tile::parse(path).unwrap();
            assert_eq!((tile.index(), tile.width()), (index, width));
            assert_eq!(tile.to_string(), path);
        }
        for other in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/+01",
            "tile/00/000",
            "tile/6/000",
            "tile/-1/000",
            "tile/0/x000/000",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/1/",
            "tile/data/000",
            "tile/0/../000",
            "tile/0/x001/18446744073709551615",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "/tile/0/000",
        ] {
            assert_eq!(Tile::parse(other), None, "{other}");
        }
    }

    #[test]
    fn an_entry_that_is_too_long_is_refused() {
        let entry = vec![7; MAX_ENTRY_BYTES + 1];
        assert_eq!(entry_bundle([entry.as_slice()]), None);
        let bundle = entry_bundle([&entry[1..], b"x".as_slice()]).unwrap();
        assert_eq!(bundle[..2], [0xff, 0xff]);
        assert_eq!(bundle[bundle.len() - 3..], [0, 1, b'x']);
    }
}
