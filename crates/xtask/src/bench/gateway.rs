//! A gateway for measuring: release build, the runbook's contract, one job, one token.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::process::{Running, free_port};
use crate::cargo::{cargo, root, target};

/// A gateway that serves.
pub(super) struct Gateway {
    /// The process.
    pub(super) process: Running,
    /// Port of the agent listener.
    pub(super) port: u16,
    /// From its start until it listened.
    pub(super) ready: Duration,
    program: PathBuf,
    folder: PathBuf,
    operators: u16,
    job: String,
}

/// Builds the gateway as it is shipped: optimised, without the simulators.
pub(super) fn build() -> anyhow::Result<PathBuf> {
    let status = cargo(&[
        "build",
        "--release",
        "--package",
        "clawgate",
        "--no-default-features",
    ])
    .status()
    .context("cannot start cargo")?;
    if !status.success() {
        bail!("the release build ended with {status}");
    }
    Ok(target().join("release/clawgate"))
}

impl Gateway {
    /// Sets one up in `folder`, with the model provider `openai` on `upstream` and `streams` on
    /// another port, through its own commands.
    pub(super) fn start(
        program: &Path,
        folder: &Path,
        upstream: u16,
        streams: u16,
    ) -> anyhow::Result<Self> {
        let (agents, operators) = (free_port()?, free_port()?);
        let run = |arguments: &[&str]| run(program, folder, operators, arguments, "");
        run(&["init", "--save"])?;
        let author = run(&["key", "new", "author.key"])?;
        let approver = run(&["key", "new", "approver.key"])?;
        for name in ["upstream.token", "model.key"] {
            fs::write(folder.join(name), "nobody-asks-for-it")?;
        }
        let config = configuration(
            [agents, operators, upstream, streams],
            author.trim(),
            approver.trim(),
        );
        fs::write(folder.join("clawgate.toml"), config)?;
        let mut serve = Command::new(program);
        serve
            .arg("serve")
            .current_dir(folder)
            .env("CLAWGATE_LOG", "warn");
        let began = Instant::now();
        let mut process = Running::start(serve, &folder.join("serve.log"))?;
        let ready = process.wait_for(agents, began, Duration::from_secs(20))?;
        let contract = root().join("crates/policy/examples/terraform-cloud-staging-only.json");
        let contract = contract
            .to_str()
            .context("the path of the workspace is not text")?;
        run(&["policy", "publish", contract, "--author-key", "author.key"])?;
        let opened = run(&["job", "open", "measure", "--json", "--contract", NAME])?;
        let opened: Value = serde_json::from_str(&opened).context("the answer is not JSON")?;
        let job = opened["job_id"]
            .as_str()
            .context("the answer names no job")?;
        Ok(Self {
            process,
            port: agents,
            ready,
            program: program.to_owned(),
            folder: folder.to_owned(),
            operators,
            job: job.to_owned(),
        })
    }

    /// A new token of the job, good for the longest time that the contract allows.
    pub(super) fn token(&self) -> anyhow::Result<String> {
        let token = self.run(&["token", "issue", &self.job, "--ttl", "1800"], "")?;
        Ok(token.trim().to_owned())
    }

    /// Revokes a token.
    pub(super) fn revoke(&self, token: &str) -> anyhow::Result<()> {
        self.run(
            &["token", "revoke", "-", "--reason", "a measurement"],
            token,
        )?;
        Ok(())
    }

    fn run(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        run(
            &self.program,
            &self.folder,
            self.operators,
            arguments,
            input,
        )
    }
}

/// Runs one command of the gateway's program and gives what it printed.
fn run(
    program: &Path,
    folder: &Path,
    operators: u16,
    arguments: &[&str],
    input: &str,
) -> anyhow::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("CLAWGATE_OPERATOR", format!("http://127.0.0.1:{operators}"))
        .env_remove("CLAWGATE_CREDENTIAL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the gateway's program")?;
    let mut stdin = child.stdin.take().context("it has no standard input")?;
    // A command that reads nothing may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{arguments:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Name of the runbook's example contract.
const NAME: &str = "terraform-cloud-staging-only";

fn configuration(ports: [u16; 4], author: &str, approver: &str) -> String {
    let [agents, operators, upstream, streams] = ports;
    format!(
        r#"gateway_id = "bench"
data_dir = "data"
agent_listener = {{ address = "127.0.0.1:{agents}" }}
operator_listener = {{ address = "127.0.0.1:{operators}" }}

[terraform_cloud]
url = "https://app.terraform.io"
planner = {{ file = "upstream.token" }}
executor = {{ file = "upstream.token" }}
reader = {{ file = "upstream.token" }}

[models.openai]
dialect = "openai"
url = "http://127.0.0.1:{upstream}/v1"
key = {{ file = "model.key" }}

[models.streams]
dialect = "openai"
url = "http://127.0.0.1:{streams}/v1"
key = {{ file = "model.key" }}

[[authors]]
name = "bench"
did = "{author}"

[[approvers]]
email = "infra-lead@example.com"
did = "{approver}"

# One job makes more calls here than any job should.
[limits]
records_per_job = 1000000000
evidence_bytes_per_job = 1000000000000
"#
    )
}
