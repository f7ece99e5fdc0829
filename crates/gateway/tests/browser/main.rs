//! The pages as people meet them: a real gateway, and headless Chromium in front of it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world fails"
)]

mod agreement;
mod checking;
#[path = "../cli/client.rs"]
#[expect(dead_code, reason = "the pages need a part of what an agent does")]
mod client;
mod driver;
mod passkeys;
mod people;
mod pictures;
mod soundness;
mod world;
