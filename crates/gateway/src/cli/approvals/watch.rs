//! `clawgate approvals watch`: the gateway tells of each plan that begins to wait.

use std::collections::BTreeSet;

use proof::approval::Changes;
use serde_json::{Value, json};

use crate::approvals::question::in_words;
use crate::cli::again::Again;
use crate::cli::client::Lines;
use crate::cli::term::{self, BAD, DIM, GOOD, OFF};
use crate::cli::{Failure, Remote};

/// Tells until Ctrl-C. A gateway that is gone for a while is waited for; one that never was there
/// is an error at once.
pub(super) async fn run(remote: &Remote) -> Result<(), Failure> {
    let api = remote.connect()?;
    let mut told = Told::default();
    let mut again = Again::default();
    let mut stop = std::pin::pin!(crate::server::stop_signal());
    loop {
        let telling = async {
            let mut lines = api.lines("/v1/approvals/watch").await?;
            again.reached();
            tell(&mut lines, &mut told, &mut again, remote.json).await
        };
        let failure = tokio::select! {
            ended = telling => match ended {
                Ok(End::NobodyReads) => return Ok(()),
                Ok(End::Gateway) => Failure::new("the gateway stops, or has shut us out"),
                Err(failure) => failure,
            },
            _ = &mut stop => return Ok(()),
        };
        let pause = again.pause(failure)?;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = &mut stop => return Ok(()),
        }
    }
}

/// Why telling ended.
enum End {
    /// The gateway has ended it.
    Gateway,
    /// Whoever read our output has gone.
    NobodyReads,
}

async fn tell(
    lines: &mut Lines,
    told: &mut Told,
    again: &mut Again,
    json: bool,
) -> Result<End, Failure> {
    let mut name = String::new();
    told.begin();
    while let Some(line) = lines.next().await? {
        if let Some(event) = line.strip_prefix("event: ") {
            name = event.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).map_err(|_| {
                Failure::new("the gateway sends something that is not JSON").lasting()
            })?;
            // It has told of all that wait; before that it may break off at the same one again.
            if name == "ready" {
                again.well();
            }
            for line in told.lines(&name, data, json) {
                if !printed(&line) {
                    return Ok(End::NobodyReads);
                }
            }
        }
    }
    Ok(End::Gateway)
}

fn printed(line: &str) -> bool {
    use std::io::Write as _;
    let mut out = anstream::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// Plans that were told of and wait still.
#[derive(Debug, Default)]
struct Told {
    known: BTreeSet<String>,
    /// Those of them that the gateway has named since the connection began.
    named: BTreeSet<String>,
}

impl Told {
    /// A connection begins: the gateway names all that wait, then says that it has.
    fn begin(&mut self) {
        self.named.clear();
    }

    /// What to print of an event; nothing of a plan that was told of before.
    fn lines(&mut self, event: &str, mut data: Value, json: bool) -> Vec<String> {
        let run = data["run_id"].as_str().unwrap_or_default().to_owned();
        let printed = |event: &str, data: &mut Value| match (json, event) {
            (true, _) => {
                data["event"] = json!(event);
                data.to_string()
            }
            (false, "waiting") => announcement(data),
            (false, _) => farewell(data),
        };
        match event {
            "waiting" => {
                self.named.insert(run.clone());
                match self.known.insert(run) {
                    true => vec![printed("waiting", &mut data)],
                    false => Vec::new(),
                }
            }
            "ended" if self.known.remove(&run) => vec![printed("ended", &mut data)],
            // What is not named any more has ended while the connection was lost.
            "ready" => {
                let gone = self.known.difference(&self.named);
                let lines =
                    gone.map(|run| printed("ended", &mut json!({ "run_id": run, "state": null })));
                let lines = lines.collect();
                self.known = std::mem::take(&mut self.named);
                lines
            }
            _ => Vec::new(),
        }
    }
}

fn announcement(approval: &Value) -> String {
    let subject = &approval["subject"];
    let changes: Option<Changes> = serde_json::from_value(subject["changes"].clone()).ok();
    let style = match &changes {
        Some(changes) if changes.is_destructive() => BAD,
        _ => GOOD,
    };
    format!(
        "{style}{}{OFF}: {} in {}, until {}",
        term::text(approval, "run_id"),
        changes.map_or("-".into(), |changes| in_words(&changes)),
        term::text(subject, "workspace_id"),
        term::text(approval, "expires_at")
    )
}

fn farewell(run: &Value) -> String {
    let state = match run["state"].is_null() {
        true => "waits no longer".to_owned(),
        false => term::text(run, "state").replace('_', " "),
    };
    format!("{DIM}{}: {state}{OFF}", term::text(run, "run_id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plan_is_told_once_for_as_long_as_it_waits() {
        let mut told = Told::default();
        let plan = |run: &str| {
            json!({
                "run_id": run, "expires_at": "2026-11-22",
                "subject": {"workspace_id": "ws-a", "changes": {
                    "create": 0, "update": 0, "delete": 2, "replace": 0, "forget": 0, "import": 0,
                }},
            })
        };
        let ended = |run: &str| json!({"run_id": run, "state": "denied"});
        let plain = |lines: Vec<String>| -> Vec<String> {
            let lines = lines.iter();
            lines
                .map(|line| anstream::adapter::strip_str(line).to_string())
                .collect()
        };
        let first = "run-1\\u{1b}[2J: 2 to destroy in ws-a, until 2026-11-22";
        let hostile = "run-1\u{1b}[2J";
        let ready = || json!({"waiting": 0});
        let story: [(&str, Value, &[&str]); 11] = [
            ("waiting", plan(hostile), &[first]),
            ("ready", ready(), &[]),
            ("ended", ended("run-2"), &[]),
            ("begin", ready(), &[]),
            ("waiting", plan(hostile), &[]),
            ("ready", ready(), &[]),
            ("begin", ready(), &[]),
            ("ready", ready(), &["run-1\\u{1b}[2J: waits no longer"]),
            ("waiting", plan(hostile), &[first]),
            ("ended", ended(hostile), &["run-1\\u{1b}[2J: denied"]),
            ("something", plan("run-3"), &[]),
        ];
        for (step, (event, data, lines)) in story.into_iter().enumerate() {
            if event == "begin" {
                told.begin();
            }
            assert_eq!(plain(told.lines(event, data, false)), lines, "{step}");
        }
        let lines = told.lines("waiting", plan("run-9"), true);
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&line["event"], &line["run_id"]),
            (&json!("waiting"), &json!("run-9"))
        );
    }
}
