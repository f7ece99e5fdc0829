//! `clawgate serve`: runs the gateway until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Failure;
use super::passphrase::KeyPassphrase;
use crate::config::Config;
use crate::start;

/// Chooses how log lines look, as `--log-json` does.
const LOG_FORMAT: &str = "CLAWGATE_LOG_FORMAT";

/// Runs the gateway
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate serve --config clawgate.toml
  CLAWGATE_LOG=clawgate=debug clawgate serve --log-json
  CLAWGATE_LOG_FORMAT=json clawgate serve

SIGTERM or Ctrl-C drains: readiness answers no, running calls finish, nothing new is taken. A
second one stops at once. When the gateway's keys are sealed, their passphrase is asked for at the
terminal, unless a file, the configuration or systemd (`clawgate-key-passphrase`) has it. Logs go to standard error and never hold a secret.")]
pub(super) struct Serve {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
    config: PathBuf,
    /// Log as JSON, one object a line
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    passphrase: KeyPassphrase,
}

impl Serve {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let json = self.log_json || asks_for_json(std::env::var(LOG_FORMAT).ok().as_deref())?;
        log_to_stderr(json, "info")?;
        let mut config = Config::load(&self.config)?;
        self.passphrase.supply(&mut config)?;
        raise_descriptors();
        // Before the listeners open, so that no signal is missed.
        let mut stop = Stop::listen()?;
        let running = start::start(config).await.map_err(|error| {
            Failure::new(format!("the gateway does not start: {error:#}")).next(format!(
                "clawgate doctor --config {}",
                self.config.display()
            ))
        })?;
        tracing::info!(
            agents = %running.agent_url,
            operators = %running.operator_url,
            "serving"
        );
        let signal = stop.recv().await;
        tracing::info!(signal, "stopping: no new calls, running ones finish");
        tokio::select! {
            () = running.stop() => {
                tracing::info!("stopped");
                Ok(ExitCode::SUCCESS)
            }
            signal = stop.recv() => {
                tracing::warn!(signal, "stopped at once, with calls still running");
                Ok(ExitCode::from(1))
            }
        }
    }
}

/// Takes as many descriptors as the process may have: each stream needs two, and what a shell or a
/// service gives at first is for a few hundred of them.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}

/// Whether the variable asks for JSON; a word that it does not know is a mistake.
fn asks_for_json(format: Option<&str>) -> Result<bool, Failure> {
    match format {
        Some("json") => Ok(true),
        None | Some("" | "text") => Ok(false),
        Some(other) => {
            let mistake = format!("{LOG_FORMAT} `{other}`: it is `json` or `text`");
            Err(Failure::usage(mistake))
        }
    }
}

pub(super) struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(format!("cannot listen to signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Logs to standard error, from `level` on; `CLAWGATE_LOG` takes tracing's filters instead.
pub(super) fn log_to_stderr(json: bool, level: &str) -> Result<(), Failure> {
    let filter = match std::env::var("CLAWGATE_LOG") {
        Ok(text) => EnvFilter::try_new(&text)
            .map_err(|error| Failure::usage(format!("CLAWGATE_LOG `{text}`: {error}")))?,
        // A library that logs what agents write, several lines for each message.
        Err(_) => EnvFilter::new(format!("{level},rmcp=off")),
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let done = if json {
        logs.json().flatten_event(true).try_init()
    } else {
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr())
            && std::env::var_os("NO_COLOR").is_none();
        logs.with_ansi(colours).with_target(false).try_init()
    };
    done.map_err(|error| Failure::new(format!("cannot log: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_when_somebody_asks_for_it() {
        for (format, json) in [
            (None, Some(false)),
            (Some(""), Some(false)),
            (Some("text"), Some(false)),
            (Some("json"), Some(true)),
            (Some("JSON"), None),
            (Some("yes"), None),
        ] {
            assert_eq!(asks_for_json(format).ok(), json, "{format:?}");
        }
    }
}
