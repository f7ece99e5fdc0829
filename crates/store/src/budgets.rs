//! Model budgets: reserved before a call, settled after it.

use async_trait::async_trait;
use proof::Timestamp;
use proof::record::JobId;

use crate::StoreError;

/// What a contract allows a whole job; an absent limit does not limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// Calls.
    pub max_calls: Option<u64>,
    /// Tokens, of requests and answers together.
    pub max_tokens: Option<u64>,
    /// Money, in units of 10^-9 USD.
    pub max_cost: Option<u64>,
}

/// What one call may use, or has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelSpend {
    /// Tokens, of request and answer together.
    pub tokens: u64,
    /// Money, in units of 10^-9 USD.
    pub cost: u64,
}

/// Which budget is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// [`ModelLimits::max_calls`].
    Calls,
    /// [`ModelLimits::max_tokens`].
    Tokens,
    /// [`ModelLimits::max_cost`].
    Cost,
}

/// Whether a call fits the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// It fits; settle it by this id.
    Granted {
        /// Name of the reservation.
        id: u64,
    },
    /// It does not; nothing was reserved.
    Exhausted {
        /// The budget that is spent.
        what: Budget,
    },
}

/// What a job has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelUsage {
    /// Calls, those in flight included.
    pub calls: u64,
    /// Tokens of settled calls.
    pub tokens: u64,
    /// Tokens reserved for calls in flight.
    pub reserved: u64,
    /// Money of settled calls, in units of 10^-9 USD.
    pub cost: u64,
    /// Money reserved for calls in flight.
    pub cost_reserved: u64,
}

/// Model budgets.
///
/// A reservation that a crash leaves behind is settled as fully used when the store is opened
/// again: the call may have reached the provider, and a budget that could be stretched by making
/// the gateway stop would be no budget.
#[async_trait]
pub trait Budgets {
    /// Reserves one call and what it may use, if that fits beside what is used and reserved.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchJob`, `JobClosed`.
    async fn reserve_model(
        &self,
        job_id: &JobId,
        limits: ModelLimits,
        most: ModelSpend,
        at: Timestamp,
    ) -> Result<Reservation, StoreError>;

    /// Replaces a reservation by what the call really used, which may be more.
    ///
    /// # Errors
    /// [`Conflict::NoSuchReservation`](crate::Conflict::NoSuchReservation), also when it was
    /// settled before.
    async fn settle_model(&self, id: u64, used: ModelSpend) -> Result<(), StoreError>;

    /// What a job has used so far; zeros when it has used nothing.
    async fn model_usage(&self, job_id: &JobId) -> Result<ModelUsage, StoreError>;
}
