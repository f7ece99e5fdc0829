//! `kill -9` at every commit, on both sides of it.
//!
//! Between two commits a gateway leaves no trace but what it does to upstream, so a kill right
//! before a commit and one right after it stand for a kill at any moment. The program kills itself
//! at the store's kill points `commit.before` and `commit.after`; the next gateway, on the same
//! folder and ports, must bring the story to its end. Other points, and kills at random under load,
//! are in the suite `crash`.

use std::cell::Cell;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use futures_util::future::join_all;
use http::Method;
use proof::Envelope;
use proof::approval::Decision;
use proof::record::Body;
use serde_json::{Value, json};
use store::GateState;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::client::{Answer, Caller, archive, run_body};
use crate::evidence::begun;
use crate::terraform::two_instances;
use crate::world::{APP, PATIENCE, Setup, World, sign};

/// Stories that are played at a time; each mostly waits.
const AT_A_TIME: usize = 6;

/// More commits than any story has: the end of a search that would not end.
const MOST: u64 = 400;

/// The connection broke: the gateway is dead.
#[derive(Debug)]
struct Lost(#[expect(dead_code, reason = "shown when a story breaks off that should not")] String);

/// A job's life as its people live it. Each step can be taken again.
struct Story<'w> {
    world: &'w World,
    agent_url: String,
    operator_url: String,
    /// Changes whenever the gateway has committed something; ends with it.
    commits: watch::Receiver<u64>,
    /// Whether the approver says yes.
    approves: bool,
    known: Known,
}

/// What the people in it remember.
#[derive(Debug, Clone, Default)]
struct Known {
    asked_model: bool,
    upload: Option<String>,
    run: Option<String>,
    judged: Option<Envelope>,
    done: bool,
    bundle: Option<Vec<u8>>,
}

impl Story<'_> {
    async fn play(&mut self) -> Result<(), Lost> {
        if !self.known.done {
            self.work().await?;
            self.known.done = true;
        }
        self.close().await
    }

    async fn work(&mut self) -> Result<(), Lost> {
        if !self.known.asked_model {
            let question =
                json!({"model": "gpt-5", "messages": [{"role": "user", "content": "?"}]});
            self.ask("/openai/v1/chat/completions", &question)
                .await?
                .ok();
            self.known.asked_model = true;
        }
        let upload = match &self.known.upload {
            Some(upload) => upload.clone(),
            None => self.upload().await?,
        };
        let body = run_body(APP, &upload, &json!({"auto-apply": true}));
        let made = self.ask("/api/v2/runs", &body).await?.ok();
        let run = made["data"]["id"].as_str().unwrap().to_owned();
        let first = self.known.run.get_or_insert(run.clone());
        assert_eq!(*first, run, "a repeated request is the same run");
        self.until(&run, GateState::AwaitingApproval).await?;
        self.judge(&run).await?;
        let end = match self.approves {
            true => GateState::Applied,
            false => GateState::Denied,
        };
        self.until(&run, end).await
    }

    /// Opens a configuration version and uploads to it.
    async fn upload(&mut self) -> Result<String, Lost> {
        let path = format!("/api/v2/workspaces/{APP}/configuration-versions");
        let body = json!({"data": {"type": "configuration-versions", "attributes": {
            "auto-queue-runs": false, "speculative": false,
        }}});
        let opened = self.ask(&path, &body).await?.ok();
        let address = opened["data"]["attributes"]["upload-url"].as_str().unwrap();
        let files = archive(&[("main.tf", &two_instances())]);
        let agent = self.agent();
        let put = agent.try_call(Method::PUT, address, &[], files);
        put.await.map_err(Lost)?.ok();
        let id = opened["data"]["id"].as_str().unwrap().to_owned();
        self.known.upload = Some(id.clone());
        Ok(id)
    }

    /// Waits until the gate has come to a state, or past it.
    async fn until(&mut self, run: &str, state: GateState) -> Result<(), Lost> {
        let coming = timeout(PATIENCE, self.comes_to(run, state)).await;
        match coming {
            Ok(came) => came,
            Err(_) => panic!(
                "{run} does not come to {state:?}: {:?}",
                self.world.cloud.runs()
            ),
        }
    }

    async fn comes_to(&mut self, run: &str, state: GateState) -> Result<(), Lost> {
        let order = |name: &str| GateState::ALL.iter().position(|s| s.as_str() == name);
        loop {
            let shown = self.look(&format!("/v1/approvals/{run}")).await?.json();
            let now = shown["state"].as_str().unwrap_or_default();
            if now == state.as_str() {
                return Ok(());
            }
            if order(now) > order(state.as_str()) {
                assert!(!state.is_final(), "{now} in place of {state:?}: {shown:#}");
                return Ok(());
            }
            let told = self.commits.changed().await;
            told.map_err(|_| Lost("no more commits".to_owned()))?;
        }
    }

    /// The approver's word; it is said once, and handed in until somebody says that it is there.
    async fn judge(&mut self, run: &str) -> Result<(), Lost> {
        let path = format!("/v1/approvals/{run}");
        if self.known.judged.is_none() {
            let question = self.look(&path).await?.ok();
            if question["state"] != "awaiting_approval" {
                panic!("nobody has said anything, and it is {}", question["state"]);
            }
            let decision = match self.approves {
                true => Decision::Approve,
                false => Decision::Deny,
            };
            let mut statement = self.world.statement(&question, 0, decision);
            statement.reason = (!self.approves).then(|| "not now".to_owned());
            self.known.judged = Some(sign(&statement, &self.world.approvers[0].key));
        }
        let body = json!({"envelope": self.known.judged});
        let said = self.tell(&path, &body).await?;
        let there = ["APPROVAL_ALREADY_GIVEN", "APPROVAL_CLOSED"];
        assert!(
            said.status.is_success() || there.contains(&said.code().as_str()),
            "{}",
            said.text()
        );
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Lost> {
        let job = &self.world.job;
        let reason = json!({"reason": "done"});
        self.tell(&format!("/v1/jobs/{job}/close"), &reason)
            .await?
            .ok();
        let bundle = self.look(&format!("/v1/jobs/{job}/bundle")).await?;
        bundle.ok();
        let first = self.known.bundle.get_or_insert(bundle.body.to_vec());
        assert_eq!(*first, bundle.body, "a job is sealed once");
        Ok(())
    }

    fn agent(&self) -> Caller {
        Caller::new(&self.agent_url, Some(&self.world.cst))
    }

    fn operator(&self) -> Caller {
        Caller::new(&self.operator_url, Some(&self.world.operator_token))
    }

    async fn ask(&self, path: &str, body: &Value) -> Result<Answer, Lost> {
        let kind = match path.starts_with("/api") {
            true => "application/vnd.api+json",
            false => "application/json",
        };
        let headers = [("content-type", kind)];
        let body = body.to_string();
        let asking = self.agent();
        let answer = asking.try_call(Method::POST, path, &headers, body).await;
        answer.map_err(Lost)
    }

    async fn tell(&self, path: &str, body: &Value) -> Result<Answer, Lost> {
        let headers = [("content-type", "application/json")];
        let telling = self.operator();
        let answer = telling.try_call(Method::POST, path, &headers, body.to_string());
        answer.await.map_err(Lost)
    }

    async fn look(&self, path: &str) -> Result<Answer, Lost> {
        let looking = self.operator();
        let answer = looking.try_call(Method::GET, path, &[], String::new());
        answer.await.map_err(Lost)
    }
}

/// A gateway that kills itself at a point.
struct Doomed {
    process: Child,
    /// Addresses for agents and for people; none when it never came to serve.
    urls: Option<(String, String)>,
    /// Changes whenever it has committed something; ends with it.
    commits: watch::Receiver<u64>,
}

impl Doomed {
    async fn start(world: &World, point: &str) -> Self {
        let file = world.folder().join("killed.toml");
        std::fs::write(&file, toml::to_string(&world.config).unwrap()).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .args(["serve", "--config"])
            .arg(&file)
            .env("CLAWGATE_KILL_AT", point)
            .env("CLAWGATE_TELL_AT", "commit.after")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (told, commits) = watch::channel(0);
        let (serves, mut serving) = watch::channel(None);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line == "reached commit.after" {
                    told.send_modify(|commits| *commits += 1);
                } else if line.contains(" serving ") {
                    let url = |name: &str| {
                        let rest = line.split_once(name).unwrap().1;
                        rest.split(' ').next().unwrap().to_owned()
                    };
                    serves.send_replace(Some((url("agents="), url("operators="))));
                }
            }
        });
        // An error is a gateway that died before.
        let served = serving.wait_for(Option::is_some).await;
        let urls = served.ok().and_then(|urls| urls.clone());
        Self {
            process,
            urls,
            commits,
        }
    }
}

/// Plays the story with a gateway that is killed at `point`, and to its end with another one.
/// `false` when the story ended before the point came.
async fn killed_at(point: String, approves: bool) -> bool {
    let mut world = Setup::new().restartable().start().await;
    world.stop().await;
    // A port of its own for each: while programs are started, a port may be taken a moment longer.
    world.config.agent_listener.address.set_port(0);
    world.config.operator_listener.address.set_port(0);
    let mut doomed = Doomed::start(&world, &point).await;
    let known = match doomed.urls.take() {
        // It died before it served.
        None => Known::default(),
        Some((agent_url, operator_url)) => {
            let mut story = Story {
                world: &world,
                agent_url,
                operator_url,
                commits: doomed.commits.clone(),
                approves,
                known: Known::default(),
            };
            // Broken off by the kill, or at its end before the point came.
            let _ = story.play().await;
            story.known
        }
    };
    let played = known.bundle.is_some();
    let killed = match doomed.process.try_wait().unwrap() {
        Some(_) => true,
        // It may be dying just now; one that is past its story is killed for being alive.
        None if played => {
            doomed.process.kill().await.unwrap();
            false
        }
        None => true,
    };
    let ended = doomed.process.wait().await.unwrap();
    assert_eq!(ended.signal(), Some(9), "{point}: it ended by itself");
    world.start_again().await;
    let mut story = Story {
        world: &world,
        agent_url: world.gateway().agent_url.clone(),
        operator_url: world.gateway().operator_url.clone(),
        commits: world.app().store.commits(),
        approves,
        known,
    };
    story.play().await.expect("nobody kills this one");
    let bundle = story.known.bundle.take().unwrap();
    holds(&world, &bundle, &point, approves).await;
    killed
}

/// What must be true at the end, whenever the kill came.
async fn holds(world: &World, bundle: &[u8], point: &str, approves: bool) {
    let bundle = world.proven_but_for_unknown_outcomes(bundle).await;
    let runs = world.cloud.runs();
    assert_eq!(runs.len(), 1, "{point}: one run was asked for");
    let run = &bundle.terraform.runs[0];
    let applies = begun(&bundle, "apply-run");
    if approves {
        // The apply's own comment, and, unless the kill came between, the bundle's digest.
        let comments = world.cloud.comments(&run.run_id);
        let confirmations = comments.iter().filter(|text| text.contains("approved"));
        assert_eq!(confirmations.count(), 1, "{point}: {comments:?}");
        assert!(comments.len() <= 2, "{point}: {comments:?}");
        assert_eq!(world.instances(), 2, "{point}");
        assert_eq!(run.status, "applied", "{point}");
        assert!((1..=2).contains(&applies), "{point}: {applies}");
    } else {
        assert_eq!(runs[0].1, sim::RunStatus::Discarded, "{point}");
        assert_eq!((world.instances(), applies), (1, 0), "{point}");
    }
    let judged = |body: &Body| matches!(body, Body::Approval(_));
    let judgements = bundle.records.iter().filter(|record| judged(&record.body));
    assert_eq!(
        judgements.count(),
        1,
        "{point}: the approver's word counts once"
    );
}

/// Kills at every commit of a story, and tells how many there were.
async fn killed_everywhere(moment: &'static str, approves: bool) {
    let (next, last) = (Cell::new(1), Cell::new(MOST));
    let players = (0..AT_A_TIME).map(async |_| {
        loop {
            let commit = next.replace(next.get() + 1);
            if commit >= last.get() {
                return;
            }
            if !killed_at(format!("{moment}:{commit}"), approves).await {
                last.set(last.get().min(commit));
            }
        }
    });
    join_all(players).await;
    let commits = last.get() - 1;
    println!("killed {moment} each of {commits} commits");
    assert!((15..MOST - 1).contains(&commits), "{commits} commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_before_any_commit_of_an_apply_loses_nothing() {
    killed_everywhere("commit.before", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_after_any_commit_of_an_apply_loses_nothing() {
    killed_everywhere("commit.after", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_before_any_commit_of_a_denial_loses_nothing() {
    killed_everywhere("commit.before", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_after_any_commit_of_a_denial_loses_nothing() {
    killed_everywhere("commit.after", false).await;
}
