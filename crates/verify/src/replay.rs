//! Recorded decisions, made again under another contract.
//!
//! The function that decides is the gateway's and the verifier's, [`policy::decide()`]; its input is
//! what the record holds. Where the answer would depend on something that the record does not
//! hold, a file, a plan, a body, a price, it is not guessed: it is [`Fate::Undecidable`], and says
//! on what. Each decision stands for itself: what a refusal would have changed about the calls
//! after it is not played out.

use std::collections::{BTreeMap, HashMap};

use policy::contract::{Apply, OnMissingApproval};
use policy::decide::{ApprovalFact, ConfigurationFact, ModelInput, ModelSurface, TerraformInput};
use policy::prove::{Dimension, Proof, Question, Relation, prove};
use policy::reason::Origin;
use policy::terraform::{Class, Operation, Target};
use policy::{CompiledContract, Contract, Decision, DecisionInput, ReasonCode, Verdict, decide};
use proof::bundle::Bundle;
use proof::json::{self, Numbers};
use proof::record::{Body, Intent, Lane, Record, Refusal};
use proof::{EnvelopeType, Json};
use serde::Serialize;

use crate::checks::decisions::DECIDED;
use crate::document::MAX_BUNDLE_BYTES;

/// What was said, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Said {
    /// The decision.
    pub decision: Verdict,
    /// Its code.
    pub code: ReasonCode,
}

/// What becomes of a recorded decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The same, if it is a refusal perhaps for another reason.
    Same,
    /// Another one.
    Changed(Said, Said),
    /// The records do not hold what it would depend on.
    Undecidable(&'static str),
    /// No answer of a contract: a token that was no good, a fault, the gateway's own reading.
    Apart,
}

/// A recorded decision and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// What was asked, by the operation's name where it is one.
    pub operation: String,
    /// About what: a workspace, an organization, or provider and model.
    pub target: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// The contract that decided, and the one that decides again.
#[derive(Debug)]
pub struct Pair {
    old: CompiledContract,
    new: CompiledContract,
    proof: Proof,
}

/// Why a file is not replayed.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Larger than any bundle.
    #[error("larger than a bundle can be")]
    TooLarge,
    /// Not a bundle.
    #[error("not a bundle: {0}")]
    Malformed(String),
    /// The contract in it is not what its author signed, or does not load.
    #[error("its contract cannot be used: {0}")]
    Contract(String),
}

/// Reads the contract and the records of a bundle, and verifies nothing else about it.
///
/// # Errors
/// See [`BundleError`].
pub fn read(bundle: &[u8]) -> Result<(Contract, Vec<Record>), BundleError> {
    if bundle.len() > MAX_BUNDLE_BYTES {
        return Err(BundleError::TooLarge);
    }
    let malformed = |error: json::JsonError| BundleError::Malformed(error.to_string());
    let read = json::parse(bundle, Numbers::Integers).map_err(malformed)?;
    let bundle: Bundle = read.to_typed().map_err(malformed)?;
    let signed = bundle
        .wpc
        .verify::<Json>(EnvelopeType::WorkPolicyContract)
        .map_err(|error| BundleError::Contract(error.to_string()))?;
    let contract = Contract::from_json(signed.payload)
        .map_err(|errors| BundleError::Contract(errors.to_string()))?;
    Ok((contract, bundle.records))
}

impl Pair {
    /// Prepares a replay of what `old` decided.
    pub fn new(old: &Contract, new: &Contract) -> Self {
        Self {
            proof: prove(old, new),
            old: CompiledContract::compile(old),
            new: CompiledContract::compile(new),
        }
    }

    /// Decides a record again; `None` for one that holds no decision.
    pub fn replay(&self, record: &Record) -> Option<Replayed> {
        match &record.body {
            Body::Intent(intent) => Some(self.intent(intent)),
            Body::Refusal(refusal) => Some(self.refusal(refusal)),
            _ => None,
        }
    }

    fn intent(&self, intent: &Intent) -> Replayed {
        let replayed = |target, fate| Replayed {
            operation: intent.operation.clone(),
            target,
            fate,
        };
        let decided = DECIDED.iter().any(|one| one.name() == intent.operation);
        if intent.lane == Lane::Gateway && !decided {
            return replayed(String::new(), Fate::Apart);
        }
        let input = intent.input.to_typed::<DecisionInput<'static>>();
        let (Ok(input), Ok(then)) = (input, intent.decision.to_typed::<Decision>()) else {
            return replayed(String::new(), UNREADABLE);
        };
        let upload = intent.operation == "upload-configuration";
        replayed(target(&input), self.again(&input, said(&then), upload))
    }

    fn refusal(&self, refusal: &Refusal) -> Replayed {
        let replayed = |target, fate| Replayed {
            operation: refusal.asked.clone(),
            target,
            fate,
        };
        let Ok(code) = refusal.code.parse::<ReasonCode>() else {
            return replayed(String::new(), UNREADABLE);
        };
        if code.origin() != Origin::Policy {
            return replayed(String::new(), Fate::Apart);
        }
        let Some(input) = &refusal.input else {
            let fate = match is_said_by_every_contract(refusal.lane, code) {
                true => Fate::Same,
                false => Fate::Undecidable("it was refused before its facts were recorded"),
            };
            return replayed(String::new(), fate);
        };
        let Ok(input) = input.to_typed::<DecisionInput<'static>>() else {
            return replayed(String::new(), UNREADABLE);
        };
        // A wish to apply without approval is refused with this code where the contract says so.
        let decision = match code {
            ReasonCode::ApprovalRequired => Verdict::Approve,
            _ => Verdict::Deny,
        };
        let fate = self.again(&input, Said { decision, code }, false);
        replayed(target(&input), fate)
    }

    /// `upload`: the files themselves passed as well.
    fn again(&self, input: &DecisionInput<'static>, then: Said, upload: bool) -> Fate {
        let same = said(&decide(&self.old, input));
        if (same.decision, same.code) != (then.decision, then.code) {
            return Fate::Undecidable(
                "it does not follow from its own contract; verify the bundle",
            );
        }
        let mut input = input.clone();
        self.adapt(&mut input);
        let now = said(&decide(&self.new, &input));
        let unknown = match &input {
            DecisionInput::Terraform(input) => self.unknown_of_terraform(input, now, upload),
            DecisionInput::Model(input) => self.unknown_of_model(input, now),
            DecisionInput::Egress(input) => {
                let looked_up =
                    now.code != ReasonCode::EgressUnresolved || input.addresses.is_some();
                (!looked_up).then_some("where the host's name would have led")
            }
        };
        match unknown {
            Some(why) => Fate::Undecidable(why),
            None => {
                let (then, now) = (answered(&self.old, then), answered(&self.new, now));
                match then.decision == now.decision {
                    true => Fate::Same,
                    false => Fate::Changed(then, now),
                }
            }
        }
    }

    /// Turns the facts into those under the new contract, as far as a contract makes them: a
    /// token has no scope that its contract does not give.
    fn adapt(&self, input: &mut DecisionInput<'static>) {
        let given = self.new.contract().scopes();
        let gives = |scope: &String| {
            given.contains(&scope.as_str())
                || (scope.starts_with("tfc:apply:") && given.contains(&"tfc:apply"))
        };
        match input {
            DecisionInput::Terraform(input) => input.scope.to_mut().retain(gives),
            DecisionInput::Egress(input) => input.scope.to_mut().retain(gives),
            DecisionInput::Model(input) => {
                input.scope.to_mut().retain(gives);
                if let Some(models) = &self.new.contract().models {
                    // Those are asked that the contract allows.
                    let fallbacks = input.fallbacks.to_mut();
                    fallbacks.retain(|name| models.providers.contains(name));
                }
            }
        }
    }

    fn unknown_of_terraform(
        &self,
        input: &TerraformInput<'static>,
        now: Said,
        upload: bool,
    ) -> Option<&'static str> {
        let (old, new) = (self.old.contract(), self.new.contract());
        let (named, renamed) = (
            old.permissions.organization.as_ref(),
            new.permissions.organization.as_ref(),
        );
        let target = input.operation.target();
        if target != Target::Service && renamed.is_some() && input.organization.is_none() {
            return Some("whose organization the workspace is stands in no record");
        }
        let on_organization = target == Target::Organization && renamed.is_none();
        if on_organization && named.is_some() && !input.organization_known {
            return Some("whether a workspace of the contract belongs to the organization");
        }
        let anonymous = target == Target::Workspace && input.workspace_id.is_none();
        if anonymous && now.decision == Verdict::Deny {
            return Some("which workspace has the name that was asked for");
        }
        if now.code == ReasonCode::TokenScope {
            let mut all = input.clone();
            let scopes = new.scopes().into_iter().map(str::to_owned);
            all.scope = scopes.collect::<Vec<_>>().into();
            let all = decide(&self.new, &DecisionInput::Terraform(all));
            if all.verdict != Verdict::Deny {
                return Some("which scopes the token would have been given");
            }
        }
        if now.decision == Verdict::Deny {
            return None;
        }
        let pinned = input.run.as_ref();
        let pinned = pinned.is_some_and(|run| run.configuration == ConfigurationFact::Pinned);
        if (upload || pinned) && !self.takes_all_uploads() {
            return Some("the files of the configuration; the rules about them are narrower");
        }
        if input.operation != Operation::ApplyRun {
            return None;
        }
        let (before, after) = (&old.permissions.apply, &new.permissions.apply);
        let asked = after.requires_approval && input.approval == ApprovalFact::Valid;
        if asked && !accepts_what(after, before) {
            return Some("who approved; the rules about approvals are narrower");
        }
        let applies = now.decision == Verdict::Allow;
        if applies && !(self.takes_all_uploads() && self.are_no_narrower(PLAN)) {
            return Some("what the plan would change; the rules about plans are narrower");
        }
        None
    }

    fn unknown_of_model(&self, input: &ModelInput<'static>, now: Said) -> Option<&'static str> {
        let (old, new) = (self.old.contract(), self.new.contract());
        let models = new.models.as_ref()?;
        let has_body = input.surface != ModelSurface::Models;
        if now.code == ReasonCode::ModelProviderNotAllowed && !models.providers.is_empty() {
            return Some("which provider would have been chosen of those that are left");
        }
        if has_body && models.tools.is_some() && input.tools.is_none() {
            return Some("which tools the request offered");
        }
        let priced = |contract: &Contract| {
            let models = contract.models.as_ref();
            models.is_some_and(|models| models.max_cost_usd.is_some())
        };
        if now.code == ReasonCode::ModelPriceUnknown && !priced(old) {
            return Some("what the call cost");
        }
        if now.decision == Verdict::Deny || !has_body {
            return None;
        }
        let before = old.models.as_ref().map_or(&[][..], |models| &models.redact);
        if !models.redact.is_empty() && models.redact != before {
            return Some("what redactions find in the body");
        }
        None
    }

    /// Whether it is proven that what passed the inspection of uploads passes again. The one
    /// dimension that uploads and plans share has a witness of the former, if there is one.
    fn takes_all_uploads(&self) -> bool {
        let mut fewer = self.proof.no_longer_allowed.iter();
        let undecided = self.proof.undecided.iter().any(|one| UPLOAD.contains(one));
        !undecided && !fewer.any(|one| matches!(one.question, Question::Upload(_)))
    }

    /// Whether it is proven that the new contract allows all that the old one did.
    fn are_no_narrower(&self, dimensions: &[Dimension]) -> bool {
        let mut all = dimensions.iter().map(|one| self.proof.of(*one));
        all.all(|relation| matches!(relation, Relation::Equal | Relation::Wider))
    }
}

const UNREADABLE: Fate = Fate::Undecidable("it cannot be read by this version");

/// What the inspection of uploads looks at.
const UPLOAD: &[Dimension] = &[
    Dimension::ResourceTypes,
    Dimension::Providers,
    Dimension::Modules,
    Dimension::DataSources,
    Dimension::Provisioners,
    Dimension::RemoteState,
];

/// What the inspection of plans looks at besides.
const PLAN: &[Dimension] = &[
    Dimension::ResourceTypes,
    Dimension::RunOptions,
    Dimension::ResourceActions,
    Dimension::ResourceCounts,
    Dimension::Cost,
];

fn said(decision: &Decision) -> Said {
    Said {
        decision: decision.verdict,
        code: decision.code,
    }
}

/// What the caller is told: a wish that has to wait for a person is kept or refused, as the
/// contract says.
fn answered(contract: &CompiledContract, said: Said) -> Said {
    let apply = &contract.contract().permissions.apply;
    let rejects = apply.on_missing_approval == OnMissingApproval::Reject;
    match said.decision {
        Verdict::Approve if rejects => Said {
            decision: Verdict::Deny,
            ..said
        },
        _ => said,
    }
}

/// Whether approvals that sufficed under the one suffice under the other.
fn accepts_what(after: &Apply, before: &Apply) -> bool {
    let mut approvers = before.approvers.iter();
    approvers.all(|one| after.approvers.contains(one))
        && after.min_approvals <= before.min_approvals
        && after.approval_ttl_seconds >= before.approval_ttl_seconds
        && (after.opener_may_approve || !before.opener_may_approve)
}

/// Whether a refusal without facts says nothing that any contract could change: the request's
/// grammar, or a route that is open to nobody.
fn is_said_by_every_contract(lane: Lane, code: ReasonCode) -> bool {
    let text = code.as_str();
    let grammar = ["PATH_", "QUERY_", "HEADER_", "METHOD_", "ROUTE_", "ID_"];
    grammar.iter().any(|prefix| text.starts_with(prefix))
        || (lane == Lane::Terraform && text.starts_with("BODY_"))
        || Class::ALL.iter().any(|class| class.refusal() == code)
}

fn target(input: &DecisionInput<'_>) -> String {
    match input {
        DecisionInput::Terraform(input) => {
            let known = input.workspace_id.as_ref().or(input.organization.as_ref());
            known.map_or_else(String::new, ToString::to_string)
        }
        DecisionInput::Model(input) => match &input.model {
            Some(model) => format!("{}/{model}", input.provider),
            None => input.provider.to_string(),
        },
        DecisionInput::Egress(input) => format!("{}:{}", input.host, input.port),
    }
}

/// How many decisions share operation, target and fate, with the first of them.
#[derive(Debug, Default)]
pub struct Tally {
    groups: BTreeMap<(u8, String, String, String), Group>,
    /// All decisions by what becomes of them, those of [`Self::beyond`] too: whatever the agents
    /// call things, no change goes uncounted. The fates are few, whoever makes the records.
    fates: HashMap<Fate, u64>,
    /// Decisions that no new group was made for: there were too many.
    pub beyond: u64,
}

/// Decisions of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub replayed: Replayed,
    /// How many there are.
    pub count: u64,
    /// The first one, by its job and its number.
    pub first: (String, u64),
}

/// Most groups that are told apart: names of models and workspaces are the agents' own words.
const MAX_GROUPS: usize = 10_000;

impl Tally {
    /// Counts one; what stays as it was has no group.
    pub fn add(&mut self, record: &Record, replayed: Replayed) {
        *self.fates.entry(replayed.fate).or_default() += 1;
        let (order, why) = match replayed.fate {
            Fate::Changed(_, now) if now.decision == Verdict::Deny => (0, now.code.to_string()),
            Fate::Changed(then, now) => (1, format!("{} {}", now.code, then.code)),
            Fate::Undecidable(why) => (2, why.to_owned()),
            Fate::Same | Fate::Apart => return,
        };
        let key = (
            order,
            replayed.operation.clone(),
            replayed.target.clone(),
            why,
        );
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&key) {
            self.beyond += 1;
            return;
        }
        let group = self.groups.entry(key).or_insert_with(|| Group {
            replayed,
            count: 0,
            first: (record.job_id.to_string(), record.seq),
        });
        group.count += 1;
    }

    /// Changes first, then what is not decidable.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// How many decisions there are of which this holds.
    pub fn count(&self, holds: impl Fn(&Fate) -> bool) -> u64 {
        let fates = self.fates.iter().filter(|(fate, _)| holds(fate));
        fates.map(|(_, count)| count).sum()
    }
}
