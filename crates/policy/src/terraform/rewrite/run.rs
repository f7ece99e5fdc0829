//! `POST /runs` and the actions on a run.

use proof::json::Json;

use super::body::{
    Attributes, members, missing, object, only, read, relation, resource, take, wrong,
};
use super::{MAX_MESSAGE, plain_text};
use crate::contract::Contract;
use crate::decide::{ConfigurationFact, RunFacts};
use crate::reason::{ReasonCode, Refusal, quoted};
use crate::terraform::ids::{ConfigurationVersionId, WorkspaceId};

/// Most targets, replacements and variables of one run.
const MAX_LIST: usize = 256;
/// Longest name of a variable; upstream's own bound. Names are recorded, so they must be short.
const MAX_NAME: usize = 128;
/// Most bytes of all names of one run's variables together.
const MAX_NAMES: usize = 1024;
/// Longest resource address and variable value; upstream allows 256 KiB for a value.
const MAX_TEXT: usize = 256 * 1024;

/// A wish for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// Where.
    pub workspace: WorkspaceId,
    /// With which configuration.
    pub configuration_version: Option<ConfigurationVersionId>,
    /// Free text, shortened; untrusted.
    pub message: Option<String>,
    /// Refresh state first; upstream's default is true.
    pub refresh: Option<bool>,
    /// Addresses to which the run is limited.
    pub targets: Vec<String>,
    /// Addresses to replace.
    pub replace: Vec<String>,
    /// Variables of this run.
    pub variables: Vec<RunVariable>,
    is_destroy: bool,
    refresh_only: bool,
    auto_apply: bool,
    plan_only: bool,
    save_plan: bool,
    allow_empty_apply: bool,
    debugging_mode: bool,
    allow_config_generation: bool,
    invoke_actions: bool,
    terraform_version: bool,
    policy_paths: bool,
}

/// A variable of one run; the value is an HCL literal.
#[derive(Clone, PartialEq, Eq)]
pub struct RunVariable {
    /// Its name.
    pub key: String,
    /// Its value; may be secret.
    pub value: String,
}

impl std::fmt::Debug for RunVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunVariable({} = …)", self.key)
    }
}

impl RunRequest {
    /// Reads the body of `POST /runs`.
    ///
    /// # Errors
    /// `BODY_…`, `ID_MALFORMED` or `RUN_ATTRIBUTE_UNKNOWN` for anything that is not documented.
    /// What is documented but not allowed is a fact for the decision, see [`Self::facts`].
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let resource = resource(body, "runs")?;
        let (workspace, configuration_version) = relations(resource.relationships)?;
        let mut attributes = resource.attributes;
        repeated(&mut attributes, &workspace, configuration_version.as_ref())?;
        let truth = |value: Option<bool>| value.unwrap_or(false);
        // A comment is for people who watch the run; agents speak by the message.
        attributes.string("comment")?;
        let request = Self {
            workspace,
            configuration_version,
            message: attributes.string("message")?.map(|text| plain_text(&text)),
            refresh: attributes.boolean("refresh")?,
            targets: addresses(attributes.strings("target-addrs")?, "target-addrs")?,
            replace: addresses(attributes.strings("replace-addrs")?, "replace-addrs")?,
            variables: variables(attributes.array("variables")?)?,
            is_destroy: truth(attributes.boolean("is-destroy")?),
            refresh_only: truth(attributes.boolean("refresh-only")?),
            auto_apply: truth(attributes.boolean("auto-apply")?),
            plan_only: truth(attributes.boolean("plan-only")?),
            save_plan: truth(attributes.boolean("save-plan")?),
            allow_empty_apply: truth(attributes.boolean("allow-empty-apply")?),
            debugging_mode: truth(attributes.boolean("debugging-mode")?),
            allow_config_generation: truth(attributes.boolean("allow-config-generation")?),
            invoke_actions: !attributes.strings("invoke-action-addrs")?.is_empty(),
            terraform_version: attributes.string("terraform-version")?.is_some(),
            policy_paths: !attributes.strings("policy-paths")?.is_empty(),
        };
        attributes.finish()?;
        Ok(request)
    }

    /// Names the configuration version of a run that names none.
    pub fn pin(&mut self, configuration_version: ConfigurationVersionId) {
        self.configuration_version
            .get_or_insert(configuration_version);
    }

    /// Says in the message who really asks: people see it, and a lost run is found by it. It
    /// stands at the end, where the agent's own words cannot take its place.
    pub fn attribute_to(&mut self, who: &str) {
        let said = self.message.take().unwrap_or_default();
        let room = MAX_MESSAGE.saturating_sub(who.chars().count() + 3);
        let said: String = said.trim().chars().take(room).collect();
        self.message = Some(format!("{said} ({who})").trim_start().to_owned());
    }

    /// The facts on which the decision rests.
    pub fn facts(&self, configuration: ConfigurationFact) -> RunFacts {
        let count = |list: &[String]| u32::try_from(list.len()).unwrap_or(u32::MAX);
        RunFacts {
            is_destroy: self.is_destroy,
            refresh_only: self.refresh_only,
            targets: count(&self.targets),
            replace: count(&self.replace),
            variables: self
                .variables
                .iter()
                .map(|variable| variable.key.clone())
                .collect(),
            auto_apply: self.auto_apply,
            plan_only: self.plan_only,
            save_plan: self.save_plan,
            allow_empty_apply: self.allow_empty_apply,
            debugging_mode: self.debugging_mode,
            allow_config_generation: self.allow_config_generation,
            invoke_actions: self.invoke_actions,
            terraform_version: self.terraform_version,
            policy_paths: self.policy_paths,
            configuration,
        }
    }

    /// Whether the client wants the plan applied without asking again. Upstream is never told;
    /// the gateway remembers.
    pub fn wants_auto_apply(&self) -> bool {
        self.auto_apply
    }

    /// The body for upstream, for a request that the contract allowed. `auto-apply` is always
    /// written, and always false: left out, it would be the workspace's setting.
    pub fn upstream_body(&self, contract: &Contract) -> Json {
        let plan_only = self.plan_only || !contract.allows_apply();
        let mut attributes = object([
            ("auto-apply", Json::Bool(false)),
            ("plan-only", Json::Bool(plan_only)),
            ("save-plan", Json::Bool(self.save_plan && !plan_only)),
            ("is-destroy", Json::Bool(self.is_destroy)),
            ("refresh", Json::Bool(self.refresh.unwrap_or(true))),
            ("refresh-only", Json::Bool(self.refresh_only)),
        ]);
        if let Some(message) = &self.message {
            attributes.set("message", message.as_str());
        }
        let texts = |list: &[String]| Json::Array(list.iter().map(|t| t.as_str().into()).collect());
        if !self.targets.is_empty() {
            attributes.set("target-addrs", texts(&self.targets));
        }
        if !self.replace.is_empty() {
            attributes.set("replace-addrs", texts(&self.replace));
        }
        if !self.variables.is_empty() {
            let variables = self.variables.iter().map(|variable| {
                object([
                    ("key", variable.key.as_str().into()),
                    ("value", variable.value.as_str().into()),
                ])
            });
            attributes.set("variables", Json::Array(variables.collect()));
        }
        let reference = |kind: &str, id: &str| {
            object([("data", object([("type", kind.into()), ("id", id.into())]))])
        };
        let mut relationships = object([(
            "workspace",
            reference("workspaces", self.workspace.as_str()),
        )]);
        if let Some(id) = &self.configuration_version {
            let reference = reference("configuration-versions", id.as_str());
            relationships.set("configuration-version", reference);
        }
        object([(
            "data",
            object([
                ("type", "runs".into()),
                ("attributes", attributes),
                ("relationships", relationships),
            ]),
        )])
    }
}

/// HashiCorp's Python library repeats type and relationships among the attributes. They are
/// never passed on; what they say must be what the relationships say.
fn repeated(
    attributes: &mut Attributes,
    workspace: &WorkspaceId,
    configuration_version: Option<&ConfigurationVersionId>,
) -> Result<(), Refusal> {
    if attributes
        .string("type")?
        .is_some_and(|kind| kind != "runs")
    {
        return Err(wrong("data.attributes.type", "\"runs\""));
    }
    let related = [
        ("workspace", Some(workspace.as_str())),
        (
            "configuration-version",
            configuration_version.map(ConfigurationVersionId::as_str),
        ),
    ];
    for (name, id) in related {
        let Some(repeated) = attributes.object(name)? else {
            continue;
        };
        if repeated.get("id").and_then(Json::as_str) != id {
            let path = format!("data.attributes.{name}");
            return Err(wrong(&path, "what the relationship of this name says"));
        }
    }
    Ok(())
}

fn relations(
    mut relationships: Vec<(String, Json)>,
) -> Result<(WorkspaceId, Option<ConfigurationVersionId>), Refusal> {
    let known = ["workspace", "configuration-version"];
    for (name, _) in &mut relationships {
        if name == "configuration_version" {
            name.replace_range(.., "configuration-version");
        }
    }
    only(&relationships, &known, "data.relationships.")?;
    if relationships.len() > known.len() {
        return Err(ReasonCode::BodyBothSpellings.into());
    }
    let malformed = |error: crate::terraform::ids::IdError| {
        Refusal::new(ReasonCode::IdMalformed, error.to_string())
    };
    let configuration_version = match take(&mut relationships, "configuration-version") {
        None => None,
        Some(value) => relation(value, "configuration-version", "configuration-versions")?
            .map(|id| ConfigurationVersionId::new(&id).map_err(malformed))
            .transpose()?,
    };
    let workspace = take(&mut relationships, "workspace")
        .ok_or_else(|| missing("data.relationships.workspace"))?;
    let workspace = relation(workspace, "workspace", "workspaces")?
        .ok_or_else(|| missing("data.relationships.workspace.data"))?;
    // Only a second configuration-version in the other spelling can be left.
    if !relationships.is_empty() {
        return Err(ReasonCode::BodyBothSpellings.into());
    }
    Ok((
        WorkspaceId::new(&workspace).map_err(malformed)?,
        configuration_version,
    ))
}

fn addresses(list: Vec<String>, name: &str) -> Result<Vec<String>, Refusal> {
    let good =
        |text: &String| (1..=1024).contains(&text.len()) && text.chars().all(|c| !c.is_control());
    if list.len() <= MAX_LIST && list.iter().all(good) {
        Ok(list)
    } else {
        Err(wrong(
            &format!("data.attributes.{name}"),
            "a short list of resource addresses",
        ))
    }
}

fn variables(list: Vec<Json>) -> Result<Vec<RunVariable>, Refusal> {
    const PATH: &str = "data.attributes.variables";
    let names = |element: &Json| {
        element
            .get("key")
            .and_then(Json::as_str)
            .map_or(0, str::len)
    };
    if list.len() > MAX_LIST || list.iter().map(names).sum::<usize>() > MAX_NAMES {
        return Err(wrong(PATH, "a short list"));
    }
    let mut variables: Vec<RunVariable> = Vec::with_capacity(list.len());
    for element in list {
        let mut element = members(element, PATH)?;
        only(&element, &["key", "value"], "data.attributes.variables.")?;
        let mut text = |name: &str| match take(&mut element, name) {
            Some(Json::String(text)) if text.len() <= MAX_TEXT => Ok(text),
            _ => Err(wrong(&format!("{PATH}.{name}"), "a string")),
        };
        let variable = RunVariable {
            key: text("key")?,
            value: text("value")?,
        };
        if !is_variable_name(&variable.key) {
            return Err(wrong(&format!("{PATH}.key"), "the name of a variable"));
        }
        if variables.iter().any(|other| other.key == variable.key) {
            let detail = format!("{PATH}: {} is set twice", quoted(&variable.key));
            return Err(Refusal::new(ReasonCode::BodyWrongType, detail));
        }
        variables.push(variable);
    }
    Ok(variables)
}

/// What Terraform accepts as the name of a variable, in ASCII.
fn is_variable_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain)
}

/// The body of `actions/apply`, `actions/discard` and `actions/cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunAction {
    /// Free text, shortened; untrusted.
    pub comment: Option<String>,
}

impl RunAction {
    /// Reads the body, which may be empty.
    ///
    /// # Errors
    /// `BODY_…` for anything but an optional comment.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let mut body = members(read(body)?, "the body")?;
        only(&body, &["comment"], "")?;
        match take(&mut body, "comment") {
            None | Some(Json::Null) => Ok(Self::default()),
            Some(Json::String(text)) => Ok(Self {
                comment: Some(plain_text(&text)),
            }),
            Some(_) => Err(wrong("comment", "a string")),
        }
    }

    /// The body for upstream.
    pub fn upstream_body(&self) -> Json {
        match &self.comment {
            None => Json::object(),
            Some(comment) => object([("comment", comment.as_str().into())]),
        }
    }
}

#[cfg(test)]
mod tests;
