//! The pages as people meet them: a real gateway, and headless Chromium in front of it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world fails"
)]

mod agreement;
mod checking;
#[path = "../cli/client.rs"]
mod client;
mod deciding;
mod driver;
mod oidc;
mod passkeys;
mod people;
mod pictures;
mod publishing;
mod soundness;
mod world;
