//! The agent's Terraform: the real CLI where there is one, otherwise a client of the API.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use http::Method;
use serde_json::{Value, json};
use sim::Engine;

use super::agent::Caller;
use super::sandbox::Sandbox;

/// Longest that one command may take.
const TIMEOUT: Duration = Duration::from_secs(180);

/// How often the API client reads a run.
const POLL: Duration = Duration::from_millis(300);

/// How the agent plans and applies.
pub(super) enum Terraform {
    /// The real CLI.
    Cli {
        /// The program.
        binary: PathBuf,
        /// The folder with the configuration.
        folder: PathBuf,
        /// The CLI's own configuration file.
        settings: PathBuf,
        /// The token.
        cst: String,
    },
    /// Our own client of the API, on a recorded plan.
    Api {
        /// The gateway.
        agent: Caller,
        /// The workspace.
        workspace: String,
    },
}

/// How a command ended.
pub(super) struct Ended {
    /// Whether it ended well.
    pub(super) ok: bool,
    /// What it printed, or what was done.
    pub(super) output: String,
}

impl Terraform {
    /// Prepares a folder of the agent's own.
    pub(super) fn prepare(sandbox: &Sandbox, engine: &Engine) -> anyhow::Result<Self> {
        let Engine::Real { binary, .. } = engine else {
            return Ok(Self::Api {
                agent: Caller::new(&sandbox.gateway.agent_url, Some(&sandbox.cst), None),
                workspace: "ws-staging-app".to_owned(),
            });
        };
        let folder = sandbox.folder.join("agent");
        std::fs::create_dir_all(&folder)?;
        for (name, text) in sim::example_configuration() {
            std::fs::write(folder.join(name), text)?;
        }
        // Beside the folder, not in it: the CLI uploads the folder, and a CLI configuration in an
        // upload is refused.
        let settings = sandbox.folder.join("terraform.rc");
        std::fs::write(
            &settings,
            sim::example_cli_config(&sandbox.gateway.agent_url),
        )?;
        let cst = sandbox.cst.clone();
        Ok(Self::Cli {
            binary: binary.clone(),
            folder,
            settings,
            cst,
        })
    }

    /// Makes the change that the model proposed.
    pub(super) fn edit(&self) -> anyhow::Result<()> {
        let Self::Cli { folder, .. } = self else {
            return Ok(());
        };
        let change = sim::example_change();
        let path = folder.join(change.file);
        let text = std::fs::read_to_string(&path)?;
        Ok(std::fs::write(&path, text.replace(change.from, change.to))?)
    }

    /// `init`: nothing to do for the API client.
    pub(super) async fn init(&self) -> anyhow::Result<Ended> {
        match self {
            Self::Cli { .. } => self.run(&["init", "-input=false", "-no-color"]).await,
            Self::Api { .. } => Ok(Ended {
                ok: true,
                output: "nothing to initialise".to_owned(),
            }),
        }
    }

    /// `plan`.
    pub(super) async fn plan(&self) -> anyhow::Result<Ended> {
        match self {
            Self::Cli { .. } => self.run(&["plan", "-input=false", "-no-color"]).await,
            Self::Api { agent, workspace } => api_run(agent, workspace, false).await,
        }
    }

    /// `apply -auto-approve`.
    pub(super) async fn apply(&self) -> anyhow::Result<Ended> {
        match self {
            Self::Cli { .. } => {
                self.run(&["apply", "-auto-approve", "-input=false", "-no-color"])
                    .await
            }
            Self::Api { agent, workspace } => api_run(agent, workspace, true).await,
        }
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Ended> {
        let Self::Cli {
            binary,
            folder,
            settings,
            cst,
        } = self
        else {
            bail!("there is no CLI");
        };
        let command = tokio::process::Command::new(binary)
            .args(arguments)
            .current_dir(folder)
            // Nothing of this machine's own Terraform set-up, and no other credential.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder)
            .env("TF_CLI_CONFIG_FILE", settings)
            .env("TF_TOKEN_app_terraform_io", cst)
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(TIMEOUT, command)
            .await
            .with_context(|| format!("`terraform {}` did not end", arguments[0]))??;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(Ended {
            ok: output.status.success(),
            output: text,
        })
    }
}

/// The calls of a plan or an apply, as the CLI makes them.
async fn api_run(agent: &Caller, workspace: &str, apply: bool) -> anyhow::Result<Ended> {
    let path = format!("/api/v2/workspaces/{workspace}/configuration-versions");
    let body = json!({"data": { "type": "configuration-versions", "attributes": {
        "auto-queue-runs": false, "speculative": !apply,
    }}});
    let opened = agent.send(Method::POST, &path, &body).await?.json()?;
    let (Some(id), Some(upload)) = (
        opened.pointer("/data/id").and_then(Value::as_str),
        opened
            .pointer("/data/attributes/upload-url")
            .and_then(Value::as_str),
    ) else {
        return Ok(Ended {
            ok: false,
            output: opened.to_string(),
        });
    };
    let archive = Some(archive()?);
    let uploaded = agent.call(Method::PUT, upload, &[], archive).await?;
    if !uploaded.status.is_success() {
        return Ok(Ended {
            ok: false,
            output: String::from_utf8_lossy(&uploaded.body).into(),
        });
    }
    let body = json!({"data": { "type": "runs",
        "attributes": { "auto-apply": apply, "message": "resize staging" },
        "relationships": {
            "workspace": { "data": { "type": "workspaces", "id": workspace } },
            "configuration-version": { "data": { "type": "configuration-versions", "id": id } },
        },
    }});
    let created = agent
        .send(Method::POST, "/api/v2/runs", &body)
        .await?
        .json()?;
    let Some(run) = created.pointer("/data/id").and_then(Value::as_str) else {
        return Ok(Ended {
            ok: false,
            output: created.to_string(),
        });
    };
    follow(agent, run, apply).await
}

async fn follow(agent: &Caller, run: &str, apply: bool) -> anyhow::Result<Ended> {
    let deadline = std::time::Instant::now() + TIMEOUT;
    loop {
        let json = agent.get(&format!("/api/v2/runs/{run}")).await?.json()?;
        let status = json
            .pointer("/data/attributes/status")
            .and_then(Value::as_str);
        let status = status.unwrap_or("unknown");
        let output = format!("run {run}: {status}");
        match status {
            "applied" | "planned_and_finished" => return Ok(Ended { ok: true, output }),
            "planned" | "cost_estimated" | "policy_checked" if !apply => {
                return Ok(Ended { ok: true, output });
            }
            "errored" | "discarded" | "canceled" => return Ok(Ended { ok: false, output }),
            _ if std::time::Instant::now() > deadline => bail!("run {run} stays {status}"),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// The changed configuration, packed as the CLI packs it.
fn archive() -> anyhow::Result<Vec<u8>> {
    let change = sim::example_change();
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut tar = tar::Builder::new(encoder);
    for (name, text) in sim::example_configuration() {
        let text = text.replace(change.from, change.to);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes())?;
    }
    Ok(tar.into_inner()?.finish()?)
}

/// Beginnings of lines that tell what a plan or an apply does.
const TELLING: [&str; 8] = [
    "Running",
    "Terraform will perform",
    "# ",
    "Plan:",
    "No changes",
    "Apply complete",
    "Error",
    "╷",
];

/// What the CLI says while it changes something.
const PROGRESS: [&str; 6] = [
    ": Creating",
    ": Creation complete",
    ": Modif",
    ": Destr",
    ": Refreshing",
    ": Reading",
];

/// The lines of a command's output that tell something, for the audience; all of the last ones
/// when it failed.
pub(super) fn telling(ended: &Ended) -> String {
    let lines: Vec<&str> = ended
        .output
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let tells = |line: &&&str| {
        let line = line.trim_start();
        TELLING.iter().any(|begin| line.starts_with(begin))
            || PROGRESS.iter().any(|part| line.contains(part))
    };
    let kept: Vec<&str> = lines.iter().filter(tells).copied().collect();
    if ended.ok && !kept.is_empty() {
        return kept.join("\n");
    }
    let from = lines.len().saturating_sub(20);
    lines[from..].join("\n")
}
