//! What a plan would do, read from Terraform's full plan JSON, and whether a contract allows it.
//!
//! The full plan holds secrets in clear text; [`PlanFacts`] holds none that Terraform marks as
//! such. Reading fails closed: a format, an action or a member that is not known means that the
//! plan cannot be judged, and a plan that cannot be judged is not applied.

mod diff;
mod document;
mod inspect;
mod judge;
mod secrets;
mod step;

use proof::Hash;
use serde::{Deserialize, Serialize};

use crate::contract::Action;
use crate::reason::ReasonCode;

pub use diff::{AttributeChange, Line, LineKind, Shown};
pub(crate) use inspect::MAX_CHANGES;
pub use inspect::{MAX_PLAN, PlanReader, inspect};
pub use judge::{judge, judge_unpriced};

/// Everything that approvers and contracts ask of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFacts {
    /// Hash of the canonical plan without its `timestamp`: what an approval binds.
    pub plan_sha256_b64u: Hash,
    /// Hash of the bytes as they came.
    pub raw_sha256_b64u: Hash,
    /// Version of the plan format, major 1.
    pub format_version: String,
    /// Version of Terraform that planned.
    pub terraform_version: String,
    /// False for a plan on part of the configuration.
    pub complete: bool,
    /// How many changes of each kind.
    pub changes: Changes,
    /// Objects that change or move, in the plan's order.
    pub resources: Vec<ResourceChange>,
    /// Outputs that change.
    pub outputs: Vec<OutputChange>,
    /// Full sources of every provider that is configured or used, sorted.
    pub providers: Vec<String>,
    /// Arguments of providers that may send them elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provider_arguments: Vec<ProviderArgument>,
    /// Data sources that are read, in plan or apply.
    pub data_sources: Vec<DataSource>,
    /// Modules that are called.
    pub modules: Vec<ModuleCall>,
    /// Programs that would run on the worker or elsewhere.
    pub provisioners: Vec<Provisioner>,
    /// How many objects upstream found changed outside Terraform.
    pub drifted: u32,
}

/// Counts, as in the approval statement: a replacement is a replacement, not a create and a
/// delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// New objects.
    pub create: u32,
    /// Changes in place.
    pub update: u32,
    /// Objects that end.
    pub delete: u32,
    /// Objects that end and begin anew.
    pub replace: u32,
    /// Objects that leave the state and live on.
    pub forget: u32,
    /// Foreign objects that enter the state.
    pub import: u32,
    /// Objects that get another address.
    #[serde(rename = "move")]
    pub moved: u32,
}

impl Changes {
    /// Nothing at all would change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One object that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceChange {
    /// Its address. Untrusted text: index keys are the configuration's.
    pub address: String,
    /// Its address before, when it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_address: Option<String>,
    /// Resource type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Full source of its provider.
    pub provider: String,
    /// What happens; empty for one that only moves.
    pub actions: Vec<Action>,
    /// A left-over of an earlier replacement.
    #[serde(default)]
    pub deposed: bool,
    /// Terraform's own reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What changes in it, place by place, secrets masked, long values cut.
    pub diff: Vec<AttributeChange>,
    /// How many places more differ than `diff` has room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
    /// How many objects and lists in it are not compared, with all that they hold: the plan has
    /// too many places.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_compared: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// An output that changes; values are never kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputChange {
    /// Its name.
    pub name: String,
    /// What happens.
    pub actions: Vec<Action>,
    /// Whether Terraform treats it as a secret.
    pub sensitive: bool,
}

/// An argument of a provider whose name says that it may matter where the provider goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderArgument {
    /// Full source of the provider.
    pub provider: String,
    /// The argument's name.
    pub name: String,
}

/// A data source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// Its address in the configuration.
    pub address: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A call of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleCall {
    /// Its address in the configuration.
    pub address: String,
    /// Where it comes from.
    pub source: String,
    /// Version constraint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A provisioner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provisioner {
    /// The resource that has it.
    pub address: String,
    /// Its type, for example `local-exec`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One thing that a contract forbids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Violation {
    /// The rule.
    pub code: ReasonCode,
    /// The address, provider, module or amount that broke it.
    pub subject: String,
    /// In words.
    pub message: String,
}

/// Why a plan cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Larger than [`MAX_PLAN`], or more changes than can be judged.
    #[error("the plan is too large: {0}")]
    TooLarge(String),
    /// Not JSON, or not of the documented shape.
    #[error("the plan cannot be read: {0}")]
    Malformed(String),
    /// A format version whose major is not 1.
    #[error("plan format `{0}` is not known")]
    Format(String),
    /// Terraform could not finish planning.
    #[error("the plan has errors")]
    Errored,
    /// Terraform says that there is nothing to apply.
    #[error("the plan has nothing to apply")]
    NotApplyable,
    /// An action, or a combination, that is not known.
    #[error("`{address}` has the unknown action {actions}")]
    UnknownAction {
        /// Where.
        address: String,
        /// What stands there.
        actions: String,
    },
    /// Changes that would be planned only after this apply.
    #[error("the plan defers {0} changes")]
    Deferred(usize),
    /// Provider actions with side effects outside the listed changes.
    #[error("the plan invokes {0} Terraform actions")]
    ActionInvocation(usize),
}

impl PlanError {
    /// The reason code.
    pub fn code(&self) -> ReasonCode {
        match self {
            Self::TooLarge(_) => ReasonCode::PlanTooLarge,
            Self::Malformed(_) => ReasonCode::PlanMalformed,
            Self::Format(_) => ReasonCode::PlanFormat,
            Self::Errored => ReasonCode::PlanErrored,
            Self::NotApplyable => ReasonCode::PlanNotApplyable,
            Self::UnknownAction { .. } => ReasonCode::PlanUnknownAction,
            Self::Deferred(_) => ReasonCode::PlanDeferred,
            Self::ActionInvocation(_) => ReasonCode::PlanActionInvocation,
        }
    }
}

#[cfg(test)]
mod tests;
