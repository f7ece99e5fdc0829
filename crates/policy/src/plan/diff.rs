//! What changes inside one object, for a person who must judge it in a minute.

use proof::json::Json;
use serde::{Deserialize, Serialize};

/// Longest value that is shown, in characters.
const LONGEST: usize = 240;
/// Of a longer value the excerpt begins so many characters before the first difference.
const AROUND: usize = 40;
/// Most attributes that are shown of one object; the largest types have some two hundred.
const MOST: usize = 512;

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
    /// JSON text; of a long one an excerpt around the first difference.
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
    let mut left_out = 0;
    for name in names {
        let (old, new) = (value(before, name), value(after, name));
        let later = value(unknown, name).is_some_and(|mark| has_mark(&mark));
        if old == new && !later {
            continue;
        }
        if changes.len() == MOST {
            left_out += 1;
            continue;
        }
        let secret = |mask: &str| {
            change.get(mask).is_some_and(|mask| {
                *mask == Json::Bool(true) || mask.get(name).is_some_and(has_mark)
            })
        };
        let side = |value: Option<Json>, mask: &str| match value {
            None => Shown::Absent,
            Some(_) if secret(mask) => Shown::Sensitive,
            Some(value) => Shown::Value(text(&value)),
        };
        let before = side(old, "before_sensitive");
        let after = match later {
            true => Shown::Unknown,
            false => side(new, "after_sensitive"),
        };
        let from = match (&before, &after) {
            (Shown::Value(before), Shown::Value(after)) => {
                first_difference(before, after).saturating_sub(AROUND)
            }
            _ => 0,
        };
        changes.push(AttributeChange {
            name: crate::terraform::rewrite::plain_text(name),
            before: before.cut(from),
            after: after.cut(from),
            forces_replacement: replace.contains(&name),
        });
    }
    if left_out > 0 {
        changes.push(AttributeChange {
            name: format!("… {left_out} more attributes, which are not listed"),
            before: Shown::Unknown,
            after: Shown::Unknown,
            forces_replacement: false,
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

fn text(value: &Json) -> String {
    String::from_utf8(value.to_jcs()).expect("JCS is UTF-8")
}

/// How many characters two texts begin alike.
fn first_difference(one: &str, other: &str) -> usize {
    let pairs = one.chars().zip(other.chars());
    pairs.take_while(|(one, other)| one == other).count()
}

impl Shown {
    /// Of a text that is too long an excerpt, from so many characters on: whoever fills its
    /// beginning hides nothing.
    fn cut(self, from: usize) -> Self {
        match self {
            Self::Value(text) if text.chars().nth(LONGEST).is_some() => {
                let begin = (from > 0).then_some('…');
                let rest = text.chars().skip(from);
                let end = rest.clone().nth(LONGEST).map(|_| '…');
                let excerpt = begin.into_iter().chain(rest.take(LONGEST)).chain(end);
                Self::Value(excerpt.collect())
            }
            other => other,
        }
    }
}
