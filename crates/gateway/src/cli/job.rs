//! `clawgate job`: the frame in which an agent works.

use clap::{Subcommand, ValueEnum};
use proof::Hash;
use proof::record::JobId;
use serde_json::{Value, json};

use super::client::job_id;
use super::term::{self, BOLD, OFF};
use super::{Failure, Remote, top};

/// Opens, shows and closes jobs.
#[derive(Debug, Subcommand)]
pub(super) enum Job {
    /// Opens a job under a published contract
    #[command(after_help = "\
Examples:
  clawgate job open 'resize the staging database' --contract terraform-cloud-staging-only
  clawgate job open nightly --contract _SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc --json

A name stands for its latest version that is not withdrawn; a hash for that version exactly.")]
    Open {
        /// What the job is for, in your words; reviewers read it
        name: String,
        /// The contract: its name, or the hash of one version
        #[arg(long, value_name = "NAME|HASH")]
        contract: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows a job with its runs and tokens
    #[command(
        after_help = "Example:\n  clawgate job show job_0198c1f2-7e1b-7d64-9e3c-2f6a5b1c9d10"
    )]
    Show {
        /// The job
        #[arg(value_parser = job_id)]
        job: JobId,
        #[command(flatten)]
        remote: Remote,
    },
    /// Closes a job and seals its proof bundle
    #[command(after_help = "\
Examples:
  clawgate job close job_0198… --reason 'plan applied'
  clawgate bundle get job_0198… -o bundle.json

Its tokens are refused from then on. Closing twice gives the same bundle.")]
    Close {
        /// The job
        #[arg(value_parser = job_id)]
        job: JobId,
        /// Why, in your words; it is recorded
        #[arg(long, default_value = "done")]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows what jobs are doing as it happens: calls in flight, tokens, spend, refusals
    #[command(after_help = "\
Examples:
  clawgate jobs top
  clawgate job top job_0198…
  clawgate job top --once
  clawgate job top --json | jq -c '.jobs[] | [.name, .in_flight, .refused]'

On a terminal the picture is drawn anew when something changes, until Ctrl-C. Elsewhere each
change is a line; with --json, a line of JSON. One job's lines end with the job.")]
    Top {
        /// Only this job, open or not; all open ones without it
        #[arg(value_parser = job_id)]
        job: Option<JobId>,
        /// Show it once and end
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lists jobs, newest first
    #[command(after_help = "Example:\n  clawgate job list --state open")]
    List {
        /// Only jobs in this state
        #[arg(long, value_enum)]
        state: Option<State>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum State {
    /// Takes calls.
    Open,
    /// Takes none; its bundle is not there yet.
    Closed,
    /// Its bundle is there.
    Sealed,
}

impl Job {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Open {
                name,
                contract,
                remote,
            } => open(&name, &contract, &remote).await,
            Self::Show { job, remote } => show(&job, &remote).await,
            Self::Close {
                job,
                reason,
                remote,
            } => close(&job, &reason, &remote).await,
            Self::Top { job, once, remote } => top::run(job.as_ref(), once, &remote).await,
            Self::List {
                state,
                limit,
                remote,
            } => list(state, limit, &remote).await,
        }
    }
}

/// What opens a job, under the version of a hash or the latest of a name.
pub(super) fn opening(name: &str, contract: &str) -> Value {
    match named_hash(contract) {
        Some(hash) => json!({ "name": name, "policy_hash_b64u": hash }),
        None => json!({ "name": name, "contract": contract }),
    }
}

async fn open(name: &str, contract: &str, remote: &Remote) -> Result<(), Failure> {
    let body = opening(name, contract);
    let job = remote.connect()?.post("/v1/jobs", &body).await?;
    if remote.json {
        term::print_json(&job);
        return Ok(());
    }
    // The id alone on standard output, so that a script can take it.
    anstream::println!("{}", term::text(&job, "job_id"));
    anstream::eprintln!("agent key  {}", term::text(&job, "agent_did"));
    anstream::eprintln!("contract   {}", term::text(&job, "policy_hash_b64u"));
    anstream::eprintln!("next: clawgate token issue {}", term::text(&job, "job_id"));
    Ok(())
}

async fn show(job: &JobId, remote: &Remote) -> Result<(), Failure> {
    let api = remote.connect()?;
    let mut shown = api.get(&format!("/v1/jobs/{job}")).await?;
    let runs = api.get(&format!("/v1/jobs/{job}/runs")).await?;
    let tokens = api.get(&format!("/v1/jobs/{job}/tokens")).await?;
    if remote.json {
        if let Value::Object(members) = &mut shown {
            members.insert("runs".into(), Value::Array(term::items(&runs).to_vec()));
            members.insert("tokens".into(), Value::Array(term::items(&tokens).to_vec()));
        }
        term::print_json(&shown);
        return Ok(());
    }
    anstream::println!("{BOLD}{}{OFF}", term::text(&shown, "name"));
    let names = [
        "job_id",
        "state",
        "opened_at",
        "opened_by",
        "closed_at",
        "closed_by",
        "close_reason",
        "agent_did",
        "policy_hash_b64u",
        "bundle_sha256_b64u",
        "trust_pulse",
    ];
    let mut facts = names.map(|name| (name, term::text(&shown, name))).to_vec();
    for name in [
        "calls",
        "model_calls",
        "refusals",
        "approvals",
        "denials",
        "applies",
    ] {
        facts.push((name, term::text(&shown["counters"], name)));
    }
    term::print_facts(&facts);
    anstream::println!("\n{BOLD}Runs{OFF}");
    let rows: Vec<Vec<String>> = term::items(&runs)
        .iter()
        .map(|run| {
            [
                "run_id",
                "workspace_id",
                "gate",
                "status",
                "state_version_after",
            ]
            .map(|name| term::text(run, name))
            .to_vec()
        })
        .collect();
    term::print_table(
        &["run", "workspace", "gate", "status", "made state"],
        &rows,
        "none",
    );
    anstream::println!("\n{BOLD}Tokens{OFF}");
    let rows: Vec<Vec<String>> = term::items(&tokens)
        .iter()
        .map(|token| {
            [
                "token_hash",
                "expires_at",
                "holder",
                "revoked_at",
                "replays_refused",
            ]
            .map(|name| term::text(token, name))
            .to_vec()
        })
        .collect();
    term::print_table(
        &["token hash", "expires", "holder", "revoked", "replays"],
        &rows,
        "none",
    );
    Ok(())
}

async fn close(job: &JobId, reason: &str, remote: &Remote) -> Result<(), Failure> {
    let path = format!("/v1/jobs/{job}/close");
    let closed = remote
        .connect()?
        .post(&path, &json!({ "reason": reason }))
        .await?;
    if remote.json {
        term::print_json(&closed);
        return Ok(());
    }
    print_members(&closed);
    anstream::eprintln!("next: clawgate bundle get {job} -o bundle.json");
    Ok(())
}

async fn list(state: Option<State>, limit: u32, remote: &Remote) -> Result<(), Failure> {
    let state = match state {
        None => String::new(),
        Some(State::Open) => "&state=open".to_owned(),
        Some(State::Closed) => "&state=closed".to_owned(),
        Some(State::Sealed) => "&state=sealed".to_owned(),
    };
    let jobs = remote
        .connect()?
        .get(&format!("/v1/jobs?limit={limit}{state}"))
        .await?;
    if remote.json {
        term::print_json(&jobs);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = term::items(&jobs)
        .iter()
        .map(|job| {
            ["job_id", "state", "opened_at", "opened_by", "name"]
                .map(|name| term::text(job, name))
                .to_vec()
        })
        .collect();
    term::print_table(&["job", "state", "opened", "by", "name"], &rows, "no jobs");
    Ok(())
}

/// Prints every member that is a text, a number or a yes or no; one level of nesting is named by
/// a dot.
pub(super) fn print_members(value: &Value) {
    let mut facts: Vec<(String, String)> = Vec::new();
    for (name, member) in value.as_object().into_iter().flatten() {
        match member {
            Value::Object(inner) => facts.extend(
                inner
                    .keys()
                    .filter(|key| !member[key.as_str()].is_object())
                    .map(|key| (format!("{name}.{key}"), term::text(member, key))),
            ),
            _ => facts.push((name.clone(), term::text(value, name))),
        }
    }
    let facts: Vec<(&str, String)> = facts
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    term::print_facts(&facts);
}

/// Whether a text is a contract's hash and not a name: names have lower case only, and a hash
/// without any capital or underline does not happen.
pub(super) fn named_hash(text: &str) -> Option<Hash> {
    let name = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if name { None } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_hashes_are_told_apart() {
        assert!(named_hash("_SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJmc").is_some());
        assert!(named_hash("terraform-cloud-staging-only").is_none());
        assert!(named_hash(&"a".repeat(43)).is_none());
        assert!(named_hash("_SH3H30gj5P8XcFAO1z8xeUAmIDffUMvFHci-MQhJm").is_none());
    }
}
