//! `clawgate policy diff --prove` and `policy replay`: answers, exit codes, and the commands that
//! the first prints.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::world::{APP, Setup, World};

fn clawgate(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Writes the example contract with other members, by their path.
fn write(folder: &Path, name: &str, changes: &[(&str, Value)]) {
    let mut contract: Value = serde_json::from_str(policy::EXAMPLE_CONTRACT).unwrap();
    for (path, value) in changes {
        let pointer = format!("/{}", path.replace('.', "/"));
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        contract.pointer_mut(parent).unwrap()[last] = value.clone();
    }
    std::fs::write(folder.join(name), contract.to_string()).unwrap();
}

/// The decision that a printed command gives, run by a shell.
fn decision(folder: &Path, command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_clawgate")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &format!("{command} --json")])
        .env("PATH", path)
        .current_dir(folder)
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{command}: {}", String::from_utf8_lossy(&output.stderr));
    });
    answer["decision"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_wider_is_shown_by_commands_that_work() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let models = |more: Value| {
        let mut models = json!({ "providers": ["openai"], "allowed": ["gpt-*"] });
        for (name, value) in more.as_object().unwrap() {
            models[name] = value.clone();
        }
        ("models", models)
    };
    let apply = |value: Value| ("permissions.apply", value);
    let run = |value: Value| ("permissions.run", value);
    let organization = |name: &str| ("permissions.organization", json!(name));
    let before = "it's \"odd\"";
    for (dimension, old, new, answers) in [
        (
            "workspaces",
            vec![],
            vec![(
                "permissions.workspaces",
                json!(["ws-staging-app", "ws-production"]),
            )],
            ["deny", "allow"],
        ),
        (
            "organization",
            vec![organization("acme")],
            vec![organization("other")],
            ["deny", "allow"],
        ),
        ("apply", vec![apply(json!({}))], vec![], ["deny", "allow"]),
        (
            "apply",
            vec![],
            vec![apply(
                json!({ "allowed": true, "requires_approval": false }),
            )],
            ["approve", "allow"],
        ),
        (
            "state",
            vec![],
            vec![("permissions.state_read", json!(true))],
            ["deny", "allow"],
        ),
        (
            "outputs",
            vec![],
            vec![("permissions.outputs_read", json!(true))],
            ["deny", "allow"],
        ),
        (
            "run-options",
            vec![],
            vec![run(json!({ "refresh_only": true }))],
            ["deny", "allow"],
        ),
        (
            "run-options",
            vec![],
            vec![run(json!({ "targets": true }))],
            ["deny", "allow"],
        ),
        (
            "run-options",
            vec![],
            vec![run(json!({ "replace": true }))],
            ["deny", "allow"],
        ),
        (
            "run-variables",
            vec![],
            vec![run(json!({ "variables": ["size"] }))],
            ["deny", "allow"],
        ),
        (
            "model-providers",
            vec![models(json!({}))],
            vec![models(json!({ "providers": ["openai", "mistral"] }))],
            ["deny", "allow"],
        ),
        (
            "models",
            vec![models(json!({}))],
            vec![models(json!({ "allowed": ["gpt*"] }))],
            ["deny", "allow"],
        ),
        (
            "model-tools",
            vec![models(json!({ "tools": { "allow": ["tfc__*"] } }))],
            vec![models(json!({ "tools": { "allow": ["*"] } }))],
            ["deny", "allow"],
        ),
        (
            "model-tools",
            vec![models(json!({ "tools": {} }))],
            vec![models(json!({}))],
            ["deny", "allow"],
        ),
        (
            "model-budgets",
            vec![models(json!({ "max_calls": 5 }))],
            vec![models(json!({ "max_calls": 6 }))],
            ["deny", "allow"],
        ),
        (
            "model-budgets",
            vec![models(json!({ "max_tokens": 5 }))],
            vec![models(json!({}))],
            ["deny", "allow"],
        ),
        (
            "model-budgets",
            vec![models(json!({ "max_cost_usd": "1.50" }))],
            vec![models(json!({ "max_cost_usd": "2" }))],
            ["deny", "allow"],
        ),
        (
            "redaction",
            vec![models(
                json!({ "redact": [{ "path": "a[*].b", "action": "mask" }] }),
            )],
            vec![models(
                json!({ "redact": [{ "path": "a[*]", "action": "mask" }] }),
            )],
            ["deny", "allow"],
        ),
    ] {
        write(folder, "old.json", &old);
        write(folder, &format!("{before}.json"), &new);
        let new_file = format!("{before}.json");
        let words = ["policy", "diff", "old.json", &new_file, "--prove"];
        let output = clawgate(folder, &words);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{dimension}: {text}");
        assert!(text.starts_with("wider: "), "{text}");
        let commands: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("clawgate policy check"))
            .collect();
        let decisions: Vec<String> = commands
            .iter()
            .map(|command| decision(folder, command))
            .collect();
        assert_eq!(decisions, answers, "{text}");

        let output = clawgate(folder, &[&words[..], &["--json"]].concat());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            answer["newly_allowed"][0]["dimension"], dimension,
            "{answer:#}"
        );

        // The other way round nothing is new, or something else is.
        let back = clawgate(
            folder,
            &["policy", "diff", &new_file, "old.json", "--prove"],
        );
        let text = String::from_utf8(back.stdout).unwrap();
        let narrower = text.starts_with("narrower: ");
        assert_eq!(back.status.code(), Some(i32::from(!narrower)), "{text}");
    }
}

#[test]
fn exit_codes_tell_equal_from_wider_from_unanswered() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let types = |value: Value| ("permissions.resources", json!({ "allow_types": value }));
    write(folder, "old.json", &[types(json!(["aws_*"]))]);
    write(
        folder,
        "same.json",
        &[
            types(json!(["aws_s3_bucket", "aws_*"])),
            ("description", json!("x")),
        ],
    );
    write(folder, "wider.json", &[types(json!(["aw*"]))]);
    std::fs::write(folder.join("no.json"), "{}").unwrap();
    for (new, code, begins) in [
        ("same.json", 0, "equal: "),
        ("wider.json", 1, "wider: "),
        ("no.json", 2, ""),
        ("absent.json", 2, ""),
    ] {
        let output = clawgate(folder, &["policy", "diff", "old.json", new, "--prove"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{new}: {text}");
        assert!(text.starts_with(begins), "{text}");
    }
    // A plan is no call that `policy check` takes; it is told in words.
    let output = clawgate(
        folder,
        &["policy", "diff", "old.json", "wider.json", "--prove"],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("+ resource types: the apply of a plan that creates 1 aw"),
        "{text}"
    );
    assert!(text.contains("PLAN_RESOURCE_TYPE → allowed"), "{text}");
}

/// `clawgate policy replay …`, with what a gateway asks for.
async fn replay(world: &World, words: &[&str]) -> (Option<i32>, Value) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(["policy", "replay"])
        .args(words)
        .arg("--json")
        .env("CLAWGATE_CREDENTIAL", &world.operator_token)
        .env("CLAWGATE_OPERATOR", &world.gateway().operator_url)
        .current_dir(world.folder())
        .output()
        .await
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code(), answer)
}

#[tokio::test]
async fn what_a_gateway_recorded_is_decided_again() {
    let world = Setup::new().start().await;
    let agent = world.agent();
    let state = format!("/api/v2/workspaces/{APP}/current-state-version");
    for path in [
        &format!("/api/v2/workspaces/{APP}"),
        &state,
        "/api/v2/nothing",
    ] {
        agent.get(path).await;
    }
    let job = world
        .operator()
        .get(&format!("/v1/jobs/{}", world.job))
        .await
        .ok();
    let hash = job["policy_hash_b64u"].as_str().unwrap().to_owned();
    let (code, answer) = replay(&world, &[&hash, "--since", "2020-01-01"]).await;
    assert_eq!((code, &answer["same"]), (Some(0), &json!(3)), "{answer:#}");

    // The contract of this world, with state and without the workspace.
    let published = world
        .operator()
        .get(&format!("/v1/contracts/{hash}"))
        .await
        .ok();
    let mut contract = published["envelope"]["payload"].clone();
    contract["permissions"]["state_read"] = true.into();
    std::fs::write(world.folder().join("state.json"), contract.to_string()).unwrap();
    let (code, answer) = replay(&world, &["state.json", "--since", "2020-01-01"]).await;
    assert_eq!(code, Some(1), "{answer:#}");
    assert_eq!(
        (&answer["newly_allowed"], &answer["same"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(answer["groups"][0]["operation"], "current-state-version");
    assert_eq!(answer["groups"][0]["then"]["code"], "STATE_READ_DENIED");

    contract["permissions"]["workspaces"] = json!(["ws-elsewhere"]);
    std::fs::write(world.folder().join("elsewhere.json"), contract.to_string()).unwrap();
    let (code, answer) = replay(&world, &["elsewhere.json", "--since", "2020-01-01"]).await;
    assert_eq!(
        (code, &answer["newly_refused"]),
        (Some(1), &json!(1)),
        "{answer:#}"
    );
    assert_eq!(answer["groups"][0]["target"], APP);
    assert_eq!(answer["groups"][0]["now"]["code"], "WORKSPACE_NOT_ALLOWED");

    let (code, answer) = replay(&world, &["elsewhere.json", "--since", "2999-01-01"]).await;
    assert_eq!(
        (code, &answer["sources"]),
        (Some(0), &json!(0)),
        "{answer:#}"
    );
}

#[test]
fn bundles_are_replayed_without_a_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../verify/fixtures");
    let file = |name: &str| fixtures.join(name).to_str().unwrap().to_owned();
    let (bundle, trust) = (file("apply/bundle.json"), file("apply/trust.json"));
    let sealed: Value = serde_json::from_slice(&std::fs::read(&bundle).unwrap()).unwrap();
    let mut contract = sealed["wpc"]["payload"].clone();
    std::fs::write(folder.join("same.json"), contract.to_string()).unwrap();
    contract["permissions"]["resources"] = json!({ "deny_types": ["aws_iam_*"] });
    std::fs::write(folder.join("plans.json"), contract.to_string()).unwrap();
    contract["permissions"]["operations"] = json!([]);
    contract["permissions"]["apply"] = json!({});
    std::fs::write(folder.join("nothing.json"), contract.to_string()).unwrap();
    let forged = file("decision_fail/bundle.json");
    for (words, code, says) in [
        (
            vec!["same.json", &bundle, "--trust", &trust],
            0,
            "recorded answers of 1 job\n",
        ),
        (vec!["plans.json", &bundle], 3, "what the plan would change"),
        (
            vec!["nothing.json", &bundle, &bundle],
            1,
            "would be refused",
        ),
        (vec!["same.json", &forged, "--trust", &trust], 2, ""),
        (vec!["same.json", "absent.json"], 2, ""),
        (vec!["same.json"], 2, ""),
        (vec!["absent.json", &bundle], 2, ""),
    ] {
        let output = clawgate(folder, &[&["policy", "replay"], &words[..]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{words:?}: {text}{errors}"
        );
        assert!(text.contains(says), "{words:?}: {text}");
    }
}
