//! The operator listener as people reach it: a real gateway on loopback ports, with the stand-in
//! for Terraform Cloud behind it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world fails"
)]

mod access;
mod approvals;
mod attest;
mod attestations;
mod bucket;
mod closing;
mod contracts;
mod export;
mod keys;
mod log;
mod log_keys;
mod notices;
mod oidc;
mod passkeys;
mod receiver;
mod retention;
mod rollback;
mod sessions;
mod signers;
mod tokens;
mod two_people;
mod world;
