//! Two checkpoints of one log, and the document that proves that the later one continues the
//! earlier one.
//!
//! The document holds hashes and nothing that has to be believed: whoever has both signed
//! checkpoints computes both roots from it.

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::hash::Hash;
use crate::merkle;

/// The document's kind and version.
pub const CONSISTENCY: &str = "clawgate.consistency/1";

/// Longest path: two hashes for each level of the largest tree.
const MAX_PATH: usize = 128;

/// `consistency.json`: that the log of `to` leaves begins with the log of `from` leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyProof {
    /// Always [`CONSISTENCY`].
    pub consistency: String,
    /// The log's name.
    pub origin: String,
    /// Leaves of the earlier tree.
    pub from: u64,
    /// Leaves of the later one.
    pub to: u64,
    /// RFC 6962, 2.1.2.
    pub path: Vec<Hash>,
}

impl ConsistencyProof {
    /// The document with this path.
    pub fn new(origin: &str, from: u64, to: u64, path: Vec<Hash>) -> Self {
        Self {
            consistency: CONSISTENCY.to_owned(),
            origin: origin.to_owned(),
            from,
            to,
            path,
        }
    }
}

/// What is wrong between two checkpoints of one log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// The log's key signed two roots for one size: the log was forked, and both notes together
    /// prove it to anybody.
    #[error("two checkpoints of size {size} have different roots: the log was forked")]
    Forked {
        /// Of both.
        size: u64,
    },
    /// The path does not lead from the one root to the other.
    #[error("the path does not lead from the root at size {from} to the root at size {to}")]
    Invalid {
        /// Leaves of the earlier checkpoint.
        from: u64,
        /// Leaves of the later one.
        to: u64,
    },
    /// There is no proof, and without one nothing can be said.
    #[error("a proof from size {from} to size {to} is needed")]
    Missing {
        /// Leaves of the earlier checkpoint.
        from: u64,
        /// Leaves of the later one.
        to: u64,
    },
    /// A document of another kind, or about other sizes or another log.
    #[error(
        "the proof is of another kind, of another log, or about other sizes than {from} to {to}"
    )]
    OtherProof {
        /// Leaves of the earlier checkpoint.
        from: u64,
        /// Leaves of the later one.
        to: u64,
    },
}

/// Whether one of two checkpoints of the same log continues the other; which is the later one
/// follows from their sizes. Signatures were checked before.
///
/// # Errors
/// See [`Inconsistent`].
pub fn judge(
    one: &Checkpoint,
    other: &Checkpoint,
    proof: Option<&ConsistencyProof>,
) -> Result<(), Inconsistent> {
    let (old, new) = if one.size <= other.size {
        (one, other)
    } else {
        (other, one)
    };
    let (from, to) = (old.size, new.size);
    if from == to {
        return match old.root == new.root {
            true => Ok(()),
            false => Err(Inconsistent::Forked { size: from }),
        };
    }
    let continues =
        |path: &[Hash]| merkle::verify_consistency(from, &old.root, to, &new.root, path);
    let Some(proof) = proof else {
        // An empty log is the beginning of every log, and that needs no proof.
        return match from == 0 && continues(&[]) {
            true => Ok(()),
            false => Err(Inconsistent::Missing { from, to }),
        };
    };
    if proof.consistency != CONSISTENCY
        || proof.origin != old.origin
        || (proof.from, proof.to) != (from, to)
    {
        return Err(Inconsistent::OtherProof { from, to });
    }
    if proof.path.len() <= MAX_PATH && continues(&proof.path) {
        Ok(())
    } else {
        Err(Inconsistent::Invalid { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    #[test]
    fn a_log_continues_itself_and_no_other() {
        let leaves: Vec<Hash> = (0..9u8).map(|n| leaf_hash(&[n])).collect();
        let at = |size: u64| Checkpoint {
            origin: "gateway.example/log".into(),
            size,
            root: merkle::root(leaves.as_slice(), size).unwrap(),
        };
        let path = merkle::consistency_path(leaves.as_slice(), 4, 9).unwrap();
        let proof = ConsistencyProof::new("gateway.example/log", 4, 9, path);
        let (from, to) = (4, 9);
        assert_eq!(judge(&at(4), &at(9), Some(&proof)), Ok(()));
        assert_eq!(judge(&at(9), &at(4), Some(&proof)), Ok(()), "either order");
        assert_eq!(judge(&at(9), &at(9), None), Ok(()));
        assert_eq!(judge(&at(0), &at(9), None), Ok(()));
        assert_eq!(
            judge(&at(4), &at(9), None),
            Err(Inconsistent::Missing { from, to })
        );
        let mut forged = at(9);
        forged.root = Hash::of(b"forged");
        assert_eq!(
            judge(&at(9), &forged, None),
            Err(Inconsistent::Forked { size: 9 })
        );
        assert_eq!(
            judge(&at(4), &forged, Some(&proof)),
            Err(Inconsistent::Invalid { from, to })
        );
        for (size, origin, kind) in [
            (3, "gateway.example/log", CONSISTENCY),
            (4, "other.example/log", CONSISTENCY),
            (4, "gateway.example/log", "clawgate.consistency/2"),
        ] {
            let mut other = proof.clone();
            (other.from, other.origin, other.consistency) = (size, origin.into(), kind.into());
            assert_eq!(
                judge(&at(4), &at(9), Some(&other)),
                Err(Inconsistent::OtherProof { from, to })
            );
        }
    }
}
