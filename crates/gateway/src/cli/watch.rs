//! `clawgate watch`: what happens to governed workspaces outside the gateway.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::id;
use super::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};
use super::{Failure, Remote};

/// Shows what happened to governed workspaces outside the gateway.
#[derive(Debug, Subcommand)]
pub(super) enum Watch {
    /// Lists the governed workspaces: when each was looked at, and how its settings moved
    #[command(after_help = "Examples:\n  clawgate watch list\n  clawgate watch list --json")]
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows one workspace: its settings against those that were accepted, and what was seen there
    #[command(after_help = "Example:\n  clawgate watch show ws-staging-app")]
    Show {
        /// The workspace
        #[arg(value_parser = id)]
        workspace: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lists what was seen, newest first
    #[command(
        after_help = "Examples:\n  clawgate watch events\n  clawgate watch events --workspace ws-staging-app --json"
    )]
    Events {
        /// Only of this workspace
        #[arg(long, value_parser = id)]
        workspace: Option<String>,
        /// Only those before this number, for the next page
        #[arg(long)]
        before: Option<u64>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Makes a workspace's settings, as they were last seen, those that it should have
    #[command(after_help = "\
Example:
  clawgate watch accept ws-staging-app --reason 'the network team may read the state'

Until then approvers are shown the difference with every plan. The settings of the first look
count as accepted.")]
    Accept {
        /// The workspace
        #[arg(value_parser = id)]
        workspace: String,
        /// Why, in your words; it is recorded
        #[arg(long)]
        reason: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

impl Watch {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { remote } => list(&remote).await,
            Self::Show { workspace, remote } => {
                let answer = remote.connect()?.get(&path(&workspace)).await?;
                if remote.json {
                    term::print_json(&answer);
                } else {
                    show(&answer);
                }
                Ok(())
            }
            Self::Events {
                workspace,
                before,
                remote,
            } => events(workspace.as_deref(), before, &remote).await,
            Self::Accept {
                workspace,
                reason,
                yes,
                remote,
            } => accept(&workspace, &reason, yes, &remote).await,
        }
    }
}

fn path(workspace: &str) -> String {
    format!("/v1/watch/{workspace}")
}

async fn list(remote: &Remote) -> Result<(), Failure> {
    let answer = remote.connect()?.get("/v1/watch").await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = answer["workspaces"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|workspace| {
            let drift = match workspace["drift"].as_array() {
                None => "not looked at yet".to_owned(),
                Some(drift) if drift.is_empty() => "as accepted".to_owned(),
                Some(drift) => drift
                    .iter()
                    .map(|change| term::text(change, "setting"))
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            vec![
                term::text(workspace, "workspace_id"),
                term::text(workspace, "seen_at"),
                term::text(workspace, "accepted_by"),
                drift,
            ]
        })
        .collect();
    let none = "no contract is in use, so no workspace is governed";
    let heading = ["workspace", "last look", "accepted by", "differs in"];
    term::print_table(&heading, &rows, none);
    if answer["poll_seconds"] == 0 && answer["notifications"] == false {
        anstream::println!(
            "{WARN}nothing is watched{OFF}: set watching.poll_seconds or \
             watching.notification_key"
        );
    }
    Ok(())
}

fn show(answer: &Value) {
    term::print_facts(&[
        ("workspace", term::text(answer, "workspace_id")),
        ("governed", term::text(answer, "governed")),
        ("watched since", term::text(answer, "since")),
        ("last look", term::text(answer, "seen_at")),
        ("accepted by", term::text(answer, "accepted_by")),
        ("accepted at", term::text(answer, "accepted_at")),
    ]);
    match drift_lines(&answer["drift"]) {
        None => anstream::println!("{DIM}not looked at yet{OFF}"),
        Some(lines) if lines.is_empty() => {
            anstream::println!("{GOOD}settings as accepted{OFF}");
        }
        Some(lines) => {
            anstream::println!("{BOLD}settings that are not as accepted{OFF}");
            for line in lines {
                anstream::println!("  {line}");
            }
        }
    }
    let events = answer["observations"].as_array();
    let events = events.map_or(&[][..], Vec::as_slice);
    if !events.is_empty() {
        anstream::println!("{BOLD}seen lately{OFF}");
    }
    for event in events {
        anstream::println!(
            "  {DIM}{}{OFF}  {}",
            term::text(event, "at"),
            term::text(event, "says")
        );
    }
}

/// How settings differ, one line each; `None` when nobody has looked.
pub(super) fn drift_lines(drift: &Value) -> Option<Vec<String>> {
    let line = |change: &Value| {
        let style = if change["opens"] == true { BAD } else { WARN };
        let value = |name: &str| {
            let value = proof::Json::from(change[name].clone());
            term::plain(&crate::watching::in_words(&value))
        };
        format!(
            "{style}{}{OFF}: {} -> {}",
            term::text(change, "setting"),
            value("before"),
            value("after")
        )
    };
    Some(drift.as_array()?.iter().map(line).collect())
}

async fn events(
    workspace: Option<&str>,
    before: Option<u64>,
    remote: &Remote,
) -> Result<(), Failure> {
    let mut query = Vec::new();
    query.extend(workspace.map(|workspace| format!("workspace={workspace}")));
    query.extend(before.map(|before| format!("before={before}")));
    let path = match query.is_empty() {
        true => "/v1/observations".to_owned(),
        false => format!("/v1/observations?{}", query.join("&")),
    };
    let answer = remote.connect()?.get(&path).await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = answer["observations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|event| {
            vec![
                term::text(event, "at"),
                term::text(event, "workspace_id"),
                term::text(event, "says"),
            ]
        })
        .collect();
    let none = "nothing was seen outside the gateway";
    term::print_table(&["seen", "workspace", "what"], &rows, none);
    if let Some(next) = answer["next"].as_u64() {
        anstream::println!("{DIM}older ones: clawgate watch events --before {next}{OFF}");
    }
    Ok(())
}

async fn accept(workspace: &str, reason: &str, yes: bool, remote: &Remote) -> Result<(), Failure> {
    let api = remote.connect()?;
    let shown = api.get(&path(workspace)).await?;
    let Some(lines) = drift_lines(&shown["drift"]) else {
        return Err(
            Failure::new(format!("`{workspace}` has not been looked at yet"))
                .next("`clawgate watch list` shows which workspaces are watched"),
        );
    };
    for line in &lines {
        anstream::eprintln!("{line}");
    }
    let question = format!("Accept these settings of {workspace}?");
    if !yes && !term::confirm(&question)? {
        return Err(Failure::new("nothing was accepted"));
    }
    // Exactly what was shown: other settings are refused.
    let body = json!({ "seen": shown["seen"], "reason": reason });
    let answer = api
        .post(&format!("{}/accept", path(workspace)), &body)
        .await?;
    if remote.json {
        term::print_json(&answer);
    } else {
        anstream::println!("{GOOD}accepted{OFF}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_is_told_in_words_that_cannot_paint() {
        assert_eq!(drift_lines(&Value::Null), None);
        assert_eq!(drift_lines(&json!([])), Some(Vec::new()));
        let drift = json!([
            {"setting": "auto-apply", "before": false, "after": true, "opens": true},
            {"setting": "name", "before": "a", "after": "b\u{1b}[2J", "opens": false},
        ]);
        let lines = drift_lines(&drift).unwrap().join("\n");
        let text = anstream::adapter::strip_str(&lines).to_string();
        assert_eq!(text, "auto-apply: off -> on\nname: a -> b\\u{1b}[2J");
    }
}
