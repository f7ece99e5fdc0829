//! The commands of `clawgate`.
//!
//! One file for each command. `client` is the only thing here that speaks to a gateway,
//! [`term`] the only thing that knows about colours, [`Failure`] the only way to fail.
//!
//! Exit codes: 0 the command did what it says; 1 it did not, or what it looked at is not in
//! order; 2 the command line is wrong.
//!
//! To add a command: a file with its arguments (a clap type with examples in `after_help`) and
//! its `run`, a variant of `Command` and its arm in `dispatch`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod again;
mod agent;
mod approvals;
mod approvers;
mod bundle;
mod client;
mod contract_file;
#[cfg(feature = "demo")]
mod demo;
pub mod doctor;
mod evidence;
mod explain;
mod failure;
mod health;
mod hold;
pub mod init;
mod job;
mod key;
mod key_encrypt;
mod keys;
mod log;
mod mcp;
mod notices;
mod openapi;
mod openclaw;
pub mod operator;
mod passphrase;
mod policy;
mod pulse;
mod rollback;
mod routes;
mod run;
#[cfg(feature = "demo")]
mod sandbox;
mod serve;
mod store;
mod tasks;
pub mod term;
mod token;
mod top;
mod trust;
mod watch;
mod witness;

pub use client::{OperatorApi, Remote};
pub use failure::Failure;
pub(crate) use failure::chain;

const AFTER_HELP: &str = "\
Where operator commands find the gateway:
  --operator URL          or CLAWGATE_OPERATOR, else http://127.0.0.1:8788
  --credential-file FILE  or CLAWGATE_CREDENTIAL (the credential itself),
                          else data/operator.credential when it is there

A first set-up:
  clawgate init --dir gateway
  clawgate doctor --config gateway/clawgate.toml
  clawgate serve --config gateway/clawgate.toml

Exit codes: 0 done; 1 not done, or not in order; 2 the command line is wrong.";

/// The version, and which build it is.
const VERSION: &str = match names::STATIC {
    true => concat!(env!("CARGO_PKG_VERSION"), " (static)"),
    false => env!("CARGO_PKG_VERSION"),
};

/// Lets AI agents use Terraform Cloud under contract.
#[derive(Debug, Parser)]
#[command(name = "clawgate", version = VERSION, after_help = AFTER_HELP, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    #[cfg(feature = "demo")]
    Sandbox(sandbox::Sandbox),
    Init(init::Init),
    Serve(serve::Serve),
    Run(run::Run),
    #[cfg(target_os = "linux")]
    Confined(run::Confined),
    Mcp(mcp::Mcp),
    #[command(subcommand)]
    Openclaw(openclaw::Openclaw),
    Doctor(doctor::Doctor),
    Health(health::Health),
    #[command(subcommand)]
    Policy(policy::Policy),
    Routes(routes::Routes),
    #[command(subcommand, visible_alias = "jobs")]
    Job(job::Job),
    #[command(subcommand)]
    Token(token::Token),
    #[command(subcommand)]
    Approvals(approvals::Approvals),
    #[command(subcommand)]
    Notices(notices::Notices),
    #[command(subcommand)]
    Approvers(approvers::Approvers),
    #[command(subcommand)]
    Bundle(bundle::Bundle),
    #[command(subcommand)]
    Pulse(pulse::Pulse),
    #[command(subcommand)]
    Evidence(evidence::Evidence),
    #[command(subcommand)]
    Trust(trust::Trust),
    #[command(subcommand)]
    Log(log::Log),
    #[command(subcommand)]
    Watch(watch::Watch),
    Witness(witness::Serve),
    #[command(subcommand)]
    Rollback(rollback::Rollback),
    #[command(subcommand)]
    Tasks(tasks::Tasks),
    #[command(subcommand)]
    Key(key::Key),
    #[command(subcommand)]
    Keys(keys::Keys),
    #[command(subcommand)]
    Operator(operator::Operator),
    #[command(subcommand)]
    Hold(hold::Hold),
    #[command(subcommand)]
    Store(store::Store),
    Explain(explain::Explain),
    Openapi(openapi::Openapi),
}

/// Reads the command line, runs the command and reports how it went.
pub fn main() -> ExitCode {
    // Help and version come out on standard output with 0, mistakes on standard error with 2.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // It must not have a thread.
    #[cfg(target_os = "linux")]
    if let Command::Confined(confined) = cli.command {
        return confined.run();
    }
    let run = || runtime(cli.command.serves())?.block_on(dispatch(cli.command));
    match run() {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

impl Command {
    /// A gateway uses all cores; every other command waits for one answer at a time.
    fn serves(&self) -> bool {
        #[cfg(feature = "demo")]
        if matches!(self, Self::Demo(_) | Self::Sandbox(_)) {
            return true;
        }
        matches!(self, Self::Serve(_))
    }
}

async fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        #[cfg(feature = "demo")]
        Command::Demo(demo) => return demo.run().await,
        #[cfg(feature = "demo")]
        Command::Sandbox(sandbox) => sandbox.run().await?,
        Command::Init(init) => init.run().await?,
        Command::Serve(serve) => return serve.run().await,
        Command::Run(run) => return run.run().await,
        #[cfg(target_os = "linux")]
        Command::Confined(confined) => return Ok(confined.run()),
        Command::Mcp(mcp) => mcp.run().await?,
        Command::Openclaw(openclaw) => openclaw.run().await?,
        Command::Doctor(doctor) => return doctor.run().await,
        Command::Health(health) => health.run().await?,
        Command::Policy(policy) => return policy.run().await,
        Command::Routes(routes) => routes.run()?,
        Command::Job(job) => job.run().await?,
        Command::Token(token) => token.run().await?,
        Command::Approvals(approvals) => approvals.run().await?,
        Command::Notices(notices) => notices.run().await?,
        Command::Approvers(approvers) => approvers.run().await?,
        Command::Bundle(bundle) => bundle.run().await?,
        Command::Pulse(pulse) => pulse.run().await?,
        Command::Evidence(evidence) => evidence.run().await?,
        Command::Trust(trust) => trust.run().await?,
        Command::Log(log) => log.run().await?,
        Command::Watch(watch) => watch.run().await?,
        Command::Witness(witness) => witness.run().await?,
        Command::Rollback(rollback) => rollback.run().await?,
        Command::Tasks(tasks) => tasks.run().await?,
        Command::Key(key) => key.run().await?,
        Command::Keys(keys) => keys.run().await?,
        Command::Operator(operator) => operator.run().await?,
        Command::Hold(hold) => hold.run().await?,
        Command::Store(store) => return store.run().await,
        Command::Explain(explain) => explain.run()?,
        Command::Openapi(openapi::Openapi {}) => openapi::Openapi::run()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime(all_cores: bool) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = if all_cores {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the program cannot start its runtime: {error}")))
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod live_tests;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_each_command_explains_itself() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        fn walk(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            let leaf = command.get_subcommands().next().is_none();
            if command.get_about().is_none() {
                missing.push(format!("{path}: no description"));
            }
            // What is hidden is for the program itself.
            if leaf && !command.is_hide_set() && command.get_after_help().is_none() {
                missing.push(format!("{path}: no examples"));
            }
            for argument in command.get_arguments() {
                if argument.get_help().is_none() {
                    missing.push(format!("{path}: `{}` has no help", argument.get_id()));
                }
            }
            for below in command.get_subcommands().filter(|c| c.get_name() != "help") {
                walk(below, &path, missing);
            }
        }
        let mut missing = Vec::new();
        walk(&command, "", &mut missing);
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn command_lines_are_read_or_refused() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace());
        for good in [
            "clawgate init",
            "clawgate init --dir gateway --save",
            "clawgate serve --config clawgate.toml",
            "clawgate doctor --json",
            "clawgate policy lint a.json",
            "clawgate policy publish a.json --author-key k",
            "clawgate policy check a.json --method POST --path /api/v2/runs --body b.json --json",
            "clawgate policy diff a.json b.json",
            "clawgate routes --class read-state --json",
            "clawgate job open fix-staging --contract terraform-cloud-staging-only",
            "clawgate job close job_1 --reason done",
            "clawgate jobs top",
            "clawgate job top job_1 --once --json",
            "clawgate token issue job_1 --ttl 600",
            "clawgate token issue --elevated --run run-1 --approver a@example.com --key k",
            "clawgate token revoke - --reason lost",
            "clawgate approvals approve run-1 --key k --yes",
            "clawgate approvals deny run-1 --key k --reason no",
            "clawgate notices list --json",
            "clawgate notices test",
            "clawgate notices test ops --json",
            "clawgate notices key webhook.key",
            "clawgate bundle get job_1 -o bundle.json",
            "clawgate trust export",
            "clawgate evidence list --json",
            "clawgate evidence export --as ocsf --state s --out o --follow",
            "clawgate evidence export --as csv --since 2026-11-01 --until 2026-12-01T08:00:00+01:00",
            "clawgate evidence export --of actions --after 7",
            "clawgate evidence open 47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU --key a.txt --out -",
            "clawgate evidence open -7DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU --key a --vault v",
            "clawgate evidence open rcpt_0198c1f2 --key a.txt --bundle b.json --vault v",
            "clawgate evidence open rcpt_0198c1f2 --key a.txt --raw answer",
            "clawgate rollback state ws-1 sv-1 --reason wrong",
            "clawgate log show --json",
            "clawgate log prove --from 3 --to 9 -o p.json",
            "clawgate log prove --from kept.json",
            "clawgate log prove --receipt rcpt_1",
            "clawgate log prove --job job_1 --seq 4",
            "clawgate log monitor --trust t --state s --once",
            "clawgate log monitor --trust t --state s --follow --interval 5 --url https://x",
            "clawgate witness --name w.example --key k --trust t --trust u --state d",
            "clawgate watch list --json",
            "clawgate watch show ws-1",
            "clawgate watch events --workspace ws-1 --before 9",
            "clawgate watch accept ws-1 --reason known --yes",
            "clawgate tasks key run-task.key",
            "clawgate tasks install --workspace ws-1 --token-env A --dry-run --json",
            "clawgate tasks remove --contract staging --delete",
            "clawgate openclaw config --model openai/gpt-5 --model anthropic/claude-5",
            "clawgate openclaw config --merge openclaw.json --dry-run --json",
            "clawgate key new a.key",
            "clawgate operator add alice --role issuer",
            "clawgate explain TOKEN_REPLAYED",
            "clawgate hold add job_1 --reason why",
            "clawgate hold list job_1 --all --json",
            "clawgate hold remove job_1 --hold 3 --reason done",
            "clawgate store prune --older-than 400d --dry-run --json",
            "clawgate store backup folder/ --json",
        ] {
            assert!(parse(good).is_ok(), "{good}: {}", parse(good).unwrap_err());
        }
        for bad in [
            "clawgate",
            "clawgate initt",
            "clawgate approvals deny run-1 --key k",
            "clawgate evidence open x --key a.txt",
            "clawgate evidence export --as xml",
            "clawgate evidence export --since yesterday",
            "clawgate evidence export --after 7 --state s",
            "clawgate evidence open 47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
            "clawgate evidence open rcpt_../x --key a.txt",
            "clawgate evidence open rcpt_1 --key a.txt --raw answer --json",
            "clawgate approvals approve run-1",
            "clawgate notices",
            "clawgate notices key",
            "clawgate openclaw",
            "clawgate openclaw config --model gpt-5",
            "clawgate openclaw config --model openai/",
            "clawgate openclaw config --model google/gemini",
            "clawgate openclaw config --dry-run",
            "clawgate token issue",
            "clawgate token issue --elevated --run run-1",
            "clawgate token issue job_1 --run run-1",
            "clawgate token issue runs",
            "clawgate job open x",
            "clawgate job show ../secret",
            "clawgate rollback state ws-1 --reason wrong",
            "clawgate rollback job job_1",
            "clawgate witness --name w.example --key k --state d",
            "clawgate witness --name a+b --key k --trust t --state d",
            "clawgate log prove",
            "clawgate log prove --to 9",
            "clawgate log prove --from 3 --index 4",
            "clawgate log prove --job job_1",
            "clawgate log prove --receipt ../x",
            "clawgate log monitor --trust t",
            "clawgate log monitor --trust t --state s --once --follow",
            "clawgate log monitor --trust t --state s --interval 5",
            "clawgate watch show",
            "clawgate watch accept ws-1",
            "clawgate policy check a.json --method POST",
            "clawgate operator add alice --role king",
            "clawgate tasks install --workspace run-1",
            "clawgate tasks install --token-file a --token-env B",
        ] {
            let code = parse(bad).expect_err(bad).exit_code();
            assert_eq!(code, 2, "{bad}");
        }
    }
}
