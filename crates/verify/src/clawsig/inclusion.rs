//! Inclusion proofs of the family's public log.
//!
//! Its tree has no prefixes for leaves and nodes and repeats the last node of an odd level; the
//! root's signature covers the root alone. So a proof says that a key signed a root under which
//! the leaf lies, and neither how large the log was nor whose log it is: any key is accepted, as
//! the reference does. Our own log ([`proof::merkle`]) has none of this.

use proof::{Did, Hash, Json};

use super::envelope;
use super::shape::{self, Kind};
use super::{Fault, entries, fault, text};

const INVALID: &str = "INCLUSION_PROOF_INVALID";

/// The proof's members, without what it proves.
pub(super) fn shapes(proof: &Json, place: &str) -> Result<(), Fault> {
    let required = [
        ("proof_version", Kind::Const("1")),
        ("log_id", Kind::Text),
        ("tree_size", Kind::Number(1 << 53)),
        ("leaf_hash_b64u", Kind::Base64),
        ("root_hash_b64u", Kind::Base64),
        ("audit_path", Kind::Array { most: 64 }),
        ("root_published_at", Kind::Time),
        ("root_signature", Kind::Object),
    ];
    shape::closed(proof, place, &required, &[("metadata", Kind::Object)])?;
    for (n, sibling) in entries(proof, "audit_path").iter().enumerate() {
        shape::value(sibling, Kind::Base64, &format!("{place}/audit_path/{n}"))?;
    }
    let signature = proof.get("root_signature").unwrap_or(&Json::Null);
    let required = [("signer_did", Kind::AnyDid), ("sig_b64u", Kind::Base64)];
    shape::closed(
        signature,
        &format!("{place}/root_signature"),
        &required,
        &[],
    )
}

/// Checks that the leaf lies under the root, and that the root is signed.
pub(super) fn check(proof: &Json, place: &str) -> Result<(), Fault> {
    shapes(proof, place)?;
    let number = |json: Option<&Json>| json.and_then(Json::as_integer).map(i64::unsigned_abs);
    let wrong = |name: &str, detail: &str| fault(INVALID, format!("{place}/{name}"), detail);
    let index = proof.at(&["metadata", "leaf_index"]);
    let index = index.filter(|index| index.as_integer().is_some_and(|index| index >= 0));
    let Some(index) = number(index) else {
        return Err(wrong(
            "metadata/leaf_index",
            "missing, or not a whole number",
        ));
    };
    let size = number(proof.get("tree_size")).filter(|size| *size > 0);
    let size = size.ok_or_else(|| wrong("tree_size", "not a positive whole number"))?;
    if index >= size {
        return Err(wrong("metadata/leaf_index", "beyond the tree"));
    }
    let path = entries(proof, "audit_path");
    if path.len() as u32 != height(size) {
        return Err(wrong("audit_path", "not as long as the tree is high"));
    }
    let signature = proof.get("root_signature").unwrap_or(&Json::Null);
    let root = text(proof, "root_hash_b64u");
    if text(signature, "signer_did").parse::<Did>().is_err() {
        let place = format!("{place}/root_signature/signer_did");
        return Err(fault("INVALID_DID_FORMAT", place, "not an Ed25519 did:key"));
    }
    if !envelope::signed_by(signature, ("signer_did", "sig_b64u"), root) {
        let place = format!("{place}/root_signature/sig_b64u");
        return Err(fault("SIGNATURE_INVALID", place, "not by the signer"));
    }
    let hash = |json: &str| json.parse::<Hash>().ok();
    let leaf = hash(text(proof, "leaf_hash_b64u"));
    let leaf = leaf.ok_or_else(|| wrong("leaf_hash_b64u", "not a SHA-256 hash"))?;
    let siblings: Option<Vec<Hash>> = path.iter().map(|s| hash(s.as_str()?)).collect();
    let siblings = siblings.ok_or_else(|| wrong("audit_path", "not SHA-256 hashes"))?;
    if root_over(leaf, index, &siblings).to_string() == root {
        Ok(())
    } else {
        Err(wrong("root_hash_b64u", "the path leads elsewhere"))
    }
}

/// Levels above the leaves of a tree of so many, at least one.
fn height(size: u64) -> u32 {
    u64::BITS - (size - 1).leading_zeros()
}

fn root_over(leaf: Hash, index: u64, siblings: &[Hash]) -> Hash {
    let (mut hash, mut index) = (leaf, index);
    for sibling in siblings {
        let (left, right) = match index % 2 {
            0 => (&hash, sibling),
            _ => (sibling, &hash),
        };
        hash = Hash::of_parts([left.as_bytes().as_slice(), right.as_bytes()]);
        index /= 2;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_halved_upwards() {
        let halved = |mut size: u64| {
            let mut levels = 0;
            while size > 1 {
                size = size.div_ceil(2);
                levels += 1;
            }
            levels
        };
        for size in (1..300).chain([1 << 32, (1 << 32) + 1, 1 << 53]) {
            assert_eq!(height(size), halved(size), "{size}");
        }
    }
}
