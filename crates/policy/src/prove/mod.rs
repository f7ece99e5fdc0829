//! Whether a new contract allows anything that an old one did not: decided, not guessed.
//!
//! What a contract allows is finite but for names, and names are matched by globs, which are
//! regular languages. So the question has an exact answer. For each kind of question that a
//! contract answers, the parts of this module make a finite list of candidates, of which one must
//! be newly allowed if anything of that kind is; each says why its list is complete. Every
//! candidate is then put to both contracts, answered by the functions that decide in the gateway,
//! and what the new one allows and the old one does not is a witness. A witness can therefore
//! never be wrong; what stands against a missing one is the arguments, and the comparison with
//! every question of a small world in `tests/world.rs`.
//!
//! The same is asked the other way round, which tells equal from narrower.
//!
//! What a running gateway knows is taken to be in order, as in `clawgate policy check`: tokens have
//! every scope of their contract, objects belong to the job, and an organization that a contract
//! names is the one of its workspaces.

mod approvals;
mod calls;
mod egress;
mod evidence;
mod language;
mod models;
mod plans;
mod question;
mod words;

use serde::Serialize;

use crate::contract::Contract;
use crate::decide::CompiledContract;

pub use egress::Connection;
pub use evidence::Seen;
pub use question::{Answer, Approvals, ModelCall, Part, Question};
pub use words::CheckCall;

/// A part of what contracts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named as in `name`")]
pub enum Dimension {
    Operations,
    Workspaces,
    Organization,
    Apply,
    Approvals,
    State,
    Outputs,
    RunOptions,
    RunVariables,
    ResourceTypes,
    ResourceActions,
    ResourceCounts,
    Cost,
    Providers,
    Modules,
    DataSources,
    Provisioners,
    RemoteState,
    ModelProviders,
    Models,
    ModelTools,
    ModelBudgets,
    Redaction,
    KeptPrompts,
    Egress,
    Tokens,
    Evidence,
}

impl Dimension {
    /// Every one, in the order of contracts.
    pub const ALL: &'static [Self] = &[
        Self::Operations,
        Self::Workspaces,
        Self::Organization,
        Self::Apply,
        Self::Approvals,
        Self::State,
        Self::Outputs,
        Self::RunOptions,
        Self::RunVariables,
        Self::ResourceTypes,
        Self::ResourceActions,
        Self::ResourceCounts,
        Self::Cost,
        Self::Providers,
        Self::Modules,
        Self::DataSources,
        Self::Provisioners,
        Self::RemoteState,
        Self::ModelProviders,
        Self::Models,
        Self::ModelTools,
        Self::ModelBudgets,
        Self::Redaction,
        Self::KeptPrompts,
        Self::Egress,
        Self::Tokens,
        Self::Evidence,
    ];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Workspaces => "workspaces",
            Self::Organization => "organization",
            Self::Apply => "apply",
            Self::Approvals => "approvals",
            Self::State => "reading state",
            Self::Outputs => "reading outputs",
            Self::RunOptions => "run options",
            Self::RunVariables => "run variables",
            Self::ResourceTypes => "resource types",
            Self::ResourceActions => "kinds of change",
            Self::ResourceCounts => "numbers of changes",
            Self::Cost => "cost",
            Self::Providers => "providers",
            Self::Modules => "modules",
            Self::DataSources => "data sources",
            Self::Provisioners => "provisioners",
            Self::RemoteState => "other workspaces' state",
            Self::ModelProviders => "model providers",
            Self::Models => "models",
            Self::ModelTools => "tools for models",
            Self::ModelBudgets => "model budgets",
            Self::Redaction => "redaction",
            Self::KeptPrompts => "kept prompts",
            Self::Egress => "hosts",
            Self::Tokens => "life of tokens",
            Self::Evidence => "what bundles need",
        }
    }
}

/// How the new contract compares, in one dimension or in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// Both allow the same.
    Equal,
    /// The new one allows less.
    Narrower,
    /// The new one allows more, and all that the old one did.
    Wider,
    /// The new one allows something that the old one did not, and the other way round.
    Changed,
    /// Too much to be decided. Counts as wider wherever something depends on it.
    Undecided,
}

/// Something that one contract allows and the other does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Witness {
    /// What it is about.
    pub dimension: Dimension,
    /// What is allowed.
    pub question: Question,
    /// What the contract says that does not allow it.
    pub refused: Answer,
    /// What the one says that does.
    pub allowed: Answer,
}

/// The comparison of two contracts.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    /// One witness for each dimension in which the new contract allows more, those that are whole
    /// calls first.
    pub newly_allowed: Vec<Witness>,
    /// The same for what it no longer allows.
    pub no_longer_allowed: Vec<Witness>,
    /// What was too much to be decided; see [`Relation::Undecided`].
    pub undecided: Vec<Dimension>,
}

impl Proof {
    /// Whether it is proven that nothing is newly allowed.
    pub fn is_no_wider(&self) -> bool {
        self.newly_allowed.is_empty() && self.undecided.is_empty()
    }

    /// How the contracts compare as a whole.
    pub fn relation(&self) -> Relation {
        let undecided = !self.undecided.is_empty();
        relation(
            !self.newly_allowed.is_empty(),
            !self.no_longer_allowed.is_empty(),
            undecided,
        )
    }

    /// How they compare in one dimension.
    pub fn of(&self, dimension: Dimension) -> Relation {
        let has = |found: &[Witness]| found.iter().any(|one| one.dimension == dimension);
        relation(
            has(&self.newly_allowed),
            has(&self.no_longer_allowed),
            self.undecided.contains(&dimension),
        )
    }
}

const fn relation(more: bool, less: bool, undecided: bool) -> Relation {
    match (more, less) {
        (true, false) => Relation::Wider,
        (true, true) => Relation::Changed,
        _ if undecided => Relation::Undecided,
        (false, true) => Relation::Narrower,
        (false, false) => Relation::Equal,
    }
}

/// Decides what `new` allows that `old` does not, and the other way round.
pub fn prove(old: &Contract, new: &Contract) -> Proof {
    let (old, new) = (
        CompiledContract::compile(old),
        CompiledContract::compile(new),
    );
    let (newly_allowed, mut undecided) = Probes::beyond(&old, &new);
    let (no_longer_allowed, more) = Probes::beyond(&new, &old);
    undecided.extend(more);
    undecided.sort_unstable();
    undecided.dedup();
    Proof {
        newly_allowed,
        no_longer_allowed,
        undecided,
    }
}

/// One half of [`prove`]: what `new` allows that `old` does not, and what was too much to be
/// decided.
pub fn newly_allowed(old: &Contract, new: &Contract) -> (Vec<Witness>, Vec<Dimension>) {
    let (old, new) = (
        CompiledContract::compile(old),
        CompiledContract::compile(new),
    );
    Probes::beyond(&old, &new)
}

/// Candidates, put to both contracts while they are made.
struct Probes<'c> {
    old: &'c CompiledContract,
    new: &'c CompiledContract,
    found: Vec<Witness>,
    undecided: Vec<Dimension>,
}

impl<'c> Probes<'c> {
    /// What `new` allows and `old` does not.
    fn beyond(
        old: &'c CompiledContract,
        new: &'c CompiledContract,
    ) -> (Vec<Witness>, Vec<Dimension>) {
        let mut probes = Self {
            old,
            new,
            found: Vec::new(),
            undecided: Vec::new(),
        };
        calls::probe(&mut probes);
        models::probe(&mut probes);
        plans::probe(&mut probes);
        approvals::probe(&mut probes);
        egress::probe(&mut probes);
        evidence::probe(&mut probes);
        probes.ask(
            Dimension::Tokens,
            Question::Token(new.contract().max_ttl_seconds),
        );
        let Self {
            mut found,
            undecided,
            ..
        } = probes;
        found.sort_by_key(|witness| witness.question.call().is_none());
        (found, undecided)
    }

    /// Keeps a question that is newly allowed, the first of its dimension.
    fn ask(&mut self, dimension: Dimension, question: Question) {
        if self.found.iter().any(|one| one.dimension == dimension) {
            return;
        }
        let (refused, allowed) = (question.answer(self.old), question.answer(self.new));
        if allowed.exceeds(&refused) {
            self.found.push(Witness {
                dimension,
                question,
                refused,
                allowed,
            });
        }
    }

    /// Whether the new contract allows more of the second question than the old one does of the
    /// first.
    fn is_new(&self, before: &Question, after: &Question) -> bool {
        after.answer(self.new).exceeds(&before.answer(self.old))
    }

    /// What a search found; nothing when it was too much, which is remembered.
    fn decided<T>(
        &mut self,
        dimension: Dimension,
        found: Result<Option<T>, language::Undecided>,
    ) -> Option<T> {
        found.unwrap_or_else(|language::Undecided| {
            self.undecided.push(dimension);
            None
        })
    }
}

/// What the new contract allows of one thing that calls can differ in.
#[derive(Debug, Clone)]
struct Factor<T> {
    /// A value that both allow.
    shared: Option<T>,
    /// Values that only the new one allows: at least one, if there is any.
    fresh: Vec<T>,
}

impl<T: Clone + PartialEq> Factor<T> {
    const fn both(value: T) -> Self {
        Self {
            shared: Some(value),
            fresh: Vec::new(),
        }
    }

    fn only(value: T) -> Self {
        Self {
            shared: None,
            fresh: vec![value],
        }
    }

    fn of_lists(old: &[T], new: &[T]) -> Self {
        let (shared, fresh): (Vec<T>, Vec<T>) =
            new.iter().cloned().partition(|value| old.contains(value));
        Self {
            shared: shared.into_iter().next(),
            fresh,
        }
    }

    /// A value that the new contract allows, one of both if there is one. `None` when it allows
    /// none at all.
    fn any(&self) -> Option<&T> {
        self.shared.as_ref().or_else(|| self.fresh.first())
    }
}

#[cfg(test)]
mod tests;
