//! What is a secret in any of several places, laid one over the other.

use std::collections::BTreeMap;

use proof::json::Json;

use super::has_mark;

/// Marks of several masks.
#[derive(Debug, Default)]
pub(super) struct Marks<'p> {
    /// All of it.
    whole: bool,
    /// In members of these names.
    members: BTreeMap<&'p str, Marks<'p>>,
    /// In any element.
    elements: Option<Box<Marks<'p>>>,
}

impl<'p> Marks<'p> {
    /// Lays a mask over those so far.
    pub(super) fn add(&mut self, mask: Option<&'p Json>) {
        match mask {
            Some(Json::Bool(mark)) => self.whole |= *mark,
            Some(Json::Object(members)) => {
                for (name, mask) in members.iter().filter(|(_, mask)| has_mark(mask)) {
                    self.members.entry(name).or_default().add(Some(mask));
                }
            }
            Some(Json::Array(elements)) => {
                for mask in elements.iter().filter(|mask| has_mark(mask)) {
                    self.elements.get_or_insert_default().add(Some(mask));
                }
            }
            _ => {}
        }
    }

    /// These, when there are any.
    pub(super) fn any(&self) -> Option<&Self> {
        let any = self.whole || !self.members.is_empty() || self.elements.is_some();
        any.then_some(self)
    }

    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        self.members.get(name)
    }

    pub(super) fn element(&self) -> Option<&Self> {
        self.elements.as_deref()
    }

    /// Whether they are about a value as a whole, or do not fit its shape.
    pub(super) fn cover(&self, value: &Json) -> bool {
        match value {
            Json::Object(_) => self.whole || self.elements.is_some(),
            Json::Array(_) => self.whole || !self.members.is_empty(),
            _ => self.any().is_some(),
        }
    }
}
