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
        (Shown::Value(before), Shown::Value(after)) => {
            let head = common(before.chars(), after.chars());
            let tail = common(before.chars().rev(), after.chars().rev());
            let shorter = before.chars().count().min(after.chars().count());
            (head, tail.min(shorter - head))
        }
        _ => (0, 0),
    };
    (excerpt(before, head, tail), excerpt(after, head, tail))
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
        lines.all(LineKind::Removed, &one[goes.clone()]);
        lines.all(LineKind::Added, &other[comes]);
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

/// Lines that are collected up to a bound.
#[derive(Default)]
struct Shortened {
    lines: Vec<Line>,
    left_out: usize,
}

impl Shortened {
    fn push(&mut self, kind: LineKind, text: &str) {
        if self.lines.len() >= MOST_LINES {
            self.left_out += usize::from(kind != LineKind::Skipped);
            return;
        }
        let mut cut: String = text.chars().take(LONGEST_LINE).collect();
        if cut.len() < text.len() {
            cut.push('…');
        }
        self.lines.push(Line { kind, text: cut });
    }

    fn all(&mut self, kind: LineKind, lines: &[&str]) {
        for line in lines {
            self.push(kind, line);
        }
    }

    /// Lines that stay: the first ones behind a difference, and the last ones before one.
    fn kept(&mut self, lines: &[&str], behind: bool, before: bool) {
        let head = if behind { LINES_AROUND } else { 0 };
        let tail = if before { LINES_AROUND } else { 0 };
        if lines.len() <= head + tail {
            return self.all(LineKind::Kept, lines);
        }
        self.all(LineKind::Kept, &lines[..head]);
        let skipped = lines.len() - head - tail;
        self.push(LineKind::Skipped, &skipped.to_string());
        self.all(LineKind::Kept, &lines[lines.len() - tail..]);
    }

    fn end(mut self) -> Vec<Line> {
        if self.left_out > 0 {
            self.lines.push(Line {
                kind: LineKind::Skipped,
                text: self.left_out.to_string(),
            });
        }
        self.lines
    }
}
