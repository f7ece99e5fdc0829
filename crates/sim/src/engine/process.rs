//! A real engine at work: bounded in time and output, with a clean environment.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::{
    Applied, EngineError, Log, PlanOrder, Planned, PrivateFolder, Providers, SavedPlan, count,
    redaction,
};

/// The longest that one command of the engine may take.
const TIME_LIMIT: Duration = Duration::from_secs(15 * 60);
/// The most bytes that one command of the engine may write.
const OUTPUT_LIMIT: usize = 64 << 20;
/// With `-detailed-exitcode`: success, and there are changes.
const EXIT_WITH_CHANGES: i32 = 2;

pub(super) async fn plan(
    binary: &Path,
    order: PlanOrder,
    providers: &Providers,
    log: &Log,
) -> Result<Planned, EngineError> {
    let preparing = (order.clone(), providers.clone());
    let folder =
        tokio::task::spawn_blocking(move || PrivateFolder::prepare(&preparing.0, &preparing.1))
            .await
            .map_err(|error| EngineError::Folder(std::io::Error::other(error)))??;
    let engine = Run {
        binary,
        folder: &folder,
        environment: &order.environment,
    };

    let init = engine
        .quietly(&["init", "-input=false", "-no-color"])
        .await?;
    if init.code != Some(0) {
        log.push(&init.stdout);
        log.push(&init.stderr);
        return Err(EngineError::Failed);
    }

    let arguments = plan_arguments(&order, &folder);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let code = engine.logging(&arguments, log).await?;
    if !matches!(code, Some(0 | EXIT_WITH_CHANGES)) {
        return Err(EngineError::Failed);
    }

    let plan_file = folder.plan_file().to_string_lossy().into_owned();
    let json = engine.json(&["show", "-json", &plan_file]).await?;
    let schemas = engine.json(&["providers", "schema", "-json"]).await?;
    let plan: Value = serde_json::from_slice(&json).map_err(EngineError::Unreadable)?;
    let schemas: Value = serde_json::from_slice(&schemas).map_err(EngineError::Unreadable)?;
    let redacted = redaction::redacted(&plan, &schemas);
    Ok(Planned {
        redacted: serde_json::to_vec(&redacted)
            .map_err(EngineError::Unreadable)?
            .into(),
        has_changes: code == Some(EXIT_WITH_CHANGES),
        counts: count(&plan),
        json: json.trim_ascii_end().to_vec().into(),
        saved: SavedPlan::Real {
            folder,
            environment: order.environment,
        },
    })
}

pub(super) async fn apply(
    binary: &Path,
    folder: &PrivateFolder,
    environment: &[(String, String)],
    structured: bool,
    log: &Log,
) -> Result<Applied, EngineError> {
    let engine = Run {
        binary,
        folder,
        environment,
    };
    let plan_file = folder.plan_file().to_string_lossy().into_owned();
    let style = if structured { "-json" } else { "-no-color" };
    let code = engine
        .logging(&["apply", "-input=false", style, &plan_file], log)
        .await?;
    let state = std::fs::read(folder.state_file()).ok().map(Bytes::from);
    Ok(Applied {
        succeeded: code == Some(0),
        state,
    })
}

fn plan_arguments(order: &PlanOrder, folder: &PrivateFolder) -> Vec<String> {
    let mut arguments: Vec<String> = ["plan", "-input=false", "-detailed-exitcode"]
        .map(str::to_owned)
        .into();
    arguments.push(
        if order.structured {
            "-json"
        } else {
            "-no-color"
        }
        .to_owned(),
    );
    arguments.push(format!("-out={}", folder.plan_file().display()));
    arguments.push(format!("-var-file={}", folder.variables_file().display()));
    arguments.push(format!("-var-file={}", folder.expressions_file().display()));
    if order.destroy {
        arguments.push("-destroy".to_owned());
    }
    if order.refresh_only {
        arguments.push("-refresh-only".to_owned());
    } else if !order.refresh {
        arguments.push("-refresh=false".to_owned());
    }
    arguments.extend(
        order
            .targets
            .iter()
            .map(|address| format!("-target={address}")),
    );
    arguments.extend(
        order
            .replacements
            .iter()
            .map(|address| format!("-replace={address}")),
    );
    arguments
}

/// The engine in its folder.
struct Run<'a> {
    binary: &'a Path,
    folder: &'a PrivateFolder,
    environment: &'a [(String, String)],
}

struct Output {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Run<'_> {
    /// Runs a command whose output is a JSON document.
    async fn json(&self, arguments: &[&str]) -> Result<Vec<u8>, EngineError> {
        let output = self.quietly(arguments).await?;
        if output.code == Some(0) {
            Ok(output.stdout)
        } else {
            Err(EngineError::Failed)
        }
    }

    /// Runs a command and keeps what it writes.
    async fn quietly(&self, arguments: &[&str]) -> Result<Output, EngineError> {
        let mut stdout = Vec::new();
        let (code, stderr) = self
            .run(arguments, |chunk| {
                stdout.extend_from_slice(chunk);
            })
            .await?;
        Ok(Output {
            code,
            stdout,
            stderr,
        })
    }

    /// Runs a command and lets the log grow while it writes.
    async fn logging(&self, arguments: &[&str], log: &Log) -> Result<Option<i32>, EngineError> {
        let (code, stderr) = self.run(arguments, |chunk| log.push(chunk)).await?;
        log.push(&stderr);
        Ok(code)
    }

    async fn run(
        &self,
        arguments: &[&str],
        stdout_to: impl FnMut(&[u8]),
    ) -> Result<(Option<i32>, Vec<u8>), EngineError> {
        let mut command = Command::new(self.binary);
        // A plan runs what the upload says: it gets no environment of ours but the PATH.
        command.env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
            .args(arguments)
            .current_dir(self.folder.working_directory())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("HOME", self.folder.home())
            .env("TF_CLI_CONFIG_FILE", self.folder.cli_config())
            .env("TF_IN_AUTOMATION", "1")
            .env("TF_INPUT", "0")
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(EngineError::Start)?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let work = async {
            let mut errors = Vec::new();
            let (out, err) = tokio::join!(
                copy(stdout, stdout_to),
                copy(stderr, |chunk| errors.extend_from_slice(chunk)),
            );
            out?;
            err?;
            let status = child.wait().await.map_err(EngineError::Start)?;
            Ok((status.code(), errors))
        };
        tokio::time::timeout(TIME_LIMIT, work)
            .await
            .unwrap_or(Err(EngineError::TookTooLong(TIME_LIMIT.as_secs())))
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl FnMut(&[u8]),
) -> Result<(), EngineError> {
    let mut buffer = vec![0; 16 << 10];
    let mut written = 0;
    loop {
        let read = from.read(&mut buffer).await.map_err(EngineError::Start)?;
        if read == 0 {
            return Ok(());
        }
        written += read;
        if written > OUTPUT_LIMIT {
            return Err(EngineError::WroteTooMuch(OUTPUT_LIMIT));
        }
        to(&buffer[..read]);
    }
}
