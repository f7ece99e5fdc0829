//! A job's model budget: reserved before a call from the request's own limits, settled after it
//! from what the provider reports.

use std::sync::{Arc, Weak};

use policy::contract::Models;
use policy::decide::ModelCost;
use policy::decimal::Decimal;
use policy::{DecisionInput, ReasonCode, Refusal, decide};
use proof::Timestamp;
use store::{
    Budget, Conflict, ModelLimits, ModelSpend, Reservation, Store, StoreError, kill_point,
};
use tokio::sync::watch;

use super::{ModelCall, Provider};
use crate::clawproxy::authenticate::unavailable;
use crate::config::Price;

/// Bytes of a request for one token, for want of a tokenizer: what English text and JSON come
/// to, rounded so that the estimate is high rather than low.
const BYTES_PER_TOKEN: u64 = 3;

/// What is reserved for one call. Dropped without being settled, because nothing was sent, it
/// gives all of it back.
pub(super) struct Reserved {
    store: Arc<dyn Store>,
    id: u64,
    most: ModelSpend,
    open: bool,
}

/// What a call has really cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    /// Nothing: it was not sent, or the provider refused it.
    Nothing,
    /// What the provider reports, or what was counted here where nothing is hidden.
    Exactly(ModelSpend),
    /// Nobody knows exactly; at least this much. The reservation is then used up.
    AtLeast(ModelSpend),
}

impl Spent {
    /// What is known of it.
    pub(super) fn known(self) -> ModelSpend {
        match self {
            Self::Nothing => ModelSpend::default(),
            Self::Exactly(used) | Self::AtLeast(used) => used,
        }
    }
}

impl Reserved {
    /// Replaces the reservation by what was spent.
    pub(super) async fn settle(mut self, spent: Spent) {
        self.open = false;
        let used = match spent {
            Spent::Nothing => ModelSpend::default(),
            Spent::Exactly(used) => used,
            Spent::AtLeast(used) => ModelSpend {
                tokens: used.tokens.max(self.most.tokens),
                cost: used.cost.max(self.most.cost),
            },
        };
        settle(&self.store, self.id, used).await;
    }
}

/// An unsettled reservation stays in force: the budget can only come out too small. When the store
/// does not write just now, this is done again as soon as it does.
async fn settle(store: &Arc<dyn Store>, id: u64, used: ModelSpend) {
    if let Err(error) = store.settle_model(id, used).await {
        tracing::warn!(reservation = id, %error, "a model budget is not settled yet");
        if may_pass(&error) {
            tokio::spawn(settle_later(
                Arc::downgrade(store),
                store.commits(),
                id,
                used,
            ));
        }
    }
}

/// Whether the same may be written later. What a try that must fail has undone is a commit, too,
/// after which it would be tried again without end.
const fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::Busy | StoreError::Unavailable(_))
}

/// Tries after each commit until it is settled, cannot be, or the store is closed; what is open
/// then is settled as spent by the next gateway.
async fn settle_later(
    store: Weak<dyn Store>,
    mut commits: watch::Receiver<u64>,
    id: u64,
    used: ModelSpend,
) {
    while commits.changed().await.is_ok() {
        let Some(store) = store.upgrade() else { return };
        match store.settle_model(id, used).await {
            Err(error) if may_pass(&error) => {}
            Ok(()) | Err(_) => return,
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (store, id) = (Arc::clone(&self.store), self.id);
            runtime.spawn(async move { settle(&store, id, ModelSpend::default()).await });
        }
    }
}

/// What so many tokens cost, in units of 10^-9 USD, rounded up.
pub(super) fn cost(price: &Price, tokens_input: u64, tokens_output: u64) -> u64 {
    // A negative price is refused with the configuration; should one come here, it is no gift.
    let rate = |price: Decimal| u128::from(price.to_units().unwrap_or(u64::MAX));
    let input = u128::from(tokens_input).saturating_mul(rate(price.input_usd_per_million));
    let output = u128::from(tokens_output).saturating_mul(rate(price.output_usd_per_million));
    let sum = input.saturating_add(output).div_ceil(1_000_000);
    u64::try_from(sum).unwrap_or(u64::MAX)
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
        max_cost: models.max_cost_usd.map(|cost| cost.to_units().unwrap_or(0)),
    };
    (limits != ModelLimits::default()).then_some(limits)
}

/// Puts what the job has used before the decision, and reserves what the call may use if the
/// contract will allow it. Does nothing under a contract without a budget.
///
/// The reservation is what holds under concurrent calls; the counts before the decision explain
/// it. A call that is refused later gives its reservation back by dropping it, and so does one
/// whose client leaves while it is being made.
///
/// # Errors
/// `MODEL_BUDGET_CALLS`; `MODEL_BUDGET_TOKENS` and `MODEL_BUDGET_COST`, also when the request does
/// not say how much it may use, so that nothing can be reserved for it; `STORE_UNAVAILABLE`.
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
    let job = call.token.job.id.clone();
    let used = store.model_usage(&job).await.map_err(unavailable)?;
    let most = most(call, limits);
    if let DecisionInput::Model(input) = &mut call.input {
        input.calls_so_far = used.calls;
        let names = call.fallbacks.iter().map(|one| one.name.clone());
        input.fallbacks = names.collect();
        input.tokens_so_far = used.tokens.saturating_add(used.reserved);
        input.cost = most.priced.map(|wanted| ModelCost {
            so_far_usd: Decimal::from_units(used.cost.saturating_add(used.cost_reserved)),
            wanted_usd: Decimal::from_units(wanted),
        });
    }
    if !decide(&contract.compiled, &call.input).is_allow() {
        // The decision that is recorded follows, and says why.
        return Ok(());
    }
    call.check_bounded(limits)?;
    let most = ModelSpend {
        tokens: most.tokens,
        cost: most.priced.unwrap_or(0),
    };
    let store = Arc::clone(store);
    // In a task of its own: what is in the store's queue happens, and somebody must learn of it.
    let reserving = tokio::spawn(async move {
        let reservation = store.reserve_model(&job, limits, most, now).await?;
        let reserved = match reservation {
            Reservation::Granted { id } => Some(Reserved {
                store,
                id,
                most,
                open: true,
            }),
            Reservation::Exhausted { .. } => None,
        };
        Ok((reservation, reserved))
    });
    let reserved = reserving.await.map_err(|_| ReasonCode::Internal)?;
    let reservation = reserved.map(|(reservation, reserved)| {
        call.reserved = reserved;
        reservation
    });
    match reservation {
        Ok(Reservation::Granted { .. }) => {
            kill_point!("call.budgeted");
            Ok(())
        }
        Ok(Reservation::Exhausted {
            what: Budget::Calls,
        }) => Err(ReasonCode::ModelBudgetCalls.into()),
        Ok(Reservation::Exhausted {
            what: Budget::Tokens,
        }) => Err(Refusal::new(
            ReasonCode::ModelBudgetTokens,
            format!(
                "this call may use {} tokens, more than the job has left",
                most.tokens
            ),
        )),
        Ok(Reservation::Exhausted { what: Budget::Cost }) => Err(Refusal::new(
            ReasonCode::ModelBudgetCost,
            format!(
                "this call may cost {} USD, more than the job has left",
                Decimal::from_units(most.cost)
            ),
        )),
        Err(StoreError::Conflict(Conflict::JobClosed(_))) => Err(ReasonCode::TokenJobClosed.into()),
        Err(StoreError::Busy) => Err(ReasonCode::Overloaded.into()),
        Err(error) => Err(unavailable(error)),
    }
}

/// What a call may use.
struct Most {
    tokens: u64,
    /// Under a money budget, by the dearest of those who may answer; `None` without a price.
    priced: Option<u64>,
}

fn most(call: &mut ModelCall, limits: ModelLimits) -> Most {
    let bytes = call.body.len() as u64;
    let output = call.output_tokens.unwrap_or(0);
    let tokens = estimated_tokens(bytes).saturating_add(output);
    let model = call.model.as_deref().unwrap_or_default();
    if limits.max_cost.is_none() {
        return Most {
            tokens,
            priced: None,
        };
    }
    call.fallbacks
        .retain(|provider| provider.price(model).is_some());
    // A token is at least one byte of text, so this is a bound and no estimate.
    let of = |provider: &Provider| {
        let price = provider.price(model)?;
        Some(cost(&price, bytes, output))
    };
    let first = of(&call.provider);
    let others = call.fallbacks.iter().filter_map(|provider| of(provider));
    Most {
        tokens,
        priced: first.map(|first| others.fold(first, u64::max)),
    }
}

impl ModelCall {
    /// Refuses a call about which the request does not say how much it may use.
    fn check_bounded(&self, limits: ModelLimits) -> Result<(), Refusal> {
        let (code, budget) = match (limits.max_tokens, limits.max_cost) {
            (Some(_), _) => (ReasonCode::ModelBudgetTokens, "token"),
            (None, Some(_)) => (ReasonCode::ModelBudgetCost, "money"),
            (None, None) => return Ok(()),
        };
        if self.output_tokens.is_none() && self.target.generates() {
            return Err(Refusal::new(
                code,
                format!(
                    "the contract has a {budget} budget, so the request must bound its answer \
                     (max_completion_tokens, max_output_tokens or max_tokens)"
                ),
            ));
        }
        if self.continues {
            return Err(Refusal::new(
                code,
                format!(
                    "the contract has a {budget} budget, so the request must hold its whole \
                     input: no previous response, conversation or stored prompt"
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use policy::Glob;

    use super::*;

    #[test]
    fn money_is_exact_and_rounded_up() {
        let price = |input: &str, output: &str| Price {
            model: Glob::new("*").unwrap(),
            input_usd_per_million: input.parse().unwrap(),
            output_usd_per_million: output.parse().unwrap(),
        };
        for (input, output, tokens, units) in [
            ("1.25", "10", (1_000_000, 1_000_000), 11_250_000_000),
            ("1.25", "10", (1, 0), 1250),
            ("0.0001", "0", (1, 0), 1),
            ("0.0001", "0", (10, 0), 1),
            ("0.0001", "0", (11, 0), 2),
            ("0", "0", (u64::MAX, u64::MAX), 0),
            ("999999999999", "0", (u64::MAX, 0), u64::MAX),
        ] {
            assert_eq!(
                cost(&price(input, output), tokens.0, tokens.1),
                units,
                "{input}"
            );
        }
    }
}
