//! The answer to Terraform Cloud: passed or failed, in words, with particulars.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use policy::ReasonCode;
use serde_json::{Value, json};

use super::call::Call;
use super::verdict::Verdict;
use crate::app::App;
use crate::cli::term::is_hostile;

/// Waits between the attempts to answer. They end well within the life of the stage's token.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
];

/// Longest message, in characters; Terraform Cloud shows it in one line.
const MAX_MESSAGE: usize = 250;

/// Answers a call; whether upstream took it. An answer that does not arrive is a no: upstream
/// ends the run when a mandatory task says nothing.
pub(super) async fn send(app: &App, call: &Call, verdict: &Verdict) -> bool {
    let body = Bytes::from(document(app, call, verdict).to_string());
    for pause in PAUSES.iter().map(Some).chain([None]) {
        let sent = app
            .upstream
            .call_as(
                &call.token,
                Method::PATCH,
                &call.callback,
                Some(body.clone()),
            )
            .await;
        let failed = match sent {
            Ok(answer) if answer.status.is_success() => return true,
            Ok(answer) if answer.status.is_client_error() && answer.status != 429 => {
                tracing::warn!(
                    run = %call.run,
                    stage = call.stage.as_str(),
                    status = answer.status.as_u16(),
                    "upstream does not take the answer to its run task"
                );
                return false;
            }
            Ok(answer) => format!("upstream answered {}", answer.status.as_u16()),
            Err(error) => error.to_string(),
        };
        tracing::warn!(run = %call.run, failed, "the answer to a run task did not arrive");
        if let Some(pause) = pause {
            tokio::time::sleep(*pause).await;
        }
    }
    false
}

fn document(app: &App, call: &Call, verdict: &Verdict) -> Value {
    let page = page(app, call.task_result.as_str());
    let mut data = json!({
        "type": "task-results",
        "attributes": {
            "status": if verdict.passed { "passed" } else { "failed" },
            "message": plain(&verdict.summary, MAX_MESSAGE),
            "url": page,
        },
    });
    if call.takes_outcomes {
        data["relationships"] = json!({"outcomes": {"data": outcomes(verdict, &page)}});
    }
    json!({ "data": data })
}

/// Where people read about a result.
pub(super) fn page(app: &App, task_result: &str) -> String {
    format!("{}/trust-pulse/tasks/{task_result}", app.operator_url)
}

/// One particular for each finding; one that says what was looked at, when there is none.
fn outcomes(verdict: &Verdict, page: &str) -> Vec<Value> {
    let checked: String = verdict
        .checked
        .iter()
        .map(|checked| {
            format!(
                "- {}: {}\n",
                markdown(&checked.what),
                markdown(&checked.was)
            )
        })
        .collect();
    let contracts: String = verdict
        .contracts
        .iter()
        .map(|asked| format!("- contract {}\n", markdown(&asked.name)))
        .collect();
    if verdict.findings.is_empty() {
        let body = format!("{}\n\n{checked}{contracts}", markdown(&verdict.summary));
        let description = plain(&verdict.summary, MAX_MESSAGE);
        return vec![outcome("CHECKED", description, body, page, Level::Passed)];
    }
    let finding = |(number, finding): (usize, &super::verdict::Finding)| {
        let code: ReasonCode = finding.code;
        let body = format!(
            "**{}**\n\n{}\n\n*What to do:* {}\n\n{checked}{contracts}",
            markdown(code.title()),
            markdown(&finding.detail),
            markdown(code.advice()),
        );
        let id = format!("{code}-{}", number + 1);
        outcome(&id, code.title().to_owned(), body, page, Level::Failed)
    };
    verdict.findings.iter().enumerate().map(finding).collect()
}

#[derive(Clone, Copy)]
enum Level {
    Passed,
    Failed,
}

fn outcome(id: &str, description: String, body: String, page: &str, level: Level) -> Value {
    let status = match level {
        Level::Passed => json!({"label": "Passed", "level": "none"}),
        Level::Failed => json!({"label": "Failed", "level": "error"}),
    };
    let mut tags = json!({"Status": [status]});
    if matches!(level, Level::Failed) {
        tags["Severity"] = json!([{"label": "High", "level": "error"}]);
    }
    json!({
        "type": "task-result-outcomes",
        "attributes": {
            "outcome-id": id,
            "description": description,
            "body": body,
            "url": page,
            "tags": tags,
        },
    })
}

/// One line of text that cannot change how the text around it looks.
fn plain(text: &str, most: usize) -> String {
    let clean = |c| if is_hostile(c) { ' ' } else { c };
    text.chars().take(most).map(clean).collect()
}

/// The same for Markdown: names from a configuration must not become links, images or headings.
fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            out.push(' ');
            continue;
        }
        if c.is_ascii_punctuation() && !matches!(c, ',' | ';' | ' ') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_cannot_write_markdown() {
        let hostile = "[click](http://evil.example)\n# Approved <b>\u{202e}";
        let written = markdown(hostile);
        assert!(!written.contains('\n') && !written.contains('\u{202e}'));
        for open in ["[", "(", "#", "<", "!"] {
            for (at, _) in written.match_indices(open) {
                assert_eq!(written.as_bytes()[at - 1], b'\\', "{written}");
            }
        }
        assert_eq!(plain("a\nb", 2), "a ");
    }
}
