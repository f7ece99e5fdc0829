//! Evidence for a SIEM, and plans as they begin to wait: commands that go on while gateways and
//! they themselves are stopped and killed.

use std::path::Path;
use std::process::Stdio;

use clawgate::operator::credential::{self, Role};
use proof::record::Body;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::client::Caller;
use crate::restart::serve;
use crate::world::{PATIENCE, Setup, World};

/// A command that goes on, read as it writes.
struct Running {
    process: Child,
    out: Lines<BufReader<ChildStdout>>,
    said: Lines<BufReader<ChildStderr>>,
}

impl Running {
    /// `clawgate` with these words, against the world's operator listener.
    fn start(world: &World, credential: &str, words: &[&str]) -> Self {
        let mut process = command(world, credential, words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = BufReader::new(process.stderr.take().unwrap()).lines();
        Self { process, out, said }
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.out.next_line()).await;
        line.expect("a line comes").unwrap().expect("it goes on")
    }

    /// Waits until it says something that holds these words.
    async fn says(&mut self, words: &str) {
        let waiting = async {
            while let Some(line) = self.said.next_line().await.unwrap() {
                if line.contains(words) {
                    return;
                }
            }
            panic!("it ended without saying {words:?}");
        };
        timeout(PATIENCE, waiting).await.expect("it says so");
    }

    async fn ends(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        let ending = async {
            while let Some(line) = self.said.next_line().await.unwrap() {
                said.push_str(&line);
            }
            self.process.wait().await.unwrap().code()
        };
        let code = timeout(PATIENCE, ending).await.expect("it ends");
        (code, said)
    }
}

fn command(world: &World, credential: &str, words: &[&str]) -> Command {
    let address = world.config.operator_listener.address;
    let url = match address.port() {
        0 => world.gateway().operator_url.clone(),
        _ => format!("http://{address}"),
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_clawgate"));
    command
        .args(words)
        .env("CLAWGATE_CREDENTIAL", credential)
        .env("CLAWGATE_OPERATOR", url)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn output(world: &World, words: &[&str]) -> String {
    let output = command(world, &world.operator_token, words).output();
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Calls that leave a record each: refusals.
async fn refused_calls(agents: &str, token: &str, count: usize) {
    let agent = Caller::new(agents, Some(token));
    for n in 0..count {
        let path = format!("/api/v2/teams/team-{n}");
        assert_eq!(agent.get(&path).await.status, 403, "{path}");
    }
}

fn index(line: &str) -> u64 {
    let line: Value = serde_json::from_str(line).unwrap();
    line["log_index"].as_u64().unwrap()
}

fn last_of(state: &Path) -> u64 {
    let text = std::fs::read_to_string(state).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    state["last"].as_u64().unwrap()
}

#[tokio::test]
async fn an_export_loses_nothing_when_gateway_and_reader_are_killed() {
    let mut world = Setup::new().restartable().start().await;
    world.stop().await;
    let agents = format!("http://{}", world.config.agent_listener.address);
    let state = world.folder().join("records.state");
    let state = state.to_str().unwrap();
    let words = ["evidence", "export", "--follow", "--state", state];

    let mut gateway = serve(&world).await;
    let mut reader = Running::start(&world, &world.operator_token, &words);
    refused_calls(&agents, &world.cst, 30).await;
    // What is there already, and what comes.
    let mut seen = Vec::new();
    while seen.len() < 20 {
        seen.push(index(&reader.line().await));
    }
    // The reader outlives the gateway.
    gateway.kill().await.unwrap();
    reader.says("trying again").await;
    let mut gateway = serve(&world).await;
    refused_calls(&agents, &world.cst, 10).await;
    while seen.len() < 35 {
        seen.push(index(&reader.line().await));
    }
    // Place 0 is the first key set's.
    let expected: Vec<u64> = (1..=seen.len() as u64).collect();
    assert_eq!(seen, expected, "each once, in order");
    // The gateway outlives the reader, which had not said how far it was.
    reader.process.kill().await.unwrap();
    while let Some(line) = reader.out.next_line().await.unwrap() {
        seen.push(index(&line));
    }
    let kept = last_of(state.as_ref());
    assert!(kept <= *seen.last().unwrap(), "never ahead of its lines");
    refused_calls(&agents, &world.cst, 5).await;
    let mut reader = Running::start(&world, &world.operator_token, &words);
    assert_eq!(index(&reader.line().await), kept + 1);
    seen.truncate(kept as usize + 1);
    reader.process.kill().await.unwrap();
    gateway.kill().await.unwrap();

    // Both were killed; what is left is written to the end, and then there is nothing more.
    world.start_again().await;
    let kept = last_of(state.as_ref());
    let file = world.folder().join("rest.jsonl");
    std::fs::write(&file, "{\"log_index\":").unwrap();
    let rest = ["evidence", "export", "--state", state, "--out"];
    let rest = [&rest[..], &[file.to_str().unwrap()]].concat();
    output(&world, &rest).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let size = world.app().store.log_size().await.unwrap();
    let indexes: Vec<u64> = text.lines().map(index).collect();
    assert_eq!(indexes, (kept + 1..size).collect::<Vec<u64>>());
    assert_eq!(last_of(state.as_ref()), size - 1);
    output(&world, &rest).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);

    // Every record is there, whole, and in its place in the log.
    let all = output(&world, &["evidence", "export"]).await;
    assert_eq!(all.lines().count() as u64, size - 1, "all but the key set");
    let bundle = world.valid_evidence().await;
    let mut lines = all.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["record"].clone()
    });
    for record in bundle.records {
        if matches!(record.body, Body::JobClose(_)) {
            break;
        }
        assert_eq!(
            lines.next().unwrap(),
            serde_json::to_value(&record).unwrap()
        );
    }
}

#[tokio::test]
async fn an_export_is_narrowed_and_written_as_it_is_asked_for() {
    let world = Setup::new().start().await;
    let agents = world.gateway().agent_url.clone();
    refused_calls(&agents, &world.cst, 2).await;
    let chat = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "TOP SECRET"}]});
    let agent = Caller::new(&agents, Some(&world.cst));
    agent.post("/openai/v1/chat/completions", &chat).await.ok();
    let run = world.agent().held_run().await;
    world
        .deny(&run, "=HYPERLINK(\"http://evil.example\")")
        .await;
    // The gate discards the run meanwhile; a closed job gets no more records.
    world.evidence().await;
    let export =
        async |words: &[&str]| output(&world, &[&["evidence", "export"], words].concat()).await;

    let csv = export(&["--as", "csv"]).await;
    let header = csv.split("\r\n").next().unwrap();
    assert!(header.starts_with("log_index,record_id,time,kind,decision,reason_code,"));
    let columns = header.split(',').count();
    let refusal = csv.lines().find(|line| line.contains(",refusal,deny,"));
    assert!(refusal.unwrap().contains(",ADMIN_DENIED,"), "{refusal:?}");
    assert_eq!(columns, clawgate::export::record::COLUMNS.len());
    let bare = export(&["--as", "csv", "--no-header"]).await;
    assert_eq!(csv.strip_prefix(&format!("{header}\r\n")), Some(&bare[..]));

    let events = export(&["--as", "ocsf"]).await;
    let events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said_no = events
        .iter()
        .find(|event| event["metadata"]["event_code"] == "approval")
        .unwrap();
    assert_eq!(said_no["disposition"], "Rejected");
    assert_eq!(said_no["actor"]["user"]["name"], "infra-lead@example.com");
    assert_eq!(said_no["resources"][1]["uid"], run.as_str());
    let model = |event: &&Value| event["ai_model"]["name"] == "gpt-5";
    let answered = events.iter().filter(model).nth(1).unwrap();
    assert!(answered["message_context"]["prompt_tokens"].is_u64());

    // What was said is nobody's here, nor what anybody signs in with.
    let lines = export(&[]).await;
    for text in [&csv, &lines] {
        assert!(!text.contains("TOP SECRET") && !text.contains("evil.example"));
        assert!(!text.contains(&world.cst) && !text.contains(&world.operator_token));
    }
    let size = lines.lines().count();
    let job = world.job.to_string();
    assert_eq!(export(&["--job", &job]).await, lines, "there is one job");
    let second: Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
    // Place 0 is the first key set's.
    let rest = export(&["--after", "1"]).await;
    assert_eq!(rest.lines().count(), size - 1);
    let time = second["time"].as_str().unwrap();
    let (before, after) = (
        export(&["--until", time]).await,
        export(&["--since", time]).await,
    );
    assert_eq!(format!("{before}{after}"), lines);
    assert!(!before.is_empty() && before != lines);
    assert_eq!(export(&["--since", "2099-01-01"]).await, "");

    // What operators did.
    let actions = export(&["--of", "actions", "--as", "csv"]).await;
    assert!(actions.starts_with("action_index,time,person,action,"));
    assert!(actions.contains(",approval.submit,"), "{actions}");

    let fails = async |credential: &str, words: &[&str]| {
        let words = [&["evidence", "export"], words].concat();
        let output = command(&world, credential, &words).output().await.unwrap();
        assert_eq!(output.stdout, b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let app = world.app();
    let issuer = credential::add(&*app.store, "ina", None, &[Role::Issuer], app.now()).await;
    let (code, said) = fails(&issuer.unwrap(), &[]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("OPERATOR_FORBIDDEN"), "{said}");
    let (code, said) = fails(&world.operator_token, &["--after", "9999"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("beyond the last number"), "{said}");
    let (code, said) = fails(&world.operator_token, &["--job", "job_unknown"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("JOB_UNKNOWN"), "{said}");

    // The state of another gateway's export ends also one that follows, and its file stays.
    let [state, file] = ["other.state", "other.jsonl"].map(|name| world.folder().join(name));
    let other = json!({
        "export": "clawgate.export-state/1", "gateway_id": "other.example", "of": "records",
        "last": 0,
    });
    std::fs::write(&state, other.to_string()).unwrap();
    std::fs::write(&file, "{\"log_index\":").unwrap();
    let words = ["evidence", "export", "--follow", "--state"];
    let places = [state.to_str().unwrap(), "--out", file.to_str().unwrap()];
    let words = [&words[..], &places].concat();
    let follows = Running::start(&world, &world.operator_token, &words);
    let (code, said) = follows.ends().await;
    assert_eq!(code, Some(1));
    assert!(said.contains("other.example"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, "{\"log_index\":");
}

#[tokio::test]
async fn approvers_are_told_of_plans_across_a_restart() {
    let mut world = Setup::new().restartable().start().await;
    // Fixes the ports.
    world.restart().await;
    let app = world.app();
    let anna = credential::add(&*app.store, "anna", None, &[Role::Approver], app.now());
    let anna = anna.await.unwrap();
    let mut plain = Running::start(&world, &anna, &["approvals", "watch"]);
    let mut json = Running::start(
        &world,
        &world.operator_token,
        &["approvals", "watch", "--json"],
    );
    let run = world.agent().held_run().await;
    let line = plain.line().await;
    assert!(
        line.starts_with(&format!("{run}: ")) && line.contains(" in ws-staging-app, until "),
        "{line}"
    );
    let line: Value = serde_json::from_str(&json.line().await).unwrap();
    assert_eq!(
        (&line["event"], &line["run_id"]),
        (&json!("waiting"), &json!(run))
    );
    assert_eq!(line["needed"], 1);

    world.stop().await;
    plain.says("trying again").await;
    json.says("trying again").await;
    world.start_again().await;
    plain.says("connected again").await;
    json.says("connected again").await;
    // The plan waits still, and nobody is told of it twice.
    world.deny(&run, "not now").await;
    assert_eq!(plain.line().await, format!("{run}: denied"));
    let line: Value = serde_json::from_str(&json.line().await).unwrap();
    assert_eq!(
        (&line["event"], &line["state"]),
        (&json!("ended"), &json!("denied"))
    );

    // A credential that is withdrawn ends it, and another one's goes on.
    assert!(world.app().store.remove_operator("anna").await.unwrap());
    let (code, said) = plain.ends().await;
    assert_eq!(code, Some(1));
    assert!(said.contains("OPERATOR_CREDENTIAL_INVALID"), "{said}");
    let next = world.agent().held_run().await;
    let line: Value = serde_json::from_str(&json.line().await).unwrap();
    assert_eq!(line["run_id"], next.as_str());
}
