//! `clawgate policy check`: what a contract would say about one call, without any network.
//!
//! The contract decides on facts, and some facts only a running gateway knows. Here they are
//! assumed to be in order, because the question is what the *contract* says: the token has every
//! scope of the contract, an object named by id was made by the same job in the workspace of
//! `--workspace-id` (the contract's first without it), and a configuration was inspected. A
//! workspace's name is not an id: `NAME` counts as the contract's workspace `ws-NAME` when there
//! is one, otherwise it is outside the contract unless `--workspace-id` says which it is.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use policy::decide::{
    ApprovalFact, ConfigurationFact, EgressInput, ModelCost, ModelInput, ModelSurface,
    TerraformInput,
};
use policy::decimal::Decimal;
use policy::egress::{Destination, EgressOperation, Host};
use policy::terraform::rewrite::{ConfigurationVersionRequest, RunAction, RunRequest};
use policy::terraform::{Call, Operation, ParsedTarget, Target};
use policy::{CompiledContract, Contract, Decision, DecisionInput, ReasonCode, Refusal, Verdict};
use proof::json::{self, Json, Numbers};

use super::super::term::{self, BAD, BOLD, GOOD, OFF, WARN};
use super::super::{Failure, contract_file};

/// Prints what a contract says about one call
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate policy check contract.json --method GET --path /api/v2/workspaces/ws-staging-app
  clawgate policy check contract.json --method POST --path /api/v2/runs --body run.json --json
  clawgate policy check contract.json --method POST \\
      --path /api/v2/runs/run-CZcmD7eagjhyX0vN/actions/apply --expect approve
  clawgate policy check contract.json --method POST \\
      --path /openai/v1/chat/completions --body chat.json
  clawgate policy check contract.json --method CONNECT --path registry.npmjs.org:443

Needs no gateway. What only a running gateway knows is assumed to be in order: an object named
by id was made by the same job in --workspace-id (the contract's first workspace without it),
an uploaded configuration was inspected, and no budget was used. Hosts' names are not looked up.
A workspace's NAME is taken for ws-NAME.")]
pub(in crate::cli) struct Check {
    /// The contract
    contract: PathBuf,
    /// The call's method
    #[arg(long)]
    method: String,
    /// The call's path, with its query
    #[arg(long)]
    path: String,
    /// File with the call's body; `-` is standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The workspace to which the object really belongs
    #[arg(long, value_name = "WS")]
    workspace_id: Option<String>,
    /// The organization to which the workspace really belongs, where the path names none
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// The provider that is asked for a model, instead of the path's
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// How many model calls the job has made
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    calls_so_far: u64,
    /// How many model tokens the job has used
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    tokens_so_far: u64,
    /// How much the job has spent on models
    #[arg(
        long,
        value_name = "USD",
        default_value = "0",
        conflicts_with = "no_price"
    )]
    usd_so_far: Decimal,
    /// The operator has no price for the model
    #[arg(long)]
    no_price: bool,
    /// The run's plan is approved already
    #[arg(long)]
    approved: bool,
    /// Fail unless this is the decision
    #[arg(long, value_enum)]
    expect: Option<Expected>,
    /// Print the decision as JSON
    #[arg(long)]
    json: bool,
}

/// A decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Expected {
    /// Goes on.
    Allow,
    /// A person first.
    Approve,
    /// Refused.
    Deny,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let contract = contract_file::read_sound(&self.contract)?;
        let body = match &self.body {
            None => Vec::new(),
            Some(file) => read(file).map_err(|error| {
                Failure::usage(format!("cannot read `{}`: {error}", file.display()))
            })?,
        };
        let call = Question {
            method: &self.method,
            target: &self.path,
            body: &body,
            workspace_id: self.workspace_id.as_deref(),
            organization: self.organization.as_deref(),
            provider: self.provider.as_deref(),
            calls_so_far: self.calls_so_far,
            tokens_so_far: self.tokens_so_far,
            usd_so_far: (!self.no_price).then_some(self.usd_so_far),
            approved: self.approved,
        };
        let decision = call.decide(&contract).unwrap_or_else(refused);
        if self.json {
            term::print_json(&as_json(&decision));
        } else {
            print(&decision);
        }
        let verdict = match decision.verdict {
            Verdict::Allow => Expected::Allow,
            Verdict::Approve => Expected::Approve,
            Verdict::Deny => Expected::Deny,
        };
        let as_expected = self.expect.is_none_or(|expected| expected == verdict);
        Ok(if as_expected {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Largest body that is read.
const MAX_BODY: u64 = 64 << 20;

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut source: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(file)?),
    };
    source.by_ref().take(MAX_BODY).read_to_end(&mut body)?;
    match source.read(&mut [0])? {
        0 => Ok(body),
        _ => Err(std::io::Error::other("larger than 64 MiB")),
    }
}

fn as_json(decision: &Decision) -> serde_json::Value {
    serde_json::to_value(decision).expect("a decision is plain JSON")
}

fn print(decision: &Decision) {
    let (style, word) = match decision.verdict {
        Verdict::Allow => (GOOD, "allow"),
        Verdict::Approve => (WARN, "approve"),
        Verdict::Deny => (BAD, "deny"),
    };
    anstream::println!("{style}{word}{OFF}  {BOLD}{}{OFF}", decision.code);
    for reason in &decision.reasons {
        anstream::println!("  {}", term::plain(reason));
    }
    if decision.verdict != Verdict::Allow {
        anstream::println!("  {}", decision.code.advice());
    }
}

fn refused(refusal: Refusal) -> Decision {
    Decision::deny(refusal.code, refusal.detail)
}

/// A call about which the contract is asked.
struct Question<'a> {
    method: &'a str,
    target: &'a str,
    body: &'a [u8],
    workspace_id: Option<&'a str>,
    organization: Option<&'a str>,
    provider: Option<&'a str>,
    calls_so_far: u64,
    tokens_so_far: u64,
    /// `None` where the operator has no price.
    usd_so_far: Option<Decimal>,
    approved: bool,
}

impl Question<'_> {
    /// The decision; a call that is refused before the contract is asked is an error.
    fn decide(&self, contract: &Contract) -> Result<Decision, Refusal> {
        let compiled = CompiledContract::compile(contract);
        let scope: Vec<String> = contract.scopes().into_iter().map(str::to_owned).collect();
        if let Some(input) = self.egress_input(&scope)? {
            return Ok(policy::decide(&compiled, &DecisionInput::Egress(input)));
        }
        let path = self.target.split('?').next().unwrap_or_default();
        for provider in ["openai", "anthropic"] {
            let surface = path
                .strip_prefix('/')
                .and_then(|p| p.strip_prefix(provider));
            if let Some(surface) = surface.and_then(|rest| rest.strip_prefix("/v1/")) {
                let input = self.model_input(contract, provider, surface, &scope)?;
                return Ok(policy::decide(&compiled, &DecisionInput::Model(input)));
            }
        }
        let input = self.terraform_input(contract, &scope)?;
        Ok(policy::decide(&compiled, &DecisionInput::Terraform(input)))
    }

    /// A connection by proxy: `CONNECT host:port`, or a whole `http://` address. Names are not looked
    /// up here: they count as public.
    fn egress_input<'s>(&self, scope: &'s [String]) -> Result<Option<EgressInput<'s>>, Refusal> {
        let (operation, authority) = match self.target.strip_prefix("http://") {
            _ if self.method == "CONNECT" => (EgressOperation::Connect, self.target),
            Some(rest) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                (EgressOperation::Request, &rest[..end])
            }
            None => return Ok(None),
        };
        let to = Destination::parse(operation, authority)
            .map_err(|error| Refusal::new(ReasonCode::EgressTarget, error.to_string()))?;
        let address = match to.host {
            Host::Ip(ip) => ip,
            Host::Name(_) => IpAddr::from([1, 1, 1, 1]),
        };
        Ok(Some(EgressInput {
            host: to.host.to_string().into(),
            addresses: Some(vec![address].into()),
            ..EgressInput::new(operation, "", to.port, scope)
        }))
    }

    fn terraform_input<'s>(
        &self,
        contract: &Contract,
        scope: &'s [String],
    ) -> Result<TerraformInput<'s>, Refusal> {
        let parsed = ParsedTarget::parse(self.method, self.target)?;
        let operation = parsed.call.operation();
        let mut input = TerraformInput::new(operation, scope);
        let named = contract.permissions.organization.as_ref();
        input.organization = organization(&parsed.call)
            .or_else(|| self.organization.map(str::to_owned))
            .or_else(|| named.map(|organization| organization.as_str().to_owned()))
            .map(Into::into);
        input.organization_known = true;
        input.run_id = parsed.call.run().map(|run| run.as_str().to_owned().into());
        input.owned = operation.target() == Target::OwnObject;
        input.approval = if self.approved {
            ApprovalFact::Valid
        } else {
            ApprovalFact::None
        };
        let mut workspace = self.workspace_of(&parsed.call, contract);
        match operation {
            Operation::CreateRun => {
                let run = RunRequest::parse(self.body)?;
                let configuration = if run.configuration_version.is_some() {
                    ConfigurationFact::Inspected
                } else {
                    ConfigurationFact::Pinned
                };
                workspace = Some(run.workspace.as_str().to_owned());
                input.run = Some(std::borrow::Cow::Owned(run.facts(configuration)));
            }
            Operation::CreateConfigurationVersion => {
                ConfigurationVersionRequest::parse(self.body)?;
            }
            Operation::ApplyRun | Operation::DiscardRun | Operation::CancelRun => {
                RunAction::parse(self.body)?;
            }
            _ => {}
        }
        input.workspace_id = workspace.map(Into::into);
        Ok(input)
    }

    /// The workspace in the path, or the one that is assumed for an object.
    fn workspace_of(&self, call: &Call, contract: &Contract) -> Option<String> {
        let workspaces = &contract.permissions.workspaces;
        match call {
            Call::WorkspaceById { workspace }
            | Call::WorkspaceTagBindings { workspace }
            | Call::CurrentStateVersion { workspace }
            | Call::CurrentStateVersionOutputs { workspace }
            | Call::WorkspaceRuns { workspace }
            | Call::CreateConfigurationVersion { workspace } => Some(workspace.as_str().to_owned()),
            Call::WorkspaceByName { name, .. } => {
                self.workspace_id.map(str::to_owned).or_else(|| {
                    let id = format!("ws-{}", name.as_str());
                    workspaces
                        .iter()
                        .any(|own| own.as_str() == id)
                        .then_some(id)
                })
            }
            _ => self
                .workspace_id
                .map(str::to_owned)
                .or_else(|| workspaces.first().map(|id| id.as_str().to_owned())),
        }
    }

    fn model_input<'s>(
        &self,
        contract: &Contract,
        provider: &'static str,
        surface: &str,
        scope: &'s [String],
    ) -> Result<ModelInput<'s>, Refusal> {
        let (surface, method) = match (provider, surface) {
            ("openai", "chat/completions") => (ModelSurface::ChatCompletions, "POST"),
            ("openai", "responses") => (ModelSurface::Responses, "POST"),
            ("openai", "embeddings") => (ModelSurface::Embeddings, "POST"),
            ("anthropic", "messages") => (ModelSurface::Messages, "POST"),
            ("anthropic", "messages/count_tokens") => (ModelSurface::CountTokens, "POST"),
            (_, "models") => (ModelSurface::Models, "GET"),
            _ => return Err(ReasonCode::ModelSurfaceNotAllowed.into()),
        };
        if self.method != method {
            return Err(ReasonCode::MethodNotAllowed.into());
        }
        let mut input = ModelInput {
            scope: scope.into(),
            provider: self.provider.unwrap_or(provider).to_owned().into(),
            fallbacks: Default::default(),
            surface,
            model: None,
            calls_so_far: self.calls_so_far,
            tokens_so_far: self.tokens_so_far,
            max_tokens_requested: None,
            cost: None,
            tools: None,
        };
        if surface != ModelSurface::Models {
            let mut body = json::parse(self.body, Numbers::Any)
                .map_err(|error| Refusal::new(ReasonCode::BodyNotJson, error.to_string()))?;
            if let Some(models) = &contract.models {
                if models.tools.is_some() {
                    input.tools = Some(policy::model::offered_tools(&body)?.into());
                }
                policy::model::redact(&mut body, &models.redact)?;
            }
            // The price is the operator's; the call itself is assumed to cost nothing.
            input.cost = self.usd_so_far.map(|so_far_usd| ModelCost {
                so_far_usd,
                wanted_usd: Decimal::ZERO,
            });
            input.model = body
                .get("model")
                .and_then(Json::as_str)
                .map(|m| m.to_owned().into());
            input.max_tokens_requested =
                ["max_completion_tokens", "max_output_tokens", "max_tokens"]
                    .iter()
                    .find_map(|name| body.get(name).and_then(Json::as_integer))
                    .and_then(|tokens| u64::try_from(tokens).ok());
        }
        Ok(input)
    }
}

fn organization(call: &Call) -> Option<String> {
    match call {
        Call::EntitlementSet { organization }
        | Call::Capacity { organization }
        | Call::RunsQueue { organization }
        | Call::ListWorkspaces { organization }
        | Call::WorkspaceByName { organization, .. } => Some(organization.as_str().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = r#"{"data":{"type":"runs","attributes":{"auto-apply":true},
        "relationships":{"workspace":{"data":{"type":"workspaces","id":"WS"}},
        "configuration-version":{"data":{"type":"configuration-versions","id":"cv-1"}}}}}"#;

    fn ask(method: &str, target: &str, body: &str) -> serde_json::Value {
        let contract = Contract::parse(policy::EXAMPLE_CONTRACT.as_bytes()).unwrap();
        let question = Question {
            method,
            target,
            body: body.as_bytes(),
            workspace_id: None,
            organization: None,
            provider: None,
            calls_so_far: 0,
            tokens_so_far: 0,
            usd_so_far: Some(Decimal::ZERO),
            approved: false,
        };
        as_json(&question.decide(&contract).unwrap_or_else(refused))
    }

    #[test]
    fn the_example_contract_decides_as_the_runbook_says() {
        let staging = RUN.replace("WS", "ws-staging-app");
        let production = RUN.replace("WS", "ws-production-app");
        let destroy = staging.replace("\"auto-apply\":true", "\"is-destroy\":true");
        for (method, target, body, decision, code) in [
            ("GET", "/api/v2/ping", "", "allow", "ALLOWED"),
            (
                "GET",
                "/api/v2/workspaces/ws-staging-app",
                "",
                "allow",
                "ALLOWED",
            ),
            (
                "GET",
                "/api/v2/organizations/acme/workspaces/staging-app",
                "",
                "allow",
                "ALLOWED",
            ),
            ("POST", "/api/v2/runs", &staging, "allow", "ALLOWED"),
            (
                "POST",
                "/api/v2/runs/run-1/actions/apply",
                "",
                "approve",
                "APPROVAL_REQUIRED",
            ),
            (
                "GET",
                "/api/v2/workspaces/ws-production-app",
                "",
                "deny",
                "WORKSPACE_NOT_ALLOWED",
            ),
            (
                "GET",
                "/api/v2/organizations/acme/workspaces/production-app",
                "",
                "deny",
                "WORKSPACE_NOT_ALLOWED",
            ),
            (
                "POST",
                "/api/v2/runs",
                &production,
                "deny",
                "WORKSPACE_NOT_ALLOWED",
            ),
            (
                "POST",
                "/api/v2/runs",
                &destroy,
                "deny",
                "DESTROY_NOT_ALLOWED",
            ),
            (
                "GET",
                "/api/v2/workspaces/ws-staging-app/current-state-version",
                "",
                "deny",
                "STATE_READ_DENIED",
            ),
            (
                "POST",
                "/api/v2/workspaces/ws-staging-app/vars",
                "{}",
                "deny",
                "VARIABLES_DENIED",
            ),
            ("GET", "/api/v2/../v2/ping", "", "deny", "PATH_DOT_SEGMENT"),
            ("GET", "/api/v2/nothing", "", "deny", "ROUTE_UNKNOWN"),
            ("BREW", "/api/v2/ping", "", "deny", "METHOD_NOT_ALLOWED"),
            (
                "POST",
                "/openai/v1/chat/completions",
                r#"{"model":"gpt-5"}"#,
                "allow",
                "ALLOWED",
            ),
            (
                "POST",
                "/openai/v1/chat/completions",
                "{}",
                "deny",
                "MODEL_MISSING",
            ),
            (
                "POST",
                "/openai/v1/files",
                "{}",
                "deny",
                "MODEL_SURFACE_NOT_ALLOWED",
            ),
            (
                "GET",
                "/anthropic/v1/messages",
                "",
                "deny",
                "METHOD_NOT_ALLOWED",
            ),
        ] {
            let answer = ask(method, target, body);
            assert_eq!(answer["decision"], decision, "{method} {target}: {answer}");
            assert_eq!(answer["code"], code, "{method} {target}: {answer}");
            let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
            assert_eq!(
                members,
                ["code", "decision", "reasons"],
                "exactly these members"
            );
            let reasons = answer["reasons"].as_array().unwrap();
            assert_eq!(reasons.is_empty(), decision == "allow", "{method} {target}");
        }
    }
}
