//! The allow path of `decide` allocates nothing, on a contract with 50 workspaces and 100 rules.

use std::borrow::Cow;

use policy::contract::Contract;
use policy::decide::{
    ApprovalFact, CompiledContract, ConfigurationFact, DecisionInput, ModelInput, ModelSurface,
    RunFacts, TerraformInput, Verdict, decide,
};
use policy::terraform::Operation;

fn large_contract() -> CompiledContract {
    let workspaces: Vec<String> = (0..50).map(|n| format!("\"ws-app-{n:02}\"")).collect();
    let variables: Vec<String> = (0..50).map(|n| format!("\"variable_{n:02}\"")).collect();
    let models: Vec<String> = (0..50).map(|n| format!("\"model-{n:02}-*\"")).collect();
    let text = format!(
        r#"{{"wpc_version":"1.0","name":"large","tool":"terraform-cloud","connection":"official-api",
            "permissions":{{"workspaces":[{}],"operations":["plan"],"run":{{"variables":[{}]}},
            "apply":{{"allowed":true,"approvers":["a@example.com"]}}}},
            "models":{{"providers":["openai"],"allowed":[{}],"max_calls":1000,"max_tokens":1000000}}}}"#,
        workspaces.join(","),
        variables.join(","),
        models.join(",")
    );
    CompiledContract::compile(&Contract::parse(text.as_bytes()).expect("the contract is valid"))
}

#[test]
fn the_allow_path_allocates_nothing() {
    let contract = large_contract();
    let scope: Vec<String> = ["tfc:plan", "tfc:apply", "model:call"]
        .map(str::to_owned)
        .to_vec();
    let run = RunFacts {
        variables: vec!["variable_49".to_owned()],
        configuration: ConfigurationFact::Inspected,
        ..RunFacts::default()
    };
    let call = |operation| TerraformInput {
        workspace_id: Some(Cow::Borrowed("ws-app-49")),
        run_id: Some(Cow::Borrowed("run-1")),
        owned: true,
        run: Some(Cow::Borrowed(&run)),
        approval: ApprovalFact::Valid,
        ..TerraformInput::new(operation, &scope)
    };
    let inputs = [
        DecisionInput::Terraform(call(Operation::CreateRun)),
        DecisionInput::Terraform(call(Operation::ReadRun)),
        DecisionInput::Terraform(call(Operation::ApplyRun)),
        DecisionInput::Terraform(call(Operation::WorkspaceById)),
        DecisionInput::Model(ModelInput {
            scope: Cow::Borrowed(&scope),
            provider: Cow::Borrowed("openai"),
            fallbacks: Default::default(),
            surface: ModelSurface::ChatCompletions,
            model: Some(Cow::Borrowed("model-49-large")),
            calls_so_far: 5,
            tokens_so_far: 5,
            max_tokens_requested: Some(5),
            cost: None,
            tools: None,
        }),
    ];
    for input in &inputs {
        let mut verdict = None;
        let counted = allocation_counter::measure(|| {
            verdict = Some(decide(&contract, input).verdict);
        });
        assert_eq!(verdict, Some(Verdict::Allow), "{input:?}");
        assert_eq!(counted.count_total, 0, "{input:?}");
    }
}
