//! What an operator did as a flat line.

use serde_json::{Value, json};
use store::NumberedAction;

use super::Line;

/// The names of a line's values. Their order stays; new ones come at the end.
pub const COLUMNS: [&str; 8] = [
    "action_index",
    "time",
    "person",
    "action",
    "subject",
    "outcome",
    "reasons",
    "detail",
];

/// An action's values.
pub fn line(row: &NumberedAction) -> Line {
    let action = &row.action;
    let mut detail = json!(action.detail);
    // Why it failed stands for itself, and so does what the operator gave as a reason.
    let mut take = |name: &str| match &mut detail {
        Value::Object(members) => members.remove(name),
        _ => None,
    };
    let failed = take("failed");
    let outcome = match failed {
        Some(_) => "failed",
        None => "done",
    };
    let reasons = failed.or_else(|| take("reason"));
    let detail = match &detail {
        Value::Object(members) if members.is_empty() => Value::Null,
        other => other.to_string().into(),
    };
    Line {
        columns: &COLUMNS,
        values: vec![
            row.number.into(),
            action.at.to_string().into(),
            action.operator.as_str().into(),
            action.action.as_str().into(),
            action.subject.as_str().into(),
            outcome.into(),
            reasons.unwrap_or_default(),
            detail,
        ],
    }
}
