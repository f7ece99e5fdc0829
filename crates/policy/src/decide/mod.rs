//! May it? One pure function, the same in the gateway and in the verifier.
//!
//! Deny is what is left when nothing below allows; every arm that allows says so in the open.
//! The allow path does not allocate.

mod egress;
mod input;
mod model;
mod terraform;

use std::borrow::Cow;

use proof::Hash;
use serde::{Deserialize, Serialize};

use crate::contract::Contract;
use crate::reason::ReasonCode;

pub use input::{
    ApprovalFact, ConfigurationFact, DecisionInput, EgressInput, ModelCost, ModelInput,
    ModelSurface, RunFacts, TerraformInput,
};

/// A contract prepared for many decisions.
#[derive(Debug, Clone)]
pub struct CompiledContract {
    contract: Contract,
    /// Sorted, for binary search.
    workspaces: Box<[Box<str>]>,
}

impl CompiledContract {
    /// Prepares a contract.
    pub fn compile(contract: &Contract) -> Self {
        let mut workspaces: Vec<Box<str>> = contract
            .permissions
            .workspaces
            .iter()
            .map(|id| id.as_str().into())
            .collect();
        workspaces.sort_unstable();
        Self {
            contract: contract.clone(),
            workspaces: workspaces.into(),
        }
    }

    /// The contract.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The contract's hash.
    pub fn hash(&self) -> Hash {
        self.contract.hash()
    }

    /// Whether the contract names this workspace.
    pub fn has_workspace(&self, id: &str) -> bool {
        self.workspaces
            .binary_search_by(|own| own.as_ref().cmp(id))
            .is_ok()
    }
}

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Go on.
    Allow,
    /// A person must agree first.
    Approve,
    /// No.
    Deny,
}

/// A decision, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// What is decided.
    #[serde(rename = "decision")]
    pub verdict: Verdict,
    /// `ALLOWED`, `APPROVAL_REQUIRED` or the first reason against.
    pub code: ReasonCode,
    /// Every reason against, in words; empty when allowed.
    pub reasons: Vec<Cow<'static, str>>,
}

impl Decision {
    const ALLOW: Self = Self {
        verdict: Verdict::Allow,
        code: ReasonCode::Allowed,
        reasons: Vec::new(),
    };

    /// A refusal for one reason.
    pub fn deny(code: ReasonCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            verdict: Verdict::Deny,
            code,
            reasons: vec![reason.into()],
        }
    }

    /// Whether the call goes on at once.
    pub fn is_allow(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// Decides one call.
pub fn decide(contract: &CompiledContract, input: &DecisionInput<'_>) -> Decision {
    let mut against = Against::default();
    match input {
        DecisionInput::Terraform(input) => terraform::judge(contract, input, &mut against),
        DecisionInput::Model(input) => model::judge(contract, input, &mut against),
        DecisionInput::Egress(input) => egress::judge(contract, input, &mut against),
    }
    against.into_decision()
}

/// Reasons against, collected; allocates only when there is one.
#[derive(Default)]
struct Against {
    first: Option<ReasonCode>,
    reasons: Vec<Cow<'static, str>>,
    needs_approval: bool,
}

impl Against {
    fn add(&mut self, code: ReasonCode) {
        self.because(code, code.title());
    }

    fn because(&mut self, code: ReasonCode, reason: impl Into<Cow<'static, str>>) {
        self.first.get_or_insert(code);
        self.reasons.push(reason.into());
    }

    /// Adds a reason unless `holds`.
    fn unless(&mut self, holds: bool, code: ReasonCode) {
        if !holds {
            self.add(code);
        }
    }

    fn into_decision(self) -> Decision {
        match self.first {
            Some(code) => Decision {
                verdict: Verdict::Deny,
                code,
                reasons: self.reasons,
            },
            None if self.needs_approval => Decision {
                verdict: Verdict::Approve,
                code: ReasonCode::ApprovalRequired,
                reasons: vec![Cow::Borrowed(ReasonCode::ApprovalRequired.title())],
            },
            None => Decision::ALLOW,
        }
    }
}

fn has_scope(scope: &[String], wanted: &str) -> bool {
    scope.iter().any(|scope| scope == wanted)
}

#[cfg(test)]
mod tests;
