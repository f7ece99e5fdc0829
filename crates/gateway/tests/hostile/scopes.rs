//! What a token's scope does not cover, and what an elevated token is worth.

use std::collections::BTreeSet;

use clawgate::app::now;
use clawgate::clawscope::{self, Issuer, TokenRequest};
use clawgate::demo::sandbox::OPERATOR;
use policy::terraform::{Method, Operation, routes};
use proof::token::Scope;
use serde_json::json;

use crate::flow::{configuration, run_on};
use crate::rig::{Call, Rig};

async fn scoped(rig: &Rig, scopes: &[Scope]) -> String {
    let scopes = Some(scopes.to_vec());
    let request = TokenRequest {
        ttl_seconds: None,
        scopes,
        ..TokenRequest::default()
    };
    let issuer = Issuer::of(rig.app());
    let issued = clawscope::issue(issuer, OPERATOR, &rig.sandbox.job_id, request, now()).await;
    issued.unwrap().text.to_string()
}

/// One good call for each operation, on what the job owns.
fn good_call(rig: &Rig, operation: Operation, own: &crate::flow::Planned) -> Call {
    let route = routes()
        .find(|route| route.operation == Some(operation))
        .unwrap();
    let path = route
        .template
        .replace("{organization}", "acme")
        .replace("{workspace}", "ws-staging-app")
        .replace("{run}", &own.run)
        .replace("{plan}", &own.plan)
        .replace("{apply}", &own.apply)
        .replace("{configuration-version}", &own.configuration)
        .replace("{cost-estimate}", "ce-0000000000000001")
        .replace("{task-stage}", "ts-0000000000000001")
        .replace("{policy-check}", "polchk-0000000000000001")
        .replace("{output}", "wsout-0000000000000001")
        .replace("{state-version-output}", "wsout-0000000000000001")
        .replace("{name}", "staging-app")
        .replace("{workspace-name}", "staging-app");
    assert!(!path.contains('{'), "{path}");
    let call = rig.nobody(route.method.map_or("GET", Method::as_str), &path);
    match operation {
        Operation::CreateRun => call.json_api(&run_on("ws-staging-app", Some(&own.configuration))),
        Operation::CreateConfigurationVersion => call.json_api(&configuration()),
        Operation::ApplyRun | Operation::DiscardRun | Operation::CancelRun => {
            call.json_api(&json!({}))
        }
        _ => call,
    }
}

#[tokio::test]
async fn a_scope_opens_its_own_door_only() {
    let rig = Rig::start().await;
    let own = rig.planned(&rig.sandbox.cst).await;
    let seen = rig.seen();
    let nothing = scoped(&rig, &[Scope::ProxyCall]).await;
    let model = scoped(&rig, &[Scope::ProxyCall, Scope::ModelCall]).await;
    let mcp = scoped(&rig, &[Scope::ProxyCall, Scope::McpCall]).await;
    let plan = scoped(&rig, &[Scope::ProxyCall, Scope::TerraformPlan]).await;
    let apply = scoped(&rig, &[Scope::ProxyCall, Scope::TerraformApply]).await;
    let chat = rig
        .nobody("POST", "/openai/v1/chat/completions")
        .json(&json!({
            "model": "gpt-standin", "messages": [],
        }));
    let open: BTreeSet<Operation> = [
        Operation::Discovery,
        Operation::Ping,
        Operation::AccountDetails,
    ]
    .into();
    let mut failures = Vec::new();
    for operation in Operation::ALL {
        for (what, token) in [
            ("nothing", &nothing),
            ("model", &model),
            ("mcp", &mcp),
            ("apply", &apply),
            ("plan", &plan),
        ] {
            let covered = open.contains(operation)
                || match what {
                    "plan" => *operation != Operation::ApplyRun,
                    "apply" => *operation == Operation::ApplyRun,
                    _ => false,
                };
            if covered {
                continue;
            }
            let reply = good_call(&rig, *operation, &own).bearer(token).send().await;
            if reply.refusal() != (403, "TOKEN_SCOPE".to_owned()) {
                failures.push(format!("{operation} with {what}: {}", reply.whole));
            }
        }
    }
    for (what, token) in [
        ("nothing", &nothing),
        ("mcp", &mcp),
        ("plan", &plan),
        ("apply", &apply),
    ] {
        let reply = chat.clone().bearer(token).send().await;
        if reply.refusal() != (403, "TOKEN_SCOPE".to_owned()) {
            failures.push(format!("a chat with {what}: {}", reply.whole));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    rig.assert_silent(&seen, "a call beyond the scope");
    let run = rig.app().store.run(&own.run).await.unwrap().unwrap();
    assert!(!run.apply_wished);
}
