//! Uploads that are kept, from the real CLI to an auditor with a key.

use std::path::Path;
use std::process::{Command, Output};

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use clawgate::config::Vault;
use http::Method;
use serde_json::{Value, json};

use crate::client::{Caller, archive};
use crate::evidence::refusals;
use crate::terraform::{Cli, two_instances, words};
use crate::world::{APP, Setup, World, terraform};

fn keeping(auditor: &Identity, max_bytes: u64) -> Setup {
    let recipients = vec![auditor.to_public().to_string()];
    let mut setup = Setup::new();
    let before = setup.config;
    setup.config = Box::new(move |config| {
        before(config);
        config.vault = Some(Vault {
            recipients,
            folder: None,
            uploads: true,
            conversations: None,
            retention_days: 1,
            max_bytes,
        });
    });
    setup
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// `clawgate evidence …` on a world's vault.
fn evidence(world: &World, arguments: &[&str]) -> Output {
    let folder = world.config.vault_dir();
    Command::new(env!("CARGO_BIN_EXE_clawgate"))
        .arg("evidence")
        .args(arguments)
        .arg("--vault")
        .arg(folder)
        .current_dir(world.folder())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn an_auditor_compares_what_was_proposed() {
    if terraform().is_none() {
        return;
    }
    let auditor = Identity::generate();
    let world = keeping(&auditor, 1 << 20).start().await;
    let cli = Cli::initialised(&world, "agent").await;
    // The same files twice: two runs, one digest, one file.
    cli.run(&["plan", "-input=false"]).await.ok();
    cli.run(&["plan", "-input=false"]).await.ok();
    let bundle = world.valid_evidence().await;
    let runs = &bundle.terraform.runs;
    let digest = runs[0].configuration_sha256_b64u.unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[1].configuration_sha256_b64u, Some(digest));
    let folder = world.config.vault_dir();
    assert_eq!(names(&folder), [format!("{}.age", digest.to_hex())]);

    let write = |name: &str, key: &Identity| {
        let text = key.to_string();
        std::fs::write(world.folder().join(name), text.expose_secret()).unwrap();
    };
    write("auditor.txt", &auditor);
    write("stranger.txt", &Identity::generate());
    let digest_text = digest.to_string();
    let open = |more: &[&str]| {
        let arguments = ["open", &digest_text, "--key", "auditor.txt"];
        evidence(&world, &[&arguments, more].concat())
    };

    let listed = evidence(&world, &["list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["sha256_b64u"], digest_text.as_str());
    let shown = open(&["--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let paths: Vec<&str> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["path"].as_str().unwrap())
        .collect();
    assert!(paths.contains(&"main.tf"), "{paths:?}");

    let unpacked = open(&["--out", "proposed"]);
    assert!(unpacked.status.success(), "{}", stderr(&unpacked));
    let main = std::fs::read_to_string(world.folder().join("proposed/main.tf")).unwrap();
    assert_eq!(main, two_instances());
    let again = open(&["--out", "proposed"]);
    assert_eq!(
        again.status.code(),
        Some(1),
        "an existing folder is left alone"
    );
    let archive = open(&["--out", "-"]);
    assert_eq!(proof::Hash::of(&archive.stdout), digest);

    let stranger = ["open", &digest_text, "--key", "stranger.txt"];
    let refused = evidence(&world, &stranger);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("not sealed to this key"),
        "{}",
        stderr(&refused)
    );
    assert!(refused.stdout.is_empty());
    let file = folder.join(format!("{}.age", digest.to_hex()));
    let mut sealed = std::fs::read(&file).unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    std::fs::write(&file, sealed).unwrap();
    let damaged = open(&["--out", "-"]);
    assert_eq!((damaged.status.code(), damaged.stdout.len()), (Some(1), 0));
    assert!(stderr(&damaged).contains("damaged"), "{}", stderr(&damaged));
}

#[tokio::test]
async fn what_cannot_be_kept_does_not_go_up() {
    if terraform().is_none() {
        return;
    }
    let world = keeping(&Identity::generate(), 100).start().await;
    let cli = Cli::initialised(&world, "agent").await;
    let output = words(&cli.run(&["plan", "-input=false"]).await.failed());
    assert!(output.contains("VAULT_UNAVAILABLE"), "{output}");
    assert!(world.asked("POST", "/api/v2/runs").is_empty());
    let uploads = world.cloud.requests();
    assert!(uploads.iter().all(|request| request.method != "PUT"));
    assert_eq!(names(&world.config.vault_dir()), Vec::<String>::new());
    // A client that sees statuses is told at once, and may come again with the same address.
    let agent = world.agent();
    let path = format!("/api/v2/workspaces/{APP}/configuration-versions");
    let attributes = json!({"auto-queue-runs": false, "speculative": false});
    let body = json!({"data": {"type": "configuration-versions", "attributes": attributes}});
    let opened = agent.send(&path, &body).await.ok();
    let address = opened["data"]["attributes"]["upload-url"].as_str().unwrap();
    let client = Caller::new(&world.gateway().agent_url, Some(&world.cst));
    for _ in 0..2 {
        let content = archive(&[("main.tf", &two_instances())]);
        let refused = client.call(Method::PUT, address, &[], content).await;
        let told = (refused.status.as_u16(), refused.code());
        assert_eq!(told, (422, "VAULT_UNAVAILABLE".to_owned()));
    }
    let bundle = world.valid_evidence().await;
    let refused = refusals(&bundle);
    let kept_out = refused.iter().filter(|code| *code == "VAULT_UNAVAILABLE");
    assert!(kept_out.count() >= 3, "{refused:?}");
}
