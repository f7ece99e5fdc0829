//! Values that plans mark as sensitive, so that they can be taken out of what agents read.
//!
//! They come from full plans, which only the gateway reads. They are kept in memory, by
//! workspace, and are gone after a restart; the next plan that is read brings them back.
//!
//! Nobody knows what a plan will mark while it is being made. Its log is shown while it grows once
//! any plan of the workspace has been read: what stands in the workspace's variables and state is
//! known from there. A log is shown to its end only when its own plan has been read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use policy::terraform::mask::{Known, Place};
use policy::{ReasonCode, Refusal};
use proof::Json;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::approvals;
use crate::clawproxy::terraform::runs::status;

/// Most workspaces whose values are remembered; all are forgotten then.
const MAX_WORKSPACES: usize = 1000;

/// Most plans that are remembered as read, or as ended.
const MAX_PLANS: usize = 10_000;

/// Most earlier plans of a workspace that are tried, so that one of them tells its values.
const EARLIER: usize = 3;

/// What is known of the workspaces.
#[derive(Debug, Default)]
pub struct Sensitive {
    known: RwLock<Values>,
}

#[derive(Debug, Default)]
struct Values {
    by_workspace: HashMap<String, Arc<Known>>,
    /// Plans that were read.
    plans: HashSet<String>,
    /// Plans that have ended, whether there was anything to read or not.
    ended: HashSet<String>,
    /// Plans for which earlier ones of their workspace were looked for.
    looked: HashSet<String>,
}

impl Values {
    /// What was learnt from plans is not known any more: each is read anew when it is asked for.
    fn forget_plans(&mut self) {
        self.plans.clear();
        self.ended.clear();
        self.looked.clear();
    }

    /// Adds to a set that must not grow without end.
    fn note(set: &mut HashSet<String>, plan: &str) -> bool {
        if set.len() >= MAX_PLANS {
            set.clear();
        }
        set.insert(plan.to_owned())
    }
}

impl Sensitive {
    /// The values of a workspace.
    pub fn of(&self, workspace: &str) -> Arc<Known> {
        let values = self.known.read().expect("no panic while it is held");
        values
            .by_workspace
            .get(workspace)
            .cloned()
            .unwrap_or_default()
    }

    /// Whether a plan's values are known.
    fn has(&self, plan: &str) -> bool {
        let values = self.known.read().expect("no panic while it is held");
        values.plans.contains(plan)
    }

    /// Whether any plan of a workspace was read.
    fn knows(&self, workspace: &str) -> bool {
        let values = self.known.read().expect("no panic while it is held");
        values.by_workspace.contains_key(workspace)
    }

    fn has_ended(&self, plan: &str) -> bool {
        let values = self.known.read().expect("no panic while it is held");
        values.ended.contains(plan)
    }

    fn note_end(&self, plan: &str) {
        let mut values = self.known.write().expect("no panic while it is held");
        Values::note(&mut values.ended, plan);
    }

    /// True once for each plan.
    fn looks_for_earlier(&self, plan: &str) -> bool {
        let mut values = self.known.write().expect("no panic while it is held");
        Values::note(&mut values.looked, plan)
    }

    /// Learns the values that a plan marks.
    pub fn learn(&self, workspace: &str, plan: &str, found: &BTreeSet<String>) {
        let mut values = self.known.write().expect("no panic while it is held");
        if values.by_workspace.len() >= MAX_WORKSPACES
            && !values.by_workspace.contains_key(workspace)
        {
            values.by_workspace.clear();
            values.forget_plans();
        }
        let known = values.by_workspace.entry(workspace.to_owned()).or_default();
        let known = Arc::make_mut(known);
        if !found.iter().all(|value| known.learn(value)) {
            // The newest are the ones that show; whoever reads an earlier plan has it read again.
            *known = Known::default();
            let learned = found.iter().filter(|value| known.learn(value)).count();
            tracing::warn!(
                workspace,
                learned,
                of = found.len(),
                "many sensitive values"
            );
            values.forget_plans();
        }
        Values::note(&mut values.plans, plan);
    }
}

/// Plans that are read for agents at a time: fewer than may be read at all, so that the gate
/// always finds a place.
static READING: Semaphore = Semaphore::const_new(2);

/// How long an agent waits until its plan can be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sees to it that the values of a plan that an agent is about to read are known. When the
/// reader's credential does not show the full plan, upstream's own redaction stands alone.
///
/// # Errors
/// An `UPSTREAM_…` code when asking again may help.
pub(super) async fn collect(app: &App, workspace: &str, plan: &str) -> Result<(), Refusal> {
    if app.sensitive.has(plan) {
        return Ok(());
    }
    let slot = tokio::time::timeout(PATIENCE, READING.acquire()).await;
    let Ok(Ok(_slot)) = slot else {
        return Err(ReasonCode::UpstreamRateLimited.into());
    };
    // Somebody else may have read it meanwhile.
    if app.sensitive.has(plan) {
        return Ok(());
    }
    match approvals::read_sensitive(app, plan).await? {
        Some(found) => app.sensitive.learn(workspace, plan, &found),
        None => tracing::debug!(plan, "no full plan to learn from"),
    }
    Ok(())
}

/// The same for a plan that has ended, once: one that cannot be read is not tried again each time
/// that somebody looks.
pub(super) async fn collect_ended(app: &App, workspace: &str, plan: &str) -> Result<(), Refusal> {
    if !app.sensitive.has_ended(plan) {
        collect(app, workspace, plan).await?;
        app.sensitive.note_end(plan);
    }
    Ok(())
}

/// Whether a part of a plan's log may be shown, masked by what is known by then.
///
/// False for the end of a log before its own plan could be read, and for all of it while no plan
/// of the workspace was: the client asks again. A plan that failed has nothing to read; its log
/// is masked by what others marked.
///
/// # Errors
/// An `UPSTREAM_…` code when asking again may help.
pub(super) async fn may_be_shown(
    app: &App,
    workspace: &str,
    plan: &str,
    place: Place,
) -> Result<bool, Refusal> {
    let sensitive = &app.sensitive;
    if sensitive.has_ended(plan) {
        return Ok(true);
    }
    let knows = sensitive.knows(workspace);
    if knows && place == Place::Growing {
        return Ok(true);
    }
    if has_ended(app, plan).await? {
        collect_ended(app, workspace, plan).await?;
        // A plan that failed taught nothing.
        if !sensitive.knows(workspace) {
            collect_earlier(app, workspace, plan).await?;
        }
        return Ok(true);
    }
    if place == Place::Last {
        return Ok(false);
    }
    if !knows && sensitive.looks_for_earlier(plan) {
        collect_earlier(app, workspace, plan).await?;
    }
    Ok(sensitive.knows(workspace))
}

/// Whether upstream has made a plan, or given it up.
async fn has_ended(app: &App, plan: &str) -> Result<bool, Refusal> {
    let json = approvals::read_document(app, &format!("/api/v2/plans/{plan}")).await?;
    let status = status(&json);
    Ok(matches!(
        status.as_str(),
        "finished" | "errored" | "canceled" | "unreachable"
    ))
}

/// Reads the latest plan of a workspace that can be read.
async fn collect_earlier(app: &App, workspace: &str, plan: &str) -> Result<(), Refusal> {
    let list = format!("/api/v2/workspaces/{workspace}/runs");
    let list = approvals::read_document(app, &list).await?;
    let runs = list.get("data").and_then(Json::as_array);
    let plans = runs.unwrap_or_default().iter().filter_map(|run| {
        let id = run.at(&["relationships", "plan", "data", "id"])?.as_str()?;
        let status = run.at(&["attributes", "status"])?.as_str()?;
        // These have no plan to read, or not yet.
        let without = matches!(
            status,
            "pending"
                | "fetching"
                | "queuing"
                | "plan_queued"
                | "planning"
                | "errored"
                | "canceled"
        );
        (id != plan && !without).then_some(id)
    });
    for earlier in plans.take(EARLIER) {
        collect(app, workspace, earlier).await?;
        if app.sensitive.knows(workspace) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(range: std::ops::Range<u32>) -> BTreeSet<String> {
        range.map(|n| format!("value-{n:06}")).collect()
    }

    #[test]
    fn a_plan_whose_values_were_forgotten_is_read_again() {
        let sensitive = Sensitive::default();
        sensitive.learn("ws-1", "plan-1", &values(0..10));
        sensitive.note_end("plan-1");
        assert!(sensitive.has("plan-1") && sensitive.has_ended("plan-1"));
        // All fit, and all are known.
        sensitive.learn("ws-1", "plan-2", &values(10..20));
        sensitive.learn("ws-1", "plan-3", &values(1000..5000));
        assert_eq!(sensitive.of("ws-1").len(), 4020);
        assert!(sensitive.has_ended("plan-1") && sensitive.has("plan-3"));
        // More than fits: the newest stay, and nobody takes the others for known.
        sensitive.learn("ws-1", "plan-4", &values(5000..6000));
        assert_eq!(sensitive.of("ws-1").len(), 1000);
        assert!(!sensitive.has("plan-1") && !sensitive.has_ended("plan-1"));
        assert!(!sensitive.has("plan-3") && sensitive.has("plan-4"));
        // The same when there are too many workspaces.
        sensitive.note_end("plan-4");
        for n in 0..MAX_WORKSPACES {
            sensitive.learn(&format!("ws-other-{n}"), "plan-5", &values(0..1));
        }
        assert!(sensitive.of("ws-1").is_empty() && !sensitive.has_ended("plan-4"));
    }
}
