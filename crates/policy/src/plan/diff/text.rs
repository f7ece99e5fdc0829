//! Values as texts of bounded length.

use std::collections::HashMap;

use proof::json::Json;

use super::sequence::{Gap, gaps};
use super::{Line, LineKind, Shown, has_mark};

/// Longest value that is shown, in characters.
const LONGEST: usize = 2000;
/// Of a longer one the excerpt begins and ends so many characters around what differs.
const AROUND: usize = 40;
/// Most lines that are shown of a text, and longest one, in characters.
const MOST_LINES: usize = 100;
const LONGEST_LINE: usize = 240;
/// Lines that stay are shown so far around those that differ.
const LINES_AROUND: usize = 2;

/// JSON text, with words in the place of what a mask hides.
pub(super) fn written(value: Option<&Json>, mask: Option<&Json>) -> Shown {
    let Some(value) = value else {
        return Shown::Absent;
    };
    let mut text = String::new();
    write(value, mask, &mut text);
    Shown::Value(text)
}

fn write(value: &Json, mask: Option<&Json>, out: &mut String) {
    let json = |value: &Json| String::from_utf8(value.to_jcs()).expect("JCS is UTF-8");
    match (value, mask.filter(|mask| has_mark(mask))) {
        (value, None) => out.push_str(&json(value)),
        (Json::Object(members), Some(marks @ Json::Object(_))) => {
            out.push('{');
            for (number, (name, member)) in members.iter().enumerate() {
                out.push_str(if number > 0 { "," } else { "" });
                out.push_str(&json(&Json::from(name.as_str())));
                out.push(':');
                write(member, marks.get(name), out);
            }
            out.push('}');
        }
        (Json::Array(elements), Some(Json::Array(marks))) if marks.len() <= elements.len() => {
            out.push('[');
            for (number, element) in elements.iter().enumerate() {
                out.push_str(if number > 0 { "," } else { "" });
                write(element, marks.get(number), out);
            }
            out.push(']');
        }
        _ => out.push_str("(a secret)"),
    }
}

/// Of a text that is too long its beginning.
pub(super) fn cut(side: Shown) -> Shown {
    excerpt(side, 0, 0)
}

/// Of texts that are too long what stands around their differences: whoever fills their
/// beginnings or their ends hides nothing.
pub(super) fn cut_both(before: Shown, after: Shown) -> (Shown, Shown) {
    let (head, tail) = match (&before, &after) {
        (Shown::Value(before), Shown::Value(after)) => alike(before, after),
        _ => (0, 0),
    };
    (excerpt(before, head, tail), excerpt(after, head, tail))
}

/// How many characters two texts have in common at their beginnings, and besides at their ends.
fn alike(one: &str, other: &str) -> (usize, usize) {
    let head = common(one.chars(), other.chars());
    let tail = common(one.chars().rev(), other.chars().rev());
    let shorter = one.chars().count().min(other.chars().count());
    (head, tail.min(shorter - head))
}

/// How many characters are the same, one after the other.
fn common(one: impl Iterator<Item = char>, other: impl Iterator<Item = char>) -> usize {
    one.zip(other)
        .take_while(|(one, other)| one == other)
        .count()
}

fn excerpt(side: Shown, head: usize, tail: usize) -> Shown {
    let Shown::Value(text) = side else {
        return side;
    };
    let length = text.chars().count();
    if length <= LONGEST {
        return Shown::Value(text);
    }
    let from = head.saturating_sub(AROUND);
    let to = length - tail.saturating_sub(AROUND);
    let shown = (to - from).min(LONGEST);
    let mut excerpt = String::new();
    excerpt.push_str(if from > 0 { "…" } else { "" });
    excerpt.extend(text.chars().skip(from).take(shown));
    match to - from - shown {
        0 if to < length => excerpt.push('…'),
        0 => {}
        more => excerpt.push_str(&format!("… ({more} characters more)")),
    }
    Shown::Value(excerpt)
}

/// The lines that differ, and those around them; none for texts of one line.
pub(super) fn lines(before: &str, after: &str, left: &mut usize) -> Vec<Line> {
    if !before.contains('\n') && !after.contains('\n') {
        return Vec::new();
    }
    let one: Vec<&str> = before.split('\n').collect();
    let other: Vec<&str> = after.split('\n').collect();
    let mut ids = HashMap::new();
    let before: Vec<usize> = numbered(&one, &mut ids);
    let after: Vec<usize> = numbered(&other, &mut ids);
    let mut lines = Shortened::default();
    let mut stays = 0;
    for Gap { goes, comes } in gaps(&before, &after, left) {
        lines.kept(&one[stays..goes.start], stays > 0, true);
        let (removed, added) = (&one[goes.clone()], &other[comes]);
        lines.differing(LineKind::Removed, removed, added);
        lines.differing(LineKind::Added, added, removed);
        stays = goes.end;
    }
    lines.kept(&one[stays..], stays > 0, false);
    lines.end()
}

/// Equal lines have equal numbers.
fn numbered<'t>(lines: &[&'t str], ids: &mut HashMap<&'t str, usize>) -> Vec<usize> {
    let number = |line: &&'t str| {
        let next = ids.len();
        *ids.entry(*line).or_insert(next)
    };
    lines.iter().map(number).collect()
}

/// Of a line that is too long what stands around its difference to that one of the others (in
/// order) which begins most like it, and how many characters are cut.
fn cut_line(line: &str, others: &[&str]) -> String {
    let length = line.chars().count();
    if length <= LONGEST_LINE {
        return line.to_owned();
    }
    let place = others.partition_point(|other| *other < line);
    let nearest = others[place.saturating_sub(1)..].iter().take(2);
    let (head, tail) = nearest
        .map(|other| alike(line, other))
        .max()
        .unwrap_or_default();
    let from = head.saturating_sub(AROUND);
    let to = (length - tail.saturating_sub(AROUND)).min(from + LONGEST_LINE);
    let shown = line.chars().skip(from).take(to - from);
    let before = (from > 0).then(|| format!("({from} characters) …"));
    let behind = (to < length).then(|| format!("… ({} characters)", length - to));
    let (before, behind) = (before.unwrap_or_default(), behind.unwrap_or_default());
    before.chars().chain(shown).chain(behind.chars()).collect()
}

/// Lines that are collected up to a bound.
#[derive(Default)]
struct Shortened {
    lines: Vec<Line>,
    /// Lines beyond the bound that differ, and that stay.
    left_out: usize,
    skipped: usize,
}

impl Shortened {
    fn is_full(&self) -> bool {
        self.lines.len() >= MOST_LINES
    }

    fn push(&mut self, kind: LineKind, text: String) {
        self.lines.push(Line { kind, text });
    }

    /// Lines that go or come, beside those that come or go in their place.
    fn differing(&mut self, kind: LineKind, lines: &[&str], others: &[&str]) {
        let mut others = others.to_vec();
        if !self.is_full() && lines.iter().any(|line| line.len() > LONGEST_LINE) {
            others.sort_unstable();
        }
        for line in lines {
            if self.is_full() {
                self.left_out += 1;
            } else {
                self.push(kind, cut_line(line, &others));
            }
        }
    }

    fn staying(&mut self, lines: &[&str]) {
        for line in lines {
            if self.is_full() {
                self.skipped += 1;
            } else {
                self.push(LineKind::Kept, cut_line(line, &[]));
            }
        }
    }

    /// Lines that stay: the first ones behind a difference, and the last ones before one.
    fn kept(&mut self, lines: &[&str], behind: bool, before: bool) {
        let head = if behind { LINES_AROUND } else { 0 };
        let tail = if before { LINES_AROUND } else { 0 };
        if lines.len() <= head + tail {
            return self.staying(lines);
        }
        self.staying(&lines[..head]);
        let skipped = lines.len() - head - tail;
        if self.is_full() {
            self.skipped += skipped;
        } else {
            self.push(LineKind::Skipped, skipped.to_string());
        }
        self.staying(&lines[lines.len() - tail..]);
    }

    fn end(mut self) -> Vec<Line> {
        if self.left_out > 0 {
            self.push(LineKind::LeftOut, self.left_out.to_string());
        }
        if self.skipped > 0 {
            self.push(LineKind::Skipped, self.skipped.to_string());
        }
        self.lines
    }
}
