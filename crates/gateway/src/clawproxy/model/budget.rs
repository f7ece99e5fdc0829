//! A job's model budget: reserved before a call from the request's own limits, settled after it
//! from what the provider reports.

use std::sync::Arc;

use policy::contract::Models;
use policy::{DecisionInput, ReasonCode, Refusal, decide};
use proof::Timestamp;
use store::{Budget, Conflict, ModelLimits, Reservation, Store, StoreError};

use super::ModelCall;
use crate::clawproxy::authenticate::unavailable;

/// Bytes of a request for one token, for want of a tokenizer: what English text and JSON come
/// to, rounded so that the estimate is high rather than low.
const BYTES_PER_TOKEN: u64 = 3;

/// Tokens reserved for one call. Dropped without being settled, because nothing was sent, it
/// gives all of them back.
pub(super) struct Reserved {
    store: Arc<dyn Store>,
    id: u64,
    tokens: u64,
    open: bool,
}

/// What a call has really cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    /// Nothing: it was not sent, or the provider refused it.
    Nothing,
    /// What the provider reports.
    Tokens(u64),
    /// Nobody knows exactly; at least this much. The reservation is then used up.
    AtLeast(u64),
}

impl Reserved {
    /// Replaces the reservation by what was spent.
    pub(super) async fn settle(mut self, spent: Spent) {
        self.open = false;
        let tokens = match spent {
            Spent::Nothing => 0,
            Spent::Tokens(tokens) => tokens,
            Spent::AtLeast(tokens) => tokens.max(self.tokens),
        };
        settle(&*self.store, self.id, tokens).await;
    }
}

async fn settle(store: &dyn Store, id: u64, tokens: u64) {
    // An unsettled reservation stays in force: the budget can only come out too small.
    if let Err(error) = store.settle_model(id, tokens).await {
        tracing::warn!(reservation = id, %error, "a model budget was not settled");
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (store, id) = (Arc::clone(&self.store), self.id);
            runtime.spawn(async move { settle(&*store, id, 0).await });
        }
    }
}

/// A request's tokens, estimated from its size.
pub(super) fn estimated_tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// The limits that the store keeps for a contract; `None` when it sets none.
fn limits(models: Option<&Models>) -> Option<ModelLimits> {
    let models = models?;
    let limits = ModelLimits {
        max_calls: models.max_calls,
        max_tokens: models.max_tokens,
    };
    (limits != ModelLimits::default()).then_some(limits)
}

/// Puts what the job has used before the decision, and reserves what the call may use if the
/// contract will allow it. Does nothing under a contract without a budget.
///
/// The reservation is what holds under concurrent calls; the counts before the decision explain
/// it. A call that is refused later gives its reservation back by dropping it.
///
/// # Errors
/// `MODEL_BUDGET_CALLS`, `MODEL_BUDGET_TOKENS` (also when the request does not bound its answer,
/// so that nothing can be reserved for it), `STORE_UNAVAILABLE`.
pub(super) async fn reserve(
    store: &Arc<dyn Store>,
    now: Timestamp,
    call: &mut ModelCall,
) -> Result<(), Refusal> {
    let contract = Arc::clone(&call.token.job.contract);
    let limits = limits(contract.contract.models.as_ref());
    let Some(limits) = limits.filter(|_| call.target.uses_tokens()) else {
        return Ok(());
    };
    let job = &call.token.job.id;
    let used = store.model_usage(job).await.map_err(unavailable)?;
    if let DecisionInput::Model(input) = &mut call.input {
        input.calls_so_far = used.calls;
        input.tokens_so_far = used.tokens.saturating_add(used.reserved);
    }
    if !decide(&contract.compiled, &call.input).is_allow() {
        // The decision that is recorded follows, and says why.
        return Ok(());
    }
    let output = match call.output_tokens {
        Some(tokens) => tokens,
        None if limits.max_tokens.is_some() && call.target.generates() => {
            return Err(Refusal::new(
                ReasonCode::ModelBudgetTokens,
                "the contract has a token budget, so the request must bound its answer \
                 (max_completion_tokens, max_output_tokens or max_tokens)",
            ));
        }
        None => 0,
    };
    let tokens = estimated_tokens(call.body.len() as u64).saturating_add(output);
    match store.reserve_model(job, limits, tokens, now).await {
        Ok(Reservation::Granted { id }) => {
            let store = Arc::clone(store);
            call.reserved = Some(Reserved {
                store,
                id,
                tokens,
                open: true,
            });
            Ok(())
        }
        Ok(Reservation::Exhausted {
            what: Budget::Calls,
        }) => Err(ReasonCode::ModelBudgetCalls.into()),
        Ok(Reservation::Exhausted {
            what: Budget::Tokens,
        }) => Err(Refusal::new(
            ReasonCode::ModelBudgetTokens,
            format!("this call may use {tokens} tokens, more than the job has left"),
        )),
        Err(StoreError::Conflict(Conflict::JobClosed(_))) => Err(ReasonCode::TokenJobClosed.into()),
        Err(StoreError::Busy) => Err(ReasonCode::Overloaded.into()),
        Err(error) => Err(unavailable(error)),
    }
}
