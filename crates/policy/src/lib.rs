//! The decision: what a contract says about a call.
//!
//! Pure: no I/O, no clock, no randomness, so that a verifier on another machine, years later,
//! comes to the same decision from the recorded input.

mod check;
pub mod configuration;
pub mod contract;
pub mod cost;
pub mod decide;
pub mod decimal;
mod diff;
pub mod egress;
mod glob;
pub mod model;
pub mod plan;
pub mod prove;
pub mod reason;
mod rules;
pub mod terraform;

pub use check::check;
pub use contract::{Contract, ContractErrors, EXAMPLE_CONTRACT};
pub use cost::CostFacts;
pub use decide::{CompiledContract, Decision, DecisionInput, Verdict, decide};
pub use diff::{ContractDiff, diff};
pub use glob::{Glob, GlobError};
pub use reason::{ReasonCode, Refusal};
