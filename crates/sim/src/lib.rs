//! Loopback stand-ins for Terraform Cloud and for model providers.
//!
//! The demo, the sandbox and the tests run against these, so that every path of the gateway can be
//! exercised on one machine without an account anywhere. The stand-in for Terraform Cloud answers
//! the real `terraform` CLI, and plans and applies with the real engine in a private folder.
//!
//! Both stand-ins keep a log of every request that reached them ([`Request`]), which is what proves
//! that a refused call never went upstream, and both can be told to misbehave ([`Fault`]).

#![recursion_limit = "512"] // the vendor's resources have many attributes, and json! recurses on each

mod engine;
mod example;
mod faults;
mod ids;
mod listener;
mod model_provider;
mod request_log;
mod terraform_cloud;

pub use engine::{Engine, Providers};
pub use example::{ExampleChange, example_change, example_cli_config, example_configuration};
pub use faults::{Fault, FaultAction, FaultId};
pub use model_provider::{ModelProvider, ModelProviderConfig, NoScript, Script};
pub use request_log::{LoggedBody, Request};
pub use terraform_cloud::{
    Credential, ExecutionMode, PolicyOutcome, PriceTable, Rights, RunStatus, Settings,
    TerraformCloud, TerraformCloudConfig, UnknownObject, VariableSeed, VcsRepo, WorkspaceSeed,
};
