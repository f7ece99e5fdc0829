//! What changes inside one object, for a person who must judge it in a minute: each place that
//! differs, by its path, as `terraform plan` shows it.
//!
//! A plan does not say which arrays are sets, so elements are compared by value and order: what
//! stays is left out, and an element of the middle that goes is one removal, not a shift of all
//! that follow.

mod marks;
mod path;
mod sequence;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashMap};

use proof::json::{Json, Numbers, parse};
use serde::{Deserialize, Serialize};

use self::marks::Marks;
use self::path::Path;
use self::sequence::{Gap, gaps};

/// Most places that are shown of one object; the largest types have some two hundred attributes.
const MOST: usize = 512;
/// Most bytes of values and lines that are shown of one object.
const MOST_BYTES: usize = 64 << 10;
/// Most comparisons of elements of lists, and of lines, in one object: with what begins and ends
/// alike left out, a thousand of each side.
const MOST_COMPARISONS: usize = 1 << 20;
/// Most members and elements that are visited in one plan, and most comparisons in it.
const MOST_VISITED: usize = 2_000_000;
const MOST_COMPARISONS_OF_ALL: usize = 1 << 28;
/// Longest text that is tried as JSON, in bytes.
const LONGEST_JSON: usize = 1 << 20;

/// What differs in one object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) changes: Vec<AttributeChange>,
    /// How many places more differ than there is room for.
    pub(super) left_out: u32,
    /// How many objects and lists in it the plan's budget had no visits left for.
    pub(super) not_compared: u32,
}

impl Inside {
    /// Changes whenever something is found.
    fn found(&self) -> (usize, u32, u32) {
        (self.changes.len(), self.left_out, self.not_compared)
    }
}

/// What comparing the objects of one plan may still cost: a hostile one is worth no more.
#[derive(Debug)]
pub(super) struct Budget {
    visits: usize,
    comparisons: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            visits: MOST_VISITED,
            comparisons: MOST_COMPARISONS_OF_ALL,
        }
    }
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
    /// The line, of a long one an excerpt around what differs, with how many characters are cut;
    /// for lines that are not shown, how many they are.
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
    /// Lines that stay, and are not shown.
    Skipped,
    /// Lines that go or come, for which there is no room.
    LeftOut,
}

/// Compares the two sides of a `change`.
pub(super) fn attributes(change: &Json, budget: &mut Budget) -> Inside {
    let side = |name: &str| change.get(name).filter(|value| **value != Json::Null);
    let replace = change.get("replace_paths").and_then(Json::as_array);
    let comparisons = budget.comparisons.min(MOST_COMPARISONS);
    let mut found = Found {
        replace: replace.unwrap_or_default(),
        inside: Inside::default(),
        left: MOST_BYTES,
        comparisons,
        visits: &mut budget.visits,
        decoded: false,
    };
    let pair = Pair {
        before: side("before"),
        after: side("after"),
        secret_before: side("before_sensitive"),
        secret_after: side("after_sensitive"),
        unknown: side("after_unknown"),
        beside: None,
    };
    found.compare(&Path::root(), pair);
    budget.comparisons -= comparisons - found.comparisons;
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
    /// What is marked where this could have come from, or gone to; of one side only.
    beside: Option<&'p Marks<'p>>,
}

impl<'p> Pair<'p> {
    /// The members by their names, where the sides are objects. A null is none.
    fn members(self) -> BTreeMap<&'p str, Self> {
        let of = |side: Option<&'p Json>| side.and_then(Json::members).unwrap_or_default();
        let mut members: BTreeMap<&'p str, Self> = BTreeMap::new();
        for (name, value) in of(self.before) {
            members.entry(name).or_default().before = Some(value).filter(|v| **v != Json::Null);
        }
        for (name, value) in of(self.after) {
            members.entry(name).or_default().after = Some(value).filter(|v| **v != Json::Null);
        }
        for (name, mask) in of(self.unknown) {
            members.entry(name).or_default().unknown = Some(mask);
        }
        // A mark on what is not there hides nothing.
        for (name, mask) in of(self.secret_before) {
            if let Some(member) = members.get_mut(name.as_str()) {
                member.secret_before = Some(mask);
            }
        }
        for (name, mask) in of(self.secret_after) {
            if let Some(member) = members.get_mut(name.as_str()) {
                member.secret_after = Some(mask);
            }
        }
        if let Some(beside) = self.beside {
            for (name, member) in &mut members {
                member.beside = beside.member(name);
            }
        }
        members
    }

    /// How many members or elements there are on the side that has most.
    fn size(self) -> usize {
        let of = |side: Option<&Json>| match side {
            Some(Json::Object(members)) => members.len(),
            Some(Json::Array(elements)) => elements.len(),
            _ => 0,
        };
        of(self.before).max(of(self.after)).max(of(self.unknown))
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
            beside: self.beside.and_then(Marks::element),
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
        self.beside.is_some()
            || self.secret_before.is_some_and(has_mark)
            || self.secret_after.is_some_and(has_mark)
    }

    /// The place is a secret as a whole, on either side: what hides a part of one hides both.
    fn is_secret(self) -> bool {
        let beside = |value| self.beside.is_some_and(|marks| marks.cover(value));
        covers(self.secret_before, self.before)
            || covers(self.secret_after, self.after)
            || self.before.or(self.after).is_some_and(beside)
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
    /// Members and elements that may still be visited, in all of the plan.
    visits: &'p mut usize,
    /// Within a text that is JSON; a text in that is a text.
    decoded: bool,
}

impl Found<'_> {
    fn compare(&mut self, path: &Path<'_>, pair: Pair<'_>) {
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
                self.one_sided(path, pair, Self::members);
            }
            (Some(Json::Object(_)), Some(Json::Object(_))) => self.members(path, pair),
            (Some(Json::Array(one)), None) | (None, Some(Json::Array(one)))
                if later || one.iter().any(is_container) || pair.has_secret() =>
            {
                self.one_sided(path, pair, Self::elements);
            }
            (Some(Json::Array(_)), Some(Json::Array(_))) => self.elements(path, pair),
            (Some(Json::String(before)), Some(Json::String(after))) => {
                self.texts(path, before, after);
            }
            (Some(one), Some(other)) if is_container(one) || is_container(other) => {
                let mut marks = Marks::default();
                marks.add(pair.secret_before);
                marks.add(pair.secret_after);
                for side in pair.apart() {
                    let beside = marks.any();
                    self.compare(path, Pair { beside, ..side });
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

    /// What comes or goes with all that it holds; where that is nothing but nulls, as it is.
    fn one_sided(
        &mut self,
        path: &Path<'_>,
        pair: Pair<'_>,
        inside: fn(&mut Self, &Path<'_>, Pair<'_>),
    ) {
        let so_far = self.inside.found();
        inside(self, path, pair);
        if self.inside.found() == so_far {
            let before = text::cut(text::written(pair.before, pair.secret_before));
            let after = text::cut(text::written(pair.after, pair.secret_after));
            self.push(path, before, after, Vec::new());
        }
    }

    /// Whether there is time to visit all that is in there; says so where there is none.
    fn may_visit(&mut self, pair: Pair<'_>) -> bool {
        let rest = self.visits.checked_sub(pair.size());
        match rest {
            Some(rest) => *self.visits = rest,
            None => self.inside.not_compared = self.inside.not_compared.saturating_add(1),
        }
        rest.is_some()
    }

    fn members(&mut self, path: &Path<'_>, pair: Pair<'_>) {
        if !self.may_visit(pair) {
            return;
        }
        for (name, member) in pair.members() {
            self.compare(&path.member(name), member);
        }
    }

    fn elements(&mut self, path: &Path<'_>, pair: Pair<'_>) {
        if !self.may_visit(pair) {
            return;
        }
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
            // Any of these may have become any of those: what one hides, none of them shows.
            let mut marks = Marks::default();
            if !goes.is_empty() && !comes.is_empty() {
                for place in goes.clone() {
                    marks.add(pair.elements(Some(place), None).secret_before);
                }
                for place in comes.clone() {
                    marks.add(pair.elements(None, Some(place)).secret_after);
                }
            }
            let goes = goes.map(|place| (place, pair.elements(Some(place), None)));
            let comes = comes.map(|place| (place, pair.elements(None, Some(place))));
            for (place, side) in goes.chain(comes) {
                let beside = marks.any().or(side.beside);
                self.compare(&path.element(place), Pair { beside, ..side });
            }
        }
    }

    fn texts(&mut self, path: &Path<'_>, before: &str, after: &str) {
        if !self.decoded
            && let (Some(one), Some(other)) = (container_in(before), container_in(after))
        {
            let so_far = self.inside.found();
            self.decoded = true;
            let pair = Pair {
                before: Some(&one),
                after: Some(&other),
                ..Pair::default()
            };
            self.compare(&path.decoded(), pair);
            self.decoded = false;
            // Where only the layout differs, it is the text that is shown.
            if self.inside.found() != so_far {
                return;
            }
        }
        let lines = text::lines(before, after, &mut self.comparisons);
        let written = |text: &str| text::written(Some(&Json::from(text)), None);
        let (before, after) = text::cut_both(written(before), written(after));
        self.push(path, before, after, lines);
    }

    fn push(&mut self, path: &Path<'_>, before: Shown, after: Shown, lines: Vec<Line>) {
        if self.inside.changes.len() >= MOST || self.left == 0 {
            self.inside.left_out = self.inside.left_out.saturating_add(1);
            return;
        }
        let size = |side: &Shown| match side {
            Shown::Value(text) => text.len(),
            _ => 0,
        };
        let name = path.written();
        let lines_size: usize = lines.iter().map(|line| line.text.len()).sum();
        let size = name.len() + size(&before) + size(&after) + lines_size;
        if size > self.left {
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

/// What a text holds that is an object or an array in JSON. Numbers that a double would round are
/// compared as the text that they are.
fn container_in(text: &str) -> Option<Json> {
    let begins = text.trim_start().starts_with(['{', '[']);
    if !begins || text.len() > LONGEST_JSON {
        return None;
    }
    parse(text.as_bytes(), Numbers::Integers)
        .ok()
        .filter(is_container)
}
