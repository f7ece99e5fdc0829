//! `clawgate openclaw`: OpenClaw's configuration for working through a gateway.
//!
//! [`document`] says what it is, [`merge`] puts it into a file that is there, [`models`] asks the
//! gateway which models there are, [`version`] looks at the OpenClaw of this machine.

mod document;
mod merge;
mod models;
mod version;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::agent::{self, Agent};
use super::client::check_address;
use super::term::{DIM, OFF, WARN};
use super::{Failure, term};
use document::{Model, document};
use merge::{Change, Merged};

/// Largest configuration that is read.
const MAX_FILE: u64 = 4 << 20;

/// Sets OpenClaw up to work through a gateway.
#[derive(Debug, Subcommand)]
pub(super) enum Openclaw {
    Config(Config),
}

/// Prints OpenClaw's configuration for models and tools of a gateway, or merges it into a file
///
/// Models are named, or else asked of the gateway with the scoped token. No credential is ever in
/// the configuration: it refers to the variables that `clawgate run` sets.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate openclaw config --model openai/gpt-5 > openclaw.json
  clawgate openclaw config --model openai/gpt-5 --model anthropic/claude-sonnet-5 --merge ~/.openclaw/openclaw.json
  CST=$(cat agent.token) clawgate openclaw config --gateway https://clawgate.example.com --dry-run --merge openclaw.json

Then:
  clawgate run --contract staging-only -- openclaw agent exec 'Resize staging' --config openclaw.json --cwd .

A merge keeps comments and everything that is not Clawgate's, and says what it changes: providers
`clawgate-…`, the MCP server `clawgate`, CLAWGATE_URL and CLAWGATE_MCP among `env.vars`, and, when
nothing is there yet, the default model and `tools.toolSearch`.

Made for OpenClaw 2026.9.")]
pub(super) struct Config {
    /// A model: openai/NAME (chat completions), openai-responses/NAME or anthropic/NAME; repeatable,
    /// the first one is the default [default: what the contract allows]
    #[arg(long = "model", value_name = "SURFACE/NAME")]
    models: Vec<Model>,
    /// Merge into this file, which may not be there yet
    #[arg(long, value_name = "FILE")]
    merge: Option<PathBuf>,
    /// Only say what a merge would change
    #[arg(long, requires = "merge")]
    dry_run: bool,
    /// Print JSON only: the configuration, or what the merge changed
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: Agent,
}

impl Openclaw {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self::Config(config) = self;
        config.run().await
    }
}

impl Config {
    async fn run(mut self) -> Result<(), Failure> {
        if self.models.is_empty() {
            self.models = models::ask(&self.agent).await?;
        }
        if let Some(remark) = version::remark().await {
            anstream::eprintln!("{WARN}note{OFF}: {remark}");
        }
        let wanted = document(&self.models, &self.address()?);
        match &self.merge {
            Some(file) => self.merge_into(file, wanted),
            None => {
                term::print_json(&document::alone(wanted));
                if !self.json {
                    anstream::eprintln!(
                        "{DIM} next{OFF}: save it as openclaw.json; then `clawgate run --contract \
                         NAME -- openclaw agent exec '…' --config openclaw.json --cwd .`"
                    );
                }
                Ok(())
            }
        }
    }

    /// The gateway where no variable names another: under `clawgate run` the variable names a
    /// way that ends with the command.
    fn address(&self) -> Result<String, Failure> {
        let lasting = agent::set("CLAWGATE_JOB").is_none();
        let set = || agent::set("CLAWGATE_URL").filter(|_| lasting);
        let address = self.agent.gateway.clone().or_else(set);
        let address = address.unwrap_or_else(|| agent::DEFAULT_GATEWAY.to_owned());
        let address = address.trim_end_matches('/');
        // OpenClaw will send the token there.
        check_address("gateway", address, self.agent.allow_plaintext)?;
        Ok(address.to_owned())
    }

    fn merge_into(&self, file: &Path, wanted: Value) -> Result<(), Failure> {
        // What a link leads to is replaced, not the link.
        let target = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let before = read(&target)?;
        let merged = match &before {
            Some(text) => {
                merge::merge(text, &wanted).map_err(|failure| failure.in_file(&target))?
            }
            None => Merged::new(document::alone(wanted)),
        };
        let changes = merged.changes.iter().any(Change::is_made);
        if changes && !self.dry_run {
            write(&target, before.as_deref(), &merged.text)?;
        }
        if self.json {
            let list: Vec<Value> = merged.changes.iter().map(Change::as_json).collect();
            let written = changes && !self.dry_run;
            term::print_json(&json!({"file": target, "written": written, "changes": list}));
            return Ok(());
        }
        for change in &merged.changes {
            anstream::println!("{change}");
        }
        let named = target.display();
        match (changes, self.dry_run) {
            (false, _) => anstream::println!("{named} is as it should be"),
            (true, true) => anstream::println!("{named} is not changed: --dry-run"),
            (true, false) => anstream::println!("{named} is written"),
        }
        Ok(())
    }
}

/// A file's text; `None` when there is no file.
fn read(file: &Path) -> Result<Option<String>, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot read `{}`: {error}", file.display()));
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(found) if found.len() > MAX_FILE => {
            let most = MAX_FILE >> 20;
            let named = file.display();
            return Err(Failure::new(format!("`{named}` has more than {most} MiB")));
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(file).map(Some).map_err(failed)
}

/// Replaces a file at once, or makes one that only its owner may read.
fn write(file: &Path, before: Option<&str>, text: &str) -> Result<(), Failure> {
    let named = file.display();
    let failed = |error: std::io::Error| Failure::new(format!("cannot write `{named}`: {error}"));
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    new.write_all(text.as_bytes()).map_err(failed)?;
    new.as_file().sync_all().map_err(failed)?;
    if read(file)?.as_deref() != before {
        return Err(Failure::new(format!("`{named}` was changed meanwhile"))
            .next("nothing was written; run the command again"));
    }
    match before {
        Some(_) => {
            let mode = std::fs::metadata(file)
                .map_err(failed)?
                .permissions()
                .mode();
            let mode = std::fs::Permissions::from_mode(mode & 0o777);
            new.as_file().set_permissions(mode).map_err(failed)?;
            new.persist(file).map_err(|error| failed(error.error))?;
        }
        None => {
            new.persist_noclobber(file)
                .map_err(|error| failed(error.error))?;
        }
    }
    Ok(())
}
