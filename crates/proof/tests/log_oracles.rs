//! The tree, its proofs, the tiles and the checkpoints against two implementations that were
//! written by others: `ct-merkle`, and `tlog_tiles`, a port of Go's `sumdb/tlog`.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::cell::RefCell;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use proof::checkpoint::Checkpoint;
use proof::merkle::{
    consistency_path, inclusion_path, leaf_hash, root, verify_consistency, verify_inclusion,
};
use proof::tiles::{self, Holds, Missing, Tile, Tiles};
use proof::{Hash, SigningKey};
use proptest::prelude::*;
use tlog_tiles::{HashReader, TileHashReader, TileReader};

type Sha256 = sha2::Sha256;
type Reference = MemoryBackedTree<Sha256, Vec<u8>>;

/// Largest tree of the random tests: two levels of tiles, and a part of a third tile.
const MOST: usize = 700;

fn entries(seed: u64, count: usize) -> Vec<Vec<u8>> {
    (0..count as u64)
        .map(|n| Hash::of(&[seed.to_be_bytes(), n.to_be_bytes()].concat()).as_bytes()[..7].to_vec())
        .collect()
}

fn leaves(entries: &[Vec<u8>]) -> Vec<Hash> {
    entries.iter().map(|entry| leaf_hash(entry)).collect()
}

fn reference(entries: &[Vec<u8>]) -> Reference {
    let mut tree = Reference::new();
    entries.iter().for_each(|entry| tree.push(entry.clone()));
    tree
}

fn bytes(hashes: &[Hash]) -> Vec<u8> {
    tiles::hash_tile(hashes)
}

fn at(leaves: &[Hash], size: usize) -> Hash {
    root(leaves, size as u64).unwrap()
}

fn root_for_reference(hash: &Hash, size: usize) -> RootHash<Sha256> {
    RootHash::new((*hash.as_bytes()).into(), size as u64)
}

/// The stored hashes of `tlog_tiles` over the same entries.
struct Stored(Vec<tlog_tiles::Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|n| self.0[*n as usize]).collect())
    }
}

fn stored(entries: &[Vec<u8>]) -> Stored {
    let mut stored = Stored(Vec::new());
    for (n, entry) in entries.iter().enumerate() {
        let more = tlog_tiles::stored_hashes(n as u64, entry, &stored).unwrap();
        stored.0.extend(more);
    }
    stored
}

fn theirs(path: &[Hash]) -> Vec<tlog_tiles::Hash> {
    path.iter()
        .map(|hash| tlog_tiles::Hash(*hash.as_bytes()))
        .collect()
}

fn ours(path: &[tlog_tiles::Hash]) -> Vec<Hash> {
    path.iter().map(|hash| Hash::from_bytes(hash.0)).collect()
}

/// Every kind of damage that a proof can take.
fn damaged(path: &[Hash], with: Hash, place: usize) -> Vec<Vec<Hash>> {
    let mut cases = vec![[path, &[with]].concat(), [&[with], path].concat()];
    if !path.is_empty() {
        let place = place % path.len();
        let mut changed = path.to_vec();
        changed[place] = with;
        let mut shortened = path.to_vec();
        shortened.remove(place);
        let mut flipped = path.to_vec();
        let mut bits = *path[place].as_bytes();
        bits[place % 32] ^= 1 << (place % 8);
        flipped[place] = Hash::from_bytes(bits);
        let mut turned = path.to_vec();
        turned.rotate_left(1);
        cases.extend([changed, shortened, flipped]);
        if turned != path {
            cases.push(turned);
        }
    }
    cases
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inclusion_is_what_the_others_say(seed: u64, size in 1..MOST, place: u64, harm: u64) {
        let entries = entries(seed, size);
        let leaves = leaves(&entries);
        let whole = at(&leaves, size);
        let (tree, stored) = (reference(&entries), stored(&entries));
        prop_assert!(tree.root() == root_for_reference(&whole, size));
        prop_assert_eq!(&tlog_tiles::tree_hash(size as u64, &stored).unwrap().0, whole.as_bytes());
        let index = (place % size as u64) as usize;
        let path = inclusion_path(leaves.as_slice(), index as u64, size as u64).unwrap();
        let proof = tree.prove_inclusion(index);
        prop_assert_eq!(bytes(&path), proof.as_bytes());
        let proven = tlog_tiles::prove_record(size as u64, index as u64, &stored).unwrap();
        prop_assert_eq!(&ours(&proven), &path);

        let (n, leaf) = (index as u64, &leaves[index]);
        prop_assert!(verify_inclusion(leaf, n, size as u64, &path, &whole));
        let forged = Hash::of(&harm.to_be_bytes());
        let reference_root = root_for_reference(&whole, size);
        for path in damaged(&path, forged, harm as usize % 64) {
            prop_assert!(!verify_inclusion(leaf, n, size as u64, &path, &whole));
            let theirs = theirs(&path);
            let leaf = tlog_tiles::Hash(*leaf.as_bytes());
            let root = tlog_tiles::Hash(*whole.as_bytes());
            prop_assert!(tlog_tiles::check_record(&theirs, size as u64, root, n, leaf).is_err());
            let proof = InclusionProof::<Sha256>::try_from_bytes(bytes(&path));
            let admitted = proof
                .is_ok_and(|proof| reference_root.verify_inclusion(&entries[index], n, &proof).is_ok());
            prop_assert!(!admitted);
        }
        let other = harm % (size as u64 + 3);
        let expected = other == n || leaves.get(other as usize) == Some(leaf);
        prop_assert_eq!(verify_inclusion(leaf, other, size as u64, &path, &whole), expected);
    }

    #[test]
    fn consistency_is_what_the_others_say(seed: u64, size in 1..MOST, from: u64, harm: u64) {
        let entries = entries(seed, size);
        let leaves = leaves(&entries);
        let old = 1 + (from % size as u64) as usize;
        let (begun, whole) = (at(&leaves, old), at(&leaves, size));
        let path = consistency_path(leaves.as_slice(), old as u64, size as u64).unwrap();
        prop_assert!(verify_consistency(old as u64, &begun, size as u64, &whole, &path));
        let stored = stored(&entries);
        let proven = tlog_tiles::prove_tree(size as u64, old as u64, &stored).unwrap();
        prop_assert_eq!(&ours(&proven), &path);
        let old_reference = root_for_reference(&begun, old);
        let reference_root = root_for_reference(&whole, size);
        if old < size {
            let proof = reference(&entries).prove_consistency(size - old);
            prop_assert_eq!(bytes(&path), proof.as_bytes());
            prop_assert!(reference_root.verify_consistency(&old_reference, &proof).is_ok());
        }

        let forged = Hash::of(&harm.to_be_bytes());
        for path in damaged(&path, forged, harm as usize % 64) {
            let judged = verify_consistency(old as u64, &begun, size as u64, &whole, &path);
            prop_assert!(!judged);
            let (theirs, root) = (theirs(&path), tlog_tiles::Hash(*whole.as_bytes()));
            let begun = tlog_tiles::Hash(*begun.as_bytes());
            prop_assert!(
                tlog_tiles::check_tree(&theirs, size as u64, root, old as u64, begun).is_err()
            );
            if old < size {
                let proof = ConsistencyProof::<Sha256>::try_from_bytes(bytes(&path));
                let admitted = proof
                    .is_ok_and(|proof| reference_root.verify_consistency(&old_reference, &proof).is_ok());
                prop_assert!(!admitted);
            }
        }
        prop_assert!(!verify_consistency(old as u64, &forged, size as u64, &whole, &path));
        prop_assert!(!verify_consistency(old as u64, &begun, size as u64, &forged, &path));
    }

    /// Random bytes as a proof: never admitted, and the verdict is the other implementation's.
    #[test]
    fn noise_is_no_proof(old in 1..1u64 << 40, more in 1..1u64 << 40, noise: Vec<[u8; 32]>) {
        let path: Vec<Hash> = noise.iter().copied().map(Hash::from_bytes).collect();
        let (begun, whole) = (Hash::of(b"old"), Hash::of(b"new"));
        prop_assert!(!verify_consistency(old, &begun, old + more, &whole, &path));
        prop_assert!(!verify_inclusion(&begun, old, old + more, &path, &whole));
    }

    #[test]
    fn checkpoints_are_read_alike(size: u32, seed: [u8; 32]) {
        let checkpoint = Checkpoint {
            origin: "gateway.example/log".to_owned(),
            size: size.into(),
            root: Hash::of(&seed),
        };
        let note = checkpoint.sign(&SigningKey::from_seed(&seed));
        let (text, _) = note.split_once("\n\n").unwrap();
        let read = tlog_tiles::Checkpoint::from_bytes(format!("{text}\n").as_bytes()).unwrap();
        prop_assert_eq!(read.origin(), "gateway.example/log");
        prop_assert_eq!(read.size(), u64::from(size));
        prop_assert_eq!(&read.hash().0, checkpoint.root.as_bytes());
        prop_assert_eq!(read.to_bytes(), format!("{text}\n").into_bytes());
    }
}

/// Our tiles, as the other implementation's reader asks for them.
struct Published<'a> {
    leaves: &'a [Hash],
    asked: RefCell<usize>,
}

impl TileReader for Published<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        *self.asked.borrow_mut() += tiles.len();
        Ok(tiles
            .iter()
            .map(|tile| {
                let path = tile.path().replacen("tile/8/", "tile/", 1);
                tile_bytes(self.leaves, Tile::parse(&path).unwrap())
            })
            .collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

fn tile_bytes(leaves: &[Hash], tile: Tile) -> Vec<u8> {
    let Holds::Hashes { level } = tile.holds() else {
        panic!("a tile of hashes");
    };
    let span = 256usize.pow(level.into());
    let hashes: Vec<Hash> = leaves
        .chunks_exact(span)
        .skip(tile.start() as usize)
        .take(tile.width() as usize)
        .map(|leaves| at(leaves, span))
        .collect();
    bytes(&hashes)
}

#[test]
fn tiles_have_the_names_and_the_bytes_of_the_others() {
    let entries = entries(1, 66_000);
    let leaves = leaves(&entries);
    let stored = stored(&entries);
    let mut before = 0;
    for size in [1, 2, 255, 256, 257, 512, 65_535, 65_536, 65_537, 66_000] {
        let theirs: Vec<_> = tlog_tiles::Tile::new_tiles(8, before, size)
            .into_iter()
            .map(|tile| (tile.path(), tile.read_data(&stored).unwrap()))
            .collect();
        let ours: Vec<_> = tiles::added(before, size)
            .filter(|tile| tile.holds() != Holds::Entries)
            .map(|tile| {
                assert!(tile.is_within(size));
                let path = tile.to_string().replacen("tile/", "tile/8/", 1);
                (path, tile_bytes(&leaves, tile))
            })
            .collect();
        assert!(ours == theirs, "{before} to {size}");

        // Their reader proves with our tiles, and checks each of them against the root.
        let published = Published {
            leaves: &leaves,
            asked: RefCell::new(0),
        };
        let tree = tlog_tiles::Hash(*at(&leaves, size as usize).as_bytes());
        let reader = TileHashReader::new(size, tree, &published);
        let place = size / 2;
        let path = tlog_tiles::prove_record(size, place, &reader).unwrap();
        let expected = inclusion_path(leaves.as_slice(), place, size).unwrap();
        assert_eq!(self::ours(&path), expected);
        assert!(size == 1 || *published.asked.borrow() > 0);

        // And ours from the same tiles, fetched one by one.
        let mut known = Tiles::new(size);
        let path = loop {
            match consistency_path(&known, before, size) {
                Ok(path) => break path,
                Err(Missing(tile)) => assert!(known.insert(tile, &tile_bytes(&leaves, tile))),
            }
        };
        assert_eq!(
            path,
            consistency_path(leaves.as_slice(), before, size).unwrap()
        );
        before = size;
    }
}
