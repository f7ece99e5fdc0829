//! `clawgate policy diff`: what a new version newly allows, and what it no longer does.

use std::path::Path;

use clap::Args;
use serde_json::Value;

use super::super::term::{self, BAD, BOLD, GOOD, OFF};
use super::super::{Failure, Remote, job};

/// Says in words what a new version newly allows and what it no longer does
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate policy diff old.json new.json
  clawgate policy diff _SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc new.json

Files are compared here, without a gateway; a hash is fetched from it.")]
pub struct Diff {
    /// The old version: a file or a published hash
    old: String,
    /// The new version: a file or a published hash
    new: String,
    #[command(flatten)]
    remote: Remote,
}
