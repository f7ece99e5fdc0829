//! The gateway between AI agents and Terraform Cloud.
//!
//! Two planes that share a process and a store, never a router: [`clawproxy`] is what agents
//! reach, [`operator`] what people reach. The life of a call is one function,
//! `clawproxy::enforce`.
//!
//! | module | what it is |
//! |---|---|
//! | [`clawproxy`] | the agents' data path: authenticate, resolve, decide, record, forward |
//! | [`approvals`] | the gate: plans that wait for a person, and applies bound to them |
//! | [`clawcontrols`] | the registry of Work Policy Contracts |
//! | [`clawscope`] | issues, inspects and revokes scoped tokens |
//! | [`run_tasks`] | answers when Terraform Cloud asks whether a run may go on |
//! | [`watching`] | what happens to governed workspaces outside the gateway |
//! | [`jobs`] | opens and closes jobs |
//! | [`activity`] | what jobs are doing, summed up for those who watch |
//! | [`bundles`] | seals a job's evidence |
//! | [`metrics`] | what is measured, for Prometheus |
//! | [`telemetry`] | traces and metrics for an OpenTelemetry collector |
//! | [`vault`] | keeps uploads and conversations, sealed to the auditors' keys |
//! | [`transcript`] | puts conversations together from the bodies of model calls |
//! | [`export`] | evidence as a SIEM reads it: CSV, OCSF, JSON lines |
//! | [`operator`] | the operator API |
//! | [`pages`] | what all pages share: frame, words, style |
//! | [`passkeys`] | approvers' passkeys: enrolment, signing, signing in |
//! | [`oidc`] | sign-in with OpenID Connect |
//! | [`trust_pulse`] | read-only pages for reviewers |
//! | [`cli`] | the commands |

#![forbid(unsafe_code)]

pub mod activity;
pub mod app;
pub mod approvals;
pub mod bundles;
pub mod clawcontrols;
pub mod clawproxy;
pub mod clawscope;
pub mod cli;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod export;
pub mod jobs;
pub mod keys;
pub mod leases;
pub mod live;
pub mod metrics;
pub mod notices;
pub mod oidc;
pub mod operator;
pub mod pages;
pub mod passkeys;
pub mod prompts;
pub mod replicas;
pub mod rollback;
pub mod run_tasks;
pub mod secret;
pub mod server;
mod shapes;
pub mod signature;
pub mod spent;
pub mod start;
pub mod storage;
pub mod telemetry;
pub mod tlog;
pub mod transcript;
pub mod trust_pulse;
pub mod upstream;
pub mod vault;
pub mod watching;
pub mod witness;
