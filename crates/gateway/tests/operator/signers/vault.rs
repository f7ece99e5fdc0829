//! A stand-in for Vault's transit engine, which signs with real keys and takes no request that
//! Vault would not, and the gateway beside it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clawgate::keys::random_key;
use http::StatusCode;
use proof::{Did, SigningKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{open, receipt, refused, serve};

/// What the stand-in does for one key.
#[derive(Clone)]
pub(super) enum Does {
    Signs,
    SignsWith(Box<SigningKey>),
    SignsOther,
    Says(Value),
    Answers(u16),
    Hangs,
}

struct Engine {
    token: String,
    namespace: Option<&'static str>,
    /// Versions of each key, the latest last.
    keys: HashMap<String, Vec<SigningKey>>,
    kind: &'static str,
    does: HashMap<String, Does>,
}

/// The stand-in, and the file that the gateway reads its token from.
pub(super) struct Vault {
    url: String,
    engine: Arc<Mutex<Engine>>,
    folder: TempDir,
}

impl Vault {
    pub(super) async fn start() -> Self {
        let roles = ["receipt", "token", "checkpoint", "close"];
        let engine = Arc::new(Mutex::new(Engine {
            token: "hvs.one".to_owned(),
            namespace: None,
            keys: roles.map(|r| (r.to_owned(), vec![random_key()])).into(),
            kind: "ed25519",
            does: roles.map(|r| (r.to_owned(), Does::Signs)).into(),
        }));
        let shared = Arc::clone(&engine);
        let router = Router::new().fallback(move |request: Request| {
            let engine = Arc::clone(&shared);
            async move { answer(&engine, request).await }
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hvs.one\n").unwrap();
        let url = serve(router).await;
        Self {
            url,
            engine,
            folder,
        }
    }

    /// The latest version of a key.
    pub(super) fn key(&self, name: &str) -> SigningKey {
        self.engine.lock().unwrap().keys[name]
            .last()
            .unwrap()
            .clone()
    }

    pub(super) fn now(&self, name: &str, does: Does) {
        let mut engine = self.engine.lock().unwrap();
        engine.does.insert(name.to_owned(), does);
    }

    /// The configuration of a role whose key is here.
    pub(super) fn table(&self, role: &str, did: &Did) -> String {
        self.table_with(role, &format!("did = \"{did}\""))
    }

    fn table_with(&self, role: &str, more: &str) -> String {
        format!(
            "[keys.{role}]\nkind = \"vault\"\naddress = \"{}\"\nkey_name = \"{role}\"\n\
             vault_token = {{ file = \"{}\" }}\n{more}\n",
            self.url,
            self.folder.path().join("token").display()
        )
    }
}

async fn answer(engine: &Mutex<Engine>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 16).await.unwrap();
    let header = |name: &str| {
        let value = parts.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let fails = |status: u16, text: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        (status, Json(json!({ "errors": [text] }))).into_response()
    };
    let path = parts.uri.path().to_owned();
    let name = path.rsplit('/').next().unwrap().to_owned();
    let (does, versions, kind) = {
        let engine = engine.lock().unwrap();
        if header("x-vault-token").as_deref() != Some(&engine.token) {
            return fails(403, "permission denied");
        }
        if header("x-vault-namespace").as_deref() != engine.namespace {
            return fails(404, "no handler for route");
        }
        let Some(versions) = engine.keys.get(&name) else {
            return fails(404, "encryption key not found");
        };
        (engine.does[&name].clone(), versions.clone(), engine.kind)
    };
    match (parts.method.as_str(), path) {
        ("GET", path) if path == format!("/v1/transit/keys/{name}") => {
            let keys: serde_json::Map<String, Value> = (1..)
                .zip(&versions)
                .map(|(version, key): (u64, _)| {
                    let public = STANDARD.encode(key.public().to_bytes());
                    let key = json!({
                        "creation_time": "2026-11-22T10:00:00Z", "name": "ed25519",
                        "public_key": public, "certificate_chain": "",
                    });
                    (version.to_string(), key)
                })
                .collect();
            Json(
                json!({ "request_id": "1", "lease_id": "", "renewable": false, "data": {
                    "type": kind, "derived": false, "exportable": false, "name": name,
                    "latest_version": versions.len(), "min_available_version": 0, "keys": keys,
                }}),
            )
            .into_response()
        }
        ("POST", path) if path == format!("/v1/transit/sign/{name}") => {
            if header("content-type").as_deref() != Some("application/json") {
                return fails(400, "error parsing JSON");
            }
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let names: Vec<&String> = asked.as_object().unwrap().keys().collect();
            assert_eq!(names, ["input", "key_version"]);
            let input = STANDARD.decode(asked["input"].as_str().unwrap()).unwrap();
            let version = asked["key_version"].as_u64().unwrap();
            let Some(key) = versions.get(version as usize - 1) else {
                return fails(400, "invalid key version");
            };
            let signed = match does {
                Does::Signs => key.sign(&input),
                Does::SignsWith(other) => other.sign(&input),
                Does::SignsOther => key.sign(b"something else"),
                Does::Says(data) => return Json(json!({ "data": data })).into_response(),
                Does::Answers(status) => return fails(status, "out of order"),
                Does::Hangs => return std::future::pending().await,
            };
            let signature = STANDARD.encode(signed.as_bytes());
            Json(json!({ "data": {
                "signature": format!("vault:v{version}:{signature}"), "key_version": version,
            }}))
            .into_response()
        }
        _ => fails(404, "unsupported path"),
    }
}

#[tokio::test]
async fn the_key_that_the_configuration_names_signs() {
    let vault = Vault::start().await;
    let did = vault.key("receipt").did();
    let (_folder, keys) = open(&vault.table("receipt", &did)).await;
    assert_eq!(receipt(&keys.unwrap()), did);

    // A newer version there changes nothing until the configuration names it.
    let newer = random_key();
    let add = |engine: &mut Engine| {
        let versions = engine.keys.get_mut("receipt").unwrap();
        versions.push(newer.clone());
    };
    add(&mut vault.engine.lock().unwrap());
    for named in [did, newer.did()] {
        let (_folder, keys) = open(&vault.table("receipt", &named)).await;
        assert_eq!(receipt(&keys.unwrap()), named);
    }
    // Nobody has to guess its name.
    let says = refused(&vault.table_with("receipt", "")).await;
    assert!(says.contains("keys.receipt.did is missing"), "{says}");
    assert!(says.contains(newer.did().as_str()), "{says}");
}

#[tokio::test]
async fn namespace_and_token_are_those_of_the_configuration() {
    let vault = Vault::start().await;
    let did = vault.key("receipt").did();
    vault.engine.lock().unwrap().namespace = Some("team/a");
    let named = format!("did = \"{did}\"\nnamespace = \"team/a\"");
    let (_folder, keys) = open(&vault.table_with("receipt", &named)).await;
    let keys = keys.unwrap();
    let says = refused(&vault.table("receipt", &did)).await;
    assert!(says.contains("is the namespace right"), "{says}");

    // Whoever renews the token writes the new one over the old one.
    vault.engine.lock().unwrap().token = "hvs.two".to_owned();
    let says = keys.receipt.probe().await.unwrap_err().to_string();
    assert!(says.contains("may have expired"), "{says}");
    assert!(!says.contains("hvs."), "{says}");
    std::fs::write(vault.folder.path().join("token"), "hvs.two").unwrap();
    keys.receipt.ready().await.unwrap();
    assert!(!format!("{keys:?}").contains("hvs."));
}

#[tokio::test]
async fn another_kind_of_key_another_key_and_what_is_no_signature_are_refused() {
    let vault = Vault::start().await;
    let did = vault.key("receipt").did();
    let table = vault.table("receipt", &did) + "[keys]\nsign_timeout_seconds = 1\n";
    let signature = |text: &str| json!({ "signature": text, "key_version": 1 });
    for (does, says) in [
        (Does::SignsOther, "the key was replaced there"),
        (
            Does::SignsWith(Box::new(random_key())),
            "the key was replaced there",
        ),
        (Does::Says(signature("vault:v1:aGVsbG8=")), "no Ed25519"),
        (Does::Says(signature("vault:v2:aGVsbG8=")), "version 1"),
        (Does::Says(json!({})), "not Vault's"),
        (Does::Answers(403), "`update` on `transit/sign/receipt`"),
        (Does::Answers(503), "sealed"),
        (Does::Hangs, "no answer within 1 s"),
    ] {
        vault.now("receipt", does);
        let said = refused(&table).await;
        assert!(said.contains(says), "{says}: {said}");
    }
    vault.now("receipt", Does::Signs);

    let told = refused(&vault.table("receipt", &random_key().did())).await;
    assert!(told.contains("the key was replaced there"), "{told}");
    let both = vault.table("receipt", &did)
        + &vault
            .table("token", &did)
            .replace("key_name = \"token\"", "key_name = \"receipt\"");
    let told = refused(&both).await;
    assert!(told.contains("have one key"), "{told}");
    vault.engine.lock().unwrap().kind = "ecdsa-p256";
    let told = refused(&table).await;
    assert!(told.contains("ecdsa-p256"), "{told}");
}
