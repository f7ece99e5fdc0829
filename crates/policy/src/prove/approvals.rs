//! Who has to approve, and for how long that counts.

use super::{Approvals, Dimension, Probes, Question};
use crate::contract::Contract;

/// The new contract's smallest sets of approvers decide: whoever else approved besides helps the
/// old one only. Of those sets the one with the fewest of the old contract's approvers is the
/// hardest for it, and the harder the more of them opened the job; an approval counts for the old
/// one the less the older it is. So one set is enough, with each of its members as the opener,
/// fresh and as old as can be.
pub(super) fn probe(probes: &mut Probes<'_>) {
    let (old, new) = (probes.old.contract(), probes.new.contract());
    let apply = &new.permissions.apply;
    // Otherwise everything that is new about applies was asked with the calls.
    if !(apply.allowed && apply.requires_approval && old.permissions.apply.allowed) {
        return;
    }
    let by = hardest(old, new);
    let openers = std::iter::once(None).chain(by.iter().map(Some));
    for opener in openers {
        for age_seconds in [0, apply.approval_ttl_seconds - 1] {
            let approvals = Approvals {
                by: by.clone(),
                opener: opener.cloned(),
                age_seconds,
            };
            probes.ask(Dimension::Approvals, Question::Approved(approvals));
        }
    }
    probes.ask(Dimension::Approvals, Question::Wish);
}

fn hardest(old: &Contract, new: &Contract) -> Vec<String> {
    let known = &old.permissions.apply.approvers;
    let mut approvers = new.permissions.apply.approvers.clone();
    approvers.sort_by_key(|one| known.contains(one));
    let needed = new.permissions.apply.min_approvals as usize;
    let addresses = approvers.iter().take(needed);
    addresses.map(|one| one.as_str().to_owned()).collect()
}
