//! `clawgate jobs top`, as a script reads it.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::client::Caller;
use crate::world::{Setup, World};

const CHAT: &str = "/openai/v1/chat/completions";

fn top(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clawgate"));
    command
        .args(["jobs", "top"])
        .args(arguments)
        .env("CLAWGATE_CREDENTIAL", &world.operator_token)
        .env("CLAWGATE_OPERATOR", &world.gateway().operator_url)
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn whoever_watches_is_told_until_the_job_has_ended() {
    let models = json!({"providers": ["openai"], "allowed": ["gpt-*"], "max_tokens": 9000});
    let setup = Setup::new().contract("/models", models);
    let world = setup.start().await;
    let agent = Caller::new(&world.gateway().agent_url, Some(&world.cst));
    let ask = |model: &str| {
        let message = json!({"role": "user", "content": "What should change?"});
        json!({"model": model, "max_completion_tokens": 500, "messages": [message]})
    };
    let job = world.job.to_string();
    let mut watching = Vec::new();
    for arguments in [vec![job.as_str()], vec![job.as_str(), "--json"]] {
        let command = top(&world, &arguments).stdout(Stdio::piped()).spawn();
        let mut command = command.unwrap();
        // The first line says that it watches.
        let mut out = command.stdout.take().unwrap();
        let mut begun = vec![0; 1];
        out.read_exact(&mut begun).await.unwrap();
        watching.push((command, out, begun));
    }
    agent.post(CHAT, &ask("gpt-5")).await.ok();
    assert_eq!(agent.post(CHAT, &ask("o9")).await.status, 403);

    let once = top(&world, &["--once", "--json"]).output().await.unwrap();
    let once: Value = serde_json::from_slice(&once.stdout).unwrap();
    let shown = &once["jobs"][0];
    assert_eq!(shown["job_id"], job.as_str());
    assert_eq!(shown["budget"]["tokens"]["of"], 9000);
    let used = shown["budget"]["tokens"]["used"].as_u64().unwrap();
    let sum = |job: &Value| {
        job["tokens_input"].as_u64().unwrap() + job["tokens_output"].as_u64().unwrap()
    };
    assert!(used > 0 && used == sum(shown), "{shown:#}");
    assert_eq!(shown["refusals"][0]["code"], "MODEL_NOT_ALLOWED");
    let once = top(&world, &["--once"]).output().await.unwrap();
    let once = String::from_utf8(once.stdout).unwrap();
    assert!(
        once.contains("MODEL_NOT_ALLOWED") && !once.contains('\u{1b}'),
        "{once}"
    );

    world.valid_evidence().await;
    let mut told = Vec::new();
    for (mut command, mut out, mut lines) in watching {
        out.read_to_end(&mut lines).await.unwrap();
        assert!(command.wait().await.unwrap().success());
        told.push(String::from_utf8(lines).unwrap());
    }
    let plain: Vec<&str> = told[0].lines().collect();
    assert!(
        plain
            .iter()
            .any(|line| line.contains("refused MODEL_NOT_ALLOWED")),
        "{plain:#?}"
    );
    let last = plain.last().unwrap();
    assert!(
        last.contains("sealed calls 1 in flight 0 refused 1") || last.contains("closed"),
        "{last}"
    );
    for line in told[1].lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["jobs"][0]["job_id"], job.as_str());
    }
    let refused = top(&world, &["job_unknown"]).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("JOB_UNKNOWN"));
}
