//! Another process that holds the store's file for itself: for a moment, and for longer than anybody
//! waits.

use http::Method;
use proof::approval::Decision;
use rusqlite::Connection;
use serde_json::{Value, json};
use sim::{Fault, FaultAction};
use tokio::time::timeout;

use crate::check;
use crate::story::{self, Ending, Story};
use crate::world::{PATIENCE, World};

/// The file's write lock, as a process has it that writes there and does not finish.
struct WriteLock(Connection);

impl WriteLock {
    fn of(world: &World) -> Self {
        let connection = Connection::open(world.config.store_file()).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }

    /// What it wrote is undone, and others may write.
    fn let_go(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

/// How many calls came to Terraform Cloud that change something.
fn changes(world: &World) -> usize {
    let requests = world.cloud.requests();
    requests.iter().filter(|r| r.method == "POST").count()
}

/// What takes a moment is waited for; what takes longer is refused, and then nothing is done. When
/// the other process lets go all goes on without a restart, and nothing was lost.
#[tokio::test]
async fn a_store_that_another_process_holds_is_waited_for_and_then_refused() {
    let world = World::new().await;
    let mut process = world.start_for_good().await;
    let story = Story::open(&world, "held.".to_owned(), Ending::Applied).await;
    story.asks(1).await;
    let run = story.is_held("ws-staging-app").await;
    let approval = format!("/v1/approvals/{run}");
    let question = world.operator(&approval, None).await.unwrap().ok();
    let yes = json!({"envelope": story::judgement(&world, &question, Decision::Approve)});

    // A read is on its way while its intent waits; it is answered when that is durable.
    let workspace = "/api/v2/workspaces/ws-staging-db";
    let lock = WriteLock::of(&world);
    let nothing = Value::Null;
    let before = world.cloud.requests().len() as u64;
    let (read, ()) = tokio::join!(story.send(Method::GET, workspace, &nothing), async {
        let asked = world
            .cloud
            .wait_for_request(|request| request.path == workspace && request.seq > before);
        timeout(PATIENCE, asked).await.unwrap();
        lock.let_go();
    });
    let read = read.unwrap();
    assert_eq!(read.status, 200, "{}", read.text());

    // A model answers while the file is held: without a durable receipt nobody is given the answer.
    let chat = "/v1/chat/completions";
    let fault = Fault::once("POST", chat, FaultAction::HoldAnswer);
    let held = world.provider.set_fault(fault).unwrap();
    let before = world.provider.requests().len() as u64;
    let (asked, lock) = tokio::join!(story.asked_once(), async {
        let came = world
            .provider
            .wait_for_request(|request| request.path == chat && request.seq > before);
        timeout(PATIENCE, came).await.unwrap();
        let lock = WriteLock::of(&world);
        assert!(world.provider.release(&held));
        lock
    });
    is_refused(&asked.unwrap());
    // And whatever is asked now.
    let done = changes(&world);
    let upload = "/api/v2/workspaces/ws-staging-app/configuration-versions";
    let body = json!({"data": {"type": "configuration-versions", "attributes": {
        "auto-queue-runs": false, "speculative": false,
    }}});
    let (asked, wrote, read, approved) = tokio::join!(
        story.asked_once(),
        story.send(Method::POST, upload, &body),
        story.send(Method::GET, workspace, &nothing),
        world.operator(&approval, Some(&yes)),
    );
    for answer in [asked, wrote, read, approved] {
        is_refused(&answer.unwrap());
    }
    let ready = world.operator("/readyz", None).await.unwrap();
    assert_eq!(ready.status, 503, "{}", ready.text());
    let alive = world.operator("/healthz", None).await.unwrap();
    assert_eq!(alive.status, 200, "{}", alive.text());
    assert_eq!(changes(&world), done, "something was done");

    lock.let_go();
    world.operator("/readyz", None).await.unwrap().ok();
    world.ledger.with(|held| held.agreed.insert(run.clone()));
    world.operator(&approval, Some(&yes)).await.unwrap().ok();
    assert_eq!(story.comes_to(&run, &["applied"]).await, "applied");
    story.asks(1).await;
    story.closes().await;
    check::at_the_end(&world, 1).await;
    world.kill(&mut process).await;
    check::store_is_sound(&world);
}

fn is_refused(answer: &crate::client::Answer) {
    let code = answer.code();
    let told = ["OVERLOADED", "STORE_UNAVAILABLE"].contains(&code.as_str());
    assert!(answer.status == 503 && told, "{}", answer.text());
}

/// The same under load, again and again: for a moment, for longer than anybody waits, and with a
/// kill while it is held.
#[tokio::test]
async fn a_store_that_is_held_now_and_then_loses_nothing() {
    let world = World::with_outages().await;
    let holds = async {
        let mut process = world.start_for_good().await;
        for turn in [Turn::Moment, Turn::TooLong, Turn::Killed, Turn::TooLong] {
            let lock = WriteLock::of(&world);
            match turn {
                Turn::Moment => drop(world.operator("/healthz", None).await.unwrap()),
                Turn::TooLong => {
                    let failed = async || refuses(&world).await;
                    world.until("a write that fails", failed).await;
                }
                Turn::Killed => world.kill(&mut process).await,
            }
            lock.let_go();
            if turn == Turn::Killed {
                process = world.start_for_good().await;
            }
            story::goes_on(&world).await;
        }
        process
    };
    let mut process = story::under_load(&world, 11, holds).await;
    check::at_the_end(&world, 6).await;
    world.kill(&mut process).await;
    check::store_is_sound(&world);
}

/// What comes of the file's being held.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    /// Somebody waits.
    Moment,
    /// Somebody waits in vain.
    TooLong,
    /// The gateway dies meanwhile.
    Killed,
}

/// That a write failed, and whoever asked was told.
async fn refuses(world: &World) -> Option<()> {
    let ready = world.operator("/readyz", None).await;
    ready.is_err().then_some(())
}
