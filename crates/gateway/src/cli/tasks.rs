//! `clawgate tasks`: the run task by which Terraform Cloud asks the gateway.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use policy::terraform::ids::WorkspaceId;
use serde_json::json;

use super::Failure;
use super::doctor::contracts_in_use;
use super::term::{self, BOLD, OFF};
use crate::config::Config;
use crate::keys;
use crate::run_tasks::attachment::{Administrator, AttachmentError, Mode, Standing, Step, Wanted};
use crate::secret::SecretSource;
use crate::storage::Place;
use crate::upstream::{Upstream, http_client};

/// Has Terraform Cloud ask this gateway before plans and applies.
#[derive(Debug, Subcommand)]
pub(super) enum Tasks {
    /// Makes the key by which Terraform Cloud signs its calls, in a new file
    #[command(after_help = "\
Example:
  clawgate tasks key run-task.key

Then, in clawgate.toml, before the gateway is started again:
  [run_tasks]
  hmac_key = { file = \"run-task.key\" }")]
    Key {
        /// The file; it must not exist
        file: PathBuf,
    },
    /// Makes the run task and attaches it, mandatory, at every stage
    #[command(after_help = "\
Examples:
  clawgate tasks install --dry-run
  clawgate tasks install --token-env TFC_ADMIN
  clawgate tasks install --contract staging --token-file admin.token
  clawgate tasks install --workspace ws-staging-app --url https://tasks.example.com

The gateway must run and be reachable: Terraform Cloud calls it before it keeps the task. The
credential needs \"Manage run tasks\" in the organization; it is used for this command only. What
is in order is left alone, so the command may be repeated.")]
    Install {
        #[command(flatten)]
        scope: Scope,
        /// Gives a run task that is there already the gateway's key, which cannot be read back
        #[arg(long)]
        renew_key: bool,
        /// Says what would be done, and does nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Says at which stages each workspace asks
    #[command(after_help = "Example:\n  clawgate tasks list --token-env TFC_ADMIN --json")]
    List {
        #[command(flatten)]
        scope: Scope,
    },
    /// Takes the run task off workspaces
    #[command(after_help = "\
Examples:
  clawgate tasks remove --workspace ws-staging-app --token-env TFC_ADMIN
  clawgate tasks remove --delete --token-env TFC_ADMIN

From then on applies in these workspaces are stopped by the gateway only when they come through
it.")]
    Remove {
        #[command(flatten)]
        scope: Scope,
        /// Deletes the run task of the organization, too: no workspace asks any more
        #[arg(long)]
        delete: bool,
        /// Says what would be done, and does nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which workspaces, and as whom.
#[derive(Debug, Args)]
pub(super) struct Scope {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "clawgate.toml")]
    config: PathBuf,
    /// Only the workspaces of this contract; may be repeated
    #[arg(long, value_name = "NAME")]
    contract: Vec<String>,
    /// Only this workspace; may be repeated
    #[arg(long, value_name = "ID")]
    workspace: Vec<WorkspaceId>,
    /// How Terraform Cloud reaches the operator listener, when the configuration does not say
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A file with a token that may manage run tasks; else the configuration's reader is used
    #[arg(long, value_name = "FILE", conflicts_with = "token_env")]
    token_file: Option<PathBuf>,
    /// A variable of the environment with such a token
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Tasks {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Key { file } => key(&file),
            Self::Install {
                scope,
                renew_key,
                dry_run,
            } => install(&scope, renew_key, mode(dry_run)).await,
            Self::List { scope } => list(&scope).await,
            Self::Remove {
                scope,
                delete,
                dry_run,
            } => remove(&scope, delete, mode(dry_run)).await,
        }
    }
}

fn mode(dry_run: bool) -> Mode {
    match dry_run {
        true => Mode::DryRun,
        false => Mode::Act,
    }
}

fn key(file: &std::path::Path) -> Result<(), Failure> {
    let text = keys::random_text();
    keys::write_private(file, text.as_bytes())
        .map_err(|error| Failure::from(error).next("an existing file is never overwritten"))?;
    anstream::println!("hmac_key = {{ file = \"{}\" }}", file.display());
    Ok(())
}

async fn install(scope: &Scope, renew_key: bool, mode: Mode) -> Result<(), Failure> {
    let ready = scope.ready().await?;
    let settings = ready.config.run_tasks.as_ref().ok_or_else(|| {
        Failure::new("the configuration has no [run_tasks]")
            .next("clawgate tasks key run-task.key, and set run_tasks.hmac_key")
    })?;
    let key = settings.hmac_key.fetch().await?;
    let steps = ready
        .administrator()
        .install(&ready.wanted, &key, &ready.workspaces, renew_key, mode)
        .await
        .map_err(failure)?;
    report(scope, &ready.wanted, &steps, mode);
    Ok(())
}

async fn remove(scope: &Scope, delete: bool, mode: Mode) -> Result<(), Failure> {
    let ready = scope.ready().await?;
    let steps = ready
        .administrator()
        .remove(&ready.wanted, &ready.workspaces, delete, mode)
        .await
        .map_err(failure)?;
    report(scope, &ready.wanted, &steps, mode);
    Ok(())
}

async fn list(scope: &Scope) -> Result<(), Failure> {
    let ready = scope.ready().await?;
    let standings = ready
        .administrator()
        .look(&ready.wanted, &ready.workspaces)
        .await
        .map_err(failure)?;
    if scope.json {
        let json = json!({"url": ready.wanted.url, "workspaces": standings});
        term::print_json(&json);
        return Ok(());
    }
    anstream::println!("asks {BOLD}{}{OFF}", term::plain(&ready.wanted.url));
    let rows: Vec<Vec<String>> = standings.iter().map(line).collect();
    let heading = ["workspace", "name", "organization", "run task"];
    term::print_table(&heading, &rows, "no workspace");
    Ok(())
}

fn line(standing: &Standing) -> Vec<String> {
    let says = match (&standing.task, &standing.attachment) {
        (None, _) => "none in the organization".to_owned(),
        (Some(task), _) if !task.enabled => "switched off in the organization".to_owned(),
        (Some(_), None) => "not attached".to_owned(),
        (Some(_), Some(attachment)) => match attachment.gaps().as_slice() {
            [] => "mandatory at every stage".to_owned(),
            gaps => format!("not mandatory at {}", gaps.join(", ")),
        },
    };
    vec![
        standing.workspace_id.to_string(),
        term::plain(&standing.workspace),
        term::plain(&standing.organization),
        says,
    ]
}

fn report(scope: &Scope, wanted: &Wanted, steps: &[Step], mode: Mode) {
    let changed = steps.iter().filter(|step| step.changes()).count();
    let dry_run = mode == Mode::DryRun;
    if scope.json {
        let json = json!({
            "name": wanted.name, "url": wanted.url, "dry_run": dry_run, "changed": changed,
            "steps": steps,
        });
        term::print_json(&json);
        return;
    }
    for step in steps {
        let subject = term::plain(&step.subject);
        anstream::println!("{:18} {subject}", step.step);
    }
    let count = crate::trust_pulse::words::count(changed as u64, "change", "changes");
    let would = if dry_run { ", none made" } else { "" };
    anstream::println!("{count}{would}");
}

fn failure(error: AttachmentError) -> Failure {
    let next = match &error {
        AttachmentError::Upstream(_) => "check terraform_cloud.url and the way there",
        AttachmentError::NotThere { .. } => {
            "give a token that may manage run tasks, by --token-file or --token-env"
        }
        AttachmentError::Refused { .. } => {
            "when the address could not be verified: the gateway must run with [run_tasks], and \
             Terraform Cloud must reach it; --url says how"
        }
        AttachmentError::Garbage(_) => "check that terraform_cloud.url is Terraform Cloud",
    };
    Failure::new(error.to_string()).next(next)
}

/// Everything that is needed to ask.
struct Ready {
    config: Config,
    upstream: Upstream,
    credential: crate::secret::Secret,
    wanted: Wanted,
    workspaces: Vec<WorkspaceId>,
}

impl Ready {
    fn administrator(&self) -> Administrator<'_> {
        Administrator {
            upstream: &self.upstream,
            credential: &self.credential,
        }
    }
}

impl Scope {
    async fn ready(&self) -> Result<Ready, Failure> {
        let config = Config::load(&self.config)?;
        let wanted = match &self.url {
            Some(base) => Some(Wanted::at(&config, base)),
            None => Wanted::of(&config),
        };
        let wanted = wanted.ok_or_else(|| {
            Failure::new("it is not known how Terraform Cloud reaches the gateway")
                .next("set run_tasks.public_url, or give --url")
        })?;
        let workspaces = self.workspaces(&config).await?;
        let source = match (&self.token_file, &self.token_env) {
            (Some(file), _) => SecretSource::File(file.clone()),
            (None, Some(name)) => SecretSource::Env(name.clone()),
            (None, None) => config.terraform_cloud.reader.clone(),
        };
        let credential = source.fetch().await?;
        let client = http_client(&config).map_err(|error| Failure::new(format!("{error:#}")))?;
        let upstream = Upstream::connect(&config, client).await?;
        Ok(Ready {
            config,
            upstream,
            credential,
            wanted,
            workspaces,
        })
    }

    /// Those that are named, else those of the named contracts, else those of all contracts.
    async fn workspaces(&self, config: &Config) -> Result<Vec<WorkspaceId>, Failure> {
        if !self.workspace.is_empty() && self.contract.is_empty() {
            return Ok(self.workspace.clone());
        }
        let place = Place::of(config)
            .await
            .map_err(|error| Failure::new(format!("{error:#}")))?;
        let store = place
            .open(store::Seat::Beside)
            .map_err(|error| Failure::new(format!("the store cannot be opened: {error}")))?;
        let contracts = contracts_in_use(Some(&*store)).await;
        for name in &self.contract {
            if !contracts.iter().any(|contract| contract.name == *name) {
                let message = format!("no contract `{}` is in force", term::plain(name));
                return Err(Failure::new(message).next("clawgate policy list"));
            }
        }
        let wanted = |name: &String| self.contract.is_empty() || self.contract.contains(name);
        let named = contracts
            .iter()
            .filter(|contract| wanted(&contract.name))
            .flat_map(|contract| contract.permissions.workspaces.iter().cloned());
        let ids: BTreeSet<WorkspaceId> = named.chain(self.workspace.iter().cloned()).collect();
        if ids.is_empty() {
            return Err(
                Failure::new("no contract is published, so no workspace is known")
                    .next("publish one, or name workspaces by --workspace"),
            );
        }
        Ok(ids.into_iter().collect())
    }
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use sim::{Engine, TerraformCloudConfig};

    use super::*;
    use crate::cli::doctor::{self, Level};
    use crate::cli::{Cli, dispatch};
    use crate::demo::sandbox::{self, Sandbox};

    const APP: &str = "ws-staging-app";
    const OTHER: &str = "ws-production-app";

    async fn run(folder: &Path, line: &[&str]) -> Result<(), Failure> {
        let config = folder.join("clawgate.toml");
        let owner = folder.join("owner.token");
        let ends = [
            "--config",
            config.to_str().unwrap(),
            "--token-file",
            owner.to_str().unwrap(),
            "--json",
        ];
        let words = ["clawgate", "tasks"].iter().chain(line).chain(&ends);
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        dispatch(cli.command).await.map(drop)
    }

    /// What stands at Terraform Cloud: how many tasks, and the gaps of each workspace.
    async fn standing(folder: &Path, workspaces: &[&str]) -> Vec<Option<usize>> {
        let scope = Scope {
            config: folder.join("clawgate.toml"),
            contract: Vec::new(),
            workspace: workspaces.iter().map(|id| id.parse().unwrap()).collect(),
            url: None,
            token_file: Some(folder.join("owner.token")),
            token_env: None,
            json: true,
        };
        let ready = scope.ready().await.unwrap();
        let standings = ready
            .administrator()
            .look(&ready.wanted, &ready.workspaces)
            .await
            .unwrap();
        standings
            .into_iter()
            .map(|standing| Some(standing.attachment?.gaps().len()))
            .collect()
    }

    async fn doctor_says(folder: &Path) -> Vec<(Level, String)> {
        let report = doctor::examine(&folder.join("clawgate.toml"), false).await;
        let findings = report.findings().iter();
        findings
            .filter(|finding| finding.check == "run tasks")
            .map(|finding| (finding.level, finding.message.clone()))
            .collect()
    }

    #[tokio::test]
    async fn the_task_is_installed_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let contract = policy::EXAMPLE_CONTRACT.as_bytes().to_vec();
        let cloud = TerraformCloudConfig::acme(Engine::Recorded);
        let sandbox = Sandbox::start_on(folder.path(), contract, cloud, |config| {
            sandbox::with_run_tasks(config);
        });
        let sandbox = sandbox.await.unwrap();
        let folder = folder.path();
        std::fs::write(folder.join("owner.token"), sandbox.cloud.token("owner")).unwrap();
        assert_eq!(standing(folder, &[APP, OTHER]).await, [Some(0), None]);
        let said = doctor_says(folder).await;
        assert!(
            said.len() == 2 && said.iter().all(|one| one.0 == Level::Ok),
            "{said:?}"
        );

        // Nothing to do, and nothing is done.
        let changes = || {
            let requests = sandbox.cloud.requests().into_iter();
            requests.filter(|request| request.method != "GET").count()
        };
        let before = changes();
        run(folder, &["install"]).await.unwrap();
        run(folder, &["list"]).await.unwrap();
        run(folder, &["install", "--workspace", OTHER, "--dry-run"])
            .await
            .unwrap();
        run(folder, &["remove", "--delete", "--dry-run"])
            .await
            .unwrap();
        assert_eq!(changes(), before);

        run(folder, &["install", "--workspace", OTHER])
            .await
            .unwrap();
        assert_eq!(standing(folder, &[OTHER]).await, [Some(0)]);
        run(folder, &["install", "--renew-key"]).await.unwrap();
        run(folder, &["remove", "--workspace", APP]).await.unwrap();
        assert_eq!(standing(folder, &[APP, OTHER]).await, [None, Some(0)]);
        let said = doctor_says(folder).await;
        assert!(
            said.iter()
                .any(|(level, says)| *level == Level::Warning && says.contains("does not ask")),
            "{said:?}"
        );
        run(folder, &["remove", "--delete"]).await.unwrap();
        assert_eq!(standing(folder, &[APP, OTHER]).await, [None, None]);

        // Who may not manage run tasks is told so; an address that does not answer is not kept.
        std::fs::write(folder.join("owner.token"), sandbox.cloud.token("reader")).unwrap();
        let refused = run(folder, &["install"]).await.unwrap_err().to_string();
        assert!(
            refused.contains("not there for this credential"),
            "{refused}"
        );
        std::fs::write(folder.join("owner.token"), sandbox.cloud.token("owner")).unwrap();
        let refused = run(folder, &["install", "--url", "http://127.0.0.1:1"])
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("could not be verified"), "{refused}");
        let unknown = run(folder, &["install", "--contract", "nobody"]).await;
        assert!(unknown.unwrap_err().to_string().contains("in force"));
    }

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run-task.key");
        key(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.len() >= 43);
        assert!(key(&file).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}
