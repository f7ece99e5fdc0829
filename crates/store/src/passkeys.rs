//! Approvers' passkeys, and the invitations by which they come.

use async_trait::async_trait;
use proof::passkey::Site;
use proof::{ApproverDid, Hash, Timestamp};

use crate::StoreError;

/// Most passkeys in force that one person has.
pub const MAX_PASSKEYS: usize = 16;

/// A one-time link for one person, without the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// SHA-256 of the link's secret.
    pub link_hash: Hash,
    /// Whom it makes an approver's passkey for.
    pub email: String,
    /// The operator who invited.
    pub invited_by: String,
    /// When.
    pub invited_at: Timestamp,
    /// From when on the link is worth nothing.
    pub expires_at: Timestamp,
}

/// A passkey as it was enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPasskey {
    /// The credential's id, as the authenticator names it.
    pub credential_id: Vec<u8>,
    /// The public key.
    pub did: ApproverDid,
    /// What its owner calls it.
    pub name: String,
    /// The relying party for which it was made.
    pub rp_id: String,
    /// The origin on which it may be used.
    pub origin: String,
    /// The authenticator's counter; 0 when it has none.
    pub sign_count: u32,
}

/// A passkey that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyRow {
    /// As it was enrolled; the counter is the latest.
    pub passkey: NewPasskey,
    /// Whose it is.
    pub email: String,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// Its latest use.
    pub last_used_at: Option<Timestamp>,
    /// When it was removed.
    pub removed_at: Option<Timestamp>,
}

impl PasskeyRow {
    /// Where it may be used.
    pub fn site(&self) -> Site {
        Site {
            rp_id: self.passkey.rp_id.clone(),
            origins: vec![self.passkey.origin.clone()],
        }
    }
}

/// What became of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// The passkey is in force, the link is used up; whose passkey it is.
    As(String),
    /// The link is unknown, used, withdrawn or expired.
    LinkGone,
    /// The credential or its key was enrolled before, by whomever.
    Known,
    /// The person has [`MAX_PASSKEYS`]; the link stays good.
    TooMany,
}

/// What became of a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasskeyUse {
    /// Counted.
    Counted,
    /// There is no such passkey, or it was removed.
    Gone,
    /// The counter is not above the latest: the key may exist twice.
    CounterBack,
}

/// Approvers' passkeys.
#[async_trait]
pub trait Passkeys {
    /// Keeps an invitation; an earlier one for the same person is withdrawn by it.
    async fn invite(&self, invitation: Invitation) -> Result<(), StoreError>;

    /// The invitation of this link, when it is still good at `at`.
    async fn invitation(
        &self,
        link_hash: &Hash,
        at: Timestamp,
    ) -> Result<Option<Invitation>, StoreError>;

    /// Invitations that are good at `at`, by person.
    async fn invitations(&self, at: Timestamp) -> Result<Vec<Invitation>, StoreError>;

    /// Uses a link up and keeps the passkey, in one transaction.
    async fn enrol(
        &self,
        link_hash: &Hash,
        passkey: NewPasskey,
        at: Timestamp,
    ) -> Result<Enrolled, StoreError>;

    /// The passkey with this credential id, removed or not.
    async fn passkey(&self, credential_id: &[u8]) -> Result<Option<PasskeyRow>, StoreError>;

    /// The passkey with this public key, removed or not.
    async fn passkey_by_did(&self, did: &ApproverDid) -> Result<Option<PasskeyRow>, StoreError>;

    /// A person's passkeys in force, the one used last first.
    async fn passkeys_of(&self, email: &str) -> Result<Vec<PasskeyRow>, StoreError>;

    /// Every passkey, removed ones too, by person and time of enrolment.
    async fn passkeys(&self) -> Result<Vec<PasskeyRow>, StoreError>;

    /// Notes a use that is no statement: the counter goes up. Statements note theirs themselves
    /// ([`Approvals::record_statement`](crate::Approvals::record_statement)).
    async fn use_passkey(
        &self,
        credential_id: &[u8],
        sign_count: u32,
        at: Timestamp,
    ) -> Result<PasskeyUse, StoreError>;

    /// Removes a person's passkeys, or one of them, and with all of them the person's invitation;
    /// how many were removed. Nothing that comes after counts, so that a removal is never dated
    /// before a use.
    async fn remove_passkeys(
        &self,
        email: &str,
        credential_id: Option<&[u8]>,
        by: &str,
        at: Timestamp,
    ) -> Result<Removed, StoreError>;
}

/// What a removal took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Passkeys that were in force.
    pub passkeys: u32,
    /// Whether an invitation was withdrawn.
    pub invitation: bool,
}
