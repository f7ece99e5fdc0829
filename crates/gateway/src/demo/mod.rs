//! `clawgate demo` and `clawgate sandbox`: the whole product on loopback, against simulators.
//!
//! [`sandbox`] sets everything up, `story` plays an agent against it, `agent` and
//! `terraform` are the two clients that the agent uses, `stage` prints.

mod agent;
mod attempts;
mod report;
pub mod sandbox;
mod stage;
mod story;
mod terraform;

use std::path::PathBuf;

pub use story::play;

/// What `clawgate demo` was asked to do.
#[derive(Debug, Clone, Default)]
pub struct DemoOptions {
    /// End after the story instead of staying up.
    pub once: bool,
    /// Leave the bundle, the trust root, the contract and the report here.
    pub out: Option<PathBuf>,
}
