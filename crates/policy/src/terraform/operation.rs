//! The calls that the gateway forwards, as types.
//!
//! To add a route that is forwarded:
//! 1. Name its operation in the fourth column of `routes.tsv`.
//! 2. Add a line to `operations!` below (name, effect, what must be true of its target).
//! 3. Add a variant to [`Call`] and its arms in `from_segments`, `path` and `object`.
//! 4. Say in `query.rs` which query keys it takes, in `answer.rs` what its answer may hold, and
//!    in `decide.rs` what the contract must say; the tables in their tests must then be extended.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ids::{
    ApplyId, ConfigurationVersionId, CostEstimateId, IdError, OrganizationName, OutputId, PlanId,
    RunId, WorkspaceId, WorkspaceName,
};

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

/// An object that a call names by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<'a> {
    /// What it is.
    pub kind: ObjectKind,
    /// Its checked id.
    pub id: &'a str,
}

/// A call with its typed ids; made only by [`super::ParsedTarget::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the variants are the operations, documented there"
)]
pub enum Call {
    Discovery,
    Ping,
    AccountDetails,
    EntitlementSet {
        organization: OrganizationName,
    },
    Capacity {
        organization: OrganizationName,
    },
    RunsQueue {
        organization: OrganizationName,
    },
    WorkspaceByName {
        organization: OrganizationName,
        name: WorkspaceName,
    },
    WorkspaceById {
        workspace: WorkspaceId,
    },
    WorkspaceTagBindings {
        workspace: WorkspaceId,
    },
    CurrentStateVersion {
        workspace: WorkspaceId,
    },
    CurrentStateVersionOutputs {
        workspace: WorkspaceId,
    },
    StateVersionOutput {
        output: OutputId,
    },
    WorkspaceRuns {
        workspace: WorkspaceId,
    },
    CreateConfigurationVersion {
        workspace: WorkspaceId,
    },
    ReadConfigurationVersion {
        configuration_version: ConfigurationVersionId,
    },
    CreateRun,
    ReadRun {
        run: RunId,
    },
    RunEvents {
        run: RunId,
    },
    RunTaskStages {
        run: RunId,
    },
    RunPolicyChecks {
        run: RunId,
    },
    RunComments {
        run: RunId,
    },
    ReadPlan {
        plan: PlanId,
    },
    PlanJsonRedacted {
        plan: PlanId,
    },
    ReadApply {
        apply: ApplyId,
    },
    ReadCostEstimate {
        cost_estimate: CostEstimateId,
    },
    ApplyRun {
        run: RunId,
    },
    DiscardRun {
        run: RunId,
    },
    CancelRun {
        run: RunId,
    },
}

impl Call {
    /// Types the placeholders of a matched route. `segments` are the texts under the
    /// placeholders, in order.
    pub(super) fn from_segments(operation: Operation, segments: &[&str]) -> Result<Self, IdError> {
        let first = segments.first().copied().unwrap_or_default();
        let second = segments.get(1).copied().unwrap_or_default();
        Ok(match operation {
            Operation::Discovery => Self::Discovery,
            Operation::Ping => Self::Ping,
            Operation::AccountDetails => Self::AccountDetails,
            Operation::EntitlementSet => Self::EntitlementSet {
                organization: first.parse()?,
            },
            Operation::Capacity => Self::Capacity {
                organization: first.parse()?,
            },
            Operation::RunsQueue => Self::RunsQueue {
                organization: first.parse()?,
            },
            Operation::WorkspaceByName => Self::WorkspaceByName {
                organization: first.parse()?,
                name: second.parse()?,
            },
            Operation::WorkspaceById => Self::WorkspaceById {
                workspace: first.parse()?,
            },
            Operation::WorkspaceTagBindings => Self::WorkspaceTagBindings {
                workspace: first.parse()?,
            },
            Operation::CurrentStateVersion => Self::CurrentStateVersion {
                workspace: first.parse()?,
            },
            Operation::CurrentStateVersionOutputs => Self::CurrentStateVersionOutputs {
                workspace: first.parse()?,
            },
            Operation::StateVersionOutput => Self::StateVersionOutput {
                output: first.parse()?,
            },
            Operation::WorkspaceRuns => Self::WorkspaceRuns {
                workspace: first.parse()?,
            },
            Operation::CreateConfigurationVersion => Self::CreateConfigurationVersion {
                workspace: first.parse()?,
            },
            Operation::ReadConfigurationVersion => Self::ReadConfigurationVersion {
                configuration_version: first.parse()?,
            },
            Operation::CreateRun => Self::CreateRun,
            Operation::ReadRun => Self::ReadRun {
                run: first.parse()?,
            },
            Operation::RunEvents => Self::RunEvents {
                run: first.parse()?,
            },
            Operation::RunTaskStages => Self::RunTaskStages {
                run: first.parse()?,
            },
            Operation::RunPolicyChecks => Self::RunPolicyChecks {
                run: first.parse()?,
            },
            Operation::RunComments => Self::RunComments {
                run: first.parse()?,
            },
            Operation::ReadPlan => Self::ReadPlan {
                plan: first.parse()?,
            },
            Operation::PlanJsonRedacted => Self::PlanJsonRedacted {
                plan: first.parse()?,
            },
            Operation::ReadApply => Self::ReadApply {
                apply: first.parse()?,
            },
            Operation::ReadCostEstimate => Self::ReadCostEstimate {
                cost_estimate: first.parse()?,
            },
            Operation::ApplyRun => Self::ApplyRun {
                run: first.parse()?,
            },
            Operation::DiscardRun => Self::DiscardRun {
                run: first.parse()?,
            },
            Operation::CancelRun => Self::CancelRun {
                run: first.parse()?,
            },
        })
    }

    /// The operation's name.
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Discovery => Operation::Discovery,
            Self::Ping => Operation::Ping,
            Self::AccountDetails => Operation::AccountDetails,
            Self::EntitlementSet { .. } => Operation::EntitlementSet,
            Self::Capacity { .. } => Operation::Capacity,
            Self::RunsQueue { .. } => Operation::RunsQueue,
            Self::WorkspaceByName { .. } => Operation::WorkspaceByName,
            Self::WorkspaceById { .. } => Operation::WorkspaceById,
            Self::WorkspaceTagBindings { .. } => Operation::WorkspaceTagBindings,
            Self::CurrentStateVersion { .. } => Operation::CurrentStateVersion,
            Self::CurrentStateVersionOutputs { .. } => Operation::CurrentStateVersionOutputs,
            Self::StateVersionOutput { .. } => Operation::StateVersionOutput,
            Self::WorkspaceRuns { .. } => Operation::WorkspaceRuns,
            Self::CreateConfigurationVersion { .. } => Operation::CreateConfigurationVersion,
            Self::ReadConfigurationVersion { .. } => Operation::ReadConfigurationVersion,
            Self::CreateRun => Operation::CreateRun,
            Self::ReadRun { .. } => Operation::ReadRun,
            Self::RunEvents { .. } => Operation::RunEvents,
            Self::RunTaskStages { .. } => Operation::RunTaskStages,
            Self::RunPolicyChecks { .. } => Operation::RunPolicyChecks,
            Self::RunComments { .. } => Operation::RunComments,
            Self::ReadPlan { .. } => Operation::ReadPlan,
            Self::PlanJsonRedacted { .. } => Operation::PlanJsonRedacted,
            Self::ReadApply { .. } => Operation::ReadApply,
            Self::ReadCostEstimate { .. } => Operation::ReadCostEstimate,
            Self::ApplyRun { .. } => Operation::ApplyRun,
            Self::DiscardRun { .. } => Operation::DiscardRun,
            Self::CancelRun { .. } => Operation::CancelRun,
        }
    }

    /// The path for upstream, built from the typed parts and never copied from the request.
    pub fn path(&self) -> String {
        match self {
            Self::Discovery => "/.well-known/terraform.json".to_owned(),
            Self::Ping => "/api/v2/ping".to_owned(),
            Self::AccountDetails => "/api/v2/account/details".to_owned(),
            Self::EntitlementSet { organization } => {
                format!("/api/v2/organizations/{organization}/entitlement-set")
            }
            Self::Capacity { organization } => {
                format!("/api/v2/organizations/{organization}/capacity")
            }
            Self::RunsQueue { organization } => {
                format!("/api/v2/organizations/{organization}/runs/queue")
            }
            Self::WorkspaceByName { organization, name } => {
                format!("/api/v2/organizations/{organization}/workspaces/{name}")
            }
            Self::WorkspaceById { workspace } => format!("/api/v2/workspaces/{workspace}"),
            Self::WorkspaceTagBindings { workspace } => {
                format!("/api/v2/workspaces/{workspace}/tag-bindings")
            }
            Self::CurrentStateVersion { workspace } => {
                format!("/api/v2/workspaces/{workspace}/current-state-version")
            }
            Self::CurrentStateVersionOutputs { workspace } => {
                format!("/api/v2/workspaces/{workspace}/current-state-version-outputs")
            }
            Self::StateVersionOutput { output } => {
                format!("/api/v2/state-version-outputs/{output}")
            }
            Self::WorkspaceRuns { workspace } => format!("/api/v2/workspaces/{workspace}/runs"),
            Self::CreateConfigurationVersion { workspace } => {
                format!("/api/v2/workspaces/{workspace}/configuration-versions")
            }
            Self::ReadConfigurationVersion {
                configuration_version,
            } => {
                format!("/api/v2/configuration-versions/{configuration_version}")
            }
            Self::CreateRun => "/api/v2/runs".to_owned(),
            Self::ReadRun { run } => format!("/api/v2/runs/{run}"),
            Self::RunEvents { run } => format!("/api/v2/runs/{run}/run-events"),
            Self::RunTaskStages { run } => format!("/api/v2/runs/{run}/task-stages"),
            Self::RunPolicyChecks { run } => format!("/api/v2/runs/{run}/policy-checks"),
            Self::RunComments { run } => format!("/api/v2/runs/{run}/comments"),
            Self::ReadPlan { plan } => format!("/api/v2/plans/{plan}"),
            Self::PlanJsonRedacted { plan } => format!("/api/v2/plans/{plan}/json-output-redacted"),
            Self::ReadApply { apply } => format!("/api/v2/applies/{apply}"),
            Self::ReadCostEstimate { cost_estimate } => {
                format!("/api/v2/cost-estimates/{cost_estimate}")
            }
            Self::ApplyRun { run } => format!("/api/v2/runs/{run}/actions/apply"),
            Self::DiscardRun { run } => format!("/api/v2/runs/{run}/actions/discard"),
            Self::CancelRun { run } => format!("/api/v2/runs/{run}/actions/cancel"),
        }
    }

    /// The organization in the path.
    pub const fn organization(&self) -> Option<&OrganizationName> {
        match self {
            Self::EntitlementSet { organization }
            | Self::Capacity { organization }
            | Self::RunsQueue { organization }
            | Self::WorkspaceByName { organization, .. } => Some(organization),
            _ => None,
        }
    }

    /// The workspace in the path. `None` for one that is named by its name, in the body, or
    /// only through another object.
    pub const fn workspace(&self) -> Option<&WorkspaceId> {
        match self {
            Self::WorkspaceById { workspace }
            | Self::WorkspaceTagBindings { workspace }
            | Self::CurrentStateVersion { workspace }
            | Self::CurrentStateVersionOutputs { workspace }
            | Self::WorkspaceRuns { workspace }
            | Self::CreateConfigurationVersion { workspace } => Some(workspace),
            _ => None,
        }
    }

    /// The run in the path.
    pub const fn run(&self) -> Option<&RunId> {
        match self {
            Self::ReadRun { run }
            | Self::RunEvents { run }
            | Self::RunTaskStages { run }
            | Self::RunPolicyChecks { run }
            | Self::RunComments { run }
            | Self::ApplyRun { run }
            | Self::DiscardRun { run }
            | Self::CancelRun { run } => Some(run),
            _ => None,
        }
    }

    /// The object in the path whose workspace must be found in the id index.
    pub fn object(&self) -> Option<Object<'_>> {
        let object = |kind, id| Some(Object { kind, id });
        match self {
            Self::StateVersionOutput { output } => object(ObjectKind::Output, output.as_str()),
            Self::ReadConfigurationVersion {
                configuration_version,
            } => object(
                ObjectKind::ConfigurationVersion,
                configuration_version.as_str(),
            ),
            Self::ReadPlan { plan } | Self::PlanJsonRedacted { plan } => {
                object(ObjectKind::Plan, plan.as_str())
            }
            Self::ReadApply { apply } => object(ObjectKind::Apply, apply.as_str()),
            Self::ReadCostEstimate { cost_estimate } => {
                object(ObjectKind::CostEstimate, cost_estimate.as_str())
            }
            _ => object(ObjectKind::Run, self.run()?.as_str()),
        }
    }
}
