//! The values that a full plan marks as sensitive.

use std::collections::BTreeSet;

use proof::json::Json;

/// Most values of one plan.
const MAX_VALUES: usize = 2000;
/// Deepest nesting of modules and values.
const MAX_DEPTH: usize = 64;

/// Collects the values that a plan marks as sensitive: in changes, in the state before and after,
/// in outputs, and of variables that are declared so.
pub fn sensitive_values(plan: &Json) -> BTreeSet<String> {
    let mut values = Values::default();
    for list in ["resource_changes", "resource_drift"] {
        for resource in plan.get(list).and_then(Json::as_array).unwrap_or_default() {
            values.change(resource.get("change"));
        }
    }
    for (_, change) in members(plan.get("output_changes")) {
        values.change(Some(change));
    }
    for state in [
        plan.at(&["prior_state", "values"]),
        plan.get("planned_values"),
    ] {
        for (_, output) in members(state.and_then(|state| state.get("outputs"))) {
            if output.get("sensitive") == Some(&Json::Bool(true)) {
                values.all(output.get("value"), 0);
            }
        }
        values.module(state.and_then(|state| state.get("root_module")), 0);
    }
    let declared = plan.at(&["configuration", "root_module", "variables"]);
    for (name, declaration) in members(declared) {
        if declaration.get("sensitive") == Some(&Json::Bool(true)) {
            values.all(plan.at(&["variables", name, "value"]), 0);
        }
    }
    values.0
}

fn members(json: Option<&Json>) -> &[(String, Json)] {
    json.and_then(Json::members).unwrap_or_default()
}

#[derive(Default)]
struct Values(BTreeSet<String>);

impl Values {
    fn change(&mut self, change: Option<&Json>) {
        let member = |name| change.and_then(|change| change.get(name));
        self.marked(member("before"), member("before_sensitive"), 0);
        self.marked(member("after"), member("after_sensitive"), 0);
    }

    fn module(&mut self, module: Option<&Json>, depth: usize) {
        let Some(module) = module.filter(|_| depth < MAX_DEPTH) else {
            return;
        };
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
            return;
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
        if self.0.len() >= MAX_VALUES || depth >= MAX_DEPTH {
            return;
        }
        match value {
            Some(Json::String(text)) if !text.is_empty() => {
                self.0.insert(text.clone());
            }
            Some(Json::Array(parts)) => parts.iter().for_each(|p| self.all(Some(p), depth + 1)),
            Some(Json::Object(parts)) => {
                parts.iter().for_each(|(_, p)| self.all(Some(p), depth + 1));
            }
            _ => {}
        }
    }
}
