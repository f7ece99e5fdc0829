//! Consistency: that a tree begins with exactly the leaves of a smaller one.

use super::{Nodes, empty_root, left_size, node_hash, range_root};
use crate::hash::Hash;

/// The hashes that lead from the tree of the first `old` leaves to that of `size` leaves
/// (RFC 6962, 2.1.2). `old` must be at most `size`; for 0 and for `size` itself there are none.
///
/// # Errors
/// Those of `nodes`.
pub fn consistency_path<N: Nodes + ?Sized>(
    nodes: &N,
    old: u64,
    size: u64,
) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    if old == 0 || old >= size {
        return Ok(path);
    }
    // The subtree that holds the old tree's last leaf, and how many of its leaves are old.
    let (mut start, mut width, mut within) = (0, size, old);
    while within != width {
        let left = left_size(width);
        if within <= left {
            path.push(range_root(nodes, start + left, width - left)?);
            width = left;
        } else {
            path.push(range_root(nodes, start, left)?);
            start += left;
            width -= left;
            within -= left;
        }
    }
    // A subtree that begins at 0 is the old tree itself, whose root the verifier has.
    if start > 0 {
        path.push(range_root(nodes, start, width)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether the tree of `size` leaves with this `root` begins with the tree of `old` leaves with
/// `old_root` (RFC 9162, 2.1.4.2). The empty tree is the beginning of every tree.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    size: u64,
    root: &Hash,
    path: &[Hash],
) -> bool {
    if old > size {
        return false;
    }
    if old == size {
        return path.is_empty() && old_root == root && (size > 0 || *root == empty_root());
    }
    if old == 0 {
        return path.is_empty() && *old_root == empty_root();
    }
    // A complete old tree is a node on the way; its root is left out of the path.
    let (first, rest) = match path.split_first() {
        _ if old.is_power_of_two() => (old_root, path),
        Some(split) => split,
        None => return false,
    };
    let (mut fn_, mut sn) = (old - 1, size - 1);
    while fn_ & 1 == 1 {
        fn_ >>= 1;
        sn >>= 1;
    }
    let (mut old_hash, mut hash) = (*first, *first);
    for sibling in rest {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            old_hash = node_hash(sibling, &old_hash);
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
    sn == 0 && old_hash == *old_root && hash == *root
}

#[cfg(test)]
mod tests {
    use super::super::{leaf_hash, root};
    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn every_pair_of_sizes_is_proven_and_nothing_else() {
        for size in 0..40u64 {
            let leaves = leaves(size);
            let whole = root(leaves.as_slice(), size).unwrap();
            for old in 0..=size {
                let begun = root(leaves.as_slice(), old).unwrap();
                let path = consistency_path(leaves.as_slice(), old, size).unwrap();
                assert!(verify_consistency(old, &begun, size, &whole, &path));
                let forged = leaf_hash(b"forged");
                assert!(!verify_consistency(old, &forged, size, &whole, &path));
                if old < size {
                    // Nothing contradicts an empty beginning.
                    let judged = verify_consistency(old, &begun, size, &forged, &path);
                    assert_eq!(judged, old == 0, "{old} of {size}");
                }
                let longer = [path.as_slice(), &[forged]].concat();
                assert!(!verify_consistency(old, &begun, size, &whole, &longer));
                for n in 0..path.len() {
                    assert!(!verify_consistency(old, &begun, size, &whole, &path[..n]));
                    assert!(!verify_consistency(
                        old,
                        &begun,
                        size,
                        &whole,
                        &path[n + 1..]
                    ));
                    let mut changed = path.clone();
                    changed[n] = forged;
                    assert!(!verify_consistency(old, &begun, size, &whole, &changed));
                }
                assert!(!verify_consistency(size + 1, &begun, size, &whole, &path));
            }
        }
    }

    #[test]
    fn another_past_is_not_the_beginning() {
        let mut leaves = leaves(21);
        let whole = root(leaves.as_slice(), 21).unwrap();
        let path = consistency_path(leaves.as_slice(), 13, 21).unwrap();
        leaves[5] = leaf_hash(b"rewritten");
        let other = root(leaves.as_slice(), 13).unwrap();
        assert!(!verify_consistency(13, &other, 21, &whole, &path));
        let rewritten = root(leaves.as_slice(), 21).unwrap();
        let proof = consistency_path(leaves.as_slice(), 13, 21).unwrap();
        assert!(verify_consistency(13, &other, 21, &rewritten, &proof));
        assert!(!verify_consistency(13, &other, 21, &whole, &proof));
    }
}
