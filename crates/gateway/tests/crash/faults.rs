//! A disk, a clock and an upstream that fail, under the real program.
//!
//! The disk fails by `strace`, which answers system calls of the running gateway in the kernel's
//! place: what SQLite and the gateway see is what a broken disk lets them see.

use std::process::Stdio;
use std::time::Duration;

use http::Method;
use proof::approval::Decision;
use serde_json::json;
use sim::{Fault, FaultAction};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::check;
use crate::process::Process;
use crate::story::{self, Ending, Story};
use crate::world::{PATIENCE, World};

/// What the disk does, as `strace` is told: a sync, a write or a read that fails, and a disk
/// without room.
const DISK: [(&str, &str); 4] = [
    ("a failed sync", "fsync,fdatasync:error=EIO"),
    ("a full disk", "pwrite64:error=ENOSPC"),
    ("a failed write", "pwrite64:error=EIO"),
    ("a failed read", "pread64:error=EIO"),
];

/// A disk that fails until this is mended.
struct Broken {
    strace: Child,
}

impl Broken {
    /// Lets system calls of a gateway fail; `None` where there is no `strace`, which in CI there
    /// must be.
    async fn of(process: &Process, how: &str) -> Option<Self> {
        let (calls, _) = how.split_once(':').unwrap();
        let spawned = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={how}")])
            .args(["-p", &process.id().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let Ok(mut strace) = spawned else {
            assert!(
                std::env::var_os("CI").is_none(),
                "strace must be on the PATH in CI"
            );
            println!("skipped: strace is not on the PATH");
            return None;
        };
        let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines();
        let mut said = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(" attached") {
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Some(Self { strace });
            }
            said.push_str(&line);
        }
        panic!("strace does not attach: {said}");
    }

    /// From here on the disk works.
    async fn mended(mut self) {
        let id = rustix::process::Pid::from_raw(self.strace.id().unwrap().try_into().unwrap());
        rustix::process::kill_process(id.unwrap(), rustix::process::Signal::TERM).unwrap();
        // It lets the gateway go before it ends.
        self.strace.wait().await.unwrap();
    }
}

/// Nothing is done that cannot be recorded, nothing is given out that is not recorded, everybody is
/// told so, and when the disk works again all goes on without a restart.
#[tokio::test]
async fn a_disk_that_fails_stops_everything_and_loses_nothing() {
    for (name, how) in DISK {
        let world = World::new().await;
        let mut process = world.start_for_good().await;
        let story = Story::open(&world, format!("{name}."), Ending::Applied).await;
        story.asks(1).await;
        let run = story.is_held("ws-staging-app").await;
        let question = world
            .operator(&format!("/v1/approvals/{run}"), None)
            .await
            .unwrap();
        let yes = json!({"envelope": story::judgement(&world, &question.ok(), Decision::Approve)});
        let Some(broken) = Broken::of(&process, how).await else {
            return;
        };
        let reads = how.starts_with("pread64");
        let writes = world
            .cloud
            .requests()
            .iter()
            .filter(|r| r.method == "POST")
            .count();
        let path = format!("/v1/approvals/{run}");
        let upload = "/api/v2/workspaces/ws-staging-app/configuration-versions";
        let body = json!({"data": {"type": "configuration-versions", "attributes": {
            "auto-queue-runs": false, "speculative": false,
        }}});
        // What is in memory need not be read: then nothing is wrong.
        for _ in 0..2 {
            let asked = story.asked_once().await.unwrap();
            let wrote = story.send(Method::POST, upload, &body).await.unwrap();
            let approved = world.operator(&path, Some(&yes)).await.unwrap();
            for answer in [asked, wrote, approved] {
                assert!(
                    reads || (answer.status == 503 && answer.text().contains("STORE_UNAVAILABLE")),
                    "{name}: {} {}",
                    answer.status,
                    answer.text()
                );
            }
        }
        let ready = world.operator("/readyz", None).await.unwrap();
        let alive = world.operator("/healthz", None).await.unwrap();
        assert!(reads || ready.status == 503, "{name}: {}", ready.text());
        assert_eq!(alive.status, 200, "{name}");
        let now = world
            .cloud
            .requests()
            .iter()
            .filter(|r| r.method == "POST")
            .count();
        assert!(reads || now == writes, "{name}: something was done");
        broken.mended().await;
        world.operator("/readyz", None).await.unwrap().ok();
        world.ledger.with(|held| held.agreed.insert(run.clone()));
        let approved = world.operator(&path, Some(&yes)).await.unwrap();
        let there = ["APPROVAL_ALREADY_GIVEN", "APPROVAL_CLOSED", ""];
        assert!(
            there.contains(&approved.code().as_str()),
            "{name}: {}",
            approved.text()
        );
        assert_eq!(
            story.comes_to(&run, &["applied"]).await,
            "applied",
            "{name}"
        );
        story.asks(1).await;
        story.closes().await;
        // And what it wrote after the fault is what the next one finds.
        world.kill(&mut process).await;
        let mut process = world.start_for_good().await;
        check::at_the_end(&world, 2).await;
        world.kill(&mut process).await;
        check::store_is_sound(&world);
    }
}

/// The same under load, again and again, and with a kill in the middle of it.
#[tokio::test]
async fn a_disk_that_fails_now_and_then_is_survived() {
    let world = World::with_outages().await;
    let fails = async {
        let mut process = world.start_for_good().await;
        for (turn, (_, how)) in DISK.iter().cycle().take(8).enumerate() {
            let Some(broken) = Broken::of(&process, how).await else {
                break;
            };
            tokio::time::sleep(Duration::from_millis(150)).await;
            if turn % 3 == 2 {
                world.kill(&mut process).await;
                broken.mended_or_gone().await;
                process = world.start_for_good().await;
            } else {
                broken.mended().await;
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        }
        process
    };
    let mut process = story::under_load(&world, 7, fails).await;
    check::at_the_end(&world, 20).await;
    world.kill(&mut process).await;
    check::store_is_sound(&world);
}

impl Broken {
    /// As [`Self::mended`], where the gateway may have ended and `strace` with it.
    async fn mended_or_gone(mut self) {
        let _ = self.strace.start_kill();
        let _ = self.strace.wait().await;
    }
}

/// The clock jumps to and fro. What it decides fails closed, and what is written down stays in
/// order.
#[tokio::test]
async fn a_clock_that_jumps_opens_nothing_and_breaks_no_evidence() {
    let world = World::new().await;
    let clock = world.folder().join("clock");
    let jump = |seconds: i64| std::fs::write(&clock, (1000 * seconds).to_string()).unwrap();
    let environment = [("CLAWGATE_CLOCK", clock.to_str().unwrap())];
    let mut process = world.start(&environment).await.unwrap();
    let story = Story::open(&world, "clock.".to_owned(), Ending::Applied).await;
    story.asks(1).await;
    let run = story.is_held("ws-staging-app").await;
    // A day ahead: tokens and questions are past their time, and a late yes counts for nothing.
    jump(24 * 3600);
    let late = story.asked_once().await.unwrap();
    assert_eq!(
        (late.status.as_u16(), late.code().as_str()),
        (401, "TOKEN_EXPIRED")
    );
    let path = format!("/v1/approvals/{run}");
    let question = world.operator(&path, None).await.unwrap().ok();
    let yes = json!({"envelope": story::judgement(&world, &question, Decision::Approve)});
    let refused = world.operator(&path, Some(&yes)).await.unwrap();
    assert!(!refused.status.is_success(), "{}", refused.text());
    // And back: what was recorded a day ahead stands there, so nothing by this token can follow it.
    jump(0);
    let late = story.asked_once().await.unwrap();
    assert_eq!(
        (late.status.as_u16(), late.code().as_str()),
        (401, "TOKEN_EXPIRED")
    );
    story.closes().await;
    let story = Story::open(&world, "clock-2.".to_owned(), Ending::Applied).await;
    story.asks(1).await;
    // An hour behind: the token is of the future, and nothing may be recorded as done with it.
    jump(-3600);
    let early = story.asked_once().await.unwrap();
    let code = early.code();
    assert_eq!(
        (early.status.as_u16(), code.as_str()),
        (401, "TOKEN_NOT_YET_VALID")
    );
    jump(0);
    story.asks(1).await;
    story.plans("ws-staging-app", Ending::Applied).await;
    story.closes().await;
    check::at_the_end(&world, 2).await;
    world.kill(&mut process).await;
    check::store_is_sound(&world);
}

/// Upstreams that take a call and say nothing, or half of an answer.
#[tokio::test]
async fn an_upstream_that_hangs_is_given_up_and_found_again() {
    let world = World::with(|config| config.limits.upstream_timeout_seconds = 1).await;
    let mut process = world.start_for_good().await;
    let story = Story::open(&world, "hangs.".to_owned(), Ending::Applied).await;
    for action in [
        FaultAction::Hold,
        FaultAction::HoldAnswer,
        FaultAction::HoldMidway,
    ] {
        let chat = Fault::once("POST", "/v1/chat/completions", action.clone());
        let held = world.provider.set_fault(chat).unwrap();
        let hung = story.asked_once().await.unwrap();
        assert_eq!(
            (hung.status.as_u16(), hung.code().as_str()),
            (504, "UPSTREAM_TIMEOUT"),
            "{action:?}"
        );
        assert!(world.provider.release(&held));
        let path = "/api/v2/workspaces/ws-staging-db";
        let mut look = Fault::once("GET", path, action.clone());
        look.times = 4;
        let held = world.cloud.set_fault(look).unwrap();
        let hung = story.send(Method::GET, path, &json!(null)).await.unwrap();
        assert!(
            [503, 504].contains(&hung.status.as_u16()),
            "{action:?}: {}",
            hung.text()
        );
        assert!(world.cloud.release(&held));
        world.cloud.clear_faults();
    }
    // The gate hangs at the plan, at its last look, and at the apply; a gateway is killed there.
    let run = story.is_held("ws-staging-app").await;
    let last_look = "/api/v2/workspaces/ws-staging-app/current-state-version";
    let held = world
        .cloud
        .set_fault(Fault::once("GET", last_look, FaultAction::HoldMidway))
        .unwrap();
    story.judges(&run, Decision::Approve).await;
    let looks = world
        .cloud
        .wait_for_request(|request| request.path == last_look);
    timeout(PATIENCE, looks).await.unwrap();
    world.kill(&mut process).await;
    assert!(world.cloud.release(&held));
    let apply = format!("/api/v2/runs/{run}/actions/apply");
    let held = world
        .cloud
        .set_fault(Fault::once("POST", &apply, FaultAction::HoldAnswer))
        .unwrap();
    let mut process = world.start_for_good().await;
    assert_eq!(story.comes_to(&run, &["applied"]).await, "applied");
    world.cloud.release(&held);
    story.closes().await;
    check::at_the_end(&world, 4).await;
    world.kill(&mut process).await;
    check::store_is_sound(&world);
}
