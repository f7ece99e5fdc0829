//! Who has to approve, and for how long that counts.

use proof::approval::is_same_person;

use super::{Approvals, Dimension, Probes, Question};
use crate::contract::Contract;

/// The new contract's smallest sets of approvers decide: whoever else approved besides helps the
/// old one only. Which approvals count depends on the person who opened the job, so the openers are
/// asked one by one: nobody who approves, and each of the new approvers, since the old contract's
/// others are in no smallest set. Of the sets that suffice for an opener, the one with the fewest
/// whom the old contract counts is the hardest for it; an approval counts the less the older it
/// is. So one set for each opener is enough, fresh and as old as can be.
pub(super) fn probe(probes: &mut Probes<'_>) {
    let (old, new) = (probes.old.contract(), probes.new.contract());
    let apply = &new.permissions.apply;
    // Otherwise everything that is new about applies was asked with the calls.
    if !(apply.allowed && apply.requires_approval && old.permissions.apply.allowed) {
        return;
    }
    let everyone = apply.approvers.iter().map(|one| Some(one.as_str()));
    for opener in std::iter::once(None).chain(everyone) {
        let by = hardest(old, new, opener);
        for age_seconds in [0, apply.approval_ttl_seconds - 1] {
            let approvals = Approvals {
                by: by.clone(),
                opener: opener.map(str::to_owned),
                age_seconds,
            };
            probes.ask(Dimension::Approvals, Question::Approved(approvals));
        }
    }
    probes.ask(Dimension::Approvals, Question::Wish);
}

/// As few as the new contract needs, of those whom it counts; first those whom the old one does
/// not.
fn hardest(old: &Contract, new: &Contract, opener: Option<&str>) -> Vec<String> {
    let counted = |contract: &Contract, address: &str| {
        let apply = &contract.permissions.apply;
        let barred = opener.filter(|_| !apply.opener_may_approve);
        apply.approvers.iter().any(|one| one.as_str() == address)
            && !barred.is_some_and(|opener| is_same_person(opener, address))
    };
    let apply = &new.permissions.apply;
    let approvers = apply.approvers.iter().map(|one| one.as_str());
    let mut approvers: Vec<&str> = approvers.filter(|one| counted(new, one)).collect();
    approvers.sort_by_key(|one| counted(old, one));
    let addresses = approvers.into_iter().take(apply.min_approvals as usize);
    addresses.map(str::to_owned).collect()
}
