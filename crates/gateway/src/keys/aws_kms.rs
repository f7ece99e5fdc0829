//! Keys in AWS KMS, over its JSON API.
//!
//! <https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html>: an Ed25519 key has the spec
//! `ECC_NIST_EDWARDS25519` and signs whole messages (`RAW`) by `ED25519_SHA_512`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use proof::keys::Signature;
use proof::{Did, PublicKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::https::{ask, excerpt};
use super::remote::Place;
use super::sigv4::{self, Credentials, Scope};
use crate::config::AwsKmsKey;
use crate::secret::Secret;
use crate::upstream::HttpClient;

const KEY_SPEC: &str = "ECC_NIST_EDWARDS25519";
const ALGORITHM: &str = "ED25519_SHA_512";
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// What stands before the 32 bytes of an Ed25519 key in a `SubjectPublicKeyInfo` (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Largest file of credentials, in bytes.
const MAX_FILE_BYTES: usize = 256 * 1024;

/// A key of AWS KMS.
pub struct AwsKms {
    http: HttpClient,
    settings: AwsKmsKey,
    url: String,
    host: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Public {
    key_spec: String,
    key_usage: String,
    public_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Signed {
    signature: String,
    signing_algorithm: String,
}

#[derive(Deserialize, Default)]
struct Failure {
    #[serde(default, rename = "__type")]
    kind: String,
    #[serde(default, alias = "Message")]
    message: String,
}

impl AwsKms {
    /// Reads the public half.
    pub(super) async fn connect(
        settings: &AwsKmsKey,
        http: HttpClient,
    ) -> Result<(Self, Did), String> {
        let host = format!("https://kms.{}.amazonaws.com", settings.region);
        let endpoint = settings.endpoint.clone().unwrap_or(host);
        let uri: http::Uri = endpoint.parse().map_err(|_| "its address is none")?;
        let host = uri.authority().map(ToString::to_string);
        let kms = Self {
            http,
            settings: settings.clone(),
            url: format!("{endpoint}/"),
            host: host.ok_or("its address has no host")?,
        };
        let asked = json!({ "KeyId": settings.key_id });
        let public: Public = kms.call("GetPublicKey", &asked).await?;
        if public.key_spec != KEY_SPEC || public.key_usage != "SIGN_VERIFY" {
            let (spec, usage) = (excerpt(&public.key_spec), excerpt(&public.key_usage));
            return Err(format!(
                "the key is {spec} for {usage}: make one of the spec {KEY_SPEC} for SIGN_VERIFY"
            ));
        }
        let bytes = STANDARD.decode(&public.public_key).ok();
        let bytes = bytes.as_deref().and_then(|b| b.strip_prefix(&SPKI_PREFIX));
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let key = bytes.and_then(|bytes| PublicKey::from_bytes(&bytes).ok());
        let key = key.ok_or("what it gave as the public key is no Ed25519 key")?;
        Ok((kms, key.did()))
    }

    async fn call<T: DeserializeOwned>(&self, action: &str, asked: &Value) -> Result<T, String> {
        let credentials = credentials(&self.settings).await?;
        let body = serde_json::to_vec(asked).expect("texts are JSON");
        let body = Bytes::from(body);
        let target = format!("TrentService.{action}");
        let session = credentials.session.as_ref().map(Secret::expose);
        let asking = ask(&self.http, || {
            let at = sigv4::time(crate::app::now());
            let mut headers = vec![
                ("content-type", CONTENT_TYPE),
                ("host", &*self.host),
                ("x-amz-date", &*at),
            ];
            headers.extend(session.map(|token| ("x-amz-security-token", token)));
            headers.push(("x-amz-target", &*target));
            let scope = Scope {
                region: &self.settings.region,
                service: "kms",
                at: &at,
            };
            let signed = sigv4::authorization(&credentials, scope, &headers, &body);
            headers.push(("authorization", &*signed));
            let mut request = Request::post(&self.url);
            for (name, value) in headers {
                let mut value = HeaderValue::from_str(value)
                    .map_err(|_| format!("the header `{name}` cannot be written"))?;
                value.set_sensitive(["authorization", "x-amz-security-token"].contains(&name));
                request = request.header(name, value);
            }
            let body = Full::new(body.clone());
            request.body(body).map_err(|error| error.to_string())
        });
        let (status, answer) = asking.await?;
        if status != StatusCode::OK {
            return Err(refused(status, &answer));
        }
        serde_json::from_slice(&answer).map_err(|_| "its answer is not that of KMS".to_owned())
    }
}

fn refused(status: StatusCode, answer: &[u8]) -> String {
    let failure: Failure = serde_json::from_slice(answer).unwrap_or_default();
    let kind = failure.kind.rsplit('#').next().unwrap_or_default();
    let next = match kind {
        "AccessDeniedException" => {
            ": allow `kms:GetPublicKey` and `kms:Sign` on the key to these credentials"
        }
        "NotFoundException" => ": look at key_id and region",
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "InvalidClientTokenId"
        | "IncompleteSignatureException" => ": the access key is not good, or the clock is wrong",
        "ExpiredTokenException" => ": put fresh credentials there",
        "KMSInvalidStateException" | "DisabledException" => ": enable the key",
        _ => "",
    };
    let (kind, said) = (excerpt(kind), excerpt(&failure.message));
    format!("it answered {} {kind} ({said}){next}", status.as_u16())
}

impl Place for AwsKms {
    fn name(&self) -> String {
        format!("the AWS KMS key `{}`", self.settings.key_id)
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Signature, String>> {
        Box::pin(async move {
            let asked = json!({
                "KeyId": self.settings.key_id,
                "Message": STANDARD.encode(message),
                "MessageType": "RAW",
                "SigningAlgorithm": ALGORITHM,
            });
            let signed: Signed = self.call("Sign", &asked).await?;
            if signed.signing_algorithm != ALGORITHM {
                return Err("it signed by another algorithm".to_owned());
            }
            let bytes = STANDARD.decode(&signed.signature).ok();
            let bytes: Option<[u8; 64]> = bytes.and_then(|bytes| bytes.try_into().ok());
            bytes
                .map(Signature::from_bytes)
                .ok_or_else(|| "what it answered is no Ed25519 signature".to_owned())
        })
    }
}

/// Read anew each time: credentials for a while are written over.
async fn credentials(settings: &AwsKmsKey) -> Result<Credentials, String> {
    let profile = settings.profile.as_deref().unwrap_or("default");
    match &settings.credentials_file {
        Some(file) => from_file(file, profile).await,
        None => from_variables(|name| std::env::var(name).ok()),
    }
}

fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Credentials, String> {
    let needed = |name: &str| {
        variable(name).ok_or_else(|| {
            format!("the variable {name} is not set: set it, or name a credentials_file")
        })
    };
    Ok(Credentials {
        id: needed("AWS_ACCESS_KEY_ID")?,
        secret: Secret::new(needed("AWS_SECRET_ACCESS_KEY")?),
        session: variable("AWS_SESSION_TOKEN").map(Secret::new),
    })
}

async fn from_file(file: &Path, profile: &str) -> Result<Credentials, String> {
    let place = file.display();
    let text = tokio::fs::read_to_string(file).await;
    let text = Zeroizing::new(text.map_err(|error| format!("cannot read `{place}`: {error}"))?);
    if text.len() > MAX_FILE_BYTES {
        return Err(format!("`{place}` is too large"));
    }
    read_profile(&text, profile)
        .ok_or_else(|| format!("`{place}` has no complete profile `{profile}`"))
}

fn read_profile(text: &str, profile: &str) -> Option<Credentials> {
    let (mut id, mut secret, mut session) = (None, None, None);
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = name.trim() == profile;
        } else if inside && let Some((name, value)) = line.split_once('=') {
            let value = value.trim().to_owned();
            match name.trim() {
                "aws_access_key_id" => id = Some(value),
                "aws_secret_access_key" => secret = Some(Secret::new(value)),
                "aws_session_token" => session = Some(Secret::new(value)),
                _ => {}
            }
        }
    }
    Some(Credentials {
        id: id?,
        secret: secret?,
        session,
    })
}
