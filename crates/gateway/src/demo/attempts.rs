//! What the contract forbids, tried the way a hijacked agent would.

use http::Method;
use serde_json::{Value, json};

use super::agent::{Caller, Reply};
use super::report::Refused;
use super::sandbox::Sandbox;
use super::stage::Stage;

/// Another loopback address: to the gateway, another machine.
const ANOTHER_HOLDER: [u8; 4] = [127, 0, 0, 2];

/// Tries everything; true when each was refused with the expected code and upstream saw nothing.
pub(super) async fn try_all(
    sandbox: &Sandbox,
    agent: &Caller,
    planned_run: &str,
    stage: &mut Stage,
) -> anyhow::Result<bool> {
    let url = &sandbox.gateway.agent_url;
    let before = last_request(sandbox);
    let other = Caller::new(url, Some(&sandbox.cst), Some(ANOTHER_HOLDER.into()));
    let apply = format!("/api/v2/runs/{planned_run}/actions/apply");
    let state = "/api/v2/workspaces/ws-staging-app/current-state-version";
    let variables = "/api/v2/workspaces/ws-staging-app/vars";
    let mint = "/api/v2/organizations/acme/authentication-token";
    let headers = [("x-job-id", "job_00000000-0000-4000-8000-000000000000")];
    let planned = format!("/api/v2/runs/{planned_run}");
    let foreign_job = agent.call(Method::GET, &planned, &headers, None).await?;
    let replies: [(&str, &str, Reply); 7] = [
        (
            "start a run on production-app",
            "WORKSPACE_NOT_ALLOWED",
            agent
                .send(Method::POST, "/api/v2/runs", &run_on("ws-production-app"))
                .await?,
        ),
        (
            "read the state of staging-app",
            "STATE_READ_DENIED",
            agent.get(state).await?,
        ),
        (
            "write a workspace variable",
            "VARIABLES_DENIED",
            agent.send(Method::POST, variables, &variable()).await?,
        ),
        (
            "mint an organization token",
            "TOKEN_MINT_DENIED",
            agent
                .send(Method::POST, mint, &json!({"data": {"type": "tokens"}}))
                .await?,
        ),
        (
            "apply the plan without approval",
            "APPROVAL_REQUIRED",
            agent.send(Method::POST, &apply, &json!({})).await?,
        ),
        (
            "use the token for another job",
            "TOKEN_JOB_MISMATCH",
            foreign_job,
        ),
        (
            "use the token from another machine",
            "TOKEN_REPLAYED",
            other.get(&planned).await?,
        ),
    ];
    let mut good = true;
    for (attempt, expected, reply) in replies {
        let code = reply
            .code()
            .unwrap_or_else(|| format!("HTTP {}", reply.status));
        let refused = reply.status.is_client_error() && code == expected;
        good &= refused;
        stage.refused(attempt, &code, refused);
        stage.report.refusals.push(Refused {
            attempt: attempt.to_owned(),
            code,
        });
    }
    let reached = reached_upstream(sandbox, before, planned_run);
    for request in &reached {
        stage.say(&format!("reached upstream: {request}"));
    }
    if reached.is_empty() {
        stage.say("the simulator's request log shows that none of it reached Terraform Cloud");
    }
    Ok(good && reached.is_empty())
}

fn last_request(sandbox: &Sandbox) -> u64 {
    sandbox
        .cloud
        .requests()
        .last()
        .map_or(0, |request| request.seq)
}

/// Requests that came in meanwhile, apart from the gate's own reading of the job's run.
fn reached_upstream(sandbox: &Sandbox, before: u64, run: &str) -> Vec<String> {
    let gate = format!("/api/v2/runs/{run}");
    let requests = sandbox.cloud.requests();
    let others = requests.iter().filter(|request| {
        let of_gate = request.method == "GET"
            && request.path == gate
            && request.bearer.as_deref() == Some("reader");
        request.seq > before && !of_gate
    });
    others
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

fn run_on(workspace: &str) -> Value {
    json!({"data": {
        "type": "runs",
        "attributes": { "auto-apply": true },
        "relationships": {
            "workspace": { "data": { "type": "workspaces", "id": workspace } },
        },
    }})
}

fn variable() -> Value {
    json!({"data": {
        "type": "vars",
        "attributes": { "key": "TF_CLI_ARGS_apply", "value": "-auto-approve", "category": "env" },
    }})
}
