//! What changes inside one object, for a person who must judge it in a minute.

use proof::json::Json;
use serde::{Deserialize, Serialize};

/// Longest value that is shown, in characters.
const LONGEST: usize = 240;
/// Most attributes that are shown of one object.
const MOST: usize = 64;

/// One top-level attribute that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeChange {
    /// Its name.
    pub name: String,
    /// The value before.
    pub before: Shown,
    /// The value afterwards.
    pub after: Shown,
    /// Whether this is why the object is replaced.
    #[serde(default)]
    pub forces_replacement: bool,
}

/// A value as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// None, or null.
    Absent,
    /// Known only after the apply.
    Unknown,
    /// There, but marked as a secret.
    Sensitive,
    /// JSON text, cut when long.
    Value(String),
}

/// Compares the two sides of a `change`.
pub(super) fn attributes(change: &Json) -> Vec<AttributeChange> {
    let side = |name: &str| change.get(name).and_then(Json::members).unwrap_or_default();
    let (before, after) = (side("before"), side("after"));
    let unknown = side("after_unknown");
    let mut names: Vec<&str> = [before, after, unknown]
        .iter()
        .flat_map(|m| m.iter().map(|(name, _)| name.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    let replace: Vec<&str> = change
        .get("replace_paths")
        .and_then(Json::as_array)
        .unwrap_or_default()
        .iter()
        .filter_map(|path| path.as_array()?.first()?.as_str())
        .collect();
    let value = |members: &[(String, Json)], name: &str| {
        members
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, v)| v)
            .filter(|v| **v != Json::Null)
            .cloned()
    };
    let mut changes = Vec::new();
    for name in names {
        let (old, new) = (value(before, name), value(after, name));
        let later = value(unknown, name).is_some_and(|mark| has_mark(&mark));
        if (old == new && !later) || changes.len() == MOST {
            continue;
        }
        let show = |value: Option<Json>, mask: &str, later: bool| {
            let secret = change.get(mask).is_some_and(|mask| {
                *mask == Json::Bool(true) || mask.get(name).is_some_and(has_mark)
            });
            match value {
                _ if later => Shown::Unknown,
                None => Shown::Absent,
                Some(_) if secret => Shown::Sensitive,
                Some(value) => Shown::Value(cut(&value)),
            }
        };
        changes.push(AttributeChange {
            name: crate::terraform::rewrite::plain_text(name),
            before: show(old, "before_sensitive", false),
            after: show(new, "after_sensitive", later),
            forces_replacement: replace.contains(&name),
        });
    }
    changes
}

/// Terraform's masks mirror the value's shape with `true` where the mark is.
pub(super) fn has_mark(mask: &Json) -> bool {
    match mask {
        Json::Bool(mark) => *mark,
        Json::Array(elements) => elements.iter().any(has_mark),
        Json::Object(members) => members.iter().any(|(_, value)| has_mark(value)),
        _ => false,
    }
}

fn cut(value: &Json) -> String {
    let text = String::from_utf8(value.to_jcs()).expect("JCS is UTF-8");
    if text.chars().nth(LONGEST).is_some() {
        text.chars().take(LONGEST).chain(['…']).collect()
    } else {
        text
    }
}
