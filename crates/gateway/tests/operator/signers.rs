//! Keys that are elsewhere: each kind signs for a gateway, and whatever is wrong there is said and
//! signs nothing.

mod kms;
mod pkcs11;
mod sealed;
mod vault;

use std::path::Path;

use axum::Router;
use clawgate::config::Config;
use clawgate::keys::{Keys, KeysError};
use clawgate::upstream::http_client;
use clawverify::Verdict;
use proof::trust::Role;
use proof::{Did, SigningKey};
use serde_json::json;
use tempfile::TempDir;

use crate::world::World;
use vault::{Does, Vault};

/// Serves on loopback until the test ends; its address.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    format!("http://{address}")
}

/// A configuration with these lines about keys; the other keys are files.
fn config(folder: &Path, keys: &str) -> Config {
    let text = format!(
        r#"
        gateway_id = "gateway.example"
        data_dir = "{}"
        agent_listener = {{ address = "127.0.0.1:0" }}
        operator_listener = {{ address = "127.0.0.1:0" }}
        {keys}
        [terraform_cloud]
        url = "https://app.terraform.io"
        planner = {{ env = "A" }}
        executor = {{ env = "A" }}
        reader = {{ env = "A" }}
        "#,
        folder.display()
    );
    let file = folder.join("clawgate.toml");
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file).unwrap();
    Keys::create(&config.keys_dir()).unwrap();
    config
}

/// The keys of such a configuration.
async fn open(keys: &str) -> (TempDir, Result<Keys, KeysError>) {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), keys);
    let http = http_client(&config).unwrap();
    let opened = Keys::open(&config, &http).await;
    (folder, opened)
}

/// Why they are not to be had.
async fn refused(keys: &str) -> String {
    open(keys).await.1.unwrap_err().to_string()
}

fn receipt(keys: &Keys) -> Did {
    let [(role, did), ..] = keys.roles();
    assert_eq!(role, Role::Receipt);
    did
}

#[tokio::test]
async fn a_job_whose_keys_are_all_in_vault_is_proven() {
    let vault = Vault::start().await;
    let mut keys = String::from("[keys]\nsign_timeout_seconds = 2\n");
    for role in ["receipt", "token", "checkpoint", "close"] {
        keys += &vault.table(role, &vault.key(role).did());
    }
    let world = World::with(keys.leak()).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let token = admin.token(&job).await;
    assert_eq!(world.agent_reads(&token).await.status, 200);
    admin
        .post(
            &format!("/v1/jobs/{job}/close"),
            &json!({ "reason": "done" }),
        )
        .await
        .ok();
    let report = admin.verify(&job).await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    let trust = admin.get("/v1/trust").await.ok();
    assert_eq!(
        trust["gateway"][0]["did"],
        json!(vault.key("receipt").did())
    );
}

/// A signer that fails after the call was made: the answer is not given, the end is recorded as
/// unknown, and the next call is not made at all until it signs again.
#[tokio::test]
async fn nothing_is_done_that_no_receipt_can_be_given_for() {
    let vault = Vault::start().await;
    let did = vault.key("receipt").did();
    let world = World::with(vault.table("receipt", &did).leak()).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let token = admin.token(&job).await;
    let upstream = || world.cloud.requests().len();

    vault.now("receipt", Does::Answers(403));
    let before = upstream();
    let answer = world.agent_reads(&token).await;
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    assert_eq!(answer.status, 503, "{text}");
    assert!(text.contains("SIGNER_UNAVAILABLE"), "{text}");
    assert!(!text.contains("vault") && !text.contains("403"), "{text}");
    assert!(upstream() > before, "the call was made before");

    let before = upstream();
    let answer = world.agent_reads(&token).await;
    assert_eq!(answer.status, 503);
    assert_eq!(upstream(), before, "nothing was asked of upstream");

    // A signature by another key helps nobody either.
    vault.now(
        "receipt",
        Does::SignsWith(Box::new(SigningKey::from_seed(&[9; 32]))),
    );
    assert_eq!(world.agent_reads(&token).await.status, 503);

    vault.now("receipt", Does::Signs);
    assert_eq!(world.agent_reads(&token).await.status, 200);
    admin
        .post(
            &format!("/v1/jobs/{job}/close"),
            &json!({ "reason": "done" }),
        )
        .await
        .ok();
    let report = admin.verify(&job).await;
    assert_eq!(report.verdict, Verdict::NotProven, "{report:#?}");
    let records = admin.get(&format!("/v1/jobs/{job}/records")).await.ok();
    let records = records["records"].as_array().unwrap();
    let unknown: Vec<_> = records
        .iter()
        .map(|stored| &stored["record"])
        .filter(|record| record["ended"] == "unknown")
        .collect();
    assert_eq!(unknown.len(), 1, "{records:#?}");
    assert_eq!(unknown[0]["code"], "SIGNER_UNAVAILABLE");
    assert_eq!(unknown[0]["receipt"], serde_json::Value::Null);
}

/// Each other role: without its signature there is no token, no checkpoint and no bundle, and the
/// next try has them.
#[tokio::test]
async fn what_is_not_signed_is_not_given_out() {
    let vault = Vault::start().await;
    let mut keys = String::new();
    for role in ["token", "checkpoint", "close"] {
        keys += &vault.table(role, &vault.key(role).did());
    }
    let world = World::with(keys.leak()).await;
    let admin = world.admin().await;
    let job = admin.job().await;
    let close = format!("/v1/jobs/{job}/close");
    let body = json!({ "reason": "done" });
    for role in ["token", "checkpoint", "close"] {
        vault.now(role, Does::SignsOther);
        let answer = match role {
            "token" => admin.post("/v1/tokens", &json!({ "job_id": job })).await,
            _ => admin.post(&close, &body).await,
        };
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (503, "SIGNER_UNAVAILABLE"),
            "{role}"
        );
        vault.now(role, Does::Signs);
        if role == "token" {
            admin.token(&job).await;
        }
    }
    admin.post(&close, &body).await.ok();
    let report = admin.verify(&job).await;
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
}
