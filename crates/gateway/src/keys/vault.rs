//! Keys in the transit engine of a `HashiCorp` Vault.
//!
//! API: <https://developer.hashicorp.com/vault/api-docs/secret/transit>.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use proof::keys::Signature;
use proof::{Did, PublicKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::RwLock;

use super::https::{ask, excerpt};
use super::remote::Place;
use crate::config::VaultKey;
use crate::secret::Secret;
use crate::upstream::HttpClient;

/// A key of a Vault's.
pub struct Vault {
    http: HttpClient,
    settings: VaultKey,
    token: RwLock<Secret>,
    /// The version of the key that signs.
    version: u64,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Key {
    r#type: String,
    #[serde(default)]
    derived: bool,
    latest_version: u64,
    keys: BTreeMap<u64, Version>,
}

#[derive(Deserialize)]
struct Version {
    public_key: String,
}

#[derive(Deserialize)]
struct Signed {
    signature: String,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Vault {
    /// Reads the key's versions: the one with the configured public half signs. Without one the
    /// latest version's is told.
    pub(super) async fn connect(
        settings: &VaultKey,
        http: HttpClient,
    ) -> Result<(Self, Did), String> {
        let token = fetch_token(settings).await?;
        let mut vault = Self {
            http,
            settings: settings.clone(),
            token: RwLock::new(token),
            version: 0,
        };
        let path = format!("keys/{}", settings.key_name);
        let key: Key = vault.call(Method::GET, &path, None).await?;
        if key.r#type != "ed25519" {
            let found = excerpt(&key.r#type);
            return Err(format!(
                "the key is of the type `{found}`: make one of the type `ed25519`"
            ));
        }
        if key.derived {
            return Err("the key is a derived one: make it with `derived=false`".to_owned());
        }
        let mut dids = BTreeMap::new();
        for (version, key) in &key.keys {
            let bytes = STANDARD.decode(&key.public_key).ok();
            let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
            let public = bytes.and_then(|bytes| PublicKey::from_bytes(&bytes).ok());
            dids.insert(*version, public.ok_or("a public key there is none")?.did());
        }
        let wanted = settings.did.as_ref();
        let found = wanted.and_then(|did| dids.iter().find(|(_, own)| *own == did));
        let latest = dids.get_key_value(&key.latest_version);
        let (version, did) = found.or(latest).ok_or("the key has no latest version")?;
        vault.version = *version;
        Ok((vault, did.clone()))
    }

    /// Asks the transit engine. A token that is refused is fetched anew once: whoever renews it
    /// writes the new one into the same file.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, String> {
        let token = self.token.read().await.clone();
        let answer = self.request(&method, path, body.clone(), &token).await?;
        let (status, answer) = match answer {
            (StatusCode::FORBIDDEN, refused) => {
                let fresh = fetch_token(&self.settings).await?;
                if fresh.matches(token.expose()) {
                    (StatusCode::FORBIDDEN, refused)
                } else {
                    let again = self.request(&method, path, body, &fresh).await?;
                    *self.token.write().await = fresh;
                    again
                }
            }
            other => other,
        };
        if status != StatusCode::OK {
            return Err(self.refused(status, &answer));
        }
        let answer: Answer<T> =
            serde_json::from_slice(&answer).map_err(|_| "its answer is not Vault's".to_owned())?;
        Ok(answer.data)
    }

    async fn request(
        &self,
        method: &Method,
        path: &str,
        body: Option<Vec<u8>>,
        token: &Secret,
    ) -> Result<(StatusCode, Bytes), String> {
        let settings = &self.settings;
        let mount = settings.mount.as_deref().unwrap_or("transit");
        let url = format!("{}/v1/{mount}/{path}", settings.address);
        let mut token = HeaderValue::from_str(token.expose()).map_err(|e| e.to_string())?;
        token.set_sensitive(true);
        ask(&self.http, || {
            let mut request = Request::builder()
                .method(method)
                .uri(&url)
                .header("x-vault-token", token.clone())
                .header("x-vault-request", "true");
            if let Some(namespace) = &settings.namespace {
                request = request.header("x-vault-namespace", namespace);
            }
            if body.is_some() {
                request = request.header("content-type", "application/json");
            }
            let body = Full::new(Bytes::from(body.clone().unwrap_or_default()));
            request.body(body).map_err(|error| error.to_string())
        })
        .await
    }

    fn refused(&self, status: StatusCode, answer: &[u8]) -> String {
        let errors = serde_json::from_slice(answer).map(|said: Errors| said.errors);
        let said = excerpt(&errors.unwrap_or_default().join("; "));
        let mount = self.settings.mount.as_deref().unwrap_or("transit");
        let name = &self.settings.key_name;
        let next = match status {
            StatusCode::FORBIDDEN => format!(
                ": its token needs `read` on `{mount}/keys/{name}` and `update` on \
                 `{mount}/sign/{name}`, and may have expired"
            ),
            StatusCode::NOT_FOUND => format!(
                ": is there a key `{name}`, an engine at `{mount}`, and is the namespace right?"
            ),
            StatusCode::SERVICE_UNAVAILABLE => ": it is sealed or in standby".to_owned(),
            _ => String::new(),
        };
        format!("it answered {} ({said}){next}", status.as_u16())
    }
}

async fn fetch_token(settings: &VaultKey) -> Result<Secret, String> {
    let fetched = settings.vault_token.fetch().await;
    fetched.map_err(|error| format!("its token: {error}"))
}

impl Place for Vault {
    fn name(&self) -> String {
        let settings = &self.settings;
        format!(
            "Vault's key `{}` at {}",
            settings.key_name, settings.address
        )
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Signature, String>> {
        Box::pin(async move {
            let input = STANDARD.encode(message);
            let body = json!({ "input": input, "key_version": self.version });
            let path = format!("sign/{}", self.settings.key_name);
            let body = serde_json::to_vec(&body).expect("texts are JSON");
            let signed: Signed = self.call(Method::POST, &path, Some(body)).await?;
            let prefix = format!("vault:v{}:", self.version);
            let text = signed.signature.strip_prefix(&prefix).ok_or_else(|| {
                format!("it did not sign with version {} of the key", self.version)
            })?;
            let bytes = STANDARD.decode(text).ok();
            let bytes: Option<[u8; 64]> = bytes.and_then(|bytes| bytes.try_into().ok());
            bytes
                .map(Signature::from_bytes)
                .ok_or_else(|| "what it answered is no Ed25519 signature".to_owned())
        })
    }
}
