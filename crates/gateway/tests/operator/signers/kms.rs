//! A stand-in for AWS KMS, which checks each request's signature as AWS does and signs with a real
//! key, and the gateway beside it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clawgate::keys::random_key;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::StatusCode;
use http::request::Parts;
use proof::{Hash, SigningKey};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

use super::{open, receipt, refused, serve};

const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

struct Service {
    secret: &'static str,
    session: Option<&'static str>,
    key: SigningKey,
    spec: &'static str,
    /// What `Sign` says in place of a signature.
    says: Option<(u16, Value)>,
    seen: Vec<String>,
}

struct Kms {
    url: String,
    service: Arc<Mutex<Service>>,
    folder: TempDir,
}

impl Kms {
    async fn start() -> Self {
        let service = Arc::new(Mutex::new(Service {
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            session: None,
            key: random_key(),
            spec: "ECC_NIST_EDWARDS25519",
            says: None,
            seen: Vec::new(),
        }));
        let shared = Arc::clone(&service);
        let router = Router::new().fallback(move |request: Request| {
            let service = Arc::clone(&shared);
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, 1 << 16).await.unwrap();
                answer(&mut service.lock().unwrap(), &parts, &body)
            }
        });
        let kms = Self {
            url: serve(router).await,
            service,
            folder: tempfile::tempdir().unwrap(),
        };
        kms.credentials("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None);
        kms
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    fn credentials(&self, secret: &str, session: Option<&str>) {
        let session = session.map_or_else(String::new, |s| format!("aws_session_token={s}\n"));
        let text = format!(
            "[default]\naws_access_key_id = AKIDOTHER\naws_secret_access_key = other\n\n\
             [gateway]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {secret}\n{session}"
        );
        std::fs::write(self.file(), text).unwrap();
    }

    fn table(&self) -> String {
        let did = self.service.lock().unwrap().key.did();
        format!(
            "[keys.receipt]\nkind = \"aws-kms\"\nkey_id = \"{ARN}\"\nregion = \"eu-central-1\"\n\
             endpoint = \"{}\"\ncredentials_file = \"{}\"\nprofile = \"gateway\"\ndid = \"{did}\"\n",
            self.url,
            self.file().display()
        )
    }
}

fn answer(service: &mut Service, parts: &Parts, body: &Bytes) -> Response {
    let fails = |status: u16, kind: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        let said = json!({ "__type": kind, "message": "no" });
        (status, Json(said)).into_response()
    };
    if let Err(kind) = authentic(service, parts, body) {
        return fails(400, kind);
    }
    assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/"));
    assert_eq!(parts.headers["content-type"], "application/x-amz-json-1.1");
    let asked: Value = serde_json::from_slice(body).unwrap();
    if asked["KeyId"] != ARN {
        return fails(400, "NotFoundException");
    }
    let target = parts.headers["x-amz-target"].to_str().unwrap();
    service.seen.push(target.to_owned());
    match target {
        "TrentService.GetPublicKey" => {
            let mut spki = vec![48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0];
            spki.extend(service.key.public().to_bytes());
            Json(json!({
                "KeyId": ARN, "KeySpec": service.spec, "CustomerMasterKeySpec": service.spec,
                "KeyUsage": "SIGN_VERIFY", "PublicKey": STANDARD.encode(spki),
                "SigningAlgorithms": ["ED25519_PH_SHA_512", "ED25519_SHA_512"],
            }))
            .into_response()
        }
        "TrentService.Sign" => {
            assert_eq!(
                (&asked["MessageType"], &asked["SigningAlgorithm"]),
                (&json!("RAW"), &json!("ED25519_SHA_512"))
            );
            if let Some((status, says)) = &service.says {
                let status = StatusCode::from_u16(*status).unwrap();
                return (status, Json(says.clone())).into_response();
            }
            let message = STANDARD.decode(asked["Message"].as_str().unwrap()).unwrap();
            let signature = STANDARD.encode(service.key.sign(&message).as_bytes());
            let algorithm = "ED25519_SHA_512";
            Json(json!({ "KeyId": ARN, "Signature": signature, "SigningAlgorithm": algorithm }))
                .into_response()
        }
        _ => fails(400, "UnknownOperationException"),
    }
}

/// Signature Version 4, from what arrived: the headers that the request says are signed.
fn authentic(service: &Service, parts: &Parts, body: &[u8]) -> Result<(), &'static str> {
    let header = |name: &str| {
        let value = parts.headers.get(name);
        value.and_then(|value| value.to_str().ok())
    };
    let authorization = header("authorization").ok_or("MissingAuthenticationToken")?;
    let rest = authorization
        .strip_prefix("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        .ok_or("UnrecognizedClientException")?;
    let (scope, rest) = rest.split_once(", SignedHeaders=").unwrap();
    let (names, signature) = rest.split_once(", Signature=").unwrap();
    let signed: Vec<&str> = names.split(';').collect();
    for needed in ["content-type", "host", "x-amz-date", "x-amz-target"] {
        assert!(signed.contains(&needed), "{needed} is signed");
    }
    assert!(signed.is_sorted());
    if header("x-amz-security-token") != service.session {
        return Err("UnrecognizedClientException");
    }
    if service.session.is_some() {
        assert!(signed.contains(&"x-amz-security-token"));
    }
    let at = header("x-amz-date").unwrap();
    let now = clawgate::app::now().to_string().replace(['-', ':'], "");
    assert_eq!(at[..11], now[..11], "a time of this hour");
    assert_eq!(scope, format!("{}/eu-central-1/kms/aws4_request", &at[..8]));
    let headers: String = signed
        .iter()
        .map(|name| format!("{name}:{}\n", header(name).unwrap()))
        .collect();
    let request = format!("POST\n/\n\n{headers}\n{names}\n{}", Hash::of(body).to_hex());
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{at}\n{scope}\n{}",
        Hash::of(request.as_bytes()).to_hex()
    );
    let hmac = |key: &[u8], text: &str| -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    };
    let key = format!("AWS4{}", service.secret).into_bytes();
    let key = scope
        .split('/')
        .fold(key, |key, part| hmac(&key, part).to_vec());
    match Hash::from_bytes(hmac(&key, &to_sign)).to_hex() == signature {
        true => Ok(()),
        false => Err("InvalidSignatureException"),
    }
}

#[tokio::test]
async fn an_ed25519_key_of_kms_signs_for_credentials_that_last_and_those_that_do_not() {
    let kms = Kms::start().await;
    let (_folder, keys) = open(&kms.table()).await;
    let keys = keys.unwrap();
    assert_eq!(receipt(&keys), kms.service.lock().unwrap().key.did());
    assert_eq!(
        kms.service.lock().unwrap().seen,
        ["TrentService.GetPublicKey", "TrentService.Sign"]
    );
    // New credentials are read where the old ones were.
    kms.service.lock().unwrap().secret = "anotherSecret";
    kms.service.lock().unwrap().session = Some("session//token==");
    let says = keys.receipt.probe().await.unwrap_err().to_string();
    assert!(says.contains("UnrecognizedClientException"), "{says}");
    kms.credentials("anotherSecret", Some("session//token=="));
    keys.receipt.ready().await.unwrap();
    for text in [format!("{keys:?}"), says] {
        assert!(
            !text.contains("ecret//") && !text.contains("wJalr"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn kms_says_what_is_wrong_and_signs_nothing_else() {
    let kms = Kms::start().await;
    let table = kms.table();
    let denied = json!({ "__type": "AccessDeniedException", "message": "not authorized" });
    let disabled = json!({ "__type": "KMSInvalidStateException", "message": "disabled" });
    let other = STANDARD.encode(random_key().sign(b"x").as_bytes());
    let signed = |signature: &str, algorithm: &str| {
        (
            200,
            json!({ "Signature": signature, "SigningAlgorithm": algorithm }),
        )
    };
    for (answers, says) in [
        ((400, denied), "allow `kms:GetPublicKey` and `kms:Sign`"),
        ((400, disabled), "enable the key"),
        ((500, json!({})), "it answered 500"),
        (
            signed(&other, "ED25519_SHA_512"),
            "the key was replaced there",
        ),
        (
            signed("aGVsbG8=", "ED25519_SHA_512"),
            "no Ed25519 signature",
        ),
        (signed(&other, "ED25519_PH_SHA_512"), "another algorithm"),
        ((200, json!({ "hello": 1 })), "not that of KMS"),
    ] {
        kms.service.lock().unwrap().says = Some(answers);
        let said = refused(&table).await;
        assert!(said.contains(says), "{says}: {said}");
    }
    kms.service.lock().unwrap().says = None;

    kms.credentials("wrong", None);
    let said = refused(&table).await;
    assert!(said.contains("InvalidSignatureException"), "{said}");
    std::fs::write(kms.file(), "[gateway]\naws_access_key_id = A\n").unwrap();
    let said = refused(&table).await;
    assert!(said.contains("no complete profile `gateway`"), "{said}");
    kms.credentials("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None);
    let said = refused(&table.replace("1234abcd", "4321abcd")).await;
    assert!(said.contains("look at key_id and region"), "{said}");
    kms.service.lock().unwrap().key = random_key();
    let said = refused(&table).await;
    assert!(said.contains("the key was replaced there"), "{said}");
    kms.service.lock().unwrap().spec = "ECC_NIST_P256";
    let said = refused(&table).await;
    assert!(said.contains("ECC_NIST_P256"), "{said}");
}
