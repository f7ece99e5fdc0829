//! `decide` and `check` against an evaluator that was written separately, from the text of
//! `docs/formats.md` and from the classes of the route table: slow, obvious, and without a line of
//! the crate's own code. Both judge the same random calls under the same random contracts and must
//! agree on verdict, code and number of reasons.
//!
//! `cargo test` does a hundred thousand pairs, `cargo xtask differential` a million, as
//! `cargo xtask check` does.

mod body;
mod egress;
mod evaluator;
mod generator;
mod json;
mod request;

use std::collections::BTreeSet;

use policy::Contract;
use policy::decide::{
    ApprovalFact, CompiledContract, ConfigurationFact, Decision, DecisionInput, EgressInput,
    ModelCost, ModelInput, ModelSurface, RunFacts, TerraformInput, Verdict, decide,
};
use policy::decimal::Decimal;
use policy::egress::{EgressOperation, Reserved};
use serde_json::Value;

use evaluator::Expected;
use generator::{EgressFacts, Generator, ModelFacts, Question, RunAsked, TerraformFacts};

/// How many pairs are compared unless `CLAWGATE_PAIRS` says otherwise.
const PAIRS: u64 = 100_000;
/// Calls under one contract before the next one is made.
const CALLS_PER_CONTRACT: u64 = 50;
/// Each thread's share is cut into blocks with a seed of their own.
const BLOCK: u64 = 5_000;

/// Every verdict and code that a decided call can have. Each must be reached, and no other.
const REACHED: &[&str] = &[
    "ALLOWED",
    "APPROVAL_REQUIRED",
    // The request line.
    "METHOD_NOT_ALLOWED",
    "PATH_ABSOLUTE_FORM",
    "PATH_DOT_SEGMENT",
    "PATH_EMPTY_SEGMENT",
    "PATH_FORMAT_SUFFIX",
    "PATH_FRAGMENT",
    "PATH_MALFORMED",
    "PATH_PARAMETERS",
    "PATH_PERCENT_ENCODED",
    "PATH_TOO_LONG",
    "PATH_TRAILING_SLASH",
    "PATH_UPPER_CASE",
    "QUERY_MALFORMED",
    "QUERY_REPEATED_KEY",
    "QUERY_UNKNOWN_KEY",
    "QUERY_VALUE",
    "ID_MALFORMED",
    // The body.
    "BODY_BOTH_SPELLINGS",
    "BODY_MISSING_MEMBER",
    "BODY_NOT_JSON",
    "BODY_TOO_LARGE",
    "BODY_UNEXPECTED",
    "BODY_UNKNOWN_MEMBER",
    "BODY_WRONG_TYPE",
    "RUN_ATTRIBUTE_UNKNOWN",
    // The route's class.
    "ACCOUNT_DENIED",
    "ADMIN_DENIED",
    "COMMENT_DENIED",
    "CONFIGURATION_READ_DENIED",
    "DATA_DESTRUCTION_DENIED",
    "FORCE_ACTION_DENIED",
    "LOCK_DENIED",
    "PLAN_JSON_DENIED",
    "POLICY_OVERRIDE_DENIED",
    "REGISTRY_DENIED",
    "ROUTE_NOT_ALLOWED",
    "ROUTE_UNKNOWN",
    "RUN_START_DENIED",
    "RUN_TASK_DENIED",
    "SIGNED_URL_DENIED",
    "STACKS_DENIED",
    "STATE_SHARING_DENIED",
    "STATE_WRITE_DENIED",
    "TOKEN_MINT_DENIED",
    "VARIABLES_DENIED",
    "WORKSPACE_ADMIN_DENIED",
    // The token, the object, the contract.
    "INPUT_INCONSISTENT",
    "OBJECT_NOT_OWNED",
    "OBJECT_UNKNOWN",
    "OPERATION_NOT_ALLOWED",
    "ORGANIZATION_NOT_ALLOWED",
    "OUTPUTS_READ_DENIED",
    "STATE_READ_DENIED",
    "TOKEN_SCOPE",
    "WORKSPACE_NOT_ALLOWED",
    // Runs.
    "ACTION_INVOCATION_NOT_ALLOWED",
    "APPLY_NOT_ALLOWED",
    "CONFIGURATION_VERSION_FOREIGN",
    "CONFIGURATION_VERSION_NOT_INSPECTED",
    "CONFIGURATION_VERSION_REQUIRED",
    "CONFIG_GENERATION_NOT_ALLOWED",
    "DEBUGGING_NOT_ALLOWED",
    "DESTROY_NOT_ALLOWED",
    "EMPTY_APPLY_NOT_ALLOWED",
    "POLICY_PATHS_NOT_ALLOWED",
    "REFRESH_ONLY_NOT_ALLOWED",
    "REPLACE_NOT_ALLOWED",
    "RUN_VARIABLES_NOT_ALLOWED",
    "TARGETS_NOT_ALLOWED",
    "TERRAFORM_VERSION_NOT_ALLOWED",
    // Models.
    "MODEL_BUDGET_CALLS",
    "MODEL_BUDGET_COST",
    "MODEL_BUDGET_TOKENS",
    "MODEL_MISSING",
    "MODEL_NOT_ALLOWED",
    "MODEL_PRICE_UNKNOWN",
    "MODEL_PROVIDER_NOT_ALLOWED",
    "MODEL_TOOL_NOT_ALLOWED",
    // Egress.
    "EGRESS_ADDRESS",
    "EGRESS_NOT_ALLOWED",
    "EGRESS_RESERVED",
    "EGRESS_TARGET",
    "EGRESS_UNRESOLVED",
];

#[test]
fn decisions_agree_with_an_evaluator_written_from_the_formats() {
    let pairs = std::env::var("CLAWGATE_PAIRS").ok().map_or(PAIRS, |text| {
        text.parse().expect("CLAWGATE_PAIRS is a number")
    });
    let blocks = pairs.div_ceil(BLOCK);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut reached = BTreeSet::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    let mut reached = BTreeSet::new();
                    for block in (worker..blocks).step_by(threads as usize) {
                        compare(block, &mut reached);
                    }
                    reached
                })
            })
            .collect();
        for worker in workers {
            reached.extend(
                worker
                    .join()
                    .expect("the thread's own message stands above"),
            );
        }
    });
    let expected: BTreeSet<&str> = REACHED.iter().copied().collect();
    let unreached: Vec<_> = expected.difference(&reached).collect();
    let unexpected: Vec<_> = reached.difference(&expected).collect();
    assert!(unreached.is_empty(), "never reached: {unreached:?}");
    assert!(unexpected.is_empty(), "not in the list: {unexpected:?}");
    println!(
        "{} pairs, {} codes, no mismatch",
        blocks * BLOCK,
        reached.len()
    );
}

/// One block of pairs; its number is its seed.
fn compare(block: u64, reached: &mut BTreeSet<&'static str>) {
    let mut generator = Generator::new(block);
    for _ in 0..BLOCK / CALLS_PER_CONTRACT {
        let json = generator.contract();
        let contract = Contract::parse(json.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("{error}\n{json}"));
        let compiled = CompiledContract::compile(&contract);
        for _ in 0..CALLS_PER_CONTRACT {
            let question = generator.question();
            let (decision, expected) = match &question {
                Question::Request(request) => {
                    let (method, target, body) = (&request.method, &request.target, &request.body);
                    (
                        policy::check(&contract, method, target, Some(body)),
                        request::expected(&json, method, target, body),
                    )
                }
                Question::Terraform(facts) => (
                    decide(&compiled, &DecisionInput::Terraform(terraform(facts))),
                    evaluator::terraform(&json, facts),
                ),
                Question::Model(facts) => (
                    decide(&compiled, &DecisionInput::Model(model(facts))),
                    evaluator::model(&json, facts),
                ),
                Question::Egress(facts) => (
                    decide(&compiled, &DecisionInput::Egress(egress(facts))),
                    egress::expected(&json, facts),
                ),
            };
            assert!(
                agrees(&decision, &expected),
                "block {block}: {decision:?}\nwas expected to be {expected:?}\n{question:?}\n{json}"
            );
            reached.insert(decision.code.as_str());
        }
    }
}

fn agrees(decision: &Decision, expected: &Expected) -> bool {
    let code = decision.code.as_str();
    match expected {
        Expected::Allowed => decision.verdict == Verdict::Allow && code == "ALLOWED",
        Expected::Approval => decision.verdict == Verdict::Approve && code == "APPROVAL_REQUIRED",
        // Every reason is told and the first one is the code.
        Expected::Against(codes) => {
            decision.verdict == Verdict::Deny
                && codes.first() == Some(&code)
                && decision.reasons.len() == codes.len()
        }
        // What cannot be read is refused at its first fault, whichever a reader meets first.
        Expected::Unreadable(codes) => {
            decision.verdict == Verdict::Deny && codes.contains(code) && decision.reasons.len() == 1
        }
    }
}

fn terraform(facts: &TerraformFacts) -> TerraformInput<'static> {
    TerraformInput {
        operation: facts
            .operation
            .parse()
            .expect("the generator names operations"),
        scope: facts.scope.clone().into(),
        organization: facts.organization.clone().map(Into::into),
        organization_known: facts.organization_known,
        workspace_id: facts.workspace.clone().map(Into::into),
        run_id: facts.run_id.clone().map(Into::into),
        owned: facts.owned,
        run: facts
            .run
            .as_ref()
            .map(|run| std::borrow::Cow::Owned(run_facts(run))),
        approval: if facts.approved {
            ApprovalFact::Valid
        } else {
            ApprovalFact::None
        },
    }
}

fn run_facts(run: &RunAsked) -> RunFacts {
    let asks = |name: &str| run.wishes.contains(name);
    RunFacts {
        is_destroy: asks("is-destroy"),
        refresh_only: asks("refresh-only"),
        targets: run.targets,
        replace: run.replace,
        variables: run.variables.clone(),
        auto_apply: asks("auto-apply"),
        plan_only: asks("plan-only"),
        save_plan: asks("save-plan"),
        allow_empty_apply: asks("allow-empty-apply"),
        debugging_mode: asks("debugging-mode"),
        allow_config_generation: asks("allow-config-generation"),
        invoke_actions: asks("invoke-action-addrs"),
        terraform_version: asks("terraform-version"),
        policy_paths: asks("policy-paths"),
        configuration: match run.configuration {
            "absent" => ConfigurationFact::Absent,
            "pinned" => ConfigurationFact::Pinned,
            "unknown" => ConfigurationFact::Unknown,
            "not-inspected" => ConfigurationFact::NotInspected,
            "other-workspace" => ConfigurationFact::OtherWorkspace,
            "not-owned" => ConfigurationFact::NotOwned,
            "inspected" => ConfigurationFact::Inspected,
            other => panic!("{other}"),
        },
    }
}

fn model(facts: &ModelFacts) -> ModelInput<'static> {
    ModelInput {
        scope: facts.scope.clone().into(),
        provider: facts.provider.into(),
        fallbacks: facts
            .fallbacks
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        surface: match facts.surface {
            "chat-completions" => ModelSurface::ChatCompletions,
            "responses" => ModelSurface::Responses,
            "embeddings" => ModelSurface::Embeddings,
            "models" => ModelSurface::Models,
            "messages" => ModelSurface::Messages,
            "count-tokens" => ModelSurface::CountTokens,
            other => panic!("{other}"),
        },
        model: facts.model.map(Into::into),
        calls_so_far: facts.calls,
        tokens_so_far: facts.tokens,
        max_tokens_requested: facts.wanted,
        cost: facts.cost.map(|(spent, more)| ModelCost {
            so_far_usd: Decimal::from_units(spent * 10_000_000),
            wanted_usd: Decimal::from_units(more * 10_000_000),
        }),
        tools: facts
            .tools
            .as_ref()
            .map(|tools| tools.iter().map(|tool| (*tool).to_owned()).collect()),
    }
}

fn egress(facts: &EgressFacts) -> EgressInput<'static> {
    let reserved = facts.reserved.map(|whose| match whose {
        "gateway" => Reserved::Gateway,
        "terraform-cloud" => Reserved::TerraformCloud,
        "model-provider" => Reserved::ModelProvider,
        other => panic!("{other}"),
    });
    let parsed = |addresses: &Vec<&str>| {
        addresses
            .iter()
            .map(|text| text.parse().expect("an address of the generator"))
            .collect()
    };
    let ranges = facts
        .excepted
        .iter()
        .map(|text| text.parse().expect("a range of the generator"));
    EgressInput {
        operation: match facts.connect {
            true => EgressOperation::Connect,
            false => EgressOperation::Request,
        },
        scope: facts.scope.clone().into(),
        host: facts.host.into(),
        port: facts.port,
        reserved,
        addresses: facts.addresses.as_ref().map(parsed),
        excepted: ranges.collect(),
    }
}

/// The value at a path of member names.
fn at<'a>(json: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(json, |value, name| value.get(name))
}
