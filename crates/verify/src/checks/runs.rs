//! Runs: those that the records name, inside the workspaces of the contract.

use std::collections::HashSet;

use proof::record::Body;

use crate::checks::contract::Contract;
use crate::code::Code;
use crate::document::Document;
use crate::report::Findings;

/// Checks the list of runs against records and contract.
pub(crate) fn check(
    document: &Document,
    contract: &Contract,
    findings: &mut Findings,
) -> Option<()> {
    let mut named: HashSet<&str> = HashSet::new();
    for (_, record) in document.placed() {
        match &record.body {
            Body::Intent(intent) => named.extend(intent.run_id.as_deref()),
            Body::Approval(approval) => {
                named.insert(&approval.run_id);
            }
            Body::Outcome(outcome) => {
                let object = outcome.object_id.as_deref();
                named.extend(object.filter(|id| id.starts_with("run-")));
            }
            _ => {}
        }
    }
    let mut listed = HashSet::new();
    for (n, run) in document.bundle.terraform.runs.iter().enumerate() {
        let place = format!("/terraform/runs/{n}");
        findings.require(
            listed.insert(run.run_id.as_str()),
            Code::RunMismatch,
            &place,
            "listed before",
        );
        findings.require(
            named.contains(run.run_id.as_str()),
            Code::RunMismatch,
            &place,
            "no record names this run",
        );
        if !contract.compiled.has_workspace(&run.workspace_id) {
            findings.fail(
                Code::WorkspaceOutside,
                format!("{place}/workspace_id"),
                format!("{} is not in the contract", run.workspace_id),
            );
        }
    }
    for (place, record) in document.placed() {
        let run = match &record.body {
            Body::Intent(intent) => intent.run_id.as_deref(),
            Body::Approval(approval) => Some(approval.run_id.as_str()),
            Body::Outcome(outcome) => outcome
                .object_id
                .as_deref()
                .filter(|id| id.starts_with("run-")),
            _ => None,
        };
        if let Some(run) = run.filter(|run| !listed.contains(run)) {
            findings.fail(Code::RunMismatch, place, format!("{run} is not listed"));
        }
    }
    findings.note(format!("{} runs", listed.len()));
    Some(())
}
