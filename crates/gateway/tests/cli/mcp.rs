//! Tools for agents that speak MCP, message by message.

use http::{Method, StatusCode};
use proof::record::{Body, CausedBy, Lane, Match};
use serde_json::{Value, json};
use store::GateState;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Answer, Caller};
use crate::evidence::{begun, refusals};
use crate::terraform::{Session, two_instances};
use crate::world::{Setup, World};

const HEADERS: [(&str, &str); 2] = [
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream"),
];

async fn message(world: &World, token: &str, body: &Value) -> Answer {
    let caller = Caller::new(&world.gateway().agent_url, Some(token));
    let answer = caller
        .call(Method::POST, "/mcp", &HEADERS, body.to_string())
        .await;
    world.seen().remember(&answer.text());
    answer
}

fn request(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

/// What a tool says, and whether that is a refusal.
async fn tool_with(world: &World, token: &str, name: &str, arguments: Value) -> (String, bool) {
    let call = request("tools/call", &json!({"name": name, "arguments": arguments}));
    let answer = message(world, token, &call).await.ok();
    let result = &answer["result"];
    let text = result["content"][0]["text"].as_str();
    let text = text.unwrap_or_else(|| panic!("{name}: {answer}"));
    (text.to_owned(), result["isError"] == true)
}

async fn tool(world: &World, name: &str, arguments: Value) -> (String, bool) {
    tool_with(world, &world.cst, name, arguments).await
}

async fn good(world: &World, name: &str, arguments: Value) -> String {
    let (text, refused) = tool(world, name, arguments).await;
    assert!(!refused, "{name}: {text}");
    text
}

async fn refused(world: &World, name: &str, arguments: Value) -> String {
    let (text, refused) = tool(world, name, arguments).await;
    assert!(refused, "{name}: {text}");
    text
}

async fn listed(world: &World, token: &str) -> Vec<String> {
    let answer = message(world, token, &request("tools/list", &json!({})))
        .await
        .ok();
    let tools = answer["result"]["tools"].as_array().unwrap().clone();
    let names = tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned());
    names.collect()
}

/// Starts a plan of the example and waits until it is finished.
async fn planned(world: &World, workspace: &str) -> String {
    let files = json!({"main.tf": two_instances()});
    let arguments = json!({"workspace": workspace, "files": files, "message": "two"});
    let said = good(world, "start_plan", arguments).await;
    let run = said.split_whitespace().nth(1).unwrap().to_owned();
    world.cloud.wait_until_confirmable(&run).await.unwrap();
    run
}

#[tokio::test]
async fn tools_lead_a_change_from_the_contract_to_its_apply() {
    let world = Setup::new().start().await;
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "agent", "version": "1"}});
    let hello = message(&world, &world.cst, &request("initialize", &hello))
        .await
        .ok();
    assert_eq!(hello["result"]["serverInfo"]["name"], "clawgate");
    assert!(
        hello["result"]["capabilities"]["tools"].is_object(),
        "{hello}"
    );
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let initialized = message(&world, &world.cst, &initialized).await;
    assert_eq!(initialized.status, StatusCode::ACCEPTED);

    let may = good(&world, "contract", json!({})).await;
    assert!(may.contains("An apply needs one approval"), "{may}");
    let workspaces = good(&world, "list_workspaces", json!({})).await;
    assert!(
        workspaces.contains("staging-app (ws-staging-app)"),
        "{workspaces}"
    );
    assert!(!workspaces.contains("production"), "{workspaces}");
    let shown = good(
        &world,
        "show_workspace",
        json!({"workspace": "staging-app"}),
    )
    .await;
    assert!(shown.contains("ws-staging-app"), "{shown}");

    let run = planned(&world, "staging-app").await;
    let status = good(&world, "plan_status", json!({"run": run})).await;
    assert!(
        status.contains("1 to add, 1 to change, 0 to destroy"),
        "{status}"
    );
    assert!(
        status.contains("Nobody has asked for its apply"),
        "{status}"
    );
    let diff = good(&world, "plan_diff", json!({"run": run})).await;
    assert!(
        diff.contains("+ create terraform_data.instance[1]"),
        "{diff}"
    );
    let log = good(&world, "run_log", json!({"run": run})).await;
    assert!(log.contains("Plan: 1 to add"), "{log}");
    let cost = good(&world, "cost", json!({"run": run})).await;
    assert!(
        cost.contains("no cost estimate") || cost.contains("USD"),
        "{cost}"
    );

    let asked = good(&world, "request_apply", json!({"run": run})).await;
    assert!(asked.contains("is asked for"), "{asked}");
    world.run_at(&run, GateState::AwaitingApproval).await;
    let waits = good(
        &world,
        "wait_for_approval",
        json!({"run": run, "seconds": 0}),
    )
    .await;
    let page = format!("{}/approvals/{run}", world.gateway().operator_url);
    assert!(
        waits.contains("Still waiting") && waits.contains(&page),
        "{waits}"
    );
    let waiting = good(&world, "wait_for_approval", json!({"run": run}));
    let (waited, ()) = tokio::join!(waiting, world.approve(&run));
    assert!(waited.contains("It is applied."), "{waited}");
    let receipts = good(&world, "receipts", json!({})).await;
    assert!(
        receipts.contains("create-run: 201, receipt rcpt_"),
        "{receipts}"
    );
    assert_eq!(good(&world, "refusals", json!({})).await, "None so far.");

    assert_eq!(world.instances(), 2);
    let bundle = world.valid_evidence().await;
    // The agent's wish is one, and what the gateway made of it another.
    assert_eq!(
        (begun(&bundle, "create-run"), begun(&bundle, "apply-run")),
        (1, 2)
    );
}

#[tokio::test]
async fn a_client_that_goes_while_a_tool_waits_takes_nothing_with_it() {
    let world = Setup::new().start().await;
    let run = planned(&world, "staging-app").await;
    good(&world, "request_apply", json!({"run": run})).await;
    world.run_at(&run, GateState::AwaitingApproval).await;
    // The call is sent whole, and nobody is there to hear what it says.
    let arguments = json!({"run": run, "seconds": 50});
    let call = json!({"name": "wait_for_approval", "arguments": arguments});
    let body = request("tools/call", &call).to_string();
    let url = &world.gateway().agent_url;
    let host = url.strip_prefix("http://").unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\naccept: application/json, text/event-stream\r\n\
         content-length: {}\r\n\r\n",
        world.cst,
        body.len()
    );
    let mut gone = TcpStream::connect(host).await.unwrap();
    gone.write_all((head + &body).as_bytes()).await.unwrap();
    drop(gone);
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    assert_eq!(good(&world, "refusals", json!({})).await, "None so far.");
    world.valid_evidence().await;
}

#[tokio::test]
async fn what_the_contract_forbids_is_refused_with_the_rule_and_recorded() {
    let world = Setup::new().start().await;
    let files = json!({"main.tf": two_instances()});
    let arguments = json!({"workspace": "ws-production-app", "files": files});
    let text = refused(&world, "start_plan", arguments).await;
    assert!(text.contains("(WORKSPACE_NOT_ALLOWED)"), "{text}");
    assert!(text.contains("What is allowed: Plans may run in"), "{text}");
    let text = refused(
        &world,
        "show_workspace",
        json!({"workspace": "production-app"}),
    )
    .await;
    assert!(text.contains("It names: staging-app"), "{text}");
    let shell = "resource \"terraform_data\" \"a\" {\n  provisioner \"local-exec\" {\n    \
                 command = \"env\"\n  }\n}\n";
    for (path, text, code) in [
        ("main.tf", shell, "CONFIGURATION_PROVISIONER"),
        ("../main.tf", "", "cannot be packed"),
        ("/etc/passwd.tf", "", "cannot be packed"),
    ] {
        let arguments = json!({"workspace": "staging-app", "files": {path: text}});
        let said = refused(&world, "start_plan", arguments).await;
        assert!(said.contains(code), "{path}: {said}");
    }
    // Another's run, and one that is none.
    let before = world.cloud.runs().len();
    for run in ["run-1234567890abcdef", "../workspaces/ws-staging-app", ""] {
        for name in [
            "plan_status",
            "plan_diff",
            "request_apply",
            "wait_for_approval",
            "discard_run",
        ] {
            refused(&world, name, json!({"run": run})).await;
        }
    }
    assert_eq!(world.cloud.runs().len(), before);
    let told = good(&world, "refusals", json!({})).await;
    assert!(told.contains("WORKSPACE_NOT_ALLOWED"), "{told}");
    let codes = refusals(&world.valid_evidence().await);
    for code in ["WORKSPACE_NOT_ALLOWED", "CONFIGURATION_PROVISIONER"] {
        assert!(codes.iter().any(|own| own == code), "{code}: {codes:?}");
    }
}

#[tokio::test]
async fn tools_that_the_contract_has_no_use_for_are_not_listed_and_do_nothing() {
    let world = Setup::new().start().await;
    let all = listed(&world, &world.cst).await;
    assert!(all.iter().any(|name| name == "request_apply"), "{all:?}");
    world.valid_evidence().await;

    let apply = "/permissions/apply/allowed";
    let world = Setup::new().contract(apply, json!(false)).start().await;
    let fewer = listed(&world, &world.cst).await;
    let gone = all
        .iter()
        .filter(|name| !fewer.contains(name))
        .collect::<Vec<_>>();
    assert_eq!(gone, ["request_apply", "wait_for_approval"]);
    let run = {
        let arguments = json!({"workspace": "staging-app", "files": {"main.tf": two_instances()}});
        let said = good(&world, "start_plan", arguments).await;
        assert!(said.contains("can never be applied"), "{said}");
        said.split_whitespace().nth(1).unwrap().to_owned()
    };
    world.run_at(&run, GateState::Finished).await;
    refused(&world, "request_apply", json!({"run": run})).await;
    assert!(world.asked("POST", "/actions/apply").is_empty());
}

#[tokio::test]
async fn messages_that_make_no_sense_are_answered_and_change_nothing() {
    let world = Setup::new().start().await;
    let call = |params: Value| request("tools/call", &params);
    for (body, why) in [
        (
            call(json!({"name": "rm_rf", "arguments": {}})),
            "there is no such tool",
        ),
        (
            call(json!({"name": "contract", "arguments": {"a": 1}})),
            "takes no argument",
        ),
        (
            call(json!({"name": "plan_status", "arguments": {}})),
            "is missing",
        ),
        (
            call(json!({"name": "plan_status", "arguments": {"run": 7}})),
            "must fit",
        ),
        (request("no/such/method", &json!({})), ""),
    ] {
        let answer = message(&world, &world.cst, &body).await;
        let error = answer.json()["error"]["message"].to_string();
        assert!(
            error.len() > 4 && error.contains(why),
            "{body}: {}",
            answer.text()
        );
    }
    let big = json!({"workspace": "staging-app", "files": {"main.tf": "#".repeat(5 << 20)}});
    let big = call(json!({"name": "start_plan", "arguments": big}));
    let answer = message(&world, &world.cst, &big).await;
    assert_eq!(
        answer.status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "{}",
        answer.text()
    );
    for body in ["", "{", "[]", "null", "\"tools/list\""] {
        let caller = Caller::new(&world.gateway().agent_url, Some(&world.cst));
        let answer = caller.call(Method::POST, "/mcp", &HEADERS, body).await;
        assert!(answer.status.is_client_error(), "{body}: {}", answer.status);
    }
    let list = request("tools/list", &json!({}));
    let answer = message(&world, "no-token", &list).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let caller = Caller::new(&world.gateway().agent_url, Some(&world.cst));
    for method in [Method::GET, Method::DELETE, Method::PUT] {
        let answer = caller.call(method, "/mcp", &[HEADERS[1]], "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut from_a_page = HEADERS.to_vec();
    from_a_page.push(("origin", "https://evil.example"));
    let answer = caller
        .call(Method::POST, "/mcp", &from_a_page, list.to_string())
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(world.runs().await.is_empty());
    world.valid_evidence().await;
}

#[tokio::test]
async fn a_token_without_the_scope_opens_no_tools_and_a_revoked_one_nothing() {
    let world = Setup::new().start().await;
    let body = json!({"job_id": world.job, "scopes": ["proxy:call", "tfc:plan"]});
    let narrow = world.operator().post("/v1/tokens", &body).await.ok();
    let narrow = narrow["token"].as_str().unwrap();
    let list = request("tools/list", &json!({}));
    let answer = message(&world, narrow, &list).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.code(), "TOKEN_SCOPE");
    // Without `tfc:apply` it is told so by the call that needs it.
    let body = json!({"job_id": world.job, "scopes": ["proxy:call", "tfc:plan", "mcp:call"]});
    let planner = world.operator().post("/v1/tokens", &body).await.ok();
    let planner = planner["token"].as_str().unwrap();
    let names = listed(&world, planner).await;
    assert!(
        !names.iter().any(|name| name == "request_apply"),
        "{names:?}"
    );
    let run = planned(&world, "staging-app").await;
    let (said, refused) = tool_with(&world, planner, "request_apply", json!({"run": run})).await;
    assert!(refused && said.contains("TOKEN_SCOPE"), "{said}");

    // A wait ends with its token.
    good(&world, "request_apply", json!({"run": run})).await;
    world.run_at(&run, GateState::AwaitingApproval).await;
    let hash = proof::token::token_hash(&world.cst).to_hex();
    let revoke = json!({"token_hash": hash, "reason": "stop"});
    let operator = world.operator();
    let waiting = tool(&world, "wait_for_approval", json!({"run": run}));
    let (waited, revoked) = tokio::join!(waiting, operator.post("/v1/tokens/revoke", &revoke));
    revoked.ok();
    assert!(!waited.0.contains("It is applied"), "{}", waited.0);
    let answer = message(&world, &world.cst, &list).await;
    assert_eq!(answer.code(), "TOKEN_REVOKED");
}

/// The claims about causes of the calls of the API, in order.
fn causes(bundle: &proof::bundle::Bundle) -> Vec<Option<CausedBy>> {
    let intents = bundle
        .records
        .iter()
        .filter_map(|record| match &record.body {
            Body::Intent(intent) if intent.lane == Lane::Terraform => {
                Some(intent.caused_by.clone())
            }
            _ => None,
        });
    intents.collect()
}

#[tokio::test]
async fn a_tools_calls_name_the_model_call_that_asked_for_it() {
    let world = Setup::new().start().await;
    let agent = Caller::new(&world.gateway().agent_url, Some(&world.cst));
    // Before any model call there is nothing to name.
    good(&world, "list_workspaces", json!({})).await;
    let tool = json!({"type": "function", "function": {"name": "clawgate__show_workspace"}});
    let ask = json!({"model": "gpt-5", "max_completion_tokens": 100, "tools": [tool],
        "messages": [{"role": "user", "content": "call the tool"}]});
    let chat = "/openai/v1/chat/completions";
    let asked = agent.post(chat, &ask).await;
    let receipt = asked.headers["x-clawgate-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    asked.ok();
    // With the arguments of the answer, and with others.
    good(
        &world,
        "show_workspace",
        json!({"workspace": "staging-app"}),
    )
    .await;
    good(&world, "show_workspace", json!({"workspace": "staging-db"})).await;
    let bundle = world.valid_evidence().await;
    let found = causes(&bundle);
    let (by_arguments, by_sequence): (Vec<_>, Vec<_>) = found
        .iter()
        .flatten()
        .partition(|cause| cause.by == Match::Arguments);
    assert!(
        !by_arguments.is_empty() && !by_sequence.is_empty(),
        "{found:#?}"
    );
    for cause in by_arguments {
        assert_eq!(cause.receipt_id, receipt);
        assert_eq!(
            cause.tool.as_ref().unwrap().name,
            "clawgate__show_workspace"
        );
    }
    for cause in by_sequence {
        assert_eq!((&cause.receipt_id, &cause.tool), (&receipt, &None));
    }
    assert!(found[0].is_none(), "{found:#?}");
}

#[tokio::test]
async fn agents_that_start_their_servers_as_programs_have_the_same_tools() {
    let world = Setup::new().start().await;
    let folder = world.folder().join("work/app");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("main.tf"), two_instances()).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_clawgate"));
    command
        .arg("mcp")
        .current_dir(world.folder().join("work"))
        .env("CLAWGATE_URL", &world.gateway().agent_url)
        .env("CST", &world.cst);
    let mut bridge = Session::begin(command, &["mcp"], world.seen());
    let call = |name: &str, arguments: Value| {
        let call = request("tools/call", &json!({"name": name, "arguments": arguments}));
        format!("{call}\n")
    };
    bridge
        .answer(&format!("{}\n", request("tools/list", &json!({}))))
        .await;
    bridge.says("relative to the working folder").await;
    bridge.answer("{\n").await;
    bridge.says("-32700").await;
    let elsewhere = json!({"workspace": "staging-app", "folder": "/etc"});
    bridge.answer(&call("start_plan", elsewhere)).await;
    bridge.says("is not in the working folder").await;
    let app = json!({"workspace": "staging-app", "folder": "app"});
    bridge.answer(&call("start_plan", app)).await;
    bridge.says("plans now").await;
    // What is known of a token before any message is read.
    world.app().live.end_job(&world.job);
    bridge.answer(&call("contract", json!({}))).await;
    bridge.says("TOKEN_JOB_CLOSED").await;
    bridge.ended().await.ok();
    assert_eq!(world.asked("POST", "/api/v2/runs").len(), 1);
}
