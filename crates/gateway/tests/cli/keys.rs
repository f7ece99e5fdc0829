//! Several gateways on one database, one of which changes the keys.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clawverify::{Options, Report, Verdict};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::client::Answer;
use crate::postgres::server;
use crate::replicas::{Gateway, Three, url};
use crate::world::{APP, PATIENCE, World};

impl Gateway {
    /// `clawgate keys …`, by the root's key.
    async fn keys(&self, world: &World, words: &[&str]) -> Value {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .arg("keys")
            .args(words)
            .arg("--key")
            .arg(world.config.keys_dir().join("keyset.key"))
            .arg("--json")
            .arg("--operator")
            .arg(url(self.config.operator_listener.address))
            .env("CLAWGATE_CREDENTIAL", &world.operator_token)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `clawgate keys adopt`, on its machine.
    async fn adopt(&self, world: &World) -> std::process::Output {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_clawgate"))
            .args(["keys", "adopt", "--config"])
            .arg(self.file(world))
            .arg("--key")
            .arg(world.config.keys_dir().join("keyset.key"))
            .output()
            .await
            .unwrap()
    }

    /// The key that it fulfils a role with, as far as it knows.
    async fn current(&self, world: &World, role: &str) -> String {
        let answer = self.operator(world).get("/v1/keys").await.ok();
        let keys = answer["keys"].as_array().unwrap();
        let current = keys
            .iter()
            .find(|key| key["role"] == role && key["state"] == "current");
        current.unwrap()["did"].as_str().unwrap().to_owned()
    }

    /// Asks until it answers as it should.
    async fn until<T>(&self, ask: impl AsyncFn(&Self) -> Option<T>) -> T {
        let asking = async {
            loop {
                if let Some(done) = ask(self).await {
                    return done;
                }
            }
        };
        timeout(PATIENCE, asking).await.expect("it comes to that")
    }

    async fn token(&self, world: &World) -> String {
        let issuing = json!({ "job_id": world.job });
        let issued = self.operator(world).post("/v1/tokens", &issuing).await;
        issued.ok()["token"].as_str().unwrap().to_owned()
    }

    async fn reads(&self, token: &str) -> Answer {
        let path = format!("/api/v2/workspaces/{APP}");
        self.agent(token).get(&path).await
    }
}

impl Three {
    /// Closes the job at one gateway, and verifies its bundle by what another one says.
    async fn verified(&self, closes: usize, asked: usize) -> (Report, Value) {
        let (closes, asked) = [closes, asked]
            .map(|n| self.gateways[n].operator(&self.world))
            .into();
        let job = &self.world.job;
        let closing = json!({"reason": "done"});
        closes
            .post(&format!("/v1/jobs/{job}/close"), &closing)
            .await
            .ok();
        let bundle = closes.get(&format!("/v1/jobs/{job}/bundle")).await;
        bundle.ok();
        let trust = asked.get("/v1/trust").await;
        let report = clawverify::verify(&bundle.body, &trust.body, &Options::default());
        (report, serde_json::from_slice(&bundle.body).unwrap())
    }
}

fn is_valid(report: &Report) {
    let bad: Vec<_> = report
        .checks
        .iter()
        .filter(|check| check.status != clawverify::Status::Pass)
        .collect();
    assert_eq!(report.verdict, Verdict::Valid, "{bad:#?}");
}

/// Who has signed what a bundle holds, by the members that name a signer.
fn signers(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(signer) = members.get("signer_did").and_then(Value::as_str) {
                found.push(signer.to_owned());
            }
            members.values().for_each(|member| signers(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| signers(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_changes_the_others_take_up() {
    let Some(schema) = server::Schema::new() else {
        return;
    };
    let three = Three::start_with(schema, |_, _| ()).await;
    let (world, gateways) = (&three.world, &three.gateways);
    for gateway in gateways {
        gateway.reads(&world.cst).await.ok();
    }
    let mut used = vec![gateways[0].current(world, "receipt").await];
    // Each of them changes some; the job stays open, and its token counts.
    for (n, role) in ["receipt", "token", "close", "checkpoint", "jobs", "receipt"]
        .into_iter()
        .enumerate()
    {
        let changes = &gateways[n % 3];
        let old = changes.current(world, role).await;
        let made = changes.keys(world, &["rotate", role]).await;
        assert_eq!(made["key_sets"][0]["followed_by_all"], true, "{made}");
        let new = changes.current(world, role).await;
        assert_ne!(new, old);
        for gateway in gateways {
            // The answer went out when all of them had it.
            assert_eq!(gateway.current(world, role).await, new);
            gateway.reads(&world.cst).await.ok();
        }
        if role == "receipt" {
            used.push(new);
        }
    }
    let issued = gateways[1].token(world).await;
    for gateway in gateways {
        gateway.reads(&issued).await.ok();
    }

    // A key that was put in its place by hand is adopted beside them, and used by all.
    let place = world.config.keys_dir().join("close.key");
    let adopted = clawgate::keys::random_key();
    std::fs::remove_file(&place).unwrap();
    clawgate::keys::write_key(&place, &adopted).unwrap();
    let output = gateways[0].adopt(world).await;
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        output.status.success() && said.contains("is the close key now"),
        "{said}"
    );
    for gateway in gateways {
        let new = adopted.did().to_string();
        gateway
            .until(async |gateway| (gateway.current(world, "close").await == new).then_some(()))
            .await;
    }

    // A revoked token key ends its tokens everywhere; those of other keys count on.
    let stolen = gateways[2].current(world, "token").await;
    let made = gateways[0]
        .keys(world, &["revoke", &stolen, "--reason", "stolen"])
        .await;
    assert_eq!(made["key_sets"][1]["tokens_revoked"], 1, "{made}");
    for gateway in gateways {
        let refused = gateway
            .until(async |gateway| {
                let answer = gateway.reads(&issued).await;
                (!answer.status.is_success()).then_some(answer)
            })
            .await;
        assert_eq!(refused.code(), "TOKEN_REVOKED");
        gateway.reads(&world.cst).await.ok();
    }

    // The key for receipts is revoked while all of them sign: nothing that was signed in good
    // faith comes to stand behind its revocation.
    let stolen = gateways[0].current(world, "receipt").await;
    let over = AtomicBool::new(false);
    let work = async |gateway: &Gateway| {
        let mut calls = 0;
        while !over.load(Ordering::Acquire) {
            gateway.reads(&world.cst).await.ok();
            calls += 1;
        }
        calls
    };
    let revoking = async {
        let words = ["revoke", &stolen, "--reason", "stolen"];
        gateways[1].keys(world, &words).await;
        over.store(true, Ordering::Release);
    };
    let (one, two, three_, ()) = tokio::join!(
        work(&gateways[0]),
        work(&gateways[1]),
        work(&gateways[2]),
        revoking
    );
    assert!(one > 0 && two > 0 && three_ > 0, "{one} {two} {three_}");
    used.push(gateways[2].current(world, "receipt").await);
    gateways[2].reads(&world.cst).await.ok();

    let (report, bundle) = three.verified(2, 0).await;
    is_valid(&report);
    let mut found = Vec::new();
    signers(&bundle, &mut found);
    used.push(adopted.did().to_string());
    for key in &used {
        assert!(found.contains(key), "{key} has signed nothing");
    }
}

/// Copies the keys to another gateway's folder, as they are.
fn bring_keys(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap();
        // Whoever brings a file puts it in its place at once.
        let beside = to.join("brought");
        std::fs::copy(&from, &beside).unwrap();
        std::fs::rename(&beside, to.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_lacks_the_new_keys_refuses_until_it_has_them() {
    let Some(schema) = server::Schema::new() else {
        return;
    };
    let apart = tempfile::tempdir().unwrap();
    let three = Three::start_with(schema, |n, config| {
        // The last one has a folder of its own, with the keys of before.
        if n == 2 {
            let keys = config.keys_dir();
            config.data_dir = apart.path().to_owned();
            bring_keys(&keys, &config.keys_dir());
        }
    })
    .await;
    let (world, gateways) = (&three.world, &three.gateways);
    let [here, apart] = [&gateways[0], &gateways[2]];
    apart.reads(&world.cst).await.ok();
    let ready = async |gateway: &Gateway| gateway.operator(world).get("/readyz").await;

    // What the old key signs counts for a while: nothing is interrupted.
    let made = here.keys(world, &["rotate", "receipt"]).await;
    assert_eq!(made["key_sets"][0]["followed_by_all"], false, "{made}");
    let new = here.current(world, "receipt").await;
    apart
        .until(async |gateway| (gateway.current(world, "receipt").await == new).then_some(()))
        .await;
    apart.reads(&world.cst).await.ok();
    ready(apart).await.ok();
    // When the old one is revoked it refuses, and says why.
    let old = here.operator(world).get("/v1/keys").await.ok();
    let old = old["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["role"] == "receipt" && key["state"] == "replaced");
    let old = old.unwrap()["did"].as_str().unwrap().to_owned();
    let words = ["revoke", &old, "--reason", "stolen"];
    let made = apart.keys(world, &words).await;
    assert_eq!(made["key_sets"][0]["followed_by_all"], false, "{made}");
    let refused = apart
        .until(async |gateway| {
            let answer = gateway.reads(&world.cst).await;
            (!answer.status.is_success()).then_some(answer)
        })
        .await;
    assert_eq!(refused.code(), "SIGNER_UNAVAILABLE");
    assert!(
        refused.text().contains("receipt key was replaced"),
        "{}",
        refused.text()
    );
    assert_eq!(ready(apart).await.code(), "SIGNER_UNAVAILABLE");
    let path = format!("/v1/jobs/{}", world.job);
    let job = here.operator(world).get(&path).await.ok();
    let opening = json!({
        "name": "another",
        "policy_hash_b64u": job["policy_hash_b64u"],
    });
    let opened = apart.operator(world).post("/v1/jobs", &opening).await;
    assert_eq!(opened.code(), "SIGNER_UNAVAILABLE");
    here.reads(&world.cst).await.ok();
    ready(here).await.ok();

    // The key is brought, and it goes on by itself.
    bring_keys(&here.config.keys_dir(), &apart.config.keys_dir());
    apart
        .until(async |gateway| ready(gateway).await.status.is_success().then_some(()))
        .await;
    apart.reads(&world.cst).await.ok();
    let (report, bundle) = three.verified(2, 0).await;
    is_valid(&report);
    let mut found = Vec::new();
    signers(&bundle, &mut found);
    assert!(found.contains(&new) && found.contains(&old));
}
