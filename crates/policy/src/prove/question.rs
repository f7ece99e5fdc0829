//! What can be asked of a contract, and what it answers.
//!
//! Each kind of question is answered by the function that answers it in the gateway: calls by
//! [`decide`], plans by [`judge`], uploads by the rules of the inspection. What only a running
//! gateway knows is taken to be in order, as `clawgate policy check` takes it.

use proof::approval::is_same_person;
use proof::json::Json;

use super::egress::Connection;
use super::evidence::Seen;
use crate::contract::{Contract, OnMissingApproval, ProviderSource};
use crate::cost::CostFacts;
use crate::decide::{
    CompiledContract, Decision, DecisionInput, ModelInput, ModelSurface, TerraformInput, Verdict,
    decide,
};
use crate::model::{offered_tools, redact};
use crate::plan::{PlanFacts, judge};
use crate::reason::{ReasonCode, Refusal};
use crate::rules;

/// Something that a contract allows or does not.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// A call to Terraform Cloud. Its `scope` is not looked at: the token has every scope that
    /// the contract gives.
    Terraform(Box<TerraformInput<'static>>),
    /// A call to a model, with its body.
    Model(Box<ModelCall>),
    /// Something in an upload, which is planned if it passes.
    Upload(Part),
    /// A plan that is to be applied, with its price if upstream has told one.
    Plan(Box<PlanFacts>, Option<CostFacts>),
    /// The apply of a plan that people approved.
    Approved(Approvals),
    /// The wish to apply a plan before anybody has approved it, which is then kept until somebody
    /// does.
    Wish,
    /// A scoped token that lives so many seconds.
    Token(u32),
    /// What an agent asks models, kept for so many days after a run has ended.
    KeptPrompts(u32),
    /// A connection to somewhere else.
    Connection(Connection),
    /// A bundle that is sealed.
    Sealed(Seen),
}

/// A call to a model. What is not said here is known and in order.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCall {
    /// The facts; `scope` and `tools` are not looked at.
    pub input: ModelInput<'static>,
    /// The body; of its members only those that a contract has rules about.
    pub body: Json,
}

/// Something in an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Nothing that any rule is about.
    Nothing,
    /// A provider.
    Provider(ProviderSource),
    /// An argument of a provider that says where it goes.
    ProviderArgument(ProviderSource, &'static str),
    /// A module from outside, with its version.
    Module(String, Option<&'static str>),
    /// A resource of this type.
    ResourceType(String),
    /// A data source of this type.
    DataSource(String),
    /// A provisioner.
    Provisioner,
    /// A data source of this type that reads the outputs of a workspace.
    RemoteState(&'static str, String),
}

/// Who approved a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvals {
    /// Their addresses, each once.
    pub by: Vec<String>,
    /// Who opened the job.
    pub opener: Option<String>,
    /// How long ago, in seconds.
    pub age_seconds: u32,
}

/// What a contract answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Whether.
    pub verdict: Verdict,
    /// Why not, where there is a code for it.
    pub code: Option<ReasonCode>,
    /// What a model's provider is sent then.
    sent: Option<Json>,
}

impl Answer {
    /// Whether this allows anything that `other` does not: the call itself, the call without a
    /// person, or to send more of it.
    pub(super) fn exceeds(&self, other: &Self) -> bool {
        let level = |answer: &Self| match answer.verdict {
            Verdict::Deny => 0,
            Verdict::Approve => 1,
            Verdict::Allow => 2,
        };
        let more = match (&self.sent, &other.sent) {
            (Some(one), Some(other)) => !is_no_more(one, other),
            _ => false,
        };
        level(self) > level(other) || more
    }

    fn new(verdict: Verdict, code: Option<ReasonCode>) -> Self {
        Self {
            verdict,
            code,
            sent: None,
        }
    }

    fn unless(refused: Option<ReasonCode>) -> Self {
        match refused {
            None => Self::new(Verdict::Allow, None),
            Some(code) => Self::new(Verdict::Deny, Some(code)),
        }
    }

    fn is(holds: bool, code: ReasonCode) -> Self {
        Self::unless((!holds).then_some(code))
    }
}

impl From<Decision> for Answer {
    fn from(decision: Decision) -> Self {
        let code = (!decision.is_allow()).then_some(decision.code);
        Self::new(decision.verdict, code)
    }
}

impl Question {
    /// What the contract answers.
    pub fn answer(&self, compiled: &CompiledContract) -> Answer {
        let contract = compiled.contract();
        let apply = &contract.permissions.apply;
        match self {
            Self::Terraform(input) => {
                let mut input = (**input).clone();
                input.scope = scopes(contract).into();
                decide(compiled, &DecisionInput::Terraform(input)).into()
            }
            Self::Model(call) => call.answer(compiled),
            Self::Upload(_) if !contract.allows_plan() => {
                Answer::is(false, ReasonCode::OperationNotAllowed)
            }
            Self::Upload(part) => Answer::unless(part.refused(contract)),
            Self::Plan(facts, cost) => {
                if !(contract.allows_plan() && apply.allowed) {
                    return Answer::is(false, ReasonCode::ApplyNotAllowed);
                }
                let violations = judge(contract, facts, cost.as_ref());
                Answer::unless(violations.first().map(|violation| violation.code))
            }
            Self::Approved(approvals) => {
                if !apply.allowed {
                    return Answer::is(false, ReasonCode::ApplyNotAllowed);
                }
                Answer::is(approvals.suffice(contract), ReasonCode::ApprovalRequired)
            }
            Self::Wish => {
                let kept = apply.on_missing_approval == OnMissingApproval::Hold;
                Answer::is(
                    apply.allowed && (kept || !apply.requires_approval),
                    ReasonCode::ApprovalRequired,
                )
            }
            Self::Token(seconds) => Answer::is(
                *seconds <= contract.max_ttl_seconds,
                ReasonCode::TokenLifetime,
            ),
            Self::KeptPrompts(days) => {
                let models = contract.models.as_ref();
                let kept = models.map_or(0, |models| models.show_prompts_days);
                match *days <= kept {
                    true => Answer::new(Verdict::Allow, None),
                    false => Answer::new(Verdict::Deny, None),
                }
            }
            Self::Sealed(seen) => {
                let by = seen.by.iter().map(String::as_str);
                let sealed = contract.audit.is_satisfied(by, seen.timestamp);
                Answer::is(sealed, ReasonCode::BundlePending)
            }
            Self::Connection(to) => to.decide(compiled, &scopes(contract)).into(),
        }
    }
}

fn scopes(contract: &Contract) -> Vec<String> {
    contract.scopes().into_iter().map(str::to_owned).collect()
}

impl ModelCall {
    fn answer(&self, compiled: &CompiledContract) -> Answer {
        match self.sent(compiled) {
            Ok((decision, sent)) => Answer {
                sent: decision.is_allow().then_some(sent),
                ..decision.into()
            },
            Err(refusal) => Answer::unless(Some(refusal.code)),
        }
    }

    /// As the model lane does it: tools are read before anything is taken out.
    fn sent(&self, compiled: &CompiledContract) -> Result<(Decision, Json), Refusal> {
        let contract = compiled.contract();
        let mut input = self.input.clone();
        input.scope = scopes(contract).into();
        input.tools = None;
        let mut body = self.body.clone();
        if input.surface != ModelSurface::Models
            && let Some(models) = &contract.models
        {
            if models.tools.is_some() {
                input.tools = Some(offered_tools(&body)?.into());
            }
            redact(&mut body, &models.redact)?;
        }
        Ok((decide(compiled, &DecisionInput::Model(input)), body))
    }
}

/// Whether everything in `one` can be read in `other` as well. A mask says that something is
/// there, and no more.
fn is_no_more(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Object(one), Json::Object(other)) => one.iter().all(|(name, value)| {
            let same = other.iter().find(|(known, _)| known == name);
            same.is_some_and(|(_, known)| is_no_more(value, known))
        }),
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_no_more(one, other))
        }
        _ => one == other || one.as_str() == Some(crate::model::MASK),
    }
}

impl Part {
    /// As the inspection of uploads says it.
    fn refused(&self, contract: &Contract) -> Option<ReasonCode> {
        let (holds, code) = match self {
            Self::Nothing => (true, ReasonCode::Allowed),
            Self::Provider(source) => (
                rules::provider(contract, source),
                ReasonCode::ConfigurationProvider,
            ),
            Self::ProviderArgument(source, name) => {
                let named = rules::names_provider(contract, source);
                let argument = rules::provider_argument(name, named);
                let holds = rules::provider(contract, source) && argument.is_none();
                (holds, ReasonCode::ConfigurationProvider)
            }
            Self::Module(source, version) => (
                rules::module(contract, source, *version),
                ReasonCode::ConfigurationModuleSource,
            ),
            Self::ResourceType(kind) => (
                !rules::must_be_named(kind) || rules::resource_type(contract, kind),
                ReasonCode::ConfigurationResourceType,
            ),
            // Whose state it reads is asked as `RemoteState`.
            Self::DataSource(kind) => (
                rules::data_source(contract, kind),
                ReasonCode::ConfigurationDataSource,
            ),
            Self::Provisioner => (
                rules::provisioners(contract),
                ReasonCode::ConfigurationProvisioner,
            ),
            Self::RemoteState(kind, workspace) => {
                let configuration = contract.permissions.configuration.as_ref();
                let listed = configuration.map_or(&[][..], |c| &c.remote_state_workspaces);
                let holds = rules::data_source(contract, kind)
                    && listed.iter().any(|id| id.as_str() == workspace);
                (holds, ReasonCode::ConfigurationRemoteState)
            }
        };
        (!holds).then_some(code)
    }
}

impl Approvals {
    /// As the gate counts, for a contract that lets plans be applied.
    fn suffice(&self, contract: &Contract) -> bool {
        let apply = &contract.permissions.apply;
        if !apply.requires_approval {
            return true;
        }
        let barred = self.opener.as_ref().filter(|_| !apply.opener_may_approve);
        let counted = self.by.iter().filter(|address| {
            let own = barred.is_some_and(|opener| is_same_person(opener, address));
            !own && apply.approvers.iter().any(|one| one.as_str() == **address)
        });
        counted.count() >= apply.min_approvals as usize
            && self.age_seconds < apply.approval_ttl_seconds
    }
}
