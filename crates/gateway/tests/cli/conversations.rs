//! Model calls that are kept, from an agent to an auditor with a key and a bundle.

use std::process::Output;

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use clawgate::config::{Conversations, Vault};
use serde_json::{Value, json};
use sim::{Fault, FaultAction};
use tokio::process::Command;

use crate::client::{Answer, Caller};
use crate::world::{Setup, World};

const CHAT: &str = "/openai/v1/chat/completions";

fn keeping(auditor: &Identity, conversations: Conversations) -> Setup {
    let recipients = vec![auditor.to_public().to_string()];
    let mut setup = Setup::new().restartable();
    let before = setup.config;
    setup.config = Box::new(move |config| {
        before(config);
        config.vault = Some(Vault {
            recipients,
            folder: None,
            uploads: false,
            retention_days: 1,
            max_bytes: 1 << 20,
            conversations: Some(conversations),
        });
    });
    setup
}

fn write_key(world: &World, name: &str, key: &Identity) {
    let text = key.to_string();
    std::fs::write(world.folder().join(name), text.expose_secret()).unwrap();
}

/// `clawgate evidence open …` on a world's vault.
async fn open(world: &World, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .args(["evidence", "open"])
        .args(arguments)
        .arg("--vault")
        .arg(world.config.vault_dir())
        .env("CLAWGATE_CREDENTIAL", &world.operator_token)
        .env("CLAWGATE_OPERATOR", &world.gateway().operator_url)
        .current_dir(world.folder())
        .output()
        .await
        .unwrap()
}

/// The agent, as a client of models.
fn model_client(world: &World) -> Caller {
    Caller::new(&world.gateway().agent_url, Some(&world.cst))
}

#[track_caller]
fn shown(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn receipt(answer: &Answer) -> String {
    answer.headers["x-clawgate-receipt"]
        .to_str()
        .unwrap()
        .to_owned()
}

fn question(text: &str, more: Value) -> Value {
    let mut question = json!({"model": "gpt-5", "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]});
    for (name, value) in more.as_object().unwrap() {
        question[name.as_str()] = value.clone();
    }
    question
}

#[tokio::test]
async fn an_auditor_reads_what_was_said_and_nobody_else_does() {
    let auditor = Identity::generate();
    let setup = keeping(&auditor, Conversations::default());
    let redact = json!({"providers": ["openai", "anthropic"], "allowed": ["*"], "redact": [{"path": "metadata.owner", "action": "mask"}]});
    let mut world = setup.contract("/models", redact).start().await;
    write_key(&world, "auditor.txt", &auditor);
    write_key(&world, "stranger.txt", &Identity::generate());
    let agent = model_client(&world);
    let owner = json!({"metadata": {"owner": "Ada\u{1b}[2J"}});
    let whole = agent
        .post(CHAT, &question("Wipe \u{1b}[2J me", owner))
        .await;
    let tools = json!({"stream": true, "metadata": {"owner": "x"}, "tools": [{"type": "function",
        "function": {"name": "propose", "parameters": {}}}]});
    let streamed = agent.post(CHAT, &question("call the tool", tools)).await;
    let messages = json!({"model": "claude-x", "max_tokens": 100, "stream": true,
        "metadata": {"owner": "x"}, "messages": [{"role": "user", "content": "What should change?"}]});
    let anthropic = agent.post("/anthropic/v1/messages", &messages).await;
    for answer in [&whole, &streamed, &anthropic] {
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    // The last one is cut in the middle, because its job is closed.
    let held = Fault::once("POST", "/v1/chat", FaultAction::HoldMidway);
    world.provider.set_fault(held).unwrap();
    let asked = world.provider.requests().len();
    let body = question(
        "Tell me all",
        json!({"stream": true, "metadata": {"owner": "x"}}),
    );
    let cut = tokio::spawn(async move {
        let kind = [("content-type", "application/json")];
        let call = agent.try_call(http::Method::POST, CHAT, &kind, body.to_string());
        call.await
    });
    let reached = |request: &sim::Request| request.seq as usize > asked;
    world.provider.wait_for_request(reached).await;
    let bundle = world.valid_evidence().await;
    assert!(cut.await.unwrap().is_err());
    world.restart().await;

    std::fs::write(world.folder().join("bundle.json"), bundle.to_file()).unwrap();
    let halves = bundle.proof_bundle.iter();
    let receipts: Vec<Value> = halves
        .flat_map(|half| {
            let half = serde_json::to_value(&half.payload).unwrap();
            half["receipts"].as_array().unwrap().clone()
        })
        .map(|envelope| envelope["payload"].clone())
        .collect();
    assert_eq!(receipts.len(), 4);

    let text = shown(&open(&world, &[&receipt(&whole), "--key", "auditor.txt"]).await);
    for part in [
        "Be brief.",
        "Wipe \\u{1b}[2J me",
        "run two of them",
        "gpt-5 of openai",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    let offline = ["--key", "auditor.txt", "--bundle", "bundle.json"];
    let offline =
        async |id: &str, more: &[&str]| open(&world, &[&[id], &offline[..], more].concat()).await;
    // What is kept is what was sent: redacted.
    let sent = shown(&offline(&receipt(&whole), &["--raw", "request"]).await);
    assert!(!sent.contains("Ada"), "{sent}");
    assert_eq!(
        proof::Hash::of(sent.as_bytes()).to_string(),
        receipts[0]["request_hash_b64u"]
    );
    let call = shown(&offline(&receipt(&streamed), &["--json"]).await);
    let call: Value = serde_json::from_str(&call).unwrap();
    assert_eq!(call["receipt"], receipts[1]);
    let last = &call["answer"]["turns"][0]["said"][0];
    assert_eq!(
        (last["kind"].as_str(), last["name"].as_str()),
        (Some("tool_call"), Some("propose"))
    );
    let text = shown(&offline(&receipt(&anthropic), &[]).await);
    assert!(
        text.contains("What should change?") && text.contains("run two of them"),
        "{text}"
    );
    let broken = receipts[3]["receipt_id"].as_str().unwrap();
    let half = offline(broken, &["--raw", "answer"]).await;
    assert_eq!(
        proof::Hash::of(&half.stdout).to_string(),
        receipts[3]["response_hash_b64u"]
    );
    let text = shown(&offline(broken, &[]).await);
    assert!(
        text.contains("cut_by_policy") && text.contains("Tell me all"),
        "{text}"
    );

    // A wrong key, a file that was changed, one that is gone, a receipt that does not exist.
    let id = receipt(&whole);
    let stranger = open(
        &world,
        &[&id, "--key", "stranger.txt", "--bundle", "bundle.json"],
    )
    .await;
    assert!(stranger.stdout.is_empty() || !shown_anything(&stranger));
    assert!(
        refused(&stranger).contains("not sealed to this key"),
        "{}",
        refused(&stranger)
    );
    let file = |member: &str| {
        let digest: proof::Hash = receipts[0][member].as_str().unwrap().parse().unwrap();
        let name = format!("{}.age", digest.to_hex());
        world.config.vault_dir().join("conversations").join(name)
    };
    let answer = file("response_hash_b64u");
    let mut sealed = std::fs::read(&answer).unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    std::fs::write(&answer, sealed).unwrap();
    let damaged = offline(&id, &[]).await;
    assert!(
        refused(&damaged).contains("damaged"),
        "{}",
        refused(&damaged)
    );
    let rest = String::from_utf8_lossy(&damaged.stdout);
    assert!(
        rest.contains("Be brief.") && !rest.contains("run two"),
        "{rest}"
    );
    std::fs::remove_file(file("request_hash_b64u")).unwrap();
    let missing = refused(&offline(&id, &["--raw", "request"]).await);
    assert!(missing.contains("does not keep the request"), "{missing}");
    let unknown = refused(&offline("rcpt_unknown", &[]).await);
    assert!(unknown.contains("holds no model call"), "{unknown}");
    let unknown = refused(&open(&world, &["rcpt_unknown", "--key", "auditor.txt"]).await);
    assert!(unknown.contains("RECEIPT_UNKNOWN"), "{unknown}");
    let forged = std::fs::read_to_string(world.folder().join("bundle.json")).unwrap();
    let forged = forged.replace(r#""model":"gpt-5""#, r#""model":"gpt-4""#);
    std::fs::write(world.folder().join("bundle.json"), forged).unwrap();
    let forged = refused(&offline(&id, &[]).await);
    assert!(forged.contains("does not hold"), "{forged}");
}

/// Whether anything that was said is in the output.
fn shown_anything(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stdout);
    text.contains("Be brief.") || text.contains("run two")
}

#[tokio::test]
async fn without_room_the_call_goes_on_unless_a_copy_is_required() {
    for required in [false, true] {
        let auditor = Identity::generate();
        let conversations = Conversations {
            required,
            // A quarter of it is less than any question.
            max_bytes: 100,
            ..Conversations::default()
        };
        let mut world = keeping(&auditor, conversations).start().await;
        write_key(&world, "auditor.txt", &auditor);
        let asked = model_client(&world)
            .post(CHAT, &question("?", json!({})))
            .await;
        if required {
            assert_eq!(asked.status, 422);
            assert_eq!(asked.code(), "VAULT_UNAVAILABLE", "{}", asked.text());
            assert!(world.provider.requests().is_empty());
        } else {
            let id = receipt(&asked);
            asked.ok();
            world.restart().await;
            let told = refused(&open(&world, &[&id, "--key", "auditor.txt"]).await);
            assert!(told.contains("was given up"), "{told}");
        }
        world.valid_evidence().await;
    }
}
