//! A contract in words, for approvers and for an agent that asks what it may do.

use super::{Contract, OnMissingApproval, RedactionAction, Unpriced};
use crate::egress::HostPattern;
use crate::glob::Glob;

impl Contract {
    /// One sentence per line, the most important first.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let permissions = &self.permissions;
        let workspaces = listed(permissions.workspaces.iter().map(|id| id.as_str()));
        let within = match &permissions.organization {
            Some(organization) => format!(" of organization {organization}"),
            None => String::new(),
        };
        lines.push(if self.allows_plan() {
            format!("Plans may run in {workspaces}{within}.")
        } else {
            format!("{workspaces}{within} may be looked at; no run may be started.")
        });
        lines.push(self.apply_sentence());
        lines.push(
            match (permissions.state_read, permissions.outputs_read) {
                (false, false) => "State and outputs are not readable.",
                (false, true) => "Outputs are readable, sensitive ones excepted; state is not.",
                (true, false) => "State is readable; outputs are not.",
                (true, true) => "State is readable, and so are outputs, sensitive ones excepted.",
            }
            .to_owned(),
        );
        lines.push(self.run_sentence());
        self.resource_sentences(&mut lines);
        self.configuration_sentences(&mut lines);
        self.cost_sentences(&mut lines);
        self.model_sentences(&mut lines);
        if !self.egress_allow_hosts.is_empty() {
            let hosts = self.egress_allow_hosts.iter().map(HostPattern::as_str);
            lines.push(format!(
                "Connections through the egress proxy: {}, and nowhere else.",
                listed(hosts)
            ));
        }
        lines.push(format!(
            "A token lives {} at most.",
            duration(self.max_ttl_seconds)
        ));
        lines.extend(self.audit_sentence());
        lines
    }

    fn audit_sentence(&self) -> Option<String> {
        let witnesses = self.audit.witnesses.as_ref().map(|witnesses| {
            let whose = match &witnesses.names {
                Some(names) => format!(" of {}", listed(names.iter().map(String::as_str))),
                None => String::new(),
            };
            match witnesses.required {
                1 => format!("one witness{whose}"),
                count => format!("{count} witnesses{whose}"),
            }
        });
        let needed = match (witnesses, self.audit.timestamps) {
            (None, false) => return None,
            (Some(witnesses), false) => format!("{witnesses} have seen the log"),
            (None, true) => "a timestamping authority has stamped the log".to_owned(),
            (Some(witnesses), true) => {
                format!("{witnesses} have seen the log and a timestamping authority has stamped it")
            }
        };
        Some(format!("A job's bundle is sealed when {needed}."))
    }

    fn apply_sentence(&self) -> String {
        let apply = &self.permissions.apply;
        if !apply.allowed {
            return "Nothing can be applied: every plan is speculative.".to_owned();
        }
        if !apply.requires_approval {
            return "Plans are applied without a person's approval.".to_owned();
        }
        let approvers = listed(apply.approvers.iter().map(|email| email.as_str()));
        let count = match apply.min_approvals {
            1 => "one approval".to_owned(),
            count => format!("{count} approvals"),
        };
        let meanwhile = match apply.on_missing_approval {
            OnMissingApproval::Hold => "the run is held",
            OnMissingApproval::Reject => "the wish is refused",
        };
        let opener = match apply.opener_may_approve {
            true => "whoever opened the job may be one of them",
            false => "whoever opened the job cannot approve",
        };
        format!(
            "An apply needs {count} of the exact plan by {approvers}, valid for {}; {opener}; until \
             then {meanwhile}.",
            duration(apply.approval_ttl_seconds)
        )
    }

    fn run_sentence(&self) -> String {
        let run = &self.permissions.run;
        let allowed: Vec<&str> = [
            (run.destroy, "destroy"),
            (run.refresh_only, "refresh-only"),
            (run.targets, "targeted"),
            (run.replace, "forced-replacement"),
        ]
        .into_iter()
        .filter_map(|(allowed, name)| allowed.then_some(name))
        .collect();
        let kinds = if allowed.is_empty() {
            "No destroy, refresh-only, targeted or forced-replacement runs".to_owned()
        } else {
            format!("Also allowed: {} runs", allowed.join(", "))
        };
        if run.variables.is_empty() {
            format!("{kinds}; runs set no variables.")
        } else {
            let names = listed(run.variables.iter().map(String::as_str));
            format!("{kinds}; runs may set the variables {names}.")
        }
    }

    fn resource_sentences(&self, lines: &mut Vec<String>) {
        let resources = &self.permissions.resources;
        let globs = |globs: &[Glob]| listed(globs.iter().map(Glob::as_str));
        if let Some(types) = &resources.allow_types {
            lines.push(format!(
                "Only these resource types may change: {}.",
                globs(types)
            ));
        }
        if !resources.deny_types.is_empty() {
            lines.push(format!("Never: {}.", globs(&resources.deny_types)));
        }
        if !resources.deny_actions.is_empty() {
            let actions = listed(resources.deny_actions.iter().map(|action| action.as_str()));
            lines.push(format!("A plan may not {actions} anything."));
        }
        let max = resources.max_changes;
        for (limit, verb) in [
            (max.create, "create"),
            (max.update, "update"),
            (max.delete, "delete"),
        ] {
            if let Some(limit) = limit {
                lines.push(format!("A plan may {verb} at most {limit} objects."));
            }
        }
    }

    fn configuration_sentences(&self, lines: &mut Vec<String>) {
        let Some(configuration) = &self.permissions.configuration else {
            lines.push(
                "Uploads: providers and exactly versioned modules of the public registry, no \
                 provisioners, no data sources that reach out."
                    .to_owned(),
            );
            return;
        };
        if let Some(providers) = &configuration.providers {
            let providers = listed(providers.iter().map(|source| source.as_str()));
            lines.push(format!("Providers: {providers}."));
        }
        if let Some(modules) = &configuration.modules {
            lines.push(format!(
                "Modules: {}.",
                listed(modules.iter().map(String::as_str))
            ));
        }
        if let Some(data) = &configuration.data_sources {
            lines.push(format!(
                "Data sources: {}.",
                listed(data.iter().map(Glob::as_str))
            ));
        }
        if configuration.provisioners {
            lines.push("Provisioners may run.".to_owned());
        }
        if !configuration.remote_state_workspaces.is_empty() {
            let ids = configuration.remote_state_workspaces.iter();
            lines.push(format!(
                "Configurations may read the outputs of {}.",
                listed(ids.map(|id| id.as_str()))
            ));
        }
    }

    fn cost_sentences(&self, lines: &mut Vec<String>) {
        let Some(cost) = &self.permissions.cost else {
            return;
        };
        if let Some(delta) = cost.max_monthly_delta_usd {
            lines.push(format!(
                "A plan may raise the monthly cost by {delta} USD at most."
            ));
        }
        if let Some(total) = cost.max_monthly_total_usd {
            lines.push(format!(
                "The workspace may cost {total} USD a month at most."
            ));
        }
        if cost.unpriced == Unpriced::Refuse {
            lines.push(
                "Resources without a price and plans without an estimate are refused.".to_owned(),
            );
        }
    }

    fn model_sentences(&self, lines: &mut Vec<String>) {
        let Some(models) = &self.models else {
            lines.push("Any model that the operator has configured may be called.".to_owned());
            return;
        };
        if models.providers.is_empty() || models.allowed.is_empty() {
            lines.push("No model may be called.".to_owned());
            return;
        }
        lines.push(format!(
            "Models: {} from {}.",
            listed(models.allowed.iter().map(Glob::as_str)),
            listed(models.providers.iter().map(String::as_str)),
        ));
        if let Some(calls) = models.max_calls {
            lines.push(format!("A job may make {calls} model calls."));
        }
        if let Some(tokens) = models.max_tokens {
            lines.push(format!("A job may use {tokens} model tokens."));
        }
        if let Some(cost) = models.max_cost_usd {
            lines.push(format!("A job may spend {cost} USD on models."));
        }
        if let Some(tools) = &models.tools {
            let globs = |globs: &[Glob]| listed(globs.iter().map(Glob::as_str));
            if let Some(allow) = &tools.allow {
                lines.push(format!(
                    "Tools that models may be offered: {}.",
                    globs(allow)
                ));
            }
            if !tools.deny.is_empty() {
                lines.push(format!(
                    "Tools that models may not be offered: {}.",
                    globs(&tools.deny)
                ));
            }
        }
        for rule in &models.redact {
            let verb = match rule.action {
                RedactionAction::Remove => "removed from",
                RedactionAction::Mask => "masked in",
            };
            let path = rule.path.as_str();
            lines.push(format!("`{path}` is {verb} requests to models."));
        }
        if models.count_exactly {
            lines.push(
                "Answers of models are read to their end, also when the client has left."
                    .to_owned(),
            );
        }
        if models.show_prompts_days > 0 {
            lines.push(format!(
                "Approvers see the end of what the agent asked models before a run; it is kept \
                 until {} days after the run has ended.",
                models.show_prompts_days
            ));
        }
    }
}

/// Joins names as people do; `nothing` for none.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => (*only).to_owned(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
    }
}

pub(crate) fn duration(seconds: u32) -> String {
    let unit = |count: u32, name: &str| {
        if count == 1 {
            format!("1 {name}")
        } else {
            format!("{count} {name}s")
        }
    };
    match seconds {
        s if s % 3600 == 0 => unit(s / 3600, "hour"),
        s if s % 60 == 0 => unit(s / 60, "minute"),
        s => unit(s, "second"),
    }
}
