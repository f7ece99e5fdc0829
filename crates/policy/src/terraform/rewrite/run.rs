//! `POST /runs` and the actions on a run.

use proof::json::Json;

use super::body::{members, missing, object, only, read, relation, resource, take, wrong};
use super::plain_text;
use crate::contract::Contract;
use crate::decide::{ConfigurationFact, RunFacts};
use crate::reason::{ReasonCode, Refusal, quoted};
use crate::terraform::ids::{ConfigurationVersionId, WorkspaceId};

/// Most targets, replacements and variables of one run.
const MAX_LIST: usize = 256;
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
    if list.len() > MAX_LIST {
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
        if variables.iter().any(|other| other.key == variable.key) {
            let detail = format!("{PATH}: {} is set twice", quoted(&variable.key));
            return Err(Refusal::new(ReasonCode::BodyWrongType, detail));
        }
        variables.push(variable);
    }
    Ok(variables)
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
mod tests {
    use super::*;
    use crate::contract::EXAMPLE_CONTRACT;
    use crate::terraform::rewrite::ConfigurationVersionRequest;

    fn contract() -> Contract {
        Contract::parse(EXAMPLE_CONTRACT.as_bytes()).unwrap()
    }

    fn plan_only() -> Contract {
        let text = EXAMPLE_CONTRACT.replace("\"allowed\": true", "\"allowed\": false");
        Contract::parse(text.as_bytes()).unwrap()
    }

    fn run(attributes: &str) -> String {
        format!(
            r#"{{"data":{{"type":"runs","attributes":{attributes},"relationships":{{
                "workspace":{{"data":{{"type":"workspaces","id":"ws-staging-app"}}}},
                "configuration-version":{{"data":{{"type":"configuration-versions","id":"cv-1"}}}}
            }}}}}}"#
        )
    }

    fn text(json: &Json) -> String {
        String::from_utf8(json.to_jcs()).unwrap()
    }

    #[test]
    fn the_cli_run_is_rewritten() {
        let body = run(
            r#"{"auto-apply":true,"message":"Triggered via CLI","refresh":true,
            "save-plan":false,"variables":[],"is-destroy":false,"allow-empty-apply":false}"#,
        );
        let request = RunRequest::parse(body.as_bytes()).unwrap();
        assert!(request.wants_auto_apply());
        let facts = request.facts(ConfigurationFact::Inspected);
        assert!(facts.auto_apply && !facts.is_destroy && !facts.allow_empty_apply);
        let upstream = text(&request.upstream_body(&contract()));
        assert_eq!(
            upstream,
            concat!(
                r#"{"data":{"attributes":{"auto-apply":false,"is-destroy":false,"#,
                r#""message":"Triggered via CLI","plan-only":false,"refresh":true,"#,
                r#""refresh-only":false,"save-plan":false},"relationships":{"#,
                r#""configuration-version":{"data":{"id":"cv-1","type":"configuration-versions"}},"#,
                r#""workspace":{"data":{"id":"ws-staging-app","type":"workspaces"}}},"type":"runs"}}"#
            )
        );
    }

    #[test]
    fn a_plan_only_contract_forces_plans_that_nobody_can_apply() {
        let body = run(r#"{"auto-apply":true,"save-plan":true,"plan-only":false}"#);
        let request = RunRequest::parse(body.as_bytes()).unwrap();
        let upstream = request.upstream_body(&plan_only());
        let attribute = |name| upstream.at(&["data", "attributes", name]).cloned();
        assert_eq!(attribute("plan-only"), Some(Json::Bool(true)));
        assert_eq!(attribute("auto-apply"), Some(Json::Bool(false)));
        assert_eq!(attribute("save-plan"), Some(Json::Bool(false)));

        let body = br#"{"data":{"type":"configuration-versions"}}"#;
        let request = ConfigurationVersionRequest::parse(body).unwrap();
        assert!(request.auto_queue_runs, "upstream's default");
        assert_eq!(
            text(&request.upstream_body(&plan_only())),
            r#"{"data":{"attributes":{"auto-queue-runs":false,"provisional":false,"speculative":true},"type":"configuration-versions"}}"#
        );
        let body = br#"{"data":{"type":"configuration-versions","attributes":
            {"auto-queue-runs":true,"provisional":true,"speculative":false}}}"#;
        let request = ConfigurationVersionRequest::parse(body).unwrap();
        assert_eq!(
            text(&request.upstream_body(&contract())),
            r#"{"data":{"attributes":{"auto-queue-runs":false,"provisional":true,"speculative":false},"type":"configuration-versions"}}"#
        );
    }

    #[test]
    fn what_cannot_be_allowed_is_a_fact_and_is_never_written() {
        let body = run(
            r#"{"allow_empty_apply":true,"debugging-mode":true,"terraform-version":"1.0.0",
            "invoke-action-addrs":["action.x.y"],"policy-paths":["p"],"allow-config-generation":true,
            "is_destroy":true,"refresh-only":true,"target-addrs":["a.b"],"replace-addrs":["a.b","c.d"],
            "variables":[{"key":"region","value":"\"eu\""}],"comment":"approved by boss"}"#,
        );
        let request = RunRequest::parse(body.as_bytes()).unwrap();
        let facts = request.facts(ConfigurationFact::Absent);
        assert!(facts.allow_empty_apply && facts.debugging_mode && facts.terraform_version);
        assert!(facts.invoke_actions && facts.policy_paths && facts.allow_config_generation);
        assert!(facts.is_destroy && facts.refresh_only);
        assert_eq!((facts.targets, facts.replace), (1, 2));
        assert_eq!(facts.variables, ["region"]);
        let upstream = text(&request.upstream_body(&contract()));
        for never in [
            "empty",
            "debugging",
            "terraform-version",
            "invoke",
            "policy",
            "generation",
            "boss",
        ] {
            assert!(!upstream.contains(never), "{never} in {upstream}");
        }
    }

    #[test]
    fn messages_are_plain_and_short() {
        let long = "x".repeat(2000);
        let body = run(&format!(
            r#"{{"message":"a\u0000b\r\nApproved: yes\u202e{long}"}}"#
        ));
        let request = RunRequest::parse(body.as_bytes()).unwrap();
        let message = request.message.unwrap();
        assert_eq!(message.chars().count(), 512);
        assert!(message.starts_with("a b  Approved: yes x"));
    }

    #[test]
    fn hostile_bodies_are_refused_with_their_reason() {
        use ReasonCode::*;
        let workspace = r#""workspace":{"data":{"type":"workspaces","id":"ws-1"}}"#;
        let relations = |relations: &str| {
            format!(r#"{{"data":{{"type":"runs","relationships":{{{relations}}}}}}}"#)
        };
        let cases: Vec<(String, ReasonCode)> = vec![
            (String::new(), BodyNotJson),
            ("[]".into(), BodyWrongType),
            ("{}".into(), BodyMissingMember),
            (r#"{"data":[]}"#.into(), BodyWrongType),
            (r#"{"data":{"type":"run"}}"#.into(), BodyWrongType),
            (r#"{"data":{"attributes":{}}}"#.into(), BodyMissingMember),
            (
                r#"{"data":{"type":"runs","id":"run-1"}}"#.into(),
                BodyUnknownMember,
            ),
            (
                r#"{"data":{"type":"runs"},"included":[]}"#.into(),
                BodyUnknownMember,
            ),
            (
                r#"{"data":{"type":"runs","attributes":[]}}"#.into(),
                BodyWrongType,
            ),
            (
                r#"{"data":{"type":"runs"},"data":{"type":"runs"}}"#.into(),
                BodyNotJson,
            ),
            (
                run(r#"{"auto-apply":false,"auto-apply":true}"#),
                BodyNotJson,
            ),
            (
                run(r#"{"auto-apply":false,"\u0061uto-apply":true}"#),
                BodyNotJson,
            ),
            (
                run(r#"{"auto-apply":false,"auto_apply":true}"#),
                BodyBothSpellings,
            ),
            (run(r#"{"auto-apply":"true"}"#), BodyWrongType),
            (run(r#"{"auto-apply":1}"#), BodyWrongType),
            (run(r#"{"Auto-Apply":true}"#), RunAttributeUnknown),
            (run(r#"{"lineage":"x"}"#), RunAttributeUnknown),
            (run(r#"{"confirmed":true}"#), RunAttributeUnknown),
            (run(r#"{"auto-apply ":true}"#), RunAttributeUnknown),
            (run(r#"{"target-addrs":"a.b"}"#), BodyWrongType),
            (run(r#"{"target-addrs":[1]}"#), BodyWrongType),
            (run(r#"{"target-addrs":[""]}"#), BodyWrongType),
            (run(r#"{"variables":{}}"#), BodyWrongType),
            (
                run(r#"{"variables":[{"key":"a","value":1}]}"#),
                BodyWrongType,
            ),
            (run(r#"{"variables":[{"key":"a"}]}"#), BodyWrongType),
            (
                run(r#"{"variables":[{"key":"a","value":"1","hcl":true}]}"#),
                BodyUnknownMember,
            ),
            (
                run(r#"{"variables":[{"key":"a","value":"1"},{"key":"a","value":"2"}]}"#),
                BodyWrongType,
            ),
            (run(r#"{"refresh":1.5}"#), BodyNotJson),
            (format!("{} ", run("{}")) + "{}", BodyNotJson),
            ("\u{feff}".to_owned() + &run("{}"), BodyNotJson),
            (r#"{"data":{"type":"runs"}}"#.into(), BodyMissingMember),
            (relations(r#""workspace":{"data":null}"#), BodyMissingMember),
            (
                relations(r#""workspace":{"data":[{"type":"workspaces","id":"ws-1"}]}"#),
                BodyWrongType,
            ),
            (
                relations(r#""workspace":{"data":{"type":"workspace","id":"ws-1"}}"#),
                BodyWrongType,
            ),
            (
                relations(r#""workspace":{"data":{"type":"workspaces","id":7}}"#),
                BodyWrongType,
            ),
            (
                relations(r#""workspace":{"data":{"type":"workspaces","id":"../runs"}}"#),
                IdMalformed,
            ),
            (
                relations(r#""workspace":{"data":{"type":"workspaces","id":"ws-1","x":1}}"#),
                BodyUnknownMember,
            ),
            (
                relations(r#""workspace":{"data":{"type":"workspaces","id":"ws-1"},"links":{}}"#),
                BodyUnknownMember,
            ),
            (
                relations(&format!(r#"{workspace},"plan":{{"data":null}}"#)),
                BodyUnknownMember,
            ),
            (
                relations(&format!(
                    r#"{workspace},"configuration-version":{{"data":null}},"configuration_version":{{"data":null}}"#
                )),
                BodyBothSpellings,
            ),
            (
                relations(
                    r#""configuration-version":{"data":null},"configuration_version":{"data":null}"#,
                ),
                BodyMissingMember,
            ),
        ];
        for (body, expected) in cases {
            let refusal = RunRequest::parse(body.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, expected, "{body}\n{refusal}");
        }
        assert_eq!(
            RunRequest::parse(&vec![b' '; super::super::MAX_BODY + 1])
                .unwrap_err()
                .code,
            BodyTooLarge
        );
        assert_eq!(
            RunRequest::parse(relations(workspace).as_bytes())
                .unwrap()
                .configuration_version,
            None
        );
    }

    #[test]
    fn actions_take_a_comment_and_nothing_else() {
        assert_eq!(
            RunAction::parse(b"").unwrap().upstream_body(),
            Json::object()
        );
        assert_eq!(RunAction::parse(b"{}").unwrap(), RunAction::default());
        let action = RunAction::parse(br#"{"comment":"ok\u0007"}"#).unwrap();
        assert_eq!(text(&action.upstream_body()), r#"{"comment":"ok "}"#);
        for bad in [
            "null",
            "[]",
            r#"{"comment":1}"#,
            r#"{"force":true}"#,
            r#"{"comment":"a","x":1}"#,
        ] {
            assert!(RunAction::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in [
            r#"{"data":{"type":"configuration-versions","attributes":{"source":"x"}}}"#,
            r#"{"data":{"type":"runs"}}"#,
            r#"{"data":{"type":"configuration-versions","relationships":{"workspace":{}}}}"#,
            r#"{"data":{"type":"configuration-versions","attributes":{"speculative":null,"auto_queue_runs":0}}}"#,
        ] {
            assert!(
                ConfigurationVersionRequest::parse(bad.as_bytes()).is_err(),
                "{bad}"
            );
        }
    }
}
