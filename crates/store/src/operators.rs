//! Operators, and what they did.

use async_trait::async_trait;
use proof::{Hash, Json, Timestamp};

use crate::StoreError;

/// Somebody who may use the operator listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRow {
    /// The name.
    pub name: String,
    /// The e-mail address of the person behind it, where somebody has said so.
    pub email: Option<String>,
    /// SHA-256 of the credential.
    pub token_hash: Hash,
    /// What the operator may do.
    pub roles: Vec<String>,
    /// When the operator was added.
    pub created_at: Timestamp,
}

/// One thing that an operator did.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorAction {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub operator: String,
    /// What, by a stable name.
    pub action: String,
    /// To what: a job, a token's hash, a contract's hash.
    pub subject: String,
    /// Particulars; never a secret.
    pub detail: Json,
}

/// Operators and their actions.
#[async_trait]
pub trait Operators {
    /// Adds an operator.
    ///
    /// # Errors
    /// [`Conflict::OperatorExists`](crate::Conflict::OperatorExists) when the name or the
    /// credential is taken.
    async fn add_operator(&self, operator: OperatorRow) -> Result<(), StoreError>;

    /// The operator with this credential.
    async fn operator_by_token(&self, token_hash: &Hash)
    -> Result<Option<OperatorRow>, StoreError>;

    /// Every operator, by name.
    async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError>;

    /// Says who is behind an operator; false when there is none of that name. Jobs that it has
    /// opened before stay as they are.
    async fn set_operator_email(&self, name: &str, email: &str) -> Result<bool, StoreError>;

    /// Removes an operator; false when there is none of that name.
    async fn remove_operator(&self, name: &str) -> Result<bool, StoreError>;

    /// Adds to the list of actions, which is never changed.
    async fn note_operator_action(&self, action: OperatorAction) -> Result<(), StoreError>;

    /// The latest actions, newest first; at most 1000.
    async fn operator_actions(&self, limit: u32) -> Result<Vec<OperatorAction>, StoreError>;
}
