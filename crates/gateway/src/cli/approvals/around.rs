//! What stands around the workspace of a plan.

use serde_json::Value;

use super::super::term::{self, BAD, OFF, WARN};
use crate::approvals::question;

/// What an approver must know besides the plan, one line each.
pub(super) fn lines(approval: &Value) -> Vec<String> {
    let remarks = question::remarks(&approval["summary"], &approval["outside"]);
    let line = |remark: question::Remark| {
        let style = if remark.grave { BAD } else { WARN };
        let (lead, rest) = (term::plain(&remark.lead), term::plain(&remark.rest));
        format!("{style}{lead}{OFF}{rest}")
    };
    remarks.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_from_elsewhere_cannot_paint() {
        let lines = lines(&json!({
            "outside": [{"says": "run run-9 was made\u{1b}[2J", "at": "2026-11-22"}],
            "summary": {"reach": {"downstream": [
                {"workspace_id": "ws-net", "name": "net\u{202e}work", "auto_applies": true},
            ]}},
        }));
        let text = anstream::adapter::strip_str(&lines.join("\n")).to_string();
        let says = "an apply starts a run in ws-net (net\\u{202e}work), which applies by itself\n\
                    meanwhile run run-9 was made\\u{1b}[2J 2026-11-22";
        assert_eq!(text, says);
    }
}
