//! What is wrong with a contract: every error, each with its path.

use std::fmt;

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractError {
    /// Where, as member names joined by dots; empty for the document as a whole.
    pub path: String,
    /// What.
    pub kind: ContractErrorKind,
}

/// What can be wrong with a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContractErrorKind {
    /// The text is not strict JSON; duplicate members are reported here.
    Json(String),
    /// No such member.
    UnknownMember {
        /// The nearest member that exists.
        nearest: Option<&'static str>,
    },
    /// A required member is not there.
    Missing,
    /// A value of another JSON type.
    WrongType {
        /// What is wanted.
        expected: &'static str,
    },
    /// A value of the right type that is not accepted.
    BadValue(String),
    /// Members that are fine alone contradict each other.
    Contradiction(String),
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        match &self.kind {
            ContractErrorKind::Json(reason) => f.write_str(reason),
            ContractErrorKind::UnknownMember {
                nearest: Some(nearest),
            } => {
                write!(f, "unknown member; did you mean `{nearest}`?")
            }
            ContractErrorKind::UnknownMember { nearest: None } => f.write_str("unknown member"),
            ContractErrorKind::Missing => f.write_str("required, but missing"),
            ContractErrorKind::WrongType { expected } => write!(f, "must be {expected}"),
            ContractErrorKind::BadValue(reason) | ContractErrorKind::Contradiction(reason) => {
                f.write_str(reason)
            }
        }
    }
}

/// Every error of one document; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ContractErrors(pub Vec<ContractError>);

impl fmt::Display for ContractErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}
