//! `clawgate openapi`: the operator API, for those who write a client.

use clap::Args;

use super::{Failure, term};
use crate::operator::openapi::document;

/// Prints the operator API as an OpenAPI 3.1 document
///
/// It belongs to this version of the program; no gateway is asked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate openapi > openapi.json
  clawgate openapi | jq -r '.paths | keys[]'

Clients for Python and TypeScript are made from it: clients/python, clients/typescript.")]
pub(super) struct Openapi {}

impl Openapi {
    pub(super) fn run() -> Result<(), Failure> {
        term::print_json(&document());
        Ok(())
    }
}
