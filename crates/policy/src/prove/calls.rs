//! Calls to Terraform Cloud.
//!
//! What a contract allows of one operation is a product: any workspace of the list, with any
//! organization that passes, with any choice of the run's options. One product lies within
//! another exactly when it is empty or each of its factors lies within the other's, so that it is
//! enough to ask one plain call, and from there one call for each value of one factor that the
//! old contract has not.

use crate::contract::Contract;
use crate::decide::{ApprovalFact, ConfigurationFact, RunFacts, TerraformInput};
use crate::terraform::{Operation, Target};

use super::{Dimension, Factor, Probes, Question};

/// An organization for contracts that name none.
const ANY_ORGANIZATION: &str = "example-org";
/// The run of calls that name one.
pub(super) const RUN: &str = "run-clawgateExample1";

pub(super) fn probe(probes: &mut Probes<'_>) {
    let (old, new) = (probes.old.contract(), probes.new.contract());
    let workspaces = workspaces(old, new);
    let organizations = organizations(old, new);
    // Those that can change something are told first.
    let telling = [
        Operation::ApplyRun,
        Operation::CreateRun,
        Operation::CreateConfigurationVersion,
        Operation::CurrentStateVersion,
        Operation::CurrentStateVersionOutputs,
        Operation::WorkspaceById,
    ];
    let others = Operation::ALL.iter().filter(|one| !telling.contains(one));
    for operation in telling.iter().chain(others) {
        one_operation(probes, *operation, &workspaces, &organizations);
    }
}

fn one_operation(
    probes: &mut Probes<'_>,
    operation: Operation,
    workspaces: &Factor<String>,
    organizations: &Factor<String>,
) {
    let has_workspace = !matches!(operation.target(), Target::Service | Target::Organization);
    let (Some(workspace), Some(organization)) = (workspaces.any(), organizations.any()) else {
        return;
    };
    let plain = call(operation, workspace, organization);
    // What the old contract says of its own workspaces, so that a workspace that is new does not
    // pass for an operation that is new.
    let before = call(
        operation,
        probes
            .old
            .contract()
            .permissions
            .workspaces
            .first()
            .map_or("", |id| id.as_str()),
        named(probes.old.contract()).unwrap_or(ANY_ORGANIZATION),
    );
    let variants = match operation {
        Operation::ApplyRun => vec![ApprovalFact::Valid, ApprovalFact::None],
        _ => vec![ApprovalFact::None],
    };
    for approval in variants {
        let with = |input: &TerraformInput<'static>| {
            let input = TerraformInput {
                approval,
                ..input.clone()
            };
            Question::Terraform(Box::new(input))
        };
        if probes.is_new(&with(&before), &with(&plain)) {
            probes.ask(gate(operation), with(&plain));
        }
        if has_workspace {
            for workspace in &workspaces.fresh {
                let input = call(operation, workspace, organization);
                probes.ask(Dimension::Workspaces, with(&input));
            }
        }
        if operation.target() != Target::Service {
            for organization in &organizations.fresh {
                let input = call(operation, workspace, organization);
                probes.ask(Dimension::Organization, with(&input));
            }
        }
    }
    if operation == Operation::CreateRun {
        run_options(probes, &before, &plain);
    }
}

const fn gate(operation: Operation) -> Dimension {
    match operation {
        Operation::ApplyRun => Dimension::Apply,
        Operation::CurrentStateVersion => Dimension::State,
        Operation::CurrentStateVersionOutputs | Operation::StateVersionOutput => Dimension::Outputs,
        _ => Dimension::Operations,
    }
}

fn call(operation: Operation, workspace: &str, organization: &str) -> TerraformInput<'static> {
    let mut input = TerraformInput::new(operation, &[]);
    let target = operation.target();
    if target != Target::Service {
        input.organization = Some(organization.to_owned().into());
        // As upstream said it, when the contract's workspaces were read.
        input.organization_known = true;
    }
    if !matches!(target, Target::Service | Target::Organization) {
        input.workspace_id = Some(workspace.to_owned().into());
    }
    input.owned = target == Target::OwnObject;
    match operation {
        Operation::CreateRun => {
            let run = RunFacts {
                configuration: ConfigurationFact::Inspected,
                ..RunFacts::default()
            };
            input.run = Some(std::borrow::Cow::Owned(run));
        }
        Operation::ApplyRun | Operation::DiscardRun | Operation::CancelRun => {
            input.run_id = Some(RUN.into());
        }
        _ => {}
    }
    input
}

fn workspaces(old: &Contract, new: &Contract) -> Factor<String> {
    let ids = |contract: &Contract| -> Vec<String> {
        let listed = &contract.permissions.workspaces;
        listed.iter().map(|id| id.as_str().to_owned()).collect()
    };
    Factor::of_lists(&ids(old), &ids(new))
}

fn named(contract: &Contract) -> Option<&str> {
    let organization = contract.permissions.organization.as_ref();
    organization.map(|organization| organization.as_str())
}

fn organizations(old: &Contract, new: &Contract) -> Factor<String> {
    let text = |text: &str| text.to_owned();
    match (named(old), named(new)) {
        (None, None) => Factor::both(text(ANY_ORGANIZATION)),
        (None, Some(new)) => Factor::both(text(new)),
        (Some(old), Some(new)) if old == new => Factor::both(text(new)),
        (Some(_), Some(new)) => Factor::only(text(new)),
        (Some(old), None) => Factor {
            shared: Some(text(old)),
            fresh: vec![match old {
                ANY_ORGANIZATION => format!("{ANY_ORGANIZATION}-2"),
                _ => text(ANY_ORGANIZATION),
            }],
        },
    }
}

/// The run's options, where the old contract lets runs be started at all; otherwise that is what
/// is new.
fn run_options(
    probes: &mut Probes<'_>,
    before: &TerraformInput<'static>,
    plain: &TerraformInput<'static>,
) {
    let with = |input: &TerraformInput<'static>, change: &dyn Fn(&mut RunFacts)| {
        let mut input = input.clone();
        if let Some(run) = &mut input.run {
            change(run.to_mut());
        }
        Question::Terraform(Box::new(input))
    };
    if probes.is_new(&with(before, &|_| {}), &with(plain, &|_| {})) {
        return;
    }
    let mut option = |dimension, change: &dyn Fn(&mut RunFacts)| {
        if probes.is_new(&with(before, change), &with(plain, change)) {
            probes.ask(dimension, with(plain, change));
        }
    };
    option(Dimension::RunOptions, &|run| run.is_destroy = true);
    option(Dimension::RunOptions, &|run| run.refresh_only = true);
    option(Dimension::RunOptions, &|run| run.targets = 1);
    option(Dimension::RunOptions, &|run| run.replace = 1);
    let new = probes.new;
    for name in &new.contract().permissions.run.variables {
        let set = |run: &mut RunFacts| run.variables = vec![name.clone()];
        if probes.is_new(&with(before, &set), &with(plain, &set)) {
            probes.ask(Dimension::RunVariables, with(plain, &set));
        }
    }
}
