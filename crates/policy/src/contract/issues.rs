//! What stands against publishing a contract that reads well, and what its author should know.

use super::Contract;
use crate::egress::{HostPattern, Kind, Reserved, covers_reserved, kind};
use crate::reason::ReasonCode;

/// Members that this version reads but does not enforce. A contract that uses one cannot be
/// published: a rule that is not enforced must not look as if it were. The list gets shorter.
pub const NOT_ENFORCED: &[&str] = &[];

/// What the operator's configuration says about publishing.
#[derive(Debug, Clone, Default)]
pub struct PublicationRules {
    /// Whether contracts may let agents apply without a person.
    pub allow_autonomous_apply: bool,
    /// Hosts that agents reach in another way, besides those that are known to everybody.
    pub reserved_hosts: Vec<(String, Reserved)>,
    /// The names of the witnesses that the gateway asks; `None` when that is not known.
    pub witnesses: Option<Vec<String>>,
    /// Whether the gateway asks a timestamping authority; `None` when that is not known.
    pub timestamps: Option<bool>,
}

/// Whether an issue stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The contract cannot be published.
    Blocks,
    /// It can, but may not mean what its author thinks.
    Warns,
}

/// Something that an author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Where in the contract.
    pub path: &'static str,
    /// Whether it blocks.
    pub severity: Severity,
    /// The code of a blocking issue.
    pub code: Option<ReasonCode>,
    /// In plain words.
    pub message: String,
}

impl Contract {
    /// Everything that stands against publishing, and warnings. Empty for a sound contract.
    pub fn publication_issues(&self, rules: &PublicationRules) -> Vec<Issue> {
        let mut issues = Vec::new();
        let apply = &self.permissions.apply;
        let autonomous = apply.allowed && rules.allow_autonomous_apply;
        if !(apply.requires_approval || autonomous) {
            issues.push(Issue {
                path: "permissions.apply.requires_approval",
                severity: Severity::Blocks,
                code: Some(ReasonCode::ContractAutonomousApply),
                message: "false lets an agent apply without a person; the operator's \
                          configuration does not allow that"
                    .to_owned(),
            });
        }
        for path in NOT_ENFORCED {
            let names: Vec<&str> = path.split('.').collect();
            if self.json().at(&names).is_some() {
                issues.push(Issue {
                    path,
                    severity: Severity::Blocks,
                    code: Some(ReasonCode::ContractNotEnforced),
                    message: "not enforced by this version; remove it".to_owned(),
                });
            }
        }
        for pattern in &self.egress_allow_hosts {
            let Some((host, whose)) = covers_reserved(pattern, &rules.reserved_hosts) else {
                continue;
            };
            let host = host.trim_start_matches('.');
            issues.push(Issue {
                path: "egress.allow_hosts",
                severity: Severity::Blocks,
                code: Some(ReasonCode::ContractEgressReserved),
                message: format!(
                    "`{pattern}` covers {host}, which is {}; list the other hosts one by one",
                    whose.in_words()
                ),
            });
        }
        issues.extend(self.never_sealed(rules));
        let warnings = self.warnings();
        issues.extend(warnings.into_iter().map(|(path, message)| Issue {
            path,
            severity: Severity::Warns,
            code: None,
            message: message.to_owned(),
        }));
        issues
    }

    /// What would keep every bundle of this contract from being sealed.
    fn never_sealed(&self, rules: &PublicationRules) -> Vec<Issue> {
        let blocks = |path, message| Issue {
            path,
            severity: Severity::Blocks,
            code: Some(ReasonCode::ContractNeverSealed),
            message,
        };
        let mut issues = Vec::new();
        if let (Some(asked), Some(known)) = (&self.audit.witnesses, &rules.witnesses) {
            let counted = known.iter().filter(|name| asked.counts(name)).count();
            if counted < asked.required as usize {
                let required = asked.required;
                let message = format!(
                    "asks for {required} witnesses, and the gateway knows {counted} of those that \
                     count; list them in log.witnesses"
                );
                issues.push(blocks("audit.witnesses", message));
            }
        }
        if self.audit.timestamps && rules.timestamps == Some(false) {
            let message = "the gateway asks no timestamping authority; set log.timestamps";
            issues.push(blocks("audit.timestamps", message.to_owned()));
        }
        issues
    }

    fn warnings(&self) -> Vec<(&'static str, &'static str)> {
        let permissions = &self.permissions;
        let apply = &permissions.apply;
        let mut found = Vec::new();
        let mut warn = |holds: bool, path, message| {
            if holds {
                found.push((path, message));
            }
        };
        warn(
            !permissions.operations.plan,
            "permissions.operations",
            "does not list \"plan\": agents can read the workspaces, but start no run",
        );
        warn(
            !apply.allowed && !apply.approvers.is_empty(),
            "permissions.apply.approvers",
            "has no effect: apply is not allowed",
        );
        warn(
            apply.allowed && !apply.requires_approval && !apply.approvers.is_empty(),
            "permissions.apply.approvers",
            "has no effect: no approval is required",
        );
        warn(
            apply.opener_may_approve && !(apply.allowed && apply.requires_approval),
            "permissions.apply.opener_may_approve",
            "has no effect: nothing asks for an approval",
        );
        warn(
            permissions.state_read,
            "permissions.state_read",
            "state holds secrets in clear text; agents will see them",
        );
        warn(
            permissions.cost.is_some() && permissions.run.targets,
            "permissions.run.targets",
            "has no effect beside a cost budget: targets disable cost estimation, so they are \
             refused",
        );
        warn(
            permissions
                .resources
                .allow_types
                .as_ref()
                .is_some_and(|types| types.iter().any(|glob| glob.as_str() == "*")),
            "permissions.resources.allow_types",
            "\"*\" does not cover tfe_*, hcp_* and terraform_remote_state; those must be named",
        );
        warn(
            permissions
                .configuration
                .as_ref()
                .is_some_and(|c| c.provisioners),
            "permissions.configuration.provisioners",
            "provisioners run any program while a plan is applied",
        );
        warn(
            self.models
                .as_ref()
                .is_some_and(|m| m.providers.is_empty() || m.allowed.is_empty()),
            "models",
            "allows no model: both providers and allowed must list something",
        );
        warn(
            self.models.as_ref().is_some_and(|m| {
                (m.max_cost_usd.is_some() || m.max_tokens.is_some()) && !m.count_exactly
            }),
            "models.count_exactly",
            "without it, a call whose client leaves is charged in full, as reserved",
        );
        warn(
            self.egress_allow_hosts
                .iter()
                .filter_map(HostPattern::ip)
                .any(|ip| kind(ip) != Kind::Public),
            "egress.allow_hosts",
            "lists an address that is not public: it is reached only where the operator's \
             configuration excepts it",
        );
        warn(
            self.models
                .as_ref()
                .is_some_and(|m| m.show_prompts_days > 0),
            "models.show_prompts_days",
            "the end of what agents ask models lies in clear text in the gateway's data folder",
        );
        found
    }
}
