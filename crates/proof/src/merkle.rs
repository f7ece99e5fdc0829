//! The Merkle tree of RFC 6962: leaves and nodes are hashed under different prefixes, and the
//! shape for any size is fixed, so that a proof fits one tree only.
//!
//! The functions ask for nodes through [`Nodes`], so that a store can answer from tiles and a
//! test from a slice.

use crate::hash::Hash;

/// Hash of a leaf: SHA-256(0x00 ‖ data).
pub fn leaf_hash(data: &[u8]) -> Hash {
    Hash::of_parts([[0u8].as_slice(), data])
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash::of_parts([[1u8].as_slice(), left.as_bytes(), right.as_bytes()])
}

/// Root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Hash::of(b"")
}

/// Where the hashes of complete subtrees come from.
pub trait Nodes {
    /// What can go wrong when a node is fetched.
    type Error;

    /// Root of the complete subtree over the leaves `index * 2^level .. (index + 1) * 2^level`,
    /// all of which exist.
    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Leaves in memory.
impl Nodes for [Hash] {
    type Error = std::convert::Infallible;

    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let width = 1usize << level;
        let start = usize::try_from(index).expect("the leaf exists, so it fits in memory") * width;
        Ok(complete_root(&self[start..start + width]))
    }
}

/// Root of a complete subtree, whose number of leaves is a power of two.
fn complete_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len() / 2);
            node_hash(&complete_root(left), &complete_root(right))
        }
    }
}

/// Root of the tree over the first `size` leaves.
///
/// # Errors
/// Those of `nodes`.
pub fn root<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 {
        Ok(empty_root())
    } else {
        range_root(nodes, 0, size)
    }
}

/// Root over the leaves `start .. start + size`, where `start` is a multiple of the next power
/// of two of `size`.
fn range_root<N: Nodes + ?Sized>(nodes: &N, start: u64, size: u64) -> Result<Hash, N::Error> {
    if size.is_power_of_two() {
        return nodes.node(size.trailing_zeros(), start / size);
    }
    let left = left_size(size);
    let right = range_root(nodes, start + left, size - left)?;
    Ok(node_hash(&range_root(nodes, start, left)?, &right))
}

/// Largest power of two below `size`, which is at least 2.
fn left_size(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The hashes beside the way from leaf `index` to the root of the tree of `size` leaves, from
/// the leaf upwards. `index` must be below `size`.
///
/// # Errors
/// Those of `nodes`.
pub fn inclusion_path<N: Nodes + ?Sized>(
    nodes: &N,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    let (mut start, mut width) = (0, size);
    while width > 1 {
        let left = left_size(width);
        if index < start + left {
            path.push(range_root(nodes, start + left, width - left)?);
            width = left;
        } else {
            path.push(range_root(nodes, start, left)?);
            start += left;
            width -= left;
        }
    }
    path.reverse();
    Ok(path)
}

/// Whether `leaf` is the leaf number `index` of the tree of `size` leaves with this `root`
/// (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut fn_, mut sn) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            hash = node_hash(sibling, &hash);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    sn == 0 && hash == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    /// The definition of RFC 6962, section 2.1, word by word.
    fn definition(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => empty_root(),
            1 => leaves[0],
            n => {
                let mut k = 1;
                while k * 2 < n {
                    k *= 2;
                }
                node_hash(&definition(&leaves[..k]), &definition(&leaves[k..]))
            }
        }
    }

    #[test]
    fn roots_and_proofs_agree_with_the_definition() {
        for size in 0..70usize {
            let leaves = leaves(size);
            let expected = definition(&leaves);
            let n = size as u64;
            assert_eq!(root(leaves.as_slice(), n).unwrap(), expected, "size {size}");
            for index in 0..n {
                let path = inclusion_path(leaves.as_slice(), index, n).unwrap();
                let leaf = &leaves[index as usize];
                assert!(verify_inclusion(leaf, index, n, &path, &expected));
                for other in (0..n).filter(|other| *other != index) {
                    assert!(!verify_inclusion(leaf, other, n, &path, &expected));
                }
                let mut longer = path.clone();
                longer.push(*leaf);
                assert!(!verify_inclusion(leaf, index, n, &longer, &expected));
                if let Some((_, shorter)) = path.split_last() {
                    assert!(!verify_inclusion(leaf, index, n, shorter, &expected));
                }
                let mut changed = path.clone();
                if let Some(first) = changed.first_mut() {
                    *first = leaf_hash(b"forged");
                    assert!(!verify_inclusion(leaf, index, n, &changed, &expected));
                }
            }
            assert!(!verify_inclusion(&expected, n, n, &[], &expected));
        }
    }

    #[test]
    fn a_node_cannot_pass_for_a_leaf() {
        let leaves = leaves(2);
        let forged = [leaves[0].as_bytes().as_slice(), leaves[1].as_bytes()].concat();
        assert_ne!(leaf_hash(&forged), root(leaves.as_slice(), 2).unwrap());
    }
}
