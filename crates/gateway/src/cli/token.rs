//! `clawgate token`: scoped tokens (CST) for agents.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use proof::approval::Decision;
use proof::record::JobId;
use serde_json::{Value, json};

use super::approvals::{self, Signer};
use super::client::{id, job_id};
use super::{Failure, Remote, job, term};
use crate::keys;

/// Longest token text that is read from standard input.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// Issues, inspects and revokes scoped tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    Issue(Issue),
    /// Says what a token may do, and whether it is still good
    #[command(after_help = "\
Examples:
  clawgate token inspect - < agent.token
  clawgate token inspect 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    Inspect {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        remote: Remote,
    },
    /// Revokes a token: the next call with it is refused, open streams are cut
    #[command(after_help = "\
Examples:
  clawgate token revoke - --reason 'agent misbehaves' < agent.token
  clawgate token revoke 9f86d081884c… --reason 'found in a log'

`clawgate rollback job JOB` stops everything of a job at once.")]
    Revoke {
        #[command(flatten)]
        which: Which,
        /// Why, in your words; it is recorded
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Mints a token for a job, pinned to the job's contract
///
/// The token is shown once, alone on standard output; the gateway keeps its hash only.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  TF_TOKEN_gateway_example=$(clawgate token issue job_0198…)
  clawgate token issue job_0198… --ttl 600 --scope proxy:call --scope tfc:plan
  clawgate token issue --elevated --run run-CZcmD7eagjhyX0vN \\
      --approver infra-lead@example.com --key infra-lead.key

An elevated token is an approval that the agent carries: single use, at most 10 minutes, for
that run's plan as it is now. The approver's key signs here and never leaves this machine.")]
pub(super) struct Issue {
    /// The job
    #[arg(value_parser = job_id, required_unless_present = "elevated", conflicts_with = "elevated")]
    job: Option<JobId>,
    /// Lifetime in seconds; the contract sets the most
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    ttl: Option<u32>,
    /// A scope to grant, repeatable; without any, all that the contract allows
    #[arg(long = "scope", value_name = "SCOPE", conflicts_with = "elevated")]
    scopes: Vec<String>,
    /// Mint an elevated token, which stands for an approval
    #[arg(long, requires_all = ["run", "key"])]
    elevated: bool,
    /// The run whose plan is approved
    #[arg(long, value_parser = id, requires = "elevated")]
    run: Option<String>,
    /// The approver's e-mail address; without it, the one enrolled for the key
    #[arg(long, value_name = "EMAIL", requires = "elevated")]
    approver: Option<String>,
    /// The approver's key file
    #[arg(long, value_name = "FILE", requires = "elevated")]
    key: Option<PathBuf>,
    /// Do not ask before signing
    #[arg(long, requires = "elevated")]
    yes: bool,
    #[command(flatten)]
    remote: Remote,
}

/// A token, by its text or its hash.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The token's hash (64 hexadecimal digits), or `-` to read the token from standard input
    #[arg(value_name = "HASH|-")]
    token: String,
}

impl Token {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Issue(issue) => issue.run().await,
            Self::Inspect { which, remote } => inspect(&which, &remote).await,
            Self::Revoke {
                which,
                reason,
                remote,
            } => revoke(&which, &reason, &remote, "/v1/tokens/revoke").await,
        }
    }
}

impl Issue {
    async fn run(self) -> Result<(), Failure> {
        let token = match (&self.job, &self.run, &self.key) {
            (Some(job), _, _) => {
                let mut body = json!({ "job_id": job });
                if let Some(ttl) = self.ttl {
                    body["ttl_seconds"] = ttl.into();
                }
                if !self.scopes.is_empty() {
                    body["scopes"] = json!(self.scopes);
                }
                self.remote.connect()?.post("/v1/tokens", &body).await?
            }
            (None, Some(run), Some(key)) => {
                let signer = Signer {
                    key: keys::read_key(key)?,
                    approver: self.approver.clone(),
                    assume_yes: self.yes,
                };
                let api = self.remote.connect()?;
                let statement =
                    approvals::sign(&api, run, Decision::Approve, None, &signer).await?;
                let Some(envelope) = statement else {
                    return Err(approvals::nothing_signed());
                };
                let mut body = json!({ "run_id": run, "envelope": envelope });
                if let Some(ttl) = self.ttl {
                    body["ttl_seconds"] = ttl.into();
                }
                api.post("/v1/tokens/elevated", &body).await?
            }
            _ => {
                return Err(Failure::usage(
                    "name a job, or --elevated with --run and --key",
                ));
            }
        };
        if self.remote.json {
            term::print_json(&token);
            return Ok(());
        }
        anstream::println!("{}", term::text(&token, "token"));
        anstream::eprintln!("hash     {}", term::text(&token, "token_hash"));
        anstream::eprintln!("scopes   {}", listed(&token["scopes"]));
        anstream::eprintln!("expires  {}", term::text(&token, "expires_at"));
        anstream::eprintln!(
            "The token is shown this once; hand it to the agent and to nobody else."
        );
        Ok(())
    }
}

fn listed(value: &Value) -> String {
    let texts: Vec<String> = term::items(value)
        .iter()
        .filter_map(Value::as_str)
        .map(term::plain)
        .collect();
    texts.join(" ")
}

async fn inspect(which: &Which, remote: &Remote) -> Result<(), Failure> {
    let body = which.body()?;
    let answer = remote
        .connect()?
        .post("/v1/tokens/introspect", &body)
        .await?;
    if remote.json {
        term::print_json(&answer);
    } else {
        job::print_members(&answer);
    }
    Ok(())
}

/// Revokes a token; `clawgate rollback token` does the same.
pub(super) async fn revoke(
    which: &Which,
    reason: &str,
    remote: &Remote,
    path: &str,
) -> Result<(), Failure> {
    let mut body = which.body()?;
    body["reason"] = reason.into();
    let answer = remote.connect()?.post(path, &body).await?;
    if remote.json {
        term::print_json(&answer);
    } else {
        anstream::println!("revoked: the next call with it is refused");
    }
    Ok(())
}

impl Which {
    /// A token's text never stands on a command line, where others could read it.
    fn body(&self) -> Result<Value, Failure> {
        let hash = self.token.len() == 64 && self.token.bytes().all(|b| b.is_ascii_hexdigit());
        if hash {
            return Ok(json!({ "token_hash": self.token.to_ascii_lowercase() }));
        }
        if self.token != "-" {
            return Err(
                Failure::usage("a token on the command line can be read by others").next(
                    "give its hash (64 hexadecimal digits), or `-` and the token on standard input",
                ),
            );
        }
        let mut text = String::new();
        std::io::stdin()
            .take(MAX_TOKEN_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(format!("no token on standard input: {error}")))?;
        match text.trim() {
            "" => Err(Failure::usage("no token on standard input")),
            token => Ok(json!({ "token": token })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_named_by_its_hash_never_on_the_command_line() {
        let body = |token: &str| {
            Which {
                token: token.to_owned(),
            }
            .body()
        };
        let hash = "AB".repeat(32);
        assert_eq!(body(&hash).unwrap()["token_hash"], "ab".repeat(32));
        for bad in ["eyJhbGciOiJFZERTQSJ9.e30.x", "abcd", &"zz".repeat(32)] {
            assert!(body(bad).unwrap_err().is_usage(), "{bad}");
        }
    }
}
