//! A question in words, and as a call that `clawgate policy check` takes.

use proof::json::Json;
use serde::Serialize;

use super::calls::RUN;
use super::{Part, Question};
use crate::contract::Action;
use crate::decide::{ModelSurface, TerraformInput};
use crate::egress::EgressOperation;
use crate::terraform::Operation;

/// What to ask `clawgate policy check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckCall {
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// The body, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Further options, each with its value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<(&'static str, Option<String>)>,
}

impl Question {
    /// The call, for a question that is one.
    pub fn call(&self) -> Option<CheckCall> {
        match self {
            Self::Terraform(input) => Some(terraform(input)),
            Self::Model(call) => Some(model(call)),
            _ => None,
        }
    }

    /// What is asked for, in words: "to start a run …".
    pub fn in_words(&self) -> String {
        match self {
            Self::Terraform(input) => {
                let CheckCall { method, path, .. } = terraform(input);
                format!("{method} {path} ({}{})", input.operation, choices(input))
            }
            Self::Model(call) => {
                let input = &call.input;
                let model = input.model.as_deref();
                let model = model.map_or_else(String::new, |name| format!(", model `{name}`"));
                let mut words = format!("a call to the model provider `{}`{model}", input.provider);
                let rest = call.body.members().unwrap_or_default();
                let rest = rest.iter().filter(|(name, _)| name != "model");
                for (name, value) in rest {
                    words.push_str(&format!(", with `{name}`: {}", text(value)));
                }
                if input.calls_so_far > 0 {
                    words.push_str(&format!(", after {} calls", input.calls_so_far));
                }
                if input.tokens_so_far > 0 {
                    words.push_str(&format!(", after {} tokens", input.tokens_so_far));
                }
                match input.cost {
                    None => words.push_str(", for which there is no price"),
                    Some(cost) if cost.so_far_usd > crate::decimal::Decimal::ZERO => {
                        words.push_str(&format!(", after {} USD", cost.so_far_usd));
                    }
                    Some(_) => {}
                }
                words
            }
            Self::Upload(part) => format!("an upload with {}", part.in_words()),
            Self::Plan(plan, cost) => plan_in_words(plan, cost.as_ref()),
            Self::Approved(approvals) => {
                let by = crate::contract::listed(approvals.by.iter().map(String::as_str));
                let opener = approvals.opener.as_ref();
                let opener = opener.map_or_else(String::new, |opener| {
                    format!(", of a job that {opener} opened")
                });
                let age = match approvals.age_seconds {
                    0 => String::new(),
                    seconds => format!(", {seconds} seconds after the plan was ready"),
                };
                format!("the apply of a plan that {by} approved{opener}{age}")
            }
            Self::Wish => "a wish to apply that is kept until somebody approves".to_owned(),
            Self::Token(seconds) => format!("a token that lives {seconds} seconds"),
            Self::KeptPrompts(days) => {
                format!("to have what it asks models kept for approvers for {days} days")
            }
            Self::Sealed(seen) => {
                let by = match seen.by.is_empty() {
                    true => "no witness has seen".to_owned(),
                    false => format!(
                        "{} saw",
                        crate::contract::listed(seen.by.iter().map(String::as_str))
                    ),
                };
                let stamp = if seen.timestamp { "with" } else { "without" };
                format!("to seal a bundle that {by}, {stamp} a timestamp")
            }
            Self::Connection(to) => {
                let how = match to.operation {
                    EgressOperation::Connect => "a connection",
                    EgressOperation::Request => "a plain request",
                };
                format!("{how} to {}:{}", to.host, to.port)
            }
        }
    }
}

fn text(value: &Json) -> String {
    String::from_utf8_lossy(&value.to_jcs()).into_owned()
}

fn choices(input: &TerraformInput<'_>) -> String {
    let mut words = String::new();
    if let Some(run) = &input.run {
        for (holds, name) in [
            (run.is_destroy, "destroy"),
            (run.refresh_only, "refresh only"),
            (run.targets > 0, "with a target"),
            (run.replace > 0, "with a replacement"),
        ] {
            if holds {
                words.push_str(&format!(", {name}"));
            }
        }
        for name in &run.variables {
            words.push_str(&format!(", with the variable `{name}`"));
        }
    }
    if let Some(id) = &input.workspace_id {
        words.push_str(&format!(", in {id}"));
    }
    if let Some(organization) = &input.organization {
        words.push_str(&format!(" of {organization}"));
    }
    if input.operation == Operation::ApplyRun {
        let approved = input.approval == crate::decide::ApprovalFact::Valid;
        words.push_str(if approved {
            ", approved"
        } else {
            ", not approved"
        });
    }
    words
}

fn terraform(input: &TerraformInput<'_>) -> CheckCall {
    let operation = input.operation;
    let workspace = input.workspace_id.as_deref().unwrap_or_default();
    let organization = input.organization.as_deref().unwrap_or_default();
    let method = match operation.effect() {
        crate::terraform::Effect::Read => "GET",
        crate::terraform::Effect::Mutate => "POST",
    };
    let path = match operation {
        Operation::Discovery => "/.well-known/terraform.json".to_owned(),
        Operation::Ping => "/api/v2/ping".to_owned(),
        Operation::AccountDetails => "/api/v2/account/details".to_owned(),
        Operation::EntitlementSet => {
            format!("/api/v2/organizations/{organization}/entitlement-set")
        }
        Operation::Capacity => format!("/api/v2/organizations/{organization}/capacity"),
        Operation::RunsQueue => format!("/api/v2/organizations/{organization}/runs/queue"),
        Operation::ListWorkspaces => format!("/api/v2/organizations/{organization}/workspaces"),
        Operation::WorkspaceByName => {
            format!("/api/v2/organizations/{organization}/workspaces/example")
        }
        Operation::WorkspaceById => format!("/api/v2/workspaces/{workspace}"),
        Operation::WorkspaceTagBindings => format!("/api/v2/workspaces/{workspace}/tag-bindings"),
        Operation::CurrentStateVersion => {
            format!("/api/v2/workspaces/{workspace}/current-state-version")
        }
        Operation::CurrentStateVersionOutputs => {
            format!("/api/v2/workspaces/{workspace}/current-state-version-outputs")
        }
        Operation::WorkspaceRuns => format!("/api/v2/workspaces/{workspace}/runs"),
        Operation::CreateConfigurationVersion => {
            format!("/api/v2/workspaces/{workspace}/configuration-versions")
        }
        Operation::StateVersionOutput => "/api/v2/state-version-outputs/wsout-example1".to_owned(),
        Operation::ReadConfigurationVersion => {
            "/api/v2/configuration-versions/cv-example1".to_owned()
        }
        Operation::CreateRun => "/api/v2/runs".to_owned(),
        Operation::ReadRun => format!("/api/v2/runs/{RUN}"),
        Operation::RunEvents => format!("/api/v2/runs/{RUN}/run-events"),
        Operation::RunTaskStages => format!("/api/v2/runs/{RUN}/task-stages"),
        Operation::RunPolicyChecks => format!("/api/v2/runs/{RUN}/policy-checks"),
        Operation::RunComments => format!("/api/v2/runs/{RUN}/comments"),
        Operation::ApplyRun => format!("/api/v2/runs/{RUN}/actions/apply"),
        Operation::DiscardRun => format!("/api/v2/runs/{RUN}/actions/discard"),
        Operation::CancelRun => format!("/api/v2/runs/{RUN}/actions/cancel"),
        Operation::ReadTaskStage => "/api/v2/task-stages/ts-example1".to_owned(),
        Operation::ReadPolicyCheck => "/api/v2/policy-checks/polchk-example1".to_owned(),
        Operation::PolicyCheckOutput => "/api/v2/policy-checks/polchk-example1/output".to_owned(),
        Operation::ReadPlan => "/api/v2/plans/plan-example1".to_owned(),
        Operation::PlanJsonRedacted => {
            "/api/v2/plans/plan-example1/json-output-redacted".to_owned()
        }
        Operation::ReadApply => "/api/v2/applies/apply-example1".to_owned(),
        Operation::ReadCostEstimate => "/api/v2/cost-estimates/ce-example1".to_owned(),
    };
    let body = match operation {
        Operation::CreateRun => Some(run_body(input, workspace)),
        Operation::CreateConfigurationVersion => {
            Some(r#"{"data":{"type":"configuration-versions"}}"#.to_owned())
        }
        _ => None,
    };
    // What the path and the body do not say.
    let mut options = Vec::new();
    let is_said = matches!(
        operation,
        Operation::WorkspaceById
            | Operation::WorkspaceTagBindings
            | Operation::CurrentStateVersion
            | Operation::CurrentStateVersionOutputs
            | Operation::WorkspaceRuns
            | Operation::CreateConfigurationVersion
            | Operation::CreateRun
    );
    if !workspace.is_empty() && !is_said {
        options.push(("--workspace-id", Some(workspace.to_owned())));
    }
    if !organization.is_empty() && !path.contains("/organizations/") {
        options.push(("--organization", Some(organization.to_owned())));
    }
    if input.approval == crate::decide::ApprovalFact::Valid {
        options.push(("--approved", None));
    }
    CheckCall {
        method,
        path,
        body,
        options,
    }
}

fn run_body(input: &TerraformInput<'_>, workspace: &str) -> String {
    let run = input.run.as_deref().cloned().unwrap_or_default();
    let mut attributes = Json::Object(Vec::new());
    if run.is_destroy {
        attributes.set("is-destroy", true);
    }
    if run.refresh_only {
        attributes.set("refresh-only", true);
    }
    let address = || Json::Array(vec!["aws_instance.example".into()]);
    if run.targets > 0 {
        attributes.set("target-addrs", address());
    }
    if run.replace > 0 {
        attributes.set("replace-addrs", address());
    }
    if !run.variables.is_empty() {
        let variables = run.variables.iter().map(|name| {
            Json::Object(vec![
                ("key".to_owned(), name.as_str().into()),
                ("value".to_owned(), "\"x\"".into()),
            ])
        });
        attributes.set("variables", Json::Array(variables.collect()));
    }
    let attributes = text(&attributes);
    format!(
        r#"{{"data":{{"type":"runs","attributes":{attributes},"relationships":{{"workspace":{{"data":{{"type":"workspaces","id":"{workspace}"}}}},"configuration-version":{{"data":{{"type":"configuration-versions","id":"cv-example1"}}}}}}}}}}"#
    )
}

fn model(call: &super::ModelCall) -> CheckCall {
    let input = &call.input;
    let (method, path) = match input.surface {
        ModelSurface::ChatCompletions => ("POST", "/openai/v1/chat/completions"),
        ModelSurface::Responses => ("POST", "/openai/v1/responses"),
        ModelSurface::Embeddings => ("POST", "/openai/v1/embeddings"),
        ModelSurface::Models => ("GET", "/openai/v1/models"),
        ModelSurface::Messages => ("POST", "/anthropic/v1/messages"),
        ModelSurface::CountTokens => ("POST", "/anthropic/v1/messages/count_tokens"),
    };
    let mut options = Vec::new();
    if !path.starts_with(&format!("/{}/", input.provider)) {
        options.push(("--provider", Some(input.provider.to_string())));
    }
    if input.calls_so_far > 0 {
        options.push(("--calls-so-far", Some(input.calls_so_far.to_string())));
    }
    if input.tokens_so_far > 0 {
        options.push(("--tokens-so-far", Some(input.tokens_so_far.to_string())));
    }
    match input.cost {
        None => options.push(("--no-price", None)),
        Some(cost) if cost.so_far_usd > crate::decimal::Decimal::ZERO => {
            options.push(("--usd-so-far", Some(cost.so_far_usd.to_string())));
        }
        Some(_) => {}
    }
    CheckCall {
        method,
        path: path.to_owned(),
        body: (method == "POST").then(|| text(&call.body)),
        options,
    }
}

impl Part {
    fn in_words(&self) -> String {
        match self {
            Self::Nothing => "nothing but variables".to_owned(),
            Self::Provider(source) => format!("the provider {}", source.as_str()),
            Self::ProviderArgument(source, name) => {
                format!("the argument `{name}` of the provider {}", source.as_str())
            }
            Self::Module(source, None) => format!("the module {source}"),
            Self::Module(source, Some(version)) => format!("the module {source} {version}"),
            Self::ResourceType(kind) => format!("a resource of type {kind}"),
            Self::DataSource(kind) => format!("the data source {kind}"),
            Self::Provisioner => "a provisioner".to_owned(),
            Self::RemoteState(kind, workspace) => {
                format!("a {kind} that reads the outputs of {workspace}")
            }
        }
    }
}

fn plan_in_words(plan: &crate::plan::PlanFacts, cost: Option<&crate::CostFacts>) -> String {
    let mut words = "the apply of a plan".to_owned();
    if let Some(resource) = plan.resources.first() {
        let changes = &plan.changes;
        let (does, count) = match resource.actions.first() {
            Some(Action::Create) => ("creates", changes.create),
            Some(Action::Update) => ("updates", changes.update),
            Some(Action::Delete) => ("deletes", changes.delete),
            Some(Action::Replace) => ("replaces", changes.replace),
            Some(Action::Forget) => ("forgets", changes.forget),
            Some(Action::Import) => ("imports", changes.import),
            None => ("moves", changes.moved),
        };
        words.push_str(&format!(" that {does} {count} {}", resource.kind));
    }
    if !plan.complete {
        words.push_str(" of a part of the configuration");
    }
    match cost {
        None => words.push_str(" without a cost estimate"),
        Some(cost) if cost.unmatched_resources > 0 => {
            words.push_str(" with a resource that has no price");
        }
        Some(cost) if cost.proposed_monthly_usd > crate::decimal::Decimal::ZERO => {
            words.push_str(&format!(
                " that leads to {} USD a month, {} USD more than before",
                cost.proposed_monthly_usd, cost.delta_monthly_usd
            ));
        }
        Some(_) => {}
    }
    words
}
