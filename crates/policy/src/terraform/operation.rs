//! The calls that the gateway forwards, as types.
//!
//! To add a route that is forwarded:
//! 1. Name its operation in the fourth column of `routes.tsv`.
//! 2. Add a line to `operations!` below (name, effect, what must be true of its target).
//! 3. Add a variant to [`Call`](super::Call) and its arms in `from_segments`, `path` and `object`.
//! 4. Say in `query.rs` which query keys it takes, in `answer.rs` what its answer may hold, and
//!    in `decide.rs` what the contract must say; the tables in their tests must then be extended.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether a call can change anything upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing changes.
    Read,
    /// Something may change: the intent must be durable first.
    Mutate,
}

/// What a call is about, and so what must be known about it before it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Nothing in particular.
    Service,
    /// An organization.
    Organization,
    /// A workspace, by id, by name or in the body.
    Workspace,
    /// Something that hangs on a workspace, whoever made it.
    WorkspaceObject,
    /// Something that this very job must have created.
    OwnObject,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident $name:literal $effect:ident $target:ident;)*) => {
        /// The name of a forwarded call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation {
            $($(#[$doc])* $variant,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Stable kebab-case name, as in records and in the route table.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether it can change anything.
            pub const fn effect(self) -> Effect {
                match self { $(Self::$variant => Effect::$effect,)* }
            }

            /// What it is about.
            pub const fn target(self) -> Target {
                match self { $(Self::$variant => Target::$target,)* }
            }
        }
    };
}

operations! {
    /// Service discovery; the gateway answers itself.
    Discovery "discovery" Read Service;
    /// API version and rate limit headers.
    Ping "ping" Read Service;
    /// Who am I: the gateway answers with the job's identity.
    AccountDetails "account-details" Read Service;
    /// What the organization has paid for; every CLI command asks.
    EntitlementSet "entitlement-set" Read Organization;
    /// How busy the organization is.
    Capacity "capacity" Read Organization;
    /// The organization's run queue, filtered to allowed workspaces.
    RunsQueue "runs-queue" Read Organization;
    /// The contract's workspaces in an organization.
    ListWorkspaces "list-workspaces" Read Organization;
    /// A workspace by organization and name.
    WorkspaceByName "workspace-by-name" Read Workspace;
    /// A workspace by id.
    WorkspaceById "workspace-by-id" Read Workspace;
    /// A workspace's tag bindings.
    WorkspaceTagBindings "workspace-tag-bindings" Read Workspace;
    /// A workspace's state; 404 unless the contract allows state_read.
    CurrentStateVersion "current-state-version" Read Workspace;
    /// A workspace's outputs.
    CurrentStateVersionOutputs "current-state-version-outputs" Read Workspace;
    /// One output.
    StateVersionOutput "state-version-output" Read WorkspaceObject;
    /// A workspace's runs.
    WorkspaceRuns "workspace-runs" Read Workspace;
    /// Opens an upload.
    CreateConfigurationVersion "create-configuration-version" Mutate Workspace;
    /// Reads an upload's state.
    ReadConfigurationVersion "read-configuration-version" Read OwnObject;
    /// Starts a run.
    CreateRun "create-run" Mutate Workspace;
    /// Reads a run.
    ReadRun "read-run" Read OwnObject;
    /// A run's history.
    RunEvents "run-events" Read OwnObject;
    /// A run's task stages.
    RunTaskStages "run-task-stages" Read OwnObject;
    /// A run's policy checks.
    RunPolicyChecks "run-policy-checks" Read OwnObject;
    /// Reads a task stage.
    ReadTaskStage "read-task-stage" Read OwnObject;
    /// Reads a policy check.
    ReadPolicyCheck "read-policy-check" Read OwnObject;
    /// What a policy check printed.
    PolicyCheckOutput "policy-check-output" Read OwnObject;
    /// A run's comments.
    RunComments "run-comments" Read OwnObject;
    /// Reads a plan.
    ReadPlan "read-plan" Read OwnObject;
    /// The plan as the CLI renders it, without secrets.
    PlanJsonRedacted "plan-json-redacted" Read OwnObject;
    /// Reads an apply.
    ReadApply "read-apply" Read OwnObject;
    /// Reads a cost estimate.
    ReadCostEstimate "read-cost-estimate" Read OwnObject;
    /// Asks for a run to be applied.
    ApplyRun "apply-run" Mutate OwnObject;
    /// Throws a plan away.
    DiscardRun "discard-run" Mutate OwnObject;
    /// Stops a run.
    CancelRun "cancel-run" Mutate OwnObject;
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown operation `{0}`")]
pub struct UnknownOperation(pub String);

impl FromStr for Operation {
    type Err = UnknownOperation;

    fn from_str(text: &str) -> Result<Self, UnknownOperation> {
        Self::ALL
            .iter()
            .copied()
            .find(|operation| operation.name() == text)
            .ok_or_else(|| UnknownOperation(text.to_owned()))
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The kinds of objects whose workspace the gateway must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A workspace.
    Workspace,
    /// A run.
    Run,
    /// A plan.
    Plan,
    /// An apply.
    Apply,
    /// A configuration version.
    ConfigurationVersion,
    /// A cost estimate.
    CostEstimate,
    /// A state version.
    StateVersion,
    /// A state version output.
    Output,
    /// A policy check.
    PolicyCheck,
    /// A task stage.
    TaskStage,
    /// A run event.
    RunEvent,
}
