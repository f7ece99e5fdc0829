//! What was seen, in words.

use proof::Json;
use store::Observation;

/// What can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A run that no job made.
    RunCreated,
    /// An apply that the gateway did not ask for.
    RunApplied,
    /// A state version that no apply and no rollback of ours made.
    StateChanged,
    /// A setting is not what it was.
    SettingChanged,
    /// Not seen but done: a rollback through the gateway.
    RolledBack,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::RunCreated,
        Self::RunApplied,
        Self::StateChanged,
        Self::SettingChanged,
        Self::RolledBack,
    ];

    /// Its stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunCreated => "run.created",
            Self::RunApplied => "run.applied",
            Self::StateChanged => "state.changed",
            Self::SettingChanged => "setting.changed",
            Self::RolledBack => "state.rolled_back",
        }
    }

    /// Whether it can happen to one subject once only.
    pub const fn happens_once(self) -> bool {
        !matches!(self, Self::SettingChanged)
    }
}

/// An observation in one sentence, without a full stop. It may hold what people wrote upstream:
/// whoever shows it escapes it.
pub fn says(observation: &Observation) -> String {
    let subject = &observation.subject;
    let detail = &observation.detail;
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == observation.kind);
    match kind {
        Some(Kind::RunCreated) => {
            let only = detail.get("plan_only").and_then(Json::as_bool) == Some(true);
            let what = if only { "run (plan only)" } else { "run" };
            format!(
                "{what} {subject} was made outside the gateway{}",
                origin(detail)
            )
        }
        Some(Kind::RunApplied) => match text(detail, "job_id") {
            Some(job) => format!(
                "run {subject} of {job} was applied outside the gateway{}",
                confirmed(detail)
            ),
            None => format!(
                "run {subject} was applied outside the gateway{}",
                confirmed(detail)
            ),
        },
        Some(Kind::StateChanged) => match text(detail, "run_id") {
            Some(run) => {
                format!("state version {subject} was made by run {run}, outside the gateway")
            }
            None => format!("state version {subject} was made without a run, outside the gateway"),
        },
        Some(Kind::SettingChanged) => {
            let value = |name: &str| in_words(detail.get(name).unwrap_or(&Json::Null));
            format!(
                "{subject} changed from {} to {}",
                value("before"),
                value("after")
            )
        }
        Some(Kind::RolledBack) => {
            let operator = text(detail, "operator").unwrap_or("somebody");
            format!("state version {subject} was made by a rollback of {operator}")
        }
        None => format!("{} {subject}", observation.kind),
    }
}

fn text<'j>(detail: &'j Json, name: &str) -> Option<&'j str> {
    detail.get(name).and_then(Json::as_str)
}

fn origin(detail: &Json) -> String {
    let by = text(detail, "created_by").map(|by| format!(" by {by}"));
    let source = text(detail, "source").map(|source| format!(" ({source})"));
    format!("{}{}", by.unwrap_or_default(), source.unwrap_or_default())
}

fn confirmed(detail: &Json) -> String {
    let by = text(detail, "confirmed_by").or_else(|| text(detail, "created_by"));
    by.map(|by| format!(" by {by}")).unwrap_or_default()
}

/// A setting's value in a few words.
pub fn in_words(value: &Json) -> String {
    match value {
        Json::Null => "nothing".to_owned(),
        Json::Bool(true) => "on".to_owned(),
        Json::Bool(false) => "off".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(entries) if entries.is_empty() => "nothing".to_owned(),
        Json::Array(entries) => {
            let texts: Vec<&str> = entries.iter().filter_map(Json::as_str).collect();
            texts.join(", ")
        }
        other => String::from_utf8_lossy(&other.to_jcs()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proof::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_kind_has_its_sentence() {
        let seen = |kind: Kind, subject: &str, detail: Value| {
            says(&Observation {
                at: Timestamp::from_seconds(1),
                workspace_id: "ws-1".into(),
                kind: kind.as_str().into(),
                subject: subject.into(),
                detail: Json::from(detail),
                source: "poll".into(),
                once: kind.happens_once(),
            })
        };
        let by = json!({"created_by": "user-1", "source": "tfe-ui", "confirmed_by": "user-2"});
        for (sentence, expected) in [
            (
                seen(Kind::RunCreated, "run-1", by.clone()),
                "run run-1 was made outside the gateway by user-1 (tfe-ui)",
            ),
            (
                seen(Kind::RunApplied, "run-1", by),
                "run run-1 was applied outside the gateway by user-2",
            ),
            (
                seen(Kind::RunApplied, "run-1", json!({"job_id": "job_1"})),
                "run run-1 of job_1 was applied outside the gateway",
            ),
            (
                seen(Kind::StateChanged, "sv-1", json!({"run_id": null})),
                "state version sv-1 was made without a run, outside the gateway",
            ),
            (
                seen(
                    Kind::SettingChanged,
                    "auto-apply",
                    json!({"before": false, "after": true}),
                ),
                "auto-apply changed from off to on",
            ),
            (
                seen(
                    Kind::SettingChanged,
                    "remote-state-consumers",
                    json!({"before": [], "after": ["ws-2", "ws-3"]}),
                ),
                "remote-state-consumers changed from nothing to ws-2, ws-3",
            ),
        ] {
            assert_eq!(sentence, expected);
        }
    }
}
