//! The tools: what each is called, says of itself and takes.

use futures_util::future::BoxFuture;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use super::{Agent, Failed, job, runs, workspaces};

/// What a tool does to the world, as clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    Reads,
    /// It makes something, which changes no infrastructure.
    Makes,
    /// It ends something that was made; twice is as once.
    Ends,
    /// It leads to a change of infrastructure.
    Changes,
}

/// What of the contract and the token a tool is good for nothing without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    Plan,
    Apply,
}

/// One argument of a tool.
pub(super) struct Argument {
    name: &'static str,
    kind: Kind,
    required: bool,
    about: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// Files by path.
    Files,
    Flag,
    /// A number of at most so much.
    Number(u64),
}

const fn needed(name: &'static str, about: &'static str) -> Argument {
    Argument {
        name,
        kind: Kind::Text,
        required: true,
        about,
    }
}

const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Argument {
    Argument {
        name,
        kind,
        required: false,
        about,
    }
}

type Call = for<'a> fn(&'a Agent, Arguments) -> BoxFuture<'a, Result<String, Failed>>;

/// One tool.
pub(super) struct ToolRow {
    pub(super) name: &'static str,
    title: &'static str,
    about: &'static str,
    effect: Effect,
    needs: Needs,
    takes: &'static [Argument],
    call: Call,
}

const RUN: Argument = needed("run", "The run's id, run-…");
const WORKSPACE: Argument = needed("workspace", "The workspace's name, or its id, ws-…");

macro_rules! call {
    ($function:path) => {
        |agent, arguments| Box::pin($function(agent, arguments))
    };
}

/// Every tool.
pub(super) const ALL: &[ToolRow] = &[
    ToolRow {
        name: "contract",
        title: "What may I do?",
        about: "The contract of this job in plain words: which workspaces, what may be planned and applied, who approves, and how long the token lasts. Call it first.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        takes: &[],
        call: call!(job::contract),
    },
    ToolRow {
        name: "list_workspaces",
        title: "List the contract's workspaces",
        about: "The workspaces that the contract names, with their ids, Terraform versions and whether somebody has locked them.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        takes: &[],
        call: call!(workspaces::list),
    },
    ToolRow {
        name: "show_workspace",
        title: "Show a workspace",
        about: "One workspace of the contract.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        takes: &[WORKSPACE],
        call: call!(workspaces::show),
    },
    ToolRow {
        name: "start_plan",
        title: "Start a plan",
        about: "Starts a run that plans a configuration in a workspace, and returns its id at once. Give all files of the root module and its local modules; without files, the configuration that the workspace has already is planned. Nothing is applied.",
        effect: Effect::Makes,
        needs: Needs::Plan,
        takes: &[
            WORKSPACE,
            optional(
                "files",
                Kind::Files,
                "Text of each file, by its path below the root module, for example {\"main.tf\": \"…\"}",
            ),
            optional(
                "message",
                Kind::Text,
                "What the change is for, in a sentence; people read it",
            ),
            optional(
                "plan_only",
                Kind::Flag,
                "Never to be applied (default false)",
            ),
        ],
        call: call!(runs::start_plan),
    },
    ToolRow {
        name: "plan_status",
        title: "Status of a run",
        about: "Where a run stands: its status, what it would change by number, whether it waits for approval, and why it ended.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        takes: &[RUN],
        call: call!(runs::status),
    },
    ToolRow {
        name: "plan_diff",
        title: "What a plan would change",
        about: "Each resource that the plan would create, change, replace or destroy, with the attributes that differ. Secret values are masked.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        takes: &[RUN],
        call: call!(runs::diff),
    },
    ToolRow {
        name: "run_log",
        title: "Log of a run",
        about: "The end of the log of a run's plan, or of its apply. Secret values are masked.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        takes: &[
            RUN,
            optional("apply", Kind::Flag, "The apply's log (default: the plan's)"),
        ],
        call: call!(runs::log),
    },
    ToolRow {
        name: "cost",
        title: "Cost of a run",
        about: "Terraform Cloud's estimate of what a run's change costs in a month, when the organization has estimates.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        takes: &[RUN],
        call: call!(runs::cost),
    },
    ToolRow {
        name: "request_apply",
        title: "Ask for the apply of a plan",
        about: "Asks for a finished plan to be applied. A person approves the exact plan; the gateway applies it then. Returns where to approve, for you to pass on to your user.",
        effect: Effect::Changes,
        needs: Needs::Apply,
        takes: &[RUN],
        call: call!(runs::request_apply),
    },
    ToolRow {
        name: "wait_for_approval",
        title: "Wait for the approval",
        about: "Waits until people have decided and the apply has ended, or the time is over. Call it again while it says that it still waits.",
        effect: Effect::Reads,
        needs: Needs::Apply,
        takes: &[
            RUN,
            optional(
                "seconds",
                Kind::Number(runs::LONGEST_WAIT),
                "How long to wait, at most 50 (default 50)",
            ),
        ],
        call: call!(runs::wait),
    },
    ToolRow {
        name: "discard_run",
        title: "Discard a run",
        about: "Throws a run of this job away that has planned and is not applied.",
        effect: Effect::Ends,
        needs: Needs::Plan,
        takes: &[RUN],
        call: call!(runs::discard),
    },
    ToolRow {
        name: "cancel_run",
        title: "Cancel a run",
        about: "Stops a run of this job that is at work.",
        effect: Effect::Ends,
        needs: Needs::Plan,
        takes: &[RUN],
        call: call!(runs::cancel),
    },
    ToolRow {
        name: "receipts",
        title: "Receipts of this job",
        about: "The last calls of this job, each with the id of its signed receipt.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        takes: &[],
        call: call!(job::receipts),
    },
    ToolRow {
        name: "refusals",
        title: "What was refused in this job",
        about: "The last calls of this job that were refused, with reason codes.",
        effect: Effect::Reads,
        needs: Needs::Nothing,
        takes: &[],
        call: call!(job::refusals),
    },
];

impl ToolRow {
    /// Whether contract and token leave it any use.
    pub(super) fn is_allowed(&self, agent: &Agent) -> bool {
        let scopes = &agent.caller.token.scopes;
        let has = |scope: &str| scopes.iter().any(|own| own == scope);
        let contract = &agent.caller.contract().contract;
        match self.needs {
            Needs::Nothing => true,
            Needs::Plan => contract.allows_plan() && has("tfc:plan"),
            Needs::Apply => contract.allows_apply() && has("tfc:apply"),
        }
    }

    /// As clients list it.
    pub(super) fn describe(&self) -> Tool {
        let annotations = ToolAnnotations::with_title(self.title)
            .read_only(self.effect == Effect::Reads)
            .destructive(self.effect == Effect::Changes)
            .idempotent(matches!(self.effect, Effect::Reads | Effect::Ends))
            .open_world(false);
        Tool::new(self.name, self.about, self.schema())
            .with_title(self.title)
            .with_annotations(annotations)
    }

    fn schema(&self) -> JsonObject {
        let properties: JsonObject = self
            .takes
            .iter()
            .map(|argument| (argument.name.to_owned(), argument.schema()))
            .collect();
        let required = self.takes.iter().filter(|argument| argument.required);
        let required: Vec<&str> = required.map(|argument| argument.name).collect();
        let schema = json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        });
        match schema {
            Value::Object(schema) => schema,
            _ => JsonObject::new(),
        }
    }

    /// Calls it.
    pub(super) fn call<'a>(
        &self,
        agent: &'a Agent,
        arguments: Arguments,
    ) -> BoxFuture<'a, Result<String, Failed>> {
        (self.call)(agent, arguments)
    }
}

impl Argument {
    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Text => json!({"type": "string"}),
            Kind::Files => json!({"type": "object", "additionalProperties": {"type": "string"}}),
            Kind::Flag => json!({"type": "boolean"}),
            Kind::Number(most) => json!({"type": "integer", "minimum": 0, "maximum": most}),
        };
        schema["description"] = self.about.into();
        schema
    }

    fn fits(&self, value: &Value) -> bool {
        match self.kind {
            Kind::Text => value.is_string(),
            Kind::Flag => value.is_boolean(),
            Kind::Number(most) => value.as_u64().is_some_and(|number| number <= most),
            Kind::Files => value
                .as_object()
                .is_some_and(|files| files.values().all(Value::is_string)),
        }
    }
}

/// Arguments that fit the tool's schema.
#[derive(Debug, Default)]
pub(super) struct Arguments(JsonObject);

impl Arguments {
    /// Reads them strictly.
    ///
    /// # Errors
    /// Which argument is wrong, missing or unknown, in words.
    pub(super) fn read(tool: &ToolRow, given: JsonObject) -> Result<Self, String> {
        let known: Vec<&str> = tool.takes.iter().map(|argument| argument.name).collect();
        if let Some(unknown) = given.keys().find(|name| !known.contains(&name.as_str())) {
            let unknown: String = unknown.chars().take(64).collect();
            let name = tool.name;
            return Err(format!(
                "`{name}` takes no argument `{unknown}`; it takes: {}",
                known.join(", ")
            ));
        }
        for argument in tool.takes {
            match given.get(argument.name) {
                None if argument.required => {
                    let (name, about) = (argument.name, argument.about);
                    return Err(format!("the argument `{name}` is missing: {about}"));
                }
                Some(value) if !argument.fits(value) => {
                    let schema = argument.schema();
                    return Err(format!(
                        "the argument `{}` must fit {schema}",
                        argument.name
                    ));
                }
                _ => {}
            }
        }
        Ok(Self(given))
    }

    /// A text; empty when it was not given.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// An id that may stand in a path.
    pub(super) fn id(&self, name: &str) -> Result<&str, Failed> {
        let text = self.text(name);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            let shown: String = text.chars().take(64).collect();
            return Err(format!("`{shown}` is not the id of a {name}."));
        }
        Ok(text)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    /// Files by path, when any were given.
    pub(super) fn files(&self, name: &str) -> Option<Vec<(&str, &str)>> {
        let files = self.0.get(name)?.as_object()?;
        let texts = files
            .iter()
            .filter_map(|(path, text)| Some((path.as_str(), text.as_str()?)));
        Some(texts.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_says_what_it_takes_and_does() {
        for tool in ALL {
            let described = tool.describe();
            let annotations = described.annotations.unwrap();
            let reads = annotations.read_only_hint.unwrap();
            assert!(!reads || annotations.destructive_hint == Some(false));
            assert!(
                tool.about.len() > 20 && tool.about.len() < 400,
                "{}",
                tool.name
            );
            let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
            assert!(tool.name.bytes().all(plain), "{}", tool.name);
        }
        let names: std::collections::BTreeSet<&str> = ALL.iter().map(|tool| tool.name).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn arguments_are_read_strictly() {
        let tool = |name: &str| ALL.iter().find(|tool| tool.name == name).unwrap();
        let read = |name: &str, given: Value| {
            let Value::Object(given) = given else {
                panic!("arguments are an object")
            };
            Arguments::read(tool(name), given)
        };
        for (name, good) in [
            ("contract", json!({})),
            ("show_workspace", json!({"workspace": "staging-app"})),
            (
                "start_plan",
                json!({"workspace": "a", "files": {"main.tf": ""}, "plan_only": true}),
            ),
            ("wait_for_approval", json!({"run": "run-1", "seconds": 50})),
        ] {
            assert!(read(name, good.clone()).is_ok(), "{name} {good}");
        }
        for (name, bad, why) in [
            ("contract", json!({"a": 1}), "takes no argument `a`"),
            ("show_workspace", json!({}), "`workspace` is missing"),
            ("show_workspace", json!({"workspace": 1}), "must fit"),
            ("show_workspace", json!({"workspace": null}), "must fit"),
            (
                "start_plan",
                json!({"workspace": "a", "files": []}),
                "must fit",
            ),
            (
                "start_plan",
                json!({"workspace": "a", "files": {"a": 1}}),
                "must fit",
            ),
            (
                "start_plan",
                json!({"workspace": "a", "plan_only": "yes"}),
                "must fit",
            ),
            (
                "wait_for_approval",
                json!({"run": "run-1", "seconds": 51}),
                "must fit",
            ),
            (
                "wait_for_approval",
                json!({"run": "run-1", "seconds": -1}),
                "must fit",
            ),
        ] {
            let error = read(name, bad.clone()).unwrap_err();
            assert!(error.contains(why), "{name} {bad}: {error}");
        }
        for bad in ["", "..", "run-1/actions/apply", "run 1", "run-1?x", "é"] {
            let given = read("plan_status", json!({"run": bad})).unwrap();
            assert!(given.id("run").is_err(), "{bad}");
        }
    }
}
