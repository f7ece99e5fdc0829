//! The table of kill points: nothing in it is dead, and each is survived.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use store::points::POINTS;
use tokio::time::timeout;

use crate::check;
use crate::process::Process;
use crate::story::{self, Ending};
use crate::world::{APPROVAL_SECONDS, PATIENCE, World};

/// Stories that are played at a time; each mostly waits.
const AT_A_TIME: usize = 6;

/// The story that comes by a point.
fn ending(point: &str) -> Ending {
    let arrow = point.trim_start_matches("gate.").trim_end_matches(".done");
    match arrow {
        "planned-finished" => Ending::PlanOnly,
        "inspecting-violates" | "violates-discarded" => Ending::Violates,
        "awaiting_approval-denied" => Ending::Denied,
        "awaiting_approval-expired" => Ending::Lapses,
        "awaiting_approval-superseded" => Ending::DiscardedOutside,
        "rechecking-superseded" => Ending::PlanReplaced,
        "rechecking-discarded" => Ending::Stopped,
        "applying-rechecking" => Ending::ApplyLost,
        "applying-errored" => Ending::ApplyFails,
        _ => Ending::Applied,
    }
}

/// Plays a point's story with a gateway that kills itself there, and to its end with another one.
async fn survived(point: &'static str) {
    let world = World::new().await;
    let clock = world.folder().join("clock");
    let ending = ending(point);
    let clock_file = clock.to_str().unwrap();
    let with_clock = ("CLAWGATE_CLOCK", clock_file);
    let starts = point.starts_with("start.");
    let first = if starts { "call.forwarded" } else { point };
    let environment = [("CLAWGATE_KILL_AT", first), with_clock];
    let dies = async {
        let mut process = Process::start(&world.config_file, &environment, world.changed());
        world.serves(&mut process).await;
        assert_eq!(process.ends().await.as_deref(), Some(first));
        world.is_down();
        if starts {
            let environment = [("CLAWGATE_KILL_AT", point), with_clock];
            let process = world.start(&environment).await;
            assert!(process.is_none(), "{point} is not reached");
        }
        let process = world.start(&[with_clock]).await;
        process.unwrap_or_else(|| panic!("after {point} it does not start:\n{}", world.log()))
    };
    let lives = async {
        if ending == Ending::Lapses {
            // So late is it when people are asked.
            let asked = world.until("a question", async || {
                let waiting = world.operator("/v1/approvals", None).await.ok()?.json();
                (!waiting["approvals"].as_array()?.is_empty()).then_some(())
            });
            asked.await;
            std::fs::write(&clock, (1000 * (APPROVAL_SECONDS + 1)).to_string()).unwrap();
        }
    };
    let plays = story::whole(&world, format!("{point}."), "ws-staging-app", ending);
    let ends = async { tokio::join!(dies, plays, lives).0 };
    let Ok(mut process) = timeout(PATIENCE, ends).await else {
        panic!("{point} is not reached, or not survived:\n{}", world.log());
    };
    check::at_the_end(&world, 1).await;
    world.kill(&mut process).await;
    check::store_is_sound(&world);
}

#[tokio::test]
async fn each_point_is_reached_and_survived() {
    let next = Cell::new(0);
    let players = (0..AT_A_TIME).map(async |_| {
        while let Some(point) = POINTS.get(next.replace(next.get() + 1)) {
            survived(point.name).await;
        }
    });
    join_all(players).await;
}

/// Every use of the macro, in the sources of whatever has it.
fn used() -> BTreeSet<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut names = BTreeSet::new();
    for source in ["store/src", "gateway/src"] {
        walk(&crates.join(source), &mut |text| {
            for rest in text.split("kill_point!(\"").skip(1) {
                names.insert(rest.split('"').next().unwrap().to_owned());
            }
        });
    }
    names
}

fn walk(folder: &Path, each: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, each);
        } else if path.extension().is_some_and(|end| end == "rs") {
            each(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// The compiler refuses a use that is not in the table; this is the other direction. Arrows of the
/// gate are told apart where they are stored.
#[test]
fn what_is_in_the_table_is_in_the_code() {
    let used = used();
    for point in POINTS.iter().filter(|point| !point.name.contains('-')) {
        assert!(used.contains(point.name), "`{}` is nowhere", point.name);
    }
}

/// The arrows of the diagram in ARCHITECTURE.md, each with both of its points.
#[test]
fn every_arrow_of_the_gate_is_a_point() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = std::fs::read_to_string(root).unwrap();
    let (_, diagram) = text.split_once("stateDiagram-v2").unwrap();
    let (diagram, _) = diagram.split_once("```").unwrap();
    let mut arrows = BTreeSet::new();
    for line in diagram.lines().filter(|line| !line.contains("[*]")) {
        let Some((from, to)) = line.split_once("-->") else {
            continue;
        };
        let to = to.split(':').next().unwrap();
        let arrow = format!("gate.{}-{}", from.trim(), to.trim());
        arrows.extend([format!("{arrow}.done"), arrow]);
    }
    let in_table = POINTS.iter().map(|point| point.name.to_owned());
    let in_table: BTreeSet<String> = in_table.filter(|name| name.contains('-')).collect();
    assert_eq!(arrows, in_table);
}
