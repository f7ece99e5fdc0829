//! The model lane: scope, provider, model, budget.

use super::{Against, CompiledContract, ModelInput, ModelSurface, has_scope};
use crate::contract::{Models, ToolRules};
use crate::reason::{ReasonCode, quoted};

pub(super) fn judge(contract: &CompiledContract, input: &ModelInput<'_>, against: &mut Against) {
    against.unless(
        has_scope(&input.scope, "model:call"),
        ReasonCode::TokenScope,
    );
    let names_model = input.surface != ModelSurface::Models;
    if names_model && input.model.as_deref().is_none_or(str::is_empty) {
        against.add(ReasonCode::ModelMissing);
    }
    // Without `models` the operator's configuration decides, and it has: this provider and this
    // endpoint are configured, or the call would not have come here.
    if let Some(models) = &contract.contract().models {
        limits(models, input, against);
    }
}

fn limits(models: &Models, input: &ModelInput<'_>, against: &mut Against) {
    let asked = std::iter::once(&*input.provider);
    let others = input.fallbacks.iter().map(String::as_str);
    for provider in asked.chain(others) {
        if !models.providers.iter().any(|listed| listed == provider) {
            against.because(
                ReasonCode::ModelProviderNotAllowed,
                format!(
                    "model provider {} is outside the contract",
                    quoted(provider)
                ),
            );
        }
    }
    if let Some(model) = &input.model
        && !models.allowed.iter().any(|glob| glob.matches(model))
    {
        against.because(
            ReasonCode::ModelNotAllowed,
            format!("model {} is outside the contract", quoted(model)),
        );
    }
    if let Some(rules) = &models.tools
        && input.surface != ModelSurface::Models
    {
        tools(rules, input.tools.as_deref(), against);
    }
    if matches!(
        input.surface,
        ModelSurface::Models | ModelSurface::CountTokens
    ) {
        return;
    }
    if models
        .max_calls
        .is_some_and(|max| input.calls_so_far >= max)
    {
        against.add(ReasonCode::ModelBudgetCalls);
    }
    if let Some(max) = models.max_tokens {
        let wanted = input
            .tokens_so_far
            .saturating_add(input.max_tokens_requested.unwrap_or(0));
        let spent = input.tokens_so_far >= max || wanted > max;
        against.unless(!spent, ReasonCode::ModelBudgetTokens);
    }
    if let Some(max) = models.max_cost_usd {
        match input.cost {
            None => against.add(ReasonCode::ModelPriceUnknown),
            Some(cost) => {
                let fits = cost.so_far_usd < max && cost.so_far_usd.plus(cost.wanted_usd) <= max;
                against.unless(fits, ReasonCode::ModelBudgetCost);
            }
        }
    }
}

fn tools(rules: &ToolRules, offered: Option<&[String]>, against: &mut Against) {
    let Some(offered) = offered else {
        return against.because(
            ReasonCode::ModelToolNotAllowed,
            "the tools that the request offers are not known",
        );
    };
    // One reason for each tool would let a request write the record.
    if let Some(name) = offered.iter().find(|name| !rules.admits(name)) {
        against.because(
            ReasonCode::ModelToolNotAllowed,
            format!("tool {} is outside the contract", quoted(name)),
        );
    }
}
