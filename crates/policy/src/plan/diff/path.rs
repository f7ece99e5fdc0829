//! Where in an object something stands.

use std::borrow::Cow;

use proof::json::Json;

use crate::terraform::rewrite::plain_text;

/// Longest path that is written, in characters.
const LONGEST: usize = 400;

/// A path: the last step of it, and those before. It is written only where something differs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'p>(Option<(&'p Path<'p>, Step<'p>)>);

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Member(&'p str),
    Element(usize),
    /// Into the JSON that a text holds.
    Decoded,
}

impl<'p> Path<'p> {
    pub(super) const fn root() -> Self {
        Self(None)
    }

    pub(super) const fn member(&'p self, name: &'p str) -> Self {
        Self(Some((self, Step::Member(name))))
    }

    pub(super) const fn element(&'p self, place: usize) -> Self {
        Self(Some((self, Step::Element(place))))
    }

    /// Into the JSON that a text holds.
    pub(super) const fn decoded(&'p self) -> Self {
        Self(Some((self, Step::Decoded)))
    }

    fn steps(&self) -> Vec<Step<'p>> {
        let mut steps = Vec::new();
        let mut rest = self.0;
        while let Some((before, step)) = rest {
            steps.push(step);
            rest = before.0;
        }
        steps.reverse();
        steps
    }

    /// As people read it; of a long one its beginning and its end.
    pub(super) fn written(&self) -> String {
        let mut written = String::new();
        for step in self.steps() {
            match step {
                Step::Member(name) => {
                    let name = shortened(name);
                    match (is_word(&name), written.is_empty()) {
                        (true, true) => written.push_str(&name),
                        (true, false) => written.push_str(&format!(".{name}")),
                        (false, true) => written.push_str(&quoted(&name)),
                        (false, false) => written.push_str(&format!("[{}]", quoted(&name))),
                    }
                }
                Step::Element(place) => written.push_str(&format!("[{place}]")),
                Step::Decoded => written = format!("jsondecode({written})"),
            }
        }
        if written.is_empty() {
            return "the whole object".to_owned();
        }
        if written.chars().count() <= LONGEST {
            return written;
        }
        ends(&written)
    }

    /// Whether one of Terraform's paths leads here, past here, or to what this is a part of. A
    /// step that is neither name nor number is an element of a set, whichever. Of steps within a
    /// text Terraform's own paths know nothing.
    pub(super) fn meets(&self, path: &Json) -> bool {
        let steps = path.as_array().unwrap_or_default();
        let alike = |(own, other): (Step<'_>, &Json)| match (own, other) {
            (Step::Member(name), Json::String(other)) => name == other,
            (Step::Element(place), other) => match other.as_integer() {
                Some(other) => usize::try_from(other) == Ok(place),
                None => other.as_str().is_none(),
            },
            _ => false,
        };
        let own = self.steps().into_iter();
        let own = own.take_while(|step| !matches!(step, Step::Decoded));
        !steps.is_empty() && own.zip(steps).all(alike)
    }
}

/// A name of which a longer path than is written would be made: its beginning and its end.
fn shortened(name: &str) -> Cow<'_, str> {
    // Of at most four bytes each.
    if name.len() <= 4 * LONGEST {
        return name.into();
    }
    ends(name).into()
}

fn ends(text: &str) -> String {
    let head = text.chars().take(LONGEST / 2);
    let from = text.char_indices().rev().nth(LONGEST / 2 - 1);
    let tail = from.map_or(text, |(from, _)| &text[from..]);
    head.chain(['…']).chain(tail.chars()).collect()
}

fn quoted(name: &str) -> String {
    plain_text(&String::from_utf8_lossy(&Json::from(name).to_jcs()))
}

/// A name that needs no quotes.
fn is_word(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    name.bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit() && byte != b'-')
        && name.bytes().all(plain)
}
