//! What was seen outside the gateway, and whether anybody looks.

use proof::Timestamp;
use store::{ObservationFilter, Store};

use super::Report;
use crate::config::Config;
use crate::watching::{self, settings};

/// How far back observations are counted, in seconds: a week.
const RECENT_SECONDS: i64 = 7 * 86_400;

/// Most observations that are counted.
const MAX_COUNTED: u32 = 1000;

/// How many intervals may pass without a look.
const PATIENCE: i64 = 3;

/// Reads what the store holds about the governed workspaces.
pub(super) async fn seen(
    config: &Config,
    store: Option<&dyn Store>,
    now: Timestamp,
    report: &mut Report,
) {
    let check = "watching";
    let poll = config.watching.poll_seconds;
    if poll == 0 && config.watching.notification_key.is_none() {
        report.warn(
            check,
            "switched off: applies, state and settings that do not come through the gateway are \
             not seen",
            "set watching.poll_seconds, or watching.notification_key and a notification in \
             Terraform Cloud",
        );
        return;
    }
    let Some(store) = store else { return };
    let (Ok(governed), Ok(baselines)) = (watching::governed(store).await, store.baselines().await)
    else {
        return;
    };
    for id in &governed {
        let baseline = baselines
            .iter()
            .find(|baseline| baseline.workspace_id == *id);
        let Some(baseline) = baseline else {
            report.warn(
                check,
                format!("{id}: not looked at yet"),
                "start the gateway; if it runs, its log says why it cannot look",
            );
            continue;
        };
        let stale = i64::try_from(poll).unwrap_or(i64::MAX / 8) * PATIENCE;
        if poll != 0 && baseline.seen_at.plus_seconds(stale) < now {
            report.warn(
                check,
                format!("{id}: last looked at {}", baseline.seen_at),
                "start the gateway; if it runs, its log says why it cannot look",
            );
        }
        let drift = settings::changes(&baseline.accepted, &baseline.seen);
        if drift.is_empty() {
            report.ok(check, format!("{id}: settings as accepted"));
        } else {
            let names: Vec<&str> = drift.iter().map(|change| change.name.as_str()).collect();
            report.warn(
                check,
                format!("{id}: settings are not as accepted: {}", names.join(", ")),
                format!("`clawgate watch show {id}`; put them back, or `clawgate watch accept`"),
            );
        }
    }
    let recent = ObservationFilter {
        since: Some(now.plus_seconds(-RECENT_SECONDS)),
        limit: MAX_COUNTED,
        ..ObservationFilter::default()
    };
    let recent = store.observations(recent).await.unwrap_or_default();
    let outside = |kind: &str| kind == "run.applied" || kind == "state.changed";
    let count = recent
        .iter()
        .filter(|row| outside(&row.observation.kind))
        .count();
    if count > 0 {
        report.warn(
            check,
            format!("{count} applies or state versions outside the gateway within a week"),
            "`clawgate watch events` lists them; run tasks stop applies that nobody approved here",
        );
    }
}

#[cfg(test)]
mod tests {
    use proof::Json;
    use store::{Look, Observation};

    use super::super::Level;
    use super::*;

    fn config(poll: u64) -> Config {
        let text = format!(
            r#"
            gateway_id = "gateway.example"
            data_dir = "data"
            agent_listener = {{ address = "127.0.0.1:8787" }}
            operator_listener = {{ address = "127.0.0.1:8788" }}
            watching = {{ poll_seconds = {poll} }}
            [terraform_cloud]
            url = "https://app.terraform.io"
            planner = {{ env = "A" }}
            executor = {{ env = "B" }}
            reader = {{ env = "C" }}
            "#
        );
        toml::from_str(&text).unwrap()
    }

    #[tokio::test]
    async fn it_says_when_nobody_looks() {
        let mut report = Report::default();
        seen(&config(0), None, Timestamp::from_seconds(1), &mut report).await;
        assert_eq!(report.count(Level::Warning), 1);
    }

    #[tokio::test]
    async fn what_happened_within_a_week_is_counted() {
        let store = store::open_sqlite_in_memory().unwrap();
        let now = Timestamp::from_seconds(1_795_334_400);
        let event = |kind: &str, subject: &str, at: Timestamp| Observation {
            at,
            workspace_id: "ws-1".into(),
            kind: kind.into(),
            subject: subject.into(),
            detail: Json::object(),
            source: "poll".into(),
            once: true,
        };
        let look = Look {
            workspace_id: "ws-1".into(),
            at: now,
            seen: Json::object(),
            before: None,
            observations: vec![
                event("run.applied", "run-1", now),
                event("run.created", "run-1", now),
                event("state.changed", "sv-1", now.plus_seconds(-8 * 86_400)),
            ],
        };
        store.note_look(look).await.unwrap().unwrap();
        let mut report = Report::default();
        seen(&config(60), Some(&*store), now, &mut report).await;
        let findings = report.findings();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].message.starts_with("1 applies"), "{findings:?}");
    }
}
