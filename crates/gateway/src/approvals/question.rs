//! What people are asked about a plan, in the words that the page and the command line share.
//!
//! Both read the same summary, which `inspect` wrote, and neither shows more than that.

use policy::plan::Line;
use proof::Json;
use proof::approval::Changes;
use serde_json::Value;

use crate::pages::words::number;
use crate::watching;

/// One object that the plan would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What happens to it; empty for one that only gets another address.
    pub actions: Vec<String>,
    /// Its address. Somebody else's words, as are all texts of an object.
    pub address: String,
    /// Its address before, when it moves.
    pub previous_address: Option<String>,
    /// Terraform's own reason, by its name.
    pub reason: Option<String>,
    /// What changes in it.
    pub attributes: Vec<Attribute>,
    /// How many places more differ in it, which there was no room for.
    pub left_out: u64,
    /// How many objects and lists in it were not compared: the plan has too many places.
    pub not_compared: u64,
    /// There was no room to keep what changes in it.
    pub cut: bool,
}

/// One place that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its path.
    pub name: String,
    /// The value before.
    pub before: Side,
    /// The value afterwards.
    pub after: Side,
    /// This is why the object is replaced.
    pub forces_replacement: bool,
    /// Of a text of several lines, the lines that differ and those around them.
    pub lines: Vec<Line>,
}

/// A value as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// None.
    Absent,
    /// Known only after the apply.
    Unknown,
    /// There, but a secret.
    Secret,
    /// JSON text, cut when long.
    Value(String),
}

impl Side {
    fn read(entry: &Value) -> Self {
        match entry {
            Value::String(word) => match word.as_str() {
                "absent" => Self::Absent,
                "unknown" => Self::Unknown,
                "sensitive" => Self::Secret,
                other => Self::Value(other.to_owned()),
            },
            other => Self::Value(other["value"].as_str().unwrap_or("?").to_owned()),
        }
    }

    /// In words, where there is no value.
    pub fn word(&self) -> Option<&'static str> {
        match self {
            Self::Absent => Some("nothing"),
            Self::Unknown => Some("known after apply"),
            Self::Secret => Some("a secret"),
            Self::Value(_) => None,
        }
    }
}

/// Of texts that are longer than `most` characters so many, from shortly before they differ.
pub fn heads(before: &Side, after: &Side, most: usize) -> [Option<String>; 2] {
    let text = |side: &'_ Side| match side {
        Side::Value(text) => Some(text.clone()),
        _ => None,
    };
    let (before, after) = (text(before), text(after));
    let alike = match (&before, &after) {
        (Some(one), Some(other)) => {
            let pairs = one.chars().zip(other.chars());
            pairs.take_while(|(one, other)| one == other).count()
        }
        _ => 0,
    };
    let from = alike.saturating_sub(most / 4);
    [before, after].map(|side| {
        let text = side?;
        let length = text.chars().count();
        if length <= most {
            return Some(text);
        }
        let begin = (from > 0).then_some('…');
        let end = (length > from + most).then_some('…');
        let shown = text.chars().skip(from).take(most);
        Some(begin.into_iter().chain(shown).chain(end).collect())
    })
}

impl Object {
    /// Reads an entry of a summary.
    pub fn read(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry[name].as_str().map(str::to_owned);
        let actions = entry["actions"].as_array()?.iter();
        let diff = entry["diff"].as_array().map_or(&[][..], Vec::as_slice);
        let attribute = |entry: &Value| Attribute {
            name: entry["name"].as_str().unwrap_or("-").to_owned(),
            before: Side::read(&entry["before"]),
            after: Side::read(&entry["after"]),
            forces_replacement: entry["forces_replacement"] == true,
            lines: serde_json::from_value(entry["lines"].clone()).unwrap_or_default(),
        };
        Some(Self {
            address: text("address")?,
            previous_address: text("previous_address"),
            reason: text("reason"),
            actions: actions
                .filter_map(|a| a.as_str().map(str::to_owned))
                .collect(),
            attributes: diff.iter().map(attribute).collect(),
            left_out: entry["left_out"].as_u64().unwrap_or(0),
            not_compared: entry["not_compared"].as_u64().unwrap_or(0),
            cut: entry["cut"] == true,
        })
    }

    /// What happens to it, in a word.
    pub fn action(&self) -> String {
        if self.actions.is_empty() {
            "move".to_owned()
        } else {
            self.actions.join("+")
        }
    }

    /// Its place in a list: destructive first.
    pub fn rank(&self) -> u8 {
        rank_of(self.actions.iter().map(String::as_str))
    }

    /// It ends, or is let go.
    pub fn is_destructive(&self) -> bool {
        self.rank() < FIRST_HARMLESS
    }
}

const FIRST_HARMLESS: u8 = 3;

/// The place of an object with these actions in a list: destructive first.
pub fn rank_of<'a>(actions: impl Iterator<Item = &'a str>) -> u8 {
    let rank = |action: &str| match action {
        "delete" => 0,
        "replace" => 1,
        "forget" => 2,
        "update" => FIRST_HARMLESS,
        "create" => 4,
        "import" => 5,
        _ => 6,
    };
    actions.map(rank).min().unwrap_or(6)
}

/// Whether a whole list of changes is what the counts say.
pub fn agrees(objects: &[Object], changes: &Changes) -> bool {
    let count = |action: &str| {
        let all = objects.iter().flat_map(|object| &object.actions);
        u64::try_from(all.filter(|own| *own == action).count()).unwrap_or(u64::MAX)
    };
    count("create") == changes.create
        && count("update") == changes.update
        && count("delete") == changes.delete
        && count("replace") == changes.replace
        && count("forget") == changes.forget
        && count("import") == changes.import
}

/// The counts in words, destructive ones first.
pub fn in_words(changes: &Changes) -> String {
    let parts: Vec<String> = [
        (changes.delete, "to destroy"),
        (changes.replace, "to replace"),
        (changes.forget, "to forget"),
        (changes.update, "to change"),
        (changes.create, "to create"),
        (changes.import, "to import"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if parts.is_empty() {
        "no changes".to_owned()
    } else {
        parts.join(", ")
    }
}

/// The whole plan in a line; says also that nothing ends.
pub fn verdict(changes: &Changes) -> String {
    let mut parts: Vec<String> = [
        ("destroys", changes.delete),
        ("replaces", changes.replace),
        ("forgets", changes.forget),
        ("changes", changes.update),
        ("creates", changes.create),
        ("imports", changes.import),
    ]
    .iter()
    .filter(|(_, count)| *count > 0)
    .map(|(verb, count)| format!("{verb} {}", number(*count)))
    .collect();
    if !changes.is_destructive() {
        parts.push("destroys nothing".to_owned());
    }
    let mut text = parts.join(", ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// Something that stands around the workspace of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// It can undo what the contract is for.
    pub grave: bool,
    /// What it is; names in it are somebody else's words.
    pub lead: String,
    /// What follows from it, or when it was.
    pub rest: String,
}

impl Remark {
    fn new(grave: bool, lead: impl Into<String>, rest: impl Into<String>) -> Self {
        Self {
            grave,
            lead: lead.into(),
            rest: rest.into(),
        }
    }
}

/// What an approver must know besides the plan: where an apply leads, who reads the state, how
/// the settings differ from the accepted ones, and what happened outside the gateway meanwhile.
pub fn remarks(summary: &Value, outside: &Value) -> Vec<Remark> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or("-").to_owned();
    let mut remarks = Vec::new();
    for other in list(&summary["reach"]["downstream"]) {
        let (grave, then) = match &other["auto_applies"] {
            Value::Bool(false) => (false, "which waits for confirmation"),
            Value::Bool(true) => (true, "which applies by itself"),
            _ => (
                true,
                "of which it is not known whether it applies by itself",
            ),
        };
        let (id, name) = (text(&other, "workspace_id"), text(&other, "name"));
        let lead = format!("an apply starts a run in {id} ({name})");
        let way = other["by_way_of"].as_str();
        let way = way.map_or_else(String::new, |way| format!(" by way of {way}"));
        remarks.push(Remark::new(grave, lead, format!("{way}, {then}")));
    }
    if summary["reach"]["auto_apply"] == true {
        let rest = ": runs past the gateway apply by themselves here";
        remarks.push(Remark::new(false, "auto-apply is on", rest));
    }
    let state = &summary["reach"]["state_read_by"];
    let mut readers: Vec<String> = list(&state["workspaces"])
        .iter()
        .filter_map(|reader| reader.as_str().map(str::to_owned))
        .collect();
    if state["project"] == true {
        readers.insert(0, "the whole project".to_owned());
    }
    if state["organization"] == true {
        readers.insert(0, "the whole organization".to_owned());
    }
    if !readers.is_empty() {
        let rest = format!(" {}", readers.join(", "));
        remarks.push(Remark::new(false, "the state is read by", rest));
    } else if !state.is_null() && state["workspaces"].is_null() {
        remarks.push(Remark::new(false, "who reads the state is not known", ""));
    }
    for change in list(&summary["drift"]) {
        let value = |name: &str| watching::in_words(&Json::from(change[name].clone()));
        let lead = format!("not as accepted: {}", text(&change, "setting"));
        let rest = format!(": {} -> {}", value("before"), value("after"));
        remarks.push(Remark::new(change["opens"] == true, lead, rest));
    }
    for event in list(outside) {
        let lead = format!("meanwhile {}", text(&event, "says"));
        remarks.push(Remark::new(false, lead, format!(" {}", text(&event, "at"))));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_verdict_says_what_ends_first_and_that_nothing_does() {
        let changes = |delete, replace, update, create| Changes {
            delete,
            replace,
            update,
            create,
            ..Changes::default()
        };
        for (changes, says) in [
            (
                changes(0, 0, 1, 2),
                "Changes 1, creates 2, destroys nothing",
            ),
            (changes(3000, 1, 0, 0), "Destroys 3,000, replaces 1"),
            (changes(0, 0, 0, 0), "Destroys nothing"),
        ] {
            assert_eq!(verdict(&changes), says);
        }
        assert_eq!(in_words(&changes(1, 0, 0, 2)), "1 to destroy, 2 to create");
        assert_eq!(in_words(&changes(0, 0, 0, 0)), "no changes");
    }

    #[test]
    fn of_long_values_the_difference_is_shown() {
        let value = |text: String| Side::Value(text);
        let [before, after] = heads(
            &value(format!("{}old", "x".repeat(100))),
            &value(format!("{}new and more{}", "x".repeat(100), "y".repeat(90))),
            20,
        );
        assert_eq!(before.unwrap(), "…xxxxxold");
        assert_eq!(after.unwrap(), "…xxxxxnew and moreyyy…");
        let [none, after] = heads(&Side::Unknown, &value("z".repeat(30)), 20);
        assert_eq!(
            (none, after.unwrap()),
            (None, format!("{}…", "z".repeat(20)))
        );
        let [short, _] = heads(&value("a".into()), &value("b".into()), 20);
        assert_eq!(short.unwrap(), "a");
    }

    fn told(summary: &Value, outside: &Value) -> Vec<(bool, String)> {
        let remarks = remarks(summary, outside).into_iter();
        remarks
            .map(|r| (r.grave, format!("{}{}", r.lead, r.rest)))
            .collect()
    }

    #[test]
    fn what_stands_around_the_workspace_is_said() {
        assert_eq!(told(&json!({"listed": true}), &Value::Null), []);
        let quiet = json!({"drift": [], "reach": {
            "downstream": [],
            "state_read_by": {"organization": false, "project": false, "workspaces": []},
        }});
        assert_eq!(told(&quiet, &json!([])), []);
        let summary = json!({
            "reach": {
                "downstream": [
                    {"workspace_id": "ws-net", "name": "network", "auto_applies": true},
                    {"workspace_id": "ws-dns", "name": "dns", "auto_applies": false,
                     "by_way_of": "ws-net"},
                    {"workspace_id": "ws-log", "name": "logs", "auto_applies": null},
                ],
                "state_read_by": {
                    "organization": true, "project": false, "workspaces": ["ws-x"],
                },
                "auto_apply": true,
            },
            "drift": [
                {"setting": "auto-apply", "before": false, "after": true, "opens": true},
            ],
        });
        let outside = json!([{"says": "run run-9 was made", "at": "2026-11-22"}]);
        let says = [
            (
                true,
                "an apply starts a run in ws-net (network), which applies by itself",
            ),
            (
                false,
                "an apply starts a run in ws-dns (dns) by way of ws-net, which waits for confirmation",
            ),
            (
                true,
                "an apply starts a run in ws-log (logs), of which it is not known whether it \
                 applies by itself",
            ),
            (
                false,
                "auto-apply is on: runs past the gateway apply by themselves here",
            ),
            (false, "the state is read by the whole organization, ws-x"),
            (true, "not as accepted: auto-apply: off -> on"),
            (false, "meanwhile run run-9 was made 2026-11-22"),
        ];
        let says: Vec<(bool, String)> = says.map(|(grave, text)| (grave, text.into())).into();
        assert_eq!(told(&summary, &outside), says);
        let hidden = json!({"reach": {
            "downstream": [],
            "state_read_by": {"organization": false, "project": false, "workspaces": null},
        }});
        let unknown = (false, "who reads the state is not known".to_owned());
        assert_eq!(told(&hidden, &Value::Null), [unknown]);
    }
}
