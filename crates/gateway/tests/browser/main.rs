//! The pages as people meet them: a real gateway, and headless Chromium in front of it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world fails"
)]

#[path = "../cli/client.rs"]
#[expect(dead_code, reason = "the pages need a part of what an agent does")]
mod client;
mod deciding;
mod driver;
mod oidc;
mod passkeys;
mod people;
mod pictures;
mod soundness;
mod world;
