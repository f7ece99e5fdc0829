//! Scoped tokens: by hash only, never their text.

use async_trait::async_trait;
use proof::approval::SignedStatement;
use proof::record::JobId;
use proof::token::Claims;
use proof::{Did, Hash, Timestamp};

use crate::{Appended, StoreError};

/// A token as it is issued.
#[derive(Debug, Clone, PartialEq)]
pub struct NewToken {
    /// SHA-256 of its text.
    pub token_hash: Hash,
    /// The job that it is bound to.
    pub job_id: JobId,
    /// What it grants.
    pub claims: Claims,
    /// When it was minted.
    pub issued_at: Timestamp,
    /// The operator who asked for it.
    pub issued_by: String,
    /// The gateway's key that signed it; not known of tokens from before key sets.
    pub signed_by: Option<Did>,
    /// The earlier token of the job that it takes the place of. Not issued once a token of the
    /// job was revoked.
    pub renews: Option<Hash>,
    /// Set for an elevated token: the approval that its use stands for.
    pub elevated: Option<ElevatedApproval>,
}

/// The approval that an elevated token carries.
#[derive(Debug, Clone, PartialEq)]
pub struct ElevatedApproval {
    /// The run.
    pub run_id: String,
    /// The approver's e-mail address.
    pub approver: String,
    /// The approver's signed statement.
    pub envelope: SignedStatement,
}

/// When, by whom and why a token was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRevocation {
    /// When; the time of the revocation record when there is one.
    pub at: Timestamp,
    /// The operator.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A token with its life so far.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRow {
    /// As it was issued.
    pub token: NewToken,
    /// Whom it was bound to at first use.
    pub holder: Option<String>,
    /// First use.
    pub first_used_at: Option<Timestamp>,
    /// Last use; may lag by what [`Tokens::touch`] has not written yet.
    pub last_used_at: Option<Timestamp>,
    /// Revocation.
    pub revoked: Option<TokenRevocation>,
    /// How often somebody else tried to use it.
    pub replays_refused: u64,
    /// When an elevated token was used up.
    pub elevated_used_at: Option<Timestamp>,
}

/// Whom a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The holder that won; the caller compares.
    pub holder: String,
    /// Bound by this call.
    pub first: bool,
}

/// What a revocation did.
#[derive(Debug, Clone, PartialEq)]
pub struct Revoked {
    /// The revocation that holds: the first one.
    pub revocation: TokenRevocation,
    /// It was revoked before this call, which wrote nothing.
    pub before: bool,
    /// The record; absent when the token was revoked before or its job is closed.
    pub appended: Option<Appended>,
}

/// One entry of the append-only list of revocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationRow {
    /// Its place in the list: 1, 2, 3 …
    pub id: u64,
    /// The token.
    pub token_hash: Hash,
    /// Its job.
    pub job_id: JobId,
    /// When, by whom and why.
    pub revocation: TokenRevocation,
}

/// Scoped tokens.
#[async_trait]
pub trait Tokens {
    /// Keeps a new token.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `JobClosed`, `ContractWithdrawn`,
    /// `TokenMismatch` when the claims name another job or contract, `TokenExists`.
    async fn issue(&self, token: NewToken) -> Result<(), StoreError>;

    /// One token.
    async fn token(&self, token_hash: &Hash) -> Result<Option<TokenRow>, StoreError>;

    /// Every token of a job, oldest first.
    async fn tokens(&self, job_id: &JobId) -> Result<Vec<TokenRow>, StoreError>;

    /// Binds a token to its first holder and tells who that is; `None` when there is no such
    /// token. Of two first uses at the same moment exactly one binds, and both learn which.
    async fn bind_holder(
        &self,
        token_hash: &Hash,
        holder: &str,
        at: Timestamp,
    ) -> Result<Option<Bound>, StoreError>;

    /// Notes a use, which is seen from now on. Costs no write of its own: the time is merged with
    /// later ones and goes out with a batch of the next second, so a crash may lose it. Never
    /// fails, and never keeps a call waiting.
    fn touch(&self, token_hash: &Hash, at: Timestamp);

    /// Counts a use by somebody else than the holder. The refusal record tells the story; this
    /// is what the token's metadata shows.
    async fn count_replay(&self, token_hash: &Hash) -> Result<(), StoreError>;

    /// Revokes a token: the token, the list and (while the job is open) the record, in one
    /// transaction. `None` when there is no such token.
    async fn revoke(
        &self,
        token_hash: &Hash,
        revoked_by: &str,
        reason: &str,
        at: Timestamp,
    ) -> Result<Option<Revoked>, StoreError>;

    /// Tokens of open jobs that this key signed, or of which nobody knows which one did, and that
    /// nobody revoked; at most 1000.
    async fn tokens_signed_by(&self, key: &Did) -> Result<Vec<Hash>, StoreError>;

    /// A page of the list of revocations, from the one after `after` on; at most 1000.
    async fn revocations(&self, after: u64) -> Result<Vec<RevocationRow>, StoreError>;

    /// Uses up an elevated token: true exactly once, and never for a token that is revoked, not
    /// elevated, or not there.
    async fn use_elevated(&self, token_hash: &Hash, at: Timestamp) -> Result<bool, StoreError>;
}
