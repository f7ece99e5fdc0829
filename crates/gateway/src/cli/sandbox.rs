//! `clawgate sandbox`: the demo's set-up without its story.

use std::path::{Path, PathBuf};

use clap::Args;
use sim::{Engine, Script, TerraformCloudConfig};

use super::Failure;
use crate::config::Config;
use crate::demo::sandbox;

/// How often the workspaces are looked at: who changes something past the gateway sees it soon.
const POLL_SECONDS: u64 = 10;

/// Starts simulators and a gateway with an open job, and stays up for your own client.
///
/// Writes DIR/connection.json with every address, token and file that a client, an operator or
/// an approver needs. Everything is on loopback, on free ports.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate sandbox --out sandbox
  clawgate sandbox --out sandbox --contract my-contract.json
  clawgate sandbox --out sandbox --run-tasks
  clawgate sandbox --out sandbox --script steps.json

A script makes the simulated model ask for tools, one step after the other:
  [{\"call\": {\"tool\": \"plan_status\", \"arguments\": {\"run\": \"$run\"}, \"until\": \"planned\"}},
   {\"say\": \"Done: $last\"}]

Then, in another terminal, with the values of sandbox/connection.json:
  cd sandbox/configuration
  TF_CLI_CONFIG_FILE=../terraform.rc TF_TOKEN_app_terraform_io=$CST terraform init
  curl -H \"Authorization: Bearer $CST\" $AGENT_URL/v1/job")]
pub(super) struct Sandbox {
    /// Where to write connection.json and everything that belongs to it.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Terraform Cloud asks the gateway at every stage of a run, as `clawgate tasks install`
    /// has it do.
    #[arg(long)]
    run_tasks: bool,
    /// Another contract than the runbook's example.
    #[arg(long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// What the simulated model does, for agents that bring tools.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

impl Sandbox {
    pub(super) async fn run(self) -> Result<(), Failure> {
        super::serve::log_to_stderr(false, "warn")?;
        let failed = |error: anyhow::Error| Failure::new(format!("no sandbox: {error:#}"));
        let contract = sandbox::contract_text(self.contract.as_deref()).map_err(failed)?;
        let script = self.script.as_deref().map(read_script).transpose()?;
        let cloud = TerraformCloudConfig::acme(Engine::detect());
        let change = |config: &mut Config| {
            config.watching.poll_seconds = POLL_SECONDS;
            if self.run_tasks {
                sandbox::with_run_tasks(config);
            }
        };
        let sandbox = sandbox::Sandbox::start_on(&self.out, contract, cloud, change)
            .await
            .map_err(failed)?;
        if let Some(script) = script {
            sandbox.provider.play(script);
        }
        let connection = sandbox.write_connection().map_err(failed)?;
        anstream::println!(
            "A simulated Terraform Cloud ({}), a simulated model provider,",
            sandbox.cloud.engine()
        );
        anstream::println!(
            "and a gateway with an open job. Everything you need to connect stands in"
        );
        anstream::println!("  {}", connection.display());
        anstream::println!("agents      {}", sandbox.gateway.agent_url);
        anstream::println!("operators   {}", sandbox.gateway.operator_url);
        anstream::println!(
            "Trust Pulse {}/trust-pulse/jobs/{}",
            sandbox.gateway.operator_url,
            sandbox.job_id
        );
        anstream::println!("It stays up until you press Ctrl-C.");
        crate::server::stop_signal()
            .await
            .map_err(|error| Failure::new(format!("cannot wait for Ctrl-C: {error}")))?;
        sandbox.gateway.stop().await;
        Ok(())
    }
}

fn read_script(file: &Path) -> Result<Script, Failure> {
    let named = file.display();
    let text = std::fs::read(file)
        .map_err(|error| Failure::new(format!("cannot read the script `{named}`: {error}")))?;
    Script::parse(&text).map_err(|error| Failure::new(format!("`{named}`: {error}")))
}
