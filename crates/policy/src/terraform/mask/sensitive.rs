//! The values that a full plan marks as sensitive.

use std::collections::BTreeSet;
use std::fmt;

use proof::json::Json;

/// Most values of one plan.
const MAX_VALUES: usize = 2000;
/// Most bytes of all of them together.
const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting of modules and values.
const MAX_DEPTH: usize = 64;

/// What a plan marks as sensitive. Prints without the values.
#[derive(Clone, PartialEq, Eq)]
pub enum Marked {
    /// All the texts that it marks.
    Values(BTreeSet<String>),
    /// More than 2000 texts, more than 1 MiB of them, or what could not be read whole: whatever
    /// could hold one of them has to be hidden.
    TooMany,
}

impl fmt::Debug for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values(values) => write!(f, "Values({})", values.len()),
            Self::TooMany => f.write_str("TooMany"),
        }
    }
}

/// Collects the values that a plan marks as sensitive: in changes, in the state before and after,
/// in outputs, and of variables that are declared so.
pub fn sensitive_values(plan: &Json) -> Marked {
    let mut values = Values::default();
    values.plan(plan);
    values.into_marked()
}

/// The values that were found so far, within the bounds.
#[derive(Default)]
pub(crate) struct Values {
    texts: BTreeSet<String>,
    bytes: usize,
    too_many: bool,
}

impl Values {
    /// Adds what a plan, or a part of one, marks.
    pub(crate) fn plan(&mut self, plan: &Json) {
        for list in ["resource_changes", "resource_drift"] {
            for resource in plan.get(list).and_then(Json::as_array).unwrap_or_default() {
                self.change(resource.get("change"));
            }
        }
        for (_, change) in members(plan.get("output_changes")) {
            self.change(Some(change));
        }
        for state in [
            plan.at(&["prior_state", "values"]),
            plan.get("planned_values"),
        ] {
            for (_, output) in members(state.and_then(|state| state.get("outputs"))) {
                if output.get("sensitive") == Some(&Json::Bool(true)) {
                    self.all(output.get("value"), 0);
                }
            }
            self.module(state.and_then(|state| state.get("root_module")), 0);
        }
        let declared = plan.at(&["configuration", "root_module", "variables"]);
        for (name, declaration) in members(declared) {
            if declaration.get("sensitive") == Some(&Json::Bool(true)) {
                self.all(plan.at(&["variables", name, "value"]), 0);
            }
        }
    }

    /// Gives up: there is more, and it is not gone into.
    pub(crate) fn give_up(&mut self) {
        self.too_many = true;
    }

    pub(crate) fn into_marked(self) -> Marked {
        match self.too_many {
            true => Marked::TooMany,
            false => Marked::Values(self.texts),
        }
    }

    fn insert(&mut self, text: &str) {
        if self.texts.contains(text) {
            return;
        }
        if self.texts.len() >= MAX_VALUES || self.bytes + text.len() > MAX_BYTES {
            self.too_many = true;
            return;
        }
        self.bytes += text.len();
        self.texts.insert(text.to_owned());
    }

    fn change(&mut self, change: Option<&Json>) {
        let member = |name| change.and_then(|change| change.get(name));
        self.marked(member("before"), member("before_sensitive"), 0);
        self.marked(member("after"), member("after_sensitive"), 0);
    }

    fn module(&mut self, module: Option<&Json>, depth: usize) {
        let Some(module) = module else {
            return;
        };
        if depth >= MAX_DEPTH {
            return self.give_up();
        }
        let list = |name| {
            module
                .get(name)
                .and_then(Json::as_array)
                .unwrap_or_default()
        };
        for resource in list("resources") {
            self.marked(resource.get("values"), resource.get("sensitive_values"), 0);
        }
        for child in list("child_modules") {
            self.module(Some(child), depth + 1);
        }
    }

    /// What the marks say of a value: everything, nothing, or the same for each of its parts.
    fn marked(&mut self, value: Option<&Json>, marks: Option<&Json>, depth: usize) {
        if depth >= MAX_DEPTH {
            return self.give_up();
        }
        match (value, marks) {
            (value, Some(Json::Bool(true))) => self.all(value, depth),
            (Some(Json::Object(parts)), Some(marks @ Json::Object(_))) => {
                for (name, part) in parts {
                    self.marked(Some(part), marks.get(name), depth + 1);
                }
            }
            (Some(Json::Array(parts)), Some(Json::Array(marks))) => {
                for (part, marks) in parts.iter().zip(marks) {
                    self.marked(Some(part), Some(marks), depth + 1);
                }
            }
            _ => {}
        }
    }

    fn all(&mut self, value: Option<&Json>, depth: usize) {
        if self.too_many || depth >= MAX_DEPTH {
            return self.give_up();
        }
        match value {
            Some(Json::String(text)) if !text.is_empty() => self.insert(text),
            Some(Json::Array(parts)) => parts.iter().for_each(|p| self.all(Some(p), depth + 1)),
            Some(Json::Object(parts)) => {
                parts.iter().for_each(|(_, p)| self.all(Some(p), depth + 1));
            }
            _ => {}
        }
    }
}

fn members(json: Option<&Json>) -> &[(String, Json)] {
    json.and_then(Json::members).unwrap_or_default()
}
