//! The page of what was seen outside the gateway.

use std::collections::BTreeSet;

use askama::Template;
use proof::Timestamp;
use store::{Baseline, ObservationFilter, ObservationRow, Store, StoreError};

use super::words::{Moment, Quoted};
use crate::config::Config;
use crate::pages::Frame;
use crate::watching::{self, in_words, settings};

/// Observations on one page.
const PAGE: u32 = 100;

/// Workspaces of one job that are looked up, and observations that its page shows.
const MAX_WORKSPACES: usize = 16;
const MAX_DURING: usize = 20;

/// Whose words settings and names are.
const UPSTREAM: &str = "Terraform Cloud";

/// What was seen outside the gateway.
#[derive(Debug, Template)]
#[template(path = "trust_pulse/outside.html")]
pub(super) struct OutsidePage {
    frame: Frame,
    /// How it is watched, in a sentence.
    how: String,
    workspaces: Vec<WatchedView>,
    events: Vec<EventView>,
    /// The rest of the address of the next part.
    next: Option<String>,
}

/// A governed workspace.
#[derive(Debug)]
struct WatchedView {
    id: String,
    seen_at: Option<Moment>,
    accepted_by: String,
    drift: Vec<DriftView>,
}

/// A setting that is not as accepted.
#[derive(Debug)]
struct DriftView {
    name: String,
    opens: bool,
    before: Quoted,
    after: Quoted,
}

/// Something that was seen.
#[derive(Debug)]
pub struct EventView {
    /// When it was seen.
    pub at: Moment,
    /// Where.
    pub workspace: String,
    /// What.
    pub says: Quoted,
}

/// Makes the page.
pub(super) async fn page(
    store: &dyn Store,
    config: &Config,
    governed: &BTreeSet<String>,
    before: Option<u64>,
    frame: Frame,
) -> Result<OutsidePage, StoreError> {
    let baselines = store.baselines().await?;
    let workspaces = governed.iter().map(|id| {
        let baseline = baselines
            .iter()
            .find(|baseline| baseline.workspace_id == *id);
        watched(id, baseline)
    });
    let filter = ObservationFilter {
        before,
        limit: PAGE,
        ..ObservationFilter::default()
    };
    let rows = store.observations(filter).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|rows| rows >= PAGE);
    let next = rows.last().filter(|_| full);
    Ok(OutsidePage {
        frame,
        how: how(config),
        workspaces: workspaces.collect(),
        next: next.map(|row| format!("?before={}", row.id)),
        events: rows.iter().map(event).collect(),
    })
}

/// What was seen in some workspaces while a job was open, newest first.
pub(super) async fn during(
    store: &dyn Store,
    workspaces: &BTreeSet<String>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<EventView>, StoreError> {
    let mut rows = Vec::new();
    for id in workspaces.iter().take(MAX_WORKSPACES) {
        let filter = ObservationFilter {
            workspace_id: Some(id.clone()),
            since: Some(from),
            limit: PAGE,
            ..ObservationFilter::default()
        };
        rows.extend(store.observations(filter).await?);
    }
    rows.retain(|row| row.observation.at <= to);
    rows.sort_by_key(|row| std::cmp::Reverse(row.id));
    Ok(rows.iter().take(MAX_DURING).map(event).collect())
}

fn how(config: &Config) -> String {
    let watching = &config.watching;
    match (watching.poll_seconds, watching.notification_key.is_some()) {
        (0, false) => "Nothing is watched: the configuration switches it off.".to_owned(),
        (0, true) => "Looked at when Terraform Cloud sends a notification.".to_owned(),
        (seconds, false) => format!("Looked at every {seconds} seconds."),
        (seconds, true) => format!(
            "Looked at every {seconds} seconds, and when Terraform Cloud sends a notification."
        ),
    }
}

fn watched(id: &str, baseline: Option<&Baseline>) -> WatchedView {
    let drift = baseline.map(|baseline| settings::changes(&baseline.accepted, &baseline.seen));
    let drift = drift
        .unwrap_or_default()
        .into_iter()
        .map(|change| DriftView {
            opens: change.opens(),
            before: Quoted::new(&in_words(&change.before), UPSTREAM),
            after: Quoted::new(&in_words(&change.after), UPSTREAM),
            name: change.name,
        });
    WatchedView {
        id: id.to_owned(),
        seen_at: baseline.map(|baseline| baseline.seen_at.into()),
        accepted_by: baseline.map_or_else(String::new, |baseline| baseline.accepted_by.clone()),
        drift: drift.collect(),
    }
}

fn event(row: &ObservationRow) -> EventView {
    EventView {
        at: row.observation.at.into(),
        workspace: row.observation.workspace_id.clone(),
        says: Quoted::new(&watching::says(&row.observation), UPSTREAM),
    }
}

#[cfg(test)]
mod tests {
    use proof::Json;
    use store::{Look, Observation};

    use super::*;
    use crate::pages::Place;

    #[tokio::test]
    async fn the_page_says_what_moved_and_shows_names_as_text() {
        let store = store::open_sqlite_in_memory().unwrap();
        let now = Timestamp::from_seconds(1_795_334_400);
        let settings = |name: &str, on: bool| {
            let mut json = Json::object();
            json.set("name", name);
            json.set("auto-apply", on);
            json
        };
        let first = settings("app", false);
        let second = settings("<script>", true);
        let mut detail = Json::object();
        detail.set("created_by", "<b>user-1");
        let event = Observation {
            at: now,
            workspace_id: "ws-1".into(),
            kind: "run.created".into(),
            subject: "run-9".into(),
            detail,
            source: "poll".into(),
            once: true,
        };
        for (seen, before, observations) in [
            (first.clone(), None, Vec::new()),
            (second, Some(first), vec![event]),
        ] {
            let look = Look {
                workspace_id: "ws-1".into(),
                at: now,
                seen,
                before,
                observations,
            };
            store.note_look(look).await.unwrap().unwrap();
        }
        let governed = BTreeSet::from(["ws-1".to_owned(), "ws-2".to_owned()]);
        let config = super::super::sample::config();
        let seen = during(&*store, &governed, now, now).await.unwrap();
        assert_eq!(seen.len(), 1);
        let later = now.plus_seconds(1);
        assert!(
            during(&*store, &governed, later, later)
                .await
                .unwrap()
                .is_empty()
        );
        let frame = Frame::bare("gateway.example", "../", Place::Outside, now);
        let page = page(&*store, &config, &governed, None, frame).await;
        let page = page.unwrap().render().unwrap();
        for says in [
            "every 300 seconds",
            "auto-apply",
            "run run-9 was made outside the gateway",
            "ws-2",
            "not looked at yet",
        ] {
            assert!(page.contains(says), "{says}: {page}");
        }
        assert!(
            !page.contains("<script>") && !page.contains("<b>user"),
            "{page}"
        );
    }
}
