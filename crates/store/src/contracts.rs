//! The registry of contracts: an append-only list of versions for each name.

use async_trait::async_trait;
use proof::{Did, Envelope, Hash, Timestamp};

use crate::StoreError;

/// A contract as it is published.
#[derive(Debug, Clone, PartialEq)]
pub struct ContractVersion {
    /// Hash of the contract document.
    pub policy_hash: Hash,
    /// The name that its versions share.
    pub name: String,
    /// The document, signed by its author.
    pub envelope: Envelope,
    /// The same document, signed by a second author.
    pub second_envelope: Option<Envelope>,
    /// The author's key.
    pub author_did: Did,
    /// When it was taken into the registry.
    pub published_at: Timestamp,
    /// The operator who brought it.
    pub published_by: String,
}

/// What publishing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The version's number within its name: 1, 2, 3 …
    pub version: u32,
    /// It was there before; nothing was changed, and a withdrawal still holds.
    pub existed: bool,
}

/// When and by whom a version was withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// When.
    pub at: Timestamp,
    /// The operator.
    pub by: String,
}

/// A version in the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct ContractRow {
    /// What was published.
    pub contract: ContractVersion,
    /// Its number within its name.
    pub version: u32,
    /// Set when no new job or token may be based on it.
    pub withdrawn: Option<Withdrawal>,
}

/// A name in the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct ContractSummary {
    /// Its latest version, withdrawn or not.
    pub latest: ContractRow,
    /// How many versions there are.
    pub versions: u32,
    /// How many of them are withdrawn.
    pub withdrawn: u32,
    /// Jobs that are open under any of them.
    pub open_jobs: u64,
}

/// The registry of contracts.
#[async_trait]
pub trait Contracts {
    /// Adds a version. The same document again changes nothing.
    ///
    /// # Errors
    /// [`Conflict::ContractName`](crate::Conflict::ContractName) when it is published under
    /// another name.
    async fn publish(&self, contract: ContractVersion) -> Result<Published, StoreError>;

    /// Adds a version that was compared with `in_force`, which must be its name's newest version
    /// that is not withdrawn. The same document again changes nothing, whatever is in force.
    ///
    /// # Errors
    /// [`Conflict::OtherInForce`](crate::Conflict::OtherInForce), and those of
    /// [`publish`](Self::publish).
    async fn publish_in_place_of(
        &self,
        contract: ContractVersion,
        in_force: Hash,
    ) -> Result<Published, StoreError>;

    /// One version, by the hash of its document.
    async fn contract(&self, policy_hash: &Hash) -> Result<Option<ContractRow>, StoreError>;

    /// Every name with its latest version, by name.
    async fn contracts(&self) -> Result<Vec<ContractSummary>, StoreError>;

    /// Every version of a name, oldest first; empty when there is none.
    async fn versions(&self, name: &str) -> Result<Vec<ContractRow>, StoreError>;

    /// Withdraws a version and returns the withdrawal that holds: the first one. `None` when
    /// there is no such version.
    async fn withdraw(
        &self,
        policy_hash: &Hash,
        by: &str,
        at: Timestamp,
    ) -> Result<Option<Withdrawal>, StoreError>;
}
