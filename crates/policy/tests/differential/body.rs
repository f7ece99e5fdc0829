//! Request bodies by the text of the formats: all faults of form of one body are collected, because
//! a reader may meet any of them first.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::generator::RunAsked;
use crate::json;
use crate::request::{Fault, Faults, fault, is_id, none};

type Members = Map<String, Value>;

fn document(body: &[u8]) -> Result<Value, Fault> {
    if body.len() > 1 << 20 {
        return Err(fault("BODY_TOO_LARGE"));
    }
    json::strict(body).ok_or_else(|| fault("BODY_NOT_JSON"))
}

/// A member that must be an object; `None` when there is nothing to look into.
fn object<'a>(
    within: &'a Members,
    name: &str,
    required: bool,
    faults: &mut Faults,
) -> Option<&'a Members> {
    match within.get(name) {
        None if required => {
            faults.insert("BODY_MISSING_MEMBER");
            None
        }
        None => None,
        Some(Value::Object(members)) => Some(members),
        Some(_) => {
            faults.insert("BODY_WRONG_TYPE");
            None
        }
    }
}

fn only(within: &Members, known: &[&str], faults: &mut Faults) {
    if within.keys().any(|name| !known.contains(&name.as_str())) {
        faults.insert("BODY_UNKNOWN_MEMBER");
    }
}

/// A JSON:API document with one resource; gives attributes by dashed name, and relationships.
fn resource(body: &[u8], kind: &str, faults: &mut Faults) -> Result<(Members, Members), Fault> {
    let nothing = (Map::new(), Map::new());
    let document = document(body)?;
    let Some(document) = document.as_object() else {
        faults.insert("BODY_WRONG_TYPE");
        return Ok(nothing);
    };
    only(document, &["data"], faults);
    let Some(data) = object(document, "data", true, faults) else {
        return Ok(nothing);
    };
    only(data, &["type", "attributes", "relationships"], faults);
    match data.get("type") {
        None => _ = faults.insert("BODY_MISSING_MEMBER"),
        Some(own) if own == kind => {}
        Some(_) => _ = faults.insert("BODY_WRONG_TYPE"),
    }
    let mut attributes = Map::new();
    for (name, value) in object(data, "attributes", false, faults)
        .into_iter()
        .flatten()
    {
        if attributes
            .insert(name.replace('_', "-"), value.clone())
            .is_some()
        {
            faults.insert("BODY_BOTH_SPELLINGS");
        }
    }
    attributes.retain(|name, value| {
        // Null is absent, but an unknown name is unknown with any value.
        !value.is_null() || !DOCUMENTED.contains(&name.as_str())
    });
    let relationships = object(data, "relationships", false, faults).cloned();
    Ok((attributes, relationships.unwrap_or_default()))
}

/// Attributes of runs and of configuration versions.
const DOCUMENTED: &[&str] = &[
    "message",
    "comment",
    "is-destroy",
    "refresh",
    "refresh-only",
    "replace-addrs",
    "target-addrs",
    "variables",
    "plan-only",
    "save-plan",
    "auto-apply",
    "allow-empty-apply",
    "allow-config-generation",
    "debugging-mode",
    "terraform-version",
    "policy-paths",
    "invoke-action-addrs",
    "speculative",
    "provisional",
    "auto-queue-runs",
    "type",
    "workspace",
    "configuration-version",
];

pub fn upload_request(body: &[u8]) -> Result<(), Fault> {
    let mut faults = Faults::new();
    let (attributes, relationships) = resource(body, "configuration-versions", &mut faults)?;
    if !relationships.is_empty() {
        faults.insert("BODY_UNKNOWN_MEMBER");
    }
    for (name, value) in &attributes {
        match name.as_str() {
            "speculative" | "provisional" | "auto-queue-runs" if value.is_boolean() => {}
            "speculative" | "provisional" | "auto-queue-runs" => {
                faults.insert("BODY_WRONG_TYPE");
            }
            _ => {
                faults.insert("RUN_ATTRIBUTE_UNKNOWN");
            }
        }
    }
    none(faults)
}

pub fn action_request(body: &[u8]) -> Result<(), Fault> {
    if body.is_empty() {
        return Ok(());
    }
    let mut faults = Faults::new();
    match document(body)?.as_object() {
        None => _ = faults.insert("BODY_WRONG_TYPE"),
        Some(members) => {
            only(members, &["comment"], &mut faults);
            if members
                .get("comment")
                .is_some_and(|c| !c.is_null() && !c.is_string())
            {
                faults.insert("BODY_WRONG_TYPE");
            }
        }
    }
    none(faults)
}

pub fn run_request(body: &[u8]) -> Result<(String, RunAsked), Fault> {
    let mut faults = Faults::new();
    let (attributes, relationships) = resource(body, "runs", &mut faults)?;
    let mut run = RunAsked {
        // Assumed: what the workspace has passes inspection.
        configuration: "pinned",
        ..RunAsked::default()
    };
    for (name, value) in &attributes {
        let texts =
            || -> Option<Vec<&str>> { value.as_array()?.iter().map(Value::as_str).collect() };
        let good = match name.as_str() {
            "message" | "comment" => value.is_string(),
            "refresh"
            | "refresh-only"
            | "is-destroy"
            | "auto-apply"
            | "plan-only"
            | "save-plan"
            | "allow-empty-apply"
            | "allow-config-generation"
            | "debugging-mode" => {
                if value == &Value::Bool(true) {
                    run.wishes
                        .extend(DOCUMENTED.iter().find(|known| *known == name));
                }
                value.is_boolean()
            }
            "terraform-version" => {
                run.wishes.insert("terraform-version");
                value.is_string()
            }
            "policy-paths" | "invoke-action-addrs" => {
                let listed = texts();
                if listed.as_ref().is_some_and(|listed| !listed.is_empty()) {
                    run.wishes
                        .extend(DOCUMENTED.iter().find(|known| *known == name));
                }
                listed.is_some()
            }
            "target-addrs" | "replace-addrs" => match texts() {
                None => false,
                Some(listed) => {
                    let count = listed.len() as u32;
                    if name == "target-addrs" {
                        run.targets = count;
                    } else {
                        run.replace = count;
                    }
                    listed.len() <= 256
                        && listed.iter().all(|text| {
                            (1..=1024).contains(&text.len()) && !text.chars().any(char::is_control)
                        })
                }
            },
            "variables" => match variables(value, &mut faults) {
                Some(names) => {
                    run.variables = names;
                    true
                }
                None => false,
            },
            "type" => value == "runs",
            // Repeated by a library; compared below.
            "workspace" | "configuration-version" => value.is_object(),
            _ => {
                faults.insert("RUN_ATTRIBUTE_UNKNOWN");
                continue;
            }
        };
        if !good {
            faults.insert("BODY_WRONG_TYPE");
        }
    }
    let mut workspace = None;
    let mut configuration = None;
    let mut configurations = 0;
    for (name, value) in &relationships {
        let (kind, of) = match name.as_str() {
            "workspace" => ("workspaces", "workspace"),
            "configuration-version" | "configuration_version" => {
                configurations += 1;
                ("configuration-versions", "configuration-version")
            }
            _ => {
                faults.insert("BODY_UNKNOWN_MEMBER");
                continue;
            }
        };
        let Some(id) = related(value, kind, &mut faults) else {
            continue;
        };
        if !is_id(of, &id) {
            faults.insert("ID_MALFORMED");
        }
        match of {
            "workspace" => workspace = Some(id),
            // Assumed: uploaded by this job and inspected.
            _ => {
                run.configuration = "inspected";
                configuration = Some(id);
            }
        }
    }
    if configurations > 1 {
        faults.insert("BODY_BOTH_SPELLINGS");
    }
    if workspace.is_none() {
        faults.insert("BODY_MISSING_MEMBER");
    }
    for (name, id) in [
        ("workspace", &workspace),
        ("configuration-version", &configuration),
    ] {
        let repeated = attributes.get(name).and_then(Value::as_object);
        if repeated
            .is_some_and(|repeated| repeated.get("id").and_then(Value::as_str) != id.as_deref())
        {
            faults.insert("BODY_WRONG_TYPE");
        }
    }
    none(faults)?;
    Ok((workspace.expect("missing is a fault"), run))
}

/// The id behind a relationship; `None` for null and for faults.
fn related(value: &Value, kind: &str, faults: &mut Faults) -> Option<String> {
    let Some(relation) = value.as_object() else {
        faults.insert("BODY_WRONG_TYPE");
        return None;
    };
    only(relation, &["data"], faults);
    if relation.get("data").is_some_and(Value::is_null) {
        return None;
    }
    let data = object(relation, "data", true, faults)?;
    only(data, &["type", "id"], faults);
    if data.get("type").is_none_or(|own| own != kind) {
        faults.insert("BODY_WRONG_TYPE");
    }
    let id = data.get("id").and_then(Value::as_str);
    if id.is_none() {
        faults.insert("BODY_WRONG_TYPE");
    }
    id.map(str::to_owned)
}

/// Names of the variables; `None` when the list is not a list of them.
fn variables(value: &Value, faults: &mut Faults) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for element in value.as_array()? {
        let element = element.as_object()?;
        only(element, &["key", "value"], faults);
        element.get("value")?.as_str()?;
        let key = element.get("key")?.as_str()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !(1..=128).contains(&key.len()) || !key.chars().all(plain) {
            return None;
        }
        names.push(key.to_owned());
    }
    let distinct: BTreeSet<_> = names.iter().collect();
    (distinct.len() == names.len()).then_some(names)
}
