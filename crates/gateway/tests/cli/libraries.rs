//! Libraries for agents: HashiCorp's for Python, another official client, which writes bodies and
//! reads lists in its own way; and the protocol's own for MCP, in Python and in TypeScript.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::terraform::two_instances;
use crate::world::{Setup, World};

/// Names the interpreter that has the library; `.ci/run` sets it.
const INTERPRETER: &str = "CLAWGATE_PYTHON";

/// Names the folder of packages that has the one for TypeScript; `.ci/run` sets it.
const PACKAGES: &str = "CLAWGATE_NODE_MODULES";

/// Longest that the script may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The interpreter, or a word about its absence, which in CI is a failure.
pub(crate) fn interpreter(library: &str) -> Option<OsString> {
    named(INTERPRETER, &format!("a Python with `{library}`"))
}

fn named(variable: &str, what: &str) -> Option<OsString> {
    let value = std::env::var_os(variable);
    if value.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, {variable} must name {what}"
        );
        println!("skipped: {variable} does not name {what}");
    }
    value
}

/// Runs a script of this folder to its good end, with the example configuration in a folder.
async fn plays(world: &World, program: OsString, script: &str) {
    let folder = world.folder().join("configuration");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("main.tf"), two_instances()).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let running = tokio::process::Command::new(program)
        .arg(scripts.join(script))
        .arg(&folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", world.folder())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env(PACKAGES, std::env::var_os(PACKAGES).unwrap_or_default())
        .env("TFE_ADDRESS", &world.gateway().agent_url)
        .env("TFE_TOKEN", &world.cst)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(PATIENCE, running).await;
    let ended = ended.expect("the script did not end").unwrap();
    let output = [ended.stdout, ended.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    world.seen().remember(&output);
    assert!(
        ended.status.success() && output.contains("everything as it should be"),
        "{output}"
    );
}

#[tokio::test]
async fn the_python_library_for_mcp_calls_tools() {
    let Some(python) = interpreter("mcp") else {
        return;
    };
    let world = Setup::new().start().await;
    plays(&world, python, "mcp_agent.py").await;
    assert_eq!(world.asked("POST", "/api/v2/runs").len(), 1);
    world.valid_evidence().await;
}

#[tokio::test]
async fn the_typescript_library_for_mcp_calls_tools() {
    let what = "a folder of packages with `@modelcontextprotocol/sdk`";
    if named(PACKAGES, what).is_none() {
        return;
    }
    let world = Setup::new().start().await;
    plays(&world, "node".into(), "mcp_agent.mjs").await;
    assert_eq!(world.asked("POST", "/api/v2/runs").len(), 1);
    world.valid_evidence().await;
}

#[tokio::test]
async fn the_python_library_reads_workspaces_and_creates_runs() {
    let Some(python) = interpreter("pytfe") else {
        return;
    };
    let world = Setup::new().start().await;
    plays(&world, python, "agent.py").await;
    // What the library repeats among the attributes did not go up.
    let sent = world.asked("POST", "/api/v2/runs");
    assert_eq!(sent.len(), 2);
    for request in sent {
        let body = serde_json::to_value(&request.body).unwrap();
        let attributes = body["data"]["attributes"].as_object().unwrap();
        for never in ["type", "workspace", "configuration-version"] {
            assert!(!attributes.contains_key(never), "{body}");
        }
        assert_eq!(attributes["auto-apply"], serde_json::json!(false));
    }
    world.valid_evidence().await;
}
