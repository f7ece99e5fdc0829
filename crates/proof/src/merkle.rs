//! The Merkle tree of RFC 6962: leaves and nodes are hashed under different prefixes, and the
//! shape for any size is fixed, so that a proof fits one tree only.
//!
//! The functions ask for nodes through [`Nodes`], so that a store can answer from tiles and a
//! test from a slice.

use crate::hash::Hash;

mod consistency;

pub use consistency::{consistency_path, verify_consistency};

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

/// Verifies many inclusions in one tree, in ascending order of their indices: neighbours share
/// most of their way to the root, and what they share is hashed once.
///
/// Each answer is that of [`verify_inclusion`], in whatever order the proofs come.
#[derive(Debug)]
pub struct Inclusions<'a> {
    size: u64,
    root: Hash,
    /// The way of the last proof that was good.
    known: Vec<Step<'a>>,
}

/// A node on the way to the root, and the hashes that lead on from it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step<'a> {
    /// Place of the node, and of the last one, in their level.
    index: u64,
    last: u64,
    hash: Hash,
    rest: &'a [Hash],
}

impl<'a> Inclusions<'a> {
    /// Begins with the tree of `size` leaves that has this `root`.
    pub fn new(size: u64, root: Hash) -> Self {
        Self {
            size,
            root,
            known: Vec::new(),
        }
    }

    /// Whether `leaf` is the leaf number `index` of the tree.
    pub fn verify(&mut self, leaf: &Hash, index: u64, path: &'a [Hash]) -> bool {
        if index >= self.size {
            return false;
        }
        let mut way = Vec::with_capacity(path.len() + 1);
        let mut step = Step {
            index,
            last: self.size - 1,
            hash: *leaf,
            rest: path,
        };
        let mut known = self.known.as_slice();
        loop {
            // `last` falls on the way up, so that levels are met in the same order.
            while let [lower, higher @ ..] = known
                && lower.last > step.last
            {
                known = higher;
            }
            if known.first() == Some(&step) {
                way.extend_from_slice(known);
                break;
            }
            way.push(step);
            let Some((sibling, rest)) = step.rest.split_first() else {
                if step.last == 0 && step.hash == self.root {
                    break;
                }
                return false;
            };
            if step.last == 0 {
                return false;
            }
            if step.index & 1 == 1 || step.index == step.last {
                step.hash = node_hash(sibling, &step.hash);
                while step.index & 1 == 0 && step.index != 0 {
                    step.index >>= 1;
                    step.last >>= 1;
                }
            } else {
                step.hash = node_hash(&step.hash, sibling);
            }
            step.index >>= 1;
            step.last >>= 1;
            step.rest = rest;
        }
        self.known = way;
        true
    }
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

    /// Every proof of a tree with every kind of damage, in order and out of order.
    #[test]
    fn many_inclusions_are_judged_like_each_one() {
        for size in 1..40u64 {
            let leaves = leaves(size as usize);
            let root = root(leaves.as_slice(), size).unwrap();
            let mut cases = Vec::new();
            for index in 0..size {
                let leaf = leaves[index as usize];
                let path = inclusion_path(leaves.as_slice(), index, size).unwrap();
                for other in [index + 1, index ^ 1, index / 2, size] {
                    cases.push((leaf, other, path.clone()));
                }
                cases.push((leaf_hash(b"forged"), index, path.clone()));
                cases.push((leaf, index, [path.as_slice(), &[leaf]].concat()));
                for n in 0..path.len() {
                    cases.push((leaf, index, path[..n].to_vec()));
                    let mut changed = path.clone();
                    changed[n] = leaf_hash(b"forged");
                    cases.push((leaf, index, changed));
                }
                cases.push((leaf, index, path));
            }
            let backwards: Vec<_> = cases.iter().rev().cloned().collect();
            for cases in [cases, backwards] {
                let mut many = Inclusions::new(size, root);
                for (leaf, index, path) in &cases {
                    let one = verify_inclusion(leaf, *index, size, path, &root);
                    assert_eq!(many.verify(leaf, *index, path), one, "{index} of {size}");
                }
            }
        }
    }

    #[test]
    fn a_node_cannot_pass_for_a_leaf() {
        let leaves = leaves(2);
        let forged = [leaves[0].as_bytes().as_slice(), leaves[1].as_bytes()].concat();
        assert_ne!(leaf_hash(&forged), root(leaves.as_slice(), 2).unwrap());
    }
}
