//! `clawgate rollback`: what a responder does when an agent went wrong.

use clap::Subcommand;
use proof::record::JobId;
use serde_json::json;

use super::client::{id, job_id};
use super::token::Which;
use super::{Failure, Remote, job, term, token};

/// Stops agents and undoes what they did; each act is recorded.
#[derive(Debug, Subcommand)]
pub(super) enum Rollback {
    /// Revokes a token at once
    #[command(after_help = "\
Example:
  clawgate rollback token 9f86d081884c… --reason 'seen on a foreign address'")]
    Token {
        #[command(flatten)]
        which: Which,
        /// Why, in your words; it is recorded
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Stops a job: revokes its tokens, discards its runs, closes it
    #[command(after_help = "\
Example:
  clawgate rollback job job_0198… --reason 'prompt injection'

The answer is the list of what there is to look after: revoked tokens, calls whose end nobody knows,
runs that Terraform Cloud may still be applying. It comes also while the job's bundle waits for
witnesses or could not be sealed; bundle_waits_for says so then.")]
    Job {
        /// The job
        #[arg(value_parser = job_id)]
        job: JobId,
        /// Why, in your words; it is recorded
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Discards a run's plan: nothing of it can be applied any more
    #[command(
        after_help = "Example:\n  clawgate rollback run run-CZcmD7eagjhyX0vN --reason 'wrong plan'"
    )]
    Run {
        /// The run
        #[arg(value_parser = id)]
        run: String,
        /// Why, in your words; it is recorded
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Returns a workspace to an earlier state version
    #[command(after_help = "\
Example:
  clawgate rollback state ws-staging-app sv-g8aX5jHvZ7qTfw2m --reason 'undo the apply of run-…'

Locks the workspace, makes the earlier state version the current one, and unlocks it. The state
is what Terraform believes; resources change with the next plan and apply.")]
    State {
        /// The workspace
        #[arg(value_parser = id)]
        workspace: String,
        /// The state version to return to
        #[arg(value_parser = id)]
        state_version: String,
        /// Why, in your words; it is recorded
        #[arg(long)]
        reason: String,
        /// The open job in whose records it is to stand
        #[arg(long, value_parser = job_id)]
        job: Option<JobId>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

impl Rollback {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Token {
                which,
                reason,
                remote,
            } => token::revoke(&which, &reason, &remote, "/v1/tokens/revoke").await,
            Self::Job {
                job,
                reason,
                remote,
            } => {
                post(
                    &remote,
                    &format!("/v1/rollback/job/{job}"),
                    json!({ "reason": reason }),
                )
                .await
            }
            Self::Run {
                run,
                reason,
                remote,
            } => {
                post(
                    &remote,
                    &format!("/v1/rollback/run/{run}"),
                    json!({ "reason": reason }),
                )
                .await
            }
            Self::State {
                workspace,
                state_version,
                reason,
                job,
                yes,
                remote,
            } => {
                let question = format!("Return {workspace} to state version {state_version}?");
                if !yes && !term::confirm(&question)? {
                    return Err(Failure::new("nothing was done"));
                }
                let mut body = json!({
                    "workspace_id": workspace,
                    "state_version_id": state_version,
                    "reason": reason,
                });
                if let Some(job) = job {
                    body["job_id"] = job.as_str().into();
                }
                post(&remote, "/v1/rollback/state", body).await
            }
        }
    }
}

async fn post(remote: &Remote, path: &str, body: serde_json::Value) -> Result<(), Failure> {
    let answer = remote.connect()?.post(path, &body).await?;
    if remote.json {
        term::print_json(&answer);
    } else {
        anstream::println!("done");
        job::print_members(&answer);
    }
    Ok(())
}
