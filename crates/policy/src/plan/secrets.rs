//! The values that a plan marks as sensitive, collected in pieces.

use proof::json::Json;

use super::PlanError;
use super::document::{Cursor, Document, Value};
use crate::terraform::mask::{Marked, Values};

/// Deepest nesting of modules.
const MAX_MODULES: usize = 32;

/// As [`crate::terraform::mask::sensitive_values`] of the whole plan, one object at a time.
pub(super) fn collect(document: &Document) -> Result<Marked, PlanError> {
    let cursor = &mut document.cursor();
    let root = cursor.root()?;
    let plan = cursor.members(root)?.unwrap_or_default();
    let mut secrets = Secrets(Values::default());
    for list in ["resource_changes", "resource_drift"] {
        if let Some(changes) = member(&plan, list) {
            cursor.elements(changes, &mut |cursor, change| {
                let change = Json::Array(vec![cursor.json(change)?]);
                secrets.of(object(&[list], change));
                Ok(())
            })?;
        }
    }
    for (name, change) in inside(cursor, member(&plan, "output_changes"))? {
        secrets.of(object(&["output_changes", &name], cursor.json(change)?));
    }
    let prior = inside(cursor, member(&plan, "prior_state"))?;
    for state in [member(&prior, "values"), member(&plan, "planned_values")] {
        let state = inside(cursor, state)?;
        for (name, output) in inside(cursor, member(&state, "outputs"))? {
            let path = ["planned_values", "outputs", &name];
            secrets.of(object(&path, cursor.json(output)?));
        }
        if let Some(root) = member(&state, "root_module") {
            secrets.module(cursor, root, 0)?;
        }
    }
    let configuration = inside(cursor, member(&plan, "configuration"))?;
    let root = inside(cursor, member(&configuration, "root_module"))?;
    let values = inside(cursor, member(&plan, "variables"))?;
    for (name, declaration) in inside(cursor, member(&root, "variables"))? {
        let Some(value) = member(&values, &name) else {
            continue;
        };
        let path = ["configuration", "root_module", "variables", &name];
        let mut both = object(&path, cursor.json(declaration)?);
        both.set("variables", object(&[&name], cursor.json(value)?));
        secrets.of(both);
    }
    Ok(secrets.0.into_marked())
}

struct Secrets(Values);

impl Secrets {
    /// Adds those of a plan that holds one object.
    fn of(&mut self, plan: Json) {
        self.0.plan(&plan);
    }

    fn module(
        &mut self,
        cursor: &mut Cursor<'_>,
        module: Value,
        depth: usize,
    ) -> Result<(), PlanError> {
        if depth > MAX_MODULES {
            self.0.give_up();
            return Ok(());
        }
        let members = inside(cursor, Some(module))?;
        if let Some(resources) = member(&members, "resources") {
            cursor.elements(resources, &mut |cursor, resource| {
                let resource = Json::Array(vec![cursor.json(resource)?]);
                self.of(object(
                    &["planned_values", "root_module", "resources"],
                    resource,
                ));
                Ok(())
            })?;
        }
        if let Some(children) = member(&members, "child_modules") {
            cursor.elements(children, &mut |cursor, child| {
                self.module(cursor, child, depth + 1)
            })?;
        }
        Ok(())
    }
}

/// An object in an object and so on, with the value at the end of the path.
fn object(path: &[&str], value: Json) -> Json {
    path.iter().rev().fold(value, |value, name| {
        Json::Object(vec![((*name).to_owned(), value)])
    })
}

fn member(members: &[(String, Value)], name: &str) -> Option<Value> {
    let found = members.iter().find(|(own, _)| own == name);
    found.map(|(_, value)| *value)
}

/// The members of an object; none when it is not there.
fn inside(
    cursor: &mut Cursor<'_>,
    value: Option<Value>,
) -> Result<Vec<(String, Value)>, PlanError> {
    match value {
        Some(value) => Ok(cursor.members(value)?.unwrap_or_default()),
        None => Ok(Vec::new()),
    }
}
