//! Plans recorded from the real CLI, for machines that have none.
//!
//! The recordings are made by `cargo run -p clawgate-sim --example record` and fit the example
//! configuration only, with one instance or with two. Whatever is uploaded, one of these is played;
//! the log says that it is a recording.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::GzDecoder;
use serde_json::Value;
use tar::Archive;

use crate::example::example_change;

use super::{Applied, EngineError, Log, PlanOrder, Planned, SavedPlan, count};

/// Version of the engine that was recorded.
pub(super) const TERRAFORM_VERSION: &str = "1.11.4";
/// What stands in the recordings in place of the workspace's secret.
const RECORDED_SECRET: &str = "recorded-database-password";

/// The most bytes of an upload that are looked at, unpacked.
const LARGEST_READ: u64 = 16 << 20;

const NOTE: &str = "This is a recording: neither terraform nor tofu is on the PATH.\n";

/// One recorded plan with its apply.
#[derive(Debug, Clone, Copy)]
struct Scene {
    plan: &'static str,
    redacted: &'static str,
    plan_log: [&'static str; 2],
    apply_log: [&'static str; 2],
    state_after: &'static str,
}

macro_rules! scene {
    ($name:literal) => {
        Scene {
            plan: include_str!(concat!("../../recorded/", $name, "/plan.json")),
            redacted: include_str!(concat!("../../recorded/", $name, "/redacted.json")),
            plan_log: [
                include_str!(concat!("../../recorded/", $name, "/plan.log")),
                include_str!(concat!("../../recorded/", $name, "/plan.jsonl")),
            ],
            apply_log: [
                include_str!(concat!("../../recorded/", $name, "/apply.log")),
                include_str!(concat!("../../recorded/", $name, "/apply.jsonl")),
            ],
            state_after: include_str!(concat!("../../recorded/", $name, "/state.json")),
        }
    };
}

const CREATE_1: Scene = scene!("create-1");
const KEEP_1: Scene = scene!("keep-1");
const GROW: Scene = scene!("grow");
const KEEP_2: Scene = scene!("keep-2");
const SHRINK: Scene = scene!("shrink");
const DESTROY_1: Scene = scene!("destroy-1");
const DESTROY_2: Scene = scene!("destroy-2");

/// The state of the example's workspace before anything happens, with `secret` in it.
pub(crate) fn seeded_state(secret: &str) -> Bytes {
    Bytes::from(CREATE_1.state_after.replace(RECORDED_SECRET, secret))
}

/// A recording being played for one run.
#[derive(Debug)]
pub(crate) struct Play {
    scene: Scene,
    secret: String,
    changes_state: bool,
    state_before: Option<Bytes>,
}

pub(super) fn plan(order: &PlanOrder, log: &Log) -> Result<Planned, EngineError> {
    if order.refresh_only || !order.targets.is_empty() || !order.replacements.is_empty() {
        return Err(EngineError::NotRecorded(
            "there is no recording of a refresh-only, targeted or replacing plan",
        ));
    }
    let wanted = if order.destroy {
        0
    } else {
        wanted_instances(&order.configuration)
    };
    let scene = match (instances(order.state.as_deref()), wanted) {
        (0, 1) => CREATE_1,
        (1, 1) => KEEP_1,
        (1, 2) => GROW,
        (2, 2) => KEEP_2,
        (2, 1) => SHRINK,
        (1, 0) => DESTROY_1,
        (2, 0) => DESTROY_2,
        _ => {
            return Err(EngineError::NotRecorded(
                "there is no recording of this change; begin with one instance",
            ));
        }
    };
    let secret = order
        .secret
        .clone()
        .unwrap_or_else(|| RECORDED_SECRET.to_owned());
    let play = |text: &str| text.replace(RECORDED_SECRET, &secret);
    let json = play(scene.plan);
    let plan: Value = serde_json::from_str(&json).map_err(EngineError::Unreadable)?;
    let counts = count(&plan);
    let has_changes = counts != super::Counts::default();
    log.push(NOTE.as_bytes());
    log.push(play(scene.plan_log[usize::from(order.structured)]).as_bytes());
    Ok(Planned {
        json: Bytes::from(json),
        redacted: Bytes::from_static(scene.redacted.as_bytes()),
        has_changes,
        counts,
        saved: SavedPlan::Recorded(Play {
            scene,
            secret,
            changes_state: has_changes,
            state_before: order.state.clone(),
        }),
    })
}

impl Play {
    pub(super) fn apply(&self, structured: bool, log: &Log) -> Applied {
        let play = |text: &str| text.replace(RECORDED_SECRET, &self.secret);
        log.push(NOTE.as_bytes());
        log.push(play(self.scene.apply_log[usize::from(structured)]).as_bytes());
        let state = if self.changes_state {
            Some(Bytes::from(play(self.scene.state_after)))
        } else {
            self.state_before.clone()
        };
        Applied {
            succeeded: true,
            state,
        }
    }
}

/// Looks whether an upload is the example as it stands, with one instance; anything else counts as
/// the changed example.
fn wanted_instances(upload: &[u8]) -> usize {
    let mut archive = Archive::new(GzDecoder::new(upload).take(LARGEST_READ));
    let unchanged = archive.entries().is_ok_and(|entries| {
        // An entry that cannot be read ends the look: `flatten` would go on for ever.
        entries.map_while(Result::ok).any(|mut entry| {
            let mut text = String::new();
            entry.read_to_string(&mut text).is_ok() && text.contains(example_change().from)
        })
    });
    if unchanged { 1 } else { 2 }
}

/// Counts the instances of the example's application in a state.
fn instances(state: Option<&[u8]>) -> usize {
    let state: Value = state
        .and_then(|state| serde_json::from_slice(state).ok())
        .unwrap_or_default();
    let resources = state["resources"].as_array().into_iter().flatten();
    resources
        .filter(|resource| resource["name"] == "instance")
        .filter_map(|resource| resource["instances"].as_array())
        .map(Vec::len)
        .sum()
}
