//! What stands around the workspace of a plan.

use serde_json::Value;

use super::super::term::{self, BAD, DIM, OFF, WARN};
use super::super::watch;

/// What an approver must know besides the plan: where an apply leads, who reads the state, how
/// the settings differ from the accepted ones, and what happened outside the gateway meanwhile.
pub(super) fn lines(approval: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let summary = &approval["summary"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for other in list(&summary["reach"]["downstream"]) {
        let (style, then) = match &other["auto_applies"] {
            Value::Bool(false) => (WARN, "which waits for confirmation"),
            Value::Bool(true) => (BAD, "which applies by itself"),
            _ => (BAD, "of which it is not known whether it applies by itself"),
        };
        let way = match &other["by_way_of"] {
            Value::String(_) => format!(" by way of {}", term::text(&other, "by_way_of")),
            _ => String::new(),
        };
        lines.push(format!(
            "{style}an apply starts a run in {} ({}){OFF}{way}, {then}",
            term::text(&other, "workspace_id"),
            term::text(&other, "name"),
        ));
    }
    if summary["reach"]["auto_apply"] == true {
        lines.push(format!(
            "{WARN}auto-apply is on{OFF}: runs past the gateway apply by themselves here"
        ));
    }
    let state = &summary["reach"]["state_read_by"];
    let mut readers: Vec<String> = list(&state["workspaces"])
        .iter()
        .filter_map(Value::as_str)
        .map(term::plain)
        .collect();
    if state["project"] == true {
        readers.insert(0, "the whole project".to_owned());
    }
    if state["organization"] == true {
        readers.insert(0, "the whole organization".to_owned());
    }
    if !readers.is_empty() {
        let readers = readers.join(", ");
        lines.push(format!("{WARN}the state is read by{OFF} {readers}"));
    } else if !state.is_null() && state["workspaces"].is_null() {
        lines.push(format!("{WARN}who reads the state is not known{OFF}"));
    }
    let drift = watch::drift_lines(&summary["drift"]).unwrap_or_default();
    let drift = drift
        .into_iter()
        .map(|line| format!("not as accepted: {line}"));
    lines.extend(drift);
    for event in list(&approval["outside"]) {
        lines.push(format!(
            "{WARN}meanwhile{OFF} {} {DIM}{}{OFF}",
            term::text(&event, "says"),
            term::text(&event, "at"),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(approval: &Value) -> String {
        anstream::adapter::strip_str(&lines(approval).join("\n")).to_string()
    }

    #[test]
    fn what_stands_around_the_workspace_is_shown() {
        assert_eq!(text(&json!({"summary": {"listed": true}})), "");
        let quiet = json!({"outside": [], "summary": {
            "drift": [], "reach": {
                "downstream": [],
                "state_read_by": {"organization": false, "project": false, "workspaces": []},
            },
        }});
        assert_eq!(text(&quiet), "");
        let shown = text(&json!({
            "outside": [{"says": "run run-9 was made\u{1b}[2J", "at": "2026-11-22"}],
            "summary": {
                "reach": {
                    "downstream": [
                        {"workspace_id": "ws-net", "name": "network", "auto_applies": true},
                        {"workspace_id": "ws-dns", "name": "dns", "auto_applies": false},
                        {"workspace_id": "ws-log", "name": "logs", "auto_applies": null},
                    ],
                    "state_read_by": {
                        "organization": true, "project": false, "workspaces": ["ws-x"],
                    },
                    "auto_apply": true,
                },
                "drift": [
                    {"setting": "auto-apply", "before": false, "after": true, "opens": true},
                ],
            },
        }));
        let expected = [
            "an apply starts a run in ws-net (network), which applies by itself",
            "an apply starts a run in ws-dns (dns), which waits for confirmation",
            "an apply starts a run in ws-log (logs), of which it is not known whether it applies \
             by itself",
            "auto-apply is on: runs past the gateway apply by themselves here",
            "the state is read by the whole organization, ws-x",
            "not as accepted: auto-apply: off -> on",
            "meanwhile run run-9 was made\\u{1b}[2J 2026-11-22",
        ];
        assert_eq!(shown, expected.join("\n"));
    }

    #[test]
    fn what_could_not_be_read_is_said() {
        let hidden = json!({"summary": {"reach": {
            "downstream": [],
            "state_read_by": {"organization": false, "project": false, "workspaces": null},
        }}});
        assert_eq!(text(&hidden), "who reads the state is not known");
    }
}
