//! Where in an object something stands.

use proof::json::Json;

use crate::terraform::rewrite::plain_text;

/// Longest path that is written, in characters.
const LONGEST: usize = 400;

/// A path, and how it is written.
#[derive(Debug, Clone)]
pub(super) struct Path {
    steps: Vec<Step>,
    written: String,
    /// Steps from here on are within a text, of which Terraform's own paths know nothing.
    within_text: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Element(usize),
}

impl Path {
    pub(super) fn root() -> Self {
        Self {
            steps: Vec::new(),
            written: String::new(),
            within_text: false,
        }
    }

    pub(super) fn member(&self, name: &str) -> Self {
        let is_first = self.written.is_empty();
        let quoted = || String::from_utf8_lossy(&Json::from(name).to_jcs()).into_owned();
        let written = match (is_word(name), is_first) {
            (true, true) => name.to_owned(),
            (true, false) => format!("{}.{name}", self.written),
            (false, true) => plain_text(&quoted()),
            (false, false) => format!("{}[{}]", self.written, plain_text(&quoted())),
        };
        self.step(Step::Member(name.to_owned()), written)
    }

    pub(super) fn element(&self, place: usize) -> Self {
        let written = format!("{}[{place}]", self.written);
        self.step(Step::Element(place), written)
    }

    /// Into the JSON that a text holds.
    pub(super) fn decoded(&self) -> Self {
        Self {
            written: format!("jsondecode({})", self.written),
            within_text: true,
            ..self.clone()
        }
    }

    fn step(&self, step: Step, written: String) -> Self {
        let mut steps = self.steps.clone();
        if !self.within_text {
            steps.push(step);
        }
        Self {
            steps,
            written,
            within_text: self.within_text,
        }
    }

    /// As people read it; of a long one its beginning and its end.
    pub(super) fn written(&self) -> String {
        if self.written.is_empty() {
            return "the whole object".to_owned();
        }
        let length = self.written.chars().count();
        if length <= LONGEST {
            return self.written.clone();
        }
        let head = self.written.chars().take(LONGEST / 2);
        let tail = self.written.chars().skip(length - LONGEST / 2);
        head.chain(['…']).chain(tail).collect()
    }

    /// Whether one of Terraform's paths leads here, past here, or to what this is a part of. A
    /// step that is neither name nor number is an element of a set, whichever.
    pub(super) fn meets(&self, path: &Json) -> bool {
        let steps = path.as_array().unwrap_or_default();
        let alike = |(own, other): (&Step, &Json)| match (own, other) {
            (Step::Member(name), Json::String(other)) => name == other,
            (Step::Element(place), other) => match other.as_integer() {
                Some(other) => usize::try_from(other) == Ok(*place),
                None => other.as_str().is_none(),
            },
            _ => false,
        };
        !steps.is_empty() && self.steps.iter().zip(steps).all(alike)
    }
}

/// A name that needs no quotes.
fn is_word(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    name.bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit() && byte != b'-')
        && name.bytes().all(plain)
}
