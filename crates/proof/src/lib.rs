//! Bytes to verified types.
//!
//! Everything that Clawgate signs, hashes or verifies is defined here: canonical JSON, keys,
//! envelopes, scoped tokens, records, receipts, approvals, the Merkle log and the proof bundle.
//! The crate is synchronous and has no I/O, no clock and no randomness: time, random bytes and
//! keys come in as arguments, so that a verifier on another machine, years later, gets the same
//! answers as the gateway did.
//!
//! Reading order: [`json`] and [`hash`] carry everything; [`keys`] and [`envelope`] say who
//! signed what, [`unsigned`] what others sign for us; [`token`], [`record`], [`receipt`] and [`approval`] are the documents, [`passkey`]
//! what an authenticator signs, [`frequent`] how thousands of signatures are checked;
//! [`merkle`], [`checkpoint`], [`consistency`], [`tiles`] and [`bundle`] tie them together,
//! [`timestamp`] says when, [`export`] says it in others' formats; [`trust`] is what a verifier is
//! given from outside, and [`keyset`] which of the gateway's keys counted where.

#![forbid(unsafe_code)]

pub mod approval;
pub mod bundle;
pub mod checkpoint;
pub mod consistency;
pub mod envelope;
pub mod event;
pub mod export;
pub mod frequent;
pub mod hash;
pub mod jcs;
pub mod json;
pub mod keys;
pub mod keyset;
pub mod merkle;
pub mod passkey;
pub mod receipt;
pub mod record;
pub mod tiles;
pub mod time;
pub mod timestamp;
pub mod token;
pub mod trust;
pub mod unsigned;

pub use envelope::{Envelope, EnvelopeError, EnvelopeType, Signed};
pub use hash::Hash;
pub use json::{Json, JsonError, Numbers};
pub use keys::{Did, PublicKey, SigningKey};
pub use passkey::ApproverDid;
pub use time::Timestamp;
pub use unsigned::Unsigned;
