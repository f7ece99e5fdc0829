//! People who are signed in with a browser.

use async_trait::async_trait;
use proof::{Hash, Timestamp};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// Somebody who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// SHA-256 of the cookie.
    pub id_hash: Hash,
    /// Who.
    pub operator: String,
    /// What the operator may do; for one of the table, what the table says now. For an account
    /// elsewhere its groups decide, not this.
    pub roles: Vec<String>,
    /// What opened the session.
    pub proof: SessionProof,
    /// When the session began.
    pub opened_at: Timestamp,
    /// When it was used last, as far as that was noted.
    pub used_at: Timestamp,
    /// When it ends, however much it is used.
    pub expires_at: Timestamp,
}

/// What somebody signed in with. The session ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionProof {
    /// An operator's credential, by its hash.
    Credential(Hash),
    /// A passkey, by its credential id.
    Passkey(Vec<u8>),
    /// An account at an OpenID Connect provider.
    Account(Account),
}

/// An account at an OpenID Connect provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The provider, by its issuer identifier.
    pub issuer: String,
    /// The account, as the provider names it for ever.
    pub subject: String,
    /// The groups that it was in when it signed in.
    pub groups: Vec<String>,
}

/// Sessions.
#[async_trait]
pub trait Sessions {
    /// Keeps a new session. Those that have ended by then are removed, and so are the operator's
    /// oldest ones beyond `most`, this one included.
    async fn open_session(&self, session: SessionRow, most: u32) -> Result<(), StoreError>;

    /// The session with this cookie, whatever the time; `None` also when the credential or the
    /// passkey that opened it is gone.
    async fn session(&self, id_hash: &Hash) -> Result<Option<SessionRow>, StoreError>;

    /// Notes that a session was used.
    async fn note_session_use(&self, id_hash: &Hash, at: Timestamp) -> Result<(), StoreError>;

    /// An operator's sessions, newest first.
    async fn sessions_of(&self, operator: &str) -> Result<Vec<SessionRow>, StoreError>;

    /// Ends a session of an operator; false when there is none.
    async fn end_session(&self, operator: &str, id_hash: &Hash) -> Result<bool, StoreError>;
}
