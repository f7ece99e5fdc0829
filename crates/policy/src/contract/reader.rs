//! A reader of JSON objects that collects errors instead of stopping at the first.

use std::cell::RefCell;

use proof::json::Json;

use super::error::{ContractError, ContractErrorKind};
use crate::reason::quoted;

/// Errors found so far.
#[derive(Default)]
pub(super) struct Errors(RefCell<Vec<ContractError>>);

impl Errors {
    pub(super) fn add(&self, path: impl Into<String>, kind: ContractErrorKind) {
        self.0.borrow_mut().push(ContractError {
            path: path.into(),
            kind,
        });
    }

    pub(super) fn into_inner(self) -> Vec<ContractError> {
        self.0.into_inner()
    }
}

/// One object at a known path, whose members are all known names.
pub(super) struct Reader<'a> {
    path: String,
    object: Option<&'a Json>,
    errors: &'a Errors,
}

/// Bounds of every list in a contract.
const MAX_LIST: usize = 256;

impl<'a> Reader<'a> {
    pub(super) fn root(
        document: &'a Json,
        known: &'static [&'static str],
        errors: &'a Errors,
    ) -> Self {
        Self::new(String::new(), Some(document), known, errors)
    }

    fn new(
        path: String,
        value: Option<&'a Json>,
        known: &'static [&'static str],
        errors: &'a Errors,
    ) -> Self {
        let object = value.filter(|value| {
            let is_object = value.members().is_some();
            if !is_object {
                errors.add(
                    path.clone(),
                    ContractErrorKind::WrongType {
                        expected: "an object",
                    },
                );
            }
            is_object
        });
        let reader = Self {
            path,
            object,
            errors,
        };
        for (name, _) in object.and_then(Json::members).unwrap_or_default() {
            if !known.contains(&name.as_str()) {
                let nearest = nearest(name, known);
                errors.add(
                    reader.at(&printable(name)),
                    ContractErrorKind::UnknownMember { nearest },
                );
            }
        }
        reader
    }

    /// The path of a member.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    pub(super) fn bad(&self, name: &str, reason: impl Into<String>) {
        self.errors
            .add(self.at(name), ContractErrorKind::BadValue(reason.into()));
    }

    pub(super) fn contradiction(&self, name: &str, reason: impl Into<String>) {
        self.errors.add(
            self.at(name),
            ContractErrorKind::Contradiction(reason.into()),
        );
    }

    /// The object is there (and an object).
    pub(super) fn is_present(&self) -> bool {
        self.object.is_some()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn value(&self, name: &str) -> Option<&'a Json> {
        self.object?.get(name)
    }

    pub(super) fn require(&self, name: &str) {
        if self.object.is_some() && !self.has(name) {
            self.errors.add(self.at(name), ContractErrorKind::Missing);
        }
    }

    /// A nested object; an absent one reads as one without members.
    pub(super) fn object(&self, name: &str, known: &'static [&'static str]) -> Reader<'a> {
        Reader::new(self.at(name), self.value(name), known, self.errors)
    }

    /// An object inside an array.
    pub(super) fn element(
        &self,
        name: &str,
        index: usize,
        known: &'static [&'static str],
    ) -> Reader<'a> {
        let value = self.array(name).and_then(|elements| elements.get(index));
        Reader::new(
            format!("{}[{index}]", self.at(name)),
            value,
            known,
            self.errors,
        )
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Json) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let read = read(value);
        if read.is_none() {
            self.errors
                .add(self.at(name), ContractErrorKind::WrongType { expected });
        }
        read
    }

    pub(super) fn string(&self, name: &str) -> Option<&'a str> {
        self.typed(name, "a string", Json::as_str)
    }

    pub(super) fn boolean(&self, name: &str, default: bool) -> bool {
        self.typed(name, "true or false", Json::as_bool)
            .unwrap_or(default)
    }

    /// An integer between two bounds.
    pub(super) fn integer(&self, name: &str, bounds: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.typed(name, "an integer", Json::as_integer)?;
        if bounds.contains(&value) {
            Some(value)
        } else {
            self.bad(
                name,
                format!("must be {} to {}", bounds.start(), bounds.end()),
            );
            None
        }
    }

    pub(super) fn array(&self, name: &str) -> Option<&'a [Json]> {
        self.typed(name, "an array", Json::as_array)
    }

    /// A text read by `read`, which says what is wrong.
    pub(super) fn text<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match read(self.string(name)?) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.bad(name, reason);
                None
            }
        }
    }

    /// One of a few texts.
    pub(super) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        self.text(name, |text| {
            choices
                .iter()
                .find(|(choice, _)| *choice == text)
                .map(|(_, value)| *value)
                .ok_or_else(|| {
                    let choices: Vec<String> = choices
                        .iter()
                        .map(|(choice, _)| format!("\"{choice}\""))
                        .collect();
                    format!(
                        "{} is not accepted; must be {}",
                        quoted(text),
                        choices.join(" or ")
                    )
                })
        })
    }

    /// A list of texts without repetition, each read by `read`.
    pub(super) fn list<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let elements = self.array(name)?;
        if elements.len() > MAX_LIST {
            self.bad(
                name,
                format!("has {} elements; at most {MAX_LIST}", elements.len()),
            );
            return None;
        }
        let mut seen: Vec<&str> = Vec::with_capacity(elements.len());
        let mut values = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let path = format!("{}[{index}]", self.at(name));
            let Some(text) = element.as_str() else {
                self.errors.add(
                    path,
                    ContractErrorKind::WrongType {
                        expected: "a string",
                    },
                );
                continue;
            };
            if seen.contains(&text) {
                let reason = format!("{} is listed twice", quoted(text));
                self.errors.add(path, ContractErrorKind::BadValue(reason));
                continue;
            }
            seen.push(text);
            match read(text) {
                Ok(value) => values.push(value),
                Err(reason) => self.errors.add(path, ContractErrorKind::BadValue(reason)),
            }
        }
        Some(values)
    }
}

fn printable(name: &str) -> String {
    name.chars()
        .take(64)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The known name that a misspelt one probably means.
fn nearest(name: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let name: String = name.chars().take(64).collect();
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&name, candidate), *candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
