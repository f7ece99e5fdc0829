//! A structured plan of which no value may be shown.

use proof::json::Json;

use crate::terraform::mask::{HELD_BACK, Known, mask_json};

/// What the structured plan says beside its values: which objects change how. Every value counts
/// as a secret, so that the CLI draws it as one, and keys of instances, which are values, too, are
/// left out. A member of its own says why.
pub(super) fn held_back(plan: &Json) -> Json {
    let mut shown = Json::Object(Vec::new());
    for name in [
        "plan_format_version",
        "provider_format_version",
        "provider_schemas",
    ] {
        copy(plan, name, &mut shown);
    }
    let list = plan.get("resource_changes").and_then(Json::as_array);
    let resources = list.unwrap_or_default().iter().map(resource).collect();
    shown.set("resource_changes", Json::Array(resources));
    let outputs = plan.get("output_changes").and_then(Json::members);
    let outputs = outputs.unwrap_or_default().iter();
    let outputs = outputs.map(|(name, of)| (name.clone(), change(of)));
    shown.set("output_changes", Json::Object(outputs.collect()));
    shown.set("held_back", Json::from(HELD_BACK));
    shown
}

fn resource(plan: &Json) -> Json {
    let mut shown = Json::Object(Vec::new());
    for name in ["mode", "type", "name", "provider_name", "action_reason"] {
        copy(plan, name, &mut shown);
    }
    for name in ["address", "module_address", "previous_address"] {
        if let Some(address) = plan.get(name).and_then(Json::as_str) {
            shown.set(name, Json::from(without_keys(address)));
        }
    }
    mask_json(&mut shown, &Known::default());
    let planned = plan.get("change").unwrap_or(&Json::Null);
    shown.set("change", change(planned));
    shown
}

/// The actions; and in the place of each side that is there an empty object that is a secret.
fn change(planned: &Json) -> Json {
    let mut shown = Json::Object(Vec::new());
    copy(planned, "actions", &mut shown);
    for side in ["before", "after"] {
        let there = planned.get(side).is_some_and(|value| *value != Json::Null);
        let value = if there { EMPTY } else { Json::Null };
        shown.set(side, value);
        shown.set(&format!("{side}_sensitive"), Json::Bool(there));
    }
    shown.set("after_unknown", EMPTY);
    shown
}

const EMPTY: Json = Json::Object(Vec::new());

fn copy(from: &Json, name: &str, to: &mut Json) {
    if let Some(value) = from.get(name) {
        to.set(name, value.clone());
    }
}

/// An address without what stands between brackets, in texts within them too.
fn without_keys(address: &str) -> String {
    let mut shown = String::new();
    let (mut inside, mut quoted, mut escaped) = (false, false, false);
    for c in address.chars() {
        match c {
            '[' if !inside => {
                inside = true;
                shown.push_str("[…]");
            }
            ']' if inside && !quoted => inside = false,
            '"' if inside && !escaped => quoted = !quoted,
            _ if !inside => shown.push(c),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    shown
}

#[cfg(test)]
mod tests {
    use proof::json::{Numbers, parse};

    use super::*;

    #[test]
    fn what_is_held_back_shows_no_value() {
        let plan = parse(
            br#"{"plan_format_version":"1.2","provider_format_version":"1.0",
            "provider_schemas":{"p":{"version":0}},"relevant_attributes":[{"attribute":["hidden-1"]}],
            "resource_drift":[{"change":{"before":{"a":"hidden-2"}}}],
            "action_invocations":["hidden-3"],"deferred_changes":["hidden-4"],
            "resource_changes":[
              {"address":"module.m[\"hidden-5]\"].t.n[\"a\\\"hidden-6\"]","mode":"managed","type":"t",
               "name":"n","index":"hidden-7","provider_name":"p","deposed":"hidden-8",
               "change":{"actions":["update"],"before":{"a":17},"after":{"a":"hidden-9"},
                 "after_unknown":{"b":true},"importing":{"id":"hidden-10"},"generated_config":"hidden-11"}},
              {"address":"t.m","change":{"actions":["create"],"before":null,"after":{"a":[99]}}}],
            "output_changes":{"o":{"actions":["delete"],"before":"hidden-12","after":null}}}"#,
            Numbers::Any,
        )
        .unwrap();
        let shown = held_back(&plan);
        let hidden = |before: &str, after: &str, actions: &str| {
            format!(
                r#"{{"actions":["{actions}"],"after":{after},"after_sensitive":{},"after_unknown":{{}},"before":{before},"before_sensitive":{}}}"#,
                after != "null",
                before != "null"
            )
        };
        let text = String::from_utf8(shown.to_jcs()).unwrap();
        let expected = format!(
            r#"{{"held_back":"{HELD_BACK}","output_changes":{{"o":{}}},"plan_format_version":"1.2","provider_format_version":"1.0","provider_schemas":{{"p":{{"version":0}}}},"resource_changes":[{{"address":"module.m[…].t.n[…]","change":{},"mode":"managed","name":"n","provider_name":"p","type":"t"}},{{"address":"t.m","change":{}}}]}}"#,
            hidden("{}", "null", "delete"),
            hidden("{}", "{}", "update"),
            hidden("null", "{}", "create"),
        );
        assert_eq!(text, expected);
    }
}
