//! The list of models, without those that the contract does not allow.

use bytes::Bytes;
use policy::contract::Models;
use serde_json::Value;

/// Largest list that is read; the longest published ones are under 1 MiB.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// Removes from a provider's list what the contract does not allow; `None` when it is no list
/// of models. Both APIs have the models under `data`, each with its name in `id`.
pub(super) fn filter(list: &[u8], models: &Models) -> Option<Bytes> {
    let mut list: Value = serde_json::from_slice(list).ok()?;
    let data = list.get_mut("data")?.as_array_mut()?;
    data.retain(|model| {
        model
            .get("id")
            .and_then(Value::as_str)
            .is_some_and(|id| models.allowed.iter().any(|glob| glob.matches(id)))
    });
    let ends = [data.first(), data.last()].map(|model| {
        model
            .and_then(|model| model.get("id"))
            .cloned()
            .unwrap_or(Value::Null)
    });
    // Anthropic's list names its ends; they must not name what was removed.
    let members = list.as_object_mut()?;
    for (name, id) in ["first_id", "last_id"].into_iter().zip(ends) {
        if let Some(value) = members.get_mut(name) {
            *value = id;
        }
    }
    Some(list.to_string().into())
}

#[cfg(test)]
mod tests {
    use policy::Glob;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_allowed_models_stay() {
        let models = Models {
            allowed: vec![Glob::new("gpt-5*").unwrap(), Glob::new("o3").unwrap()],
            ..Models::default()
        };
        let filtered = |list: Value| {
            let bytes = filter(list.to_string().as_bytes(), &models)?;
            Some(serde_json::from_slice::<Value>(&bytes).unwrap())
        };
        let list = json!({"object":"list","data":[
            {"id":"gpt-4","owned_by":"x"}, {"id":"gpt-5-mini","owned_by":"y"}, {"id":"o3"},
            {"id":"o3-deep"}, {"id":7}, {"name":"gpt-5"}, "gpt-5"],
            "first_id":"gpt-4","last_id":"gpt-5","has_more":false});
        assert_eq!(
            filtered(list),
            Some(
                json!({"object":"list","data":[{"id":"gpt-5-mini","owned_by":"y"}, {"id":"o3"}],
                "first_id":"gpt-5-mini","last_id":"o3","has_more":false})
            )
        );
        let none = filtered(json!({"data":[{"id":"x"}],"first_id":"x","last_id":"x"}));
        assert_eq!(
            none,
            Some(json!({"data":[],"first_id":null,"last_id":null}))
        );
        for bad in [
            json!({}),
            json!([]),
            json!({"data":{"id":"o3"}}),
            json!("o3"),
        ] {
            assert_eq!(filtered(bad), None);
        }
        assert!(filter(b"<html>", &models).is_none());
    }
}
