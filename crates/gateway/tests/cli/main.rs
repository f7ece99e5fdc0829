//! The real terraform CLI through the gateway, against the stand-in for Terraform Cloud.
//!
//! [`world`] sets everything up; each world checks at its end that nothing secret reached the
//! agent and that each upstream credential was used for its duty only. Where the agent is not
//! the subject of a test, a plain client of the API takes the CLI's place, and where the plan is
//! not, a recorded plan the engine's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod apply;
mod approvals;
mod client;
#[cfg(target_os = "linux")]
mod confine;
mod conversations;
mod cost;
mod doctor;
mod evidence;
mod export;
mod faults;
mod forbidden;
mod gate;
mod guides;
mod interrupt;
mod keys;
mod kill;
mod libraries;
mod login;
mod logs;
mod mcp;
mod metrics;
mod openclaw;
mod passkeys;
mod plan;
mod plan_only;
mod policies;
mod postgres;
mod prompts;
mod proof;
mod queue;
mod remote_backend;
mod replicas;
mod restart;
mod rollback;
mod run;
mod task_calls;
mod tasks;
mod telemetry;
mod terraform;
mod top;
mod upstream;
mod vault;
mod watching;
mod world;
