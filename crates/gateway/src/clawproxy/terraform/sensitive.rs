//! Values that plans mark as sensitive, so that they can be taken out of what agents read.
//!
//! They come from full plans, which only the gateway reads. They are kept in memory, by
//! workspace, and are gone after a restart; the next plan that is read brings them back. The log
//! of a plan is read while nobody knows its values yet: there, what earlier plans of the
//! workspace marked is known, and keys of known shapes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, RwLock};

use policy::terraform::mask::Known;

use crate::app::App;
use crate::approvals;

/// Most workspaces whose values are remembered; all are forgotten then.
const MAX_WORKSPACES: usize = 1000;

/// Most plans that are remembered as read.
const MAX_PLANS: usize = 10_000;

/// What is known of the workspaces.
#[derive(Debug, Default)]
pub struct Sensitive {
    known: RwLock<Values>,
}

#[derive(Debug, Default)]
struct Values {
    by_workspace: HashMap<String, Arc<Known>>,
    plans: HashSet<String>,
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

    /// Learns the values that a plan marks.
    pub fn learn(&self, workspace: &str, plan: &str, found: &BTreeSet<String>) {
        let mut values = self.known.write().expect("no panic while it is held");
        if values.by_workspace.len() >= MAX_WORKSPACES
            && !values.by_workspace.contains_key(workspace)
        {
            values.by_workspace.clear();
            values.plans.clear();
        }
        if values.plans.len() >= MAX_PLANS {
            values.plans.clear();
        }
        values.plans.insert(plan.to_owned());
        let known = values.by_workspace.entry(workspace.to_owned()).or_default();
        let known = Arc::make_mut(known);
        if !found.iter().all(|value| known.learn(value)) {
            // The newest are the ones that show.
            *known = Known::default();
            let learned = found.iter().filter(|value| known.learn(value)).count();
            tracing::warn!(
                workspace,
                learned,
                of = found.len(),
                "many sensitive values"
            );
        }
    }
}

/// Sees to it that the values of a plan that an agent is about to read are known. When the
/// reader's credential does not show the full plan, upstream's own redaction stands alone.
pub(super) async fn collect(app: &App, workspace: &str, plan: &str) {
    if !app.sensitive.has(plan)
        && let Err(refusal) = approvals::read_full(app, workspace, plan).await
    {
        tracing::debug!(plan, %refusal, "no full plan to learn from");
    }
}
