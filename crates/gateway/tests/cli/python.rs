//! HashiCorp's Python library: another official client, which writes bodies and reads lists in
//! its own way.

use std::process::Stdio;
use std::time::Duration;

use crate::terraform::two_instances;
use crate::world::Setup;

/// Names the interpreter that has the library; `.ci/run` sets it.
const INTERPRETER: &str = "CLAWGATE_PYTHON";

/// Longest that the script may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_python_library_reads_workspaces_and_creates_runs() {
    let Some(python) = std::env::var_os(INTERPRETER) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI, {INTERPRETER} must name a Python with `pytfe`"
        );
        println!("skipped: {INTERPRETER} does not name a Python with `pytfe`");
        return;
    };
    let world = Setup::new().start().await;
    let folder = world.folder().join("configuration");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("main.tf"), two_instances()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/agent.py");
    let running = tokio::process::Command::new(python)
        .arg(script)
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
