//! The gateway as a process that dies and as one whose world fails, and what must hold all the same.
//!
//! The stand-ins for Terraform Cloud and for the model provider, the agents, the approver and the
//! operator live in this process and outlive every gateway, as upstream does. `docs/crash.md` says
//! what is checked and how to run more of it: `cargo xtask crash --kills 10000`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chance;
mod check;
#[allow(dead_code, reason = "it has what the suite `cli` needs, too")]
#[path = "../cli/client.rs"]
mod client;
mod faults;
mod held;
mod kills;
mod ledger;
mod points;
mod postgres;
mod process;
mod story;
mod world;
