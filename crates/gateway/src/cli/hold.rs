//! `clawgate hold`: what must not go.

use clap::Subcommand;
use proof::record::JobId;
use serde_json::{Value, json};

use super::client::job_id;
use super::{Failure, Remote, term};

/// Holds jobs: nothing of them is removed while a hold stands
#[derive(Debug, Subcommand)]
pub(super) enum Hold {
    /// Holds a job, whatever its state
    #[command(after_help = "\
Examples:
  clawgate hold add job_0198… --reason 'case 2026-117'

Needs the role auditor. `clawgate store prune` passes the job over, and vaults keep what was sealed
since it was opened, until every hold on it is lifted. Who held it, when and why is recorded.")]
    Add {
        /// The job
        #[arg(value_parser = job_id)]
        job: JobId,
        /// Why; it is recorded
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lists the holds that stand
    #[command(after_help = "\
Examples:
  clawgate hold list
  clawgate hold list job_0198… --all --json")]
    List {
        /// Of this job only
        #[arg(value_parser = job_id)]
        job: Option<JobId>,
        /// Those that were lifted, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lifts a hold of a job
    #[command(after_help = "\
Examples:
  clawgate hold remove job_0198… --reason 'case closed'
  clawgate hold remove job_0198… --hold 7 --reason 'case closed'

Needs the role auditor. When several holds on the job stand, say which: others stay.")]
    Remove {
        /// The job
        #[arg(value_parser = job_id)]
        job: JobId,
        /// The hold's number, when several stand
        #[arg(long, value_name = "N")]
        hold: Option<u64>,
        /// Why; it is recorded
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
}

impl Hold {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Add {
                job,
                reason,
                remote,
            } => {
                let path = format!("/v1/jobs/{job}/holds");
                let body = json!({ "reason": reason });
                let answer = remote.connect()?.post(&path, &body).await?;
                if remote.json {
                    term::print_json(&answer);
                    return Ok(());
                }
                anstream::println!("hold {} on {job} stands", term::text(&answer, "hold"));
                for gone in term::items(&answer["gone"]) {
                    let gone = gone.as_str().unwrap_or_default();
                    anstream::eprintln!("too late for its {gone}: removed after the retention");
                }
                Ok(())
            }
            Self::List { job, all, remote } => list(job.as_ref(), all, &remote).await,
            Self::Remove {
                job,
                hold,
                reason,
                remote,
            } => {
                let api = remote.connect()?;
                let number = match hold {
                    Some(number) => number,
                    None => only(&api.get(&format!("/v1/holds?job={job}")).await?, &job)?,
                };
                let path = format!("/v1/jobs/{job}/holds/lift");
                let body = json!({ "hold": number, "reason": reason });
                let answer = api.post(&path, &body).await?;
                if remote.json {
                    term::print_json(&answer);
                    return Ok(());
                }
                let standing = answer["standing"].as_u64().unwrap_or_default();
                anstream::println!("hold {number} on {job} is lifted; {standing} others stand");
                Ok(())
            }
        }
    }
}

/// The one hold that stands.
fn only(answer: &Value, job: &JobId) -> Result<u64, Failure> {
    match term::items(answer) {
        [] => Err(Failure::new(format!("no hold on {job} stands"))),
        [one] => one["hold"]
            .as_u64()
            .ok_or_else(|| Failure::new("the gateway's answer has no number of the hold")),
        several => {
            let numbers: Vec<String> = several.iter().map(|one| term::text(one, "hold")).collect();
            let why = format!("{} holds on {job} stand", several.len());
            Err(Failure::usage(why).next(format!("say which: --hold {}", numbers.join(" or "))))
        }
    }
}

async fn list(job: Option<&JobId>, all: bool, remote: &Remote) -> Result<(), Failure> {
    let mut path = format!("/v1/holds?lifted={all}");
    if let Some(job) = job {
        path.push_str(&format!("&job={job}"));
    }
    let answer = remote.connect()?.get(&path).await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = term::items(&answer)
        .iter()
        .map(|one| {
            let lifted = match one["lifted_at"].as_str() {
                Some(at) => format!("lifted {at} by {}", term::text(one, "lifted_by")),
                None => "stands".to_owned(),
            };
            let mut row: Vec<String> = ["hold", "job_id", "placed_at", "placed_by"]
                .map(|name| term::text(one, name))
                .into();
            row.extend([lifted, term::text(one, "reason")]);
            row
        })
        .collect();
    let heading = ["hold", "job", "placed", "by", "state", "reason"];
    term::print_table(&heading, &rows, "no holds stand");
    Ok(())
}
