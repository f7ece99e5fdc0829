//! Python libraries: HashiCorp's, another official client, which writes bodies and reads lists in its
//! own way; and the protocol's own for MCP.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::terraform::two_instances;
use crate::world::{Setup, World};

/// Names the interpreter that has the library; `.ci/run` sets it.
const INTERPRETER: &str = "CLAWGATE_PYTHON";

/// Longest that the script may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The interpreter, or a word about its absence, which in CI is a failure.
pub(crate) fn interpreter(library: &str) -> Option<OsString> {
    let python = std::env::var_os(INTERPRETER);
    if python.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, {INTERPRETER} must name a Python with `{library}`"
        );
        println!("skipped: {INTERPRETER} does not name a Python with `{library}`");
    }
    python
}

/// Runs a script of this folder to its good end, with the example configuration in a folder.
async fn plays(world: &World, python: OsString, script: &str) {
    let folder = world.folder().join("configuration");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("main.tf"), two_instances()).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let running = tokio::process::Command::new(python)
        .arg(scripts.join(script))
        .arg(&folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", world.folder())
        .env("PYTHONDONTWRITEBYTECODE", "1")
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
