//! What a bundle must have before it is sealed.
//!
//! A contract that seals with some witnesses and a timestamp seals with more of them, too. So if
//! there is a bundle that the new one seals and the old one does not, there is one with no more
//! than the new one asks for, and among those the one whose witnesses the old one counts least.

use super::{Dimension, Probes, Question};
use crate::contract::Witnesses;

/// A bundle, by what others said of its checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The witnesses that cosigned it, each once.
    pub by: Vec<String>,
    /// Whether it has a timestamp.
    pub timestamp: bool,
}

pub(super) fn probe(probes: &mut Probes<'_>) {
    let (old, new) = (&probes.old.contract().audit, &probes.new.contract().audit);
    let named = |witnesses: &Option<Witnesses>| -> Vec<String> {
        let names = witnesses.as_ref().and_then(|it| it.names.clone());
        names.unwrap_or_default()
    };
    let counted_before = |name: &String| {
        let before = old.witnesses.as_ref();
        before.is_some_and(|before| before.counts(name))
    };
    let by = match &new.witnesses {
        None => Vec::new(),
        Some(witnesses) => {
            let taken = named(&old.witnesses);
            // Names that the old contract does not list; as many as any contract can ask for.
            let fresh = (0..)
                .map(|n| format!("witness.example/{n}"))
                .filter(|name| !taken.contains(name))
                .take(witnesses.required as usize);
            let mut names = match &witnesses.names {
                Some(names) => names.clone(),
                None => fresh.collect(),
            };
            names.sort_by_key(counted_before);
            names.truncate(witnesses.required as usize);
            names
        }
    };
    let timestamp = new.timestamps;
    probes.ask(
        Dimension::Evidence,
        Question::Sealed(Seen { by, timestamp }),
    );
}
