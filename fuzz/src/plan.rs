//! The full plan JSON.

use policy::plan::{PlanFacts, inspect, judge};
use serde_json::Value;

use crate::{LENIENT, RUNBOOK};

/// The digest is of the meaning and not of the layout or the time, the facts survive being written,
/// and a lenient contract finds nothing that a strict one lets pass.
pub fn plan(data: &[u8]) {
    let Ok(facts) = inspect(data) else {
        return;
    };
    let written = serde_json::to_vec(&facts).expect("facts can be written");
    let read: PlanFacts = serde_json::from_slice(&written).expect("facts can be read");
    assert_eq!(read, facts);
    let mut plan: Value = serde_json::from_slice(data).expect("it was read");
    plan["timestamp"] = "2000-01-01T00:00:00Z".into();
    let pretty = serde_json::to_vec_pretty(&plan).expect("a value can be written");
    // Integers beyond 64 bits do not survive the other reader.
    if let Ok(again) = inspect(&pretty) {
        assert_eq!(again.resources.len(), facts.resources.len());
        assert_eq!(again.changes, facts.changes);
        assert_eq!(again.plan_sha256_b64u, facts.plan_sha256_b64u);
    }
    let strict = judge(&RUNBOOK, &facts, None);
    if strict.is_empty() {
        assert_eq!(judge(&LENIENT, &facts, None), []);
    }
}
