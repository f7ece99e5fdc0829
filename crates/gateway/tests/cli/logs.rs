//! The log of a whole job, with everything that anything here can say, holds no secret and nothing
//! of what was said or uploaded.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use store::GateState;
use tracing_subscriber::fmt::MakeWriter;

use crate::client::Caller;
use crate::world::{APP, Setup};

/// What agents say, and what they are told.
const PROMPT: &str = "zebra-prompt-nobody-logs";

/// What a configuration holds.
const CONFIGURATION: &str = "ostrich-variable-nobody-logs";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_whole_job_at_the_highest_level_logs_no_secret() {
    let log = Log::default();
    // As `clawgate serve --log-json` writes it, with libraries and all levels. The gateway's tasks run
    // on this thread; what its others log (the store's writer) is not heard here.
    let everything = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .json()
        .flatten_event(true)
        .finish();
    let _logging = tracing::subscriber::set_default(everything);

    let models = json!({"providers": ["openai", "anthropic"], "allowed": ["gpt-*", "claude-*"]});
    let world = Setup::new().contract("/models", models).start().await;
    let agent = Caller::new(&world.gateway().agent_url, Some(&world.cst));
    for stream in [false, true] {
        let message = json!({"role": "user", "content": PROMPT});
        let chat = json!({"model": "gpt-5", "messages": [message], "stream": stream});
        agent.post("/openai/v1/chat/completions", &chat).await;
    }
    let stranger = Caller::new(&world.gateway().agent_url, Some("no-token-of-anybodys"));
    stranger.get("/api/v2/ping").await;
    let text = format!(
        "{}\nlocals {{ spare = \"{CONFIGURATION}\" }}\n",
        crate::terraform::two_instances()
    );
    let upload = agent
        .upload(APP, false, &[("main.tf", &text)])
        .await
        .unwrap();
    let plain = world.agent();
    let wished = json!({"auto-apply": true});
    let made = plain.run(&upload, &wished);
    let run = made.await.ok()["data"]["id"].as_str().unwrap().to_owned();
    world.run_at(&run, GateState::AwaitingApproval).await;
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    let close = format!("/v1/jobs/{}/close", world.job);
    world
        .operator()
        .post(&close, &json!({"reason": "done"}))
        .await
        .ok();

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let from = |target: &str| {
        let target = json!(target);
        lines.iter().any(|line| line["target"] == target)
    };
    assert!(
        from("clawgate::bundles") && lines.len() > 50,
        "{}",
        lines.len()
    );
    assert!(
        lines.iter().any(|line| line["level"] == "TRACE"),
        "libraries, too"
    );
    let spoken = [PROMPT, CONFIGURATION, "no-token-of-anybodys"].map(str::to_owned);
    for secret in world.secrets().into_iter().chain(spoken) {
        let found = lines.iter().find(|line| line.to_string().contains(&secret));
        assert!(found.is_none(), "{secret} in {found:?}");
    }
}
