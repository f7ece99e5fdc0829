//! Uploads and plans.
//!
//! An upload passes when each thing in it does, and a plan when each object in it does, the
//! numbers are within their limits and so is the price. So one thing at a time is enough. A
//! number of changes of one kind is reached by that kind alone: replacements count as two kinds,
//! and who denies one of those denies replacements. A price is asked with what is cheapest beside
//! it, because the total holds the rise.

use proof::Hash;

use super::language::{Language, Undecided};
use super::{Dimension, Factor, Part, Probes, Question};
use crate::contract::{Action, Contract, MaxChanges, ProviderSource};
use crate::cost::CostFacts;
use crate::decimal::Decimal;
use crate::plan::{Changes, MAX_CHANGES, PlanFacts, ResourceChange};
use crate::reason::ReasonCode;
use crate::rules;

/// Longest name of a type that is looked for; providers' own have up to about 80 bytes.
const LONGEST_TYPE: usize = 512;

pub(super) fn probe(probes: &mut Probes<'_>) {
    uploads(probes);
    let types = match types(probes.old.contract(), probes.new.contract()) {
        Ok(types) => types,
        Err(Undecided) => {
            probes.undecided.push(Dimension::ResourceTypes);
            Factor {
                shared: None,
                fresh: Vec::new(),
            }
        }
    };
    let nothing = priced(empty(), Decimal::ZERO, Decimal::ZERO);
    let gate = match probes.old.contract().allows_plan() {
        true => Dimension::Apply,
        false => Dimension::Operations,
    };
    probes.ask(gate, nothing.clone());
    if probes.is_new(&nothing, &nothing) {
        return;
    }
    for kind in &types.fresh {
        for action in Action::ALL.iter().copied().map(Some).chain([None]) {
            probes.ask(Dimension::ResourceTypes, free(changes(kind, action, 1)));
        }
    }
    if let Some(kind) = &types.shared {
        actions(probes, kind);
    }
    let mut partial = empty();
    partial.complete = false;
    probes.ask(Dimension::RunOptions, free(partial));
    prices(probes);
}

fn actions(probes: &mut Probes<'_>, kind: &str) {
    let max = probes.old.contract().permissions.resources.max_changes;
    for action in Action::ALL.iter().copied() {
        let one = free(changes(kind, Some(action), 1));
        let is_count = one.answer(probes.old).code == Some(ReasonCode::PlanTooManyChanges);
        let dimension = match is_count {
            true => Dimension::ResourceCounts,
            false => Dimension::ResourceActions,
        };
        probes.ask(dimension, one);
        // Plans with more changes than these are not judged, but refused.
        let limit = limit(max, action).filter(|limit| (*limit as usize) < MAX_CHANGES);
        if let Some(limit) = limit {
            let many = free(changes(kind, Some(action), limit + 1));
            probes.ask(Dimension::ResourceCounts, many);
        }
    }
}

const fn limit(max: MaxChanges, action: Action) -> Option<u32> {
    match action {
        Action::Create => max.create,
        Action::Update => max.update,
        Action::Delete => max.delete,
        _ => None,
    }
}

fn prices(probes: &mut Probes<'_>) {
    let unknown = Question::Plan(Box::new(empty()), None);
    probes.ask(Dimension::Cost, unknown);
    let mut unpriced = priced(empty(), Decimal::ZERO, Decimal::ZERO);
    if let Question::Plan(_, Some(cost)) = &mut unpriced {
        cost.unmatched_resources = 1;
    }
    probes.ask(Dimension::Cost, unpriced);
    let Some(cost) = &probes.old.contract().permissions.cost else {
        return;
    };
    let a_little_more = |amount: Decimal| amount.plus(Decimal::from_units(1));
    if let Some(max) = cost.max_monthly_delta_usd {
        let rise = a_little_more(max);
        let plan = priced(empty(), rise, rise);
        probes.ask(Dimension::Cost, plan);
    }
    if let Some(max) = cost.max_monthly_total_usd {
        let total = a_little_more(max);
        let plan = priced(empty(), total, Decimal::ZERO);
        probes.ask(Dimension::Cost, plan);
    }
}

/// A plan that costs nothing.
fn free(plan: PlanFacts) -> Question {
    priced(plan, Decimal::ZERO, Decimal::ZERO)
}

fn priced(plan: PlanFacts, total: Decimal, rise: Decimal) -> Question {
    let cost = CostFacts {
        prior_monthly_usd: total.minus(rise),
        proposed_monthly_usd: total,
        delta_monthly_usd: rise,
        unmatched_resources: 0,
    };
    Question::Plan(Box::new(plan), Some(cost))
}

/// A plan that changes nothing and uses nothing.
pub(super) fn empty() -> PlanFacts {
    PlanFacts {
        plan_sha256_b64u: Hash::of(b""),
        raw_sha256_b64u: Hash::of(b""),
        format_version: "1.2".to_owned(),
        terraform_version: "1.11.4".to_owned(),
        complete: true,
        changes: Changes::default(),
        resources: Vec::new(),
        outputs: Vec::new(),
        providers: Vec::new(),
        provider_arguments: Vec::new(),
        data_sources: Vec::new(),
        modules: Vec::new(),
        provisioners: Vec::new(),
        drifted: 0,
    }
}

/// A plan that does one thing to so many objects of a type; `None` moves them. The objects are
/// alike, and one of them stands for all.
pub(super) fn changes(kind: &str, action: Option<Action>, count: u32) -> PlanFacts {
    let mut plan = empty();
    let counted = match action {
        Some(Action::Create) => &mut plan.changes.create,
        Some(Action::Update) => &mut plan.changes.update,
        Some(Action::Delete) => &mut plan.changes.delete,
        Some(Action::Replace) => &mut plan.changes.replace,
        Some(Action::Forget) => &mut plan.changes.forget,
        Some(Action::Import) => &mut plan.changes.import,
        None => &mut plan.changes.moved,
    };
    *counted = count;
    plan.resources.push(ResourceChange {
        address: format!("{kind}.example"),
        previous_address: action.is_none().then(|| format!("{kind}.before")),
        kind: kind.to_owned(),
        provider: String::new(),
        actions: action.into_iter().collect(),
        deposed: false,
        reason: None,
        diff: Vec::new(),
        left_out: 0,
        not_compared: 0,
    });
    plan
}

/// Types of resources. Those that no wildcard covers are tried one by one, each as it is written;
/// all others are a language.
fn types(old: &Contract, new: &Contract) -> Result<Factor<String>, Undecided> {
    let language = |contract: &Contract| {
        let resources = &contract.permissions.resources;
        Language::new(resources.allow_types.as_deref(), &resources.deny_types)
            .without(rules::MUST_BE_NAMED)
    };
    let written = literals(new.permissions.resources.allow_types.as_deref());
    names([&language(old), &language(new)], written, &|kind| {
        [old, new].map(|contract| rules::resource_type(contract, kind))
    })
}

/// Names without wildcards in a list.
fn literals(globs: Option<&[crate::glob::Glob]>) -> Vec<String> {
    let globs = globs.unwrap_or_default().iter();
    let literals = globs.filter(|glob| glob.is_literal());
    literals.map(|glob| glob.as_str().to_owned()).collect()
}

/// The names of two languages, and of a list of names that are outside of both; `admitted` says
/// of each whether the old and the new contract admit it.
fn names(
    [old, new]: [&Language; 2],
    written: Vec<String>,
    admitted: &dyn Fn(&str) -> [bool; 2],
) -> Result<Factor<String>, Undecided> {
    let found = [
        new.beyond(old, LONGEST_TYPE)?,
        new.shared(old, LONGEST_TYPE)?,
    ];
    let all = written.into_iter().chain(found.into_iter().flatten());
    let mut factor = Factor {
        shared: None,
        fresh: Vec::new(),
    };
    for name in all {
        match admitted(&name) {
            [true, true] => {
                factor.shared.get_or_insert(name);
            }
            [false, true] => factor.fresh.push(name),
            [_, false] => {}
        }
    }
    Ok(factor)
}

fn uploads(probes: &mut Probes<'_>) {
    let nothing = Question::Upload(Part::Nothing);
    probes.ask(Dimension::Operations, nothing.clone());
    if probes.is_new(&nothing, &nothing) {
        return;
    }
    let (old, new) = (probes.old.contract(), probes.new.contract());
    let ask =
        |probes: &mut Probes<'_>, dimension, part| probes.ask(dimension, Question::Upload(part));
    for kind in literals(new.permissions.resources.allow_types.as_deref()) {
        ask(probes, Dimension::ResourceTypes, Part::ResourceType(kind));
    }
    for source in providers(old, new) {
        ask(probes, Dimension::Providers, Part::Provider(source.clone()));
        // Whoever names a provider knows its address.
        let argument = Part::ProviderArgument(source, "host");
        ask(probes, Dimension::Providers, argument);
    }
    for source in modules(old, new) {
        for version in [None, Some("1.0.0")] {
            let part = Part::Module(source.clone(), version);
            ask(probes, Dimension::Modules, part);
        }
    }
    match data_sources(old, new) {
        Ok(kinds) => {
            for kind in kinds.fresh {
                ask(probes, Dimension::DataSources, Part::DataSource(kind));
            }
        }
        Err(Undecided) => probes.undecided.push(Dimension::DataSources),
    }
    ask(probes, Dimension::Provisioners, Part::Provisioner);
    let configuration = new.permissions.configuration.as_ref();
    for id in configuration.map_or(&[][..], |c| &c.remote_state_workspaces) {
        for kind in ["terraform_remote_state", "tfe_outputs"] {
            let part = Part::RemoteState(kind, id.as_str().to_owned());
            ask(probes, Dimension::RemoteState, part);
        }
    }
}

/// Providers that the new contract lists, or one that an old list has not.
fn providers(old: &Contract, new: &Contract) -> Vec<ProviderSource> {
    let listed = |contract: &Contract| {
        let configuration = contract.permissions.configuration.as_ref();
        configuration.and_then(|c| c.providers.clone())
    };
    let public = || {
        let known = ["random", "null", "time", "archive"].map(str::to_owned);
        let others = (0..).map(|n| format!("example{n}"));
        let all = known.into_iter().chain(others);
        all.filter_map(|name| ProviderSource::new(&format!("hashicorp/{name}")))
    };
    match (listed(old), listed(new)) {
        (_, Some(new)) => new,
        (Some(old), None) => public()
            .find(|one| !old.contains(one))
            .into_iter()
            .collect(),
        (None, None) => Vec::new(),
    }
}

/// The same of modules.
fn modules(old: &Contract, new: &Contract) -> Vec<String> {
    let listed = |contract: &Contract| {
        let configuration = contract.permissions.configuration.as_ref();
        configuration.and_then(|c| c.modules.clone())
    };
    let mut public = (0..).map(|n| format!("example/module{n}/aws"));
    match (listed(old), listed(new)) {
        (_, Some(new)) => new,
        (Some(old), None) => public.find(|one| !old.contains(one)).into_iter().collect(),
        (None, None) => Vec::new(),
    }
}

/// Types of data sources but those that read states, which are asked with the workspaces.
fn data_sources(old: &Contract, new: &Contract) -> Result<Factor<String>, Undecided> {
    let listed = |contract: &Contract| {
        let configuration = contract.permissions.configuration.as_ref();
        configuration.and_then(|c| c.data_sources.clone())
    };
    let language = |contract: &Contract| {
        Language::new(listed(contract).as_deref(), &[])
            .without(rules::MUST_BE_NAMED)
            .without(rules::REACHES_OUT)
    };
    let mut written = literals(listed(new).as_deref());
    written.retain(|kind| !rules::reads_state(kind));
    names([&language(old), &language(new)], written, &|kind| {
        [old, new].map(|contract| rules::data_source(contract, kind))
    })
}
