//! The redacted plan: what the CLI's structured renderer needs, without sensitive values.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::ids;

/// Makes the redacted plan out of the full plan and the providers' schemas.
pub(super) fn redacted(plan: &Value, schemas: &Value) -> Value {
    let key = ids::bytes::<32>();
    let mut document = Map::new();
    document.insert(
        "plan_format_version".to_owned(),
        plan["format_version"].clone(),
    );
    document.insert(
        "provider_format_version".to_owned(),
        schemas["format_version"].clone(),
    );
    document.insert("provider_schemas".to_owned(), used_schemas(plan, schemas));
    for member in ["resource_changes", "resource_drift", "deferred_changes"] {
        if let Some(changes) = plan[member].as_array() {
            let changes = changes
                .iter()
                .map(|change| redacted_member(change, &key))
                .collect();
            document.insert(member.to_owned(), Value::Array(changes));
        }
    }
    if let Some(outputs) = plan["output_changes"].as_object() {
        let outputs = outputs
            .iter()
            .map(|(name, change)| (name.clone(), redacted_change(change, &key)))
            .collect();
        document.insert("output_changes".to_owned(), Value::Object(outputs));
    }
    if plan["relevant_attributes"].is_array() {
        document.insert(
            "relevant_attributes".to_owned(),
            plan["relevant_attributes"].clone(),
        );
    }
    Value::Object(document)
}

/// Keeps the schemas of those providers that the plan has changes of.
fn used_schemas(plan: &Value, schemas: &Value) -> Value {
    let uses = |name: &str| {
        ["resource_changes", "resource_drift"]
            .iter()
            .filter_map(|member| plan[member].as_array())
            .flatten()
            .any(|change| change["provider_name"] == name)
    };
    let kept = schemas["provider_schemas"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| uses(name))
        .map(|(name, schema)| (name.clone(), schema.clone()))
        .collect();
    Value::Object(kept)
}

/// Redacts the `change` member of a resource change, wherever it stands.
fn redacted_member(resource: &Value, key: &[u8; 32]) -> Value {
    let mut resource = resource.clone();
    if let Some(inner) = resource.get_mut("resource_change") {
        *inner = redacted_member(inner, key);
    }
    if let Some(change) = resource.get_mut("change") {
        *change = redacted_change(change, key);
    }
    resource
}

fn redacted_change(change: &Value, key: &[u8; 32]) -> Value {
    let mut change = change.clone();
    for (member, mask) in [("before", "before_sensitive"), ("after", "after_sensitive")] {
        let mask = change[mask].clone();
        if let Some(value) = change.get_mut(member) {
            redact(value, &mask, key);
        }
    }
    change
}

fn redact(value: &mut Value, mask: &Value, key: &[u8; 32]) {
    match (value, mask) {
        (Value::Null, _) => {}
        (value, Value::Bool(true)) => *value = stand_in(value, key),
        (Value::Object(members), Value::Object(masks)) => {
            for (name, mask) in masks {
                if let Some(member) = members.get_mut(name) {
                    redact(member, mask, key);
                }
            }
        }
        (Value::Array(items), Value::Array(masks)) => {
            for (item, mask) in items.iter_mut().zip(masks) {
                redact(item, mask, key);
            }
        }
        _ => {}
    }
}

/// Equal values get equal stand-ins within one plan, so that the renderer still sees a change.
fn stand_in(value: &Value, key: &[u8; 32]) -> Value {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC key may have any length");
    mac.update(value.to_string().as_bytes());
    let tag = mac.finalize().into_bytes();
    json!(format!(
        "REDACTED-{:02x}{:02x}{:02x}{:02x}",
        tag[0], tag[1], tag[2], tag[3]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensitive_values_go_and_the_rest_stays() {
        let plan = json!({
            "format_version": "1.2",
            "variables": {"password": {"value": "hunter2"}},
            "prior_state": {"secret": "hunter2"},
            "resource_changes": [{
                "address": "a.b",
                "provider_name": "example.com/a/b",
                "change": {
                    "actions": ["update"],
                    "before": {"id": "1", "password": "hunter1", "list": ["x", "hunter2"]},
                    "after": {"id": "1", "password": "hunter2", "list": ["x", "hunter2"], "gone": null},
                    "before_sensitive": {"password": true, "list": [false, true]},
                    "after_sensitive": {"password": true, "list": [false, true], "gone": true},
                },
            }],
            "output_changes": {"url": {"before": "hunter2", "after": "hunter2",
                "before_sensitive": true, "after_sensitive": true}},
        });
        let schemas = json!({"format_version": "1.0", "provider_schemas": {
            "example.com/a/b": {"provider": {}}, "example.com/unused": {}}});
        let redacted = redacted(&plan, &schemas);
        assert!(!redacted.to_string().contains("hunter"));
        let change = &redacted["resource_changes"][0]["change"];
        assert_ne!(change["before"]["password"], change["after"]["password"]);
        assert_eq!(change["before"]["list"], change["after"]["list"]);
        assert_eq!(change["before"]["list"][0], "x");
        assert_eq!(change["after"]["gone"], Value::Null);
        assert_eq!(redacted["plan_format_version"], "1.2");
        assert_eq!(redacted["provider_format_version"], "1.0");
        assert_eq!(
            redacted["provider_schemas"],
            json!({"example.com/a/b": {"provider": {}}})
        );
    }
}
