//! A small world in which every question can be asked, and random contracts about it.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::super::*;
use crate::contract::{Action, ProviderSource};
use crate::cost::CostFacts;
use crate::decide::{
    ApprovalFact, ConfigurationFact, ModelCost, ModelInput, ModelSurface, RunFacts, TerraformInput,
};
use crate::decimal::Decimal;
use crate::egress::EgressOperation;
use crate::terraform::Operation;

/// A value for each member that contracts of this world differ in; `Null` leaves it out.
type Members = Vec<Value>;

const PATHS: &[&str] = &[
    "permissions.organization",
    "permissions.workspaces",
    "permissions.operations",
    "permissions.apply",
    "permissions.state_read",
    "permissions.outputs_read",
    "permissions.run",
    "permissions.resources",
    "permissions.configuration",
    "permissions.cost",
    "models",
    "egress",
    "cst_constraints",
    "audit",
];

fn some(values: &[Value]) -> BoxedStrategy<Value> {
    select(values.to_vec()).boxed()
}

fn list(of: &'static [&'static str]) -> BoxedStrategy<Value> {
    subsequence(of, 0..=of.len().min(3))
        .prop_map(|list| json!(list))
        .boxed()
}

fn maybe(inner: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![Just(Value::Null), inner.clone(), inner].boxed()
}

/// An object with some of these members.
fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    values
        .prop_map(move |values| {
            let members = names
                .iter()
                .copied()
                .zip(values)
                .filter(|(_, value)| !value.is_null());
            let members: Map<String, Value> = members
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            Value::Object(members)
        })
        .boxed()
}

fn flag() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::Bool).boxed()
}

const GLOBS: &[&str] = &["a*", "ab", "*b", "*", "a?", "?a*", "tfe_x", "b"];
const DATA: &[&str] = &[
    "a*",
    "http",
    "*",
    "terraform_remote_state",
    "tfe_outputs",
    "tfe_x",
];

/// The first and the last are one person's.
const APPROVERS: &[&str] = &["a@x.test", "b@x.test", "c@x.test", "a+2@x.test"];

fn members() -> Vec<BoxedStrategy<Value>> {
    let counts = || some(&[Value::Null, json!(0), json!(1), json!(2)]);
    let amounts = || some(&[Value::Null, json!("0"), json!("1"), json!("2")]);
    let apply = prop_oneof![
        Just(json!({"allowed": false})),
        Just(json!({"allowed": true, "requires_approval": false})),
        (
            subsequence(APPROVERS, 1..=APPROVERS.len()),
            1..=3u32,
            any::<bool>(),
            select(vec![60, 61]),
            select(vec!["hold", "reject"])
        )
            .prop_map(|(approvers, least, opener, ttl, missing)| json!({
                "allowed": true,
                "min_approvals": least.min(approvers.len() as u32),
                "approvers": approvers,
                "opener_may_approve": opener,
                "approval_ttl_seconds": ttl,
                "on_missing_approval": missing,
            })),
    ];
    let redactions = &[
        json!({"path": "a", "action": "remove"}),
        json!({"path": "a", "action": "mask"}),
        json!({"path": "a.b", "action": "remove"}),
        json!({"path": "a.b", "action": "mask"}),
        json!({"path": "a[*]", "action": "mask"}),
        json!({"path": "a[*].b", "action": "remove"}),
        json!({"path": "A", "action": "mask"}),
        json!({"path": "a.B", "action": "mask"}),
    ];
    let redact = subsequence(redactions.to_vec(), 0..=2).prop_shuffle();
    let tools = object(vec![
        ("allow", maybe(list(GLOBS))),
        ("deny", list(&["a*", "b", "*b"])),
    ]);
    let models = object(vec![
        ("providers", list(&["openai", "anthropic"])),
        ("allowed", list(GLOBS)),
        ("tools", maybe(tools)),
        ("max_calls", counts()),
        ("max_tokens", counts()),
        ("max_cost_usd", amounts()),
        ("redact", redact.prop_map(|rules| json!(rules)).boxed()),
        ("show_prompts_days", some(&[Value::Null, json!(1)])),
    ]);
    let configuration = object(vec![
        (
            "providers",
            maybe(list(&["hashicorp/aws", "hashicorp/random"])),
        ),
        (
            "modules",
            maybe(list(&["example/module0/aws", "git::https://x.test/m"])),
        ),
        ("data_sources", maybe(list(DATA))),
        ("provisioners", flag()),
        ("remote_state_workspaces", list(&["ws-a", "ws-b"])),
    ]);
    let resources = object(vec![
        ("allow_types", maybe(list(GLOBS))),
        ("deny_types", list(&["a*", "b", "?b", "tfe_*"])),
        (
            "deny_actions",
            list(&["create", "replace", "delete", "import"]),
        ),
        (
            "max_changes",
            object(vec![
                ("create", counts()),
                ("update", counts()),
                ("delete", counts()),
            ]),
        ),
    ]);
    let run = object(vec![
        ("destroy", flag()),
        ("refresh_only", flag()),
        ("targets", flag()),
        ("replace", flag()),
        ("variables", list(&["x", "y"])),
    ]);
    let cost = object(vec![
        ("max_monthly_delta_usd", amounts()),
        ("max_monthly_total_usd", amounts()),
        ("unpriced", some(&[json!("refuse"), json!("approve")])),
    ]);
    vec![
        some(&[Value::Null, json!("acme"), json!("other")]),
        some(&[json!(["ws-a"]), json!(["ws-b"]), json!(["ws-a", "ws-b"])]),
        some(&[json!([]), json!(["plan"]), json!(["plan"]), json!(["plan"])]),
        apply.boxed(),
        flag(),
        flag(),
        run,
        resources,
        maybe(configuration),
        maybe(cost),
        maybe(models),
        maybe(object(vec![(
            "allow_hosts",
            list(&[
                "x.test",
                "*.x.test",
                "*.y.x.test",
                "a.x.test:444",
                "x.test:443",
                "a.y.x.test",
            ]),
        )])),
        some(&[
            json!({"max_ttl_seconds": 60}),
            json!({"max_ttl_seconds": 61}),
        ]),
        some(&[
            Value::Null,
            json!({"timestamps": true}),
            json!({"witnesses": {"required": 1}}),
            json!({"witnesses": {"required": 2}, "timestamps": true}),
            json!({"witnesses": {"required": 1, "names": ["a"]}}),
            json!({"witnesses": {"required": 1, "names": ["a", "b"]}}),
            json!({"witnesses": {"required": 2, "names": ["a", "b"]}, "timestamps": true}),
        ]),
    ]
}

/// Two contracts that have most members in common.
fn pair() -> impl Strategy<Value = (Members, Members)> {
    let changed = subsequence((0..PATHS.len()).collect::<Vec<_>>(), 1..=3);
    (members(), members(), changed).prop_map(|(one, other, changed)| {
        let mut two = one.clone();
        for at in changed {
            two[at] = other[at].clone();
        }
        (one, two)
    })
}

fn written(members: &[Value]) -> Contract {
    let changes: Vec<(&str, Value)> = PATHS.iter().copied().zip(members.iter().cloned()).collect();
    let present: Vec<(&str, Value)> = changes
        .into_iter()
        .filter(|(path, value)| !value.is_null() || path == &"permissions.organization")
        .collect();
    super::contract(&present)
}

/// Words over the letters of the patterns and one more.
fn words(longest: usize) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut all = Vec::new();
    for _ in 0..longest {
        words = words
            .iter()
            .flat_map(|word| ["a", "b", "c"].map(|letter| format!("{word}{letter}")))
            .collect();
        all.extend(words.iter().cloned());
    }
    all.extend(["tfe_x", "tfe_y", "http", "terraform_remote_state"].map(str::to_owned));
    all
}

/// Every question of the world.
fn world() -> Vec<Question> {
    let mut all = Vec::new();
    terraform(&mut all);
    models(&mut all);
    uploads(&mut all);
    plans(&mut all);
    approvals(&mut all);
    all.extend([60, 61].map(Question::Token));
    for host in [
        "x.test",
        "a.x.test",
        "b.x.test",
        "y.x.test",
        "a.y.x.test",
        "b.y.x.test",
    ] {
        for operation in [EgressOperation::Connect, EgressOperation::Request] {
            for port in [80, 443, 444] {
                let host = host.to_owned();
                all.push(Question::Connection(Connection {
                    host,
                    port,
                    operation,
                }));
            }
        }
    }
    all
}

fn terraform(all: &mut Vec<Question>) {
    for operation in Operation::ALL.iter().copied() {
        for workspace in ["ws-a", "ws-b", "ws-c"] {
            for organization in ["acme", "other", "third"] {
                let mut input = TerraformInput::new(operation, &[]);
                input.workspace_id = Some(workspace.into());
                input.organization = Some(organization.into());
                input.organization_known = true;
                input.owned = true;
                if operation != Operation::CreateRun {
                    for approval in [ApprovalFact::None, ApprovalFact::Valid] {
                        let input = TerraformInput {
                            approval,
                            ..input.clone()
                        };
                        all.push(Question::Terraform(Box::new(input)));
                    }
                    continue;
                }
                for bits in 0..64u32 {
                    let bit = |n: u32| bits & (1 << n) != 0;
                    let names = [(4, "x"), (5, "y")].into_iter().filter(|(n, _)| bit(*n));
                    let run = RunFacts {
                        is_destroy: bit(0),
                        refresh_only: bit(1),
                        targets: bits & 4,
                        replace: bits & 8,
                        variables: names.map(|(_, name)| name.to_owned()).collect(),
                        configuration: ConfigurationFact::Pinned,
                        ..RunFacts::default()
                    };
                    let run = Some(std::borrow::Cow::Owned(run));
                    all.push(Question::Terraform(Box::new(TerraformInput {
                        run,
                        ..input.clone()
                    })));
                }
            }
        }
    }
}

fn models(all: &mut Vec<Question>) {
    let cents = |n: u64| Decimal::from_units(n * 1_000_000_000);
    let costs = [None, Some(cents(0)), Some(cents(1)), Some(cents(2))];
    for surface in [
        ModelSurface::ChatCompletions,
        ModelSurface::CountTokens,
        ModelSurface::Models,
    ] {
        for provider in ["openai", "anthropic", "provider0"] {
            let mut ask = |model: Option<&str>,
                           calls: u64,
                           tokens: u64,
                           cost: Option<Decimal>,
                           members: Value| {
                let mut body = json!({});
                if let Some(model) = model {
                    body["model"] = model.into();
                }
                for (name, value) in members.as_object().unwrap() {
                    body[name] = value.clone();
                }
                let mut input = ModelInput::new("", surface, &[]);
                input.provider = provider.into();
                input.model = model.map(|model| model.to_owned().into());
                input.calls_so_far = calls;
                input.tokens_so_far = tokens;
                input.cost = cost.map(|so_far_usd| ModelCost {
                    so_far_usd,
                    wanted_usd: Decimal::ZERO,
                });
                let body = body.into();
                let input = ModelInput {
                    scope: Vec::new().into(),
                    fallbacks: Vec::new().into(),
                    ..input
                };
                all.push(Question::Model(Box::new(ModelCall { input, body })));
            };
            let zero = Some(Decimal::ZERO);
            if surface == ModelSurface::Models {
                ask(None, 0, 0, zero, json!({}));
                continue;
            }
            for word in words(3) {
                ask(Some(&word), 0, 0, zero, json!({}));
            }
            for model in ["a", "b", "ab", "c", "ca", "ba", "aa", "tfe_x"] {
                for (calls, tokens) in [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (2, 2)] {
                    for cost in costs {
                        ask(Some(model), calls, tokens, cost, json!({}));
                    }
                }
                for word in words(3) {
                    ask(Some(model), 0, 0, zero, json!({"tools": [{"name": word}]}));
                }
                ask(Some(model), 0, 0, zero, json!({"prompt": {"id": "p"}}));
                let inner = [json!("x"), json!([]), json!({}), json!(null), json!(1)];
                let mut values = inner.to_vec();
                for value in &inner {
                    values.push(json!([value]));
                    values.push(json!({"b": value}));
                    values.push(json!({"B": value}));
                    values.push(json!([{"b": value}]));
                    values.push(json!([{"B": value}, "x"]));
                    values.push(json!({"b": value, "c": 1}));
                }
                for value in values {
                    ask(Some(model), 0, 0, zero, json!({"a": value}));
                    ask(Some(model), 0, 0, zero, json!({"A": value}));
                    ask(Some(model), 0, 0, zero, json!({"a": value, "A": 1}));
                }
            }
        }
    }
    all.extend([0, 1].map(Question::KeptPrompts));
    for by in [
        &[][..],
        &["a"],
        &["b"],
        &["c"],
        &["a", "b"],
        &["b", "c"],
        &["c", "d"],
    ] {
        let by: Vec<String> = by.iter().map(|&name| name.to_owned()).collect();
        all.extend([false, true].map(|timestamp| {
            let by = by.clone();
            Question::Sealed(Seen { by, timestamp })
        }));
    }
}

fn uploads(all: &mut Vec<Question>) {
    let mut parts = vec![Part::Nothing, Part::Provisioner];
    for name in ["aws", "random", "null"] {
        let source = ProviderSource::new(&format!("hashicorp/{name}")).unwrap();
        parts.push(Part::ProviderArgument(source.clone(), "host"));
        parts.push(Part::Provider(source));
    }
    for source in [
        "example/module0/aws",
        "example/module1/aws",
        "git::https://x.test/m",
        "./m",
    ] {
        parts.extend([None, Some("1.0.0")].map(|version| Part::Module(source.into(), version)));
    }
    for kind in words(3) {
        if !crate::rules::reads_state(&kind) {
            parts.push(Part::DataSource(kind.clone()));
        }
        parts.push(Part::ResourceType(kind));
    }
    for kind in ["terraform_remote_state", "tfe_outputs"] {
        parts.extend(["ws-a", "ws-b"].map(|id| Part::RemoteState(kind, id.into())));
    }
    all.extend(parts.into_iter().map(Question::Upload));
}

fn plans(all: &mut Vec<Question>) {
    let dollars = |n: u64| Decimal::from_units(n * 1_000_000_000);
    let mut prices = vec![None];
    for rise in 0..=3 {
        for total in rise..=4 {
            for unmatched_resources in [0, 1] {
                prices.push(Some(CostFacts {
                    prior_monthly_usd: dollars(total - rise),
                    proposed_monthly_usd: dollars(total),
                    delta_monthly_usd: dollars(rise),
                    unmatched_resources,
                }));
            }
        }
    }
    for complete in [true, false] {
        for price in &prices {
            let plan = crate::plan::PlanFacts {
                complete,
                ..plans::empty()
            };
            all.push(Question::Plan(Box::new(plan), price.clone()));
        }
        for kind in words(4) {
            for action in Action::ALL.iter().copied().map(Some).chain([None]) {
                for count in 1..=3 {
                    let plan = plans::changes(&kind, action, count);
                    let plan = crate::plan::PlanFacts { complete, ..plan };
                    all.push(Question::Plan(Box::new(plan), prices[1].clone()));
                }
            }
        }
    }
}

fn approvals(all: &mut Vec<Question>) {
    for bits in 0..1u32 << APPROVERS.len() {
        let by: Vec<String> = (0..APPROVERS.len())
            .filter(|n| bits & (1 << n) != 0)
            .map(|n| APPROVERS[n].to_owned())
            .collect();
        for opener in std::iter::once(None).chain(APPROVERS.iter().copied().map(Some)) {
            for age_seconds in [0, 59, 60, 61] {
                let by = by.clone();
                let opener = opener.map(str::to_owned);
                all.push(Question::Approved(Approvals {
                    by,
                    opener,
                    age_seconds,
                }));
            }
        }
    }
    all.push(Question::Wish);
}

/// The first question of the world that `new` allows and `old` does not.
fn first<'w>(world: &'w [Question], old: &Contract, new: &Contract) -> Option<&'w Question> {
    let (old, new) = (
        CompiledContract::compile(old),
        CompiledContract::compile(new),
    );
    // What no call leads to is not kept.
    let calls = world.iter().any(|question| {
        matches!(question, Question::Model(_))
            && question.answer(&new).verdict == crate::Verdict::Allow
    });
    world.iter().find(|question| {
        let counts = calls || !matches!(question, Question::KeptPrompts(_));
        counts && question.answer(&new).exceeds(&question.answer(&old))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// In both directions: what enumeration finds the proof finds, and what it does not find it
    /// does not claim.
    #[test]
    fn the_proof_agrees_with_every_question((old, new) in pair()) {
        let world = world();
        let (old, new) = (written(&old), written(&new));
        let proof = prove(&old, &new);
        prop_assert!(proof.undecided.is_empty());
        for (proven, found) in [
            (&proof.newly_allowed, first(&world, &old, &new)),
            (&proof.no_longer_allowed, first(&world, &new, &old)),
        ] {
            prop_assert_eq!(
                proven.is_empty(),
                found.is_none(),
                "proven {:#?}, found {:#?}", proven.first(), found
            );
        }
    }
}

/// Every list of a few addresses, every number and both rules, against each other.
#[test]
fn approvals_agree_with_every_question() {
    let mut questions = Vec::new();
    approvals(&mut questions);
    let mut contracts = Vec::new();
    for bits in 1..1u32 << APPROVERS.len() {
        let listed: Vec<&str> = (0..APPROVERS.len())
            .filter(|n| bits & (1 << n) != 0)
            .map(|n| APPROVERS[n])
            .collect();
        for least in 1..=listed.len() {
            for opener in [false, true] {
                contracts.push(super::contract(&[(
                    "permissions.apply",
                    json!({
                        "allowed": true,
                        "approvers": listed,
                        "min_approvals": least,
                        "opener_may_approve": opener,
                        "approval_ttl_seconds": 60,
                    }),
                )]));
            }
        }
    }
    let compiled: Vec<CompiledContract> = contracts.iter().map(CompiledContract::compile).collect();
    let answers: Vec<Vec<Answer>> = compiled
        .iter()
        .map(|one| {
            questions
                .iter()
                .map(|question| question.answer(one))
                .collect()
        })
        .collect();
    for (old, before) in answers.iter().enumerate() {
        for (new, after) in answers.iter().enumerate() {
            let mut probes = Probes {
                old: &compiled[old],
                new: &compiled[new],
                found: Vec::new(),
                undecided: Vec::new(),
            };
            super::super::approvals::probe(&mut probes);
            let found = after.iter().zip(before).any(|(new, old)| new.exceeds(old));
            assert_eq!(
                !probes.found.is_empty(),
                found,
                "{:?} {:?}",
                contracts[old].permissions.apply,
                contracts[new].permissions.apply
            );
        }
    }
}
