//! OpenClaw: its configuration as we write it, the program itself at work under a contract with a
//! model that plays a script, and our plugin in it.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clawverify::{Options, Verdict, verify};
use proof::bundle::Bundle;
use proof::record::{Body, Ended, Intent, Lane, Match};
use serde_json::{Value, json};
use sim::Script;
use tokio::process::Command;

use crate::evidence::refusals;
use crate::terraform::{self, Session, two_instances};
use crate::world::{APP, Setup, World};

/// Names the folder that has OpenClaw and a Node for it; `.ci/run` sets it.
pub(crate) const OPENCLAW: &str = "CLAWGATE_OPENCLAW";

const CONTRACT: &str = "terraform-cloud-staging-only";

/// PATH with OpenClaw and its Node before everything else, or a word about its absence, which in
/// CI is a failure.
fn path() -> Option<OsString> {
    let Some(folder) = std::env::var_os(OPENCLAW) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, {OPENCLAW} must name a folder with `openclaw` and its `node`"
        );
        println!("skipped: {OPENCLAW} does not name a folder with `openclaw` and its `node`");
        return None;
    };
    let before = std::env::var_os("PATH").unwrap();
    let folders = std::iter::once(folder.into()).chain(std::env::split_paths(&before));
    Some(std::env::join_paths(folders).unwrap())
}

/// A command in the world's folder that finds nothing of this machine's own set-up.
fn command(world: &World, program: &str, path: &OsString) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(world.folder())
        .env_clear()
        .env("PATH", path)
        .env("HOME", world.folder())
        // Failures of authentication would be remembered from one test to the next.
        .env("OPENCLAW_STATE_DIR", world.folder().join("openclaw-state"))
        .env("NO_COLOR", "1");
    command
}

/// Runs `clawgate openclaw config`.
async fn config(world: &World, path: &OsString, arguments: &[&str]) -> terraform::Ended {
    config_as(world, path, None, arguments).await
}

async fn config_as(
    world: &World,
    path: &OsString,
    token: Option<&str>,
    arguments: &[&str],
) -> terraform::Ended {
    let mut command = command(world, env!("CARGO_BIN_EXE_clawgate"), path);
    command.args(["openclaw", "config"]).args(arguments);
    command.envs(token.map(|token| ("CST", token)));
    command.env("CLAWGATE_URL", &world.gateway().agent_url);
    Session::begin(command, arguments, world.seen())
        .ended()
        .await
}

/// Whether OpenClaw takes a configuration.
async fn validate(world: &World, path: &OsString, file: &str) {
    let mut command = command(world, "openclaw", path);
    command
        .args(["config", "validate"])
        .env("OPENCLAW_CONFIG_PATH", world.folder().join(file));
    let ended = Session::begin(command, &["validate"], world.seen()).ended();
    let output = ended.await.ok();
    assert!(output.contains("Config valid"), "{output}");
}

#[tokio::test]
async fn openclaw_takes_the_configuration_alone_and_merged() {
    let Some(path) = path() else { return };
    let world = Setup::new().start().await;
    let models = [
        "--model",
        "openai/gpt-5",
        "--model",
        "openai-responses/gpt-5",
        "--model",
        "anthropic/claude-standin",
    ];
    let arguments = [&models[..], &["--merge", "new.json"]].concat();
    config(&world, &path, &arguments).await.ok();
    validate(&world, &path, "new.json").await;
    let own = "// mine\n{\n  agents: { defaults: { model: { primary: 'ollama/llama' } } },\n  \
               models: { providers: { ollama: { baseUrl: 'http://127.0.0.1:11434/v1',\n    \
               api: 'openai-completions', apiKey: 'x', // local\n    \
               models: [{ id: 'llama', name: 'Llama' }] } } },\n}\n";
    std::fs::write(world.folder().join("own.json"), own).unwrap();
    let arguments = [&models[..], &["--merge", "own.json"]].concat();
    let said = config(&world, &path, &arguments).await.ok();
    assert!(
        said.contains("kept      agents.defaults.model.primary"),
        "{said}"
    );
    validate(&world, &path, "own.json").await;
    let merged = std::fs::read_to_string(world.folder().join("own.json")).unwrap();
    for there in ["// mine", "// local", "11434", "clawgate-anthropic"] {
        assert!(merged.contains(there), "{there}: {merged}");
    }
    let again = config(&world, &path, &arguments).await.ok();
    assert!(again.contains("own.json is as it should be"), "{again}");
}

#[tokio::test]
async fn the_contracts_models_are_asked_for_and_no_file_is_changed_unasked() {
    let allowed = json!({"providers": ["openai", "anthropic"], "allowed": ["gpt-standin*"]});
    let world = Setup::new().contract("/models", allowed).start().await;
    let path = std::env::var_os("PATH").unwrap();
    let printed = config_as(&world, &path, Some(&world.cst), &["--json"]).await;
    let printed: Value = serde_json::from_str(&printed.ok()).unwrap();
    let models = |provider: &str| {
        let list = printed["models"]["providers"][provider]["models"].as_array();
        let ids = list
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap());
        ids.map(str::to_owned).collect::<Vec<_>>()
    };
    for provider in ["clawgate-openai", "clawgate-anthropic"] {
        assert_eq!(models(provider), ["gpt-standin", "gpt-standin-mini"]);
    }
    assert_eq!(
        printed["env"]["vars"]["CLAWGATE_URL"],
        world.gateway().agent_url
    );

    let file = world.folder().join("own.json");
    let merge = ["--model", "openai/gpt-5", "--merge", "own.json"];
    config(&world, &path, &merge).await.ok();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read_to_string(&file).unwrap();
    let more = [
        "--model",
        "openai/gpt-6",
        "--dry-run",
        "--json",
        "--merge",
        "own.json",
    ];
    let dry: Value = serde_json::from_str(&config(&world, &path, &more).await.ok()).unwrap();
    assert_eq!(
        (&dry["written"], &dry["changes"][0]["change"]),
        (&json!(false), &json!("kept"))
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    std::fs::write(&file, "{ models: {}, models: {} }").unwrap();
    let refused = config(&world, &path, &merge).await.failed();
    assert!(refused.contains("`models` is there twice"), "{refused}");
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let world = Setup::new().start().await;
    let path = std::env::var_os("PATH").unwrap();
    let said = config(&world, &path, &[]).await.failed();
    assert!(
        said.contains("no models are named") && said.contains("--model"),
        "{said}"
    );
    let said = config_as(&world, &path, Some("no-token"), &[])
        .await
        .failed();
    assert!(said.contains("TOKEN_"), "{said}");
    let nobody = ["--gateway", "http://127.0.0.1:1"];
    let said = config_as(&world, &path, Some(&world.cst), &nobody)
        .await
        .failed();
    assert!(said.contains("no gateway at http://127.0.0.1:1"), "{said}");
    let odd = [
        "--model",
        "openai/gpt-5",
        "--gateway",
        "clawgate.example.com",
    ];
    let said = config(&world, &path, &odd).await.failed();
    assert!(said.contains("must begin with https://"), "{said}");
    // OpenClaw, or whoever asks for the models, would send the token there.
    let remote = ["--gateway", "http://gateway.example:8787"];
    let model = ["--model", "openai/gpt-5"];
    let said = config_as(&world, &path, Some(&world.cst), &remote).await;
    let said = said.failed();
    assert!(said.contains("in the clear"), "{said}");
    let said = config(&world, &path, &[&remote[..], &model].concat()).await;
    let said = said.failed();
    assert!(said.contains("in the clear"), "{said}");
    let meant = [&remote[..], &model, &["--allow-plaintext"]].concat();
    config(&world, &path, &meant).await.ok();

    let folder = world.folder().join("bin");
    std::fs::create_dir(&folder).unwrap();
    let old = folder.join("openclaw");
    for (script, remark) in [
        (
            "echo 'OpenClaw 2026.3.1 (abc)'",
            "is 2026.3.1; this configuration is for 2026.9",
        ),
        (
            "echo 'openclaw: Node 20 is too old' >&2; exit 1",
            "does not start here: openclaw: Node 20",
        ),
    ] {
        std::fs::write(&old, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&old, mode).unwrap();
        let path = format!("{}:{}", folder.display(), path.to_str().unwrap()).into();
        let said = config(&world, &path, &["--model", "openai/gpt-5"])
            .await
            .ok();
        assert!(said.contains(remark), "{said}");
    }
}

/// What the model does: it looks, tries production, plans staging, and asks for the apply.
pub(crate) fn script() -> Script {
    let files = json!({"main.tf": two_instances()});
    let steps = json!([
        {"call": {"tool": "contract"}},
        {"call": {"tool": "start_plan",
            "arguments": {"workspace": "ws-production-app", "files": files}}},
        {"call": {"tool": "start_plan", "arguments":
            {"workspace": "staging-app", "files": files, "message": "two instances"}}},
        {"call": {"tool": "plan_status", "arguments": {"run": "$run"}, "until": "planned"}},
        {"call": {"tool": "plan_diff", "arguments": {"run": "$run"}}},
        {"call": {"tool": "request_apply", "arguments": {"run": "$run"}}},
        {"call": {"tool": "wait_for_approval", "arguments": {"run": "$run"},
            "until": "It is applied"}},
        {"say": "Staging runs two instances now, by $run. $last"}
    ]);
    Script::parse(steps.to_string().as_bytes()).unwrap()
}

/// Approves a plan by the approver's own command.
async fn approve(world: &World, path: &OsString, run: &str) {
    let mut command = command(world, env!("CARGO_BIN_EXE_clawgate"), path);
    command
        .args(["approvals", "approve", run, "--yes", "--key"])
        .arg(&world.approvers[0].key_file)
        .env("CLAWGATE_CREDENTIAL", &world.operator_token)
        .env("CLAWGATE_OPERATOR", &world.gateway().operator_url);
    let ended = Session::begin(command, &["approve"], world.seen()).ended();
    let output = ended.await.ok();
    assert!(output.contains("approved"), "{output}");
}

#[tokio::test]
async fn openclaw_plans_is_refused_production_and_applies_what_a_person_approved() {
    let Some(path) = path() else { return };
    let world = Setup::new().start().await;
    world.provider.play(script());
    let model = ["--model", "openai/gpt-5", "--merge", "openclaw.json"];
    config(&world, &path, &model).await.ok();
    std::fs::create_dir(world.folder().join("workspace")).unwrap();
    let mut command = command(&world, "sh", &path);
    let line = "exec \"$CLAWGATE\" run --contract \"$0\" --name 'resize staging' \
        --bundle bundle.json -- openclaw agent exec 'Resize staging to two instances' \
        --config openclaw.json --cwd workspace --json --timeout 300 2>&1";
    command
        .args(["-c", line, CONTRACT])
        .env("CLAWGATE", env!("CARGO_BIN_EXE_clawgate"))
        .env("CLAWGATE_CREDENTIAL", &world.operator_token)
        .env("CLAWGATE_OPERATOR", &world.gateway().operator_url);
    let mut run = Session::begin(command, &["openclaw"], world.seen());
    run.says("WORKSPACE_NOT_ALLOWED").await;
    run.says("for an approver: ").await;
    let waits = run.line().await;
    let id = waits.rsplit('/').next().unwrap().to_owned();
    approve(&world, &path, &id).await;
    let output = run.ended().await.ok();
    let report = format!("Staging runs two instances now, by {id}.");
    for said in [&report, "It is applied.", "1 refused, 1 applied", "  valid"] {
        assert!(output.contains(said), "{said}: {output}");
    }
    assert!(world.asked("POST", &format!("{id}/actions/apply")).len() == 1);
    assert_eq!(world.instances(), 2, "{APP}");
    shows_its_calls(&world, world.folder().join("bundle.json").as_path(), &id).await;
}

/// What an auditor finds in the bundle.
async fn shows_its_calls(world: &World, file: &Path, run: &str) {
    let bytes = std::fs::read(file).unwrap();
    let root = world.operator().get("/v1/trust").await.ok().to_string();
    let report = verify(&bytes, root.as_bytes(), &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    let bundle: Bundle = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(refusals(&bundle), ["WORKSPACE_NOT_ALLOWED"]);
    let intents = |lane: Lane| -> Vec<&Intent> {
        let bodies = bundle.records.iter().map(|record| &record.body);
        let intents = bodies.filter_map(|body| match body {
            Body::Intent(intent) => Some(&**intent),
            _ => None,
        });
        intents.filter(|intent| intent.lane == lane).collect()
    };
    let models = intents(Lane::Model);
    assert!(models.len() >= 8, "{models:#?}");
    assert!(
        models
            .iter()
            .all(|intent| intent.operation == "chat-completions")
    );
    // OpenClaw groups the calls of one turn.
    let trace = &models[0].trace_id;
    assert!(trace.is_some() && models.iter().all(|intent| intent.trace_id == *trace));
    let asked: Vec<&str> = bundle
        .records
        .iter()
        .filter_map(|record| match &record.body {
            Body::Outcome(outcome) if outcome.ended == Ended::Complete => Some(outcome),
            _ => None,
        })
        .flat_map(|outcome| &outcome.tool_calls)
        .map(|call| call.name.as_str())
        .collect();
    for tool in ["contract", "start_plan", "plan_diff", "request_apply"] {
        let named = format!("clawgate__{tool}");
        assert!(asked.contains(&named.as_str()), "{named}: {asked:?}");
    }
    for (operation, tool) in [
        ("create-run", "clawgate__start_plan"),
        ("apply-run", "clawgate__request_apply"),
    ] {
        let calls = intents(Lane::Terraform);
        let call = calls.iter().find(|intent| intent.operation == operation);
        let call = call.unwrap_or_else(|| panic!("no {operation}: {calls:#?}"));
        let cause = call.caused_by.as_ref().expect("a model asked for it");
        assert_eq!(cause.by, Match::Arguments, "{cause:?}");
        assert_eq!(cause.tool.as_ref().unwrap().name, tool);
    }
    let applied = intents(Lane::Gateway);
    let applied = applied
        .iter()
        .find(|intent| intent.operation == "apply-run");
    assert_eq!(applied.unwrap().run_id.as_deref(), Some(run));
}

/// What the plugin's package holds, and nothing else.
const PACKED: [&str; 8] = [
    "LICENSE",
    "README.md",
    "correlation.js",
    "index.js",
    "job.js",
    "openclaw.plugin.json",
    "package.json",
    "skills/clawgate/SKILL.md",
];

/// Packs the plugin as it would be published.
async fn pack(world: &World, path: &OsString) -> PathBuf {
    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../integrations/openclaw");
    let mut npm = command(world, "npm", path);
    npm.args(["pack", "--json", "--pack-destination"])
        .arg(world.folder())
        .current_dir(plugin);
    let output = npm.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let packed: Value = serde_json::from_slice(&output.stdout).unwrap();
    // One package: in a list, or by its name, as npm has it.
    let packed = [&packed[0], &packed["clawgate-openclaw"]];
    let packed = packed.into_iter().find(|one| one.is_object()).unwrap();
    let files = packed["files"].as_array().unwrap().iter();
    let files: Vec<&str> = files.map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(files, PACKED);
    let licence = std::fs::read_to_string(format!("{plugin}/LICENSE")).unwrap();
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../../LICENSE");
    assert_eq!(licence, std::fs::read_to_string(ours).unwrap());
    world.folder().join(packed["filename"].as_str().unwrap())
}

/// The tool `clawgate_job` by itself: what it tells, and whom it does not tell its token.
#[tokio::test]
async fn the_plugin_sends_no_token_in_the_clear() {
    let Some(path) = path() else { return };
    let world = Setup::new().start().await;
    let script = r#"
        import assert from "node:assert/strict";
        import { env } from "node:process";
        const { jobTool } = await import(env.TOOL);
        const say = (more) => jobTool({ ...env, ...more }).execute("call_1", {});
        const here = await say({});
        assert(here.content[0].text.startsWith("Job job_"), here.content[0].text);
        const sent = [];
        globalThis.fetch = async (url) => { sent.push(url); throw new Error("nobody"); };
        const remote = ["http://gateway.example:8787", "http://10.0.0.1", "http://127.0.0.1.example"];
        for (const url of [...remote, "ftp://127.0.0.1", "gateway.example"]) {
          const { isError, content } = await say({ CLAWGATE_URL: url });
          assert(isError && /in the clear|is no address/.test(content[0].text), content[0].text);
        }
        assert.deepEqual(sent, []);
        const meant = ["https://gateway.example", "http://[::1]:8787", "http://localhost:8787"];
        for (const url of meant) await say({ CLAWGATE_URL: url });
        await say({ CLAWGATE_URL: remote[0], CLAWGATE_ALLOW_PLAINTEXT: "1" });
        assert.deepEqual(sent, [...meant, remote[0]].map((url) => `${url}/v1/job`));
    "#;
    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../integrations/openclaw");
    let mut node = command(&world, "node", &path);
    node.args(["--input-type=module", "--eval", script])
        .env("TOOL", format!("{plugin}/job.js"))
        .env("CLAWGATE_URL", &world.gateway().agent_url)
        .env("CST", &world.cst);
    let output = node.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn the_plugin_is_packed_installed_and_at_work() {
    let Some(path) = path() else { return };
    let world = Setup::new().start().await;
    let steps = json!([
        {"call": {"tool": "contract"}},
        {"call": {"tool": "clawgate_job", "arguments": {"receipt": "../../v1/jobs"}}},
        {"call": {"tool": "clawgate_job"}},
        {"say": "I saw: $last"}
    ]);
    let steps = Script::parse(steps.to_string().as_bytes()).unwrap();
    world.provider.play(steps);
    let model = ["--model", "openai/gpt-5", "--merge", "openclaw.json"];
    config(&world, &path, &model).await.ok();
    let package = pack(&world, &path).await;
    let mut install = command(&world, "openclaw", &path);
    install
        .args(["plugins", "install", "--force", "--accept-capabilities"])
        .arg(format!("npm-pack:{}", package.display()))
        // It needs nothing else, so npm asks nobody.
        .env("npm_config_offline", "true")
        .env("OPENCLAW_CONFIG_PATH", world.folder().join("openclaw.json"));
    let installed = Session::begin(install, &["install"], world.seen()).ended();
    let installed = installed.await.ok();
    assert!(
        installed.contains("Installed plugin: clawgate-openclaw"),
        "{installed}"
    );

    let mut agent = command(&world, "openclaw", &path);
    agent
        .args([
            "agent",
            "--local",
            "--agent",
            "main",
            "--session-id",
            "session-1",
        ])
        .args(["--message", "How does the job stand?", "--json"])
        .env("OPENCLAW_CONFIG_PATH", world.folder().join("openclaw.json"))
        .env("CST", &world.cst)
        .env("CLAWGATE_URL", &world.gateway().agent_url)
        .env("CLAWGATE_MCP", format!("{}/mcp", world.gateway().agent_url));
    let ended = Session::begin(agent, &["agent"], world.seen()).ended();
    let output = ended.await.ok();
    let state = format!(
        "I saw: Job {} (resize staging), contract {CONTRACT}.",
        world.job
    );
    assert!(output.contains(&state), "{output}");
    let asked = world.provider.requests();
    let told = serde_json::to_string(&asked.last().unwrap().body).unwrap();
    for said in [
        "that is not the id of a receipt",
        "Change infrastructure in Terraform Cloud",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    // The session, hashed, in each model call.
    let bundle = world.valid_evidence().await;
    let hash = proof::Hash::of(b"openclaw session session-1").to_hex();
    let traces: Vec<Option<&str>> = bundle
        .records
        .iter()
        .filter_map(|record| match &record.body {
            Body::Intent(intent) if intent.lane == Lane::Model => Some(intent.trace_id.as_deref()),
            _ => None,
        })
        .collect();
    assert!(traces.len() >= 4, "{traces:?}");
    assert!(
        traces.iter().all(|trace| *trace == Some(&hash[..32])),
        "{traces:?}"
    );
}
