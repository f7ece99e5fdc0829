//! Receipts: the one signature that every outcome carries, in the public clawsig shapes.
//!
//! A model call gets a gateway receipt, a Terraform call and a connection through the egress proxy
//! a tool receipt of version 2. Both name
//! the event of the call's intent, and through it the whole record.

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::json::Json;
use crate::keys::Did;
use crate::time::Timestamp;

/// What a receipt is tied to (clawsig `receipt_binding`, a closed object).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The job.
    pub run_id: String,
    /// The event of the call's intent.
    pub event_hash_b64u: Hash,
    /// `<job>:<seq of the intent>`: no two receipts share it.
    pub nonce: String,
    /// The contract that decided.
    pub policy_hash: Hash,
    /// Scope hash of the token; absent for the gateway's own calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_scope_hash_b64u: Option<Hash>,
}

/// Receipt of a model call (clawsig 2.5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayReceipt {
    /// Always `"1"`.
    pub receipt_version: String,
    /// `rcpt_` and a UUID.
    pub receipt_id: String,
    /// The gateway's audience name.
    pub gateway_id: String,
    /// The provider that answered.
    pub provider: String,
    /// The model that was asked for upstream.
    pub model: String,
    /// Hash of the body bytes sent upstream.
    pub request_hash_b64u: Hash,
    /// Hash of the body bytes received.
    pub response_hash_b64u: Hash,
    /// Tokens of the request, 0..10,000,000.
    pub tokens_input: u64,
    /// Tokens of the answer, 0..10,000,000.
    pub tokens_output: u64,
    /// Milliseconds to the last byte, 0..3,600,000.
    pub latency_ms: u64,
    /// When the call ended.
    pub timestamp: Timestamp,
    /// What it is tied to.
    pub binding: Binding,
    /// Ours: `clawgate` with issuer, how the call ended, and whether tokens were derived.
    pub metadata: Json,
}

/// Receipt of a Terraform call (clawsig 2.7, version 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolReceipt {
    /// Always `"2"`.
    pub receipt_version: String,
    /// `rcpt_` and a UUID.
    pub receipt_id: String,
    /// `terraform_cloud.` or `egress.`, and the operation's name.
    pub tool_name: String,
    /// Always `clawgate/1`: how the two hashes below are made.
    pub tool_version: String,
    /// SHA-256(salt ‖ hash of the request body sent upstream).
    pub args_hash_b64u: Hash,
    /// SHA-256(salt ‖ hash of the response body received).
    pub result_hash_b64u: Hash,
    /// Always `SHA-256`.
    pub hash_algorithm: String,
    /// The agent.
    pub agent_did: Did,
    /// When the call ended.
    pub timestamp: Timestamp,
    /// Milliseconds to the last byte.
    pub latency_ms: u64,
    /// `success` or `error`.
    pub result_status: ResultStatus,
    /// 32 random bytes.
    pub args_salt_b64u: Hash,
    /// 32 random bytes.
    pub result_salt_b64u: Hash,
    /// What it is tied to.
    pub binding: Binding,
}

/// Whether a Terraform call did what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultStatus {
    /// Upstream answered with a 2xx status, or 404 where that is an answer.
    Success,
    /// Anything else.
    Error,
}

/// What stands before the operation in the name of the tool, by the call's lane. Model calls have
/// another kind of receipt.
pub const fn tool_prefix(lane: crate::record::Lane) -> &'static str {
    match lane {
        crate::record::Lane::Egress => "egress.",
        _ => "terraform_cloud.",
    }
}

/// SHA-256(salt ‖ hash): how a tool receipt commits to a request or an answer.
pub fn salted(salt: &Hash, hash: &Hash) -> Hash {
    Hash::of_parts([salt.as_bytes().as_slice(), hash.as_bytes()])
}
