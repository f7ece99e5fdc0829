//! The facts on which a decision rests: recorded with it, and replayed by the verifier.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::egress::{EgressOperation, Network, Reserved};
use crate::terraform::Operation;

/// Everything that [`decide`](super::decide()) looks at besides the contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "lane", rename_all = "kebab-case")]
pub enum DecisionInput<'a> {
    /// A Terraform Cloud call.
    Terraform(TerraformInput<'a>),
    /// A model call.
    Model(ModelInput<'a>),
    /// A connection to somewhere else.
    Egress(EgressInput<'a>),
}

/// Facts about a Terraform Cloud call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerraformInput<'a> {
    /// The call.
    pub operation: Operation,
    /// The token's scopes.
    pub scope: Cow<'a, [String]>,
    /// The organization in the path, or the one that owns the workspace. Must be there whenever
    /// the contract names an organization and the call has a workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<Cow<'a, str>>,
    /// Upstream said that a workspace of the contract belongs to `organization`. Decides calls on
    /// an organization when the contract names none.
    #[serde(default, skip_serializing_if = "is_false")]
    pub organization_known: bool,
    /// The workspace that really owns the object: from the path, from the body of a new run, or
    /// from the id index. `None` is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<Cow<'a, str>>,
    /// The run that the call names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Cow<'a, str>>,
    /// The object was created by this very job.
    #[serde(default, skip_serializing_if = "is_false")]
    pub owned: bool,
    /// What a new run asks for; only with `create-run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Cow<'a, RunFacts>>,
    /// Whether the run's plan is approved; only looked at for `apply-run`.
    #[serde(default)]
    pub approval: ApprovalFact,
}

impl<'a> TerraformInput<'a> {
    /// Facts of a call about which nothing else is known yet.
    pub fn new(operation: Operation, scope: &'a [String]) -> Self {
        Self {
            operation,
            scope: Cow::Borrowed(scope),
            organization: None,
            organization_known: false,
            workspace_id: None,
            run_id: None,
            owned: false,
            run: None,
            approval: ApprovalFact::None,
        }
    }
}

/// Whether an approval that binds the run's present plan is complete and unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalFact {
    /// No, or not enough of them.
    #[default]
    None,
    /// Yes: digest, approvers, number and expiry were checked.
    Valid,
}

/// What a new run asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunFacts {
    /// Destroy everything.
    #[serde(skip_serializing_if = "is_false")]
    pub is_destroy: bool,
    /// Only bring the state up to date.
    #[serde(skip_serializing_if = "is_false")]
    pub refresh_only: bool,
    /// How many addresses are targeted.
    #[serde(skip_serializing_if = "is_zero")]
    pub targets: u32,
    /// How many addresses are to be replaced.
    #[serde(skip_serializing_if = "is_zero")]
    pub replace: u32,
    /// Names of the variables that the run sets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
    /// The wish to apply at once; rewritten to false, kept as a wish.
    #[serde(skip_serializing_if = "is_false")]
    pub auto_apply: bool,
    /// No apply is wanted.
    #[serde(skip_serializing_if = "is_false")]
    pub plan_only: bool,
    /// The plan is to be kept for a later apply.
    #[serde(skip_serializing_if = "is_false")]
    pub save_plan: bool,
    /// Apply without changes, which upstream never asks to confirm.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_empty_apply: bool,
    /// Trace logs.
    #[serde(skip_serializing_if = "is_false")]
    pub debugging_mode: bool,
    /// Write configuration for imports.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_config_generation: bool,
    /// Invoke provider actions.
    #[serde(skip_serializing_if = "is_false")]
    pub invoke_actions: bool,
    /// Another Terraform version than the workspace's.
    #[serde(skip_serializing_if = "is_false")]
    pub terraform_version: bool,
    /// Local policies.
    #[serde(skip_serializing_if = "is_false")]
    pub policy_paths: bool,
    /// What is known about the configuration that the run would use.
    pub configuration: ConfigurationFact,
}

/// What the id index says about the configuration version that a new run names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigurationFact {
    /// The run names none, and none that was inspected could be pinned in its place: upstream
    /// would take the workspace's latest, whoever uploaded it.
    #[default]
    Absent,
    /// The run names none: the workspace's latest was read, judged by this contract and named in
    /// its place.
    Pinned,
    /// Not in the index.
    Unknown,
    /// Created by this job, but nothing was uploaded and inspected.
    NotInspected,
    /// Belongs to another workspace than the run.
    OtherWorkspace,
    /// Created by another job.
    NotOwned,
    /// Created by this job for this workspace, uploaded through the gateway and inspected.
    Inspected,
}

/// Facts about a model call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInput<'a> {
    /// The token's scopes.
    pub scope: Cow<'a, [String]>,
    /// The provider's name in the operator's configuration.
    pub provider: Cow<'a, str>,
    /// Providers that are asked in this order when that one cannot answer.
    #[serde(default, skip_serializing_if = "no_names")]
    pub fallbacks: Cow<'a, [String]>,
    /// The endpoint.
    pub surface: ModelSurface,
    /// The model as the body names it; `None` only where the endpoint takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Cow<'a, str>>,
    /// Model calls that the job has made before this one.
    #[serde(default)]
    pub calls_so_far: u64,
    /// Tokens that those used, reservations of open calls included.
    #[serde(default)]
    pub tokens_so_far: u64,
    /// Most tokens that the answer may have, as the body asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_requested: Option<u64>,
    /// Money; there under a contract with a budget of it, where the operator has a price for the
    /// model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<ModelCost>,
    /// Names of the tools that the request offers to the model; there under a contract with a
    /// rule about them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Cow<'a, [String]>>,
}

impl<'a> ModelInput<'a> {
    /// Facts of a call about which nothing else is known yet.
    pub fn new(provider: &'a str, surface: ModelSurface, scope: &'a [String]) -> Self {
        Self {
            scope: Cow::Borrowed(scope),
            provider: Cow::Borrowed(provider),
            fallbacks: Cow::Borrowed(&[]),
            surface,
            model: None,
            calls_so_far: 0,
            tokens_so_far: 0,
            max_tokens_requested: None,
            cost: None,
            tools: None,
        }
    }
}

/// What model calls cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCost {
    /// USD that the job has spent, reservations of open calls included.
    pub so_far_usd: Decimal,
    /// Most USD that this call can cost, by the operator's price.
    pub wanted_usd: Decimal,
}

/// The model endpoints that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelSurface {
    /// OpenAI `chat/completions`
    ChatCompletions,
    /// OpenAI `responses`
    Responses,
    /// OpenAI `embeddings`
    Embeddings,
    /// `models`, the list; takes no model and no budget.
    Models,
    /// Anthropic `messages`
    Messages,
    /// Anthropic `messages/count_tokens`; no budget.
    CountTokens,
}

/// Facts about a connection through the egress proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressInput<'a> {
    /// How it is asked for.
    pub operation: EgressOperation,
    /// The token's scopes.
    pub scope: Cow<'a, [String]>,
    /// The host in its one form: a name in lower case, or an address without brackets.
    pub host: Cow<'a, str>,
    /// The port.
    pub port: u16,
    /// The operator's configuration says that the destination is reached in another way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Reserved>,
    /// Every address that the host has just now, of which one is connected to. `None` while it was
    /// not looked up, which is never allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Cow<'a, [IpAddr]>>,
    /// Ranges that the operator's configuration excepts from the rule that addresses are public,
    /// as far as they hold one of these.
    #[serde(default, skip_serializing_if = "no_ranges")]
    pub excepted: Cow<'a, [Network]>,
}

impl<'a> EgressInput<'a> {
    /// Facts about a destination that was not looked up.
    pub fn new(operation: EgressOperation, host: &'a str, port: u16, scope: &'a [String]) -> Self {
        Self {
            operation,
            scope: Cow::Borrowed(scope),
            host: Cow::Borrowed(host),
            port,
            reserved: None,
            addresses: None,
            excepted: Cow::Borrowed(&[]),
        }
    }
}

fn no_ranges(ranges: &[Network]) -> bool {
    ranges.is_empty()
}

fn is_false(value: &bool) -> bool {
    !value
}

fn no_names(names: &[String]) -> bool {
    names.is_empty()
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}
