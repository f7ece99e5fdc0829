//! Calls to models.
//!
//! As with Terraform: for one endpoint, providers, models, tools, budgets and what may stand in
//! the body are independent of each other, so that one plain call and from there one call for each
//! new value of one of them are enough.

use proof::json::Json;

use super::language::{Language, Undecided};
use super::{Dimension, Factor, ModelCall, Probes, Question};
use crate::contract::{Contract, Models, Redaction, Step};
use crate::decide::{ModelCost, ModelInput, ModelSurface};
use crate::decimal::Decimal;
use crate::model::reads_as;

/// Longest name of a model that is looked for.
const LONGEST_MODEL: usize = 512;
/// Most bodies that are tried. The longest list of rules makes some thousands, unless its names
/// differ in letter case only.
const MAX_BODIES: usize = 20_000;
/// Longest name of a tool; longer ones are refused.
const LONGEST_TOOL: usize = 128;

const SURFACES: [ModelSurface; 6] = [
    ModelSurface::ChatCompletions,
    ModelSurface::Messages,
    ModelSurface::Responses,
    ModelSurface::Embeddings,
    ModelSurface::CountTokens,
    ModelSurface::Models,
];

pub(super) fn probe(probes: &mut Probes<'_>) {
    let (old, new) = (probes.old.contract(), probes.new.contract());
    let providers = providers(old, new);
    let (allowed, known) = (models(new), models(old));
    let fresh = probes.decided(Dimension::Models, allowed.beyond(&known, LONGEST_MODEL));
    let shared = probes.decided(Dimension::Models, allowed.shared(&known, LONGEST_MODEL));
    let names = Factor {
        shared,
        fresh: fresh.into_iter().collect(),
    };
    let (offered, known) = (tools(new), tools(old));
    let tool = probes.decided(Dimension::ModelTools, offered.beyond(&known, LONGEST_TOOL));
    let bodies = bodies(rules(old), rules(new));
    let bodies = probes.decided(Dimension::Redaction, bodies.map(Some));
    let bodies = bodies.unwrap_or_default();
    let mut any_call = false;
    for surface in SURFACES {
        any_call |= one_surface(
            probes,
            surface,
            &providers,
            &names,
            tool.as_deref(),
            &bodies,
        );
    }
    // What nobody asks is not kept.
    if any_call && let Some(models) = &new.models {
        let kept = Question::KeptPrompts(models.show_prompts_days);
        probes.ask(Dimension::KeptPrompts, kept);
    }
}

/// Whether the new contract allows any call to this endpoint.
fn one_surface(
    probes: &mut Probes<'_>,
    surface: ModelSurface,
    providers: &Factor<String>,
    names: &Factor<String>,
    tool: Option<&str>,
    bodies: &[Json],
) -> bool {
    let takes_model = surface != ModelSurface::Models;
    let name = names.any().filter(|_| takes_model);
    let Some(provider) = providers.any() else {
        return false;
    };
    if takes_model && name.is_none() {
        return false;
    }
    let call = |provider: &str, model: Option<&String>| call(surface, provider, model);
    let ask = |probes: &mut Probes<'_>, dimension, call| {
        probes.ask(dimension, Question::Model(Box::new(call)));
    };
    let plain = call(provider, name);
    for provider in &providers.fresh {
        ask(probes, Dimension::ModelProviders, call(provider, name));
    }
    if takes_model {
        for model in &names.fresh {
            ask(probes, Dimension::Models, call(provider, Some(model)));
        }
    }
    // Where nothing is shared, that is what is new, and it was asked.
    let shared = providers.shared.is_some() && (!takes_model || names.shared.is_some());
    if shared && takes_model {
        budgets(probes, &plain);
        if let Some(tool) = tool {
            let body = [("tools", offering(surface, tool))];
            ask(probes, Dimension::ModelTools, with_body(&plain, &body));
        }
        // May bring tools along that are not in the request.
        let stored = object("id", "pmpt_example1".into());
        let body = [("prompt", stored)];
        ask(probes, Dimension::ModelTools, with_body(&plain, &body));
        for body in bodies {
            let mut call = plain.clone();
            for (member, value) in body.members().unwrap_or_default() {
                call.body.set(member, value.clone());
            }
            ask(probes, Dimension::Redaction, call);
        }
    }
    let allowed = Question::Model(Box::new(plain)).answer(probes.new);
    allowed.verdict == crate::Verdict::Allow
}

fn call(surface: ModelSurface, provider: &str, model: Option<&String>) -> ModelCall {
    let mut input = ModelInput::new("", surface, &[]);
    input.provider = provider.to_owned().into();
    input.model = model.map(|name| name.clone().into());
    input.cost = Some(ModelCost {
        so_far_usd: Decimal::ZERO,
        wanted_usd: Decimal::ZERO,
    });
    ModelCall {
        input: ModelInput {
            scope: Vec::new().into(),
            fallbacks: Vec::new().into(),
            ..input
        },
        body: match model {
            Some(name) => object("model", name.as_str().into()),
            None => Json::Object(Vec::new()),
        },
    }
}

fn object(name: &str, value: Json) -> Json {
    Json::Object(vec![(name.to_owned(), value)])
}

fn with_body(plain: &ModelCall, members: &[(&str, Json)]) -> ModelCall {
    let mut call = plain.clone();
    for (name, value) in members {
        call.body.set(name, value.clone());
    }
    call
}

/// A request that offers one tool, in the form of its endpoint.
fn offering(surface: ModelSurface, name: &str) -> Json {
    let named = object("name", name.into());
    let tool = match surface {
        ModelSurface::ChatCompletions => {
            let mut tool = object("type", "function".into());
            tool.set("function", named);
            tool
        }
        _ => named,
    };
    Json::Array(vec![tool])
}

/// A budget is exceeded for the old contract where its own is used up.
fn budgets(probes: &mut Probes<'_>, plain: &ModelCall) {
    let Some(old) = &probes.old.contract().models else {
        return;
    };
    let mut ask = |change: &dyn Fn(&mut ModelCall)| {
        let mut call = plain.clone();
        change(&mut call);
        probes.ask(Dimension::ModelBudgets, Question::Model(Box::new(call)));
    };
    if let Some(max) = old.max_calls {
        ask(&|call| call.input.calls_so_far = max);
    }
    if let Some(max) = old.max_tokens {
        ask(&|call| call.input.tokens_so_far = max);
    }
    if let Some(max) = old.max_cost_usd {
        ask(&|call| {
            call.input.cost = Some(ModelCost {
                so_far_usd: max,
                wanted_usd: Decimal::ZERO,
            });
        });
        ask(&|call| call.input.cost = None);
    }
}

/// Without `models`, every provider that the operator has; any will do, known or not.
fn providers(old: &Contract, new: &Contract) -> Factor<String> {
    let listed = |contract: &Contract| contract.models.as_ref().map(|m| m.providers.clone());
    let any = || {
        let known = ["openai", "anthropic"].map(str::to_owned);
        known
            .into_iter()
            .chain((0..).map(|n| format!("provider{n}")))
    };
    match (listed(old), listed(new)) {
        (Some(old), Some(new)) => Factor::of_lists(&old, &new),
        (None, Some(new)) => Factor {
            shared: new.into_iter().next(),
            fresh: Vec::new(),
        },
        (Some(old), None) => Factor {
            fresh: any().find(|name| !old.contains(name)).into_iter().collect(),
            shared: old.into_iter().next(),
        },
        (None, None) => Factor {
            shared: any().next(),
            fresh: Vec::new(),
        },
    }
}

fn models(contract: &Contract) -> Language {
    Language::new(contract.models.as_ref().map(|m| &m.allowed[..]), &[])
}

fn tools(contract: &Contract) -> Language {
    let rules = contract.models.as_ref().and_then(|m| m.tools.as_ref());
    match rules {
        Some(rules) => Language::new(rules.allow.as_deref(), &rules.deny),
        None => Language::new(None, &[]),
    }
}

fn rules(contract: &Contract) -> &[Redaction] {
    contract.models.as_ref().map_or(&[], |m: &Models| &m.redact)
}

/// Bodies of which one tells the two lists of redactions apart, if any body does.
///
/// Whatever the old list refuses or takes out, one of its rules does, at one place. What leads to
/// that place and what stands there is enough: members and elements beside it can only make the
/// new list refuse as well. There stands either something that is not what the rule's next step
/// needs, or a member whose name is nearly the rule's; of both the values that no further rule
/// minds most are a text, an empty array and an empty object.
fn bodies(old: &[Redaction], new: &[Redaction]) -> Result<Vec<Json>, Undecided> {
    let values = || {
        [
            Json::from("x"),
            Json::Array(Vec::new()),
            Json::Object(Vec::new()),
        ]
    };
    let written: Vec<&str> = old
        .iter()
        .chain(new)
        .flat_map(|rule| rule.path.steps())
        .filter_map(|step| match step {
            Step::Member(name) => Some(&**name),
            Step::Elements => None,
        })
        .collect();
    let mut bodies = Vec::new();
    for rule in old {
        let steps = rule.path.steps();
        for (at, step) in steps.iter().enumerate() {
            bodies.extend(values().map(|value| nested(&steps[..=at], value)));
            let Step::Member(name) = step else { continue };
            let swapped = swapped(name);
            let nearly = written.iter().copied().chain([swapped.as_str()]);
            for nearly in nearly.filter(|other| *other != &**name && reads_as(other, name)) {
                let other = Step::Member(nearly.into());
                let path: Vec<Step> = steps[..at].iter().cloned().chain([other]).collect();
                bodies.extend(values().map(|value| nested(&path, value)));
                if bodies.len() > MAX_BODIES {
                    return Err(Undecided);
                }
            }
        }
    }
    Ok(bodies)
}

/// The value at the end of a path, with what leads there.
fn nested(steps: &[Step], value: Json) -> Json {
    steps.iter().rev().fold(value, |value, step| match step {
        Step::Member(name) => object(name, value),
        Step::Elements => Json::Array(vec![value]),
    })
}

/// The name with its first letter in the other case.
fn swapped(name: &str) -> String {
    let mut done = false;
    name.chars()
        .map(|c| {
            let swap = !done && c.is_ascii_alphabetic();
            done |= swap;
            match swap {
                true if c.is_ascii_lowercase() => c.to_ascii_uppercase(),
                true => c.to_ascii_lowercase(),
                false => c,
            }
        })
        .collect()
}
