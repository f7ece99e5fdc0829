//! The checks, one file for each subject. Each takes what earlier checks established, reports
//! what it finds, and returns what later checks may build on.

pub(crate) mod approvals;
pub(crate) mod consistency;
pub(crate) mod contract;
pub(crate) mod decisions;
pub(crate) mod key_sets;
pub(crate) mod log;
pub(crate) mod public_half;
pub(crate) mod receipts;
pub(crate) mod records;
pub(crate) mod runs;
pub(crate) mod seen;
pub(crate) mod tokens;

use proof::EnvelopeError;

use crate::code::Code;

/// The code for an envelope that does not verify.
pub(crate) fn envelope_code(error: &EnvelopeError) -> Code {
    match error {
        EnvelopeError::HashMismatch | EnvelopeError::SignatureInvalid(_) => Code::SignatureInvalid,
        EnvelopeError::WrongType { .. } | EnvelopeError::UnknownVersion => Code::EnvelopeMismatch,
        EnvelopeError::Malformed(_) | EnvelopeError::Unsignable(_) => Code::FileShape,
    }
}
