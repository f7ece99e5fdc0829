//! What a new contract version allows that the old one did not, in words.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::contract::{
    Audit, Contract, OnMissingApproval, RedactionAction, Unpriced, Witnesses, duration, listed,
};
use crate::glob::Glob;

/// The difference of two contracts.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct ContractDiff {
    /// Allowed by the new one and not by the old one.
    pub now_allowed: Vec<String>,
    /// Allowed by the old one and not by the new one.
    pub no_longer_allowed: Vec<String>,
    /// Neither: names, descriptions, who approves and how.
    pub other: Vec<String>,
}

impl ContractDiff {
    /// Whether the two mean the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares two contracts.
pub fn diff(old: &Contract, new: &Contract) -> ContractDiff {
    let mut diff = ContractDiff::default();
    let (before, after) = (rights(old), rights(new));
    diff.now_allowed.extend(after.difference(&before).cloned());
    diff.no_longer_allowed
        .extend(before.difference(&after).cloned());
    // Prohibitions are rights the other way round.
    let (before, after) = (prohibitions(old), prohibitions(new));
    diff.no_longer_allowed
        .extend(after.difference(&before).cloned());
    diff.now_allowed.extend(
        before
            .difference(&after)
            .map(|text| format!("no longer forbidden: {text}")),
    );
    for (old, new) in limits(old).into_iter().zip(limits(new)) {
        limit(&mut diff, &old, &new);
    }
    evidence(&mut diff, &old.audit, &new.audit);
    for (old, new) in manners(old).into_iter().zip(manners(new)) {
        if old != new {
            diff.other
                .push(format!("{}: {} instead of {}", new.0, new.1, old.1));
        }
    }
    diff
}

/// Everything that can be allowed one by one.
fn rights(contract: &Contract) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    let permissions = &contract.permissions;
    let mut add = |holds: bool, text: &str| {
        if holds {
            rights.insert(text.to_owned());
        }
    };
    add(contract.allows_plan(), "start plan runs");
    let apply = &permissions.apply;
    add(
        apply.allowed && apply.requires_approval,
        "apply plans that were approved",
    );
    add(
        apply.allowed && !apply.requires_approval,
        "apply plans without approval",
    );
    add(
        apply.allowed && apply.requires_approval && apply.opener_may_approve,
        "apply plans that whoever opened the job approved",
    );
    add(permissions.state_read, "read state");
    add(permissions.outputs_read, "read outputs");
    let run = &permissions.run;
    add(run.destroy, "start destroy runs");
    add(run.refresh_only, "start refresh-only runs");
    add(run.targets, "start targeted runs");
    add(run.replace, "force replacements");
    for id in &permissions.workspaces {
        add(true, &format!("use workspace {id}"));
    }
    for name in &run.variables {
        add(true, &format!("set the run variable {name}"));
    }
    match &permissions.resources.allow_types {
        None => add(true, "change resources of any type that needs no naming"),
        Some(types) => types
            .iter()
            .for_each(|t| add(true, &format!("change resources of type {t}"))),
    }
    let configuration = permissions.configuration.as_ref();
    match configuration.and_then(|c| c.providers.as_ref()) {
        None => add(true, "use any provider of the public registry"),
        Some(providers) => {
            providers
                .iter()
                .for_each(|p| add(true, &format!("use provider {}", p.as_str())));
        }
    }
    match configuration.and_then(|c| c.modules.as_ref()) {
        None => add(
            true,
            "use any exactly versioned module of the public registry",
        ),
        Some(modules) => modules
            .iter()
            .for_each(|m| add(true, &format!("use module {m}"))),
    }
    match configuration.and_then(|c| c.data_sources.as_ref()) {
        None => add(true, "read any data source that does not reach out"),
        Some(data) => data
            .iter()
            .for_each(|d| add(true, &format!("read data source {d}"))),
    }
    add(
        configuration.is_some_and(|c| c.provisioners),
        "run provisioners",
    );
    for id in configuration.map_or(&[][..], |c| &c.remote_state_workspaces) {
        add(
            true,
            &format!("read the state of workspace {id} in configuration"),
        );
    }
    let cost = permissions.cost.as_ref();
    let refused = cost.is_some_and(|cost| cost.unpriced == Unpriced::Refuse);
    add(!refused, "plan resources without a price");
    match &contract.models {
        None => {
            add(true, "call any model that the operator has configured");
            add(true, "offer any tool to a model");
        }
        Some(models) => {
            for provider in &models.providers {
                let models = listed(models.allowed.iter().map(Glob::as_str));
                add(true, &format!("call models of {provider}: {models}"));
            }
            match models.tools.as_ref().map(|tools| &tools.allow) {
                None | Some(None) => add(true, "offer any tool to a model"),
                Some(Some(globs)) => globs
                    .iter()
                    .for_each(|glob| add(true, &format!("offer the tool {glob} to a model"))),
            }
            let days = models.show_prompts_days;
            add(
                days > 0,
                &format!("have what it asks models kept and shown to approvers for {days} days"),
            );
        }
    }
    for host in &contract.egress_allow_hosts {
        add(true, &format!("connect to {host}"));
    }
    rights
}

fn prohibitions(contract: &Contract) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let permissions = &contract.permissions;
    for kind in &permissions.resources.deny_types {
        found.insert(format!("change resources of type {kind}"));
    }
    for action in &permissions.resources.deny_actions {
        found.insert(format!("{} anything by a plan", action.as_str()));
    }
    if let Some(organization) = &permissions.organization {
        found.insert(format!("leave organization {organization}"));
    }
    if let Some(models) = &contract.models {
        for glob in models.tools.iter().flat_map(|tools| &tools.deny) {
            found.insert(format!("offer the tool {glob} to a model"));
        }
        for rule in &models.redact {
            let path = rule.path.as_str();
            found.insert(match rule.action {
                RedactionAction::Remove => format!("send `{path}` to a model"),
                RedactionAction::Mask => format!("send `{path}` to a model unmasked"),
            });
        }
    }
    found
}

/// A bound: what it bounds, its value for people, and its size; no size is no bound.
type Limit = (&'static str, String, Option<i128>);

fn limits(contract: &Contract) -> Vec<Limit> {
    let count = |name, value: Option<u64>| -> Limit {
        (
            name,
            value.map_or_else(String::new, |v| v.to_string()),
            value.map(i128::from),
        )
    };
    let max = contract.permissions.resources.max_changes;
    let models = contract.models.as_ref();
    let cost = contract.permissions.cost.as_ref();
    let money = |name, value: Option<crate::decimal::Decimal>| -> Limit {
        (
            name,
            value.map_or_else(String::new, |v| format!("{v} USD")),
            value.map(|v| v.units()),
        )
    };
    vec![
        count("objects that a plan creates", max.create.map(u64::from)),
        count("objects that a plan updates", max.update.map(u64::from)),
        count("objects that a plan deletes", max.delete.map(u64::from)),
        count("model calls of a job", models.and_then(|m| m.max_calls)),
        count("model tokens of a job", models.and_then(|m| m.max_tokens)),
        money("model money of a job", models.and_then(|m| m.max_cost_usd)),
        money(
            "rise of the monthly cost",
            cost.and_then(|c| c.max_monthly_delta_usd),
        ),
        money("monthly cost", cost.and_then(|c| c.max_monthly_total_usd)),
        (
            "life of a token",
            duration(contract.max_ttl_seconds),
            Some(i128::from(contract.max_ttl_seconds)),
        ),
    ]
}

fn limit(diff: &mut ContractDiff, old: &Limit, new: &Limit) {
    let name = old.0;
    match (old.2, new.2) {
        (Some(before), Some(after)) if after > before => {
            diff.now_allowed
                .push(format!("{name}: up to {} (before: {})", new.1, old.1));
        }
        (Some(before), Some(after)) if after < before => {
            diff.no_longer_allowed
                .push(format!("{name}: only {} (before: {})", new.1, old.1));
        }
        (Some(_), None) => {
            diff.now_allowed
                .push(format!("{name}: without a limit (before: {})", old.1));
        }
        (None, Some(_)) => {
            diff.no_longer_allowed
                .push(format!("{name}: only {} (before: no limit)", new.1));
        }
        _ => {}
    }
}

/// What a bundle needs before it is sealed: to need less is to allow more.
fn evidence(diff: &mut ContractDiff, old: &Audit, new: &Audit) {
    let required = |audit: &Audit| audit.witnesses.as_ref().map_or(0, |it| it.required);
    let (before, after) = (required(old), required(new));
    let text = |count, other| format!("witnesses of a bundle: {count} (before: {other})");
    match after.cmp(&before) {
        Ordering::Less => diff.now_allowed.push(text(after, before)),
        Ordering::Greater => diff.no_longer_allowed.push(text(after, before)),
        Ordering::Equal => {}
    }
    if let (Some(old), Some(new)) = (&old.witnesses, &new.witnesses) {
        let counted = |more: &Witnesses, less: &Witnesses| match (&more.names, &less.names) {
            (None, Some(_)) => vec!["any witness that the trust root lists".to_owned()],
            (Some(names), Some(_)) => names
                .iter()
                .filter(|it| !less.counts(it))
                .cloned()
                .collect(),
            (_, None) => Vec::new(),
        };
        let words = |name: String| format!("count the word of {name}");
        diff.now_allowed
            .extend(counted(new, old).into_iter().map(words));
        diff.no_longer_allowed
            .extend(counted(old, new).into_iter().map(words));
    }
    let unstamped = "seal a bundle without a timestamp".to_owned();
    match (old.timestamps, new.timestamps) {
        (true, false) => diff.now_allowed.push(unstamped),
        (false, true) => diff.no_longer_allowed.push(unstamped),
        _ => {}
    }
}

fn manners(contract: &Contract) -> Vec<(&'static str, String)> {
    let apply = &contract.permissions.apply;
    let approvers = if apply.allowed && apply.requires_approval {
        listed(apply.approvers.iter().map(|email| email.as_str()))
    } else {
        listed(std::iter::empty())
    };
    let missing = match apply.on_missing_approval {
        OnMissingApproval::Hold => "hold the run",
        OnMissingApproval::Reject => "refuse the wish",
    };
    vec![
        ("name", contract.name.clone()),
        (
            "description",
            contract
                .description
                .clone()
                .unwrap_or_else(|| "none".to_owned()),
        ),
        ("approvers", approvers),
        ("approvals needed", apply.min_approvals.to_string()),
        ("life of an approval", duration(apply.approval_ttl_seconds)),
        ("without an approval", missing.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::EXAMPLE_CONTRACT;

    fn compare(from: &str, to: &str) -> ContractDiff {
        assert!(EXAMPLE_CONTRACT.contains(from), "{from}");
        let new = EXAMPLE_CONTRACT.replacen(from, to, 1);
        let parse = |text: &str| Contract::parse(text.as_bytes()).unwrap();
        diff(&parse(EXAMPLE_CONTRACT), &parse(&new))
    }

    #[test]
    fn says_what_changes_and_in_which_direction() {
        assert!(compare("\"plan\"", "\"plan\"").is_empty());
        let state = "\"state_read\": false";
        for (from, to, now, no_longer, other) in [
            (state, "\"state_read\": true", "read state", "", ""),
            (
                ", \"ws-staging-db\"",
                "",
                "",
                "use workspace ws-staging-db",
                "",
            ),
            (
                "[\"ws-staging-app\"",
                "[\"ws-other\", \"ws-staging-app\"",
                "use workspace ws-other",
                "",
                "",
            ),
            (
                "1800",
                "900",
                "",
                "life of a token: only 15 minutes (before: 30 minutes)",
                "",
            ),
            (
                "1800",
                "3600",
                "life of a token: up to 1 hour (before: 30 minutes)",
                "",
                "",
            ),
            (
                "\"allowed\": true",
                "\"allowed\": false",
                "",
                "apply plans that were approved",
                "approvers: nothing instead of infra-lead@example.com",
            ),
            (
                "\"allowed\": true",
                "\"allowed\": true, \"opener_may_approve\": true",
                "apply plans that whoever opened the job approved",
                "",
                "",
            ),
            (
                "infra-lead@",
                "boss@",
                "",
                "",
                "approvers: boss@example.com instead of infra-lead@example.com",
            ),
            (
                state,
                "\"state_read\": false, \"resources\": {\"deny_types\": [\"aws_iam_*\"]}",
                "",
                "change resources of type aws_iam_*",
                "",
            ),
            (
                state,
                "\"state_read\": false, \"resources\": {\"max_changes\": {\"delete\": 0}}",
                "",
                "objects that a plan deletes: only 0 (before: no limit)",
                "",
            ),
            (
                state,
                "\"state_read\": false, \"run\": {\"destroy\": true}",
                "start destroy runs",
                "",
                "",
            ),
            (
                "\"proof_bundle\": \"required\"",
                "\"proof_bundle\": \"required\", \"witnesses\": {\"required\": 2}",
                "",
                "witnesses of a bundle: 2 (before: 0)",
                "",
            ),
            (
                "\"proof_bundle\": \"required\"",
                "\"proof_bundle\": \"required\", \"timestamps\": true",
                "",
                "seal a bundle without a timestamp",
                "",
            ),
        ] {
            let found = compare(from, to);
            let list = |text: &str| -> Vec<String> {
                if text.is_empty() {
                    Vec::new()
                } else {
                    vec![text.to_owned()]
                }
            };
            assert_eq!(found.now_allowed, list(now), "{to}");
            assert_eq!(found.no_longer_allowed, list(no_longer), "{to}");
            assert_eq!(found.other, list(other), "{to}");
        }
        let types = compare(
            state,
            "\"state_read\": false, \"resources\": {\"allow_types\": [\"aws_*\"]}",
        );
        assert_eq!(types.now_allowed, ["change resources of type aws_*"]);
        assert_eq!(
            types.no_longer_allowed,
            ["change resources of any type that needs no naming"]
        );
    }
}
