//! Values that plans mark as sensitive, so that they can be taken out of what agents read.
//!
//! They come from full plans, which only the gateway reads. They are kept in memory, by
//! workspace, and are gone after a restart; the next plan that is read brings them back.
//!
//! Nobody knows what a plan will mark while it is being made. Its log is shown while it grows once
//! any plan of the workspace has been read: what stands in the workspace's variables and state is
//! known from there. A log is shown to its end only when its own plan has been read.
//!
//! A plan can mark more than can be kept, by accident or because an agent wants it so. What could
//! show a value of it is held back then: its own log and JSON, and the logs of others in the
//! workspace until their own plans, or a later one, are read and fit.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use policy::terraform::mask::{Known, Marked, Place};
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
    by_workspace: HashMap<String, Workspace>,
    /// Plans that were read.
    plans: HashMap<String, Read>,
    /// Plans that have ended, whether there was anything to read or not.
    ended: HashSet<String>,
    /// Plans for which earlier ones of their workspace were looked for.
    looked: HashSet<String>,
}

#[derive(Debug, Default)]
struct Workspace {
    known: Arc<Known>,
    /// The plan that was read last marked more than can be kept.
    overfull: bool,
}

/// What came of reading a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// All that it marks is known.
    Whole,
    /// It marks more than can be kept.
    TooMuch,
}

/// What is known of a workspace, whichever plan is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    Nothing,
    Enough,
    TooLittle,
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

    /// What a workspace knows with all these values; `None` when they do not fit even alone.
    /// The second is whether others had to go for them.
    fn with(&self, workspace: &str, marked: &Marked) -> Option<(Known, bool)> {
        let Marked::Values(found) = marked else {
            return None;
        };
        let learns = |mut known: Known| {
            let room = found.iter().all(|value| known.learn(value));
            room.then_some(known)
        };
        let before = self.by_workspace.get(workspace);
        let before = before.map_or_else(Known::default, |of| Known::clone(&of.known));
        learns(before)
            .map(|known| (known, false))
            // The newest are the ones that show; whoever reads an earlier plan has it read again.
            .or_else(|| Some((learns(Known::default())?, true)))
    }
}

impl Sensitive {
    /// What must not show of a workspace, to who reads what is said about a plan; everything,
    /// where more was marked than is known.
    pub fn of(&self, workspace: &str, plan: Option<&str>) -> Arc<Known> {
        let values = self.known.read().expect("no panic while it is held");
        let read = plan.and_then(|plan| values.plans.get(plan));
        match (values.by_workspace.get(workspace), read) {
            (_, Some(Read::TooMuch)) => Arc::new(Known::overfull()),
            (Some(of), None) if of.overfull => Arc::new(Known::overfull()),
            (Some(of), _) => Arc::clone(&of.known),
            (None, _) => Arc::default(),
        }
    }

    /// Whether a plan was read.
    fn has(&self, plan: &str) -> bool {
        let values = self.known.read().expect("no panic while it is held");
        values.plans.contains_key(plan)
    }

    fn knowledge(&self, workspace: &str) -> Knowledge {
        let values = self.known.read().expect("no panic while it is held");
        match values.by_workspace.get(workspace) {
            None => Knowledge::Nothing,
            Some(of) if of.overfull => Knowledge::TooLittle,
            Some(_) => Knowledge::Enough,
        }
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

    /// Learns what a plan marks.
    pub fn learn(&self, workspace: &str, plan: &str, marked: &Marked) {
        let mut values = self.known.write().expect("no panic while it is held");
        if values.by_workspace.len() >= MAX_WORKSPACES
            && !values.by_workspace.contains_key(workspace)
        {
            values.by_workspace.clear();
            values.forget_plans();
        }
        let read = match values.with(workspace, marked) {
            Some((known, others_went)) => {
                if others_went {
                    tracing::warn!(workspace, texts = known.len(), "many sensitive values");
                    values.forget_plans();
                }
                let known = Arc::new(known);
                let overfull = false;
                let of = Workspace { known, overfull };
                values.by_workspace.insert(workspace.to_owned(), of);
                Read::Whole
            }
            None => {
                tracing::warn!(
                    workspace,
                    plan,
                    "more sensitive values than can be looked for: the plan is held back"
                );
                // What was known stays so, for the plans that it was learnt from.
                let of = values.by_workspace.entry(workspace.to_owned());
                of.or_default().overfull = true;
                Read::TooMuch
            }
        };
        if values.plans.len() >= MAX_PLANS {
            values.forget_plans();
        }
        values.plans.insert(plan.to_owned(), read);
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
pub(crate) async fn collect(app: &App, workspace: &str, plan: &str) -> Result<(), Refusal> {
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
    let knowledge = sensitive.knowledge(workspace);
    if knowledge == Knowledge::Enough && place == Place::Growing {
        return Ok(true);
    }
    if has_ended(app, plan).await? {
        collect_ended(app, workspace, plan).await?;
        // A plan that failed taught nothing.
        if sensitive.knowledge(workspace) == Knowledge::Nothing {
            collect_earlier(app, workspace, plan).await?;
        }
        return Ok(true);
    }
    if place == Place::Last {
        return Ok(false);
    }
    if knowledge == Knowledge::Nothing && sensitive.looks_for_earlier(plan) {
        collect_earlier(app, workspace, plan).await?;
    }
    Ok(sensitive.knowledge(workspace) == Knowledge::Enough)
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
        if app.sensitive.knowledge(workspace) != Knowledge::Nothing {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(range: std::ops::Range<u32>) -> Marked {
        Marked::Values(range.map(|n| format!("value-{n:06}")).collect())
    }

    #[test]
    fn a_plan_whose_values_were_forgotten_is_read_again() {
        let sensitive = Sensitive::default();
        let known = |workspace| sensitive.of(workspace, None);
        sensitive.learn("ws-1", "plan-1", &values(0..10));
        sensitive.note_end("plan-1");
        assert!(sensitive.has("plan-1") && sensitive.has_ended("plan-1"));
        // All fit, and all are known.
        sensitive.learn("ws-1", "plan-2", &values(10..20));
        sensitive.learn("ws-1", "plan-3", &values(1000..5000));
        assert_eq!(known("ws-1").len(), 4020);
        assert!(sensitive.has_ended("plan-1") && sensitive.has("plan-3"));
        // More than fits: the newest stay, and nobody takes the others for known.
        sensitive.learn("ws-1", "plan-4", &values(5000..6000));
        assert_eq!(known("ws-1").len(), 1000);
        assert!(!known("ws-1").is_overfull());
        assert!(!sensitive.has("plan-1") && !sensitive.has_ended("plan-1"));
        assert!(!sensitive.has("plan-3") && sensitive.has("plan-4"));
        // The same when there are too many workspaces.
        sensitive.note_end("plan-4");
        for n in 0..MAX_WORKSPACES {
            sensitive.learn(&format!("ws-other-{n}"), "plan-5", &values(0..1));
        }
        assert!(known("ws-1").is_empty() && !sensitive.has_ended("plan-4"));
    }

    #[test]
    fn what_marks_too_much_is_hidden_and_takes_nothing_from_others() {
        // Found by who read the plan, or only now that each is learnt in its spellings.
        for marked in [Marked::TooMany, values(0..5000)] {
            let sensitive = Sensitive::default();
            let hides = |plan: Option<&str>| sensitive.of("ws-1", plan).is_overfull();
            sensitive.learn("ws-1", "plan-1", &values(0..10));
            sensitive.learn("ws-1", "plan-2", &marked);
            // The plan itself, one that is not read yet, and what belongs to none.
            assert!(hides(Some("plan-2")) && hides(Some("plan-9")) && hides(None));
            assert_eq!(sensitive.knowledge("ws-1"), Knowledge::TooLittle);
            // What was read before is shown as before.
            assert_eq!(sensitive.of("ws-1", Some("plan-1")).len(), 10);
            assert!(!hides(Some("plan-1")) && sensitive.has("plan-2"));
            assert_eq!(sensitive.knowledge("ws-2"), Knowledge::Nothing);
            // A later plan that fits; what marked too much stays hidden.
            sensitive.learn("ws-1", "plan-3", &values(10..20));
            assert!(!hides(Some("plan-9")) && !hides(None) && hides(Some("plan-2")));
            assert_eq!(sensitive.of("ws-1", Some("plan-3")).len(), 20);
        }
    }
}
