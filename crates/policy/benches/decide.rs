//! `decide` on a contract with 50 workspaces and 100 rules. Budget: 1 us.

use std::borrow::Cow;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use policy::contract::Contract;
use policy::decide::{
    CompiledContract, ConfigurationFact, DecisionInput, ModelInput, ModelSurface, RunFacts,
    TerraformInput, decide,
};
use policy::terraform::{Operation, ParsedTarget};

fn large_contract() -> CompiledContract {
    let workspaces: Vec<String> = (0..50).map(|n| format!("\"ws-app-{n:02}\"")).collect();
    let variables: Vec<String> = (0..50).map(|n| format!("\"variable_{n:02}\"")).collect();
    let models: Vec<String> = (0..50).map(|n| format!("\"model-{n:02}-*\"")).collect();
    let text = format!(
        r#"{{"wpc_version":"1.0","name":"large","tool":"terraform-cloud","connection":"official-api",
            "permissions":{{"workspaces":[{}],"operations":["plan"],"run":{{"variables":[{}]}}}},
            "models":{{"providers":["openai"],"allowed":[{}],"max_calls":1000}}}}"#,
        workspaces.join(","),
        variables.join(","),
        models.join(",")
    );
    CompiledContract::compile(&Contract::parse(text.as_bytes()).expect("the contract is valid"))
}

fn benches(criterion: &mut Criterion) {
    let contract = large_contract();
    let scope = vec!["tfc:plan".to_owned(), "model:call".to_owned()];
    let run = RunFacts {
        variables: vec!["variable_49".to_owned()],
        configuration: ConfigurationFact::Inspected,
        ..RunFacts::default()
    };
    let create = DecisionInput::Terraform(TerraformInput {
        workspace_id: Some(Cow::Borrowed("ws-app-49")),
        run: Some(Cow::Borrowed(&run)),
        ..TerraformInput::new(Operation::CreateRun, &scope)
    });
    let denied = DecisionInput::Terraform(TerraformInput {
        workspace_id: Some(Cow::Borrowed("ws-other")),
        run: Some(Cow::Borrowed(&run)),
        ..TerraformInput::new(Operation::CreateRun, &scope)
    });
    let model = DecisionInput::Model(ModelInput {
        scope: Cow::Borrowed(&scope),
        provider: Cow::Borrowed("openai"),
        fallbacks: Default::default(),
        surface: ModelSurface::ChatCompletions,
        model: Some(Cow::Borrowed("model-49-large")),
        calls_so_far: 5,
        tokens_so_far: 5,
        max_tokens_requested: None,
        cost: None,
        tools: None,
    });
    let mut group = criterion.benchmark_group("decide");
    group.bench_function("create-run, allowed", |b| {
        b.iter(|| decide(&contract, black_box(&create)))
    });
    group.bench_function("create-run, denied", |b| {
        b.iter(|| decide(&contract, black_box(&denied)))
    });
    group.bench_function("model call, last of 50", |b| {
        b.iter(|| decide(&contract, black_box(&model)))
    });
    group.finish();
    criterion.bench_function("parse a request line", |b| {
        b.iter(|| {
            ParsedTarget::parse(
                "GET",
                black_box("/api/v2/runs/run-CZcmD7eagjhyX0vN?include=plan"),
            )
        });
    });
}

criterion_group!(decisions, benches);
criterion_main!(decisions);
