//! The Merkle tree over the leaves, answered from tiles.
//!
//! Besides the leaves, the root of every complete subtree of 2^8, 2^16, 2^24 … leaves is kept.
//! A leaf costs one row, and one more at each 256th; any node of the tree is then computed from
//! at most 256 rows of one level.

use std::cell::RefCell;
use std::collections::HashMap;

use proof::Hash;
use proof::merkle::{self, Nodes};

use super::column::{self, Columns as _, bytes};
use super::connection::{Connection, params};
use crate::StoreError;

/// Levels between tiles: a tile row stands for 2^8 rows of the level below.
pub(super) const HEIGHT: u32 = 8;

/// How many leaves there are; also the index of the next one.
pub(super) fn size(connection: &Connection) -> Result<u64, StoreError> {
    let last = column::one(
        connection,
        "SELECT max(leaf_index) AS last FROM leaves",
        [],
        |row| row.int_opt("last"),
    )?;
    match last.flatten() {
        None => Ok(0),
        Some(last) => u64::try_from(last)
            .map(|last| last + 1)
            .map_err(|_| column::damaged("leaf_index")),
    }
}

/// Adds the next leaf, and the tiles that it completes.
pub(super) fn add_leaf(connection: &Connection, index: u64, hash: &Hash) -> Result<(), StoreError> {
    column::change(
        connection,
        "INSERT INTO leaves (leaf_index, hash) VALUES (?1, ?2)",
        params![column::integer(index)?, bytes(hash)],
    )?;
    let mut level = HEIGHT;
    while level < u64::BITS && (index + 1).trailing_zeros() >= level {
        let place = index >> level;
        let root = complete(&row_of(
            connection,
            level - HEIGHT,
            place << HEIGHT,
            1 << HEIGHT,
        )?);
        column::change(
            connection,
            "INSERT INTO tiles (level, place, hash) VALUES (?1, ?2, ?3)",
            params![level, column::integer(place)?, bytes(&root)],
        )?;
        level += HEIGHT;
    }
    Ok(())
}

/// The stored root of a complete subtree, if it is there.
pub(super) fn tile(
    connection: &Connection,
    level: u32,
    place: u64,
) -> Result<Option<Hash>, StoreError> {
    column::one(
        connection,
        "SELECT hash FROM tiles WHERE level = ?1 AND place = ?2",
        params![level, column::integer(place)?],
        |row| row.hash("hash"),
    )
}

/// Root over the first `size` leaves, if there are as many.
pub(super) fn root(connection: &Connection, tree: u64) -> Result<Option<Hash>, StoreError> {
    if tree > size(connection)? {
        return Ok(None);
    }
    merkle::root(&Tree::new(connection), tree).map(Some)
}

/// Inclusion paths in the tree of `size` leaves, if it and all of the leaves exist.
pub(super) fn inclusions(
    connection: &Connection,
    indexes: &[u64],
    tree: u64,
) -> Result<Option<Vec<Vec<Hash>>>, StoreError> {
    if tree > size(connection)? || indexes.iter().any(|index| *index >= tree) {
        return Ok(None);
    }
    let nodes = Tree::new(connection);
    indexes
        .iter()
        .map(|index| merkle::inclusion_path(&nodes, *index, tree))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// The path from a smaller tree to a larger one, if the larger one exists.
pub(super) fn consistency(
    connection: &Connection,
    old: u64,
    tree: u64,
) -> Result<Option<Vec<Hash>>, StoreError> {
    if old > tree || tree > size(connection)? {
        return Ok(None);
    }
    merkle::consistency_path(&Tree::new(connection), old, tree).map(Some)
}

/// A part of one of the rows that are kept, if it is there; never more than a tile.
pub(super) fn hashes(
    connection: &Connection,
    level: u8,
    start: u64,
    count: u64,
) -> Result<Option<Vec<Hash>>, StoreError> {
    let end = start.checked_add(count);
    let there = size(connection)?.checked_shr(HEIGHT * u32::from(level));
    if count == 0 || count > 1 << HEIGHT || end.is_none_or(|end| end > there.unwrap_or(0)) {
        return Ok(None);
    }
    row_of(connection, HEIGHT * u32::from(level), start, count).map(Some)
}

/// Nodes of the stored tree. Those that were computed are remembered for the rest of one
/// question: the paths of a job's records share most of theirs.
struct Tree<'c> {
    connection: &'c Connection,
    known: RefCell<HashMap<(u32, u64), Hash>>,
}

impl<'c> Tree<'c> {
    fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            known: RefCell::default(),
        }
    }
}

impl Nodes for Tree<'_> {
    type Error = StoreError;

    fn node(&self, level: u32, index: u64) -> Result<Hash, StoreError> {
        if let Some(hash) = self.known.borrow().get(&(level, index)) {
            return Ok(*hash);
        }
        let base = level - level % HEIGHT;
        let above = level - base;
        let row = row_of(self.connection, base, index << above, 1 << above)?;
        let hash = complete(&row);
        self.known.borrow_mut().insert((level, index), hash);
        Ok(hash)
    }
}

/// `count` hashes in a row of one stored level.
fn row_of(
    connection: &Connection,
    level: u32,
    start: u64,
    count: u64,
) -> Result<Vec<Hash>, StoreError> {
    let (first, last) = (column::integer(start)?, column::integer(start + count - 1)?);
    let hashes = if level == 0 {
        column::all(
            connection,
            "SELECT hash FROM leaves WHERE leaf_index BETWEEN ?1 AND ?2 ORDER BY leaf_index",
            params![first, last],
            |row| row.hash("hash"),
        )?
    } else {
        column::all(
            connection,
            "SELECT hash FROM tiles WHERE level = ?3 AND place BETWEEN ?1 AND ?2 ORDER BY place",
            params![first, last, level],
            |row| row.hash("hash"),
        )?
    };
    if hashes.len() as u64 == count {
        Ok(hashes)
    } else {
        Err(StoreError::Corrupt(format!(
            "the log has a hole at level {level}, from {start} on"
        )))
    }
}

/// Root over all of the hashes, whose number is a power of two.
fn complete(hashes: &[Hash]) -> Hash {
    let Ok(root) = merkle::root(hashes, hashes.len() as u64);
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;

    /// Leaves below the second kind of tile, and some beyond it.
    const LEAVES: u64 = 70_000;

    fn empty() -> Connection {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        Connection::Sqlite(crate::sqlite::Session::new(connection))
    }

    #[test]
    fn a_large_tree_equals_the_definition_across_two_levels_of_tiles() {
        let connection = empty();
        let leaves: Vec<Hash> = (0..LEAVES)
            .map(|n| merkle::leaf_hash(&n.to_be_bytes()))
            .collect();
        connection.begin().unwrap();
        for (index, leaf) in leaves.iter().enumerate() {
            add_leaf(&connection, index as u64, leaf).unwrap();
        }
        connection.commit().unwrap();
        assert_eq!(size(&connection).unwrap(), LEAVES);
        for tree in [256, 65_535, 65_536, 65_537, 65_792, LEAVES] {
            let expected = merkle::root(leaves.as_slice(), tree).unwrap();
            assert_eq!(root(&connection, tree).unwrap(), Some(expected), "{tree}");
            let indexes = [0, 255, tree / 2, tree - 2, tree - 1];
            for old in [0, 1, 255, 256, tree / 2, tree - 1, tree] {
                let path = consistency(&connection, old, tree).unwrap();
                let expected = merkle::consistency_path(leaves.as_slice(), old, tree).unwrap();
                assert_eq!(path, Some(expected), "{old} to {tree}");
            }
            let paths = inclusions(&connection, &indexes, tree).unwrap().unwrap();
            for (index, path) in indexes.iter().zip(paths) {
                let leaf = &leaves[*index as usize];
                assert!(
                    merkle::verify_inclusion(leaf, *index, tree, &path, &expected),
                    "leaf {index} of {tree}"
                );
            }
        }
    }

    #[test]
    fn a_hole_is_damage() {
        let connection = empty();
        for index in [0, 2] {
            add_leaf(&connection, index, &Hash::of(b"leaf")).unwrap();
        }
        assert!(matches!(root(&connection, 3), Err(StoreError::Corrupt(_))));
        assert!(matches!(
            add_leaf(&connection, 2, &Hash::of(b"leaf")),
            Err(StoreError::Corrupt(_))
        ));
    }
}
