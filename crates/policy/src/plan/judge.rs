//! Whether a contract allows what a plan would do.

use super::{PlanFacts, Violation};
use crate::contract::{Action, Contract, ProviderSource, Unpriced};
use crate::cost::CostFacts;
use crate::reason::{ReasonCode, quoted};
use crate::rules;

/// Judges a plan. Empty means that a person may be asked to approve it, or, in a contract
/// without approval, that it may be applied.
///
/// `cost` is `None` when upstream gave no finished estimate.
pub fn judge(contract: &Contract, facts: &PlanFacts, cost: Option<&CostFacts>) -> Vec<Violation> {
    let mut found = judge_unpriced(contract, facts);
    money(contract, cost, &mut found);
    found
}

/// Judges a plan that has no price yet: everything but what the contract says about money. Empty
/// means that nothing is wrong so far, never that it may be applied.
pub fn judge_unpriced(contract: &Contract, facts: &PlanFacts) -> Vec<Violation> {
    let mut found = Vec::new();
    if !facts.complete && !contract.permissions.run.targets {
        violation(
            &mut found,
            ReasonCode::PlanIncomplete,
            "the plan",
            "covers only a part of the configuration",
        );
    }
    resources(contract, facts, &mut found);
    limits(contract, facts, &mut found);
    sources(contract, facts, &mut found);
    found
}

fn violation(found: &mut Vec<Violation>, code: ReasonCode, subject: &str, why: &str) {
    let message = format!("{subject} {why}");
    found.push(Violation {
        code,
        subject: subject.to_owned(),
        message,
    });
}

fn resources(contract: &Contract, facts: &PlanFacts, found: &mut Vec<Violation>) {
    let denied = &contract.permissions.resources.deny_actions;
    for resource in &facts.resources {
        if !rules::resource_type(contract, &resource.kind) {
            let why = format!(
                "is of type {}, which is not allowed",
                quoted(&resource.kind)
            );
            violation(found, ReasonCode::PlanResourceType, &resource.address, &why);
        }
        for action in &resource.actions {
            // A replacement ends one object and begins another: whoever denies either denies it.
            let broken = denied.iter().find(|denied| match action {
                Action::Replace => {
                    matches!(denied, Action::Replace | Action::Delete | Action::Create)
                }
                action => *denied == action,
            });
            if let Some(denied) = broken {
                let (action, denied) = (action.as_str(), denied.as_str());
                let why = format!("would {action}, and {denied} is denied");
                violation(found, ReasonCode::PlanActionDenied, &resource.address, &why);
            }
        }
    }
}

fn limits(contract: &Contract, facts: &PlanFacts, found: &mut Vec<Violation>) {
    let max = contract.permissions.resources.max_changes;
    let changes = facts.changes;
    for (name, count, limit) in [
        (
            "create",
            changes.create.saturating_add(changes.replace),
            max.create,
        ),
        ("update", changes.update, max.update),
        (
            "delete",
            changes.delete.saturating_add(changes.replace),
            max.delete,
        ),
    ] {
        if let Some(limit) = limit.filter(|limit| count > *limit) {
            let why = format!("would {name} {count} objects; at most {limit} are allowed");
            violation(found, ReasonCode::PlanTooManyChanges, "the plan", &why);
        }
    }
}

fn sources(contract: &Contract, facts: &PlanFacts, found: &mut Vec<Violation>) {
    for provider in &facts.providers {
        let allowed =
            ProviderSource::new(provider).is_some_and(|source| rules::provider(contract, &source));
        if !allowed {
            let subject = quoted(provider);
            violation(
                found,
                ReasonCode::PlanProvider,
                &subject,
                "is a provider that is not allowed",
            );
        }
    }
    for argument in &facts.provider_arguments {
        let named = ProviderSource::new(&argument.provider)
            .is_some_and(|source| rules::names_provider(contract, &source));
        if let Some(why) = rules::provider_argument(&argument.name, named) {
            let why = format!("argument {} {why}", quoted(&argument.name));
            let subject = quoted(&argument.provider);
            violation(found, ReasonCode::PlanProvider, &subject, &why);
        }
    }
    for module in &facts.modules {
        if !rules::module(contract, &module.source, module.version.as_deref()) {
            let why = format!(
                "comes from {}, which is not allowed",
                quoted(&module.source)
            );
            violation(found, ReasonCode::PlanModule, &module.address, &why);
        }
    }
    for data in &facts.data_sources {
        // Whose state a data source reads was judged in the upload; modules from elsewhere were not
        // in it.
        let judged = !rules::reads_state(&data.kind) || in_upload(facts, &data.address);
        if !judged || !rules::data_source(contract, &data.kind) {
            let why = format!("reads {}, which is not allowed", quoted(&data.kind));
            violation(found, ReasonCode::PlanDataSource, &data.address, &why);
        }
    }
    if !rules::provisioners(contract) {
        for provisioner in &facts.provisioners {
            let why = format!("has the provisioner {}", quoted(&provisioner.kind));
            violation(
                found,
                ReasonCode::PlanProvisioner,
                &provisioner.address,
                &why,
            );
        }
    }
}

/// Whether an address lies in the root module or in modules of the upload only.
fn in_upload(facts: &PlanFacts, address: &str) -> bool {
    let around = facts.modules.iter().filter(|module| {
        address
            .strip_prefix(module.address.as_str())
            .is_some_and(|rest| rest.starts_with(['.', '[']))
    });
    around
        .into_iter()
        .all(|module| rules::is_local(&module.source))
}

fn money(contract: &Contract, cost: Option<&CostFacts>, found: &mut Vec<Violation>) {
    let Some(budget) = &contract.permissions.cost else {
        return;
    };
    // What has no price is left to people only where people are asked.
    let asked = contract.permissions.apply.requires_approval;
    let refused = budget.unpriced == Unpriced::Refuse || !asked;
    let Some(cost) = cost else {
        if refused {
            let why = "has no finished cost estimate";
            violation(found, ReasonCode::CostUnknown, "the plan", why);
        }
        return;
    };
    if cost.unmatched_resources > 0 && refused {
        let why = format!("has {} resources without a price", cost.unmatched_resources);
        violation(found, ReasonCode::CostUnpriced, "the plan", &why);
    }
    let delta = cost.delta_monthly_usd;
    if let Some(max) = budget.max_monthly_delta_usd.filter(|max| delta > *max) {
        let why = format!("raises the monthly cost by {delta} USD; at most {max} is allowed");
        violation(found, ReasonCode::CostDelta, "the plan", &why);
    }
    let total = cost.proposed_monthly_usd;
    if let Some(max) = budget.max_monthly_total_usd.filter(|max| total > *max) {
        let why = format!("leads to {total} USD a month; at most {max} is allowed");
        violation(found, ReasonCode::CostTotal, "the plan", &why);
    }
}
