//! A gateway for measuring: release build, the runbook's contract, one job, one token.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::process::{Running, free_port, wait_for};
use crate::cargo::{cargo, root, target};

/// A gateway that serves.
pub(super) struct Gateway {
    /// The process.
    pub(super) process: Running,
    /// Port of the agent listener.
    pub(super) port: u16,
    /// The agent's token.
    pub(super) token: String,
    /// From its start until it listened.
    pub(super) ready: Duration,
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
    /// Sets one up in `folder`, with a model provider on `upstream`, through its own commands.
    pub(super) fn start(program: &Path, folder: &Path, upstream: u16) -> anyhow::Result<Self> {
        let (agents, operators) = (free_port()?, free_port()?);
        let run = |arguments: &[&str]| {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .current_dir(folder)
                .env("CLAWGATE_OPERATOR", format!("http://127.0.0.1:{operators}"))
                .env_remove("CLAWGATE_CREDENTIAL");
            output(command)
        };
        run(&["init", "--save"])?;
        let author = run(&["key", "new", "author.key"])?;
        let approver = run(&["key", "new", "approver.key"])?;
        for name in ["upstream.token", "model.key"] {
            fs::write(folder.join(name), "nobody-asks-for-it")?;
        }
        let config = configuration(agents, operators, upstream, author.trim(), approver.trim());
        fs::write(folder.join("clawgate.toml"), config)?;
        let mut serve = Command::new(program);
        serve
            .arg("serve")
            .current_dir(folder)
            .env("CLAWGATE_LOG", "warn");
        let began = Instant::now();
        let process = Running::start(serve, &folder.join("serve.log"))?;
        let ready = wait_for(agents, began)?;
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
        let token = run(&["token", "issue", job, "--ttl", "1800"])?
            .trim()
            .to_owned();
        Ok(Self {
            process,
            port: agents,
            token,
            ready,
        })
    }
}

/// Name of the runbook's example contract.
const NAME: &str = "terraform-cloud-staging-only";

fn output(mut command: Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .context("cannot start the gateway's program")?;
    if !output.status.success() {
        bail!(
            "{:?} ended with {}: {}",
            command.get_args().collect::<Vec<_>>(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn configuration(
    agents: u16,
    operators: u16,
    upstream: u16,
    author: &str,
    approver: &str,
) -> String {
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
