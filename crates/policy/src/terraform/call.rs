//! A call that the gateway forwards, with its typed ids. How to add one: see `operation.rs`.

use super::ids::{
    ApplyId, ConfigurationVersionId, CostEstimateId, IdError, OrganizationName, OutputId, PlanId,
    PolicyCheckId, RunId, TaskStageId, WorkspaceId, WorkspaceName,
};
use super::operation::{ObjectKind, Operation};

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
    ListWorkspaces {
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
    ReadTaskStage {
        task_stage: TaskStageId,
    },
    ReadPolicyCheck {
        policy_check: PolicyCheckId,
    },
    PolicyCheckOutput {
        policy_check: PolicyCheckId,
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
            Operation::ListWorkspaces => Self::ListWorkspaces {
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
            Operation::ReadTaskStage => Self::ReadTaskStage {
                task_stage: first.parse()?,
            },
            Operation::ReadPolicyCheck => Self::ReadPolicyCheck {
                policy_check: first.parse()?,
            },
            Operation::PolicyCheckOutput => Self::PolicyCheckOutput {
                policy_check: first.parse()?,
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
            Self::ListWorkspaces { .. } => Operation::ListWorkspaces,
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
            Self::ReadTaskStage { .. } => Operation::ReadTaskStage,
            Self::ReadPolicyCheck { .. } => Operation::ReadPolicyCheck,
            Self::PolicyCheckOutput { .. } => Operation::PolicyCheckOutput,
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
            Self::ListWorkspaces { organization } => {
                format!("/api/v2/organizations/{organization}/workspaces")
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
            Self::ReadTaskStage { task_stage } => format!("/api/v2/task-stages/{task_stage}"),
            Self::ReadPolicyCheck { policy_check } => {
                format!("/api/v2/policy-checks/{policy_check}")
            }
            Self::PolicyCheckOutput { policy_check } => {
                format!("/api/v2/policy-checks/{policy_check}/output")
            }
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
            | Self::ListWorkspaces { organization }
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
            Self::ReadTaskStage { task_stage } => {
                object(ObjectKind::TaskStage, task_stage.as_str())
            }
            Self::ReadPolicyCheck { policy_check } | Self::PolicyCheckOutput { policy_check } => {
                object(ObjectKind::PolicyCheck, policy_check.as_str())
            }
            _ => object(ObjectKind::Run, self.run()?.as_str()),
        }
    }
}
