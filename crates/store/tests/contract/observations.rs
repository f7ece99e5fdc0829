//! What was seen of governed workspaces.

use std::sync::Arc;

use proof::Json;
use store::{Look, Observation, ObservationFilter, Store};

use crate::fixtures::at;

fn settings(auto_apply: bool) -> Json {
    let mut json = Json::object();
    json.set("name", "app");
    json.set("auto-apply", auto_apply);
    json
}

/// The same with its members in another order.
fn turned(auto_apply: bool) -> Json {
    let mut json = Json::object();
    json.set("auto-apply", auto_apply);
    json.set("name", "app");
    json
}

fn seen(ms: i64, workspace: &str, kind: &str, subject: &str, once: bool) -> Observation {
    Observation {
        at: at(ms),
        workspace_id: workspace.into(),
        kind: kind.into(),
        subject: subject.into(),
        detail: settings(true),
        source: "poll".into(),
        once,
    }
}

fn look(ms: i64, before: Option<Json>, now: Json, observations: Vec<Observation>) -> Look {
    Look {
        workspace_id: "ws-1".into(),
        at: at(ms),
        seen: now,
        before,
        observations,
    }
}

async fn subjects(store: &Arc<dyn Store>, filter: ObservationFilter) -> Vec<String> {
    let rows = store.observations(filter).await.unwrap();
    rows.into_iter()
        .map(|row| row.observation.subject)
        .collect()
}

fn all() -> ObservationFilter {
    ObservationFilter {
        limit: 100,
        ..ObservationFilter::default()
    }
}

pub(crate) async fn what_happens_once_is_observed_once(store: Arc<dyn Store>) {
    let run = seen(1, "ws-1", "run.created", "run-1", true);
    let added = store.observe(vec![run.clone()]).await.unwrap();
    assert_eq!(added.len(), 1);
    assert_eq!(added[0].observation, run);
    let again = vec![
        seen(9, "ws-1", "run.created", "run-1", true),
        seen(9, "ws-1", "run.applied", "run-1", true),
        seen(9, "ws-2", "run.created", "run-1", true),
    ];
    assert_eq!(store.observe(again).await.unwrap().len(), 2);
    let setting = || seen(10, "ws-1", "setting.changed", "auto-apply", false);
    for _ in 0..2 {
        assert_eq!(store.observe(vec![setting()]).await.unwrap().len(), 1);
    }
    let observed = |kind: &'static str, subject: &'static str| {
        let store = Arc::clone(&store);
        async move { store.observed("ws-1", kind, subject).await.unwrap() }
    };
    assert!(observed("run.created", "run-1").await);
    assert!(!observed("run.created", "run-2").await);
    assert!(!observed("setting.changed", "auto-apply").await);
}

pub(crate) async fn observations_are_listed_newest_first(store: Arc<dyn Store>) {
    for (ms, workspace, subject) in [(1, "ws-1", "a"), (2, "ws-2", "b"), (3, "ws-1", "c")] {
        store
            .observe(vec![seen(ms, workspace, "run.created", subject, true)])
            .await
            .unwrap();
    }
    assert_eq!(subjects(&store, all()).await, ["c", "b", "a"]);
    let of = |change: fn(&mut ObservationFilter)| {
        let mut filter = all();
        change(&mut filter);
        filter
    };
    let of_workspace = of(|filter| filter.workspace_id = Some("ws-1".into()));
    assert_eq!(subjects(&store, of_workspace).await, ["c", "a"]);
    let since = of(|filter| filter.since = Some(at(2)));
    assert_eq!(subjects(&store, since).await, ["c", "b"]);
    let page = store.observations(of(|filter| filter.limit = 1)).await;
    let last = page.unwrap()[0].id;
    let mut rest = all();
    rest.before = Some(last);
    assert_eq!(subjects(&store, rest).await, ["b", "a"]);
}

pub(crate) async fn the_first_look_is_the_baseline_and_later_ones_are_compared(
    store: Arc<dyn Store>,
) {
    assert_eq!(store.baseline("ws-1").await.unwrap(), None);
    let first = look(1, None, settings(false), Vec::new());
    assert_eq!(store.note_look(first).await.unwrap(), Some(Vec::new()));
    // A second first look comes too late.
    let late = look(2, None, settings(true), Vec::new());
    assert_eq!(store.note_look(late).await.unwrap(), None);
    let changed = seen(3, "ws-1", "setting.changed", "auto-apply", false);
    let second = look(
        3,
        Some(settings(false)),
        settings(true),
        vec![changed.clone()],
    );
    let new = store.note_look(second).await.unwrap().unwrap();
    assert_eq!(new[0].observation, changed);
    // Who compared with what is not known any more adds nothing.
    let stale = look(4, Some(settings(false)), settings(false), vec![changed]);
    assert_eq!(store.note_look(stale).await.unwrap(), None);
    assert_eq!(subjects(&store, all()).await, ["auto-apply"]);
    let baseline = store.baseline("ws-1").await.unwrap().unwrap();
    assert_eq!(baseline.since, at(1));
    assert_eq!(baseline.accepted, settings(false));
    assert_eq!((baseline.seen, baseline.seen_at), (settings(true), at(3)));
    assert_eq!(baseline.accepted_by, store::FIRST_LOOK);
}

pub(crate) async fn only_what_was_seen_is_accepted(store: Arc<dyn Store>) {
    let accept = |value| {
        let store = Arc::clone(&store);
        async move {
            let seen = turned(value);
            let accepted = store.accept_settings("ws-1", &seen, "ada", at(9));
            accepted.await.unwrap()
        }
    };
    assert!(!accept(true).await, "there was no look");
    for (ms, before, now) in [(1, None, false), (2, Some(settings(false)), true)] {
        let look = look(ms, before, settings(now), Vec::new());
        store.note_look(look).await.unwrap().unwrap();
    }
    assert!(!accept(false).await, "that is not what it is now");
    assert!(accept(true).await);
    let baselines = store.baselines().await.unwrap();
    assert_eq!(baselines.len(), 1);
    assert_eq!(baselines[0].accepted, settings(true));
    assert_eq!(
        (baselines[0].accepted_by.as_str(), baselines[0].accepted_at),
        ("ada", at(9))
    );
    assert_eq!(baselines[0].since, at(1));
}
