//! What must hold after each restart, and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use clawgate::config::Tiles;
use clawverify::report::Name;
use clawverify::{Code, Options, Status, verify};
use http::Method;
use proof::approval::SignedStatement;
use proof::bundle::Bundle;
use proof::checkpoint::Checkpoint;
use proof::consistency::{ConsistencyProof, judge};
use proof::record::Body;
use sim::{Request, RunStatus};

use crate::process::program;
use crate::story::{close, questions};
use crate::world::{Lost, MAX_CALLS, MAX_TOKENS, World};

/// Most receipts that are looked for after one restart; the others wait for the next one.
const RECEIPTS: usize = 40;

/// Most checkpoints between which proofs are asked for, besides each one and the next.
const PAIRS: usize = 20;

/// What was counted in a world.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) jobs: u64,
    pub(crate) records: u64,
    pub(crate) receipts: u64,
    pub(crate) applies: u64,
    pub(crate) unknown: u64,
    /// Questions that came to the model right before a kill, and of which there is no record.
    pub(crate) unrecorded: u64,
    pub(crate) checkpoints: u64,
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        let Self {
            jobs,
            records,
            receipts,
            applies,
            unknown,
            unrecorded,
            checkpoints,
        } = other;
        self.jobs += jobs;
        self.records += records;
        self.receipts += receipts;
        self.applies += applies;
        self.unknown += unknown;
        self.unrecorded += unrecorded;
        self.checkpoints += checkpoints;
    }
}

/// What must hold when a gateway has come up: what was given out before is there, and the log
/// goes on from where it was.
pub(crate) async fn after_restart(world: &World) -> Result<(), Lost> {
    let last = world
        .ledger
        .with(|held| held.checkpoints.values().last().cloned());
    let note = world.operator("/v1/log/checkpoint", None).await?;
    note.ok();
    let now = world.saw(&note.text());
    if let Some(last) = last {
        assert!(
            last.size <= now.size,
            "the log lost {} records",
            last.size - now.size
        );
        consistent(world, &last, &now).await?;
    }
    published(world).await?;
    let given = world.ledger.with(|held| {
        let from = held.unseen.len().saturating_sub(RECEIPTS);
        held.unseen.split_off(from)
    });
    for receipt in given {
        let path = format!("/v1/receipts/{}", receipt.id);
        let there = world.operator(&path, None).await?;
        assert!(
            there.status.is_success(),
            "a receipt is lost: {} {}",
            receipt.id,
            there.text()
        );
        if let Some(envelope) = &receipt.envelope {
            let given = serde_json::to_value(envelope).unwrap();
            assert_eq!(there.json()["receipt"], given, "another receipt");
        }
    }
    let revoked: Vec<String> = world.ledger.with(|held| {
        let all = held.jobs.values().filter(|job| job.bundle.is_none());
        all.flat_map(|job| job.revoked.clone()).collect()
    });
    for token in revoked {
        let used = world
            .agent(&token, Method::GET, "/v1/job", "application/json", "")
            .await?;
        assert_eq!(
            used.status,
            401,
            "a revoked token is taken again: {}",
            used.text()
        );
    }
    Ok(())
}

/// Whether the later of two checkpoints continues the earlier one.
async fn consistent(world: &World, old: &Checkpoint, new: &Checkpoint) -> Result<(), Lost> {
    if old.size == new.size || old.size == 0 {
        assert!(
            old.size == 0 || old.root == new.root,
            "two logs of {} records",
            old.size
        );
        return Ok(());
    }
    let path = format!("/v1/log/consistency?from={}&to={}", old.size, new.size);
    let proof: ConsistencyProof =
        serde_json::from_value(world.operator(&path, None).await?.ok()).unwrap();
    assert_eq!(judge(old, new, Some(&proof)), Ok(()));
    Ok(())
}

/// The log as it lies in the folder is the store's, and is not called anything else.
async fn published(world: &World) -> Result<(), Lost> {
    let Some(Tiles::Folder(folder)) = &world.config.log.tiles else {
        panic!("there is a folder")
    };
    if let Ok(note) = std::fs::read_to_string(folder.join("checkpoint")) {
        world.saw(&note);
    }
    let log = world.operator("/v1/log", None).await?.ok();
    assert_ne!(log["tiles"]["state"], "forked", "{log:#}");
    Ok(())
}

/// What must hold at the end, while a gateway serves that nobody kills and nobody works any more:
/// every job can be closed, and what is in all of their bundles is what was done.
pub(crate) async fn at_the_end(world: &World, kills: u64) -> Counted {
    world.again(async || after_restart(world).await).await;
    let jobs = world.again(async || {
        let jobs = world.operator("/v1/jobs?limit=1000", None).await?.ok();
        Ok(jobs["jobs"].as_array().unwrap().clone())
    });
    let jobs = jobs.await;
    assert!(jobs.len() < 1000, "a world is smaller than that");
    let trust = world
        .again(async || world.operator("/v1/trust", None).await)
        .await;
    let mut counted = Counted::default();
    let mut evidence = Evidence::default();
    for job in &jobs {
        let (id, name) = (
            job["job_id"].as_str().unwrap(),
            job["name"].as_str().unwrap(),
        );
        let bundle = close(world, id).await;
        let report = verify(&bundle, &trust.body, &Options::default());
        for check in &report.checks {
            // Of many calls that were cut off not each is listed.
            let cut_off = [Code::OutcomeUnknown, Code::MoreFindings].contains(&check.code);
            let fine = check.status == Status::Pass
                || (check.name == Name::Calls && check.status == Status::NotProven && cut_off)
                || check.code == Code::OutcomeUnknown;
            assert!(fine, "{id} ({name}): {check:?}");
        }
        let bundle: Bundle = serde_json::from_slice(&bundle).unwrap();
        world.saw(&bundle.log.checkpoint);
        counted.unrecorded += within_budget(world, id, name, &bundle).await;
        evidence.add(world, id, &bundle);
    }
    counted.jobs = jobs.len() as u64;
    counted.records = evidence.records;
    counted.receipts = evidence.receipts.len() as u64;
    counted.unknown = evidence.unknown;
    counted.applies = effects(world, &evidence);
    let most = kills * 4;
    assert!(
        counted.unrecorded <= most,
        "{} questions have no record",
        counted.unrecorded
    );
    counted.checkpoints = all_checkpoints(world).await;
    world
        .until("the end of what was half-written", async || {
            half_written(world).is_empty().then_some(())
        })
        .await;
    counted
}

/// Files that have no name of their own, in the folders of the data and of the published log. What
/// killed gateways left of them goes with the next start.
fn half_written(world: &World) -> Vec<PathBuf> {
    let mut folders = vec![world.config.data_dir.clone()];
    if let Some(Tiles::Folder(folder)) = &world.config.log.tiles {
        folders.push(folder.clone());
    }
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        // A file may get its name, and a folder go, while this looks.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let dotted = entry.file_name().to_string_lossy().starts_with('.');
            if dotted {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    found
}

/// What all bundles say together.
#[derive(Debug, Default)]
struct Evidence {
    records: u64,
    unknown: u64,
    receipts: BTreeSet<String>,
    runs: BTreeSet<String>,
    /// Intents by operation, and by operation and run.
    intents: BTreeMap<String, u64>,
    of_run: BTreeMap<(String, String), u64>,
}

impl Evidence {
    fn add(&mut self, world: &World, job: &str, bundle: &Bundle) {
        self.records += bundle.records.len() as u64;
        let mut judged = BTreeSet::new();
        let mut receipts = BTreeMap::new();
        for (place, record) in bundle.records.iter().enumerate() {
            assert_eq!(record.seq, place as u64 + 1, "{job} has a gap");
            match &record.body {
                Body::Intent(intent) => {
                    *self.intents.entry(intent.operation.clone()).or_default() += 1;
                    if let Some(run) = &intent.run_id {
                        let of_run = (intent.operation.clone(), run.clone());
                        *self.of_run.entry(of_run).or_default() += 1;
                    }
                }
                Body::Outcome(outcome) => match &outcome.receipt {
                    Some(receipt) => {
                        receipts.insert(receipt.receipt_id.clone(), receipt.payload_hash_b64u);
                    }
                    None => self.unknown += 1,
                },
                Body::Approval(approval) => {
                    let once = judged.insert(serde_json::to_string(approval).unwrap());
                    assert!(once, "{job}: an approval counts twice");
                }
                _ => {}
            }
        }
        // One word by one approver on each run.
        let run_of = |said: &SignedStatement| {
            let run = said.payload.get("run_id").and_then(proof::Json::as_str);
            run.unwrap().to_owned()
        };
        let runs: BTreeSet<String> = bundle.approvals.iter().map(run_of).collect();
        assert_eq!(runs.len(), bundle.approvals.len(), "{job}: judged twice");
        assert_eq!(runs.len(), judged.len(), "{job}");
        self.runs
            .extend(bundle.terraform.runs.iter().map(|run| run.run_id.clone()));
        world.ledger.with(|held| {
            for given in held.jobs.get(job).into_iter().flat_map(|job| &job.receipts) {
                let hash = receipts.get(&given.id);
                let hash = hash.unwrap_or_else(|| panic!("{job}: {} is lost", given.id));
                if let Some(envelope) = &given.envelope {
                    assert_eq!(*hash, envelope.payload_hash_b64u, "{job}: {}", given.id);
                }
            }
        });
        self.receipts.extend(receipts.into_keys());
    }
}

/// Budgets, by what the model's stand-in saw and by what clients were told. Returns how many
/// questions came to the model without leaving a record.
async fn within_budget(world: &World, job: &str, name: &str, bundle: &Bundle) -> u64 {
    let asked = questions(world, name);
    assert!(
        asked <= MAX_CALLS,
        "{job} ({name}) asked {asked} times of {MAX_CALLS}"
    );
    let path = format!("/v1/jobs/{job}");
    let details = world.again(async || Ok(world.operator(&path, None).await?.ok()));
    let used = details.await["model_usage"].clone();
    let number = |name: &str| used[name].as_u64().unwrap();
    let told = world
        .ledger
        .with(|held| held.jobs.get(job).map_or(0, |job| job.tokens));
    assert!(
        number("calls") >= asked && number("calls") <= MAX_CALLS,
        "{job}: {asked} {used}"
    );
    assert!(told <= number("tokens"), "{job}: {told} tokens, {used}");
    assert!(number("tokens") <= MAX_TOKENS, "{job}: {used}");
    // What could not be settled while the store was out of reach stays spent.
    assert!(world.outages || number("reserved") == 0, "{job}: {used}");
    let models =
        |body: &Body| matches!(body, Body::Intent(i) if i.lane == proof::record::Lane::Model);
    let intents = bundle
        .records
        .iter()
        .filter(|record| models(&record.body))
        .count() as u64;
    asked.saturating_sub(intents)
}

/// What reached Terraform Cloud against what is recorded. Returns how many applies there were.
fn effects(world: &World, evidence: &Evidence) -> u64 {
    let requests = world.cloud.requests();
    let first = requests.first().map(|request| request.seq);
    assert_eq!(
        first,
        Some(1),
        "the stand-in's list has lost its beginning; use smaller worlds"
    );
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    let ours = |request: &&Request| {
        let by = request.bearer.as_deref();
        request.method != "GET" && matches!(by, Some("planner" | "executor" | "reader"))
    };
    for request in requests.iter().filter(ours) {
        let path = request.path.as_str();
        let run = path
            .strip_prefix("/api/v2/runs/")
            .and_then(|rest| rest.split('/').next());
        let operation = match path.rsplit('/').next().unwrap() {
            "runs" => "create-run",
            "configuration-versions" => "create-configuration-version",
            "apply" => "apply-run",
            "discard" => "discard-run",
            "cancel" => "cancel-run",
            // The bundle's digest; the list of actions has it.
            "comments" => continue,
            other => panic!("nobody asked for {} {path} ({other})", request.method),
        };
        *done.entry(operation).or_default() += 1;
        if operation == "apply-run" {
            let run = run.unwrap().to_owned();
            let sent = requests.iter().filter(|r| r.path == request.path).count() as u64;
            let intents = evidence.of_run.get(&(operation.to_owned(), run.clone()));
            assert!(
                sent <= intents.copied().unwrap_or(0),
                "{run}: {sent} applies, {intents:?} intents"
            );
        }
    }
    for (operation, sent) in done {
        let recorded = evidence.intents.get(operation).copied().unwrap_or(0);
        assert!(
            sent <= recorded,
            "{operation}: {sent} done, {recorded} recorded"
        );
    }
    let mut applies = 0;
    for (run, status) in world.cloud.runs() {
        assert!(evidence.runs.contains(&run), "{run} is in no bundle");
        let comments = world.cloud.comments(&run);
        let confirmed = comments
            .iter()
            .filter(|text| text.contains("approved and applied"))
            .count();
        let agreed = world.ledger.with(|held| held.agreed.contains(&run));
        match status {
            RunStatus::Applied => {
                assert_eq!(confirmed, 1, "{run}: {comments:?}");
                assert!(agreed, "{run} was applied and nobody agreed");
                applies += 1;
            }
            RunStatus::Errored => assert!(confirmed <= 1 && agreed, "{run}: {comments:?}"),
            _ => assert_eq!(confirmed, 0, "{run} {status:?}: {comments:?}"),
        }
    }
    applies
}

/// All checkpoints that anybody ever saw are of one log.
async fn all_checkpoints(world: &World) -> u64 {
    let seen: Vec<Checkpoint> = world
        .ledger
        .with(|held| held.checkpoints.values().cloned().collect());
    let last = seen.last().expect("there is one");
    for (old, new) in seen.iter().zip(&seen[1..]) {
        world
            .again(async || consistent(world, old, new).await)
            .await;
    }
    for old in seen.iter().step_by(seen.len().div_ceil(PAIRS)) {
        world
            .again(async || consistent(world, old, last).await)
            .await;
    }
    seen.len() as u64
}

/// What `clawgate store check` says of the store that nobody has open.
pub(crate) fn store_is_sound(world: &World) {
    let mut command = Command::new(program());
    let check = command
        .args(["store", "check", "--config"])
        .arg(&world.config_file);
    let output = check.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
}
