//! Blocks that several files describe together.
//!
//! `override.tf` and `*_override.tf` change blocks of the other files of their folder: an argument
//! that stands in an override takes the place of the same argument elsewhere. Each piece is judged
//! by itself, which can only refuse more; a rule that needs a block whole asks here.

use std::collections::BTreeMap;

use hcl_edit::expr::Expression;
use hcl_edit::structure::Block;

use super::hcl::Source;

/// A folder, a block type and its labels.
type Key<'a> = (&'a str, &'a str, Vec<&'a str>);

/// Blocks of several files by what they describe, in the order in which Terraform merges them.
pub(super) struct Pieces<'a>(BTreeMap<Key<'a>, Vec<&'a Block>>);

impl<'a> Pieces<'a> {
    /// Collects the blocks that a rule needs whole.
    pub(super) fn collect(sources: &'a [Source<'a>]) -> Self {
        let mut pieces: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let (overrides, primary): (Vec<_>, Vec<_>) =
            sources.iter().partition(|source| is_override(source.path));
        // Files come sorted by path, and that is also how overrides follow each other.
        for source in primary.into_iter().chain(overrides) {
            for block in source.body.blocks() {
                if matches!(block.ident.as_str(), "module" | "data" | "ephemeral") {
                    pieces.entry(key(source, block)).or_default().push(block);
                }
            }
        }
        Self(pieces)
    }

    /// Every argument of a block after all overrides.
    pub(super) fn whole(
        &self,
        source: &'a Source<'a>,
        block: &'a Block,
    ) -> BTreeMap<&'a str, &'a Expression> {
        let alone = vec![block];
        let pieces = self.0.get(&key(source, block)).unwrap_or(&alone);
        pieces
            .iter()
            .flat_map(|piece| piece.body.attributes())
            .map(|attribute| (attribute.key.as_str(), &attribute.value))
            .collect()
    }
}

fn key<'a>(source: &'a Source<'a>, block: &'a Block) -> Key<'a> {
    let labels = block.labels.iter().map(|label| label.as_str()).collect();
    (source.folder(), block.ident.as_str(), labels)
}

fn is_override(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let stem = name
        .strip_suffix(".tf.json")
        .or_else(|| name.strip_suffix(".tf"));
    stem.is_some_and(|stem| stem == "override" || stem.ends_with("_override"))
}
