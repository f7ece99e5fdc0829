//! The settings of a workspace that decide what can happen beside the gateway.
//!
//! They are kept as one flat JSON object, so that a setting that is added here later shows as one
//! that appeared. Lists are sorted texts; `null` in place of a list says that it could not be
//! read.

use policy::Refusal;
use proof::Json;

use super::read;
use crate::app::App;
use crate::upstream::Duty;

/// Most entries of a page; upstream's largest.
const PAGE: usize = 100;

/// Most pages of a list; what is beyond is counted.
const MAX_PAGES: usize = 10;

/// Longest text that is kept of what people wrote, in characters.
const MAX_TEXT: usize = 80;

/// Attributes that are kept as they are.
const ATTRIBUTES: [&str; 12] = [
    "name",
    "auto-apply",
    "auto-apply-run-trigger",
    "execution-mode",
    "global-remote-state",
    "project-remote-state",
    "allow-destroy-plan",
    "auto-destroy-activity-duration",
    "queue-all-runs",
    "speculative-enabled",
    "terraform-version",
    "working-directory",
];

/// Related objects of which the id is kept.
const RELATED: [&str; 4] = ["organization", "project", "agent-pool", "ssh-key"];

/// Names of the lists.
pub(super) const TRIGGERED_BY: &str = "run-triggers-inbound";
pub(super) const TRIGGERS: &str = "run-triggers-outbound";
const CONSUMERS: &str = "remote-state-consumers";
const NOTIFICATIONS: &str = "notifications";

/// A setting that is not what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its name, as upstream calls it.
    pub name: String,
    /// What it was.
    pub before: Json,
    /// What it is.
    pub after: Json,
}

impl Change {
    /// Whether it opens a way that was closed: around the gateway, to the state, or to who is
    /// told of it.
    pub fn opens(&self) -> bool {
        let on = self.after.as_bool() == Some(true);
        match self.name.as_str() {
            "auto-apply"
            | "auto-apply-run-trigger"
            | "global-remote-state"
            | "project-remote-state"
            | "allow-destroy-plan"
            | "queue-all-runs" => on,
            "execution-mode" => self.after.as_str() != Some("remote"),
            "auto-destroy-at" | "auto-destroy-activity-duration" | "vcs-repo" => {
                self.after != Json::Null
            }
            "organization" | "project" | "agent-pool" | "ssh-key" => true,
            _ => match (&self.before, &self.after) {
                (_, Json::Array(after)) => {
                    let before = self.before.as_array().unwrap_or_default();
                    after.iter().any(|entry| !before.contains(entry))
                }
                // A list that cannot be read any more may hold anything.
                (Json::Array(_), _) => true,
                _ => false,
            },
        }
    }

    /// As answers and summaries show it.
    pub fn to_json(&self) -> Json {
        let mut json = Json::object();
        json.set("setting", self.name.as_str());
        json.set("before", self.before.clone());
        json.set("after", self.after.clone());
        json.set("opens", self.opens());
        json
    }
}

/// What differs, in the order of the names.
pub fn changes(before: &Json, after: &Json) -> Vec<Change> {
    let members = |json: &Json| json.members().unwrap_or_default().to_vec();
    let mut names: Vec<String> = members(before)
        .into_iter()
        .chain(members(after))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    let value = |json: &Json, name: &str| json.get(name).cloned().unwrap_or(Json::Null);
    names
        .into_iter()
        .map(|name| Change {
            before: value(before, &name),
            after: value(after, &name),
            name,
        })
        .filter(|change| change.before != change.after)
        .collect()
}

/// Reads a workspace's settings with the reader's credential. `None` when it cannot see it.
///
/// # Errors
/// An `UPSTREAM_…` code.
pub async fn of_workspace(app: &App, id: &str) -> Result<Option<Json>, Refusal> {
    let path = format!("/api/v2/workspaces/{id}");
    let Some(workspace) = read(app, Duty::Reader, &path).await? else {
        return Ok(None);
    };
    let mut lists = Vec::new();
    for (name, target, entry) in lists_of(&path) {
        lists.push((name, list(app, &target, entry).await?));
    }
    Ok(Some(assemble(&workspace, lists)))
}

/// Reads which workspaces may read the state of the one at `path`; `None` when that cannot be seen.
///
/// # Errors
/// An `UPSTREAM_…` code.
pub(super) async fn consumers(app: &App, path: &str) -> Result<Option<Json>, Refusal> {
    let (_, target, entry) = consumers_of(path);
    list(app, &target, entry).await
}

/// Reads a list page by page.
async fn list(app: &App, target: &str, entry: Entry) -> Result<Option<Json>, Refusal> {
    let mut pages = Vec::new();
    let mut next = target.to_owned();
    while let Some(page) = read(app, Duty::Reader, &next).await? {
        let number = page.at(&["meta", "pagination", "next-page"]);
        let number = number.and_then(Json::as_integer);
        pages.push(page);
        match number.filter(|_| pages.len() < MAX_PAGES) {
            Some(number) => next = format!("{target}&page%5Bnumber%5D={number}"),
            None => return Ok(Some(entries(&pages, entry))),
        }
    }
    Ok(None)
}

type Entry = fn(&Json) -> Option<String>;
type List = (&'static str, String, Entry);

fn consumers_of(path: &str) -> List {
    let target = format!("{path}/relationships/remote-state-consumers?page%5Bsize%5D={PAGE}");
    (CONSUMERS, target, |consumer| text_at(consumer, &["id"]))
}

fn lists_of(path: &str) -> [List; 4] {
    let triggers = |kind: &str| {
        format!(
            "{path}/run-triggers?filter%5Brun-trigger%5D%5Btype%5D={kind}&page%5Bsize%5D={PAGE}"
        )
    };
    [
        (TRIGGERED_BY, triggers("inbound"), |trigger| {
            other_workspace(trigger, "sourceable")
        }),
        (TRIGGERS, triggers("outbound"), |trigger| {
            other_workspace(trigger, "workspace")
        }),
        consumers_of(path),
        (
            NOTIFICATIONS,
            format!("{path}/notification-configurations?page%5Bsize%5D={PAGE}"),
            notification,
        ),
    ]
}

fn other_workspace(trigger: &Json, side: &str) -> Option<String> {
    text_at(trigger, &["relationships", side, "data", "id"])
}

/// Id, name and destination; of an address only the host, since the rest may be a secret.
fn notification(configuration: &Json) -> Option<String> {
    let id = text_at(configuration, &["id"])?;
    let attribute = |name: &str| text_at(configuration, &["attributes", name]);
    let url = attribute("url").unwrap_or_default();
    let host = url
        .parse::<http::Uri>()
        .ok()
        .and_then(|url| url.host().map(str::to_owned))
        .unwrap_or_else(|| "nowhere".to_owned());
    let enabled = configuration.at(&["attributes", "enabled"]);
    let state = if enabled.and_then(Json::as_bool) == Some(true) {
        "on"
    } else {
        "off"
    };
    let kind = attribute("destination-type").unwrap_or_default();
    Some(format!("{id} to {host} ({kind}, {state})"))
}

fn text_at(json: &Json, path: &[&str]) -> Option<String> {
    let text = json.at(path)?.as_str()?;
    Some(text.chars().take(MAX_TEXT).collect())
}

/// The entries of pages, sorted; what is beyond them is counted.
fn entries(pages: &[Json], entry: Entry) -> Json {
    let data = |page: &Json| {
        page.get("data")
            .and_then(Json::as_array)
            .map(<[Json]>::to_vec)
    };
    let data: Vec<Json> = pages.iter().filter_map(data).flatten().collect();
    let mut texts: Vec<String> = data.iter().filter_map(entry).collect();
    texts.sort_unstable();
    let total = pages
        .iter()
        .filter_map(|page| page.at(&["meta", "pagination", "total-count"]))
        .filter_map(Json::as_integer)
        .filter_map(|total| usize::try_from(total).ok())
        .max()
        .unwrap_or(data.len());
    if total > data.len() {
        texts.push(format!("and {} more", total - data.len()));
    }
    Json::Array(texts.into_iter().map(Json::from).collect())
}

fn assemble(workspace: &Json, lists: Vec<(&'static str, Option<Json>)>) -> Json {
    let attribute = |name: &str| {
        let value = workspace.at(&["data", "attributes", name]);
        match value {
            Some(Json::String(text)) => Json::from(text.chars().take(MAX_TEXT).collect::<String>()),
            Some(Json::Bool(flag)) => Json::from(*flag),
            _ => Json::Null,
        }
    };
    let mut settings = Json::object();
    for name in ATTRIBUTES {
        settings.set(name, attribute(name));
    }
    // With a duration, upstream moves the time with every run.
    let destroyed_at = match attribute("auto-destroy-activity-duration") {
        Json::Null => attribute("auto-destroy-at"),
        _ => Json::Null,
    };
    settings.set("auto-destroy-at", destroyed_at);
    let repository = workspace.at(&["data", "attributes", "vcs-repo"]);
    let repository = repository.and_then(|repository| {
        let identifier = text_at(repository, &["identifier"])?;
        let branch = text_at(repository, &["branch"]).unwrap_or_default();
        Some(format!("{identifier} {branch}").trim().to_owned())
    });
    settings.set("vcs-repo", repository.map_or(Json::Null, Json::from));
    for name in RELATED {
        let id = text_at(workspace, &["data", "relationships", name, "data", "id"]);
        settings.set(name, id.map_or(Json::Null, Json::from));
    }
    for (name, list) in lists {
        settings.set(name, list.unwrap_or(Json::Null));
    }
    settings
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn settings(change: impl FnOnce(&mut Value)) -> Json {
        let mut workspace = json!({"data": {
            "attributes": {
                "name": "staging-app", "auto-apply": false, "auto-apply-run-trigger": false,
                "execution-mode": "remote", "global-remote-state": false,
                "auto-destroy-at": null, "auto-destroy-activity-duration": null, "vcs-repo": null,
                "description": "of no interest", "run-failures": 3,
            },
            "relationships": {"organization": {"data": {"id": "acme", "type": "organizations"}}},
        }});
        change(&mut workspace["data"]);
        let lists = vec![
            (TRIGGERS, Some(Json::Array(Vec::new()))),
            (
                CONSUMERS,
                Some(Json::Array(vec![Json::from("ws-1".to_owned())])),
            ),
        ];
        assemble(&Json::from(workspace), lists)
    }

    #[test]
    fn each_setting_that_matters_shows_as_a_change() {
        let before = settings(|_| {});
        assert_eq!(changes(&before, &before), []);
        for (name, value, opens) in [
            ("auto-apply", json!(true), true),
            ("auto-apply-run-trigger", json!(true), true),
            ("execution-mode", json!("local"), true),
            ("execution-mode", json!("agent"), true),
            ("global-remote-state", json!(true), true),
            ("project-remote-state", json!(true), true),
            ("auto-destroy-at", json!("2026-12-24T18:00:00Z"), true),
            ("auto-destroy-activity-duration", json!("14d"), true),
            (
                "vcs-repo",
                json!({"identifier": "acme/app", "branch": "main"}),
                true,
            ),
            ("allow-destroy-plan", json!(true), true),
            ("name", json!("production"), false),
            ("terraform-version", json!("1.0.0"), false),
        ] {
            let after = settings(|data| data["attributes"][name] = value);
            let found = changes(&before, &after);
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert_eq!(found[0].name, name);
            assert_eq!(found[0].opens(), opens, "{name}");
            // The way back closes again, where there are two ways.
            if found[0].before.as_bool() == Some(false) {
                assert!(!changes(&after, &before)[0].opens(), "{name}");
            }
        }
        for name in ["agent-pool", "ssh-key", "project", "organization"] {
            let after = settings(|data| data["relationships"][name] = json!({"data": {"id": "x"}}));
            let found = changes(&before, &after);
            assert_eq!((found.len(), found[0].opens()), (1, true), "{name}");
        }
        let ignored = settings(|data| data["attributes"]["run-failures"] = json!(9));
        assert_eq!(changes(&before, &ignored), []);
    }

    #[test]
    fn a_time_that_moves_by_itself_is_no_change() {
        let at = |time: &str| {
            settings(|data| {
                data["attributes"]["auto-destroy-activity-duration"] = json!("14d");
                data["attributes"]["auto-destroy-at"] = json!(time);
            })
        };
        assert_eq!(
            changes(&at("2026-12-01T00:00:00Z"), &at("2026-12-02T00:00:00Z")),
            []
        );
    }

    #[test]
    fn lists_open_by_what_is_added_or_hidden() {
        let list = |ids: &[&str]| Json::Array(ids.iter().map(|id| Json::from(*id)).collect());
        let change = |before: Json, after: Json| Change {
            name: CONSUMERS.to_owned(),
            before,
            after,
        };
        for (before, after, opens) in [
            (list(&["ws-1"]), list(&["ws-1", "ws-2"]), true),
            (list(&["ws-1"]), list(&["ws-2"]), true),
            (list(&["ws-1", "ws-2"]), list(&["ws-1"]), false),
            (list(&["ws-1"]), Json::Null, true),
            (Json::Null, list(&[]), false),
            (Json::Null, list(&["ws-1"]), true),
        ] {
            assert_eq!(
                change(before.clone(), after.clone()).opens(),
                opens,
                "{before:?} {after:?}"
            );
        }
    }

    #[test]
    fn of_an_address_only_the_host_is_kept() {
        let configuration = Json::from(json!({
            "id": "nc-1",
            "attributes": {
                "url": "https://hooks.example/services/SECRET", "enabled": true,
                "destination-type": "slack", "name": "n", "token": "SECRET",
            },
        }));
        let kept = notification(&configuration).unwrap();
        assert_eq!(kept, "nc-1 to hooks.example (slack, on)");
    }

    #[test]
    fn what_is_beyond_the_pages_is_counted() {
        let page = |ids: [&str; 2]| {
            let data: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
            Json::from(json!({"data": data, "meta": {"pagination": {"total-count": 5}}}))
        };
        let (first, second) = (page(["ws-2", "ws-1"]), page(["ws-0", "ws-3"]));
        for (pages, expected) in [
            (vec![first.clone()], &["ws-1", "ws-2", "and 3 more"][..]),
            (
                vec![first, second],
                &["ws-0", "ws-1", "ws-2", "ws-3", "and 1 more"],
            ),
        ] {
            let Json::Array(found) = entries(&pages, |entry| text_at(entry, &["id"])) else {
                panic!("a list");
            };
            let texts: Vec<_> = found.iter().filter_map(Json::as_str).collect();
            assert_eq!(texts, expected);
        }
    }
}
