//! Which model call asked for a tool: by the arguments, or else merely by the order.

use proof::record::{Body, CausedBy, Lane, Match, Record, ToolCall};
use proof::{Hash, Numbers};
use rmcp::model::JsonObject;
use store::StoreError;
use tokio::sync::OnceCell;

use super::{Agent, Failed};

/// Records that are looked through, the last ones.
const LAST: u64 = 400;

/// What clients put between a server's name and a tool's.
const BETWEEN: &str = "__";

/// A tool that is being called.
pub(super) struct Called {
    tool: &'static str,
    /// Hash of the arguments' canonical form, as outcomes have it.
    arguments: Option<Hash>,
    /// Looked up at the first call of the API: a tool that makes none needs none.
    cause: OnceCell<Option<CausedBy>>,
}

impl Called {
    pub(super) fn new(tool: &'static str, arguments: &JsonObject) -> Self {
        Self {
            tool,
            arguments: hash(arguments),
            cause: OnceCell::new(),
        }
    }
}

impl Agent {
    /// The model call that asked for the tool that is being called, if there was any.
    pub(super) async fn cause(&self) -> Result<Option<&CausedBy>, Failed> {
        let Some(called) = &self.called else {
            return Ok(None);
        };
        let found = called.cause.get_or_try_init(|| self.look_up(called)).await;
        let found = found.map_err(|error| {
            tracing::warn!(%error, "what asked for a tool cannot be looked up");
            "The gateway's store does not answer; try again.".to_owned()
        })?;
        Ok(found.as_ref())
    }

    async fn look_up(&self, called: &Called) -> Result<Option<CausedBy>, StoreError> {
        let id = &self.caller.token.job.id;
        let job = self.app.store.job(id).await?;
        let records = job.map_or(0, |job| job.counters.records);
        let after = records.saturating_sub(LAST);
        let page = u32::try_from(LAST).unwrap_or(u32::MAX);
        let stored = self.app.store.records(id, after, page).await?;
        let records: Vec<Record> = stored.into_iter().map(|stored| stored.record).collect();
        Ok(find(&records, called.tool, called.arguments))
    }
}

fn hash(arguments: &JsonObject) -> Option<Hash> {
    let text = serde_json::to_vec(arguments).ok()?;
    let canonical = proof::json::parse(&text, Numbers::Any).ok()?.to_jcs();
    Some(Hash::of(&canonical))
}

fn find(records: &[Record], tool: &str, arguments: Option<Hash>) -> Option<CausedBy> {
    let answers = records.iter().rev().filter_map(|record| {
        let Body::Outcome(outcome) = &record.body else {
            return None;
        };
        let intent = records.iter().find(|other| other.seq == outcome.intent_seq);
        let asked = matches!(intent.map(|intent| &intent.body),
            Some(Body::Intent(intent)) if intent.lane == Lane::Model);
        let receipt = outcome.receipt.as_ref()?;
        // Lists of models and the like ask nothing, but have no tokens either.
        (asked && outcome.usage.is_some()).then_some((&receipt.receipt_id, &outcome.tool_calls))
    });
    let same = |call: &&ToolCall| {
        let named = call.name == tool
            || (call.name.strip_suffix(tool)).is_some_and(|before| before.ends_with(BETWEEN));
        named && arguments.is_some() && call.arguments_sha256_b64u == arguments
    };
    let mut last = None;
    for (receipt, calls) in answers {
        if let Some(call) = calls.iter().find(same) {
            return Some(CausedBy {
                receipt_id: receipt.clone(),
                by: Match::Arguments,
                tool: Some(call.clone()),
            });
        }
        last.get_or_insert(receipt);
    }
    last.map(|receipt| CausedBy {
        receipt_id: receipt.clone(),
        by: Match::Sequence,
        tool: None,
    })
}
