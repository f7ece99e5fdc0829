//! What monitors and auditors are handed about the log and about bundles in others' formats:
//! consistency proofs, tiles, export bundles.

use std::sync::LazyLock;

use clawverify::clawsig::{self, Options};
use clawverify::testing::{Keys, Story, seal, start};
use proof::Hash;
use proof::checkpoint::Checkpoint;
use proof::consistency::{ConsistencyProof, judge};
use proof::export::Exporter;
use proof::json::{self, Numbers};
use proof::merkle::{Nodes, consistency_path, leaf_hash, root, verify_consistency};
use proof::tiles::{MAX_LEVEL, Tile, Tiles, WIDTH};

use crate::choice;
use crate::evidence::patched;

/// A proof that is accepted is the one that the tree gives, for the trees that it was made for; a
/// tile has one name; what is computed from foreign tiles is right or missing.
pub fn proofs(data: &[u8]) {
    let (kind, data) = choice(data);
    match kind % 3 {
        0 => consistency(data),
        1 => tile(data),
        _ => document(data),
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

fn root_of(leaves: &[Hash], size: u64) -> Hash {
    root(leaves, size).unwrap_or_else(|never| match never {})
}

fn path_of(leaves: &[Hash], old: u64, size: u64) -> Vec<Hash> {
    consistency_path(leaves, old, size).unwrap_or_else(|never| match never {})
}

/// Bytes: both sizes as claimed, the sizes whose roots are claimed, length of the path; then what is
/// put in place of its hashes.
fn consistency(data: &[u8]) {
    let [old, size, old_root, size_root, length, rest @ ..] = data else {
        return;
    };
    let [old, size, of_old, of_size] =
        [old, size, old_root, size_root].map(|byte| u64::from(*byte % 48));
    let leaves = leaves(48);
    let (old_root, size_root) = (root_of(&leaves, of_old), root_of(&leaves, of_size));
    let right = path_of(&leaves, old, size);
    let mut path = right.clone();
    path.resize(usize::from(*length % 12), size_root);
    for change in rest.chunks(2) {
        let [place, value] = change else { break };
        if let Some(hash) = path.get_mut(usize::from(place % 16)) {
            *hash = match value {
                0..128 => leaf_hash(&u64::from(*value).to_be_bytes()),
                _ => root_of(&leaves, u64::from(value % 48)),
            };
        }
    }
    if verify_consistency(old, &old_root, size, &size_root, &path) {
        assert!(old <= size, "the later one is smaller");
        assert_eq!(path, right, "another proof is accepted");
        if old == size {
            // Of what no root says: that a tree is itself is all that is proved.
            assert_eq!(old_root, size_root, "one size, two trees");
            return;
        }
        assert_eq!(of_old, old, "of another old tree");
        // Every tree continues the empty one, whatever its own size is said to be.
        assert!(of_size == size || old == 0, "of another tree");
    }
}

fn tile(data: &[u8]) {
    if let Ok(path) = std::str::from_utf8(data)
        && let Some(tile) = Tile::parse(path)
    {
        assert_eq!(tile.to_string(), path, "a tile has one name");
        assert!((1..=WIDTH).contains(&tile.width()));
        assert!(tile.is_full() || tile.to_string().starts_with(&tile.partials()));
    }
    let [size, level, index, bytes @ ..] = data else {
        return;
    };
    let size = u64::from(*size) * 7;
    let name = format!("tile/{}/{index:03}", level % (MAX_LEVEL + 1));
    let width = bytes.len() as u64 / 32;
    let name = match width {
        1..WIDTH => format!("{name}.p/{width}"),
        _ => name,
    };
    let Some(tile) = Tile::parse(&name) else {
        return;
    };
    let mut tiles = Tiles::new(size);
    let taken = tiles.insert(tile, bytes);
    assert_eq!(taken, bytes.len() as u64 == tile.width() * 32);
    if size == 0 {
        return;
    }
    if let Ok(root) = root(&tiles, size) {
        // One tile is enough for a tree that it holds whole.
        let hashes: Vec<Hash> = bytes
            .as_chunks::<32>()
            .0
            .iter()
            .map(|hash| Hash::from_bytes(*hash))
            .collect();
        assert_eq!(root, root_of(&hashes, size));
    }
    let _ = tiles.node(0, size - 1);
}

/// The document, as JSON, between two checkpoints of a log of nine leaves.
fn document(data: &[u8]) {
    let leaves = leaves(9);
    let at = |size| Checkpoint {
        origin: "gateway.example/log".to_owned(),
        size,
        root: root_of(&leaves, size),
    };
    let right = ConsistencyProof::new(&at(9).origin, 5, 9, path_of(&leaves, 5, 9));
    let written = serde_json::to_vec(&right).expect("ours can be written");
    for text in [patched(&written, data), data.to_vec()] {
        let Ok(read) = json::from_slice::<ConsistencyProof>(&text) else {
            continue;
        };
        if judge(&at(5), &at(9), Some(&read)).is_ok() {
            assert_eq!(read, right, "another document is accepted");
        }
        let forked = Checkpoint {
            root: Hash::of(b"another past"),
            ..at(5)
        };
        assert!(judge(&forked, &at(9), Some(&read)).is_err());
    }
}

/// An export that passes, and what it is read with.
static EXPORT: LazyLock<(Vec<u8>, Options)> = LazyLock::new(|| {
    let story = Story::apply();
    let bundle = seal(story.evidence(), &story.keys);
    let key = &story.keys.close;
    let exporter = Exporter {
        key: &key.did(),
        at: start().plus_seconds(3600),
        file: Hash::of(&bundle.to_file()),
    };
    let unsigned = bundle.to_clawsig(1, &exporter).expect("it has one part");
    let signature = key.sign(unsigned.message());
    let export = unsigned.attach(signature).expect("it is by the key");
    (export.to_jcs(), options(&story.keys))
});

fn options(keys: &Keys) -> Options {
    let root = serde_json::to_vec(&keys.trust_root()).expect("a trust root is JSON");
    Options::from_trust(&root).expect("it is one")
}

/// Files of the public family: whatever is changed in an export that passes, what still passes
/// means the same.
pub fn clawsig(data: &[u8]) {
    let (honest, options) = &*EXPORT;
    for text in [patched(honest, data), data.to_vec()] {
        let report = clawsig::verify(&text, options);
        if report.verdict == clawsig::Verdict::Pass
            && report.kind == clawsig::FileKind::ExportBundle
        {
            let read = json::parse(&text, Numbers::Any).expect("it was read");
            assert_eq!(read.to_jcs(), *honest, "another export passes");
        }
    }
}
