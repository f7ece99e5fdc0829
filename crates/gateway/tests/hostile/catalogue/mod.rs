//! The catalogue of known ways around a gateway before Terraform Cloud, one test for each, named
//! after its row. The page `docs/threat-model.md` says which test proves which row; what other
//! tests of this crate prove already is only named there.

mod apply;
mod secrets;
mod workspaces;
