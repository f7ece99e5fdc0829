//! `clawgate approvals`: plans that wait for a person.
//!
//! The approver signs here, with a key that never leaves this machine, exactly the subject that
//! was printed. The gateway cannot sign for anybody.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use proof::approval::{Changes, Decision};
use proof::{Envelope, SigningKey};
use serde_json::{Value, json};

use super::client::id;
use super::term::{self, BAD, GOOD, OFF};
use super::{Failure, OperatorApi, Remote};
use crate::approvals::question::in_words;
use crate::{app, keys};

mod around;
mod shown;
mod watch;

use shown::Shown;

/// Lists, shows and decides about plans that wait for approval.
#[derive(Debug, Subcommand)]
pub(super) enum Approvals {
    /// Lists plans that wait for approval
    #[command(
        after_help = "Examples:\n  clawgate approvals list\n  clawgate approvals list --state active --json"
    )]
    List {
        /// Only plans in this state; `active` is every one that has not ended
        #[arg(long, default_value = "awaiting_approval", value_parser = state)]
        state: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Tells of each plan that begins to wait, until you press Ctrl-C
    #[command(after_help = "\
Examples:
  clawgate approvals watch
  clawgate approvals watch --json | jq -r 'select(.event == \"waiting\").run_id'

Plans that wait already come first. The gateway tells of changes; nothing is polled. When the
connection is lost it is made again, and no plan is told of twice. With --json each line has
`event`: `waiting`, with what `approvals list` prints, or `ended`, with the state.")]
    Watch {
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows what one plan would change, destructive changes first
    #[command(after_help = "Example:\n  clawgate approvals show run-CZcmD7eagjhyX0vN")]
    Show {
        /// The run
        #[arg(value_parser = id)]
        run: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Approves one plan: it is applied by the gateway, once
    #[command(after_help = "\
Example:
  clawgate approvals approve run-CZcmD7eagjhyX0vN --key infra-lead.key

Prints what would change and asks. The signature covers the plan's digest: another plan of the
same run needs another approval.")]
    Approve {
        /// The run
        #[arg(value_parser = id)]
        run: String,
        /// Why, in your words; it is signed
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        remote: Remote,
    },
    /// Denies one plan: it cannot be applied any more
    #[command(after_help = "\
Example:
  clawgate approvals deny run-CZcmD7eagjhyX0vN --key infra-lead.key --reason 'replaces the database'")]
    Deny {
        /// The run
        #[arg(value_parser = id)]
        run: String,
        /// Why, in your words; it is signed and the agent reads it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Who decides.
#[derive(Debug, Args)]
pub(super) struct By {
    /// The approver's key file; it is not sent
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The approver's e-mail address; without it, the one enrolled for the key
    #[arg(long, value_name = "EMAIL")]
    approver: Option<String>,
    /// Do not ask before signing
    #[arg(long)]
    yes: bool,
}

/// An approver at this machine.
pub(super) struct Signer {
    /// The approver's own key.
    pub(super) key: SigningKey,
    /// The address, when it was given.
    pub(super) approver: Option<String>,
    /// Sign without asking.
    pub(super) assume_yes: bool,
}

/// `active`, or a state that is not an end; runs that have ended are listed with their job.
fn state(text: &str) -> Result<String, String> {
    let states = store::GateState::ALL
        .into_iter()
        .filter(|state| !state.is_final());
    let states: Vec<&str> = states.map(store::GateState::as_str).collect();
    if text == "active" || states.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("the states are active, {}", states.join(", ")))
}

impl Approvals {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { state, remote } => list(&state, &remote).await,
            Self::Watch { remote } => watch::run(&remote).await,
            Self::Show { run, remote } => {
                let api = remote.connect()?;
                let approval = api.get(&format!("/v1/approvals/{run}")).await?;
                if remote.json {
                    term::print_json(&approval);
                    return Ok(());
                }
                Shown::read(&approval, &run)?.print(&approval);
                Ok(())
            }
            Self::Approve {
                run,
                reason,
                by,
                remote,
            } => decide(&run, Decision::Approve, reason, by, &remote).await,
            Self::Deny {
                run,
                reason,
                by,
                remote,
            } => decide(&run, Decision::Deny, Some(reason), by, &remote).await,
        }
    }
}

async fn list(state: &str, remote: &Remote) -> Result<(), Failure> {
    let path = format!("/v1/approvals?state={state}");
    let approvals = remote.connect()?.get(&path).await?;
    if remote.json {
        term::print_json(&approvals);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = term::items(&approvals)
        .iter()
        .map(|approval| {
            let subject = &approval["subject"];
            vec![
                term::text(approval, "run_id"),
                term::text(approval, "state"),
                term::text(subject, "workspace_id"),
                serde_json::from_value(subject["changes"].clone())
                    .map_or("-".into(), |changes: Changes| in_words(&changes)),
                term::text(approval, "expires_at"),
            ]
        })
        .collect();
    term::print_table(
        &["run", "state", "workspace", "changes", "expires"],
        &rows,
        "nothing waits",
    );
    Ok(())
}

async fn decide(
    run: &str,
    decision: Decision,
    reason: Option<String>,
    by: By,
    remote: &Remote,
) -> Result<(), Failure> {
    let key = keys::read_key(&by.key)?;
    let signer = Signer {
        key,
        approver: by.approver,
        assume_yes: by.yes,
    };
    let api = remote.connect()?;
    let Some(envelope) = sign(&api, run, decision, reason, &signer).await? else {
        return Err(nothing_signed());
    };
    let path = format!("/v1/approvals/{run}");
    let answer = api.post(&path, &json!({ "envelope": envelope })).await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    match (decision, term::text(&answer, "state").as_str()) {
        (Decision::Deny, _) => anstream::println!("{BAD}denied{OFF}: the plan cannot be applied"),
        (Decision::Approve, "awaiting_approval") => anstream::println!(
            "{GOOD}signed{OFF}: {} of {} approvals",
            term::text(&answer, "given"),
            term::text(&answer, "needed")
        ),
        (Decision::Approve, state) => {
            anstream::println!("{GOOD}approved{OFF}: the gateway takes it from here ({state})");
        }
    }
    Ok(())
}

/// The approver looked and did not sign.
pub(super) fn nothing_signed() -> Failure {
    Failure::new("nothing was signed")
}

/// Fetches what waits, prints it, asks, and signs exactly what was printed. `None` when the
/// answer to the question was no.
///
/// # Errors
/// When the gateway's answer contradicts itself, or there is nothing to decide.
pub(super) async fn sign(
    api: &OperatorApi,
    run: &str,
    decision: Decision,
    reason: Option<String>,
    signer: &Signer,
) -> Result<Option<Envelope>, Failure> {
    let approval = api.get(&format!("/v1/approvals/{run}")).await?;
    let now = app::now();
    let shown = Shown::read(&approval, run)?;
    shown.check_open(decision, now)?;
    let approver = match &signer.approver {
        Some(email) => email.clone(),
        None => enrolled_for(&api.get("/v1/trust").await?, &signer.key)?,
    };
    shown.print_to_stderr(&approval);
    let verb = match decision {
        Decision::Approve => "Approve",
        Decision::Deny => "Deny",
    };
    let question = format!("{verb} this plan as {}?", term::plain(&approver));
    if !signer.assume_yes && !term::confirm(&question)? {
        return Ok(None);
    }
    Ok(Some(shown.sign(
        decision,
        approver,
        reason,
        &signer.key,
        now,
    )?))
}

/// The address that is enrolled for a key; it must be exactly one.
fn enrolled_for(trust: &Value, key: &SigningKey) -> Result<String, Failure> {
    let did = key.did();
    let emails: Vec<&str> = trust["approvers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|approver| approver["did"] == did.as_str())
        .filter_map(|approver| approver["email"].as_str())
        .collect();
    match emails[..] {
        [email] => Ok(email.to_owned()),
        [] => Err(
            Failure::new(format!("the gateway knows no approver with the key {did}"))
                .next("the operator adds it to clawgate.toml under [[approvers]]"),
        ),
        _ => Err(Failure::usage("this key is enrolled for several approvers")
            .next("say which one with --approver EMAIL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_enrolled_for_the_key() {
        let key = SigningKey::from_seed(&[3; 32]);
        let did = key.did();
        let trust = |emails: &[&str]| {
            let approvers: Vec<Value> = emails
                .iter()
                .map(|email| json!({"email": email, "did": did}))
                .collect();
            json!({ "approvers": approvers })
        };
        assert_eq!(
            enrolled_for(&trust(&["a@example.com"]), &key).unwrap(),
            "a@example.com"
        );
        assert!(enrolled_for(&trust(&[]), &key).is_err());
        assert!(enrolled_for(&trust(&["a@example.com", "b@example.com"]), &key).is_err());
    }
}
