//! The Work Policy Contract (WPC): what one class of jobs may do, as a signed document.
//!
//! Reading order: the types here say what a contract can express; `parse` reads them
//! strictly and collects every error; [`issues`](Contract::publication_issues) says what stands
//! against publishing; [`summary`](Contract::summary) says it all in words. An absent member
//! takes the most restrictive meaning, `models` alone excepted: without it every model that the
//! operator has configured may be called, each call receipted, without a budget.

mod audit;
mod email;
mod error;
mod issues;
mod models;
mod parse;
mod reader;
mod summary;

use proof::Hash;
use proof::json::Json;
use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::egress::HostPattern;
use crate::glob::Glob;
use crate::terraform::ids::{OrganizationName, WorkspaceId};

pub use audit::{Audit, Witnesses};
pub use email::Email;
pub use error::{ContractError, ContractErrorKind, ContractErrors};
pub use issues::{Issue, NOT_ENFORCED, PublicationRules, Severity};
pub use models::{Models, Redaction, RedactionAction, RedactionPath, Step, ToolRules};
pub(crate) use summary::{duration, listed};

/// The runbook's example, byte for byte. Its hash is a fixed vector.
pub const EXAMPLE_CONTRACT: &str = include_str!("../../examples/terraform-cloud-staging-only.json");

/// A contract that was read completely and without error.
#[derive(Debug, Clone)]
pub struct Contract {
    json: Json,
    hash: Hash,
    /// Versions of one contract share the name.
    pub name: String,
    /// Shown to approvers.
    pub description: Option<String>,
    /// What the Terraform lane may do.
    pub permissions: Permissions,
    /// What the model lane may do; `None` leaves it to the operator's configuration.
    pub models: Option<Models>,
    /// Destinations of the egress proxy; none without.
    pub egress_allow_hosts: Vec<HostPattern>,
    /// Longest life of a scoped token, 60 to 3600 seconds.
    pub max_ttl_seconds: u32,
    /// What a job's bundle must have before it is sealed.
    pub audit: Audit,
}

impl Contract {
    /// Hash of the canonical form: the name by which tokens and records pin the contract.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The document as it was read, members in written order.
    pub fn json(&self) -> &Json {
        &self.json
    }

    /// Whether agents may start runs.
    pub fn allows_plan(&self) -> bool {
        self.permissions.operations.plan
    }

    /// Whether a plan of this contract can ever be applied.
    pub fn allows_apply(&self) -> bool {
        self.permissions.apply.allowed
    }

    /// The scopes that a token of this contract can have.
    pub fn scopes(&self) -> Vec<&'static str> {
        let mut scopes = vec!["proxy:call"];
        if self.allows_plan() {
            scopes.push("tfc:plan");
        }
        if self.allows_apply() {
            scopes.push("tfc:apply");
        }
        scopes.extend(["model:call", "mcp:call"]);
        scopes
    }
}

/// `permissions`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// When given, every workspace must belong to it.
    pub organization: Option<OrganizationName>,
    /// The workspaces, by id, in written order.
    pub workspaces: Vec<WorkspaceId>,
    /// What may be done with them.
    pub operations: Operations,
    /// Whether and how plans are applied.
    pub apply: Apply,
    /// Whether state may be read.
    pub state_read: bool,
    /// Whether outputs may be read; sensitive ones stay hidden.
    pub outputs_read: bool,
    /// Special kinds of runs.
    pub run: Run,
    /// What a plan may change.
    pub resources: Resources,
    /// What an upload may hold; `None` is the strict default.
    pub configuration: Option<Configuration>,
    /// What a plan may cost.
    pub cost: Option<Cost>,
}

/// `permissions.operations`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations {
    /// Plan runs.
    pub plan: bool,
    /// Applies, named beside `apply.allowed`.
    pub apply: bool,
}

/// `permissions.apply`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apply {
    /// Whether plans may be applied at all.
    pub allowed: bool,
    /// Whether a person must approve first.
    pub requires_approval: bool,
    /// Who may approve.
    pub approvers: Vec<Email>,
    /// Whether whoever opened the job may be one of them.
    pub opener_may_approve: bool,
    /// Distinct approvers needed, 1 to 5.
    pub min_approvals: u32,
    /// Life of an approval, 60 to 86400 seconds.
    pub approval_ttl_seconds: u32,
    /// What the agent is told meanwhile.
    pub on_missing_approval: OnMissingApproval,
}

impl Default for Apply {
    fn default() -> Self {
        Self {
            allowed: false,
            requires_approval: true,
            approvers: Vec::new(),
            opener_may_approve: false,
            min_approvals: 1,
            approval_ttl_seconds: 3600,
            on_missing_approval: OnMissingApproval::Hold,
        }
    }
}

/// `permissions.apply.on_missing_approval`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissingApproval {
    /// Accept the wish and hold the run until a person decides.
    Hold,
    /// Refuse, naming the approval.
    Reject,
}

/// `permissions.run`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    /// Destroy runs.
    pub destroy: bool,
    /// Runs that only refresh state.
    pub refresh_only: bool,
    /// Runs on part of the configuration.
    pub targets: bool,
    /// Forced replacement.
    pub replace: bool,
    /// Input variables that a run may set.
    pub variables: Vec<String>,
}

/// The kinds of change that a plan can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A new object.
    Create,
    /// A change in place.
    Update,
    /// The end of an object.
    Delete,
    /// A new object in place of an old one.
    Replace,
    /// An object leaves the state and lives on.
    Forget,
    /// A foreign object enters the state.
    Import,
}

impl Action {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Replace,
        Self::Forget,
        Self::Import,
    ];

    /// Its name in contracts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Replace => "replace",
            Self::Forget => "forget",
            Self::Import => "import",
        }
    }
}

/// `permissions.resources`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Types that may change; `None` is every type but those that must be named literally.
    pub allow_types: Option<Vec<Glob>>,
    /// Types that may not change; wins over `allow_types`.
    pub deny_types: Vec<Glob>,
    /// Kinds of change that are refused.
    pub deny_actions: Vec<Action>,
    /// Most changes of a kind in one plan.
    pub max_changes: MaxChanges,
}

/// `permissions.resources.max_changes`; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaxChanges {
    /// New objects, replacements included.
    pub create: Option<u32>,
    /// Changes in place.
    pub update: Option<u32>,
    /// Objects that end, replacements included.
    pub delete: Option<u32>,
}

/// `permissions.configuration`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// Provider sources (`hashicorp/aws` or with its registry host); `None` is any provider of
    /// the public registry. Terraform's built-in provider is always allowed.
    pub providers: Option<Vec<ProviderSource>>,
    /// Module sources outside the upload; `None` is the public registry at an exact version.
    pub modules: Option<Vec<String>>,
    /// Data source types; `None` is every one but `external`, `http` and those that must be
    /// named literally.
    pub data_sources: Option<Vec<Glob>>,
    /// Whether provisioners may run.
    pub provisioners: bool,
    /// Workspaces whose outputs `terraform_remote_state` and `tfe_outputs` may read.
    pub remote_state_workspaces: Vec<WorkspaceId>,
}

/// A provider's address: registry host, namespace and type, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderSource(String);

/// The public registry, which a source without a host means.
pub const PUBLIC_REGISTRY: &str = "registry.terraform.io";

/// Terraform's built-in provider (`terraform_data`, `terraform_remote_state`).
pub const BUILTIN_PROVIDER: &str = "terraform.io/builtin/terraform";

impl ProviderSource {
    /// Reads `type`, `namespace/type` or `host/namespace/type` as Terraform does.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let label = |part: &str| {
            (1..=64).contains(&part.len())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let host = |part: &str| part.contains('.') && part.split('.').all(label);
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [kind] if label(kind) => Some(Self(format!("{PUBLIC_REGISTRY}/hashicorp/{kind}"))),
            [namespace, kind] if label(namespace) && label(kind) => {
                Some(Self(format!("{PUBLIC_REGISTRY}/{namespace}/{kind}")))
            }
            [at, namespace, kind] if host(at) && label(namespace) && label(kind) => {
                Some(Self(text))
            }
            _ => None,
        }
    }

    /// Host, namespace and type, joined by slashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it comes from the public registry.
    pub fn is_public(&self) -> bool {
        self.0.split('/').next() == Some(PUBLIC_REGISTRY)
    }

    /// Whether it is part of Terraform itself.
    pub fn is_builtin(&self) -> bool {
        self.0 == BUILTIN_PROVIDER
    }
}

/// `permissions.cost`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Most by which a plan may raise the monthly cost.
    pub max_monthly_delta_usd: Option<Decimal>,
    /// Most that the workspace may cost a month afterwards.
    pub max_monthly_total_usd: Option<Decimal>,
    /// What happens when something has no price.
    pub unpriced: Unpriced,
}

/// `permissions.cost.unpriced`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpriced {
    /// The plan is refused.
    Refuse,
    /// The approver decides.
    Approve,
}

#[cfg(test)]
mod tests;
