//! What was seen of governed workspaces: what happened outside the gateway, and their settings.

use async_trait::async_trait;
use proof::{Json, Timestamp};

use crate::StoreError;

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// When it was seen, not when it happened.
    pub at: Timestamp,
    /// Where.
    pub workspace_id: String,
    /// What, by a stable name.
    pub kind: String,
    /// A run, a state version, or the name of a setting.
    pub subject: String,
    /// Particulars; never a secret.
    pub detail: Json,
    /// By which way it was seen.
    pub source: String,
    /// Whether the same kind about the same subject is the same thing, however often it is seen.
    pub once: bool,
}

/// An observation that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservationRow {
    /// Its number; later ones are larger.
    pub id: u64,
    /// What was seen.
    pub observation: Observation,
}

/// Which observations.
#[derive(Debug, Clone, Default)]
pub struct ObservationFilter {
    /// Of one workspace only.
    pub workspace_id: Option<String>,
    /// Seen at this time or later.
    pub since: Option<Timestamp>,
    /// Before this one, for the next page.
    pub before: Option<u64>,
    /// How many at most; 1000 is the most that is given.
    pub limit: u32,
}

/// The settings of a workspace: those that a person accepted, and those that were seen last.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// The workspace.
    pub workspace_id: String,
    /// The first look.
    pub since: Timestamp,
    /// What the settings should be: those of the first look until somebody accepts others.
    pub accepted: Json,
    /// When they were accepted.
    pub accepted_at: Timestamp,
    /// Who accepted them; `first look` for nobody.
    pub accepted_by: String,
    /// What they were at the last look.
    pub seen: Json,
    /// The last look.
    pub seen_at: Timestamp,
}

/// What stands as the acceptor of settings that nobody has accepted yet.
pub const FIRST_LOOK: &str = "first look";

/// A look at a workspace.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// The workspace.
    pub workspace_id: String,
    /// When.
    pub at: Timestamp,
    /// Its settings now.
    pub seen: Json,
    /// What it was compared with; `None` for the first look.
    pub before: Option<Json>,
    /// What was seen besides, and what changed.
    pub observations: Vec<Observation>,
}

/// Observations and baselines. Observations are only ever added.
#[async_trait]
pub trait Observations {
    /// Adds what is not known yet, and gives that back.
    async fn observe(
        &self,
        observations: Vec<Observation>,
    ) -> Result<Vec<ObservationRow>, StoreError>;

    /// Whether this was observed, of what is observed once.
    async fn observed(
        &self,
        workspace_id: &str,
        kind: &str,
        subject: &str,
    ) -> Result<bool, StoreError>;

    /// Observations, newest first.
    async fn observations(
        &self,
        filter: ObservationFilter,
    ) -> Result<Vec<ObservationRow>, StoreError>;

    /// Keeps a look with everything that it saw, in one transaction, and gives back what is new.
    /// `None`, and nothing is kept, when somebody else has looked meanwhile: what was compared
    /// is not what is known any more.
    async fn note_look(&self, look: Look) -> Result<Option<Vec<ObservationRow>>, StoreError>;

    /// A workspace's settings; `None` before the first look.
    async fn baseline(&self, workspace_id: &str) -> Result<Option<Baseline>, StoreError>;

    /// Those of all workspaces, by id; at most 1000.
    async fn baselines(&self) -> Result<Vec<Baseline>, StoreError>;

    /// Makes the settings `seen` what they should be. False when the last look saw others, or
    /// there was none: nobody accepts what nobody has seen.
    async fn accept_settings(
        &self,
        workspace_id: &str,
        seen: &Json,
        by: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError>;
}
