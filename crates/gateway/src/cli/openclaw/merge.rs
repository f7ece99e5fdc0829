//! Puts our part into somebody's configuration, where it stands: comments, order and everything
//! that is not ours stay.

use std::fmt;
use std::path::Path;

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstObject, CstRootNode};
use serde_json::{Map, Value, json};

use super::super::term::{DIM, GOOD, OFF, WARN};
use super::super::{Failure, term};
use super::document::is_ours;

/// Longest value that is shown, in characters.
const MAX_SHOWN: usize = 80;

/// A configuration with our part, and what became of each of its members.
pub(super) struct Merged {
    pub(super) text: String,
    pub(super) changes: Vec<Change>,
}

impl Merged {
    /// Ours alone, where nothing is.
    pub(super) fn new(document: Value) -> Self {
        let names = document.as_object().into_iter().flatten();
        let changes = names.map(|(name, _)| Change::Added(name.clone()));
        Self {
            changes: changes.collect(),
            text: format!("{document:#}\n"),
        }
    }
}

/// What became of a member of ours, by its path.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// It was not there.
    Added(String),
    /// Another value of ours was there.
    Replaced {
        path: String,
        before: String,
        after: String,
    },
    /// The owner has decided otherwise.
    Kept {
        path: String,
        value: String,
        wanted: String,
    },
}

impl Change {
    pub(super) fn is_made(&self) -> bool {
        !matches!(self, Self::Kept { .. })
    }

    pub(super) fn as_json(&self) -> Value {
        match self {
            Self::Added(path) => json!({"change": "added", "path": path}),
            Self::Replaced {
                path,
                before,
                after,
            } => json!({"change": "replaced", "path": path, "before": before, "after": after}),
            Self::Kept {
                path,
                value,
                wanted,
            } => json!({"change": "kept", "path": path, "value": value, "wanted": wanted}),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(path) => write!(f, "{GOOD}added{OFF}     {path}"),
            Self::Replaced {
                path,
                before,
                after,
            } => write!(
                f,
                "{WARN}replaced{OFF}  {path}: {before} {DIM}by{OFF} {after}"
            ),
            Self::Kept {
                path,
                value,
                wanted,
            } => write!(
                f,
                "{WARN}kept{OFF}      {path}: {value} {DIM}(Clawgate would have {wanted}){OFF}"
            ),
        }
    }
}

/// Why nothing was merged.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(super) enum Unmergeable {
    #[error("it is not JSON5: {0}")]
    Unreadable(String),
    #[error("it is no object")]
    NoObject,
    #[error("`{0}` is there twice")]
    Twice(String),
}

impl Unmergeable {
    pub(super) fn in_file(self, file: &Path) -> Failure {
        Failure::new(format!("cannot merge into `{}`: {self}", file.display()))
            .next("nothing was written; mend the file, or print the configuration without --merge")
    }
}

/// Merges what is wanted into a text.
///
/// # Errors
/// When the text is no configuration, or one that two readers would read differently.
pub(super) fn merge(text: &str, wanted: &Value) -> Result<Merged, Unmergeable> {
    let options = ParseOptions {
        allow_missing_commas: false,
        ..ParseOptions::default()
    };
    let text = match text.trim().is_empty() {
        true => "{}\n",
        false => text,
    };
    let root = CstRootNode::parse(text, &options)
        .map_err(|error| Unmergeable::Unreadable(term::plain(&error.to_string())))?;
    let object = root.object_value().ok_or(Unmergeable::NoObject)?;
    let mut changes = Vec::new();
    if let Value::Object(wanted) = wanted {
        members(&object, wanted, &mut Vec::new(), &mut changes)?;
    }
    Ok(Merged {
        text: root.to_string(),
        changes,
    })
}

fn members<'w>(
    object: &CstObject,
    wanted: &'w Map<String, Value>,
    path: &mut Vec<&'w str>,
    changes: &mut Vec<Change>,
) -> Result<(), Unmergeable> {
    for (name, value) in wanted {
        path.push(name);
        member(object, name, value, path, changes)?;
        path.pop();
    }
    Ok(())
}

fn member<'w>(
    object: &CstObject,
    name: &'w str,
    wanted: &'w Value,
    path: &mut Vec<&'w str>,
    changes: &mut Vec<Change>,
) -> Result<(), Unmergeable> {
    let named = path.join(".");
    let same = |other: &String| other == name;
    let properties = object.properties();
    let mut properties = properties
        .iter()
        .filter(|property| property.decoded_name().as_ref().is_some_and(same));
    let (property, another) = (properties.next(), properties.next());
    if another.is_some() {
        return Err(Unmergeable::Twice(named));
    }
    let Some(property) = property else {
        object.append(name, input(wanted));
        changes.push(Change::Added(named));
        return Ok(());
    };
    if let (Some(object), Value::Object(wanted)) = (property.object_value(), wanted) {
        return members(&object, wanted, path, changes);
    }
    if let (["models", "providers", _, "models"], Some(list), Value::Array(wanted)) =
        (&path[..], property.array_value(), wanted)
    {
        models(&list, wanted, &named, changes);
        return Ok(());
    }
    let there = property.to_serde_value().unwrap_or_default();
    if there == *wanted {
        return Ok(());
    }
    if is_ours(path) {
        property.set_value(input(wanted));
        changes.push(Change::Replaced {
            before: shown(path, &there),
            after: shown(path, wanted),
            path: named,
        });
    } else {
        changes.push(Change::Kept {
            value: shown(path, &there),
            wanted: shown(path, wanted),
            path: named,
        });
    }
    Ok(())
}

/// Adds the models that are not in the list; those that are may have been given more members.
fn models(list: &CstArray, wanted: &[Value], named: &str, changes: &mut Vec<Change>) {
    let there: Vec<Value> = list
        .elements()
        .iter()
        .filter_map(|model| Some(model.to_serde_value()?["id"].clone()))
        .collect();
    for model in wanted.iter().filter(|model| !there.contains(&model["id"])) {
        list.append(input(model));
        let id = term::text(model, "id");
        changes.push(Change::Added(format!("{named}: {id}")));
    }
}

/// A value as people may see it: what may hold a credential that somebody wrote there is not
/// shown.
fn shown(path: &[&str], value: &Value) -> String {
    let secret = path.iter().any(|name| ["apiKey", "headers"].contains(name));
    let text = value.to_string();
    let secret = secret && !text.contains("${CST}") || text.contains('@');
    if secret || value.is_object() {
        return "something else".to_owned();
    }
    let mut short: String = text.chars().take(MAX_SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    term::plain(&short)
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(list) => CstInputValue::Array(list.iter().map(input).collect()),
        Value::Object(members) => {
            let members = members.iter();
            CstInputValue::Object(members.map(|(name, v)| (name.clone(), input(v))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::document;
    use super::*;

    fn wanted() -> Value {
        document(&["openai/gpt-5".parse().unwrap()], "http://127.0.0.1:8787")
    }

    fn value(text: &str) -> Value {
        let root = CstRootNode::parse(text, &ParseOptions::default()).unwrap();
        root.to_serde_value().unwrap()
    }

    /// Whether everything of one value stands in another, but for what is ours.
    fn stays(path: &mut Vec<String>, before: &Value, after: &Value) {
        if let (Value::Object(members), Value::Object(_)) = (before, after) {
            for (name, value) in members {
                path.push(name.clone());
                stays(path, value, &after[name]);
                path.pop();
            }
            return;
        }
        let place: Vec<&str> = path.iter().map(String::as_str).collect();
        assert!(
            before == after || is_ours(&place),
            "{path:?}: {before} {after}"
        );
    }

    #[test]
    fn everything_that_is_not_ours_stays() {
        for before in [
            "",
            "{}",
            "{ }\n",
            "{\"a\": 1}",
            "// mine\n{\n  // my models\n  models: {\n    providers: {\n      // home\n      ollama: { baseUrl: 'http://127.0.0.1:11434/v1', models: [], }, // last\n    },\n  },\n}\n",
            "{\"agents\": {\"defaults\": {\"model\": \"openai/gpt-4\"}}, \"tools\": {\"toolSearch\": true}}",
            "{\"agents\": {\"defaults\": {\"model\": {\"primary\": \"x/y\"}}}, \"mcp\": {\"servers\": {\"other\": {\"command\": \"x\"}}}}",
            "{env: {vars: {A: 'b'}, shellEnv: {enabled: true}}, /* c */ \"mcp\": {}}",
            "{\r\n\t\"models\": {\r\n\t\t\"mode\": \"merge\" // why\r\n\t}\r\n}\r\n",
            "{models: {providers: {'clawgate-openai': {baseUrl: 'http://old/v1', apiKey: 'sk-literal', timeoutSeconds: 9, models: [{id: 'gpt-5', contextWindow: 9}, {id: 'own'}]}}}}",
        ] {
            let merged = merge(before, &wanted()).unwrap();
            let after = value(&merged.text);
            if !before.is_empty() {
                stays(&mut Vec::new(), &value(before), &after);
            }
            for comment in [
                "// mine",
                "// my models",
                "// home",
                "// last",
                "/* c */",
                "// why",
            ] {
                assert_eq!(before.contains(comment), merged.text.contains(comment));
            }
            let provider = &after["models"]["providers"]["clawgate-openai"];
            assert_eq!(provider["apiKey"], "${CST}", "{}", merged.text);
            assert_eq!(provider["models"][0]["id"], "gpt-5");
            assert_eq!(
                after["mcp"]["servers"]["clawgate"]["url"],
                "${CLAWGATE_MCP}"
            );
            let again = merge(&merged.text, &wanted()).unwrap();
            assert_eq!(again.text, merged.text);
            assert!(
                !again.changes.iter().any(Change::is_made),
                "{:?}",
                again.changes
            );
            let said = format!("{:?}", merged.changes);
            assert!(!said.contains("sk-literal"), "{said}");
        }
    }

    #[test]
    fn what_is_changed_is_said() {
        let before = "{agents: {defaults: {model: {primary: 'x/y'}}}, mcp: {servers: {clawgate: \
                      {url: 'http://old/mcp'}}}, models: {providers: {'clawgate-openai': \
                      {models: [{id: 'own'}]}}}}";
        let changes = merge(before, &wanted()).unwrap().changes;
        let has = |change: Change| assert!(changes.contains(&change), "{change:?}: {changes:#?}");
        has(Change::Kept {
            path: "agents.defaults.model.primary".to_owned(),
            value: "\"x/y\"".to_owned(),
            wanted: "\"clawgate-openai/gpt-5\"".to_owned(),
        });
        has(Change::Replaced {
            path: "mcp.servers.clawgate.url".to_owned(),
            before: "\"http://old/mcp\"".to_owned(),
            after: "\"${CLAWGATE_MCP}\"".to_owned(),
        });
        has(Change::Added(
            "models.providers.clawgate-openai.models: gpt-5".to_owned(),
        ));
        has(Change::Added("tools".to_owned()));
    }

    #[test]
    fn what_cannot_be_read_in_one_way_is_refused() {
        for bad in [
            "[]",
            "7",
            "{a: }",
            "{\"a\": 1",
            "{a: 1 b: 2}",
            "{mcp: {}, \"mcp\": {}}",
        ] {
            assert!(merge(bad, &wanted()).is_err(), "{bad}");
        }
    }
}
