//! What changes inside one object, for a person who must judge it in a minute: each place that
//! differs, by its path, as `terraform plan` shows it.
//!
//! A plan does not say which arrays are sets, so elements are compared by value and order: what
//! stays is left out, and an element of the middle that goes is one removal, not a shift of all
//! that follow.

mod path;
mod sequence;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeSet, HashMap};

use proof::json::{Json, Numbers, parse};
use serde::{Deserialize, Serialize};

use self::path::Path;
use self::sequence::{Gap, gaps};

/// Most places that are shown of one object; the largest types have some two hundred attributes.
const MOST: usize = 512;
/// Most bytes of values and lines that are shown of one object.
const MOST_BYTES: usize = 64 << 10;
/// Most comparisons of elements of lists, and of lines, in one object: with what begins and ends
/// alike left out, a thousand of each side.
const MOST_COMPARISONS: usize = 1 << 20;
/// Longest text that is tried as JSON, in bytes.
const LONGEST_JSON: usize = 1 << 20;

/// What differs in one object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) changes: Vec<AttributeChange>,
    /// How many places more differ than there is room for.
    pub(super) left_out: u32,
}

/// One place that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeChange {
    /// Its path, such as `tags.env`, `ingress[0].port` or `jsondecode(policy).Version`. An index
    /// is that of the element afterwards, of one that goes that before.
    pub name: String,
    /// The value before.
    pub before: Shown,
    /// The value afterwards.
    pub after: Shown,
    /// Whether this is why the object is replaced.
    #[serde(default)]
    pub forces_replacement: bool,
    /// For a text of several lines, the lines that differ and those around them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
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
    /// JSON text; of a long one an excerpt around what differs.
    Value(String),
}

/// A line of a text that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What becomes of it.
    pub kind: LineKind,
    /// The line, cut when it is long; for lines that are skipped, how many they are.
    pub text: String,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// It stays.
    Kept,
    /// It goes.
    Removed,
    /// It is new.
    Added,
    /// Lines that are not shown.
    Skipped,
}

/// Compares the two sides of a `change`.
pub(super) fn attributes(change: &Json) -> Inside {
    let side = |name: &str| change.get(name).filter(|value| **value != Json::Null);
    let replace = change.get("replace_paths").and_then(Json::as_array);
    let mut found = Found {
        replace: replace.unwrap_or_default(),
        inside: Inside::default(),
        left: MOST_BYTES,
        comparisons: MOST_COMPARISONS,
        decoded: false,
    };
    let pair = Pair {
        before: side("before"),
        after: side("after"),
        secret_before: side("before_sensitive"),
        secret_after: side("after_sensitive"),
        unknown: side("after_unknown"),
    };
    found.compare(&Path::root(), pair);
    found.inside
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

/// One place on both sides, with what the masks say of it.
#[derive(Clone, Copy, Default)]
struct Pair<'p> {
    before: Option<&'p Json>,
    after: Option<&'p Json>,
    secret_before: Option<&'p Json>,
    secret_after: Option<&'p Json>,
    unknown: Option<&'p Json>,
}

impl<'p> Pair<'p> {
    /// The member of this name, where the sides are objects.
    fn member(self, name: &str) -> Self {
        let of = |json: Option<&'p Json>| json.and_then(|json| json.get(name));
        let value = |json| of(json).filter(|value| **value != Json::Null);
        Self {
            before: value(self.before),
            after: value(self.after),
            secret_before: of(self.secret_before),
            secret_after: of(self.secret_after),
            unknown: of(self.unknown),
        }
    }

    /// The elements at these places, where the sides are arrays. A null is an element.
    fn elements(self, before: Option<usize>, after: Option<usize>) -> Self {
        let of = |json: Option<&'p Json>, place: Option<usize>| {
            json.and_then(Json::as_array)?.get(place?)
        };
        Self {
            before: of(self.before, before),
            after: of(self.after, after),
            secret_before: of(self.secret_before, before),
            secret_after: of(self.secret_after, after),
            unknown: of(self.unknown, after),
        }
    }

    /// Only what goes, and only what comes.
    fn apart(self) -> [Self; 2] {
        let goes = Self {
            after: None,
            secret_after: None,
            unknown: None,
            ..self
        };
        let comes = Self {
            before: None,
            secret_before: None,
            ..self
        };
        [goes, comes]
    }

    fn is_later(self) -> bool {
        self.unknown.is_some_and(has_mark)
    }

    fn has_secret(self) -> bool {
        self.secret_before.is_some_and(has_mark) || self.secret_after.is_some_and(has_mark)
    }

    /// The place is a secret as a whole, on either side: what hides a part of one hides both.
    fn is_secret(self) -> bool {
        covers(self.secret_before, self.before) || covers(self.secret_after, self.after)
    }
}

/// Whether a mask is about a value as a whole, or does not fit its shape.
fn covers(mask: Option<&Json>, value: Option<&Json>) -> bool {
    match (mask, value) {
        (Some(Json::Bool(mark)), _) => *mark,
        (Some(Json::Object(_)), Some(Json::Object(_))) | (_, None) => false,
        (Some(Json::Array(marks)), Some(Json::Array(elements))) => {
            marks.iter().skip(elements.len()).any(has_mark)
        }
        (Some(mask), _) => has_mark(mask),
        (None, _) => false,
    }
}

struct Found<'p> {
    replace: &'p [Json],
    inside: Inside,
    /// Bytes that there is still room for.
    left: usize,
    /// Comparisons of elements and lines that there is still time for.
    comparisons: usize,
    /// Within a text that is JSON; a text in that is a text.
    decoded: bool,
}

impl Found<'_> {
    fn compare(&mut self, path: &Path, pair: Pair<'_>) {
        let Pair { before, after, .. } = pair;
        let later = pair.is_later();
        if before == after && !later {
            return;
        }
        if pair.is_secret() {
            let hidden = |side: Option<&Json>| side.map_or(Shown::Absent, |_| Shown::Sensitive);
            let after = if later { Shown::Unknown } else { hidden(after) };
            return self.push(path, hidden(before), after, Vec::new());
        }
        let all_later = match (pair.unknown, after) {
            (Some(Json::Object(_)), None | Some(Json::Object(_))) => false,
            (Some(Json::Array(_)), None | Some(Json::Array(_))) => false,
            // A mask that does not fit its value is about the whole of it.
            _ => later,
        };
        if all_later {
            let before = text::cut(text::written(before, pair.secret_before));
            return self.push(path, before, Shown::Unknown, Vec::new());
        }
        // What is not there yet has the shape of what is known to be unknown in it.
        let after = after.or(pair.unknown.filter(|_| later));
        match (before, after) {
            (Some(Json::Object(one)), None) | (None, Some(Json::Object(one)))
                if later || !one.is_empty() =>
            {
                self.members(path, pair);
            }
            (Some(Json::Object(_)), Some(Json::Object(_))) => self.members(path, pair),
            (Some(Json::Array(one)), None) | (None, Some(Json::Array(one)))
                if later || one.iter().any(is_container) || pair.has_secret() =>
            {
                self.elements(path, pair);
            }
            (Some(Json::Array(_)), Some(Json::Array(_))) => self.elements(path, pair),
            (Some(Json::String(before)), Some(Json::String(after))) => {
                self.texts(path, before, after);
            }
            (Some(one), Some(other)) if is_container(one) || is_container(other) => {
                for side in pair.apart() {
                    self.compare(path, side);
                }
            }
            _ => {
                let before = text::written(before, None);
                let after = text::written(after, None);
                let (before, after) = text::cut_both(before, after);
                self.push(path, before, after, Vec::new());
            }
        }
    }

    fn members(&mut self, path: &Path, pair: Pair<'_>) {
        let sides = [pair.before, pair.after, pair.unknown];
        let names: BTreeSet<&str> = sides
            .iter()
            .flat_map(|side| side.and_then(Json::members).unwrap_or_default())
            .map(|(name, _)| name.as_str())
            .collect();
        for name in names {
            self.compare(&path.member(name), pair.member(name));
        }
    }

    fn elements(&mut self, path: &Path, pair: Pair<'_>) {
        let list = |side: Option<&Json>| side.and_then(Json::as_array).map_or(0, <[_]>::len);
        let mut ids: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut id = |value: Option<&Json>| {
            let next = ids.len();
            let written = value.map(Json::to_jcs).unwrap_or_default();
            *ids.entry(written).or_insert(next)
        };
        let before: Vec<usize> = (0..list(pair.before))
            .map(|place| id(pair.elements(Some(place), None).before))
            .collect();
        let after: Vec<usize> = (0..list(pair.after).max(list(pair.unknown)))
            .map(|place| {
                let element = pair.elements(None, Some(place));
                // What is not known yet is like nothing else.
                if element.is_later() {
                    usize::MAX - place
                } else {
                    id(element.after)
                }
            })
            .collect();
        for Gap { goes, comes } in gaps(&before, &after, &mut self.comparisons) {
            let container = |place: usize, side: Option<&Json>| {
                let list = side.and_then(Json::as_array);
                list.and_then(|list| list.get(place))
                    .is_some_and(is_container)
            };
            let alike = goes.len() == comes.len()
                && goes.clone().all(|place| container(place, pair.before))
                && comes.clone().all(|place| container(place, pair.after));
            if alike {
                for (one, other) in goes.zip(comes) {
                    self.compare(&path.element(other), pair.elements(Some(one), Some(other)));
                }
                continue;
            }
            for place in goes {
                self.compare(&path.element(place), pair.elements(Some(place), None));
            }
            for place in comes {
                self.compare(&path.element(place), pair.elements(None, Some(place)));
            }
        }
    }

    fn texts(&mut self, path: &Path, before: &str, after: &str) {
        if !self.decoded
            && let (Some(one), Some(other)) = (container_in(before), container_in(after))
        {
            let found = |inside: &Inside| (inside.changes.len(), inside.left_out);
            let so_far = found(&self.inside);
            self.decoded = true;
            let pair = Pair {
                before: Some(&one),
                after: Some(&other),
                ..Pair::default()
            };
            self.compare(&path.decoded(), pair);
            self.decoded = false;
            // Where only the layout differs, it is the text that is shown.
            if found(&self.inside) != so_far {
                return;
            }
        }
        let lines = text::lines(before, after, &mut self.comparisons);
        let written = |text: &str| text::written(Some(&Json::from(text)), None);
        let (before, after) = text::cut_both(written(before), written(after));
        self.push(path, before, after, lines);
    }

    fn push(&mut self, path: &Path, before: Shown, after: Shown, lines: Vec<Line>) {
        let size = |side: &Shown| match side {
            Shown::Value(text) => text.len(),
            _ => 0,
        };
        let name = path.written();
        let lines_size: usize = lines.iter().map(|line| line.text.len()).sum();
        let size = name.len() + size(&before) + size(&after) + lines_size;
        if self.inside.changes.len() >= MOST || size > self.left {
            // Smaller ones would come out of their order.
            self.left = 0;
            self.inside.left_out = self.inside.left_out.saturating_add(1);
            return;
        }
        self.left -= size;
        self.inside.changes.push(AttributeChange {
            name,
            before,
            after,
            forces_replacement: self.replace.iter().any(|replace| path.meets(replace)),
            lines,
        });
    }
}

fn is_container(value: &Json) -> bool {
    matches!(value, Json::Array(_) | Json::Object(_))
}

/// What a text holds that is an object or an array in JSON.
fn container_in(text: &str) -> Option<Json> {
    let begins = text.trim_start().starts_with(['{', '[']);
    if !begins || text.len() > LONGEST_JSON {
        return None;
    }
    parse(text.as_bytes(), Numbers::Any)
        .ok()
        .filter(is_container)
}
