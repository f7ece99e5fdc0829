//! The Terraform lane: scope, then whose object it is, then what the contract says about the call.

use super::{
    Against, ApprovalFact, CompiledContract, ConfigurationFact, RunFacts, TerraformInput, has_scope,
};
use crate::contract::Permissions;
use crate::reason::{ReasonCode, quoted};
use crate::terraform::{Operation, Target};

pub(super) fn judge(
    contract: &CompiledContract,
    input: &TerraformInput<'_>,
    against: &mut Against,
) {
    let permissions = &contract.contract().permissions;
    against.unless(scope_covers(input), ReasonCode::TokenScope);
    target(contract, input, against);
    match input.operation {
        // What every client needs before it can do anything; the target was judged above.
        Operation::Discovery
        | Operation::Ping
        | Operation::AccountDetails
        | Operation::EntitlementSet
        | Operation::Capacity
        | Operation::RunsQueue
        | Operation::ListWorkspaces
        | Operation::WorkspaceByName
        | Operation::WorkspaceById
        | Operation::WorkspaceTagBindings
        | Operation::WorkspaceRuns => {}
        // Reading what the job itself has made.
        Operation::ReadConfigurationVersion
        | Operation::ReadRun
        | Operation::RunEvents
        | Operation::RunTaskStages
        | Operation::RunPolicyChecks
        | Operation::ReadTaskStage
        | Operation::ReadPolicyCheck
        | Operation::PolicyCheckOutput
        | Operation::RunComments
        | Operation::ReadPlan
        | Operation::PlanJsonRedacted
        | Operation::ReadApply
        | Operation::ReadCostEstimate => {}
        Operation::CurrentStateVersion => {
            against.unless(permissions.state_read, ReasonCode::StateReadDenied);
        }
        Operation::CurrentStateVersionOutputs | Operation::StateVersionOutput => {
            against.unless(permissions.outputs_read, ReasonCode::OutputsReadDenied);
        }
        Operation::CreateConfigurationVersion => {
            against.unless(permissions.operations.plan, ReasonCode::OperationNotAllowed);
        }
        Operation::CreateRun => {
            against.unless(permissions.operations.plan, ReasonCode::OperationNotAllowed);
            match &input.run {
                Some(run) => new_run(permissions, run, against),
                None => against.because(
                    ReasonCode::InputInconsistent,
                    "what the run asks for is not known",
                ),
            }
        }
        Operation::DiscardRun | Operation::CancelRun => {
            against.unless(permissions.operations.plan, ReasonCode::OperationNotAllowed);
        }
        Operation::ApplyRun => {
            against.unless(permissions.apply.allowed, ReasonCode::ApplyNotAllowed);
            against.needs_approval =
                permissions.apply.requires_approval && input.approval != ApprovalFact::Valid;
        }
    }
}

fn scope_covers(input: &TerraformInput<'_>) -> bool {
    match input.operation {
        Operation::ApplyRun => {
            let elevated = |scope: &String| {
                scope.strip_prefix("tfc:apply:").is_some_and(|run| {
                    input
                        .run_id
                        .as_deref()
                        .is_some_and(|named| !run.is_empty() && run == named)
                })
            };
            has_scope(&input.scope, "tfc:apply") || input.scope.iter().any(elevated)
        }
        Operation::Discovery | Operation::Ping | Operation::AccountDetails => true,
        _ => has_scope(&input.scope, "tfc:plan"),
    }
}

fn target(contract: &CompiledContract, input: &TerraformInput<'_>, against: &mut Against) {
    let named = contract.contract().permissions.organization.as_ref();
    match input.operation.target() {
        Target::Service => {}
        Target::Organization => match (&input.organization, named) {
            (Some(asked), Some(named)) => {
                against.unless(asked == named.as_str(), ReasonCode::OrganizationNotAllowed);
            }
            (Some(_), None) => {
                against.unless(input.organization_known, ReasonCode::OrganizationNotAllowed);
            }
            (None, _) => {
                against.because(
                    ReasonCode::InputInconsistent,
                    "the organization is not known",
                );
            }
        },
        Target::Workspace => workspace(contract, input, ReasonCode::WorkspaceNotAllowed, against),
        Target::WorkspaceObject => {
            workspace(contract, input, ReasonCode::ObjectUnknown, against);
        }
        Target::OwnObject => {
            // Not in the index: nothing more is said about it.
            if input.workspace_id.is_none() {
                against.add(ReasonCode::ObjectUnknown);
                return;
            }
            workspace(contract, input, ReasonCode::ObjectUnknown, against);
            against.unless(input.owned, ReasonCode::ObjectNotOwned);
        }
    }
}

/// `unknown` is the answer when nobody knows which workspace it is.
fn workspace(
    contract: &CompiledContract,
    input: &TerraformInput<'_>,
    unknown: ReasonCode,
    against: &mut Against,
) {
    match &input.workspace_id {
        Some(id) if contract.has_workspace(id) => {}
        Some(id) => against.because(
            ReasonCode::WorkspaceNotAllowed,
            format!("workspace {} is outside the contract", quoted(id)),
        ),
        None => against.add(unknown),
    }
    if let Some(named) = &contract.contract().permissions.organization {
        match &input.organization {
            Some(owner) => {
                against.unless(owner == named.as_str(), ReasonCode::OrganizationNotAllowed);
            }
            None => against.because(
                ReasonCode::InputInconsistent,
                "the contract names an organization, but the workspace's is not known",
            ),
        }
    }
}

fn new_run(permissions: &Permissions, run: &RunFacts, against: &mut Against) {
    let allowed = &permissions.run;
    against.unless(
        !run.is_destroy || allowed.destroy,
        ReasonCode::DestroyNotAllowed,
    );
    against.unless(
        !run.refresh_only || allowed.refresh_only,
        ReasonCode::RefreshOnlyNotAllowed,
    );
    // Targets disable cost estimation upstream, and a budget without an estimate is none.
    let targets = allowed.targets && permissions.cost.is_none();
    against.unless(run.targets == 0 || targets, ReasonCode::TargetsNotAllowed);
    against.unless(
        run.replace == 0 || allowed.replace,
        ReasonCode::ReplaceNotAllowed,
    );
    for name in &run.variables {
        if !allowed.variables.contains(name) {
            against.because(
                ReasonCode::RunVariablesNotAllowed,
                format!(
                    "variable {} is not listed in permissions.run.variables",
                    quoted(name)
                ),
            );
        }
    }
    // No contract can allow these: each gets around a rule or shows secrets.
    against.unless(!run.allow_empty_apply, ReasonCode::EmptyApplyNotAllowed);
    against.unless(!run.debugging_mode, ReasonCode::DebuggingNotAllowed);
    against.unless(
        !run.allow_config_generation,
        ReasonCode::ConfigGenerationNotAllowed,
    );
    against.unless(!run.invoke_actions, ReasonCode::ActionInvocationNotAllowed);
    against.unless(
        !run.terraform_version,
        ReasonCode::TerraformVersionNotAllowed,
    );
    against.unless(!run.policy_paths, ReasonCode::PolicyPathsNotAllowed);
    match run.configuration {
        ConfigurationFact::Inspected | ConfigurationFact::Pinned => {}
        ConfigurationFact::Absent => against.add(ReasonCode::ConfigurationVersionRequired),
        ConfigurationFact::Unknown => against.add(ReasonCode::ObjectUnknown),
        ConfigurationFact::NotInspected => {
            against.add(ReasonCode::ConfigurationVersionNotInspected);
        }
        ConfigurationFact::OtherWorkspace => against.add(ReasonCode::ConfigurationVersionForeign),
        ConfigurationFact::NotOwned => against.add(ReasonCode::ObjectNotOwned),
    }
}
