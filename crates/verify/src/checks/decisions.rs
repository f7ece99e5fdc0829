//! Decisions, made again: the contract and the recorded input give the recorded answer.

use std::collections::BTreeSet;

use policy::reason::Origin;
use policy::terraform::Operation;
use policy::{Decision, DecisionInput, ReasonCode, Verdict, decide};
use proof::record::{Body, Intent, Lane, Refusal};

use crate::checks::contract::Contract;
use crate::checks::tokens::Tokens;
use crate::code::Code;
use crate::document::{Document, Place};
use crate::report::Findings;
use crate::threads;

/// What the gateway must not do in its own lane without a decision of the contract. Whatever
/// else it does there (reading a plan, discarding, rolling back at an operator's word) is its
/// operator's act, not the agent's.
pub(crate) const DECIDED: [Operation; 3] = [
    Operation::ApplyRun,
    Operation::CreateRun,
    Operation::CreateConfigurationVersion,
];

/// Calls at the gateway's own capability addresses, and the operations by which they are decided.
const CAPABILITIES: [(&str, Operation); 3] = [
    (
        "upload-configuration",
        Operation::CreateConfigurationVersion,
    ),
    ("read-plan-log", Operation::ReadPlan),
    ("read-apply-log", Operation::ReadApply),
];

/// Decides every call again.
pub(crate) fn check(
    document: &Document,
    contract: &Contract,
    tokens: &Tokens<'_>,
    findings: &mut Findings,
) -> Option<()> {
    let results = threads::map(&document.bundle.records, |_, record| match &record.body {
        Body::Intent(intent) => judge_intent(document, contract, tokens, intent),
        Body::Refusal(refusal) => judge_refusal(contract, refusal),
        _ => Outcome::NothingToDecide,
    });
    let mut decided = 0usize;
    for (index, outcome) in results.into_iter().enumerate() {
        let place = Place(index);
        match outcome {
            Outcome::NothingToDecide => {}
            Outcome::Same => decided += 1,
            Outcome::Wrong(code, detail) => findings.fail(code, place, detail),
            Outcome::Unreadable(detail) => {
                findings.not_proven(Code::DecisionUnreadable, place, detail);
            }
        }
    }
    findings.note(format!("{decided} decisions made again"));
    Some(())
}

enum Outcome {
    /// No decision of the contract.
    NothingToDecide,
    /// The same decision as then.
    Same,
    Wrong(Code, String),
    Unreadable(String),
}

fn judge_intent(
    document: &Document,
    contract: &Contract,
    tokens: &Tokens<'_>,
    intent: &Intent,
) -> Outcome {
    let own = intent.lane == Lane::Gateway;
    // An agent may wish for an apply; `applies` checks that nothing but that came of it.
    let applies = intent.operation == Operation::ApplyRun.name();
    let recorded = match intent.decision.to_typed::<Decision>() {
        Ok(recorded) => recorded,
        Err(error) => return Outcome::Unreadable(format!("decision: {error:?}")),
    };
    let allowed = match recorded.verdict {
        Verdict::Allow => true,
        Verdict::Approve => applies,
        Verdict::Deny => false,
    };
    if !allowed {
        let detail = format!("{} was made with {:?}", intent.operation, recorded.verdict);
        return Outcome::Wrong(Code::DecisionNotAllowed, detail);
    }
    let input = match intent.input.to_typed::<DecisionInput<'static>>() {
        Ok(input) => input,
        Err(_) if own && !DECIDED.iter().any(|o| o.name() == intent.operation) => {
            return Outcome::NothingToDecide;
        }
        Err(error) => return Outcome::Unreadable(format!("input: {error:?}")),
    };
    if let Some(contradiction) = contradiction(document, tokens, intent, &input) {
        return Outcome::Wrong(Code::DecisionMismatch, contradiction.to_owned());
    }
    same(&recorded, &decide(&contract.compiled, &input))
}

/// What in the input is not what the rest of the bundle says about the call.
fn contradiction(
    document: &Document,
    tokens: &Tokens<'_>,
    intent: &Intent,
    input: &DecisionInput<'_>,
) -> Option<&'static str> {
    let scope = match (intent.lane, input) {
        (Lane::Model, DecisionInput::Model(input)) => &input.scope,
        (Lane::Egress, DecisionInput::Egress(input)) => {
            if input.operation.name() != intent.operation {
                return Some("the input is about another operation");
            }
            &input.scope
        }
        (Lane::Terraform | Lane::Gateway, DecisionInput::Terraform(input)) => {
            let named = (intent.operation.as_str(), input.operation);
            if input.operation.name() != intent.operation && !CAPABILITIES.contains(&named) {
                return Some("the input is about another operation");
            }
            let run = intent.run_id.as_deref();
            if input.run_id.is_some() && run.is_some() && input.run_id.as_deref() != run {
                return Some("the input is about another run");
            }
            let workspace = run.and_then(|run| document.run(run));
            let workspace = workspace.map(|run| run.workspace_id.as_str());
            if workspace.is_some() && input.workspace_id.as_deref() != workspace {
                return Some("the input is about another workspace than the run's");
            }
            &input.scope
        }
        _ => return Some("the input is about another lane"),
    };
    let token = tokens.get(intent.caller.token_hash.as_str())?;
    let granted: BTreeSet<String> = token
        .claims
        .scope
        .iter()
        .cloned()
        .map(String::from)
        .collect();
    let assumed: BTreeSet<String> = scope.iter().cloned().collect();
    (granted != assumed).then_some("the input has other scopes than the token")
}

fn judge_refusal(contract: &Contract, refusal: &Refusal) -> Outcome {
    let code = match refusal.code.parse::<ReasonCode>() {
        Ok(ReasonCode::Allowed) => {
            let detail = "refused, but allowed".to_owned();
            return Outcome::Wrong(Code::DecisionNotAllowed, detail);
        }
        Ok(code) => code,
        Err(error) => return Outcome::Unreadable(error.to_string()),
    };
    let Some(input) = &refusal.input else {
        return Outcome::NothingToDecide;
    };
    let input = match input.to_typed::<DecisionInput<'static>>() {
        Ok(input) => input,
        Err(error) => return Outcome::Unreadable(format!("input: {error:?}")),
    };
    if code.origin() != Origin::Policy {
        // The token, or the gateway's own trouble: no answer of the contract.
        return Outcome::NothingToDecide;
    }
    let decided = decide(&contract.compiled, &input);
    if decided.is_allow() || decided.code != code {
        let detail = format!("refused with {code}, but decided {}", decided.code);
        return Outcome::Wrong(Code::DecisionMismatch, detail);
    }
    Outcome::Same
}

fn same(recorded: &Decision, decided: &Decision) -> Outcome {
    if (recorded.verdict, recorded.code) == (decided.verdict, decided.code) {
        Outcome::Same
    } else {
        let detail = format!("recorded {}, but decided {}", recorded.code, decided.code);
        Outcome::Wrong(Code::DecisionMismatch, detail)
    }
}
