//! The operator listener as people reach it: a real gateway on loopback ports, with the stand-in
//! for Terraform Cloud behind it.

mod access;
mod approvals;
mod closing;
mod contracts;
mod rollback;
mod tokens;
mod world;
