//! How a call ended.

use policy::ReasonCode;
use proof::Hash;
use proof::record::{Egress, Ended, Outcome, ToolCall, Usage};
use store::ObjectRow;

/// How a call ended, for its outcome and its receipt.
#[derive(Debug)]
pub struct Facts {
    /// Status that the caller saw.
    pub status: Option<u16>,
    /// Status of upstream.
    pub upstream_status: Option<u16>,
    /// Hash of upstream's body bytes.
    pub response_hash: Hash,
    /// Their number.
    pub response_bytes: u64,
    /// Milliseconds to the first of them.
    pub first_byte_ms: Option<u64>,
    /// How it ended.
    pub ended: Ended,
    /// The object that the call made or concerned.
    pub object_id: Option<String>,
    /// Why it was refused after all.
    pub code: Option<ReasonCode>,
    /// Tokens, for a model call.
    pub usage: Option<Usage>,
    /// By which means they were counted here, when the provider did not say.
    pub counted_by: Option<&'static str>,
    /// Tools that the model asked for.
    pub tool_calls: Vec<ToolCall>,
    /// Ids that the answer taught us.
    pub learned: Vec<ObjectRow>,
    /// What was sent elsewhere, of a call of the egress lane.
    pub egress: Option<Box<Egress>>,
}

impl Facts {
    /// A call that the gateway answered itself, with these bytes.
    pub fn answered(status: u16, body: &[u8]) -> Self {
        Self {
            status: Some(status),
            upstream_status: None,
            response_hash: Hash::of(body),
            response_bytes: body.len() as u64,
            first_byte_ms: None,
            ended: Ended::Complete,
            object_id: None,
            code: None,
            usage: None,
            counted_by: None,
            tool_calls: Vec::new(),
            learned: Vec::new(),
            egress: None,
        }
    }
}

/// What is said about a model call in its receipt.
#[derive(Debug, Clone)]
pub struct ModelNames {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The model that was asked for.
    pub model: String,
}

/// Makes an outcome that of a call for which nothing is signed.
pub fn end_unsigned(outcome: &mut Outcome) {
    outcome.ended = Ended::Unknown;
    outcome.code = Some(ReasonCode::SignerUnavailable.as_str().to_owned());
    outcome.receipt = None;
    outcome.egress = None;
}
