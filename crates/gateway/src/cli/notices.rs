//! `clawgate notices`: where people are told of plans that wait.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::segment;
use super::term::{self, BAD, BOLD, DIM, GOOD, OFF, WARN};
use super::{Failure, Remote};
use crate::{keys, notices};

/// Shows and tries the places where people are told of plans that wait.
#[derive(Debug, Subcommand)]
pub(super) enum Notices {
    /// Lists the channels, and what became of their latest notices
    #[command(after_help = "Examples:\n  clawgate notices list\n  clawgate notices list --json")]
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Sends a test message, and says what the other side answered
    #[command(after_help = "\
Examples:
  clawgate notices test
  clawgate notices test ops

Without a name every channel is tried. Exit code 1 when one of them does not take it.")]
    Test {
        /// The channel, as the configuration names it
        name: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Makes a key that signs a webhook's calls, in a new file that only its owner may read
    #[command(after_help = "\
Example:
  clawgate notices key webhook.key

The receiver is given the same: any library for Standard Webhooks takes it.")]
    Key {
        /// The file; it must not exist
        file: PathBuf,
    },
}

impl Notices {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { remote } => list(&remote).await,
            Self::Test { name, remote } => test(name.as_deref(), &remote).await,
            Self::Key { file } => key(&file),
        }
    }
}

async fn list(remote: &Remote) -> Result<(), Failure> {
    let answer = remote.connect()?.get("/v1/notices").await?;
    if remote.json {
        term::print_json(&answer);
        return Ok(());
    }
    let channels = term::items(&answer);
    if channels.is_empty() {
        anstream::println!("nobody is told: the configuration has no [notices.NAME]");
    }
    for channel in channels {
        let events = channel["events"].as_array().into_iter().flatten();
        let events: Vec<&str> = events.filter_map(Value::as_str).collect();
        anstream::println!(
            "{BOLD}{}{OFF}  {} to {}",
            term::text(channel, "name"),
            term::text(channel, "kind"),
            term::text(channel, "place"),
        );
        anstream::println!("  {DIM}tells{OFF} {}", events.join(", "));
        for notice in term::items(&channel["notices"]) {
            anstream::println!("  {}", line(notice));
        }
    }
    Ok(())
}

/// What became of one notice.
fn line(notice: &Value) -> String {
    let (style, state) = match notice["state"].as_str() {
        Some("sent") => (GOOD, "sent"),
        Some("waiting") => (WARN, "waits"),
        Some("overtaken") => (DIM, "overtaken"),
        _ => (BAD, "given up"),
    };
    let mut line = format!(
        "{style}{state:9}{OFF} {} {} {DIM}{}{OFF}",
        term::text(notice, "run_id"),
        term::text(notice, "event"),
        term::text(notice, "last_at"),
    );
    if notice["error"].is_string() {
        line.push_str(&format!(
            "\n            {} attempts: {}",
            term::text(notice, "attempts"),
            term::text(notice, "error")
        ));
    }
    if notice["next_at"].is_string() {
        line.push_str(&format!("; next at {}", term::text(notice, "next_at")));
    }
    line
}

async fn test(name: Option<&str>, remote: &Remote) -> Result<(), Failure> {
    let api = remote.connect()?;
    let names = match name {
        Some(name) => vec![segment(name, "a channel's name")?.to_owned()],
        None => {
            let answer = api.get("/v1/notices").await?;
            let channels = term::items(&answer).iter();
            let names: Vec<String> = channels
                .filter_map(|channel| channel["name"].as_str().map(str::to_owned))
                .collect();
            if names.is_empty() {
                return Err(Failure::new("nobody is told: there is no channel")
                    .next("set [notices.NAME] in the configuration"));
            }
            names
        }
    };
    let mut answers = Vec::new();
    for name in &names {
        let name = segment(name, "a channel's name")?;
        answers.push(
            api.post(&format!("/v1/notices/{name}/test"), &json!({}))
                .await?,
        );
    }
    if remote.json {
        term::print_json(&json!({ "tests": answers }));
    } else {
        for answer in &answers {
            let (style, word) = match answer["taken"] == true {
                true => (GOOD, "taken"),
                false => (BAD, "not taken"),
            };
            let (name, said) = (term::text(answer, "channel"), term::text(answer, "said"));
            anstream::println!("{BOLD}{name}{OFF}  {style}{word}{OFF}  {said}");
        }
    }
    let failed = answers.iter().filter(|answer| answer["taken"] != true);
    let failed: Vec<String> = failed.map(|answer| term::text(answer, "channel")).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("not taken by {}", failed.join(", ")))
        .next("correct [notices.NAME] in the configuration, restart the gateway, and test again"))
}

fn key(file: &Path) -> Result<(), Failure> {
    keys::write_private(file, notices::new_key().as_bytes())
        .map_err(|error| Failure::from(error).next("an existing file is never overwritten"))?;
    anstream::println!("key = {{ file = \"{}\" }}", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_reads_in_a_line_and_cannot_paint() {
        let notice = json!({
            "run_id": "run-1", "event": "denied", "state": "waiting", "attempts": 2,
            "last_at": "2026-11-22T08:00:00.000Z", "next_at": "2026-11-22T08:01:00.000Z",
            "error": "it answered 500\u{1b}[2J",
        });
        let text = anstream::adapter::strip_str(&line(&notice)).to_string();
        assert_eq!(
            text,
            "waits     run-1 denied 2026-11-22T08:00:00.000Z\n            2 attempts: it answered \
             500\\u{1b}[2J; next at 2026-11-22T08:01:00.000Z"
        );
        let sent = json!({"run_id": "run-1", "event": "denied", "state": "sent", "last_at": "x"});
        let text = anstream::adapter::strip_str(&line(&sent)).to_string();
        assert_eq!(text, "sent      run-1 denied x");
    }
}
