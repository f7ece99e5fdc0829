//! The client libraries of `clients/` against the sandbox: a whole job with each, what they say when
//! something goes wrong, and whether what is made from `docs/openapi.json` was made from this one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clawgate::app::now;
use clawgate::demo::sandbox::Sandbox;
use clawgate::operator::credential::{self, Role};
use sim::Engine;
use tokio::process::Command;

mod python;
mod typescript;

/// Longest that a script may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a variable names; in CI it must name something.
fn named(variable: &str, what: &str) -> Option<OsString> {
    let value = std::env::var_os(variable);
    assert!(
        value.is_some() || std::env::var_os("CI").is_none(),
        "in CI, {variable} must name {what}"
    );
    if value.is_none() {
        println!("skipped: {variable} does not name {what}");
    }
    value
}

/// A file or folder of the project.
fn project(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap().join(path)
}

/// A gateway with everything around it, and what a script needs to use it.
struct World {
    sandbox: Sandbox,
    folder: tempfile::TempDir,
    auditor: String,
    archive: PathBuf,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("sandbox");
        let sandbox = Sandbox::start(&place, None, Engine::Recorded);
        let sandbox = sandbox.await.unwrap();
        sandbox.write_connection().unwrap();
        let store = &sandbox.gateway.app.store;
        let roles = [Role::Auditor];
        let auditor = credential::add(&**store, "auditor", None, &roles, now()).await;
        let auditor = auditor.unwrap().to_string();
        let archive = folder.path().join("configuration.tar.gz");
        let file = std::fs::File::create(&archive).unwrap();
        let gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        tar.append_dir_all("", place.join("configuration")).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        Self {
            sandbox,
            folder,
            auditor,
            archive,
        }
    }

    /// A program that finds the sandbox by its surroundings.
    fn command(&self, program: &OsStr) -> Command {
        let clawgate = Path::new(env!("CARGO_BIN_EXE_clawgate"));
        let programs = clawgate.parent().unwrap();
        assert!(
            programs.join("clawverify").exists(),
            "`clawverify` is not built: run `cargo build -p clawverify` first, or the tests of the \
             whole workspace"
        );
        let path = std::env::var_os("PATH").unwrap();
        let path = [programs.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&path));
        let sandbox = &self.sandbox;
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("HOME", self.folder.path())
            .env("CLAWGATE", clawgate)
            .env("CLAWGATE_OPERATOR", &sandbox.gateway.operator_url)
            .env("CLAWGATE_CREDENTIAL", &sandbox.operator_token)
            .env("AUDITOR", &self.auditor)
            .env("AGENT", &sandbox.gateway.agent_url)
            .env("KEY", &sandbox.approvers[0].key_file)
            .env("ARCHIVE", &self.archive)
            .env("TRUST", sandbox.folder.join("trust.json"))
            .env("DOCUMENT", project("docs/openapi.json"));
        command
    }

    /// Runs a script that checks by itself what it is answered.
    async fn plays(&self, command: &mut Command) {
        let output = run(command).await;
        assert!(output.contains("everything as it should be"), "{output}");
        assert!(!output.contains(&self.sandbox.operator_token), "{output}");
    }
}

/// Runs a program to its good end; what it wrote.
async fn run(command: &mut Command) -> String {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = tokio::time::timeout(PATIENCE, running).await;
    let ended = ended.expect("the program did not end").unwrap();
    let output = [ended.stdout, ended.stderr].concat();
    let output = String::from_utf8_lossy(&output).into_owned();
    assert!(ended.status.success(), "{output}");
    output
}
