//! What people were told about runs, and what they still have to be told.

use async_trait::async_trait;
use proof::Timestamp;

use crate::{GateState, RunRow, StoreError};

/// What a channel wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewsQuery {
    /// The channel's name.
    pub channel: String,
    /// The states that are told there.
    pub gates: Vec<GateState>,
    /// Runs that have not changed since then are no news.
    pub since: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// Most notices in the answer; at most 100.
    pub limit: u32,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct News {
    /// Now: what nobody has tried to tell first, then what failed and is due again.
    pub due: Vec<DueNotice>,
    /// When something else that failed is due.
    pub next_at: Option<Timestamp>,
}

/// A state of a run that a channel has to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct DueNotice {
    /// The run as it stands.
    pub run: RunRow,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried first.
    pub first_at: Option<Timestamp>,
}

/// How an attempt to tell something went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The other side took it.
    Sent,
    /// It did not; it is tried again.
    Failed {
        /// Why; never a secret.
        error: String,
        /// When.
        next_at: Timestamp,
    },
    /// It did not, and is not tried again.
    GaveUp {
        /// Why; never a secret.
        error: String,
    },
}

/// Where a notice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeState {
    /// The other side took it.
    Sent,
    /// It failed and is due again.
    Waiting {
        /// When.
        next_at: Timestamp,
    },
    /// It failed, and the run has moved on before it could be tried again.
    Overtaken,
    /// It failed for so long that it is not tried again.
    GaveUp,
}

impl NoticeState {
    /// Stable name, for display.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Waiting { .. } => "waiting",
            Self::Overtaken => "overtaken",
            Self::GaveUp => "gave_up",
        }
    }
}

/// What became of one notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeRow {
    /// The channel's name.
    pub channel: String,
    /// The run.
    pub run_id: String,
    /// The state that was told.
    pub gate: GateState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried first.
    pub first_at: Timestamp,
    /// When it was tried last.
    pub last_at: Timestamp,
    /// Where it stands.
    pub state: NoticeState,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// What people were told. What they still have to be told is not kept but follows from where the
/// runs stand, so no crash loses a notice, and a state that has passed is not told any more. A
/// crash between the other side's yes and [`Notices::told`] repeats the notice.
#[async_trait]
pub trait Notices {
    /// What a channel has to tell: the runs that somebody wants applied, that stand at one of the
    /// states and have changed since the time given, as long as the channel has not been told of
    /// just this state, or has failed to and is due again.
    ///
    /// Not told are questions that have lapsed, and runs that were discarded without a reason: the
    /// agent's own affair.
    async fn news(&self, query: NewsQuery) -> Result<News, StoreError>;

    /// Keeps how an attempt to tell a state of a run went. What was sent or given up stays so.
    ///
    /// # Errors
    /// [`Conflict`](crate::Conflict): `NoSuchRun`.
    async fn told(
        &self,
        channel: &str,
        run_id: &str,
        gate: GateState,
        at: Timestamp,
        told: Told,
    ) -> Result<(), StoreError>;

    /// A channel's latest notices, the one that was tried last first; at most 100.
    async fn notices(&self, channel: &str, limit: u32) -> Result<Vec<NoticeRow>, StoreError>;

    /// How many notices of a channel were given up since then.
    async fn given_up(&self, channel: &str, since: Timestamp) -> Result<u64, StoreError>;
}
